// SPDX-License-Identifier: BSD-3-Clause
//! The simulated cluster: hosts, their disks and data planes, the faults that can be done to them,
//! and one step of everything. Scenarios and random runs are in `tests/`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use pando_agent::{Agent, AgentConfig, AgentHandle, Answer, Request, Roles};
use pando_env::{Clock, Env, Rng, SeededRng, SimDisk};
use pando_topology::{NodeId, Role, Slot, SlotSet};
use turmoil::Sim;

use crate::invariants::{self, Invariant, Seen};
use crate::net::{Cuts, SimNet};
use crate::plane::FakePlane;

/// Client port of every host; the cluster port is 10000 above.
pub const PORT: u16 = 6379;
/// Length of promises in simulated clusters: shorter than in production, so that runs are shorter.
pub const LEASE_MS: u64 = 600;
/// Virtual time of one step.
const TICK: Duration = Duration::from_millis(1);
/// How far a replica lags behind its primary.
const REPLICATION_LAG_MS: u64 = 5;

/// Virtual time since the start of the simulation, the same on all hosts.
struct SimClock {
    unix_offset_ms: u64,
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        // Not zero at the start, as no machine's clock is.
        1_000_000 + turmoil::sim_elapsed().unwrap_or_default().as_millis() as u64
    }

    fn unix_ms(&self) -> u64 {
        self.unix_offset_ms + self.now_ms()
    }
}

/// The answer slot of a request.
pub type Pending = Arc<Mutex<Option<Result<Answer, String>>>>;

struct Host {
    name: String,
    addr: IpAddr,
    disk: SimDisk,
    plane: FakePlane,
    handle: Rc<RefCell<Option<AgentHandle>>>,
    is_running: bool,
    /// Offsets of this host's plane, by time; what replicas can have pulled.
    history: Vec<(u64, u64)>,
}

/// See the head of this file.
pub struct World<'a> {
    sim: Sim<'a>,
    hosts: Vec<Host>,
    cuts: Cuts,
    rng: SeededRng,
    invariants: Vec<Box<dyn Invariant>>,
    trace: std::collections::hash_map::DefaultHasher,
    last_traced: BTreeMap<usize, (u64, bool)>,
    /// What broke, if anything did; a run stops there.
    pub failure: Option<String>,
    seed: u64,
}

impl<'a> World<'a> {
    /// `count` hosts that all run; each is an island at first.
    pub fn new(seed: u64, count: usize) -> Self {
        Self::with_config(seed, count, |_, _| {})
    }

    /// As `new`, with a say in each host's configuration.
    pub fn with_config(seed: u64, count: usize, adjust: impl Fn(usize, &mut AgentConfig) + 'static) -> Self {
        let mut builder = turmoil::Builder::new();
        builder
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(3))
            .tcp_capacity(4096)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .rng_seed(seed);
        let mut sim = builder.build();
        let cuts = Cuts::default();
        let adjust = Rc::new(adjust);
        let mut hosts = Vec::new();
        for index in 0..count {
            let name = format!("n{index}");
            let disk = SimDisk::with_sync_latency(Duration::from_millis(1));
            let plane = FakePlane::default();
            let handle: Rc<RefCell<Option<AgentHandle>>> = Rc::default();
            let addr = sim.lookup(name.as_str());
            let mut config = AgentConfig {
                host: addr.to_string(),
                port: PORT,
                cluster_port: PORT + 10000,
                dir: "/data".into(),
                roles: Roles { data: true, root: true },
                lease_ms: LEASE_MS,
                ..AgentConfig::default()
            };
            adjust(index, &mut config);
            let (cuts, disk_in, plane_in, handle_in) = (cuts.clone(), disk.clone(), plane.clone(), handle.clone());
            let starts = Rc::new(RefCell::new(0u64));
            sim.host(name.as_str(), move || {
                let (config, plane, handle) = (config.clone(), plane_in.clone(), handle_in.clone());
                *starts.borrow_mut() += 1;
                // A stream of its own for each process, or a restart would repeat its ids.
                let process_seed = seed ^ ((index as u64 + 1) << 40) ^ (*starts.borrow() << 52);
                let env = Env {
                    net: Arc::new(SimNet::new(cuts.clone(), addr)),
                    disk: Arc::new(disk_in.clone()),
                    clock: Arc::new(SimClock { unix_offset_ms: 1_700_000_000_000 }),
                    rng: Arc::new(SeededRng::new(process_seed)),
                };
                async move {
                    let started = Agent::start(config, Arc::new(plane), env).await;
                    *handle.borrow_mut() = Some(started.map_err(|error| error.to_string())?);
                    std::future::pending::<()>().await;
                    Ok(())
                }
            });
            hosts.push(Host { name, addr, disk, plane, handle, is_running: true, history: Vec::new() });
        }
        World {
            sim,
            hosts,
            cuts,
            rng: SeededRng::new(seed ^ 0x5eed),
            invariants: invariants::all(),
            trace: Default::default(),
            last_traced: BTreeMap::new(),
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

    /// Milliseconds, as the hosts' clocks show them.
    pub fn now_ms(&self) -> u64 {
        1_000_000 + self.sim.elapsed().as_millis() as u64
    }

    /// Hash of everything that was visible; equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    /// A host's data plane.
    pub fn plane(&self, host: usize) -> &FakePlane {
        &self.hosts[host].plane
    }

    /// A host's address.
    pub fn addr(&self, host: usize) -> IpAddr {
        self.hosts[host].addr
    }

    /// A host's process runs.
    pub fn is_running(&self, host: usize) -> bool {
        self.hosts[host].is_running
    }

    /// The node on a host, by its own view.
    pub fn node_id(&self, host: usize) -> Option<NodeId> {
        self.hosts[host].plane.state().view.as_ref().map(|(_, me)| *me)
    }

    /// The agent on a host, if it has started.
    pub fn handle(&self, host: usize) -> Option<AgentHandle> {
        self.hosts[host].handle.borrow().clone()
    }

    /// The host that accepts writes for the slot at this moment.
    pub fn writer_of(&self, slot: Slot) -> Option<usize> {
        let now = self.now_ms();
        (0..self.hosts.len()).filter(|host| self.hosts[*host].is_running).find(|host| {
            let state = self.hosts[*host].plane.state();
            let Some((shard, _)) = state.accepts(now) else { return false };
            let map = state.view.as_ref().map(|(map, _)| map.clone());
            map.is_some_and(|map| map.shard(&shard).is_some_and(|shard| shard.slots.contains(slot)))
        })
    }

    /// One millisecond for everybody, then the checks.
    pub fn step(&mut self) {
        if self.failure.is_some() {
            return;
        }
        if let Err(error) = self.sim.step() {
            self.failure = Some(format!("a host stopped: {error}"));
            return;
        }
        self.write_and_replicate();
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

    fn seen(&self) -> Vec<Seen> {
        let each = self.hosts.iter().enumerate();
        each.map(|(host, h)| Seen { host, is_running: h.is_running, plane: h.plane.state().clone() }).collect()
    }

    fn check(&mut self) {
        let (now, seen) = (self.now_ms(), self.seen());
        for invariant in &mut self.invariants {
            if let Err(failure) = invariant.check(now, &seen) {
                self.failure = Some(failure);
                return;
            }
        }
    }

    /// Every process that may write does so once per step; replicas pull with a lag.
    fn write_and_replicate(&mut self) {
        let now = self.now_ms();
        for host in &mut self.hosts {
            let mut state = host.plane.state();
            if host.is_running && state.accepts(now).is_some() {
                state.offset += 1;
            }
            let offset = state.offset;
            drop(state);
            host.history.push((now, offset));
            if host.history.len() > 64 {
                host.history.remove(0);
            }
        }
        let by_id: BTreeMap<NodeId, usize> =
            (0..self.hosts.len()).filter_map(|host| Some((self.node_id(host)?, host))).collect();
        for host in 0..self.hosts.len() {
            let Some((map, me)) = self.hosts[host].plane.state().view.clone() else { continue };
            if !self.hosts[host].is_running || map.role_of(&me) != Some(Role::Replica) {
                continue;
            }
            let Some(shard) = map.shard_of(&me) else { continue };
            let source = by_id.get(&shard.primary).copied().filter(|source| {
                let is_primary = self.hosts[*source]
                    .plane
                    .state()
                    .view
                    .as_ref()
                    .is_some_and(|(map, id)| map.role_of(id) == Some(Role::Primary));
                self.hosts[*source].is_running
                    && is_primary
                    && !self.cuts.is_cut(self.hosts[host].addr, self.hosts[*source].addr)
            });
            let pulled = source.and_then(|source| {
                let old_enough = |(at, _): &&(u64, u64)| *at + REPLICATION_LAG_MS <= now;
                self.hosts[source].history.iter().rev().find(old_enough).map(|(_, offset)| *offset)
            });
            let mut state = self.hosts[host].plane.state();
            match pulled {
                Some(offset) => {
                    state.offset = offset;
                    state.link_up = true;
                    state.synced_reign = Some(shard.reign);
                }
                None => state.link_up = false,
            }
        }
    }

    fn trace_step(&mut self) {
        let now = self.now_ms();
        for (index, host) in self.hosts.iter().enumerate() {
            let state = host.plane.state();
            let version = state.view.as_ref().map_or(0, |(map, _)| map.version().get());
            let entry = (version, state.accepts(now).is_some());
            if self.last_traced.get(&index) != Some(&entry) {
                self.last_traced.insert(index, entry);
                self.trace.write_u64(now);
                self.trace.write_usize(index);
                self.trace.write_u64(entry.0);
                self.trace.write_u64(state.lease_until_ms);
                self.trace.write_u8(u8::from(entry.1));
            }
        }
    }

    /// Kills a process; its disk loses what was not synced.
    pub fn crash(&mut self, host: usize) {
        if !self.hosts[host].is_running {
            return;
        }
        self.sim.crash(self.hosts[host].name.as_str());
        self.cuts.kill(self.hosts[host].addr, self.hosts.iter().map(|host| host.addr));
        let rng = SeededRng::new(self.rng.next_u64());
        let target = &mut self.hosts[host];
        *target.handle.borrow_mut() = None;
        target.disk.crash(&rng);
        target.plane.crash();
        target.history.clear();
        target.is_running = false;
    }

    /// Starts a process that was killed.
    pub fn restart(&mut self, host: usize) {
        if !self.hosts[host].is_running {
            self.sim.bounce(self.hosts[host].name.as_str());
            self.cuts.start(self.hosts[host].addr);
            self.hosts[host].is_running = true;
        }
    }

    /// Nothing passes between the two hosts.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_oneway(a, b);
        self.cut_oneway(b, a);
    }

    /// Nothing gets from the one to the other.
    pub fn cut_oneway(&mut self, from: usize, to: usize) {
        let (from, to) = (self.hosts[from].addr, self.hosts[to].addr);
        self.cuts.cut(from, to);
        self.sim.partition_oneway(from, to);
    }

    /// Cuts a host off from all others.
    pub fn isolate(&mut self, host: usize) {
        for other in 0..self.hosts.len() {
            if other != host {
                self.cut(host, other);
            }
        }
    }

    /// Packets between the two hosts wait until `heal`.
    pub fn hold(&mut self, a: usize, b: usize) {
        self.sim.hold(self.hosts[a].addr, self.hosts[b].addr);
    }

    /// Ends all cuts and holds.
    pub fn heal(&mut self) {
        self.cuts.heal();
        for a in 0..self.hosts.len() {
            for b in a + 1..self.hosts.len() {
                let (a, b) = (self.hosts[a].addr, self.hosts[b].addr);
                self.sim.release(a, b);
                self.sim.repair(a, b);
            }
        }
    }

    /// Longest delay of a packet from here on.
    pub fn set_latency_max(&mut self, ms: u64) {
        self.sim.set_max_message_latency(Duration::from_millis(ms));
    }

    /// Puts a request to the agent on a host; the answer appears in what is returned.
    pub fn ask(&self, host: usize, request: Request) -> Pending {
        let pending: Pending = Arc::default();
        let slot = pending.clone();
        match self.handle(host) {
            Some(handle) => handle.submit(
                request,
                Box::new(move |result| {
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }),
            ),
            None => *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err("not running".into())),
        }
        pending
    }

    /// Asks and steps until there is an answer.
    pub fn must(&mut self, host: usize, request: Request) {
        let pending = self.ask(host, request.clone());
        let read = |pending: &Pending| pending.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.until(15_000, |_| read(&pending).is_some());
        self.assert_safe();
        match read(&pending) {
            Some(Ok(_)) => {}
            other => panic!("seed {}: host {host} {request:?}: {other:?}", self.seed),
        }
    }

    /// Waits for all agents, then makes one cluster of them: the first `primaries` hosts own the
    /// slots, the others follow them in turn.
    pub fn form(&mut self, primaries: usize) {
        self.form_unsettled(primaries);
        let formed = self.until(20_000, World::has_converged);
        self.assert_safe();
        assert!(formed, "seed {}: the cluster did not form: {}", self.seed, self.describe());
    }

    /// As `form`, but does not wait until the roots are settled.
    pub fn form_unsettled(&mut self, primaries: usize) {
        let count = self.hosts.len();
        let started = self.until(5_000, |w| (0..count).all(|host| w.handle(host).is_some()));
        self.assert_safe();
        assert!(started, "seed {}: not all agents started", self.seed);
        for host in 0..primaries {
            self.must(host, Request::AddSlots(share(host, primaries)));
        }
        for host in 1..count {
            let target = self.hosts[0].addr.to_string();
            self.must(host, Request::Meet { host: target, port: PORT, cluster_port: 0 });
        }
        for host in primaries..count {
            let primary = self.node_id(host % primaries).expect("the primary has a view");
            self.must(host, Request::Replicate(primary));
        }
    }

    /// All run, have one map with three settled roots, nobody is failed, and every slot is served.
    pub fn has_converged(&self) -> bool {
        let mut common = None;
        for host in &self.hosts {
            let state = host.plane.state();
            let Some((map, _)) = &state.view else { return false };
            let key = (map.cluster_id(), map.version());
            if *common.get_or_insert(key) != key || !host.is_running || !state.cluster_ok {
                return false;
            }
            let roots = map.roots();
            let is_settled = roots.previous.is_none() && roots.voters.len() == 3.min(self.hosts.len()) | 1;
            if !is_settled || map.nodes().len() != self.hosts.len() {
                return false;
            }
            if map.nodes().values().any(|node| node.failed) || map.slots_assigned() < pando_topology::SLOT_COUNT {
                return false;
            }
        }
        let Some((map, _)) = self.hosts[0].plane.state().view.clone() else { return false };
        map.shards()
            .values()
            .filter(|shard| !shard.slots.is_empty())
            .all(|shard| shard.slots.first().is_some_and(|slot| self.writer_of(slot).is_some()))
    }

    /// One line per host, for failures.
    pub fn describe(&self) -> String {
        let now = self.now_ms();
        let mut text = format!("at {now} ms");
        for (index, host) in self.hosts.iter().enumerate() {
            let state = host.plane.state();
            let info = self.handle(index).map(|handle| handle.info()).unwrap_or_default();
            let map = state.view.as_ref().map(|(map, _)| map);
            text.push_str(&format!(
                "\n  {} runs={} me={:?} version={:?} nodes={:?} failed={:?} roots={:?}/{} ok={} lease={} leader={:?} term={} offset={} shards={:?}",
                host.name,
                host.is_running,
                state.view.as_ref().map(|(_, me)| me.to_string()[..6].to_owned()),
                map.map(|map| map.version().get()),
                map.map(|map| map.nodes().len()),
                map.map(|map| map.nodes().values().filter(|n| n.failed).map(|n| n.id.to_string()[..6].to_owned()).collect::<Vec<_>>()),
                map.map(|map| map.roots().voters.len()),
                map.is_some_and(|map| map.roots().previous.is_some()),
                state.cluster_ok,
                state.lease_until_ms as i128 - i128::from(now),
                info.leader.map(|id| id.to_string()[..6].to_owned()),
                info.term,
                state.offset,
                map.map(|map| map.shards().values().map(|s| (s.primary.to_string()[..6].to_owned(), s.epoch, s.replicas.len(), s.slots.len())).collect::<Vec<_>>()),
            ));
        }
        text
    }
}

/// The slots of one of `count` primaries.
pub fn share(index: usize, count: usize) -> SlotSet {
    let total = pando_topology::SLOT_COUNT;
    let mut slots = SlotSet::new();
    for slot in index * total / count..(index + 1) * total / count {
        slots.insert(Slot::new(slot as u16).expect("below the count"));
    }
    slots
}
