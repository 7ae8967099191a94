// SPDX-License-Identifier: BSD-3-Clause
//! What replication does by the clock: pings to the replicas, the count of those that are in touch, the end of a log that
//! nobody reads. It sleeps until one of them is due: an idle process must not wake every second for it.

use crate::core::Core;
use pando_env::{Clock, RealClock, real_alarm};
use std::sync::Weak;
use std::time::{Duration, Instant};

/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(10);
/// The shortest.
const SLEEP_MIN: Duration = Duration::from_millis(10);

/// Runs until the core is gone.
pub(crate) async fn run(core: Weak<Core>) {
    let mut last_ping = Instant::now();
    let (clock, mut alarm) = (RealClock, real_alarm());
    loop {
        let (sleep, bell) = {
            let Some(core) = core.upgrade() else { return };
            let period = core.config().repl_ping_replica_period;
            if last_ping.elapsed() >= period {
                last_ping = Instant::now();
                if !core.replicas.lock().is_empty() {
                    core.append_plain(b"*1\r\n$4\r\nPING\r\n");
                }
            }
            core.count_good_replicas();
            core.stop_log_if_unused();
            let ping = period.saturating_sub(last_ping.elapsed());
            let due = [Some(ping), next_late(&core), core.unused_in()].into_iter().flatten().min();
            (due.unwrap_or(SLEEP_MAX).clamp(SLEEP_MIN, SLEEP_MAX), core.bell.clone())
        };
        // A call means that the configuration has changed.
        let now_ms = clock.now_ms();
        tokio::select! {
            () = bell.notified() => {}
            () = alarm.wait(now_ms, now_ms + sleep.as_millis() as u64) => {}
        }
    }
}

/// When the first replica will have been silent for too long to count, unless it is heard before.
fn next_late(core: &Core) -> Option<Duration> {
    let max = core.config().min_replicas_max_lag;
    let replicas = core.replicas.lock();
    let lags = replicas.iter().filter(|link| link.is_online()).filter_map(|link| link.lag());
    lags.filter(|lag| *lag <= max).map(|lag| max - lag + Duration::from_millis(1)).min()
}
