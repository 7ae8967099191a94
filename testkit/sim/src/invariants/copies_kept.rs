// SPDX-License-Identifier: BSD-3-Clause
//! A write that was acknowledged as being on all members of its shard is only lost with the last process that has
//! it: no process that lives throws away the last copy (to follow a primary that does not have it), unless an
//! operator moved it to another shard.

use std::collections::BTreeMap;

use pando_topology::ShardId;

use super::{Fact, Invariant, Scene, Seen};

/// See the head of this file.
#[derive(Default)]
pub struct CopiesKept {
    /// Place and shard of each such write that is still somewhere.
    kept: BTreeMap<u64, (usize, ShardId)>,
    /// How many processes there were; a smaller number means that copies may be gone with one.
    processes: Vec<bool>,
}

fn has(process: &Seen, write: u64, at: usize) -> bool {
    process.has_process && process.data.log().writes().get(at) == Some(&write)
}

impl Invariant for CopiesKept {
    fn name(&self) -> &'static str {
        "the last copy is kept"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        for fact in scene.facts {
            match fact {
                Fact::Kept { shard, write, at } => {
                    self.kept.insert(*write, (*at, *shard));
                }
                Fact::Replaced { host, shard, former } => {
                    for (at, write) in former.writes().iter().enumerate() {
                        let Some((place, of)) = self.kept.get(write) else { continue };
                        if *place != at || scene.seen.iter().any(|process| has(process, *write, at)) {
                            continue;
                        }
                        if *shard == Some(*of) {
                            return Err(format!("host {host} threw away the last copy of write {write} of shard {of}"));
                        }
                        self.kept.remove(write);
                    }
                }
                Fact::Changed { .. } | Fact::ReadBegan { .. } | Fact::ReadEnded { .. } | Fact::HandedOver { .. } => {}
            }
        }
        let processes: Vec<bool> = scene.seen.iter().map(|process| process.has_process).collect();
        let has_ended = self.processes.iter().zip(&processes).any(|(before, now)| *before && !now)
            || scene.seen.iter().any(|process| process.has_process && process.data.log().is_empty());
        self.processes = processes;
        if has_ended {
            self.kept.retain(|write, (at, _)| scene.seen.iter().any(|process| has(process, *write, *at)));
        }
        Ok(())
    }
}
