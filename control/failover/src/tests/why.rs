// SPDX-License-Identifier: BSD-3-Clause
//! The evidence that decisions carry, and the shards that get no other primary.

use super::{Case, NOW, SILENT, id, sid};
use crate::{Decider, Policy, is_same_refusal, unrepaired, witnesses};
use pando_liveness::NodeState;
use pando_root_state::{Opinion, SeenCandidate, Why, WhyNot};
use std::sync::Arc;

#[test]
fn decisions_carry_their_evidence() {
    let case = Case::new(2).says(&[1, 2], 3, SILENT).status(31, |s| s.offset = 1500).node(32, |n| n.zone = "b".into());
    let (map, evidence) = case.seen(NOW);
    let decisions = Decider::default().decide(&Policy::default(), &map, &evidence, NOW);
    let said = [Opinion::Silent(1), Opinion::Silent(1), Opinion::Alive(100)];
    assert_eq!(decisions.iter().map(|d| d.why.opinions.clone()).collect::<Vec<_>>(), [said, said]);
    let candidates = &decisions[1].why.candidates;
    let seen: Vec<_> = candidates.iter().map(|c| (c.node, c.offset, c.why_not.clone())).collect();
    let outranked = WhyNot::Outranked("it has more of the data".into());
    assert_eq!(seen, [(id(31), 1500, None), (id(32), 1000, Some(outranked))]);
    assert_eq!(witnesses(&map), [id(1), id(2), id(3)]);
}

/// What speaks against the replicas of shard 3, whose primary is marked and has one slot.
fn refused(what: &str, edit: impl FnOnce(Case) -> Case, expected: Option<&[WhyNot]>) {
    let mut case = edit(Case::new(1).says(&[1, 2, 3], 3, NodeState::Dead).node(3, |n| n.failed = true));
    if let Some(shard) = case.parts.shards.get_mut(&sid(3)) {
        Arc::make_mut(shard).slots = "7".parse().expect("a slot");
    }
    let (map, evidence) = case.seen(NOW);
    let refused = unrepaired(&map, &evidence, NOW, &Policy::default());
    let reasons =
        refused.first().map(|d| d.why.candidates.iter().filter_map(|c| c.why_not.clone()).collect::<Vec<_>>());
    assert_eq!(reasons.as_deref(), expected, "{what}");
}

#[test]
fn refusals_name_what_speaks_against_each_replica() {
    refused("it can be promoted", |case| case, None);
    refused("not synchronized", |case| case.status(31, |s| s.synced = false), Some(&[WhyNot::NotSynced]));
    refused("never told", |case| case.status(31, |s| s.told = None), Some(&[WhyNot::NotTold]));
    refused("configured so", |case| case.node(31, |n| n.no_failover = true), Some(&[WhyNot::NoFailover]));
    refused("priority", |case| case.node(31, |n| n.replica_priority = 0), Some(&[WhyNot::PriorityZero]));
    refused("failed too", |case| case.node(31, |n| n.failed = true), Some(&[WhyNot::Failed]));
    refused("dead, not marked yet", |case| case.says(&[1, 2], 31, NodeState::Dead), Some(&[WhyNot::Failed]));
    refused("open", |case| case.says(&[1, 2], 31, NodeState::Unknown), Some(&[WhyNot::NotAgreed]));
    refused("the primary is back", |case| case.says(&[1, 2, 3], 3, NodeState::Alive { left_ms: 1 }), None);
    refused("a restarted replica", |case| case.runs_as(31, 2), Some(&[WhyNot::Restarted]));
}

#[test]
fn refusals_are_compared_without_their_numbers() {
    let why = |why_not: WhyNot| {
        let candidate = SeenCandidate {
            node: id(1),
            offset: 7,
            zone: String::new(),
            priority: 100,
            link_up: true,
            why_not: Some(why_not),
        };
        Why { candidates: vec![candidate], ..Why::default() }
    };
    assert!(is_same_refusal(&why(WhyNot::Bound(7)), &why(WhyNot::Bound(9))));
    assert!(!is_same_refusal(&why(WhyNot::Bound(7)), &why(WhyNot::NotTold)));
    assert!(!is_same_refusal(&why(WhyNot::NotTold), &Why::default()));
}
