// SPDX-License-Identifier: BSD-3-Clause
//! The running server: what its parts share. Built by `boot.rs`; workers and server commands hold it.

use crate::config::{Config, ServerSettings};
use crate::net::listener::{ListenError, Listener, Peer, open_all, open_tcp};
use crate::net::mailbox::{Mailboxes, WorkerMessage};
use crate::replication::ReplicationSide;
use crate::worker::{NetStats, NetTotals};
use pando_keyspace::Garbage;
use pando_session::{ClientId, ClientKind, Engine, HandOff, Host};
use parking_lot::{Mutex, RwLock};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// A connection that stops being a client's.
#[derive(Debug)]
pub struct HandedOff {
    /// Its socket.
    pub fd: OwnedFd,
    /// The other end.
    pub peer: Peer,
    /// Number that the client had.
    pub client: u64,
    /// What it becomes.
    pub hand_off: HandOff,
    /// Received and not executed.
    pub input: Vec<u8>,
    /// Replies that come before anything else.
    pub unsent: Vec<u8>,
}

/// Rates of the last seconds, sampled by the cron thread.
#[derive(Debug, Default)]
pub struct Rates {
    /// Commands per second.
    pub commands: AtomicU64,
    /// Bytes received per second.
    pub net_in: AtomicU64,
    /// Bytes sent per second.
    pub net_out: AtomicU64,
    /// Turns of all event loops per second.
    pub cycles: AtomicU64,
}

/// See the head of this file.
pub struct Server {
    /// Configuration.
    pub config: Config,
    /// The data plane.
    pub engine: Arc<Engine>,
    /// The workers' queues.
    pub mail: Arc<Mailboxes>,
    /// What the first worker accepts clients from.
    pub listeners: Mutex<Vec<Listener>>,
    /// The workers' counters.
    pub net_stats: Vec<Arc<NetStats>>,
    /// The replication runtime.
    pub replication: ReplicationSide,
    /// The cluster's parts, in cluster mode.
    pub cluster: std::sync::OnceLock<Arc<crate::cluster::ClusterRuntime>>,
    /// Connected clients, including those on their way to a worker.
    pub clients: AtomicUsize,
    /// Random name of this run.
    pub run_id: String,
    /// Path of the program.
    pub executable: String,
    /// When the process started.
    pub started: Instant,
    /// The same as unix seconds.
    pub started_unix_s: u64,
    /// How it is told to end.
    pub ending: crate::ending::Ending,
    /// FAILOVER.
    pub failover: crate::failover::Failover,
    /// Who watches this node.
    pub sentinels: crate::sentinels::Sentinels,
    /// See `Rates`.
    pub rates: Rates,
    /// Does the cron thread delete expired keys? DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: AtomicBool,
    /// Most memory ever used, as far as it was sampled.
    pub peak_memory: AtomicU64,
    /// Memory in use when the server was ready.
    pub startup_memory: AtomicU64,
    /// Wakes the cron thread.
    pub cron: crate::cron::Alarm,
    /// Wakes the evictor thread.
    pub evictor: crate::evictor::Bell,
    /// How late keys expire.
    pub expire_lag: crate::cron::ExpireLag,
    /// What compaction did.
    pub defrag: crate::defrag::DefragStats,
}

/// Servers of this process by the address of their engine, because a command's handler is a plain function that is
/// given the engine. One entry, except in tests.
static SERVERS: RwLock<Vec<(usize, Weak<Server>)>> = RwLock::new(Vec::new());

impl Server {
    /// Makes the server known to the handlers of its commands.
    pub fn register(self: &Arc<Server>) {
        let mut servers = SERVERS.write();
        servers.retain(|(_, server)| server.strong_count() > 0);
        servers.push((Arc::as_ptr(&self.engine) as usize, Arc::downgrade(self)));
    }

    /// The server that this engine belongs to.
    pub fn of(engine: &Engine) -> Option<Arc<Server>> {
        let address = std::ptr::from_ref(engine) as usize;
        SERVERS.read().iter().find(|(a, _)| *a == address).and_then(|(_, server)| server.upgrade())
    }

    /// Sums of the workers' counters.
    pub fn net_totals(&self) -> NetTotals {
        let mut totals = NetTotals::default();
        for stats in &self.net_stats {
            stats.add_to(&mut totals);
        }
        totals
    }

    /// Opens all listening sockets.
    pub fn listen(&self, settings: &ServerSettings) -> Result<(), ListenError> {
        *self.listeners.lock() = open_all(settings)?;
        self.mail.send(0, WorkerMessage::Listen);
        Ok(())
    }

    /// Replaces the TCP sockets; the old ones are closed first, because the new ones may be in part the same.
    pub fn relisten(&self, settings: &ServerSettings) -> Result<(), ListenError> {
        let mut listeners = self.listeners.lock();
        listeners.retain(Listener::is_unix);
        let opened = open_tcp(settings).map(|opened| listeners.extend(opened));
        drop(listeners);
        self.mail.send(0, WorkerMessage::Listen);
        opened
    }

    /// The configuration and the log say whom this node follows from now on.
    pub fn note_role(&self, primary: Option<&(String, u16)>) {
        let value = primary.map_or_else(String::new, |(host, port)| format!("{host} {port}"));
        self.config.force("replicaof", value);
        crate::logging::set_replica(primary.is_some());
    }

    /// Takes a connection that a worker gives away.
    pub fn hand_off(&self, handed: HandedOff) {
        self.replication.accept(handed);
    }

    /// Bytes allocated on the heap and in the slab, if the allocator can tell, else what the keyspace counts.
    pub fn used_memory(&self) -> u64 {
        let keyspace = &self.engine.keyspace;
        // The slab is mapped past the allocator; what waits free in it does not count, as with the allocator.
        let used = crate::info::allocator::stats()
            .map_or_else(|| keyspace.used_bytes(), |stats| stats.allocated + keyspace.slab_block_bytes());
        self.peak_memory.fetch_max(used, Ordering::Relaxed);
        used
    }

    /// Bytes that the memory limit leaves out: what the log keeps for replicas beyond the size of the backlog.
    pub fn memory_not_counted(&self) -> u64 {
        let status = self.replication.status();
        status.backlog_len.saturating_sub(status.backlog_size)
    }

    /// Tells the engine how much memory is in use beside its keyspace.
    pub fn measure_memory(&self) {
        let keyspace = self.engine.keyspace.used_bytes();
        let counted = self.used_memory().saturating_sub(self.memory_not_counted());
        self.engine.eviction.measured(counted, keyspace);
    }
}

/// The process, as sessions see it.
pub struct ProcessHost {
    server: Weak<Server>,
    garbage: std::sync::mpsc::Sender<Vec<Garbage>>,
}

impl ProcessHost {
    /// Starts the thread that frees what commands throw away.
    pub fn new(server: &Arc<Server>) -> std::io::Result<ProcessHost> {
        let (garbage, heap) = std::sync::mpsc::channel::<Vec<Garbage>>();
        std::thread::Builder::new().name("pando-free".to_owned()).spawn(move || heap.into_iter().for_each(drop))?;
        let removed = garbage.clone();
        server.engine.keyspace.on_garbage(Box::new(move |garbage| {
            // As in `drop_later`.
            let _ = removed.send(garbage);
        }));
        Ok(ProcessHost { server: Arc::downgrade(server), garbage })
    }
}

impl Host for ProcessHost {
    fn drop_later(&self, garbage: Vec<Garbage>) {
        // If the thread is gone the process ends, and the memory with it.
        let _ = self.garbage.send(garbage);
    }

    fn primary_address(&self) -> Option<(String, u16)> {
        self.server.upgrade()?.replication.primary_address()
    }

    fn request_acks(&self) {
        if let Some(server) = self.server.upgrade() {
            server.replication.request_acks();
        }
    }

    fn wake_evictor(&self) {
        if let Some(server) = self.server.upgrade() {
            server.evictor.ring();
        }
    }

    fn kill_link(&self, id: ClientId, kind: ClientKind) {
        let Some(server) = self.server.upgrade() else { return };
        match kind {
            ClientKind::Primary => server.replication.inner().kill_primary_link(),
            ClientKind::Replica | ClientKind::Normal => drop(server.replication.inner().kill_replicas(Some(id))),
        }
    }
}
