// SPDX-License-Identifier: BSD-3-Clause
//! Changes of the root group: learners, voters, leadership. All but the transfer only work on the
//! leader. Who should be a member is decided by control/agent.

use std::collections::{BTreeMap, BTreeSet};

use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant};
use pando_topology::NodeId;
use tokio::sync::watch;

use crate::error::{MembersError, ReadError};
use crate::handle::{Core, Raft, leader_of, voter_of_node};
use crate::status::Status;
use crate::types::{RootAddress, Types, VoterId};

type WriteError = RaftError<Types, ClientWriteError<Types>>;

impl Raft {
    /// Adds a member without a vote and waits until it has caught up. Its process must be running
    /// ([`Raft::start`], [`Raft::voter`]) and its listener must serve [`Raft::handler`].
    pub async fn add_learner(&self, voter: VoterId, address: RootAddress) -> Result<(), MembersError> {
        let core = self.settled().await?;
        done(core.within(core.raft.add_learner(voter, address, true)).await)
    }

    /// Makes exactly these members the voters, in one joint change whatever the difference; members
    /// that lose their vote leave. They must have been added as learners. Finishes a change that an
    /// earlier leader left half done.
    pub async fn change_voters(&self, voters: BTreeSet<VoterId>) -> Result<(), MembersError> {
        let core = self.settled().await?;
        done(core.within(core.raft.change_membership(voters, false)).await)
    }

    /// As [`Raft::change_voters`], but members that lose their vote stay without one: they still hear
    /// what is committed, so that they can keep promises that rest on their former vote. Remove them
    /// with [`Raft::remove_learners`].
    pub async fn exchange_voters(&self, voters: BTreeSet<VoterId>) -> Result<(), MembersError> {
        let core = self.settled().await?;
        done(core.within(core.raft.change_membership(voters, true)).await)
    }

    /// Finishes a change of voters that an earlier leader left half done; nothing if there is none.
    pub async fn finish_change(&self) -> Result<(), MembersError> {
        let status = self.status();
        match status.is_joint {
            true => self.change_voters(status.next_voters).await,
            false => Ok(()),
        }
    }

    /// Removes members without a vote.
    pub async fn remove_learners(&self, learners: BTreeSet<VoterId>) -> Result<(), MembersError> {
        let core = self.settled().await?;
        done(core.within(core.raft.change_membership(ChangeMembers::RemoveNodes(learners), false)).await)
    }

    /// Notes that a member has moved.
    pub async fn set_address(&self, voter: VoterId, address: RootAddress) -> Result<(), MembersError> {
        let core = self.settled().await?;
        let change = ChangeMembers::SetNodes(BTreeMap::from([(voter, address)]));
        done(core.within(core.raft.change_membership(change, true)).await)
    }

    /// Hands leadership to one of `among` (any other voter, if there is no such list), and waits until
    /// another root leads: the one that has most of the log of those that have answered lately. Nothing if this
    /// root does not lead; an error if nobody can take over.
    pub async fn transfer_leader(&self, among: Option<&BTreeSet<VoterId>>) -> Result<(), MembersError> {
        use openraft::async_runtime::WatchReceiver;

        let core = self.core();
        let metrics = core.raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(core.voter) {
            return Ok(());
        }
        let (matched, heard) = (metrics.replication.unwrap_or_default(), metrics.heartbeat.unwrap_or_default());
        let voters = self.status().next_voters;
        let lately = std::time::Duration::from_millis(core.config.election_max_ms);
        let rank = |id: &VoterId| {
            let is_there = heard.get(id).and_then(|at| at.as_ref()).is_some_and(|at| at.elapsed() < lately);
            (is_there, matched.get(id).cloned().flatten())
        };
        let is_meant = |id: &&VoterId| **id != core.voter && among.is_none_or(|among| among.contains(id));
        let Some(target) = voters.iter().filter(is_meant).max_by_key(|id| rank(id)).copied() else {
            return Err(MembersError::Refused("there is no other voter".to_owned()));
        };
        let trigger = core.raft.trigger();
        trigger.transfer_leader(target).await.map_err(|e| MembersError::Stopped(e.to_string()))?;
        let mut status = core.status();
        let moved = status.wait_for(|s| s.stopped.is_some() || s.leader.is_some_and(|leader| leader != core.voter));
        match core.within(moved).await {
            Ok(Ok(status)) if status.stopped.is_none() => Ok(()),
            Ok(_) => Err(MembersError::Stopped("stopped during a transfer".to_owned())),
            Err(_) => Err(MembersError::Unknown),
        }
    }

    /// A new leader may change the members once its first entry is committed: wait for that.
    async fn settled(&self) -> Result<&Core, MembersError> {
        let core = self.core();
        if core.status().borrow().is_leader {
            core.read_barrier().await.map_err(|e| match e {
                ReadError::Stopped(text) => MembersError::Stopped(text),
                e => MembersError::Refused(e.to_string()),
            })?;
        }
        Ok(core)
    }

    /// The member that runs on this node, if any.
    pub fn voter_of_node(&self, node: &NodeId) -> Option<VoterId> {
        voter_of_node(&self.status(), node)
    }
}

fn done<T>(result: Result<Result<T, WriteError>, tokio::time::error::Elapsed>) -> Result<(), MembersError> {
    match result {
        Err(_) => Err(MembersError::Unknown),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::Fatal(e))) => Err(MembersError::Stopped(e.to_string())),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(e)))) => {
            Err(MembersError::NotLeader(leader_of(e)))
        }
        Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => Err(MembersError::Unknown),
        Ok(Err(RaftError::APIError(e))) => Err(MembersError::Refused(e.to_string())),
    }
}

/// Makes sure that whoever waits for the end of a root hears of it.
pub(crate) fn note_end(status: &watch::Sender<Status>) {
    status.send_if_modified(|status| {
        let is_new = status.stopped.is_none();
        status.stopped.get_or_insert_with(|| "stopped".to_owned());
        is_new
    });
}
