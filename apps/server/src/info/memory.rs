// SPDX-License-Identifier: BSD-3-Clause
//! INFO memory and keyspace.

use super::{allocator, field, human, zeros};
use crate::server::Server;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

fn ratio(a: u64, b: u64) -> String {
    if b == 0 { "0.00".to_owned() } else { format!("{:.2}", a as f64 / b as f64) }
}

/// The allocator's numbers and the slab's together.
pub(crate) fn memory_stats(server: &Server, used: u64, rss: u64) -> allocator::Stats {
    let keyspace = &server.engine.keyspace;
    let pages = keyspace.slab_page_bytes();
    allocator::stats().map_or(allocator::Stats { allocated: used, active: used, resident: rss }, |heap| {
        allocator::Stats {
            allocated: heap.allocated + keyspace.slab_block_bytes(),
            active: heap.active + pages,
            resident: heap.resident + pages,
        }
    })
}

pub(super) fn memory(server: &Server, out: &mut String) {
    let used = server.used_memory();
    let peak = server.peak_memory.load(Relaxed);
    let startup = server.startup_memory.load(Relaxed);
    let rss = allocator::resident_bytes();
    let dataset = server.engine.keyspace.used_bytes().min(used);
    let stats = memory_stats(server, used, rss);
    let status = server.replication.status();
    let maxmemory = server.engine.settings.load().maxmemory;
    let percent =
        |part: u64, whole: u64| format!("{:.2}%", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 });
    out.push_str("# Memory\r\n");
    field(out, "used_memory", used);
    field(out, "used_memory_human", human(used));
    field(out, "used_memory_rss", rss);
    field(out, "used_memory_rss_human", human(rss));
    field(out, "used_memory_peak", peak);
    field(out, "used_memory_peak_human", human(peak));
    field(out, "used_memory_peak_perc", percent(used, peak));
    field(out, "used_memory_overhead", used - dataset);
    field(out, "used_memory_startup", startup);
    field(out, "used_memory_dataset", dataset);
    field(out, "used_memory_dataset_perc", percent(dataset, used.saturating_sub(startup).max(dataset)));
    field(out, "allocator_allocated", stats.allocated);
    field(out, "allocator_active", stats.active);
    field(out, "allocator_resident", stats.resident);
    field(out, "allocator_muzzy", 0);
    let total = allocator::total_bytes();
    field(out, "total_system_memory", total);
    field(out, "total_system_memory_human", human(total));
    field(out, "maxmemory", maxmemory);
    field(out, "maxmemory_human", human(maxmemory));
    field(out, "maxmemory_policy", server.config.value("maxmemory-policy"));
    field(out, "allocator_frag_ratio", ratio(stats.active, stats.allocated));
    field(out, "allocator_frag_bytes", stats.active.saturating_sub(stats.allocated));
    field(out, "allocator_rss_ratio", ratio(stats.resident, stats.active));
    field(out, "allocator_rss_bytes", stats.resident.saturating_sub(stats.active));
    field(out, "rss_overhead_ratio", ratio(rss, stats.resident));
    field(out, "rss_overhead_bytes", rss as i64 - stats.resident as i64);
    field(out, "mem_fragmentation_ratio", ratio(rss, used));
    field(out, "mem_fragmentation_bytes", rss as i64 - used as i64);
    field(out, "mem_not_counted_for_evict", server.memory_not_counted());
    field(out, "mem_replication_backlog", status.backlog_len);
    field(out, "mem_total_replication_buffers", status.backlog_len);
    zeros(out, &["mem_replicas_repl_buffer", "mem_clients_slaves"]);
    let clients = server.engine.clients.all();
    let buffers: u64 = clients.iter().map(|c| c.query_bytes.load(Relaxed) + c.output_bytes.load(Relaxed)).sum();
    field(out, "mem_clients_normal", buffers);
    zeros(out, &["mem_cluster_links", "mem_cluster_slot_import", "mem_cluster_slot_export", "mem_aof_buffer"]);
    field(out, "mem_allocator", "jemalloc-5.3.0");
    field(out, "mem_overhead_db_hashtable_rehashing", 0);
    field(out, "active_defrag_running", server.defrag.running.load(Relaxed));
    zeros(out, &["lazyfree_pending_objects", "lazyfreed_objects"]);
}

pub(super) fn keyspace(server: &Server, out: &mut String) {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    out.push_str("# Keyspace\r\n");
    for db in 0..server.engine.settings.load().databases {
        let stats = server.engine.keyspace.db_stats(db, now_ms);
        if stats.keys > 0 {
            let line = format_args!(
                "keys={},expires={},avg_ttl={},keys_with_volatile_items={}",
                stats.keys, stats.volatile, stats.avg_ttl_ms, stats.with_volatile_fields
            )
            .to_string();
            field(out, &format!("db{db}"), line);
        }
    }
}
