// SPDX-License-Identifier: BSD-3-Clause
//! Write gaps of a six-node cluster: a primary is killed or stopped, and a client tries to write to its slots; or it is
//! replaced as planned under a steady load, and nothing may fail or be lost.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pando_bench::{median, table};
use pando_procs::client::info_field;
use pando_procs::cluster::Creator;
use pando_procs::gap::write_gap;
use pando_procs::{Client, Cluster, Load, LoadPlan, LoadReport};

#[derive(Parser)]
struct Options {
    /// How often each fault is repeated.
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// The lease, `cluster-node-timeout`, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    lease_ms: u64,
    /// Only the planned ones.
    #[arg(long)]
    planned: bool,
}

/// A primary leaves on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Planned {
    /// CLUSTER FAILOVER on its replica.
    Failover,
    /// SIGTERM of a primary that is not the leading root.
    Terminate,
    /// SIGTERM of a primary that is the leading root as well.
    TerminateLeader,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    /// kill -9 of a primary that is not the leading root.
    Kill,
    /// kill -9 of a primary that is the leading root as well.
    KillLeader,
    /// SIGSTOP of a primary that is not the leading root.
    Stop,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench failover: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let lease = options.lease_ms.to_string();
    let mut cluster = Cluster::create(6, 1, Creator::ValkeyCli, &["--cluster-node-timeout", &lease])?;
    planned(&mut cluster, options)?;
    if options.planned {
        return Ok(());
    }
    let mut rows = Vec::new();
    for (name, fault) in [
        ("kill -9, not the leading root", Fault::Kill),
        ("kill -9, the leading root", Fault::KillLeader),
        ("SIGSTOP, not the leading root", Fault::Stop),
    ] {
        let mut gaps = Vec::new();
        for round in 0..options.times {
            // A root that has just restarted gives no new promise for one lease: what is measured is
            // a fault of a cluster that has recovered from the one before.
            std::thread::sleep(Duration::from_millis(options.lease_ms + 500));
            let gap = one(&mut cluster, fault, round)?;
            eprintln!("{name}: {:.0} ms", gap.as_secs_f64() * 1000.0);
            gaps.push(gap.as_secs_f64() * 1000.0);
        }
        let low = gaps.iter().copied().fold(f64::INFINITY, f64::min);
        let high = gaps.iter().copied().fold(0.0, f64::max);
        rows.push(vec![name.into(), format!("{:.0}", median(&gaps)), format!("{low:.0}"), format!("{high:.0}")]);
    }
    println!(
        "write gap after a fault of a primary, 6 nodes, lease {} ms, {} times each",
        options.lease_ms, options.times
    );
    table::print(&["fault", "median ms", "min", "max"], &rows);
    Ok(())
}

/// The planned ones, with their table.
fn planned(cluster: &mut Cluster, options: &Options) -> Result<(), String> {
    let mut rows = Vec::new();
    for (name, planned) in [
        ("CLUSTER FAILOVER", Planned::Failover),
        ("SIGTERM, not the leading root", Planned::Terminate),
        ("SIGTERM, the leading root", Planned::TerminateLeader),
    ] {
        let (mut gaps, mut errors, mut lost, mut writes) = (Vec::new(), 0, 0, 0);
        for round in 0..options.times {
            std::thread::sleep(Duration::from_millis(options.lease_ms + 500));
            let (report, missing) = hand_over(cluster, planned, round)?;
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            eprintln!(
                "{name}: gap {:.1} ms, of one connection {:.1} ms, {} writes, {} redirects, errors {:?}, lost {missing}",
                ms(report.gap),
                ms(report.connection_gap),
                report.acknowledged,
                report.moved,
                report.errors,
            );
            gaps.push(ms(report.connection_gap));
            errors += report.errors.values().sum::<u64>();
            lost += missing;
            writes += report.acknowledged;
        }
        let low = gaps.iter().copied().fold(f64::INFINITY, f64::min);
        let high = gaps.iter().copied().fold(0.0, f64::max);
        let number = |number: f64| format!("{number:.0}");
        let counts = [writes, errors, lost].map(|count| count.to_string());
        rows.push([vec![name.into(), number(median(&gaps)), number(low), number(high)], counts.to_vec()].concat());
    }
    println!("longest write gap of a connection under 20,000 SET/s to the shard, {} times each", options.times);
    table::print(&["planned", "median ms", "min", "max", "writes", "errors", "lost"], &rows);
    Ok(())
}

/// Replaces a primary under load; the load's report and how many acknowledged writes were lost.
fn hand_over(cluster: &mut Cluster, planned: Planned, round: usize) -> Result<(LoadReport, u64), String> {
    let leader = leading_root(cluster)?;
    let lines = cluster.lines(0).or_else(|_| cluster.lines(1))?;
    let leads = planned == Planned::TerminateLeader;
    let serves = |line: &&pando_procs::cluster::NodeLine| line.is("master") && !line.slots.is_empty();
    let is_wanted =
        |line: &&pando_procs::cluster::NodeLine| (line.id == leader) == leads || planned == Planned::Failover;
    let primaries = lines.iter().filter(serves).filter(is_wanted);
    let Some(line) = primaries.cycle().nth(round) else {
        hand_back_to(cluster, &leader)?;
        return hand_over(cluster, planned, round);
    };
    let old = cluster.index_of(line.port).ok_or("a primary that is not ours")?;
    let heir = lines.iter().find(|other| other.primary.as_ref() == Some(&line.id)).ok_or("no replica")?;
    let mut ports = vec![line.port];
    ports.extend(cluster.nodes.iter().map(|node| node.port).filter(|port| *port != line.port));
    let tag = tag_of(cluster, line.port, round)?;
    let plan = LoadPlan { tag, ports, connections: 4, batch: 10, interval: Duration::from_millis(2) };
    let load = Load::start(plan.clone());
    std::thread::sleep(Duration::from_secs(2));
    match planned {
        Planned::Failover => {
            let mut client = Client::connect(heir.port).map_err(|error| error.to_string())?;
            let reply = client.text(&["CLUSTER", "FAILOVER"]).map_err(|error| error.to_string())?;
            if reply != "OK" {
                return Err(reply);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        Planned::Terminate | Planned::TerminateLeader => {
            cluster.nodes[old].terminate();
            let code = cluster.nodes[old].wait_exit(Duration::from_secs(30)).ok_or("it does not end")?;
            if code != 0 {
                return Err(format!("it ended with {code}"));
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let report = load.stop()?;
    let lost = report.lost(&plan)?;
    if planned != Planned::Failover {
        cluster.nodes[old].restart()?;
    }
    cluster.wait_ok(Duration::from_secs(30))?;
    Ok((report, lost))
}

/// A hash tag of a slot that the node on `port` serves, another one for each round.
fn tag_of(cluster: &Cluster, port: u16, round: usize) -> Result<String, String> {
    let tags = (0..1000).map(|number| format!("load:{round}:{number}"));
    tags.into_iter().find(|tag| cluster.owner_port(0, tag) == Ok(port)).ok_or_else(|| format!("no tag for {port}"))
}

/// Makes the leading root primary of its shard.
fn hand_back_to(cluster: &Cluster, leader: &str) -> Result<(), String> {
    let lines = cluster.lines(0).or_else(|_| cluster.lines(1))?;
    let line = lines.iter().find(|line| line.id == leader).ok_or("the leading root is no node")?;
    let mut client = Client::connect(line.port).map_err(|error| error.to_string())?;
    client.text(&["CLUSTER", "FAILOVER"]).map_err(|error| error.to_string())?;
    pando_procs::eventually(Duration::from_secs(10), "planned failover", || {
        let role = client.text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
        if role.contains("role:master") { Ok(()) } else { Err(role) }
    })?;
    cluster.wait_ok(Duration::from_secs(30))
}

/// Causes the fault on a primary, measures, and heals; returns the gap.
fn one(cluster: &mut Cluster, fault: Fault, round: usize) -> Result<Duration, String> {
    let leader = leading_root(cluster)?;
    let lines = cluster.lines(0).or_else(|_| cluster.lines(1))?;
    let is_wanted = |line: &&pando_procs::cluster::NodeLine| {
        let leads = line.id == leader;
        line.is("master") && !line.slots.is_empty() && leads == (fault == Fault::KillLeader)
    };
    let primaries: Vec<_> = lines.iter().filter(is_wanted).collect();
    if primaries.is_empty() {
        // The leading root is a replica now: hand its shard back to it.
        hand_back_to(cluster, &leader)?;
        return one(cluster, fault, round);
    }
    let line = primaries[round % primaries.len()];
    let lost = cluster.index_of(line.port).ok_or("a primary that is not ours")?;
    let key = key_of(cluster, line.port)?;
    let (gap, _) = write_gap(cluster, lost, &key, Duration::from_secs(30), |cluster| match fault {
        Fault::Kill | Fault::KillLeader => cluster.nodes[lost].kill(),
        Fault::Stop => cluster.nodes[lost].pause(),
    })?;
    match fault {
        Fault::Stop => cluster.nodes[lost].resume(),
        Fault::Kill | Fault::KillLeader => cluster.nodes[lost].restart()?,
    }
    cluster.wait_ok(Duration::from_secs(30))?;
    Ok(gap)
}

fn leading_root(cluster: &Cluster) -> Result<String, String> {
    let mut client = Client::connect(cluster.nodes[0].port).map_err(|error| error.to_string())?;
    pando_procs::eventually(Duration::from_secs(10), "a leading root", || {
        let info = client.text(&["CLUSTER", "INFO"]).map_err(|error| error.to_string())?;
        info_field(&info, "cluster_root_leader").filter(|id| !id.is_empty()).ok_or(info)
    })
}

/// A key whose slot the node on `port` serves.
fn key_of(cluster: &Cluster, port: u16) -> Result<String, String> {
    for number in 0..1000 {
        let key = format!("gap:{number}");
        if cluster.owner_port(0, &key) == Ok(port) {
            return Ok(key);
        }
    }
    Err(format!("no key for port {port}"))
}
