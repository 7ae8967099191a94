// SPDX-License-Identifier: BSD-3-Clause
//! CLUSTER EXPLAIN and the reads of the topology, with real processes: what operators see after a kill, a refusal and the
//! loss of the roots, and that a change which one root acknowledged is visible at every root at once.

use std::time::Duration;

use pando_procs::client::info_field;
use pando_procs::cluster::{Creator, NodeLine};
use pando_procs::{Client, Cluster, eventually};
use pando_resp::decode::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn text(value: &Value) -> String {
    match value {
        Value::Simple(text) | Value::Error(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

/// A field of a map, in either protocol.
fn field(value: &Value, name: &str) -> Option<Value> {
    match value {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| text(key) == name).map(|(_, value)| value.clone()),
        Value::Array(Some(flat)) => {
            flat.chunks_exact(2).find(|pair| text(&pair[0]) == name).map(|pair| pair[1].clone())
        }
        _ => None,
    }
}

fn items(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(Some(items))) => items,
        _ => Vec::new(),
    }
}

/// Asks until the roots answer: on a busy machine an election may be under way.
fn explain(client: &mut Client, words: &[&str]) -> Value {
    let args: Vec<&str> = ["CLUSTER", "EXPLAIN"].iter().chain(words).copied().collect();
    let asked = eventually(LIMIT, "an explanation", || match client.call(&args) {
        Ok(Value::Error(error)) if error.starts_with("CLUSTERDOWN") => Err(error),
        Ok(value) => Ok(value),
        Err(error) => Err(error.to_string()),
    });
    asked.expect("an explanation")
}

fn lines(cluster: &Cluster, node: usize) -> Vec<NodeLine> {
    eventually(LIMIT, "cluster nodes", || cluster.lines(node)).expect("cluster nodes")
}

#[test]
fn a_failover_is_explained_by_every_node() {
    let mut cluster = Cluster::create(6, 1, Creator::ValkeyCli, &[]).expect("cluster");
    let leader = cluster.root_leader().expect("a leader");
    let before = lines(&cluster, 0);
    let victim = before.iter().find(|line| line.is("master") && line.id != leader).expect("a primary").clone();
    let lost = cluster.index_of(victim.port).expect("a node");
    let slot = victim.slots[0].split('-').next().expect("a slot").to_owned();
    cluster.nodes[lost].kill();
    let asked = (0..6).find(|index| *index != lost).expect("another node");
    let line_of_new = eventually(LIMIT, "a new primary", || {
        let all = cluster.lines(asked)?;
        let new = all.into_iter().find(|line| line.is("master") && line.slots.contains(&victim.slots[0]));
        new.filter(|line| line.id != victim.id).ok_or_else(|| "none".to_owned())
    });
    let new = line_of_new.expect("a new primary");
    for index in (0..6).filter(|index| *index != lost) {
        let mut client = cluster.nodes[index].client();
        for proto in ["2", "3"] {
            assert!(!matches!(client.call(&["HELLO", proto]).expect("hello"), Value::Error(_)));
            let told = explain(&mut client, &["SHARD", &slot]);
            let last = field(&told, "last-failover").expect("a failover");
            assert_eq!(field(&last, "from").map(|id| text(&id)), Some(victim.id.clone()), "{told:?}");
            assert_eq!(field(&last, "to").map(|id| text(&id)), Some(new.id.clone()));
            let dead = items(field(&last, "opinions"));
            let dead = dead.iter().filter(|said| field(said, "says").is_some_and(|says| text(&says) == "dead"));
            assert!(dead.count() >= 2, "{last:?}");
            assert_eq!(items(field(&last, "replicas")).len(), 1);
            let summary: Vec<String> = items(field(&told, "summary")).iter().map(text).collect();
            let sentence = summary.iter().find(|line| line.starts_with("last failover: ")).expect("a sentence");
            assert!(sentence.contains("was promoted in place of") && sentence.contains("has proof that its process"));
        }
        // The shard by its new primary, the node, and the roots.
        let by_node = explain(&mut client, &["SHARD", &new.id]);
        assert_eq!(field(&by_node, "primary").map(|id| text(&id)), Some(new.id.clone()));
        assert_eq!(
            field(&by_node, "own-lease").is_some(),
            lines(&cluster, index).iter().any(|line| { line.port == cluster.nodes[index].port && line.id == new.id })
        );
        let node = explain(&mut client, &["NODE", &victim.id]);
        let events: Vec<String> = items(field(&node, "history"))
            .iter()
            .filter_map(|record| field(record, "event"))
            .map(|e| text(&e))
            .collect();
        assert!(events.contains(&"failed".to_owned()) && events.contains(&"promoted".to_owned()), "{events:?}");
        assert!(!items(field(&explain(&mut client, &["ROOTS"]), "history")).is_empty());
        assert_eq!(items(field(&explain(&mut client, &["LAST", "3"]), "history")).len(), 3);
    }
    let mut client = cluster.nodes[asked].client();
    for (words, expected) in [
        (&["SHARD", "16384"][..], "-ERR Invalid or out of range slot"),
        (&["SHARD", "nobody"], "-ERR Unknown shard or node nobody"),
        (&["NODE", "nobody"], "-ERR Unknown node nobody"),
        (&["NODE"], "-ERR syntax error"),
        (&["LAST", "0"], "-ERR count should be greater than 0"),
    ] {
        let args: Vec<&str> = ["CLUSTER", "EXPLAIN"].iter().chain(words).copied().collect();
        assert_eq!(client.text(&args).expect("a reply"), expected);
    }
    let help = client.call(&["CLUSTER", "HELP"]).expect("help");
    assert!(items(Some(help)).iter().any(|line| text(line).starts_with("EXPLAIN")));
    let docs = items(client.call(&["COMMAND", "DOCS", "cluster|explain"]).ok());
    assert!(docs.get(1).and_then(|docs| field(docs, "summary")).is_some(), "{docs:?}");
    let links = items(Some(client.call(&["CLUSTER", "LINKS"]).expect("links")));
    assert!(!links.is_empty());
    for link in &links {
        let created = field(link, "create-time").map(|time| text(&time)).and_then(|time| time.parse::<u64>().ok());
        assert!(created.is_some_and(|time| time > 0), "{link:?}");
    }
}

#[test]
fn a_shard_without_a_fit_replica_says_so() {
    let mut cluster =
        Cluster::create(6, 1, Creator::ValkeyCli, &["--cluster-replica-no-failover", "yes"]).expect("cluster");
    let leader = cluster.root_leader().expect("a leader");
    let all = lines(&cluster, 0);
    let victim = all.iter().find(|line| line.is("master") && line.id != leader).expect("a primary").clone();
    let lost = cluster.index_of(victim.port).expect("a node");
    cluster.nodes[lost].kill();
    let asked = (0..6).find(|index| *index != lost).expect("another node");
    let mut client = cluster.nodes[asked].client();
    let refusal = eventually(LIMIT, "a refusal on record", || {
        let told = explain(&mut client, &["SHARD", &victim.id]);
        field(&told, "last-refusal")
            .filter(|record| field(record, "event").is_some())
            .ok_or_else(|| format!("{told:?}"))
    });
    let refusal = refusal.expect("a refusal");
    let replicas = items(field(&refusal, "replicas"));
    let why = field(&replicas[0], "why-not").map(|why| text(&why));
    assert_eq!(why.as_deref(), Some("cluster-replica-no-failover is set"));
    assert_eq!(field(&replicas[0], "eligible").map(|word| text(&word)).as_deref(), Some("no"));
}

#[test]
fn roots_show_what_any_of_them_acknowledged_or_say_why_they_cannot() {
    let mut cluster = Cluster::create(6, 1, Creator::ValkeyCli, &[]).expect("cluster");
    let roots: Vec<usize> = (0..6)
        .filter(|index| {
            let info = cluster.nodes[*index].client().text(&["CLUSTER", "INFO"]).expect("info");
            info_field(&info, "cluster_is_root").as_deref() == Some("1")
        })
        .collect();
    assert_eq!(roots.len(), 3);
    let id = |index: usize| cluster.nodes[index].client().text(&["CLUSTER", "MYID"]).expect("id");
    let mut clients: Vec<Client> = roots.iter().map(|root| cluster.nodes[*root].client()).collect();
    let ids: Vec<String> = roots.iter().map(|root| id(*root)).collect();
    for turn in 0..30 {
        let writer = turn % 3;
        // Elections on a busy machine are not the matter here.
        let bumped = eventually(LIMIT, "bumped", || match clients[writer].text(&["CLUSTER", "BUMPEPOCH"]) {
            Ok(text) if text.starts_with('-') => Err(text),
            Ok(text) => Ok(text),
            Err(error) => Err(error.to_string()),
        });
        let epoch = bumped.expect("bumped").rsplit(' ').next().unwrap_or_default().to_owned();
        for client in &mut clients {
            let nodes = eventually(LIMIT, "nodes", || match client.text(&["CLUSTER", "NODES"]) {
                Ok(text) if text.starts_with('-') => Err(text),
                Ok(text) => Ok(text),
                Err(error) => Err(error.to_string()),
            });
            let nodes = nodes.expect("nodes");
            let line = nodes.lines().find(|line| line.starts_with(&ids[writer])).expect("a line");
            assert_eq!(line.split(' ').nth(6), Some(epoch.as_str()), "turn {turn}: {line}");
        }
    }
    // Offsets of other nodes are those of the roots.
    let all = lines(&cluster, 0);
    let primary = all.iter().find(|line| line.is("master")).expect("a primary");
    let key =
        (0..1000).map(|n| format!("k{n}")).find(|key| cluster.owner_port(0, key) == Ok(primary.port)).expect("key");
    let owner = cluster.index_of(primary.port).expect("a node");
    let mut writer = cluster.nodes[owner].client();
    for number in 0..100 {
        assert_eq!(writer.text(&["SET", &format!("{{{key}}}{number}"), "x"]).expect("set"), "OK");
    }
    for index in 0..6 {
        eventually(LIMIT, "offsets of all nodes", || {
            let shards = cluster.nodes[index].client().call(&["CLUSTER", "SHARDS"]).map_err(|e| e.to_string())?;
            let nodes = items(Some(shards)).into_iter().flat_map(|shard| items(field(&shard, "nodes")));
            let mut own = nodes.filter(|node| {
                let named = field(node, "id").map(|id| text(&id));
                named.as_ref() == Some(&primary.id)
                    || all
                        .iter()
                        .any(|line| Some(&line.id) == named.as_ref() && line.primary.as_ref() == Some(&primary.id))
            });
            let is_known =
                own.all(|node| field(&node, "replication-offset").is_some_and(|o| !matches!(o, Value::Int(0))));
            if is_known { Ok(()) } else { Err(format!("node {index}")) }
        })
        .expect("offsets");
    }
    // Two roots stand still: the third one says so.
    let (stays, stopped) = (roots[0], [roots[1], roots[2]]);
    for index in stopped {
        cluster.nodes[index].pause();
    }
    let mut client = cluster.nodes[stays].client();
    let start = "-CLUSTERDOWN No majority of the roots is reachable: 1 of 3 answers (no answer from ";
    for args in [&["CLUSTER", "NODES"][..], &["CLUSTER", "SLOTS"], &["CLUSTER", "EXPLAIN", "ROOTS"]] {
        let refused = eventually(LIMIT, "a refusal", || match client.text(args) {
            Ok(text) if text.starts_with(start) => Ok(text),
            Ok(text) => Err(text),
            Err(error) => Err(error.to_string()),
        });
        let refused = refused.expect("a refusal");
        assert!(refused.contains(&ids[1]) && refused.contains(&ids[2]) && refused.ends_with(" ms)"), "{refused}");
    }
    let info = client.text(&["CLUSTER", "INFO"]).expect("always answered");
    assert_eq!(info_field(&info, "cluster_root_quorum").as_deref(), Some("lost"));
    assert!(info_field(&info, "cluster_root_quorum_reason").is_some_and(|why| why.starts_with("1 of 3 answers")));
    for index in stopped {
        cluster.nodes[index].resume();
    }
    cluster.wait_ok(LIMIT).expect("whole again");
}
