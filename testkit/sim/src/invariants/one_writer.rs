// SPDX-License-Identifier: BSD-3-Clause
//! At no moment do two processes accept writes for one shard, or for one slot of one cluster.

use std::collections::BTreeMap;

use super::{Invariant, Scene};

/// See the head of this file.
pub struct OneWriter;

impl Invariant for OneWriter {
    fn name(&self) -> &'static str {
        "one writer"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        let mut by_shard = BTreeMap::new();
        let mut by_range = Vec::new();
        for process in scene.seen.iter().filter(|process| process.is_running) {
            let Some((shard, reign)) = process.plane.accepts(process.now_ms) else { continue };
            if let Some((other, other_reign)) = by_shard.insert(shard, (process.host, reign)) {
                return Err(format!(
                    "hosts {other} (reign {other_reign}) and {} (reign {reign}) accept writes for shard {shard}",
                    process.host
                ));
            }
            let Some((map, _)) = &process.plane.view else { continue };
            let Some(shard) = map.shard(&shard) else { continue };
            for range in shard.slots.ranges() {
                by_range.push((map.cluster_id(), range.first, range.last, process.host));
            }
        }
        by_range.sort();
        for pair in by_range.windows(2) {
            let ((cluster, _, last, host), (next_cluster, first, _, next_host)) = (pair[0], pair[1]);
            if cluster == next_cluster && first <= last && host != next_host {
                return Err(format!("hosts {host} and {next_host} accept writes for slot {first}"));
            }
        }
        Ok(())
    }
}
