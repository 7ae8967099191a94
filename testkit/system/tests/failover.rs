// SPDX-License-Identifier: BSD-3-Clause
//! A six-node cluster of real processes loses primaries and roots.
//!
//! Nothing here asserts a time that a slow machine would miss: limits are far above what `bench` measures.

use std::time::Duration;

use pando_procs::client::info_field;
use pando_procs::cluster::Creator;
use pando_procs::gap::write_gap;
use pando_procs::{Client, Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(20);

/// A primary with slots that is (or is not) the leading root: its index and a key that it serves.
fn primary(cluster: &Cluster, leads: bool) -> Option<(usize, String)> {
    let leader = cluster.root_leader().expect("a leader");
    let lines = cluster.lines(0).ok()?;
    let line = lines.iter().find(|line| line.is("master") && !line.slots.is_empty() && (line.id == leader) == leads)?;
    let key = (0..1000).map(|number| format!("k{number}")).find(|key| cluster.owner_port(0, key) == Ok(line.port))?;
    Some((cluster.index_of(line.port)?, key))
}

/// Writes keys through the owner, and waits until its replica has acknowledged them.
fn write_replicated(cluster: &Cluster, index: usize, key: &str, count: usize) {
    let mut client = cluster.nodes[index].client();
    for number in 0..count {
        let reply = client.text(&["SET", &format!("{{{key}}}:{number}"), &number.to_string()]);
        assert_eq!(reply.expect("set"), "OK");
    }
    assert_eq!(client.text(&["WAIT", "1", "5000"]).expect("wait"), "1");
}

fn check_written(port: u16, key: &str, count: usize) {
    let mut client = Client::connect(port).expect("connect");
    for number in 0..count {
        let value = client.text(&["GET", &format!("{{{key}}}:{number}")]).expect("get");
        assert_eq!(value, number.to_string(), "key {number} of {count}");
    }
}

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let mut cluster = Cluster::create(6, 1, Creator::ValkeyCli, &[]).expect("cluster");
    for leads in [false, true] {
        let Some((lost, key)) = primary(&cluster, leads) else {
            assert!(leads, "some primary does not lead the roots");
            continue;
        };
        write_replicated(&cluster, lost, &key, 200);
        let (gap, port) =
            write_gap(&mut cluster, lost, &key, LIMIT, |cluster| cluster.nodes[lost].kill()).expect("gap");
        println!("write gap after kill -9, leading root {leads}: {gap:?}");
        check_written(port, &key, 200);
        cluster.nodes[lost].restart().expect("restart");
        cluster.wait_ok(LIMIT).expect("whole again");
        let role = cluster.nodes[lost].client().text(&["INFO", "replication"]).expect("info");
        assert!(role.contains("role:slave"), "{role}");
        check_written(port, &key, 200);
    }
}

#[test]
fn a_stopped_primary_is_replaced_and_accepts_no_write_when_it_wakes() {
    let mut cluster = Cluster::create(6, 1, Creator::ValkeyCli, &["--cluster-node-timeout", "1500"]).expect("cluster");
    let (lost, key) = primary(&cluster, false).expect("a primary");
    write_replicated(&cluster, lost, &key, 50);
    // Connected before it stops, with a write on its way while it sleeps: the first thing that it reads when it wakes.
    let mut early = cluster.nodes[lost].client();
    let (gap, port) = write_gap(&mut cluster, lost, &key, LIMIT, |cluster| cluster.nodes[lost].pause()).expect("gap");
    println!("write gap after SIGSTOP, lease 1500 ms: {gap:?}");
    early.send(&[b"SET", key.as_bytes(), b"from the past"]).expect("send");
    cluster.nodes[lost].resume();
    let reply = early.receive();
    let accepted = matches!(&reply, Ok(pando_resp::decode::Value::Simple(text)) if text == "OK");
    assert!(!accepted, "a replaced primary took a write: {reply:?}");
    check_written(port, &key, 50);
    assert_eq!(Client::connect(port).expect("connect").text(&["GET", &key]).expect("get"), "after");
    cluster.wait_ok(LIMIT).expect("whole again");
}

#[test]
fn shards_go_on_when_all_roots_are_gone() {
    // Three nodes that are only roots, six that are only data.
    let mut roots = Vec::new();
    let ports: Vec<u16> = (0..3).map(|_| pando_procs::node::free_port()).collect();
    let list = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(" ");
    for &port in &ports {
        let args = ["--cluster-enabled", "yes", "--cluster-roles", "root", "--cluster-roots", &list];
        let dir = pando_procs::node::temp_dir("root");
        roots.push(pando_procs::Node::start_at(pando_procs::Software::Pando, port, dir, &args).expect("root"));
    }
    let args = ["--cluster-enabled", "yes", "--cluster-roles", "data", "--cluster-roots", &list];
    let nodes = (0..4).map(|_| pando_procs::Node::start(pando_procs::Software::Pando, &args).expect("data node"));
    let cluster = Cluster { nodes: nodes.collect() };
    eventually(LIMIT, "all joined", || {
        let lines = cluster.lines(0)?;
        if lines.len() == 7 { Ok(()) } else { Err(format!("{lines:?}")) }
    })
    .expect("all joined");
    let text = |index: usize, args: &[&str]| cluster.nodes[index].client().text(args).expect("reply");
    assert_eq!(text(0, &["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]), "OK");
    assert_eq!(text(1, &["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]), "OK");
    for (replica, primary) in [(2, 0), (3, 1)] {
        let id = text(primary, &["CLUSTER", "MYID"]);
        assert_eq!(text(replica, &["CLUSTER", "REPLICATE", &id]), "OK");
    }
    eventually(LIMIT, "all slots served", || {
        for index in 0..4 {
            let info = text(index, &["CLUSTER", "INFO"]);
            if info_field(&info, "cluster_state").as_deref() != Some("ok") {
                return Err(format!("node {index}: {info}"));
            }
        }
        Ok(())
    })
    .expect("all slots served");
    let key_of = |index: usize| {
        let port = cluster.nodes[index].port;
        (0..1000).map(|n| format!("r{n}")).find(|key| cluster.owner_port(index, key) == Ok(port)).expect("key")
    };
    let keys = [key_of(0), key_of(1)];
    let write_all = |value: &str| {
        for (index, key) in keys.iter().enumerate() {
            let reply = text(index, &["SET", key, value]);
            if reply != "OK" {
                return Err(reply);
            }
        }
        Ok(())
    };
    eventually(LIMIT, "replicas in sync", || {
        write_all("before")?;
        let waited = text(0, &["WAIT", "1", "100"]);
        if waited == "1" { Ok(()) } else { Err(waited) }
    })
    .expect("replicas in sync");
    for root in &mut roots {
        root.kill();
    }
    // Longer than the lease: the roots' promises are over, the replicas' go on.
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < end {
        write_all("during").expect("writes go on");
        assert_eq!(text(0, &["GET", &keys[0]]), "during");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Nothing can be decided without roots.
    let refused = text(0, &["CLUSTER", "DELSLOTS", "5"]);
    assert!(refused.starts_with("-CLUSTERDOWN"), "{refused}");
}

#[test]
fn roots_survive_a_kill_of_all_processes_at_once() {
    let mut cluster = Cluster::create(6, 1, Creator::PandoCluster, &[]).expect("cluster");
    let before = cluster.lines(0).expect("nodes");
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.restart_without_wait().expect("restart");
    }
    cluster.wait_ok(Duration::from_secs(40)).expect("whole again");
    let after = cluster.lines(0).expect("nodes");
    let ids = |lines: &[pando_procs::cluster::NodeLine]| {
        let mut ids: Vec<String> = lines.iter().map(|line| line.id.clone()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&before), ids(&after));
    let slots: usize = after.iter().filter(|line| line.is("master")).map(|line| line.slots.len()).sum();
    assert!(slots >= 3, "{after:?}");
}
