// SPDX-License-Identifier: BSD-3-Clause
//! Requests to the other roots: one connection per root and lane, made when needed.
//!
//! Lanes keep a snapshot or a slow append from holding up heartbeats and votes. A lane that does
//! not answer three times in a row gets a new connection: after a partition has healed, TCP alone
//! may take many seconds to notice. The receiving side is `handler`.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::{OptionalSend, RPCTypes};
use pando_env::Env;
use pando_wire::{Conn, ConnConfig, Kind, NoHandler, Purpose, WireError, decode_body, encode_body};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::RaftConfig;
use crate::rpc::{self, Answer, AskBarrier, Barrier, For, Piece, PieceTaken};
use crate::types::{RootAddress, Snapshot, Types, Vote, VoterId};

/// Unanswered requests in a row after which a connection is given up.
const SILENT_MAX: u32 = 3;

/// Entries of so many bytes may take a millisecond to be sent, written and synced.
const APPEND_BYTES_PER_MS: u64 = 4096;

/// Bytes of the commands in a request.
fn bytes_of(rpc: &rpc::Append) -> u64 {
    let commands = rpc.entries.iter().filter_map(|entry| match &entry.payload {
        openraft::EntryPayload::Normal(command) => Some(command),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => None,
    });
    commands.flat_map(|command| &command.0).map(|field| field.len() as u64).sum()
}

/// What a connection is used for.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Lane {
    Append,
    Heartbeat,
    Vote,
    Snapshot,
}

/// Connections to all other roots; clones share them.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    config: RaftConfig,
    me: VoterId,
    links: Mutex<BTreeMap<(VoterId, Lane), Arc<Link>>>,
    next_transfer: AtomicU64,
}

/// One connection, or the place for it.
struct Link {
    address: Mutex<RootAddress>,
    /// Locked while connecting, so that there is one attempt at a time.
    conn: tokio::sync::Mutex<Option<Conn>>,
    silent: AtomicU32,
}

impl Transport {
    pub fn new(env: Env, config: RaftConfig, me: VoterId) -> Transport {
        let next_transfer = AtomicU64::new(env.rng.next_u64());
        Transport { shared: Arc::new(Shared { env, config, me, links: Mutex::default(), next_transfer }) }
    }

    /// A client for one lane to one root.
    pub fn client(&self, target: VoterId, address: &RootAddress, lane: Lane) -> Client {
        let mut links = self.links();
        let link = links.entry((target, lane)).or_insert_with(|| {
            Arc::new(Link {
                address: Mutex::new(address.clone()),
                conn: tokio::sync::Mutex::default(),
                silent: AtomicU32::new(0),
            })
        });
        *link.address.lock().unwrap_or_else(PoisonError::into_inner) = address.clone();
        Client { transport: self.clone(), target, link: Arc::clone(link) }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        let links: Vec<_> = std::mem::take(&mut *self.links()).into_values().collect();
        for link in links {
            if let Some(conn) = link.conn.lock().await.take() {
                conn.close();
            }
        }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<(VoterId, Lane), Arc<Link>>> {
        self.shared.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Talks to one root on one lane.
pub struct Client {
    transport: Transport,
    target: VoterId,
    link: Arc<Link>,
}

/// Counts a request as unanswered unless it is told otherwise, also when it is dropped.
struct Attempt<'a> {
    link: &'a Link,
    answered: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.answered {
            self.link.silent.store(0, Ordering::Relaxed);
        } else {
            self.link.silent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Client {
    async fn conn(&self) -> Result<Conn, WireError> {
        let mut slot = self.link.conn.lock().await;
        if let Some(conn) = &*slot {
            let is_silent = self.link.silent.load(Ordering::Relaxed) >= SILENT_MAX;
            if !conn.is_closed() && !is_silent {
                return Ok(conn.clone());
            }
            conn.close();
            *slot = None;
        }
        let Shared { env, config, .. } = &*self.transport.shared;
        let address = self.link.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let moved = config.resolver.as_ref().and_then(|resolve| resolve(&address.node));
        let (host, port) = moved.unwrap_or((address.host, address.port));
        let conn = Conn::connect(
            env,
            &host,
            port,
            config.identity,
            Purpose::Raft,
            Some(address.node),
            &ConnConfig { keyring: config.keyring.clone(), ..ConnConfig::default() },
            Arc::new(NoHandler),
        )
        .await?;
        if conn.peer().cluster != config.identity.cluster {
            conn.close();
            return Err(WireError::WrongPeer(conn.peer().cluster.to_string()));
        }
        self.link.silent.store(0, Ordering::Relaxed);
        *slot = Some(conn.clone());
        Ok(conn)
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, WireError> {
        let body = encode_body(&For { to: self.target, body: question })?;
        let mut attempt = Attempt { link: &self.link, answered: false };
        let work = async {
            let conn = self.conn().await?;
            conn.request(kind, body, deadline).await
        };
        let reply = match tokio::time::timeout(deadline, work).await {
            Ok(Err(WireError::Refused(text))) => {
                attempt.answered = true;
                return Err(WireError::Refused(text));
            }
            Ok(result) => result?,
            Err(_) => return Err(WireError::Timeout),
        };
        attempt.answered = true;
        match decode_body(&reply.body)? {
            Answer::Done(answer) => Ok(answer),
            Answer::Stopped(text) => Err(WireError::Refused(text)),
        }
    }

    async fn rpc<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        action: RPCTypes,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, RPCError<Types>> {
        let me = self.transport.shared.me;
        self.call(kind, question, deadline).await.map_err(|e| match e {
            WireError::Timeout => RPCError::Timeout(Timeout { action, id: me, target: self.target, timeout: deadline }),
            WireError::Body(_) | WireError::QueueFull | WireError::TooLong(_) => {
                RPCError::Network(NetworkError::from_string(e))
            }
            _ => RPCError::Unreachable(Unreachable::from_string(e)),
        })
    }

    /// Up to where a reader must have applied, says the leader.
    pub async fn ask_barrier(&self, deadline: Duration) -> Result<Barrier, WireError> {
        self.call(rpc::BARRIER, &AskBarrier {}, deadline).await
    }

    async fn send_pieces(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        deadline: Duration,
    ) -> Result<openraft::raft::SnapshotResponse<Types>, StreamingError<Types>> {
        let Shared { config, next_transfer, .. } = &*self.transport.shared;
        let transfer = next_transfer.fetch_add(1, Ordering::Relaxed);
        let image = snapshot.snapshot;
        let total = image.len() as u64;
        let mut offset = 0;
        loop {
            let end = image.len().min(offset + config.snapshot_chunk_bytes.max(1));
            let piece = Piece { vote, transfer, offset: offset as u64, total, bytes: image.slice(offset..end) };
            let answer = self.rpc(rpc::SNAPSHOT, RPCTypes::InstallSnapshot, &piece, deadline).await;
            match answer.map_err(into_streaming)? {
                PieceTaken::More if end < image.len() => offset = end,
                PieceTaken::Installed(response) => return Ok(response),
                PieceTaken::More | PieceTaken::Restart => {
                    return Err(StreamingError::Network(NetworkError::from_string("the receiver lost its place")));
                }
            }
        }
    }
}

fn into_streaming(error: RPCError<Types>) -> StreamingError<Types> {
    match error {
        RPCError::Timeout(e) => StreamingError::Timeout(e),
        RPCError::Unreachable(e) => StreamingError::Unreachable(e),
        RPCError::Network(e) => StreamingError::Network(e),
        RPCError::RemoteError(e) => match e.source {},
    }
}

impl RaftNetworkFactory<Types> for Transport {
    type Network = Client;

    async fn new_client(&mut self, target: VoterId, node: &RootAddress) -> Client {
        // openraft makes a client for each vote; appends have one for long.
        self.client(target, node, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: VoterId, node: &RootAddress) -> Client {
        self.client(target, node, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: VoterId, node: &RootAddress) -> Client {
        self.client(target, node, Lane::Snapshot)
    }
}

impl Client {
    /// The same root on the lane for votes.
    fn on_vote_lane(&self) -> Client {
        let address = self.link.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.transport.client(self.target, &address, Lane::Vote)
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = bytes::Bytes;

    async fn append_entries(&mut self, rpc: rpc::Append, option: RPCOption) -> Result<rpc::Appended, RPCError<Types>> {
        // The library's limit is three quarters of a heartbeat, too short for a follower whose
        // fsync is slow; heartbeats have a lane and a limit of their own.
        // Megabytes take longer: to begin again after the time for a few bytes would never succeed.
        let limit_ms = self.transport.shared.config.election_min_ms + bytes_of(&rpc) / APPEND_BYTES_PER_MS;
        let deadline = option.soft_ttl().max(Duration::from_millis(limit_ms));
        self.rpc(rpc::APPEND, RPCTypes::AppendEntries, &rpc, deadline).await
    }

    async fn vote(&mut self, rpc: rpc::AskVote, option: RPCOption) -> Result<rpc::Voted, RPCError<Types>> {
        self.on_vote_lane().rpc(rpc::VOTE, RPCTypes::Vote, &rpc, option.soft_ttl()).await
    }

    async fn pre_vote(&mut self, rpc: rpc::AskVote, option: RPCOption) -> Result<rpc::Voted, RPCError<Types>> {
        self.on_vote_lane().rpc(rpc::PRE_VOTE, RPCTypes::Vote, &rpc, option.soft_ttl()).await
    }

    async fn transfer_leader(
        &mut self,
        req: rpc::Transfer,
        option: RPCOption,
    ) -> Result<rpc::Transferred, RPCError<Types>> {
        self.on_vote_lane().rpc(rpc::TRANSFER, RPCTypes::TransferLeader, &req, option.soft_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<openraft::raft::SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            result = self.send_pieces(vote, snapshot, option.soft_ttl()) => result,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}
