// SPDX-License-Identifier: BSD-3-Clause
//! The server's side of data/replication: its runtime, its settings, what replicas said before PSYNC, and the sockets
//! that are handed over. Not the protocol.

use crate::config::Values;
use crate::server::HandedOff;
use pando_replication::{ReplicaHello, ReplicaSocket, Replication, ReplicationConfig, ReplicationStatus};
use pando_session::{ClientId, Engine, HandOff};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// See the head of this file.
pub struct ReplicationSide {
    replication: Replication,
    runtime: tokio::runtime::Runtime,
    /// What clients said with REPLCONF, until PSYNC.
    hellos: Mutex<HashMap<ClientId, ReplicaHello>>,
}

/// The settings that replication takes from the configuration.
fn config_of(values: &Values) -> ReplicationConfig {
    let seconds = |name: &str| Duration::from_secs(values.number(name).max(0) as u64);
    let text = |name: &str| Some(values.named(name)).filter(|t| !t.is_empty()).map(str::to_owned);
    let announced = values.number("replica-announce-port") as u16;
    let port = values.number("port") as u16;
    ReplicationConfig {
        repl_backlog_size: values.number("repl-backlog-size") as u64,
        repl_backlog_ttl: seconds("repl-backlog-ttl"),
        repl_ping_replica_period: seconds("repl-ping-replica-period"),
        repl_timeout: seconds("repl-timeout"),
        replica_output_limit: crate::config::kind::output_limits(values.named("client-output-buffer-limit"))[1]
            .hard_bytes,
        min_replicas_max_lag: seconds("min-replicas-max-lag"),
        primary_user: text("primaryuser").map(String::into_bytes),
        primary_auth: text("primaryauth").map(String::into_bytes),
        source_addr: text("bind-source-addr").and_then(|addr| addr.parse().ok()),
        replica_announce_ip: text("replica-announce-ip"),
        listening_port: if announced != 0 { announced } else { port },
        spool_dir: std::path::PathBuf::from(values.named("dir")),
    }
}

impl ReplicationSide {
    /// Starts the runtime.
    pub fn start(engine: &Arc<Engine>, values: &Values) -> std::io::Result<ReplicationSide> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pando-repl")
            .enable_all()
            .build()?;
        let replication = Replication::new(engine.clone(), config_of(values), runtime.handle().clone());
        Ok(ReplicationSide { replication, runtime, hellos: Mutex::new(HashMap::new()) })
    }

    /// The runtime's handle, for other tasks off the hot path.
    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// Takes over changed settings.
    pub fn configure(&self, values: &Values) {
        self.replication.set_config(config_of(values));
    }

    /// The crate's own interface.
    pub fn inner(&self) -> &Replication {
        &self.replication
    }

    /// For INFO and ROLE.
    pub fn status(&self) -> ReplicationStatus {
        self.replication.status()
    }

    /// The primary that this node follows.
    pub fn primary_address(&self) -> Option<(String, u16)> {
        self.replication.status().primary.map(|link| (link.host, link.port))
    }

    /// Asks the replicas for their offsets.
    pub fn request_acks(&self) {
        self.replication.request_acks();
    }

    /// Follows another server.
    pub fn follow(&self, host: &str, port: u16) {
        self.replication.replica_of(Some((host, port)));
    }

    /// Stops to follow.
    pub fn promote(&self) {
        self.replication.promote();
    }

    /// Takes what a client said with REPLCONF. `Err` is its error line.
    pub fn replconf(&self, client: ClientId, args: &[&[u8]]) -> Result<(), String> {
        let mut hellos = self.hellos.lock();
        // Those who never send PSYNC must not pile up.
        if hellos.len() > 1024 && !hellos.contains_key(&client) {
            hellos.clear();
        }
        let new = || ReplicaHello { client_id: client, ..ReplicaHello::default() };
        hellos.entry(client).or_insert_with(new).replconf(args)
    }

    /// Takes the socket of a replica.
    pub fn accept(&self, handed: HandedOff) {
        let mut hello = self.hellos.lock().remove(&handed.client).unwrap_or_default();
        hello.client_id = handed.client;
        let HandOff::Replica { request } = &handed.hand_off;
        let stream = std::net::TcpStream::from(handed.fd);
        let socket = ReplicaSocket { stream, unsent: handed.unsent, unread: handed.input };
        // The arguments were checked when the command was executed.
        let accepted = match hello.with_request(request) {
            Ok(hello) => self.replication.accept_replica(hello, socket).map_err(|e| crate::config::os_reason(&e)),
            Err(line) => Err(line),
        };
        if let Err(reason) = accepted {
            tracing::warn!("Cannot serve replica {}: {reason}", handed.peer.remote_text());
        }
    }
}
