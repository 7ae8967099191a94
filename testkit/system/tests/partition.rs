// SPDX-License-Identifier: BSD-3-Clause
//! A primary is cut off from the roots and from its replica: it must refuse writes before the new one accepts any.
//!
//! Hosts are network namespaces, so this needs root; it is skipped with a message where a user lacks it, never in CI.

mod netns;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns::{Hosts, PORT};
use pando_procs::client::info_field;
use pando_procs::{Client, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const ROOTS: usize = 3;
/// Hosts 0-2 are roots, 3 is the primary of all slots, 4 its replica, 5 has only clients.
const PRIMARY: usize = 3;
const REPLICA: usize = 4;
const CLIENTS: usize = 5;

fn text(hosts: &Hosts, from: usize, to: usize, args: &[&str]) -> Result<String, String> {
    let mut client = hosts.client(from, to).map_err(|error| error.to_string())?;
    client.text(args).map_err(|error| error.to_string())
}

fn start(hosts: &Hosts) -> Vec<netns::Process> {
    let list = (0..ROOTS).map(|host| format!("{}:{PORT}", Hosts::address(host))).collect::<Vec<_>>().join(" ");
    let mut nodes = Vec::new();
    for host in 0..CLIENTS {
        let role = if host < ROOTS { "root" } else { "data" };
        let args = ["--cluster-roles", role, "--cluster-roots", &list, "--cluster-node-timeout", "1500"];
        nodes.push(hosts.start(host, &args));
    }
    eventually(LIMIT, "nodes joined", || {
        let nodes = text(hosts, CLIENTS, PRIMARY, &["CLUSTER", "NODES"])?;
        if nodes.lines().count() == CLIENTS { Ok(()) } else { Err(nodes) }
    })
    .expect("nodes joined");
    assert_eq!(text(hosts, CLIENTS, PRIMARY, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).as_deref(), Ok("OK"));
    let id = text(hosts, CLIENTS, PRIMARY, &["CLUSTER", "MYID"]).expect("id");
    assert_eq!(text(hosts, CLIENTS, REPLICA, &["CLUSTER", "REPLICATE", &id]).as_deref(), Ok("OK"));
    eventually(LIMIT, "replica in sync", || {
        let written = text(hosts, CLIENTS, PRIMARY, &["SET", "k", "before"])?;
        if written != "OK" {
            return Err(written);
        }
        let waited = text(hosts, CLIENTS, PRIMARY, &["WAIT", "1", "100"])?;
        let info = text(hosts, CLIENTS, REPLICA, &["INFO", "replication"])?;
        let up = info_field(&info, "master_link_status").as_deref() == Some("up");
        if waited == "1" && up { Ok(()) } else { Err(format!("{waited} {info}")) }
    })
    .expect("replica in sync");
    nodes
}

/// Writes without a pause on the host itself until told to stop; when the last write was acknowledged, and the last reply.
fn writer(
    hosts: &Hosts,
    host: usize,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<(Option<Instant>, Option<Instant>, String)> {
    hosts.on(host, move || {
        let (mut first, mut last, mut reply) = (None, None, String::new());
        let addr = std::net::SocketAddr::from((Hosts::address(host), PORT));
        while !stop.load(Ordering::Relaxed) {
            let Ok(mut client) = Client::connect_addr(addr, Duration::from_secs(2)) else { continue };
            while !stop.load(Ordering::Relaxed) {
                let Ok(text) = client.text(&["SET", "k", "written"]) else { break };
                if text == "OK" {
                    last = Some(Instant::now());
                    first = first.or(last);
                }
                reply = text;
            }
        }
        (first, last, reply)
    })
}

#[test]
fn a_primary_that_is_cut_off_refuses_writes_before_the_new_one_accepts_any() {
    let Some(hosts) = Hosts::new(6) else { return };
    let _nodes = start(&hosts);
    let stop = Arc::new(AtomicBool::new(false));
    let old = writer(&hosts, PRIMARY, Arc::clone(&stop));
    let new = writer(&hosts, REPLICA, Arc::clone(&stop));
    std::thread::sleep(Duration::from_millis(500));
    let cut = Instant::now();
    hosts.cable_up(PRIMARY, false);
    eventually(LIMIT, "a new primary", || {
        let reply = text(&hosts, CLIENTS, REPLICA, &["SET", "other", "x"])?;
        if reply == "OK" { Ok(()) } else { Err(reply) }
    })
    .expect("a new primary");
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let (_, last_old, reply_old) = old.join().expect("writer");
    let (first_new, _, _) = new.join().expect("writer");
    let (last_old, first_new) = (last_old.expect("it was the primary"), first_new.expect("it is the primary"));
    println!("cut off: old primary wrote for {:?}, new one from {:?}", last_old - cut, first_new - cut);
    assert!(last_old < first_new, "two primaries for {:?}", last_old - first_new);
    assert!(reply_old.starts_with("-CLUSTERDOWN"), "{reply_old}");
    hosts.cable_up(PRIMARY, true);
    eventually(LIMIT, "the old primary follows", || {
        let info = text(&hosts, CLIENTS, PRIMARY, &["INFO", "replication"])?;
        let follows = info.contains("role:slave") && info.contains("master_link_status:up");
        if follows { Ok(()) } else { Err(info) }
    })
    .expect("the old primary follows");
}

#[test]
fn a_shard_goes_on_when_all_roots_are_cut_off() {
    let Some(hosts) = Hosts::new(6) else { return };
    let _nodes = start(&hosts);
    for root in 0..ROOTS {
        hosts.cable_up(root, false);
    }
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert_eq!(text(&hosts, CLIENTS, PRIMARY, &["SET", "k", "during"]).as_deref(), Ok("OK"));
        assert_eq!(text(&hosts, CLIENTS, PRIMARY, &["GET", "k"]).as_deref(), Ok("during"));
        std::thread::sleep(Duration::from_millis(20));
    }
}
