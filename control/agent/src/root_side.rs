// SPDX-License-Identifier: BSD-3-Clause
//! The driver's root half: answers heartbeats, tells subscribers of changes, exchanges evidence with
//! the other roots and, on the leader, proposes what `pando_failover` decides and keeps the set of
//! voters. Every node that may be a root has one; one that is no voter gives no promises.

use std::collections::{BTreeMap, BTreeSet};

use pando_env::Env;
use pando_liveness::{Ack, Evidence, Heartbeat, ProofOfDeath, RootLedger, RootReport, Verdict};
use pando_raft::RootAddress;
use pando_root_state::{Command, Proposal, RequestId, RootStep, desired_voters, next_root_step};
use pando_topology::{Incarnation, NodeId, TopologyVersion};
use pando_wire::Conn;
use pando_wire::messages::Message;

use crate::api::AgentConfig;
use crate::driver::{Driver, heartbeat_ms};
use crate::event::Event;
use crate::feed::Feed;
use crate::net::{self, ConnId, LinkKind};

/// A voter that is away for so many leases is replaced. Most come back sooner: a restart should not
/// change the roots twice.
const VOTER_PATIENCE_LEASES: u64 = 2;

/// What the root half remembers; all of it may be lost.
pub(crate) struct RootSide {
    ledger: RootLedger,
    evidence: Evidence,
    feed: Feed,
    subscribers: BTreeMap<ConnId, (Conn, TopologyVersion)>,
    /// Last heartbeats whose claims could not be granted, and where to answer (here: `None`).
    waiting: BTreeMap<NodeId, (Option<Conn>, Heartbeat)>,
    /// A batch of decisions is on its way.
    is_deciding: bool,
    /// A step of the voters is on its way.
    is_checking_voters: bool,
    is_catching_up: bool,
    /// Leader: voters that have failed, and since when this root has seen that.
    absent: BTreeMap<NodeId, u64>,
    /// Leader: the group is known to have exchanged its voters as of a version, since when.
    exchanged: Option<(TopologyVersion, u64)>,
}

impl RootSide {
    /// `is_new`: see `Driver::start_group`.
    pub fn new(env: &Env, config: &AgentConfig, node: NodeId, incarnation: Incarnation, is_new: bool) -> Self {
        let now = env.clock.now_ms();
        // The wait of a restarted root is for what its predecessor may have promised. Without a
        // predecessor it is over.
        let started = if is_new { now.saturating_sub(config.lease_ms) } else { now };
        Self {
            ledger: RootLedger::new(node, incarnation, config.lease_ms, started),
            // A few reports may be late; an isolated root's must not count for long.
            evidence: Evidence::new(6 * heartbeat_ms(config.lease_ms)),
            feed: Feed::default(),
            subscribers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            is_deciding: false,
            is_checking_voters: false,
            is_catching_up: false,
            absent: BTreeMap::new(),
            exchanged: None,
        }
    }
}

impl Driver {
    fn is_leader(&self) -> bool {
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
        let decisions = pando_failover::decide(&map, &root.evidence, now);
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
        if let Some(root) = &mut self.root
            && !root.ledger.is_caught_up()
        {
            root.ledger.note_caught_up();
        }
        self.answer_waiting();
        self.send_heartbeats();
    }

    /// Leader: the next step towards the voters that there should be.
    fn check_voters(&mut self) {
        let now = self.env.clock.now_ms();
        let lease_ms = self.config.lease_ms;
        let (Some(group), Some(root)) = (&self.group, &mut self.root) else { return };
        if root.is_checking_voters {
            return;
        }
        let map = group.map();
        if map.nodes().is_empty() {
            return;
        }
        // Nobody reports to a leader that the map does not show, so it can decide nothing.
        let is_fit = |id: &NodeId| map.node(id).is_some_and(|node| !node.failed);
        if map.node(&self.state.node).is_none()
            && let Some(heir) = group.heir(is_fit)
        {
            root.is_checking_voters = true;
            let (group, events) = (group.clone(), self.events.clone());
            tokio::spawn(async move {
                if let Err(error) = group.hand_over(heir).await {
                    tracing::debug!(error, "leadership was not handed over yet");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                events.send(Event::VotersChecked).ok();
            });
            return;
        }
        let since = map.roots().since;
        let address = |id: &NodeId| {
            map.node(id).map(|node| RootAddress { node: *id, host: node.host.clone(), port: node.cluster_port })
        };
        let voters: BTreeMap<u64, RootAddress> =
            map.roots().voters.iter().filter_map(|(id, voter)| Some((*voter, address(id)?))).collect();
        // The promises of the former voters count until the exchange is settled. One that restarts
        // meanwhile can give none before it knows what is committed, so it goes on hearing of it.
        let kept: BTreeSet<u64> = map.roots().previous.iter().flat_map(|previous| previous.values().copied()).collect();
        let wanted: BTreeSet<u64> = map.roots().voters.values().copied().collect();
        let is_same = group.has_members(&wanted, &kept);
        if !is_same {
            root.exchanged = None;
        } else if root.exchanged.is_none_or(|(version, _)| version != since) {
            root.exchanged = Some((since, now));
        }
        let evidence = &mut root.evidence;
        let patience_ms = VOTER_PATIENCE_LEASES * lease_ms;
        root.absent.retain(|id, _| map.roots().voters.contains_key(id));
        for id in map.roots().voters.keys() {
            match evidence.verdict(now, &map, id) {
                Verdict::Failed => drop(root.absent.entry(*id).or_insert(now)),
                Verdict::Alive => drop(root.absent.remove(id)),
                Verdict::Open => {}
            }
        }
        let is_gone = |id: &NodeId| root.absent.get(id).is_some_and(|since| now >= since + patience_ms);
        let is_live = |id: &NodeId| match map.roots().voters.contains_key(id) {
            true => !is_gone(id),
            false => evidence.verdict(now, &map, id) == Verdict::Alive,
        };
        let mut desired = desired_voters(&map, self.config.root_count, is_live);
        // What is not known yet is no reason for a change, least of all for fewer roots: a leader that
        // has just been elected has heard of nobody.
        let is_shrinking = desired.len() < map.roots().voters.len();
        let is_open = |id: &NodeId| evidence.verdict(now, &map, id) == Verdict::Open;
        let is_unknown = || map.nodes().values().any(|node| node.root_eligible && is_open(&node.id));
        if !evidence.has_quorum(now, &map) || (is_shrinking && is_unknown()) {
            desired = map.roots().voters.clone();
        }
        let applied = std::cell::RefCell::new(evidence);
        let has_applied = |id: &NodeId, for_ms| applied.borrow_mut().has_applied_for(now, id, since, for_ms);
        // The group exchanges its voters when a majority of the former ones knows of it. That it has
        // done so then proves it to any later leader, even when those former voters are gone.
        let may_exchange = map
            .roots()
            .previous
            .as_ref()
            .is_none_or(|previous| previous.keys().filter(|id| has_applied(id, 0)).count() * 2 > previous.len());
        let is_exchanged = root.exchanged.is_some_and(|(_, at)| now >= at.saturating_add(lease_ms));
        // A new voter that died before it got its vote must not hold up its own replacement.
        let is_stuck = map.roots().voters.keys().any(is_gone);
        let step = next_root_step(&map, &desired, |id, _| is_exchanged || (is_stuck && has_applied(id, lease_ms)));
        let command = match step {
            RootStep::Stay => None,
            RootStep::Exchange(voters) => Some(Command::SetRoots { voters, expect_since: since }),
            RootStep::Settle(since) => Some(Command::SettleRoots { expect_since: since }),
        };
        // A voter without an address has been forgotten; the next exchange will replace it.
        let can_change = may_exchange && !voters.is_empty() && voters.len() == map.roots().voters.len();
        if command.is_none() && (is_same || !can_change) {
            return;
        }
        root.is_checking_voters = true;
        let (group, events) = (group.clone(), self.events.clone());
        tokio::spawn(async move {
            let mut is_done = true;
            if !is_same
                && can_change
                && let Err(error) = group.become_voters(&voters, &kept).await
            {
                tracing::debug!(error, "the voters could not be changed yet");
                is_done = false;
            }
            if let Some(command) = command {
                let proposal = Proposal::new(RequestId::NONE, command);
                is_done &= group.propose(proposal).await.is_ok_and(|(outcome, _)| outcome.is_done());
            }
            if !is_done {
                // Whatever is missing, asking again at once would only keep this root busy.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            events.send(Event::VotersChecked).ok();
        });
    }

    pub fn on_voters_checked(&mut self) {
        if let Some(root) = &mut self.root {
            root.is_checking_voters = false;
        }
        if self.is_leader() {
            self.check_voters();
        }
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
