// SPDX-License-Identifier: BSD-3-Clause
//! Properties of maps: a delta leads from one map to the other, what is invalid is refused, both kinds
//! of serde format bring a map back.

use crate::{
    ClusterId, ClusterMap, Delta, DeltaError, Incarnation, MapParts, Node, NodeFlag, NodeId, Role, RootSet, Shard,
    ShardId, SharedMap, Slot, SlotSet, TopologyVersion, changes_between,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 20])
}
fn sid(n: u8) -> ShardId {
    ShardId::from_bytes([n; 20])
}

/// One entry per shard: replicas, width of its slot range, epoch, how many of its nodes have failed.
type Plan = BTreeMap<u8, (u8, u16, u64, u8)>;

fn parts(plan: &Plan, version: u64) -> MapParts {
    let mut parts = MapParts {
        cluster_id: ClusterId::from_bytes([1; 20]),
        version: TopologyVersion(version),
        current_epoch: 20,
        nodes: SharedMap::new(),
        shards: SharedMap::new(),
        roots: RootSet::default(),
    };
    for (s, (replicas, width, epoch, failed)) in plan {
        let members: Vec<u8> = (0..=*replicas).map(|r| s * 10 + r).collect();
        for (at, m) in members.iter().enumerate() {
            let mut node = Node::new(id(*m), "127.0.0.1", 7000 + u16::from(*m));
            node.shard = Some(sid(*s));
            node.failed = at < usize::from(*failed);
            node.root_id = Some(u64::from(*m));
            parts.roots.voters.insert(node.id, u64::from(*m));
            parts.nodes.insert(node.id, Arc::new(node));
        }
        let first = u16::from(*s) * 100;
        let slots = (first..first + width).filter_map(Slot::new).collect();
        let shard = Shard {
            id: sid(*s),
            epoch: *epoch,
            reign: TopologyVersion(1),
            primary: id(members[0]),
            primary_incarnation: Incarnation(1),
            replicas: members[1..].iter().map(|m| id(*m)).collect(),
            slots,
            wants_replica: members.len() > 1,
        };
        parts.shards.insert(shard.id, Arc::new(shard));
    }
    parts
}

fn map(plan: &Plan, version: u64) -> ClusterMap {
    ClusterMap::new(parts(plan, version)).expect("a valid plan")
}

fn plan() -> impl Strategy<Value = Plan> {
    proptest::collection::btree_map(1u8..20, (0u8..4, 0u16..100, 0u64..20, 0u8..5), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_delta_leads_from_one_map_to_the_other(a in plan(), b in plan()) {
        let (mut a, b) = (map(&a, 5), map(&b, 6));
        a.check_invariants();
        let delta = a.diff(&b);
        let packed = rmp_serde::to_vec(&delta).expect("msgpack");
        let delta: Delta = rmp_serde::from_slice(&packed).expect("msgpack");
        let mut trusted = a.clone();
        trusted.apply_trusted(delta.to, &delta.changes);
        a.apply(&delta).expect("it starts here");
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(&trusted, &b);
        a.check_invariants();
        // A second time, as one that starts earlier.
        let mut again = trusted.clone();
        again.catch_up(&delta).expect("it ends here");
        prop_assert_eq!(&again, &b);
        again.check_invariants();
        for slot in Slot::all() {
            prop_assert_eq!(a.owner_of(slot), b.owner_of(slot));
        }
        prop_assert!(a.diff(&b).changes.is_empty());
        prop_assert_eq!(rmp_serde::from_slice::<ClusterMap>(&rmp_serde::to_vec(&b).expect("msgpack")).expect("msgpack"), b.clone());
        prop_assert_eq!(serde_json::from_str::<ClusterMap>(&serde_json::to_string(&b).expect("json")).expect("json"), b);
    }
}

#[test]
fn what_breaks_a_rule_is_refused_and_changes_nothing() {
    let plan = Plan::from([(1, (1, 10, 1, 0)), (2, (0, 10, 2, 0))]);
    let good = map(&plan, 5);
    type Edit = fn(&mut MapParts);
    let edits: [(&str, Edit); 8] = [
        ("two owners", |p| edit_shard(p, 2, |s| s.slots = SlotSet::full())),
        ("unknown replica", |p| edit_shard(p, 1, |s| s.replicas.push(id(99)))),
        ("replica listed twice", |p| edit_shard(p, 1, |s| s.replicas.push(id(11)))),
        ("a member of another shard", |p| edit_shard(p, 1, |s| s.replicas.push(id(20)))),
        ("a data node without a shard", |p| edit_node(p, 11, |n| n.shard = None)),
        ("a replica that nobody lists", |p| edit_shard(p, 1, |s| s.replicas.clear())),
        ("an epoch of the future", |p| edit_shard(p, 1, |s| s.epoch = 21)),
        ("a reign of the future", |p| edit_shard(p, 1, |s| s.reign = TopologyVersion(7))),
    ];
    for (what, edit) in edits {
        let mut parts = good.parts().clone();
        edit(&mut parts);
        assert!(ClusterMap::new(parts.clone()).is_err(), "{what}");
        let changes = changes_between(good.parts(), &parts);
        let mut copy = good.clone();
        let delta = Delta { from: TopologyVersion(5), to: TopologyVersion(6), changes };
        assert!(matches!(copy.apply(&delta), Err(DeltaError::Map(_))), "{what}");
        assert_eq!(copy, good);
    }
    let late = Delta { from: TopologyVersion(6), to: TopologyVersion(7), changes: Vec::new() };
    assert!(matches!(good.clone().apply(&late), Err(DeltaError::WrongStart { .. })));
}

fn edit_shard(parts: &mut MapParts, s: u8, edit: impl FnOnce(&mut Shard)) {
    edit(Arc::make_mut(parts.shards.get_mut(&sid(s)).expect("shard")));
}
fn edit_node(parts: &mut MapParts, n: u8, edit: impl FnOnce(&mut Node)) {
    edit(Arc::make_mut(parts.nodes.get_mut(&id(n)).expect("node")));
}

#[test]
fn questions_of_the_renderers() {
    let map = map(&Plan::from([(1, (1, 10, 1, 1)), (2, (0, 5, 2, 0)), (3, (0, 0, 0, 0))]), 5);
    let flags = |n: u8| map.flags_of(&id(n), &id(11)).iter().map(NodeFlag::to_string).collect::<Vec<_>>().join(",");
    assert_eq!([flags(10), flags(11), flags(20), flags(99)], ["master,fail", "myself,slave", "master", "noflags"]);
    assert_eq!(map.config_epoch_of(&id(11)), 1);
    let ranges: Vec<String> = map.owned_ranges().iter().map(|(r, s)| format!("{r} {}", s.epoch)).collect();
    assert_eq!(ranges, ["100-109 1", "200-204 2"]);
    assert_eq!((map.slots_assigned(), map.size()), (15, 2));
    assert_eq!(map.role_of(&id(11)), Some(Role::Replica));
    assert_eq!(map.voters().count(), 4);
    let exchanging = RootSet {
        voters: (1..=3).map(|n| (id(n), 0)).collect(),
        previous: Some([(id(1), 0)].into()),
        since: TopologyVersion(1),
        count: 0,
    };
    assert!(!exchanging.is_quorum(|n| *n != id(1)) && exchanging.is_quorum(|n| *n != id(2)));
}
