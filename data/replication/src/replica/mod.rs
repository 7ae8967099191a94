// SPDX-License-Identifier: BSD-3-Clause
//! The side that takes: this node's link to its primary.
//!
//! ```text
//!  Connect ─► Connecting ─► Handshake ─┬─ +CONTINUE ──────────────► Connected
//!     ▲                                └─ +FULLRESYNC ─► Sync ─────► Connected
//!     └── any failure, after a pause of 100 ms rising to 1 s ───────────┘
//! ```
//!
//! A network task (tokio) reads the socket and acknowledges; it passes bytes to an apply thread, which loads the image,
//! applies the stream and relays it into the log. Only the apply thread changes data. Started and stopped by
//! [`crate::Replication`].

mod apply;
mod handshake;
mod load;
mod network;

pub(crate) use network::run;

use crate::handover::HandoverEnd;
use crate::status::{LinkState, PrimaryLinkStatus};
use apply::ApplyThread;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// One target to follow, until another is named.
pub(crate) struct PrimaryLink {
    pub(crate) host: String,
    pub(crate) port: u16,
    view: Mutex<View>,
    pub(crate) sync_read_bytes: AtomicU64,
    /// Written under `apply`.
    stopped: AtomicBool,
    wake: Notify,
    /// The thread of the present connection.
    apply: Mutex<Option<ApplyThread>>,
    order: Mutex<Order>,
}

/// Whether the other end is yet to be made a primary (`PSYNC … FAILOVER`).
enum Order {
    /// It is one.
    None,
    /// It is to be told. `was_sent`: it has been, and the answer did not arrive.
    Due { end: oneshot::Sender<HandoverEnd>, was_sent: bool },
    /// It does not want to; nothing is asked of it any more.
    Refused,
}

struct View {
    state: LinkState,
    last_io: Option<Instant>,
    down_since: Option<Instant>,
    sync_total_bytes: u64,
    synced: bool,
    /// The link has broken, and what came over it is being applied.
    draining: bool,
    last_error: Option<String>,
}

/// What the cluster agent wants to know of a link.
#[derive(Copy, Clone)]
pub(crate) struct Health {
    pub(crate) is_up: bool,
    pub(crate) synced: bool,
    pub(crate) age: Duration,
}

impl PrimaryLink {
    /// `synced`: the data that are here count as a copy of this primary's.
    pub(crate) fn new(host: String, port: u16, synced: bool) -> PrimaryLink {
        let view = View {
            state: LinkState::Connect,
            last_io: None,
            down_since: synced.then(Instant::now),
            sync_total_bytes: 0,
            synced,
            draining: false,
            last_error: None,
        };
        PrimaryLink {
            host,
            port,
            view: Mutex::new(view),
            sync_read_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            wake: Notify::new(),
            apply: Mutex::new(None),
            order: Mutex::new(Order::None),
        }
    }

    /// A link to a replica that is ordered to be the primary.
    pub(crate) fn with_order(host: String, port: u16, end: oneshot::Sender<HandoverEnd>) -> PrimaryLink {
        let order = Mutex::new(Order::Due { end, was_sent: false });
        PrimaryLink { order, ..PrimaryLink::new(host, port, true) }
    }

    fn is_refused(&self) -> bool {
        matches!(*self.order.lock(), Order::Refused)
    }

    /// Whether the next PSYNC carries the order. From here on the other end may have received it.
    fn give_order(&self) -> bool {
        match &mut *self.order.lock() {
            Order::Due { was_sent, .. } => {
                *was_sent = true;
                true
            }
            Order::None | Order::Refused => false,
        }
    }

    /// Whether an order was sent whose answer did not arrive.
    fn was_order_sent(&self) -> bool {
        matches!(*self.order.lock(), Order::Due { was_sent: true, .. })
    }

    /// The other end has answered.
    fn end_order(&self, how: HandoverEnd) {
        let mut order = self.order.lock();
        if !matches!(*order, Order::Due { .. }) {
            return;
        }
        let next = if how == HandoverEnd::Taken { Order::None } else { Order::Refused };
        if let Order::Due { end, .. } = std::mem::replace(&mut *order, next) {
            // Nobody waits any more if it was called off.
            let _ = end.send(how);
        }
    }

    pub(crate) fn state(&self) -> LinkState {
        self.view.lock().state
    }

    fn set_state(&self, state: LinkState) {
        let mut view = self.view.lock();
        if view.state == LinkState::Connected && state != LinkState::Connected {
            view.down_since = Some(Instant::now());
        }
        if state == LinkState::Connected {
            view.synced = true;
        }
        view.state = state;
    }

    /// The connection is gone; `drained` follows.
    fn broke(&self) {
        self.view.lock().draining = true;
        self.set_state(LinkState::Connect);
    }

    /// What came over the connection is applied.
    fn drained(&self) {
        self.view.lock().draining = false;
    }

    pub(crate) fn health(&self) -> Health {
        let view = self.view.lock();
        let since = if view.state == LinkState::Connected { view.last_io } else { view.down_since };
        Health {
            is_up: view.state == LinkState::Connected || view.draining,
            synced: view.synced,
            age: since.map_or(Duration::ZERO, |at| at.elapsed()),
        }
    }

    fn heard(&self) {
        self.view.lock().last_io = Some(Instant::now());
    }

    fn begin_sync(&self, total_bytes: u64) {
        self.sync_read_bytes.store(0, Ordering::Relaxed);
        let mut view = self.view.lock();
        view.synced = false;
        view.sync_total_bytes = total_bytes;
    }

    fn set_error(&self, error: String) {
        self.view.lock().last_error = Some(error);
    }

    pub(crate) fn status(&self) -> PrimaryLinkStatus {
        let view = self.view.lock();
        let seconds = |at: Option<Instant>| at.map_or(-1, |at| at.elapsed().as_secs() as i64);
        let linked = matches!(view.state, LinkState::Sync | LinkState::Connected);
        PrimaryLinkStatus {
            host: self.host.clone(),
            port: self.port,
            state: view.state,
            last_io_s: if linked { seconds(view.last_io) } else { -1 },
            down_since_s: if view.state == LinkState::Connected { -1 } else { seconds(view.down_since) },
            sync_read_bytes: self.sync_read_bytes.load(Ordering::Relaxed),
            sync_total_bytes: view.sync_total_bytes,
            synced: view.synced,
            last_error: view.last_error.clone(),
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Cuts the present connection; the task connects again at once.
    pub(crate) fn reconnect(&self) {
        self.wake.notify_waiters();
    }

    /// Does something unless the link was stopped, which does not happen meanwhile.
    fn while_alive(&self, act: impl FnOnce()) {
        let _apply = self.apply.lock();
        if !self.is_stopped() {
            act();
        }
    }

    /// Ends the link for good: what was received is applied, then nothing more. Waits for the apply thread, which never
    /// waits for the network. The network task ends by itself.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut apply = self.apply.lock();
            self.stopped.store(true, Ordering::Release);
            apply.take()
        };
        self.wake.notify_waiters();
        if let Some(thread) = thread {
            thread.finish();
        }
    }

    /// Makes `thread` the one of this connection, unless the link was stopped meanwhile.
    fn install(&self, thread: ApplyThread) {
        let mut apply = self.apply.lock();
        if self.is_stopped() {
            drop(apply);
            thread.finish();
        } else {
            *apply = Some(thread);
        }
    }

    fn take_thread(&self) -> Option<ApplyThread> {
        self.apply.lock().take()
    }
}
