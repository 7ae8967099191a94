// SPDX-License-Identifier: BSD-3-Clause
//! Replication between processes: Pando to Pando, Pando to a real Valkey 9.1.2, and Valkey to Pando.

use std::time::Duration;

use pando_procs::client::info_field;
use pando_procs::{Client, Node, Software, eventually};

const LIMIT: Duration = Duration::from_secs(30);

fn follow(replica: &Node, primary: &Node) {
    let reply = replica.client().text(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    assert_eq!(reply.expect("REPLICAOF"), "OK");
    eventually(LIMIT, "replica in sync", || {
        let info = replica.client().text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
        if info_field(&info, "master_link_status").as_deref() == Some("up") { Ok(()) } else { Err(info) }
    })
    .expect("replica in sync");
}

/// Strings of all encodings, expiries and several databases.
fn fill(client: &mut Client, from: usize, to: usize) {
    for number in from..to {
        let database = (number % 3).to_string();
        client.text(&["SELECT", &database]).expect("select");
        let (key, long) = (format!("key:{number}"), "v".repeat(number % 300));
        let replies = match number % 6 {
            0 => client.text(&["SET", &key, &number.to_string()]),
            1 => client.text(&["SET", &key, &long]),
            2 => client.text(&["SET", &key, "volatile", "EX", "1000"]),
            3 => client.text(&["APPEND", &key, &long]),
            4 => client.text(&["INCRBYFLOAT", &key, "1.5"]),
            _ => client.text(&["SETBIT", &key, &(number % 100).to_string(), "1"]),
        };
        assert!(!replies.expect("write").starts_with('-'));
    }
    client.text(&["SELECT", "0"]).expect("select");
}

/// Waits until both hold the same keys with the same values and expiry times.
fn same(one: &Node, other: &Node, count: usize) {
    eventually(LIMIT, "same data", || {
        let (mut one, mut other) = (one.client(), other.client());
        for database in ["0", "1", "2"] {
            for client in [&mut one, &mut other] {
                client.text(&["SELECT", database]).map_err(|error| error.to_string())?;
            }
            let sizes = [one.text(&["DBSIZE"]), other.text(&["DBSIZE"])].map(|size| size.unwrap_or_default());
            if sizes[0] != sizes[1] {
                return Err(format!("db {database}: {sizes:?}"));
            }
            for number in (0..count).filter(|number| (number % 3).to_string() == database) {
                let key = format!("key:{number}");
                for command in ["GET", "PEXPIRETIME"] {
                    let replies = [one.text(&[command, &key]), other.text(&[command, &key])];
                    let replies = replies.map(|reply| reply.map_err(|error| error.to_string()));
                    if replies[0] != replies[1] {
                        return Err(format!("{command} {key}: {replies:?}"));
                    }
                }
            }
        }
        Ok(())
    })
    .expect("same data");
}

fn check_pair(primary: Software, replica: Software) {
    let (primary, replica) = (Node::start(primary, &[]).expect("primary"), Node::start(replica, &[]).expect("replica"));
    let mut client = primary.client();
    fill(&mut client, 0, 1500);
    follow(&replica, &primary);
    fill(&mut client, 1500, 2500);
    let replies = ["MULTI", "EXEC"].map(|word| {
        let reply = client.text(&[word]).expect("reply");
        if word == "MULTI" {
            client.text(&["INCR", "{t}a"]).expect("queued");
            client.text(&["SET", "{t}b", "x"]).expect("queued");
        }
        reply
    });
    assert_eq!(replies[0], "OK");
    client.text(&["FLUSHDB"]).expect("flush");
    client.text(&["SELECT", "2"]).expect("select");
    client.text(&["SWAPDB", "0", "2"]).expect("swap");
    client.text(&["SWAPDB", "0", "2"]).expect("swap back");
    same(&primary, &replica, 2500);
    let written = replica.client().text(&["SET", "a", "b"]).expect("reply");
    assert_eq!(written, "-READONLY You can't write against a read only replica.");
}

#[test]
fn pando_to_pando() {
    check_pair(Software::Pando, Software::Pando);
}

#[test]
fn pando_to_valkey() {
    check_pair(Software::Pando, Software::Valkey);
}

#[test]
fn valkey_to_pando() {
    check_pair(Software::Valkey, Software::Pando);
}

#[test]
fn a_short_cut_is_healed_by_a_partial_resync() {
    let (primary, mut replica) =
        (Node::start(Software::Pando, &[]).expect("primary"), Node::start(Software::Pando, &[]).expect("replica"));
    let mut client = primary.client();
    fill(&mut client, 0, 300);
    follow(&replica, &primary);
    let full_before = info_field(&client.text(&["INFO", "stats"]).expect("info"), "sync_full");
    replica.pause();
    // The link dies while the replica sleeps.
    client.text(&["CLIENT", "KILL", "TYPE", "replica"]).expect("kill");
    fill(&mut client, 300, 600);
    replica.resume();
    same(&primary, &replica, 600);
    let info = client.text(&["INFO", "stats"]).expect("info");
    assert_eq!(info_field(&info, "sync_full"), full_before, "{info}");
    assert_ne!(info_field(&info, "sync_partial_ok").as_deref(), Some("0"), "{info}");
}

#[test]
fn a_full_sync_under_writes_is_a_point_in_time() {
    let (primary, replica) =
        (Node::start(Software::Pando, &[]).expect("primary"), Node::start(Software::Valkey, &[]).expect("replica"));
    let mut client = primary.client();
    fill(&mut client, 0, 20_000);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (port, stopped) = (primary.port, std::sync::Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        // Not idempotent: an increment that is in the snapshot and in the stream would be seen twice.
        let mut client = Client::connect(port).expect("connect");
        let mut count = 0_u64;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let key = format!("count:{}", count % 2000);
            assert!(!client.text(&["INCR", &key]).expect("incr").starts_with('-'));
            count += 1;
        }
        count
    });
    std::thread::sleep(Duration::from_millis(100));
    follow(&replica, &primary);
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let count = writer.join().expect("writer");
    eventually(LIMIT, "same counters", || {
        let mut total = 0;
        let mut client = replica.client();
        for number in 0..2000 {
            let value = client.text(&["GET", &format!("count:{number}")]).map_err(|error| error.to_string())?;
            total += value.parse::<u64>().unwrap_or(0);
        }
        if total == count { Ok(()) } else { Err(format!("{total} of {count} increments")) }
    })
    .expect("same counters");
}
