// SPDX-License-Identifier: BSD-3-Clause
//! One simulated machine: its process, disk, data plane and clocks, and what can happen to them. Its place in
//! the network is `net`'s; who does what to it is decided by scenarios and `faults`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pando_agent::{Agent, AgentConfig, AgentHandle};
use pando_env::{Env, Jumps, SeededRng, SimDisk, VirtualClock};

use crate::engine::Process;
use crate::net::{HostId, Network, SimNet};
use crate::plane::FakePlane;

/// What the calendar shows when a simulation starts.
const UNIX_MS: u64 = 1_700_000_000_000;

/// The running agent, or why it could not start.
type Started = Arc<Mutex<Option<Result<AgentHandle, String>>>>;

/// See the head of this file.
pub struct Host {
    /// Its number, here and in the network.
    pub id: HostId,
    /// Its address.
    pub addr: IpAddr,
    /// Its disk.
    pub disk: SimDisk,
    /// The data plane of its process.
    pub plane: FakePlane,
    /// What the process is started with.
    pub config: AgentConfig,
    seed: u64,
    process: Option<Process>,
    started: Started,
    starts: u64,
    /// The monotonic clock without jumps, and the part of a millisecond behind it.
    boot_ms: u64,
    carry_ppm: i64,
    /// How much faster than the true time its clocks and timers go, in parts per million.
    pub rate_ppm: i64,
    jumps: Arc<Jumps>,
    is_paused: bool,
    is_asleep: bool,
    /// For how long the process has not run and has not noticed.
    still_ms: u64,
    /// Set when the agent has ended because it was asked to.
    is_shut_down: Arc<AtomicBool>,
    /// Offsets of its plane by true time: what replicas can have pulled.
    pub history: Vec<(u64, u64)>,
}

/// A disk without files.
pub fn new_disk() -> SimDisk {
    SimDisk::with_sync_latency(Duration::from_millis(1))
}

impl Host {
    /// A machine that is switched on and runs nothing.
    pub fn new(id: HostId, addr: IpAddr, seed: u64, config: AgentConfig) -> Host {
        Host {
            id,
            addr,
            disk: new_disk(),
            plane: FakePlane::default(),
            config,
            seed,
            process: None,
            started: Arc::default(),
            starts: 0,
            // Not zero at the start, as no machine's clock is.
            boot_ms: 1_000_000,
            carry_ppm: 0,
            rate_ppm: 0,
            jumps: Arc::default(),
            is_paused: false,
            is_asleep: false,
            still_ms: 0,
            is_shut_down: Arc::default(),
            history: Vec::new(),
        }
    }

    /// What its monotonic clock shows.
    pub fn now_ms(&self) -> u64 {
        self.boot_ms + self.jumps.slept_ms.load(Ordering::Relaxed)
    }

    /// How many processes it has had.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// It has a process, which may stand still.
    pub fn has_process(&self) -> bool {
        self.process.is_some()
    }

    /// Its process runs and does not stand still.
    pub fn is_running(&self) -> bool {
        self.process.is_some() && !self.is_paused
    }

    /// Its process stands still.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The agent, if it has started.
    pub fn handle(&self) -> Option<AgentHandle> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.as_ref().ok().cloned()
    }

    /// Why the process ended by itself, if it did.
    pub fn exit(&self) -> Option<String> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.as_ref().err().cloned()
    }

    /// Starts a process; there is none.
    pub fn start(&mut self, network: &Network) {
        self.starts += 1;
        // A stream of its own for each process, or a restart would repeat its ids.
        let seed = self.seed ^ ((self.id as u64 + 1) << 40) ^ (self.starts << 52);
        let (config, plane, disk) = (self.config.clone(), self.plane.clone(), self.disk.clone());
        let (net, jumps, boot_ms) = (SimNet::new(network.clone(), self.id), self.jumps.clone(), self.boot_ms);
        let started = Started::default();
        self.started = started.clone();
        self.process = Some(Process::start(seed, move || {
            let unix_ms = UNIX_MS + boot_ms;
            let env = Env {
                net: Arc::new(net),
                disk: Arc::new(disk),
                clock: Arc::new(VirtualClock::with_jumps(boot_ms, unix_ms, jumps)),
                rng: Arc::new(SeededRng::new(seed)),
            };
            async move {
                let result = Agent::start(config, Arc::new(plane), env).await;
                *started.lock().unwrap_or_else(PoisonError::into_inner) = Some(result.map_err(|e| e.to_string()));
            }
        }));
    }

    /// Its next process announces this address and client port. The network is told as well.
    pub fn move_to(&mut self, addr: IpAddr, port: u16) {
        self.addr = addr;
        self.config.host = addr.to_string();
        (self.config.port, self.config.cluster_port) = (port, port + 10000);
    }

    /// The process is gone. The network is told first.
    pub fn stop(&mut self) {
        self.process = None;
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.plane.crash();
        self.history.clear();
        self.is_shut_down = Arc::default();
        (self.is_paused, self.is_asleep, self.still_ms) = (false, false, 0);
    }

    /// Asks the agent to end; `has_shut_down` tells when it has.
    pub fn shut_down(&self) {
        if let (Some(process), Some(handle)) = (&self.process, self.handle()) {
            let done = self.is_shut_down.clone();
            process.spawn(async move {
                handle.shutdown().await;
                done.store(true, Ordering::Relaxed);
            });
        }
    }

    /// The agent has ended because it was asked to.
    pub fn has_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Relaxed)
    }

    /// The process stands still (SIGSTOP, a machine without processor time). Its clocks and its kernel go on.
    pub fn pause(&mut self) {
        self.is_paused = self.process.is_some();
    }

    /// As `pause`, but its timers stand still as well (a virtual machine or laptop that sleeps).
    pub fn sleep(&mut self) {
        self.pause();
        self.is_asleep = self.is_paused;
    }

    /// It goes on.
    pub fn resume(&mut self) {
        self.is_paused = false;
        if self.is_asleep {
            self.is_asleep = false;
            let slept = std::mem::take(&mut self.still_ms);
            // From the clock that goes on with the timers to the one that does not.
            self.boot_ms -= slept;
            self.jumps.slept_ms.fetch_add(slept, Ordering::Relaxed);
            self.set_calendar(slept as i64);
        }
    }

    /// Somebody sets the calendar.
    pub fn set_calendar(&self, by_ms: i64) {
        self.jumps.calendar_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// A millisecond of true time passes.
    pub fn step(&mut self) {
        self.carry_ppm += 1_000_000 + self.rate_ppm;
        let ms = (self.carry_ppm / 1_000_000).max(0) as u64;
        self.carry_ppm %= 1_000_000;
        self.boot_ms += ms;
        if self.is_paused {
            self.still_ms += ms;
            return;
        }
        let Some(process) = &self.process else { return };
        let still_ms = std::mem::take(&mut self.still_ms);
        if still_ms > 0 {
            process.stood_still(still_ms);
        }
        if ms > 0 {
            process.tick(ms);
        }
    }
}
