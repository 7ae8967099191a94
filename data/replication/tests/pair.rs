// SPDX-License-Identifier: BSD-3-Clause
//! Nodes of one process over loopback: full and partial syncs, chains, promotions.

mod common;

use common::{Node, config, eventually};
use pando_replication::{LinkState, ReplicaState, ReplicationConfig};
use std::sync::atomic::Ordering;

#[test]
fn a_full_sync_then_the_stream() {
    let (a, b) = (Node::start(config()), Node::start(config()));
    a.churn(1, 2000);
    assert_eq!(a.replication.offset(), 0, "nobody reads the log yet");
    b.set(0, "old", "goes with the full sync");
    b.follow(&a);
    a.churn(2, 2000);
    b.has_caught_up_with(&a);
    a.churn(3, 500);
    b.has_caught_up_with(&a);
    assert_eq!(b.get(0, "old"), None);
    let (of_a, of_b) = (a.replication.status(), b.replication.status());
    assert_eq!((of_a.sync_full, of_a.replid), (1, of_b.replid));
    assert!(of_b.primary.is_some_and(|link| link.state == LinkState::Connected && link.synced));
    assert_eq!(of_a.replicas.len(), 1);
    assert_eq!((of_a.replicas[0].port, of_a.replicas[0].state), (b.port, ReplicaState::Online));
    a.replication.request_acks();
    eventually("the replica acknowledges", || {
        let end = a.replication.offset();
        let acked = a.data.acks.lock().values().copied().max();
        // The GETACK itself is not waited for.
        acked.is_some_and(|acked| acked + 40 >= end) && a.data.good_replicas.load(Ordering::SeqCst) == 1
    });
}

#[test]
fn a_broken_link_is_continued() {
    let (a, b) = (Node::start(config()), Node::start(config()));
    b.follow(&a);
    a.churn(1, 100);
    b.has_caught_up_with(&a);
    for round in 0..5 {
        if round % 2 == 0 {
            b.replication.kill_primary_link();
        } else {
            a.replication.kill_replicas(None);
        }
        a.churn(round, 300);
        b.has_caught_up_with(&a);
    }
    let status = a.replication.status();
    assert_eq!(status.sync_full, 1);
    assert!(status.sync_partial_ok >= 1);
}

#[test]
fn who_was_away_for_too_long_gets_a_full_sync() {
    let small = ReplicationConfig { repl_backlog_size: 16 * 1024, ..config() };
    let (a, b) = (Node::start(small), Node::start(config()));
    b.follow(&a);
    a.churn(1, 10);
    b.has_caught_up_with(&a);
    a.refuses.store(true, Ordering::SeqCst);
    a.replication.kill_replicas(None);
    eventually("the link is down", || !b.replication.position().link_up);
    a.churn(2, 1000);
    a.refuses.store(false, Ordering::SeqCst);
    b.has_caught_up_with(&a);
    let status = a.replication.status();
    assert_eq!((status.sync_full, status.sync_partial_err), (2, 1));
    assert!(status.backlog_len <= 16 * 1024);
}

#[test]
fn a_chain_survives_the_promotion_of_its_middle() {
    let nodes = [(); 3].map(|()| Node::start(config()));
    let [a, b, c] = &nodes;
    a.churn(1, 500);
    b.follow(a);
    b.has_caught_up_with(a);
    c.follow(b);
    a.churn(2, 500);
    b.has_caught_up_with(a);
    c.has_caught_up_with(b);
    assert_eq!(a.replication.offset(), c.replication.offset());
    // A clean handover: a stops writing, b has all of it.
    a.replication.replica_of(Some(("127.0.0.1", b.port)));
    b.replication.promote();
    b.churn(3, 500);
    c.has_caught_up_with(b);
    a.has_caught_up_with(b);
    b.set(9, "after", "promotion");
    c.has_caught_up_with(b);
    a.has_caught_up_with(b);
    let of_b = b.replication.status();
    // c once; a continues with what is the second id now.
    assert_eq!((of_b.sync_full, of_b.primary.is_none()), (1, true));
    assert_eq!(a.replication.status().replid, of_b.replid);
    assert_eq!(c.replication.status().replid, of_b.replid);
    assert_ne!(of_b.replid, of_b.replid2);
    assert_eq!(a.replication.status().replid2, of_b.replid2);
}

#[test]
fn a_primary_with_writes_of_its_own_has_to_start_over() {
    let (a, b) = (Node::start(config()), Node::start(config()));
    b.follow(&a);
    a.churn(1, 100);
    b.has_caught_up_with(&a);
    b.replication.promote();
    a.set(0, "only", "at a");
    b.set(0, "other", "at b");
    b.set(0, "another", "at b");
    a.follow(&b);
    a.has_caught_up_with(&b);
    assert_eq!(a.get(0, "only"), None);
    assert_eq!(b.replication.status().sync_full, 1);
}

#[test]
fn a_transaction_is_applied_as_one() {
    let (a, b) = (Node::start(config()), Node::start(config()));
    b.follow(&a);
    a.set(0, "k", "v");
    b.has_caught_up_with(&a);
    let half = b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\n1\r\n";
    a.replication.log().append(0, half);
    // A transaction of which only the beginning arrived is asked for again.
    b.replication.kill_primary_link();
    a.replication.log().append(0, b"*3\r\n$3\r\nSET\r\n$1\r\ny\r\n$1\r\n2\r\n*1\r\n$4\r\nEXEC\r\n");
    eventually("both keys", || b.get(0, "x").is_some() && b.get(0, "y").is_some());
    eventually("the offset", || a.replication.offset() == b.replication.offset());
    assert_eq!(b.data.transactions.load(Ordering::SeqCst), 1);
    assert_eq!(a.replication.status().sync_full, 1);
}

#[test]
fn several_replicas_and_a_busy_walk() {
    let a = Node::start(config());
    a.churn(1, 1000);
    a.data.walk_busy.store(true, Ordering::SeqCst);
    let replicas = [(); 4].map(|()| Node::start(config()));
    for b in &replicas {
        b.follow(&a);
    }
    eventually("all wait", || {
        let replicas = a.replication.status().replicas;
        replicas.len() == 4 && replicas.iter().all(|r| r.state == ReplicaState::WaitBgsave)
    });
    a.data.walk_busy.store(false, Ordering::SeqCst);
    a.churn(2, 1000);
    for b in &replicas {
        b.has_caught_up_with(&a);
    }
    assert_eq!(a.replication.status().sync_full, 4);
}

#[test]
fn a_replica_without_its_primary_gives_nothing() {
    let (a, b, c) = (Node::start(config()), Node::start(config()), Node::start(config()));
    a.refuses.store(true, Ordering::SeqCst);
    b.follow(&a);
    c.follow(&b);
    eventually("the reason is told", || {
        let error = c.replication.status().primary.and_then(|link| link.last_error);
        error.is_some_and(|error| error.contains("NOMASTERLINK"))
    });
    assert!(!c.replication.position().synced);
    a.set(0, "k", "v");
    a.refuses.store(false, Ordering::SeqCst);
    c.has_caught_up_with(&a);
}

/// Roles change at random while the primary of the moment writes; in the end all agree.
#[test]
fn random_role_changes_converge() {
    let nodes = [(); 3].map(|()| Node::start(config()));
    let mut x = 7u64;
    let mut primary = 0;
    for round in 0..12 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        nodes[primary].churn(x, 50);
        let next = (x >> 33) as usize % 3;
        if round % 3 == 2 {
            nodes[next].has_caught_up_with(&nodes[primary]);
        }
        nodes[next].replication.promote();
        for (i, node) in nodes.iter().enumerate() {
            if i != next {
                node.follow(&nodes[next]);
            }
        }
        primary = next;
    }
    nodes[primary].churn(99, 200);
    for node in &nodes {
        node.has_caught_up_with(&nodes[primary]);
    }
}

/// A replica from before `capa eof`: it needs the length first, and gets the stream without asking again.
#[test]
fn old_replicas_get_a_length() {
    use pando_formats::rdb::{RdbItem, RdbReader};
    use std::io::{BufRead, BufReader, Read, Write};
    let a = Node::start(config());
    a.churn(1, 3000);
    for request in [
        "*1\r\n$4\r\nSYNC\r\n",
        "*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n",
        // An offset that has none before it.
        "*3\r\n$5\r\nPSYNC\r\n$1\r\nx\r\n$20\r\n-9223372036854775808\r\n",
    ] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", a.port)).expect("the node listens");
        stream.write_all(request.as_bytes()).expect("the node listens");
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            while line.trim().is_empty() {
                line.clear();
                reader.read_line(&mut line).expect("a line");
            }
            line.trim_end().to_owned()
        };
        if request.contains("PSYNC") {
            let full = line();
            assert!(full.starts_with("+FULLRESYNC "), "{full}");
        }
        let len: usize = line().strip_prefix('$').and_then(|len| len.parse().ok()).expect("a length");
        let mut image = vec![0; len];
        reader.read_exact(&mut image).expect("the image");
        let mut rdb = RdbReader::new();
        rdb.push(&image);
        let mut keys = 0;
        while let Some(item) = rdb.next().expect("a valid image") {
            keys += usize::from(matches!(item, RdbItem::Record(_)));
        }
        assert!(rdb.is_done());
        assert_eq!(keys, a.map().len());
        a.set(1, "next", request);
        let mut stream = vec![0; 23 + 20];
        reader.read_exact(&mut stream).expect("the stream");
        assert!(stream.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n*3\r\n$3\r\nSET\r\n"));
    }
}

/// A replica that reads nothing is cut off at the output limit, and the writers never notice.
#[test]
fn a_replica_that_lags_too_far_is_cut_off() {
    use std::io::Write;
    let a = Node::start(ReplicationConfig { replica_output_limit: 2 << 20, ..config() });
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", a.port)).expect("the node listens");
    stream.write_all(b"*1\r\n$4\r\nSYNC\r\n").expect("the node listens");
    eventually("it is online", || {
        let replicas = a.replication.status().replicas;
        replicas.first().is_some_and(|replica| replica.state == ReplicaState::Online)
    });
    let value = "x".repeat(100_000);
    // More than the sockets' buffers and the limit together.
    eventually("it is cut off", || {
        a.set(0, "k", &value);
        a.replication.status().replicas.is_empty()
    });
}

/// Who says nothing for `repl-timeout` is given up, by either side.
#[test]
fn silence_ends_a_link() {
    use std::io::Write;
    let short = ReplicationConfig { repl_timeout: std::time::Duration::from_millis(300), ..config() };
    let a = Node::start(short.clone());
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", a.port)).expect("the node listens");
    stream.write_all(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n").expect("the node listens");
    eventually("it came", || a.replication.status().sync_full == 1);
    eventually("it was given up", || a.replication.status().replicas.is_empty());
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
    let b = Node::start(short);
    b.replication.replica_of(Some(("127.0.0.1", mute.local_addr().expect("bound").port())));
    eventually("it was given up", || {
        let error = b.replication.status().primary.and_then(|link| link.last_error);
        error.is_some_and(|error| error.contains("timed out"))
    });
    b.replication.promote();
    assert!(b.replication.status().primary.is_none());
}
