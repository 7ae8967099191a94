// SPDX-License-Identifier: BSD-3-Clause
//! Cache lines that workers take from each other, counted exactly: valgrind's `lackey` reports every memory access of a
//! child process in which worker threads execute one command each in turn; here the accesses between two marks are played
//! through caches without limit. What is counted is what more cores would have to send each other; lines that only one
//! worker uses cost nothing.

use super::{Load, Options, Worker, new_engine};
use pando_bench::table;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::Thread;

const LINE_BITS: u32 = 6;
const WORKERS_MAX: usize = 32;
/// Few keys, because loading them is traced too.
const KEYS: u64 = 2000;
/// Commands of all workers together that are counted, after as many that only warm up.
const COMMANDS: usize = 512;

/// A store to `MARKS[worker]` begins a worker's command, one to the last mark ends it. A line each.
#[repr(align(64))]
struct Mark(AtomicU64);
static MARKS: [Mark; WORKERS_MAX + 1] = [const { Mark(AtomicU64::new(0)) }; WORKERS_MAX + 1];

/// In the child: tells where the marks are, waits for a line, and executes commands in turn.
pub(crate) fn run_traced(what: &str, options: &Options) {
    let load = Load::ALL.into_iter().find(|load| load.name() == what).expect("the parent names a load");
    let workers = options.workers[0];
    let engine = new_engine(load, KEYS);
    let turn = AtomicUsize::new(0);
    let total = COMMANDS * 2;
    println!("{}", MARKS[0].0.as_ptr().addr());
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).expect("the parent says when to begin");
    let threads: Vec<std::sync::OnceLock<Thread>> = (0..workers).map(|_| std::sync::OnceLock::new()).collect();
    std::thread::scope(|scope| {
        for number in 0..workers {
            let (engine, turn, threads) = (&engine, &turn, &threads);
            scope.spawn(move || {
                let _ = threads[number].set(std::thread::current());
                let mut worker = Worker::new(engine, number);
                let mut mine = number;
                while mine < total {
                    let key = worker.next_key(load, KEYS);
                    while turn.load(SeqCst) != mine {
                        std::thread::park();
                    }
                    // The one before us goes to sleep first, so that its last steps are not taken for ours.
                    (0..64).for_each(|_| std::thread::yield_now());
                    MARKS[number].0.store(mine as u64, SeqCst);
                    worker.execute(load, key.as_bytes());
                    MARKS[WORKERS_MAX].0.store(mine as u64, SeqCst);
                    mine += workers;
                    turn.fetch_add(1, SeqCst);
                    if let Some(next) = threads[(number + 1) % workers].get() {
                        next.unpark();
                    }
                }
            });
        }
        // Threads that were not there yet when they were to be woken.
        while turn.load(SeqCst) < total {
            threads.iter().filter_map(std::sync::OnceLock::get).for_each(Thread::unpark);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
}

/// Who has a line.
#[derive(Copy, Clone, Default)]
struct Line {
    /// Workers that have it, by bit.
    holders: u32,
    /// The one that wrote it last.
    writer: Option<u8>,
}

#[derive(Default)]
struct Counts {
    commands: u64,
    accesses: u64,
    /// Lines read that another worker had written since.
    fetched: u64,
    /// Lines written that another worker had.
    taken: u64,
    /// Of those, by an atomic instruction.
    taken_atomically: u64,
}

/// Caches without limit, one for each worker.
#[derive(Default)]
struct Caches {
    lines: HashMap<u64, Line>,
    counts: Counts,
}

impl Caches {
    /// `kind` is lackey's: L load, S store, M both.
    fn access(&mut self, worker: u8, kind: u8, address: u64, len: u64) {
        self.counts.accesses += 1;
        for number in address >> LINE_BITS..=(address + len.max(1) - 1) >> LINE_BITS {
            let line = self.lines.entry(number).or_default();
            let me = 1u32 << worker;
            let is_foreign = line.writer.is_some_and(|writer| writer != worker);
            if kind == b'L' {
                self.counts.fetched += u64::from(is_foreign && line.holders & me == 0);
                line.holders |= me;
                continue;
            }
            let is_taken = line.holders & !me != 0;
            self.counts.taken += u64::from(is_taken);
            self.counts.taken_atomically += u64::from(is_taken && kind == b'M');
            *line = Line { holders: me, writer: Some(worker) };
        }
    }
}

fn trace(load: Load, workers: usize) -> Result<Counts, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=lackey", "--trace-mem=yes", "--basic-counts=no", "--log-fd=2"]).arg(own);
    command.args(["--traced", load.name(), "--workers", &workers.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("valgrind: {error}"))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("valgrind has no pipes".to_owned());
    };
    let marks = AtomicU64::new(0);
    let counts = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_trace(stderr, &marks));
        let mut line = String::new();
        if BufReader::new(stdout).read_line(&mut line).is_ok()
            && let Ok(address) = line.trim().parse()
        {
            marks.store(address, SeqCst);
            // If the child is gone there will be no counts.
            let _ = writeln!(stdin, "go");
        }
        reader.join().unwrap_or_default()
    });
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() && counts.commands > 0 { Ok(counts) } else { Err(format!("valgrind: {status}")) }
}

/// Lines are ` S 1ffefffabc,8`; instructions begin with `I`.
fn read_trace(trace: impl std::io::Read, marks: &AtomicU64) -> Counts {
    let mut reader = BufReader::with_capacity(1 << 20, trace);
    let mut line = Vec::new();
    let mut caches = Caches::default();
    let (mut running, mut begun) = (None, 0usize);
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return caches.counts,
            Ok(_) => {}
        }
        let [b' ', kind @ (b'L' | b'S' | b'M'), b' ', rest @ ..] = line.as_slice() else { continue };
        let Ok(text) = std::str::from_utf8(rest) else { continue };
        let Some((address, len)) = text.trim_end().split_once(',') else { continue };
        let (Ok(address), Ok(len)) = (u64::from_str_radix(address, 16), len.parse()) else { continue };
        let first = marks.load(SeqCst);
        let mark = address.wrapping_sub(first) / size_of::<Mark>() as u64;
        if first != 0 && address >= first && mark <= WORKERS_MAX as u64 {
            // The exchange that stores a mark is shown as a load as well.
            if *kind == b'L' {
                continue;
            }
            running = (mark < WORKERS_MAX as u64).then_some(mark as u8);
            begun += usize::from(running.is_some());
            if running.is_some() && begun == COMMANDS + 1 {
                caches.counts = Counts::default();
            }
            caches.counts.commands += u64::from(running.is_some());
            continue;
        }
        if let Some(worker) = running {
            caches.access(worker, *kind, address, len);
        }
    }
}

pub(crate) fn print(options: &Options) -> Result<(), String> {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("lines: left out, valgrind is not installed");
        return Ok(());
    }
    println!("lines taken from other workers, per command, caches without limit, {KEYS} keys");
    let mut rows = Vec::new();
    for load in Load::ALL {
        for workers in options.workers.iter().copied().filter(|workers| *workers <= WORKERS_MAX) {
            let counts = trace(load, workers)?;
            let per = |count: u64| format!("{:.2}", count as f64 / counts.commands as f64);
            rows.push(vec![
                load.name().to_owned(),
                workers.to_string(),
                per(counts.fetched),
                per(counts.taken),
                per(counts.taken_atomically),
                per(counts.accesses),
            ]);
        }
    }
    table::print(&["load", "workers", "read", "written", "of these atomic", "accesses"], &rows);
    Ok(())
}
