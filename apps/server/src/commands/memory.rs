// SPDX-License-Identifier: BSD-3-Clause
//! MEMORY, but for MEMORY USAGE, which is a command on a key. Replies are Valkey's; what Pando does not have is zero.

use super::{Row, help, server_of};
use crate::info::{allocator, memory::memory_stats};
use pando_commands::CommandError;
use pando_resp::Args;
use pando_session::{Next, SessionCx};
use std::sync::atomic::Ordering::Relaxed;

pub(super) const TABLE: &[Row] = &[
    ("memory|doctor", doctor),
    ("memory|help", memory_help),
    ("memory|malloc-stats", malloc_stats),
    ("memory|purge", purge),
    ("memory|stats", stats),
];

/// Below this there is nothing to find.
const SMALL_BYTES: u64 = 5 << 20;

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn memory_help(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    help(
        cx,
        "MEMORY",
        &[
            "DOCTOR",
            "    Return memory problems reports.",
            "MALLOC-STATS",
            "    Return internal statistics report from the memory allocator.",
            "PURGE",
            "    Attempt to purge dirty pages for reclamation by the allocator.",
            "STATS",
            "    Return information about the memory usage of the server.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value. Nested values are",
            "    sampled up to <count> times (default: 5, 0 means sample all).",
        ],
    );
    Ok(Next::Continue)
}

fn doctor(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    let used = server.used_memory();
    if used < SMALL_BYTES {
        cx.reply.verbatim("txt", b"Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in these conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and I will be back to our programming as soon as I finished rebooting.\n");
        return Ok(Next::Continue);
    }
    let rss = allocator::resident_bytes();
    let stats = memory_stats(&server, used, rss);
    let peak = server.peak_memory.load(Relaxed);
    let mut found = Vec::new();
    if ratio(peak, used) > 1.5 {
        found.push("Peak memory: In the past this instance used more than 150% the memory that is currently using.");
    }
    if ratio(rss, used) > 1.4 && rss.saturating_sub(used) > 10 << 20 {
        found.push("High total RSS: the process is resident with more than 1.4 times of what it uses.");
    }
    if ratio(stats.active, stats.allocated) > 1.1 && stats.active - stats.allocated > 10 << 20 {
        found.push("High allocator fragmentation: pages have much free room between what is in use; activedefrag can compact them.");
    }
    let text = if found.is_empty() {
        "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n"
            .to_owned()
    } else {
        format!(
            "Sam, I detected a few issues in this Valkey instance memory implants:\n\n * {}\n",
            found.join("\n\n * ")
        )
    };
    cx.reply.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}

fn malloc_stats(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    let keyspace = &server.engine.keyspace;
    let mut text = format!("slab: pages {} blocks {}\n", keyspace.slab_page_bytes(), keyspace.slab_block_bytes());
    match allocator::stats() {
        Some(heap) => text.push_str(&format!(
            "jemalloc: allocated {} active {} resident {}\n",
            heap.allocated, heap.active, heap.resident
        )),
        None => text.push_str("Stats not supported for the current allocator\n"),
    }
    cx.reply.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}

fn purge(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    allocator::purge();
    cx.reply.ok();
    Ok(Next::Continue)
}

/// One value of MEMORY STATS.
enum Item {
    Int(u64),
    Signed(i64),
    Real(f64),
    Db { table: u64, expires: u64 },
}

fn stats(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    use Item::{Int, Real, Signed};
    let server = server_of(cx)?;
    let keyspace = &server.engine.keyspace;
    let (used, rss) = (server.used_memory(), allocator::resident_bytes());
    let (peak, startup) = (server.peak_memory.load(Relaxed), server.startup_memory.load(Relaxed));
    let memory = memory_stats(&server, used, rss);
    let clients = server.engine.clients.all();
    let buffers: u64 = clients.iter().map(|c| c.query_bytes.load(Relaxed) + c.output_bytes.load(Relaxed)).sum();
    let backlog = server.replication.status().backlog_len;
    let keys: u64 = (0..keyspace.databases()).map(|db| keyspace.len(db)).sum();
    let dataset = keyspace.entry_bytes();
    let overhead = used.saturating_sub(dataset);
    let mut items: Vec<(String, Item)> = Vec::new();
    let mut add = |name: &str, item: Item| items.push((name.to_owned(), item));
    add("peak.allocated", Int(peak));
    add("total.allocated", Int(used));
    add("startup.allocated", Int(startup));
    add("replication.backlog", Int(backlog));
    for name in ["replicas.repl.buffer", "clients.slaves"] {
        add(name, Int(0));
    }
    add("clients.normal", Int(buffers));
    for name in
        ["cluster.links", "cluster.slot_import", "cluster.slot_export", "aof.buffer", "lua.caches", "functions.caches"]
    {
        add(name, Int(0));
    }
    for db in (0..keyspace.databases()).filter(|db| !keyspace.is_empty(*db)) {
        let (table, expires) = keyspace.table_bytes(db);
        add(&format!("db.{db}"), Item::Db { table, expires });
    }
    add("overhead.db.hashtable.lut", Int(keyspace.used_bytes().saturating_sub(dataset)));
    add("overhead.db.hashtable.rehashing", Int(0));
    add("overhead.total", Int(overhead));
    add("db.dict.rehashing.count", Int(0));
    add("keys.count", Int(keys));
    add("keys.bytes-per-key", Int(used.saturating_sub(startup).checked_div(keys).unwrap_or(0)));
    add("dataset.bytes", Int(dataset));
    add("dataset.percentage", Real(100.0 * ratio(dataset, used.saturating_sub(startup).max(dataset))));
    add("peak.percentage", Real(100.0 * ratio(used, peak)));
    add("allocator.allocated", Int(memory.allocated));
    add("allocator.active", Int(memory.active));
    add("allocator.resident", Int(memory.resident));
    add("allocator.muzzy", Int(0));
    add("allocator-fragmentation.ratio", Real(ratio(memory.active, memory.allocated)));
    add("allocator-fragmentation.bytes", Int(memory.active.saturating_sub(memory.allocated)));
    add("allocator-rss.ratio", Real(ratio(memory.resident, memory.active)));
    add("allocator-rss.bytes", Signed(memory.resident as i64 - memory.active as i64));
    add("rss-overhead.ratio", Real(ratio(rss, memory.resident)));
    add("rss-overhead.bytes", Signed(rss as i64 - memory.resident as i64));
    add("fragmentation", Real(ratio(rss, used)));
    add("fragmentation.bytes", Signed(rss as i64 - used as i64));
    cx.reply.map(items.len());
    for (name, item) in items {
        cx.reply.bulk(name.as_bytes());
        match item {
            Int(number) => cx.reply.int(number as i64),
            Signed(number) => cx.reply.int(number),
            Real(number) => cx.reply.double(number),
            Item::Db { table, expires } => {
                cx.reply.map(2);
                cx.reply.bulk(b"overhead.hashtable.main");
                cx.reply.int(table as i64);
                cx.reply.bulk(b"overhead.hashtable.expires");
                cx.reply.int(expires as i64);
            }
        }
    }
    Ok(Next::Continue)
}
