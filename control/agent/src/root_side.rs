// SPDX-License-Identifier: BSD-3-Clause
//! The driver's root half: answers heartbeats and tells subscribers of changes. `reporting` tells the
//! leader what was heard and proposes what `pando_failover` decides, `voters` keeps the set of voters.
//! Every node that may be a root has one; one that is no voter gives no promises.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pando_env::Env;
use pando_failover::Decider;
use pando_liveness::{Ack, Evidence, Heartbeat, LedgerNote, ProofOfDeath, RootLedger};
use pando_root_state::{Command, Decision};
use pando_topology::{Change, ClusterMap, Incarnation, NodeId, ShardId, TopologyVersion};
use pando_wire::Conn;
use pando_wire::messages::Message;

use crate::api::AgentConfig;
use crate::driver::Driver;
use crate::event::Event;
use crate::explain::Telling;
use crate::feed::{Feed, News};
use crate::group::Group;
use crate::net::{self, ConnId};
use crate::reporting::{Reporting, fresh_ms};
use crate::telling::Rounds;
use crate::voters::Voters;

/// A primary that has restarted without its data is confirmed although a replica cannot be asked for them,
/// after so many leases: the replica may be gone for good, and its shard should not be.
const COPY_PATIENCE_LEASES: u64 = 5;

/// What the root half remembers; all of it may be lost.
pub(crate) struct RootSide {
    pub ledger: RootLedger,
    pub evidence: Evidence,
    pub decider: Decider,
    pub reporting: Reporting,
    feed: Feed,
    subscribers: BTreeMap<ConnId, Subscriber>,
    /// The connections on which each node subscribes.
    subscribed: BTreeMap<NodeId, BTreeSet<ConnId>>,
    rounds: Rounds,
    /// Who is being sent a whole map, since when, and who waits for one.
    copying: BTreeMap<ConnId, u64>,
    queued: VecDeque<ConnId>,
    waiting: BTreeMap<NodeId, Waiting>,
    /// When the claims of whom are to be looked at again.
    waiting_due: BTreeSet<(u64, NodeId)>,
    /// A batch of decisions is on its way.
    pub is_deciding: bool,
    is_catching_up: bool,
    /// Leader: primaries that could be confirmed but for replicas that are not heard of, since when.
    unconfirmed: BTreeMap<(ShardId, Incarnation), u64>,
    pub voters: Voters,
    pub telling: Telling,
}

/// A last heartbeat whose claim could not be granted.
struct Waiting {
    /// Where to answer; here: `None`.
    conn: Option<Conn>,
    beat: Heartbeat,
    due_ms: u64,
}

/// Who hears of changes of the topology.
struct Subscriber {
    conn: Conn,
    has: TopologyVersion,
}

/// So many whole maps are on their way at a time, and none of them counts for longer than that.
const COPIES_MAX: usize = 16;
const COPY_MS: u64 = 2_000;

impl RootSide {
    /// When something is due here by itself, without what `reporting` does.
    pub fn due_ms(&self) -> Option<u64> {
        let waiting = self.waiting_due.first().map(|(due_ms, _)| *due_ms);
        let copy = self.copying.values().min().filter(|_| !self.queued.is_empty()).map(|since_ms| since_ms + COPY_MS);
        let telling = self.rounds.due_ms(self.subscribers.len(), self.feed.nodes());
        telling.into_iter().chain(waiting).chain(copy).min()
    }

    /// `is_new`: see `Driver::start_group`. `note`: what the process (or member) before this one has left.
    pub fn new(
        env: &Env,
        config: &AgentConfig,
        node: NodeId,
        incarnation: Incarnation,
        is_new: bool,
        note: Option<&LedgerNote>,
    ) -> Self {
        let now = env.clock.now_ms();
        // The wait of a restarted root is for what its predecessor may have promised. Without a
        // predecessor it is over.
        let started = if is_new { now.saturating_sub(config.lease_ms) } else { now };
        let mut ledger = RootLedger::new(node, incarnation, config.lease_ms, started);
        if let Some(note) = note {
            ledger.resume(now, note);
        }
        Self {
            ledger,
            decider: Decider::default(),
            evidence: Evidence::new(fresh_ms(config.lease_ms)),
            reporting: Reporting::default(),
            feed: Feed::default(),
            subscribers: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            rounds: Rounds::default(),
            copying: BTreeMap::new(),
            queued: VecDeque::new(),
            waiting: BTreeMap::new(),
            waiting_due: BTreeSet::new(),
            is_deciding: false,
            is_catching_up: false,
            unconfirmed: BTreeMap::new(),
            voters: Voters::default(),
            telling: Telling::default(),
        }
    }

    /// What the process after this one must know; this one answers nobody any more.
    pub fn note(&self, env: &Env) -> LedgerNote {
        self.ledger.note(env.clock.now_ms())
    }

    /// Takes out the confirmations that would give up data of replicas which may still come.
    pub fn hold_back(&mut self, now: u64, lease_ms: u64, map: &ClusterMap, decisions: &mut Vec<Decision>) {
        let mut waiting = BTreeMap::new();
        decisions.retain(|decision| {
            let Command::ConfirmPrimary { shard, node, incarnation, .. } = &decision.command else { return true };
            let abandoned = pando_failover::abandoned(map, &self.evidence, now, shard);
            if abandoned.is_empty() {
                return true;
            }
            let key = (*shard, *incarnation);
            let known = self.unconfirmed.get(&key).copied();
            let since = known.unwrap_or(now);
            let is_over = now >= since.saturating_add(COPY_PATIENCE_LEASES * lease_ms);
            let replicas = abandoned.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(" ");
            if is_over {
                tracing::warn!(%shard, %node, replicas, "a primary that restarted WITHOUT DATA gets its shard: these replicas do not answer");
            } else if known.is_none() {
                tracing::warn!(%shard, %node, replicas, "a primary has restarted without data; waiting for these replicas");
            }
            waiting.insert(key, since);
            is_over
        });
        self.unconfirmed = waiting;
    }
}

impl Driver {
    pub fn is_leader(&self) -> bool {
        self.group.as_ref().is_some_and(Group::is_leader)
    }

    /// Answers a heartbeat, by the map that the own group has applied. `conn`: where it came from.
    pub fn root_heartbeat(&mut self, beat: &Heartbeat, conn: Option<&Conn>) -> Option<Ack> {
        let now = self.env.clock.now_ms();
        let map = self.group.as_ref()?.map();
        let root = self.root.as_mut()?;
        let ack = root.ledger.on_heartbeat(now, beat, &map);
        if ack.is_some() {
            root.stop_waiting(&beat.node);
            if let Some(claim) = beat.claim.filter(|_| ack.as_ref().is_some_and(|ack| ack.granted.is_none())) {
                let due_ms = root.ledger.grantable_ms(now, &beat.node, claim);
                root.waiting.insert(beat.node, Waiting { conn: conn.cloned(), beat: beat.clone(), due_ms });
                root.waiting_due.insert((due_ms, beat.node));
            }
            self.note_heard(beat);
        }
        self.answer_freed();
        ack
    }

    /// Grants what can be granted since promises have ended: a new primary needs not wait for its next heartbeat
    /// when the former one lets go.
    fn answer_freed(&mut self) {
        let (Some(group), Some(root)) = (&self.group, &mut self.root) else { return };
        let freed = root.ledger.take_freed();
        if freed.is_empty() || root.waiting.is_empty() {
            return;
        }
        let map = group.map();
        let claimants = freed.iter().filter_map(|shard| map.shard(shard)).map(|shard| shard.primary).collect();
        self.answer_waiting(&map, claimants);
    }

    /// Looks at all claims that could not be granted: this root knows more, or has waited long enough.
    fn answer_all_waiting(&mut self) {
        let (Some(group), Some(root)) = (&self.group, &self.root) else { return };
        let claimants = root.waiting.keys().copied().collect();
        self.answer_waiting(&group.map(), claimants);
    }

    fn answer_waiting(&mut self, map: &ClusterMap, claimants: Vec<NodeId>) {
        let now = self.env.clock.now_ms();
        let Some(root) = &mut self.root else { return };
        let mut acks = Vec::new();
        for node in claimants {
            let Some(mut waiting) = root.stop_waiting(&node) else { continue };
            match root.ledger.reconsider(now, &waiting.beat, map) {
                Some(ack) => acks.push((waiting.conn, ack)),
                None if map.node(&node).is_some() => {
                    // Later than now: what held it back is not its turn, and the next heartbeat brings it back.
                    let claim = waiting.beat.claim.map(|claim| root.ledger.grantable_ms(now, &node, claim));
                    waiting.due_ms = claim.filter(|due_ms| *due_ms > now).unwrap_or(u64::MAX);
                    root.waiting_due.insert((waiting.due_ms, node));
                    root.waiting.insert(node, waiting);
                }
                None => {}
            }
        }
        let leader = self.leader();
        for (conn, ack) in acks {
            match conn {
                None => self.on_root_ack(ack.root, &ack, leader),
                Some(conn) => {
                    let message = Message::Ack(ack, leader);
                    self.counters.sent(&message);
                    net::send(&conn, &message).ok();
                }
            }
        }
    }

    /// A process is proven dead.
    pub fn root_proof(&mut self, proof: ProofOfDeath) {
        let now = self.env.clock.now_ms();
        if let Some(root) = &mut self.root {
            root.ledger.on_proof_of_death(now, proof);
        }
        self.answer_freed();
    }

    /// The group has applied entries or has another leader.
    pub fn on_roots_changed(&mut self) {
        let Some(group) = &self.group else { return };
        if let Some(reason) = group.status().stopped {
            // A root that cannot keep its log must not keep promises by it either.
            return self.on_group_stopped(&reason);
        }
        let map = group.map();
        // An idle member's map is empty; the node follows the roots then.
        if map.cluster_id() == self.state.cluster {
            self.adopt_map(map.clone());
            self.publish(&map);
        }
        self.note_election();
        self.update_view();
    }

    /// Tells those whom a change concerns, and all others soon.
    fn publish(&mut self, map: &std::sync::Arc<ClusterMap>) {
        let now = self.env.clock.now_ms();
        let Some(root) = &mut self.root else { return };
        let (changes, is_about_roots, is_calm) = match root.feed.publish(map.clone()) {
            News::Nothing => return,
            News::Everything => {
                root.ledger.on_map(now, map);
                root.rounds.note(now, false, [], root.subscribers.len());
                root.reporting.look_at_all();
                return self.answer_all_waiting();
            }
            News::Changes { changes, is_about_roots, is_calm } => (changes, is_about_roots, is_calm),
        };
        root.ledger.on_changes(now, &changes);
        let mut concerned = BTreeSet::new();
        for change in &changes {
            match change {
                Change::NodeUpsert(node) => {
                    concerned.insert(node.id);
                    // A primary counts on the promises of its replicas that are well.
                    concerned.extend(map.shard_of(&node.id).into_iter().flat_map(|shard| shard.members()));
                }
                Change::NodeRemove(id) => {
                    root.evidence.forget(id);
                    self.reach.forget(id);
                    concerned.insert(*id);
                }
                Change::ShardUpsert(shard) => concerned.extend(shard.members()),
                Change::ShardRemove(_) | Change::Meta { .. } => {}
            }
        }
        if is_about_roots {
            // Other quorums.
            root.reporting.look_at_all();
        } else {
            root.reporting.look_at(concerned.iter().copied());
        }
        let conns = concerned.iter().filter_map(|id| root.subscribed.get(id)).flatten().copied();
        root.rounds.note(now, is_calm, conns, root.subscribers.len());
        for change in &changes {
            if let Change::NodeUpsert(node) = change {
                self.look_at_node(&node.id);
            }
        }
        if is_about_roots {
            self.answer_all_waiting();
        } else {
            self.answer_waiting(map, concerned.into_iter().collect());
        }
    }

    /// A node wants the topology.
    pub fn subscribe(&mut self, id: ConnId, conn: &Conn, has: Option<TopologyVersion>) {
        let now = self.env.clock.now_ms();
        let Some(root) = &mut self.root else { return };
        let has = has.unwrap_or_default();
        root.copying.remove(&id);
        root.subscribers.insert(id, Subscriber { conn: conn.clone(), has });
        root.subscribed.entry(conn.peer().node).or_default().insert(id);
        root.push(now, id, &mut self.counters);
        root.push_queued(now, &mut self.counters);
    }

    /// It does not any more.
    pub fn unsubscribe(&mut self, id: ConnId) {
        let now = self.env.clock.now_ms();
        if let Some(root) = &mut self.root {
            root.unsubscribe(id);
            root.push_queued(now, &mut self.counters);
        }
    }

    /// What the clock has made due here.
    pub fn on_root_due(&mut self, now: u64) {
        let Some(root) = &mut self.root else { return };
        if root.rounds.begin_round(now, &root.subscribers, root.feed.nodes()) {
            root.feed.note_round();
        }
        for id in root.rounds.turn(now, &root.subscribers) {
            root.push(now, id, &mut self.counters);
        }
        root.push_queued(now, &mut self.counters);
        let due = root.waiting_due.range(..=(now, NodeId::from_bytes([0xff; 20]))).map(|(_, node)| *node);
        let due: Vec<NodeId> = due.collect();
        if let Some(group) = self.group.as_ref().filter(|_| !due.is_empty()) {
            let map = group.map();
            self.answer_waiting(&map, due);
        }
    }

    /// A root that has just started gives no promise before it knows all that was committed.
    pub fn catch_up(&mut self) {
        let (Some(group), Some(root)) = (&self.group, &mut self.root) else { return };
        if root.is_catching_up || root.ledger.is_caught_up() {
            return;
        }
        root.is_catching_up = true;
        let (group, events) = (group.clone(), self.events.clone());
        tokio::spawn(async move {
            while group.barrier().await.is_err() {
                if group.status().stopped.is_some() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            events.send(Event::CaughtUp).ok();
        });
    }

    pub fn on_caught_up(&mut self) {
        // A voter answers with the map of the barrier, so it must have been taken over first.
        self.on_roots_changed();
        if let (Some(root), Some(group)) = (&mut self.root, &self.group)
            && !root.ledger.is_caught_up()
        {
            root.ledger.note_caught_up(&group.map());
        }
        self.answer_all_waiting();
        self.send_heartbeats();
    }
}

impl RootSide {
    fn stop_waiting(&mut self, node: &NodeId) -> Option<Waiting> {
        let waiting = self.waiting.remove(node)?;
        self.waiting_due.remove(&(waiting.due_ms, *node));
        Some(waiting)
    }

    fn unsubscribe(&mut self, id: ConnId) {
        self.copying.remove(&id);
        let Some(gone) = self.subscribers.remove(&id) else { return };
        let node = gone.conn.peer().node;
        if let Some(conns) = self.subscribed.get_mut(&node) {
            conns.remove(&id);
            if conns.is_empty() {
                self.subscribed.remove(&node);
            }
        }
    }

    /// Sends whole maps to those who wait for one, as far as there is room.
    fn push_queued(&mut self, now: u64, counters: &mut crate::counters::Counters) {
        if self.queued.is_empty() {
            return;
        }
        self.copying.retain(|_, since_ms| now < *since_ms + COPY_MS);
        while self.copying.len() < COPIES_MAX
            && let Some(id) = self.queued.pop_front()
        {
            self.push(now, id, counters);
        }
    }

    /// Brings one subscriber up to date; one whose queue is full asks again when it reconnects.
    fn push(&mut self, now: u64, id: ConnId, counters: &mut crate::counters::Counters) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        if self.copying.contains_key(&id) {
            // It asks for what came since when it has the copy.
            return;
        }
        let Some(update) = self.feed.update_from(subscriber.has) else { return };
        let to = update.to;
        if update.from.is_none() {
            if self.copying.len() >= COPIES_MAX {
                if !self.queued.contains(&id) {
                    self.queued.push_back(id);
                }
                return;
            }
            self.copying.insert(id, now);
        }
        let message = Message::Map(update);
        counters.sent(&message);
        match net::send(&subscriber.conn, &message) {
            Ok(()) => subscriber.has = to,
            Err(_) => {
                subscriber.conn.close();
                self.unsubscribe(id);
            }
        }
    }
}
