// SPDX-License-Identifier: BSD-3-Clause
//! Who owns which slot: a table that answers at once, is cheap to copy and follows changes of shards
//! one by one. Part of `ClusterMap`.

use crate::id::ShardId;
use crate::node::Shard;
use crate::shared::SharedMap;
use crate::slot::{SLOT_COUNT, Slot};
use std::sync::Arc;

const NOBODY: u16 = u16::MAX;
const _: () = assert!(SLOT_COUNT < NOBODY as usize);
/// Shards of one chunk; a copy of the table shares chunks.
const CHUNK: usize = 64;

/// See the head of this file.
#[derive(Clone)]
pub(crate) struct Owners {
    /// Number of the shard that owns each slot, or `NOBODY`.
    by_slot: Box<[u16; SLOT_COUNT]>,
    /// The shards by their numbers.
    shards: Vec<Arc<Vec<Option<Arc<Shard>>>>>,
    /// Numbers of those that own a slot (at most one for each slot, so that a number fits in 16 bits).
    numbers: SharedMap<ShardId, u16>,
    /// Numbers that are free again.
    free: Vec<u16>,
    /// How many slots have an owner.
    assigned: usize,
}

impl Owners {
    pub fn new() -> Owners {
        let by_slot = Box::new([NOBODY; SLOT_COUNT]);
        Owners { by_slot, shards: Vec::new(), numbers: SharedMap::new(), free: Vec::new(), assigned: 0 }
    }

    /// The shard that owns a slot.
    pub fn of(&self, slot: Slot) -> Option<&Arc<Shard>> {
        let number = usize::from(self.by_slot[slot.index()]);
        self.shards.get(number / CHUNK)?.get(number % CHUNK)?.as_ref()
    }

    /// How many slots have an owner.
    pub fn assigned(&self) -> usize {
        self.assigned
    }

    /// How many shards own a slot.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The shards that own a slot, in no particular order.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    /// Takes a shard out, with the slots that it has here. Of several shards that change take all out first.
    pub fn remove(&mut self, id: &ShardId) {
        let Some(number) = self.numbers.remove(id) else { return };
        let at = usize::from(number);
        let place = self.shards.get_mut(at / CHUNK).and_then(|chunk| Arc::make_mut(chunk).get_mut(at % CHUNK));
        if let Some(shard) = place.and_then(Option::take) {
            for range in shard.slots.ranges() {
                self.by_slot[range.first.index()..=range.last.index()].fill(NOBODY);
                self.assigned -= range.len();
            }
        }
        self.free.push(number);
    }

    /// Puts a shard in that is not in it; an error names a slot that another one has. After an error the
    /// table is of no use.
    pub fn insert(&mut self, shard: &Arc<Shard>) -> Result<(), Slot> {
        if shard.slots.is_empty() {
            return Ok(());
        }
        let number = self.free.pop().unwrap_or(self.numbers.len() as u16);
        for range in shard.slots.ranges() {
            let first = range.first.index();
            let slots = &mut self.by_slot[first..=range.last.index()];
            if let Some(taken) = slots.iter().position(|owner| *owner != NOBODY) {
                return Err(range.slots().nth(taken).unwrap_or(range.first));
            }
            slots.fill(number);
            self.assigned += range.len();
        }
        let at = usize::from(number);
        while self.shards.len() <= at / CHUNK {
            self.shards.push(Arc::new(Vec::new()));
        }
        let chunk = Arc::make_mut(&mut self.shards[at / CHUNK]);
        if chunk.len() <= at % CHUNK {
            chunk.resize(at % CHUNK + 1, None);
        }
        chunk[at % CHUNK] = Some(shard.clone());
        self.numbers.insert(shard.id, number);
        Ok(())
    }
}
