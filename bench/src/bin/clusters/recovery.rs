// SPDX-License-Identifier: BSD-3-Clause
//! kill -9 of primaries: how long until their slots take writes again and all survivors agree, while clients write to the
//! shards that lost nobody.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pando_procs::client::info_field;
use pando_procs::cluster::NodeLine;
use pando_procs::{Client, Software, eventually};
use pando_resp::decode::Value;
use pando_topology::Slot;

use crate::forming::World;

/// For everything to be well again after a fault.
const LIMIT: Duration = Duration::from_secs(60);
/// For the killed processes to be replicas in sync again.
const HEAL_LIMIT: Duration = Duration::from_secs(180);
/// The longest promise or timeout, and some: a fault is measured in a cluster that has forgotten the one before.
const REST: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A primary that is no root (of Valkey: any).
    One,
    /// The primary on the leading root's process.
    Leader,
    /// A third of the primaries, none of them a root where that is possible.
    Third,
    /// A third of the primaries, the leading root's process among them.
    ThirdWithLeader,
}

impl Fault {
    /// Those that make sense.
    pub fn of(software: Software, size: usize) -> Vec<Fault> {
        let all = [Fault::One, Fault::Leader, Fault::Third, Fault::ThirdWithLeader];
        let has_roots = software == Software::Pando;
        let makes_sense = |fault: &Fault| match fault {
            Fault::One => true,
            Fault::Leader => has_roots,
            // Of three primaries a third is one.
            Fault::Third => size > 6,
            Fault::ThirdWithLeader => size > 6 && has_roots,
        };
        all.into_iter().filter(makes_sense).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Fault::One => "a primary",
            Fault::Leader => "the leading root",
            Fault::Third => "a third",
            Fault::ThirdWithLeader => "a third and the leading root",
        }
    }

    /// From the table of issue 5, milliseconds.
    pub fn target_ms(self) -> &'static str {
        match self {
            Fault::One => "500",
            Fault::Leader | Fault::ThirdWithLeader => "1500",
            Fault::Third => "1000",
        }
    }
}

/// What a fault came to.
pub struct Recovery {
    /// Shards that lost their primaries.
    pub killed: usize,
    /// Until the first of them took a write.
    pub first_write: Duration,
    /// Until all of them had taken one.
    pub writes: Duration,
    /// Until every survivor saw all slots served by live primaries.
    pub agreed: Duration,
    pub others: Others,
}

/// How the shards fared that lost nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Others {
    pub writes: u64,
    /// Writes that got an error.
    pub refused: u64,
    /// The longest time for which one of them refused all writes.
    pub refusing: Duration,
    /// The longest time between two successful writes to one of them.
    pub gap: Duration,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "{} killed; writes after {:.0} to {:.0} ms, all agree after {:.0} ms; others: {} of {} writes refused, for {:.0} ms, gap {:.0} ms",
            self.killed,
            ms(self.first_write),
            ms(self.writes),
            ms(self.agreed),
            self.others.refused,
            self.others.writes + self.others.refused,
            ms(self.others.refusing),
            ms(self.others.gap)
        )
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// A shard before the fault.
struct Shard {
    /// Index of its process.
    primary: usize,
    primary_id: String,
    replica: usize,
    replica_port: u16,
    key: String,
}

/// Kills, measures, and waits until the killed processes are back.
///
/// # Errors
/// What did not happen in time.
pub fn measure(world: &mut World, fault: Fault) -> Result<Recovery, String> {
    std::thread::sleep(REST);
    let leader = match fault {
        Fault::Leader | Fault::ThirdWithLeader => Some(make_leader_primary(world)?),
        Fault::One | Fault::Third => None,
    };
    let shards = shards(world)?;
    let killed = choose(world, fault, leader, &shards)?;
    let is_killed = |shard: &&Shard| killed.contains(&shard.primary);
    let failed: Vec<&Shard> = shards.iter().filter(is_killed).collect();
    let whole: Vec<(u16, String)> = shards
        .iter()
        .filter(|shard| !is_killed(shard))
        .map(|shard| (world.cluster.nodes[shard.primary].port, shard.key.clone()))
        .collect();
    let probe = Probe::start(whole)?;
    let mut writers = Vec::new();
    for shard in &failed {
        writers.push(Some(Client::connect(shard.replica_port).map_err(text)?));
    }
    let survivors: Vec<usize> = (0..world.cluster.nodes.len()).filter(|index| !killed.contains(index)).collect();
    let mut clients = Vec::new();
    for &index in &survivors {
        clients.push(Client::connect(world.cluster.nodes[index].port).map_err(text)?);
    }
    // The probe has a picture of the cluster in good health first.
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    for &index in &killed {
        world.cluster.nodes[index].kill_now();
    }
    let result = recovered(start, &failed, &mut writers, &mut clients);
    // What comes late, such as a second election.
    std::thread::sleep(Duration::from_secs(1));
    let others = probe.stop()?;
    let (first_write, writes, agreed) = result?;
    for &index in &killed {
        world.cluster.nodes[index].restart_without_wait()?;
    }
    for &index in &killed {
        world.cluster.nodes[index].wait_ready()?;
    }
    world.wait_formed(HEAL_LIMIT).map_err(|reason| format!("the killed processes do not come back: {reason}"))?;
    Ok(Recovery { killed: killed.len(), first_write, writes, agreed, others })
}

fn recovered(
    start: Instant,
    failed: &[&Shard],
    writers: &mut [Option<Client>],
    clients: &mut [Client],
) -> Result<(Duration, Duration, Duration), String> {
    let mut first_write = None;
    while writers.iter().any(Option::is_some) {
        let mut last = String::new();
        for (shard, writer) in failed.iter().zip(writers.iter_mut()) {
            let Some(client) = writer else { continue };
            match client.text(&["SET", &shard.key, "after"]) {
                Ok(reply) if reply == "OK" => {
                    first_write.get_or_insert(start.elapsed());
                    *writer = None;
                }
                Ok(reply) => last = reply,
                Err(error) => {
                    last = error.to_string();
                    *client = Client::connect(shard.replica_port).map_err(text)?;
                }
            }
        }
        if start.elapsed() > LIMIT {
            return Err(format!("no write to a failed shard within {LIMIT:?}: {last}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let writes = start.elapsed();
    let mut open: Vec<&mut Client> = clients.iter_mut().collect();
    while !open.is_empty() {
        let mut last = String::new();
        open.retain_mut(|client| match agrees(client, failed) {
            Ok(()) => false,
            Err(reason) => {
                last = reason;
                true
            }
        });
        if start.elapsed() > LIMIT {
            return Err(format!("{} survivors do not agree within {LIMIT:?}: {last}", open.len()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok((first_write.unwrap_or(writes), writes, start.elapsed()))
}

/// Whether a process sees all slots served, and none by a killed process.
fn agrees(client: &mut Client, failed: &[&Shard]) -> Result<(), String> {
    let nodes = client.text(&["CLUSTER", "NODES"]).map_err(text)?;
    let mut served = 0;
    for line in NodeLine::parse_all(&nodes) {
        let is_dead = failed.iter().any(|shard| shard.primary_id == line.id);
        if line.is("master") && !line.is("fail") && !is_dead {
            served += line
                .slots
                .iter()
                .filter_map(|range| slots_of(range))
                .map(|(a, b)| usize::from(b - a) + 1)
                .sum::<usize>();
        }
    }
    if served != 16384 {
        return Err(format!("{served} slots are served:\n{nodes}"));
    }
    let info = client.text(&["CLUSTER", "INFO"]).map_err(text)?;
    if info_field(&info, "cluster_state").as_deref() == Some("ok") { Ok(()) } else { Err(info) }
}

fn slots_of(range: &str) -> Option<(u16, u16)> {
    match range.split_once('-') {
        Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
        None => range.parse().ok().map(|slot| (slot, slot)),
    }
}

fn shards(world: &World) -> Result<Vec<Shard>, String> {
    let lines = world.cluster.lines(0)?;
    let mut shards = Vec::new();
    for line in lines.iter().filter(|line| line.is("master") && !line.slots.is_empty()) {
        let index = |line: &NodeLine| world.cluster.index_of(line.port).ok_or("a node that is not ours");
        let replica = lines.iter().find(|other| other.primary.as_ref() == Some(&line.id)).ok_or("no replica")?;
        let (first, last) = line.slots.first().and_then(|range| slots_of(range)).ok_or("no slots")?;
        let slots = first..=last;
        let mut keys = (0..1_000_000).map(|number| format!("probe:{number}"));
        let key = keys.find(|key| slots.contains(&(Slot::of_key(key.as_bytes()).index() as u16))).ok_or("no key")?;
        shards.push(Shard {
            primary: index(line)?,
            primary_id: line.id.clone(),
            replica: index(replica)?,
            replica_port: replica.port,
            key,
        });
    }
    Ok(shards)
}

/// Processes to kill: primaries with their replicas alive.
fn choose(world: &World, fault: Fault, leader: Option<usize>, shards: &[Shard]) -> Result<BTreeSet<usize>, String> {
    let count = match fault {
        Fault::One | Fault::Leader => 1,
        Fault::Third | Fault::ThirdWithLeader => shards.len() / 3,
    };
    // Whose end is no fault of the roots goes first, the leader last. Roots are chosen in the order of joining.
    let has_roots = world.cluster.nodes.first().is_some_and(|node| node.software == Software::Pando);
    let leading = if has_roots { Some(leading_root(world)?.0) } else { None };
    let roots: BTreeSet<usize> = (0..3.min(world.cluster.nodes.len())).collect();
    let mut killed: BTreeSet<usize> = leader.into_iter().collect();
    let mut candidates: Vec<&Shard> = shards.iter().collect();
    let key = |shard: &&Shard| (leading == Some(shard.primary), roots.contains(&shard.primary), shard.primary);
    candidates.sort_by_key(key);
    for shard in candidates {
        if killed.len() < count && !killed.contains(&shard.replica) {
            killed.insert(shard.primary);
        }
    }
    if killed.len() == count { Ok(killed) } else { Err("not enough primaries".into()) }
}

/// The leading root's process, and its line in CLUSTER NODES.
fn leading_root(world: &World) -> Result<(usize, NodeLine), String> {
    let leader = world.cluster.root_leader()?;
    let lines = world.cluster.lines(0)?;
    let line = lines.into_iter().find(|line| line.id == leader).ok_or("the leading root is no node")?;
    let index = world.cluster.index_of(line.port).ok_or("the leading root is not ours")?;
    Ok((index, line))
}

/// The leading root's process, after it was made primary of its shard.
fn make_leader_primary(world: &World) -> Result<usize, String> {
    let (index, line) = leading_root(world)?;
    if line.is("slave") {
        let mut client = Client::connect(line.port).map_err(text)?;
        client.text(&["CLUSTER", "FAILOVER"]).map_err(text)?;
        eventually(LIMIT, "planned failover", || {
            let role = client.text(&["INFO", "replication"]).map_err(text)?;
            if role.contains("role:master") { Ok(()) } else { Err(role) }
        })?;
        world.wait_formed(LIMIT)?;
    }
    Ok(index)
}

/// Writes to shards, all of them in turn, until it is stopped.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Others>,
}

/// One shard of the probe.
struct Target {
    client: Option<Client>,
    port: u16,
    key: String,
    last_ok: Instant,
    refused_since: Option<Instant>,
}

impl Probe {
    fn start(shards: Vec<(u16, String)>) -> Result<Probe, String> {
        let mut targets = Vec::new();
        for (port, key) in shards {
            let client = Some(connect(port).map_err(text)?);
            targets.push(Target { client, port, key, last_ok: Instant::now(), refused_since: None });
        }
        // On a machine with two cores the probe must not be the load itself.
        let pause = Duration::from_millis((targets.len() as u64 / 2).clamp(5, 30));
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut others = Others::default();
            for target in &mut targets {
                target.last_ok = Instant::now();
            }
            while !seen.load(Ordering::Relaxed) {
                round(&mut targets, &mut others);
                std::thread::sleep(pause);
            }
            others
        });
        Ok(Probe { stop, thread })
    }

    fn stop(self) -> Result<Others, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the probe panicked".into())
    }
}

fn connect(port: u16) -> std::io::Result<Client> {
    Client::connect_addr(SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(2))
}

/// One write to each shard, sent to all before the first reply is read.
fn round(targets: &mut [Target], others: &mut Others) {
    for target in targets.iter_mut() {
        if target.client.is_none() {
            target.client = connect(target.port).ok();
        }
        let sent = target.client.as_mut().map(|client| client.send(&[b"SET", target.key.as_bytes(), b"probe"]));
        if !matches!(sent, Some(Ok(()))) {
            target.client = None;
        }
    }
    for target in targets {
        let reply = target.client.as_mut().map(Client::receive);
        let now = Instant::now();
        if let Some(Ok(Value::Simple(_))) = reply {
            others.writes += 1;
            others.gap = others.gap.max(now - target.last_ok);
            if let Some(since) = target.refused_since.take() {
                others.refusing = others.refusing.max(now - since);
            }
            target.last_ok = now;
        } else {
            if !matches!(reply, Some(Ok(_))) {
                target.client = None;
            }
            others.refused += 1;
            target.refused_since.get_or_insert(now);
        }
    }
}
