// SPDX-License-Identifier: BSD-3-Clause
//! Messages to worker threads: one queue and one wake-up counter per worker. Posting never blocks for longer than a push
//! takes, and costs a system call only if the worker sleeps.

use super::listener::Accepted;
use super::poller::Wakeup;
use crate::worker::Connection;
use pando_session::{Mailbox, Message};
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// What a worker is told.
#[derive(Debug)]
pub enum WorkerMessage {
    /// Something about a client.
    Session(Message),
    /// A new client.
    New(Accepted),
    /// A client of another worker moves here.
    Adopt(Box<Connection>),
    /// The server's listening sockets have changed (first worker only).
    Listen,
    /// To be answered when the replies to what was executed before were sent.
    Flushed(Sender<()>),
    /// Close everything and end.
    Stop,
}

/// One worker as the others see it.
#[derive(Debug)]
pub struct Slot {
    queue: Mutex<Vec<WorkerMessage>>,
    wakeup: Wakeup,
    /// True from before the worker looks at its queue for the last time until it is awake again.
    is_sleeping: AtomicBool,
    /// Clients, including those on their way.
    pub clients: AtomicUsize,
    /// Busy time of the last window, in thousandths.
    pub busy_permille: AtomicUsize,
    /// When that window ended, in milliseconds of the monotonic clock.
    pub measured_ms: AtomicU64,
}

/// All workers.
#[derive(Debug)]
pub struct Mailboxes {
    slots: Vec<Slot>,
}

impl Mailboxes {
    /// For this many workers.
    pub fn new(workers: usize) -> io::Result<Mailboxes> {
        let slots = (0..workers)
            .map(|_| {
                Ok(Slot {
                    queue: Mutex::new(Vec::new()),
                    wakeup: Wakeup::new()?,
                    is_sleeping: AtomicBool::new(false),
                    clients: AtomicUsize::new(0),
                    busy_permille: AtomicUsize::new(0),
                    measured_ms: AtomicU64::new(0),
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Mailboxes { slots })
    }

    /// All workers.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// One worker.
    pub fn slot(&self, worker: usize) -> &Slot {
        &self.slots[worker]
    }

    /// Queues a message and wakes the worker if it sleeps.
    pub fn send(&self, worker: usize, message: WorkerMessage) {
        let Some(slot) = self.slots.get(worker) else { return };
        slot.queue.lock().push(message);
        // SeqCst: pairs with `Slot::prepare_sleep`, so that either we see it sleep or it sees the message.
        std::sync::atomic::fence(Ordering::SeqCst);
        if slot.is_sleeping.load(Ordering::SeqCst) && slot.is_sleeping.swap(false, Ordering::SeqCst) {
            slot.wakeup.wake();
        }
    }

    /// Waits until every worker has sent the replies to what it has executed so far (as far as their sockets take
    /// them), or for so long. Not to be called by a worker.
    pub fn wait_flushed(&self, at_most: Duration) {
        let (flushed, answers) = channel();
        self.send_all(|| WorkerMessage::Flushed(flushed.clone()));
        drop(flushed);
        let end = Instant::now() + at_most;
        // Ends also when all have answered or are gone.
        while answers.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
    }

    /// Queues a message for every worker.
    pub fn send_all(&self, mut message: impl FnMut() -> WorkerMessage) {
        for worker in 0..self.slots.len() {
            self.send(worker, message());
        }
    }
}

impl Slot {
    /// The descriptor to watch.
    pub fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    /// Says that the worker is about to sleep. False if there is a message: then it must not.
    pub fn prepare_sleep(&self) -> bool {
        self.is_sleeping.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        let may_sleep = self.queue.lock().is_empty();
        if !may_sleep {
            self.is_sleeping.store(false, Ordering::SeqCst);
        }
        may_sleep
    }

    /// Says that the worker is awake.
    pub fn awake(&self) {
        self.is_sleeping.store(false, Ordering::SeqCst);
    }

    /// Takes all messages; `into` is empty before.
    pub fn take(&self, into: &mut Vec<WorkerMessage>) {
        std::mem::swap(&mut *self.queue.lock(), into);
    }
}

impl Mailbox for Mailboxes {
    fn post(&self, worker: usize, msg: Message) {
        self.send(worker, WorkerMessage::Session(msg));
    }

    fn workers(&self) -> usize {
        self.slots.len()
    }
}
