// SPDX-License-Identifier: BSD-3-Clause
//! Primaries of real processes that leave as planned, under load: no write fails, none that was acknowledged is lost.
//!
//! Nothing here asserts a time that a slow machine would miss: `bench` measures the gaps.

use std::time::Duration;

use pando_procs::cluster::{Creator, NodeLine};
use pando_procs::{Client, Cluster, Load, LoadPlan, Node, Software, eventually};

const LIMIT: Duration = Duration::from_secs(30);
/// `cluster-node-timeout`, and a little.
const LEASE: Duration = Duration::from_millis(3200);

/// A primary with slots that is (or is not) the leading root.
fn primary(cluster: &Cluster, leads: bool) -> Option<NodeLine> {
    let leader = cluster.root_leader().expect("a leader");
    let lines = cluster.lines(0).ok()?;
    lines.into_iter().find(|line| line.is("master") && !line.slots.is_empty() && (line.id == leader) == leads)
}

fn replica_of(cluster: &Cluster, primary: &NodeLine) -> NodeLine {
    let lines = cluster.lines(0).expect("nodes");
    lines.into_iter().find(|line| line.primary.as_ref() == Some(&primary.id)).expect("a replica")
}

fn load_on(cluster: &Cluster, port: u16) -> Load {
    let mut ports = vec![port];
    ports.extend(cluster.nodes.iter().map(|node| node.port).filter(|other| *other != port));
    let mut tags = (0..1000).map(|number| format!("h{number}"));
    let tag = tags.find(|tag| cluster.owner_port(0, tag) == Ok(port)).expect("a tag");
    Load::start(LoadPlan { tag, ports, connections: 3, batch: 10, interval: Duration::from_millis(5) })
}

/// Waits until the load has had so many more writes acknowledged.
fn wait_writes(load: &Load, more: u64) {
    let from = load.acknowledged();
    eventually(LIMIT, "writes", || if load.acknowledged() >= from + more { Ok(()) } else { Err("few".into()) })
        .expect("writes go on");
}

fn check_nothing_failed(load: Load) {
    let plan = load.plan();
    let report = load.stop().expect("all writes were taken");
    println!("{} writes, gap {:?}, of one connection {:?}", report.acknowledged, report.gap, report.connection_gap);
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert!(report.moved > 0, "nobody was redirected");
    assert_eq!(report.lost(&plan).expect("it can be read"), 0, "of {}", report.acknowledged);
}

#[test]
fn a_planned_failover_fails_no_write() {
    let cluster = Cluster::create(6, 1, Creator::ValkeyCli, &[]).expect("cluster");
    let leaving = primary(&cluster, false).expect("a primary");
    let heir = replica_of(&cluster, &leaving);
    let load = load_on(&cluster, leaving.port);
    // There and back.
    for port in [heir.port, leaving.port] {
        wait_writes(&load, 2000);
        let reply = Client::connect(port).expect("connect").text(&["CLUSTER", "FAILOVER"]).expect("failover");
        assert_eq!(reply, "OK");
        wait_writes(&load, 2000);
        cluster.wait_ok(LIMIT).expect("whole");
    }
    check_nothing_failed(load);
}

#[test]
fn a_primary_that_is_told_to_end_hands_over_first() {
    let mut cluster = Cluster::create(6, 1, Creator::ValkeyCli, &[]).expect("cluster");
    for (leads, by_command) in [(false, false), (true, false), (false, true)] {
        let Some(leaving) = primary(&cluster, leads) else { continue };
        let heir = replica_of(&cluster, &leaving);
        let index = cluster.index_of(leaving.port).expect("one of ours");
        let load = load_on(&cluster, leaving.port);
        wait_writes(&load, 2000);
        if by_command {
            cluster.nodes[index].client().send(&[b"SHUTDOWN", b"FAILOVER"]).expect("sent");
        } else {
            cluster.nodes[index].terminate();
        }
        assert_eq!(cluster.nodes[index].wait_exit(LIMIT), Some(0), "{}", cluster.nodes[index].log_tail());
        wait_writes(&load, 2000);
        check_nothing_failed(load);
        let role = Client::connect(heir.port).expect("connect").text(&["INFO", "replication"]).expect("info");
        assert!(role.contains("role:master"), "{role}");
        cluster.nodes[index].restart().expect("restart");
        cluster.wait_ok(LIMIT).expect("whole again");
        // A root that has restarted gives no new promise for one lease. Without it and the root that leaves next, no
        // majority would be left to give one, which is not what this test is about.
        std::thread::sleep(LEASE);
    }
}

#[test]
fn a_primary_without_replicas_just_ends() {
    let mut cluster = Cluster::create(3, 0, Creator::PandoCluster, &[]).expect("cluster");
    cluster.nodes[0].terminate();
    assert_eq!(cluster.nodes[0].wait_exit(LIMIT), Some(0));
    let refused = cluster.nodes[1].client().text(&["SHUTDOWN", "SAFE"]).expect("reply");
    assert_eq!(refused, "-ERR Errors trying to SHUTDOWN. Check logs.");
    cluster.nodes[1].client().send(&[b"SHUTDOWN", b"NOW"]).expect("sent");
    assert_eq!(cluster.nodes[1].wait_exit(LIMIT), Some(0));
}

#[test]
fn outside_of_a_cluster_it_waits_for_its_replicas() {
    let mut primary = Node::start(Software::Pando, &["--shutdown-timeout", "600"]).expect("primary");
    let address = format!("127.0.0.1 {}", primary.port);
    let mut replica = Node::start(Software::Pando, &["--replicaof", &address]).expect("replica");
    let mut client = primary.client();
    eventually(LIMIT, "replica in sync", || {
        client.text(&["SET", "key", "before"]).map_err(|error| error.to_string())?;
        let waited = client.text(&["WAIT", "1", "100"]).map_err(|error| error.to_string())?;
        if waited == "1" { Ok(()) } else { Err(waited) }
    })
    .expect("replica in sync");
    assert_eq!(client.text(&["SHUTDOWN", "ABORT"]).expect("reply"), "-ERR No shutdown in progress.");
    replica.pause();
    assert_eq!(client.text(&["SET", "key", "after"]).expect("set"), "OK");
    let mut ending = primary.client();
    ending.send(&[b"SHUTDOWN", b"NOSAVE"]).expect("sent");
    // It waits for the sleeping replica until it is called off.
    eventually(LIMIT, "abort", || match client.text(&["SHUTDOWN", "ABORT"]).map_err(|error| error.to_string())? {
        reply if reply == "OK" => Ok(()),
        reply => Err(reply),
    })
    .expect("abort");
    let reply = ending.receive().expect("an error");
    assert_eq!(reply, pando_resp::decode::Value::Error("ERR Errors trying to SHUTDOWN. Check logs.".into()));
    assert_eq!(client.text(&["SET", "key", "again"]).expect("set"), "OK");
    primary.terminate();
    replica.resume();
    assert_eq!(primary.wait_exit(LIMIT), Some(0), "{}", primary.log_tail());
    assert_eq!(replica.client().text(&["GET", "key"]).expect("get"), "again");
}
