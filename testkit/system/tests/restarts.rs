// SPDX-License-Identifier: BSD-3-Clause
//! Processes that come back: at once and without their data, at another address, or twice. And a change of role
//! while a long command runs.
//!
//! Nothing here asserts a time that a slow machine would miss.

use std::time::{Duration, Instant};

use pando_procs::client::info_field;
use pando_procs::cluster::{Creator, NodeLine};
use pando_procs::node::{free_port, temp_dir};
use pando_procs::{Client, Cluster, Node, Software, eventually};
use pando_resp::decode::Value;

const LIMIT: Duration = Duration::from_secs(40);

/// A primary with slots that is not the leading root, a key that it serves, and its replica.
fn shard(cluster: &Cluster) -> (usize, String, usize) {
    let leader = cluster.root_leader().expect("a leader");
    let lines = cluster.lines(0).expect("nodes");
    let is_fit = |line: &&NodeLine| line.is("master") && !line.slots.is_empty() && line.id != leader;
    let line = lines.iter().find(is_fit).expect("a primary");
    let mut keys = (0..1000).map(|number| format!("k{number}"));
    let key = keys.find(|key| cluster.owner_port(0, key) == Ok(line.port)).expect("a key");
    let replica = lines.iter().find(|other| other.primary.as_ref() == Some(&line.id)).expect("a replica");
    let index = |line: &NodeLine| cluster.index_of(line.port).expect("one of ours");
    (index(line), key, index(replica))
}

fn write_replicated(cluster: &Cluster, index: usize, key: &str, count: usize) {
    let mut client = cluster.nodes[index].client();
    for number in 0..count {
        let reply = client.text(&["SET", &format!("{{{key}}}:{number}"), &number.to_string()]);
        assert_eq!(reply.expect("set"), "OK");
    }
    assert_eq!(client.text(&["WAIT", "1", "5000"]).expect("wait"), "1");
}

/// All keys are there, whoever serves them now.
fn check_written(cluster: &Cluster, key: &str, count: usize) {
    let port = cluster.owner_port(0, key).expect("an owner");
    let index = cluster.index_of(port).expect("one of ours");
    let mut client = cluster.nodes[index].client();
    for number in 0..count {
        let value = client.text(&["GET", &format!("{{{key}}}:{number}")]).expect("get");
        assert_eq!(value, number.to_string(), "key {number} of {count}");
    }
}

fn role(node: &Node) -> String {
    let info = node.connect().and_then(|mut client| client.text(&["INFO", "replication"])).unwrap_or_default();
    info_field(&info, "role").unwrap_or_default()
}

#[test]
fn a_primary_that_is_back_at_once_has_not_emptied_its_replica() {
    let mut cluster = Cluster::create(6, 1, Creator::PandoCluster, &[]).expect("cluster");
    for _ in 0..3 {
        let (lost, key, _) = shard(&cluster);
        write_replicated(&cluster, lost, &key, 100);
        cluster.nodes[lost].restart_without_wait().expect("restart");
        cluster.wait_ok(LIMIT).expect("whole again");
        check_written(&cluster, &key, 100);
    }
}

#[test]
fn one_that_dies_right_after_its_promotion_is_followed_by_the_one_before() {
    let mut cluster = Cluster::create(6, 1, Creator::PandoCluster, &[]).expect("cluster");
    for _ in 0..3 {
        let (before, key, heir) = shard(&cluster);
        write_replicated(&cluster, before, &key, 100);
        cluster.nodes[heir].client().send(&[b"CLUSTER", b"FAILOVER"]).expect("sent");
        let start = Instant::now();
        while role(&cluster.nodes[heir]) != "master" {
            assert!(start.elapsed() < LIMIT, "no failover: {}", cluster.nodes[heir].log_tail());
        }
        cluster.nodes[heir].restart_without_wait().expect("restart");
        cluster.wait_ok(LIMIT).expect("whole again");
        check_written(&cluster, &key, 100);
    }
}

#[test]
fn a_long_command_holds_up_no_heartbeat_and_is_not_acknowledged_by_a_former_primary() {
    let cluster = Cluster::create(6, 1, Creator::PandoCluster, &["--cluster-node-timeout", "1000"]).expect("cluster");
    let (slow, key, heir) = shard(&cluster);
    let mut client = Client::connect_addr(cluster.nodes[slow].addr(), Duration::from_secs(120)).expect("client");
    let (list, to) = (format!("{{{key}}}list"), format!("{{{key}}}to"));
    // Long enough: a few leases.
    let mut took = Duration::ZERO;
    let mut number = 0u64;
    while took < Duration::from_secs(3) {
        for _ in 0..10 {
            let words: Vec<String> =
                (0..5000u64).map(|n| format!("{:016x}", (number + n).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
            number += 5000;
            let mut args = vec!["RPUSH", &list];
            args.extend(words.iter().map(String::as_str));
            assert!(!client.text(&args).expect("push").starts_with('-'));
        }
        let start = Instant::now();
        let sorted = client.text(&["SORT", &list, "ALPHA", "STORE", &to]);
        assert_eq!(sorted.expect("sorted"), number.to_string());
        took = start.elapsed();
    }
    println!("{number} elements take {took:?}");
    eventually(LIMIT, "replica in sync", || {
        let waited = client.text(&["WAIT", "1", "1000"]).map_err(|error| error.to_string())?;
        if waited == "1" { Ok(()) } else { Err(waited) }
    })
    .expect("replica in sync");
    let id = cluster.nodes[slow].client().text(&["CLUSTER", "MYID"]).expect("id");
    client.send(&[b"SORT", list.as_bytes(), b"ALPHA", b"DESC", b"STORE", to.as_bytes()]).expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    let answer = cluster.nodes[heir].client().text(&["CLUSTER", "FAILOVER", "TAKEOVER"]).expect("reply");
    assert_eq!(answer, "OK");
    // Everybody goes on hearing of the slow one, and it of them.
    while start.elapsed() < took / 2 {
        let lines = cluster.lines(heir).expect("nodes");
        let line = lines.iter().find(|line| line.id == id).expect("its line");
        assert!(!line.is("fail"), "a long command has cost it its good name: {lines:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let reply = client.receive();
    println!("the former primary answered {reply:?} after {:?}", start.elapsed());
    assert!(!matches!(reply, Ok(Value::Int(_))), "a former primary acknowledged a write: {reply:?}");
    cluster.wait_ok(LIMIT).expect("whole again");
    assert_eq!(role(&cluster.nodes[heir]), "master");
    assert_eq!(role(&cluster.nodes[slow]), "slave");
    let first = |node: &Node| node.client().text(&["SORT", &list, "ALPHA", "LIMIT", "0", "1"]);
    assert!(first(&cluster.nodes[heir]).is_ok());
}

/// Nodes of two shards and three roots of their own, which all are told where the roots are.
struct Parts {
    roots: Vec<Node>,
    data: Cluster,
}

fn roots_text(addrs: &[(String, u16)]) -> String {
    addrs.iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(" ")
}

fn parts() -> Parts {
    let addrs: Vec<(String, u16)> = (0..3).map(|_| ("127.0.0.1".to_owned(), free_port())).collect();
    let list = roots_text(&addrs);
    let args = |roles: &'static str| ["--cluster-enabled", "yes", "--cluster-roles", roles, "--cluster-roots"];
    let start = |port: u16, roles: &'static str| {
        let mut all = args(roles).to_vec();
        all.push(&list);
        Node::start_at(Software::Pando, port, temp_dir(roles), &all).expect("node")
    };
    let roots = addrs.iter().map(|(_, port)| start(*port, "root")).collect();
    let nodes: Vec<Node> = (0..4).map(|_| start(free_port(), "data")).collect();
    let parts = Parts { roots, data: Cluster { nodes } };
    let text = |index: usize, args: &[&str]| parts.data.nodes[index].client().text(args).expect("reply");
    eventually(LIMIT, "all joined", || {
        let lines = parts.data.lines(0)?;
        if lines.len() == 7 { Ok(()) } else { Err(format!("{lines:?}")) }
    })
    .expect("all joined");
    assert_eq!(text(0, &["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]), "OK");
    assert_eq!(text(1, &["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]), "OK");
    for (replica, primary) in [(2, 0), (3, 1)] {
        let id = text(primary, &["CLUSTER", "MYID"]);
        assert_eq!(text(replica, &["CLUSTER", "REPLICATE", &id]), "OK");
    }
    // The reply means that the roots decided it. A copy of the data is there only when the node has followed.
    eventually(LIMIT, "the replicas follow", || {
        match parts.data.nodes[2..].iter().find(|node| role(node) != "slave") {
            None => Ok(()),
            Some(node) => Err(format!("{} does not", node.addr())),
        }
    })
    .expect("the replicas follow");
    wait_served(&parts.data);
    parts
}

/// All agree that all is well, at the addresses at which the nodes are.
fn wait_served(data: &Cluster) {
    eventually(LIMIT, "all slots served", || {
        for node in &data.nodes {
            let mut client = node.connect().map_err(|error| error.to_string())?;
            let info = client.text(&["CLUSTER", "INFO"]).map_err(|error| error.to_string())?;
            if info_field(&info, "cluster_state").as_deref() != Some("ok") {
                return Err(format!("{}: {info}", node.addr()));
            }
            let nodes = client.text(&["CLUSTER", "NODES"]).map_err(|error| error.to_string())?;
            for other in &data.nodes {
                if !nodes.contains(&format!("{}@", other.addr())) {
                    return Err(format!("{} does not know {}: {nodes}", node.addr(), other.addr()));
                }
            }
            let info = client.text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
            let link = info_field(&info, "master_link_status");
            if link.is_some_and(|status| status != "up") {
                return Err(info);
            }
        }
        Ok(())
    })
    .unwrap_or_else(|error| {
        let logs: Vec<String> = data.nodes.iter().map(|node| format!("{}\n{}", node.addr(), node.log_tail())).collect();
        panic!("{error}\n{}", logs.join("\n"));
    });
}

fn key_of(data: &Cluster, index: usize) -> String {
    let port = data.nodes[index].port;
    (0..1000).map(|n| format!("r{n}")).find(|key| data.owner_port(index, key) == Ok(port)).expect("key")
}

/// Which address a node redirects to.
fn moved(node: &Node, key: &str) -> String {
    let reply = node.client().text(&["GET", key]).expect("reply");
    reply.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_node_that_comes_back_elsewhere_is_the_same_node() {
    let mut parts = parts();
    let id = parts.data.nodes[0].client().text(&["CLUSTER", "MYID"]).expect("id");
    let key = key_of(&parts.data, 0);
    write_replicated(&parts.data, 0, &key, 50);
    // A primary, on another port: its replica takes over, and it follows.
    parts.data.nodes[0].move_to("127.0.0.1", free_port()).expect("moved");
    wait_served(&parts.data);
    assert_eq!(parts.data.nodes[0].client().text(&["CLUSTER", "MYID"]).expect("id"), id);
    assert_eq!((role(&parts.data.nodes[0]), role(&parts.data.nodes[2])), ("slave".into(), "master".into()));
    check_written(&parts.data, &key, 50);
    // A primary at another address; redirects lead there when it is primary again.
    parts.data.nodes[0].move_to("127.0.0.3", free_port()).expect("moved");
    wait_served(&parts.data);
    assert_eq!(parts.data.nodes[0].client().text(&["CLUSTER", "FAILOVER"]).expect("reply"), "OK");
    wait_served(&parts.data);
    let expected = parts.data.nodes[0].addr().to_string();
    eventually(LIMIT, "redirects", || {
        let target = moved(&parts.data.nodes[1], &key);
        if target == expected { Ok(()) } else { Err(target) }
    })
    .expect("redirects lead to the new address");
    check_written(&parts.data, &key, 50);
    // A root: the others find it.
    parts.roots[1].move_to("127.0.0.4", free_port()).expect("moved");
    parts.roots[1].wait_ready().expect("root");
    parts.roots[0].kill();
    // Two of three are left, one of them at its new address.
    let answer = eventually(LIMIT, "a commit", || {
        let reply = parts.data.nodes[1].client().text(&["CLUSTER", "BUMPEPOCH"]).map_err(|error| error.to_string())?;
        if reply.starts_with('-') { Err(reply) } else { Ok(()) }
    });
    assert!(answer.is_ok(), "{answer:?}\n{}\n{}", parts.roots[1].log_tail(), parts.roots[2].log_tail());
}

#[test]
fn all_nodes_come_back_elsewhere_at_once() {
    let mut parts = parts();
    let ids = |data: &Cluster| -> Vec<String> {
        data.nodes.iter().map(|node| node.client().text(&["CLUSTER", "MYID"]).expect("id")).collect()
    };
    let before = ids(&parts.data);
    let addrs: Vec<(String, u16)> = (0..3).map(|n| (format!("127.0.0.{}", 11 + n), free_port())).collect();
    let list = roots_text(&addrs);
    for node in parts.roots.iter_mut().chain(&mut parts.data.nodes) {
        node.kill();
        // As if the names had other addresses now.
        *node.args.last_mut().expect("the roots") = list.clone();
    }
    for (root, (host, port)) in parts.roots.iter_mut().zip(&addrs) {
        root.move_to(host, *port).expect("moved");
    }
    for (index, node) in parts.data.nodes.iter_mut().enumerate() {
        node.move_to(&format!("127.0.0.{}", 21 + index), free_port()).expect("moved");
    }
    wait_served(&parts.data);
    assert_eq!(ids(&parts.data), before);
}

#[test]
fn the_older_of_two_processes_of_one_node_stops_writing() {
    let parts = parts();
    let old = &parts.data.nodes[1];
    let key = key_of(&parts.data, 1);
    let copy = temp_dir("copy");
    std::fs::copy(old.dir.join("nodes.conf"), copy.join("nodes.conf")).expect("copied");
    let args: Vec<&str> = old.args.iter().map(String::as_str).collect();
    let newer = Node::start_at(Software::Pando, free_port(), copy, &args).expect("the newer process");
    eventually(LIMIT, "the older one stops", || {
        let reply = old.client().text(&["SET", &key, "x"]).map_err(|error| error.to_string())?;
        if reply.starts_with('-') { Ok(()) } else { Err(reply) }
    })
    .expect("the older one stops");
    eventually(LIMIT, "it says why", || {
        let log = std::fs::read_to_string(old.dir.join("server.log")).map_err(|error| error.to_string())?;
        if log.contains("another process of this node") { Ok(()) } else { Err(log) }
    })
    .expect("it says why");
    // The shard is served again, by the replica that has the data.
    eventually(LIMIT, "served", || {
        let mut client = Client::connect(parts.data.nodes[3].port).map_err(|error| error.to_string())?;
        let reply = client.text(&["SET", &key, "y"]).map_err(|error| error.to_string())?;
        if reply == "OK" { Ok(()) } else { Err(reply) }
    })
    .expect("served");
    assert_eq!(role(&newer), "slave");
}
