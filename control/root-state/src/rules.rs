// SPDX-License-Identifier: BSD-3-Clause
//! One function per command: check everything, then change the draft. A refusal leaves the draft as
//! it was. Texts that Valkey has are Valkey's, to the letter.

use crate::command::{Command, JoinShard, NodeInfo};
use crate::draft::Draft;
use crate::replicas::{NOW_A_PRIMARY, chain, detach, leave_shard, move_replica, replicate, unchain};
use crate::roots::is_root_count;
use pando_topology::{ClusterId, Incarnation, Node, NodeId, RootSet, Shard, ShardId, SlotSet, TopologyVersion};
use std::collections::BTreeMap;

/// `Ok(answer for the client, if more than OK)` or the error text.
pub(crate) type Ruling = Result<Option<String>, String>;

pub(crate) fn apply(draft: &mut Draft<'_>, command: &Command) -> Ruling {
    match command {
        Command::Init { cluster_id } => init(draft, *cluster_id),
        Command::Join { node, shard } => join(draft, node, shard.as_ref()),
        Command::Register { node, incarnation, info } => register(draft, node, *incarnation, info),
        Command::Forget { node, by } => forget(draft, node, by),
        Command::Reset { node, hard, as_replica } => reset(draft, node, *hard, *as_replica),
        Command::AddSlots { node, slots } => add_slots(draft, node, slots),
        Command::DelSlots { node, slots } => del_slots(draft, node, slots),
        Command::FlushSlots { node } => flush_slots(draft, node),
        Command::SetSlotOwner { slots, to, consent } => set_slot_owner(draft, slots, to, consent.as_ref()),
        Command::Replicate { node, of } => replicate(draft, node, of),
        Command::Chain { node, to } => chain(draft, node, to),
        Command::MoveReplica { node, from, to } => move_replica(draft, node, from, to),
        Command::Detach { node, shard } => detach(draft, node, *shard),
        Command::Promote { shard, to, incarnation, expect_epoch, told_at, over, reason: _ } => {
            promote(draft, shard, to, *incarnation, *expect_epoch, *told_at, *over)
        }
        Command::ConfirmPrimary { shard, node, incarnation, expect_epoch } => {
            confirm_primary(draft, shard, node, *incarnation, *expect_epoch)
        }
        Command::MarkFailed { nodes } => set_failed(draft, nodes, true),
        Command::ClearFailed { nodes } => set_failed(draft, nodes, false),
        Command::SetConfigEpoch { node, epoch } => set_config_epoch(draft, node, *epoch),
        Command::BumpEpoch { node } => bump_epoch(draft, node),
        Command::SetRootCount { count } => set_root_count(draft, *count),
        Command::SetRoots { voters, expect_since } => set_roots(draft, voters, *expect_since),
        Command::SettleRoots { expect_since } => settle_roots(draft, *expect_since),
        // For the history only.
        Command::Refuse { .. } | Command::Lead { .. } => Ok(None),
        // `state::run` has taken batches apart.
        Command::Decide { .. } | Command::DuringReign { .. } | Command::Batch(_) => {
            Err("ERR A batch inside a rule".into())
        }
    }
}

pub(crate) fn unknown_node(id: &NodeId) -> String {
    format!("ERR Unknown node {id}")
}

/// The node and its shard, for commands that only a primary may ask for.
fn primary_shard<'d>(draft: &'d Draft<'_>, id: &NodeId) -> Result<&'d Shard, String> {
    let node = draft.node(id).ok_or_else(|| unknown_node(id))?;
    match draft.shard_of(id) {
        Some(shard) if shard.primary == node.id => Ok(shard),
        Some(_) => Err("ERR A replica can't own slots or a config epoch, only its primary can".into()),
        None => Err("ERR This node is a root without data".into()),
    }
}

fn init(draft: &mut Draft<'_>, cluster_id: ClusterId) -> Ruling {
    if draft.cluster_id == cluster_id {
        return Ok(None);
    }
    if draft.node_count() > 0 || draft.cluster_id != ClusterId::from_bytes([0; 20]) {
        return Err("ERR The cluster has a name already".into());
    }
    draft.cluster_id = cluster_id;
    Ok(None)
}

fn join(draft: &mut Draft<'_>, node: &Node, shard: Option<&JoinShard>) -> Ruling {
    if let Some(known) = draft.node(&node.id) {
        if known.key.is_some() && known.key != node.key {
            return Err(format!("ERR Node {} is known with another key", node.id));
        }
        return register(draft, &node.id, node.incarnation, &NodeInfo::of(node));
    }
    if node.is_data != shard.is_some() {
        return Err("ERR A data node joins with a shard of its own, a root without data joins with none".into());
    }
    let mut node = node.clone();
    node.shard = shard.map(|s| s.id);
    node.failed = false;
    node.join_index = draft.version.get();
    node.promotable_since = draft.version;
    if let Some(shard) = shard {
        if draft.shard(&shard.id).is_some() {
            return Err(format!("ERR Shard {} belongs to another node", shard.id));
        }
        let mut slots = shard.slots.clone();
        // The losers of each conflict give up the slot at once; both islands served it until now.
        let mut lost: BTreeMap<ShardId, SlotSet> = BTreeMap::new();
        for slot in shard.slots.iter() {
            match draft.owner_of(slot) {
                Some(owner) if owner.epoch >= shard.epoch => {
                    slots.remove(slot);
                }
                Some(owner) => {
                    lost.entry(owner.id).or_default().insert(slot);
                }
                None => {}
            }
        }
        for (loser, lost) in lost {
            draft.edit_shard(&loser, |s| s.slots = s.slots.difference(&lost));
        }
        // Config epochs are unique, except 0: "has none yet".
        let taken = shard.epoch > 0 && draft.all_shards().any(|s| s.epoch == shard.epoch);
        draft.current_epoch = draft.current_epoch.max(shard.epoch);
        let epoch = if taken { draft.next_epoch() } else { shard.epoch };
        draft.put_shard(Shard {
            id: shard.id,
            epoch,
            reign: draft.version,
            primary: node.id,
            primary_incarnation: node.incarnation,
            replicas: Vec::new(),
            slots,
            wants_replica: false,
        });
    }
    draft.set_tombstone(node.id, false);
    draft.put_node(node);
    Ok(None)
}

fn register(draft: &mut Draft<'_>, id: &NodeId, incarnation: Incarnation, info: &NodeInfo) -> Ruling {
    let node = draft.node(id).ok_or_else(|| unknown_node(id))?;
    if incarnation < node.incarnation {
        return Err("ERR A newer process of this node has registered".into());
    }
    if incarnation > node.incarnation {
        // It starts with an old copy or none: who took data from it is better off with the primary.
        unchain(draft, id);
    }
    draft.edit_node(id, |node| {
        node.incarnation = incarnation;
        node.host = info.host.clone();
        node.hostname = info.hostname.clone();
        node.port = info.port;
        node.cluster_port = info.cluster_port;
        node.tls_port = info.tls_port;
        node.zone = info.zone.clone();
        node.replica_priority = info.replica_priority;
        node.no_failover = info.no_failover;
        node.migration_barrier = info.migration_barrier;
        node.root_eligible = info.root_eligible;
        node.root_id = info.root_id;
    });
    Ok(None)
}

fn forget(draft: &mut Draft<'_>, id: &NodeId, by: &NodeId) -> Ruling {
    if id == by {
        return Err("ERR I tried hard but I can't forget myself...".into());
    }
    let Some(node) = draft.node(id) else {
        // CLUSTER FORGET is sent to every node in turn; the first one did it for all.
        return if draft.is_tombstone(id) { Ok(None) } else { Err(unknown_node(id)) };
    };
    if let Some(shard) = draft.shard_of(id).filter(|s| s.primary == *id) {
        if shard.replicas.contains(by) {
            return Err("ERR Can't forget my master!".into());
        }
        if !shard.replicas.is_empty() {
            return Err(format!("ERR Node {id} is the primary of replicas, fail it over or move them first"));
        }
        // Forgetting a failed owner is the operator's word that it will not write again.
        if !shard.slots.is_empty() && !node.failed {
            return Err(format!("ERR Node {id} still owns slots"));
        }
    }
    remove(draft, id);
    draft.set_tombstone(*id, true);
    Ok(None)
}

/// Takes a node out of its shard and out of the map. If it was the primary, its first replica
/// inherits the shard, without slots; without replicas the shard goes with it.
fn remove(draft: &mut Draft<'_>, id: &NodeId) {
    let version = draft.version;
    unchain(draft, id);
    if let Some(shard) = draft.shard_of(id).cloned() {
        let heir = if shard.primary == *id { shard.replicas.first().copied() } else { None };
        match heir {
            Some(heir) => {
                let epoch = draft.next_epoch();
                let incarnation = draft.node(&heir).map_or(Incarnation::ZERO, |n| n.incarnation);
                draft.edit_shard(&shard.id, |s| {
                    s.replicas.remove(0);
                    s.wants_replica = !s.replicas.is_empty();
                    s.primary = heir;
                    s.primary_incarnation = incarnation;
                    s.epoch = epoch;
                    s.reign = version;
                    s.slots = SlotSet::new();
                });
                unchain(draft, &heir);
                draft.edit_node(&heir, |n| n.upstream = None);
            }
            None if shard.primary == *id => draft.remove_shard(shard.id),
            None => leave_shard(draft, &shard.id, id),
        }
    }
    draft.remove_node(*id);
}

fn reset(draft: &mut Draft<'_>, id: &NodeId, hard: bool, as_replica: bool) -> Ruling {
    if draft.node(id).is_none() {
        return Err(unknown_node(id));
    }
    // Between the request and now it may have got the slots and the only copy of their data.
    if as_replica && draft.shard_of(id).is_some_and(|shard| shard.primary == *id) {
        return Err(NOW_A_PRIMARY.into());
    }
    if draft.node_count() > 1 {
        remove(draft, id);
        return Ok(None);
    }
    if let Some(shard) = draft.shard_of(id).map(|s| s.id) {
        draft.edit_shard(&shard, |s| {
            s.slots = SlotSet::new();
            if hard {
                s.epoch = 0;
            }
        });
    }
    if hard {
        draft.current_epoch = 0;
    }
    Ok(None)
}

fn add_slots(draft: &mut Draft<'_>, id: &NodeId, slots: &SlotSet) -> Ruling {
    let shard = primary_shard(draft, id)?.id;
    if let Some(busy) = slots.iter().find(|slot| draft.owner_of(*slot).is_some()) {
        return Err(format!("ERR Slot {busy} is already busy"));
    }
    give_slots(draft, &shard, slots);
    Ok(None)
}

/// A shard that gets its first slots in a cluster whose shards have replicas is meant to have one too.
fn give_slots(draft: &mut Draft<'_>, shard: &ShardId, slots: &SlotSet) {
    let has_none = draft.shard(shard).is_some_and(|s| s.slots.is_empty() && !s.wants_replica);
    let is_usual = has_none && draft.all_shards().any(|s| !s.replicas.is_empty());
    draft.edit_shard(shard, |s| {
        s.slots = s.slots.union(slots);
        s.wants_replica |= is_usual && !slots.is_empty();
    });
}

fn del_slots(draft: &mut Draft<'_>, id: &NodeId, slots: &SlotSet) -> Ruling {
    let shard = primary_shard(draft, id)?.id;
    for slot in slots.iter() {
        match draft.owner_of(slot) {
            None => return Err(format!("ERR Slot {slot} is already unassigned")),
            Some(owner) if owner.id != shard => return Err("ERR Slots are not served by this node.".into()),
            Some(_) => {}
        }
    }
    draft.edit_shard(&shard, |s| s.slots = s.slots.difference(slots));
    Ok(None)
}

fn flush_slots(draft: &mut Draft<'_>, id: &NodeId) -> Ruling {
    let shard = primary_shard(draft, id)?.id;
    draft.edit_shard(&shard, |s| s.slots = SlotSet::new());
    Ok(None)
}

fn set_slot_owner(draft: &mut Draft<'_>, slots: &SlotSet, to: &NodeId, consent: Option<&NodeId>) -> Ruling {
    let target = primary_shard(draft, to)?.id;
    let mut sources: BTreeMap<ShardId, SlotSet> = BTreeMap::new();
    for slot in slots.iter() {
        match draft.owner_of(slot) {
            Some(owner) if owner.id == target => {}
            Some(owner) if Some(&owner.primary) == consent => {
                sources.entry(owner.id).or_default().insert(slot);
            }
            Some(owner) => {
                return Err(format!("ERR Slot {slot} belongs to node {}, which has not agreed", owner.primary));
            }
            None => {}
        }
    }
    for (source, moved) in sources {
        draft.edit_shard(&source, |s| s.slots = s.slots.difference(&moved));
    }
    give_slots(draft, &target, slots);
    Ok(None)
}

/// The shard, if it is still at the epoch at which something was decided about it.
fn expect_epoch<'d>(draft: &'d Draft<'_>, id: &ShardId, epoch: u64) -> Result<&'d Shard, String> {
    let shard = draft.shard(id).ok_or_else(|| format!("ERR Unknown shard {id}"))?;
    if shard.epoch != epoch {
        return Err(format!("ERR Shard {id} is at epoch {}, not {epoch}", shard.epoch));
    }
    Ok(shard)
}

/// The reign of this primary, as it knew it, still lasts.
pub(crate) fn reigns(draft: &Draft<'_>, node: &NodeId, reign: TopologyVersion) -> Result<(), String> {
    match draft.shard_of(node).is_some_and(|shard| shard.primary == *node && shard.reign == reign) {
        true => Ok(()),
        false => Err("ERR The master of this shard has changed".into()),
    }
}

fn promote(
    draft: &mut Draft<'_>,
    id: &ShardId,
    to: &NodeId,
    incarnation: Incarnation,
    epoch: u64,
    told_at: TopologyVersion,
    over: Option<TopologyVersion>,
) -> Ruling {
    let shard = expect_epoch(draft, id, epoch)?;
    if !shard.replicas.contains(to) {
        return Err(format!("ERR Node {to} is not a replica of shard {id}"));
    }
    let node = draft.node(to).ok_or_else(|| unknown_node(to))?;
    if node.failed {
        return Err(format!("ERR Node {to} has failed"));
    }
    if node.incarnation != incarnation {
        return Err(format!("ERR Node {to} has been restarted"));
    }
    // Whoever may still be writing must be known to need this replica's promise. The one who told it
    // does; so does everyone who reigned later, because their maps show it from the start; and
    // those who reigned earlier had lost their leases when the teller's began. Being newer than the
    // present reign is not enough: the present primary may never have got its lease. The process that
    // followed the present primary's knows better, and so do those who know it dead: see `over`.
    let is_gone = |n: &Node| n.failed || n.incarnation > shard.primary_incarnation;
    let is_over = over == Some(shard.reign) && draft.node(&shard.primary).is_some_and(is_gone);
    if node.promotable_since > told_at && !is_over {
        return Err(format!("ERR No primary of shard {id} has told node {to} that it needs its promise"));
    }
    let (next, version) = (draft.next_epoch(), draft.version);
    // The former primary can be promoted again as soon as it was told that it can, which may be long ago: the
    // new one needs its promise from the start. If it has failed, the verdict has taken that away.
    draft.edit_shard(id, |s| {
        for replica in &mut s.replicas {
            if replica == to {
                *replica = s.primary;
            }
        }
        s.primary = *to;
        s.primary_incarnation = incarnation;
        s.epoch = next;
        s.reign = version;
    });
    unchain(draft, to);
    draft.edit_node(to, |n| n.upstream = None);
    Ok(None)
}

fn confirm_primary(draft: &mut Draft<'_>, id: &ShardId, node: &NodeId, incarnation: Incarnation, epoch: u64) -> Ruling {
    let shard = expect_epoch(draft, id, epoch)?;
    if shard.primary != *node {
        return Err(format!("ERR Node {node} is not the primary of shard {id}"));
    }
    if draft.node(node).is_none_or(|n| n.incarnation != incarnation) {
        return Err(format!("ERR Node {node} has been restarted"));
    }
    if shard.primary_incarnation == incarnation {
        return Ok(None);
    }
    // A new epoch, so that a promotion decided before this is refused. Alone in its shard it has no
    // rival and keeps its epoch, as a restarted node does in Valkey.
    let next = if shard.replicas.is_empty() { shard.epoch } else { draft.next_epoch() };
    let version = draft.version;
    draft.edit_shard(id, |s| {
        s.primary_incarnation = incarnation;
        s.epoch = next;
        s.reign = version;
    });
    Ok(None)
}

fn set_failed(draft: &mut Draft<'_>, nodes: &[NodeId], failed: bool) -> Ruling {
    let version = draft.version;
    for id in nodes {
        if draft.node(id).is_some_and(|n| n.failed != failed) {
            draft.edit_node(id, |n| {
                n.failed = failed;
                // A primary does without the promise of a failed replica, so one that is back has
                // to be told anew that it is needed.
                n.promotable_since = version;
            });
            if failed {
                unchain(draft, id);
            }
        }
    }
    Ok(None)
}

fn set_config_epoch(draft: &mut Draft<'_>, id: &NodeId, epoch: u64) -> Ruling {
    if draft.node_count() > 1 {
        return Err("ERR The user can assign a config epoch only when the node does not know any other node.".into());
    }
    let shard = primary_shard(draft, id)?;
    if shard.epoch != 0 {
        return Err("ERR Node config epoch is already non-zero".into());
    }
    let shard = shard.id;
    draft.edit_shard(&shard, |s| s.epoch = epoch);
    draft.current_epoch = draft.current_epoch.max(epoch);
    Ok(None)
}

fn bump_epoch(draft: &mut Draft<'_>, id: &NodeId) -> Ruling {
    let shard = primary_shard(draft, id)?;
    let (shard, epoch) = (shard.id, shard.epoch);
    let highest = draft.all_shards().map(|s| s.epoch).max().unwrap_or(0);
    if epoch != 0 && epoch == highest {
        return Ok(Some(format!("STILL {epoch}")));
    }
    let next = draft.next_epoch();
    draft.edit_shard(&shard, |s| s.epoch = next);
    Ok(Some(format!("BUMPED {next}")))
}

fn set_root_count(draft: &mut Draft<'_>, count: u8) -> Ruling {
    if !is_root_count(usize::from(count)) {
        return Err(format!("ERR A cluster can't keep {count} roots, only 1, 3, 5 or 7"));
    }
    draft.roots.count = count;
    Ok(None)
}

fn set_roots(draft: &mut Draft<'_>, voters: &BTreeMap<NodeId, u64>, expect_since: TopologyVersion) -> Ruling {
    if draft.roots.voters == *voters {
        return Ok(None);
    }
    if draft.roots.since != expect_since {
        return Err("ERR The set of roots has changed".into());
    }
    if let Some(previous) = &draft.roots.previous {
        if previous != voters {
            return Err("ERR The set of roots is being changed".into());
        }
        // Whoever counts by both sets has a majority of this one.
        draft.roots =
            RootSet { voters: voters.clone(), previous: None, since: draft.version, count: draft.roots.count };
        return Ok(None);
    }
    if voters.is_empty() {
        return Err("ERR There must be a root".into());
    }
    for (id, raft) in voters {
        let node = draft.node(id).ok_or_else(|| unknown_node(id))?;
        if !node.root_eligible || node.root_id != Some(*raft) {
            return Err(format!("ERR Node {id} can't be a root"));
        }
    }
    let previous = Some(std::mem::take(&mut draft.roots.voters)).filter(|p| !p.is_empty());
    draft.roots = RootSet { voters: voters.clone(), previous, since: draft.version, count: draft.roots.count };
    Ok(None)
}

fn settle_roots(draft: &mut Draft<'_>, expect_since: TopologyVersion) -> Ruling {
    if draft.roots.since != expect_since {
        return Err("ERR The set of roots has changed".into());
    }
    if draft.roots.previous.take().is_some() {
        draft.roots.since = draft.version;
    }
    Ok(None)
}
