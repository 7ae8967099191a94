// SPDX-License-Identifier: BSD-3-Clause
//! The control plane at scale: real root processes, and the agents of thousands of data nodes, many to a process. Measures
//! how long they take to join and agree, what the cluster costs while nothing happens, and how long it takes after half of
//! the primaries were killed at once until the last shard has a new one and every agent knows all of them.
//!
//! Each agent has a map of its own: with thousands of agents memory is the limit.

mod agents;
mod children;
mod counting;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use pando_env::{Clock, RealClock};
use pando_procs::client::info_field;
use pando_procs::node::{Node, Software, free_port, temp_dir};
use pando_procs::{Client, eventually};

use children::Group;

/// As in the server.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    child: Option<ChildCommand>,
    /// Data nodes, half of them primaries.
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// Root processes.
    #[arg(long, default_value_t = 3)]
    roots: usize,
    /// `cluster-node-timeout` in milliseconds.
    #[arg(long, default_value_t = 3000)]
    lease_ms: u64,
    /// Seconds of the steady state.
    #[arg(long, default_value_t = 30)]
    steady: u64,
    /// Agents of a process that join at the same time.
    #[arg(long, default_value_t = 100)]
    window: usize,
    /// Stop after the steady state.
    #[arg(long)]
    no_kill: bool,
}

#[derive(Subcommand)]
enum ChildCommand {
    #[command(hide = true)]
    Agents(agents::ChildOptions),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.child {
        Some(ChildCommand::Agents(child)) => agents::run(child),
        None => measure(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench scale: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Processes for each half of the agents: an even number, so that half of the primaries can be killed, and few enough
/// agents in each that their files fit below the usual limit of 20,000.
fn processes_for(half: usize) -> usize {
    (half.div_ceil(1500)).next_multiple_of(2)
}

fn measure(options: &Options) -> Result<(), String> {
    let half = options.agents / 2;
    if half < 2 || !matches!(options.roots, 1 | 3 | 5 | 7) {
        return Err("at least 4 agents, and 1, 3, 5 or 7 roots".into());
    }
    println!("{} agents, half primaries; {} roots; lease {} ms", half * 2, options.roots, options.lease_ms);
    let roots = start_roots(options)?;
    let addresses: Vec<String> = roots.iter().map(|root| format!("127.0.0.1:{}", root.port)).collect();
    let addresses = addresses.join(",");
    let count = processes_for(half);
    let mut groups = Vec::new();
    for kind in 0..2 {
        for index in 0..count {
            let (from, to) = (index * half / count, (index + 1) * half / count);
            groups.push(Group::start(kind * half + from, to - from, &addresses, options.lease_ms, options.window)?);
        }
    }
    println!("{} processes of agents", groups.len());
    form(&mut groups, &roots, half)?;
    steady(&mut groups, &roots, options)?;
    if !options.no_kill {
        kill_half(groups, &roots, half, options)?;
    }
    Ok(())
}

fn start_roots(options: &Options) -> Result<Vec<Node>, String> {
    let start = Instant::now();
    let ports: Vec<u16> = (0..options.roots).map(|_| free_port()).collect();
    let list: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let (list, count, lease) = (list.join(" "), options.roots.to_string(), options.lease_ms.to_string());
    let args = ["--cluster-enabled", "yes", "--cluster-roles", "root", "--cluster-roots", &list, "--io-threads", "1"];
    let args = [&args[..], &["--cluster-root-count", &count, "--cluster-node-timeout", &lease]].concat();
    let nodes: Result<Vec<Node>, String> =
        ports.iter().map(|port| Node::start_at(Software::Pando, *port, temp_dir("scale-root"), &args)).collect();
    let nodes = nodes?;
    for node in &nodes {
        eventually(Duration::from_secs(30), "the roots", || {
            let (info, wanted) = (cluster_info(node)?, count.clone());
            let is_formed = info_field(&info, "cluster_roots").as_ref() == Some(&wanted)
                && info_field(&info, "cluster_known_nodes") == Some(wanted);
            if is_formed { Ok(()) } else { Err(info) }
        })?;
    }
    println!("roots formed after {:.1} s", start.elapsed().as_secs_f64());
    Ok(nodes)
}

fn cluster_info(node: &Node) -> Result<String, String> {
    let mut client = Client::connect(node.port).map_err(|error| error.to_string())?;
    client.text(&["CLUSTER", "INFO"]).map_err(|error| error.to_string())
}

/// The same order to all groups; their answers.
fn all(groups: &mut [Group], limit: Duration, order: impl Fn(&Group) -> String) -> Result<Vec<Vec<String>>, String> {
    for group in groups.iter_mut() {
        let order = order(group);
        group.order(&order)?;
    }
    groups.iter().map(|group| group.answer(limit)).collect()
}

fn number(words: &[String], index: usize) -> u64 {
    words.get(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn ids(groups: &mut [Group]) -> Result<Vec<String>, String> {
    let answers = all(groups, Duration::from_secs(60), |_| "ids".into())?;
    Ok(answers.into_iter().flat_map(|words| words.into_iter().skip(1)).collect())
}

fn form(groups: &mut [Group], roots: &[Node], half: usize) -> Result<(), String> {
    let start = Instant::now();
    let cpu = roots_cpu(roots);
    all(groups, Duration::from_secs(400), |_| "join".into())?;
    println!("joined after {:.1} s; CPU of the roots {}", start.elapsed().as_secs_f64(), since(roots, &cpu));
    let (primaries, replicas) = groups.split_at_mut(groups.len() / 2);
    all(primaries, Duration::from_secs(300), |group| format!("slots {} {half}", group.first))?;
    println!("slots assigned after {:.1} s", start.elapsed().as_secs_f64());
    let ids = ids(primaries)?;
    all(replicas, Duration::from_secs(300), |group| {
        let primaries = &ids[group.first - half..group.first - half + group.count];
        format!("replicate {}", primaries.join(" "))
    })?;
    println!("replicas attached after {:.1} s", start.elapsed().as_secs_f64());
    wait_agreement(groups, half * 2 + roots.len(), half)?;
    println!("all agree after {:.1} s; CPU of the roots {}", start.elapsed().as_secs_f64(), since(roots, &cpu));
    Ok(())
}

/// Waits until every agent has the whole map and is served.
fn wait_agreement(groups: &mut [Group], nodes: usize, shards: usize) -> Result<(), String> {
    let wanted: u64 = groups.iter().map(|group| group.count as u64).sum();
    eventually(Duration::from_secs(120), "agreement", || {
        let answers = all(groups, Duration::from_secs(60), |_| format!("agree {nodes} {shards}"))?;
        let sum = |index: usize| -> u64 { answers.iter().map(|words| number(words, index)).sum() };
        let text = format!("{} of {wanted} have the whole map, {} are served", sum(1), sum(2));
        if sum(2) == wanted { Ok(()) } else { Err(text) }
    })
}

fn roots_cpu(roots: &[Node]) -> Vec<u64> {
    roots.iter().map(Node::cpu_us).collect()
}

/// CPU seconds of each root since then.
fn since(roots: &[Node], before: &[u64]) -> String {
    let spent = roots.iter().zip(before).map(|(root, before)| root.cpu_us().saturating_sub(*before));
    let texts: Vec<String> = spent.map(|us| format!("{:.2}", us as f64 / 1e6)).collect();
    texts.join(" / ") + " s"
}

fn steady(groups: &mut [Group], roots: &[Node], options: &Options) -> Result<(), String> {
    // What joining left behind is over after a few leases.
    std::thread::sleep(Duration::from_millis(options.lease_ms * 2));
    let sums = |groups: &mut [Group]| -> Result<[u64; 3], String> {
        let answers = all(groups, Duration::from_secs(60), |_| "bytes".into())?;
        Ok([1, 2, 3].map(|index| answers.iter().map(|words| number(words, index)).sum()))
    };
    let (cpu, agents_cpu) = (roots_cpu(roots), groups.iter().map(Group::cpu_us).sum::<u64>());
    let before = sums(groups)?;
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(options.steady));
    let after = sums(groups)?;
    let seconds = start.elapsed().as_secs_f64();
    let agents = groups.iter().map(|group| group.count).sum::<usize>() as f64;
    let rate = |index: usize| (after[index] - before[index]) as f64 / seconds / agents;
    let agents_cpu = (groups.iter().map(Group::cpu_us).sum::<u64>() - agents_cpu) as f64 / 1e6;
    let roots_cpu: f64 =
        roots.iter().zip(&cpu).map(|(root, before)| root.cpu_us().saturating_sub(*before) as f64 / 1e6).sum();
    let leader = leader(roots)?;
    println!("steady for {seconds:.0} s:");
    println!(
        "  CPU of the roots {} (the leader is number {}); of all agents {agents_cpu:.2} s",
        since(roots, &cpu),
        leader + 1
    );
    println!(
        "  CPU s a minute for each 120 agents: roots {:.2}, agents {:.2}",
        roots_cpu * 60.0 / seconds * 120.0 / agents,
        agents_cpu * 60.0 / seconds * 120.0 / agents
    );
    let rss: Vec<String> = roots.iter().map(|root| format!("{:.0}", root.rss_bytes() as f64 / 1048576.0)).collect();
    println!("  memory of the roots {} MiB", rss.join(" / "));
    println!("  bytes per second and node: {:.0} received, {:.0} sent, in {:.1} writes", rate(0), rate(1), rate(2));
    Ok(())
}

/// Index of the leading root.
fn leader(roots: &[Node]) -> Result<usize, String> {
    let mut index = 0;
    eventually(Duration::from_secs(10), "a leading root", || {
        for (at, root) in roots.iter().enumerate() {
            let mut client = Client::connect(root.port).map_err(|error| error.to_string())?;
            let me = client.text(&["CLUSTER", "MYID"]).map_err(|error| error.to_string())?;
            let info = cluster_info(root)?;
            if info_field(&info, "cluster_root_leader").is_some_and(|leader| leader == me) {
                index = at;
                return Ok(());
            }
        }
        Err("no root says that it leads".into())
    })?;
    Ok(index)
}

fn kill_half(mut groups: Vec<Group>, roots: &[Node], half: usize, options: &Options) -> Result<(), String> {
    let killed_groups = groups.len() / 4;
    let mut doomed: Vec<Group> = groups.drain(..killed_groups).collect();
    let ids = ids(&mut doomed)?.join(" ");
    let killed: u64 = doomed.iter().map(|group| group.range().len() as u64).sum();
    let living: u64 = groups.iter().map(|group| group.count as u64).sum();
    all(&mut groups, Duration::from_secs(60), |_| format!("doom {ids}"))?;
    let cpu = roots_cpu(roots);
    let clock = RealClock;
    let start = clock.now_ms();
    for group in &mut doomed {
        group.kill();
    }
    let mut last = (0, 0);
    // A round of questions costs the agents time, so they are few.
    let healed = eventually(Duration::from_secs(options.lease_ms / 1000 + 60), "the new topology everywhere", || {
        std::thread::sleep(Duration::from_millis(300));
        let answers = all(&mut groups, Duration::from_secs(60), |_| "healed".into())?;
        let sum = |index: usize| -> u64 { answers.iter().map(|words| number(words, index)).sum() };
        let latest = |index: usize| answers.iter().map(|words| number(words, index)).max().unwrap_or(0);
        last = (latest(2).saturating_sub(start), latest(4).saturating_sub(start));
        let text = format!("{} of {living} agents, {} of {killed} new primaries", sum(1), sum(3));
        if sum(1) == living && sum(3) >= killed { Ok(()) } else { Err(text) }
    });
    println!("{killed} of {half} primaries killed at once:");
    healed?;
    println!("  the last shard has an active primary after {} ms", last.1);
    println!("  the last of {living} agents has that topology after {} ms", last.0);
    println!("  CPU of the roots {}", since(roots, &cpu));
    Ok(())
}
