// SPDX-License-Identifier: BSD-3-Clause
//! A clock that is cheap enough to be read after every command: the processor's time stamp counter, where the kernel
//! itself keeps time by it, and otherwise the kernel's clock.
//!
//! How long a tick is, is measured against the kernel's clock while the server runs: nothing waits for it at start, and it
//! follows when the machine moves. Not here: which time it is (`scratch`).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A first measurement takes this long, later ones longer.
const FIRST_SPAN: Duration = Duration::from_millis(10);
const LATER_SPAN: Duration = Duration::from_secs(1);

/// An instant of one [`Ticks`]; comparable until its next [`Ticks::refresh`].
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Tick(u64);

/// See the head of this file. One per thread.
#[derive(Debug)]
pub(crate) struct Ticks {
    /// Nanoseconds of a tick times 2^32; zero when the kernel's clock is used.
    scale: u64,
    /// Both clocks at the start of the measurement; none without a counter.
    since: Option<(u64, Instant)>,
    span: Duration,
    origin: Instant,
}

#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; a kernel that forbids it does not keep time by it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

/// Whether the kernel found the counter fit to keep time by: steady, and the same on all cores.
fn is_counter_good() -> bool {
    static GOOD: OnceLock<bool> = OnceLock::new();
    *GOOD.get_or_init(|| {
        let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        cfg!(target_arch = "x86_64") && source.is_ok_and(|source| source.trim() == "tsc")
    })
}

impl Ticks {
    pub(crate) fn new() -> Ticks {
        let origin = Instant::now();
        let since = is_counter_good().then(|| (counter(), origin));
        Ticks { scale: 0, since, span: FIRST_SPAN, origin }
    }

    #[inline]
    pub(crate) fn now(&self) -> Tick {
        if self.scale == 0 { Tick(self.origin.elapsed().as_nanos() as u64) } else { Tick(counter()) }
    }

    /// Nanoseconds from one instant to a later one.
    #[inline]
    pub(crate) fn ns(&self, from: Tick, to: Tick) -> u64 {
        let ticks = to.0.saturating_sub(from.0);
        if self.scale == 0 { ticks } else { ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64 }
    }

    /// Measures the tick anew if it is time to; `kernel` is the kernel's clock of this moment.
    pub(crate) fn refresh(&mut self, kernel: Instant) {
        let Some((ticks_then, kernel_then)) = self.since else { return };
        let elapsed = kernel.saturating_duration_since(kernel_then);
        if elapsed < self.span {
            return;
        }
        let ticks_now = counter();
        let ticks = ticks_now.saturating_sub(ticks_then);
        // An idle server may come back after years.
        let scale = (elapsed.as_nanos() << 32).checked_div(u128::from(ticks)).unwrap_or(0);
        self.scale = u64::try_from(scale).unwrap_or(0);
        self.since = Some((ticks_now, kernel));
        self.span = LATER_SPAN;
    }
}

#[cfg(test)]
mod tests {
    use super::Ticks;
    use std::time::{Duration, Instant};

    #[test]
    fn agrees_with_the_kernel() {
        let mut ticks = Ticks::new();
        // Not a limit on how long anything may take: both clocks are read over the same time, whatever it is.
        for _ in 0..3 {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(15) {
                std::hint::spin_loop();
            }
            ticks.refresh(Instant::now());
            let outer = Instant::now();
            let from = ticks.now();
            let inner = Instant::now();
            while inner.elapsed() < Duration::from_millis(2) {
                std::hint::spin_loop();
            }
            let inner_ns = inner.elapsed().as_nanos() as f64;
            let ns = ticks.ns(from, ticks.now()) as f64;
            let outer_ns = outer.elapsed().as_nanos() as f64;
            assert!(ns >= inner_ns * 0.9 && ns <= outer_ns * 1.1, "{inner_ns} {ns} {outer_ns}");
        }
    }

    #[test]
    fn time_does_not_run_backwards() {
        let ticks = Ticks::new();
        let (a, b) = (ticks.now(), ticks.now());
        assert_eq!(ticks.ns(b, a), 0);
        assert!(ticks.ns(a, b) < 1_000_000_000);
    }
}
