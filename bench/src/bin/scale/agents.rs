// SPDX-License-Identifier: BSD-3-Clause
//! The child process of `bench scale`: many data nodes' agents, the real code, on one thread. Their data plane is faked,
//! their state files are in memory. Takes orders as lines on stdin and answers each with one line on stdout; ends when
//! stdin does.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use pando_agent::{Agent, AgentConfig, AgentHandle, Answer, DataPlane, DataStatus, Request, Roles, SharedMaps};
use pando_env::{BoxFuture, Clock, Env, RealClock, SimDisk, SystemRng};
use pando_topology::{ClusterMap, NodeId, Role, SLOT_COUNT, Slot, SlotSet};
use tokio::sync::Semaphore;

use crate::counting::{Bytes, CountingNet};

/// Where every agent of a child listens; each has an address of its own.
const PORT: u16 = 7000;

#[derive(Args, Clone, Debug)]
pub struct ChildOptions {
    /// Number of the first agent; its address follows from it.
    #[arg(long)]
    first: usize,
    /// How many agents.
    #[arg(long)]
    count: usize,
    /// `host:client-port` of the roots.
    #[arg(long, value_delimiter = ',')]
    roots: Vec<String>,
    #[arg(long)]
    lease_ms: u64,
    /// How many join, or ask for something, at the same time.
    #[arg(long)]
    window: usize,
}

/// What all agents of the process share.
struct Shared {
    clock: RealClock,
    /// The primaries that will be killed.
    doomed: Mutex<HashSet<NodeId>>,
    is_armed: AtomicBool,
    /// The maps that were looked at, by version: whether no shard has a doomed primary. Agents have several versions at a time.
    healed: Mutex<HashMap<u64, bool>>,
}

impl Shared {
    fn is_healed(&self, map: &ClusterMap) -> bool {
        let is_healed = || {
            let doomed = lock(&self.doomed);
            !map.shards().values().any(|shard| doomed.contains(&shard.primary))
        };
        *lock(&self.healed).entry(map.version().get()).or_insert_with(is_healed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct PlaneState {
    view: Option<(Arc<ClusterMap>, NodeId)>,
    lease_until_ms: u64,
    cluster_ok: bool,
}

/// A data plane without data: it is always in sync, and notes what it is told and when.
struct Plane {
    shared: Arc<Shared>,
    state: Mutex<PlaneState>,
    /// When it first had a map in which every shard has a living primary.
    healed_ms: AtomicU64,
    /// When it last began to hold a lease.
    active_ms: AtomicU64,
}

impl DataPlane for Plane {
    fn topology(&self, map: Arc<ClusterMap>, me: NodeId) {
        if self.shared.is_armed.load(Ordering::Relaxed)
            && self.healed_ms.load(Ordering::Relaxed) == 0
            && self.shared.is_healed(&map)
        {
            self.healed_ms.store(self.shared.clock.now_ms(), Ordering::Relaxed);
        }
        lock(&self.state).view = Some((map, me));
    }

    fn lease(&self, until_boottime_ms: u64, cluster_ok: bool) {
        let now = self.shared.clock.now_ms();
        let mut state = lock(&self.state);
        if state.lease_until_ms <= now && until_boottime_ms > now {
            self.active_ms.store(now, Ordering::Relaxed);
        }
        state.lease_until_ms = until_boottime_ms;
        state.cluster_ok = cluster_ok;
    }

    fn status(&self) -> DataStatus {
        DataStatus { replid: [b'a'; 40], offset: 1000, link_up: true, synced: true, ..DataStatus::default() }
    }

    fn publish(&self, _channel: &[u8], _message: &[u8], _sharded: bool) {}

    fn pause_writes(&self, _until_boottime_ms: Option<u64>) -> pando_env::BoxFuture<'static, u64> {
        Box::pin(std::future::ready(1000))
    }

    fn reached(&self, _offset: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Member {
    handle: AgentHandle,
    plane: Arc<Plane>,
}

/// Runs the child until its parent lets go of it.
pub fn run(options: &ChildOptions) -> Result<(), String> {
    // As in a server: agents that had to wait for the roots would be late with their heartbeats.
    pando_env::make_this_thread_urgent().ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let (orders, mut ordered) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if orders.send(line).is_err() {
                return;
            }
        }
    });
    runtime.block_on(async {
        let mut child = Child::new(options.clone());
        while let Some(order) = ordered.recv().await {
            let (word, rest) = order.split_once(' ').unwrap_or((&order, ""));
            let words = || rest.split_whitespace();
            let answer = match word {
                "join" => child.join().await,
                "ids" => child.ids(),
                "slots" => child.slots(words()).await,
                "replicate" => child.replicate(words()).await,
                "agree" => child.agree(words()),
                "bytes" => Ok(child.bytes.list()),
                "doom" => child.doom(words()),
                "healed" => Ok(child.healed()),
                other => Err(format!("unknown order {other}")),
            };
            let line = answer.unwrap_or_else(|error| format!("error {}", error.replace('\n', " ")));
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                break;
            }
        }
        Ok(())
    })
}

struct Child {
    options: ChildOptions,
    shared: Arc<Shared>,
    bytes: Arc<Bytes>,
    members: Vec<Member>,
}

fn address(index: usize) -> IpAddr {
    let index = u32::try_from(index).unwrap_or(0);
    // 127.1.0.1 and following, without the last octets 0 and 255.
    Ipv4Addr::new(127, 1, (index / 250) as u8, (index % 250 + 1) as u8).into()
}

impl Child {
    fn new(options: ChildOptions) -> Self {
        let shared = Shared {
            clock: RealClock,
            doomed: Mutex::default(),
            is_armed: AtomicBool::new(false),
            healed: Mutex::default(),
        };
        Self { options, shared: Arc::new(shared), bytes: Arc::default(), members: Vec::new() }
    }

    async fn join(&mut self) -> Result<String, String> {
        let window = Arc::new(Semaphore::new(self.options.window));
        let mut tasks = Vec::new();
        let maps = SharedMaps::between_agents();
        for index in self.options.first..self.options.first + self.options.count {
            let host = address(index);
            let env = Env {
                net: Arc::new(CountingNet::new(self.bytes.clone(), host)),
                // One for each: to remove a folder it looks at all its files.
                disk: Arc::new(SimDisk::new()),
                clock: Arc::new(RealClock),
                rng: Arc::new(SystemRng),
            };
            let host = host.to_string();
            let config = AgentConfig {
                bind: host.clone(),
                host,
                port: PORT,
                cluster_port: PORT,
                dir: format!("/{index}").into(),
                roles: Roles { data: true, root: false },
                roots: self.options.roots.clone(),
                lease_ms: self.options.lease_ms,
                // Planned ones are of no interest here, and the slots come after the nodes.
                require_full_coverage: false,
                maps: maps.clone(),
                ..AgentConfig::default()
            };
            let plane = Arc::new(Plane {
                shared: self.shared.clone(),
                state: Mutex::default(),
                healed_ms: AtomicU64::new(0),
                active_ms: AtomicU64::new(0),
            });
            let window = window.clone();
            tasks.push(tokio::spawn(async move {
                let _permit = window.acquire().await.map_err(|e| e.to_string())?;
                let handle = Agent::start(config, plane.clone(), env).await.map_err(|e| e.to_string())?;
                let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
                loop {
                    if lock(&plane.state).view.as_ref().is_some_and(|(map, _)| map.nodes().len() > 1) {
                        return Ok::<Member, String>(Member { handle, plane });
                    }
                    if tokio::time::Instant::now() >= deadline {
                        return Err("an agent has not joined within 300 s".into());
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }));
        }
        for task in tasks {
            self.members.push(task.await.map_err(|e| e.to_string())??);
        }
        Ok(format!("joined {}", self.members.len()))
    }

    fn ids(&self) -> Result<String, String> {
        let ids = self.members.iter().map(|member| {
            let state = lock(&member.plane.state);
            state.view.as_ref().map(|(_, me)| me.to_string()).ok_or("an agent has no map")
        });
        let ids: Result<Vec<String>, _> = ids.collect();
        Ok(format!("ids {}", ids?.join(" ")))
    }

    /// Sends one request for each agent, as many at a time as the window allows.
    async fn ask_all(&self, requests: Vec<Request>) -> Result<String, String> {
        let window = Arc::new(Semaphore::new(self.options.window));
        let mut tasks = Vec::new();
        for (member, request) in self.members.iter().zip(requests) {
            let (handle, window) = (member.handle.clone(), window.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = window.acquire().await.map_err(|e| e.to_string())?;
                let mut last = String::new();
                // An outcome that is not known in time is asked for again: all these requests may be repeated.
                for _ in 0..20 {
                    match handle.ask(request.clone()).await {
                        Ok(Answer::Ok) => return Ok(()),
                        Ok(other) => return Err(format!("{other:?}")),
                        Err(text) if text.contains("already busy") => return Ok(()),
                        Err(text) => last = text,
                    }
                }
                Err(last)
            }));
        }
        for task in tasks {
            task.await.map_err(|e| e.to_string())??;
        }
        Ok("done".into())
    }

    /// `slots FIRST OF`: the agents are the shards FIRST and following of that many.
    async fn slots<'a>(&self, mut words: impl Iterator<Item = &'a str>) -> Result<String, String> {
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).ok_or("slots FIRST OF");
        let (first, of) = (number()?, number()?);
        let slots = |shard: usize| -> SlotSet {
            let range = shard * SLOT_COUNT / of..(shard + 1) * SLOT_COUNT / of;
            range.filter_map(|slot| Slot::new(u16::try_from(slot).ok()?)).collect()
        };
        let requests = (0..self.members.len()).map(|index| Request::AddSlots(slots(first + index))).collect();
        self.ask_all(requests).await
    }

    /// `replicate ID …`: the primary of each agent in turn.
    async fn replicate<'a>(&self, words: impl Iterator<Item = &'a str>) -> Result<String, String> {
        let requests: Option<Vec<Request>> = words.map(|word| word.parse().ok().map(Request::Replicate)).collect();
        self.ask_all(requests.ok_or("replicate ID …")?).await
    }

    /// `agree NODES SHARDS`: how many agents have a map of that size, with all slots, and those of them whose
    /// role is served: a primary with its lease, a replica in a cluster that is well.
    fn agree<'a>(&self, mut words: impl Iterator<Item = &'a str>) -> Result<String, String> {
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).ok_or("agree NODES SHARDS");
        let (nodes, shards) = (number()?, number()?);
        let now = self.shared.clock.now_ms();
        let (mut agreeing, mut serving, mut version) = (0, 0, 0);
        for member in &self.members {
            let state = lock(&member.plane.state);
            let Some((map, me)) = &state.view else { continue };
            version = version.max(map.version().get());
            if map.nodes().len() == nodes && map.size() == shards && map.slots_assigned() == SLOT_COUNT {
                agreeing += 1;
                let is_served = match map.role_of(me) {
                    Some(Role::Primary) => state.lease_until_ms > now,
                    _ => state.cluster_ok,
                };
                serving += usize::from(is_served);
            }
        }
        Ok(format!("agree {agreeing} {serving} {version}"))
    }

    fn doom<'a>(&self, words: impl Iterator<Item = &'a str>) -> Result<String, String> {
        let doomed: Option<HashSet<NodeId>> = words.map(|word| word.parse().ok()).collect();
        *lock(&self.shared.doomed) = doomed.ok_or("doom ID …")?;
        lock(&self.shared.healed).clear();
        for member in &self.members {
            member.plane.active_ms.store(0, Ordering::Relaxed);
        }
        self.shared.is_armed.store(true, Ordering::Relaxed);
        Ok("done".into())
    }

    /// How many agents have a healed map, when the last of them got it, how many became active, and when the last.
    fn healed(&self) -> String {
        let times = |time: fn(&Plane) -> &AtomicU64| {
            let times = self.members.iter().map(move |member| time(&member.plane).load(Ordering::Relaxed));
            let known: Vec<u64> = times.filter(|time| *time > 0).collect();
            (known.len(), known.into_iter().max().unwrap_or(0))
        };
        let (healed, last) = times(|plane| &plane.healed_ms);
        let (active, last_active) = times(|plane| &plane.active_ms);
        format!("healed {healed} {last} {active} {last_active}")
    }
}
