// SPDX-License-Identifier: BSD-3-Clause
//! The rules about who replicates whom: which shard a replica belongs to, and from which of its nodes
//! it takes its data. Called by `rules` only.
//!
//! ```text
//!   Replicate ── to another shard, or back to the primary of its own
//!   Chain ────── its data come from a replica of the shard   ◄── ends by itself: see `unchain`
//!   MoveReplica  to a shard that has lost its own            ◄── decided by control/failover
//!   Detach ───── to a shard of its own, without slots
//! ```
//! A node that changes its shard may be promoted there only when it was told anew
//! (`Node::promotable_since`); in the shard that it leaves it cannot be promoted at all.

use crate::draft::Draft;
use crate::rules::{Ruling, unknown_node};
use pando_topology::{NodeId, Shard, ShardId, SlotSet};

pub(crate) const ONLY_A_PRIMARY: &str = "ERR I can only replicate a master, not a replica.";
pub(crate) const NOW_A_PRIMARY: &str = "ERR This node has just become the primary of its shard";
const NO_DATA: &str = "ERR This node is a root without data";

pub(crate) fn replicate(draft: &mut Draft<'_>, id: &NodeId, of: &NodeId) -> Ruling {
    let target = draft.node(of).ok_or_else(|| unknown_node(of))?;
    if id == of {
        return Err("ERR Can't replicate myself".into());
    }
    let target = match draft.shard_of(&target.id) {
        Some(shard) if shard.primary == *of => shard.id,
        _ => return Err(ONLY_A_PRIMARY.into()),
    };
    follow(draft, id, &target, None)
}

pub(crate) fn chain(draft: &mut Draft<'_>, id: &NodeId, to: &NodeId) -> Ruling {
    let upstream = draft.node(to).ok_or_else(|| unknown_node(to))?;
    if id == to {
        return Err("ERR Can't replicate myself".into());
    }
    let shard = match draft.shard_of(to) {
        Some(shard) if shard.primary != *to => shard.id,
        _ => return Err(format!("ERR Node {to} is not a replica, CHAIN is for replicas of replicas")),
    };
    if upstream.failed {
        return Err(format!("ERR Node {to} has failed"));
    }
    // Chains have no circles, so this ends.
    let mut above = upstream.upstream;
    while let Some(next) = above {
        if next == *id {
            return Err(format!("ERR Node {to} takes its data from this node"));
        }
        above = draft.node(&next).and_then(|n| n.upstream);
    }
    follow(draft, id, &shard, Some(*to))
}

/// Makes a node a replica of a shard, with that upstream.
fn follow(draft: &mut Draft<'_>, id: &NodeId, target: &ShardId, upstream: Option<NodeId>) -> Ruling {
    draft.node(id).ok_or_else(|| unknown_node(id))?;
    let Some(own) = draft.shard_of(id).cloned() else { return Err(NO_DATA.into()) };
    if own.id == *target {
        if own.primary == *id {
            return Err("ERR A master can't take its data from its own replica".into());
        }
        draft.edit_node(id, |n| n.upstream = upstream);
        return Ok(None);
    }
    let mut moving = vec![*id];
    if own.primary == *id {
        if !own.slots.is_empty() {
            return Err("ERR To set a master the node must be empty and without assigned slots.".into());
        }
        // Its replicas come along, as they would by following their primary.
        moving.extend(&own.replicas);
        draft.remove_shard(own.id);
    } else {
        leave_shard(draft, &own.id, id);
    }
    enter_shard(draft, target, &moving);
    draft.edit_node(id, |n| n.upstream = upstream);
    Ok(None)
}

/// A replica of a shard that can spare it goes to one that has lost its own. Refused if either has
/// changed since that was decided.
pub(crate) fn move_replica(draft: &mut Draft<'_>, id: &NodeId, from: &ShardId, to: &ShardId) -> Ruling {
    let node = draft.node(id).ok_or_else(|| unknown_node(id))?;
    let is_there = draft.shard(from).is_some_and(|s| s.replicas.contains(id));
    if !is_there || node.failed {
        return Err(format!("ERR Node {id} is not a live replica of shard {from}"));
    }
    let target = draft.shard(to).ok_or_else(|| format!("ERR Unknown shard {to}"))?;
    let is_live = |id: &NodeId| draft.node(id).is_some_and(|n| !n.failed);
    if target.replicas.iter().any(is_live) || !is_live(&target.primary) {
        return Err(format!("ERR Shard {to} needs no replica"));
    }
    leave_shard(draft, from, id);
    enter_shard(draft, to, &[*id]);
    Ok(None)
}

pub(crate) fn detach(draft: &mut Draft<'_>, id: &NodeId, new: ShardId) -> Ruling {
    let incarnation = draft.node(id).ok_or_else(|| unknown_node(id))?.incarnation;
    let Some(own) = draft.shard_of(id).map(|s| (s.id, s.primary)) else { return Err(NO_DATA.into()) };
    // It was a replica when its client asked, and would be emptied after an OK.
    if own.1 == *id {
        return Err(NOW_A_PRIMARY.into());
    }
    if draft.shard(&new).is_some() {
        return Err(format!("ERR Shard {new} belongs to another node"));
    }
    leave_shard(draft, &own.0, id);
    let (epoch, reign) = (draft.next_epoch(), draft.version);
    draft.put_shard(Shard {
        id: new,
        epoch,
        reign,
        primary: *id,
        primary_incarnation: incarnation,
        replicas: Vec::new(),
        slots: SlotSet::new(),
        wants_replica: false,
    });
    draft.edit_node(id, |n| n.shard = Some(new));
    Ok(None)
}

/// Takes a replica out of its shard; where it goes is the caller's part.
pub(crate) fn leave_shard(draft: &mut Draft<'_>, shard: &ShardId, id: &NodeId) {
    unchain(draft, id);
    draft.edit_node(id, |n| n.upstream = None);
    draft.edit_shard(shard, |s| {
        s.replicas.retain(|r| r != id);
        // Who takes the last one away means it so.
        s.wants_replica &= !s.replicas.is_empty();
    });
}

fn enter_shard(draft: &mut Draft<'_>, shard: &ShardId, nodes: &[NodeId]) {
    let version = draft.version;
    for node in nodes {
        draft.edit_node(node, |n| {
            n.shard = Some(*shard);
            n.promotable_since = version;
        });
    }
    draft.edit_shard(shard, |s| {
        s.replicas.extend(nodes);
        s.wants_replica = true;
    });
}

/// Those who took their data from this node take them from the primary from now on. For good: a node
/// that comes back has to catch up first, and who waited for it would fall behind.
pub(crate) fn unchain(draft: &mut Draft<'_>, id: &NodeId) {
    let Some(shard) = draft.shard_of(id) else { return };
    let chained = |replica: &&NodeId| draft.node(replica).is_some_and(|n| n.upstream == Some(*id));
    let chained: Vec<NodeId> = shard.replicas.iter().filter(chained).copied().collect();
    for node in chained {
        draft.edit_node(&node, |n| n.upstream = None);
    }
}
