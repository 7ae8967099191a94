// SPDX-License-Identifier: BSD-3-Clause
//! Watched keys: who wants to know that a key was changed (`WATCH`).
//!
//! Not here: transactions. Called by `locked`.

use crate::DbIndex;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says whether a key that its owner watches was changed. One per client.
#[derive(Debug, Default)]
pub struct WatchFlag(AtomicBool);

impl WatchFlag {
    /// A clean flag.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether a watched key was changed.
    pub fn is_dirty(&self) -> bool {
        // Acquire: pairs with the release in `touch`.
        self.0.load(Ordering::Acquire)
    }

    /// Marks the flag dirty.
    pub fn touch(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Makes the flag clean, once nothing is watched under it any more.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Release);
    }
}

pub(crate) struct Watcher {
    pub(crate) db: DbIndex,
    pub(crate) flag: Arc<WatchFlag>,
    /// The key was past due already when it was watched: its deletion is no change.
    pub(crate) was_expired: bool,
}

/// By key, so that neither a change nor an UNWATCH looks at those of all other keys.
#[derive(Default)]
pub(crate) struct Watchers(pub(crate) HashMap<Box<[u8]>, SmallVec<[Watcher; 1]>>);
