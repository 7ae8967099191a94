// SPDX-License-Identifier: BSD-3-Clause
//! The state: the cluster map, the nodes forgotten lately and the requests answered lately. Applying
//! one entry is: answer from memory if the request is known, else run the rules on a draft, then
//! turn the draft's changes into a new version of the map.

use crate::command::{Command, Outcome, Proposal, RequestId};
use crate::draft::Draft;
use crate::evidence::Why;
use crate::history::{History, Record, Subject};
use crate::observe::{self, Entry};
use crate::rules;
use pando_topology::{Change, ClusterId, ClusterMap, Delta, NodeId, TopologyVersion};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

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
    /// What was decided and why. Behind `Arc` for readers: it is copied only while one of them holds it.
    pub(crate) history: Arc<History>,
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
            history: Arc::default(),
        }
    }

    /// The map as of the last entry. Clone it to publish it; nodes and shards are shared.
    pub fn map(&self) -> &ClusterMap {
        &self.map
    }

    /// What was decided and why, as of the last entry. Do not keep it for long.
    pub fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
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
        let mut records = Vec::new();
        let outcome = run(&mut draft, proposal, &proposal.command, &mut records);
        let (changes, tombstones) = draft.finish();
        self.record(records, &changes);
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

    fn record(&mut self, records: Vec<(Subject, Record)>, changes: &[Change]) {
        let presence = changes.iter().filter_map(|change| match change {
            Change::NodeUpsert(node) => Some((Subject::Node(node.id), true)),
            Change::NodeRemove(id) => Some((Subject::Node(*id), false)),
            Change::ShardUpsert(shard) => Some((Subject::Shard(shard.id), true)),
            Change::ShardRemove(id) => Some((Subject::Shard(*id), false)),
            Change::Meta { .. } => None,
        });
        let gone: Vec<Subject> = presence.clone().filter(|(_, is_present)| !is_present).map(|(s, _)| s).collect();
        if records.is_empty() && gone.is_empty() && !self.history.has_gone() {
            return;
        }
        let history = Arc::make_mut(&mut self.history);
        for (subject, record) in records {
            history.push(subject, record);
        }
        for (subject, is_present) in presence {
            history.note_present(subject, is_present);
        }
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
        self.history.check_invariants();
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

fn run(draft: &mut Draft<'_>, proposal: &Proposal, command: &Command, records: &mut Vec<(Subject, Record)>) -> Outcome {
    let mut entry = Entry { index: draft.version.get(), stamp: proposal.stamp, roots: &[] };
    match command {
        Command::Batch(commands) => Outcome::Batch(commands.iter().map(|c| run(draft, proposal, c, records)).collect()),
        Command::Decide { roots, decisions } => {
            entry.roots = roots;
            let outcomes = decisions.iter().map(|d| run_one(draft, &entry, &d.command, &d.why, records));
            Outcome::Batch(outcomes.collect())
        }
        Command::DuringReign { node, reign, command } => match rules::reigns(draft, node, *reign) {
            Ok(()) => run_one(draft, &entry, command, &Why::default(), records),
            Err(refusal) => Outcome::Refused(refusal),
        },
        other => run_one(draft, &entry, other, &Why::default(), records),
    }
}

fn run_one(
    draft: &mut Draft<'_>,
    entry: &Entry<'_>,
    command: &Command,
    why: &Why,
    records: &mut Vec<(Subject, Record)>,
) -> Outcome {
    let before = observe::before(draft, command);
    match rules::apply(draft, command) {
        Ok(answer) => {
            records.extend(observe::after(entry, draft, before, command, why));
            answer.map_or(Outcome::Done, Outcome::Answer)
        }
        Err(refusal) => {
            records.extend(observe::refused(entry, draft, command, &refusal, why));
            Outcome::Refused(refusal)
        }
    }
}
