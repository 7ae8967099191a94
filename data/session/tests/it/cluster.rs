// SPDX-License-Identifier: BSD-3-Clause
//! Redirections and the write lease. Slots 0..8191 are mine, 8192..12000 are another shard's, the
//! rest is nobody's. `b` is in slot 3300, `a` in 15495, `foo` in 12182, `c` in 7365, `k9` elsewhere.

use crate::harness::{Client, Server};
use pando_session::{ClusterView, Role};
use pando_topology::{
    ClusterId, ClusterMap, Incarnation, MapParts, Node, NodeId, RootSet, Shard, ShardId, Slot, SlotRange, SlotSet,
    TopologyVersion,
};
use std::sync::Arc;

const CROSSSLOT: &str = "-CROSSSLOT Keys in request don't hash to the same slot";
const DOWN: &str = "-CLUSTERDOWN The cluster is down";
const UNSERVED: &str = "-CLUSTERDOWN Hash slot not served";

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 20])
}

fn slots(first: u16, last: u16) -> SlotSet {
    let mut set = SlotSet::new();
    set.insert_range(SlotRange { first: Slot::new(first).unwrap(), last: Slot::new(last).unwrap() });
    set
}

/// Node 1 with replica 3, and node 2, seen from node `me`.
fn view(me: u8) -> Option<Arc<ClusterView>> {
    let shard = |n: u8, replicas: &[u8], slots: SlotSet| Shard {
        id: ShardId::from_bytes([n; 20]),
        epoch: 1,
        reign: TopologyVersion::ZERO,
        primary: id(n),
        primary_incarnation: Incarnation::ZERO,
        replicas: replicas.iter().map(|n| id(*n)).collect(),
        slots,
        wants_replica: false,
    };
    let node = |n: u8, shard: u8| {
        let mut node = Node::new(id(n), "10.0.0.".to_owned() + &n.to_string(), 7000 + u16::from(n));
        node.shard = Some(ShardId::from_bytes([shard; 20]));
        node
    };
    let nodes = [node(1, 1), node(2, 2), node(3, 1)];
    let shards = [shard(1, &[3], slots(0, 8191)), shard(2, &[], slots(8192, 12000))];
    let map = ClusterMap::new(MapParts {
        cluster_id: ClusterId::from_bytes([9; 20]),
        version: TopologyVersion::ZERO,
        current_epoch: 1,
        nodes: nodes.into_iter().map(|node| (node.id, Arc::new(node))).collect(),
        shards: shards.into_iter().map(|shard| (shard.id, Arc::new(shard))).collect(),
        roots: RootSet::default(),
    })
    .unwrap();
    Some(Arc::new(ClusterView::new(Arc::new(map), id(me))))
}

fn cluster(me: u8) -> (Server, Client) {
    let server = Server::with(|settings| settings.cluster_enabled = true);
    server.engine.set_cluster(view(me));
    let client = server.client();
    (server, client)
}

/// A key of the other shard.
fn foreign_key() -> String {
    (0..).map(|n| format!("k{n}")).find(|key| (8192..=12000).contains(&Slot::of_key(key.as_bytes()).number())).unwrap()
}

#[test]
fn redirections() {
    let (server, mut client) = cluster(1);
    let key = foreign_key();
    let moved = format!("-MOVED {} 10.0.0.2:7002", Slot::of_key(key.as_bytes()).number());
    client.check(&[
        ("SET b 1", "+OK"),
        ("GET a", UNSERVED),
        (&format!("GET {key}"), &moved),
        (&format!("SPUBLISH {key} m"), &moved),
        (&format!("SSUBSCRIBE {key}"), &moved),
        (&format!("WATCH {key}"), &moved),
        ("PUBLISH anything m", ":0"),
        ("MGET b c", CROSSSLOT),
        ("MGET {b}1 {b}2", "[nil, nil]"),
        ("SSUBSCRIBE b c", CROSSSLOT),
        ("DBSIZE", ":1"),
        ("SWAPDB 0 1", "-ERR SWAPDB is not allowed in cluster mode"),
        ("MULTI", "+OK"),
        (&format!("GET {key}"), &moved),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("MULTI", "+OK"),
        ("GET b", "+QUEUED"),
        ("GET c", "+QUEUED"),
        ("EXEC", CROSSSLOT),
        ("EXEC", "-ERR EXEC without MULTI"),
        ("ASKING", "+OK"),
        ("MULTI", "+OK"),
        ("GET b", "+QUEUED"),
    ]);
    // The slot leaves while the transaction is open.
    server.engine.set_cluster(view(2));
    client.check(&[
        ("EXEC", "-MOVED 3300 10.0.0.1:7001"),
        ("GET b", "-MOVED 3300 10.0.0.1:7001"),
        (&format!("GET {key}"), "nil"),
    ]);
    server.engine.set_cluster(None);
    assert_eq!(client.run("GET b"), UNSERVED);
}

#[test]
fn replicas_serve_reads_when_asked_to() {
    let (server, mut client) = cluster(3);
    server.engine.gate.set_role(Role::Replica);
    client.check(&[
        ("GET b", "-MOVED 3300 10.0.0.1:7001"),
        ("READONLY", "+OK"),
        ("GET b", "nil"),
        ("SET b 1", "-MOVED 3300 10.0.0.1:7001"),
        ("READWRITE", "+OK"),
        ("GET b", "-MOVED 3300 10.0.0.1:7001"),
        ("SSUBSCRIBE b", r#"["ssubscribe", "b", :1]"#),
    ]);
}

#[test]
fn without_a_lease_nothing_is_written() {
    let (server, mut client) = cluster(1);
    server.engine.gate.set_lease_until(0);
    client.check(&[("SET b 1", DOWN), ("GET b", DOWN), ("FLUSHALL", DOWN), ("PING", "+PONG"), ("SPUBLISH b m", ":0")]);
    server.engine.update_settings(|settings| settings.cluster_allow_reads_when_down = true);
    client.check(&[("SET b 1", "-CLUSTERDOWN The cluster is down and only accepts read commands"), ("GET b", "nil")]);
    server.engine.gate.set_lease_until(pando_session::boot_ms() + 100_000);
    assert_eq!(client.run("SET b 1"), "+OK");
    let reign = client.worker.take_wrote().expect("a write");
    assert!(server.engine.may_acknowledge(reign));
    server.engine.gate.set_cluster_ok(false);
    client.check(&[("SET b 1", "-CLUSTERDOWN The cluster is down and only accepts read commands"), ("GET b", "\"1\"")]);
    assert_eq!(client.worker.take_wrote(), None);
    // Somebody else was the primary between the execution and the answer.
    server.engine.gate.set_role(pando_session::Role::Replica);
    server.engine.gate.set_role(pando_session::Role::Primary);
    assert!(!server.engine.may_acknowledge(reign));
}

#[test]
fn sharded_subscriptions_end_with_the_slot() {
    let (server, mut client) = cluster(1);
    client.run("SSUBSCRIBE b");
    client.run("SSUBSCRIBE c");
    server.engine.slots_lost(&[Slot::of_key(b"b")]);
    assert_eq!(server.pushed(&client), [r#"["sunsubscribe", "b", :1]"#]);
    server.engine.slots_lost(&[Slot::of_key(b"c")]);
    assert!(server.engine.pubsub.is_empty());
    assert_eq!(client.run("GET b"), "nil");
}

#[test]
fn messages_go_to_the_other_nodes() {
    let (server, mut client) = cluster(1);
    let sent: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let sink = sent.clone();
    let hook = move |channel: &[u8], message: &[u8], is_sharded: bool| {
        let text = String::from_utf8_lossy(&[channel, b" ", message].concat()).into_owned();
        sink.lock().unwrap().push(format!("{text} {is_sharded}"));
    };
    let _ = server.engine.publish_hook.set(Box::new(hook));
    client.run("PUBLISH a m");
    client.run("SPUBLISH b m");
    assert_eq!(*sent.lock().unwrap(), ["a m false", "b m true"]);
}

#[test]
fn a_standalone_replica_redirects_capable_clients() {
    struct Primary;
    impl pando_session::Host for Primary {
        fn primary_address(&self) -> Option<(String, u16)> {
            Some(("10.0.0.1".into(), 7001))
        }
    }
    let server = Server::new();
    let _ = server.engine.host.set(Box::new(Primary));
    server.engine.gate.set_role(Role::Replica);
    let mut client = server.client();
    client.check(&[
        ("SET a 1", "-READONLY You can't write against a read only replica."),
        ("GET a", "nil"),
        ("CLIENT CAPA redirect", "+OK"),
        ("SET a 1", "-REDIRECT 10.0.0.1:7001"),
        ("GET a", "-REDIRECT 10.0.0.1:7001"),
        ("PING", "+PONG"),
        ("READONLY", "+OK"),
        ("GET a", "nil"),
        ("SET a 1", "-REDIRECT 10.0.0.1:7001"),
    ]);
}

#[test]
fn clients_that_wait_follow_their_slot() {
    let (server, mut client) = cluster(1);
    client.check(&[("BLPOP a 0", UNSERVED), ("BLPOP b c 0", CROSSSLOT), ("BLPOP b 0", "")]);
    // Something else changes: it goes on waiting.
    server.engine.set_cluster(view(1));
    server.pump(&mut [&mut client]);
    assert!(client.is_blocked());
    server.engine.set_cluster(view(2));
    server.pump(&mut [&mut client]);
    assert_eq!(client.replies(), "-MOVED 3300 10.0.0.1:7001");
    server.engine.set_cluster(view(1));
    client.check(&[("BLPOP b 0", "")]);
    server.engine.set_cluster_ok(false);
    server.pump(&mut [&mut client]);
    assert_eq!(client.replies(), DOWN);
    server.engine.set_cluster_ok(true);
    client.check(&[("BLPOP b 0", "")]);
    server.engine.set_cluster(None);
    server.pump(&mut [&mut client]);
    assert_eq!(client.replies(), UNSERVED);
    assert_eq!(server.engine.keyspace.blocking_keys(), (0, 0));
}

#[test]
fn readers_wait_on_replicas_and_writers_go_to_the_primary() {
    let (server, mut client) = cluster(1);
    let mut reader = server.client();
    reader.check(&[("READONLY", "+OK"), ("XREAD BLOCK 0 STREAMS b $", "")]);
    client.check(&[("BLPOP b 0", "")]);
    server.engine.set_role(Role::Replica);
    server.engine.set_cluster(view(3));
    server.pump(&mut [&mut client, &mut reader]);
    assert_eq!(client.replies(), "-MOVED 3300 10.0.0.1:7001");
    assert!(reader.is_blocked());
    let mut apply = pando_session::ApplySession::new(&server.engine);
    server.engine.apply(&mut apply, &[b"XADD", b"b", b"1-1", b"f", b"v"]).unwrap();
    server.pump(&mut [&mut reader]);
    assert_eq!(reader.replies(), "[[\"b\", [[\"1-1\", [\"f\", \"v\"]]]]]");
}

#[test]
fn without_a_lease_nobody_is_served() {
    let (server, mut client) = cluster(1);
    client.check(&[("BLPOP b 0", "")]);
    server.engine.gate.set_lease_until(0);
    let mut apply = pando_session::ApplySession::new(&server.engine);
    server.engine.apply(&mut apply, &[b"RPUSH", b"b", b"1"]).unwrap();
    let slot = Slot::of_key(b"b");
    assert!(!server.engine.serve_slot(&mut client.worker, slot));
    server.engine.gate.set_lease_until(u64::MAX);
    assert!(server.engine.serve_slot(&mut client.worker, slot));
    server.pump(&mut [&mut client]);
    assert_eq!(client.replies(), "[\"b\", \"1\"]");
}
