// SPDX-License-Identifier: BSD-3-Clause
//! The entries of a stream and the counters that go with them: appending, reading, deleting, trimming.
//!
//! Not here: consumer groups (`group.rs`). Which node an entry lies in, when a node goes, and what the counters say
//! follows Valkey, because XINFO, XTRIM and the lag of groups show it.

use crate::relocate::Mover;
use std::sync::Arc;

use super::id::StreamId;
use super::id_map::{At, IdMap};
use super::node::{Node, StreamEntry, payload_bytes};
use crate::limits::Limits;
use crate::listpack::{ListPack, Pos};

/// No node grows beyond this, whatever the settings say; no entry is larger.
const NODE_BYTES_MAX: usize = 1 << 30;

/// Why an entry was not added.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AppendError {
    /// Its id is not above the last one.
    IdTooSmall,
    /// Its fields and values are longer than a gigabyte.
    TooLarge,
}

/// What XTRIM keeps.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum TrimTo {
    /// This many of the newest entries.
    Len(u64),
    /// Entries from this id on.
    Id(StreamId),
}

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamEntries {
    /// By the first id that was ever in the node.
    nodes: IdMap<Arc<Node>>,
    len: u64,
    last_id: StreamId,
    first_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    /// Bytes of the nodes.
    node_bytes: usize,
}

/// The counters of a stream, as RDB files have them.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamCounters {
    /// Entries.
    pub len: u64,
    /// The last id that was given out.
    pub last_id: StreamId,
    /// The first entry, `0-0` when there is none.
    pub first_id: StreamId,
    /// The largest id that was deleted by XDEL.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
}

impl StreamEntries {
    /// Moves what lies in sparse memory: see `Collection::relocate`.
    pub(super) fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        self.nodes.relocate(from, mover, |shared, mover| {
            if let Some(node) = Arc::get_mut(shared) {
                node.relocate(mover);
                mover.cloned(shared);
            }
        })
    }

    /// Entries.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last id that was given out, whether or not that entry is still there.
    #[inline]
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// Length, ids and totals.
    pub fn counters(&self) -> StreamCounters {
        StreamCounters {
            len: self.len,
            last_id: self.last_id,
            first_id: self.first_id,
            max_deleted_id: self.max_deleted_id,
            entries_added: self.entries_added,
        }
    }

    /// Nodes with their first ids, in order, as RDB files have them.
    pub fn nodes(&self) -> impl Iterator<Item = (StreamId, &ListPack)> {
        self.nodes.iter().map(|(id, node)| (id, node.pack()))
    }

    /// Nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.nodes.heap_bytes() + self.node_bytes
    }

    pub(super) fn free_effort(&self) -> usize {
        2 * self.nodes.len() + self.nodes.chunk_count()
    }

    /// Appends an entry whose fields and values alternate in `pairs`.
    pub(super) fn append(&mut self, id: StreamId, pairs: &[&[u8]], limits: &Limits) -> Result<(), AppendError> {
        if id <= self.last_id {
            return Err(AppendError::IdTooSmall);
        }
        let bytes = payload_bytes(pairs);
        if bytes > NODE_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let bytes_max = match limits.stream_node_max_bytes {
            0 => NODE_BYTES_MAX,
            max => max.min(NODE_BYTES_MAX),
        };
        let last = self.nodes.last();
        if last.is_some_and(|(_, node)| node.may_take(bytes, bytes_max, limits.stream_node_max_entries)) {
            self.edit_last(|master, node| node.append(master, id, pairs));
        } else {
            let mut node = Node::new(pairs);
            node.append(id, id, pairs);
            self.node_bytes += node.heap_bytes();
            self.nodes.insert(id, Arc::new(node));
        }
        self.len += 1;
        self.entries_added = self.entries_added.wrapping_add(1);
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
        Ok(())
    }

    /// Changes the last node and keeps count of its bytes.
    #[inline]
    fn edit_last(&mut self, edit: impl FnOnce(StreamId, &mut Node)) {
        let Some((master, _)) = self.nodes.last() else { return };
        let Some(node) = self.nodes.last_mut() else { return };
        let before = node.heap_bytes();
        let node = Arc::make_mut(node);
        edit(master, node);
        self.node_bytes = self.node_bytes + node.heap_bytes() - before;
    }

    fn edit_node(&mut self, at: At, edit: impl FnOnce(&mut Node)) {
        let Some(node) = self.nodes.at_mut(at) else { return };
        let before = node.heap_bytes();
        let node = Arc::make_mut(node);
        edit(node);
        self.node_bytes = self.node_bytes + node.heap_bytes() - before;
    }

    fn remove_node(&mut self, at: At) {
        if let Some(node) = self.nodes.remove_at(at) {
            self.node_bytes -= node.heap_bytes();
        }
    }

    /// Entries from `start` to `end`, both included, in order.
    #[inline]
    pub fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        self.range_with_tombstones(start, end, false)
    }

    fn range_with_tombstones(&self, start: StreamId, end: StreamId, with_tombstones: bool) -> Range<'_> {
        let at = self.nodes.at_or_before(start).unwrap_or(At::FIRST);
        let here = self.nodes.at(at).map(|(master, node)| (master, &**node, node.first()));
        Range { entries: self, at, here, start, end, with_tombstones }
    }

    /// Entries from `end` back to `start`, both included.
    #[inline]
    pub fn range_back(&self, start: StreamId, end: StreamId) -> RangeBack<'_> {
        let at = self.nodes.at_or_before(end);
        let here = at.and_then(|at| self.nodes.at(at)).map(|(master, node)| (master, &**node, node.end()));
        RangeBack { entries: self, at, here, start, end }
    }

    /// How many entries lie from `start` to `end`, where that is all of them; `None` where they would have to be counted.
    #[inline]
    pub fn len_if_all_within(&self, start: StreamId, end: StreamId) -> Option<u64> {
        (start <= self.first_id && self.last_id <= end).then_some(self.len)
    }

    /// The entry with this id.
    pub fn get(&self, id: StreamId) -> Option<StreamEntry<'_>> {
        self.range(id, id).next()
    }

    /// The id of the last entry that is there.
    pub fn last_live_id(&self) -> Option<StreamId> {
        self.range_back(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id)
    }

    /// The id of the first entry, deleted ones included as far as they still take their place; the largest id when there is
    /// none. What `MINID ~` is logged as.
    pub fn first_stored_id(&self) -> StreamId {
        let mut range = self.range_with_tombstones(StreamId::MIN, StreamId::MAX, true);
        range.next().map_or(StreamId::MAX, |entry| entry.id)
    }

    /// Deletes the entries with these ids and tells how many there were.
    pub(super) fn delete(&mut self, ids: &[StreamId]) -> u64 {
        let mut deleted = 0;
        let mut is_first_gone = false;
        for &id in ids {
            let Some(at) = self.nodes.at_or_before(id) else { continue };
            let Some(start) = self.get(id).map(|entry| entry.start()) else { continue };
            if self.nodes.at(at).is_some_and(|(_, node)| node.live() == 1) {
                self.remove_node(at);
            } else {
                self.edit_node(at, |node| node.delete(&[start]));
            }
            self.len -= 1;
            deleted += 1;
            is_first_gone |= id == self.first_id;
            self.max_deleted_id = self.max_deleted_id.max(id);
        }
        if is_first_gone || self.len == 0 {
            self.find_first();
        }
        deleted
    }

    fn find_first(&mut self) {
        self.first_id = self.range(StreamId::MIN, StreamId::MAX).next().map_or(StreamId::MIN, |entry| entry.id);
    }

    /// Removes entries from the front until the stream is as `to` says, and tells how many. `approximately` removes whole
    /// nodes only; `limit`, unless zero, ends the work before more than that many entries are gone.
    pub(super) fn trim(&mut self, to: TrimTo, approximately: bool, limit: u64) -> u64 {
        let mut removed = 0;
        while let Some((master, node)) = self.nodes.first() {
            let live = node.live();
            if matches!(to, TrimTo::Len(len) if self.len <= len) || (limit > 0 && removed + live > limit) {
                break;
            }
            let is_dispensable = match to {
                TrimTo::Len(len) => self.len - live >= len,
                TrimTo::Id(id) => node.last_id(master).unwrap_or_default() < id,
            };
            if is_dispensable {
                self.remove_node(At::FIRST);
                self.len -= live;
                removed += live;
                continue;
            }
            if !approximately {
                removed += self.trim_first_node(to);
            }
            break;
        }
        if removed > 0 || self.len == 0 {
            self.find_first();
        }
        removed
    }

    /// Deletes entries of the first node from its front; something is left of it.
    fn trim_first_node(&mut self, to: TrimTo) -> u64 {
        let Some((master, node)) = self.nodes.first() else { return 0 };
        let mut starts = Vec::new();
        let mut pos = node.first();
        while let Some(entry) = node.entry(master, pos) {
            let is_kept = match to {
                TrimTo::Len(len) => self.len - starts.len() as u64 <= len,
                TrimTo::Id(id) => entry.id >= id,
            };
            if is_kept {
                break;
            }
            if !entry.is_deleted() {
                starts.push(entry.start());
            }
            pos = entry.end();
        }
        self.edit_node(At::FIRST, |node| node.delete(&starts));
        self.len -= starts.len() as u64;
        starts.len() as u64
    }

    /// XSETID. `None` leaves a counter as it is.
    pub(super) fn set_counters(&mut self, last_id: StreamId, added: Option<u64>, max_deleted_id: Option<StreamId>) {
        self.last_id = last_id;
        self.entries_added = added.unwrap_or(self.entries_added);
        self.max_deleted_id = max_deleted_id.unwrap_or(self.max_deleted_id);
    }

    /// Adds a node that was read from a file, behind the others. `false` when its bytes make no node or its ids are not
    /// above those of the others; the counters are left alone.
    pub(super) fn restore_node(&mut self, master: StreamId, pack: ListPack) -> bool {
        let last = self.nodes.last().map(|(master, node)| node.last_id(master).unwrap_or(master));
        if last.is_some_and(|last| master <= last) {
            return false;
        }
        let Some(node) = Node::from_pack_checked(pack, master) else { return false };
        self.node_bytes += node.heap_bytes();
        self.nodes.insert(master, Arc::new(node))
    }

    /// Takes the counters that were read from a file; `false` when they contradict the nodes.
    pub(super) fn restore_counters(&mut self, counters: StreamCounters) -> bool {
        let live: u64 = self.nodes.iter().map(|(_, node)| node.live()).sum();
        if live != counters.len || self.last_live_id().is_some_and(|last| last > counters.last_id) {
            return false;
        }
        self.len = counters.len;
        self.last_id = counters.last_id;
        self.max_deleted_id = counters.max_deleted_id;
        self.entries_added = counters.entries_added;
        self.find_first();
        true
    }

    /// Whether an entry between `start` and the end of the stream may have been deleted by XDEL.
    pub(super) fn may_have_holes_from(&self, start: StreamId) -> bool {
        self.len > 0 && !self.max_deleted_id.is_zero() && start <= self.max_deleted_id
    }

    /// How many entries were added up to `id`, as far as that can be told.
    pub(super) fn added_up_to(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added as i64;
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(added);
        }
        if !id.is_zero() && id < self.max_deleted_id {
            return None;
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(added);
        }
        if self.max_deleted_id.is_zero() || self.max_deleted_id < self.first_id {
            let before_first = added.wrapping_sub(self.len as i64);
            match id.cmp(&self.first_id) {
                std::cmp::Ordering::Less => return Some(before_first),
                std::cmp::Ordering::Equal => return Some(before_first.wrapping_add(1)),
                std::cmp::Ordering::Greater => {}
            }
        }
        None
    }

    /// Nodes of the radix tree that the reference server would keep the nodes in (XINFO shows it): one for each key, for each
    /// branch, and for each stretch of bytes without a branch.
    pub fn radix_tree_nodes(&self) -> usize {
        const KEY_LEN: usize = 16;
        let mut keys = self.nodes.iter().map(|(id, _)| id.to_be_bytes());
        let Some(mut previous) = keys.next() else { return 1 };
        // The branches above the current key, as depths; a stretch precedes whatever does not follow its branch at once.
        let (mut nodes, mut branches) = (0, Vec::<usize>::new());
        let stretch = |from: Option<&usize>, to: usize| usize::from(to > from.map_or(0, |depth| depth + 1));
        for key in keys {
            let depth = key.iter().zip(&previous).take_while(|(a, b)| a == b).count();
            let mut below = KEY_LEN;
            // What lies deeper than the new branch is complete.
            while branches.last().is_some_and(|&last| last > depth) {
                let Some(own) = branches.pop() else { break };
                nodes += 1 + stretch(Some(&own), below);
                below = own;
            }
            nodes += 1 + stretch(Some(&depth), below);
            if branches.last() != Some(&depth) {
                branches.push(depth);
            }
            previous = key;
        }
        let mut below = KEY_LEN;
        while let Some(own) = branches.pop() {
            nodes += 1 + stretch(Some(&own), below);
            below = own;
        }
        nodes + 1 + stretch(None, below)
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        self.nodes.check_invariants();
        assert_eq!(self.nodes.iter().map(|(_, node)| node.live()).sum::<u64>(), self.len);
        assert_eq!(self.nodes.iter().map(|(_, node)| node.heap_bytes()).sum::<usize>(), self.node_bytes);
        for (master, node) in self.nodes.iter() {
            let copy = ListPack::from_bytes_checked(node.pack().bytes().to_vec()).expect("a listpack");
            assert_eq!(Node::from_pack_checked(copy, master).as_ref(), Some(&**node));
        }
    }
}

/// See [`StreamEntries::range`].
#[derive(Clone, Debug)]
pub struct Range<'a> {
    entries: &'a StreamEntries,
    at: At,
    /// The node at `at` with its first id, and the next entry there.
    here: Option<(StreamId, &'a Node, Pos)>,
    start: StreamId,
    end: StreamId,
    with_tombstones: bool,
}

impl<'a> Iterator for Range<'a> {
    type Item = StreamEntry<'a>;

    fn next(&mut self) -> Option<StreamEntry<'a>> {
        loop {
            let (master, node, pos) = self.here.as_mut()?;
            let Some(entry) = node.entry(*master, *pos) else {
                self.at = self.entries.nodes.next(self.at);
                self.here = self.entries.nodes.at(self.at).map(|(master, node)| (master, &**node, node.first()));
                continue;
            };
            if entry.id > self.end {
                self.here = None;
                return None;
            }
            *pos = entry.end();
            if entry.id >= self.start && (self.with_tombstones || !entry.is_deleted()) {
                return Some(entry);
            }
        }
    }
}

/// See [`StreamEntries::range_back`].
#[derive(Clone, Debug)]
pub struct RangeBack<'a> {
    entries: &'a StreamEntries,
    at: Option<At>,
    /// The node at `at` with its first id, and where the next entry there ends.
    here: Option<(StreamId, &'a Node, Pos)>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Iterator for RangeBack<'a> {
    type Item = StreamEntry<'a>;

    fn next(&mut self) -> Option<StreamEntry<'a>> {
        loop {
            let (master, node, end) = self.here.as_mut()?;
            let Some(start) = node.entry_before(*end) else {
                self.at = self.at.and_then(|at| self.entries.nodes.prev(at));
                let node = self.at.and_then(|at| self.entries.nodes.at(at));
                self.here = node.map(|(master, node)| (master, &**node, node.end()));
                continue;
            };
            *end = start;
            let entry = node.entry(*master, start)?;
            if entry.id < self.start {
                self.here = None;
                return None;
            }
            if entry.id <= self.end && !entry.is_deleted() {
                return Some(entry);
            }
        }
    }
}
