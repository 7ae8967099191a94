// SPDX-License-Identifier: BSD-3-Clause
//! Readiness of file descriptors behind a small trait, so that another mechanism can be tried. The worker's loop
//! expects edges for connections (it reads until nothing is left) and levels for listeners and the wake-up counter.

use rustix::event::epoll;
use rustix::event::{EventfdFlags, Timespec, eventfd};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What happened to a descriptor.
#[derive(Copy, Clone, Debug)]
pub struct Readiness {
    /// Given at registration.
    pub token: u64,
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The other side has closed, or the connection is broken.
    pub hangup: bool,
}

/// How a descriptor is watched.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Watch {
    /// Reading and writing, told once per change.
    Edges,
    /// Reading, told as long as it is so.
    ReadLevel,
}

/// Tells when descriptors become ready.
pub trait Poller {
    /// Starts to watch.
    fn add(&self, fd: BorrowedFd<'_>, token: u64, watch: Watch) -> io::Result<()>;
    /// Stops to watch; a closed descriptor is forgotten by itself.
    fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()>;
    /// Waits for events, at most this long (None: without end), and replaces `ready` by them.
    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()>;
}

const EVENTS_PER_WAIT: usize = 512;

/// The one that is used.
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Epoll> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Epoll { fd })
    }
}

impl Poller for Epoll {
    fn add(&self, fd: BorrowedFd<'_>, token: u64, watch: Watch) -> io::Result<()> {
        use epoll::EventFlags as F;
        let flags = match watch {
            Watch::Edges => F::IN | F::OUT | F::RDHUP | F::ET,
            Watch::ReadLevel => F::IN,
        };
        Ok(epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), flags)?)
    }

    fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_PER_WAIT];
        let events = match epoll::wait(&self.fd, &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        use epoll::EventFlags as F;
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            Readiness {
                token: event.data.u64(),
                readable: flags.intersects(F::IN | F::HUP | F::ERR | F::RDHUP),
                writable: flags.contains(F::OUT),
                hangup: flags.intersects(F::RDHUP | F::HUP | F::ERR),
            }
        }));
        Ok(())
    }
}

/// A counter that wakes a sleeping worker.
#[derive(Debug)]
pub struct Wakeup(OwnedFd);

impl Wakeup {
    /// A counter at zero.
    pub fn new() -> io::Result<Wakeup> {
        Ok(Wakeup(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // Fails only when nobody woke us.
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
