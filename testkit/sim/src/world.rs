// SPDX-License-Identifier: BSD-3-Clause
//! The simulated cluster: machines, the network between them, one step of everything and the checks after it.
//! `forming` makes one cluster of it, `faults` and the scenarios do things to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use pando_agent::{AgentConfig, AgentHandle, Answer, Request, Roles};
use pando_env::{Rng, SeededRng};
use pando_topology::{ClusterMap, NodeId, SLOT_COUNT, ShardId, Slot};

use crate::admin::Admin;
use crate::clients::Clients;
use crate::data::{self, Writer};
use crate::host::Host;
use crate::invariants::{self, Fact, Invariant, Scene, Seen};
use crate::log;
use crate::net::Network;
use crate::plane::FakePlane;

/// Client port of every host; the cluster port is 10000 above.
pub const PORT: u16 = 6379;
/// Length of promises in simulated clusters: shorter than in production, so that runs are shorter.
pub const LEASE_MS: u64 = 600;
/// How often the agents are asked about themselves.
const INFO_EVERY_MS: u64 = 8;

thread_local! {
    /// Why a simulated process panicked.
    static PANICS: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The answer slot of a request.
pub type Pending = Arc<Mutex<Option<Result<Answer, String>>>>;

/// What is in an answer slot.
pub fn answer(pending: &Pending) -> Option<Result<Answer, String>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// See the head of this file.
pub struct World {
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    rng: SeededRng,
    elapsed_ms: u64,
    writer: Writer,
    clients: Clients,
    admin: RefCell<Admin>,
    facts: Vec<Fact>,
    invariants: Vec<Box<dyn Invariant>>,
    trace: std::collections::hash_map::DefaultHasher,
    last_traced: BTreeMap<usize, (u64, bool)>,
    /// Who wrote last for a shard, and how often that changed.
    writers: BTreeMap<ShardId, usize>,
    failovers: u64,
    may_panic: bool,
    /// What broke, if anything did; a run stops there.
    pub failure: Option<String>,
    pub(crate) seed: u64,
}

impl World {
    /// `count` hosts that all run; each is an island at first.
    pub fn new(seed: u64, count: usize) -> World {
        World::with_config(seed, count, |_, _| {})
    }

    /// As `new`, with a say in each host's configuration.
    pub fn with_config(seed: u64, count: usize, adjust: impl Fn(usize, &mut AgentConfig)) -> World {
        catch_panics();
        let network = Network::new(seed ^ 0x4e37);
        let mut hosts = Vec::new();
        for index in 0..count {
            let addr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, index as u8 + 1));
            let id = network.add(addr);
            let mut config = AgentConfig {
                host: addr.to_string(),
                port: PORT,
                cluster_port: PORT + 10000,
                root_patience_ms: 2 * LEASE_MS,
                dir: "/data".into(),
                roles: Roles { data: true, root: true },
                lease_ms: LEASE_MS,
                ..AgentConfig::default()
            };
            adjust(index, &mut config);
            let mut host = Host::new(id, addr, seed, config);
            host.start(&network);
            hosts.push(host);
        }
        World {
            hosts,
            network,
            rng: SeededRng::new(seed ^ 0x5eed),
            elapsed_ms: 0,
            writer: Writer::default(),
            clients: Clients::default(),
            admin: RefCell::default(),
            facts: Vec::new(),
            invariants: invariants::all(),
            trace: Default::default(),
            last_traced: BTreeMap::new(),
            writers: BTreeMap::new(),
            failovers: 0,
            may_panic: false,
            failure: None,
            seed,
        }
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is no host.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Randomness of the run, for faults.
    pub fn rng(&self) -> &SeededRng {
        &self.rng
    }

    /// True milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.elapsed_ms
    }

    /// Hash of everything that was visible; equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    /// How often another host wrote for a shard than before.
    pub fn failovers(&self) -> u64 {
        self.failovers
    }

    /// A host.
    pub fn host(&self, host: usize) -> &Host {
        &self.hosts[host]
    }

    /// A host, to do something to it.
    pub fn host_mut(&mut self, host: usize) -> &mut Host {
        &mut self.hosts[host]
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// A host's data plane.
    pub fn plane(&self, host: usize) -> &FakePlane {
        &self.hosts[host].plane
    }

    /// A host's address.
    pub fn addr(&self, host: usize) -> IpAddr {
        self.hosts[host].addr
    }

    /// The client port that a host announces.
    pub fn port(&self, host: usize) -> u16 {
        self.hosts[host].config.port
    }

    /// The newest map of the cluster that owns all slots, as anybody shows it.
    pub fn newest_map(&self) -> Option<Arc<ClusterMap>> {
        let maps = self.hosts.iter().filter_map(|host| host.plane.state().view.clone());
        maps.map(|(map, _)| map).filter(|map| map.slots_assigned() == SLOT_COUNT).max_by_key(|map| map.version())
    }

    /// A host has a process.
    pub fn is_running(&self, host: usize) -> bool {
        self.hosts[host].has_process()
    }

    /// The node on a host, by its own view.
    pub fn node_id(&self, host: usize) -> Option<NodeId> {
        self.hosts[host].plane.state().view.as_ref().map(|(_, me)| *me)
    }

    /// The agent on a host, if it has started.
    pub fn handle(&self, host: usize) -> Option<AgentHandle> {
        self.hosts[host].handle()
    }

    /// The host that accepts writes for the slot at this moment.
    pub fn writer_of(&self, slot: Slot) -> Option<usize> {
        self.hosts.iter().filter(|host| host.is_running()).find_map(|host| {
            let state = host.plane.state();
            let (shard, _) = state.accepts(host.now_ms())?;
            let (map, _) = state.view.as_ref()?;
            map.shard(&shard)?.slots.contains(slot).then_some(host.id)
        })
    }

    /// One millisecond for everybody, then the checks.
    pub fn step(&mut self) {
        if self.failure.is_some() {
            return;
        }
        self.elapsed_ms += 1;
        self.network.advance(self.elapsed_ms);
        // Nobody is always the first to act.
        let count = self.hosts.len();
        for turn in 0..count {
            let host = (self.elapsed_ms as usize + turn) % count;
            log::turn(self.elapsed_ms, host);
            self.hosts[host].step();
        }
        if let Some(text) = PANICS.with(|panics| panics.borrow_mut().take())
            && !self.may_panic
        {
            self.failure = Some(format!("a process panicked: {text}"));
            return;
        }
        for host in 0..count {
            if self.hosts[host].has_shut_down() {
                self.kill(host);
            }
        }
        let (now, facts) = (self.elapsed_ms, &mut self.facts);
        data::step(now, &mut self.hosts, &self.network, &self.rng, &mut self.writer, facts);
        self.clients.step(now, &self.hosts, &self.rng, &mut self.writer, facts);
        self.admin.borrow_mut().step(&self.hosts, facts);
        self.trace_step();
        self.check();
    }

    /// Steps until the condition holds; false if it did not within `limit_ms`.
    pub fn until(&mut self, limit_ms: u64, mut test: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..limit_ms {
            self.step();
            if self.failure.is_some() {
                return false;
            }
            if test(self) {
                return true;
            }
        }
        false
    }

    /// Steps for so long.
    pub fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.step();
        }
    }

    /// Panics with the seed if a property was broken.
    pub fn assert_safe(&self) {
        if let Some(failure) = &self.failure {
            panic!("seed {}: {failure}", self.seed);
        }
    }

    fn check(&mut self) {
        let with_info = self.elapsed_ms.is_multiple_of(INFO_EVERY_MS);
        let seen: Vec<Seen> = self.hosts.iter().map(|host| Seen::of(host, with_info)).collect();
        let facts = std::mem::take(&mut self.facts);
        let scene = Scene { now_ms: self.elapsed_ms, seen: &seen, facts: &facts, network: &self.network };
        for invariant in &mut self.invariants {
            if let Err(failure) = invariant.check(&scene) {
                self.failure = Some(format!("{} at {} ms: {failure}", invariant.name(), self.elapsed_ms));
                return;
            }
        }
    }

    /// Checks this property and no other one from here on: for tests of the invariants.
    pub fn check_only(&mut self, invariant: Box<dyn Invariant>) {
        self.invariants = vec![invariant];
        // Whose disk lies may also notice by itself that something is wrong.
        self.may_panic = true;
    }

    /// As if this had been heard in the next step: for tests of the invariants.
    pub fn pretend(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// So many clients write from now on.
    pub fn add_clients(&mut self, count: usize) {
        self.clients = Clients::new(count);
    }

    /// Writes of clients that were acknowledged without and with waiting, and those that were not.
    pub fn writes(&self) -> [u64; 3] {
        let [plain, waited] = self.clients.acknowledged;
        [plain, waited, self.clients.unknown]
    }

    /// Requests that were answered well and badly, by kind.
    pub fn answers(&self) -> BTreeMap<&'static str, [u64; 2]> {
        self.admin.borrow().answers.clone()
    }

    fn trace_step(&mut self) {
        for host in &self.hosts {
            let state = host.plane.state();
            let version = state.view.as_ref().map_or(0, |(map, _)| map.version().get());
            let accepts = state.accepts(host.now_ms());
            if let Some((shard, _)) = accepts
                && self.writers.insert(shard, host.id).is_some_and(|before| before != host.id)
            {
                self.failovers += 1;
            }
            let entry = (version, accepts.is_some());
            if self.last_traced.get(&host.id) != Some(&entry) {
                self.last_traced.insert(host.id, entry);
                self.trace.write_u64(self.elapsed_ms);
                self.trace.write_usize(host.id);
                self.trace.write_u64(entry.0);
                self.trace.write_u64(state.lease_until_ms);
                self.trace.write_u8(u8::from(entry.1));
            }
        }
    }

    /// Kills a process on a machine that loses what was not synced, and is back at once to refuse connections.
    pub fn crash(&mut self, host: usize) {
        if self.hosts[host].has_process() {
            self.network.kill(host);
            self.hosts[host].stop();
            self.hosts[host].disk.crash(&SeededRng::new(self.rng.next_u64()));
        }
    }

    /// Kills a process; what it wrote is left to the kernel.
    pub fn kill(&mut self, host: usize) {
        if self.hosts[host].has_process() {
            self.network.kill(host);
            self.hosts[host].stop();
            self.hosts[host].disk.kill();
        }
    }

    /// Switches a machine off: nobody hears of it, and its disk loses what was not synced.
    pub fn power_off(&mut self, host: usize) {
        if self.hosts[host].has_process() {
            self.network.power_off(host);
            self.hosts[host].stop();
            self.hosts[host].disk.crash(&SeededRng::new(self.rng.next_u64()));
        }
    }

    /// Ends a process as planned: its agent is told and may take its time. False if it took too long.
    pub fn end(&mut self, host: usize) -> bool {
        let Some(handle) = self.handle(host) else { return true };
        let mut ending = Box::pin(async move { handle.shutdown().await });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let is_done = self.until(5_000, |_| ending.as_mut().poll(&mut context).is_ready());
        self.kill(host);
        is_done
    }

    /// Starts a process where none runs, on a machine that is switched on if need be.
    pub fn restart(&mut self, host: usize) {
        if !self.hosts[host].has_process() {
            self.network.power_on(host);
            self.hosts[host].start(&self.network);
        }
    }

    /// A machine without a process gets another address and client port.
    pub fn relocate(&mut self, host: usize, addr: IpAddr, port: u16) {
        self.network.set_addr(host, addr);
        self.hosts[host].move_to(addr, port);
    }

    /// A machine without a process loses all its files.
    pub fn empty_disk(&mut self, host: usize) {
        let disk = crate::host::new_disk();
        disk.set_holes(true);
        self.hosts[host].disk = disk;
    }

    /// The run has failed for a reason that no invariant sees.
    pub(crate) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// Nothing passes between the two hosts.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_oneway(a, b);
        self.cut_oneway(b, a);
    }

    /// Nothing gets from the one to the other.
    pub fn cut_oneway(&mut self, from: usize, to: usize) {
        self.network.cut(from, to);
    }

    /// Ends the cut between two hosts.
    pub fn mend(&mut self, a: usize, b: usize) {
        self.network.uncut(a, b);
        self.network.uncut(b, a);
    }

    /// Cuts a host off from all others.
    pub fn isolate(&mut self, host: usize) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            self.cut(host, other);
        }
    }

    /// Packets between the two hosts wait until `heal`.
    pub fn hold(&mut self, a: usize, b: usize) {
        self.network.hold(a, b);
        self.network.hold(b, a);
    }

    /// Ends all cuts and holds.
    pub fn heal(&mut self) {
        self.network.heal();
    }

    /// Longest delay of a packet from here on.
    pub fn set_latency_max(&mut self, ms: u64) {
        self.network.set_latency_max(ms);
    }

    /// Puts a request to the agent on a host; the answer appears in what is returned.
    pub fn ask(&self, host: usize, request: Request) -> Pending {
        let pending: Pending = Arc::default();
        let slot = pending.clone();
        let put = move |result| *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.admin.borrow_mut().asked(&self.hosts[host], &request, pending.clone());
        match self.handle(host) {
            Some(handle) => handle.submit(request, Box::new(put)),
            None => put(Err("not running".into())),
        }
        pending
    }

    /// Asks and steps until there is an answer.
    pub fn must(&mut self, host: usize, request: Request) {
        let pending = self.ask(host, request.clone());
        self.until(15_000, |_| answer(&pending).is_some());
        self.assert_safe();
        match answer(&pending) {
            Some(Ok(_)) => {}
            other => panic!("seed {}: host {host} {request:?}: {other:?}", self.seed),
        }
    }
}

/// A task of a simulated process that panics must end the run: remembers what it said.
fn catch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| *panics.borrow_mut() = Some(info.to_string()));
            before(info);
        }));
    });
}
