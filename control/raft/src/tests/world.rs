// SPDX-License-Identifier: BSD-3-Clause
//! Roots in one process: start, kill, restart, wait for conditions.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pando_env::{Env, SeededRng, SimDisk, VirtualClock};
use pando_root_state::{Command, Proposal, RequestId};
use pando_topology::{ClusterId, Incarnation, Node, NodeId};
use pando_wire::{Conn, ConnConfig, Handler, Identity};
use tokio::task::JoinHandle;

use super::net::Hub;
use crate::{Committed, ProposeError, Raft, RaftConfig, RootAddress};

pub const PORT: u16 = 16379;

pub fn node_id(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 20])
}

pub fn cluster_id() -> ClusterId {
    ClusterId::from_bytes([0xc1; 20])
}

pub fn host(byte: u8) -> String {
    format!("root-{byte}")
}

pub fn address(byte: u8) -> RootAddress {
    RootAddress { node: node_id(byte), host: host(byte), port: PORT }
}

/// A command whose effect on the map can be counted.
pub fn join(number: u64) -> Proposal {
    let mut id = [0xee; 20];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let mut node = Node::new(NodeId::from_bytes(id), "10.0.0.1", 7000);
    node.is_data = false;
    Proposal::new(RequestId(u128::from(number) + 1), Command::Join { node: Box::new(node), shard: None })
}

pub struct Root {
    pub byte: u8,
    pub raft: Raft,
    pub disk: SimDisk,
    listener: JoinHandle<()>,
}

pub struct World {
    pub hub: Hub,
    pub rng: Arc<SeededRng>,
    pub tune: fn(&mut RaftConfig),
}

impl World {
    pub fn new(seed: u64) -> World {
        World { hub: Hub::default(), rng: Arc::new(SeededRng::new(seed)), tune: |_| {} }
    }

    pub async fn start(&self, byte: u8, disk: SimDisk) -> Root {
        let env = Env {
            net: self.hub.host(&host(byte)),
            disk: Arc::new(disk.clone()),
            clock: Arc::new(VirtualClock::new(1_000_000, 1_700_000_000_000)),
            rng: self.rng.clone(),
        };
        let identity = Identity { cluster: cluster_id(), node: node_id(byte), incarnation: Incarnation(1) };
        let mut config = RaftConfig::new(PathBuf::from("/roots"), identity);
        (self.tune)(&mut config);
        let raft = Raft::start(config, &env).await.unwrap();
        let env = env.clone();
        let mut ear = env.net.listen(&host(byte), PORT).await.unwrap();
        let handler = raft.handler();
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = ear.accept().await {
                let (env, handler) = (env.clone(), Arc::new(handler.clone()) as Arc<dyn Handler>);
                tokio::spawn(async move {
                    let _ = Conn::accept(&env, stream, identity, &ConnConfig::default(), |_| Some(handler)).await;
                });
            }
        });
        Root { byte, raft, disk, listener }
    }

    /// So many roots, all voters; a sync of their disks takes this long.
    pub async fn many(&self, count: u8, sync: Duration) -> Vec<Root> {
        let mut roots = Vec::new();
        for byte in 1..=count {
            roots.push(self.start(byte, SimDisk::with_sync_latency(sync)).await);
        }
        roots[0].raft.initialize(address(1)).await.unwrap();
        until("the first root leads", || roots[0].raft.is_leader()).await;
        grow(&roots).await;
        roots
    }

    /// Three roots of which the first was initialized and the others were added.
    pub async fn three(&self) -> Vec<Root> {
        let mut roots = Vec::new();
        for byte in 1..=3 {
            roots.push(self.start(byte, SimDisk::new()).await);
        }
        roots[0].raft.initialize(address(1)).await.unwrap();
        until("the first root leads", || roots[0].raft.is_leader()).await;
        grow(&roots).await;
        roots
    }

    /// As kill -9 and a power cut: unsynced bytes are lost. Gives the disk for the restart.
    pub async fn kill(&self, root: Root) -> SimDisk {
        self.hub.cut(&host(root.byte));
        self.hub.unlisten(&host(root.byte));
        root.disk.crash(&*self.rng);
        root.listener.abort();
        root.raft.shutdown().await;
        self.hub.heal(&host(root.byte));
        root.disk
    }
}

/// Adds all others as learners, then makes all voters in one change.
pub async fn grow(roots: &[Root]) {
    let leader = &roots[0].raft;
    for root in &roots[1..] {
        leader.add_learner(root.raft.voter(), address(root.byte)).await.unwrap();
    }
    let voters: BTreeSet<u64> = roots.iter().map(|root| root.raft.voter()).collect();
    leader.change_voters(voters.clone()).await.unwrap();
    for root in roots {
        until("everybody knows the voters", || {
            let status = root.raft.status();
            status.voters == voters && !status.is_joint
        })
        .await;
    }
}

/// Waits in virtual time.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

/// The index of the root that leads and can commit.
pub async fn leader(roots: &[Root]) -> usize {
    for _ in 0..3000 {
        for (at, root) in roots.iter().enumerate() {
            if root.raft.is_leader() && root.raft.read_barrier().await.is_ok() {
                return at;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no leader within 30 s");
}

/// Proposes at whoever leads until it is committed.
pub async fn commit(roots: &[Root], proposal: &Proposal) -> Committed {
    for _ in 0..100 {
        let at = leader(roots).await;
        match roots[at].raft.propose(proposal).await {
            Ok(committed) => return committed,
            Err(ProposeError::Stopped(text)) => panic!("stopped: {text}"),
            Err(_) => {}
        }
    }
    panic!("cannot commit");
}
