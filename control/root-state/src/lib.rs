// SPDX-License-Identifier: BSD-3-Clause
//! The replicated state machine of the roots: a command goes in with its log index, an outcome and
//! the change of the cluster map come out. Deterministic and pure: equal logs give equal states on
//! every root, and there is no clock, socket or randomness here (ids are handed in).
//!
//! Not here: how commands are agreed on (control/raft), when they are proposed (control/failover for
//! the leader's own, control/agent for those of clients), and who may write (control/liveness).
//! The safety of writes rests on three rules that this crate keeps:
//!
//! 1. A shard has one primary at a time, and each change of it starts a new *reign* (the log index
//!    of the change). Promote and ConfirmPrimary carry the epoch that they expect and are refused
//!    when another change came first.
//! 2. Only a replica whose promise the reigning primary is known to need may be promoted
//!    (`Node::promotable_since`), or any replica once that reign is known to be over with all before it.
//! 3. Slots leave a primary only with its consent, or when an operator forgets a failed one.

mod codec;
mod command;
mod draft;
mod evidence;
mod history;
mod observe;
mod replicas;
mod roots;
mod rules;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

pub use codec::{DecodeError, decode_fields, encode_fields, from_argv, to_argv};
pub use command::{Command, JoinShard, NodeInfo, Outcome, PromoteReason, Proposal, RequestId};
pub use evidence::{CANDIDATES_MAX, Decision, NOTE_BYTES_MAX, Opinion, SeenCandidate, Stamp, Why, WhyNot};
pub use history::{Event, History, Record, Subject, Topic};
pub use roots::{Choice, ROOTS_MAX, Reason, RootStep, choose_voters, is_root_count, next_root_step};
pub use snapshot::SnapshotError;
pub use state::{Applied, REQUESTS_MAX, RootState, TOMBSTONES_MAX};
