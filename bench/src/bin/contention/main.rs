// SPDX-License-Identifier: BSD-3-Clause
//! What workers cost each other: locks that they find taken and cache lines that they take from each other, per command,
//! by the number of workers. Runs the real engine and sessions in this process, without sockets.
//!
//! `cargo run --release -p pando-bench --bin contention`. Three tables:
//! - measured: threads on this machine's cores;
//! - lines: every memory access of a few hundred commands, one worker after the other, from valgrind's `lackey` tool,
//!   through caches without limit (`lines.rs`); left out where valgrind is missing;
//! - model: what follows for more cores than there are here (`model.rs`).

mod lines;
mod model;

use clap::Parser;
use pando_bench::table;
use pando_resp::{Proto, ReplyBuf};
use pando_session::{ClientInfo, Engine, EngineConfig, Session, WorkerScratch};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

#[derive(Parser)]
pub(crate) struct Options {
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16")]
    workers: Vec<usize>,
    /// Commands of each worker in the measured table.
    #[arg(long, default_value_t = 400_000)]
    commands: u64,
    /// Keys, with 80-byte values.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Only these tables, of `measured`, `lines`, `model`.
    #[arg(long, value_delimiter = ',', default_value = "measured,lines,model")]
    tables: Vec<String>,
    /// Of the process that valgrind runs: the load and its workers.
    #[arg(long, hide = true)]
    traced: Option<String>,
}

/// What the workers do.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Load {
    /// GET and SET in turn, of random keys.
    Uniform,
    /// GET and SET in turn, of keys of one slot.
    HotSlot,
    /// GET of one key.
    HotKey,
}

impl Load {
    pub(crate) const ALL: [Load; 3] = [Load::Uniform, Load::HotSlot, Load::HotKey];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Load::Uniform => "uniform GET+SET",
            Load::HotSlot => "hot slot GET+SET",
            Load::HotKey => "hot key GET",
        }
    }

    fn key(self, random: u64, keys: u64) -> String {
        match self {
            Load::Uniform => format!("key:{:012}", random % keys),
            Load::HotSlot => format!("{{k}}:{:012}", random % 1000),
            Load::HotKey => format!("key:{:012}", 7),
        }
    }
}

/// One worker as the server has it, without its sockets.
pub(crate) struct Worker {
    engine: Arc<Engine>,
    session: Session,
    scratch: WorkerScratch,
    reply: ReplyBuf,
    random: u64,
    turn: u64,
}

const VALUE: [u8; 80] = [b'x'; 80];
/// The server looks at the clock and sends once per batch.
const BATCH: u64 = 32;

impl Worker {
    pub(crate) fn new(engine: &Arc<Engine>, number: usize) -> Worker {
        Worker {
            session: Session::new(engine, ClientInfo::default()),
            scratch: WorkerScratch::new(engine),
            engine: engine.clone(),
            reply: ReplyBuf::new(Proto::Resp2),
            random: 0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1) << 20,
            turn: number as u64,
        }
    }

    /// The next key of the load.
    pub(crate) fn next_key(&mut self, load: Load, keys: u64) -> String {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        load.key(self.random >> 24, keys)
    }

    /// Executes one command of the load.
    pub(crate) fn execute(&mut self, load: Load, key: &[u8]) {
        self.turn += 1;
        if self.turn.is_multiple_of(BATCH) {
            self.scratch.refresh_time();
            self.reply.clear();
        }
        let set = [b"SET", key, &VALUE];
        let is_get = load == Load::HotKey || self.turn.is_multiple_of(2);
        let args: &[&[u8]] = if is_get { &[b"GET", key] } else { &set };
        self.session.execute(&self.engine, &mut self.scratch, args, &mut self.reply);
    }
}

pub(crate) fn new_engine(load: Load, keys: u64) -> Arc<Engine> {
    let engine = Engine::new(EngineConfig::default(), &[]);
    let mut loader = Worker::new(&engine, usize::MAX >> 24);
    let numbers = match load {
        Load::Uniform => 0..keys,
        Load::HotSlot => 0..1000,
        Load::HotKey => 0..1,
    };
    for number in numbers {
        let key = load.key(number, keys);
        loader.session.execute(&engine, &mut loader.scratch, &[b"SET", key.as_bytes(), &VALUE], &mut loader.reply);
        loader.reply.clear();
    }
    engine
}

fn thread_cpu_ns() -> u64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// What a number of workers did on this machine.
pub(crate) struct Measured {
    load: Load,
    workers: usize,
    /// Thousands of commands in a second, all workers together.
    rate: f64,
    /// Processor time of a command, in nanoseconds.
    pub(crate) cpu_ns: f64,
    /// Times that a command found its slot's lock taken, of 1000 commands.
    waits: f64,
}

pub(crate) fn measure(load: Load, workers: usize, options: &Options) -> Measured {
    let engine = new_engine(load, options.keys);
    let (cpu, waits) = (AtomicU64::new(0), AtomicU64::new(0));
    let begin = Barrier::new(workers + 1);
    let mut started = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..workers {
            let (engine, cpu, waits, begin) = (&engine, &cpu, &waits, &begin);
            scope.spawn(move || {
                let mut worker = Worker::new(engine, number);
                let keys: Vec<String> = (0..4096).map(|_| worker.next_key(load, options.keys)).collect();
                begin.wait();
                let (cpu_before, waits_before) = (thread_cpu_ns(), pando_keyspace::lock_waits_of_this_thread());
                for turn in 0..options.commands {
                    worker.execute(load, keys[turn as usize % keys.len()].as_bytes());
                }
                cpu.fetch_add(thread_cpu_ns() - cpu_before, Ordering::Relaxed);
                waits.fetch_add(pando_keyspace::lock_waits_of_this_thread() - waits_before, Ordering::Relaxed);
            });
        }
        begin.wait();
        started = Instant::now();
    });
    let elapsed = started.elapsed().as_secs_f64();
    let commands = (options.commands * workers as u64) as f64;
    Measured {
        load,
        workers,
        rate: commands / elapsed / 1000.0,
        cpu_ns: cpu.into_inner() as f64 / commands,
        waits: waits.into_inner() as f64 * 1000.0 / commands,
    }
}

fn print_measured(options: &Options) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("measured on {cores} cores, commands in process (no sockets, no parsing)");
    let rows =
        Load::ALL.iter().flat_map(|load| options.workers.iter().map(|workers| measure(*load, *workers, options)));
    let rows = rows.map(|it| {
        vec![
            it.load.name().to_owned(),
            it.workers.to_string(),
            format!("{:.0}", it.rate),
            format!("{:.0}", it.cpu_ns),
            format!("{:.2}", it.waits),
        ]
    });
    table::print(&["load", "workers", "k commands/s", "CPU ns", "waits per 1000"], &rows.collect::<Vec<_>>());
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(what) = &options.traced {
        lines::run_traced(what, &options);
        return ExitCode::SUCCESS;
    }
    let wants = |table: &str| options.tables.iter().any(|wanted| wanted == table);
    if wants("measured") {
        print_measured(&options);
    }
    if wants("lines") {
        println!();
        if let Err(reason) = lines::print(&options) {
            eprintln!("bench contention: {reason}");
            return ExitCode::FAILURE;
        }
    }
    if wants("model") {
        println!();
        model::print(&options);
    }
    ExitCode::SUCCESS
}
