// SPDX-License-Identifier: BSD-3-Clause
//! How the server ends when it is asked to: SHUTDOWN, SIGTERM and SIGINT. A primary of a cluster hands its slots over
//! first; outside of a cluster, where `failover` was asked for, it changes places with a replica. Any other primary waits
//! for its replicas. All of it within `shutdown-timeout`; SHUTDOWN ABORT calls it off.
//!
//! ```text
//!   request ──► prepare (hand over, else writes pause until the replicas have all) ──► the process ends
//!                  │ ABORT, or not safe
//!                  └──► cancel: writes go on, clients of SHUTDOWN get an error
//! ```
//! How a primary outside of a cluster changes places (`step_down`):
//! - No Sentinel watches it: FAILOVER to the first replica that has everything. Where none has it in half of the time, `force`
//!   takes the one that has most; without it the rest of the time is spent waiting for replicas, as Valkey does.
//! - Sentinels watch it: one of them is asked to lead (`crate::sentinels`), and this node stays until that one sends
//!   clients elsewhere. A Sentinel that cannot promotes a replica after all of them have everything.
//!
//! Only the main thread prepares; commands and signals leave their request here and wake it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pando_agent::Request;
use pando_session::{ClientId, Message, PauseMode, PausePurpose, Role};
use parking_lot::{Condvar, Mutex};

use crate::failover::{Order, Phase};
use crate::sentinels::{Answer, Sentinel, Talk};
use crate::server::Server;

/// What a client of SHUTDOWN hears when it is called off.
const NOT_DONE: &[u8] = b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n";

/// How often the acknowledgements of replicas are looked at.
const ACK_STEP: Duration = Duration::from_millis(5);

/// How often a Sentinel is asked where the primary is.
const SENTINEL_STEP: Duration = Duration::from_millis(50);

/// A node that has handed its slots over stays so long to tell clients where they are.
const REDIRECT_TIME: Duration = Duration::from_millis(100);

/// The options of SHUTDOWN and of `shutdown-on-sigterm`. There is nothing to save yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EndFlags {
    /// Wait for nobody.
    pub now: bool,
    /// End even if it is not safe.
    pub force: bool,
    /// Do not end as a primary with slots.
    pub safe: bool,
    /// Outside of a cluster, change places with a replica first. In a cluster that happens anyway.
    pub failover: bool,
}

impl EndFlags {
    /// From the words of a directive.
    pub fn of(words: &str) -> Self {
        let has = |word: &str| words.split_whitespace().any(|each| each == word);
        Self { now: has("now"), force: has("force"), safe: has("safe"), failover: has("failover") }
    }
}

/// A client that waits for the end in `Suspend::Async`.
#[derive(Clone, Copy, Debug)]
pub struct EndWaiter {
    /// Its worker.
    pub worker: usize,
    /// Its id.
    pub client: ClientId,
    /// Its ticket.
    pub ticket: u64,
}

/// How the server is told to end.
#[derive(Debug, Default)]
pub struct Ending {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requested: Option<EndFlags>,
    is_aborted: bool,
    /// Nothing can stop it any more.
    is_final: bool,
    handed_over: Option<Result<(), String>>,
    waiters: Vec<EndWaiter>,
    tickets: u64,
}

impl Ending {
    /// Asks for the end. A second request can only add `now`. False: it has been asked for already.
    pub fn request(&self, flags: EndFlags) -> bool {
        let mut state = self.state.lock();
        let is_first = state.requested.is_none();
        let requested = state.requested.get_or_insert(flags);
        requested.now |= flags.now;
        self.changed.notify_all();
        is_first
    }

    /// As [`Self::request`], by a client; its ticket.
    pub fn request_by(&self, flags: EndFlags, worker: usize, client: ClientId) -> u64 {
        let ticket = {
            let mut state = self.state.lock();
            state.tickets += 1;
            let ticket = state.tickets;
            state.waiters.push(EndWaiter { worker, client, ticket });
            ticket
        };
        self.request(flags);
        ticket
    }

    /// Calls it off; false if there is nothing to call off (any more).
    pub fn abort(&self) -> bool {
        let mut state = self.state.lock();
        let is_possible = state.requested.is_some() && !state.is_final && !state.is_aborted;
        state.is_aborted |= is_possible;
        self.changed.notify_all();
        is_possible
    }

    /// Waits until somebody asks, and prepares; returns when the process may end.
    pub fn wait(&self, server: &Arc<Server>) {
        loop {
            let flags = {
                let mut state = self.state.lock();
                while state.requested.is_none() {
                    self.changed.wait(&mut state);
                }
                state.requested.unwrap_or_default()
            };
            tracing::info!("User requested shutdown...");
            let is_ready = self.prepare(server, flags);
            let mut state = self.state.lock();
            if is_ready && !state.is_aborted {
                state.is_final = true;
                return;
            }
            let waiters = std::mem::take(&mut state.waiters);
            *state = State { tickets: state.tickets, ..State::default() };
            drop(state);
            server.engine.unpause(PausePurpose::Shutdown);
            for EndWaiter { worker, client, ticket } in waiters {
                if let Some(mailbox) = server.engine.mailbox.get() {
                    mailbox.post(worker, Message::Resume { client, ticket, bytes: NOT_DONE.to_vec() });
                }
            }
        }
    }

    /// Sleeps until something is to be looked at, at most until `deadline`. True: it is called off or urgent.
    fn pause(&self, deadline: Instant, is_done: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.is_aborted || state.requested.is_some_and(|flags| flags.now) {
                return true;
            }
            if is_done(&state) || self.changed.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
    }

    fn prepare(&self, server: &Arc<Server>, flags: EndFlags) -> bool {
        let limit = Duration::from_secs(server.config.values().number("shutdown-timeout").max(0) as u64);
        let deadline = Instant::now() + limit;
        if !flags.now && !limit.is_zero() {
            if owns_slots(server) {
                self.hand_over(server, limit, deadline);
            }
            if flags.failover && server.cluster.get().is_none() {
                self.step_down(server, flags, deadline);
            }
            if server.engine.gate.role() == Role::Primary {
                self.wait_for_replicas(server, deadline);
            }
        }
        if flags.safe && owns_slots(server) {
            let what = "This is a voting primary. Shutting down may cause the cluster to go down.";
            tracing::warn!("{what} {}", if flags.force { "Exit anyway." } else { "Can't exit." });
            return flags.force;
        }
        true
    }

    fn hand_over(&self, server: &Arc<Server>, limit: Duration, deadline: Instant) {
        let Some(cluster) = server.cluster.get() else { return };
        let answered = server.clone();
        cluster.agent().submit(
            Request::HandOver(limit),
            Box::new(move |result| {
                answered.ending.state.lock().handed_over = Some(result.map(|_| ()));
                answered.ending.changed.notify_all();
            }),
        );
        if self.pause(deadline, |state| state.handed_over.is_some()) {
            return;
        }
        match self.state.lock().handed_over.take() {
            Some(Ok(())) if !owns_slots(server) => {}
            Some(Ok(())) => return,
            Some(Err(reason)) => {
                tracing::warn!("The slots of this node were not handed over: {reason}");
                return;
            }
            None => {
                tracing::warn!("The slots of this node were not handed over in time.");
                return;
            }
        }
        tracing::info!("The slots of this node have another primary.");
        self.pause(Instant::now() + REDIRECT_TIME, |_| false);
    }

    /// Outside of a cluster: lets a replica be the primary, see the head of this file.
    fn step_down(&self, server: &Arc<Server>, flags: EndFlags, deadline: Instant) {
        let is_primary = || server.engine.gate.role() == Role::Primary;
        if !is_primary() || server.replication.status().replicas.is_empty() {
            return;
        }
        let half = deadline.saturating_duration_since(Instant::now()) / 2;
        let sentinels = server.sentinels.present();
        if !sentinels.is_empty() {
            tracing::info!("Asking a Sentinel for a planned failover before shutting down.");
            if let Some(reason) = self.step_down_by_sentinel(server, &sentinels, Instant::now() + half).err() {
                tracing::warn!("No planned failover: {reason}");
            }
            return;
        }
        let order = Order { target: None, limit: Some(half), force: flags.force, is_own: true };
        // Somebody else's FAILOVER is as good.
        if let Err(reason) = server.failover.start(server, order) {
            tracing::warn!("{reason}");
        }
        while server.failover.phase() != Phase::Idle && Instant::now() < deadline {
            if self.pause(Instant::now() + ACK_STEP, |_| false) {
                break;
            }
        }
        if self.state.lock().is_aborted {
            // It may be over already; then this node stays the replica that it is.
            let _ = server.failover.abort(server);
        } else if !is_primary() {
            tracing::info!("This node has changed places with a replica.");
            self.pause(Instant::now() + REDIRECT_TIME, |_| false);
        } else {
            tracing::warn!("No replica has taken over.");
        }
    }

    fn step_down_by_sentinel(
        &self,
        server: &Arc<Server>,
        sentinels: &[Sentinel],
        deadline: Instant,
    ) -> Result<(), String> {
        let mut refused = String::new();
        for sentinel in sentinels {
            let asked = Talk::to(sentinel).and_then(|mut talk| {
                let before = talk.primary()?;
                let mut answer = talk.ask_to_coordinate()?;
                if answer == Answer::Unknown {
                    self.wait_for_replicas(server, deadline);
                    answer = talk.ask_to_promote()?;
                }
                Ok((talk, before, answer))
            });
            let (mut talk, before) = match asked {
                Ok((talk, before, Answer::Agreed)) => (talk, before),
                Ok((_, _, Answer::Refused(line))) => {
                    refused = line;
                    continue;
                }
                Ok((_, _, Answer::Unknown)) => {
                    "the Sentinels do not know FAILOVER".clone_into(&mut refused);
                    continue;
                }
                Err(error) => {
                    refused = crate::config::os_reason(&error);
                    continue;
                }
            };
            while Instant::now() < deadline {
                if self.pause(Instant::now() + SENTINEL_STEP, |_| false) {
                    return Err("called off".to_owned());
                }
                match talk.primary() {
                    Ok(now) if now != before => {
                        tracing::info!("The Sentinels have another primary.");
                        return Ok(());
                    }
                    Ok(_) => {}
                    Err(error) => return Err(crate::config::os_reason(&error)),
                }
            }
            return Err("the Sentinels did not find another primary in time".to_owned());
        }
        Err(refused)
    }

    fn wait_for_replicas(&self, server: &Server, deadline: Instant) {
        let replication = server.replication.inner();
        if replication.status().replicas.is_empty() {
            return;
        }
        tracing::info!("Waiting for replicas before shutting down.");
        server.engine.gate.pause(PausePurpose::Shutdown, PauseMode::Write, u64::MAX);
        // Writes that were let in before have ended when every slot was free once.
        drop(server.engine.keyspace.lock_all());
        let lagging = || {
            let status = replication.status();
            (status.replicas.iter().filter(|replica| replica.offset < status.offset).count(), status.replicas.len())
        };
        replication.request_acks();
        while lagging().0 > 0 && Instant::now() < deadline {
            if self.pause(Instant::now() + ACK_STEP, |_| false) {
                break;
            }
        }
        let (behind, all) = lagging();
        tracing::info!("{} of {all} replicas are in sync when shutting down.", all - behind);
    }
}

/// Whether this node is a primary with slots.
fn owns_slots(server: &Server) -> bool {
    let view = server.engine.cluster.load_full();
    view.is_some_and(|view| view.is_primary && view.map.shard_of(&view.me).is_some_and(|shard| !shard.slots.is_empty()))
}
