// SPDX-License-Identifier: BSD-3-Clause
//! No process has a write twice.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Scene};

/// See the head of this file.
#[derive(Default)]
pub struct Once {
    /// For each host: what was looked at, and the last of it.
    known: BTreeMap<usize, (BTreeSet<u64>, Option<u64>)>,
}

impl Invariant for Once {
    fn name(&self) -> &'static str {
        "no write twice"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for process in scene.seen {
            let log = process.data.log();
            let (known, last) = self.known.entry(process.host).or_default();
            let is_same =
                known.is_empty() || (log.len() >= known.len() && log.writes().get(known.len() - 1) == last.as_ref());
            if !is_same {
                known.clear();
            }
            for write in &log.writes()[known.len()..] {
                if !known.insert(*write) {
                    return Err(format!("host {} has write {write} twice", process.host));
                }
                *last = Some(*write);
            }
        }
        Ok(())
    }
}
