// SPDX-License-Identifier: BSD-3-Clause
//! Waiting for a condition with a deadline, instead of sleeping for a guess.

use std::time::{Duration, Instant};

/// Calls `probe` every 10 ms until it returns `Some`, for at most `limit`.
///
/// # Errors
/// The last reason that `probe` gave, with how long was waited.
pub fn eventually<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(reason) if start.elapsed() >= limit => {
                return Err(format!("{what}: not within {limit:?}: {reason}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
