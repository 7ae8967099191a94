// SPDX-License-Identifier: BSD-3-Clause
//! What the history keeps of commands: which records, with which evidence, and how many.

use super::{Runner, cluster, id, join, promote, register, sid, slots};
use crate::{Command, Decision, Event, Opinion, Proposal, RequestId, RootState, Stamp, Subject, Topic, Why};
use pando_topology::Incarnation;

/// The events about a subject, oldest first.
fn events(r: &Runner, subject: Subject) -> Vec<Event> {
    r.0.history().of(&subject).iter().map(|record| record.event.clone()).collect()
}

fn decide(decisions: Vec<Decision>) -> Command {
    Command::Decide { roots: vec![id(1), id(2)], decisions }
}

fn refuse(text: &str) -> Command {
    Command::Refuse { shard: sid(1), node: None, text: text.into() }
}

#[test]
fn a_decision_is_kept_with_its_evidence() {
    let mut r = cluster();
    let told = r.map().version().get();
    let said = |all: &[Opinion]| Why { opinions: all.to_vec(), note: "so".into(), ..Why::default() };
    let (dead, silent, alive) = (Opinion::Dead, Opinion::Silent(5), Opinion::Alive(9));
    // Node 99 is unknown and node 1 comes last: its opinions are the third pair.
    let mark = Command::MarkFailed { nodes: vec![id(2), id(99), id(1)] };
    r.ok(decide(vec![
        Decision { command: mark, why: said(&[silent, silent, alive, alive, dead, silent]) },
        Decision { command: promote(1, 3, 1, told), why: said(&[dead, silent]) },
    ]));
    let history = r.0.history();
    let failed = history.last(&Subject::Node(id(1)), Topic::Health).expect("a record");
    assert_eq!(failed.opinions, [(id(1), dead), (id(2), silent)]);
    assert_eq!(history.last(&Subject::Node(id(2)), Topic::Health).map(|r| r.opinions.len()), Some(2));
    assert_eq!(history.of(&Subject::Node(id(99))), []);
    let promoted = history.last(&Subject::Shard(sid(1)), Topic::Primaries).expect("a record");
    assert_eq!((promoted.index, promoted.note.as_str()), (r.map().version().get(), "so"));
    assert!(matches!(promoted.event, Event::Promoted { from, to, slots: 100, .. } if (from, to) == (id(1), id(3))));
    // The same again changes nothing, so nothing is recorded.
    let before = r.0.history().of(&Subject::Node(id(2))).len();
    r.ok(Command::MarkFailed { nodes: vec![id(2)] });
    assert_eq!(r.0.history().of(&Subject::Node(id(2))).len(), before);
}

#[test]
fn what_people_ask_for_is_on_record() {
    let mut r = cluster();
    let members = events(&r, Subject::Shard(sid(1)));
    assert_eq!(members, [Event::Attached { node: id(3), from: Some(sid(3)) }]);
    r.ok(Command::SetSlotOwner { slots: slots("0-9"), to: id(4), consent: Some(id(1)) });
    let moved = |gained, lost, peer: u8| Event::Slots { gained, lost, peer: Some(sid(peer)), steps: 1, since_ms: 0 };
    assert_eq!(events(&r, Subject::Shard(sid(1))).last(), Some(&moved(0, 10, 4)));
    assert_eq!(events(&r, Subject::Shard(sid(4))).last(), Some(&moved(10, 0, 1)));
    r.ok(register(2, 2));
    let presence = events(&r, Subject::Node(id(2)));
    assert_eq!(presence[1], Event::Restarted(Incarnation(2)));
    assert_eq!(presence[2], Event::Moved { from: "127.0.0.1:7002".into(), to: "10.0.0.1:1".into() });
    r.ok(Command::FlushSlots { node: id(4) }).ok(Command::Forget { node: id(4), by: id(1) });
    assert_eq!(events(&r, Subject::Node(id(4))).last(), Some(&Event::Forgotten { by: id(1) }));
    r.ok(Command::Lead { root: id(1), term: 7, note: "x".repeat(1000) });
    let history = r.0.history();
    let elected = history.last(&Subject::Roots, Topic::Elections).expect("a record");
    assert_eq!((&elected.event, elected.note.len()), (&Event::Elected { root: id(1), term: 7 }, crate::NOTE_BYTES_MAX));
    // An operator's failover that was refused.
    let mut command = promote(1, 3, 99, 0);
    if let Command::Promote { reason, .. } = &mut command {
        *reason = crate::PromoteReason::Manual;
    }
    r.run(command);
    let text = format!("ERR Shard {} is at epoch 1, not 99", sid(1));
    assert_eq!(events(&r, Subject::Shard(sid(1))).last(), Some(&Event::NotPromoted { node: Some(id(3)), text }));
}

#[test]
fn the_history_is_bounded_and_survives_a_snapshot() {
    let mut r = cluster();
    for step in 0..100 {
        r.ok(refuse(&format!("reason {step}"))).ok(refuse(&format!("reason {step}")));
        r.ok(Command::MarkFailed { nodes: vec![id(2)] }).ok(Command::ClearFailed { nodes: vec![id(2)] });
    }
    let refusals = events(&r, Subject::Shard(sid(1)));
    let text = |n: u64| Event::NotPromoted { node: None, text: format!("reason {n}") };
    assert_eq!(refusals[1..], [text(96), text(97), text(98), text(99)], "a repetition is one record");
    assert_eq!(events(&r, Subject::Node(id(2))).len(), 1 + 6);
    // Slots that move one by one are one record, and do not push out others.
    for slot in 0..50u64 {
        let command = Command::SetSlotOwner { slots: slots(&slot.to_string()), to: id(4), consent: Some(id(1)) };
        let mut proposal = Proposal::new(RequestId::NONE, command);
        proposal.stamp = Stamp { unix_ms: 1000 * slot, ..Stamp::default() };
        r.0.apply(r.0.applied() + 1, &proposal);
    }
    let last = events(&r, Subject::Shard(sid(4))).pop();
    assert_eq!(last, Some(Event::Slots { gained: 50, lost: 0, peer: Some(sid(1)), steps: 50, since_ms: 0 }));
    // Nodes that come and go are forgotten after a while.
    for n in 0..1000u16 {
        let mut node = pando_topology::Node::new(pando_topology::NodeId::from_bytes([0; 20]), "h", 1);
        let mut bytes = [200; 20];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        node.id = pando_topology::NodeId::from_bytes(bytes);
        node.is_data = false;
        let id = node.id;
        r.ok(Command::Join { node: Box::new(node), shard: None }).ok(Command::Reset {
            node: id,
            hard: false,
            as_replica: false,
        });
    }
    assert!(r.0.history().newest(usize::MAX).len() < 1000);
    assert_eq!(r.0.history().newest(3).iter().map(|(_, record)| record.event.clone()).next(), Some(Event::Left));
    r.ok(join(9, 0, ""));
    assert_eq!(RootState::from_pairs(r.0.to_pairs()), Ok(r.0));
}
