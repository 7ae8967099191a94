// SPDX-License-Identifier: BSD-3-Clause
//! Which nodes should be voters of the roots, and the safe next step towards that. Pure functions
//! that the leader asks; the Raft adapter performs what they answer.
//!
//! ```text
//!   1 voter ──SetRoots{3}──► exchanging (quorum = majority of 1 AND of 3) ──SettleRoots──► 3 voters
//! ```
//! The exchange must last until no lease stands on the previous voters alone: a majority of them
//! has applied the `SetRoots` (from then on they renew nobody who does not know it), and one lease
//! has passed since. The Raft group exchanges its voters between the two, so that whoever leads it
//! afterwards knows of the first without asking the previous voters, who may be dead.

use pando_topology::{ClusterMap, NodeId, TopologyVersion};
use std::collections::BTreeMap;

/// The voters that there should be: the present ones as long as they live, replaced and completed
/// by the live root-capable nodes that joined first. One voter until `root_count` of them exist, then
/// exactly `root_count`; it shrinks (to an odd number) only when a voter was forgotten.
pub fn desired_voters(map: &ClusterMap, root_count: usize, is_live: impl Fn(&NodeId) -> bool) -> BTreeMap<NodeId, u64> {
    let current = &map.roots().voters;
    let mut capable: Vec<_> = map.nodes().values().filter(|n| n.is_root_capable()).collect();
    // Live voters first: a root that comes back does not push out the one that took its place.
    capable.sort_by_key(|n| (!(current.contains_key(&n.id) && is_live(&n.id)), n.join_index, n.id));
    let live: Vec<_> = capable.iter().filter(|n| is_live(&n.id)).collect();
    let chosen =
        |count: usize| live.iter().take(count).filter_map(|n| Some((n.id, n.root_id?))).collect::<BTreeMap<_, _>>();
    if root_count > 0 && live.len() >= root_count {
        return chosen(root_count);
    }
    let forgotten = current.keys().any(|id| map.node(id).is_none_or(|n| !n.is_root_capable()));
    if current.is_empty() {
        return chosen(1);
    }
    if forgotten && !live.is_empty() {
        // A forgotten voter only costs: the largest odd number of live ones is at least as available.
        let odd = (live.len() - 1) | 1;
        return chosen(if odd > live.len() { odd - 2 } else { odd }.min(current.len()));
    }
    current.clone()
}

/// What the leader should propose about the voters.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum RootStep {
    /// Nothing to do, or nothing yet.
    Stay,
    /// Propose `Command::SetRoots` with these voters (and change the Raft membership to them, in one
    /// joint change, after it is committed).
    Exchange(BTreeMap<NodeId, u64>),
    /// Propose `Command::SettleRoots`.
    Settle(TopologyVersion),
}

/// The next step towards `desired`. `applied_for_one_lease` answers whether a root is known to have
/// applied a version at least one lease ago (or whether so much is known of a majority of them).
pub fn next_root_step(
    map: &ClusterMap,
    desired: &BTreeMap<NodeId, u64>,
    applied_for_one_lease: impl Fn(&NodeId, TopologyVersion) -> bool,
) -> RootStep {
    let roots = map.roots();
    match &roots.previous {
        Some(previous) => {
            let done = previous.keys().filter(|id| applied_for_one_lease(id, roots.since)).count();
            if done * 2 > previous.len() { RootStep::Settle(roots.since) } else { RootStep::Stay }
        }
        None if desired.is_empty() || *desired == roots.voters => RootStep::Stay,
        None => RootStep::Exchange(desired.clone()),
    }
}
