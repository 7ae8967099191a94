// SPDX-License-Identifier: BSD-3-Clause
//! Packets that arrive late: a relay between two network interfaces that keeps each frame for a while, in order. For
//! kernels without `netem`. Frames are passed on as they are, with what the kernel still has to do for them (checksums,
//! large segments), so TCP at both ends is the kernel's own.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PACKET_VNET_HDR: libc::c_int = 15;
/// A frame of 64 KB, its head, and what the kernel says about it.
const FRAME_MAX: usize = 66_000;

/// A running relay. Dropping it ends it; frames under way are lost.
pub struct Relay {
    is_over: Arc<AtomicBool>,
    passed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Passes frames on between two interfaces of the calling thread's network namespace, each after `delay` and up to
    /// `more` on top, which grows and shrinks in the course of a second.
    ///
    /// # Errors
    /// When an interface is not there, or without CAP_NET_RAW.
    pub fn start(one: &str, other: &str, delay: Duration, more: Duration) -> io::Result<Self> {
        let (one, other) = (Arc::new(open(one)?), Arc::new(open(other)?));
        let mut relay = Self { is_over: Arc::default(), passed: Arc::default(), threads: Vec::new() };
        for (from, to) in [(one.clone(), other.clone()), (other, one)] {
            let (is_over, passed) = (relay.is_over.clone(), relay.passed.clone());
            relay.threads.push(std::thread::spawn(move || pass_on(&from, &to, delay, more, &is_over, &passed)));
        }
        Ok(relay)
    }

    /// How many frames were passed on.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A socket for all frames that come in on an interface.
fn open(name: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: plain system calls; the address and the options live until they return, and the descriptor is new.
    unsafe {
        let index = libc::if_nametoindex(name.as_ptr());
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let socket = OwnedFd::from_raw_fd(check(libc::socket(libc::AF_PACKET, kind, 0))?);
        for option in [PACKET_VNET_HDR, libc::PACKET_IGNORE_OUTGOING] {
            let (on, size) = (1i32, std::mem::size_of::<i32>() as libc::socklen_t);
            check(libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), size))?;
        }
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        let size = std::mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size))?;
        Ok(socket)
    }
}

fn pass_on(from: &OwnedFd, to: &OwnedFd, delay: Duration, more: Duration, is_over: &AtomicBool, passed: &AtomicU64) {
    let begin = Instant::now();
    let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0u8; FRAME_MAX];
    while !is_over.load(Ordering::Relaxed) {
        let now = Instant::now();
        while held.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, frame)) = held.pop_front() else { break };
            // SAFETY: the frame lives until the call returns. One that is lost is lost, as on any cable.
            unsafe { libc::send(to.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
            passed.fetch_add(1, Ordering::Relaxed);
        }
        let wait = held.front().map_or(Duration::from_millis(20), |(due, _)| due.saturating_duration_since(now));
        let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd that lives here.
        let ready = unsafe { libc::poll(&raw mut poll, 1, wait.as_millis().min(20) as i32) };
        if ready <= 0 {
            continue;
        }
        // SAFETY: the buffer is as long as it says and lives until the call returns.
        let count =
            unsafe { libc::recv(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
        if let Ok(count) = usize::try_from(count) {
            let now = Instant::now();
            let phase = now.duration_since(begin).subsec_millis();
            let due = now + delay + more * phase.min(1000 - phase) / 500;
            // Never before one that came earlier.
            let due = held.back().map_or(due, |(last, _)| due.max(*last));
            held.push_back((due, buffer[..count].to_vec()));
        }
    }
}
