// SPDX-License-Identifier: BSD-3-Clause
//! The safety properties, one file each, and the list of them. Each looks at a snapshot of all
//! processes after every step and keeps what it needs to remember.
//!
//! | file | property |
//! |---|---|
//! | `one_writer` | at no moment do two processes accept writes for one shard or one slot |
//! | `versions_grow` | a process never goes back to an older map, and equal versions are equal maps |
//! | `nothing_lost` | a change that a client was told is committed is never undone by a fault |

mod nothing_lost;
mod one_writer;
mod versions_grow;

use pando_agent::AgentInfo;

use crate::host::Host;
use crate::plane::PlaneState;

pub use nothing_lost::NothingLost;
pub use one_writer::OneWriter;
pub use versions_grow::VersionsGrow;

/// What a check sees of one process.
pub struct Seen {
    /// Number of the host.
    pub host: usize,
    /// Its process runs, and does not stand still.
    pub is_running: bool,
    /// What its monotonic clock shows.
    pub now_ms: u64,
    /// Its data plane.
    pub plane: PlaneState,
    /// What the agent says about itself; not in every step.
    pub info: Option<AgentInfo>,
}

impl Seen {
    /// What is to be seen of this host.
    pub fn of(host: &Host, with_info: bool) -> Seen {
        Seen {
            host: host.id,
            is_running: host.is_running(),
            now_ms: host.now_ms(),
            plane: host.plane.state().clone(),
            info: if with_info { host.handle().map(|handle| handle.info()) } else { None },
        }
    }
}

/// A property that must hold after every step.
pub trait Invariant {
    /// For reports.
    fn name(&self) -> &'static str;
    /// `Err` says what is wrong. `now_ms` is the true time.
    fn check(&mut self, now_ms: u64, seen: &[Seen]) -> Result<(), String>;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![Box::new(OneWriter), Box::new(VersionsGrow::default()), Box::new(NothingLost::default())]
}
