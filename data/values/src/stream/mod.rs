// SPDX-License-Identifier: BSD-3-Clause
//! Stream: entries in nodes of Valkey's bytes, ordered by id, and consumer groups.
//!
//! ```text
//! Stream -> entries: node (first id) -> listpack of ~100 entries, shared with clones
//!           groups by name: last id, consumers, pending entries
//! ```
//! A clone costs a pointer for each hundred nodes and one for each group. Nothing moves more than a node's bytes or a chunk
//! of pointers for one entry. Heap bytes are kept up to date as nodes and groups change.
//!
//! Not here: what clients write and read (`pando-commands`), files (`pando-dump`, which reads [`StreamEntries::nodes`] and
//! fills a stream by the `restore_` functions).

mod entries;
mod group;
mod id;
mod id_map;
mod node;
#[cfg(test)]
mod tests;

pub use entries::{AppendError, Range, RangeBack, StreamCounters, StreamEntries, TrimTo};
pub use group::{Consumer, ConsumerId, Group, Pending};
pub use id::{StreamId, StreamIdText};
pub use node::StreamEntry;

use crate::relocate::Mover;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::collection::Collection;
use crate::encoding::Encoding;
use crate::limits::Limits;
use crate::listpack::ListPack;
use crate::size_class::size_class;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream(Box<Parts>);

#[derive(Clone, Debug, Default)]
struct Parts {
    entries: StreamEntries,
    /// By name.
    groups: Vec<(Arc<[u8]>, Arc<Group>)>,
    /// Bytes of the groups and their names.
    group_bytes: usize,
}

impl PartialEq for Parts {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.groups == other.groups
    }
}

/// A group that is being changed, beside the entries of its stream.
#[derive(Debug)]
pub struct GroupMut<'a> {
    /// The stream's entries.
    pub entries: &'a StreamEntries,
    group: &'a mut Group,
    total: &'a mut usize,
    before: usize,
}

impl Deref for GroupMut<'_> {
    type Target = Group;

    fn deref(&self) -> &Group {
        self.group
    }
}

impl DerefMut for GroupMut<'_> {
    fn deref_mut(&mut self) -> &mut Group {
        self.group
    }
}

impl Drop for GroupMut<'_> {
    /// Brings the stream's count of bytes up to date.
    fn drop(&mut self) {
        *self.total = *self.total + self.group.heap_bytes() - self.before;
    }
}

/// Bytes of a group's two allocations, besides what it counts itself.
fn frame_bytes(name: &[u8]) -> usize {
    size_class(name.len() + 16) + size_class(size_of::<Group>() + 16)
}

impl Stream {
    /// A stream without entries and groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its entries.
    #[inline]
    pub fn entries(&self) -> &StreamEntries {
        &self.0.entries
    }

    /// Appends an entry whose fields and values alternate in `pairs`; on an error nothing changes.
    #[inline]
    pub fn append(&mut self, id: StreamId, pairs: &[&[u8]], limits: &Limits) -> Result<(), AppendError> {
        self.0.entries.append(id, pairs, limits)
    }

    /// Deletes the entries with these ids and tells how many there were.
    pub fn delete(&mut self, ids: &[StreamId]) -> u64 {
        self.0.entries.delete(ids)
    }

    /// Removes entries from the front until the stream is as `to` says, and tells how many. `approximately` removes whole
    /// nodes only; `limit`, unless zero, ends the work before more than that many entries are gone.
    pub fn trim(&mut self, to: TrimTo, approximately: bool, limit: u64) -> u64 {
        self.0.entries.trim(to, approximately, limit)
    }

    /// Sets the last id and, where given, the number of entries ever added and the largest deleted id.
    pub fn set_counters(&mut self, last_id: StreamId, added: Option<u64>, max_deleted_id: Option<StreamId>) {
        self.0.entries.set_counters(last_id, added, max_deleted_id);
    }

    /// Adds a node read from a file behind the others. `false` when its bytes make no node or its ids are not above those of
    /// the others. [`Stream::restore_counters`] comes after the last node.
    pub fn restore_node(&mut self, master: StreamId, pack: ListPack) -> bool {
        self.0.entries.restore_node(master, pack)
    }

    /// Takes the counters read from a file; `false` when they contradict the nodes.
    pub fn restore_counters(&mut self, counters: StreamCounters) -> bool {
        self.0.entries.restore_counters(counters)
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.0.groups.binary_search_by(|(own, _)| (**own).cmp(name))
    }

    /// Groups by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.0.groups.iter().map(|(name, group)| (&**name, &**group))
    }

    /// The group with this name.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.place(name).ok().map(|place| &*self.0.groups[place].1)
    }

    /// The group with this name, to be changed.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<GroupMut<'_>> {
        let place = self.place(name).ok()?;
        let parts = &mut *self.0;
        let slot = &mut parts.groups[place].1;
        // Counted before it is copied: a copy's vectors may be smaller.
        let before = slot.heap_bytes();
        let group = Arc::make_mut(slot);
        Some(GroupMut { entries: &parts.entries, group, total: &mut parts.group_bytes, before })
    }

    /// Adds a group; `false` when there is one of this name.
    pub fn create_group(&mut self, name: &[u8], group: Group) -> bool {
        let Err(place) = self.place(name) else { return false };
        let parts = &mut *self.0;
        parts.group_bytes += frame_bytes(name) + group.heap_bytes();
        parts.groups.insert(place, (name.into(), Arc::new(group)));
        true
    }

    /// Removes a group; `false` when there is none of this name.
    pub fn destroy_group(&mut self, name: &[u8]) -> bool {
        let Ok(place) = self.place(name) else { return false };
        let parts = &mut *self.0;
        let (name, group) = parts.groups.remove(place);
        parts.group_bytes -= frame_bytes(&name) + group.heap_bytes();
        true
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        self.0.entries.check_invariants();
        for (_, group) in self.groups() {
            group.check_invariants();
        }
        let bytes = self.groups().map(|(name, group)| frame_bytes(name) + group.heap_bytes()).sum::<usize>();
        assert_eq!(bytes, self.0.group_bytes);
    }
}

impl Collection for Stream {
    /// Consumer groups stay where they are.
    fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        if from == 0 {
            mover.boxed(&mut self.0, Parts::default);
        }
        self.0.entries.relocate(from, mover)
    }

    fn len(&self) -> usize {
        self.0.entries.len() as usize
    }

    fn encoding(&self) -> Encoding {
        Encoding::Stream
    }

    fn heap_bytes(&self) -> usize {
        size_class(size_of::<Parts>())
            + self.0.entries.heap_bytes()
            + self.0.group_bytes
            + size_class(self.0.groups.capacity() * size_of::<(Arc<[u8]>, Arc<Group>)>())
    }

    fn free_effort(&self) -> usize {
        let groups = self.0.groups.iter().take(64).map(|(_, group)| 2 + group.free_effort()).sum::<usize>();
        self.0.entries.free_effort() + groups
    }
}
