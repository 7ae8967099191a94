// SPDX-License-Identifier: BSD-3-Clause
//! The frames between roots: their kinds and bodies. Bodies are MessagePack with named fields.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use pando_wire::{Kind, kinds};
use serde::{Deserialize, Serialize};

use crate::VoterId;
use crate::types::{Types, Vote};

pub const APPEND: Kind = kinds::RAFT_FIRST;
pub const VOTE: Kind = kinds::RAFT_FIRST + 1;
pub const PRE_VOTE: Kind = kinds::RAFT_FIRST + 2;
pub const TRANSFER: Kind = kinds::RAFT_FIRST + 3;
pub const SNAPSHOT: Kind = kinds::RAFT_FIRST + 4;
pub const BARRIER: Kind = kinds::RAFT_FIRST + 5;

/// Every request names the member that it is for: a node id alone does not change when a root
/// loses its files and starts again as a new member.
#[derive(Serialize, Deserialize)]
pub struct For<T> {
    pub to: VoterId,
    pub body: T,
}

/// What a request's reply says when the member did what it could: the library's answer, or that
/// the library has stopped.
#[derive(Serialize, Deserialize)]
pub enum Answer<T> {
    Done(T),
    Stopped(String),
}

pub type Append = AppendEntriesRequest<Types>;
pub type Appended = AppendEntriesResponse<Types>;
pub type AskVote = VoteRequest<Types>;
pub type Voted = VoteResponse<Types>;
pub type Transfer = TransferLeaderRequest<Types>;
pub type Transferred = TransferLeaderResponse<Types>;

/// One piece of a snapshot image. Pieces come in order; the one that completes it installs it.
#[derive(Serialize, Deserialize)]
pub struct Piece {
    pub vote: Vote,
    /// Tells transfers apart: a piece of another one starts afresh.
    pub transfer: u64,
    pub offset: u64,
    pub total: u64,
    pub bytes: Bytes,
}

/// Answer to [`Piece`].
#[derive(Serialize, Deserialize)]
pub enum PieceTaken {
    /// Send the next one.
    More,
    /// It was the last one, and this is the library's answer.
    Installed(SnapshotResponse<Types>),
    /// The pieces do not fit together: start again.
    Restart,
}

/// Asks the leader up to where a reader must have applied.
#[derive(Serialize, Deserialize)]
pub struct AskBarrier {}

/// Answer to [`AskBarrier`].
#[derive(Serialize, Deserialize)]
pub enum Barrier {
    /// Up to this index.
    Index(u64),
    /// Not the leader.
    NotLeader,
    /// The leader, but without a majority.
    NoQuorum,
}
