// SPDX-License-Identifier: BSD-3-Clause
//! How the hosts of a simulation become one cluster, and when it is whole.

use pando_agent::Request;
use pando_topology::{ClusterId, SLOT_COUNT, Slot, SlotSet};

use crate::invariants;
use crate::world::{PORT, World};

impl World {
    /// Waits for all agents, then makes one cluster of them: the first `primaries` hosts own the
    /// slots, the others follow them in turn.
    pub fn form(&mut self, primaries: usize) {
        self.form_unsettled(primaries);
        let formed = self.until(20_000, World::has_converged);
        self.assert_safe();
        assert!(formed, "seed {}: the cluster did not form: {}", self.seed, self.describe());
    }

    /// As `form`, but does not wait until the roots are settled.
    pub fn form_unsettled(&mut self, primaries: usize) {
        let count = self.len();
        let started = self.until(5_000, |w| (0..count).all(|host| w.handle(host).is_some()));
        self.assert_safe();
        assert!(started, "seed {}: not all agents started", self.seed);
        for host in 0..primaries {
            self.must(host, Request::AddSlots(share(host, primaries)));
        }
        for host in 1..count {
            let target = self.addr(0).to_string();
            self.must(host, Request::Meet { host: target, port: PORT, cluster_port: 0 });
        }
        for host in primaries..count {
            let primary = self.node_id(host % primaries).expect("the primary has a view");
            self.must(host, Request::Replicate(primary));
        }
    }

    /// The cluster that owns all slots, if one does by anybody's view.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.newest_map().map(|map| map.cluster_id())
    }

    /// See `invariants::missing`.
    pub fn has_converged(&self) -> bool {
        invariants::missing(self).is_none()
    }

    /// One line per host, for failures.
    pub fn describe(&self) -> String {
        let mut text = format!("at {} ms, missing: {}", self.now_ms(), invariants::missing(self).unwrap_or_default());
        for host in &self.hosts {
            let state = host.plane.state();
            let info = host.handle().map(|handle| handle.info()).unwrap_or_default();
            let map = state.view.as_ref().map(|(map, _)| map);
            let short = |id: &dyn std::fmt::Display| id.to_string()[..6].to_owned();
            let failed: Vec<String> = map.map_or_else(Vec::new, |map| {
                map.nodes().values().filter(|node| node.failed).map(|node| short(&node.id)).collect()
            });
            let shards: Vec<_> = map.map_or_else(Vec::new, |map| {
                map.shards()
                    .values()
                    .map(|s| {
                        (
                            short(&s.primary),
                            s.epoch,
                            s.replicas.iter().map(|r| short(r)).collect::<Vec<_>>(),
                            s.slots.len(),
                        )
                    })
                    .collect()
            });
            let roots: Vec<String> =
                map.map_or_else(Vec::new, |map| map.roots().voters.keys().map(|id| short(id)).collect());
            let previous: Vec<String> = map
                .map_or_else(Vec::new, |map| map.roots().previous.iter().flatten().map(|(id, _)| short(id)).collect());
            text.push_str(&format!(
                "\n  n{} runs={} paused={} exit={:?} me={:?} cluster={:?} version={:?} nodes={:?} failed={failed:?} roots={roots:?} previous={previous:?} ok={} lease={} leader={:?} term={} leads={} applied={} quorum={:?} at={} offset={} link={} synced={} shards={shards:?}",
                host.id,
                host.has_process(),
                host.is_paused(),
                host.exit(),
                state.view.as_ref().map(|(_, me)| short(me)),
                map.map(|map| short(&map.cluster_id())),
                map.map(|map| map.version().get()),
                map.map(|map| map.nodes().len()),
                state.cluster_ok,
                state.lease_until_ms as i128 - i128::from(host.now_ms()),
                info.leader.map(|id| short(&id)),
                info.term,
                info.is_leader,
                info.applied,
                info.quorum_reason,
                map.map_or_else(String::new, |map| {
                    let at: Vec<String> =
                        map.nodes().values().map(|n| format!("{}@{}:{}", short(&n.id), n.host, n.port)).collect();
                    format!("{}:{} knows {}", host.config.host, host.config.port, at.join(" "))
                }),
                state.offset,
                state.link_up,
                state.has_data(),
            ));
        }
        text
    }
}

/// The slots of one of `count` primaries.
pub fn share(index: usize, count: usize) -> SlotSet {
    let mut slots = SlotSet::new();
    for slot in index * SLOT_COUNT / count..(index + 1) * SLOT_COUNT / count {
        slots.insert(Slot::new(slot as u16).expect("below the count"));
    }
    slots
}
