// SPDX-License-Identifier: BSD-3-Clause
//! Offsets that replicas acknowledged: written by data/replication, read by WAIT.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// See the head of this file. Replicas are named by any number that is stable while the link lives
/// (the client id of the link).
#[derive(Debug, Default)]
pub struct ReplicaAcks {
    offsets: Mutex<HashMap<u64, u64>>,
    /// Clients in WAIT, so that an acknowledgement costs nothing without them.
    pub(crate) waiting: AtomicUsize,
}

impl ReplicaAcks {
    pub(crate) fn set(&self, replica: u64, offset: u64) {
        let mut offsets = self.offsets.lock();
        let entry = offsets.entry(replica).or_default();
        *entry = offset.max(*entry);
    }

    /// The replica's link is gone.
    pub fn remove(&self, replica: u64) {
        self.offsets.lock().remove(&replica);
    }

    /// How many replicas have everything up to `offset`.
    pub fn count(&self, offset: u64) -> usize {
        self.offsets.lock().values().filter(|&&acked| acked >= offset).count()
    }

    pub(crate) fn has_waiters(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }
}
