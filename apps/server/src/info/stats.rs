// SPDX-License-Identifier: BSD-3-Clause
//! INFO stats, cpu, threads.

use super::{field, zeros};
use crate::os;
use crate::server::Server;
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn stats(server: &Server, out: &mut String) {
    let engine = &server.engine;
    let totals = engine.stats.totals();
    let net = server.net_totals();
    let status = server.replication.status();
    let rates = &server.rates;
    let kilobytes = |rate: &std::sync::atomic::AtomicU64| format!("{:.2}", rate.load(Relaxed) as f64 / 1024.0);
    out.push_str("# Stats\r\n");
    field(out, "total_connections_received", engine.stats.connections_received.load(Relaxed));
    field(out, "total_commands_processed", totals.commands);
    field(out, "instantaneous_ops_per_sec", rates.commands.load(Relaxed));
    field(out, "total_net_input_bytes", net.net_in);
    field(out, "total_net_output_bytes", net.net_out);
    zeros(
        out,
        &[
            "total_net_repl_input_bytes",
            "total_net_repl_output_bytes",
            "total_net_cluster_slot_import_bytes",
            "total_net_cluster_slot_export_bytes",
        ],
    );
    field(out, "instantaneous_input_kbps", kilobytes(&rates.net_in));
    field(out, "instantaneous_output_kbps", kilobytes(&rates.net_out));
    field(out, "instantaneous_input_repl_kbps", "0.00");
    field(out, "instantaneous_output_repl_kbps", "0.00");
    field(out, "rejected_connections", net.rejected);
    field(out, "sync_full", status.sync_full);
    field(out, "sync_partial_ok", status.sync_partial_ok);
    field(out, "sync_partial_err", status.sync_partial_err);
    field(out, "expired_keys", totals.expired_keys + engine.stats.expired_by_cycle.load(Relaxed));
    field(out, "expired_fields", totals.expired_fields + engine.stats.expired_fields_by_cycle.load(Relaxed));
    field(out, "expired_stale_perc", "0.00");
    field(out, "expired_keys_with_volatile_items_stale_perc", "0.00");
    field(out, "expired_time_cap_reached_count", 0);
    let lag = &server.expire_lag;
    field(out, "expire_cycle_cpu_milliseconds", lag.busy_us.load(Relaxed) / 1000);
    field(out, "expire_lag_ms", lag.now_ms.load(Relaxed));
    field(out, "expire_lag_max_ms", lag.max_ms.load(Relaxed));
    field(out, "expire_lag_sum_ms", lag.sum_ms.load(Relaxed));
    field(out, "evicted_keys", engine.stats.evicted_keys.load(Relaxed));
    let eviction = &engine.eviction;
    let (exceeded_ms, current_exceeded_ms) = eviction.exceeded_ms();
    field(out, "evicted_clients", eviction.evicted_clients.load(Relaxed));
    field(out, "evicted_scripts", 0);
    field(out, "total_eviction_exceeded_time", exceeded_ms);
    field(out, "current_eviction_exceeded_time", current_exceeded_ms);
    field(out, "eviction_cpu_budget", engine.settings.load().eviction_cpu_budget);
    field(out, "eviction_cpu_us", eviction.background_us.load(Relaxed));
    field(out, "eviction_by_writers", eviction.evicted_by_writers.load(Relaxed));
    field(out, "eviction_growth_bytes_per_sec", eviction.growth.load(Relaxed));
    field(out, "eviction_headroom_bytes", eviction.headroom.load(Relaxed));
    field(out, "eviction_lag_bytes", eviction.lag_bytes.load(Relaxed));
    field(out, "keyspace_hits", totals.keyspace_hits);
    field(out, "keyspace_misses", totals.keyspace_misses);
    let (channels, patterns, shard_channels) = engine.pubsub.counts();
    field(out, "pubsub_channels", channels);
    field(out, "pubsub_patterns", patterns);
    field(out, "pubsubshard_channels", shard_channels);
    zeros(out, &["latest_fork_usec", "total_forks", "migrate_cached_sockets", "slave_expires_tracked_keys"]);
    // One entry is one allocation.
    let (hits, misses) = (server.defrag.hits.load(Relaxed), server.defrag.misses.load(Relaxed));
    field(out, "active_defrag_hits", hits);
    field(out, "active_defrag_misses", misses);
    field(out, "active_defrag_key_hits", hits);
    field(out, "active_defrag_key_misses", misses);
    let current_ms = server.defrag.current_ms.load(Relaxed);
    field(out, "total_active_defrag_time", server.defrag.total_ms.load(Relaxed) + current_ms);
    field(out, "current_active_defrag_time", current_ms);
    zeros(out, &["tracking_total_keys", "tracking_total_items", "tracking_total_prefixes", "unexpected_error_replies"]);
    field(out, "total_error_replies", engine.stats.total_error_replies.load(Relaxed));
    field(out, "dump_payload_sanitizations", 0);
    field(out, "total_reads_processed", net.reads);
    field(out, "total_writes_processed", net.writes);
    // Every read and write is done by a worker; none of them is the main thread.
    field(out, "io_threaded_reads_processed", net.reads);
    field(out, "io_threaded_writes_processed", net.writes);
    zeros(out, &["io_threaded_freed_objects", "io_threaded_accept_processed", "io_threaded_poll_processed"]);
    field(out, "io_threaded_total_prefetch_batches", net.prefetch_batches);
    field(out, "io_threaded_total_prefetch_entries", net.prefetch_keys);
    field(out, "client_query_buffer_limit_disconnections", net.query_limit_closes);
    field(out, "client_output_buffer_limit_disconnections", net.output_limit_closes);
    zeros(out, &["reply_buffer_shrinks", "reply_buffer_expands"]);
    field(out, "eventloop_cycles", net.cycles);
    field(out, "eventloop_duration_sum", net.busy_us);
    field(out, "eventloop_duration_cmd_sum", totals.commands_ns / 1000);
    field(out, "instantaneous_eventloop_cycles_per_sec", rates.cycles.load(Relaxed));
    field(out, "instantaneous_eventloop_duration_usec", net.busy_us / net.cycles.max(1));
    zeros(
        out,
        &[
            "acl_access_denied_auth",
            "acl_access_denied_cmd",
            "acl_access_denied_key",
            "acl_access_denied_channel",
            "acl_access_denied_tls_cert",
            "acl_access_denied_db",
        ],
    );
}

pub(super) fn cpu(server: &Server, out: &mut String) {
    let [user, system, child_user, child_system] = os::cpu_times_us();
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    out.push_str("# CPU\r\n");
    field(out, "used_cpu_sys", seconds(system));
    field(out, "used_cpu_user", seconds(user));
    field(out, "used_cpu_sys_children", seconds(child_system));
    field(out, "used_cpu_user_children", seconds(child_user));
    // Workers share what Valkey's main thread does.
    field(out, "used_cpu_sys_main_thread", seconds(system));
    field(out, "used_cpu_user_main_thread", seconds(user));
    field(out, "used_active_time_main_thread", seconds(server.net_stats.iter().map(|stats| stats.busy_us.get()).sum()));
    for (index, stats) in server.net_stats.iter().enumerate() {
        field(out, &format!("used_active_time_worker_{index}"), seconds(stats.busy_us.get()));
    }
}

pub(super) fn threads(server: &Server, out: &mut String) {
    out.push_str("# Threads\r\n");
    for (index, (slot, stats)) in server.mail.slots().iter().zip(&server.net_stats).enumerate() {
        let line = format!(
            "clients={},reads={},writes={},busy_permille={}",
            slot.clients.load(Relaxed),
            stats.reads.get(),
            stats.writes.get(),
            slot.busy_permille.load(Relaxed)
        );
        field(out, &format!("io_thread_{index}"), line);
    }
}
