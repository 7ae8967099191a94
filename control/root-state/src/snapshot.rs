// SPDX-License-Identifier: BSD-3-Clause
//! The state as string keys and values, so that the roots' snapshot is a plain RDB:
//!
//! ```text
//!   metaspace:meta            {"format":1,"cluster_id":…,"version":…,"applied":…,"current_epoch":…,"roots":…}
//!   metaspace:node:<id>       one node, JSON
//!   metaspace:shard:<id>      one shard, JSON
//!   metaspace:tombstones      forgotten nodes, oldest first, JSON
//!   metaspace:requests        answered requests, oldest first, JSON
//!   metaspace:history:<id>    what was decided about a shard, a node (`<id>:node`) or the roots (`roots`), JSON
//!   metaspace:gone            shards and nodes with a history that are not in the cluster any more, JSON
//! ```

use crate::command::{Outcome, RequestId};
use crate::history::{History, Record, Subject};
use crate::state::RootState;
use pando_topology::{ClusterId, ClusterMap, MapError, MapParts, Node, NodeId, RootSet, Shard, TopologyVersion};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::sync::Arc;

const FORMAT: u32 = 1;

/// Why keys and values are not a state.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// `metaspace:meta` is missing.
    #[error("the snapshot has no metaspace:meta")]
    NoMeta,
    /// Written by a newer Pando.
    #[error("the snapshot has format {0}, this version reads {FORMAT}")]
    Format(u32),
    /// A key that is not of the metaspace, or a value that cannot be read.
    #[error("snapshot key '{key}': {why}")]
    Malformed {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The values contradict each other.
    #[error(transparent)]
    Map(#[from] MapError),
}

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    cluster_id: ClusterId,
    version: TopologyVersion,
    applied: u64,
    current_epoch: u64,
    roots: RootSet,
}

/// A state as of one moment, from which its keys and values are made one by one: thousands of nodes take a root a while,
/// and meanwhile it has other things to do. Shares nodes, shards and records with the state.
#[derive(Debug)]
pub struct Frozen {
    head: std::vec::IntoIter<(String, String)>,
    nodes: std::vec::IntoIter<Arc<Node>>,
    shards: std::vec::IntoIter<Arc<Shard>>,
    history: std::vec::IntoIter<(Subject, Arc<Vec<Record>>)>,
}

/// Directly, not by way of a tree: there are megabytes of it.
fn json<T: Serialize>(value: &T) -> String {
    // Maps with string keys, lists, strings and integers: JSON has room for all of them.
    serde_json::to_string(value).unwrap_or_default()
}

impl Iterator for Frozen {
    type Item = (String, String);

    fn next(&mut self) -> Option<(String, String)> {
        if let Some(pair) = self.head.next() {
            return Some(pair);
        }
        if let Some(node) = self.nodes.next() {
            return Some((format!("metaspace:node:{}", node.id), json(&*node)));
        }
        if let Some(shard) = self.shards.next() {
            return Some((format!("metaspace:shard:{}", shard.id), json(&*shard)));
        }
        let (subject, records) = self.history.next()?;
        Some((history_key(&subject), json(&(subject, &*records))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.head.len() + self.nodes.len() + self.shards.len() + self.history.len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Frozen {}

impl RootState {
    /// The state as keys and values, in a fixed order.
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        self.freeze().collect()
    }

    /// What `to_pairs` gives, to be made later.
    pub fn freeze(&self) -> Frozen {
        let parts = self.map.parts();
        let meta = Meta {
            format: FORMAT,
            cluster_id: parts.cluster_id,
            version: parts.version,
            applied: self.applied,
            current_epoch: parts.current_epoch,
            roots: parts.roots.clone(),
        };
        let requests: Vec<(String, &Outcome)> = self
            .request_order
            .iter()
            .filter_map(|id| Some((format!("{:032x}", id.0), self.requests.get(id)?)))
            .collect();
        let mut head = vec![
            ("metaspace:meta".to_owned(), json(&meta)),
            ("metaspace:tombstones".to_owned(), json(&self.tombstones)),
            ("metaspace:requests".to_owned(), json(&requests)),
        ];
        let (subjects, gone) = self.history.parts();
        if !gone.is_empty() {
            head.push(("metaspace:gone".to_owned(), json(gone)));
        }
        Frozen {
            head: head.into_iter(),
            nodes: parts.nodes.values().cloned().collect::<Vec<_>>().into_iter(),
            shards: parts.shards.values().cloned().collect::<Vec<_>>().into_iter(),
            history: subjects.map(|(subject, records)| (*subject, records.clone())).collect::<Vec<_>>().into_iter(),
        }
    }

    /// Restores what `to_pairs` gave, from any order.
    pub fn from_pairs<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<RootState, SnapshotError> {
        let (mut meta, mut nodes, mut shards) = (None, Vec::new(), Vec::new());
        let mut tombstones = VecDeque::new();
        let mut requests: Vec<(String, Outcome)> = Vec::new();
        let mut history = History::default();
        for (key, value) in pairs {
            let key = String::from_utf8_lossy(key.as_ref()).into_owned();
            let value = value.as_ref();
            match key.strip_prefix("metaspace:").map(|rest| rest.split_once(':').map_or(rest, |(kind, _)| kind)) {
                Some("meta") => meta = Some(parse::<Meta>(&key, value)?),
                Some("tombstones") => tombstones = parse::<VecDeque<NodeId>>(&key, value)?,
                Some("requests") => requests = parse(&key, value)?,
                Some("node") => {
                    let node: Node = parse(&key, value)?;
                    nodes.push((node.id, Arc::new(node)));
                }
                Some("shard") => {
                    let shard: Shard = parse(&key, value)?;
                    shards.push((shard.id, Arc::new(shard)));
                }
                Some("history") => {
                    let (subject, records): (Subject, Vec<Record>) = parse(&key, value)?;
                    history.restore(subject, records);
                }
                Some("gone") => history.restore_gone(parse(&key, value)?),
                _ => return Err(SnapshotError::Malformed { key, why: "not a key of the metaspace".into() }),
            }
        }
        let meta = meta.ok_or(SnapshotError::NoMeta)?;
        if meta.format != FORMAT {
            return Err(SnapshotError::Format(meta.format));
        }
        let map = ClusterMap::new(MapParts {
            cluster_id: meta.cluster_id,
            version: meta.version,
            current_epoch: meta.current_epoch,
            nodes: nodes.into_iter().collect(),
            shards: shards.into_iter().collect(),
            roots: meta.roots,
        })?;
        let mut state =
            RootState { map, applied: meta.applied, tombstones, history: Arc::new(history), ..RootState::new() };
        for (id, outcome) in requests {
            let id = u128::from_str_radix(&id, 16)
                .map(RequestId)
                .map_err(|e| SnapshotError::Malformed { key: "metaspace:requests".into(), why: e.to_string() })?;
            state.request_order.push_back(id);
            state.requests.insert(id, outcome);
        }
        Ok(state)
    }
}

fn history_key(subject: &Subject) -> String {
    match subject {
        Subject::Roots => "metaspace:history:roots".to_owned(),
        Subject::Shard(id) => format!("metaspace:history:{id}"),
        // A shard may have the id of a node: both are random, or made by tests.
        Subject::Node(id) => format!("metaspace:history:{id}:node"),
    }
}

fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, SnapshotError> {
    serde_json::from_slice(value).map_err(|e| SnapshotError::Malformed { key: key.to_owned(), why: e.to_string() })
}
