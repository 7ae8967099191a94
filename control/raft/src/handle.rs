// SPDX-License-Identifier: BSD-3-Clause
//! The handle that control/agent holds: propose, read, watch, stop. Changes of the members are in
//! `members`.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader, RaftError};
use pando_env::Env;
use pando_root_state::{History, Outcome, Proposal};
use pando_topology::{ClusterMap, NodeId};
use tokio::sync::watch;

use crate::config::RaftConfig;
use crate::error::{ProposeError, ReadError, StartError};
use crate::handler::{RaftHandler, read_index};
use crate::log::{Limits, Log};
use crate::machine::{Machine, Store};
use crate::members;
use crate::root_machine::{self, RootMachine};
use crate::rpc::Barrier;
use crate::status::Status;
use crate::transport::{Lane, Transport};
use crate::types::{Payload, RootAddress, SeededRuntime, Types, VoterId};

/// A committed and applied command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// What applying it came to.
    pub outcome: Outcome,
}

/// One member of the root group, running in this process. Clones share it; it runs until
/// [`Raft::shutdown`].
#[derive(Clone)]
pub struct Raft {
    core: Core,
    map: watch::Receiver<Arc<ClusterMap>>,
}

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raft").field("voter", &self.core.voter).finish_non_exhaustive()
    }
}

/// The same over encoded commands: tests put other machines under it.
#[derive(Clone)]
pub(crate) struct Core {
    pub raft: openraft::Raft<Types, Store>,
    pub voter: VoterId,
    pub config: RaftConfig,
    pub log: Log,
    pub store: Store,
    transport: Transport,
    handler: RaftHandler,
    status: watch::Receiver<Status>,
}

impl Raft {
    /// Opens the files in `config.dir` (or makes them) and starts this member. A new member does
    /// nothing until it is initialized or added by a leader.
    pub async fn start(config: RaftConfig, env: &Env) -> Result<Raft, StartError> {
        let (machine, map) = RootMachine::new();
        let core = Core::start(config, env, Box::new(machine)).await?;
        Ok(Raft { core, map })
    }

    /// Identity of this member; stays with its files.
    pub fn voter(&self) -> VoterId {
        self.core.voter
    }

    /// Takes the frames of the other roots: give it to `Conn::accept` for `Purpose::Raft`.
    pub fn handler(&self) -> RaftHandler {
        self.core.handler.clone()
    }

    /// Whether this member belongs to a group already (its log is not empty).
    pub async fn is_initialized(&self) -> Result<bool, StartError> {
        self.core.raft.is_initialized().await.map_err(|e| StartError::Fatal(e.to_string()))
    }

    /// Makes this member a group of its own and waits until it leads. On exactly one root of a
    /// cluster, once.
    pub async fn initialize(&self, address: RootAddress) -> Result<(), StartError> {
        self.core.initialize(address).await
    }

    /// Commits a command; only on the leader. Give the same request id when asking again after
    /// [`ProposeError::Unknown`].
    pub async fn propose(&self, proposal: &Proposal) -> Result<Committed, ProposeError> {
        let (index, outcome) = self.core.propose(root_machine::encode(proposal)).await?;
        let outcome = outcome.0.first().map(|bytes| rmp_serde::from_slice(bytes));
        match outcome {
            Some(Ok(outcome)) => Ok(Committed { index, outcome }),
            _ => Err(ProposeError::Stopped("an outcome cannot be read".to_owned())),
        }
    }

    /// Waits until this root has applied everything that was committed before the call; what
    /// [`Raft::map`] shows then is linearizable. On a follower the leader is asked. Gives the index
    /// up to which the map is current.
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        self.core.read_barrier().await
    }

    /// The map as of the last applied entry; may be old. See [`Raft::read_barrier`].
    pub fn map(&self) -> Arc<ClusterMap> {
        Arc::clone(&self.map.borrow())
    }

    /// What was decided and why, as of the last applied entry. Do not keep it: a copy is made for every
    /// record that is added meanwhile.
    pub fn history(&self) -> Arc<History> {
        self.core.store.history()
    }

    /// Index of the last entry applied, and the digest of all entries up to it. Roots of one group that have applied
    /// as many have the same one.
    pub fn digest(&self) -> (u64, u64) {
        self.core.store.digest()
    }

    /// Tells of each change of the map (changes in quick succession may be seen as one).
    pub fn watch_map(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.map.clone()
    }

    /// The group as this root sees it.
    pub fn status(&self) -> Status {
        self.core.status.borrow().clone()
    }

    /// Tells of each change of the status.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.core.status.clone()
    }

    /// The node that leads, as far as known.
    pub fn leader_node(&self) -> Option<NodeId> {
        let status = self.core.status.borrow();
        status.addresses.get(&status.leader?).map(|address| address.node)
    }

    /// Whether this root leads, or did when it last heard of it.
    pub fn is_leader(&self) -> bool {
        self.core.status.borrow().is_leader
    }

    /// Waits for the reason for which this root stopped by itself (a disk error, say).
    pub async fn stopped(&self) -> String {
        let mut status = self.core.status.clone();
        let stopped = status.wait_for(|s| s.stopped.is_some()).await;
        stopped.ok().and_then(|s| s.stopped.clone()).unwrap_or_default()
    }

    /// Stops this member. Hand leadership over first ([`Raft::transfer_leader`]).
    pub async fn shutdown(&self) {
        self.core.shutdown().await;
    }

    /// Makes a snapshot now; the log behind it goes, but for the entries kept.
    pub async fn compact(&self) -> Result<(), StartError> {
        self.core.compact().await.map_err(StartError::Fatal)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }
}

impl Core {
    pub async fn start(config: RaftConfig, env: &Env, machine: Box<dyn Machine>) -> Result<Core, StartError> {
        let library = Arc::new(config.to_openraft()?);
        let limits = Limits { bytes_max: config.log_bytes_max, entries_max: config.log_entries_max };
        let log =
            Log::open(env, &config.dir, config.identity.cluster, limits, config.loses_damaged_end, config.new_voter);
        let log = log.await?;
        let store = Store::open(&env.disk, &config.dir, machine).await?;
        let (purged, snapshot) = (log.purged().map(|id| id.index), store.snapshot_position().map(|id| id.index));
        if purged > snapshot {
            let text = format!("the log starts behind {purged:?}, the snapshot ends at {snapshot:?}");
            return Err(StartError::Storage(std::io::Error::new(std::io::ErrorKind::InvalidData, text)));
        }
        let voter = log.voter();
        let transport = Transport::new(env.clone(), config.clone(), voter);
        let new = openraft::Raft::new(voter, library, transport.clone(), log.clone(), store.clone());
        // The library's tasks inherit the seed; all of them descend from this call.
        let raft = SeededRuntime::scope(env.rng.next_u64(), new).await.map_err(|e| StartError::Fatal(e.to_string()))?;
        let handler = RaftHandler::new(raft.clone(), voter, config.identity, config.read_timeout());
        let (status_tx, status) = watch::channel(Status { voter, ..Status::default() });
        let core = Core { raft, voter, config, log, store, transport, handler, status };
        tokio::spawn(keep_house(
            core.raft.clone(),
            (core.log.clone(), core.store.clone()),
            env.clone(),
            (core.config.keep_entries, Duration::from_millis(core.config.heartbeat_ms)),
            status_tx,
        ));
        Ok(core)
    }

    pub async fn initialize(&self, address: RootAddress) -> Result<(), StartError> {
        let members = BTreeMap::from([(self.voter, address)]);
        self.raft.initialize(members).await.map_err(|e| StartError::Fatal(e.to_string()))?;
        // Index 0 is the membership, 1 the first entry of the leader.
        let wait = self.raft.wait(Some(self.config.propose_timeout()));
        let leads = wait.metrics(|m| m.last_applied.is_some_and(|id| id.index >= 1), "initialized").await;
        leads.map(|_| ()).map_err(|e| StartError::Fatal(e.to_string()))
    }

    pub async fn propose(&self, command: Payload) -> Result<(u64, Payload), ProposeError> {
        let write = self.raft.client_write(command);
        match tokio::time::timeout(self.config.propose_timeout(), write).await {
            Err(_) => Err(ProposeError::Unknown),
            Ok(Ok(done)) => Ok((done.log_id.index, done.data)),
            Ok(Err(RaftError::Fatal(e))) => Err(ProposeError::Stopped(e.to_string())),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(e)))) => Err(self.not_taken(e)),
            // It was in our log and another leader's entry took its place or may have.
            Ok(Err(RaftError::APIError(_))) => Err(ProposeError::Unknown),
        }
    }

    fn not_taken(&self, e: ForwardToLeader<Types>) -> ProposeError {
        match e.reason {
            ForwardReason::LeaseExpired => ProposeError::NoQuorum,
            ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => ProposeError::NotLeader(leader_of(e)),
        }
    }

    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        let limit = self.config.read_timeout();
        let work = async {
            let index = self.barrier_index(limit).await?;
            let applied = self.raft.wait(Some(limit)).applied_index_at_least(Some(index), "read barrier").await;
            applied.map(|_| index).map_err(|_| ReadError::Timeout)
        };
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(ReadError::Timeout),
        }
    }

    async fn barrier_index(&self, limit: Duration) -> Result<u64, ReadError> {
        let here = read_index(&self.raft, limit).await.map_err(ReadError::Stopped)?;
        let barrier = match here {
            Barrier::NotLeader => {
                let leader = self.status.borrow().leader_address();
                let Some((leader, address)) = leader.filter(|(id, _)| *id != self.voter) else {
                    return Err(ReadError::NoLeader);
                };
                let client = self.transport.client(leader, &address, Lane::Vote);
                client.ask_barrier(limit).await.map_err(|_| ReadError::NoLeader)?
            }
            here => here,
        };
        match barrier {
            Barrier::Index(index) => Ok(index),
            Barrier::NotLeader => Err(ReadError::NoLeader),
            Barrier::NoQuorum => Err(ReadError::NoQuorum),
        }
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    pub async fn compact(&self) -> Result<(), String> {
        let before = self.status.borrow().last_applied;
        self.raft.trigger().snapshot().await.map_err(|e| e.to_string())?;
        let wait = self.raft.wait(Some(self.config.propose_timeout()));
        let done = wait.metrics(|m| m.snapshot.is_some_and(|id| id.index >= before), "snapshot").await;
        done.map(|_| ()).map_err(|e| e.to_string())
    }

    pub async fn shutdown(&self) {
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!("the root did not stop cleanly: {e}");
        }
        self.transport.close().await;
    }

    pub(crate) fn within<'a, T>(
        &'a self,
        work: impl Future<Output = T> + 'a,
    ) -> impl Future<Output = Result<T, tokio::time::error::Elapsed>> + 'a {
        tokio::time::timeout(self.config.propose_timeout(), work)
    }
}

/// Where a refused request should go.
pub(crate) fn leader_of(e: ForwardToLeader<Types>) -> Option<(VoterId, RootAddress)> {
    Some((e.leader_id?, e.leader_node?))
}

/// Keeps the status current and the log file within its limits, sends the leader's heartbeats, and lets the library's clock
/// run where there may be an election: a member without a vote only answers. (The library would send heartbeats by that
/// clock, but then it has to run five times as fast as they are sent, in every voter.)
async fn keep_house(
    raft: openraft::Raft<Types, Store>,
    (log, store): (Log, Store),
    env: Env,
    (keep_entries, heartbeat): (u64, Duration),
    status: watch::Sender<Status>,
) {
    use openraft::async_runtime::WatchReceiver;

    let mut watch = raft.metrics();
    // When the last confirmation by a majority was first seen. Instants do not count suspend, so a
    // confirmation is dated once and not again after a sleep.
    let mut acked = None;
    let mut snapshot_asked = 0;
    let mut is_ticking = false;
    let mut is_beating = false;
    let mut beats = tokio::time::interval(heartbeat);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let metrics = watch.borrow_watched().clone();
        let newest = metrics.last_quorum_acked.as_ref().map(|instant| **instant);
        if acked.map(|(instant, _)| instant) != newest {
            acked = newest.map(|instant| {
                let ago_ms = u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX);
                (instant, env.clock.now_ms().saturating_sub(ago_ms))
            });
        }
        let now = Status::of(&metrics, acked.map(|(_, at_ms)| at_ms));
        // The file has reached a limit before the policy asks for a snapshot. The library purges the
        // log after it, but for the entries kept, so a snapshot sooner than that would be in vain.
        // (Its own order to purge may step back behind ours: asking it directly is not safe.)
        log.note_snapshot(store.snapshot_bytes());
        if log.is_oversize() && now.last_applied > now.snapshot.max(snapshot_asked) + keep_entries {
            snapshot_asked = now.last_applied;
            let _ = raft.trigger().snapshot().await;
        }
        let needs_ticks = !now.is_leader && now.voters.contains(&now.voter);
        if needs_ticks != is_ticking {
            is_ticking = needs_ticks;
            raft.runtime_config().tick(needs_ticks);
        }
        // A new leader's first entry is its first heartbeat.
        let has_followers = now.is_leader && now.addresses.len() > 1;
        if has_followers && !is_beating {
            beats.reset();
        }
        is_beating = has_followers;
        let is_over = now.stopped.is_some();
        status.send_if_modified(|shown| {
            let is_new = *shown != now;
            *shown = now;
            is_new
        });
        let is_gone = loop {
            tokio::select! {
                changed = watch.changed() => break changed.is_err(),
                _ = beats.tick(), if is_beating => drop(raft.trigger().heartbeat().await),
            }
        };
        if is_over || is_gone {
            break;
        }
    }
    members::note_end(&status);
}

/// Address of the node among the members, for tests and logs.
pub(crate) fn voter_of_node(status: &Status, node: &NodeId) -> Option<VoterId> {
    status.addresses.iter().find(|(_, address)| address.node == *node).map(|(id, _)| *id)
}
