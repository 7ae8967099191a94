// SPDX-License-Identifier: BSD-3-Clause
//! Decoded maps, for agents that share a process: a machine that simulates thousands of nodes has no memory for as
//! many copies. A server's one agent has no use for it, and the default shares nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pando_topology::{ClusterId, ClusterMap, TopologyVersion};
use pando_wire::{MapUpdate, WireError};

#[derive(Debug, Default)]
struct Known {
    maps: BTreeMap<(ClusterId, TopologyVersion), Weak<ClusterMap>>,
    /// Whole copies that came last: agents that join go on from them at once, and nobody else may have them.
    copies: VecDeque<Arc<ClusterMap>>,
}

/// So many versions are remembered before those that nobody holds are dropped.
const KNOWN_MAX: usize = 256;
const COPIES_MAX: usize = 8;

/// See the head of this file. Clones share.
#[derive(Clone, Debug, Default)]
pub struct SharedMaps(Option<Arc<Mutex<Known>>>);

impl SharedMaps {
    /// For several agents of one process. They keep no map on disk.
    pub fn between_agents() -> Self {
        Self(Some(Arc::default()))
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.0.is_some()
    }

    /// The map to which the update leads; two of one cluster and version are the same.
    pub(crate) fn apply(&self, base: &ClusterMap, update: &MapUpdate) -> Result<Arc<ClusterMap>, WireError> {
        let Some(known) = &self.0 else { return update.apply(base).map(Arc::new) };
        let key = (base.cluster_id(), update.to);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = known.maps.get(&key).and_then(Weak::upgrade) {
            return Ok(map);
        }
        let map = Arc::new(update.apply(base)?);
        known.maps.insert(key, Arc::downgrade(&map));
        if update.from.is_none() {
            known.copies.push_back(map.clone());
            if known.copies.len() > COPIES_MAX {
                known.copies.pop_front();
            }
        }
        if known.maps.len() > KNOWN_MAX {
            known.maps.retain(|_, map| map.strong_count() > 0);
        }
        Ok(map)
    }
}
