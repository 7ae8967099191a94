// SPDX-License-Identifier: BSD-3-Clause
//! No term of a root group has two leaders.

use std::collections::BTreeMap;

use pando_topology::ClusterId;

use super::{Invariant, Scene};

/// See the head of this file.
#[derive(Default)]
pub struct OneLeader {
    leaders: BTreeMap<(ClusterId, u64), usize>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one leader"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for process in scene.seen {
            let Some(info) = process.info.as_ref().filter(|info| info.is_leader) else { continue };
            let Some(cluster) = info.cluster else { continue };
            let leader = *self.leaders.entry((cluster, info.term)).or_insert(process.host);
            if leader != process.host {
                return Err(format!("hosts {leader} and {} both lead in term {}", process.host, info.term));
            }
        }
        Ok(())
    }
}
