// SPDX-License-Identifier: BSD-3-Clause
//! FAILOVER: a primary outside of a cluster changes places with one of its replicas, and no write is lost. By command, by a
//! Sentinel, or because the server ends (`crate::ending`).
//!
//! ```text
//!              start (writes are held back)           a replica has all, or the time is up and force
//!   Idle ───────────────────────────────► WaitingForSync ───────────────────────────► InProgress
//!    ▲                                        │ ABORT, time is up                         │ this node is a replica of it
//!    └────────────────────────────────────────┴───── ABORT, refused: primary again ───────┤
//!    └──────────────────────────────────────────────────────────── it is the primary ─────┘
//! ```
//! Every step out of a phase happens under the lock and only for the turn that it belongs to. Handing the log over is done
//! by data/replication (`handover`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use pando_replication::{HandoverEnd, ReplicaState, ReplicaStatus};
use pando_session::{PauseMode, PausePurpose, Role};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::server::Server;

/// How often the replicas are looked at when nothing is heard.
const LOOK: Duration = Duration::from_millis(100);

/// See the head of this file.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// None under way.
    #[default]
    Idle,
    /// Until some replica, or the chosen one, has everything.
    WaitingForSync,
    /// This node is a replica of the chosen one, which may not know that it is the primary.
    InProgress,
}

impl Phase {
    /// The word in INFO.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "no-failover",
            Phase::WaitingForSync => "waiting-for-sync",
            Phase::InProgress => "failover-in-progress",
        }
    }
}

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Host and port of the replica; none: the first that has everything.
    pub target: Option<(String, u16)>,
    /// How long to wait for it; none: until it is called off.
    pub limit: Option<Duration>,
    /// Do it after that time all the same, with the one that has most if none was named.
    pub force: bool,
    /// Given by this server, which may force without naming a replica.
    pub is_own: bool,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Failover {
    state: Mutex<State>,
    /// For those who must not wait for the lock.
    phase: AtomicU8,
    /// Called off.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Counts the failovers that were started.
    turn: u64,
    target: Option<(String, u16)>,
}

impl Failover {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Idle,
            1 => Phase::WaitingForSync,
            _ => Phase::InProgress,
        }
    }

    fn set_phase(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Begins one; the rest happens by itself.
    ///
    /// # Errors
    /// The error line, as Valkey words it.
    pub fn start(&self, server: &Arc<Server>, order: Order) -> Result<(), &'static str> {
        let mut state = self.state.lock();
        if state.phase != Phase::Idle {
            return Err("ERR FAILOVER already in progress.");
        }
        let status = server.replication.status();
        if status.primary.is_some() {
            return Err("ERR FAILOVER is not valid when server is a replica.");
        }
        if status.replicas.is_empty() {
            return Err("ERR FAILOVER requires connected replicas.");
        }
        if order.force && (order.limit.is_none() || order.target.is_none()) && !order.is_own {
            return Err("ERR FAILOVER with force option requires both a timeout and target HOST and IP.");
        }
        match &order.target {
            Some((host, port)) => {
                let replica = status.replicas.iter().find(|replica| is_at(replica, host, *port));
                let replica = replica.ok_or("ERR FAILOVER target HOST and PORT is not a replica.")?;
                if replica.state != ReplicaState::Online {
                    return Err("ERR FAILOVER target replica is not online.");
                }
                tracing::info!("FAILOVER requested to {host}:{port}.");
            }
            None => tracing::info!("FAILOVER requested to any replica."),
        }
        server.engine.gate.pause(PausePurpose::Failover, PauseMode::Write, u64::MAX);
        server.replication.inner().set_quiet(true);
        server.engine.acks.keep_departed(true, true);
        state.turn += 1;
        state.target = order.target.clone();
        self.set_phase(&mut state, Phase::WaitingForSync);
        server.replication.runtime().spawn(drive(server.clone(), state.turn, order));
        Ok(())
    }

    /// FAILOVER ABORT: when it returns, this node is the primary again.
    ///
    /// # Errors
    /// The error line if there is nothing to call off.
    pub fn abort(&self, server: &Server) -> Result<(), &'static str> {
        let mut state = self.state.lock();
        if state.phase == Phase::Idle {
            return Err("ERR No failover in progress.");
        }
        self.call_off(server, &mut state, "Failover manually aborted");
        Ok(())
    }

    fn call_off(&self, server: &Server, state: &mut State, reason: &str) {
        match &state.target {
            Some((host, port)) => tracing::info!("FAILOVER to {host}:{port} aborted: {reason}"),
            None => tracing::info!("FAILOVER to any replica aborted: {reason}"),
        }
        if state.phase == Phase::InProgress {
            server.replication.promote();
            server.note_role(None);
        }
        self.end(server, state);
    }

    fn end(&self, server: &Server, state: &mut State) {
        self.set_phase(state, Phase::Idle);
        state.target = None;
        server.replication.inner().set_quiet(false);
        server.engine.acks.keep_departed(false, server.engine.gate.role() == Role::Primary);
        server.engine.role_settled();
        self.ended.notify_waiters();
    }

    /// Does something if this turn is still in that phase.
    fn in_turn<T>(&self, turn: u64, phase: Phase, act: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.state.lock();
        (state.turn == turn && state.phase == phase).then(|| act(&mut state))
    }
}

fn is_at(replica: &ReplicaStatus, host: &str, port: u16) -> bool {
    replica.ip == host && replica.port == port
}

/// The replica to change places with: the named one, else the one that has most; with `need` bytes or more.
fn candidate(replicas: &[ReplicaStatus], target: Option<&(String, u16)>, need: u64) -> Option<(String, u16)> {
    let fits = |replica: &&ReplicaStatus| match target {
        Some((host, port)) => is_at(replica, host, *port),
        None => replica.state == ReplicaState::Online && replica.port != 0,
    };
    let fitting = replicas.iter().filter(fits).filter(|replica| replica.offset >= need);
    // The first of several: `max_by_key` would take the last.
    let best = fitting.rev().max_by_key(|replica| replica.offset)?;
    Some((best.ip.clone(), best.port))
}

async fn drive(server: Arc<Server>, turn: u64, order: Order) {
    let deadline = order.limit.map(|limit| Instant::now() + limit);
    let Some(target) = wait_for_sync(&server, turn, &order, deadline).await else { return };
    let changing = server.clone();
    // Waits for commands that run.
    let exchange = tokio::task::spawn_blocking(move || exchange(&changing, turn, target)).await;
    let Ok(Some(ended)) = exchange else { return };
    match ended.await {
        Ok(HandoverEnd::Taken) => drop(server.failover.in_turn(turn, Phase::InProgress, |state| {
            tracing::info!("FAILOVER done: the replica is the primary.");
            server.failover.end(&server, state);
        })),
        Ok(HandoverEnd::Refused(line)) => {
            tracing::warn!("The failover target said: {line}");
            let refused = server.clone();
            let _ = tokio::task::spawn_blocking(move || {
                refused.failover.in_turn(turn, Phase::InProgress, |state| {
                    refused.failover.call_off(&refused, state, "Failover target rejected psync request");
                });
            })
            .await;
        }
        // Called off.
        Err(_) => {}
    }
}

/// The replica to change places with; none if it was called off.
async fn wait_for_sync(
    server: &Arc<Server>,
    turn: u64,
    order: &Order,
    deadline: Option<Instant>,
) -> Option<(String, u16)> {
    let settling = server.clone();
    let settled = tokio::task::spawn_blocking(move || settling.replication.inner().settled()).await.ok()?;
    let replication = server.replication.inner();
    let (mut need, mut has_asked) = (settled, false);
    loop {
        let ended = server.failover.ended.notified();
        let acked = replication.next_ack();
        tokio::pin!(ended, acked);
        // Before anything is looked at: what happens meanwhile must not be missed.
        ended.as_mut().enable();
        acked.as_mut().enable();
        let is_ours = server.failover.in_turn(turn, Phase::WaitingForSync, |_| ()).is_some();
        if !is_ours {
            return None;
        }
        let replicas = server.replication.status().replicas;
        if let Some(target) = candidate(&replicas, order.target.as_ref(), need) {
            tracing::info!("Failover target {}:{} is synced, failing over.", target.0, target.1);
            return Some(target);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let forced = order.target.clone().or_else(|| candidate(&replicas, None, 0));
            if let Some(target) = forced.filter(|_| order.force) {
                tracing::info!("FAILOVER to {}:{} time out exceeded, failing over.", target.0, target.1);
                return Some(target);
            }
            server.failover.in_turn(turn, Phase::WaitingForSync, |state| {
                server.failover.call_off(server, state, "Replica never caught up before timeout");
            });
            return None;
        }
        if !has_asked {
            // In the stream from here on, so that a replica that comes back later answers it too.
            has_asked = true;
            need = replication.ask_for_all().unwrap_or(need);
            continue;
        }
        let look = Instant::now() + LOOK;
        tokio::select! {
            () = ended => return None,
            () = acked => {}
            () = tokio::time::sleep_until(deadline.map_or(look, |at| at.min(look))) => {}
        }
    }
}

/// This node becomes a replica of `target` and orders it to be the primary.
fn exchange(server: &Arc<Server>, turn: u64, target: (String, u16)) -> Option<oneshot::Receiver<HandoverEnd>> {
    let failover = &server.failover;
    failover.in_turn(turn, Phase::WaitingForSync, |state| {
        let ended = server.replication.inner().hand_to(&target.0, target.1)?;
        server.note_role(Some(&target));
        state.target = Some(target);
        failover.set_phase(state, Phase::InProgress);
        Some(ended)
    })?
}
