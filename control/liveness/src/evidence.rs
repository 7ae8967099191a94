// SPDX-License-Identifier: BSD-3-Clause
//! What the roots together say: the leader's table of their reports. A verdict needs a quorum of roots
//! of the same opinion; reports that are too old have none. Any node may keep such a table; only the
//! leader's leads to commands. Called by the agent, read by control/failover.

use crate::messages::{NodeEvidence, NodeState, RootReport};
use pando_topology::{ClusterMap, Incarnation, NodeId, TopologyVersion};
use std::collections::BTreeMap;

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

#[derive(Clone, Debug)]
struct Report {
    received_ms: u64,
    incarnation: Incarnation,
    version: TopologyVersion,
    nodes: BTreeMap<NodeId, NodeEvidence>,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Evidence {
    fresh_ms: u64,
    reports: BTreeMap<NodeId, Report>,
    /// Since when each root has been known to have applied its present version.
    applied_since: BTreeMap<NodeId, (TopologyVersion, u64)>,
}

impl Evidence {
    /// Reports count for `fresh_ms` after they came; a few times the interval at which they are sent.
    pub fn new(fresh_ms: u64) -> Evidence {
        Evidence { fresh_ms, reports: BTreeMap::new(), applied_since: BTreeMap::new() }
    }

    /// Takes in a report (the leader's own too). Reports of one root come in the order in which they
    /// were sent (one connection); one of an older process is ignored.
    pub fn on_report(&mut self, now_ms: u64, report: RootReport) {
        let entry = self.reports.entry(report.root).or_insert_with(|| Report {
            received_ms: now_ms,
            incarnation: report.incarnation,
            version: report.version,
            nodes: BTreeMap::new(),
        });
        if report.incarnation < entry.incarnation {
            return;
        }
        if report.full || report.incarnation > entry.incarnation {
            entry.nodes.clear();
        }
        if report.incarnation > entry.incarnation {
            // A new process may have applied less than the one before.
            self.applied_since.remove(&report.root);
        }
        entry.received_ms = now_ms;
        entry.incarnation = report.incarnation;
        entry.version = report.version;
        entry.nodes.extend(report.nodes);
    }

    fn fresh(&self, now_ms: u64) -> impl Iterator<Item = (&NodeId, &Report)> {
        self.reports.iter().filter(move |(_, r)| now_ms.saturating_sub(r.received_ms) <= self.fresh_ms)
    }

    /// What one root says about a node, if its report is fresh.
    pub fn state(&self, now_ms: u64, root: &NodeId, node: &NodeId) -> Option<NodeState> {
        let report = self.reports.get(root).filter(|r| now_ms.saturating_sub(r.received_ms) <= self.fresh_ms)?;
        report.nodes.get(node).map(|e| e.state)
    }

    /// All that one root knows of a node, if its report is fresh.
    pub fn seen(&self, now_ms: u64, root: &NodeId, node: &NodeId) -> Option<&NodeEvidence> {
        let report = self.reports.get(root).filter(|r| now_ms.saturating_sub(r.received_ms) <= self.fresh_ms)?;
        report.nodes.get(node)
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
        let says = |root: &NodeId, opinion: fn(&NodeState) -> bool| {
            self.state(now_ms, root, node).is_some_and(|state| opinion(&state))
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

    /// The latest that any root has heard of a node.
    pub fn latest(&self, now_ms: u64, node: &NodeId) -> Option<&NodeEvidence> {
        self.fresh(now_ms).filter_map(|(_, r)| r.nodes.get(node)).max_by_key(|e| (e.incarnation, e.seq))
    }

    /// Whether a quorum of roots has a fresh report here: without it the leader decides nothing.
    pub fn has_quorum(&self, now_ms: u64, map: &ClusterMap) -> bool {
        map.roots().is_quorum(|root| self.fresh(now_ms).any(|(id, _)| id == root))
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
