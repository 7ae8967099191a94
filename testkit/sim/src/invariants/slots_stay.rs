// SPDX-License-Identifier: BSD-3-Clause
//! A slot that had an owner keeps one: once all slots of a cluster are owned, every later version has owners for
//! all of them (nobody in a simulation gives slots back).

use std::collections::BTreeMap;

use pando_topology::{ClusterId, TopologyVersion};

use super::{Invariant, Scene};

/// See the head of this file.
#[derive(Default)]
pub struct SlotsStay {
    /// Version at which all slots of a cluster had owners for the first time.
    complete: BTreeMap<ClusterId, TopologyVersion>,
}

impl Invariant for SlotsStay {
    fn name(&self) -> &'static str {
        "slots keep owners"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for process in scene.seen {
            let Some((map, _)) = &process.plane.view else { continue };
            let is_complete = map.slots_assigned() == pando_topology::SLOT_COUNT;
            match self.complete.get(&map.cluster_id()) {
                None if is_complete => {
                    self.complete.insert(map.cluster_id(), map.version());
                }
                Some(since) if map.version() >= *since && !is_complete => {
                    return Err(format!(
                        "host {}: version {} has lost slots that version {since} had",
                        process.host,
                        map.version()
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
