// SPDX-License-Identifier: BSD-3-Clause
//! A process never goes back to an older map of its cluster, and all maps of one version of one
//! cluster are the same map, on whichever process.

use std::collections::BTreeMap;
use std::sync::Arc;

use pando_topology::{ClusterId, ClusterMap, TopologyVersion};

use super::{Invariant, Scene};

/// See the head of this file.
#[derive(Default)]
pub struct VersionsGrow {
    maps: BTreeMap<(ClusterId, TopologyVersion), Arc<ClusterMap>>,
}

impl Invariant for VersionsGrow {
    fn name(&self) -> &'static str {
        "versions grow"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for process in scene.seen {
            if let Some(complaint) = &process.plane.complaint {
                return Err(complaint.clone());
            }
            let Some((map, _)) = &process.plane.view else { continue };
            let known = self.maps.entry((map.cluster_id(), map.version())).or_insert_with(|| map.clone());
            if !Arc::ptr_eq(known, map) && **known != **map {
                return Err(format!("host {}: two maps of version {}", process.host, map.version()));
            }
        }
        Ok(())
    }
}
