// SPDX-License-Identifier: BSD-3-Clause
//! The types that openraft is instantiated with, and short names for its generic ones.
//!
//! Log entries carry opaque bytes: only `root_machine` knows that they are metaspace commands.

use std::fmt;

use bytes::Bytes;
use openraft::alias;
use openraft::impls::leader_id_std;
use pando_topology::NodeId;
use serde::{Deserialize, Serialize};

/// Identity of a member of the root group: random for each data folder, never used again, so that a
/// root that lost its files cannot vote twice.
pub type VoterId = u64;

/// Where a member of the root group can be reached.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct RootAddress {
    /// The node.
    pub node: NodeId,
    /// Host or address.
    pub host: String,
    /// Its cluster port.
    pub port: u16,
}

impl Default for RootAddress {
    fn default() -> RootAddress {
        RootAddress { node: NodeId::from_bytes([0; 20]), host: String::new(), port: 0 }
    }
}

/// A command (names and values of its fields, in turn) or an outcome, in encoded form.
#[derive(Clone, Default, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Payload(pub Vec<Bytes>);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.iter().map(Bytes::len).sum::<usize>())
    }
}

/// Tokio, with random numbers from a seed.
pub type SeededRuntime = openraft::rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>;

openraft::declare_raft_types!(
    /// openraft's type parameters.
    pub Types:
        D = Payload,
        R = Payload,
        NodeId = VoterId,
        Node = RootAddress,
        Term = u64,
        // One leader per term: with the default several leaders could share a term, and a term
        // would be no fencing token.
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        // Election timeouts come from a seed that `Core::start` draws from `Env`, so that a simulated
        // run can be repeated.
        AsyncRuntime = SeededRuntime,
);

pub type LogId = alias::LogIdOf<Types>;
pub type Vote = alias::VoteOf<Types>;
pub type Entry = alias::EntryOf<Types>;
pub type Membership = openraft::Membership<VoterId, RootAddress>;
pub type StoredMembership = alias::StoredMembershipOf<Types>;
pub type SnapshotMeta = alias::SnapshotMetaOf<Types>;
pub type Snapshot = alias::SnapshotOf<Types, Bytes>;
pub type CommittedLeaderId = alias::CommittedLeaderIdOf<Types>;

/// The log position of `index` in `term`.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(term), index }
}

/// The term in which an entry was proposed.
pub fn term_of(id: &LogId) -> u64 {
    id.leader_id.term
}
