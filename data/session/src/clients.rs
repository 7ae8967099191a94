// SPDX-License-Identifier: BSD-3-Clause
//! All connected clients, as any thread may see them: identity, counters, subscriptions.
//!
//! Not here: what only the client's own worker needs ([`crate::Session`]), and the CLIENT command.

use crate::ports::ClientId;
use pando_keyspace::Waiter;
use pando_resp::Proto;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};

/// What the server knows about a connection when it accepts it.
#[derive(Clone, Debug, Default)]
pub struct ClientInfo {
    /// Peer, `ip:port`.
    pub addr: String,
    /// Own end, `ip:port`.
    pub laddr: String,
    /// File descriptor.
    pub fd: i32,
    /// Worker that owns the connection.
    pub worker: usize,
    /// Connected over TLS.
    pub is_tls: bool,
    /// Accepted at, Unix milliseconds.
    pub now_ms: u64,
}

/// Kind of a client, as CLIENT LIST TYPE tells them apart.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u8)]
pub enum ClientKind {
    /// Anybody.
    Normal,
    /// The link to our primary.
    Primary,
    /// A replica of ours.
    Replica,
}

/// Names that a client gave itself.
#[derive(Clone, Debug, Default)]
pub struct ClientNames {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: String,
}

/// Subscriptions of one client.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    pub channels: HashSet<Arc<[u8]>>,
    pub patterns: HashSet<Arc<[u8]>>,
    pub shard_channels: HashSet<Arc<[u8]>>,
}

/// One client, shared. Everything is written by its own worker, except subscriptions that end
/// because a slot left, and `killed`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct ClientShared {
    pub id: ClientId,
    pub addr: String,
    pub laddr: String,
    pub fd: i32,
    pub is_tls: bool,
    pub created_ms: u64,
    pub worker: AtomicUsize,
    pub last_active_ms: AtomicU64,
    pub names: Mutex<ClientNames>,
    pub db: AtomicU16,
    pub(crate) proto: AtomicU8,
    kind: AtomicU8,
    pub killed: AtomicBool,
    /// In a command that waits: WAIT, BLPOP and its like.
    pub is_blocked: AtomicBool,
    /// Held back by a pause; set by the server.
    pub is_postponed: AtomicBool,
    pub is_readonly: AtomicBool,
    pub is_no_evict: AtomicBool,
    pub is_no_touch: AtomicBool,
    pub has_capa_redirect: AtomicBool,
    /// Queued commands, -1 outside of MULTI.
    pub multi: AtomicI32,
    pub multi_bytes: AtomicU64,
    pub is_dirty_exec: AtomicBool,
    pub watched: AtomicU32,
    /// Index of the last command, `u16::MAX` for none.
    pub last_command: AtomicU16,
    pub commands: AtomicU64,
    // The server's part: what it reads, buffers and sends.
    pub query_bytes: AtomicU64,
    pub query_free_bytes: AtomicU64,
    pub argv_bytes: AtomicU64,
    pub output_bytes: AtomicU64,
    pub net_in: AtomicU64,
    pub net_out: AtomicU64,
    pub redirect_to: AtomicI64,
    /// What it waits for, for CLIENT UNBLOCK.
    pub(crate) waiter: Mutex<Option<Arc<Waiter>>>,
    pub(crate) subscriptions: Mutex<Subscriptions>,
    /// Channels and patterns.
    pub(crate) subscribed: AtomicU32,
    pub(crate) subscribed_shard: AtomicU32,
}

impl ClientShared {
    fn new(id: ClientId, info: ClientInfo) -> Self {
        Self {
            id,
            addr: info.addr,
            laddr: info.laddr,
            fd: info.fd,
            is_tls: info.is_tls,
            created_ms: info.now_ms,
            worker: AtomicUsize::new(info.worker),
            last_active_ms: AtomicU64::new(info.now_ms),
            names: Mutex::default(),
            db: AtomicU16::new(0),
            proto: AtomicU8::new(2),
            kind: AtomicU8::new(ClientKind::Normal as u8),
            killed: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            is_postponed: AtomicBool::new(false),
            is_readonly: AtomicBool::new(false),
            is_no_evict: AtomicBool::new(false),
            is_no_touch: AtomicBool::new(false),
            has_capa_redirect: AtomicBool::new(false),
            multi: AtomicI32::new(-1),
            multi_bytes: AtomicU64::new(0),
            is_dirty_exec: AtomicBool::new(false),
            watched: AtomicU32::new(0),
            last_command: AtomicU16::new(u16::MAX),
            commands: AtomicU64::new(0),
            query_bytes: AtomicU64::new(0),
            query_free_bytes: AtomicU64::new(0),
            argv_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            net_in: AtomicU64::new(0),
            net_out: AtomicU64::new(0),
            redirect_to: AtomicI64::new(-1),
            waiter: Mutex::default(),
            subscriptions: Mutex::default(),
            subscribed: AtomicU32::new(0),
            subscribed_shard: AtomicU32::new(0),
        }
    }

    /// Bytes of its buffers (`maxmemory-clients`).
    pub fn memory_bytes(&self) -> u64 {
        [&self.query_bytes, &self.query_free_bytes, &self.argv_bytes, &self.multi_bytes, &self.output_bytes]
            .iter()
            .map(|part| part.load(Relaxed))
            .sum()
    }

    /// The protocol that the client reads.
    pub fn proto(&self) -> Proto {
        if self.proto.load(Relaxed) == 3 { Proto::Resp3 } else { Proto::Resp2 }
    }

    /// What kind of client it is.
    pub fn kind(&self) -> ClientKind {
        match self.kind.load(Relaxed) {
            1 => ClientKind::Primary,
            2 => ClientKind::Replica,
            _ => ClientKind::Normal,
        }
    }

    /// Set by replication for links of primaries and replicas.
    pub fn set_kind(&self, kind: ClientKind) {
        self.kind.store(kind as u8, Relaxed);
    }

    /// Whether it has any subscription.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed.load(Relaxed) + self.subscribed_shard.load(Relaxed) > 0
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct ClientRegistry {
    next_id: AtomicU64,
    clients: RwLock<BTreeMap<ClientId, Arc<ClientShared>>>,
}

impl Default for ClientRegistry {
    fn default() -> Self {
        Self { next_id: AtomicU64::new(1), clients: RwLock::default() }
    }
}

impl ClientRegistry {
    pub(crate) fn add(&self, info: ClientInfo) -> Arc<ClientShared> {
        let id = self.next_id.fetch_add(1, Relaxed);
        let client = Arc::new(ClientShared::new(id, info));
        self.clients.write().insert(id, client.clone());
        client
    }

    pub(crate) fn remove(&self, id: ClientId) {
        self.clients.write().remove(&id);
    }

    /// One client.
    pub fn get(&self, id: ClientId) -> Option<Arc<ClientShared>> {
        self.clients.read().get(&id).cloned()
    }

    /// All clients, by id.
    pub fn all(&self) -> Vec<Arc<ClientShared>> {
        self.clients.read().values().cloned().collect()
    }

    /// Number of clients.
    pub fn len(&self) -> usize {
        self.clients.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
