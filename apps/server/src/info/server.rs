// SPDX-License-Identifier: BSD-3-Clause
//! INFO server, clients, persistence.

use super::{field, zeros};
use crate::boot::PANDO_VERSION;
use crate::config::load::VALKEY_VERSION;
use crate::server::Server;
use pando_session::PauseMode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn server(server: &Server, out: &mut String) {
    let values = server.config.values();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let uptime_s = server.started.elapsed().as_secs();
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    out.push_str("# Server\r\n");
    // Clients read this one to learn which Redis commands there are.
    field(out, "redis_version", "7.2.4");
    field(out, "server_name", "valkey");
    field(out, "valkey_version", VALKEY_VERSION);
    field(out, "valkey_release_stage", "ga");
    field(out, "pando_version", PANDO_VERSION);
    field(out, "redis_git_sha1", "00000000");
    field(out, "redis_git_dirty", 0);
    field(out, "redis_build_id", "0");
    field(out, "server_mode", if values.is_yes("cluster-enabled") { "cluster" } else { "standalone" });
    field(out, "os", format_args!("{} {} {}", text(system.sysname()), text(system.release()), text(system.machine())));
    field(out, "arch_bits", usize::BITS);
    field(out, "monotonic_clock", "POSIX clock_gettime");
    field(out, "multiplexing_api", "epoll");
    field(out, "gcc_version", "0.0.0");
    field(out, "process_id", std::process::id());
    field(out, "process_supervised", "no");
    field(out, "run_id", &server.run_id);
    field(out, "tcp_port", values.named("port"));
    field(out, "server_time_usec", now.as_micros());
    field(out, "uptime_in_seconds", uptime_s);
    field(out, "uptime_in_days", uptime_s / 86400);
    for name in ["hz", "configured_hz", "clients_hz"] {
        field(out, name, values.named("hz"));
    }
    field(out, "lru_clock", now.as_secs() & 0x00ff_ffff);
    field(out, "executable", &server.executable);
    field(out, "config_file", server.config.file().map(|path| path.display().to_string()).unwrap_or_default());
    let active = server.mail.slots().iter().filter(|slot| slot.clients.load(Relaxed) > 0).count();
    field(out, "io_threads_active", u8::from(active > 1));
    field(out, "availability_zone", values.named("availability-zone"));
    let mut index = 0;
    if values.number("port") != 0 {
        let binds: String = values.named("bind").split(' ').map(|address| format!(",bind={address}")).collect();
        field(out, "listener0", format_args!("name=tcp{binds},port={}", values.named("port")));
        index += 1;
    }
    if !values.named("unixsocket").is_empty() {
        field(out, &format!("listener{index}"), format_args!("name=unix,bind={}", values.named("unixsocket")));
    }
}

pub(super) fn clients(server: &Server, out: &mut String) {
    let all = server.engine.clients.all();
    let count = |test: &dyn Fn(&pando_session::ClientShared) -> bool| all.iter().filter(|client| test(client)).count();
    out.push_str("# Clients\r\n");
    field(out, "connected_clients", server.clients.load(Relaxed));
    field(out, "cluster_connections", 0);
    field(out, "maxclients", server.config.settings().maxclients);
    let most =
        |of: &dyn Fn(&pando_session::ClientShared) -> u64| all.iter().map(|client| of(client)).max().unwrap_or(0);
    field(out, "client_recent_max_input_buffer", most(&|c| c.query_bytes.load(Relaxed)));
    field(out, "client_recent_max_output_buffer", most(&|c| c.output_bytes.load(Relaxed)));
    // Those whom a pause holds back wait too.
    field(out, "blocked_clients", count(&|c| c.is_blocked.load(Relaxed) || c.is_postponed.load(Relaxed)));
    field(out, "tracking_clients", 0);
    field(out, "pubsub_clients", count(&|c| c.is_subscribed()));
    field(out, "watching_clients", count(&|c| c.watched.load(Relaxed) > 0));
    field(out, "clients_in_timeout_table", count(&|c| c.is_blocked.load(Relaxed)));
    field(out, "total_watched_keys", all.iter().map(|c| u64::from(c.watched.load(Relaxed))).sum::<u64>());
    let (blocking, when_gone) = server.engine.keyspace.blocking_keys();
    field(out, "total_blocking_keys", blocking);
    field(out, "total_blocking_keys_on_nokey", when_gone);
    let paused = server.engine.gate.paused();
    let left_ms = server.engine.gate.paused_until().map_or(0, |until| until.saturating_sub(pando_session::boot_ms()));
    field(out, "paused_reason", if paused.is_some() { "client_pause" } else { "none" });
    field(
        out,
        "paused_actions",
        match paused {
            None => "none",
            Some(PauseMode::Write) => "write",
            Some(PauseMode::All) => "all",
        },
    );
    field(out, "paused_timeout_milliseconds", left_ms);
}

pub(super) fn persistence(server: &Server, out: &mut String) {
    let totals = server.engine.stats.totals();
    out.push_str("# Persistence\r\n");
    field(out, "loading", u8::from(server.engine.gate.is_loading()));
    zeros(
        out,
        &[
            "async_loading",
            "current_cow_peak",
            "current_cow_size",
            "current_cow_size_age",
            "current_fork_perc",
            "current_save_keys_processed",
            "current_save_keys_total",
        ],
    );
    field(out, "rdb_changes_since_last_save", totals.dirty);
    field(out, "rdb_bgsave_in_progress", 0);
    field(out, "rdb_last_save_time", server.started_unix_s);
    field(out, "rdb_last_bgsave_status", "ok");
    field(out, "rdb_last_bgsave_time_sec", -1);
    field(out, "rdb_current_bgsave_time_sec", -1);
    zeros(out, &["rdb_saves", "rdb_last_cow_size", "rdb_last_load_keys_expired", "rdb_last_load_keys_loaded"]);
    zeros(out, &["aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]);
    field(out, "aof_last_rewrite_time_sec", -1);
    field(out, "aof_current_rewrite_time_sec", -1);
    field(out, "aof_last_bgrewrite_status", "ok");
    zeros(out, &["aof_rewrites", "aof_rewrites_consecutive_failures"]);
    field(out, "aof_last_write_status", "ok");
    zeros(out, &["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"]);
}
