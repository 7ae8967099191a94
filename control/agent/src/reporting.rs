// SPDX-License-Identifier: BSD-3-Clause
//! What the roots tell their leader, and when it decides: everything once, then what changes, and signs of
//! life in between. All of it costs what changes, however many nodes there are. The rules are in
//! `pando_liveness` and `pando_failover`.

use std::collections::BTreeSet;

use pando_failover::{Decider, Policy};
use pando_liveness::{Heartbeat, NodeEvidence, NodeState, NodeStatus, RootReport, Taken, Verdict};
use pando_root_state::{Command, Proposal, RequestId};
use pando_topology::NodeId;
use pando_wire::messages::Message;

use crate::driver::Driver;
use crate::event::Event;
use crate::net::LinkKind;

/// Changes that come in quick succession are reported and decided together. From one decision to the next pass so many
/// microseconds more for each node: of thousands that fail together a few decisions are made, not one every few milliseconds
/// that everybody has to be told of.
const SPACING_MS: u64 = 5;
const SPACING_US_EACH: u64 = 10;

fn decision_spacing_ms(nodes: usize) -> u64 {
    SPACING_MS + nodes as u64 * SPACING_US_EACH / 1000
}

/// How soon it looks again at shards that wait for last words.
const WAITING_MS: u64 = 20;

/// A leader that nothing is reported to looks so often at what it has not settled.
const PATIENCE_MS: u64 = 1_000;

/// Most nodes that a leader asks the other roots about at a time.
const ASKED_MAX: usize = 256;

/// Milliseconds between signs of life: a twentieth of the lease, at most 150.
pub(crate) fn report_ms(lease_ms: u64) -> u64 {
    (lease_ms / 20).clamp(1, 150)
}

/// For how long opinions of a root count that gives no sign of life. A few may be late; an isolated root's
/// must not count for long.
pub(crate) fn fresh_ms(lease_ms: u64) -> u64 {
    6 * report_ms(lease_ms)
}

/// When what is due. All of it may be lost.
#[derive(Debug, Default)]
pub(crate) struct Reporting {
    /// The leader that has this root's opinions, over the present link.
    told: Option<NodeId>,
    /// When the last report went out, and the last sign of life or what took its place.
    reported_ms: u64,
    regular_ms: u64,
    /// Leader: what is to be looked at before it decides next, if something is.
    is_changed: bool,
    changed: BTreeSet<NodeId>,
    /// Everything is.
    is_all_changed: bool,
    /// Leader: when it last looked what to decide.
    decided_ms: u64,
    /// Leader: nodes that it does not hear itself.
    unheard: BTreeSet<NodeId>,
}

impl Reporting {
    /// The link to a root is new, or gone.
    pub fn on_link(&mut self, root: &NodeId) {
        if self.told == Some(*root) {
            self.told = None;
        }
    }

    /// The leader is to look at everything.
    pub fn look_at_all(&mut self) {
        self.is_changed = true;
        self.is_all_changed = true;
    }

    /// The leader is to look at these nodes, and at what it has not settled.
    pub fn look_at(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.is_changed = true;
        self.changed.extend(nodes);
    }
}

impl Driver {
    /// When this root has something to do here by itself; never, if it has no vote and does not lead.
    pub fn reporting_due_ms(&self) -> Option<u64> {
        let root = self.root.as_ref()?;
        let is_concerned = self.map.roots().contains(&self.state.node) || self.is_leader();
        if !is_concerned {
            return None;
        }
        let reporting = &root.reporting;
        let soon_ms = reporting.reported_ms + SPACING_MS;
        let mut due_ms = soon_ms.max(reporting.regular_ms + report_ms(self.config.lease_ms));
        if reporting.told.is_some() {
            if root.ledger.has_changed() {
                due_ms = due_ms.min(soon_ms);
            }
            if let Some(silent_ms) = root.ledger.next_deadline_ms() {
                due_ms = due_ms.min(silent_ms.max(soon_ms));
            }
        }
        if reporting.is_changed && !root.is_deciding {
            due_ms = due_ms.min(reporting.decided_ms + decision_spacing_ms(self.map.nodes().len()));
        }
        if root.decider.is_waiting() && !root.is_deciding {
            due_ms = due_ms.min(reporting.decided_ms + WAITING_MS);
        }
        Some(due_ms)
    }

    /// Reports and decides what is due. Called after each run of events, so it looks before it works.
    pub fn report_due(&mut self) {
        let now = self.env.clock.now_ms();
        self.report(now);
        let is_leader = self.is_leader();
        let spacing_ms = decision_spacing_ms(self.map.nodes().len());
        let Some(root) = &mut self.root else { return };
        if is_leader && root.decider.is_waiting() && now >= root.reporting.decided_ms + WAITING_MS {
            root.reporting.look_at([]);
        }
        if !is_leader {
            root.reporting.is_changed = false;
            root.reporting.changed.clear();
            // It will know nothing for certain when it leads.
            root.reporting.is_all_changed = true;
            root.decider = Decider::default();
        }
        if root.reporting.is_changed && !root.is_deciding && now >= root.reporting.decided_ms + spacing_ms {
            root.reporting.is_changed = false;
            root.reporting.decided_ms = now;
            let changed = std::mem::take(&mut root.reporting.changed);
            let is_all = std::mem::take(&mut root.reporting.is_all_changed);
            self.decide((!is_all).then_some(changed));
        }
    }

    fn report(&mut self, now: u64) {
        let (Some(group), Some(root)) = (&self.group, &self.root) else { return };
        let (reporting, ledger) = (&root.reporting, &root.ledger);
        if now < reporting.reported_ms + SPACING_MS {
            return;
        }
        let is_leader = group.is_leader();
        let is_regular = now >= reporting.regular_ms + report_ms(self.config.lease_ms);
        let target = if is_leader { Some(self.state.node) } else { self.leader() };
        let target = target.filter(|target| is_leader || self.links.is_up((LinkKind::Root, *target)));
        let is_first = target.is_some() && reporting.told != target;
        let has_news = ledger.has_changed() || ledger.next_deadline_ms().is_some_and(|due_ms| due_ms <= now);
        let is_wanted = is_regular || is_first || (has_news && target.is_some());
        if !is_wanted {
            return;
        }
        let map = group.map();
        let is_voter = map.roots().contains(&self.state.node);
        if is_regular {
            if is_voter {
                self.catch_up();
            }
            if is_leader {
                self.check_voters();
                self.note_refusals();
                self.look_for_what_waits(now);
            }
        }
        let Some(root) = &mut self.root else { return };
        root.reporting.reported_ms = now;
        if is_regular {
            root.reporting.regular_ms = now;
        }
        root.reporting.told = target.filter(|_| is_voter);
        let Some(target) = root.reporting.told else { return };
        let report = if is_first {
            Some(root.ledger.report(now, &map))
        } else {
            root.ledger.changes(now, &map).or_else(|| is_regular.then(|| root.ledger.sign_of_life(&map)))
        };
        let Some(mut report) = report else { return };
        if is_leader {
            if is_first {
                root.reporting.unheard.clear();
            }
            self.on_report(report);
            if is_regular {
                self.ask_about_unheard();
            }
            return;
        }
        if is_first {
            // The leader hears most nodes itself, and asks about the others.
            for evidence in report.nodes.values_mut() {
                evidence.seq = 0;
                evidence.status = NodeStatus::default();
            }
        }
        let message = Message::Evidence(report);
        if !self.links.send((LinkKind::Root, target), &message, &mut self.counters)
            && let Some(root) = &mut self.root
        {
            root.reporting.told = None;
        }
    }

    /// What was left undone may have to be done now that time has passed.
    fn look_for_what_waits(&mut self, now: u64) {
        let Some(root) = &mut self.root else { return };
        let pause_ms = if self.map.unserved_shards() > 0 { SPACING_MS } else { PATIENCE_MS };
        if now >= root.reporting.decided_ms + pause_ms {
            root.reporting.look_at([]);
        }
    }

    /// Proposes what the evidence of these nodes asks for, or that of all; one batch at a time.
    fn decide(&mut self, nodes: Option<BTreeSet<NodeId>>) {
        let now = self.env.clock.now_ms();
        let (Some(group), Some(root)) = (&self.group, &mut self.root) else { return };
        let map = group.map();
        if !root.evidence.has_quorum(now, &map) {
            root.reporting.is_all_changed = true;
            return;
        }
        let policy = Policy { zone_affinity: self.config.zone_affinity };
        let mut decisions = match nodes {
            Some(nodes) => root.decider.decide_about(&policy, &map, &root.evidence, now, &nodes),
            None => root.decider.decide(&policy, &map, &root.evidence, now),
        };
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
            root.reporting.look_at([]);
        }
    }

    /// A root's evidence; only the leader draws conclusions.
    pub fn on_report(&mut self, report: RootReport) {
        let now = self.env.clock.now_ms();
        let (from, me) = (report.root, self.state.node);
        let Some(root) = &mut self.root else { return };
        if from == me {
            for (node, evidence) in &report.nodes {
                match evidence.state {
                    NodeState::Alive { .. } => root.reporting.unheard.remove(node),
                    _ => root.reporting.unheard.insert(*node),
                };
            }
        }
        match root.evidence.on_report(now, report) {
            Taken::Changed(nodes) if nodes.is_empty() => {}
            Taken::Changed(nodes) => root.reporting.look_at(nodes),
            Taken::Everything => root.reporting.look_at_all(),
            Taken::Old => {}
            Taken::Gap if from == me => root.reporting.told = None,
            Taken::Gap => {
                self.links.send((LinkKind::Root, from), &Message::Tell(Vec::new()), &mut self.counters);
            }
        }
    }

    /// Leader: what a node has said to it. What matters for a shard in need is looked at at once.
    pub fn note_heard(&mut self, beat: &Heartbeat) {
        let Some(group) = self.group.as_ref().filter(|group| group.is_leader()) else { return };
        let Some(root) = &mut self.root else { return };
        let evidence = NodeEvidence {
            incarnation: beat.incarnation,
            seq: beat.seq,
            state: NodeState::Alive { left_ms: self.config.lease_ms },
            status: beat.status.clone(),
        };
        root.evidence.on_heard(beat.node, evidence);
        let map = group.map();
        let is_in_need = map.shard_of(&beat.node).is_none_or(|shard| {
            let primary = map.node(&shard.primary);
            let is_new_process = shard.primary == beat.node && shard.primary_incarnation != beat.incarnation;
            is_new_process || primary.is_none_or(|node| node.failed || node.incarnation != shard.primary_incarnation)
        });
        if is_in_need || map.node(&beat.node).is_some_and(|node| node.failed) {
            root.reporting.look_at([beat.node]);
        }
    }

    /// Leader: nodes that it does not hear, but a majority does, may have to be ranked all the same.
    fn ask_about_unheard(&mut self) {
        let now = self.env.clock.now_ms();
        let (Some(group), Some(root)) = (&self.group, &self.root) else { return };
        if root.reporting.unheard.is_empty() {
            return;
        }
        let map = group.map();
        let is_alive = |id: &&NodeId| root.evidence.verdict(now, &map, id) == Verdict::Alive;
        let nodes: Vec<NodeId> = root.reporting.unheard.iter().filter(is_alive).take(ASKED_MAX).copied().collect();
        if nodes.is_empty() {
            return;
        }
        let message = Message::Tell(nodes);
        for other in map.roots().members() {
            if other != self.state.node {
                self.links.send((LinkKind::Root, other), &message, &mut self.counters);
            }
        }
    }

    /// The leader asks what this root knows of these nodes; of none: of all.
    pub fn on_tell(&mut self, nodes: &[NodeId]) {
        let Some(root) = &mut self.root else { return };
        if nodes.is_empty() {
            root.reporting.told = None;
        }
        for node in nodes.iter().take(ASKED_MAX) {
            root.ledger.report_again(node);
        }
    }

    /// Whether this root counts the node as failed.
    pub fn counts_as_failed(&self, node: &NodeId) -> bool {
        let now = self.env.clock.now_ms();
        self.root.as_ref().is_some_and(|root| root.ledger.counts_as_failed(now, node))
    }
}
