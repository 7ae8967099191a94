// SPDX-License-Identifier: BSD-3-Clause
//! What the roots together say: the leader's table of their reports. A verdict needs a quorum of roots
//! of the same opinion; reports that are too old have none. Any node may keep such a table; only the
//! leader's leads to commands. Called by the agent, read by control/failover.
//!
//! A root reports everything once, then what changes; its signs of life keep all of it fresh. What nodes
//! say about themselves the leader hears from them (`on_heard`), and from the reports what it did not hear.

use crate::messages::{NodeEvidence, NodeState, RootReport};
use pando_topology::{ClusterMap, Incarnation, NodeId, TopologyVersion};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What a quorum of roots says about a node.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Verdict {
    /// It runs.
    Alive,
    /// It is silent or dead.
    Failed,
    /// No quorum of one opinion.
    Open,
}

/// What came of a report.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Taken {
    /// These nodes are to be looked at.
    Changed(Vec<NodeId>),
    /// The root's opinions count again, or for the first time: everything is to be looked at.
    Everything,
    /// It came twice or too late.
    Old,
    /// It does not follow the one before: the root is to be asked for everything.
    Gap,
}

#[derive(Clone, Debug)]
struct Report {
    received_ms: u64,
    incarnation: Incarnation,
    version: TopologyVersion,
    seq: u64,
}

/// What a root said about a node when it last reported it.
#[derive(Copy, Clone, Debug)]
struct Said {
    at_ms: u64,
    incarnation: Incarnation,
    state: NodeState,
}

/// What a root says about a node by now.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Seen {
    /// The last process that it heard of.
    pub incarnation: Incarnation,
    /// Alive or not.
    pub state: NodeState,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Evidence {
    fresh_ms: u64,
    reports: BTreeMap<NodeId, Report>,
    /// By node, what each root says about it: a verdict is one look-up, however many roots there are.
    said: BTreeMap<NodeId, Vec<(NodeId, Said)>>,
    /// The last words of each node, whoever heard them.
    heard: BTreeMap<NodeId, NodeEvidence>,
    /// Since when each root has been known to have applied its present version.
    applied_since: BTreeMap<NodeId, (TopologyVersion, u64)>,
}

impl Evidence {
    /// Reports count for `fresh_ms` after they came; a few times the interval at which they are sent.
    pub fn new(fresh_ms: u64) -> Evidence {
        Evidence {
            fresh_ms,
            reports: BTreeMap::new(),
            said: BTreeMap::new(),
            heard: BTreeMap::new(),
            applied_since: BTreeMap::new(),
        }
    }

    /// Takes in a report (the leader's own too).
    pub fn on_report(&mut self, now_ms: u64, report: RootReport) -> Taken {
        let known = self.reports.get(&report.root);
        let is_newer_process = known.is_none_or(|known| report.incarnation > known.incarnation);
        if let Some(known) = known
            && (report.incarnation, report.seq) <= (known.incarnation, known.seq)
        {
            return Taken::Old;
        }
        if !report.full && (is_newer_process || known.is_some_and(|known| report.seq != known.seq + 1)) {
            self.reports.remove(&report.root);
            self.forget_said(&report.root);
            return Taken::Gap;
        }
        if is_newer_process {
            // A new process may have applied less than the one before.
            self.applied_since.remove(&report.root);
        }
        let was_fresh = known.is_some_and(|known| self.counts(now_ms, known));
        for (node, evidence) in &report.nodes {
            if evidence.seq > 0 {
                self.on_heard(*node, evidence.clone());
            }
        }
        let changed: Vec<NodeId> = report.nodes.keys().copied().collect();
        if report.full {
            self.forget_said(&report.root);
        }
        for (node, evidence) in report.nodes {
            let said = Said { at_ms: now_ms, incarnation: evidence.incarnation, state: evidence.state };
            let all = self.said.entry(node).or_default();
            match all.iter_mut().find(|(root, _)| *root == report.root) {
                Some((_, before)) => *before = said,
                None => all.push((report.root, said)),
            }
        }
        let entry = self.reports.entry(report.root).or_insert_with(|| Report {
            received_ms: now_ms,
            incarnation: report.incarnation,
            version: report.version,
            seq: report.seq,
        });
        entry.received_ms = now_ms;
        entry.incarnation = report.incarnation;
        entry.version = report.version;
        entry.seq = report.seq;
        if report.full || !was_fresh { Taken::Everything } else { Taken::Changed(changed) }
    }

    /// Takes in what a node said itself.
    pub fn on_heard(&mut self, node: NodeId, evidence: NodeEvidence) {
        match self.heard.entry(node) {
            Entry::Vacant(unheard) => drop(unheard.insert(evidence)),
            Entry::Occupied(mut known) => {
                if (known.get().incarnation, known.get().seq) <= (evidence.incarnation, evidence.seq) {
                    known.insert(evidence);
                }
            }
        }
    }

    /// The node is not in the map any more.
    pub fn forget(&mut self, node: &NodeId) {
        self.heard.remove(node);
        self.said.remove(node);
    }

    /// Nothing that the root has said counts any more.
    fn forget_said(&mut self, root: &NodeId) {
        self.said.retain(|_, all| {
            all.retain(|(from, _)| from != root);
            !all.is_empty()
        });
    }

    /// What a root has said about a node, fresh or not.
    fn said(&self, root: &NodeId, node: &NodeId) -> Option<&Said> {
        self.said.get(node)?.iter().find(|(from, _)| from == root).map(|(_, said)| said)
    }

    fn counts(&self, now_ms: u64, report: &Report) -> bool {
        now_ms.saturating_sub(report.received_ms) <= self.fresh_ms
    }

    /// What one root says about a node, if its report is fresh.
    pub fn state(&self, now_ms: u64, root: &NodeId, node: &NodeId) -> Option<NodeState> {
        self.reports.get(root).filter(|report| self.counts(now_ms, report))?;
        self.said(root, node).map(|said| said.state)
    }

    /// What one root says about a node, with the times as they are by now, if its report is fresh.
    pub fn seen(&self, now_ms: u64, root: &NodeId, node: &NodeId) -> Option<Seen> {
        self.reports.get(root).filter(|report| self.counts(now_ms, report))?;
        let said = self.said(root, node)?;
        let state = match said.state {
            NodeState::Silent { for_ms } => {
                NodeState::Silent { for_ms: for_ms.saturating_add(now_ms.saturating_sub(said.at_ms)) }
            }
            other => other,
        };
        Some(Seen { incarnation: said.incarnation, state })
    }

    /// A root's reports count at the moment.
    pub fn is_fresh(&self, now_ms: u64, root: &NodeId) -> bool {
        self.report_age_ms(now_ms, root).is_some_and(|age_ms| age_ms <= self.fresh_ms)
    }

    /// How long ago a root last reported.
    pub fn report_age_ms(&self, now_ms: u64, root: &NodeId) -> Option<u64> {
        self.reports.get(root).map(|report| now_ms.saturating_sub(report.received_ms))
    }

    /// The verdict over a node.
    pub fn verdict(&self, now_ms: u64, map: &ClusterMap, node: &NodeId) -> Verdict {
        let Some(all) = self.said.get(node) else { return Verdict::Open };
        let says = |root: &NodeId, opinion: fn(&NodeState) -> bool| {
            all.iter().any(|(from, said)| from == root && opinion(&said.state)) && self.is_fresh(now_ms, root)
        };
        if map.roots().is_quorum(|root| says(root, NodeState::is_failed)) {
            Verdict::Failed
        } else if map.roots().is_quorum(|root| says(root, |s| matches!(s, NodeState::Alive { .. }))) {
            Verdict::Alive
        } else {
            Verdict::Open
        }
    }

    /// How many roots count a node as failed (CLUSTER COUNT-FAILURE-REPORTS).
    pub fn failure_reports(&self, now_ms: u64, map: &ClusterMap, node: &NodeId) -> usize {
        let members = map.roots().members();
        members.iter().filter(|root| self.state(now_ms, root, node).is_some_and(|s| s.is_failed())).count()
    }

    /// The latest that any root has heard of a node, as far as it is known here.
    pub fn latest(&self, _now_ms: u64, node: &NodeId) -> Option<&NodeEvidence> {
        self.heard.get(node)
    }

    /// Whether a quorum of roots has a fresh report here: without it the leader decides nothing.
    pub fn has_quorum(&self, now_ms: u64, map: &ClusterMap) -> bool {
        map.roots().is_quorum(|root| self.reports.get(root).is_some_and(|report| self.counts(now_ms, report)))
    }

    /// Whether a root is known to have applied `version` at least `for_ms` ago, in its present process.
    /// The time counts from the first question after the report came, so ask regularly.
    pub fn has_applied_for(&mut self, now_ms: u64, root: &NodeId, version: TopologyVersion, for_ms: u64) -> bool {
        let Some(report) = self.reports.get(root).filter(|r| r.version >= version) else { return false };
        let known = self.applied_since.entry(*root).or_insert((version, report.received_ms));
        if known.0 != version {
            *known = (version, now_ms);
        }
        now_ms.saturating_sub(known.1) >= for_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Heartbeat, NodeStatus, RootLedger};
    use pando_topology::{ClusterId, MapParts, Node, RootSet};
    use std::sync::Arc;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 20])
    }

    /// Three roots without data that are the only nodes.
    fn map() -> ClusterMap {
        let empty = ClusterMap::empty(ClusterId::from_bytes([1; 20]));
        let nodes = (1..=3).map(|n| {
            let mut node = Node::new(id(n), "", 0);
            node.is_data = false;
            (node.id, Arc::new(node))
        });
        let voters = (1..=3).map(|n| (id(n), u64::from(n))).collect();
        let roots = RootSet { voters, previous: None, since: TopologyVersion(1), ..RootSet::default() };
        let parts = MapParts { version: TopologyVersion(1), nodes: nodes.collect(), roots, ..empty.parts().clone() };
        ClusterMap::new(parts).expect("valid")
    }

    fn beat(node: u8, seq: u64) -> Heartbeat {
        Heartbeat {
            node: id(node),
            incarnation: Incarnation(1),
            seq,
            root_incarnation: Incarnation(1),
            version: TopologyVersion(1),
            roots_since: TopologyVersion(1),
            claim: None,
            holds_promise: false,
            status: NodeStatus::default(),
        }
    }

    #[test]
    fn changes_say_the_same_as_everything_would() {
        let map = map();
        let mut ledgers: Vec<RootLedger> =
            (1..=2).map(|n| RootLedger::first_ever(id(n), Incarnation(1), 100, 0)).collect();
        let mut evidence = Evidence::new(50);
        let mut seq = 0;
        for ledger in &mut ledgers {
            assert_eq!(evidence.on_report(0, ledger.report(0, &map)), Taken::Everything);
        }
        // Node 3 falls silent for a while, then again.
        for now in (1..2_000).step_by(7) {
            seq += 1;
            let is_silent = (300..600).contains(&now) || now > 1_500;
            for ledger in &mut ledgers {
                for node in 1..=3u8 {
                    if now % 20 < 7 && !(is_silent && node == 3) {
                        ledger.on_heartbeat(now, &beat(node, seq), &map);
                    }
                }
                let report = ledger.changes(now, &map).unwrap_or_else(|| ledger.sign_of_life(&map));
                assert!(matches!(evidence.on_report(now, report), Taken::Changed(_)), "at {now}");
                ledger.check_invariants();
            }
            for node in 1..=3 {
                let expected = match ledgers.iter().filter(|l| l.counts_as_failed(now, &id(node))).count() {
                    2 => Verdict::Failed,
                    0 if now > 20 => Verdict::Alive,
                    _ => continue,
                };
                assert_eq!(evidence.verdict(now, &map, &id(node)), expected, "node {node} at {now}");
            }
        }
    }

    #[test]
    fn what_is_lost_or_late_does_not_count() {
        let map = map();
        let mut ledger = RootLedger::first_ever(id(1), Incarnation(1), 100, 0);
        let mut evidence = Evidence::new(50);
        let (full, lost, next) = (ledger.report(0, &map), ledger.sign_of_life(&map), ledger.sign_of_life(&map));
        assert_eq!(evidence.on_report(0, full.clone()), Taken::Everything);
        assert_eq!(evidence.on_report(1, full), Taken::Old);
        assert_eq!(evidence.on_report(2, next.clone()), Taken::Gap);
        assert_eq!(evidence.on_report(3, lost), Taken::Gap, "nothing counts before everything was told again");
        assert_eq!(evidence.on_report(4, ledger.report(4, &map)), Taken::Everything);
        assert_eq!(evidence.on_report(5, next), Taken::Old);
        assert_eq!(evidence.on_report(60, ledger.sign_of_life(&map)), Taken::Everything, "it was silent");
    }
}
