// SPDX-License-Identifier: BSD-3-Clause
//! How many workers have clients. At low load few of them do, because each wake-up then serves more clients: new clients
//! go to the least busy worker that has some already. A worker that was busy for nearly all of several windows hands half
//! of its clients to one that was not; when one worker could do the work of two, the later one hands over all of its
//! clients.

use super::Worker;
use super::slab::Token;
use crate::net::mailbox::WorkerMessage;
use crate::net::poller::Poller as _;
use crate::os;
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering::Relaxed;

/// Length of a window.
const WINDOW_MS: u64 = 100;
/// A worker that used more of a core than this wants help (of 1000).
const BUSY_PERMILLE: usize = 850;
/// So many busy windows in a row, lest a burst spreads clients whose cost per request then rises.
const BUSY_WINDOWS: u32 = 3;
/// Two workers that together used less than this are one too many.
const MERGE_PERMILLE: usize = 500;
const MERGE_WINDOWS: u32 = 10;
/// A worker that used less than this can give help.
const CALM_PERMILLE: usize = 300;
/// A measurement older than this means that the worker sleeps.
const STALE_MS: u64 = 300;
/// More clients than this on every active worker activate another one.
const CLIENTS_PER_WORKER: usize = 4096;
/// Windows between two moves away from the same worker, so that their effect is seen first.
const CALM_WINDOWS: u32 = 5;

/// The current window.
#[derive(Debug, Default)]
pub(super) struct Window {
    started_ms: u64,
    cpu_ns: u64,
    /// Windows to wait before clients may be moved again.
    rest: u32,
    /// Windows in a row in which this worker was busy, and in which an earlier one could have done its work.
    busy: u32,
    spare: u32,
}

impl Window {
    /// Starts now.
    pub(super) fn start(now_ms: u64) -> Window {
        Window { started_ms: now_ms, cpu_ns: os::thread_cpu_ns(), ..Window::default() }
    }
}

impl Worker {
    fn busy_permille_of(&self, worker: usize) -> usize {
        let slot = self.server.mail.slot(worker);
        let age_ms = self.now_ms.saturating_sub(slot.measured_ms.load(Relaxed));
        if age_ms > STALE_MS { 0 } else { slot.busy_permille.load(Relaxed) }
    }

    /// Where a new client goes.
    pub(super) fn pick_worker(&self) -> usize {
        let slots = self.server.mail.slots();
        let clients = |worker: usize| slots[worker].clients.load(Relaxed);
        let active: Vec<usize> = (0..slots.len()).filter(|w| clients(*w) > 0).collect();
        let all_full = active.iter().all(|w| {
            clients(*w) >= CLIENTS_PER_WORKER * (1 + clients(*w) / CLIENTS_PER_WORKER / slots.len())
                || self.busy_permille_of(*w) > BUSY_PERMILLE
        });
        if all_full && let Some(idle) = (0..slots.len()).find(|w| clients(*w) == 0) {
            return idle;
        }
        let best = active.into_iter().min_by_key(|w| (self.busy_permille_of(*w) / 100, clients(*w)));
        best.unwrap_or(self.index)
    }

    /// Ends the window when it is over and moves clients if this worker has too many.
    pub(super) fn balance(&mut self) {
        let length_ms = self.now_ms.saturating_sub(self.window.started_ms);
        if length_ms < WINDOW_MS {
            return;
        }
        let cpu_ns = os::thread_cpu_ns();
        let used_ns = cpu_ns.saturating_sub(self.window.cpu_ns);
        let permille = (used_ns / (length_ms * 1000)) as usize;
        self.stats.busy_us.add(used_ns / 1000);
        let slot = self.server.mail.slot(self.index);
        slot.busy_permille.store(permille, Relaxed);
        slot.measured_ms.store(self.now_ms, Relaxed);
        let rest = self.window.rest.saturating_sub(1);
        let clients = slot.clients.load(Relaxed);
        let busy = if permille >= BUSY_PERMILLE { self.window.busy + 1 } else { 0 };
        let earlier = (0..self.index).find(|w| {
            self.server.mail.slot(*w).clients.load(Relaxed) > 0 && self.busy_permille_of(*w) + permille < MERGE_PERMILLE
        });
        let spare = if clients > 0 && earlier.is_some() { self.window.spare + 1 } else { 0 };
        self.window = Window { started_ms: self.now_ms, cpu_ns, rest, busy, spare };
        if let Some(earlier) = earlier
            && spare >= MERGE_WINDOWS
            && rest == 0
            && slot.clients.load(Relaxed) + self.server.mail.slot(earlier).clients.load(Relaxed) <= CLIENTS_PER_WORKER
        {
            self.window.spare = 0;
            self.window.rest = CALM_WINDOWS;
            self.move_to(earlier, 0, 1);
            return;
        }
        if busy < BUSY_WINDOWS || rest > 0 || clients < 2 || self.server.mail.slots().len() < 2 {
            return;
        }
        let helper = (0..self.server.mail.slots().len())
            .filter(|w| *w != self.index && self.busy_permille_of(*w) < CALM_PERMILLE)
            .min_by_key(|w| self.busy_permille_of(*w));
        if let Some(helper) = helper {
            self.window.rest = CALM_WINDOWS;
            self.move_to(helper, 1, 2);
        }
    }

    /// Hands clients that were active lately to another worker: all but the first `skip` of them, each `step`th.
    fn move_to(&mut self, helper: usize, skip: usize, step: usize) {
        let lately_ms = self.now_ms.saturating_sub(10 * WINDOW_MS);
        let mut active: Vec<Token> = self.slab.tokens();
        active.retain(|token| {
            self.slab.get_mut(*token).is_some_and(|c| {
                // Those in the middle of something stay; there are others. So do subscribers: a message on its way to
                // the old worker would be overtaken by the next one.
                c.last_active_ms >= lately_ms
                    && c.suspend.is_none()
                    && !c.is_dirty
                    && !c.is_queued
                    && c.output_pending() == 0
                    && !c.session.shared.is_subscribed()
            })
        });
        for token in active.into_iter().skip(skip).step_by(step) {
            let Some(mut connection) = self.slab.remove(token) else { continue };
            if self.poller.remove(connection.fd.as_fd()).is_err() {
                connection.fate = super::Fate::CloseNow;
            }
            self.forget_lists(token, connection.id);
            // Its new worker watches it anew and so learns of what arrives in between.
            connection.is_readable = true;
            connection.session.shared.worker.store(helper, Relaxed);
            self.server.mail.slot(self.index).clients.fetch_sub(1, Relaxed);
            self.server.mail.slot(helper).clients.fetch_add(1, Relaxed);
            self.server.mail.send(helper, WorkerMessage::Adopt(connection));
        }
    }
}
