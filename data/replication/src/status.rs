// SPDX-License-Identifier: BSD-3-Clause
//! What INFO replication, ROLE and the cluster agent want to know, as plain values.

use crate::history::ReplId;
use std::time::Duration;

/// See the head of this file. A snapshot; nothing in it changes.
#[derive(Clone, Debug)]
pub struct ReplicationStatus {
    /// `master_replid`
    pub replid: ReplId,
    /// `master_replid2`
    pub replid2: ReplId,
    /// `master_repl_offset`: end of the log; on a replica what was applied.
    pub offset: u64,
    /// `second_repl_offset`
    pub second_offset: i64,
    /// `repl_backlog_active`
    pub backlog_active: bool,
    /// `repl_backlog_size`
    pub backlog_size: u64,
    /// `repl_backlog_first_byte_offset`, counted from 1; 0 without a backlog.
    pub backlog_first_byte: u64,
    /// `repl_backlog_histlen`
    pub backlog_len: u64,
    /// The link to the primary; `None` on a primary.
    pub primary: Option<PrimaryLinkStatus>,
    /// The replicas of this node, oldest link first.
    pub replicas: Vec<ReplicaStatus>,
    /// Full syncs given since the start (`sync_full`).
    pub sync_full: u64,
    /// Partial resyncs given (`sync_partial_ok`).
    pub sync_partial_ok: u64,
    /// Partial resyncs refused (`sync_partial_err`).
    pub sync_partial_err: u64,
}

/// State of a replica's link to its primary.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum LinkState {
    /// Between two tries.
    Connect,
    /// A connection is being made.
    Connecting,
    /// Greeting.
    Handshake,
    /// Receiving and loading the image.
    Sync,
    /// Following the stream.
    Connected,
}

impl LinkState {
    /// The word that ROLE uses.
    pub fn role_name(self) -> &'static str {
        match self {
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Sync => "sync",
            LinkState::Connected => "connected",
        }
    }
}

/// A replica's view of its primary.
#[derive(Clone, Debug)]
pub struct PrimaryLinkStatus {
    /// `master_host`
    pub host: String,
    /// `master_port`
    pub port: u16,
    /// `master_link_status:up` is [`LinkState::Connected`].
    pub state: LinkState,
    /// `master_last_io_seconds_ago`; -1 without a link.
    pub last_io_s: i64,
    /// `master_link_down_since_seconds`; -1 if the link was never up.
    pub down_since_s: i64,
    /// Bytes of the image that were read so far (`master_sync_read_bytes`).
    pub sync_read_bytes: u64,
    /// Bytes of the image in all, 0 if not known.
    pub sync_total_bytes: u64,
    /// The data are a complete copy of some moment of the primary's: not before the first sync ended.
    pub synced: bool,
    /// What went wrong last, for people.
    pub last_error: Option<String>,
}

/// State of one replica.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ReplicaState {
    /// Waits for the walk to be free.
    WaitBgsave,
    /// Receives the image.
    SendBulk,
    /// Follows the stream.
    Online,
}

impl ReplicaState {
    /// The word that INFO uses.
    pub fn info_name(self) -> &'static str {
        match self {
            ReplicaState::WaitBgsave => "wait_bgsave",
            ReplicaState::SendBulk => "send_bulk",
            ReplicaState::Online => "online",
        }
    }
}

/// One replica of this node.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// The client id that the session had.
    pub client_id: u64,
    /// Announced, else the address of the socket.
    pub ip: String,
    /// Announced, else 0.
    pub port: u16,
    pub state: ReplicaState,
    /// Offset of the last acknowledgement.
    pub offset: u64,
    /// Seconds since then; -1 if there was none.
    pub lag_s: i64,
}

/// What the cluster agent sends with each heartbeat.
#[derive(Copy, Clone, Debug)]
pub struct DataPosition {
    pub replid: ReplId,
    /// The history that it continues since the last promotion, and the offset up to which it was that one.
    pub replid2: (ReplId, u64),
    pub offset: u64,
    /// A replica whose link is up, or has broken and what came over it is not applied yet; true on a primary.
    pub link_up: bool,
    /// Replica: time since it heard of its primary, or since the link broke.
    pub age: Duration,
    /// See [`PrimaryLinkStatus::synced`]; true on a primary.
    pub synced: bool,
    pub loading: bool,
    /// It follows a primary.
    pub is_replica: bool,
    /// The data are a whole copy of some moment of a history, this primary's or that of one before it.
    pub complete: bool,
}
