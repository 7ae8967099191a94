// SPDX-License-Identifier: BSD-3-Clause
//! One simulated process: a tokio runtime whose time only moves when it is told to. Because each has its own,
//! a process can stand still while its clock runs on, and clocks can have different rates. Who is ticked, when
//! and by how much is decided in `host`.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// See the head of this file. Dropping it kills the process.
pub struct Process {
    runtime: Runtime,
}

impl Process {
    /// Starts a process that does this. `seed` decides about the order of its tasks.
    pub fn start<F>(seed: u64, body: impl FnOnce() -> F) -> Process
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
        #[cfg(not(tokio_unstable))]
        let _ = seed;
        let runtime = builder.build().expect("a runtime without I/O needs nothing that could fail");
        // Brings the clock to a whole millisecond.
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        {
            let _inside = runtime.enter();
            runtime.spawn(body());
        }
        Process { runtime }
    }

    /// Does something else in it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Runs everything that falls due within this time.
    pub fn tick(&self, ms: u64) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(ms)).await });
    }

    /// The process stood still for so long: all that fell due meanwhile is late.
    pub fn stood_still(&self, ms: u64) {
        self.runtime.block_on(async { tokio::time::advance(Duration::from_millis(ms)).await });
    }
}
