// SPDX-License-Identifier: BSD-3-Clause
//! The one door to the operating system for control code: network, disk, clock and randomness.
//!
//! Control crates take an [`Env`] and never call `std::net`, `std::fs`, `std::time` or a random
//! generator themselves, so that the simulator can run the same code in virtual time on a virtual
//! network with a disk that loses unsynced bytes. Nothing here knows about Raft, frames or nodes.
//! Thread starts and the data plane's sockets do not go through here.

mod alarm;
mod clock;
mod disk;
mod net;
mod real_disk;
mod rng;
#[cfg(feature = "sim")]
mod sim_disk;
#[cfg(feature = "sim")]
mod sim_disk_faults;
mod thread;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use alarm::{Alarm, RuntimeAlarm, real_alarm};
pub use clock::{Clock, RealClock};
#[cfg(feature = "sim")]
pub use clock::{Jumps, VirtualClock};
pub use disk::{AppendFile, Disk};
pub use net::{BoxListener, BoxStream, Listener, Net, Stream, TcpNet};
pub use real_disk::RealDisk;
pub use rng::{Rng, SeededRng, SystemRng};
#[cfg(feature = "sim")]
pub use sim_disk::SimDisk;
pub use thread::make_this_thread_urgent;

/// A boxed future: what the object-safe traits of this crate return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The outside world of one process, real or simulated.
#[derive(Clone)]
pub struct Env {
    /// Connections and listeners.
    pub net: Arc<dyn Net>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
}

impl Env {
    /// The real operating system. Starts one thread for the files.
    pub fn real() -> Env {
        Env {
            net: Arc::new(TcpNet),
            disk: Arc::new(RealDisk::start()),
            clock: Arc::new(RealClock),
            rng: Arc::new(SystemRng),
        }
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}
