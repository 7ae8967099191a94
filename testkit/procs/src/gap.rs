// SPDX-License-Identifier: BSD-3-Clause
//! How long the writes of one slot are interrupted, as a cluster client sees it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::cluster::Cluster;

/// One attempt to write, with redirects followed from every node that answers.
fn try_write(ports: &[u16], key: &str, value: &str) -> Result<u16, String> {
    let mut last = "no node answers".to_owned();
    let mut queue: Vec<u16> = ports.to_vec();
    let mut tried = Vec::new();
    while let Some(port) = queue.pop() {
        if tried.contains(&port) {
            continue;
        }
        tried.push(port);
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let Ok(mut client) = Client::connect_addr(addr, Duration::from_millis(100)) else { continue };
        match client.text(&["SET", key, value]) {
            Ok(reply) if reply == "OK" => return Ok(port),
            Ok(reply) => {
                if let Some(target) =
                    reply.strip_prefix("-MOVED ").and_then(|rest| rest.rsplit(':').next()?.parse().ok())
                {
                    queue.push(target);
                }
                last = reply;
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Does `fault` and returns how long it took from then until a write to `key` succeeded on a node other than `lost`,
/// and which node took it.
///
/// # Errors
/// The last answer, when no write succeeds within `limit`.
pub fn write_gap(
    cluster: &mut Cluster,
    lost: usize,
    key: &str,
    limit: Duration,
    fault: impl FnOnce(&mut Cluster),
) -> Result<(Duration, u16), String> {
    let lost_port = cluster.nodes[lost].port;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.port).filter(|&port| port != lost_port).collect();
    let start = Instant::now();
    fault(cluster);
    loop {
        match try_write(&ports, key, "after") {
            Ok(port) if port != lost_port => return Ok((start.elapsed(), port)),
            Ok(_) => {}
            Err(reason) if start.elapsed() > limit => return Err(format!("no write within {limit:?}: {reason}")),
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
