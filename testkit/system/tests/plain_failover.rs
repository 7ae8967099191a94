// SPDX-License-Identifier: BSD-3-Clause
//! A primary outside of a cluster changes places with a replica, by FAILOVER or before it ends, under load: between Pando
//! nodes and between Pando and a real Valkey 9.1.2.

use std::net::SocketAddr;
use std::time::Duration;

use pando_procs::client::info_field;
use pando_procs::history::Verdict;
use pando_procs::{AppendPlan, AppendReport, Appends, Client, Node, Seek, Software, eventually, judge, read_lists};

const LIMIT: Duration = Duration::from_secs(30);

fn addr(node: &Node) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], node.port))
}

/// A field of INFO replication.
fn field(node: &Node, name: &str) -> String {
    info_field(&node.client().text(&["INFO", "replication"]).expect("info"), name).unwrap_or_default()
}

fn wait_field(node: &Node, name: &str, value: &str) {
    eventually(LIMIT, name, || match field(node, name) {
        now if now == value => Ok(()),
        now => Err(format!("{name}:{now} on port {}\n{}", node.port, node.log_tail())),
    })
    .expect("it comes to be");
}

fn replica(software: Software, primary: &Node, args: &[&str]) -> Node {
    let address = format!("127.0.0.1 {}", primary.port);
    let node = Node::start(software, &[&["--replicaof", &address][..], args].concat()).expect("replica");
    wait_field(&node, "master_link_status", "up");
    node
}

/// A replica is online for its primary only after its first acknowledgement.
fn wait_online(primary: &Node, count: usize) {
    eventually(LIMIT, "replicas online", || {
        let info = primary.client().text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
        if info.matches("state=online").count() == count { Ok(()) } else { Err(info) }
    })
    .expect("replicas online");
}

fn ok(node: &Node, args: &[&str]) {
    assert_eq!(node.client().text(args).as_deref().unwrap_or_default(), "OK", "{args:?}\n{}", node.log_tail());
}

fn load(nodes: &[&Node]) -> Appends {
    Appends::start(AppendPlan::new(Seek::Role(nodes.iter().map(|node| addr(node)).collect()), 3))
}

/// Ends the load; every rule holds, nothing that was acknowledged is lost.
fn finish(name: &str, load: Appends) -> (Verdict, AppendReport) {
    let plan = load.plan();
    let report = load.stop();
    let verdict = judge(&report.history, &read_lists(&plan, LIMIT).expect("lists"));
    println!("{name}: {verdict}, {} redirected, errors {:?}", report.redirected, report.errors);
    assert_eq!(verdict.broken, Vec::<String>::new());
    assert_eq!(verdict.lost_unkept, 0, "lost");
    (verdict, report)
}

fn check_there_and_back(one: Software, other: Software) {
    let first = Node::start(one, &[]).expect("primary");
    let second = replica(other, &first, &[]);
    wait_online(&first, 1);
    let load = load(&[&first, &second]);
    load.wait_more(200, LIMIT).expect("appends");
    for (from, to) in [(&first, &second), (&second, &first)] {
        let fulls = |node: &Node| info_field(&node.client().text(&["INFO", "stats"]).expect("info"), "sync_full");
        let before = fulls(to);
        ok(from, &["FAILOVER", "TO", "127.0.0.1", &to.port.to_string(), "TIMEOUT", "20000"]);
        wait_field(from, "master_failover_state", "no-failover");
        wait_field(from, "role", "slave");
        wait_field(to, "role", "master");
        wait_field(from, "master_link_status", "up");
        wait_online(to, 1);
        load.wait_more(200, LIMIT).expect("appends go on");
        assert_eq!(fulls(to), before, "a full sync");
    }
    let (verdict, report) = finish(&format!("FAILOVER {one:?} to {other:?} and back"), load);
    assert_eq!(verdict.unknown, 0, "{:?}", report.errors);
    assert!(report.redirected > 0, "nobody was redirected");
}

#[test]
fn failover_between_pando_nodes_loses_nothing() {
    check_there_and_back(Software::Pando, Software::Pando);
}

#[test]
fn failover_between_pando_and_valkey_loses_nothing() {
    check_there_and_back(Software::Pando, Software::Valkey);
}

#[test]
fn failover_refuses_what_cannot_be() {
    let primary = Node::start(Software::Pando, &[]).expect("primary");
    let check = |node: &Node, args: &[&str], expected: &str| {
        let mut all = vec!["FAILOVER"];
        all.extend_from_slice(args);
        assert_eq!(node.client().text(&all).expect("reply"), format!("-ERR {expected}"), "{args:?}");
    };
    check(&primary, &[], "FAILOVER requires connected replicas.");
    check(&primary, &["ABORT"], "No failover in progress.");
    check(&primary, &["TIMEOUT", "0"], "FAILOVER timeout must be greater than 0");
    check(&primary, &["ABORT", "FORCE"], "syntax error");
    let only = primary.client().text(&["SHUTDOWN", "FAILOVER"]).expect("reply");
    assert_eq!(only, "-ERR SHUTDOWN FAILOVER is only supported in cluster mode.");
    let mut replica = replica(Software::Pando, &primary, &[]);
    wait_online(&primary, 1);
    check(&replica, &[], "FAILOVER is not valid when server is a replica.");
    check(&primary, &["TO", "127.0.0.1", "1"], "FAILOVER target HOST and PORT is not a replica.");
    let port = replica.port.to_string();
    let force = "FAILOVER with force option requires both a timeout and target HOST and IP.";
    check(&primary, &["TO", "127.0.0.1", &port, "FORCE"], force);
    check(&primary, &["FORCE", "TIMEOUT", "10"], force);
    let psync = |node: &Node, args: &[&str]| node.client().text(args).expect("reply");
    let not_mine = "-ERR PSYNC FAILOVER replid must match my replid.";
    assert_eq!(psync(&replica, &["PSYNC", "x", "1", "FAILOVER"]), not_mine);
    let not_me = "-ERR PSYNC FAILOVER can't be sent to a master.";
    assert_eq!(psync(&primary, &["PSYNC", "x", "1", "FAILOVER"]), not_me);
    replica.pause();
    ok(&primary, &["SET", "key", "value"]);
    ok(&primary, &["FAILOVER"]);
    assert_eq!(field(&primary, "master_failover_state"), "waiting-for-sync");
    check(&primary, &[], "FAILOVER already in progress.");
    let follow = primary.client().text(&["REPLICAOF", "127.0.0.1", "1"]).expect("reply");
    assert_eq!(follow, "-ERR REPLICAOF not allowed while failing over.");
    let sync = psync(&primary, &["PSYNC", "?", "-1"]);
    assert_eq!(sync, "-NOMASTERLINK Can't SYNC while failing over");
    let mut held = primary.client();
    held.send(&[b"SET", b"key", b"held"]).expect("sent");
    assert_eq!(primary.client().text(&["GET", "key"]).expect("reads go on"), "value");
    ok(&primary, &["FAILOVER", "ABORT"]);
    assert_eq!(held.receive().expect("goes on"), pando_resp::decode::Value::Simple("OK".into()));
    replica.resume();
    assert_eq!(field(&primary, "role"), "master");
    wait_field(&replica, "master_link_status", "up");
}

#[test]
fn a_replica_that_says_no_leaves_the_primary_as_it_was() {
    let primary = Node::start(Software::Pando, &[]).expect("primary");
    let mut replica = replica(Software::Valkey, &primary, &[]);
    wait_online(&primary, 1);
    ok(&replica, &["ACL", "SETUSER", "default", "-psync"]);
    replica.pause();
    ok(&primary, &["SET", "key", "before"]);
    let mut popper = primary.client();
    popper.send(&[b"BRPOP", b"list", b"0"]).expect("sent");
    ok(&primary, &["FAILOVER"]);
    let mut pusher = primary.client();
    pusher.send(&[b"LPUSH", b"list", b"value"]).expect("sent");
    replica.resume();
    wait_field(&primary, "master_failover_state", "no-failover");
    assert_eq!(field(&primary, "role"), "master");
    assert_eq!(pusher.receive().expect("push"), pando_resp::decode::Value::Int(1));
    assert!(format!("{:?}", popper.receive().expect("pop")).contains("Array"));
    wait_field(&replica, "master_link_status", "up");
    assert!(primary.log_tail().contains("Failover target rejected psync request"), "{}", primary.log_tail());
}

#[test]
fn force_promotes_a_replica_that_lags() {
    let primary = Node::start(Software::Pando, &[]).expect("primary");
    let mut replica = replica(Software::Pando, &primary, &[]);
    wait_online(&primary, 1);
    replica.pause();
    ok(&primary, &["SET", "key", "late"]);
    ok(&primary, &["FAILOVER", "TO", "127.0.0.1", &replica.port.to_string(), "TIMEOUT", "100", "FORCE"]);
    wait_field(&primary, "master_failover_state", "failover-in-progress");
    assert_eq!(field(&primary, "role"), "slave");
    replica.resume();
    wait_field(&primary, "master_failover_state", "no-failover");
    wait_field(&replica, "role", "master");
    wait_field(&primary, "master_link_status", "up");
    // What was on its way when it was given up is not lost: the order says how far the log goes.
    assert_eq!(replica.client().text(&["GET", "key"]).expect("get"), "late");
}

fn check_end(software: Software, by_command: bool) {
    let args: &[&str] = if by_command { &[] } else { &["--shutdown-on-sigterm", "failover"] };
    let mut primary = Node::start(Software::Pando, args).expect("primary");
    let heir = replica(software, &primary, &[]);
    wait_online(&primary, 1);
    // The heir will have no replica to wait for.
    let seek = Seek::Role(vec![addr(&primary), addr(&heir)]);
    let load = Appends::start(AppendPlan { wait_every: usize::MAX, ..AppendPlan::new(seek, 3) });
    load.wait_more(300, LIMIT).expect("appends");
    if by_command {
        primary.client().send(&[b"SHUTDOWN", b"FAILOVER"]).expect("sent");
    } else {
        primary.terminate();
    }
    assert_eq!(primary.wait_exit(LIMIT), Some(0), "{}", primary.log_tail());
    load.wait_more(300, LIMIT).expect("appends go on");
    wait_field(&heir, "role", "master");
    let (verdict, report) = finish(&format!("end of a primary, {software:?} takes over"), load);
    assert_eq!(verdict.unknown, 0, "{:?}", report.errors);
}

#[test]
fn a_primary_that_ends_changes_places_first() {
    check_end(Software::Pando, false);
    check_end(Software::Pando, true);
    check_end(Software::Valkey, false);
}

#[test]
fn without_a_replica_that_can_take_over_it_ends_in_time() {
    let args = ["--shutdown-on-sigterm", "failover", "--shutdown-timeout", "1"];
    let mut primary = Node::start(Software::Pando, &args).expect("primary");
    let mut replica = replica(Software::Pando, &primary, &[]);
    wait_online(&primary, 1);
    replica.pause();
    ok(&primary, &["SET", "key", "value"]);
    primary.terminate();
    assert_eq!(primary.wait_exit(LIMIT), Some(0), "{}", primary.log_tail());
    assert!(primary.log_tail().contains("Replica never caught up before timeout"), "{}", primary.log_tail());
    replica.resume();
    assert_eq!(field(&replica, "role"), "slave");
}

#[test]
fn shutdown_abort_calls_the_change_off() {
    let primary = Node::start(Software::Pando, &["--shutdown-timeout", "600"]).expect("primary");
    let mut replica = replica(Software::Pando, &primary, &[]);
    wait_online(&primary, 1);
    replica.pause();
    ok(&primary, &["SET", "key", "value"]);
    let mut ending = primary.client();
    ending.send(&[b"SHUTDOWN", b"FAILOVER"]).expect("sent");
    wait_field(&primary, "master_failover_state", "waiting-for-sync");
    ok(&primary, &["SHUTDOWN", "ABORT"]);
    wait_field(&primary, "master_failover_state", "no-failover");
    ok(&primary, &["SET", "key", "again"]);
    replica.resume();
    wait_field(&replica, "master_link_status", "up");
    let role = Client::connect(primary.port).expect("connect").text(&["INFO", "replication"]).expect("info");
    assert!(role.contains("role:master"), "{role}");
}
