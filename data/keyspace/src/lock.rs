// SPDX-License-Identifier: BSD-3-Clause
//! The lock of one slot: two bytes; taking it is one atomic exchange, giving it back a plain store.
//!
//! A lock that is given back with an exchange would make every command wait until its own writes have left the
//! processor. With a plain store the holder may overlook a waiter that begins to sleep at that very moment; such a waiter
//! sleeps for one nap at most (or until the next holder leaves), because it never sleeps without a limit.
//!
//! Not here: what is locked (`slot`), in which order (`locked`).

use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN, SpinWait};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FIRST_NAP: Duration = Duration::from_micros(100);
const LONGEST_NAP: Duration = Duration::from_millis(10);
/// Looks at the lock after announcing a nap, so that a holder who leaves just now is noticed.
const LAST_LOOKS: u32 = 32;

thread_local! {
    static WAITS: Cell<u64> = const { Cell::new(0) };
}

/// How often the calling thread found a slot's lock taken, ever.
pub fn lock_waits_of_this_thread() -> u64 {
    WAITS.with(Cell::get)
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct SlotLock {
    is_held: AtomicBool,
    /// Somebody sleeps, or is about to.
    is_awaited: AtomicBool,
}

impl SlotLock {
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.is_held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(crate) fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    /// The caller holds the lock.
    #[inline]
    pub(crate) fn unlock(&self) {
        self.is_held.store(false, Ordering::Release);
        if self.is_awaited.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[inline]
    fn try_if_free(&self) -> bool {
        !self.is_held.load(Ordering::Relaxed) && self.try_lock()
    }

    #[cold]
    #[inline(never)]
    fn wait(&self) {
        WAITS.with(|waits| waits.set(waits.get() + 1));
        let mut nap = FIRST_NAP;
        loop {
            let mut spin = SpinWait::new();
            while spin.spin() {
                if self.try_if_free() {
                    return;
                }
            }
            self.is_awaited.store(true, Ordering::SeqCst);
            for _ in 0..LAST_LOOKS {
                if self.try_if_free() {
                    return;
                }
                std::hint::spin_loop();
            }
            // SAFETY: the key is the address of this lock, which nobody else parks on; the closures neither panic nor
            // park.
            unsafe {
                parking_lot_core::park(
                    self.key(),
                    || self.is_held.load(Ordering::SeqCst) && self.is_awaited.load(Ordering::Relaxed),
                    || {},
                    |_, _| {},
                    DEFAULT_PARK_TOKEN,
                    Some(Instant::now() + nap),
                );
            }
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        // SAFETY: as in `wait`.
        unsafe {
            parking_lot_core::unpark_one(self.key(), |result| {
                // Under the queue's lock: who is about to sleep looks at this once more.
                self.is_awaited.store(result.have_more_threads, Ordering::Relaxed);
                DEFAULT_UNPARK_TOKEN
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SlotLock, lock_waits_of_this_thread};
    use std::cell::UnsafeCell;
    use std::sync::Barrier;
    use std::time::Duration;

    struct Shared(SlotLock, UnsafeCell<[u64; 8]>);
    // SAFETY: the numbers are reached under the lock.
    unsafe impl Sync for Shared {}

    #[test]
    fn excludes_and_loses_nobody() {
        const THREADS: u64 = 8;
        const TURNS: u64 = 20_000;
        let shared = Shared(SlotLock::default(), UnsafeCell::new([0; 8]));
        let begin = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (shared, begin) = (&shared, &begin);
                scope.spawn(move || {
                    begin.wait();
                    for turn in 0..TURNS {
                        if turn % 3 != 0 || !shared.0.try_lock() {
                            shared.0.lock();
                        }
                        // SAFETY: the lock is held.
                        let numbers = unsafe { &mut *shared.1.get() };
                        assert!(numbers.iter().all(|number| *number == numbers[0]));
                        numbers.iter_mut().for_each(|number| *number += 1);
                        if turn % 4096 == thread {
                            std::thread::sleep(Duration::from_micros(300));
                        }
                        shared.0.unlock();
                    }
                });
            }
        });
        assert_eq!(shared.1.into_inner(), [THREADS * TURNS; 8]);
    }

    #[test]
    fn waits_are_counted() {
        let lock = SlotLock::default();
        let before = lock_waits_of_this_thread();
        lock.lock();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                lock.lock();
                lock.unlock();
                lock_waits_of_this_thread()
            });
            while !lock.is_awaited.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::yield_now();
            }
            lock.unlock();
            assert_eq!(waiter.join().ok(), Some(1));
        });
        assert_eq!(lock_waits_of_this_thread(), before);
    }
}
