// SPDX-License-Identifier: BSD-3-Clause
//! One error enum per group of operations of the handle.

use std::io;

use crate::{RootAddress, VoterId};

/// Why [`crate::Raft::start`] failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files cannot be used: unreadable, damaged in the middle, or of another cluster.
    #[error("the files of the roots cannot be used: {0}")]
    Storage(#[from] io::Error),
    /// The configuration contradicts itself.
    #[error("bad configuration of the roots: {0}")]
    Config(String),
    /// The library refused to start.
    #[error("{0}")]
    Fatal(String),
}

impl StartError {
    /// The files are there and cannot be used, now or later; to be told from a disk that is full.
    pub fn is_damage(&self) -> bool {
        matches!(self, StartError::Storage(error) if error.kind() == io::ErrorKind::InvalidData)
    }
}

/// Why a proposal was not confirmed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// Another root leads, perhaps this one. The command was not taken.
    #[error("this root does not lead")]
    NotLeader(Option<(VoterId, RootAddress)>),
    /// This root leads but has not heard from a majority lately. The command was not taken.
    #[error("no majority of the roots is reachable")]
    NoQuorum,
    /// The outcome is unknown: it may be committed later. Ask again with the same request id.
    #[error("it is not known whether the command was committed")]
    Unknown,
    /// This root has stopped; the process should end.
    #[error("this root has stopped: {0}")]
    Stopped(String),
}

/// Why a read barrier failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// No leader is known or reachable.
    #[error("no leader of the roots is reachable")]
    NoLeader,
    /// The leader could not reach a majority.
    #[error("no majority of the roots is reachable")]
    NoQuorum,
    /// The barrier was not reached in time.
    #[error("the roots did not answer in time")]
    Timeout,
    /// This root has stopped; the process should end.
    #[error("this root has stopped: {0}")]
    Stopped(String),
}

/// Why a change of the members did not happen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MembersError {
    /// Another root leads.
    #[error("this root does not lead")]
    NotLeader(Option<(VoterId, RootAddress)>),
    /// Not allowed at this moment (another change is under way) or not at all.
    #[error("{0}")]
    Refused(String),
    /// The outcome is unknown.
    #[error("it is not known whether the change was committed")]
    Unknown,
    /// This root has stopped; the process should end.
    #[error("this root has stopped: {0}")]
    Stopped(String),
}
