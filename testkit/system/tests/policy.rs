// SPDX-License-Identifier: BSD-3-Clause
//! Who replicates whom, with real processes: a chain of replicas that loses its top, a replica that moves to a
//! primary without one, a replica that leaves for a shard of its own.

use std::time::Duration;

use pando_procs::client::info_field;
use pando_procs::cluster::{Creator, NodeLine};
use pando_procs::{Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(30);

fn text(cluster: &Cluster, index: usize, args: &[&str]) -> String {
    cluster.nodes[index].client().text(args).expect("reply")
}

fn info(cluster: &Cluster, index: usize, section: &str, field: &str) -> String {
    info_field(&text(cluster, index, &["INFO", section]), field).unwrap_or_default()
}

/// A primary with this many live replicas, and those.
fn shard_with(cluster: &Cluster, asked: usize, replicas: usize) -> Option<(NodeLine, Vec<NodeLine>)> {
    let lines = cluster.lines(asked).ok()?;
    lines.iter().filter(|line| line.is("master") && !line.slots.is_empty()).find_map(|primary| {
        let of_it = |line: &&NodeLine| line.primary.as_deref() == Some(&primary.id) && !line.is("fail");
        let found: Vec<NodeLine> = lines.iter().filter(of_it).cloned().collect();
        (found.len() == replicas).then(|| (primary.clone(), found))
    })
}

fn key_of(cluster: &Cluster, port: u16) -> String {
    let mut keys = (0..1000).map(|number| format!("c{number}"));
    keys.find(|key| cluster.owner_port(0, key) == Ok(port)).expect("a key of the shard")
}

fn wait_for_value(cluster: &Cluster, index: usize, key: &str, value: &str) {
    eventually(LIMIT, "the replica has the value", || {
        let mut client = cluster.nodes[index].client();
        client.text(&["READONLY"]).map_err(|error| error.to_string())?;
        let found = client.text(&["GET", key]).map_err(|error| error.to_string())?;
        if found == value { Ok(()) } else { Err(found) }
    })
    .expect("replicated");
}

/// The role changes behind the answer.
fn wait_for_info(cluster: &Cluster, index: usize, field: &str, value: &str) {
    eventually(LIMIT, field, || {
        let found = info(cluster, index, "replication", field);
        if found == value { Ok(()) } else { Err(found) }
    })
    .expect("INFO replication");
}

#[test]
fn chains_migration_and_departures() {
    let mut cluster = Cluster::create(7, 1, Creator::ValkeyCli, &["--cluster-node-timeout", "2000"]).expect("cluster");
    let index = |cluster: &Cluster, line: &NodeLine| cluster.index_of(line.port).expect("a node of the cluster");
    let (primary, replicas) = shard_with(&cluster, 0, 2).expect("three primaries and four replicas");
    let (top, upper, lower) = (index(&cluster, &primary), index(&cluster, &replicas[0]), index(&cluster, &replicas[1]));
    let key = key_of(&cluster, primary.port);

    // A chain: top <- upper <- lower.
    let refused = text(&cluster, lower, &["CLUSTER", "REPLICATE", &replicas[0].id]);
    assert_eq!(refused, "-ERR I can only replicate a master, not a replica.");
    let refused = text(&cluster, lower, &["CLUSTER", "REPLICATE", &primary.id, "CHAIN"]);
    assert!(refused.starts_with("-ERR Node") && refused.contains("is not a replica"), "{refused}");
    assert_eq!(text(&cluster, lower, &["CLUSTER", "REPLICATE", &replicas[0].id, "CHAIN"]), "OK");
    wait_for_info(&cluster, lower, "master_port", &replicas[0].port.to_string());
    // Nested replies show bytes as numbers.
    let field = format!("{:?}", b"upstream");
    assert!(text(&cluster, lower, &["CLUSTER", "SHARDS"]).contains(&field), "the field is shown");
    let line = cluster.lines(0).expect("nodes").into_iter().find(|line| line.id == replicas[1].id);
    assert_eq!(line.and_then(|line| line.primary), Some(primary.id.clone()), "clients see the primary");
    assert_eq!(text(&cluster, top, &["SET", &key, "by way of the chain"]), "OK");
    wait_for_value(&cluster, lower, &key, "by way of the chain");
    assert_eq!(info(&cluster, upper, "stats", "sync_full"), "0", "the chain goes on where it was");

    // It loses its top: whoever is nearest takes over, and nobody needs a full copy.
    cluster.nodes[top].kill();
    eventually(LIMIT, "replaced", || {
        let reply = text(&cluster, upper, &["SET", &key, "after"]);
        if reply == "OK" { Ok(()) } else { Err(reply) }
    })
    .expect("the upper replica takes over");
    wait_for_value(&cluster, lower, &key, "after");
    wait_for_info(&cluster, lower, "master_port", &replicas[0].port.to_string());
    assert_eq!(info(&cluster, upper, "stats", "sync_full"), "0", "partial resynchronization");
    cluster.nodes[top].restart().expect("restart");
    cluster.wait_ok(LIMIT).expect("whole again");

    // Another primary loses its only replica and gets one of the two that this shard has.
    let (other, lost) = shard_with(&cluster, upper, 1).expect("a primary with one replica");
    let lost_id = lost[0].id.clone();
    let lost = index(&cluster, &lost[0]);
    cluster.nodes[lost].kill();
    let moved = eventually(LIMIT, "moved", || {
        let lines = cluster.lines(upper)?;
        let is_new = |line: &&NodeLine| line.primary.as_deref() == Some(&other.id) && line.id != lost_id;
        lines.iter().find(is_new).cloned().ok_or(format!("{lines:?}"))
    })
    .expect("the orphan gets a replica");
    let moved = index(&cluster, &moved);
    assert!([top, lower].contains(&moved), "it comes from the shard that has two");
    let key = key_of(&cluster, other.port);
    assert_eq!(text(&cluster, index(&cluster, &other), &["SET", &key, "moved"]), "OK");
    wait_for_value(&cluster, moved, &key, "moved");
    cluster.nodes[lost].restart().expect("restart");
    cluster.wait_ok(LIMIT).expect("whole again");

    // What a node registers follows CONFIG SET.
    assert_eq!(text(&cluster, moved, &["CONFIG", "SET", "cluster-replica-no-failover", "yes"]), "OK");
    let moved_id = text(&cluster, moved, &["CLUSTER", "MYID"]);
    eventually(LIMIT, "the flag is shown", || {
        let lines = cluster.lines(upper)?;
        let line = lines.iter().find(|line| line.id == moved_id).ok_or("not there")?;
        if line.is("nofailover") { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .expect("nofailover");

    // A replica leaves, empty, and comes back.
    assert_eq!(text(&cluster, moved, &["CLUSTER", "REPLICATE", "NO", "ONE"]), "OK");
    assert_eq!(text(&cluster, moved, &["DBSIZE"]), "0");
    wait_for_info(&cluster, moved, "role", "master");
    assert_eq!(text(&cluster, moved, &["CLUSTER", "REPLICATE", "NO", "ONE"]), "OK", "nothing to do");
    assert_eq!(text(&cluster, moved, &["CLUSTER", "REPLICATE", &other.id]), "OK");
    wait_for_value(&cluster, moved, &key, "moved");
}
