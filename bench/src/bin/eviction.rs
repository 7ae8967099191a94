// SPDX-License-Identifier: BSD-3-Clause
//! A node at its memory limit, Pando and Valkey 9.1.2 in turn: hit ratios on Zipf traces for each policy; latency of a
//! paced client while a loader writes twice the limit; how far memory goes beyond the limit meanwhile.
//!
//! `cargo run --profile dist -p pando-bench --bin eviction -- --help`

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use pando_bench::{median, table};
use pando_procs::client::info_field;
use pando_procs::{Node, Software};
use pando_resp::decode::Value;

#[derive(Parser)]
struct Options {
    /// Rounds; figures are medians over them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// `maxmemory` in MiB while the loader writes.
    #[arg(long, default_value_t = 256)]
    limit_mib: u64,
    /// Requests of each Zipf trace.
    #[arg(long, default_value_t = 1_000_000)]
    trace: u64,
    /// Exponent of the Zipf distribution.
    #[arg(long, default_value_t = 0.9)]
    zipf: f64,
    /// Requests of the paced client per second.
    #[arg(long, default_value_t = 1000)]
    pace: u64,
    /// Only `hits` or `calm`.
    #[arg(long, default_value = "")]
    only: String,
    /// Only policies whose Valkey name contains this.
    #[arg(long, default_value = "")]
    policy: String,
}

const SOFTWARE: [Software; 2] = [Software::Pando, Software::Valkey];
/// Bytes of a value.
const VALUE: usize = 200;
/// Keys of the traces; a third of them fits.
const TRACE_KEYS: usize = 150_000;

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench eviction: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    if options.only != "calm" {
        hits(options)?;
    }
    if options.only != "hits" {
        calm(options)?;
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Ranks by Zipf's law.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: usize, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Zipf(sums.collect())
    }

    fn draw(&self, rng: &mut Rng) -> usize {
        let at = rng.unit() * self.0.last().copied().unwrap_or(1.0);
        self.0.partition_point(|&sum| sum < at).min(self.0.len() - 1)
    }
}

/// Memory in use.
fn used(node: &Node) -> Result<u64, String> {
    field(node, "memory", "used_memory")
}

fn field(node: &Node, section: &str, name: &str) -> Result<u64, String> {
    let info = node.client().text(&["INFO", section]).map_err(text)?;
    info_field(&info, name).and_then(|value| value.parse().ok()).ok_or_else(|| format!("no {name} in INFO {section}"))
}

fn config(node: &Node, name: &str, value: &str) -> Result<(), String> {
    match node.client().text(&["CONFIG", "SET", name, value]).map_err(text)?.as_str() {
        "OK" => Ok(()),
        refused => Err(format!("CONFIG SET {name} {value}: {refused}")),
    }
}

/// Hit ratios of a cache with look-aside loading: GET, and SET what was missing.
fn hits(options: &Options) -> Result<(), String> {
    let mut rows = Vec::new();
    for (name, policy, ttl_s) in [
        ("LRU", "allkeys-lru", 0),
        ("LFU", "allkeys-lfu", 0),
        ("random", "allkeys-random", 0),
        ("volatile LRU", "volatile-lru", 3600),
        ("volatile TTL", "volatile-ttl", 3600),
    ] {
        if !policy.contains(&options.policy) {
            continue;
        }
        for drift in [false, true] {
            let mut held = [Vec::new(), Vec::new()];
            let mut ratios = [Vec::new(), Vec::new()];
            for round in 0..options.rounds {
                let mut order = [0, 1];
                order.rotate_left(round % 2);
                for index in order {
                    let (ratio, keys) = hit_ratio(options, SOFTWARE[index], policy, ttl_s, drift, round as u64)?;
                    ratios[index].push(ratio);
                    held[index].push(keys);
                }
            }
            let percent = |values: &[f64]| format!("{:.2}", median(values) * 100.0);
            rows.push(vec![
                format!("{name}, {}", if drift { "the popular keys change" } else { "steady" }),
                percent(&ratios[0]),
                percent(&ratios[1]),
                format!("{:.0}", median(&held[0])),
                format!("{:.0}", median(&held[1])),
            ]);
        }
    }
    println!(
        "Hits in %, Zipf {} over {TRACE_KEYS} keys of which about a third fit, {} requests, medians of {} rounds\n",
        options.zipf, options.trace, options.rounds
    );
    table::print(&["policy and trace", "Pando", "Valkey", "keys held", "Valkey"], &rows);
    println!();
    Ok(())
}

fn hit_ratio(
    options: &Options,
    software: Software,
    policy: &str,
    ttl_s: u64,
    drift: bool,
    seed: u64,
) -> Result<(f64, f64), String> {
    const BATCH: u64 = 50;
    let node = Node::start(software, &["--maxmemory-policy", policy, "--lfu-decay-time", "1"])?;
    let mut client = node.client();
    let value = [b'v'; VALUE];
    // How many keys fit is the same for both: the limit is what the first third of them uses.
    let set = |out: &mut Vec<u8>, key: &str, ttl: u64| {
        if ttl == 0 {
            pando_resp::encode_command(out, &[b"SET", key.as_bytes(), &value]);
        } else {
            pando_resp::encode_command(out, &[b"SET", key.as_bytes(), &value, b"PX", ttl.to_string().as_bytes()]);
        }
    };
    let ttl_of = |rank: usize| {
        if ttl_s == 0 { 0 } else { ttl_s * 1000 + 1_000_000 * (TRACE_KEYS - rank) as u64 / TRACE_KEYS as u64 }
    };
    for first in (0..TRACE_KEYS / 3).step_by(500) {
        let mut batch = Vec::new();
        let keys = first..(first + 500).min(TRACE_KEYS / 3);
        keys.clone().for_each(|n| set(&mut batch, &format!("fill:{n:07}"), ttl_of(TRACE_KEYS)));
        client.send_raw(&batch).map_err(text)?;
        for _ in keys {
            client.receive().map_err(text)?;
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    config(&node, "maxmemory", &used(&node)?.to_string())?;
    let zipf = Zipf::new(TRACE_KEYS, options.zipf);
    let mut rng = Rng(seed + 1);
    let (mut hit, mut asked) = (0u64, 0u64);
    // The LRU clock counts seconds: a trace that is over in one tells nothing.
    let began = Instant::now();
    let pace = Duration::from_secs(12);
    let mut done = 0;
    while done < options.trace {
        let shift = if drift { (done * 4 / options.trace) as usize * 5000 } else { 0 };
        let ranks: Vec<usize> = (0..BATCH).map(|_| zipf.draw(&mut rng)).collect();
        let keys: Vec<String> = ranks.iter().map(|rank| format!("k:{:07}", (rank + shift) % TRACE_KEYS)).collect();
        let mut batch = Vec::new();
        keys.iter().for_each(|key| pando_resp::encode_command(&mut batch, &[b"GET", key.as_bytes()]));
        client.send_raw(&batch).map_err(text)?;
        let mut missing = Vec::new();
        for (key, rank) in keys.iter().zip(&ranks) {
            let is_hit = matches!(client.receive().map_err(text)?, Value::Bulk(Some(_)));
            // The first half fills the cache.
            if done >= options.trace / 2 {
                asked += 1;
                hit += u64::from(is_hit);
            }
            if !is_hit {
                missing.push((key, *rank));
            }
        }
        let mut batch = Vec::new();
        missing.iter().for_each(|(key, rank)| set(&mut batch, key, ttl_of(*rank)));
        client.send_raw(&batch).map_err(text)?;
        for _ in &missing {
            if let Value::Error(refused) = client.receive().map_err(text)? {
                return Err(format!("{software:?}, {policy}: {refused}"));
            }
        }
        done += BATCH;
        let due = pace.mul_f64(done as f64 / options.trace as f64);
        if let Some(early) = due.checked_sub(began.elapsed()).filter(|early| *early > Duration::from_millis(5)) {
            std::thread::sleep(early);
        }
    }
    let held = node.client().text(&["DBSIZE"]).map_err(text)?;
    Ok((hit as f64 / asked.max(1) as f64, held.parse().unwrap_or(f64::NAN)))
}

/// One server's figures under the loader.
#[derive(Default)]
struct Calm {
    calm_p999_ms: f64,
    loaded_p999_ms: f64,
    loaded_max_ms: f64,
    below_p999_ms: f64,
    overshoot_percent: f64,
    writes_per_s: f64,
    refused: u64,
    by_writers: u64,
}

fn calm(options: &Options) -> Result<(), String> {
    let mut all: [Vec<Calm>; 2] = [Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        let mut order = [0, 1];
        order.rotate_left(round % 2);
        for index in order {
            all[index].push(one_calm(options, SOFTWARE[index])?);
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }
    println!(
        "{} requests/s of a paced client, limit {} MiB, allkeys-lru, loader writes twice the limit in pipelines of 16; \
         medians of {} rounds\n",
        options.pace, options.limit_mib, options.rounds
    );
    let of = |index: usize, field: fn(&Calm) -> f64| median(&all[index].iter().map(field).collect::<Vec<_>>());
    let row = |name: &str, field: fn(&Calm) -> f64| {
        vec![name.to_owned(), format!("{:.2}", of(0, field)), format!("{:.2}", of(1, field))]
    };
    table::print(
        &["", "Pando", "Valkey"],
        &[
            row("p99.9 without load, ms", |each| each.calm_p999_ms),
            row("p99.9 under the loader below the limit, ms", |each| each.below_p999_ms),
            row("p99.9 under the loader at the limit, ms", |each| each.loaded_p999_ms),
            row("longest at the limit, ms", |each| each.loaded_max_ms),
            row("ratio at the limit to below it", |each| each.loaded_p999_ms / each.below_p999_ms),
            row("ratio at the limit to without load", |each| each.loaded_p999_ms / each.calm_p999_ms),
            row("used_memory beyond the limit, %", |each| each.overshoot_percent),
            row("loader, thousand writes/s", |each| each.writes_per_s / 1000.0),
            row("writes refused", |each| each.refused as f64),
            row("keys evicted by writers", |each| each.by_writers as f64),
        ],
    );
    Ok(())
}

fn percentile_ms(latencies: &mut [Duration], per_mille: usize) -> f64 {
    latencies.sort_unstable();
    let index = (latencies.len() * per_mille / 1000).min(latencies.len().saturating_sub(1));
    latencies.get(index).map_or(f64::NAN, Duration::as_secs_f64) * 1000.0
}

trait AsMs {
    fn as_ms(&self) -> f64;
}

impl AsMs for Duration {
    fn as_ms(&self) -> f64 {
        self.as_secs_f64() * 1000.0
    }
}

/// GETs and SETs at a steady pace until told to stop; latencies count from when a request was due.
fn paced(node: &Node, options: &Options, stop: &AtomicBool) -> Result<Vec<Duration>, String> {
    let mut client = node.client();
    let mut latencies = Vec::new();
    let step = Duration::from_secs(1) / options.pace as u32;
    let mut due = Instant::now();
    let mut n = 0u64;
    while !stop.load(Relaxed) {
        due += step;
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        n += 1;
        let key = format!("paced:{}", n % 100);
        let reply =
            if n.is_multiple_of(2) { client.text(&["SET", &key, "value"]) } else { client.text(&["GET", &key]) };
        reply.map_err(text)?;
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

/// Writes new keys of together `bytes` bytes of values; returns refused writes.
fn load(node: &Node, first: u64, bytes: u64) -> Result<(u64, u64), String> {
    const PIPELINE: u64 = 16;
    let mut client = node.client();
    let value = [b'v'; VALUE];
    let (mut n, mut refused) = (first, 0);
    let end = first + bytes / VALUE as u64;
    while n < end {
        let mut batch = Vec::new();
        for number in n..n + PIPELINE {
            pando_resp::encode_command(&mut batch, &[b"SET", format!("load:{number:010}").as_bytes(), &value]);
        }
        client.send_raw(&batch).map_err(text)?;
        for _ in 0..PIPELINE {
            refused += u64::from(matches!(client.receive().map_err(text)?, Value::Error(_)));
        }
        n += PIPELINE;
    }
    Ok((n, refused))
}

fn one_calm(options: &Options, software: Software) -> Result<Calm, String> {
    let limit = options.limit_mib << 20;
    let node = Node::start(software, &["--maxmemory-policy", "allkeys-lru", "--io-threads", "1"])?;
    config(&node, "maxmemory", &limit.to_string())?;
    let mut result = Calm::default();
    let mut next = 0;
    // Without load; below the limit; at it.
    let phase = |work: &mut dyn FnMut() -> Result<(), String>| -> Result<Vec<Duration>, String> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| paced(&node, options, &stop));
            let outcome = work();
            stop.store(true, Relaxed);
            let latencies = client.join().map_err(|_| "the paced client panicked".to_owned())?;
            outcome.and(latencies)
        })
    };
    let mut latencies = phase(&mut || {
        std::thread::sleep(Duration::from_secs(5));
        Ok(())
    })?;
    result.calm_p999_ms = percentile_ms(&mut latencies, 999);
    let mut latencies = phase(&mut || {
        next = load(&node, 0, limit / 2)?.0;
        Ok(())
    })?;
    result.below_p999_ms = percentile_ms(&mut latencies, 999);
    // Up to the limit, unmeasured.
    while used(&node)? < limit - limit / 20 {
        next = load(&node, next, limit / 64)?.0;
    }
    let highest = std::sync::atomic::AtomicU64::new(0);
    let is_done = AtomicBool::new(false);
    let mut rate = 0.0;
    let mut refused = 0;
    let mut latencies = phase(&mut || {
        std::thread::scope(|scope| {
            let observer = scope.spawn(|| -> Result<(), String> {
                while !is_done.load(Relaxed) {
                    highest.fetch_max(used(&node)?, Relaxed);
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(())
            });
            let began = Instant::now();
            let outcome = load(&node, next, limit * 2);
            is_done.store(true, Relaxed);
            let (end, denied) = outcome?;
            rate = (end - next) as f64 / began.elapsed().as_secs_f64();
            refused = denied;
            observer.join().map_err(|_| "the observer panicked".to_owned())?
        })
    })?;
    result.loaded_p999_ms = percentile_ms(&mut latencies, 999);
    result.loaded_max_ms = latencies.last().map_or(0.0, AsMs::as_ms);
    result.overshoot_percent = (highest.load(Relaxed) as f64 / limit as f64 - 1.0).max(0.0) * 100.0;
    (result.writes_per_s, result.refused) = (rate, refused);
    if software == Software::Pando {
        result.by_writers = field(&node, "stats", "eviction_by_writers")?;
    }
    Ok(result)
}
