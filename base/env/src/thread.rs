// SPDX-License-Identifier: BSD-3-Clause
//! Threads that have little to do and must do it in time.

/// Their niceness, if the process may have it. -20 is the most urgent, 0 what other threads have.
const URGENT_NICENESS: i32 = -5;

/// Lets the calling thread, and those that it starts from now on, run before others that are ready as well: a node whose
/// heartbeats wait behind its workers looks dead.
///
/// # Errors
/// The process may not: it needs CAP_SYS_NICE or a limit of niceness (`RLIMIT_NICE`, `LimitNICE=-5` in a unit of systemd).
pub fn make_this_thread_urgent() -> std::io::Result<()> {
    // None stands for the caller; for Linux that is the thread.
    if rustix::process::getpriority_process(None)? <= URGENT_NICENESS {
        return Ok(());
    }
    Ok(rustix::process::setpriority_process(None, URGENT_NICENESS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_is_urgent_and_others_are_not() {
        let niceness = || rustix::process::getpriority_process(None).expect("it can be asked for");
        let here = niceness();
        let there = std::thread::spawn(move || make_this_thread_urgent().map(|()| niceness()));
        match there.join().expect("no panic") {
            Ok(there) => assert_eq!(there, URGENT_NICENESS),
            Err(error) => eprintln!("skipped, this user may not: {error}"),
        }
        assert_eq!(niceness(), here);
    }
}
