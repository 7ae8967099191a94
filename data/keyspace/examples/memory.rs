// SPDX-License-Identifier: BSD-3-Clause
//! Measures memory: loads keys of 16 + 80 bytes and prints resident bytes per key beyond those 96.
//!
//! Usage: `memory [keys] [ttl]`, one process per case. Not a test: numbers depend on the machine. Run with `--release`.

use pando_keyspace::{Keyspace, KeyspaceConfig, StrHint, Ttl};
use pando_topology::Slot;
use std::time::{Instant, SystemTime};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn main() {
    let keys: u64 = std::env::args().nth(1).and_then(|keys| keys.parse().ok()).unwrap_or(5_000_000);
    let now_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
    let with_ttl = std::env::args().any(|argument| argument == "ttl");
    let before = resident_bytes();
    let keyspace = Keyspace::new(KeyspaceConfig::default());
    let value = [b'v'; 80];
    let start = Instant::now();
    for number in 0..keys {
        let key = format!("key:{number:012}");
        let mut guard = keyspace.lock_one(Slot::of_key(key.as_bytes()));
        guard.set_now(now_ms);
        // One to 24 hours ahead, spread out.
        let due = now_ms + 3_600_000 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (23 * 3_600_000);
        let ttl = if with_ttl { Ttl::At(due) } else { Ttl::Clear };
        guard.db(0).set_str(key.as_bytes(), &value, ttl, StrHint::Auto);
    }
    let load_ns = start.elapsed().as_nanos() as f64 / keys as f64;
    let per_key = (resident_bytes() - before) as f64 / keys as f64;
    let start = Instant::now();
    let mut hits = 0;
    for number in 0..keys {
        let number = number.wrapping_mul(7_368_787) % keys;
        let key = format!("key:{number:012}");
        let mut guard = keyspace.lock_one(Slot::of_key(key.as_bytes()));
        guard.set_now(now_ms);
        hits += u64::from(guard.db(0).get(key.as_bytes()).is_some());
    }
    let get_ns = start.elapsed().as_nanos() as f64 / keys as f64;
    let start = Instant::now();
    drop(keyspace.lock_all());
    let lock_us = start.elapsed().as_micros();
    println!(
        "ttl={with_ttl} keys={keys} rss_beyond_96={:.1} accounted_beyond_96={:.1} set_ns={load_ns:.0} get_ns={get_ns:.0} hits={hits} lock_all_us={lock_us}",
        per_key - 96.0,
        keyspace.used_bytes() as f64 / keys as f64 - 96.0,
    );
    let start = Instant::now();
    let garbage = keyspace.flush(None);
    let flush_us = start.elapsed().as_micros();
    let freed = garbage.keys;
    drop(garbage);
    println!("flush_us={flush_us} freed={freed} used_after={}", keyspace.used_bytes());
}
