// SPDX-License-Identifier: BSD-3-Clause
//! All roots of a cluster apply the same entries in the same order: at an index that several of them have reached,
//! or one of them twice (before and after a restart), the digest of all entries so far is the same. So an entry
//! that one root has ever shown as committed stays in every later state.

use std::collections::BTreeMap;

use pando_topology::ClusterId;

use super::{Invariant, Scene};

/// See the head of this file.
#[derive(Default)]
pub struct OneLog {
    known: BTreeMap<(ClusterId, u64), (u64, usize)>,
}

impl Invariant for OneLog {
    fn name(&self) -> &'static str {
        "one log"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for process in scene.seen {
            let Some(info) = &process.info else { continue };
            let (Some(cluster), Some((index, digest))) = (info.cluster, info.digest) else { continue };
            if index == 0 {
                continue;
            }
            let (known, host) = *self.known.entry((cluster, index)).or_insert((digest, process.host));
            if known != digest {
                return Err(format!("hosts {host} and {} have applied different entries up to {index}", process.host));
            }
        }
        Ok(())
    }
}
