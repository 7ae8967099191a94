// SPDX-License-Identifier: BSD-3-Clause
//! Counters of the network side, one set per worker, summed for INFO.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one worker.
        #[derive(Debug, Default)]
        pub struct NetStats { $($(#[$doc])* pub $name: Counter,)* }

        /// Sums over all workers.
        #[derive(Copy, Clone, Debug, Default)]
        pub struct NetTotals { $($(#[$doc])* pub $name: u64,)* }

        impl NetStats {
            /// Adds this worker's counters to the sums.
            pub fn add_to(&self, totals: &mut NetTotals) { $(totals.$name += self.$name.get();)* }

            /// CONFIG RESETSTAT; what is counted at this very moment may survive.
            pub fn reset(&self) { $(self.$name.reset();)* }
        }
    };
}

counters! {
    /// Bytes received.
    net_in,
    /// Bytes sent.
    net_out,
    /// Successful reads.
    reads,
    /// Successful writes.
    writes,
    /// Turns of the event loop.
    cycles,
    /// Processor time in the event loop, in microseconds.
    busy_us,
    /// Batches of requests whose keys were prefetched.
    prefetch_batches,
    /// Their requests.
    prefetch_keys,
    /// Clients that were closed for their output.
    output_limit_closes,
    /// Clients that were closed for their input.
    query_limit_closes,
    /// Clients that were refused.
    rejected,
}
