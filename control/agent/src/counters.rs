// SPDX-License-Identifier: BSD-3-Clause
//! Counts of cluster messages, for `CLUSTER INFO`. No behaviour depends on them.

use std::collections::BTreeMap;

use pando_wire::messages::Message;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Counters {
    by_kind: BTreeMap<&'static str, (u64, u64)>,
    /// Published messages dropped because a peer was too slow or away.
    pub publish_dropped: u64,
}

impl Counters {
    pub fn sent(&mut self, message: &Message) {
        self.by_kind.entry(message.kind()).or_default().0 += 1;
    }

    pub fn received(&mut self, message: &Message) {
        self.by_kind.entry(message.kind()).or_default().1 += 1;
    }

    /// Kind, sent, received.
    pub fn list(&self) -> Vec<(&'static str, u64, u64)> {
        self.by_kind.iter().map(|(kind, (sent, received))| (*kind, *sent, *received)).collect()
    }
}
