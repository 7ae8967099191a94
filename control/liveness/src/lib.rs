// SPDX-License-Identifier: BSD-3-Clause
//! Who may write: promises between nodes, and what the roots can say about who is alive. Pure: the
//! time is handed in (`u64` milliseconds of a clock that never goes back; each process has its own,
//! only their rates matter), messages are values, nothing is sent.
//!
//! ```text
//!            Heartbeat{claim}                          PrimaryBeat
//!   primary ──────────────────► every root    primary ─────────────► every replica
//!   PrimaryLease ◄───────────── RootLedger    PrimaryLease ◄──────── ReplicaPromise
//!            Ack{granted}                              BeatAck{granted}
//! ```
//! A primary may write while it holds promises from a quorum of the roots (A), or from every replica
//! that could take its place (B). The holder counts from sending, the giver from receipt, so the
//! giver's time always ends last; the holder also counts a little less, so that clocks whose rates differ by up to one in a
//! hundred keep that order.
//!
//! Why two nodes never hold a valid lease for one shard. A *reign* is the log index at which a node
//! (one process of it) became primary; it becomes *active* when it first holds (A). Claim: when a reign
//! becomes active, all earlier ones are over for good.
//!
//! - (A) of an earlier reign is over: each root promises a shard to one process at a time, quorums
//!   share a root, and a root grants only the reign that its own map shows. Roots of the new quorum
//!   know the new reign, and a restarted root grants nothing before it has caught up, nor what its
//!   predecessor may have promised to somebody else (see `ledger`).
//! - (B) of an earlier reign is over: the new primary is one of the replicas whose promise that
//!   reign needs, because a promotion demands that a primary with an active lease has told it so
//!   (`Told`). It activates only when its own promises have run out, never promises to an older
//!   reign again, and has its map on disk before it activates, so that a restart does not forget.
//! - A node that has become active counts as told by itself: earlier reigns are over, later ones find it
//!   in their maps from the start. So a promotion leaves the former primary promotable (unless it has failed).
//! - A replica that nobody told may be promoted only if a newer process of the present primary vouches: the
//!   reign in the map ended with the process before it, and all earlier ones, active or not, needed the
//!   promise of this node, which it does not give again (`PrimaryLease::vouches`). Or if the process that reigns is
//!   proven dead and had said that it was active (`NodeStatus::active`): so all before it were over already.
//! - The set of (B) shrinks only by committed entries after which the replica cannot be promoted until
//!   it is told anew (`Node::promotable_since`).
//! - Voters are exchanged through a phase in which both sets must agree (`RootSet::previous`), and a
//!   root refuses claimants that do not know the present set.
//!
//! Not here: sockets and timers (control/agent), verdicts turned into commands (control/failover).
//! `model` (tests) runs all of it under delays, losses, duplicates, crashes and shifted clocks.

mod evidence;
mod lease;
mod ledger;
mod messages;
#[cfg(test)]
mod model;
mod replica;

pub use evidence::{Evidence, Seen, Taken, Verdict};
pub use lease::{Lease, PrimaryLease, UNLIMITED};
pub use ledger::RootLedger;
pub use messages::{
    Ack, BeatAck, Claim, Grant, Heartbeat, LedgerNote, Lineage, NodeEvidence, NodeState, NodeStatus, NotedPromise,
    PrimaryBeat, ProofOfDeath, RootReport, Told,
};
pub use replica::ReplicaPromise;
