// SPDX-License-Identifier: BSD-3-Clause
//! A node of a stream: up to a hundred or so entries in one listpack, in Valkey's layout.
//!
//! ```text
//! live | deleted | n | field 1 .. field n | 0                       the fields of the first entry, as a reference
//! flags | ms | seq | value 1 .. value n | count                     an entry with the same fields
//! flags | ms | seq | m | field 1 | value 1 .. | count               an entry with fields of its own
//! ```
//! `ms` and `seq` are differences to the node's first id; `count` is how many elements of the entry come before it, for
//! readers from behind. A deleted entry keeps its place and gets a flag.
//!
//! Not here: the order of nodes (`entries.rs`). Positions are those of the listpack.

use crate::listpack::{Element, ListPack, NewElement, Pos};
use crate::relocate::Mover;
use crate::size_class::size_class;

use super::id::StreamId;

/// The entry is deleted.
const DELETED: i64 = 1;
/// The entry has the fields that the node starts with, and does not repeat them.
const SAME_FIELDS: i64 = 2;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pack: ListPack,
    /// Fields that the node starts with.
    field_count: u32,
    /// The first entry.
    first: Pos,
}

/// With the two counters of an `Arc` a node takes 32 bytes besides its listpack.
const _: () = assert!(size_of::<Node>() <= 16);

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.pack == other.pack
    }
}

/// One entry of a stream.
#[derive(Copy, Clone, Debug)]
pub struct StreamEntry<'a> {
    /// Its id.
    pub id: StreamId,
    node: &'a Node,
    flags: i64,
    field_count: usize,
    /// The first value, or the first field when the entry has fields of its own.
    body: Pos,
    /// The entry's first element.
    start: Pos,
}

impl<'a> StreamEntry<'a> {
    /// Pairs of fields and values.
    #[inline]
    pub fn field_count(&self) -> usize {
        self.field_count
    }

    /// Fields and values.
    #[inline]
    pub fn fields(&self) -> impl Iterator<Item = (Element<'a>, Element<'a>)> + use<'a> {
        let pack = &self.node.pack;
        let mut body = pack.iter_from(self.body);
        let mut shared = (self.flags & SAME_FIELDS != 0).then(|| pack.iter_from(self.node.first_field()));
        let mut left = self.field_count;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let field = match &mut shared {
                Some(shared) => shared.next()?,
                None => body.next()?,
            };
            Some((field, body.next()?))
        })
    }

    #[inline]
    pub(super) fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    #[inline]
    pub(super) fn start(&self) -> Pos {
        self.start
    }

    /// Where the next entry starts.
    #[inline]
    pub(super) fn end(&self) -> Pos {
        let elements = if self.flags & SAME_FIELDS != 0 { self.field_count } else { 2 * self.field_count };
        // The values and the count after them.
        skip(&self.node.pack, self.body, elements + 1)
    }
}

fn skip(pack: &ListPack, mut pos: Pos, elements: usize) -> Pos {
    for _ in 0..elements {
        pos = pack.next(pos);
    }
    pos
}

/// The integer at `pos`; zero where there is none, which no valid node has.
#[inline]
fn int_at(pack: &ListPack, pos: Pos) -> i64 {
    pack.at(pos).and_then(|element| element.as_int()).unwrap_or(0)
}

/// Bytes of fields and values, as [`Node::may_take`] counts them.
pub(super) fn payload_bytes(pairs: &[&[u8]]) -> usize {
    pairs.iter().map(|text| text.len()).sum()
}

impl Node {
    /// Moves the entries if they lie in sparse memory.
    pub(super) fn relocate(&mut self, mover: &mut Mover<'_>) {
        self.pack.relocate(mover);
    }

    /// A node with room for its first entry, whose fields and values alternate in `pairs`.
    pub(super) fn new(pairs: &[&[u8]]) -> Node {
        let field_count = pairs.len() / 2;
        let mut pack = ListPack::new();
        pack.push_back_all([0, 0, field_count as i64].map(NewElement::Int).into_iter());
        let fields = pairs.iter().step_by(2).map(|field| NewElement::Bytes(field));
        pack.push_back_all(fields.chain([NewElement::Int(0)]));
        let first = pack.end();
        Node { pack, field_count: field_count as u32, first }
    }

    /// The node whose bytes are `pack`, after every entry has been checked: counts, flags, and ids that rise from
    /// `master` on. `None` when they make no node.
    pub(super) fn from_pack_checked(pack: ListPack, master: StreamId) -> Option<Node> {
        let int = |pos: Pos| pack.at(pos)?.as_int();
        let count = |pos: Pos| int(pos).and_then(|int| u32::try_from(int).ok());
        let end = pack.end();
        let advance = |pos: Pos, elements: usize| {
            let mut pos = pos;
            for _ in 0..elements {
                if pos == end {
                    return None;
                }
                pos = pack.next(pos);
            }
            Some(pos)
        };
        let live = count(pack.first())?;
        let deleted = count(advance(pack.first(), 1)?)?;
        let fields_at = advance(pack.first(), 2)?;
        let field_count = count(fields_at)?;
        let first_field = advance(fields_at, 1)?;
        let zero = advance(first_field, field_count as usize)?;
        if int(zero)? != 0 {
            return None;
        }
        let first = pack.next(zero);
        let (mut pos, mut seen_live, mut seen_deleted, mut last) = (first, 0_u32, 0_u32, None);
        while pos != end {
            let flags = int(pos)?;
            let (ms, seq) = (int(advance(pos, 1)?)?, int(advance(pos, 2)?)?);
            let id = shifted(master, ms, seq);
            if last.is_some_and(|last| id <= last) || id < master {
                return None;
            }
            last = Some(id);
            let body = advance(pos, 3)?;
            let (elements, before) = if flags & SAME_FIELDS != 0 {
                (field_count as usize, body)
            } else {
                (count(body)? as usize * 2, advance(body, 1)?)
            };
            let at_count = advance(before, elements)?;
            let expected = elements + if flags & SAME_FIELDS != 0 { 3 } else { 4 };
            if int(at_count)? != expected as i64 {
                return None;
            }
            *(if flags & DELETED != 0 { &mut seen_deleted } else { &mut seen_live }) += 1;
            pos = advance(at_count, 1)?;
        }
        if (seen_live, seen_deleted) != (live, deleted) || live + deleted == 0 {
            return None;
        }
        Some(Node { pack, field_count, first })
    }

    #[inline]
    pub(super) fn pack(&self) -> &ListPack {
        &self.pack
    }

    /// Entries that are not deleted.
    #[inline]
    pub(super) fn live(&self) -> u64 {
        int_at(&self.pack, self.pack.first()) as u64
    }

    fn deleted(&self) -> u64 {
        int_at(&self.pack, self.pack.next(self.pack.first())) as u64
    }

    fn first_field(&self) -> Pos {
        skip(&self.pack, self.pack.first(), 3)
    }

    /// Bytes of the node's allocations: the counted pointer's and the listpack's.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        size_class(size_of::<Node>() + 16) + self.pack.heap_bytes()
    }

    /// Whether an entry of `bytes` may be appended; a limit of zero is none.
    #[inline]
    pub(super) fn may_take(&self, bytes: usize, bytes_max: usize, entries_max: usize) -> bool {
        let entries = (self.live() + self.deleted()) as usize;
        self.pack.bytes().len() + bytes < bytes_max && (entries_max == 0 || entries < entries_max)
    }

    pub(super) fn append(&mut self, master: StreamId, id: StreamId, pairs: &[&[u8]]) {
        let is_same = pairs.len() / 2 == self.field_count as usize
            && self.pack.iter_from(self.first_field()).zip(pairs.iter().step_by(2)).all(|(own, field)| own.is(field));
        let field_count = pairs.len() as i64 / 2;
        let (ms, seq) = (id.ms.wrapping_sub(master.ms) as i64, id.seq.wrapping_sub(master.seq) as i64);
        if is_same {
            let head = [SAME_FIELDS, ms, seq].map(NewElement::Int);
            let values = pairs.iter().skip(1).step_by(2).map(|value| NewElement::Bytes(value));
            self.pack.push_back_all(head.into_iter().chain(values).chain([NewElement::Int(field_count + 3)]));
        } else {
            let head = [0, ms, seq, field_count].map(NewElement::Int);
            let body = pairs.iter().map(|text| NewElement::Bytes(text));
            self.pack.push_back_all(head.into_iter().chain(body).chain([NewElement::Int(2 * field_count + 4)]));
        }
        self.add_to_counts(1, 0);
    }

    /// Marks the entries that start there, which are live, as deleted.
    pub(super) fn delete(&mut self, starts: &[Pos]) {
        // From behind: what stands before an entry stays where it is, whatever width its flags had in the file.
        for &start in starts.iter().rev() {
            let flags = int_at(&self.pack, start);
            self.pack.replace_int(start, flags | DELETED);
        }
        let count = starts.len() as i64;
        self.add_to_counts(-count, count);
    }

    /// Changes the two counts at the front. A wider number moves everything behind it.
    #[inline]
    fn add_to_counts(&mut self, live: i64, deleted: i64) {
        let before = self.pack.end();
        let first = self.pack.first();
        self.pack.replace_int(first, int_at(&self.pack, first) + live);
        if deleted != 0 {
            let second = self.pack.next(first);
            self.pack.replace_int(second, int_at(&self.pack, second) + deleted);
        }
        if self.pack.end() != before {
            self.first = skip(&self.pack, first, 3 + self.field_count as usize + 1);
        }
    }

    /// The entry that starts at `start`; `None` at the end.
    #[inline]
    pub(super) fn entry(&self, master: StreamId, start: Pos) -> Option<StreamEntry<'_>> {
        let flags = self.pack.at(start)?.as_int()?;
        let at_ms = self.pack.next(start);
        let at_seq = self.pack.next(at_ms);
        let id = shifted(master, int_at(&self.pack, at_ms), int_at(&self.pack, at_seq));
        let mut body = self.pack.next(at_seq);
        let field_count = if flags & SAME_FIELDS != 0 {
            self.field_count as usize
        } else {
            let count = int_at(&self.pack, body);
            body = self.pack.next(body);
            usize::try_from(count).unwrap_or(0)
        };
        Some(StreamEntry { id, node: self, flags, field_count, body, start })
    }

    /// The first entry, deleted or not.
    #[inline]
    pub(super) fn first(&self) -> Pos {
        self.first
    }

    #[inline]
    pub(super) fn end(&self) -> Pos {
        self.pack.end()
    }

    /// The start of the entry that ends at `end`; `None` in front of the first.
    #[inline]
    pub(super) fn entry_before(&self, end: Pos) -> Option<Pos> {
        if end <= self.first {
            return None;
        }
        let mut pos = self.pack.prev(end)?;
        for _ in 0..int_at(&self.pack, pos) {
            pos = self.pack.prev(pos)?;
        }
        Some(pos)
    }

    /// The id of the last entry, deleted or not.
    pub(super) fn last_id(&self, master: StreamId) -> Option<StreamId> {
        self.entry(master, self.entry_before(self.end())?).map(|entry| entry.id)
    }
}

#[inline]
fn shifted(master: StreamId, ms: i64, seq: i64) -> StreamId {
    StreamId { ms: master.ms.wrapping_add(ms as u64), seq: master.seq.wrapping_add(seq as u64) }
}
