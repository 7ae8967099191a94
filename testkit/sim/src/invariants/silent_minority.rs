// SPDX-License-Identifier: BSD-3-Clause
//! A read is not answered on a node that, for as long as the read took, reached no majority of the roots: neither
//! the present ones nor, while they are exchanged, the former ones; not even by way of others.

use std::collections::{BTreeMap, BTreeSet};

use pando_topology::{ClusterId, ClusterMap, NodeId};

use super::{Fact, Invariant, Scene};

/// See the head of this file.
#[derive(Default)]
pub struct SilentMinority {
    /// For each read: how often the network had changed when it began.
    open: BTreeMap<u64, u64>,
}

impl Invariant for SilentMinority {
    fn name(&self) -> &'static str {
        "a minority answers nothing"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for fact in scene.facts {
            match fact {
                Fact::ReadBegan { number, .. } => {
                    self.open.insert(*number, scene.network.changes());
                }
                Fact::ReadEnded { host, number, cluster, version } => {
                    let began = self.open.remove(number);
                    let (Some(cluster), Some(_)) = (cluster, version) else { continue };
                    if began == Some(scene.network.changes()) && !reaches_majority(scene, *host, cluster) {
                        return Err(format!("host {host} was answered, but reaches no majority of the roots"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn reaches_majority(scene: &Scene<'_>, host: usize, cluster: &ClusterId) -> bool {
    let views = || scene.seen.iter().filter_map(|process| Some((process.host, process.plane.view.as_ref()?)));
    let newest =
        views().map(|(_, (map, _))| map).filter(|map| map.cluster_id() == *cluster).max_by_key(|m| m.version());
    let Some(newest): Option<&std::sync::Arc<ClusterMap>> = newest else { return true };
    let mut reached = BTreeSet::from([host]);
    loop {
        let more = scene.seen.iter().map(|process| process.host).filter(|other| {
            !reached.contains(other) && reached.iter().any(|known| !scene.network.is_cut(*known, *other))
        });
        let more: Vec<usize> = more.collect();
        if more.is_empty() {
            break;
        }
        reached.extend(more);
    }
    let nodes: BTreeSet<NodeId> = views().filter(|(host, _)| reached.contains(host)).map(|(_, (_, me))| *me).collect();
    let majority =
        |voters: &BTreeMap<NodeId, u64>| voters.keys().filter(|id| nodes.contains(id)).count() * 2 > voters.len();
    majority(&newest.roots().voters) || newest.roots().previous.as_ref().is_some_and(majority)
}
