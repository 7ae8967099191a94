// SPDX-License-Identifier: BSD-3-Clause
//! Agents over loopback, each on a runtime of its own, so that one can be killed: islands meet and
//! become a cluster with three roots, a primary is replaced, everything comes back after a restart.
//! The data plane only records what it is told. Faults of the network are the simulator's business.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pando_agent::{Agent, AgentConfig, AgentHandle, Answer, DataPlane, DataStatus, FailoverMode, Request};
use pando_env::{Clock, Env, RealClock, SimDisk, SystemRng, TcpNet};
use pando_topology::{ClusterMap, NodeId, Role, SLOT_COUNT, Slot, SlotSet};

const LEASE_MS: u64 = 1500;

#[derive(Default)]
struct Recorded {
    view: Option<(Arc<ClusterMap>, NodeId)>,
    lease_until_ms: u64,
    cluster_ok: bool,
    published: Vec<Vec<u8>>,
    paused: bool,
}

#[derive(Clone, Default)]
struct Plane(Arc<Mutex<Recorded>>);

impl Plane {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().expect("no test panics with the lock")
    }
}

impl DataPlane for Plane {
    fn topology(&self, map: Arc<ClusterMap>, me: NodeId) {
        self.lock().view = Some((map, me));
    }

    fn lease(&self, until_boottime_ms: u64, cluster_ok: bool) {
        let mut state = self.lock();
        state.lease_until_ms = until_boottime_ms;
        state.cluster_ok = cluster_ok;
    }

    fn status(&self) -> DataStatus {
        DataStatus { link_up: true, synced: true, offset: 7, ..DataStatus::default() }
    }

    fn publish(&self, _channel: &[u8], message: &[u8], _sharded: bool) {
        self.lock().published.push(message.to_vec());
    }

    fn reached(&self, _offset: u64) -> pando_env::BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn pause_writes(&self, until_boottime_ms: Option<u64>) -> pando_env::BoxFuture<'static, u64> {
        self.lock().paused = until_boottime_ms.is_some();
        Box::pin(std::future::ready(7))
    }
}

struct Node {
    config: AgentConfig,
    disk: SimDisk,
    plane: Plane,
    running: Option<(tokio::runtime::Runtime, AgentHandle)>,
}

impl Node {
    fn new(name: &str, adjust: impl FnOnce(&mut AgentConfig)) -> Self {
        let mut config = AgentConfig {
            host: "127.0.0.1".into(),
            bind: "127.0.0.1".into(),
            port: 1,
            cluster_port: free_port(),
            dir: format!("/{name}").into(),
            lease_ms: LEASE_MS,
            ..AgentConfig::default()
        };
        adjust(&mut config);
        let mut node = Self { config, disk: SimDisk::new(), plane: Plane::default(), running: None };
        node.start();
        node
    }

    fn start(&mut self) {
        let env = Env {
            net: Arc::new(TcpNet),
            disk: Arc::new(self.disk.clone()),
            clock: Arc::new(RealClock),
            rng: Arc::new(SystemRng),
        };
        self.plane = Plane::default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let started = Agent::start(self.config.clone(), Arc::new(self.plane.clone()), env);
        let handle = runtime.block_on(started).expect("the agent starts");
        self.running = Some((runtime, handle));
    }

    /// What SIGKILL does to the agent.
    fn kill(&mut self) {
        let (runtime, _) = self.running.take().expect("it runs");
        runtime.shutdown_timeout(Duration::from_secs(2));
    }

    fn handle(&self) -> &AgentHandle {
        &self.running.as_ref().expect("it runs").1
    }

    fn ask(&self, request: Request) -> Result<Answer, String> {
        let (runtime, handle) = self.running.as_ref().expect("it runs");
        runtime.block_on(handle.ask(request))
    }

    fn meet(&self, other: &Node) {
        let cluster_port = other.config.cluster_port;
        let request = Request::Meet { host: "127.0.0.1".into(), port: 1, cluster_port };
        assert_eq!(self.ask(request), Ok(Answer::Ok));
    }

    fn map(&self) -> Option<Arc<ClusterMap>> {
        self.plane.lock().view.as_ref().map(|(map, _)| map.clone())
    }

    fn id(&self) -> NodeId {
        self.plane.lock().view.as_ref().expect("a view").1
    }

    /// Accepts writes now.
    fn writes(&self) -> bool {
        let state = self.plane.lock();
        let is_primary = state.view.as_ref().is_some_and(|(map, me)| map.role_of(me) == Some(Role::Primary));
        self.running.is_some() && is_primary && RealClock.now_ms() < state.lease_until_ms
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn slots(index: usize, count: usize) -> SlotSet {
    let mut slots = SlotSet::new();
    for slot in index * SLOT_COUNT / count..(index + 1) * SLOT_COUNT / count {
        slots.insert(Slot::new(slot as u16).expect("in range"));
    }
    slots
}

/// Waits for a condition, and says how long it took.
fn within(limit: Duration, what: &str, nodes: &[Node], test: impl Fn(&[Node]) -> bool) -> Duration {
    let start = Instant::now();
    while !test(nodes) {
        if start.elapsed() > limit {
            for node in nodes {
                let state = node.plane.lock();
                let info = node.running.as_ref().map(|(_, handle)| handle.info());
                eprintln!(
                    "me={:?} ok={} lease={} info={info:?}\n  map={:?}",
                    state.view.as_ref().map(|(_, me)| *me),
                    state.cluster_ok,
                    state.lease_until_ms as i128 - i128::from(RealClock.now_ms()),
                    state.view.as_ref().map(|(map, _)| (map.version(), map.nodes().len(), map.roots().clone())),
                );
            }
            panic!("not within {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

fn formed(nodes: &[Node], roots: usize) -> bool {
    let version = nodes[0].map().map(|map| map.version());
    nodes.iter().all(|node| {
        let Some(map) = node.map() else { return false };
        Some(map.version()) == version
            && map.nodes().len() == nodes.len()
            && map.roots().voters.len() == roots
            && map.roots().previous.is_none()
            && map.nodes().values().all(|node| !node.failed)
    })
}

/// `primaries` share the slots, the others follow them.
fn cluster(count: usize, primaries: usize) -> Vec<Node> {
    let nodes: Vec<Node> = (0..count).map(|index| Node::new(&format!("n{index}"), |_| {})).collect();
    let start = Instant::now();
    for (index, node) in nodes.iter().enumerate().take(primaries) {
        assert_eq!(node.ask(Request::AddSlots(slots(index, primaries))), Ok(Answer::Ok));
    }
    for node in &nodes[1..] {
        nodes[0].meet(node);
    }
    for (index, node) in nodes.iter().enumerate().skip(primaries) {
        let primary = nodes[index % primaries].id();
        assert_eq!(node.ask(Request::Replicate(primary)), Ok(Answer::Ok));
    }
    within(Duration::from_secs(5), "all primaries write", &nodes, |nodes| {
        nodes.iter().take(primaries).all(|node| node.writes() && node.plane.lock().cluster_ok)
    });
    println!("{count} nodes, {primaries} primaries: all writable after {:?}", start.elapsed());
    within(Duration::from_secs(10), "one map with settled roots", &nodes, |nodes| formed(nodes, 3));
    println!("{count} nodes, {primaries} primaries: settled after {:?}", start.elapsed());
    nodes
}

#[test]
fn an_island_serves_its_slots_alone() {
    let nodes = [Node::new("island", |config| config.host = String::new())];
    assert_eq!(nodes[0].ask(Request::AddSlots(slots(0, 1))), Ok(Answer::Ok));
    let refused = nodes[0].ask(Request::AddSlots(slots(0, 2)));
    assert_eq!(refused, Err("ERR Slot 0 is already busy".into()));
    within(Duration::from_secs(3), "it writes", &nodes, |nodes| nodes[0].writes() && nodes[0].plane.lock().cluster_ok);
    assert!(matches!(nodes[0].ask(Request::ReadBarrier), Ok(Answer::Version(_))));
}

#[test]
fn three_islands_meet_and_become_one_cluster_with_three_roots() {
    let nodes = cluster(3, 3);
    let message: Arc<[u8]> = Arc::from(&b"hello"[..]);
    let publish = Request::Publish { channel: message.clone(), message, sharded: false };
    assert_eq!(nodes[0].ask(publish), Ok(Answer::Ok));
    within(Duration::from_secs(3), "the message arrives", &nodes, |nodes| {
        nodes[1..].iter().all(|node| node.plane.lock().published == [b"hello".to_vec()])
    });
    for node in &nodes {
        assert!(matches!(node.ask(Request::ReadBarrier), Ok(Answer::Version(_))));
    }
}

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let mut nodes = cluster(6, 3);
    let leader = nodes[0].handle().info().leader;
    let victim = (0..3).find(|index| Some(nodes[*index].id()) != leader).expect("one is no leader");
    let heir = victim + 3;
    within(Duration::from_secs(3), "the replica is known to be needed", &nodes, |nodes| nodes[victim].writes());
    // The primary tells its replica with each beat.
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    nodes[victim].kill();
    let killed = start.elapsed();
    within(Duration::from_secs(10), "the replica writes", &nodes, |nodes| nodes[heir].writes());
    println!("killed in {killed:?}, replaced after {:?}", start.elapsed());
    nodes[victim].start();
    within(Duration::from_secs(10), "it is back", &nodes, |nodes| {
        formed(nodes, 3)
            && nodes[victim].map().is_some_and(|map| map.role_of(&nodes[victim].id()) == Some(Role::Replica))
    });
    // And by request it becomes the primary again.
    within(Duration::from_secs(5), "the failover is accepted", &nodes, |nodes| {
        nodes[victim].ask(Request::Failover(FailoverMode::Planned)) == Ok(Answer::Ok)
    });
    let took = within(Duration::from_secs(5), "it writes", &nodes, |nodes| nodes[victim].writes());
    println!("writes {took:?} after a planned failover");
    within(Duration::from_secs(5), "the other one does not", &nodes, |nodes| {
        !nodes[heir].writes() && !nodes[heir].plane.lock().paused
    });
}

#[test]
fn all_nodes_restart_and_serve_again() {
    let mut nodes = cluster(4, 3);
    for node in &mut nodes {
        node.kill();
    }
    let start = Instant::now();
    for node in &mut nodes {
        node.start();
    }
    within(Duration::from_secs(15), "everything is served", &nodes, |nodes| {
        formed(nodes, 3)
            && (0..3).all(|index| nodes[index].writes() || nodes[3].writes())
            && nodes.iter().filter(|node| node.writes()).count() == 3
    });
    println!("served {:?} after all restarted", start.elapsed());
}

#[test]
fn the_leader_leaves_and_the_others_go_on() {
    let mut nodes = cluster(4, 3);
    let leader = nodes[3].handle().info().leader.expect("there is a leader");
    let index = nodes.iter().position(|node| node.id() == leader).expect("it is one of us");
    let (runtime, handle) = nodes[index].running.take().expect("it runs");
    runtime.block_on(handle.shutdown());
    let start = Instant::now();
    let other = (index + 1) % 3;
    let barrier = within(Duration::from_secs(5), "the others have a leader", &nodes, |nodes| {
        nodes[other].ask(Request::ReadBarrier).is_ok()
    });
    println!("leader handed over: first barrier {:?} ({barrier:?}) later", start.elapsed());
    drop(runtime);
}

#[test]
fn a_node_leaves_with_reset_and_can_be_forgotten() {
    let nodes = cluster(4, 3);
    let gone = nodes[3].id();
    assert_eq!(nodes[3].ask(Request::Reset { hard: true, as_replica: true }), Ok(Answer::Ok));
    within(Duration::from_secs(5), "it is an island", &nodes, |nodes| {
        nodes[3].map().is_some_and(|map| map.nodes().len() == 1) && nodes[3].id() != gone
    });
    within(Duration::from_secs(5), "the others know", &nodes, |nodes| {
        nodes[..3].iter().all(|node| node.map().is_some_and(|map| map.node(&gone).is_none()))
    });
    let me = nodes[0].id();
    let refused = nodes[0].ask(Request::Forget(me));
    assert_eq!(refused, Err("ERR I tried hard but I can't forget myself...".into()));
}

#[test]
fn roots_that_start_together_find_each_other() {
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let roots: Vec<String> = ports[..3].iter().map(|port| format!("127.0.0.1:{}", port - 10000)).collect();
    let start = Instant::now();
    let nodes: Vec<Node> = ports
        .iter()
        .map(|port| {
            Node::new(&format!("together{port}"), |config| {
                config.cluster_port = *port;
                config.port = port - 10000;
                config.roots = roots.clone();
                // The last one only holds data.
                config.roles.root = *port != ports[3];
            })
        })
        .collect();
    within(Duration::from_secs(10), "one cluster", &nodes, |nodes| formed(nodes, 3));
    println!("four nodes with a list of roots: settled after {:?}", start.elapsed());
    assert_eq!(nodes[3].ask(Request::AddSlots(slots(0, 1))), Ok(Answer::Ok));
    within(Duration::from_secs(3), "it writes", &nodes, |nodes| nodes[3].writes());
}

#[test]
fn the_only_root_of_two_nodes_leaves() {
    let nodes = [Node::new("a", |_| {}), Node::new("b", |_| {})];
    nodes[1].meet(&nodes[0]);
    let root = nodes.iter().position(|node| node.handle().info().is_leader).expect("one leads");
    assert_eq!(nodes[root].ask(Request::Reset { hard: false, as_replica: false }), Ok(Answer::Ok));
    within(Duration::from_secs(10), "both are alone", &nodes, |nodes| {
        nodes.iter().all(|node| node.map().is_some_and(|map| map.nodes().len() == 1))
    });
    let other = &nodes[1 - root];
    assert_eq!(other.ask(Request::AddSlots(slots(0, 1))), Ok(Answer::Ok));
}

/// Seconds of processor time that this process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// A measurement, not a check: `cargo test -p pando-agent -- --ignored --nocapture idle`.
#[test]
#[ignore = "measures for five seconds"]
fn what_an_idle_cluster_costs() {
    let _nodes = cluster(6, 3);
    let before = cpu_seconds();
    std::thread::sleep(Duration::from_secs(5));
    let used = cpu_seconds() - before;
    println!("six idle nodes: {:.2} % of one core together", used * 20.0);
}
