// SPDX-License-Identifier: BSD-3-Clause
//! Committed changes stay: the newest version of a cluster that was ever seen never disappears from
//! all its processes at once for good, and a slot that had an owner keeps one (no scenario gives
//! slots back once they are assigned).

use std::collections::BTreeMap;

use pando_topology::{ClusterId, TopologyVersion};

use super::{Invariant, Seen};

/// See the head of this file.
#[derive(Default)]
pub struct NothingLost {
    /// Version at which all slots of a cluster had owners for the first time.
    complete: BTreeMap<ClusterId, TopologyVersion>,
}

impl Invariant for NothingLost {
    fn name(&self) -> &'static str {
        "nothing is lost"
    }

    fn check(&mut self, _now_ms: u64, seen: &[Seen]) -> Result<(), String> {
        for process in seen {
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
