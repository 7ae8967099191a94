// SPDX-License-Identifier: BSD-3-Clause
//! The roots' files: a stock Valkey 9.1.2 and its check tools accept them, and a root whose files are damaged
//! is a root again without anybody's help.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pando_env::Env;
use pando_procs::client::info_field;
use pando_procs::cluster::Creator;
use pando_procs::node::{Software, free_port, temp_dir};
use pando_procs::{Client, Cluster, Node, eventually, peers};
use pando_raft::{Raft, RaftConfig, RootAddress};
use pando_root_state::{Command as Change, Proposal, RequestId};
use pando_topology::{ClusterId, Incarnation, NodeId};
use pando_wire::Identity;

const LIMIT: Duration = Duration::from_secs(30);

/// A change of the metaspace that can be counted.
fn join(number: u64) -> Proposal {
    let mut id = [0xee; 20];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let mut node = pando_topology::Node::new(NodeId::from_bytes(id), "10.0.0.1", 7000);
    node.is_data = false;
    Proposal::new(RequestId(u128::from(number) + 1), Change::Join { node: Box::new(node), shard: None })
}

/// Files of a root: a snapshot after 50 nodes, and a log that goes on.
async fn write_files(dir: &Path) {
    let env = Env::real();
    let node = NodeId::from_bytes([1; 20]);
    let identity = Identity { cluster: ClusterId::from_bytes([0xc1; 20]), node, incarnation: Incarnation(1) };
    let raft = Raft::start(RaftConfig::new(dir.to_owned(), identity), &env).await.expect("a root");
    let address = RootAddress { node, host: "127.0.0.1".into(), port: 1 };
    raft.initialize(address).await.expect("a group of one");
    for number in 0..100 {
        raft.propose(&join(number)).await.expect("committed");
        if number == 49 {
            raft.compact().await.expect("a snapshot");
        }
    }
    raft.shutdown().await;
}

/// Runs the reference server under the name of one of its tools.
fn check_tool(dir: &Path, name: &str, file: &Path) -> (bool, String) {
    let tool = dir.join(name);
    std::os::unix::fs::symlink(peers::require_peer("valkey-server"), &tool).expect("a link");
    let output = Command::new(&tool).arg(file).stdin(Stdio::null()).output().expect("it runs");
    std::fs::remove_file(&tool).expect("the link");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[tokio::test]
async fn stock_tools_accept_log_and_snapshot_and_a_stock_server_loads_both() {
    let dir = temp_dir("roots");
    write_files(&dir).await;
    let (aof, rdb) = (dir.join("roots.aof"), dir.join("roots.rdb"));
    for (tool, file) in [("valkey-check-aof", &aof), ("valkey-check-rdb", &rdb)] {
        let (is_good, text) = check_tool(&dir, tool, file);
        assert!(is_good, "{tool}: {text}");
    }
    // The tools do look: half a file is refused.
    let half = dir.join("half.rdb");
    let image = std::fs::read(&rdb).expect("the snapshot");
    std::fs::write(&half, &image[..image.len() / 2]).expect("half of it");
    assert!(!check_tool(&dir, "valkey-check-rdb", &half).0);

    let loaded = |args: &[&str], file: &Path, name: &str| {
        let folder = temp_dir("load");
        std::fs::copy(file, folder.join(name)).expect("a copy");
        Node::start_at(Software::Valkey, free_port(), folder, args).expect("a Valkey that loads it")
    };
    let snapshot = loaded(&["--dbfilename", "roots.rdb"], &rdb, "roots.rdb");
    let mut client = snapshot.client();
    let last = client.text(&["GET", "metaspace:raft:last"]).expect("get");
    assert!(last.split_once(' ').is_some_and(|(term, index)| term == "1" && index.parse::<u64>().is_ok()), "{last}");
    let nodes = client.text(&["EVAL", "return #redis.call('keys', 'metaspace:node:*')", "0"]).expect("count");
    assert_eq!(nodes, "50");

    // `start_at` says `--appendonly no` first; the last word counts.
    let log = loaded(&["--appendonly", "yes", "--appendfilename", "roots.aof"], &aof, "roots.aof");
    let mut client = log.client();
    let voter = client.text(&["HGET", "metaspace:raft", "voter"]).expect("hget");
    assert!(voter.parse::<u64>().is_ok(), "{voter}");
    let entries = client.text(&["EVAL", "return #redis.call('keys', 'metaspace:entry:*')", "0"]).expect("count");
    assert!(entries.parse::<u64>().is_ok_and(|count| count >= 50), "{entries}");
    std::fs::remove_dir_all(&dir).expect("the folder");
}

/// The root's log in the node's folder with the highest number.
fn log_of(node: &Node) -> PathBuf {
    let names = std::fs::read_dir(&node.dir).expect("the folder").filter_map(Result::ok).map(|entry| entry.path());
    let mut logs: Vec<_> = names.map(|path| path.join("roots.aof")).filter(|log| log.exists()).collect();
    logs.sort();
    logs.pop().expect("the node has been a root")
}

fn voter_in(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).expect("the log")).into_owned();
    text.split("\r\nvoter\r\n").nth(1).and_then(|rest| rest.lines().nth(1)).expect("its head names it").to_owned()
}

fn has_quorum(client: &mut Client) -> Result<(), String> {
    let info = client.text(&["CLUSTER", "INFO"]).map_err(|error| error.to_string())?;
    let is_whole = info_field(&info, "cluster_root_quorum").as_deref() == Some("ok")
        && info_field(&info, "cluster_roots").as_deref() == Some("3");
    if is_whole { Ok(()) } else { Err(info) }
}

#[test]
fn a_root_with_damaged_files_becomes_a_root_again() {
    let mut cluster = Cluster::create(3, 0, Creator::PandoCluster, &[]).expect("cluster");
    eventually(LIMIT, "three roots", || has_quorum(&mut cluster.nodes[0].client())).expect("three roots");
    cluster.nodes[2].kill();
    let log = log_of(&cluster.nodes[2]);
    let former = voter_in(&log);
    let mut bytes = std::fs::read(&log).expect("the log");
    // Behind its head, so that it is still a log of this cluster.
    bytes[400] ^= 1;
    std::fs::write(&log, &bytes).expect("the damaged log");
    cluster.nodes[2].restart().expect("it starts all the same");
    cluster.wait_ok(LIMIT).expect("whole again");
    let said = std::fs::read_to_string(cluster.nodes[2].dir.join("server.log")).expect("its log");
    assert!(said.contains("the files of this root are damaged"), "{said}");
    assert_eq!(std::fs::read(&log).expect("the damaged log"), bytes, "it was left for people to look at");
    assert_ne!(voter_in(&log_of(&cluster.nodes[2])), former, "nobody may count on the former voter");

    // It has a vote again: with another root gone, the two make a majority and commit.
    eventually(LIMIT, "a change with two roots", || {
        cluster.nodes[0].kill();
        let mut client = cluster.nodes[2].client();
        let committed = eventually(Duration::from_secs(8), "commit", || {
            let reply = client.text(&["CLUSTER", "BUMPEPOCH"]).map_err(|error| error.to_string())?;
            if reply.starts_with('-') { Err(reply) } else { Ok(()) }
        });
        if committed.is_err() {
            // It was not a voter yet: the exchange needs both others.
            cluster.nodes[0].restart()?;
            std::thread::sleep(Duration::from_millis(500));
        }
        committed
    })
    .expect("the new voter counts");
}
