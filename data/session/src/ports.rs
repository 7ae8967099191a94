// SPDX-License-Identifier: BSD-3-Clause
//! What sessions need from outside: the log of writes, mailboxes of workers, and what only the
//! process as a whole can answer. Implemented by data/replication and apps/server.

use pando_keyspace::DbIndex;
use pando_topology::Slot;
use std::sync::Arc;

/// Number of a client, never reused.
pub type ClientId = u64;

/// The log of writes. Called under the slot locks of what was written.
pub trait LogSink: Send + Sync {
    /// Whether anybody reads the log; if not, nothing is encoded.
    fn active(&self) -> bool;
    /// Appends whole commands, which were executed in database `db`; returns the offset after them.
    fn append(&self, db: DbIndex, resp: &[u8]) -> u64;
    /// Appends `body`, commands that begin in database `first`, end in `last` and end with EXEC, behind a MULTI. A
    /// SELECT that is needed goes behind the MULTI, where Valkey has it. Returns the offset after them.
    fn append_transaction(&self, first: DbIndex, last: DbIndex, body: &[u8]) -> u64;
    /// The offset after the last append.
    fn offset(&self) -> u64;
}

/// What a worker is told about one of its clients. A client that is gone is no error.
#[derive(Debug)]
pub enum Message {
    /// Bytes to send, encoded for the client's protocol.
    Push {
        /// Receiver.
        client: ClientId,
        /// Whole replies or pushes; shared among receivers.
        bytes: Arc<[u8]>,
    },
    /// The same bytes to several clients of the worker.
    PushAll {
        /// Receivers.
        clients: Vec<ClientId>,
        /// As in `Push`; shared among workers too.
        bytes: Arc<[u8]>,
    },
    /// Close the connection, after what was written before.
    Kill {
        /// Whom.
        client: ClientId,
    },
    /// The reply of [`crate::Suspend::Async`].
    Resume {
        /// Receiver.
        client: ClientId,
        /// The ticket of the suspension; an older one is ignored.
        ticket: u64,
        /// The reply.
        bytes: Vec<u8>,
    },
    /// CLIENT UNBLOCK of a client in [`crate::Suspend::Wait`] or [`crate::Suspend::Blocked`].
    Unblock {
        /// Whom.
        client: ClientId,
        /// The wait that it is about; none for WAIT. Nobody else will answer it.
        ticket: Option<u64>,
        /// Answer `UNBLOCKED` and not as if the time had run out.
        with_error: bool,
    },
    /// The answer of [`crate::Suspend::Blocked`].
    Served(crate::blocked::Served),
    /// There may be something for a client in [`crate::Suspend::Blocked`] that only its own worker can take: call
    /// [`crate::Session::retry_blocked`].
    Retry {
        /// Whom.
        client: ClientId,
        /// Its wait.
        ticket: u64,
    },
    /// Keys changed that clients wait for: call [`crate::Engine::serve_slot`].
    ServeSlot(Slot),
    /// Call [`crate::Session::recheck_blocked`] for all clients in
    /// [`crate::Suspend::Blocked`] and [`crate::Suspend::Wait`].
    Recheck {
        /// The node has another role.
        role_changed: bool,
    },
    /// A pause ended: try clients in [`crate::Suspend::Paused`] again.
    Unpause,
    /// A replica acknowledged an offset: look at clients in [`crate::Suspend::Wait`].
    AcksChanged,
}

/// Where messages to workers go.
pub trait Mailbox: Send + Sync {
    /// Queues `msg` for the worker and wakes it. Never blocks.
    fn post(&self, worker: usize, msg: Message);
    /// Number of workers.
    fn workers(&self) -> usize;
}

/// What only the process as a whole knows. All have defaults.
pub trait Host: Send + Sync {
    /// Drops heavy values on a background thread.
    fn drop_later(&self, garbage: Vec<pando_keyspace::Garbage>) {
        drop(garbage);
    }
    /// Address of the primary that a replica outside of cluster mode follows (REDIRECT).
    fn primary_address(&self) -> Option<(String, u16)> {
        None
    }
    /// Asks the replicas to acknowledge their offsets at once (WAIT).
    fn request_acks(&self) {}
    /// Wakes the thread that evicts: memory is near the limit.
    fn wake_evictor(&self) {}
    /// CLIENT KILL of a link: of the replica that had this client id, or to the primary.
    fn kill_link(&self, _id: ClientId, _kind: crate::clients::ClientKind) {}
}
