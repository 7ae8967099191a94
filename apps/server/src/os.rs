// SPDX-License-Identifier: BSD-3-Clause
//! The few calls of the operating system which have no safe wrapper: local time, daemonizing, process limits. Small on
//! purpose, so that every `unsafe` of this crate is here.

use std::io;

/// Local calendar time.
#[derive(Copy, Clone, Debug)]
pub struct LocalTime {
    /// Day of the month.
    pub day: i32,
    /// 0 = January.
    pub month: i32,
    /// With the century.
    pub year: i32,
    /// Time of day.
    pub hour: i32,
    /// Time of day.
    pub minute: i32,
    /// Time of day.
    pub second: i32,
}

/// The local calendar time of a unix time.
pub fn local_time(unix_s: i64) -> LocalTime {
    let seconds: libc::time_t = unix_s;
    // SAFETY: `tm` is plain data, for which all zeroes is a value; both pointers are valid for the call.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&seconds, &mut tm);
        tm
    };
    LocalTime {
        day: tm.tm_mday,
        month: tm.tm_mon,
        year: tm.tm_year + 1900,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
    }
}

/// Goes on in a child process without a terminal; the parent exits. Only before any thread was started.
pub fn daemonize() -> io::Result<()> {
    // SAFETY: called at the start, while this is the only thread, so the child is a whole copy.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: `_exit` ends the parent without running what belongs to the child now.
        _ => unsafe { libc::_exit(0) },
    }
    rustix::process::setsid()?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Makes sure that this many files can be open; returns how many can be.
pub fn raise_open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let most = limit.maximum.unwrap_or(u64::MAX);
    if most < wanted {
        // Only a privileged process may raise the upper limit; what cannot be had is cut off below.
        let mut higher = limit;
        higher.maximum = Some(wanted);
        higher.current = Some(wanted);
        if setrlimit(Resource::Nofile, higher).is_ok() {
            return wanted;
        }
    }
    limit.current = Some(wanted.min(most));
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => wanted.min(most),
        Err(_) => current,
    }
}

/// Signals which end the server, blocked in every thread started from here on and read by one thread.
#[derive(Debug)]
pub struct TerminationSignals(libc::sigset_t);

/// Blocks SIGTERM and SIGINT and ignores SIGHUP and SIGPIPE. Call before the first thread is started.
pub fn block_signals() -> TerminationSignals {
    // SAFETY: the set is initialized by `sigemptyset`; the handlers are SIG_IGN.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        TerminationSignals(set)
    }
}

impl TerminationSignals {
    /// Waits for the next signal and returns its number.
    pub fn wait(&self) -> i32 {
        let mut signal = 0;
        // SAFETY: the set was initialized by `block_signals`; `signal` is valid for the call.
        unsafe { libc::sigwait(&self.0, &mut signal) };
        signal
    }
}

/// Value of `io-threads` where nobody chose one: the number of cores that this process may use.
pub fn io_threads_default() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(256)
}

/// Processor time of the calling thread.
pub fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Monotonic time in milliseconds since some fixed moment.
pub fn monotonic_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// User and system processor time of the process and of its children, in microseconds.
pub fn cpu_times_us() -> [u64; 4] {
    let of = |who| {
        // SAFETY: `rusage` is plain data; the pointer is valid for the call.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &mut usage);
            let us = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
            (us(usage.ru_utime), us(usage.ru_stime))
        }
    };
    let (user, system) = of(libc::RUSAGE_SELF);
    let (child_user, child_system) = of(libc::RUSAGE_CHILDREN);
    [user, system, child_user, child_system]
}

/// CPU time of the calling thread.
pub fn thread_cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Lets other threads go before the calling one, where cores are short.
pub fn lower_priority() {
    // On Linux this is a property of the thread. Not granted: it works at the usual priority.
    let _ = rustix::process::nice(10);
}
