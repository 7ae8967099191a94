// SPDX-License-Identifier: BSD-3-Clause
//! After healing everything agrees: all processes run and have one map, with settled roots of the wanted number,
//! nobody is failed, everybody is shown where it is, every slot is served and every replica follows. Asked at the end
//! of a run, not after each step.

use pando_topology::{Node, SLOT_COUNT};

use crate::world::World;

/// What is still missing, if anything is.
pub fn missing(world: &World) -> Option<String> {
    let mut common = None;
    for id in 0..world.len() {
        let host = world.host(id);
        let state = host.plane.state();
        let Some((map, me)) = &state.view else { return Some(format!("host {id} has no map")) };
        let key = (map.cluster_id(), map.version());
        if *common.get_or_insert(key) != key {
            return Some(format!("host {id} has another map"));
        }
        if !host.is_running() || !state.cluster_ok {
            return Some(format!("host {id} does not run or says that the cluster is down"));
        }
        let roots = map.roots();
        let asked = if roots.count == 0 { host.config.root_count } else { usize::from(roots.count) };
        let wanted = asked.min((world.len() - 1) | 1);
        if roots.previous.is_some() || roots.voters.len() != wanted {
            return Some(format!("host {id} shows {} roots", roots.voters.len()));
        }
        if map.nodes().len() != world.len() || map.nodes().values().any(|node| node.failed) {
            return Some(format!("host {id} misses nodes"));
        }
        let is_here = |node: &Node| node.host == host.config.host && node.port == host.config.port;
        if !map.node(me).is_some_and(is_here) {
            return Some(format!("host {id} is shown somewhere else"));
        }
        if map.slots_assigned() < SLOT_COUNT {
            return Some(format!("host {id} shows slots without an owner"));
        }
        let is_replica = map.shard_of(me).is_some_and(|shard| shard.primary != *me);
        if is_replica && !(state.link_up && state.has_data()) {
            return Some(format!("host {id} does not follow its primary"));
        }
    }
    let (map, _) = world.plane(0).state().view.clone()?;
    let idle = map.shards().values().find(|shard| {
        let first = shard.slots.first();
        first.is_some_and(|slot| world.writer_of(slot).is_none())
    });
    idle.map(|shard| format!("nobody writes for shard {}", shard.id))
}
