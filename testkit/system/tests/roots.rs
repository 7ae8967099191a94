// SPDX-License-Identifier: BSD-3-Clause
//! Seven real processes in three zones with five roots, two of which are killed one after the other; then the leading
//! root is forgotten.
//!
//! Nothing here asserts a time that a slow machine would miss.

use std::time::Duration;

use pando_procs::client::info_field;
use pando_procs::{Client, Cluster, Node, Software, eventually};
use pando_resp::decode::Value;

const LIMIT: Duration = Duration::from_secs(60);
const ARGS: &[&str] = &[
    "--cluster-enabled",
    "yes",
    "--cluster-root-count",
    "5",
    "--cluster-root-patience",
    "2000",
    "--cluster-node-timeout",
    "1500",
];

fn text(port: u16, args: &[&str]) -> Result<String, String> {
    let mut client = Client::connect(port).map_err(|error| error.to_string())?;
    client.text(args).map_err(|error| error.to_string())
}

fn info(port: u16, field: &str) -> Result<String, String> {
    info_field(&text(port, &["CLUSTER", "INFO"])?, field).ok_or_else(|| format!("no {field}"))
}

/// Which nodes say that they are roots, if that is all of them.
fn roots(cluster: &Cluster) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    let mut count = 0;
    for (index, node) in cluster.nodes.iter().enumerate() {
        let Ok(is_root) = info(node.port, "cluster_is_root") else { continue };
        // Who was forgotten is a cluster of its own.
        if info(node.port, "cluster_known_nodes")? == "1" {
            continue;
        }
        count = count.max(info(node.port, "cluster_roots")?.parse().unwrap_or(0));
        if is_root == "1" {
            found.push(index);
        }
    }
    if found.len() == count { Ok(found) } else { Err(format!("{count} roots, of which {found:?} run")) }
}

fn wait_roots(cluster: &Cluster, what: &str, test: impl Fn(&[usize]) -> bool) -> Vec<usize> {
    let mut seen = Vec::new();
    eventually(LIMIT, what, || {
        seen = roots(cluster)?;
        if test(&seen) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .expect(what);
    seen
}

/// Something that the roots have to commit.
fn commit(port: u16) {
    eventually(LIMIT, "a change is committed", || match text(port, &["CONFIG", "SET", "cluster-root-count", "5"])? {
        reply if reply == "OK" => Ok(()),
        reply => Err(reply),
    })
    .expect("a change is committed");
}

#[test]
fn two_of_five_roots_are_replaced_and_the_leader_is_forgotten() {
    let mut nodes = Vec::new();
    for index in 0..7 {
        let zone = ["a", "b", "c"][index % 3];
        let mut args = ARGS.to_vec();
        args.extend(["--availability-zone", zone]);
        // The last four hold no slots, so any of them may go.
        nodes.push(Node::start(Software::Pando, &args).expect("a node"));
    }
    let mut cluster = Cluster { nodes };
    let first = cluster.nodes[0].port;
    for node in &cluster.nodes[1..] {
        let port = node.port.to_string();
        assert_eq!(text(first, &["CLUSTER", "MEET", "127.0.0.1", &port]).expect("meet"), "OK");
    }
    assert_eq!(text(first, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).expect("slots"), "OK");
    let owner = text(first, &["CLUSTER", "MYID"]).expect("id");
    // A replica for the slots, so that killing their primary is a failover.
    let replica = cluster.nodes[1].port;
    eventually(LIMIT, "a replica", || match text(replica, &["CLUSTER", "REPLICATE", &owner])? {
        reply if reply == "OK" => Ok(()),
        reply => Err(reply),
    })
    .expect("a replica");
    cluster.wait_ok(LIMIT).expect("whole");
    wait_roots(&cluster, "five roots", |roots| roots.len() == 5);

    let id_of = |port: u16| text(port, &["CLUSTER", "MYID"]);
    let ids: Vec<String> = cluster.nodes.iter().map(|node| id_of(node.port).expect("id")).collect();
    let mut gone = Vec::new();
    for leads in [true, false] {
        let present = wait_roots(&cluster, "five", |roots| roots.len() == 5);
        let leader = cluster.root_leader().expect("a leader");
        // The leader, whatever it holds; then another that holds nothing, so that the slots keep a node.
        let is_meant = |index: &usize| (ids[*index] == leader) == leads && (leads || *index > 1);
        let victim = present.iter().copied().find(|index| is_meant(index) && !gone.contains(index)).expect("a root");
        let watch = cluster.nodes[if victim == 6 || gone.contains(&6) { 5 } else { 6 }].port;
        cluster.nodes[victim].kill();
        gone.push(victim);
        let now = wait_roots(&cluster, "replaced", |roots| roots.len() == 5);
        println!("node {victim} (leading: {leads}) was replaced: {now:?}");
        commit(watch);
        // The slots are served, whoever was killed.
        eventually(LIMIT, "served", || match info(watch, "cluster_state")? {
            state if state == "ok" => Ok(()),
            state => Err(state),
        })
        .expect("served");
    }
    for index in &gone {
        cluster.nodes[*index].restart().expect("restart");
    }
    cluster.wait_ok(LIMIT).expect("whole again");
    wait_roots(&cluster, "still five", |roots| roots.len() == 5);

    // A leader without slots is forgotten; if the owner of the slots leads, its replica takes over before.
    let leader = cluster.root_leader().expect("a leader");
    let forgotten = ids.iter().position(|id| *id == leader).expect("one of ours");
    let others: Vec<u16> = (0..7).filter(|index| *index != forgotten).map(|index| cluster.nodes[index].port).collect();
    let nodes = text(others[0], &["CLUSTER", "NODES"]).expect("nodes");
    let line = nodes.lines().find(|line| line.starts_with(leader.as_str())).expect("its line");
    if line.contains("0-16383") {
        let heir = others
            .iter()
            .find(|port| text(**port, &["INFO", "replication"]).is_ok_and(|info| info.contains("role:slave")));
        assert_eq!(text(*heir.expect("a replica"), &["CLUSTER", "FAILOVER"]).expect("failover"), "OK");
    }
    // A failover may have moved the shard, and the asked node may not forget its own primary.
    let asked = others
        .iter()
        .copied()
        .find(|port| text(*port, &["INFO", "replication"]).is_ok_and(|i| i.contains("role:master")));
    let asked = asked.expect("a primary");
    eventually(LIMIT, "forgotten", || match text(asked, &["CLUSTER", "FORGET", &leader])? {
        reply if reply == "OK" => Ok(()),
        reply => Err(reply),
    })
    .expect("forgotten");
    let left = wait_roots(&cluster, "five others", |roots| roots.len() == 5);
    println!("the leader was forgotten: {left:?}");
    assert_ne!(info(asked, "cluster_root_leader").expect("a leader"), leader);
    commit(asked);
    let refused = text(asked, &["CONFIG", "SET", "cluster-root-count", "4"]).expect("reply");
    assert!(refused.contains("must be one of the following: 1, 3, 5, 7"), "{refused}");
    assert_eq!(text(asked, &["CONFIG", "SET", "cluster-root-count", "3"]).expect("reply"), "OK");
    wait_roots(&cluster, "three roots", |roots| roots.len() == 3);
    let expected = ["cluster-root-count", "3"].map(|text| Value::Bulk(Some(text.into()))).to_vec();
    eventually(LIMIT, "every node shows the cluster's number", || {
        let mut client = Client::connect(others[1]).map_err(|error| error.to_string())?;
        match client.call(&["CONFIG", "GET", "cluster-root-count"]).map_err(|error| error.to_string())? {
            Value::Array(Some(shown)) if shown == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .expect("every node shows the cluster's number");
}
