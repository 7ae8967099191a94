// SPDX-License-Identifier: BSD-3-Clause
//! The state: the cluster map, the nodes forgotten lately and the requests answered lately. Applying
//! one entry is: answer from memory if the request is known, else run the rules on a draft, then
//! turn the draft's changes into a new version of the map.

use crate::command::{Command, Outcome, Proposal, RequestId};
use crate::draft::Draft;
use crate::rules;
use pando_topology::{ClusterId, ClusterMap, Delta, NodeId, TopologyVersion};
use std::collections::{BTreeMap, VecDeque};

/// How many answered requests are remembered. A proposer retries for seconds, not for 4096 entries.
pub const REQUESTS_MAX: usize = 4096;
/// How many forgotten nodes are remembered.
pub const TOMBSTONES_MAX: usize = 1024;

/// What applying one entry did.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Applied {
    /// For whoever proposed it.
    pub outcome: Outcome,
    /// For subscribers; none if the map is as before.
    pub delta: Option<Delta>,
}

/// The replicated state of the roots.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct RootState {
    pub(crate) map: ClusterMap,
    /// Index of the last entry applied.
    pub(crate) applied: u64,
    /// Forgotten nodes, oldest first.
    pub(crate) tombstones: VecDeque<NodeId>,
    /// Answered requests, oldest first, and their outcomes.
    pub(crate) request_order: VecDeque<RequestId>,
    pub(crate) requests: BTreeMap<RequestId, Outcome>,
}

impl Default for RootState {
    fn default() -> RootState {
        RootState::new()
    }
}

impl RootState {
    /// The state before the first entry: no nodes, a cluster id of zeros.
    pub fn new() -> RootState {
        RootState {
            map: ClusterMap::empty(ClusterId::from_bytes([0; 20])),
            applied: 0,
            tombstones: VecDeque::new(),
            request_order: VecDeque::new(),
            requests: BTreeMap::new(),
        }
    }

    /// The map as of the last entry. Clone it to publish it; nodes and shards are shared.
    pub fn map(&self) -> &ClusterMap {
        &self.map
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Nodes that were forgotten lately.
    pub fn is_tombstone(&self, node: &NodeId) -> bool {
        self.tombstones.contains(node)
    }

    /// Applies the entry at `index`. Indexes rise; those that carry no command (Raft's own entries)
    /// are left out or passed to `skip`. Applying an index again panics: it would mean that the log
    /// adapter lost count, and going on would make the roots differ.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Applied {
        self.skip(index);
        if let Some(outcome) = self.requests.get(&proposal.request) {
            return Applied { outcome: outcome.clone(), delta: None };
        }
        let mut draft = Draft::new(&self.map, &self.tombstones, TopologyVersion(index));
        let outcome = run(&mut draft, &proposal.command);
        let (changes, tombstones) = draft.finish();
        if let Some(tombstones) = tombstones {
            self.tombstones = tombstones;
        }
        let from = self.map.version();
        let delta = (!changes.is_empty()).then(|| {
            let to = TopologyVersion(index);
            self.map.apply_trusted(to, &changes);
            Delta { from, to, changes }
        });
        self.remember(proposal.request, outcome.clone());
        Applied { outcome, delta }
    }

    /// Notes an entry without a command.
    pub fn skip(&mut self, index: u64) {
        assert!(index > self.applied, "entry {index} comes after {}", self.applied);
        self.applied = index;
    }

    fn remember(&mut self, request: RequestId, outcome: Outcome) {
        if request == RequestId::NONE {
            return;
        }
        self.requests.insert(request, outcome);
        self.request_order.push_back(request);
        while self.request_order.len() > REQUESTS_MAX {
            if let Some(oldest) = self.request_order.pop_front() {
                self.requests.remove(&oldest);
            }
        }
    }

    /// Panics if the state breaks one of its rules.
    pub fn check_invariants(&self) {
        self.map.check_invariants();
        assert!(self.map.version().get() <= self.applied);
        assert_eq!(self.requests.len(), self.request_order.len());
        assert!(self.requests.len() <= REQUESTS_MAX && self.tombstones.len() <= TOMBSTONES_MAX);
        assert!(!self.requests.contains_key(&RequestId::NONE));
        assert!(self.tombstones.iter().all(|id| self.map.node(id).is_none()), "a forgotten node is in the map");
        let mut epochs: Vec<u64> = self.map.shards().values().map(|s| s.epoch).filter(|e| *e > 0).collect();
        epochs.sort_unstable();
        assert!(epochs.windows(2).all(|w| w[0] != w[1]), "two shards share an epoch");
    }
}

fn run(draft: &mut Draft<'_>, command: &Command) -> Outcome {
    match command {
        Command::Batch(commands) => Outcome::Batch(commands.iter().map(|c| run(draft, c)).collect()),
        other => match rules::apply(draft, other) {
            Ok(None) => Outcome::Done,
            Ok(Some(answer)) => Outcome::Answer(answer),
            Err(refusal) => Outcome::Refused(refusal),
        },
    }
}
