// SPDX-License-Identifier: BSD-3-Clause
//! How throughput grows with more cores than there are here: workers that execute commands without end, each under the
//! lock of its slot, played out event by event. What goes in is measured: the time of a command, the part of it under the
//! lock, and how long a line takes from one core to another.

use super::{Load, Options, measure, new_engine};
use pando_bench::table;
use pando_topology::Slot;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Processor time of an unpipelined request in the kernel, about (see `docs/benchmarks.md`).
const NETWORK_NS: f64 = 2500.0;
const EVENTS: usize = 200_000;

/// Nanoseconds for a line to come from another core: the best of several tries, because both cores have to be free.
fn transfer_ns() -> f64 {
    let end = Instant::now() + Duration::from_secs(3);
    let mut best = ping_pong_ns();
    for _ in 0..200 {
        if Instant::now() >= end {
            break;
        }
        best = best.min(ping_pong_ns());
    }
    best
}

/// Two threads that wait for each other's writes.
fn ping_pong_ns() -> f64 {
    const TURNS: u64 = 300;
    let word = AtomicU64::new(0);
    let begin = Barrier::new(3);
    let mut started = Instant::now();
    std::thread::scope(|scope| {
        for odd in [0, 1] {
            let (word, begin) = (&word, &begin);
            scope.spawn(move || {
                begin.wait();
                for turn in 0..TURNS {
                    let mut looks = 0u32;
                    while word.load(SeqCst) != turn * 2 + odd {
                        looks += 1;
                        if looks.is_multiple_of(1 << 12) {
                            std::thread::yield_now();
                        }
                        std::hint::spin_loop();
                    }
                    word.store(turn * 2 + odd + 1, SeqCst);
                }
            });
        }
        begin.wait();
        started = Instant::now();
    });
    started.elapsed().as_nanos() as f64 / (TURNS * 2) as f64
}

/// Nanoseconds of what a GET does under its slot's lock, the lock included, without anybody else.
fn held_ns() -> f64 {
    const TURNS: u32 = 50_000;
    let engine = new_engine(Load::HotKey, 1);
    let key = Load::HotKey.key(0, 1);
    let slot = Slot::of_key(key.as_bytes());
    let mut copy = Vec::with_capacity(128);
    let mut time = || {
        let started = Instant::now();
        for _ in 0..TURNS {
            let mut locked = engine.keyspace.lock_one(slot);
            locked.set_now(1 << 40);
            if let Some(pando_keyspace::ValueRef::Str(value)) = locked.db(0).get(black_box(key.as_bytes())) {
                copy.clear();
                copy.extend_from_slice(value);
            }
        }
        started.elapsed().as_nanos() as f64 / f64::from(TURNS)
    };
    (0..40).map(|_| time()).fold(f64::INFINITY, f64::min)
}

/// Commands in a microsecond by all workers, and the share of them that found the lock taken.
fn play(workers: usize, locks: u64, outside_ns: f64, held_ns: f64, transfer_ns: f64) -> (f64, f64) {
    // When each worker wants its next lock, and when each lock is free again.
    let mut wants: Vec<f64> = (0..workers).map(|worker| outside_ns * worker as f64 / workers as f64).collect();
    let mut free_at = vec![0.0f64; locks as usize];
    let mut owner = vec![usize::MAX; locks as usize];
    let (mut random, mut waited, mut last) = (88_172_645_463_325_252u64, 0u32, 0.0f64);
    for _ in 0..EVENTS {
        let mut worker = 0;
        for other in 1..workers {
            if wants[other] < wants[worker] {
                worker = other;
            }
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let lock = (random % locks) as usize;
        let is_taken = free_at[lock] > wants[worker];
        waited += u32::from(is_taken);
        let begin = free_at[lock].max(wants[worker]);
        // The lock's line and the slot's come one after the other.
        let moved = if owner[lock] == worker || owner[lock] == usize::MAX { 0.0 } else { transfer_ns };
        owner[lock] = worker;
        free_at[lock] = begin + moved + held_ns;
        // Outside varies, or the workers would fall into step.
        let varied = outside_ns * (0.5 + (random >> 11) as f64 / (1u64 << 53) as f64);
        wants[worker] = free_at[lock] + varied;
        last = last.max(free_at[lock]);
    }
    (EVENTS as f64 / last * 1000.0, f64::from(waited) / EVENTS as f64)
}

pub(crate) fn print(options: &Options) {
    let alone = Options { workers: vec![1], tables: Vec::new(), traced: None, ..*options };
    let command_ns = (0..5).map(|_| measure(Load::HotKey, 1, &alone).cpu_ns).fold(f64::INFINITY, f64::min);
    let (held, transfer) = (held_ns(), transfer_ns());
    println!(
        "model: a command {command_ns:.0} ns, of these {held:.0} under the lock; a line from core to core {transfer:.0} ns (measured here)"
    );
    let outside = (command_ns - held).max(1.0);
    let mut rows = Vec::new();
    for (name, locks, outside_ns) in [
        ("uniform, in process", 16384, outside),
        ("one slot or key, in process", 1, outside),
        ("one slot or key, with sockets, no pipeline", 1, outside + NETWORK_NS),
    ] {
        for workers in &options.workers {
            let (rate, waited) = play(*workers, locks, outside_ns, held, transfer);
            let (single, _) = play(1, locks, outside_ns, held, transfer);
            rows.push(vec![
                name.to_owned(),
                workers.to_string(),
                format!("{rate:.1}"),
                format!("{:.1}", rate / single),
                format!("{:.1}", waited * 100.0),
            ]);
        }
    }
    table::print(&["load", "workers", "commands/us", "times one worker", "% found it taken"], &rows);
}
