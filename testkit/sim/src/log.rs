// SPDX-License-Identifier: BSD-3-Clause
//! What the agents log, each line with the true time and the host, for whoever looks for the cause of a failed run.
//! Off unless `PANDO_SIM_AGENTS` has a filter (`info`, `pando_agent=debug`).

use std::cell::Cell;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

thread_local! {
    /// True milliseconds, and the host whose process runs.
    static NOW: Cell<(u64, usize)> = const { Cell::new((0, 0)) };
}

struct TrueTime;

impl FormatTime for TrueTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let (ms, host) = NOW.get();
        write!(writer, "{ms:>7} n{host}")
    }
}

/// To standard error from here on, if it is wanted.
pub fn start() {
    if let Ok(filter) = EnvFilter::try_from_env("PANDO_SIM_AGENTS") {
        let format = tracing_subscriber::fmt().with_env_filter(filter).with_timer(TrueTime).with_ansi(false);
        // A second run in one process has it already.
        format.with_writer(std::io::stderr).try_init().ok();
    }
}

/// What follows is done by this host at this time.
pub(crate) fn turn(now_ms: u64, host: usize) {
    NOW.set((now_ms, host));
}
