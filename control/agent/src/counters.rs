// SPDX-License-Identifier: BSD-3-Clause
//! Counts of cluster messages, for `CLUSTER INFO`. No behaviour depends on them. Clones share the counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pando_wire::messages::Message;

#[derive(Default)]
struct Counts {
    by_kind: BTreeMap<&'static str, (u64, u64)>,
    publish_dropped: u64,
}

/// See the head of this file.
#[derive(Clone, Default)]
pub(crate) struct Counters(Arc<Mutex<Counts>>);

impl Counters {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sent(&self, message: &Message) {
        self.lock().by_kind.entry(message.kind()).or_default().0 += 1;
    }

    pub fn received(&self, message: &Message) {
        self.lock().by_kind.entry(message.kind()).or_default().1 += 1;
    }

    /// A published message was dropped because a peer was too slow or away.
    pub fn dropped(&self) {
        self.lock().publish_dropped += 1;
    }

    pub fn publish_dropped(&self) -> u64 {
        self.lock().publish_dropped
    }

    /// Kind, sent, received.
    pub fn list(&self) -> Vec<(&'static str, u64, u64)> {
        self.lock().by_kind.iter().map(|(kind, (sent, received))| (*kind, *sent, *received)).collect()
    }
}
