// SPDX-License-Identifier: BSD-3-Clause
//! Time in milliseconds: one monotonic clock that counts suspend, and the calendar.
//!
//! Leases are compared with `now_ms`. It must count the time a laptop or a virtual machine
//! sleeps, which `std::time::Instant` (CLOCK_MONOTONIC) does not.

use crate::alarm::{Alarm, RuntimeAlarm, real_alarm};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Monotonic milliseconds since an arbitrary point, including time spent suspended.
    fn now_ms(&self) -> u64;
    /// Milliseconds since 1970. May jump; never used for leases.
    fn unix_ms(&self) -> u64;
    /// For one loop that waits for moments of [`Clock::now_ms`]. Call it inside the runtime where the loop runs.
    fn alarm(&self) -> Box<dyn Alarm> {
        Box::new(RuntimeAlarm)
    }
}

/// The clocks of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealClock;

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let id = rustix::time::ClockId::Monotonic;
        to_ms(rustix::time::clock_gettime(id))
    }

    fn unix_ms(&self) -> u64 {
        to_ms(rustix::time::clock_gettime(rustix::time::ClockId::Realtime))
    }

    fn alarm(&self) -> Box<dyn Alarm> {
        real_alarm()
    }
}

fn to_ms(t: rustix::time::Timespec) -> u64 {
    (t.tv_sec.max(0) as u64) * 1000 + (t.tv_nsec.max(0) as u64) / 1_000_000
}

/// A clock that follows tokio's time, which tests pause and the simulator drives. Clones share their jumps.
#[cfg(feature = "sim")]
#[derive(Debug, Clone)]
pub struct VirtualClock {
    start: tokio::time::Instant,
    boot_ms: u64,
    unix_ms: u64,
    jumps: std::sync::Arc<Jumps>,
}

/// By how much the clocks of one host were set, beside what passed.
#[cfg(feature = "sim")]
#[derive(Debug, Default)]
pub struct Jumps {
    /// The host slept: its monotonic clock counts that, its timers do not.
    pub slept_ms: std::sync::atomic::AtomicU64,
    /// Somebody set the calendar, forward or back.
    pub calendar_ms: std::sync::atomic::AtomicI64,
}

#[cfg(feature = "sim")]
impl VirtualClock {
    /// A clock that shows these values now. Create it inside the runtime it is to follow.
    pub fn new(boot_ms: u64, unix_ms: u64) -> VirtualClock {
        VirtualClock::with_jumps(boot_ms, unix_ms, std::sync::Arc::default())
    }

    /// As `new`; the jumps are added to what it shows.
    pub fn with_jumps(boot_ms: u64, unix_ms: u64, jumps: std::sync::Arc<Jumps>) -> VirtualClock {
        VirtualClock { start: tokio::time::Instant::now(), boot_ms, unix_ms, jumps }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(feature = "sim")]
impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        self.boot_ms + self.elapsed_ms() + self.jumps.slept_ms.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn unix_ms(&self) -> u64 {
        let shown = self.unix_ms + self.elapsed_ms();
        shown.saturating_add_signed(self.jumps.calendar_ms.load(std::sync::atomic::Ordering::Relaxed))
    }
}
