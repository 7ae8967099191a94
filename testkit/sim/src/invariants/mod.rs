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

use pando_agent::DataPlane;

use crate::plane::PlaneState;

pub use nothing_lost::NothingLost;
pub use one_writer::OneWriter;
pub use versions_grow::VersionsGrow;

/// What a check sees of one process.
pub struct Seen {
    /// Number of the host.
    pub host: usize,
    /// Its process runs.
    pub is_running: bool,
    /// Its data plane.
    pub plane: PlaneState,
}

/// A property that must hold after every step.
pub trait Invariant {
    /// `Err` says what is wrong.
    fn check(&mut self, now_ms: u64, seen: &[Seen]) -> Result<(), String>;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    // The trait of the agent is what the fake implements; naming it here keeps the two in step.
    fn _is_a_plane<P: DataPlane>() {}
    vec![Box::new(OneWriter), Box::new(VersionsGrow::default()), Box::new(NothingLost::default())]
}
