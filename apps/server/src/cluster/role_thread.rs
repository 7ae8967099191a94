// SPDX-License-Identifier: BSD-3-Clause
//! Changes of role, which have to wait for the commands that run: a thread makes them, one after the other, so that
//! heartbeats never wait for a command.
//!
//! ```text
//!   cluster thread                                 this thread
//!   lease ends ──► the gate, at once
//!   map, same role ──► engine, at once
//!   map, new role ───────────── queue ───────────► waits for all slots; follow, or promote
//!   lease begins ──(changes wait?)─ queue ───────► the gate, unless a lease has ended since
//! ```
//! So a node that was replaced stops at once, and one that takes over writes only when its role has changed: a command
//! that was let in before it was replaced never finds the lease of a later reign, because that lease waits behind it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use pando_session::{ClusterView, PauseMode, PausePurpose, Role, boot_ms};
use pando_topology::{NodeId, ShardId, Slot};

use super::data_plane::is_valid;
use super::runtime::ClusterRuntime;

/// How long clients of a new primary wait for its lease before they are told that it has none.
const TAKEOVER_WAIT_MS: u64 = 1000;

/// Whose data this node holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Following {
    /// Nothing was decided yet.
    #[default]
    Undecided,
    /// Its own.
    Itself,
    /// Those of the node at this address: its primary, or the replica to which it is chained.
    Upstream { node: NodeId, shard: ShardId, host: String, port: u16 },
}

/// What is left to do of a new map.
pub(super) struct Change {
    /// The view, unless the engine has it.
    pub view: Option<Arc<ClusterView>>,
    /// Whom to follow, if that has changed.
    pub following: Option<Following>,
    /// Slots that were given up, unless that is done.
    pub lost: Vec<Slot>,
    /// It was a replica and is a primary.
    pub takes_over: bool,
    /// It was a replica in the same shard: what it has is a copy of what the new upstream has, perhaps an old one.
    pub keeps_copy: bool,
}

enum Step {
    Change(Change),
    /// The lease until then, if no lease has ended since this many.
    Lease(u64, u64),
}

/// See the head of this file.
pub(super) struct RoleThread {
    runtime: Arc<ClusterRuntime>,
    steps: mpsc::Sender<Step>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Steps that wait or are being made. Only the cluster thread adds any.
    waiting: AtomicUsize,
    /// How many times a lease was lowered. Held while a lease is put into the gate.
    ended: Mutex<u64>,
}

impl RoleThread {
    pub(super) fn start(runtime: Arc<ClusterRuntime>) -> std::io::Result<RoleThread> {
        let (steps, received) = mpsc::channel::<Step>();
        let shared = Arc::new(Shared::default());
        let (its_runtime, its_shared) = (runtime.clone(), shared.clone());
        std::thread::Builder::new().name("pando-role".into()).spawn(move || {
            for step in received {
                match step {
                    Step::Change(change) => make(&its_runtime, change),
                    Step::Lease(until, ended) => its_shared.begin_lease(&its_runtime, until, Some(ended)),
                }
                its_shared.waiting.fetch_sub(1, Ordering::AcqRel);
            }
        })?;
        Ok(RoleThread { runtime, steps, shared })
    }

    /// Nothing waits: what the caller does now is in order.
    pub(super) fn is_idle(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) == 0
    }

    pub(super) fn change(&self, change: Change) {
        self.queue(Step::Change(change));
    }

    /// Sets the lease: at once if it is no longer than before or nothing waits.
    pub(super) fn lease(&self, until: u64) {
        if self.is_idle() {
            self.shared.begin_lease(&self.runtime, until, None);
            return;
        }
        let ended = {
            let mut ended = self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
            let gate = &self.runtime.engine().gate;
            if until <= gate.lease_until() {
                *ended += 1;
                gate.set_lease_until(until);
            }
            *ended
        };
        if is_valid(until) {
            self.queue(Step::Lease(until, ended));
        }
    }

    fn queue(&self, step: Step) {
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        // The thread ends with its sender only.
        self.steps.send(step).ok();
    }
}

impl Shared {
    /// `after`: how many leases had ended when this one was given; none: it is given at this moment.
    fn begin_lease(&self, runtime: &ClusterRuntime, until: u64, after: Option<u64>) {
        let engine = runtime.engine();
        {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if after.is_some_and(|after| after != *ended) {
                return;
            }
            engine.gate.set_lease_until(until);
        }
        if !is_valid(until) {
            return;
        }
        if let Some(view) = &*engine.cluster.load()
            && view.is_primary
        {
            // By the word of the roots its data are those of the shard, even if there are none.
            runtime.set_holds(view.my_shard);
        }
        engine.unpause_if_held(PausePurpose::Takeover);
    }
}

fn make(runtime: &ClusterRuntime, change: Change) {
    let engine = runtime.engine();
    let Some(server) = runtime.server() else { return };
    if change.takes_over {
        tracing::info!("This node is a primary now, by decision of the roots");
        // Before the map says that this node serves its slots: redirected clients come at once, and
        // the lease is a few messages away.
        engine.gate.pause(PausePurpose::Takeover, PauseMode::Write, boot_ms() + TAKEOVER_WAIT_MS);
        server.replication.promote();
        engine.set_role(Role::Primary);
    }
    let is_primary = change.view.as_ref().map(|view| view.is_primary);
    if let Some(view) = change.view {
        engine.set_cluster(Some(view));
    }
    match &change.following {
        Some(Following::Upstream { node, host, port, .. }) => {
            tracing::info!("Following node {node} at {host}:{port}");
            engine.set_role(Role::Replica);
            // Commands that were let in as a primary's have ended when every slot was free once.
            drop(engine.keyspace.lock_all());
            server.replication.inner().follow(host, *port, change.keeps_copy);
        }
        Some(Following::Itself) => engine.set_role(Role::Primary),
        Some(Following::Undecided) | None => {}
    }
    if is_primary == Some(false) {
        engine.unpause_if_held(PausePurpose::Takeover);
    }
    if !change.lost.is_empty() {
        engine.slots_lost(&change.lost);
    }
}
