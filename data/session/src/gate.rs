// SPDX-License-Identifier: BSD-3-Clause
//! What may be served at this moment: role, write lease, cluster health, loading, pauses. Plain
//! atomics, written by the agent and replication, read by every command.
//!
//! Not here: why. The control plane decides who holds a lease; this only compares clocks.

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Milliseconds of CLOCK_BOOTTIME: goes on while the machine sleeps, never jumps.
pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Role of this node for its data.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary.
    Replica,
}

/// Which commands a pause holds back.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum PauseMode {
    /// Those that may write or replicate.
    Write,
    /// All.
    All,
}

/// Who paused; each purpose has its own pause, and all of them hold.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum PausePurpose {
    /// CLIENT PAUSE.
    Client,
    /// This node is about to hand its slots over.
    Failover,
    /// A shutdown that waits for replicas.
    Shutdown,
    /// This node has become primary and waits for its lease.
    Takeover,
}

const REPLICA: u32 = 1 << 0;
const CLUSTER_DOWN: u32 = 1 << 1;
const LOADING: u32 = 1 << 2;
const PAUSED_WRITE: u32 = 1 << 3;
const PAUSED_ALL: u32 = 1 << 4;
const LINK_DOWN: u32 = 1 << 5;
const WRITE_ERROR: u32 = 1 << 6;

/// See the head of this file.
#[derive(Debug)]
pub struct Gate {
    flags: AtomicU32,
    /// Changes with the role, the cluster view and loading; a command that saw another epoch before
    /// it took its locks starts over.
    epoch: AtomicU64,
    /// Changes with the role only.
    reign: AtomicU64,
    lease_until_ms: AtomicU64,
    good_replicas: AtomicU32,
    pauses: Mutex<[Option<Pause>; 4]>,
    pause_changed: AtomicBool,
    misconf: Mutex<String>,
}

#[derive(Copy, Clone, Debug)]
struct Pause {
    until_boot_ms: u64,
    mode: PauseMode,
    /// The node became a replica meanwhile.
    has_seen_demotion: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// An open gate: a primary outside of cluster mode.
    pub fn new() -> Self {
        Self {
            flags: AtomicU32::new(0),
            epoch: AtomicU64::new(0),
            reign: AtomicU64::new(0),
            lease_until_ms: AtomicU64::new(u64::MAX),
            good_replicas: AtomicU32::new(0),
            pauses: Mutex::new([None; 4]),
            pause_changed: AtomicBool::new(false),
            misconf: Mutex::new(String::new()),
        }
    }

    fn set_flag(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, Release);
        } else {
            self.flags.fetch_and(!flag, Release);
        }
    }

    fn has(&self, flag: u32) -> bool {
        self.flags.load(Acquire) & flag != 0
    }

    /// Nothing but the lease and the number of replicas can stop a command.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.flags.load(Acquire) == 0
    }

    /// See the field.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// Makes commands that passed their checks and hold no lock yet check again.
    pub fn bump_epoch(&self) {
        self.epoch.fetch_add(1, Release);
    }

    /// Changes the role. After it returns, a caller that then locks all slots once knows that no
    /// command that was let in under the old role is still running.
    pub fn set_role(&self, role: Role) {
        let old = self.role();
        if role == Role::Replica && self.has(PAUSED_WRITE | PAUSED_ALL) {
            self.pauses.lock().iter_mut().flatten().for_each(|pause| pause.has_seen_demotion = true);
        }
        self.set_flag(REPLICA, role == Role::Replica);
        if old != role {
            self.reign.fetch_add(1, Release);
        }
        self.bump_epoch();
    }

    /// How often the role has changed.
    pub(crate) fn reign(&self) -> u64 {
        self.reign.load(Acquire)
    }

    /// The role.
    #[inline]
    pub fn role(&self) -> Role {
        if self.has(REPLICA) { Role::Replica } else { Role::Primary }
    }

    /// Sets the end of the write lease, in milliseconds of [`boot_ms`]; `u64::MAX` for no end, 0
    /// for no lease.
    pub fn set_lease_until(&self, boot_ms: u64) {
        self.lease_until_ms.store(boot_ms, Release);
    }

    /// End of the write lease.
    pub fn lease_until(&self) -> u64 {
        self.lease_until_ms.load(Acquire)
    }

    /// Whether the write lease is valid at this instant. Outside of cluster mode always. Reads a
    /// clock only where the lease has an end. Does not look at the role.
    #[inline]
    pub fn may_write_now(&self) -> bool {
        let until = self.lease_until_ms.load(Acquire);
        until == u64::MAX || boot_ms() < until
    }

    /// Whether the cluster serves requests, as far as this node knows.
    pub fn set_cluster_ok(&self, ok: bool) {
        self.set_flag(CLUSTER_DOWN, !ok);
        self.bump_epoch();
    }

    /// See [`Gate::set_cluster_ok`].
    pub fn cluster_ok(&self) -> bool {
        !self.has(CLUSTER_DOWN)
    }

    /// Whether the dataset is being loaded.
    pub fn set_loading(&self, loading: bool) {
        self.set_flag(LOADING, loading);
        self.bump_epoch();
    }

    /// See [`Gate::set_loading`].
    pub fn is_loading(&self) -> bool {
        self.has(LOADING)
    }

    /// Whether a replica's link to its primary is up.
    pub fn set_link_up(&self, up: bool) {
        self.set_flag(LINK_DOWN, !up);
    }

    /// See [`Gate::set_link_up`].
    pub fn is_link_up(&self) -> bool {
        !self.has(LINK_DOWN)
    }

    /// Number of replicas whose lag is small enough (min-replicas-max-lag).
    pub fn set_good_replicas(&self, count: u32) {
        self.good_replicas.store(count, Relaxed);
    }

    /// See [`Gate::set_good_replicas`].
    pub fn good_replicas(&self) -> u32 {
        self.good_replicas.load(Relaxed)
    }

    /// Refuses writes with this error line (`MISCONF ...`), or no longer.
    pub fn set_write_error(&self, line: Option<&str>) {
        let mut text = self.misconf.lock();
        text.clear();
        text.push_str(line.unwrap_or(""));
        self.set_flag(WRITE_ERROR, line.is_some());
    }

    pub(crate) fn write_error(&self) -> Option<String> {
        self.has(WRITE_ERROR).then(|| self.misconf.lock().clone())
    }

    /// Holds commands back until an instant of [`boot_ms`]. A pause is only ever made stronger or
    /// longer by the same purpose, as in Valkey.
    pub fn pause(&self, purpose: PausePurpose, mode: PauseMode, until_boot_ms: u64) {
        let mut pauses = self.pauses.lock();
        let slot = &mut pauses[purpose as usize];
        let old = slot.filter(|pause| pause.until_boot_ms > boot_ms());
        *slot = Some(Pause {
            until_boot_ms: old.map_or(until_boot_ms, |pause| pause.until_boot_ms.max(until_boot_ms)),
            mode: old.map_or(mode, |pause| pause.mode.max(mode)),
            has_seen_demotion: old.is_some_and(|pause| pause.has_seen_demotion),
        });
        self.publish_pauses(&pauses);
    }

    /// Ends the pause of one purpose.
    pub fn unpause(&self, purpose: PausePurpose) {
        let mut pauses = self.pauses.lock();
        pauses[purpose as usize] = None;
        self.publish_pauses(&pauses);
    }

    fn publish_pauses(&self, pauses: &[Option<Pause>; 4]) {
        let mode = pauses.iter().flatten().map(|pause| pause.mode).max();
        self.set_flag(PAUSED_WRITE, mode == Some(PauseMode::Write));
        self.set_flag(PAUSED_ALL, mode == Some(PauseMode::All));
        self.pause_changed.store(true, Relaxed);
        self.bump_epoch();
    }

    /// What is held back now. Ends pauses that ran out.
    #[inline]
    pub fn paused(&self) -> Option<PauseMode> {
        if !self.has(PAUSED_WRITE | PAUSED_ALL) {
            return None;
        }
        let now = boot_ms();
        let mut pauses = self.pauses.lock();
        if pauses.iter().flatten().any(|pause| pause.until_boot_ms <= now) {
            for pause in pauses.iter_mut() {
                *pause = pause.filter(|pause| pause.until_boot_ms > now);
            }
            self.publish_pauses(&pauses);
        }
        pauses.iter().flatten().map(|pause| pause.mode).max()
    }

    /// The node's slots are about to have another primary, which makes the lack of a lease a matter of
    /// milliseconds: clients wait instead of being refused.
    pub(crate) fn is_changing_hands(&self) -> bool {
        self.holds(PausePurpose::Failover) || self.holds(PausePurpose::Takeover)
    }

    /// Whether writes are held back since a time at which this node was a primary: they stay held, although it cannot take
    /// them any more, until it is settled who can.
    pub(crate) fn holds_writes_of_a_former_primary(&self) -> bool {
        self.paused().is_some() && self.pauses.lock().iter().flatten().any(|pause| pause.has_seen_demotion)
    }

    /// Whether there is a pause of this purpose.
    pub fn holds(&self, purpose: PausePurpose) -> bool {
        self.has(PAUSED_WRITE | PAUSED_ALL)
            && self.pauses.lock()[purpose as usize].is_some_and(|pause| pause.until_boot_ms > boot_ms())
    }

    /// When the first pause runs out: suspended clients are to be tried again then.
    pub fn paused_until(&self) -> Option<u64> {
        if !self.has(PAUSED_WRITE | PAUSED_ALL) {
            return None;
        }
        self.pauses.lock().iter().flatten().map(|pause| pause.until_boot_ms).min()
    }
}
