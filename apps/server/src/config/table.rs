// SPDX-License-Identifier: BSD-3-Clause
//! The table of configuration directives: one row each, sorted by name. Not their parsing (see `kind.rs`) and not what
//! they do: a row marked `Live` is read by `typed.rs` or by the session's settings, a row marked `Kept` is accepted,
//! shown by CONFIG GET and rewritten, and has no effect in this version (a warning says so once).

use super::kind::Kind::{self, *};

/// May a client change the directive at run time?
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Access {
    /// CONFIG SET changes it.
    Mutable,
    /// Only the command line and the file set it.
    Fixed,
    /// Like `Mutable`, if `enable-protected-configs` allows it.
    Protected,
}
use Access::{Fixed, Mutable, Protected};

/// Does the directive do anything?
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Effect {
    /// It does what Valkey's documentation says.
    Live,
    /// It is kept and shown only.
    Kept,
    /// The same for what Valkey has for its own tests: CONFIG GET shows it only to who names it without a pattern.
    Hidden,
}
use Effect::{Hidden, Kept, Live};

/// One directive.
#[derive(Debug)]
pub struct Directive {
    /// Name as CONFIG REWRITE writes it.
    pub name: &'static str,
    /// Second name, empty if there is none. CONFIG GET shows both.
    pub alias: &'static str,
    /// Value at the start, in canonical form.
    pub default: &'static str,
    /// What values are accepted.
    pub kind: Kind,
    /// Who may change it when.
    pub access: Access,
    /// Whether it does anything.
    pub effect: Effect,
}

const fn row(
    name: &'static str,
    alias: &'static str,
    default: &'static str,
    kind: Kind,
    access: Access,
    effect: Effect,
) -> Directive {
    Directive { name, alias, default, kind, access, effect }
}

/// Directives of the past which are read and ignored.
pub const RETIRED: &[&str] = &[
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
    "io-threads-do-reads",
    "events-per-io-thread",
    "dynamic-hz",
];

/// All directives. `io-threads` 0 stands for the number of cores until the start replaces it.
#[rustfmt::skip]
pub const TABLE: &[Directive] = &[
    row("acl-pubsub-default", "", "resetchannels", Enum(&["allchannels", "resetchannels"]), Mutable, Live),
    row("aclfile", "", "", Str, Fixed, Kept),
    row("acllog-max-len", "", "128", Int(0, i64::MAX), Mutable, Kept),
    row("active-defrag-cycle-max", "", "25", Int(1, 99), Mutable, Live),
    row("active-defrag-cycle-min", "", "1", Int(1, 99), Mutable, Live),
    row("active-defrag-cycle-us", "", "500", Int(0, 100000), Mutable, Live),
    row("active-defrag-ignore-bytes", "", "104857600", Memory(0, i64::MAX), Mutable, Live),
    row("active-defrag-max-scan-fields", "", "1000", Int(1, i64::MAX), Mutable, Kept),
    row("active-defrag-threshold-lower", "", "10", Int(0, 1000), Mutable, Live),
    row("active-defrag-threshold-upper", "", "100", Int(0, 1000), Mutable, Live),
    row("active-expire-effort", "", "1", Int(1, 10), Mutable, Kept),
    row("activedefrag", "", "no", Bool, Mutable, Live),
    row("activerehashing", "", "yes", Bool, Mutable, Kept),
    row("always-show-logo", "", "no", Bool, Fixed, Live),
    row("aof-disable-auto-gc", "", "no", Bool, Mutable, Hidden),
    row("aof-load-truncated", "", "yes", Bool, Mutable, Kept),
    row("aof-rewrite-cpulist", "aof_rewrite_cpulist", "", Str, Fixed, Kept),
    row("aof-rewrite-incremental-fsync", "", "yes", Bool, Mutable, Kept),
    row("aof-timestamp-enabled", "", "no", Bool, Mutable, Kept),
    row("aof-use-rdb-preamble", "", "yes", Bool, Mutable, Kept),
    row("appenddirname", "", "appendonlydir", Str, Fixed, Kept),
    row("appendfilename", "", "appendonly.aof", Str, Fixed, Kept),
    row("appendfsync", "", "everysec", Enum(&["everysec", "always", "no"]), Mutable, Kept),
    row("appendonly", "", "no", Bool, Mutable, Kept),
    row("auto-aof-rewrite-min-size", "", "67108864", Memory(0, i64::MAX), Mutable, Kept),
    row("auto-aof-rewrite-percentage", "", "100", Int(0, 2147483647), Mutable, Kept),
    row("availability-zone", "", "", Str, Mutable, Live),
    row("bgsave-cpulist", "bgsave_cpulist", "", Str, Fixed, Kept),
    row("bind", "", "* -::*", Words, Mutable, Live),
    row("bind-source-addr", "", "", Str, Mutable, Live),
    row("bio-cpulist", "bio_cpulist", "", Str, Fixed, Kept),
    row("busy-reply-threshold", "lua-time-limit", "5000", Int(0, i64::MAX), Mutable, Kept),
    row("client-default-resp", "", "2", Int(2, 3), Fixed, Hidden),
    row("client-output-buffer-limit", "", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", OutputLimits, Mutable, Live),
    row("client-query-buffer-limit", "", "1073741824", Memory(1048576, i64::MAX), Mutable, Live),
    row("cluster-allow-pubsubshard-when-down", "", "yes", Bool, Mutable, Live),
    row("cluster-allow-reads-when-down", "", "no", Bool, Mutable, Live),
    row("cluster-allow-replica-migration", "", "yes", Bool, Mutable, Live),
    row("cluster-announce-bus-port", "", "0", Int(0, 65535), Mutable, Live),
    row("cluster-announce-client-ipv4", "", "", Str, Mutable, Kept),
    row("cluster-announce-client-ipv6", "", "", Str, Mutable, Kept),
    row("cluster-announce-client-port", "", "0", Int(0, 65535), Mutable, Live),
    row("cluster-announce-client-tls-port", "", "0", Int(0, 65535), Mutable, Kept),
    row("cluster-announce-hostname", "", "", Hostname, Mutable, Live),
    row("cluster-announce-human-nodename", "", "", Str, Mutable, Live),
    row("cluster-announce-ip", "", "", Str, Mutable, Live),
    row("cluster-announce-port", "", "0", Int(0, 65535), Mutable, Live),
    row("cluster-announce-tls-port", "", "0", Int(0, 65535), Mutable, Kept),
    row("cluster-blacklist-ttl", "", "60", Int(0, 4294967295), Mutable, Kept),
    row("cluster-config-file", "", "nodes.conf", Str, Fixed, Live),
    row("cluster-config-save-behavior", "", "sync", Enum(&["sync", "best-effort"]), Mutable, Kept),
    row("cluster-databases", "", "16", Int(1, 2147483647), Fixed, Live),
    row("cluster-enabled", "", "no", Bool, Fixed, Live),
    row("cluster-failover-zone-affinity", "", "yes", Bool, Mutable, Live),
    row("cluster-link-sendbuf-limit", "", "0", Memory(0, i64::MAX), Mutable, Kept),
    row("cluster-manual-failover-timeout", "", "5000", Int(1, 2147483647), Mutable, Live),
    row("cluster-message-gossip-perc", "", "10", Int(1, 100), Mutable, Hidden),
    row("cluster-migration-barrier", "", "1", Int(0, 2147483647), Mutable, Live),
    row("cluster-node-timeout", "", "3000", Int(0, i64::MAX), Mutable, Live),
    row("cluster-ping-interval", "", "0", Int(0, i64::MAX), Mutable, Hidden),
    row("cluster-port", "", "0", Int(0, 65535), Fixed, Live),
    row("cluster-preferred-endpoint-type", "", "ip", Enum(&["ip", "hostname", "unknown-endpoint"]), Mutable, Live),
    row("cluster-replica-no-failover", "cluster-slave-no-failover", "no", Bool, Mutable, Live),
    row("cluster-replica-validity-factor", "cluster-slave-validity-factor", "10", Int(0, 2147483647), Mutable, Live),
    row("cluster-require-full-coverage", "", "yes", Bool, Mutable, Live),
    row("cluster-roles", "", "data,root", Roles, Fixed, Live),
    row("cluster-root-count", "", "3", Enum(&["1", "3", "5", "7"]), Mutable, Live),
    row("cluster-root-patience", "", "6000", Int(0, 86_400_000), Fixed, Live),
    row("cluster-roots", "", "", Words, Fixed, Live),
    row("cluster-slot-migration-log-max-len", "", "1000", Int(0, i64::MAX), Mutable, Kept),
    row("cluster-slot-stats-enabled", "", "no", Bool, Mutable, Live),
    row("commandlog-execution-slower-than", "slowlog-log-slower-than", "10000", Int(-1, i64::MAX), Mutable, Live),
    row("commandlog-large-reply-max-len", "", "128", Int(0, i64::MAX), Mutable, Live),
    row("commandlog-large-request-max-len", "", "128", Int(0, i64::MAX), Mutable, Live),
    row("commandlog-reply-larger-than", "", "1048576", Int(-1, i64::MAX), Mutable, Live),
    row("commandlog-request-larger-than", "", "1048576", Int(-1, i64::MAX), Mutable, Live),
    row("commandlog-slow-execution-max-len", "slowlog-max-len", "128", Int(0, i64::MAX), Mutable, Live),
    row("crash-log-enabled", "", "yes", Bool, Mutable, Live),
    row("crash-memcheck-enabled", "", "yes", Bool, Mutable, Kept),
    row("daemonize", "", "no", Bool, Fixed, Live),
    row("databases", "", "16", Int(1, 2147483647), Fixed, Live),
    row("dbfilename", "", "dump.rdb", Str, Protected, Kept),
    row("debug-context", "", "", Str, Mutable, Hidden),
    row("dir", "", ".", Dir, Protected, Live),
    row("disable-thp", "", "yes", Bool, Fixed, Kept),
    row("dual-channel-replication-enabled", "", "no", Bool, Mutable, Kept),
    row("enable-debug-assert", "", "no", Bool, Fixed, Hidden),
    row("enable-debug-command", "", "no", Enum(&["no", "yes", "local"]), Fixed, Live),
    row("enable-module-command", "", "no", Enum(&["no", "yes", "local"]), Fixed, Kept),
    row("enable-protected-configs", "", "no", Enum(&["no", "yes", "local"]), Fixed, Live),
    row("eviction-cpu-budget", "", "25", Int(1, 100), Mutable, Live),
    row("extended-redis-compatibility", "", "no", Bool, Mutable, Live),
    row("hash-max-listpack-entries", "hash-max-ziplist-entries", "512", Int(0, i64::MAX), Mutable, Live),
    row("hash-max-listpack-value", "hash-max-ziplist-value", "64", Memory(0, i64::MAX), Mutable, Live),
    row("hash-seed", "", "", Str, Fixed, Kept),
    row("hide-user-data-from-log", "", "yes", Bool, Mutable, Live),
    row("hll-sparse-max-bytes", "", "3000", Memory(0, i64::MAX), Mutable, Live),
    row("hz", "", "10", Int(0, 2147483647), Mutable, Live),
    row("ignore-warnings", "", "", Str, Mutable, Kept),
    row("import-mode", "", "no", Bool, Mutable, Kept),
    row("io-threads", "", "0", Int(1, 256), Mutable, Live),
    row("io-threads-always-active", "", "no", Bool, Mutable, Hidden),
    row("jemalloc-bg-thread", "", "yes", Bool, Mutable, Kept),
    row("key-load-delay", "", "0", Int(-2147483648, 2147483647), Mutable, Hidden),
    row("latency-monitor-threshold", "", "0", Int(0, i64::MAX), Mutable, Kept),
    row("latency-tracking", "", "yes", Bool, Mutable, Live),
    row("latency-tracking-info-percentiles", "", "50 99 99.9", Percentiles, Mutable, Live),
    row("lazyfree-lazy-eviction", "", "yes", Bool, Mutable, Live),
    row("lazyfree-lazy-expire", "", "yes", Bool, Mutable, Live),
    row("lazyfree-lazy-server-del", "", "yes", Bool, Mutable, Live),
    row("lazyfree-lazy-user-del", "", "yes", Bool, Mutable, Live),
    row("lazyfree-lazy-user-flush", "", "yes", Bool, Mutable, Live),
    row("lfu-decay-time", "", "1", Int(0, 2147483647), Mutable, Live),
    row("lfu-log-factor", "", "10", Int(0, 2147483647), Mutable, Live),
    row("list-compress-depth", "", "0", Int(0, 2147483647), Mutable, Live),
    row("list-max-listpack-size", "list-max-ziplist-size", "-2", Int(-2147483648, 2147483647), Mutable, Live),
    row("loading-process-events-interval-bytes", "", "2097152", Int(1024, 2147483647), Mutable, Hidden),
    row("locale-collate", "", "", Str, Mutable, Kept),
    row("log-format", "", "legacy", Enum(&["legacy", "logfmt", "json"]), Mutable, Kept),
    row("log-timestamp-format", "", "legacy", Enum(&["legacy", "iso8601", "milliseconds"]), Mutable, Kept),
    row("logfile", "", "", Str, Fixed, Live),
    row("loglevel", "", "notice", Enum(&["debug", "verbose", "notice", "warning", "nothing"]), Mutable, Live),
    row("lua-enable-insecure-api", "lua-enable-deprecated-api", "no", Bool, Protected, Hidden),
    row("max-new-connections-per-cycle", "", "10", Int(1, 1000), Mutable, Kept),
    row("max-new-tls-connections-per-cycle", "", "1", Int(1, 1000), Mutable, Kept),
    row("maxclients", "", "10000", Int(1, 4294967295), Mutable, Live),
    row("maxmemory", "", "0", UnsignedMemory, Mutable, Live),
    row("maxmemory-clients", "", "0", MemoryOrPercent, Mutable, Live),
    row("maxmemory-eviction-tenacity", "", "10", Int(0, 100), Mutable, Live),
    row("maxmemory-policy", "", "noeviction", Enum(&["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction"]), Mutable, Live),
    row("maxmemory-samples", "", "5", Int(1, 64), Mutable, Live),
    row("min-io-threads-avoid-copy-reply", "", "7", Int(0, 2147483647), Mutable, Hidden),
    row("min-replicas-max-lag", "min-slaves-max-lag", "10", Int(0, 2147483647), Mutable, Live),
    row("min-replicas-to-write", "min-slaves-to-write", "0", Int(0, 2147483647), Mutable, Live),
    row("min-string-size-avoid-copy-reply", "", "16384", Int(0, 2147483647), Mutable, Hidden),
    row("min-string-size-avoid-copy-reply-threaded", "", "65536", Int(0, 2147483647), Mutable, Hidden),
    row("mptcp", "", "no", Bool, Fixed, Kept),
    row("no-appendfsync-on-rewrite", "", "no", Bool, Mutable, Kept),
    row("notify-keyspace-events", "", "", Events, Mutable, Live),
    row("oom-score-adj", "", "no", Enum(&["no", "yes", "relative", "absolute"]), Mutable, Kept),
    row("oom-score-adj-values", "", "0 200 800", OomScores, Mutable, Kept),
    row("pidfile", "", "", Str, Fixed, Live),
    row("port", "", "6379", Int(0, 65535), Mutable, Live),
    row("prefetch-batch-max-size", "", "16", Int(0, 128), Mutable, Live),
    row("primaryauth", "masterauth", "", Str, Mutable, Live),
    row("primaryuser", "masteruser", "", Str, Mutable, Live),
    row("proc-title-template", "", "{title} {listen-addr} {server-mode}", Str, Mutable, Live),
    row("propagation-error-behavior", "", "ignore", Enum(&["ignore", "panic", "panic-on-replicas"]), Mutable, Kept),
    row("protected-mode", "", "yes", Bool, Mutable, Live),
    row("proto-max-bulk-len", "", "536870912", Memory(1048576, i64::MAX), Mutable, Live),
    row("rdb-del-sync-files", "", "no", Bool, Mutable, Kept),
    row("rdb-key-save-delay", "", "0", Int(-2147483648, 2147483647), Mutable, Hidden),
    row("rdb-save-incremental-fsync", "", "yes", Bool, Mutable, Kept),
    row("rdb-version-check", "", "strict", Enum(&["strict", "relaxed"]), Mutable, Live),
    row("rdbchecksum", "", "yes", Bool, Fixed, Kept),
    row("rdbcompression", "", "yes", Bool, Mutable, Live),
    row("rdma-bind", "", "", Str, Mutable, Kept),
    row("rdma-completion-vector", "", "-1", Int(-1, 1024), Fixed, Kept),
    row("rdma-port", "", "0", Int(0, 65535), Mutable, Kept),
    row("rdma-rx-size", "", "1048576", Int(65536, 16777216), Fixed, Kept),
    row("repl-backlog-size", "", "10485760", Memory(1, i64::MAX), Mutable, Live),
    row("repl-backlog-ttl", "", "3600", Int(0, i64::MAX), Mutable, Live),
    row("repl-disable-tcp-nodelay", "", "no", Bool, Mutable, Live),
    row("repl-diskless-load", "", "disabled", Enum(&["disabled", "on-empty-db", "swapdb", "flush-before-load"]), Mutable, Kept),
    row("repl-diskless-sync", "", "yes", Bool, Mutable, Live),
    row("repl-diskless-sync-delay", "", "5", Int(0, 2147483647), Mutable, Live),
    row("repl-diskless-sync-max-replicas", "", "0", Int(0, 2147483647), Mutable, Kept),
    row("repl-mptcp", "", "no", Bool, Fixed, Kept),
    row("repl-ping-replica-period", "repl-ping-slave-period", "10", Int(1, 2147483647), Mutable, Live),
    row("repl-timeout", "", "60", Int(1, 2147483647), Mutable, Live),
    row("replica-announce-ip", "slave-announce-ip", "", Str, Mutable, Live),
    row("replica-announce-port", "slave-announce-port", "0", Int(0, 65535), Mutable, Live),
    row("replica-announced", "", "yes", Bool, Mutable, Live),
    row("replica-ignore-disk-write-errors", "", "no", Bool, Mutable, Kept),
    row("replica-ignore-maxmemory", "slave-ignore-maxmemory", "yes", Bool, Mutable, Live),
    row("replica-lazy-flush", "slave-lazy-flush", "yes", Bool, Mutable, Kept),
    row("replica-priority", "slave-priority", "100", Int(0, 2147483647), Mutable, Live),
    row("replica-read-only", "slave-read-only", "yes", Bool, Mutable, Live),
    row("replica-serve-stale-data", "slave-serve-stale-data", "yes", Bool, Mutable, Live),
    row("replicaof", "slaveof", "", ReplicaOf, Fixed, Live),
    row("req-res-logfile", "", "", Str, Fixed, Hidden),
    row("requirepass", "", "", Str, Mutable, Live),
    row("save", "", "3600 1 300 100 60 10000", Save, Mutable, Live),
    row("server-cpulist", "server_cpulist", "", Str, Fixed, Kept),
    row("set-max-intset-entries", "", "512", Int(0, i64::MAX), Mutable, Live),
    row("set-max-listpack-entries", "", "128", Int(0, i64::MAX), Mutable, Live),
    row("set-max-listpack-value", "", "64", Int(0, i64::MAX), Mutable, Live),
    row("set-proc-title", "", "yes", Bool, Fixed, Live),
    row("shutdown-on-sigint", "", "default", Flags(&["default", "save", "nosave", "now", "force", "safe", "failover"]), Mutable, Live),
    row("shutdown-on-sigterm", "", "default", Flags(&["default", "save", "nosave", "now", "force", "safe", "failover"]), Mutable, Live),
    row("shutdown-timeout", "", "10", Int(0, 2147483647), Mutable, Live),
    row("slot-migration-max-failover-repl-bytes", "", "0", Memory(-1, i64::MAX), Mutable, Kept),
    row("socket-mark-id", "", "0", Int(0, 4294967295), Fixed, Kept),
    row("stop-writes-on-bgsave-error", "", "yes", Bool, Mutable, Kept),
    row("stream-node-max-bytes", "", "4096", Memory(0, i64::MAX), Mutable, Live),
    row("stream-node-max-entries", "", "100", Int(0, i64::MAX), Mutable, Live),
    row("supervised", "", "no", Enum(&["upstart", "systemd", "auto", "no"]), Fixed, Live),
    row("syslog-enabled", "", "no", Bool, Fixed, Kept),
    row("syslog-facility", "", "local0", Enum(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]), Fixed, Kept),
    row("syslog-ident", "", "valkey", Str, Fixed, Kept),
    row("tcp-backlog", "", "511", Int(0, 2147483647), Fixed, Live),
    row("tcp-keepalive", "", "300", Int(0, 2147483647), Mutable, Live),
    row("timeout", "", "0", Int(0, 2147483647), Mutable, Live),
    row("tls-auth-clients", "", "yes", Enum(&["no", "yes", "optional"]), Mutable, Kept),
    row("tls-auth-clients-user", "", "off", Enum(&["CN", "URI", "off"]), Mutable, Kept),
    row("tls-auto-reload-interval", "", "0", Int(0, 2147483647), Mutable, Kept),
    row("tls-ca-cert-dir", "", "", Str, Mutable, Kept),
    row("tls-ca-cert-file", "", "", Str, Mutable, Kept),
    row("tls-cert-file", "", "", Str, Mutable, Kept),
    row("tls-ciphers", "", "", Str, Mutable, Kept),
    row("tls-ciphersuites", "", "", Str, Mutable, Kept),
    row("tls-client-cert-file", "", "", Str, Mutable, Kept),
    row("tls-client-key-file", "", "", Str, Mutable, Kept),
    row("tls-client-key-file-pass", "", "", Str, Mutable, Kept),
    row("tls-cluster", "", "no", Bool, Mutable, Kept),
    row("tls-dh-params-file", "", "", Str, Mutable, Kept),
    row("tls-key-file", "", "", Str, Mutable, Kept),
    row("tls-key-file-pass", "", "", Str, Mutable, Kept),
    row("tls-port", "", "0", Int(0, 65535), Mutable, Kept),
    row("tls-prefer-server-ciphers", "", "no", Bool, Mutable, Kept),
    row("tls-protocols", "", "", Str, Mutable, Kept),
    row("tls-replication", "", "no", Bool, Mutable, Kept),
    row("tls-session-cache-size", "", "20480", Int(0, 2147483647), Mutable, Kept),
    row("tls-session-cache-timeout", "", "300", Int(0, 2147483647), Mutable, Kept),
    row("tls-session-caching", "", "yes", Bool, Mutable, Kept),
    row("tracking-table-max-keys", "", "1000000", Int(0, i64::MAX), Mutable, Kept),
    row("unixsocket", "", "", Str, Fixed, Live),
    row("unixsocketgroup", "", "", Str, Fixed, Kept),
    row("unixsocketperm", "", "0", Octal, Fixed, Live),
    row("use-exit-on-panic", "", "no", Bool, Mutable, Hidden),
    row("watchdog-period", "", "0", Int(0, 2147483647), Mutable, Hidden),
    row("zset-max-listpack-entries", "zset-max-ziplist-entries", "128", Int(0, i64::MAX), Mutable, Live),
    row("zset-max-listpack-value", "zset-max-ziplist-value", "64", Memory(0, i64::MAX), Mutable, Live),
];

/// Index of a directive by its name or alias, in any case of letters.
pub fn find(name: &str) -> Option<usize> {
    let lower = name.to_ascii_lowercase();
    TABLE
        .binary_search_by(|d| d.name.cmp(lower.as_str()))
        .ok()
        .or_else(|| TABLE.iter().position(|d| !d.alias.is_empty() && d.alias == lower))
}

#[cfg(test)]
mod tests {
    use super::{TABLE, find};

    #[test]
    fn the_table_is_sorted_and_defaults_are_canonical() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
        for d in TABLE {
            if d.name == "io-threads" || d.name == "dir" || d.default.is_empty() {
                continue;
            }
            let words: Vec<String> = if d.kind.takes_many() {
                d.default.split(' ').map(str::to_owned).collect()
            } else {
                vec![d.default.to_owned()]
            };
            assert_eq!(d.kind.parse(&words, "").as_deref(), Ok(d.default), "{}", d.name);
        }
    }

    #[test]
    fn names_and_aliases_are_found() {
        assert_eq!(find("SLAVEOF"), find("replicaof"));
        assert_eq!(find("port").map(|i| TABLE[i].name), Some("port"));
        assert_eq!(find("nope"), None);
    }
}
