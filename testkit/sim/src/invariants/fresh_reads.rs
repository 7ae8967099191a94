// SPDX-License-Identifier: BSD-3-Clause
//! Reads are linearizable: one that is answered shows at least the newest version that anybody was told of before
//! it began, be it as the acknowledgement of a change or as the answer to another read.

use std::collections::BTreeMap;

use pando_topology::{ClusterId, TopologyVersion};

use super::{Fact, Invariant, Scene};

/// See the head of this file.
#[derive(Default)]
pub struct FreshReads {
    /// The newest version that a client was told of.
    told: BTreeMap<ClusterId, TopologyVersion>,
    /// What was told when a read began.
    open: BTreeMap<u64, BTreeMap<ClusterId, TopologyVersion>>,
}

impl Invariant for FreshReads {
    fn name(&self) -> &'static str {
        "fresh reads"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for fact in scene.facts {
            match fact {
                Fact::Changed { cluster, version, .. } => {
                    let told = self.told.entry(*cluster).or_default();
                    *told = (*told).max(*version);
                }
                Fact::ReadBegan { number, .. } => {
                    self.open.insert(*number, self.told.clone());
                }
                Fact::ReadEnded { host, number, cluster, version } => {
                    let before = self.open.remove(number).unwrap_or_default();
                    let (Some(cluster), Some(version)) = (cluster, version) else { continue };
                    let least = before.get(cluster).copied().unwrap_or_default();
                    if *version < least {
                        return Err(format!("host {host} read {version}, but {least} was known before"));
                    }
                    let told = self.told.entry(*cluster).or_default();
                    *told = (*told).max(*version);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
