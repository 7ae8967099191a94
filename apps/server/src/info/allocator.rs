// SPDX-License-Identifier: BSD-3-Clause
//! What the allocator and the kernel say about memory.

use std::sync::atomic::{AtomicBool, Ordering};
use tikv_jemalloc_ctl::{epoch, stats as jemalloc};

static IS_GLOBAL: AtomicBool = AtomicBool::new(false);

/// Says that this process allocates with jemalloc; without it there are no numbers.
pub fn enable() {
    IS_GLOBAL.store(true, Ordering::Relaxed);
}

/// Bytes, as jemalloc counts them.
#[derive(Copy, Clone, Debug)]
pub struct Stats {
    /// In use by the program.
    pub allocated: u64,
    /// In pages that hold something.
    pub active: u64,
    /// In pages that are mapped.
    pub resident: u64,
}

/// The numbers of this moment.
pub fn stats() -> Option<Stats> {
    if !IS_GLOBAL.load(Ordering::Relaxed) {
        return None;
    }
    epoch::advance().ok()?;
    Some(Stats {
        allocated: jemalloc::allocated::read().ok()? as u64,
        active: jemalloc::active::read().ok()? as u64,
        resident: jemalloc::resident::read().ok()? as u64,
    })
}

/// Has the allocator give back what it holds for later.
pub fn purge() {
    if !IS_GLOBAL.load(Ordering::Relaxed) {
        return;
    }
    let arenas = tikv_jemalloc_ctl::arenas::narenas::read().unwrap_or(0);
    for arena in 0..arenas {
        let name = format!("arena.{arena}.dirty_decay_ms\0");
        // An arena that does not exist refuses, and has nothing to give.
        // SAFETY: these controls read and write an `ssize_t`.
        unsafe {
            if let Ok(decay_ms) = tikv_jemalloc_ctl::raw::read::<isize>(name.as_bytes()) {
                // A decay time of zero purges at once.
                let _ = tikv_jemalloc_ctl::raw::write(name.as_bytes(), 0isize);
                let _ = tikv_jemalloc_ctl::raw::write(name.as_bytes(), decay_ms);
            }
        }
    }
}

/// Resident memory of the process.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Memory of the machine.
pub fn total_bytes() -> u64 {
    rustix::system::sysinfo().totalram as u64
}
