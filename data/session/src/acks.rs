// SPDX-License-Identifier: BSD-3-Clause
//! Offsets that replicas acknowledged: written by data/replication, read by WAIT.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// See the head of this file. Replicas are named by any number that is stable while the link lives
/// (the client id of the link).
#[derive(Debug, Default)]
pub struct ReplicaAcks {
    offsets: Mutex<Offsets>,
    /// Clients in WAIT, so that an acknowledgement costs nothing without them.
    pub(crate) waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Offsets {
    of: HashMap<u64, u64>,
    /// Whose link has ended, while they are kept.
    departed: Vec<u64>,
    keeps_departed: bool,
}

impl Offsets {
    fn forget_departed(&mut self) {
        for replica in std::mem::take(&mut self.departed) {
            self.of.remove(&replica);
        }
    }
}

impl ReplicaAcks {
    pub(crate) fn set(&self, replica: u64, offset: u64) {
        let mut offsets = self.offsets.lock();
        let entry = offsets.of.entry(replica).or_default();
        *entry = offset.max(*entry);
    }

    /// The replica's link is gone.
    pub fn remove(&self, replica: u64) {
        let mut offsets = self.offsets.lock();
        if offsets.keeps_departed {
            offsets.departed.push(replica);
        } else {
            offsets.of.remove(&replica);
        }
    }

    /// While this node changes places with a replica, no replica can come, and one whose link ends still counts for those
    /// who wait: it has acknowledged, and they may not have been told yet. Without `goes_on` as a primary they count
    /// until the node is one again: until then nobody can begin to wait.
    pub fn keep_departed(&self, keeps: bool, goes_on: bool) {
        let mut offsets = self.offsets.lock();
        offsets.keeps_departed = keeps;
        if goes_on {
            offsets.forget_departed();
        }
    }

    /// How many replicas have everything up to `offset`.
    pub fn count(&self, offset: u64) -> usize {
        self.offsets.lock().of.values().filter(|&&acked| acked >= offset).count()
    }

    pub(crate) fn has_waiters(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }
}
