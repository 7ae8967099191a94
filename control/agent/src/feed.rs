// SPDX-License-Identifier: BSD-3-Clause
//! The root's half of the topology feed: remembers the last maps, so that a subscriber that has a recent
//! version gets what changed and any other a whole copy. Each update is coded once, for all who get it.
//! Pure; `root_side` sends what it returns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pando_topology::{Change, ClusterMap, TopologyVersion};
use pando_wire::MapUpdate;

/// How many versions are kept; they share what is equal. A subscriber further behind has been away for long.
const PAST_MAX: usize = 256;

/// What a map brought.
pub(crate) enum News {
    /// It is not newer.
    Nothing,
    /// The first map, or the one of another cluster.
    Everything,
    /// What is different from the one before, and whether the roots are.
    Changes(Vec<Change>, bool),
}

/// The recent past of the topology.
#[derive(Default)]
pub(crate) struct Feed {
    map: Option<Arc<ClusterMap>>,
    /// Maps before it, oldest first.
    past: VecDeque<Arc<ClusterMap>>,
    /// Updates that lead to the present map: by the version where they start, and whether they are exact.
    ready: BTreeMap<(TopologyVersion, bool), MapUpdate>,
}

impl Feed {
    /// Takes over the map after an entry was applied.
    pub fn publish(&mut self, map: Arc<ClusterMap>) -> News {
        let news = match self.map.take() {
            Some(old) if old.cluster_id() == map.cluster_id() => {
                if map.version() <= old.version() {
                    self.map = Some(old);
                    return News::Nothing;
                }
                let (changes, is_about_roots) = (old.diff(&map).changes, old.roots() != map.roots());
                self.past.push_back(old);
                if self.past.len() > PAST_MAX {
                    self.past.pop_front();
                }
                News::Changes(changes, is_about_roots)
            }
            _ => {
                self.past.clear();
                News::Everything
            }
        };
        self.ready.clear();
        self.map = Some(map);
        news
    }

    /// What brings a subscriber that has `has` (zero: nothing) to the present; none if it is there.
    pub fn update_from(&mut self, has: TopologyVersion) -> Option<MapUpdate> {
        let map = self.map.as_ref()?;
        if has >= map.version() {
            return None;
        }
        // A version that was never seen here, because several entries were applied together, is served from
        // the one before it.
        let at = self.past.partition_point(|past| past.version() <= has);
        let base = at.checked_sub(1).and_then(|at| self.past.get(at)).filter(|_| has > TopologyVersion::ZERO);
        let key = base.map_or((TopologyVersion::ZERO, true), |base| (base.version(), base.version() == has));
        if let Some(ready) = self.ready.get(&key) {
            return Some(ready.clone());
        }
        let update = match base {
            Some(base) => MapUpdate::between(base, map, key.1),
            None => MapUpdate::whole(map),
        };
        // Coding fails for nothing that a map can be; a subscriber without an answer asks again.
        let update = update.inspect_err(|error| tracing::error!(%error, "the topology cannot be coded")).ok()?;
        self.ready.insert(key, update.clone());
        Some(update)
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

    /// What a subscriber gets, as text: `whole 7`, `3-7`, or `3..7` for an update from a version before its own.
    fn check(feed: &mut Feed, has: u64, expected: &str) {
        let update = feed.update_from(TopologyVersion(has));
        let text = update.as_ref().map_or(String::new(), |update| match update.from {
            None => format!("whole {}", update.to),
            Some(from) if update.is_exact => format!("{from}-{}", update.to),
            Some(from) => format!("{from}..{}", update.to),
        });
        assert_eq!(text, expected, "{has:?}");
        if let Some(update) = update {
            let reached = update.apply(&map(has)).expect("it fits");
            assert_eq!(Some(&reached), feed.map.as_deref());
        }
    }

    #[test]
    fn subscribers_get_changes_or_a_whole_copy() {
        let mut feed = Feed::default();
        check(&mut feed, 0, "");
        for version in [3, 5, 5, 4, 7] {
            feed.publish(map(version));
        }
        check(&mut feed, 0, "whole 7");
        check(&mut feed, 3, "3-7");
        check(&mut feed, 5, "5-7");
        check(&mut feed, 7, "");
        check(&mut feed, 9, "");
        check(&mut feed, 4, "3..7");
        check(&mut feed, 2, "whole 7");
        for version in 8..300 {
            feed.publish(map(version));
        }
        check(&mut feed, 3, "whole 299");
        check(&mut feed, 290, "290-299");
    }
}
