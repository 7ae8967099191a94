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

/// What jemalloc says of the slab that holds an allocation; all zero for memory that it does not know.
#[derive(Default)]
#[repr(C)]
struct Utilization {
    /// The slab from which the next allocation of this size is served; zero when there is none.
    current: usize,
    free_regions: usize,
    regions: usize,
    slab_bytes: usize,
    class_free_regions: usize,
    class_regions: usize,
}

/// Finds allocations that keep sparsely used slabs of the allocator from becoming free. While it lives, the thread that
/// made it allocates and frees past its cache, from which it would get what it just freed.
pub struct SparseHeap {
    query: [usize; 3],
    /// What it says holds for one thread.
    _of_thread: std::marker::PhantomData<*const u8>,
}

impl SparseHeap {
    /// `None` when this process has another allocator.
    pub fn new() -> Option<Self> {
        if !IS_GLOBAL.load(Ordering::Relaxed) {
            return None;
        }
        let mut query = [0; 3];
        tikv_jemalloc_ctl::raw::name_to_mib(b"experimental.utilization.query\0", &mut query).ok()?;
        cache_thread(false);
        Some(Self { query, _of_thread: std::marker::PhantomData })
    }

    /// Whether more than an eighth of the slab with the allocation at `address` is free, and another has room for it.
    pub fn is_sparse(&self, address: *const u8) -> bool {
        let mut found = Utilization::default();
        let mut found_len = size_of::<Utilization>();
        let mut asked = address;
        // SAFETY: the control takes an address, which need not be valid, and fills in six words; the lengths are theirs.
        let failure = unsafe {
            tikv_jemalloc_sys::mallctlbymib(
                self.query.as_ptr(),
                self.query.len(),
                (&raw mut found).cast(),
                &raw mut found_len,
                (&raw mut asked).cast(),
                size_of::<*const u8>(),
            )
        };
        let in_current = (address as usize).wrapping_sub(found.current) < found.slab_bytes;
        failure == 0 && !in_current && found.free_regions * 8 > found.regions
    }
}

impl Drop for SparseHeap {
    fn drop(&mut self) {
        cache_thread(true);
    }
}

/// Switches the calling thread's cache; what it holds goes back when it is switched off.
fn cache_thread(is_on: bool) {
    // SAFETY: this control takes a bool.
    let _ = unsafe { tikv_jemalloc_ctl::raw::write(b"thread.tcache.enabled\0", is_on) };
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
