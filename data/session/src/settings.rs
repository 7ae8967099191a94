// SPDX-License-Identifier: BSD-3-Clause
//! The settings that change how sessions behave: an immutable value, replaced as a whole.
//!
//! Not here: parsing of configuration files and CONFIG SET, which apps/server does before it
//! stores a new value in [`crate::Engine::settings`].

use pando_commands::EventClass;

/// See the head of this file. Field names follow Valkey's configuration names.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of databases (`databases`, in cluster mode `cluster-databases`).
    pub databases: u16,
    /// Password of the default user.
    pub requirepass: Option<Vec<u8>>,
    /// Limit of the keyspace in bytes, 0 for none.
    pub maxmemory: u64,
    /// The eviction policy counts access frequency.
    pub lfu: bool,
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
    /// `lazyfree-lazy-user-del`
    pub lazyfree_lazy_user_del: bool,
    /// `lazyfree-lazy-user-flush`
    pub lazyfree_lazy_user_flush: bool,
    /// DEBUG may be used.
    pub enable_debug_command: bool,
    /// Names itself Redis in HELLO and some errors (`extended-redis-compatibility`).
    pub extended_redis_compatibility: bool,
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
            lfu: false,
            proto_max_bulk_len: 512 * 1024 * 1024,
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
            lazyfree_lazy_user_del: true,
            lazyfree_lazy_user_flush: true,
            enable_debug_command: false,
            extended_redis_compatibility: false,
        }
    }
}
