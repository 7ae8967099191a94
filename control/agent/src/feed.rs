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

#[cfg(test)]
mod tests {
    use super::*;
    use pando_topology::{ClusterId, MapParts};

    fn map(version: u64) -> Arc<ClusterMap> {
        let empty = ClusterMap::empty(ClusterId::from_bytes([1; 20]));
        let parts = MapParts { version: TopologyVersion(version), current_epoch: version, ..empty.parts().clone() };
        Arc::new(ClusterMap::new(parts).expect("valid"))
    }

    /// What a subscriber gets, as text: `full 7`, or the deltas `3-5 5-7`.
    fn check(feed: &Feed, has: Option<u64>, expected: &str) {
        let messages = feed.since(has.map(TopologyVersion));
        let texts: Vec<String> = messages
            .iter()
            .map(|message| match message {
                Message::Full(map) => format!("full {}", map.version()),
                Message::Delta(delta) => format!("{}-{}", delta.from, delta.to),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts.join(" "), expected, "{has:?}");
    }

    #[test]
    fn subscribers_get_deltas_or_a_full_copy() {
        let mut feed = Feed::default();
        check(&feed, None, "");
        for version in [3, 5, 5, 4, 7] {
            feed.publish(map(version));
        }
        check(&feed, None, "full 7");
        check(&feed, Some(3), "3-5 5-7");
        check(&feed, Some(5), "5-7");
        check(&feed, Some(7), "");
        check(&feed, Some(9), "");
        check(&feed, Some(4), "full 7");
        for version in 8..100 {
            feed.publish(map(version));
        }
        check(&feed, Some(3), "full 99");
    }
}
