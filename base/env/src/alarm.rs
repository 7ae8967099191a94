// SPDX-License-Identifier: BSD-3-Clause
//! Waiting for a moment of the clock by which leases run: control code's loops, and what an idle process does every second.
//!
//! The runtime's own timers are made for thousands of them: each that is further away than 64 ms is looked at a first time when
//! its 64 ms begin, so that a process with one timer wakes twice for it. A `timerfd` wakes it once, and it counts the time
//! that a machine was suspended, as the clock does (the runtime's timers do not).

use crate::BoxFuture;
use std::time::Duration;

/// One alarm, set anew each time.
pub trait Alarm: Send {
    /// Completes at `at_ms` of the clock, which shows `now_ms`; a millisecond from now at the earliest. Dropping the
    /// future is fine.
    fn wait(&mut self, now_ms: u64, at_ms: u64) -> BoxFuture<'_, ()>;
}

/// By the runtime's timers: virtual time, and systems without `timerfd`.
#[derive(Debug, Default, Clone, Copy)]
pub struct RuntimeAlarm;

impl Alarm for RuntimeAlarm {
    fn wait(&mut self, now_ms: u64, at_ms: u64) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms).max(1))))
    }
}

/// The best one that this system has for [`crate::RealClock`]. Call it inside a runtime.
pub fn real_alarm() -> Box<dyn Alarm> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Ok(alarm) = kernel::KernelAlarm::new() {
        return Box::new(alarm);
    }
    // Without a free descriptor it waits all the same, with a wake-up more.
    Box::new(RuntimeAlarm)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod kernel {
    use super::Alarm;
    use crate::BoxFuture;
    use rustix::io::Errno;
    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
    use std::io;
    use std::os::fd::OwnedFd;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub(super) struct KernelAlarm {
        timer: AsyncFd<OwnedFd>,
        /// For when it is set, if it has not rung.
        set_ms: Option<u64>,
    }

    impl KernelAlarm {
        pub fn new() -> io::Result<KernelAlarm> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Boottime, flags)?;
            // SAFETY: the descriptor is open, belongs to the `AsyncFd` from here on, and an `OwnedFd` is one and the
            // same descriptor until it is dropped.
            let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
            Ok(KernelAlarm { timer: timer.map_err(io::Error::from)?, set_ms: None })
        }

        fn set(&mut self, at_ms: u64) -> io::Result<()> {
            if self.set_ms == Some(at_ms) {
                return Ok(());
            }
            // The clock started near zero when the machine did: the values fit. Zero would unset it.
            let value = Timespec {
                tv_sec: (at_ms / 1000).try_into().unwrap_or(i64::MAX),
                tv_nsec: (at_ms % 1000 * 1_000_000).max(1) as _,
            };
            let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
            self.set_ms = Some(at_ms);
            Ok(())
        }

        async fn rings(&mut self) -> io::Result<()> {
            loop {
                let mut ready = self.timer.readable().await?;
                let mut count = [0; 8];
                let rang = rustix::io::read(self.timer.get_ref(), &mut count);
                // Read once, it is silent until it is set again.
                ready.clear_ready();
                match rang {
                    Ok(_) => {
                        self.set_ms = None;
                        return Ok(());
                    }
                    // From before it was set anew.
                    Err(Errno::AGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    impl Alarm for KernelAlarm {
        fn wait(&mut self, now_ms: u64, at_ms: u64) -> BoxFuture<'_, ()> {
            let at_ms = at_ms.max(now_ms + 1);
            Box::pin(async move {
                let rang = match self.set(at_ms) {
                    Ok(()) => self.rings().await,
                    Err(error) => Err(error),
                };
                if rang.is_err() {
                    // It does not happen to a descriptor that is a timer; whoever waits must not wait for ever.
                    super::RuntimeAlarm.wait(now_ms, at_ms).await;
                }
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, RealClock};

    /// Each kind, on both kinds of runtime.
    fn check(alarm: impl Fn() -> Box<dyn Alarm>) {
        let body = async {
            let mut alarm = alarm();
            let clock = RealClock;
            for wait_ms in [0, 1, 30, 100] {
                let now = clock.now_ms();
                alarm.wait(now, now + wait_ms).await;
                assert!(clock.now_ms() >= now + wait_ms.max(1));
            }
            // A wait that is given up leaves nothing: not an early end of the next, nor none at all.
            let now = clock.now_ms();
            for given_up_ms in [1, 5, 60_000] {
                let wait = alarm.wait(now, now + given_up_ms);
                tokio::time::timeout(Duration::from_millis(10), wait).await.ok();
            }
            let now = clock.now_ms();
            alarm.wait(now, now + 40).await;
            assert!(clock.now_ms() >= now + 40);
            // A moment that has passed, even long ago.
            alarm.wait(now, 0).await;
            alarm.wait(now, now).await;
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(body);
    }

    #[test]
    fn it_rings_when_it_is_time_and_not_before() {
        check(|| Box::new(RuntimeAlarm));
        check(real_alarm);
    }
}
