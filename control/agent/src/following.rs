// SPDX-License-Identifier: BSD-3-Clause
//! The driver's node half: follows the topology, sends heartbeats to every root and promises beats to
//! the replicas, counts the promises that come back, and tells the data plane what follows. The rules
//! are in `pando_liveness`.

use std::collections::BTreeMap;

use pando_env::Env;
use pando_liveness::{Claim, Heartbeat, Lineage, NodeStatus, PrimaryLease, ReplicaPromise, Told};
use pando_topology::{NodeId, Role, SLOT_COUNT, TopologyVersion};
use pando_wire::messages::Message;
use pando_wire::{Conn, MapUpdate};

use crate::api::AgentConfig;
use crate::driver::Driver;
use crate::feed::calm_pause_ms;
use crate::net::{self, Address, ConnId, LinkKey, LinkKind};
use crate::node_state::NodeState;

/// Milliseconds between heartbeats while nothing changes: a third of the lease, so that one may be lost before a
/// promise runs out, or late by two thirds of the lease. What changes is sent at once. With more than three roots there
/// are two to spare and half of the lease will do: five cost a cluster of thousands hardly more than three then.
fn heartbeat_ms(lease_ms: u64, roots: usize) -> u64 {
    (lease_ms / if roots <= 3 { 3 } else { 2 }).max(1)
}

/// What the node half remembers.
pub(crate) struct NodeSide {
    pub lease: PrimaryLease,
    pub promise: ReplicaPromise,
    /// Until then this process is bound by what the one before it may have promised.
    pub bound_until_ms: u64,
    /// What the data plane was last told.
    pub lease_until_ms: u64,
    pub cluster_ok: bool,
    /// The reign in which this node may write.
    active: Option<Claim>,
    /// The first round of heartbeats that told the replicas of it.
    told_seq: Option<u64>,
    /// A replica has answered to such a round: it could take over.
    pub is_backed: bool,
    /// When each root last answered, and whom it called the leader.
    pub roots: BTreeMap<NodeId, (u64, Option<NodeId>)>,
    /// What follows: until when it can be said that a majority of the roots has answered within the last lease. It is asked
    /// for after each message.
    quorum_until_ms: u64,
    /// The last primary that beat here, and when.
    beaten_ms: Option<u64>,
    /// A reign that ended here: the nodes that may stop waiting for it.
    pub ended: Option<(Claim, Vec<NodeId>)>,
    /// When the next round of heartbeats is due.
    next_beat_ms: u64,
    /// The own shard has just changed: until then beats to its replicas follow each other quickly, because the one that told
    /// a new replica may have come before its map. The next such beat.
    pub eager_until_ms: u64,
    next_eager_ms: u64,
    /// When the lease was last looked at, and until when the verdict then holds if nothing comes.
    looked_ms: u64,
    connected_until_ms: u64,
    /// Since when the map has shown shards whose primary has failed.
    unserved_ms: Option<u64>,
    /// The root that tells this node of changes.
    feeder: Option<NodeId>,
    /// Another root has this version and the feeder should have told it by then.
    overdue: Option<(NodeId, TopologyVersion, u64)>,
}

impl NodeSide {
    /// `is_first_ever`: no process has run with this node id before.
    pub fn new(env: &Env, config: &AgentConfig, state: &NodeState, is_first_ever: bool) -> Self {
        let now = env.clock.now_ms();
        let mut promise = if is_first_ever {
            ReplicaPromise::first_ever(state.node, config.lease_ms)
        } else {
            ReplicaPromise::new(state.node, config.lease_ms, now)
        };
        promise.restore_told(state.told);
        let bound_until_ms = promise.blocked_until_ms();
        let mut lease = PrimaryLease::new(state.node, state.incarnation);
        if let Some(known) = state.reign {
            let claim = Claim { shard: known.shard, reign: known.reign };
            promise.restore_reign(claim, known.primary, known.incarnation);
            lease.note_durable(known.version);
        }
        Self {
            lease,
            promise,
            bound_until_ms,
            lease_until_ms: 0,
            cluster_ok: false,
            active: None,
            told_seq: None,
            is_backed: false,
            roots: BTreeMap::new(),
            quorum_until_ms: 0,
            beaten_ms: None,
            ended: None,
            next_beat_ms: 0,
            eager_until_ms: 0,
            next_eager_ms: u64::MAX,
            looked_ms: 0,
            connected_until_ms: 0,
            unserved_ms: None,
            feeder: None,
            overdue: None,
        }
    }

    /// Another cluster: what was promised to this node is void, what it promised still binds it.
    pub fn begin_cluster(&mut self, state: &NodeState) {
        self.lease = PrimaryLease::new(state.node, state.incarnation);
        self.promise.restore_told(None);
        self.lease_until_ms = 0;
        self.cluster_ok = false;
        self.active = None;
        self.next_eager_ms = u64::MAX;
        self.told_seq = None;
        self.is_backed = false;
        self.roots.clear();
        self.quorum_until_ms = 0;
        self.ended = None;
        self.feeder = None;
        self.overdue = None;
    }
}

impl Driver {
    pub fn me(&self) -> NodeId {
        self.state.node
    }

    /// The leading root: this node's group knows, or else the answers of the roots.
    pub fn leader(&self) -> Option<NodeId> {
        if let Some(group) = &self.group
            && self.map.roots().contains(&self.me())
            && let Some(leader) = group.leader()
        {
            return Some(leader);
        }
        let newest = self.node.roots.values().filter(|(_, leader)| leader.is_some()).max_by_key(|r| r.0);
        newest.and_then(|(_, leader)| *leader)
    }

    /// See `View::told_at`; the word of a primary of another shard does not count.
    pub fn told_at(&self) -> TopologyVersion {
        let shard = self.map.shard_of(&self.me()).map(|shard| shard.id);
        let told = self.node.promise.told().filter(|told| Some(told.shard) == shard);
        told.map(|told| told.version).unwrap_or_default()
    }

    /// A majority of the roots has answered within the last lease.
    pub fn has_quorum(&self) -> bool {
        self.env.clock.now_ms() < self.node.quorum_until_ms
    }

    /// To be called when a root has answered, or the roots or the lease are others.
    fn note_quorum(&mut self) {
        let until_ms = |root: &NodeId| self.node.roots.get(root).map_or(0, |(at, _)| at + self.config.lease_ms);
        let times = self.node.roots.values().map(|(at, _)| at + self.config.lease_ms);
        let times = times.filter(|time| self.map.roots().is_quorum(|root| until_ms(root) >= *time));
        self.node.quorum_until_ms = times.max().unwrap_or(0);
    }

    /// Brings the kept links in line with the map.
    pub fn relink(&mut self) {
        let me = self.me();
        let identity = self.identity();
        let mut roots = BTreeMap::new();
        for id in self.map.roots().members() {
            if let Some(address) = self.address_of(&id) {
                roots.insert(id, address);
            }
        }
        for (id, address) in self.book.hints() {
            roots.entry(*id).or_insert_with(|| address.clone());
        }
        if self.map.nodes().is_empty() {
            for contact in &self.state.contacts {
                let address = Address { host: contact.host.clone(), port: contact.cluster_port };
                roots.insert(contact.node, address);
            }
        }
        roots.retain(|id, address| *id != me && !address.host.is_empty());
        self.links.want(LinkKind::Root, &roots, identity);
        let mut replicas = BTreeMap::new();
        if self.map.role_of(&me) == Some(Role::Primary)
            && let Some(shard) = self.map.shard_of(&me)
        {
            for id in &shard.replicas {
                if let Some(node) = self.map.node(id) {
                    replicas.insert(*id, Address { host: node.host.clone(), port: node.cluster_port });
                }
            }
        } else if let Some((_, members)) = &self.node.ended {
            for id in members {
                if let Some(node) = self.map.node(id) {
                    replicas.insert(*id, Address { host: node.host.clone(), port: node.cluster_port });
                }
            }
        }
        self.links.want(LinkKind::Replica, &replicas, identity);
        self.node.roots.retain(|id, _| self.map.roots().contains(id));
        self.note_quorum();
        if self.node.feeder.is_some_and(|feeder| !roots.contains_key(&feeder)) {
            self.node.feeder = None;
        }
        self.choose_feeder();
    }

    /// A primary some of whose replicas do not know yet that their promise is needed, for a while after its shard has
    /// changed. (A replica that is told says so to the roots by itself.)
    fn is_eager(&self, now: u64) -> bool {
        let is_untold = || self.node.lease.claim().is_some() && self.node.lease.replicas_until_ms() <= now;
        now < self.node.eager_until_ms && self.state.joining.is_none() && is_untold()
    }

    /// Begins a round.
    fn next_seq(&mut self, now: u64) -> u64 {
        let seq = self.node.lease.next_seq(now);
        if self.node.active.is_some() {
            self.node.told_seq.get_or_insert(seq);
        }
        seq
    }

    /// The beats of a round to the replicas.
    fn send_beats(&mut self, now: u64, seq: u64) {
        for (replica, beat) in self.node.lease.beats(seq) {
            let message = Message::PrimaryBeat(beat);
            self.links.send((LinkKind::Replica, replica), &message, &mut self.counters);
        }
        let pause_ms = self.config.lease_ms / 24;
        self.node.next_eager_ms = if self.is_eager(now) { now + pause_ms.max(1) } else { u64::MAX };
    }

    /// One round of heartbeats to all roots and beats to all replicas.
    pub fn send_heartbeats(&mut self) {
        let now = self.env.clock.now_ms();
        self.node.next_beat_ms = now + heartbeat_ms(self.config.lease_ms, self.map.roots().members().len());
        let seq = self.next_seq(now);
        let status = self.plane.status();
        let told = self.node.promise.told();
        let (version, roots_since) = self.node.lease.versions();
        let claim = if self.state.joining.is_some() { None } else { self.node.lease.claim() };
        let is_replica = self.map.role_of(&self.me()) == Some(Role::Replica);
        let status = NodeStatus {
            offset: status.offset,
            lineage: Lineage::new(&status.replid, &status.replid2.0, status.replid2.1),
            link_up: status.link_up,
            stale: is_replica && self.config.is_too_old(status.data_age_ms),
            synced: status.synced && !status.loading,
            told,
            promise_left_ms: self.node.promise.left_ms(now),
            vouches: self.node.lease.vouches(now, &self.node.promise),
            active: self.node.active.filter(|active| claim == Some(*active)),
        };
        let me = self.me();
        for root in self.map.roots().members() {
            let (root_incarnation, holds_promise) = self.node.lease.root_link(now, &root);
            let beat = Heartbeat {
                node: me,
                incarnation: self.state.incarnation,
                seq,
                root_incarnation,
                version,
                roots_since,
                claim,
                holds_promise,
                status: status.clone(),
            };
            if root == me {
                if let Some(ack) = self.root_heartbeat(&beat, None) {
                    self.on_root_ack(me, &ack, self.leader());
                }
            } else {
                let message = Message::Heartbeat(Box::new(beat));
                self.links.send((LinkKind::Root, root), &message, &mut self.counters);
            }
        }
        if claim.is_some() {
            self.send_beats(now, seq);
        }
        if let Some((ended, members)) = &self.node.ended
            && let Some(beat) = self.node.lease.release(seq, *ended)
        {
            let message = Message::PrimaryBeat(beat);
            for member in members {
                self.links.send((LinkKind::Replica, *member), &message, &mut self.counters);
            }
        }
    }

    /// When something is due by itself.
    pub fn node_due_ms(&self, now: u64) -> u64 {
        let node = &self.node;
        let ahead = |at_ms: u64| if at_ms > node.looked_ms { at_ms } else { u64::MAX };
        // A promise that ends frees a candidate, an acknowledgement that ages ends a quorum.
        let due_ms = node
            .next_beat_ms
            .min(node.next_eager_ms)
            .min(ahead(node.promise.blocked_until_ms()))
            .min(ahead(node.connected_until_ms));
        let overdue_ms = node.overdue.map_or(u64::MAX, |(_, _, at_ms)| at_ms);
        due_ms.min(overdue_ms).min(self.unstored_ms.unwrap_or(u64::MAX)).min(self.seek_due_ms(now)).max(now)
    }

    /// What the clock has made due.
    pub fn on_node_due(&mut self, now: u64) {
        let free_ms = self.node.promise.blocked_until_ms();
        let is_free = free_ms <= now && free_ms > self.node.looked_ms;
        if is_free || (self.node.connected_until_ms <= now && self.node.connected_until_ms > self.node.looked_ms) {
            self.update_lease();
        }
        if now >= self.node.next_beat_ms {
            let late_ms = now - self.node.next_beat_ms;
            self.send_heartbeats();
            self.update_lease();
            // Two beats went unanswered.
            let silent_ms = 2 * heartbeat_ms(self.config.lease_ms, self.map.roots().members().len());
            self.links.reset_silent(silent_ms.max(500), late_ms);
            if !self.has_quorum() {
                self.info.set_reason(self.quorum_reason());
            }
        } else if now >= self.node.next_eager_ms {
            let seq = self.next_seq(now);
            self.send_beats(now, seq);
        } else if is_free && self.map.role_of(&self.me()) == Some(Role::Replica) {
            // Its primary is silent: the roots may want to know at once that it can be promoted.
            self.send_heartbeats();
        }
        if let Some((root, version, at_ms)) = self.node.overdue
            && now >= at_ms
        {
            self.node.overdue = None;
            if self.map.version() < version {
                self.subscribe_to(root);
            }
        }
        if now >= self.book.due_ms() {
            self.seek_roots();
        }
        if self.unstored_ms.is_some_and(|at_ms| now >= at_ms) {
            self.unstored_ms = None;
            self.store_map.send_replace(Some(self.map.clone()));
        }
    }

    /// A process that the map does not have yet can be found by its word alone.
    fn tell_address(&mut self, root: NodeId) {
        let mine = self.state.incarnation;
        let is_unknown = self.map.node(&self.me()).is_some_and(|node| node.incarnation < mine);
        if is_unknown && !self.state.host.is_empty() {
            let message = Message::At { host: self.state.host.clone(), port: self.config.cluster_port };
            self.links.send((LinkKind::Root, root), &message, &mut self.counters);
        }
    }

    pub fn on_root_link_up(&mut self, root: NodeId) {
        self.tell_address(root);
        if let Some(side) = &mut self.root {
            side.reporting.on_link(&root);
        }
        if self.node.feeder == Some(root) {
            self.node.feeder = None;
        }
        self.choose_feeder();
        self.send_heartbeats();
    }

    pub fn on_root_link_down(&mut self, root: NodeId) {
        if let Some(side) = &mut self.root {
            side.reporting.on_link(&root);
        }
        if self.node.feeder == Some(root) {
            self.node.feeder = None;
            self.choose_feeder();
        }
    }

    /// One root tells this node of changes, another one when that one is gone or late. Which one is a matter of
    /// chance, so that all roots have about the same to do.
    fn choose_feeder(&mut self) {
        let roots = self.links.up_roots();
        let chance = self.me().as_bytes()[19];
        let Some(wanted) = roots.get(usize::from(chance) % roots.len().max(1)).copied() else { return };
        let is_up = self.node.feeder.is_some_and(|feeder| roots.contains(&feeder));
        // The roots' links come up one after the other; only once all are up it is worth a change.
        let is_settled =
            roots.len() + usize::from(self.map.roots().contains(&self.me())) >= self.map.roots().members().len();
        if !is_up || (is_settled && self.node.feeder != Some(wanted) && self.node.overdue.is_none()) {
            self.subscribe_to(wanted);
        }
    }

    fn subscribe_to(&mut self, root: NodeId) {
        if let Some(former) = self.node.feeder.take().filter(|former| *former != root) {
            self.links.send((LinkKind::Root, former), &Message::Unsubscribe, &mut self.counters);
        }
        let has = (!self.map.nodes().is_empty()).then(|| self.map.version());
        if self.links.send((LinkKind::Root, root), &Message::Subscribe(has), &mut self.counters) {
            self.node.feeder = Some(root);
        }
    }

    /// From a root or from a replica of this node.
    pub fn on_link_message(&mut self, key: LinkKey, message: Message) {
        match message {
            Message::Ack(ack, leader) => self.on_root_ack(key.1, &ack, leader),
            Message::BeatAck(ack) => {
                self.node.lease.on_replica_ack(&ack);
                self.update_lease();
                let is_told = ack.granted.is_some() && self.node.told_seq.is_some_and(|seq| seq <= ack.seq);
                if is_told && !self.node.is_backed {
                    self.node.is_backed = true;
                    self.update_view();
                }
            }
            Message::Map(update) => self.on_map_update(key, &update),
            Message::Tell(nodes) => self.on_tell(&nodes),
            Message::Heartbeat(_)
            | Message::Subscribe(_)
            | Message::Unsubscribe
            | Message::Evidence(_)
            | Message::PrimaryBeat(_)
            | Message::At { .. }
            | Message::Publish { .. } => {}
        }
    }

    fn on_map_update(&mut self, key: LinkKey, update: &MapUpdate) {
        let is_whole = update.from.is_none();
        if update.to > self.map.version() {
            if update.fits(&self.map) {
                match self.config.maps.apply(&self.map, update) {
                    Ok(map) => self.adopt_map(map),
                    Err(error) => {
                        tracing::warn!(%error, root = %key.1, "a change of the topology cannot be applied");
                        self.links.send(key, &Message::Subscribe(None), &mut self.counters);
                        return;
                    }
                }
            } else {
                // Something is missing in between.
                self.links.send(key, &Message::Subscribe(Some(self.map.version())), &mut self.counters);
                return;
            }
        }
        if is_whole {
            // The root sends few whole maps at a time: this one has arrived.
            self.links.send(key, &Message::Subscribe(Some(self.map.version())), &mut self.counters);
        }
    }

    pub fn on_root_ack(&mut self, root: NodeId, ack: &pando_liveness::Ack, leader: Option<NodeId>) {
        let knew = self.leader();
        self.node.roots.insert(root, (self.env.clock.now_ms(), leader));
        self.node.lease.on_root_ack(ack);
        self.update_lease();
        if ack.version > self.map.version() && root != self.me() && self.node.overdue.is_none() {
            // The feeder tells all nodes together, the more of them the later.
            let patience_ms = 100 + 2 * calm_pause_ms(self.map.nodes().len());
            self.node.overdue = Some((root, ack.version, self.env.clock.now_ms() + patience_ms));
        }
        if self.leader() != knew {
            self.update_view();
        }
    }

    /// Tells the data plane what the promises amount to now.
    pub fn update_lease(&mut self) {
        let now = self.env.clock.now_ms();
        let lease = self.node.lease.poll(now, &self.node.promise);
        let is_held = self.state.joining.is_some() || self.giving.withholds();
        let until = if is_held { 0 } else { lease.until_ms };
        self.note_quorum();
        let quorum_until_ms = self.node.quorum_until_ms;
        let beaten_until_ms = self.node.beaten_ms.map_or(0, |at| at + self.config.lease_ms);
        self.node.looked_ms = now;
        let connected_until_ms = quorum_until_ms.max(until).max(beaten_until_ms);
        let covered_until_ms = self.covered_until_ms(now);
        self.node.connected_until_ms = connected_until_ms.min(covered_until_ms);
        let cluster_ok = now < self.node.connected_until_ms;
        self.info.set_quorum(quorum_until_ms);
        if until != self.node.lease_until_ms || cluster_ok != self.node.cluster_ok {
            self.node.lease_until_ms = until;
            self.node.cluster_ok = cluster_ok;
            self.plane.lease(until, cluster_ok);
            self.info.set_lease(until, cluster_ok);
        }
        if let Some(told) = self.node.lease.told_by_itself() {
            self.node.promise.note_active(told);
            self.state.told = self.node.promise.told();
        }
        if lease.active != self.node.active {
            self.node.active = lease.active;
            self.node.told_seq = None;
            self.node.is_backed = false;
            if lease.active.is_some() {
                self.node.ended = None;
                tracing::info!(?lease.active, "this node writes for its shard");
                // The replicas may hear at once that they are needed.
                self.send_heartbeats();
            }
        }
    }

    /// Until when every slot counts as having an owner that serves it. A shard whose primary has failed counts for one
    /// more lease if it has a replica: that it is taken over is no matter of the other shards.
    fn covered_until_ms(&mut self, now: u64) -> u64 {
        let since = match self.map.unserved_shards() {
            0 => None,
            _ => Some(self.node.unserved_ms.unwrap_or(now)),
        };
        self.node.unserved_ms = since;
        if !self.config.require_full_coverage {
            return if self.map.slots_assigned() > 0 { u64::MAX } else { 0 };
        }
        if self.map.slots_assigned() < SLOT_COUNT || self.map.lost_shards() > 0 {
            return 0;
        }
        since.map_or(u64::MAX, |since| since + self.config.lease_ms)
    }

    /// From an accepted connection.
    pub fn on_message(&mut self, id: ConnId, conn: &Conn, message: Message) {
        if conn.peer().cluster != self.state.cluster {
            return;
        }
        match message {
            Message::Heartbeat(beat) => {
                if let Some(ack) = self.root_heartbeat(&beat, Some(conn)) {
                    let message = Message::Ack(ack, self.leader());
                    self.counters.sent(&message);
                    net::send(conn, &message).ok();
                }
            }
            Message::Subscribe(has) => self.subscribe(id, conn, has),
            Message::At { host, port } => {
                let (node, incarnation) = (conn.peer().node, conn.peer().incarnation);
                self.on_found(node, incarnation, Address { host, port });
            }
            Message::Unsubscribe => self.unsubscribe(id),
            Message::Evidence(report) => self.on_report(report),
            Message::PrimaryBeat(beat) => {
                let now = self.env.clock.now_ms();
                self.node.beaten_ms = Some(now);
                let told = self.node.promise.told();
                if let Some(ack) = self.node.promise.on_beat(now, &beat, &self.map) {
                    let message = Message::BeatAck(ack);
                    self.counters.sent(&message);
                    net::send(conn, &message).ok();
                }
                if self.node.promise.told() != told {
                    self.state.told = self.node.promise.told();
                    // The primary says it at each version of its map; only the first that counts is news.
                    let since = self.map.node(&self.me()).map(|node| node.promotable_since).unwrap_or_default();
                    let counts = |told: &Told| told.shard == beat.shard && told.version >= since;
                    if !told.as_ref().is_some_and(counts) {
                        self.persist();
                        self.update_view();
                        self.send_heartbeats();
                    }
                }
                if beat.released {
                    self.update_lease();
                }
            }
            Message::Publish { channel, message, sharded } => {
                self.plane.publish(&channel, &message, sharded);
            }
            // A leader asks over the connection that it has opened to this root.
            Message::Tell(nodes) => self.on_tell(&nodes),
            Message::Ack(..) | Message::BeatAck(_) | Message::Map(_) => {}
        }
    }

    pub fn address_of(&self, node: &NodeId) -> Option<Address> {
        if let Some(address) = self.book.address(node) {
            return Some(address.clone());
        }
        let node = self.map.node(node).filter(|node| !node.host.is_empty())?;
        Some(Address { host: node.host.clone(), port: node.cluster_port })
    }
}
