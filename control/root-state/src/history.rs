// SPDX-License-Identifier: BSD-3-Clause
//! What was decided, by whom, when and why: the last few records of each kind about every shard, every node and
//! the roots. Part of the replicated state, so every root tells the same, and no rule reads it.
//!
//! Bounded by the size of the cluster: each subject keeps at most a few records of each [`Topic`], and subjects that are no longer in the map
//! go after a while. Many slot changes in a row between the same shards are one record. `state` adds
//! the records (`observe` makes them), the agent of the leading root reads them.

use crate::command::PromoteReason;
use crate::evidence::{Opinion, SeenCandidate, Stamp};
use pando_topology::{Incarnation, NodeId, ShardId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Shards and nodes that are gone and still have a history.
const GONE_MAX: usize = 256;
/// Slot changes that follow each other sooner than this are told as one.
const SLOTS_MERGE_MS: u64 = 60_000;

/// What a record is about.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug, Serialize, Deserialize)]
pub enum Subject {
    /// The roots.
    Roots,
    /// A shard: its primary, its replicas, its slots.
    Shard(ShardId),
    /// A node: joined, failed, back, restarted, gone.
    Node(NodeId),
}

/// Kinds of records; each subject keeps the last few of each.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Topic {
    /// Who is primary.
    Primaries,
    /// Promotions that did not take place.
    Refusals,
    /// Which replicas there are.
    Members,
    /// Slot ownership.
    Slots,
    /// Marks of failure and their undoing.
    Health,
    /// Joins, restarts, new addresses, departures.
    Presence,
    /// The set of roots.
    Voters,
    /// Who leads the roots.
    Elections,
}

impl Topic {
    /// How many records of this topic one subject keeps.
    fn kept(self) -> usize {
        match self {
            Topic::Voters | Topic::Elections => 32,
            Topic::Primaries | Topic::Health => 6,
            Topic::Refusals | Topic::Members | Topic::Slots | Topic::Presence => 4,
        }
    }
}

/// What happened.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A replica became primary.
    Promoted {
        /// The primary before.
        from: NodeId,
        /// The new one.
        to: NodeId,
        /// Its config epoch.
        epoch: u64,
        /// How many slots it serves.
        slots: usize,
        /// By which rule.
        reason: PromoteReason,
    },
    /// A new process of the primary goes on.
    Confirmed {
        /// The primary.
        node: NodeId,
        /// The process.
        incarnation: Incarnation,
    },
    /// Nobody was promoted, or not the replica that was to be.
    NotPromoted {
        /// The replica that was to be, if it was a certain one.
        node: Option<NodeId>,
        /// Why, in words.
        text: String,
    },
    /// A node became a replica of this shard.
    Attached {
        /// The node.
        node: NodeId,
        /// Where it was before.
        from: Option<ShardId>,
    },
    /// A node left this shard.
    Detached {
        /// The node.
        node: NodeId,
        /// Where it is now; none if it left the cluster.
        to: Option<ShardId>,
    },
    /// The shard got or lost slots.
    Slots {
        /// How many came.
        gained: usize,
        /// How many went.
        lost: usize,
        /// The other shard; none: assigned or taken away by an operator.
        peer: Option<ShardId>,
        /// In how many steps.
        steps: u64,
        /// When the first of them was.
        since_ms: u64,
    },
    /// Marked as failed.
    Failed,
    /// The mark was taken away.
    Back,
    /// Joined the cluster.
    Joined,
    /// Runs as a new process.
    Restarted(Incarnation),
    /// Has another address.
    Moved {
        /// `host:port` before.
        from: String,
        /// `host:port` now.
        to: String,
    },
    /// Was forgotten (CLUSTER FORGET).
    Forgotten {
        /// By a client of this node.
        by: NodeId,
    },
    /// Left (CLUSTER RESET).
    Left,
    /// The roots begin to be others.
    VotersChange {
        /// Before.
        from: Vec<NodeId>,
        /// After.
        to: Vec<NodeId>,
    },
    /// The change is complete: the former roots' promises count no more.
    VotersSettled,
    /// A root was elected as leader.
    Elected {
        /// The root.
        root: NodeId,
        /// Its term.
        term: u64,
    },
}

impl Event {
    /// The kind of record.
    pub fn topic(&self) -> Topic {
        match self {
            Event::Promoted { .. } | Event::Confirmed { .. } => Topic::Primaries,
            Event::NotPromoted { .. } => Topic::Refusals,
            Event::Attached { .. } | Event::Detached { .. } => Topic::Members,
            Event::Slots { .. } => Topic::Slots,
            Event::Failed | Event::Back => Topic::Health,
            Event::Joined | Event::Restarted(_) | Event::Moved { .. } | Event::Forgotten { .. } | Event::Left => {
                Topic::Presence
            }
            Event::VotersChange { .. } | Event::VotersSettled => Topic::Voters,
            Event::Elected { .. } => Topic::Elections,
        }
    }
}

/// One record.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Log index of the entry: the topology version that it led to, if it changed the topology.
    pub index: u64,
    /// Who decided, when.
    pub stamp: Stamp,
    /// What.
    pub event: Event,
    /// What each root said of the node in question.
    pub opinions: Vec<(NodeId, Opinion)>,
    /// The replicas that there were, best first.
    pub candidates: Vec<SeenCandidate>,
    /// More of the reason, in words.
    pub note: String,
}

/// See the head of this file.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct History {
    subjects: BTreeMap<Subject, Arc<Vec<Record>>>,
    /// Subjects that are not in the map any more, oldest first.
    gone: VecDeque<Subject>,
}

impl History {
    /// The records about a subject, oldest first.
    pub fn of(&self, subject: &Subject) -> &[Record] {
        self.subjects.get(subject).map_or(&[], |records| records.as_slice())
    }

    /// The newest record about a subject on this topic.
    pub fn last(&self, subject: &Subject, topic: Topic) -> Option<&Record> {
        self.of(subject).iter().rev().find(|record| record.event.topic() == topic)
    }

    /// The newest records about anything, newest first.
    pub fn newest(&self, count: usize) -> Vec<(Subject, Record)> {
        let mut all: Vec<(Subject, &Record)> =
            self.subjects.iter().flat_map(|(subject, records)| records.iter().map(|r| (*subject, r))).collect();
        all.sort_by_key(|(subject, record)| (std::cmp::Reverse(record.index), *subject));
        all.into_iter().take(count).map(|(subject, record)| (subject, record.clone())).collect()
    }

    pub(crate) fn push(&mut self, subject: Subject, record: Record) {
        let records = Arc::make_mut(self.subjects.entry(subject).or_default());
        if let Some(last) = records.last_mut()
            && absorb(last, &record)
        {
            return;
        }
        let topic = record.event.topic();
        records.push(record);
        let same = |record: &Record| record.event.topic() == topic;
        if records.iter().filter(|record| same(record)).count() > topic.kept()
            && let Some(oldest) = records.iter().position(same)
        {
            records.remove(oldest);
        }
    }

    /// Something is remembered that is not in the map any more.
    pub(crate) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// A shard or node is in the map, or not any more.
    pub(crate) fn note_present(&mut self, subject: Subject, is_present: bool) {
        self.gone.retain(|gone| *gone != subject);
        if is_present || !self.subjects.contains_key(&subject) {
            return;
        }
        self.gone.push_back(subject);
        if self.gone.len() > GONE_MAX
            && let Some(oldest) = self.gone.pop_front()
        {
            self.subjects.remove(&oldest);
        }
    }

    /// For snapshots: every subject with its records, and those that are gone.
    pub(crate) fn parts(&self) -> (impl Iterator<Item = (&Subject, &Arc<Vec<Record>>)>, &VecDeque<Subject>) {
        (self.subjects.iter(), &self.gone)
    }

    pub(crate) fn restore(&mut self, subject: Subject, records: Vec<Record>) {
        self.subjects.insert(subject, Arc::new(records));
    }

    pub(crate) fn restore_gone(&mut self, gone: VecDeque<Subject>) {
        self.gone = gone;
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.gone.len() <= GONE_MAX);
        assert!(self.gone.iter().all(|subject| self.subjects.contains_key(subject)));
        for records in self.subjects.values() {
            assert!(!records.is_empty() && records.windows(2).all(|pair| pair[0].index <= pair[1].index));
            for record in records.iter() {
                let topic = record.event.topic();
                assert!(records.iter().filter(|r| r.event.topic() == topic).count() <= topic.kept());
            }
        }
    }
}

/// Makes one record of two that say the same or go on with it; says whether it did.
fn absorb(last: &mut Record, new: &Record) -> bool {
    match (&mut last.event, &new.event) {
        (
            Event::Slots { gained, lost, peer, steps, .. },
            Event::Slots { gained: more, lost: less, peer: other, steps: step, since_ms },
        ) if peer == other
            && (*gained > 0) == (*more > 0)
            && since_ms.saturating_sub(last.stamp.unix_ms) < SLOTS_MERGE_MS =>
        {
            *gained += more;
            *lost += less;
            *steps += step;
        }
        (Event::NotPromoted { node, text }, Event::NotPromoted { node: other, text: again })
            if node == other && text == again =>
        {
            last.candidates.clone_from(&new.candidates);
            last.opinions.clone_from(&new.opinions);
            last.note.clone_from(&new.note);
        }
        _ => return false,
    }
    last.index = new.index;
    last.stamp = new.stamp;
    true
}
