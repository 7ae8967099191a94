// SPDX-License-Identifier: BSD-3-Clause
//! The settings that change how sessions behave: an immutable value, replaced as a whole.
//!
//! Not here: parsing of configuration files and CONFIG SET, which apps/server does before it
//! stores a new value in [`crate::Engine::settings`].

use pando_commands::EventClass;
use pando_keyspace::EvictionPolicy;
use pando_values::Limits;

/// See the head of this file. Field names follow Valkey's configuration names.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of databases (`databases`, in cluster mode `cluster-databases`).
    pub databases: u16,
    /// Password of the default user.
    pub requirepass: Option<Vec<u8>>,
    /// Limit of the keyspace in bytes, 0 for none.
    pub maxmemory: u64,
    /// Which keys go when the limit is reached.
    pub maxmemory_policy: EvictionPolicy,
    /// Keys looked at for each victim.
    pub maxmemory_samples: usize,
    /// How long a write at the limit may evict, 0 to 100.
    pub maxmemory_eviction_tenacity: u32,
    /// Limit of the clients' buffers in bytes, 0 for none.
    pub maxmemory_clients: u64,
    /// A replica leaves eviction to its primary.
    pub replica_ignore_maxmemory: bool,
    /// Percentage of one core that eviction in the background may use (`eviction-cpu-budget`).
    pub eviction_cpu_budget: u32,
    /// `lazyfree-lazy-eviction`
    pub lazyfree_lazy_eviction: bool,
    /// The eviction policy counts access frequency.
    pub lfu: bool,
    /// Up to which sizes values stay packed (`*-max-listpack-*` and relatives).
    pub limits: Limits,
    /// Longest string.
    pub proto_max_bulk_len: u64,
    /// Classes of `notify-keyspace-events`.
    pub notify_keyspace_events: EventClass,
    /// Cluster mode.
    pub cluster_enabled: bool,
    /// Reads go on when the cluster is down.
    pub cluster_allow_reads_when_down: bool,
    /// `cluster-slot-stats-enabled`.
    pub cluster_slot_stats: bool,
    /// Sharded Pub/Sub goes on when the cluster is down.
    pub cluster_allow_pubsubshard_when_down: bool,
    /// What redirections name: `ip`, `hostname` or nothing.
    pub cluster_preferred_endpoint_type: EndpointType,
    /// A replica without its primary answers reads.
    pub replica_serve_stale_data: bool,
    /// A replica refuses writes of clients.
    pub replica_read_only: bool,
    /// A primary with fewer good replicas refuses writes.
    pub min_replicas_to_write: u32,
    /// `lazyfree-lazy-expire`
    pub lazyfree_lazy_expire: bool,
    /// `lazyfree-lazy-server-del`
    pub lazyfree_lazy_server_del: bool,
    /// `lazyfree-lazy-user-del`
    pub lazyfree_lazy_user_del: bool,
    /// `rdbcompression`.
    pub rdb_compression: bool,
    /// `rdb-version-check` is `relaxed`.
    pub rdb_version_relaxed: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION.
    pub skip_checksum_validation: bool,
    /// `lazyfree-lazy-user-flush`
    pub lazyfree_lazy_user_flush: bool,
    /// DEBUG may be used.
    pub enable_debug_command: bool,
    /// Names itself Redis in HELLO and some errors (`extended-redis-compatibility`).
    pub extended_redis_compatibility: bool,
    /// Durations of commands are kept (`latency-tracking`).
    pub latency_tracking: bool,
    /// Shown by HELLO unless empty.
    pub availability_zone: String,
}

/// What a redirection names.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum EndpointType {
    /// The IP address.
    #[default]
    Ip,
    /// The host name, `?` if a node has none.
    Hostname,
    /// Nothing: the client goes to the port at the host that it is connected to.
    UnknownEndpoint,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            databases: 16,
            requirepass: None,
            maxmemory: 0,
            maxmemory_policy: EvictionPolicy::NoEviction,
            maxmemory_samples: 5,
            maxmemory_eviction_tenacity: 10,
            maxmemory_clients: 0,
            replica_ignore_maxmemory: true,
            eviction_cpu_budget: 25,
            lazyfree_lazy_eviction: true,
            lfu: false,
            limits: Limits::default(),
            proto_max_bulk_len: 512 * 1024 * 1024,
            availability_zone: String::new(),
            latency_tracking: true,
            notify_keyspace_events: EventClass::NONE,
            cluster_enabled: false,
            cluster_allow_reads_when_down: false,
            cluster_slot_stats: false,
            cluster_allow_pubsubshard_when_down: true,
            cluster_preferred_endpoint_type: EndpointType::Ip,
            replica_serve_stale_data: true,
            replica_read_only: true,
            min_replicas_to_write: 0,
            lazyfree_lazy_expire: true,
            lazyfree_lazy_server_del: true,
            lazyfree_lazy_user_del: true,
            rdb_compression: true,
            rdb_version_relaxed: false,
            skip_checksum_validation: false,
            lazyfree_lazy_user_flush: true,
            enable_debug_command: false,
            extended_redis_compatibility: false,
        }
    }
}
