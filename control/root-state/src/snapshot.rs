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

use crate::codec::to_value;
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

impl RootState {
    /// The state as keys and values, in a fixed order.
    pub fn to_pairs(&self) -> Vec<(String, String)> {
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
        let mut pairs = vec![
            ("metaspace:meta".to_owned(), to_value(&meta).to_string()),
            ("metaspace:tombstones".to_owned(), to_value(&self.tombstones).to_string()),
            ("metaspace:requests".to_owned(), to_value(&requests).to_string()),
        ];
        pairs.extend(parts.nodes.values().map(|n| (format!("metaspace:node:{}", n.id), to_value(&**n).to_string())));
        pairs.extend(parts.shards.values().map(|s| (format!("metaspace:shard:{}", s.id), to_value(&**s).to_string())));
        let (subjects, gone) = self.history.parts();
        pairs.extend(
            subjects.map(|(subject, records)| (history_key(subject), to_value(&(subject, records)).to_string())),
        );
        if !gone.is_empty() {
            pairs.push(("metaspace:gone".to_owned(), to_value(gone).to_string()));
        }
        pairs
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
