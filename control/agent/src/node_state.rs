// SPDX-License-Identifier: BSD-3-Clause
//! The node's state file: who it is, which cluster it belongs to, whose promises bind it. Read once at
//! the start, replaced whole on a change; the roots' log is not in it. Used by `driver`.
//!
//! ```text
//! "pando-node-state 1\n"   then MessagePack of NodeState, then its CRC-32 (4 bytes, little-endian)
//! <state file>.map          "pando-node-map 2\n", cluster (20 bytes), version (8), the coded map, CRC-32
//! ```
//!
//! The incarnation, the cluster, a join under way and the reign of the own shard matter for safety: they
//! are durable before anybody hears of them, or acts on them. The map is a cache in a file of its own: it
//! may be some versions behind, or missing. A large one is not written for each version.

use std::io;
use std::path::PathBuf;

use pando_env::Env;
use pando_liveness::{LedgerNote, Told};
use pando_topology::{ClusterMap, Incarnation, NodeId, ShardId, TopologyVersion};
use pando_wire::messages::Contact;
use pando_wire::{ClusterId, MapUpdate, decode_body, encode_body};
use serde::{Deserialize, Serialize};

use crate::api::AgentConfig;

/// Belongs to no cluster yet.
pub(crate) const NO_CLUSTER: ClusterId = ClusterId::from_bytes([0; 20]);

const HEAD: &[u8] = b"pando-node-state 1\n";
const MAP_HEAD: &[u8] = b"pando-node-map 2\n";

/// What survives a restart of the node.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct NodeState {
    /// Identity; kept until `CLUSTER RESET HARD`.
    pub node: NodeId,
    /// From which the key grows that proves the identity.
    pub secret: [u8; 32],
    /// The newest process start.
    pub incarnation: Incarnation,
    /// The cluster this node belongs to; an island has one, too.
    pub cluster: ClusterId,
    /// Announced address, configured or learned.
    pub host: String,
    /// Number of the folder with the root group's files; a new group gets a new folder.
    pub root_files: u64,
    /// The island of this node has not its first entries yet.
    pub is_founding: bool,
    /// The last reign of the own shard that this node has seen.
    pub reign: Option<KnownReign>,
    /// `cluster-root-count` as this node was last started with it, and as it was last set by a client here:
    /// neither is news to the cluster.
    pub root_count: u8,
    pub root_count_set: u8,
    /// Where roots were last seen; needed when there is no map.
    pub contacts: Vec<Contact>,
    /// The primary that needs this node's promise.
    pub told: Option<Told>,
    /// What this node has promised as a root, written at a planned end; for the next process only.
    pub root_note: Option<LedgerNote>,
    /// A join that was begun: it is resumed at the next start, because the other cluster may have
    /// committed it already.
    pub joining: Option<JoinIntent>,
}

/// A reign, and the version of the map in which it was first seen here.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct KnownReign {
    pub version: TopologyVersion,
    pub shard: ShardId,
    pub reign: TopologyVersion,
    pub primary: NodeId,
    pub incarnation: Incarnation,
}

/// A join that may have been committed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinIntent {
    /// The absorbing cluster.
    pub cluster: ClusterId,
    /// Where its roots are.
    pub contacts: Vec<Contact>,
    /// Makes the proposal idempotent.
    pub request: u128,
    /// As which process this node goes on after the join; so it needs not register again.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// The id of its member of the other cluster's root group, for the same reason.
    #[serde(default)]
    pub voter: Option<u64>,
}

impl NodeState {
    /// A node that has never run: identity only, no cluster yet.
    pub fn fresh(env: &Env, config: &AgentConfig) -> Self {
        let mut secret = [0; 32];
        env.rng.fill(&mut secret);
        Self {
            node: random_node_id(env),
            secret,
            incarnation: Incarnation(0),
            cluster: NO_CLUSTER,
            host: config.host.clone(),
            root_files: 0,
            is_founding: false,
            reign: None,
            root_count: config.root_count as u8,
            root_count_set: 0,
            contacts: Vec::new(),
            told: None,
            root_note: None,
            joining: None,
        }
    }

    /// Moves to the incarnation of a new process: later than any before, whatever the calendar says.
    pub fn begin_incarnation(&mut self, unix_ms: u64) {
        self.incarnation = next_incarnation(self.incarnation, unix_ms);
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let body = encode_body(self).map_err(io::Error::other)?;
        let mut out = Vec::with_capacity(HEAD.len() + body.len() + 4);
        out.extend_from_slice(HEAD);
        out.extend_from_slice(&body);
        out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        Ok(out)
    }

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let rest = bytes.strip_prefix(HEAD).ok_or_else(|| bad("not a node state file"))?;
        let (body, crc) = rest.split_last_chunk::<4>().ok_or_else(|| bad("too short"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(bad("wrong checksum"));
        }
        decode_body(body).map_err(io::Error::other)
    }
}

/// The file itself.
#[derive(Clone)]
pub(crate) struct StateFile {
    env: Env,
    path: PathBuf,
}

impl StateFile {
    pub fn new(env: Env, config: &AgentConfig) -> Self {
        let path = config.dir.join(&config.state_file);
        Self { env, path }
    }

    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The state, or `None` if the node has never run here. A damaged file is an error: going on
    /// with a new identity would lose the node's slots without a word.
    pub async fn load(&self) -> io::Result<Option<NodeState>> {
        match self.env.disk.read(&self.path).await {
            // An empty file is what `valkey-server` tooling leaves behind when it touches the name.
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => NodeState::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file; durable when it returns.
    pub async fn store(&self, state: &NodeState) -> io::Result<()> {
        self.env.disk.replace(&self.path, state.encode()?).await
    }

    fn map_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".map");
        PathBuf::from(name)
    }

    /// The map that was last stored, if it is one of this cluster and whole.
    pub async fn load_map(&self, cluster: ClusterId) -> Option<ClusterMap> {
        let bytes = self.env.disk.read(&self.map_path()).await.ok()?;
        let map = decode_map(&bytes, cluster);
        if map.is_none() {
            tracing::info!("the stored map is of no use; the roots have it");
        }
        map
    }

    /// Replaces the stored map.
    pub async fn store_map(&self, map: &ClusterMap) -> io::Result<()> {
        self.env.disk.replace(&self.map_path(), encode_map(map)?).await
    }

    /// The folder of the root group's files with this number.
    pub fn root_dir(&self, number: u64) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".roots-{number}"));
        PathBuf::from(name)
    }
}

fn encode_map(map: &ClusterMap) -> io::Result<Vec<u8>> {
    let update = MapUpdate::whole(map).map_err(io::Error::other)?;
    let mut out = Vec::with_capacity(MAP_HEAD.len() + update.body.len() + 32);
    out.extend_from_slice(MAP_HEAD);
    out.extend_from_slice(map.cluster_id().as_bytes());
    out.extend_from_slice(&update.to.get().to_le_bytes());
    out.extend_from_slice(&update.body);
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    Ok(out)
}

fn decode_map(bytes: &[u8], cluster: ClusterId) -> Option<ClusterMap> {
    let (checked, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (of, rest) = checked.strip_prefix(MAP_HEAD)?.split_first_chunk::<20>()?;
    let (version, body) = rest.split_first_chunk::<8>()?;
    if ClusterId::from_bytes(*of) != cluster {
        return None;
    }
    let to = TopologyVersion(u64::from_le_bytes(*version));
    let update = MapUpdate { from: None, is_exact: true, to, body: body.to_vec().into() };
    update.apply(&ClusterMap::empty(cluster)).ok()
}

/// One that is later than this one.
pub(crate) fn next_incarnation(last: Incarnation, unix_ms: u64) -> Incarnation {
    Incarnation((last.0 + 1).max(unix_ms * 1_000_000))
}

/// 20 random bytes as a node id.
pub(crate) fn random_node_id(env: &Env) -> NodeId {
    NodeId::random(|bytes| env.rng.fill(bytes))
}

/// A random number that is not zero: cluster ids, request ids.
pub(crate) fn random_u128(env: &Env) -> u128 {
    (u128::from(env.rng.next_u64()) << 64 | u128::from(env.rng.next_u64())).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pando_env::{RealClock, SeededRng, SimDisk, TcpNet};
    use std::sync::Arc;

    fn env() -> Env {
        Env {
            net: Arc::new(TcpNet),
            disk: Arc::new(SimDisk::new()),
            clock: Arc::new(RealClock),
            rng: Arc::new(SeededRng::new(1)),
        }
    }

    #[test]
    fn the_state_survives_its_file_and_damage_is_noticed() {
        let state = NodeState::fresh(&env(), &AgentConfig::default());
        let bytes = state.encode().expect("it can be written");
        let read = NodeState::decode(&bytes).expect("it can be read");
        assert_eq!((read.node, read.cluster, read.root_files), (state.node, state.cluster, 0));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(NodeState::decode(&damaged).is_err(), "byte {at}");
            assert!(NodeState::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_map_survives_its_file_and_damage_makes_it_useless() {
        let cluster = ClusterId::from_bytes([3; 20]);
        let map = ClusterMap::empty(cluster);
        let bytes = encode_map(&map).expect("it can be written");
        assert_eq!(decode_map(&bytes, cluster), Some(map));
        assert_eq!(decode_map(&bytes, ClusterId::from_bytes([4; 20])), None);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode_map(&damaged, cluster), None, "byte {at}");
            assert_eq!(decode_map(&bytes[..at], cluster), None, "cut at {at}");
        }
    }

    #[test]
    fn incarnations_grow_even_if_the_calendar_goes_back() {
        let mut state = NodeState::fresh(&env(), &AgentConfig::default());
        state.begin_incarnation(2_000);
        let first = state.incarnation;
        state.begin_incarnation(1_000);
        assert!(state.incarnation > first);
    }
}
