// SPDX-License-Identifier: BSD-3-Clause
//! Why something was decided: who decided it and when, what each root said, which replicas there were
//! and what spoke against each. It travels with the command in the log and stays in the history; no
//! rule looks at it. `control/failover` fills it in, [`crate::History`] keeps it.

use crate::command::Command;
use pando_topology::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// No record lists more replicas than these; of those that follow there is only the number.
pub const CANDIDATES_MAX: usize = 16;
/// Longest free text of a record, in bytes.
pub const NOTE_BYTES_MAX: usize = 512;

/// Who put an entry into the log, and when by the clock on its wall. The leading root sets it; for people only.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The leading root; none in entries of tests.
    pub root: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

/// What one root said of a node when something was decided.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum Opinion {
    /// Nothing: the leader had no fresh report of this root.
    Missing,
    /// It could not tell: it had just started, or the node is new.
    Unknown,
    /// The node had its promise not to be counted as failed, for so many milliseconds.
    Alive(u64),
    /// The promise ran out so many milliseconds ago.
    Silent(u64),
    /// The node's process is proven dead: its port refused.
    Dead,
    /// The node runs as another process than the one in question.
    Restarted(Incarnation),
}

impl Opinion {
    /// The root counts the node as failed.
    pub fn is_failed(&self) -> bool {
        matches!(self, Opinion::Silent(_) | Opinion::Dead)
    }
}

impl fmt::Display for Opinion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opinion::Missing => f.write_str("has not reported"),
            Opinion::Unknown => f.write_str("cannot tell yet"),
            Opinion::Alive(left_ms) => write!(f, "counts it as alive for {left_ms} ms more"),
            Opinion::Silent(for_ms) => write!(f, "has counted it as failed for {for_ms} ms: no heartbeat"),
            Opinion::Dead => f.write_str("has proof that its process is gone"),
            Opinion::Restarted(incarnation) => write!(f, "hears it as a new process ({incarnation})"),
        }
    }
}

/// What speaks against a replica. All but `Outranked` mean that it may not be promoted now.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum WhyNot {
    /// No root has heard of it.
    Unheard,
    /// The roots count it as failed.
    Failed,
    /// The roots do not agree that it lives.
    NotAgreed,
    /// `cluster-replica-no-failover`.
    NoFailover,
    /// `replica-priority 0`.
    PriorityZero,
    /// It has no complete copy of the data.
    NotSynced,
    /// Its link to the primary was down for longer than `cluster-replica-validity-factor` allows.
    Stale,
    /// Its present process has not registered yet.
    Restarted,
    /// No primary has told it that it needs its promise: it may lack acknowledged writes.
    NotTold,
    /// Its promise to the primary lasts so many milliseconds more, and the primary may be alive.
    Bound(u64),
    /// Another one is better, by this criterion.
    Outranked(String),
    /// Anything else, in words.
    Other(String),
}

impl WhyNot {
    /// The same reason, whatever the numbers in it.
    pub fn is_like(&self, other: &WhyNot) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::Unheard => f.write_str("no root has heard of it"),
            WhyNot::Failed => f.write_str("it counts as failed itself"),
            WhyNot::NotAgreed => f.write_str("no majority of the roots counts it as alive"),
            WhyNot::NoFailover => f.write_str("cluster-replica-no-failover is set"),
            WhyNot::PriorityZero => f.write_str("replica-priority is 0"),
            WhyNot::NotSynced => f.write_str("it has no complete copy of the data"),
            WhyNot::Stale => f.write_str("its data are older than cluster-replica-validity-factor allows"),
            WhyNot::Restarted => f.write_str("it has been restarted and is not registered yet"),
            WhyNot::NotTold => f.write_str("no primary has counted on its promise: it may lack acknowledged writes"),
            WhyNot::Bound(left_ms) => write!(f, "its promise to the primary lasts {left_ms} ms more"),
            WhyNot::Outranked(by) => write!(f, "another one was better: {by}"),
            WhyNot::Other(text) => f.write_str(text),
        }
    }
}

/// A replica as the leader saw it, best first in a list.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct SeenCandidate {
    /// The replica.
    pub node: NodeId,
    /// Its replication offset.
    pub offset: u64,
    /// Its zone, or empty.
    pub zone: String,
    /// Its `replica-priority`.
    pub priority: u16,
    /// Its link to the primary was up.
    pub link_up: bool,
    /// None: it was chosen, or would be.
    pub why_not: Option<WhyNot>,
}

impl SeenCandidate {
    /// It could have been promoted.
    pub fn is_eligible(&self) -> bool {
        matches!(self.why_not, None | Some(WhyNot::Outranked(_)))
    }
}

/// The evidence for one decision.
#[derive(Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Why {
    /// What each root said of the node in question, in the order of `Command::Decide::roots`; for several
    /// nodes one after the other, in the order of the command.
    #[serde(default)]
    pub opinions: Vec<Opinion>,
    /// The replicas, best first.
    #[serde(default)]
    pub candidates: Vec<SeenCandidate>,
    /// In words, what the rest does not say.
    #[serde(default)]
    pub note: String,
}

impl Why {
    /// A reason in words.
    pub fn note(text: impl Into<String>) -> Why {
        Why { note: text.into(), ..Why::default() }
    }
}

/// A command and the evidence for it.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// What to do.
    pub command: Command,
    /// Why.
    #[serde(default)]
    pub why: Why,
}

impl From<Command> for Decision {
    fn from(command: Command) -> Decision {
        Decision { command, why: Why::default() }
    }
}

/// Shortens a text of somebody else's to what a record may hold.
pub(crate) fn bounded(text: &str) -> String {
    let mut end = text.len().min(NOTE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
