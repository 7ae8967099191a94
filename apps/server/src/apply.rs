// SPDX-License-Identifier: BSD-3-Clause
//! Makes configuration values true: at the start all of them, after CONFIG SET those that changed.

use crate::cluster;
use crate::config::kind::parse_bytes;
use crate::config::table::TABLE;
use crate::config::{ApplyError, ServerSettings, Values, os_reason};
use crate::logging;
use crate::server::Server;
use pando_commands::EventClass;
use pando_keyspace::EvictionPolicy;
use pando_session::{EndpointType, Settings};
use pando_values::Limits;

/// Bits of `notify-keyspace-events`.
fn event_classes(text: &str) -> EventClass {
    let mut bits = 0;
    for letter in text.chars() {
        let class = match letter {
            'A' => EventClass::ALL,
            'K' => EventClass::KEYSPACE,
            'E' => EventClass::KEYEVENT,
            'g' => EventClass::GENERIC,
            '$' => EventClass::STRING,
            'l' => EventClass::LIST,
            's' => EventClass::SET,
            'h' => EventClass::HASH,
            'z' => EventClass::ZSET,
            'x' => EventClass::EXPIRED,
            'e' => EventClass::EVICTED,
            't' => EventClass::STREAM,
            'd' => EventClass::MODULE,
            'm' => EventClass::KEY_MISS,
            'n' => EventClass::NEW,
            _ => EventClass::NONE,
        };
        bits |= class.0;
    }
    EventClass(bits)
}

/// `maxmemory-clients`: bytes, or a percentage of `maxmemory`.
fn clients_limit(values: &Values) -> u64 {
    let text = values.named("maxmemory-clients");
    match text.strip_suffix('%') {
        Some(percent) => {
            let maxmemory = parse_bytes(values.named("maxmemory")).unwrap_or(0);
            maxmemory / 100 * percent.parse::<u64>().unwrap_or(0)
        }
        None => parse_bytes(text).unwrap_or(0),
    }
}

/// The session's settings.
pub fn session_settings(values: &Values) -> Settings {
    let password = values.named("requirepass");
    let is_cluster = values.is_yes("cluster-enabled");
    let databases = if is_cluster { values.number("cluster-databases") } else { values.number("databases") };
    Settings {
        databases: databases.clamp(1, i64::from(u16::MAX)) as u16,
        requirepass: (!password.is_empty()).then(|| password.as_bytes().to_vec()),
        maxmemory: parse_bytes(values.named("maxmemory")).unwrap_or(0),
        maxmemory_policy: EvictionPolicy::from_name(values.named("maxmemory-policy")).unwrap_or_default(),
        maxmemory_samples: values.number("maxmemory-samples") as usize,
        maxmemory_eviction_tenacity: values.number("maxmemory-eviction-tenacity") as u32,
        maxmemory_clients: clients_limit(values),
        replica_ignore_maxmemory: values.is_yes("replica-ignore-maxmemory"),
        eviction_cpu_budget: values.number("eviction-cpu-budget") as u32,
        lazyfree_lazy_eviction: values.is_yes("lazyfree-lazy-eviction"),
        lfu: values.named("maxmemory-policy").ends_with("-lfu"),
        limits: limits(values),
        proto_max_bulk_len: values.number("proto-max-bulk-len") as u64,
        notify_keyspace_events: event_classes(values.named("notify-keyspace-events")),
        cluster_enabled: is_cluster,
        cluster_slot_stats: values.is_yes("cluster-slot-stats-enabled"),
        cluster_allow_reads_when_down: values.is_yes("cluster-allow-reads-when-down"),
        cluster_allow_pubsubshard_when_down: values.is_yes("cluster-allow-pubsubshard-when-down"),
        cluster_preferred_endpoint_type: match values.named("cluster-preferred-endpoint-type") {
            "hostname" => EndpointType::Hostname,
            "unknown-endpoint" => EndpointType::UnknownEndpoint,
            _ => EndpointType::Ip,
        },
        replica_serve_stale_data: values.is_yes("replica-serve-stale-data"),
        replica_read_only: values.is_yes("replica-read-only"),
        min_replicas_to_write: values.number("min-replicas-to-write") as u32,
        lazyfree_lazy_expire: values.is_yes("lazyfree-lazy-expire"),
        lazyfree_lazy_server_del: values.is_yes("lazyfree-lazy-server-del"),
        lazyfree_lazy_user_del: values.is_yes("lazyfree-lazy-user-del"),
        rdb_compression: values.is_yes("rdbcompression"),
        rdb_version_relaxed: values.named("rdb-version-check") == "relaxed",
        // Not a configuration: DEBUG sets it.
        skip_checksum_validation: false,
        lazyfree_lazy_user_flush: values.is_yes("lazyfree-lazy-user-flush"),
        enable_debug_command: values.named("enable-debug-command") != "no",
        extended_redis_compatibility: values.is_yes("extended-redis-compatibility"),
        latency_tracking: values.is_yes("latency-tracking"),
        availability_zone: values.named("availability-zone").to_owned(),
    }
}

fn limits(values: &Values) -> Limits {
    let len = |name: &str| usize::try_from(values.number(name)).unwrap_or(usize::MAX);
    let bytes = |name: &str| parse_bytes(values.named(name)).map_or(usize::MAX, |bytes| bytes as usize);
    Limits {
        list_max_listpack_size: values.number("list-max-listpack-size") as i32,
        list_compress_depth: values.number("list-compress-depth") as u32,
        list_plain_from_bytes: 0,
        hash_max_listpack_entries: len("hash-max-listpack-entries"),
        hash_max_listpack_value: bytes("hash-max-listpack-value"),
        set_max_intset_entries: len("set-max-intset-entries"),
        set_max_listpack_entries: len("set-max-listpack-entries"),
        set_max_listpack_value: len("set-max-listpack-value"),
        zset_max_listpack_entries: len("zset-max-listpack-entries"),
        zset_max_listpack_value: bytes("zset-max-listpack-value"),
        stream_node_max_bytes: bytes("stream-node-max-bytes"),
        stream_node_max_entries: len("stream-node-max-entries"),
        hll_sparse_max_bytes: bytes("hll-sparse-max-bytes"),
    }
}

/// Applies what changed. On an error the caller calls again with the old values.
pub fn apply(server: &Server, values: &Values, changed: &[usize]) -> Result<(), ApplyError> {
    let settings = ServerSettings::from_values(values);
    for &index in changed {
        let fail = |why: String| Err((index, why));
        match TABLE[index].name {
            "loglevel" => logging::set_level(values.named("loglevel")),
            "io-threads" => tracing::warn!("The number of io-threads changes with the next start"),
            "dir" => {
                if let Err(error) = std::env::set_current_dir(values.named("dir")) {
                    return fail(os_reason(&error));
                }
            }
            "bind" | "port" => {
                if let Err(error) = server.relisten(&settings) {
                    tracing::warn!("{error}");
                    return fail(match TABLE[index].name {
                        "bind" => "Failed to bind to specified addresses.".to_owned(),
                        _ => "Unable to listen on this port. Check server logs.".to_owned(),
                    });
                }
            }
            "maxclients" => {
                let wanted = settings.maxclients + RESERVED_FILES;
                if crate::os::raise_open_files(wanted) < wanted {
                    let why = "The operating system is not able to handle the specified number of clients, try with";
                    return fail(format!(
                        "{why} {}",
                        crate::os::raise_open_files(wanted).saturating_sub(RESERVED_FILES)
                    ));
                }
            }
            "lfu-log-factor" | "lfu-decay-time" | "maxmemory-policy" => {
                server.engine.keyspace.set_lfu(
                    values.named("maxmemory-policy").ends_with("-lfu"),
                    values.number("lfu-log-factor") as u32,
                    values.number("lfu-decay-time") as u32,
                );
            }
            _ => {}
        }
    }
    if !changed.is_empty() {
        let mut new = session_settings(values);
        // Set by DEBUG alone.
        let old = server.engine.settings.load();
        new.limits.list_plain_from_bytes = old.limits.list_plain_from_bytes;
        new.skip_checksum_validation = old.skip_checksum_validation;
        server.engine.settings.store(std::sync::Arc::new(new));
        server.replication.configure(values);
    }
    if changed.iter().any(|&index| cluster::is_live(TABLE[index].name))
        && let Some(runtime) = server.cluster.get()
    {
        runtime.configure(values);
    }
    if changed.iter().any(|&index| TABLE[index].name.starts_with("maxmemory")) {
        server.measure_memory();
        server.engine.memory_limit_changed(server.engine.settings.load().maxmemory);
        server.evictor.ring();
    }
    Ok(())
}

/// Files that are not clients: listeners, logs, links.
pub const RESERVED_FILES: u64 = 32;
