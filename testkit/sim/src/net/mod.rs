// SPDX-License-Identifier: BSD-3-Clause
//! The simulated network: machines, the directed paths between them, connections and the packets in flight.
//! `stream` is the side that processes see. It behaves as TCP does towards those who use it: bytes arrive in
//! order or not at all, a cut path delays them until some time after it heals, a window of unconfirmed bytes
//! blocks the sender, and only a machine that runs can refuse or reset a connection.

mod conn;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use pando_env::{Rng, SeededRng};

use conn::{Conn, ConnKey, Packet};
pub use stream::SimNet;

/// Number of a simulated machine.
pub type HostId = usize;

/// Wait before lost bytes are sent again, doubled with each attempt up to the longest.
const RESEND_MS: u64 = 200;
const RESEND_MAX_MS: u64 = 1_600;
/// Unconfirmed bytes that a sender may have on a connection.
const WINDOW: usize = 256 * 1024;

/// The network; clones share it.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

struct Machine {
    addr: IpAddr,
    /// Its kernel answers.
    is_up: bool,
    /// Counts its processes; sockets of an earlier one are closed.
    generation: u64,
}

struct Listener {
    generation: u64,
    accepted: VecDeque<ConnKey>,
    waker: Option<Waker>,
}

/// What falls due at a time.
enum Due {
    /// A connection attempt reaches its target.
    Syn(ConnKey, u16),
    /// Its answer reaches the one who connects: accepted or refused.
    Answer(ConnKey, bool),
    /// The first packet on this half of a connection.
    Wire(ConnKey, usize),
}

struct State {
    now_ms: u64,
    rng: SeededRng,
    next: u64,
    machines: Vec<Machine>,
    conns: BTreeMap<ConnKey, Conn>,
    listeners: BTreeMap<(HostId, u16), Listener>,
    due: BTreeMap<(u64, u64), Due>,
    cuts: BTreeSet<(HostId, HostId)>,
    held: BTreeSet<(HostId, HostId)>,
    latency_ms: (u64, u64),
    slow: BTreeMap<(HostId, HostId), u64>,
    lossy: BTreeMap<(HostId, HostId), u64>,
    wakers: Vec<Waker>,
    /// How often a path was cut or healed.
    changes: u64,
}

impl Network {
    /// A network without machines.
    pub fn new(seed: u64) -> Network {
        Network(Arc::new(Mutex::new(State {
            now_ms: 0,
            rng: SeededRng::new(seed),
            next: 0,
            machines: Vec::new(),
            conns: BTreeMap::new(),
            listeners: BTreeMap::new(),
            due: BTreeMap::new(),
            cuts: BTreeSet::new(),
            held: BTreeSet::new(),
            latency_ms: (1, 3),
            slow: BTreeMap::new(),
            lossy: BTreeMap::new(),
            wakers: Vec::new(),
            changes: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes whom it concerns.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = work(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        result
    }

    /// Adds a machine.
    pub fn add(&self, addr: IpAddr) -> HostId {
        let mut state = self.state();
        state.machines.push(Machine { addr, is_up: true, generation: 0 });
        state.machines.len() - 1
    }

    /// The machine has another address from here on; no process runs on it.
    pub fn set_addr(&self, host: HostId, addr: IpAddr) {
        self.state().machines[host].addr = addr;
    }

    /// Moves everything that arrives by then.
    pub fn advance(&self, now_ms: u64) {
        self.with(|state| {
            state.now_ms = now_ms;
            while let Some(entry) = state.due.first_entry().filter(|entry| entry.key().0 <= now_ms) {
                let due = entry.remove();
                state.deliver(due);
            }
        });
    }

    /// The process on the machine was killed: its kernel closes what it had open, and tells the other ends.
    pub fn kill(&self, host: HostId) {
        self.with(|state| state.end_process(host, true));
    }

    /// The machine is off: nobody is told of anything.
    pub fn power_off(&self, host: HostId) {
        self.with(|state| {
            state.end_process(host, false);
            state.machines[host].is_up = false;
        });
    }

    /// Its kernel runs again; a process may be started.
    pub fn power_on(&self, host: HostId) {
        self.state().machines[host].is_up = true;
    }

    /// Nothing gets from the one to the other.
    pub fn cut(&self, from: HostId, to: HostId) {
        let mut state = self.state();
        state.changes += 1;
        state.cuts.insert((from, to));
    }

    /// As `cut`, but all that was sent meanwhile arrives as soon as it is over.
    pub fn hold(&self, from: HostId, to: HostId) {
        let mut state = self.state();
        state.changes += 1;
        state.held.insert((from, to));
    }

    /// Ends one cut.
    pub fn uncut(&self, from: HostId, to: HostId) {
        self.with(|state| {
            state.cuts.remove(&(from, to));
            let keys: Vec<ConnKey> = state.conns.keys().copied().collect();
            for key in keys {
                state.confirm(key);
            }
        });
    }

    /// Ends all cuts and holds.
    pub fn heal(&self) {
        self.with(|state| {
            state.changes += 1;
            state.cuts.clear();
            state.held.clear();
            let keys: Vec<ConnKey> = state.conns.keys().copied().collect();
            for key in keys {
                state.confirm(key);
            }
        });
    }

    /// Whether the way there or the way back is cut.
    pub fn is_cut(&self, a: HostId, b: HostId) -> bool {
        let state = self.state();
        !(state.is_open(a, b) && state.is_open(b, a))
    }

    /// How often paths were cut or healed so far.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Longest delay of a packet from here on.
    pub fn set_latency_max(&self, ms: u64) {
        self.state().latency_ms.1 = ms.max(1);
    }

    /// Packets take so much longer on this path; 0 ends it.
    pub fn set_slow(&self, from: HostId, to: HostId, ms: u64) {
        self.state().slow.insert((from, to), ms);
    }

    /// So many packets in a thousand are lost on this path at first; 0 ends it.
    pub fn set_lossy(&self, from: HostId, to: HostId, per_mille: u64) {
        self.state().lossy.insert((from, to), per_mille);
    }

    /// All paths are as good as they were at first (but for cuts).
    pub fn mend(&self) {
        let mut state = self.state();
        state.slow.clear();
        state.lossy.clear();
        state.latency_ms = (1, 3);
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn at(&mut self, at_ms: u64, due: Due) {
        let number = self.number();
        self.due.insert((at_ms, number), due);
    }

    fn host_of(&self, addr: IpAddr) -> Option<HostId> {
        self.machines.iter().position(|machine| machine.addr == addr)
    }

    /// Packets get there, if the machine is up.
    fn is_open(&self, from: HostId, to: HostId) -> bool {
        from == to || !(self.cuts.contains(&(from, to)) || self.held.contains(&(from, to)))
    }

    fn delay(&self, from: HostId, to: HostId) -> u64 {
        if from == to {
            return 1;
        }
        let (min, max) = self.latency_ms;
        let slow = self.slow.get(&(from, to)).copied().unwrap_or(0);
        min + self.rng.below(max.saturating_sub(min) + 1) + if slow > 0 { self.rng.below(slow + 1) } else { 0 }
    }

    /// A packet on this path arrives now; if not: when it is tried again, after `attempts` failed ones.
    fn passes(&self, from: HostId, to: HostId, attempts: u32) -> Result<(), u64> {
        if from != to && self.held.contains(&(from, to)) {
            return Err(self.now_ms + 1);
        }
        let resend = (RESEND_MS << attempts.min(8)).min(RESEND_MAX_MS);
        if !self.is_open(from, to) || !self.machines[to].is_up {
            return Err(self.now_ms + resend / 2 + self.rng.below(resend / 2 + 1));
        }
        let lossy = self.lossy.get(&(from, to)).copied().unwrap_or(0);
        if lossy > 0 && self.rng.below(1000) < lossy {
            return Err(self.now_ms + resend);
        }
        Ok(())
    }

    fn deliver(&mut self, due: Due) {
        match due {
            Due::Syn(key, port) => self.deliver_syn(key, port),
            Due::Answer(key, is_accepted) => self.deliver_answer(key, is_accepted),
            Due::Wire(key, side) => self.deliver_packets(key, side),
        }
    }

    fn deliver_syn(&mut self, key: ConnKey, port: u16) {
        let Some(conn) = self.conns.get_mut(&key) else { return };
        if !conn.ends[0].is_open {
            self.conns.remove(&key);
            return;
        }
        let (from, to) = (conn.ends[0].host, conn.ends[1].host);
        conn.attempts += 1;
        let attempts = conn.attempts;
        if let Err(again) = self.passes(from, to, attempts + 1) {
            return self.at(again, Due::Syn(key, port));
        }
        let generation = self.machines[to].generation;
        let listener = self.listeners.get_mut(&(to, port)).filter(|listener| listener.generation == generation);
        let is_accepted = listener.is_some();
        if let Some(listener) = listener {
            listener.accepted.push_back(key);
            self.wakers.extend(listener.waker.take());
            if let Some(conn) = self.conns.get_mut(&key) {
                conn.ends[1].is_open = true;
                conn.ends[1].generation = generation;
            }
        }
        let back = self.now_ms + self.delay(to, from);
        self.at(back, Due::Answer(key, is_accepted));
    }

    fn deliver_answer(&mut self, key: ConnKey, is_accepted: bool) {
        let Some(conn) = self.conns.get_mut(&key) else { return };
        let (from, to) = (conn.ends[1].host, conn.ends[0].host);
        conn.attempts += 1;
        let attempts = conn.attempts;
        // What a dead machine said before is still on its way, what it would repeat is not.
        if let Err(again) = self.passes(from, to, attempts) {
            return self.at(again, Due::Answer(key, is_accepted));
        }
        if let Some(conn) = self.conns.get_mut(&key) {
            conn.answer = Some(is_accepted);
            self.wakers.extend(conn.ends[0].reader.take());
        }
    }

    /// Delivers what is due on one half of a connection, and schedules the rest.
    fn deliver_packets(&mut self, key: ConnKey, side: usize) {
        loop {
            let now = self.now_ms;
            let Some(conn) = self.conns.get_mut(&key) else { return };
            let wire = &mut conn.wires[side];
            let Some(at_ms) = wire.flying.front().map(|(at_ms, _)| *at_ms) else {
                wire.is_scheduled = false;
                return;
            };
            if at_ms > now {
                return self.at(at_ms, Due::Wire(key, side));
            }
            let (from, to, attempts) = (conn.ends[side].host, conn.ends[1 - side].host, wire.attempts);
            // A machine that is off sends nothing again, and bytes of a process before are worth a reset at most.
            if !self.machines[from].is_up && attempts > 0 {
                let Some(conn) = self.conns.get_mut(&key) else { return };
                conn.wires[side].flying.clear();
                continue;
            }
            let passed = self.passes(from, to, attempts);
            let Some(conn) = self.conns.get_mut(&key) else { return };
            let wire = &mut conn.wires[side];
            if let Err(again) = passed {
                wire.attempts += 1;
                return self.at(again, Due::Wire(key, side));
            }
            wire.attempts = 0;
            let Some((_, packet)) = wire.flying.pop_front() else { continue };
            let end = &mut conn.ends[1 - side];
            if !end.is_open {
                // Nobody there, says the kernel.
                if matches!(packet, Packet::Data(_)) && !conn.wires[1 - side].is_reset_sent {
                    conn.wires[1 - side].is_reset_sent = true;
                    self.send(key, 1 - side, Packet::Reset);
                }
                continue;
            }
            match packet {
                Packet::Data(bytes) => {
                    wire.unconfirmed += bytes.len();
                    wire.inbox.extend(bytes);
                }
                Packet::Fin => wire.is_ended = true,
                Packet::Reset => {
                    end.is_reset = true;
                    self.wakers.extend(end.writer.take());
                }
            }
            self.wakers.extend(end.reader.take());
            self.confirm(key);
        }
    }

    /// Lets the senders know what has arrived, where the way back is open.
    fn confirm(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(&key) else { return };
        let (a, b) = (conn.ends[0].host, conn.ends[1].host);
        for (side, from, to) in [(0, a, b), (1, b, a)] {
            let is_open = self.is_open(to, from);
            let Some(conn) = self.conns.get_mut(&key) else { return };
            let wire = &mut conn.wires[side];
            if is_open && wire.unconfirmed > 0 {
                wire.in_flight = wire.in_flight.saturating_sub(std::mem::take(&mut wire.unconfirmed));
                self.wakers.extend(conn.ends[side].writer.take());
            }
        }
    }

    /// Puts a packet on a half of a connection.
    fn send(&mut self, key: ConnKey, side: usize, packet: Packet) {
        let Some(conn) = self.conns.get(&key) else { return };
        let (from, to) = (conn.ends[side].host, conn.ends[1 - side].host);
        let earliest = self.now_ms + self.delay(from, to);
        let Some(conn) = self.conns.get_mut(&key) else { return };
        let wire = &mut conn.wires[side];
        let at_ms = wire.flying.back().map_or(0, |(at_ms, _)| *at_ms).max(earliest);
        if let Packet::Data(bytes) = &packet {
            wire.in_flight += bytes.len();
        }
        wire.flying.push_back((at_ms, packet));
        if !wire.is_scheduled {
            wire.is_scheduled = true;
            self.at(at_ms, Due::Wire(key, side));
        }
    }

    /// Closes one end; `packet` tells the other one.
    fn close(&mut self, key: ConnKey, side: usize, packet: Option<Packet>) {
        let Some(conn) = self.conns.get_mut(&key) else { return };
        if !conn.ends[side].is_open {
            return;
        }
        conn.ends[side].is_open = false;
        if conn.answer.is_none() && side == 0 && !conn.ends[1].is_open {
            // The attempt is given up; `deliver_syn` removes it.
            return;
        }
        if !conn.ends[1 - side].is_open {
            self.conns.remove(&key);
            return;
        }
        if let Some(packet) = packet {
            self.send(key, side, packet);
        }
    }

    fn end_process(&mut self, host: HostId, is_told: bool) {
        self.machines[host].generation += 1;
        self.listeners.retain(|(machine, _), _| *machine != host);
        let keys: Vec<ConnKey> = self.conns.keys().copied().collect();
        for key in keys {
            for side in 0..2 {
                let is_its = self.conns.get(&key).is_some_and(|conn| conn.ends[side].host == host);
                if is_its {
                    self.close(key, side, is_told.then_some(Packet::Reset));
                }
            }
        }
    }
}
