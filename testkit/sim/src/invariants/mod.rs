// SPDX-License-Identifier: BSD-3-Clause
//! The properties, one file each, and the list of them. Each looks at a snapshot of all processes and at what
//! was heard in the step, after every step, and keeps what it needs to remember.
//!
//! | file | property |
//! |---|---|
//! | `one_writer` | at no moment do two processes accept writes for one shard or one slot |
//! | `versions_grow` | a process never goes back to an older map, and equal versions are equal maps |
//! | `slots_stay` | a slot that had an owner keeps one |
//! | `one_log` | all roots apply the same entries: what one applied is never replaced on another, or after a restart |
//! | `one_leader` | no term has two leaders |
//! | `fresh_reads` | a read shows every change that was acknowledged before it began, and every version read before |
//! | `silent_minority` | a node that reaches no majority of the roots gets no answer to a read |
//! | `copies_kept` | the last copy of a write that was acknowledged by all members of a shard is never thrown away |
//! | `handover_keeps` | after a planned failover the new primary has every write that the former one took |
//! | `once` | no process has a write twice |
//! | `converges` | after healing there is one map, every slot is served, every replica follows (checked at the end) |

mod converges;
mod copies_kept;
mod fresh_reads;
mod handover_keeps;
mod once;
mod one_leader;
mod one_log;
mod one_writer;
mod silent_minority;
mod slots_stay;
mod versions_grow;

use std::sync::Arc;

use pando_agent::AgentInfo;
use pando_topology::{ClusterId, NodeId, ShardId, TopologyVersion};

use crate::host::Host;
use crate::net::Network;
use crate::plane::{FakePlane, Log, PlaneState};

pub use converges::missing;
pub use copies_kept::CopiesKept;
pub use fresh_reads::FreshReads;
pub use handover_keeps::HandoverKeeps;
pub use once::Once;
pub use one_leader::OneLeader;
pub use one_log::OneLog;
pub use one_writer::OneWriter;
pub use silent_minority::SilentMinority;
pub use slots_stay::SlotsStay;
pub use versions_grow::VersionsGrow;

/// What a check sees of one process.
pub struct Seen {
    /// Number of the host.
    pub host: usize,
    /// Its process runs, and does not stand still.
    pub is_running: bool,
    /// It has a process.
    pub has_process: bool,
    /// How many processes it has had.
    pub starts: u64,
    /// What its monotonic clock shows.
    pub now_ms: u64,
    /// Its data plane.
    pub plane: PlaneState,
    /// The writes that it has.
    pub data: FakePlane,
    /// What the agent says about itself; not in every step.
    pub info: Option<AgentInfo>,
}

impl Seen {
    /// What is to be seen of this host.
    pub fn of(host: &Host, with_info: bool) -> Seen {
        Seen {
            host: host.id,
            is_running: host.is_running(),
            has_process: host.has_process(),
            starts: host.starts(),
            now_ms: host.now_ms(),
            plane: host.plane.state().clone(),
            data: host.plane.clone(),
            info: if with_info { host.handle().map(|handle| handle.info()) } else { None },
        }
    }
}

/// Something that was heard in a step.
#[derive(Clone)]
pub enum Fact {
    /// A change was acknowledged to a client of this host, which has this version of its cluster.
    Changed { host: usize, cluster: ClusterId, version: TopologyVersion },
    /// A read began; `number` names it.
    ReadBegan { host: usize, number: u64 },
    /// A read was answered with a version, or refused.
    ReadEnded { host: usize, number: u64, cluster: Option<ClusterId>, version: Option<TopologyVersion> },
    /// A write was acknowledged as being on all members of its shard; `at` is its place in the log.
    Kept { shard: ShardId, write: u64, at: usize },
    /// A process threw its writes away for those of the primary of this shard.
    Replaced { host: usize, shard: Option<ShardId>, former: Arc<Log> },
    /// An operator has asked for something that may end copies of data.
    Ordered { node: NodeId, order: Order },
    /// A planned failover to this host was acknowledged; `former` took so many writes before, with this sum.
    HandedOver { to: usize, former: usize, len: usize, sum: u64 },
}

/// What an operator asked of a node.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Order {
    /// To leave its shard.
    Leave,
    /// To become the primary of its shard whatever it has.
    TakeOver,
}

/// What a check gets.
pub struct Scene<'a> {
    /// True time.
    pub now_ms: u64,
    /// All hosts.
    pub seen: &'a [Seen],
    /// What was heard.
    pub facts: &'a [Fact],
    /// Who reaches whom.
    pub network: &'a Network,
}

/// A property that must hold after every step.
pub trait Invariant {
    /// For reports.
    fn name(&self) -> &'static str;
    /// `Err` says what is wrong.
    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String>;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(OneWriter),
        Box::new(VersionsGrow::default()),
        Box::new(SlotsStay::default()),
        Box::new(OneLog::default()),
        Box::new(OneLeader::default()),
        Box::new(FreshReads::default()),
        Box::new(SilentMinority::default()),
        Box::new(CopiesKept::default()),
        Box::new(HandoverKeeps),
        Box::new(Once::default()),
    ]
}
