// SPDX-License-Identifier: BSD-3-Clause
//! The root's half of the topology feed: remembers the last changes, so that a subscriber that has
//! a recent version gets a delta and any other a full copy. Pure; `root_side` sends what it returns.

use std::collections::VecDeque;
use std::sync::Arc;

use pando_topology::{ClusterMap, Delta, TopologyVersion};
use pando_wire::messages::Message;

/// How many deltas are kept. A subscriber further behind has been away for long; a map costs less
/// than memory for the history of every cluster size.
const DELTAS_MAX: usize = 64;

/// The recent past of the topology.
#[derive(Default)]
pub(crate) struct Feed {
    map: Option<Arc<ClusterMap>>,
    deltas: VecDeque<Delta>,
}

impl Feed {
    /// Takes over the map after an entry was applied. Older or equal maps change nothing.
    pub fn publish(&mut self, map: Arc<ClusterMap>) {
        match &self.map {
            Some(old) if old.cluster_id() == map.cluster_id() => {
                if map.version() <= old.version() {
                    return;
                }
                self.deltas.push_back(old.diff(&map));
                if self.deltas.len() > DELTAS_MAX {
                    self.deltas.pop_front();
                }
            }
            _ => self.deltas.clear(),
        }
        self.map = Some(map);
    }

    /// What brings a subscriber that has `has` to the present: nothing, deltas, or a full copy.
    pub fn since(&self, has: Option<TopologyVersion>) -> Vec<Message> {
        let Some(map) = &self.map else { return Vec::new() };
        let full = || vec![Message::Full(map.clone())];
        let Some(has) = has else { return full() };
        if has >= map.version() {
            return Vec::new();
        }
        match self.deltas.iter().position(|delta| delta.from == has) {
            Some(first) => self.deltas.range(first..).cloned().map(Message::Delta).collect(),
            None => full(),
        }
    }
}
