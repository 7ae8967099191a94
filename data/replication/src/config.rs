// SPDX-License-Identifier: BSD-3-Clause
//! Settings of replication, under Valkey's configuration names. Replaced as a whole at run time with
//! [`crate::Replication::set_config`].

use std::time::Duration;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct ReplicationConfig {
    /// `repl-backlog-size`
    pub repl_backlog_size: u64,
    /// `repl-backlog-ttl`: how long a primary without replicas keeps the log; zero for ever.
    pub repl_backlog_ttl: Duration,
    /// `repl-ping-replica-period`
    pub repl_ping_replica_period: Duration,
    /// `repl-timeout`
    pub repl_timeout: Duration,
    /// `client-output-buffer-limit replica`, hard; 0 for none (then memory of the log, 2 GiB, is the limit).
    pub replica_output_limit: u64,
    /// `min-replicas-max-lag`
    pub min_replicas_max_lag: Duration,
    /// `primaryuser`
    pub primary_user: Option<Vec<u8>>,
    /// `primaryauth`
    pub primary_auth: Option<Vec<u8>>,
    /// `replica-announce-ip`
    pub replica_announce_ip: Option<String>,
    /// `bind-source-addr`: where the link to the primary comes from.
    pub source_addr: Option<std::net::IpAddr>,
    /// `replica-announce-port`, else the port that clients connect to.
    pub listening_port: u16,
    /// Where a full sync is spooled for a replica that cannot take a stream (`dir`).
    pub spool_dir: std::path::PathBuf,
}

impl Default for ReplicationConfig {
    fn default() -> Self {
        Self {
            repl_backlog_size: 10 * 1024 * 1024,
            repl_backlog_ttl: Duration::from_secs(3600),
            repl_ping_replica_period: Duration::from_secs(10),
            repl_timeout: Duration::from_secs(60),
            replica_output_limit: 256 * 1024 * 1024,
            min_replicas_max_lag: Duration::from_secs(10),
            primary_user: None,
            primary_auth: None,
            replica_announce_ip: None,
            source_addr: None,
            listening_port: 6379,
            spool_dir: std::env::temp_dir(),
        }
    }
}
