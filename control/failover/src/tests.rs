// SPDX-License-Identifier: BSD-3-Clause
//! Tables: a cluster, what each root says, and the commands that follow. Three roots (nodes 1-3, also
//! the primaries of shards 1-3); node 10·s+r is replica r of shard s.

use crate::decide;
use pando_liveness::{Evidence, NodeEvidence, NodeState, NodeStatus, RootReport, Told};
use pando_root_state::{Command, PromoteReason};
use pando_topology::{
    ClusterId, ClusterMap, Incarnation, MapParts, Node, NodeId, RootSet, Shard, ShardId, SharedMap, SlotSet,
    TopologyVersion,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const NOW: u64 = 100_000;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 20])
}
fn sid(n: u8) -> ShardId {
    ShardId::from_bytes([n; 20])
}

/// A cluster and what is known about it; by default everybody is well.
struct Case {
    parts: MapParts,
    status: BTreeMap<NodeId, (Incarnation, NodeStatus)>,
    states: BTreeMap<(u8, NodeId), NodeState>,
    reports: BTreeMap<u8, u64>,
}

impl Case {
    fn new(replicas: u8) -> Case {
        let mut parts = MapParts {
            cluster_id: ClusterId::from_bytes([9; 20]),
            version: TopologyVersion(50),
            current_epoch: 3,
            nodes: SharedMap::new(),
            shards: SharedMap::new(),
            roots: RootSet {
                voters: (1..=3).map(|n| (id(n), u64::from(n))).collect(),
                previous: None,
                since: TopologyVersion(3),
            },
        };
        let mut status = BTreeMap::new();
        for s in 1..=3u8 {
            let members: Vec<u8> = std::iter::once(s).chain((1..=replicas).map(|r| 10 * s + r)).collect();
            for m in &members {
                let mut node = Node::new(id(*m), "127.0.0.1", 7000 + u16::from(*m));
                node.shard = Some(sid(s));
                node.incarnation = Incarnation(1);
                node.promotable_since = TopologyVersion(20);
                parts.nodes.insert(node.id, Arc::new(node));
                let told = Some(Told { shard: sid(s), version: TopologyVersion(30) });
                let known = NodeStatus {
                    offset: 1000,
                    replid: "a".into(),
                    link_up: true,
                    synced: true,
                    told,
                    promise_left_ms: 0,
                };
                status.insert(id(*m), (Incarnation(1), known));
            }
            let shard = Shard {
                id: sid(s),
                epoch: u64::from(s),
                reign: TopologyVersion(10),
                primary: id(s),
                primary_incarnation: Incarnation(1),
                replicas: members[1..].iter().map(|m| id(*m)).collect(),
                slots: SlotSet::new(),
            };
            parts.shards.insert(shard.id, Arc::new(shard));
        }
        let reports = (1..=3).map(|root| (root, NOW)).collect();
        Case { parts, status, states: BTreeMap::new(), reports }
    }

    fn node(mut self, n: u8, edit: impl FnOnce(&mut Node)) -> Case {
        if let Some(node) = self.parts.nodes.get_mut(&id(n)) {
            edit(Arc::make_mut(node));
        }
        self
    }

    fn status(mut self, n: u8, edit: impl FnOnce(&mut NodeStatus)) -> Case {
        if let Some((_, status)) = self.status.get_mut(&id(n)) {
            edit(status);
        }
        self
    }

    fn runs_as(mut self, n: u8, incarnation: u64) -> Case {
        if let Some(known) = self.status.get_mut(&id(n)) {
            known.0 = Incarnation(incarnation);
        }
        self
    }

    fn says(mut self, roots: &[u8], n: u8, state: NodeState) -> Case {
        self.states.extend(roots.iter().map(|root| ((*root, id(n)), state)));
        self
    }

    fn report_at(mut self, root: u8, at: Option<u64>) -> Case {
        match at {
            Some(at) => self.reports.insert(root, at),
            None => self.reports.remove(&root),
        };
        self
    }

    fn decide(self) -> Vec<Command> {
        let (map, evidence) = self.known();
        decide(&map, &evidence, NOW).into_iter().map(|decision| decision.command).collect()
    }

    fn known(self) -> (ClusterMap, Evidence) {
        let map = ClusterMap::new(self.parts).expect("a valid map");
        let mut evidence = Evidence::new(1000);
        for (root, at) in self.reports {
            let nodes = self.status.iter().enumerate().map(|(seq, (node, (incarnation, status)))| {
                let state = self.states.get(&(root, *node)).copied().unwrap_or(NodeState::Alive { left_ms: 100 });
                (*node, NodeEvidence { incarnation: *incarnation, seq: seq as u64, state, status: status.clone() })
            });
            let report = RootReport {
                root: id(root),
                incarnation: Incarnation(1),
                version: map.version(),
                full: true,
                nodes: nodes.collect(),
            };
            evidence.on_report(at, report);
        }
        (map, evidence)
    }
}

const SILENT: NodeState = NodeState::Silent { for_ms: 1 };

fn failed(nodes: &[u8]) -> Command {
    Command::MarkFailed { nodes: nodes.iter().map(|n| id(*n)).collect() }
}
fn cleared(nodes: &[u8]) -> Command {
    Command::ClearFailed { nodes: nodes.iter().map(|n| id(*n)).collect() }
}
fn promote(shard: u8, to: u8, reason: PromoteReason) -> Command {
    Command::Promote {
        shard: sid(shard),
        to: id(to),
        incarnation: Incarnation(1),
        expect_epoch: u64::from(shard),
        told_at: TopologyVersion(30),
        reason,
    }
}
fn confirm(shard: u8, incarnation: u64) -> Command {
    Command::ConfirmPrimary {
        shard: sid(shard),
        node: id(shard),
        incarnation: Incarnation(incarnation),
        expect_epoch: u64::from(shard),
    }
}
use PromoteReason::{Failed, Restarted};

fn check(what: &str, case: Case, expected: &[Command]) {
    assert_eq!(case.decide(), expected, "{what}");
}

#[test]
fn verdicts() {
    check("all is well", Case::new(1), &[]);
    check("one root alone says so", Case::new(1).says(&[1], 2, NodeState::Dead), &[]);
    check("a failed replica", Case::new(1).says(&[1, 2], 31, SILENT), &[failed(&[31])]);
    check("it was known", Case::new(1).node(31, |n| n.failed = true).says(&[1, 2, 3], 31, SILENT), &[]);
    check("it is back", Case::new(1).node(31, |n| n.failed = true), &[cleared(&[31])]);
    check("back for a minority only", Case::new(1).node(31, |n| n.failed = true).says(&[1, 2], 31, SILENT), &[]);
    check("roots that have just started", Case::new(1).says(&[1, 2, 3], 3, NodeState::Unknown), &[]);
    check(
        "a dead node while roots have just started stays failed",
        Case::new(1).node(31, |n| n.failed = true).says(&[1, 2], 31, NodeState::Unknown).says(&[3], 31, SILENT),
        &[],
    );
    check("stale reports count for nothing", Case::new(1).says(&[1, 2], 3, SILENT).report_at(2, Some(NOW - 1001)), &[]);
    check(
        "no quorum of reports",
        Case::new(1).says(&[1], 3, NodeState::Dead).report_at(2, None).report_at(3, None),
        &[],
    );
}

#[test]
fn promotions() {
    let dead = |n: u8| Case::new(2).says(&[1, 2, 3], n, NodeState::Dead);
    check("one failed primary", dead(3), &[failed(&[3]), promote(3, 31, Failed)]);
    check("two of three roots suffice", Case::new(1).says(&[1, 3], 2, SILENT), &[failed(&[2]), promote(2, 21, Failed)]);
    check("marked before, still failed", dead(3).node(3, |n| n.failed = true), &[promote(3, 31, Failed)]);
    check("no replica", Case::new(0).says(&[1, 2, 3], 3, SILENT), &[failed(&[3])]);
    check(
        "every shard in one answer",
        Case::new(1).says(&[1, 2, 3], 1, SILENT).says(&[1, 2, 3], 2, SILENT).says(&[1, 2, 3], 3, SILENT),
        &[failed(&[1, 2, 3]), promote(1, 11, Failed), promote(2, 21, Failed), promote(3, 31, Failed)],
    );
}

#[test]
fn ranking() {
    let dead = |edit: fn(Case) -> Case| edit(Case::new(2)).says(&[1, 2, 3], 3, NodeState::Dead);
    for (what, winner, edit) in [
        ("the lower id, all else equal", Some(31), (|c| c) as fn(Case) -> Case),
        ("the larger offset", Some(32), |c| c.status(32, |s| s.offset = 1001)),
        ("a link that was up beats the offset", Some(32), |c| c.status(31, |s| (s.link_up, s.offset) = (false, 2000))),
        ("the history of the primary beats the link", Some(32), |c| c.status(31, |s| s.replid = "b".into())),
        ("the zone of the primary", Some(32), |c| c.node(3, |n| n.zone = "x".into()).node(32, |n| n.zone = "x".into())),
        ("the lower priority number", Some(32), |c| c.node(32, |n| n.replica_priority = 50)),
        ("priority 0 is never promoted", Some(32), |c| c.node(31, |n| n.replica_priority = 0)),
        ("nofailover is never promoted", Some(32), |c| c.node(31, |n| n.no_failover = true)),
        ("it must have the data", Some(32), |c| c.status(31, |s| s.synced = false)),
        ("it must have been told", Some(32), |c| c.status(31, |s| s.told = None)),
        ("told before it came back is not told", Some(32), |c| {
            c.node(31, |n| n.promotable_since = TopologyVersion(31))
        }),
        ("told by another shard is not told", Some(32), |c| {
            c.status(31, |s| s.told = Some(Told { shard: sid(1), version: TopologyVersion(40) }))
        }),
        ("it must not have failed", Some(32), |c| c.node(31, |n| n.failed = true).says(&[1, 2], 31, SILENT)),
        ("it must run as the process that registered", Some(32), |c| c.runs_as(31, 2)),
        ("nobody is fit", None, |c| c.status(31, |s| s.synced = false).status(32, |s| s.synced = false)),
    ] {
        let commands = dead(edit).decide();
        let promoted = commands.iter().find_map(|c| match c {
            Command::Promote { to, .. } => Some(*to),
            _ => None,
        });
        assert_eq!(promoted, winner.map(id), "{what}: {commands:?}");
    }
}

#[test]
fn promises_hold_back_a_promotion_until_death_is_proven() {
    let promised = || Case::new(1).status(31, |s| s.promise_left_ms = 500);
    check("cut off from the roots, not from its replica", promised().says(&[1, 2, 3], 3, SILENT), &[failed(&[3])]);
    check("proven dead", promised().says(&[1, 2], 3, NodeState::Dead), &[failed(&[3]), promote(3, 31, Failed)]);
}

#[test]
fn restarts() {
    let restarted = |replicas: u8| Case::new(replicas).runs_as(3, 2).node(3, |n| n.incarnation = Incarnation(2));
    check("a fit replica takes over", restarted(1), &[promote(3, 31, Restarted)]);
    check("alone it goes on", restarted(0), &[confirm(3, 2)]);
    check("its replica is not fit", restarted(1).status(31, |s| s.synced = false), &[confirm(3, 2)]);
    check("not registered yet", Case::new(0).runs_as(3, 2), &[]);
    check("heard by a minority only", restarted(0).says(&[1, 2], 3, NodeState::Unknown), &[]);
    check("gone again", restarted(0).says(&[1, 2, 3], 3, NodeState::Dead), &[failed(&[3])]);
}
