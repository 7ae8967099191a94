// SPDX-License-Identifier: BSD-3-Clause
//! What a cluster costs in which nothing happens.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use pando_procs::Node;

use crate::forming::World;

/// Figures of a stretch of time.
pub struct Idle {
    /// Of all processes together.
    pub cpu_s_per_minute: f64,
    /// Bytes a second that a node sends over the loopback interface: cluster and replication, with all headers.
    pub bytes_per_node: f64,
    /// Of these the payload of connections to cluster ports; not a number where `ss` is missing.
    pub payload_per_node: f64,
    /// How often a second a thread of a process wakes.
    pub wakes_per_process: f64,
    pub rss_mib: f64,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "idle: {:.2} CPU s a minute, a node {:.0} bytes/s of payload on the bus, {:.0} bytes/s in all, {:.1} wake-ups/s",
            self.cpu_s_per_minute, self.payload_per_node, self.bytes_per_node, self.wakes_per_process
        )
    }
}

impl Idle {
    /// Looks at a cluster for so long.
    ///
    /// # Errors
    /// When the system's counters cannot be read.
    pub fn measure(world: &World, time: Duration) -> Result<Idle, String> {
        let nodes = &world.cluster.nodes;
        let (payload_before, payload_start) = (bus_payload(nodes), Instant::now());
        let (cpu, wakes, bytes, start) = (cpu_us(nodes), wakes(nodes), loopback_bytes()?, Instant::now());
        std::thread::sleep(time);
        let seconds = start.elapsed().as_secs_f64();
        let (cpu, bytes) = (cpu_us(nodes) - cpu, loopback_bytes()? - bytes);
        let wakes = self::wakes(nodes).saturating_sub(wakes);
        let payload_seconds = payload_start.elapsed().as_secs_f64();
        let payload = match (payload_before, bus_payload(nodes)) {
            (Some(before), Some(after)) => {
                let grown =
                    after.iter().map(|(socket, sent)| sent - before.get(socket).copied().unwrap_or(0).min(*sent));
                grown.sum::<u64>() as f64
            }
            _ => f64::NAN,
        };
        let count = nodes.len() as f64;
        Ok(Idle {
            cpu_s_per_minute: cpu as f64 / 1e6 / seconds * 60.0,
            bytes_per_node: bytes as f64 / seconds / count,
            payload_per_node: payload / payload_seconds / count,
            wakes_per_process: wakes as f64 / seconds / count,
            rss_mib: nodes.iter().map(Node::rss_bytes).sum::<u64>() as f64 / count / 1_048_576.0,
        })
    }
}

fn cpu_us(nodes: &[Node]) -> u64 {
    nodes.iter().map(Node::cpu_us).sum()
}

/// Times that threads have gone to sleep, of all processes.
fn wakes(nodes: &[Node]) -> u64 {
    let mut sum = 0;
    for node in nodes {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", node.pid())) else { continue };
        for task in tasks.flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum += line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}

/// Every packet on the loopback interface counts once.
fn loopback_bytes() -> Result<u64, String> {
    let all = std::fs::read_to_string("/proc/net/dev").map_err(|error| error.to_string())?;
    let line = all.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let bytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    bytes.ok_or_else(|| "no loopback interface".into())
}

/// Bytes sent by each end of each connection to a cluster port, as TCP counts them.
fn bus_payload(nodes: &[Node]) -> Option<BTreeMap<(String, String), u64>> {
    let output = Command::new("ss").args(["-tinHO"]).output().ok().filter(|output| output.status.success())?;
    let mut sent = BTreeMap::new();
    let is_bus = |address: &str| {
        let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        port > 10_000 && nodes.iter().any(|node| node.port == port - 10_000)
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.split_whitespace();
        let (Some(local), Some(remote)) = (words.nth(3), words.next()) else { continue };
        if is_bus(local) || is_bus(remote) {
            let bytes = words.find_map(|word| word.strip_prefix("bytes_sent:")?.parse().ok()).unwrap_or(0);
            sent.insert((local.to_owned(), remote.to_owned()), bytes);
        }
    }
    Some(sent)
}
