// SPDX-License-Identifier: BSD-3-Clause
//! The policy of the leader: from the map and what the roots say, the commands that repair the
//! cluster. Pure; called by the agent of the leader after each change of the evidence. Safety does
//! not depend on it (control/liveness, control/root-state): a wrong decision costs time, not data.
//!
//! ```text
//!   quorum says failed ──► MarkFailed        primary failed, candidate free ──► Promote
//!   quorum says alive  ──► ClearFailed       primary is a new process       ──► Promote, or
//!   anything less      ──► nothing                                              ConfirmPrimary
//!                                            replicas gone for a while      ──► MoveReplica
//! ```
//! A primary that restarts gets its shard back only if no replica has the data: the most advanced copy wins. While
//! a replica cannot be asked (`abandoned`), the caller waits with the confirmation, within bounds.
//! Not here: when to ask again (after each entry and each report) and how voters are chosen
//! (`pando_root_state::next_root_step`).

mod decide;
mod orphans;
mod rank;
#[cfg(test)]
mod tests;
mod why;

pub use decide::{Decider, abandoned};
pub use orphans::MIGRATION_DELAY_MS;
pub use rank::{Candidate, Policy, Unfit, candidates, copies, rank, unheard};
pub use why::{is_same_refusal, opinions, outlook, seen_candidates, unrepaired, why_nodes, why_shard, witnesses};
