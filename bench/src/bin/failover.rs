// SPDX-License-Identifier: BSD-3-Clause
//! Write gaps of a six-node cluster: a primary is killed or stopped, and a client tries to write to its slots.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pando_bench::{median, table};
use pando_procs::client::info_field;
use pando_procs::cluster::Creator;
use pando_procs::gap::write_gap;
use pando_procs::{Client, Cluster};

#[derive(Parser)]
struct Options {
    /// How often each fault is repeated.
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// The lease, `cluster-node-timeout`, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    lease_ms: u64,
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
        let line = lines.iter().find(|line| line.id == leader).ok_or("the leading root is no node")?;
        let mut client = Client::connect(line.port).map_err(|error| error.to_string())?;
        client.text(&["CLUSTER", "FAILOVER"]).map_err(|error| error.to_string())?;
        pando_procs::eventually(Duration::from_secs(10), "planned failover", || {
            let role = client.text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
            if role.contains("role:master") { Ok(()) } else { Err(role) }
        })?;
        cluster.wait_ok(Duration::from_secs(30))?;
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
