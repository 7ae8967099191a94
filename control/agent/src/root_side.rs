// SPDX-License-Identifier: BSD-3-Clause
//! The driver's root half: answers heartbeats, tells subscribers of changes, exchanges evidence with
//! the other roots and, on the leader, proposes what `pando_failover` decides (`voters` keeps the set
//! of voters). Every node that may be a root has one; one that is no voter gives no promises.

use std::collections::BTreeMap;

use pando_env::Env;
use pando_failover::{Decider, Policy};
use pando_liveness::{Ack, Evidence, Heartbeat, LedgerNote, ProofOfDeath, RootLedger, RootReport};
use pando_root_state::{Command, Decision, Proposal, RequestId};
use pando_topology::{ClusterMap, Incarnation, NodeId, ShardId, TopologyVersion};
use pando_wire::Conn;
use pando_wire::messages::Message;

use crate::api::AgentConfig;
use crate::driver::{Driver, heartbeat_ms};
use crate::event::Event;
use crate::explain::Telling;
use crate::feed::Feed;
use crate::net::{self, ConnId, LinkKind};
use crate::voters::Voters;

/// A primary that has restarted without its data is confirmed although a replica cannot be asked for them,
/// after so many leases: the replica may be gone for good, and its shard should not be.
const COPY_PATIENCE_LEASES: u64 = 5;

/// What the root half remembers; all of it may be lost.
pub(crate) struct RootSide {
    pub ledger: RootLedger,
    pub evidence: Evidence,
    decider: Decider,
    feed: Feed,
    subscribers: BTreeMap<ConnId, (Conn, TopologyVersion)>,
    /// Last heartbeats whose claims could not be granted, and where to answer (here: `None`).
    waiting: BTreeMap<NodeId, (Option<Conn>, Heartbeat)>,
    /// A batch of decisions is on its way.
    is_deciding: bool,
    is_catching_up: bool,
    /// Leader: primaries that could be confirmed but for replicas that are not heard of, since when.
    unconfirmed: BTreeMap<(ShardId, Incarnation), u64>,
    pub voters: Voters,
    pub telling: Telling,
}

impl RootSide {
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
            // A few reports may be late; an isolated root's must not count for long.
            evidence: Evidence::new(6 * heartbeat_ms(config.lease_ms)),
            decider: Decider::default(),
            feed: Feed::default(),
            subscribers: BTreeMap::new(),
            waiting: BTreeMap::new(),
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
    fn hold_back(&mut self, now: u64, lease_ms: u64, map: &ClusterMap, decisions: &mut Vec<Decision>) {
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
        self.group.as_ref().is_some_and(|group| group.status().is_leader)
    }

    /// Answers a heartbeat, by the map that the own group has applied. `conn`: where it came from.
    pub fn root_heartbeat(&mut self, beat: &Heartbeat, conn: Option<&Conn>) -> Option<Ack> {
        let now = self.env.clock.now_ms();
        let map = self.group.as_ref()?.map();
        let root = self.root.as_mut()?;
        let ack = root.ledger.on_heartbeat(now, beat, &map);
        if beat.claim.is_some() && ack.as_ref().is_some_and(|ack| ack.granted.is_none()) {
            root.waiting.insert(beat.node, (conn.cloned(), beat.clone()));
        } else if ack.is_some() {
            root.waiting.remove(&beat.node);
        }
        self.report_changes();
        self.answer_waiting();
        ack
    }

    /// Grants what could not be granted before: a new primary needs not wait for its next heartbeat when the
    /// former one lets go, or when this root hears of the promotion after it.
    fn answer_waiting(&mut self) {
        let now = self.env.clock.now_ms();
        let (Some(group), Some(root)) = (&self.group, &mut self.root) else { return };
        if root.waiting.is_empty() {
            return;
        }
        let map = group.map();
        let mut acks = Vec::new();
        root.waiting.retain(|_, (conn, beat)| match root.ledger.reconsider(now, beat, &map) {
            Some(ack) => {
                acks.push((conn.take(), ack));
                false
            }
            None => map.node(&beat.node).is_some(),
        });
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
        self.report_changes();
        self.answer_waiting();
    }

    /// Sends what has changed to the leader at once.
    fn report_changes(&mut self) {
        let now = self.env.clock.now_ms();
        let Some(map) = self.group.as_ref().map(|group| group.map()) else { return };
        if !map.roots().contains(&self.state.node) {
            return;
        }
        if let Some(root) = &mut self.root
            && let Some(report) = root.ledger.changes(now, &map)
        {
            self.report(report);
        }
    }

    fn report(&mut self, report: RootReport) {
        if self.is_leader() {
            self.on_report(report);
        } else if let Some(leader) = self.leader() {
            let message = Message::Evidence(report);
            self.links.send((LinkKind::Root, leader), &message, &mut self.counters);
        }
    }

    /// A root's evidence; only the leader draws conclusions.
    pub fn on_report(&mut self, report: RootReport) {
        let now = self.env.clock.now_ms();
        if let Some(root) = &mut self.root {
            root.evidence.on_report(now, report);
        }
        if self.is_leader() {
            self.decide();
        }
    }

    /// Whether this root counts the node as failed.
    pub fn counts_as_failed(&self, node: &NodeId) -> bool {
        let now = self.env.clock.now_ms();
        let me = self.state.node;
        self.root
            .as_ref()
            .is_some_and(|root| root.evidence.state(now, &me, node).is_some_and(|state| state.is_failed()))
    }

    /// Proposes what the evidence asks for; one batch at a time.
    fn decide(&mut self) {
        let now = self.env.clock.now_ms();
        let (Some(group), Some(root)) = (&self.group, &mut self.root) else { return };
        let map = group.map();
        if root.is_deciding || !root.evidence.has_quorum(now, &map) {
            return;
        }
        let policy = Policy { zone_affinity: self.config.zone_affinity };
        let mut decisions = root.decider.decide(&policy, &map, &root.evidence, now);
        root.hold_back(now, self.config.lease_ms, &map, &mut decisions);
        if decisions.is_empty() {
            return;
        }
        root.is_deciding = true;
        let roots = pando_failover::witnesses(&map);
        crate::explain::log_decisions(&roots, &decisions);
        let command = Command::Decide { roots, decisions };
        let proposal = Proposal::new(RequestId::NONE, command);
        let (group, events) = (group.clone(), self.events.clone());
        tokio::spawn(async move {
            match group.propose(proposal).await {
                Ok((outcome, _)) => {
                    if let Some(text) = outcome.refusal() {
                        tracing::debug!(text, "a decision was refused");
                        // The evidence has to change; asking at once would only repeat it.
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
            events.send(Event::Decided).ok();
        });
    }

    pub fn on_decided(&mut self) {
        if let Some(root) = &mut self.root {
            root.is_deciding = false;
        }
        if self.is_leader() {
            self.decide();
        }
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
            if let Some(root) = &mut self.root {
                root.feed.publish(map);
                for (conn, has) in root.subscribers.values_mut() {
                    push(&root.feed, conn, has, &mut self.counters);
                }
                root.subscribers.retain(|_, (conn, _)| !conn.is_closed());
            }
        }
        self.answer_waiting();
        self.note_election();
        self.update_view();
    }

    /// A node wants the topology.
    pub fn subscribe(&mut self, id: ConnId, conn: &Conn, has: Option<TopologyVersion>) {
        let Some(root) = &mut self.root else { return };
        let mut has_now = has.unwrap_or_default();
        if has.is_none() {
            for message in root.feed.since(None) {
                self.counters.sent(&message);
                net::send(conn, &message).ok();
                if let Message::Full(map) = &message {
                    has_now = map.version();
                }
            }
        }
        push(&root.feed, conn, &mut has_now, &mut self.counters);
        root.subscribers.insert(id, (conn.clone(), has_now));
    }

    pub fn unsubscribe(&mut self, id: ConnId) {
        if let Some(root) = &mut self.root {
            root.subscribers.remove(&id);
        }
    }

    pub fn on_root_tick(&mut self) {
        let now = self.env.clock.now_ms();
        let Some(map) = self.group.as_ref().map(|group| group.map()) else { return };
        if !map.roots().contains(&self.state.node) {
            // A voter that was replaced but is still in the group hears of it from the leader.
            if self.is_leader() {
                self.check_voters();
            }
            return;
        }
        self.catch_up();
        if let Some(root) = &mut self.root {
            let report = root.ledger.report(now, &map);
            self.report(report);
        }
        if self.is_leader() {
            self.check_voters();
            self.note_refusals();
        }
    }

    /// A root that has just started gives no promise before it knows all that was committed.
    fn catch_up(&mut self) {
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
        self.answer_waiting();
        self.send_heartbeats();
    }
}

/// Brings one subscriber up to date; one whose queue is full asks again when it reconnects.
fn push(feed: &Feed, conn: &Conn, has: &mut TopologyVersion, counters: &mut crate::counters::Counters) {
    for message in feed.since(Some(*has)) {
        let to = match &message {
            Message::Full(map) => map.version(),
            Message::Delta(delta) => delta.to,
            _ => continue,
        };
        counters.sent(&message);
        match net::send(conn, &message) {
            Ok(()) => *has = to,
            Err(_) => {
                conn.close();
                return;
            }
        }
    }
}
