// SPDX-License-Identifier: BSD-3-Clause
//! One root on the real disk and the real clock. With `PANDO_KEEP_FILES` set to a folder the files
//! stay there, for `valkey-server` (the log is an AOF, the snapshot an RDB file).

use std::path::PathBuf;

use pando_env::Env;
use pando_topology::Incarnation;
use pando_wire::Identity;

use super::world::{address, cluster_id, join, node_id};
use crate::{Raft, RaftConfig};

#[tokio::test]
async fn a_root_on_real_files_comes_back() {
    let env = Env::real();
    let kept = std::env::var_os("PANDO_KEEP_FILES").map(PathBuf::from);
    let temp = std::env::temp_dir().join(format!("pando-raft-{}-{:x}", std::process::id(), env.rng.next_u64()));
    let dir = kept.clone().unwrap_or(temp);
    let identity = Identity { cluster: cluster_id(), node: node_id(1), incarnation: Incarnation(1) };
    let config = RaftConfig::new(dir.clone(), identity);
    let raft = Raft::start(config.clone(), &env).await.unwrap();
    raft.initialize(address(1)).await.unwrap();
    let mut index = 0;
    for number in 0..100 {
        raft.read_barrier().await.unwrap();
        index = raft.propose(&join(number)).await.unwrap().index;
        if number == 49 {
            raft.compact().await.unwrap();
        }
    }
    raft.shutdown().await;
    let raft = Raft::start(config, &env).await.unwrap();
    let mut status = raft.watch_status();
    status.wait_for(|s| s.is_leader).await.unwrap();
    assert!(raft.read_barrier().await.unwrap() >= index);
    assert_eq!(raft.map().nodes().len(), 100);
    raft.shutdown().await;
    if kept.is_none() {
        env.disk.remove_dir(&dir).await.unwrap();
    }
}
