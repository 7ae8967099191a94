// SPDX-License-Identifier: BSD-3-Clause
//! Generated commands of every family on a Pando primary: a Pando and a real Valkey replica hold the same data afterwards,
//! whether they followed all the way, came back to the stream, or started over with a full sync.

use std::time::Duration;

use pando_differential::families::FAMILIES;
use pando_differential::generate::sequence;
use pando_differential::show;
use pando_procs::client::info_field;
use pando_procs::{Client, Node, Software, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const COMMANDS_PER_SEQUENCE: usize = 200;

fn start(software: Software) -> Node {
    Node::start(software, &["--enable-debug-command", "yes"]).expect("the node starts")
}

fn follow(replica: &Node, primary: &Node) {
    let reply = replica.client().text(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    assert!(reply.expect("REPLICAOF").starts_with("OK"));
}

/// One seed of every family, each on a connection of its own.
fn load(primary: &Node, seed: u64) {
    for family in FAMILIES {
        let mut client: Client = primary.client();
        for command in sequence(family, seed, COMMANDS_PER_SEQUENCE) {
            let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            let reply = client.send(&words).and_then(|()| client.receive());
            reply.unwrap_or_else(|error| panic!("{}: {error}\n{}", show(&command), primary.log_tail()));
        }
    }
}

fn digest(node: &Node) -> Result<String, String> {
    node.client().text(&["DEBUG", "DIGEST"]).map_err(|error| error.to_string())
}

/// Waits until the replicas have executed all and compares everything that the three hold.
fn check_same(primary: &Node, replicas: &[&Node], when: &str) {
    let mut differing = String::new();
    let same = eventually(LIMIT, "equal digests", || {
        for replica in replicas {
            let info = replica.client().text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
            if info_field(&info, "master_link_status").as_deref() != Some("up") {
                return Err(info);
            }
            let (ours, theirs) = (digest(primary)?, digest(replica)?);
            assert_ne!(ours, "0".repeat(40), "there is something to compare");
            if ours != theirs {
                differing = differences(primary, replica);
                return Err(format!("{:?}: {ours} {theirs}", replica.software));
            }
        }
        Ok(())
    });
    same.unwrap_or_else(|error| panic!("{when}: {error}\n{differing}"));
}

/// The keys of each database whose values differ.
fn differences(primary: &Node, replica: &Node) -> String {
    let mut lines = Vec::new();
    let (mut one, mut other) = (primary.client(), replica.client());
    for db in 0..16 {
        let db = db.to_string();
        let mut keys: Vec<String> = Vec::new();
        for client in [&mut one, &mut other] {
            client.text(&["SELECT", &db]).expect("SELECT");
            let listed = client.call(&["KEYS", "*"]).expect("KEYS");
            if let pando_resp::decode::Value::Array(Some(items)) = listed {
                keys.extend(items.iter().filter_map(|item| match item {
                    pando_resp::decode::Value::Bulk(Some(key)) => String::from_utf8(key.clone()).ok(),
                    _ => None,
                }));
            }
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let [ours, theirs] = [&mut one, &mut other].map(|client| {
                ["DIGEST-VALUE", "OBJECT"].map(|word| client.text(&["DEBUG", word, &key]).unwrap_or_default())
            });
            if ours[0] != theirs[0] {
                lines.push(format!("db {db} {key:?}: {} | {}", ours[1], theirs[1]));
            }
        }
    }
    lines.join("\n")
}

#[test]
fn replicas_equal_their_primary_whatever_was_written() {
    let seeds = std::env::var("PANDO_DIFF_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(3_u64);
    let (primary, mut pando, valkey) = (start(Software::Pando), start(Software::Pando), start(Software::Valkey));
    load(&primary, 1000);
    follow(&pando, &primary);
    follow(&valkey, &primary);
    check_same(&primary, &[&pando, &valkey], "after a full sync of all types");
    for seed in 0..seeds {
        load(&primary, seed);
        check_same(&primary, &[&pando, &valkey], &format!("after seed {seed}"));
    }
    primary.client().text(&["CLIENT", "KILL", "TYPE", "replica"]).expect("kill");
    load(&primary, 2000);
    check_same(&primary, &[&pando, &valkey], "after cut connections");
    pando.kill();
    pando.restart().expect("the replica starts again");
    valkey.client().text(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
    load(&primary, 3000);
    valkey.client().text(&["SET", "stray", "x"]).expect("SET");
    follow(&pando, &primary);
    follow(&valkey, &primary);
    load(&primary, 4000);
    check_same(&primary, &[&pando, &valkey], "after a kill and full syncs under writes");
}
