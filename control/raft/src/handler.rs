// SPDX-License-Identifier: BSD-3-Clause
//! The receiving side: frames of other roots, handed to the library. The agent's listener gives it
//! the connections whose purpose is Raft.
//!
//! Each request runs in a task of its own; openraft itself sends one append at a time per root.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use pando_env::BoxFuture;
use pando_topology::NodeId;
use pando_wire::{Conn, Frame, Handler, Header, Hello, Identity, WireError, decode_body, encode_body};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::machine::Store;
use crate::rpc::{self, Answer, AskBarrier, Barrier, For, Piece, PieceTaken};
use crate::snapshot;
use crate::types::{Snapshot, Types, VoterId};

/// Requests of other roots at work at once; a few per root are normal.
const BUSY_MAX: usize = 256;
/// No snapshot is larger.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

/// Answers the frames of other roots.
#[derive(Clone)]
pub struct RaftHandler {
    shared: Arc<Shared>,
}

struct Shared {
    raft: openraft::Raft<Types, Store>,
    voter: VoterId,
    identity: Identity,
    read_timeout: Duration,
    /// Where the library runs: its answers wait for nothing else there.
    home: tokio::runtime::Handle,
    busy: Arc<Semaphore>,
    /// Snapshots that are arriving, by sender.
    arriving: Mutex<BTreeMap<NodeId, Arriving>>,
}

struct Arriving {
    transfer: u64,
    bytes: BytesMut,
}

impl std::fmt::Debug for RaftHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftHandler").field("voter", &self.shared.voter).finish_non_exhaustive()
    }
}

impl RaftHandler {
    pub(crate) fn new(
        raft: openraft::Raft<Types, Store>,
        voter: VoterId,
        identity: Identity,
        read_timeout: Duration,
    ) -> RaftHandler {
        let (busy, home) = (Arc::new(Semaphore::new(BUSY_MAX)), tokio::runtime::Handle::current());
        let shared = Shared { raft, voter, identity, read_timeout, home, busy, arriving: Mutex::default() };
        RaftHandler { shared: Arc::new(shared) }
    }

    /// Answers one request: the body of the reply, or the text of an error reply.
    pub async fn handle(&self, peer: &Hello, header: &Header, body: &[u8]) -> Result<Bytes, String> {
        if peer.cluster != self.shared.identity.cluster {
            return Err(format!("this root belongs to cluster {}", self.shared.identity.cluster));
        }
        let raft = &self.shared.raft;
        match header.kind {
            rpc::APPEND => self.serve(body, |q: rpc::Append| Box::pin(raft.append_entries(q))).await,
            rpc::VOTE => self.serve(body, |q: rpc::AskVote| Box::pin(raft.vote(q))).await,
            rpc::PRE_VOTE => self.serve(body, |q: rpc::AskVote| Box::pin(raft.pre_vote(q))).await,
            rpc::TRANSFER => self.serve(body, |q: rpc::Transfer| Box::pin(raft.handle_transfer_leader(q))).await,
            rpc::SNAPSHOT => {
                let from = peer.node;
                self.serve(body, |q: Piece| Box::pin(self.take_piece(from, q))).await
            }
            rpc::BARRIER => self.serve(body, |_: AskBarrier| Box::pin(self.barrier())).await,
            kind => Err(format!("unknown kind of request {kind}")),
        }
    }

    async fn serve<'a, Q: DeserializeOwned, A: Serialize, E: Display>(
        &'a self,
        body: &[u8],
        work: impl FnOnce(Q) -> BoxFuture<'a, Result<A, E>>,
    ) -> Result<Bytes, String> {
        let question: For<Q> = decode_body(body).map_err(|e: WireError| e.to_string())?;
        if question.to != self.shared.voter {
            return Err(format!("this root is {}, not {}", self.shared.voter, question.to));
        }
        let answer = match work(question.body).await {
            Ok(answer) => Answer::Done(answer),
            Err(e) => Answer::Stopped(e.to_string()),
        };
        encode_body(&answer).map_err(|e| e.to_string())
    }

    async fn take_piece(&self, from: NodeId, piece: Piece) -> Result<PieceTaken, String> {
        let vote = piece.vote;
        let Some(image) = self.collect(from, piece) else { return Ok(PieceTaken::Restart) };
        let Some(image) = image else { return Ok(PieceTaken::More) };
        let (meta, _) = snapshot::decode(&image).map_err(|e| e.to_string())?;
        let installed = self.shared.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: image }).await;
        installed.map(PieceTaken::Installed).map_err(|e| e.to_string())
    }

    /// Adds a piece; the whole image when it was the last one, `None` outside when it does not fit.
    fn collect(&self, from: NodeId, piece: Piece) -> Option<Option<Bytes>> {
        let mut arriving = self.shared.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        if piece.offset == 0 {
            arriving.insert(from, Arriving { transfer: piece.transfer, bytes: BytesMut::new() });
        }
        let known = arriving.get_mut(&from)?;
        let end = piece.offset + piece.bytes.len() as u64;
        let fits = known.transfer == piece.transfer && known.bytes.len() as u64 == piece.offset;
        if !fits || end > piece.total || piece.total > SNAPSHOT_BYTES_MAX {
            arriving.remove(&from);
            return None;
        }
        known.bytes.extend_from_slice(&piece.bytes);
        if end < piece.total {
            return Some(None);
        }
        let whole = arriving.remove(&from)?;
        Some(Some(whole.bytes.freeze()))
    }

    async fn barrier(&self) -> Result<Barrier, String> {
        read_index(&self.shared.raft, self.shared.read_timeout).await
    }
}

/// Confirms leadership with a majority; the index that a reader must have applied.
pub async fn read_index(raft: &openraft::Raft<Types, Store>, limit: Duration) -> Result<Barrier, String> {
    let asked = tokio::time::timeout(limit, raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
    match asked {
        Err(_) => Ok(Barrier::NoQuorum),
        Ok(Ok(linearizer)) => Ok(Barrier::Index(linearizer.read_log_id().log_id().index)),
        Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => Ok(Barrier::NotLeader),
        Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => Ok(Barrier::NoQuorum),
        Ok(Err(RaftError::Fatal(e))) => Err(e.to_string()),
    }
}

impl Handler for RaftHandler {
    fn home(&self) -> Option<tokio::runtime::Handle> {
        Some(self.shared.home.clone())
    }

    fn on_frame(&self, conn: &Conn, frame: Frame) {
        let Ok(permit) = Arc::clone(&self.shared.busy).try_acquire_owned() else {
            conn.reply_error(&frame.header, "too many requests");
            return;
        };
        let (handler, conn) = (self.clone(), conn.clone());
        tokio::spawn(async move {
            match handler.handle(conn.peer(), &frame.header, &frame.body).await {
                Ok(body) => conn.reply(&frame.header, body),
                Err(text) => conn.reply_error(&frame.header, &text),
            }
            drop(permit);
        });
    }
}
