// SPDX-License-Identifier: BSD-3-Clause
//! Makes records of commands: looks at the draft before a command and again after it. Used by `state` for each
//! command that is no batch; `history` keeps what comes out.

use crate::command::{Command, PromoteReason};
use crate::draft::Draft;
use crate::evidence::{CANDIDATES_MAX, Opinion, Stamp, Why, bounded};
use crate::history::{Event, Record, Subject};
use pando_topology::{NodeId, Shard, ShardId, SlotSet};

/// What all records of one entry have in common.
pub(crate) struct Entry<'e> {
    pub index: u64,
    pub stamp: Stamp,
    pub roots: &'e [NodeId],
}

/// What was so before the command.
pub(crate) struct Before {
    /// The shards that it may touch.
    shards: Vec<Shard>,
    /// Nodes that it marks and that were not marked so, with their place in the command.
    marked: Vec<(usize, NodeId)>,
    /// Address and process of the node that joins, registers or leaves, if it was there.
    address: Option<(String, pando_topology::Incarnation)>,
    roots: Vec<NodeId>,
}

/// Remembers what `after` compares with.
pub(crate) fn before(draft: &Draft<'_>, command: &Command) -> Before {
    let shard_of = |node: &NodeId| draft.shard_of(node).cloned();
    let owners = |slots: &SlotSet| -> Vec<Shard> {
        let mut ids: Vec<ShardId> =
            slots.iter().filter_map(|slot| draft.owner_of(slot)).map(|shard| shard.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.iter().filter_map(|id| draft.shard(id).cloned()).collect()
    };
    let (mut shards, mut marked, mut address, mut roots) = (Vec::new(), Vec::new(), None, Vec::new());
    match command {
        Command::Join { node, shard } => {
            shards = shard.as_ref().map(|shard| owners(&shard.slots)).unwrap_or_default();
            address = address_of(draft, &node.id);
        }
        Command::Register { node, .. } => address = address_of(draft, node),
        Command::Forget { node, .. } | Command::Reset { node, .. } => {
            shards.extend(shard_of(node));
            address = address_of(draft, node);
        }
        Command::AddSlots { node, .. }
        | Command::DelSlots { node, .. }
        | Command::FlushSlots { node }
        | Command::Detach { node, .. } => shards.extend(shard_of(node)),
        Command::SetSlotOwner { slots, to, .. } => {
            shards = owners(slots);
            if let Some(target) = shard_of(to).filter(|target| shards.iter().all(|shard| shard.id != target.id)) {
                shards.push(target);
            }
        }
        Command::Replicate { node, of: to } | Command::Chain { node, to } => {
            shards.extend(shard_of(node).into_iter().chain(shard_of(to)));
        }
        Command::MoveReplica { from, to, .. } => {
            shards.extend([from, to].into_iter().filter_map(|id| draft.shard(id).cloned()))
        }
        Command::Promote { shard, .. } | Command::ConfirmPrimary { shard, .. } => {
            shards.extend(draft.shard(shard).cloned());
        }
        Command::MarkFailed { nodes } => marked = unlike(draft, nodes, true),
        Command::ClearFailed { nodes } => marked = unlike(draft, nodes, false),
        Command::SetRoots { .. } => roots = draft.roots.voters.keys().copied().collect(),
        Command::SettleRoots { .. } => {
            roots = draft.roots.previous.iter().flat_map(|previous| previous.keys().copied()).collect();
        }
        Command::Init { .. }
        | Command::SetRootCount { .. }
        | Command::SetConfigEpoch { .. }
        | Command::BumpEpoch { .. }
        | Command::Refuse { .. }
        | Command::Lead { .. }
        | Command::Decide { .. }
        | Command::DuringReign { .. }
        | Command::Batch(_) => {}
    }
    Before { shards, marked, address, roots }
}

fn address_of(draft: &Draft<'_>, node: &NodeId) -> Option<(String, pando_topology::Incarnation)> {
    draft.node(node).map(|node| (format!("{}:{}", node.host, node.port), node.incarnation))
}

fn unlike(draft: &Draft<'_>, nodes: &[NodeId], failed: bool) -> Vec<(usize, NodeId)> {
    let differs = |id: &NodeId| draft.node(id).is_some_and(|node| node.failed != failed);
    nodes.iter().copied().enumerate().filter(|(_, id)| differs(id)).collect()
}

/// The records of a command that was applied.
pub(crate) fn after(
    entry: &Entry<'_>,
    draft: &Draft<'_>,
    before: Before,
    command: &Command,
    why: &Why,
) -> Vec<(Subject, Record)> {
    let record = |event| record(entry, event, why, 0);
    let mut records = Vec::new();
    match command {
        Command::Promote { shard, to, reason, .. } => {
            let from = before.shards.first().map(|shard| shard.primary);
            if let (Some(from), Some(now)) = (from, draft.shard(shard)) {
                let (epoch, slots, reason) = (now.epoch, now.slots.len(), reason.clone());
                let event = Event::Promoted { from, to: *to, epoch, slots, reason };
                records.push((Subject::Shard(*shard), record(event)));
            }
        }
        Command::ConfirmPrimary { shard, node, incarnation, .. } => {
            if before.shards.iter().any(|shard| shard.primary_incarnation != *incarnation) {
                let event = Event::Confirmed { node: *node, incarnation: *incarnation };
                records.push((Subject::Shard(*shard), record(event)));
            }
        }
        Command::Refuse { shard, node, text } => {
            if draft.shard(shard).is_some() {
                let event = Event::NotPromoted { node: *node, text: bounded(text) };
                records.push((Subject::Shard(*shard), record(event)));
            }
        }
        Command::MarkFailed { .. } | Command::ClearFailed { .. } => {
            let event = if matches!(command, Command::MarkFailed { .. }) { Event::Failed } else { Event::Back };
            for (place, node) in &before.marked {
                records.push((Subject::Node(*node), self::record(entry, event.clone(), why, *place)));
            }
        }
        Command::Join { node, .. } if before.address.is_none() => {
            records.push((Subject::Node(node.id), record(Event::Joined)));
        }
        Command::Join { node, .. } => records.extend(registered(draft, &before, &node.id).map(|(s, e)| (s, record(e)))),
        Command::Register { node, .. } => {
            records.extend(registered(draft, &before, node).map(|(s, e)| (s, record(e))));
        }
        Command::Forget { node, by } => {
            if before.address.is_some() {
                records.push((Subject::Node(*node), record(Event::Forgotten { by: *by })));
            }
        }
        Command::Reset { node, .. } => records.push((Subject::Node(*node), record(Event::Left))),
        Command::SetRoots { voters, .. } if !before.roots.is_empty() || draft.roots.since == draft.version => {
            let event = Event::VotersChange { from: before.roots.clone(), to: voters.keys().copied().collect() };
            if before.roots.iter().ne(voters.keys()) {
                records.push((Subject::Roots, record(event)));
            }
        }
        Command::SettleRoots { .. } if !before.roots.is_empty() => {
            records.push((Subject::Roots, record(Event::VotersSettled)));
        }
        Command::Lead { root, term, note } => {
            let mut elected = record(Event::Elected { root: *root, term: *term });
            elected.note = bounded(note);
            records.push((Subject::Roots, elected));
        }
        Command::SetRoots { .. }
        | Command::SettleRoots { .. }
        | Command::SetRootCount { .. }
        | Command::Init { .. }
        | Command::AddSlots { .. }
        | Command::DelSlots { .. }
        | Command::FlushSlots { .. }
        | Command::SetSlotOwner { .. }
        | Command::Replicate { .. }
        | Command::Chain { .. }
        | Command::MoveReplica { .. }
        | Command::Detach { .. }
        | Command::SetConfigEpoch { .. }
        | Command::BumpEpoch { .. }
        | Command::Decide { .. }
        | Command::DuringReign { .. }
        | Command::Batch(_) => {}
    }
    records.extend(changes(entry, draft, &before, command).into_iter().map(|(s, e)| (s, record(e))));
    records
}

/// What is recorded of a command that was refused: an operator's failover.
pub(crate) fn refused(
    entry: &Entry<'_>,
    draft: &Draft<'_>,
    command: &Command,
    text: &str,
    why: &Why,
) -> Option<(Subject, Record)> {
    match command {
        Command::Promote { shard, to, reason: PromoteReason::Manual, .. } if draft.shard(shard).is_some() => {
            let event = Event::NotPromoted { node: Some(*to), text: bounded(text) };
            Some((Subject::Shard(*shard), record(entry, event, why, 0)))
        }
        _ => None,
    }
}

/// A restart or another address of a node.
fn registered<'a>(
    draft: &'a Draft<'_>,
    before: &'a Before,
    node: &'a NodeId,
) -> impl Iterator<Item = (Subject, Event)> + 'a {
    let now = address_of(draft, node);
    let (old, new) = (before.address.clone(), now);
    let restarted = match (&old, &new) {
        (Some(old), Some(new)) if old.1 != new.1 => Some(Event::Restarted(new.1)),
        _ => None,
    };
    let moved = match (old, new) {
        (Some(old), Some(new)) if old.0 != new.0 => Some(Event::Moved { from: old.0, to: new.0 }),
        _ => None,
    };
    restarted.into_iter().chain(moved).map(|event| (Subject::Node(*node), event))
}

/// What changed in the members and the slots of the shards that the command touched.
fn changes(entry: &Entry<'_>, draft: &Draft<'_>, before: &Before, command: &Command) -> Vec<(Subject, Event)> {
    let mut events = Vec::new();
    // A change of primary is told as such.
    let is_promotion = matches!(command, Command::Promote { .. } | Command::ConfirmPrimary { .. });
    for old in &before.shards {
        let subject = Subject::Shard(old.id);
        let now = draft.shard(&old.id);
        let slots = now.map(|shard| shard.slots.clone()).unwrap_or_default();
        let (gained, lost) = (slots.difference(&old.slots), old.slots.difference(&slots));
        if !gained.is_empty() || !lost.is_empty() {
            let moved = if lost.is_empty() { &gained } else { &lost };
            let peer = peer(draft, before, old.id, moved, lost.is_empty());
            let (gained, lost, since_ms) = (gained.len(), lost.len(), entry.stamp.unix_ms);
            events.push((subject, Event::Slots { gained, lost, peer, steps: 1, since_ms }));
        }
        if is_promotion {
            continue;
        }
        let is_in =
            |shard: Option<&Shard>, node: &NodeId| shard.is_some_and(|shard| shard.members().any(|m| m == *node));
        for node in old.members().filter(|node| !is_in(now, node)) {
            let to = draft.shard_of(&node).map(|shard| shard.id);
            events.push((subject, Event::Detached { node, to }));
        }
        for node in now.into_iter().flat_map(Shard::members).filter(|node| !is_in(Some(old), node)) {
            let from = before.shards.iter().find(|shard| is_in(Some(shard), &node)).map(|shard| shard.id);
            events.push((subject, Event::Attached { node, from }));
        }
    }
    events
}

/// The shard at the other end of a move of slots, if there is one.
fn peer(draft: &Draft<'_>, before: &Before, own: ShardId, moved: &SlotSet, has_gained: bool) -> Option<ShardId> {
    let slot = moved.iter().next()?;
    let other = match has_gained {
        true => before.shards.iter().find(|shard| shard.slots.contains(slot)).map(|shard| shard.id),
        false => draft.owner_of(slot).map(|shard| shard.id),
    };
    other.filter(|id| *id != own)
}

/// `place`: which of the nodes of the command is meant.
fn record(entry: &Entry<'_>, event: Event, why: &Why, place: usize) -> Record {
    let count = entry.roots.len();
    let opinions = why.opinions.iter().skip(place * count).take(count);
    let opinions: Vec<(NodeId, Opinion)> = entry.roots.iter().copied().zip(opinions.copied()).collect();
    let mut candidates = why.candidates.clone();
    candidates.truncate(CANDIDATES_MAX);
    Record { index: entry.index, stamp: entry.stamp, event, opinions, candidates, note: bounded(&why.note) }
}
