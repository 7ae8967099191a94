// SPDX-License-Identifier: BSD-3-Clause
//! Tables: a cluster, what each root says, and the commands that follow. Three roots (nodes 1-3, also
//! the primaries of shards 1-3); node 10·s+r is replica r of shard s.

use crate::{Decider, MIGRATION_DELAY_MS, Policy, Unfit, abandoned, rank, seen_candidates};
use pando_liveness::{Claim, Evidence, Lineage, NodeEvidence, NodeState, NodeStatus, RootReport, Told};
use pando_root_state::{Command, PromoteReason, WhyNot};
use pando_topology::{
    ClusterId, ClusterMap, Incarnation, MapParts, Node, NodeId, RootSet, Shard, ShardId, SharedMap, Slot, SlotSet,
    TopologyVersion,
};
use std::collections::BTreeMap;
use std::sync::Arc;

mod why;

const NOW: u64 = 100_000;
const STREAM: Lineage = Lineage { id: 7, before: 6, shared: 500 };

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
                count: 3,
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
                    lineage: STREAM,
                    // The primary's own link is up; the others' broke when it died.
                    link_up: *m == s,
                    stale: false,
                    synced: true,
                    told,
                    promise_left_ms: 0,
                    vouches: None,
                    active: None,
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
                wants_replica: replicas > 0,
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
        self.decide_with(&mut Decider::default(), &Policy::default(), NOW)
    }

    /// Reports come `now`.
    fn decide_with(&self, decider: &mut Decider, policy: &Policy, now: u64) -> Vec<Command> {
        let (map, evidence) = self.seen(now);
        decider.decide(policy, &map, &evidence, now).into_iter().map(|decision| decision.command).collect()
    }

    fn seen(&self, now: u64) -> (ClusterMap, Evidence) {
        let map = ClusterMap::new(self.parts.clone()).expect("a valid map");
        let mut evidence = Evidence::new(1000);
        for (root, at) in &self.reports {
            let nodes = self.status.iter().enumerate().map(|(seq, (node, (incarnation, status)))| {
                let state = self.states.get(&(*root, *node)).copied().unwrap_or(NodeState::Alive { left_ms: 100 });
                (*node, NodeEvidence { incarnation: *incarnation, seq: seq as u64, state, status: status.clone() })
            });
            let report = RootReport {
                root: id(*root),
                incarnation: Incarnation(1),
                version: map.version(),
                seq: 1,
                full: true,
                nodes: nodes.collect(),
            };
            evidence.on_report(at + now - NOW, report);
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
        over: None,
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
        ("offsets of another history say nothing", Some(32), |c| {
            c.status(31, |s| (s.lineage, s.offset) = (Lineage { id: 9, before: 0, shared: 0 }, 5000))
        }),
        ("the history before the last promotion, up to it", Some(31), |c| {
            let old = Lineage { id: 6, before: 0, shared: 0 };
            c.status(31, |s| (s.lineage, s.offset) = (old, 500)).status(32, |s| s.offset = 499)
        }),
        ("the history before the last promotion, beyond it", Some(32), |c| {
            let old = Lineage { id: 6, before: 0, shared: 0 };
            c.status(31, |s| (s.lineage, s.offset) = (old, 501)).status(32, |s| s.offset = 499)
        }),
        ("a history that goes on from the primary's", Some(32), |c| {
            let new = Lineage { id: 8, before: 7, shared: 1000 };
            c.status(32, |s| (s.lineage, s.offset) = (new, 1001))
        }),
        ("nothing known of the primary: an old history has ended", Some(32), |c| {
            let old = Lineage { id: 6, before: 0, shared: 0 };
            c.runs_as(3, 0).status(31, |s| (s.lineage, s.offset) = (old, 5000))
        }),
        ("the data are too old", Some(32), |c| c.status(31, |s| s.stale = true)),
        ("the position in the chain", Some(31), |c| {
            c.node(31, |n| n.upstream = None).node(32, |n| n.upstream = Some(id(31)))
        }),
        ("the position in the chain beats the id", Some(32), |c| c.node(31, |n| n.upstream = Some(id(32)))),
        ("the offset beats the zone", Some(31), |c| {
            c.node(3, |n| n.zone = "x".into()).node(32, |n| n.zone = "x".into()).status(31, |s| s.offset = 1001)
        }),
        ("the zone beats the priority", Some(32), |c| {
            c.node(3, |n| n.zone = "x".into()).node(32, |n| (n.zone, n.replica_priority) = ("x".into(), 200))
        }),
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
fn a_dead_primary_that_was_active_needs_not_have_told_anybody() {
    let untold = |active: Option<u64>| {
        let claim = active.map(|reign| Claim { shard: sid(3), reign: TopologyVersion(reign) });
        Case::new(1).status(31, |s| s.told = None).status(3, |s| s.active = claim)
    };
    let promoted = Command::Promote {
        shard: sid(3),
        to: id(31),
        incarnation: Incarnation(1),
        expect_epoch: 3,
        told_at: TopologyVersion(0),
        over: Some(TopologyVersion(10)),
        reason: Failed,
    };
    let dead = |case: Case| case.says(&[1, 2], 3, NodeState::Dead);
    check("it was active", dead(untold(Some(10))), &[failed(&[3]), promoted]);
    check("perhaps it never was, and the one before it still is", dead(untold(None)), &[failed(&[3])]);
    check("it was active in another reign", dead(untold(Some(9))), &[failed(&[3])]);
    check("it may still write", untold(Some(10)).says(&[1, 2], 3, SILENT), &[failed(&[3])]);
    let stale = untold(Some(10)).status(31, |s| s.stale = true);
    check("too old all the same", dead(stale), &[failed(&[3])]);
}

#[test]
fn restarts() {
    let restarted = |replicas: u8| Case::new(replicas).runs_as(3, 2).node(3, |n| n.incarnation = Incarnation(2));
    let empty = |replicas: u8| restarted(replicas).status(3, |s| (s.synced, s.offset, s.lineage.id) = (false, 0, 99));
    let untold = |c: Case| c.status(31, |s| s.told = None);
    let vouched = |reign: u64| {
        let claim = Claim { shard: sid(3), reign: TopologyVersion(reign) };
        untold(empty(1)).status(3, |s| s.vouches = Some(claim))
    };
    let promote_vouched = Command::Promote {
        shard: sid(3),
        to: id(31),
        incarnation: Incarnation(1),
        expect_epoch: 3,
        told_at: TopologyVersion(0),
        over: Some(TopologyVersion(10)),
        reason: Restarted,
    };
    check("a replica with the data takes over", empty(1), &[promote(3, 31, Restarted)]);
    check("alone it goes on", empty(0), &[confirm(3, 2)]);
    check("its replica has nothing either", empty(1).status(31, |s| s.synced = false), &[confirm(3, 2)]);
    check("one that was not told waits for the primary's word", untold(empty(1)), &[]);
    check("which has come", vouched(10), &[promote_vouched]);
    check("for another reign", vouched(9), &[]);
    check("not even registered", vouched(10).node(3, |n| n.incarnation = Incarnation(1)), &[]);
    check(
        "data are worth more than a directive",
        empty(1).node(31, |n| n.no_failover = true),
        &[promote(3, 31, Restarted)],
    );
    check("the primary has loaded as much", restarted(1), &[confirm(3, 2)]);
    check("the primary has loaded less", restarted(1).status(3, |s| s.offset = 999), &[promote(3, 31, Restarted)]);
    let other = |c: Case| c.status(3, |s| (s.offset, s.lineage.id) = (5000, 98));
    check("offsets of another history", other(restarted(1)), &[promote(3, 31, Restarted)]);
    check("not registered yet", Case::new(0).runs_as(3, 2), &[]);
    check("heard by a minority only", restarted(0).says(&[1, 2], 3, NodeState::Unknown), &[]);
    check("gone again", restarted(0).says(&[1, 2, 3], 3, NodeState::Dead), &[failed(&[3])]);
}

#[test]
fn who_may_have_what_a_restarted_primary_has_lost() {
    let gone = |n: u8| move |c: Case| c.says(&[1, 2, 3], n, SILENT);
    for (what, expected, edit) in [
        ("everybody can be asked", &[] as &[u8], &(|c| c) as &dyn Fn(Case) -> Case),
        ("one is silent", &[32], &gone(32)),
        ("for a majority", &[32], &|c| c.says(&[1, 3], 32, SILENT)),
        ("for a minority", &[], &|c| c.says(&[1], 32, SILENT)),
        ("back, but not yet for the map", &[31], &|c| c.node(31, |n| n.failed = true)),
        ("back without data", &[], &|c| c.node(31, |n| n.failed = true).status(31, |s| s.synced = false)),
        ("a new process with data", &[31], &|c| c.runs_as(31, 2)),
        ("a new process without", &[], &|c| c.runs_as(31, 2).status(31, |s| s.synced = false)),
        ("the primary has loaded data", &[], &|c| gone(32)(c).status(3, |s| s.synced = true)),
    ] {
        let empty = Case::new(2).runs_as(3, 2).node(3, |n| n.incarnation = Incarnation(2));
        let (map, evidence) = edit(empty.status(3, |s| s.synced = false)).seen(NOW);
        let expected: Vec<NodeId> = expected.iter().map(|n| id(*n)).collect();
        assert_eq!(abandoned(&map, &evidence, NOW, &sid(3)), expected, "{what}");
    }
}

#[test]
fn zones_do_not_matter_without_affinity() {
    let case = Case::new(2).node(3, |n| n.zone = "x".into()).node(32, |n| n.zone = "x".into()).says(
        &[1, 2, 3],
        3,
        NodeState::Dead,
    );
    let commands = case.decide_with(&mut Decider::default(), &Policy { zone_affinity: false }, NOW);
    assert_eq!(commands, [failed(&[3]), promote(3, 31, Failed)]);
}

#[test]
fn the_last_words_of_a_dead_primary_are_waited_for() {
    let up = |n: u8| move |c: Case| c.status(n, |s| s.link_up = true);
    let dead = |c: Case| c.node(3, |n| n.failed = true).says(&[1, 2, 3], 3, NodeState::Dead);
    let half = dead(up(31)(Case::new(2))).status(32, |s| s.offset = 900);
    let mut decider = Decider::default();
    let mut decide = |case: &Case, now| case.decide_with(&mut decider, &Policy::default(), now);
    assert_eq!(decide(&half, NOW), []);
    assert_eq!(decide(&half, NOW + 99), []);
    let told = dead(Case::new(2)).status(31, |s| s.offset = 1100);
    assert_eq!(decide(&told, NOW + 99), [promote(3, 31, Failed)]);
    assert_eq!(decide(&half, NOW + 99), [], "a new wait");
    assert_eq!(decide(&half, NOW + 198), []);
    assert_eq!(decide(&half, NOW + 199), [promote(3, 31, Failed)], "one that hangs does not hold up the others");

    check("one replica alone", dead(up(31)(Case::new(1))), &[promote(3, 31, Failed)]);
    check(
        "a chained replica has no more than its upstream",
        dead(up(32)(Case::new(2))).node(32, |n| n.upstream = Some(id(31))),
        &[promote(3, 31, Failed)],
    );
    let silent = up(31)(Case::new(2)).node(3, |n| n.failed = true).says(&[1, 2, 3], 3, SILENT);
    check("a primary that hangs says nothing any more", silent, &[promote(3, 31, Failed)]);
}

#[test]
fn every_replica_gets_its_reason() {
    let case = Case::new(8)
        .node(31, |n| n.no_failover = true)
        .node(32, |n| n.replica_priority = 0)
        .status(33, |s| s.stale = true)
        .status(34, |s| s.told = None)
        .status(35, |s| (s.synced, s.told) = (false, None))
        .runs_as(36, 2)
        .says(&[1, 2], 37, NodeState::Unknown)
        .node(38, |n| n.failed = true);
    let (map, evidence) = case.seen(NOW);
    let shard = map.shard(&sid(3)).expect("the shard");
    let ranked = rank(NOW, &map, &evidence, shard, &Policy::default());
    let found: Vec<_> = ranked.iter().map(|c| (c.node, c.unfit)).collect();
    let reasons = [
        Unfit::NoFailover,
        Unfit::PriorityZero,
        Unfit::Stale,
        Unfit::NotTold,
        Unfit::NotSynced,
        Unfit::Restarted,
        Unfit::NotAgreed,
        Unfit::Failed,
    ];
    let expected: Vec<_> = reasons.into_iter().zip(31..).map(|(why, n)| (id(n), Some(why))).collect();
    assert_eq!(found, expected);
    let seen = seen_candidates(NOW, &map, &evidence, shard, &Policy::default(), None, false);
    let why_not: Vec<_> = reasons.iter().map(|why| Some(WhyNot::from(*why))).collect();
    assert_eq!(seen.into_iter().map(|candidate| candidate.why_not).collect::<Vec<_>>(), why_not);

    let two = Case::new(2).status(32, |s| s.offset = 7);
    let (map, evidence) = two.seen(NOW);
    let ranked = rank(NOW, &map, &evidence, map.shard(&sid(3)).expect("the shard"), &Policy::default());
    assert_eq!(ranked[0].advantage(&ranked[1]), "it has more of the data");
}

/// Shards 1 and 2 keep their slots and have lost their only replica, as marked; 3 has `rich` replicas.
fn orphans(rich: u8) -> Case {
    let mut case = Case::new(rich);
    for s in 1..=3u8 {
        let first = u16::from(s - 1) * 100;
        let shard = Arc::make_mut(case.parts.shards.get_mut(&sid(s)).expect("a shard"));
        shard.slots = (first..first + 100).filter_map(Slot::new).collect();
        if s < 3 {
            let gone: Vec<NodeId> = shard.replicas.drain(1..).collect();
            for id in gone {
                case.parts.nodes.remove(&id);
                case.status.remove(&id);
            }
            case = case.node(10 * s + 1, |n| n.failed = true).says(&[1, 2, 3], 10 * s + 1, NodeState::Dead);
        }
    }
    case
}

fn moved(node: u8, to: u8) -> Command {
    Command::MoveReplica { node: id(node), from: sid(3), to: sid(to) }
}

#[test]
fn orphans_get_replicas() {
    let check = |what: &str, case: Case, expected: &[Command]| {
        let mut decider = Decider::default();
        let mut decide = |now| case.decide_with(&mut decider, &Policy::default(), now);
        assert_eq!(decide(NOW), [], "{what}: at once");
        assert_eq!(decide(NOW + MIGRATION_DELAY_MS - 1), [], "{what}: too early");
        assert_eq!(decide(NOW + MIGRATION_DELAY_MS), expected, "{what}");
    };
    let all = |case: Case, edit: fn(&mut Node)| (31..=34).fold(case, |case, n| case.node(n, edit));
    check("two orphans, three to spare: the lowest ids", orphans(3), &[moved(31, 1), moved(32, 2)]);
    check("one to spare", orphans(2), &[moved(31, 1)]);
    check("nothing to spare", orphans(1), &[]);
    check("a higher barrier", all(orphans(3), |n| n.migration_barrier = Some(2)), &[moved(31, 1)]);
    check("below the barrier", all(orphans(3), |n| n.migration_barrier = Some(3)), &[]);
    check("barrier 0 keeps one all the same", all(orphans(2), |n| n.migration_barrier = Some(0)), &[moved(31, 1)]);
    check("not allowed", all(orphans(3), |n| n.migration_barrier = None), &[]);
    check("one of them is not allowed", orphans(2).node(31, |n| n.migration_barrier = None), &[moved(32, 1)]);
    check("one that could not be promoted", orphans(2).node(31, |n| n.no_failover = true), &[moved(32, 1)]);
    check(
        "one of the other zone",
        orphans(2).node(1, |n| n.zone = "x".into()).node(31, |n| n.zone = "x".into()),
        &[moved(32, 1)],
    );
    check("a link of a chain stays", orphans(2).node(32, |n| n.upstream = Some(id(31))), &[moved(32, 1)]);
    let unwanted = |s: u8| {
        move |mut c: Case| {
            Arc::make_mut(c.parts.shards.get_mut(&sid(s)).expect("a shard")).wants_replica = false;
            c
        }
    };
    let untold = |c: Case| c.status(31, |s| s.told = None).status(32, |s| s.synced = false);
    let empty = |c: Case| c.runs_as(3, 2).status(3, |s| s.synced = false);
    check("the primary has restarted: it needs their data", untold(empty(orphans(2))), &[]);
    check("a shard that never had one", unwanted(1)(orphans(2)), &[moved(31, 2)]);
    check("the primary itself has failed", orphans(2).node(1, |n| n.failed = true).says(&[2, 3], 1, SILENT), &[]);
    check(
        "a replica that just came back",
        orphans(2).node(11, |n| n.failed = false).says(&[1, 2, 3], 11, NodeState::Alive { left_ms: 9 }),
        &[moved(31, 2)],
    );
}

/// By hand: `cargo test --release -p pando-failover -- --ignored --nocapture all_at_once`.
#[test]
#[ignore = "a figure, not a property"]
fn all_at_once() {
    let count = 5000u64;
    let wide = |n: u64| {
        let mut bytes = [0u8; 20];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        NodeId::from_bytes(bytes)
    };
    let mut parts = Case::new(0).parts;
    parts.nodes = SharedMap::new();
    parts.shards = SharedMap::new();
    let mut reports: Vec<BTreeMap<NodeId, NodeEvidence>> = vec![BTreeMap::new(); 3];
    for s in 0..count {
        let shard_id = ShardId::from_bytes(*wide(s + 1).as_bytes());
        for (n, is_primary) in [(s, true), (s + count, false)] {
            let mut node = Node::new(wide(n + 1), "10.0.0.1", 7000);
            node.shard = Some(shard_id);
            node.incarnation = Incarnation(1);
            for report in &mut reports {
                let status = NodeStatus {
                    offset: 1000 + n,
                    lineage: STREAM,
                    synced: true,
                    told: Some(Told { shard: shard_id, version: TopologyVersion(30) }),
                    ..NodeStatus::default()
                };
                let state = if is_primary { NodeState::Dead } else { NodeState::Alive { left_ms: 9 } };
                report.insert(node.id, NodeEvidence { incarnation: Incarnation(1), seq: 1, state, status });
            }
            parts.nodes.insert(node.id, Arc::new(node));
        }
        let shard = Shard {
            id: shard_id,
            epoch: 1,
            reign: TopologyVersion(10),
            primary: wide(s + 1),
            primary_incarnation: Incarnation(1),
            replicas: vec![wide(s + count + 1)],
            slots: Slot::new(s as u16).into_iter().collect(),
            wants_replica: true,
        };
        parts.shards.insert(shard_id, Arc::new(shard));
    }
    let map = ClusterMap::new(parts).expect("a valid map");
    let mut evidence = Evidence::new(1000);
    for (root, nodes) in (1..).zip(reports) {
        let version = map.version();
        evidence.on_report(
            NOW,
            RootReport { root: id(root), incarnation: Incarnation(1), version, seq: 1, full: true, nodes },
        );
    }
    // Of this thread alone: the machine may be busy.
    let cpu_us = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1000
    };
    for _ in 0..5 {
        let start = cpu_us();
        let commands = Decider::default().decide(&Policy::default(), &map, &evidence, NOW);
        println!("{} commands in {} us of CPU", commands.len(), cpu_us() - start);
        assert_eq!(commands.len() as u64, count + 1);
    }
}
