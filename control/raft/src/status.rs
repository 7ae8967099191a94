// SPDX-License-Identifier: BSD-3-Clause
//! What a root can tell about its group at a glance. For display and for deciding what to try; a
//! read barrier, not this, says whether an answer is current.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{RaftMetrics, ServerState};

use crate::types::{RootAddress, Types, VoterId};

/// The group as this root sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// This root.
    pub voter: VoterId,
    /// Who leads, as far as known.
    pub leader: Option<VoterId>,
    /// This root leads, or did when it last heard of it.
    pub is_leader: bool,
    /// The Raft term.
    pub term: u64,
    /// Index of the last entry applied, 0 for none.
    pub last_applied: u64,
    /// Index of the last entry in the log, 0 for none.
    pub last_log: u64,
    /// Up to where the snapshot on disk goes, 0 for none.
    pub snapshot: u64,
    /// Members with a vote. While two sets overlap (see `is_joint`): all of both.
    pub voters: BTreeSet<VoterId>,
    /// The voters when the change under way is finished; equal to `voters` if there is none.
    pub next_voters: BTreeSet<VoterId>,
    /// A change of voters is half done.
    pub is_joint: bool,
    /// Index of the log entry that the members are as of.
    pub members_since: u64,
    /// Members without a vote.
    pub learners: BTreeSet<VoterId>,
    /// All members.
    pub addresses: BTreeMap<VoterId, RootAddress>,
    /// On the leader: when a majority last confirmed it, on the clock of `Clock::now_ms`.
    pub quorum_acked_at_ms: Option<u64>,
    /// The root has stopped for this reason; the process should end.
    pub stopped: Option<String>,
}

impl Status {
    /// The leader and where it is.
    pub fn leader_address(&self) -> Option<(VoterId, RootAddress)> {
        let leader = self.leader?;
        Some((leader, self.addresses.get(&leader)?.clone()))
    }

    pub(crate) fn of(metrics: &RaftMetrics<Types>, acked_at_ms: Option<u64>) -> Status {
        let config = metrics.membership_config.membership();
        let sets = config.get_joint_config();
        let is_leader = metrics.state == ServerState::Leader;
        Status {
            voter: metrics.id,
            leader: metrics.current_leader,
            is_leader,
            term: metrics.current_term,
            last_applied: metrics.last_applied.map_or(0, |id| id.index),
            last_log: metrics.last_log_index.unwrap_or(0),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            voters: config.voter_ids().collect(),
            next_voters: sets.last().cloned().unwrap_or_default(),
            is_joint: sets.len() > 1,
            members_since: metrics.membership_config.log_id().as_ref().map_or(0, |id| id.index),
            learners: config.learner_ids().collect(),
            addresses: config.nodes().map(|(id, address)| (*id, address.clone())).collect(),
            quorum_acked_at_ms: acked_at_ms.filter(|_| is_leader),
            stopped: metrics.running_state.as_ref().err().map(ToString::to_string),
        }
    }
}
