// SPDX-License-Identifier: BSD-3-Clause
//! Tables of commands and outcomes, and properties of the two written forms: random histories keep the
//! invariants, survive the log form and the snapshot form, and replicas of the state agree.

use crate::{
    Applied, Command, DecodeError, JoinShard, NodeInfo, Outcome, PromoteReason, Proposal, REQUESTS_MAX, RequestId,
    RootState, RootStep, SnapshotError, from_argv, next_root_step, to_argv,
};
use pando_topology::{
    ClusterId, ClusterMap, Incarnation, Node, NodeId, NodeKey, Role, ShardId, Slot, SlotSet, TopologyVersion,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

mod history;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 20])
}
fn sid(n: u8) -> ShardId {
    ShardId::from_bytes([n; 20])
}
fn slots(text: &str) -> SlotSet {
    text.parse().expect("slots")
}
fn slot(n: u16) -> Slot {
    Slot::new(n).expect("slot")
}

fn join(n: u8, epoch: u64, claimed: &str) -> Command {
    let mut node = Node::new(id(n), "127.0.0.1", 7000 + u16::from(n));
    node.incarnation = Incarnation(1);
    node.root_id = Some(u64::from(n));
    Command::Join { node: Box::new(node), shard: Some(JoinShard { id: sid(n), epoch, slots: slots(claimed) }) }
}
fn promote(shard: u8, to: u8, expect_epoch: u64, told_at: u64) -> Command {
    Command::Promote {
        shard: sid(shard),
        to: id(to),
        incarnation: Incarnation(1),
        expect_epoch,
        told_at: TopologyVersion(told_at),
        over: None,
        reason: PromoteReason::Failed,
    }
}
fn confirm(n: u8, incarnation: u64, expect_epoch: u64) -> Command {
    Command::ConfirmPrimary { shard: sid(n), node: id(n), incarnation: Incarnation(incarnation), expect_epoch }
}
fn register(n: u8, incarnation: u64) -> Command {
    let info = NodeInfo::of(&Node::new(id(n), "10.0.0.1", 1));
    Command::Register { node: id(n), incarnation: Incarnation(incarnation), info }
}

struct Runner(RootState);

impl Runner {
    fn new() -> Runner {
        Runner(RootState::new())
    }
    fn request(&mut self, request: u128, command: Command) -> Applied {
        let before = self.0.map().clone();
        let applied = self.0.apply(self.0.applied() + 1, &Proposal::new(RequestId(request), command));
        self.0.check_invariants();
        let mut copy = before.clone();
        match &applied.delta {
            Some(delta) => copy.apply(delta).expect("the delta leads to the new map"),
            None => assert_eq!(before, *self.0.map()),
        }
        assert_eq!(copy, *self.0.map());
        applied
    }
    fn run(&mut self, command: Command) -> Outcome {
        self.request(0, command).outcome
    }
    fn ok(&mut self, command: Command) -> &mut Runner {
        let what = format!("{command:?}");
        let outcome = self.run(command);
        assert!(outcome.is_done(), "{what}: {outcome:?}");
        self
    }
    fn refused(&mut self, command: Command, text: &str) -> &mut Runner {
        let what = format!("{command:?}");
        assert_eq!(self.run(command), Outcome::Refused(text.into()), "{what}");
        self
    }
    fn map(&self) -> &ClusterMap {
        self.0.map()
    }
}

const UNKNOWN: &str = "ERR Unknown node 6363636363636363636363636363636363636363";

/// Nodes 1 (slots 0-99, epoch 1), 2 (100-199, epoch 2), 3 (replica of 1), 4 (empty, epoch 4).
fn cluster() -> Runner {
    let mut r = Runner::new();
    r.ok(Command::Init { cluster_id: ClusterId::from_bytes([7; 20]) });
    r.ok(join(1, 1, "0-99")).ok(join(2, 2, "100-199")).ok(join(3, 3, "")).ok(join(4, 4, ""));
    r.ok(Command::Replicate { node: id(3), of: id(1) });
    r
}

#[test]
fn slots_are_given_and_taken_in_valkeys_words() {
    let mut r = cluster();
    r.refused(Command::AddSlots { node: id(4), slots: slots("99-100 300") }, "ERR Slot 99 is already busy");
    r.refused(Command::AddSlots { node: id(99), slots: slots("1") }, UNKNOWN);
    r.refused(
        Command::AddSlots { node: id(3), slots: slots("300") },
        "ERR A replica can't own slots or a config epoch, only its primary can",
    );
    r.ok(Command::AddSlots { node: id(4), slots: slots("300-310") });
    assert_eq!(r.map().primary_of(slot(305)).map(|n| n.id), Some(id(4)));
    r.refused(Command::DelSlots { node: id(4), slots: slots("311") }, "ERR Slot 311 is already unassigned");
    r.refused(Command::DelSlots { node: id(4), slots: slots("0") }, "ERR Slots are not served by this node.");
    r.ok(Command::DelSlots { node: id(4), slots: slots("300-304") });
    let move_to_4 = |consent| Command::SetSlotOwner { slots: slots("0-9"), to: id(4), consent };
    let text = format!("ERR Slot 0 belongs to node {}, which has not agreed", id(1));
    r.refused(move_to_4(None), &text).refused(move_to_4(Some(id(2))), &text).ok(move_to_4(Some(id(1))));
    assert_eq!(r.map().shard(&sid(4)).map(|s| s.slots.to_string()), Some("0-9 305-310".into()));
    r.ok(Command::FlushSlots { node: id(4) });
    assert!(r.map().owner_of(slot(0)).is_none());
}

#[test]
fn what_a_primary_asked_for_ends_with_its_reign() {
    let mut r = cluster();
    let reign = |r: &Runner| r.map().shard(&sid(1)).expect("a shard").reign;
    let give = |reign| {
        let command = Command::SetSlotOwner { slots: slots("0-9"), to: id(4), consent: Some(id(1)) };
        Command::DuringReign { node: id(1), reign, command: Box::new(command) }
    };
    let before = reign(&r);
    let epoch = r.map().shard(&sid(1)).expect("a shard").epoch;
    r.ok(register(1, 9)).ok(confirm(1, 9, epoch));
    assert!(reign(&r) > before);
    r.refused(give(before), "ERR The master of this shard has changed");
    let now = reign(&r);
    r.ok(give(now));
    assert_eq!(r.map().owner_of(slot(0)).map(|shard| shard.primary), Some(id(4)));
}

#[test]
fn a_node_joins_again_with_its_key_only() {
    let keyed = |key: Option<u8>, incarnation| {
        let Command::Join { mut node, shard } = join(1, 0, "") else { unreachable!("join makes a join") };
        node.key = key.map(|byte| NodeKey::from_bytes([byte; 32]));
        node.incarnation = Incarnation(incarnation);
        Command::Join { node, shard }
    };
    let mut runner = Runner::new();
    assert!(runner.run(keyed(Some(7), 1)).is_done());
    assert!(runner.run(keyed(Some(7), 2)).is_done());
    for other in [None, Some(8)] {
        let refused = runner.run(keyed(other, 3));
        assert_eq!(refused.refusal(), Some(&*format!("ERR Node {} is known with another key", id(1))));
    }
    let node = runner.0.map().node(&id(1)).expect("it joined");
    assert_eq!((node.key, node.incarnation), (Some(NodeKey::from_bytes([7; 32])), Incarnation(2)));
}

#[test]
fn a_join_keeps_contested_slots_with_the_higher_epoch() {
    let mut r = cluster();
    r.ok(join(5, 2, "150-250")).ok(join(6, 9, "0-9 240-260"));
    let owned = |n: u8| r.map().shard(&sid(n)).map(|s| (s.slots.to_string(), s.epoch));
    assert_eq!(owned(1), Some(("10-99".into(), 1)));
    assert_eq!(owned(2), Some(("100-199".into(), 2)));
    assert_eq!(owned(5), Some(("200-239".into(), 5)), "the epoch was taken, so it got the next one");
    assert_eq!(owned(6), Some(("0-9 240-260".into(), 9)));
    assert_eq!(r.map().current_epoch(), 9);
}

#[test]
fn replicas_come_and_go() {
    let mut r = cluster();
    r.refused(Command::Replicate { node: id(4), of: id(99) }, UNKNOWN);
    r.refused(Command::Replicate { node: id(4), of: id(4) }, "ERR Can't replicate myself");
    r.refused(Command::Replicate { node: id(4), of: id(3) }, "ERR I can only replicate a master, not a replica.");
    r.refused(
        Command::Replicate { node: id(2), of: id(1) },
        "ERR To set a master the node must be empty and without assigned slots.",
    );
    r.ok(Command::Replicate { node: id(4), of: id(2) }).ok(Command::Replicate { node: id(4), of: id(1) });
    assert_eq!(r.map().shard(&sid(1)).map(|s| s.replicas.clone()), Some(vec![id(3), id(4)]));
    assert!(r.map().shard(&sid(4)).is_none(), "its own shard went with it");
    r.ok(Command::Detach { node: id(3), shard: sid(33) });
    assert_eq!(r.map().role_of(&id(3)), Some(Role::Primary));
    r.refused(
        Command::Detach { node: id(2), shard: sid(34) },
        "ERR This node has just become the primary of its shard",
    );
}

#[test]
fn forget_is_answered_once_by_the_map_and_then_from_memory() {
    let mut r = cluster();
    let forget = |node: u8, by: u8| Command::Forget { node: id(node), by: id(by) };
    r.refused(forget(1, 1), "ERR I tried hard but I can't forget myself...");
    r.refused(forget(99, 1), UNKNOWN);
    r.refused(forget(1, 3), "ERR Can't forget my master!");
    r.refused(forget(2, 1), &format!("ERR Node {} still owns slots", id(2)));
    r.ok(forget(4, 1)).ok(forget(4, 2)).ok(forget(4, 3));
    r.ok(join(4, 4, "")).ok(Command::MarkFailed { nodes: vec![id(2)] }).ok(forget(2, 1));
    assert!(r.map().owner_of(slot(100)).is_none());
}

#[test]
fn a_reset_node_leaves() {
    let mut r = cluster();
    let reset = |node: u8, as_replica: bool| Command::Reset { node: id(node), hard: false, as_replica };
    r.refused(reset(1, true), "ERR This node has just become the primary of its shard");
    r.ok(reset(1, false));
    let shard = r.map().shard(&sid(1)).cloned().expect("inherited");
    assert_eq!((shard.primary, shard.slots.is_empty(), shard.replicas.len()), (id(3), true, 0));
    let mut alone = Runner::new();
    alone.ok(join(1, 5, "0-9")).ok(Command::Reset { node: id(1), hard: true, as_replica: false });
    assert_eq!(alone.map().config_epoch_of(&id(1)), 0);
}

#[test]
fn promotions_are_guarded() {
    let mut r = cluster();
    let told = r.map().node(&id(3)).map(|n| n.promotable_since.get()).expect("node");
    let text = format!("ERR No primary of shard {} has told node {} that it needs its promise", sid(1), id(3));
    r.refused(promote(1, 3, 1, told - 1), &text);
    r.refused(promote(1, 3, 2, told), &format!("ERR Shard {} is at epoch 1, not 2", sid(1)));
    r.refused(promote(1, 4, 1, told), &format!("ERR Node {} is not a replica of shard {}", id(4), sid(1)));
    r.ok(Command::MarkFailed { nodes: vec![id(3)] });
    r.refused(promote(1, 3, 1, told), &format!("ERR Node {} has failed", id(3)));
    r.ok(Command::ClearFailed { nodes: vec![id(3)] }).refused(promote(1, 3, 1, told), &text);
    let told = r.map().version().get();
    r.ok(register(3, 2)).refused(promote(1, 3, 1, told), &format!("ERR Node {} has been restarted", id(3)));
    let mut r = cluster();
    let told = r.map().version().get();
    r.ok(promote(1, 3, 1, told));
    let shard = r.map().shard(&sid(1)).cloned().expect("shard");
    assert_eq!((shard.primary, shard.epoch, shard.reign), (id(3), 5, r.map().version()));
    assert_eq!(shard.replicas, [id(1)]);
    r.refused(confirm(1, 1, 1), &format!("ERR Shard {} is at epoch 5, not 1", sid(1)));
    // Nobody has told the former primary anything since; it may follow by what it knew.
    let joined = r.map().node(&id(1)).map(|n| n.promotable_since.get()).expect("node");
    assert!(joined < told);
    r.ok(promote(1, 1, 5, told));
}

#[test]
fn a_newer_process_of_the_primary_vouches() {
    let mut r = cluster();
    let reign = r.map().shard(&sid(1)).map(|s| s.reign).expect("shard");
    let vouched = |reign: TopologyVersion| Command::Promote {
        shard: sid(1),
        to: id(3),
        incarnation: Incarnation(1),
        expect_epoch: 1,
        told_at: TopologyVersion(0),
        over: Some(reign),
        reason: PromoteReason::Restarted,
    };
    let text = format!("ERR No primary of shard {} has told node {} that it needs its promise", sid(1), id(3));
    r.refused(vouched(reign), &text);
    r.ok(register(1, 2)).refused(vouched(TopologyVersion(reign.0 + 1)), &text);
    r.ok(vouched(reign));
    assert_eq!(r.map().shard(&sid(1)).map(|s| s.primary), Some(id(3)));
}

#[test]
fn a_restarted_primary_reigns_only_when_confirmed() {
    let mut r = cluster();
    r.ok(register(1, 2)).refused(register(1, 1), "ERR A newer process of this node has registered");
    let reign = |r: &Runner| r.map().shard(&sid(1)).map(|s| (s.primary_incarnation.get(), s.epoch));
    assert_eq!(reign(&r), Some((1, 1)));
    r.ok(confirm(1, 2, 1));
    assert_eq!(reign(&r), Some((2, 5)), "a rival promotion decided before is refused");
    let mut alone = Runner::new();
    alone.ok(join(1, 0, "")).ok(register(1, 2)).ok(confirm(1, 2, 0));
    assert_eq!(reign(&alone), Some((2, 0)), "alone it keeps its epoch");
}

#[test]
fn config_epochs() {
    let mut r = Runner::new();
    let set = |epoch| Command::SetConfigEpoch { node: id(1), epoch };
    r.ok(join(1, 0, "")).ok(set(7)).refused(set(8), "ERR Node config epoch is already non-zero");
    assert_eq!(r.run(Command::BumpEpoch { node: id(1) }), Outcome::Answer("STILL 7".into()));
    r.ok(join(2, 0, ""));
    r.refused(set(9), "ERR The user can assign a config epoch only when the node does not know any other node.");
    assert_eq!(r.run(Command::BumpEpoch { node: id(2) }), Outcome::Answer("BUMPED 8".into()));
}

/// Nodes 1 (slots) with replicas 2, 3, 4, and 5 (slots) with replica 6.
fn two_shards() -> Runner {
    let mut r = Runner::new();
    r.ok(Command::Init { cluster_id: ClusterId::from_bytes([7; 20]) });
    for n in 1..=6 {
        r.ok(join(n, u64::from(n), ["0-99", "", "", "", "100-199", ""][usize::from(n) - 1]));
    }
    for (n, of) in [(2, 1), (3, 1), (4, 1), (6, 5)] {
        r.ok(Command::Replicate { node: id(n), of: id(of) });
    }
    r
}

fn chain(node: u8, to: u8) -> Command {
    Command::Chain { node: id(node), to: id(to) }
}

#[test]
fn chains_are_made_and_refused() {
    let upstream = |r: &Runner, n: u8| r.map().upstream_of(&id(n)).map(|node| node.id);
    let mut r = two_shards();
    r.refused(Command::Replicate { node: id(4), of: id(3) }, "ERR I can only replicate a master, not a replica.");
    r.refused(chain(4, 4), "ERR Can't replicate myself").refused(chain(4, 99), UNKNOWN);
    let text = format!("ERR Node {} is not a replica, CHAIN is for replicas of replicas", id(1));
    r.refused(chain(4, 1), &text);
    r.ok(chain(3, 2)).ok(chain(4, 3));
    assert_eq!((upstream(&r, 2), upstream(&r, 3), upstream(&r, 4)), (Some(id(1)), Some(id(2)), Some(id(3))));
    assert_eq!([1, 2, 3, 4].map(|n| r.map().depth_of(&id(n))), [0, 1, 2, 3]);
    r.refused(chain(2, 4), &format!("ERR Node {} takes its data from this node", id(4)));
    r.refused(chain(1, 2), "ERR A master can't take its data from its own replica");
    r.ok(Command::Replicate { node: id(4), of: id(1) });
    assert_eq!(upstream(&r, 4), Some(id(1)), "back to the primary");
    r.ok(chain(4, 6));
    assert_eq!((r.map().node(&id(4)).and_then(|n| n.shard), upstream(&r, 4)), (Some(sid(5)), Some(id(6))));
    r.ok(Command::MarkFailed { nodes: vec![id(2)] });
    r.refused(chain(6, 2), &format!("ERR Node {} has failed", id(2)));
}

#[test]
fn chains_end_at_the_primary() {
    let ends = |what: &str, commands: Vec<Command>, primary: Option<u8>| {
        let mut r = two_shards();
        r.ok(chain(4, 3));
        for command in commands {
            r.ok(command);
        }
        let upstream = r.map().upstream_of(&id(4)).map(|n| n.id);
        assert_eq!(upstream, primary.map(id), "{what}");
    };
    ends("nothing happens", vec![], Some(3));
    ends("the upstream fails", vec![Command::MarkFailed { nodes: vec![id(3)] }], Some(1));
    let back = [true, false].map(|failed| match failed {
        true => Command::MarkFailed { nodes: vec![id(3)] },
        false => Command::ClearFailed { nodes: vec![id(3)] },
    });
    ends("and comes back", back.to_vec(), Some(1));
    ends("the upstream is promoted", vec![promote(1, 3, 1, 99)], Some(3));
    ends("and demoted", vec![promote(1, 3, 1, 99), promote(1, 2, 7, 99)], Some(2));
    ends("another one is promoted", vec![promote(1, 2, 1, 99)], Some(3));
    ends("it is promoted itself", vec![promote(1, 4, 1, 99)], None);
    ends("the upstream moves", vec![Command::Replicate { node: id(3), of: id(5) }], Some(1));
    ends("the upstream detaches", vec![Command::Detach { node: id(3), shard: sid(9) }], Some(1));
    ends("the upstream is forgotten", vec![Command::Forget { node: id(3), by: id(1) }], Some(1));
    ends("the upstream restarts", vec![register(3, 2)], Some(1));
    ends("the upstream changes its address", vec![register(3, 1)], Some(3));
    ends("it moves itself", vec![Command::Replicate { node: id(4), of: id(5) }], Some(5));
}

#[test]
fn a_replica_moves_to_a_shard_that_needs_one() {
    let move_to = |n: u8, from: u8, to: u8| Command::MoveReplica { node: id(n), from: sid(from), to: sid(to) };
    let mut r = two_shards();
    let enough = format!("ERR Shard {} needs no replica", sid(5));
    r.refused(move_to(4, 1, 5), &enough);
    r.ok(Command::MarkFailed { nodes: vec![id(6)] });
    let text = format!("ERR Node {} is not a live replica of shard {}", id(4), sid(5));
    r.refused(move_to(4, 5, 1), &text);
    r.ok(chain(3, 4)).ok(move_to(4, 1, 5));
    let shard = r.map().shard(&sid(5)).expect("the shard").clone();
    assert_eq!((shard.replicas, shard.wants_replica), (vec![id(6), id(4)], true));
    assert_eq!(r.map().upstream_of(&id(3)).map(|n| n.id), Some(id(1)));
    r.refused(move_to(3, 1, 5), &enough);
    // Its promise was needed by another shard's primary: it has to be told anew.
    let since = r.map().node(&id(4)).expect("the node").promotable_since;
    assert_eq!(since, r.map().version());
    let text = format!("ERR No primary of shard {} has told node {} that it needs its promise", sid(5), id(4));
    r.refused(promote(5, 4, 5, since.get() - 1), &text).ok(promote(5, 4, 5, since.get()));
}

#[test]
fn shards_that_want_a_replica() {
    let wants = |r: &Runner, n: u8| r.map().shard(&sid(n)).map(|s| s.wants_replica);
    let mut r = Runner::new();
    r.ok(Command::Init { cluster_id: ClusterId::from_bytes([7; 20]) });
    r.ok(join(1, 1, "0-99")).ok(join(2, 2, "")).ok(join(3, 3, ""));
    r.ok(Command::AddSlots { node: id(2), slots: slots("100-199") });
    assert_eq!((wants(&r, 1), wants(&r, 2)), (Some(false), Some(false)), "nobody has one");
    r.ok(Command::Replicate { node: id(3), of: id(1) }).ok(join(4, 4, "")).ok(join(5, 5, ""));
    r.ok(Command::AddSlots { node: id(4), slots: slots("300") });
    assert_eq!((wants(&r, 1), wants(&r, 2), wants(&r, 4)), (Some(true), Some(false), Some(true)), "others have one");
    let moved = Command::SetSlotOwner { slots: slots("0-9"), to: id(5), consent: Some(id(1)) };
    r.ok(moved);
    assert_eq!(wants(&r, 5), Some(true));
    r.ok(Command::Replicate { node: id(3), of: id(2) });
    assert_eq!((wants(&r, 1), wants(&r, 2)), (Some(false), Some(true)), "taken away on purpose");
    r.ok(Command::Detach { node: id(3), shard: sid(9) });
    assert_eq!((wants(&r, 2), wants(&r, 9)), (Some(false), Some(false)));
}

#[test]
fn a_request_has_its_effect_once() {
    let mut r = cluster();
    let add = Command::AddSlots { node: id(4), slots: slots("500") };
    assert!(r.request(42, add.clone()).delta.is_some());
    let again = r.request(42, add.clone());
    assert_eq!((again.outcome, again.delta), (Outcome::Done, None));
    assert_eq!(r.run(add), Outcome::Refused("ERR Slot 500 is already busy".into()));
    for request in 0..REQUESTS_MAX as u128 + 10 {
        r.0.apply(r.0.applied() + 1, &Proposal::new(RequestId(1000 + request), Command::Batch(vec![])));
    }
    r.0.check_invariants();
}

#[test]
fn roots_are_exchanged_in_two_steps() {
    let mut r = cluster();
    let voters = |ids: &[u8]| ids.iter().map(|n| (id(*n), u64::from(*n))).collect::<BTreeMap<_, _>>();
    let set = |r: &Runner, ids: &[u8]| Command::SetRoots { voters: voters(ids), expect_since: r.map().roots().since };
    let first = set(&r, &[1]);
    r.ok(first);
    let grow = set(&r, &[1, 2, 3]);
    r.ok(grow);
    let since = r.map().roots().since;
    assert!(r.map().roots().is_quorum(|n| [id(1), id(2)].contains(n)));
    assert!(!r.map().roots().is_quorum(|n| [id(3), id(2)].contains(n)), "the former root must agree");
    let early = set(&r, &[4]);
    r.refused(early, "ERR The set of roots is being changed");
    let desired = voters(&[1, 2, 3]);
    assert_eq!(next_root_step(r.map(), &desired, |_, _| false), RootStep::Stay);
    assert_eq!(next_root_step(r.map(), &desired, |n, v| *n == id(1) && v == since), RootStep::Settle(since));
    r.ok(Command::SettleRoots { expect_since: since });
    assert!(r.map().roots().is_quorum(|n| [id(3), id(2)].contains(n)));
    let none = set(&r, &[]);
    r.refused(none, "ERR There must be a root");
    r.ok(Command::Forget { node: id(3), by: id(1) });
    let gone = set(&r, &[1, 3, 4]);
    r.refused(gone, &format!("ERR Unknown node {}", id(3)));
    let odd_count = |count| Command::SetRootCount { count };
    r.ok(odd_count(5));
    assert_eq!(r.map().roots().count, 5);
    for bad in [0, 2, 4, 6, 8, 9] {
        r.refused(odd_count(bad), &format!("ERR A cluster can't keep {bad} roots, only 1, 3, 5 or 7"));
    }
}

#[test]
fn an_exchange_that_is_under_way_can_be_called_off() {
    let mut r = cluster();
    let voters = |ids: &[u8]| ids.iter().map(|n| (id(*n), u64::from(*n))).collect::<BTreeMap<_, _>>();
    let set = |r: &Runner, ids: &[u8]| Command::SetRoots { voters: voters(ids), expect_since: r.map().roots().since };
    for ids in [&[1][..], &[1, 2, 3]] {
        let next = set(&r, ids);
        r.ok(next);
    }
    let begun = r.map().roots().since;
    let back = set(&r, &[1]);
    r.ok(back);
    let roots = r.map().roots().clone();
    assert_eq!((roots.voters, roots.previous), (voters(&[1]), None));
    assert!(roots.since > begun, "who counts by both sets has to hear of it");
    r.refused(Command::SettleRoots { expect_since: begun }, "ERR The set of roots has changed");
    // A set of the same voters is no other.
    let next = set(&r, &[1, 2, 3]);
    r.ok(next);
    let since = r.map().roots().since;
    r.ok(Command::SettleRoots { expect_since: since });
    let late = set(&r, &[1]);
    r.ok(late);
    assert_eq!(r.map().roots().previous, Some(voters(&[1, 2, 3])), "it was settled: an exchange of its own");
}

#[test]
fn the_log_form_is_frozen() {
    let entry = Proposal::new(RequestId(0xab), Command::AddSlots { node: id(1), slots: slots("0-9 20") });
    let argv: Vec<String> = to_argv(17, &entry).into_iter().map(|a| String::from_utf8(a).expect("text")).collect();
    assert_eq!(
        argv,
        [
            "HSET",
            "metaspace:entry:17",
            "kind",
            "AddSlots",
            "request",
            "000000000000000000000000000000ab",
            "stamp",
            "{\"root\":null,\"term\":0,\"unix_ms\":0}",
            "node",
            "\"0101010101010101010101010101010101010101\"",
            "slots",
            "[[0,9],[20,20]]",
        ]
    );
    assert_eq!(from_argv(&argv), Ok((17, entry)));
    for bad in [&["SET", "metaspace:entry:1"][..], &["HSET", "x"], &["HSET", "metaspace:entry:1", "kind"]] {
        assert_eq!(from_argv(bad), Err(DecodeError::NotAnEntry), "{bad:?}");
    }
}

#[test]
fn the_snapshot_form_is_frozen() {
    let mut r = Runner::new();
    r.ok(join(1, 1, "0-9"));
    let pairs: Vec<String> = r.0.to_pairs().into_iter().map(|(k, v)| format!("{k} {v}")).collect();
    assert_eq!(
        pairs[0],
        "metaspace:meta {\"format\":1,\"cluster_id\":\"0000000000000000000000000000000000000000\",\"version\":1,\
         \"applied\":1,\"current_epoch\":1,\"roots\":{\"voters\":{},\"previous\":null,\"since\":0,\"count\":0}}"
    );
    assert_eq!(
        pairs[4],
        "metaspace:shard:0101010101010101010101010101010101010101 {\"id\":\"0101010101010101010101010101010101010101\",\
         \"epoch\":1,\"reign\":1,\"primary\":\"0101010101010101010101010101010101010101\",\"primary_incarnation\":1,\
         \"replicas\":[],\"slots\":[[0,9]],\"wants_replica\":false}"
    );
    let none: [(&str, &str); 0] = [];
    assert_eq!(RootState::from_pairs(none), Err(SnapshotError::NoMeta));
}

fn any_command() -> impl Strategy<Value = Command> {
    let node = 1u8..7;
    let set = (0u16..40, 0u16..5).prop_map(|(first, more)| slots(&format!("{first}-{}", first + more)));
    let leaf = prop_oneof![
        (node.clone(), 0u64..5, set.clone()).prop_map(|(n, e, s)| join(n, e, &s.to_string())),
        (node.clone(), 1u64..4).prop_map(|(n, i)| register(n, i)),
        (node.clone(), node.clone()).prop_map(|(a, b)| Command::Forget { node: id(a), by: id(b) }),
        (node.clone(), any::<bool>(), any::<bool>()).prop_map(|(n, hard, as_replica)| Command::Reset {
            node: id(n),
            hard,
            as_replica
        }),
        (node.clone(), set.clone()).prop_map(|(n, slots)| Command::AddSlots { node: id(n), slots }),
        (node.clone(), set.clone()).prop_map(|(n, slots)| Command::DelSlots { node: id(n), slots }),
        node.clone().prop_map(|n| Command::FlushSlots { node: id(n) }),
        (node.clone(), node.clone(), set).prop_map(|(a, b, slots)| Command::SetSlotOwner {
            slots,
            to: id(a),
            consent: Some(id(b)),
        }),
        (node.clone(), node.clone()).prop_map(|(a, b)| Command::Replicate { node: id(a), of: id(b) }),
        (node.clone(), node.clone()).prop_map(|(a, b)| Command::Chain { node: id(a), to: id(b) }),
        (node.clone(), node.clone(), node.clone()).prop_map(|(n, a, b)| Command::MoveReplica {
            node: id(n),
            from: sid(a),
            to: sid(b)
        }),
        (node.clone(), node.clone()).prop_map(|(n, s)| Command::Detach { node: id(n), shard: sid(s) }),
        (node.clone(), node.clone(), 0u64..9, 0u64..99).prop_map(|(s, n, e, t)| promote(s, n, e, t)),
        (node.clone(), 1u64..4, 0u64..9).prop_map(|(n, i, e)| confirm(n, i, e)),
        node.clone().prop_map(|n| Command::MarkFailed { nodes: vec![id(n)] }),
        node.clone().prop_map(|n| Command::ClearFailed { nodes: vec![id(n)] }),
        (node.clone(), 1u64..9).prop_map(|(n, epoch)| Command::SetConfigEpoch { node: id(n), epoch }),
        node.clone().prop_map(|n| Command::BumpEpoch { node: id(n) }),
        (node.clone(), 0u64..30).prop_map(|(n, since)| Command::SetRoots {
            voters: [(id(n), u64::from(n))].into(),
            expect_since: TopologyVersion(since),
        }),
        (node.clone(), node.clone()).prop_map(|(s, n)| Command::Refuse {
            shard: sid(s),
            node: Some(id(n)),
            text: "because".into(),
        }),
        node.clone().prop_map(|n| Command::Lead { root: id(n), term: u64::from(n), note: String::new() }),
        (0u64..30).prop_map(|since| Command::SettleRoots { expect_since: TopologyVersion(since) }),
    ];
    let because = |commands: Vec<Command>| Command::Decide {
        roots: vec![id(1), id(2)],
        decisions: commands
            .into_iter()
            .map(|command| {
                let opinions = vec![crate::Opinion::Silent(7), crate::Opinion::Restarted(Incarnation(2))];
                crate::Decision { command, why: crate::Why { opinions, ..crate::Why::note("so") } }
            })
            .collect(),
    };
    leaf.prop_recursive(1, 4, 3, move |inner| {
        let some = proptest::collection::vec(inner, 0..3);
        prop_oneof![some.clone().prop_map(Command::Batch), some.prop_map(because)]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn histories_survive_both_written_forms(history in proptest::collection::vec((0u128..40, any_command()), 0..60)) {
        let mut r = Runner::new();
        let mut twin = RootState::new();
        for (request, command) in history {
            let entry = Proposal::new(RequestId(request), command);
            let (index, read) = from_argv(&to_argv(r.0.applied() + 1, &entry)).expect("what was written");
            prop_assert_eq!(&read, &entry);
            let theirs = twin.apply(index, &read);
            prop_assert_eq!(r.request(request, entry.command), theirs);
        }
        prop_assert_eq!(&twin, &r.0);
        prop_assert_eq!(RootState::from_pairs(twin.to_pairs()), Ok(twin));
    }
}
