// SPDX-License-Identifier: BSD-3-Clause
//! The large form of a hash: fields in a packed dictionary, and `Dues` for those that have a time.
//!
//! ```text
//! value in the dictionary:  00 | value          01 | due, 5 bytes, ms since DUE_EPOCH_MS, little endian | value
//!                                               02 | due, 8 bytes, Unix ms, little endian | value
//! ```
//! Invariant: `dues` has one record for each field with a time, and is there only while there are any. Not here: which
//! fields are live. Called by `Hash`.

use super::dues::Dues;
use super::iter::Field;
use super::{FieldSet, FieldTtl};
use crate::dict::{self, FieldDict};
use crate::listpack::{Element, ListPack};
use crate::relocate::Mover;
use crate::size_class::size_class;
use crate::value::IntText;

/// 1 January 2020.
const DUE_EPOCH_MS: u64 = 1_577_836_800_000;
const PLAIN: u8 = 0;
const SHORT_DUE: u8 = 1;
const WIDE_DUE: u8 = 2;
const SHORT_LEN: usize = 5;
const WIDE_LEN: usize = 8;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct FieldTable {
    dict: FieldDict,
    dues: Option<Box<Dues>>,
}

/// What the dictionary holds for a field.
#[derive(Copy, Clone)]
pub(super) struct Cell<'a> {
    pub(super) due_ms: Option<u64>,
    pub(super) value: &'a [u8],
}

impl<'a> Cell<'a> {
    #[inline]
    fn read(stored: &'a [u8]) -> Self {
        let Some((&kind, rest)) = stored.split_first() else { return Cell { due_ms: None, value: stored } };
        let (len, base) = match kind {
            PLAIN => return Cell { due_ms: None, value: rest },
            SHORT_DUE => (SHORT_LEN, DUE_EPOCH_MS),
            _ => (WIDE_LEN, 0),
        };
        let (time, value) = rest.split_at(len);
        let mut word = [0; 8];
        word[..len].copy_from_slice(time);
        Cell { due_ms: Some(base + u64::from_le_bytes(word)), value }
    }

    #[inline]
    pub(super) fn is_past(&self, now_ms: u64) -> bool {
        self.due_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }
}

/// What goes ahead of a value.
struct Prefix {
    bytes: [u8; 1 + WIDE_LEN],
    len: usize,
}

impl Prefix {
    #[inline]
    fn new(due_ms: Option<u64>) -> Self {
        let mut bytes = [PLAIN; 1 + WIDE_LEN];
        let Some(due_ms) = due_ms else { return Self { bytes, len: 1 } };
        let (kind, word, len) = match due_ms.checked_sub(DUE_EPOCH_MS).filter(|since| since >> (8 * SHORT_LEN) == 0) {
            Some(since) => (SHORT_DUE, since, SHORT_LEN),
            None => (WIDE_DUE, due_ms, WIDE_LEN),
        };
        bytes[0] = kind;
        bytes[1..].copy_from_slice(&word.to_le_bytes());
        Self { bytes, len: 1 + len }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn write(dict: &mut FieldDict, name: &[u8], value: &[u8], due_ms: Option<u64>) {
    let prefix = Prefix::new(due_ms);
    dict.insert_with(name, prefix.len + value.len(), |place| {
        let (head, tail) = place.split_at_mut(prefix.len);
        head.copy_from_slice(prefix.as_bytes());
        tail.copy_from_slice(value);
    });
}

fn field<'a>(name: &'a [u8], stored: &'a [u8]) -> Field<'a> {
    let cell = Cell::read(stored);
    Field { name: Element::Str(name), value: Element::Str(cell.value), due_ms: cell.due_ms }
}

impl FieldTable {
    /// Moves what lies in sparse memory: see `Collection::relocate`.
    pub(super) fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        // The parts of the dictionary come before those of the times.
        let parts = self.dict.parts();
        let mut from = from;
        if from < parts {
            match self.dict.relocate(from, mover) {
                0 => from = parts,
                at => return at,
            }
        }
        match self.dues.as_mut().map_or(0, |dues| dues.relocate(from - parts, mover)) {
            0 => 0,
            at => parts + at,
        }
    }

    pub(super) fn from_packed(packed: &ListPack) -> Self {
        let mut dict = FieldDict::new();
        let mut elements = packed.iter();
        let (mut name_text, mut value_text) = (IntText::new(), IntText::new());
        while let (Some(name), Some(value)) = (elements.next(), elements.next()) {
            write(&mut dict, name.as_bytes(&mut name_text), value.as_bytes(&mut value_text), None);
        }
        Self { dict, dues: None }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.dict.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let dues = self.dues.as_ref().map_or(0, |dues| size_class(size_of::<Dues>()) + dues.heap_bytes());
        size_class(size_of::<Self>()) + self.dict.heap_bytes() + dues
    }

    pub(super) fn free_effort(&self) -> usize {
        1 + self.dict.free_effort() + self.dues.as_ref().map_or(0, |dues| 1 + dues.free_effort())
    }

    #[inline]
    pub(super) fn get(&self, name: &[u8]) -> Option<Cell<'_>> {
        self.dict.get(name).map(Cell::read)
    }

    #[inline]
    pub(super) fn has_dues(&self) -> bool {
        self.dues.is_some()
    }

    pub(super) fn volatile_len(&self) -> usize {
        self.dues.as_ref().map_or(0, |dues| dues.len())
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.dues.as_ref()?.first_due_ms()
    }

    pub(super) fn set(&mut self, name: &[u8], value: &[u8], ttl: FieldTtl, now_ms: u64) -> FieldSet {
        if self.dues.is_none() && !matches!(ttl, FieldTtl::At(_)) {
            // No field has a time: one lookup does.
            let before = self.dict.len();
            write(&mut self.dict, name, value, None);
            return if self.dict.len() == before { FieldSet::Replaced } else { FieldSet::Created };
        }
        let (old_due, outcome) = match self.get(name) {
            None => (None, FieldSet::Created),
            Some(cell) if cell.is_past(now_ms) => (cell.due_ms, FieldSet::Revived),
            Some(cell) => (cell.due_ms, FieldSet::Replaced),
        };
        let due_ms = match ttl {
            FieldTtl::At(due_ms) => Some(due_ms),
            FieldTtl::Keep if outcome == FieldSet::Replaced => old_due,
            FieldTtl::Keep | FieldTtl::Clear => None,
        };
        write(&mut self.dict, name, value, due_ms);
        self.move_due(name, old_due, due_ms);
        outcome
    }

    /// Keeps `dues` in step with what the dictionary holds for a field.
    fn move_due(&mut self, name: &[u8], old: Option<u64>, new: Option<u64>) {
        if old == new {
            return;
        }
        let digest = dict::digest(name);
        if let Some(new) = new {
            self.dues.get_or_insert_with(|| Box::new(Dues::new())).insert(new, digest);
        }
        if let (Some(old), Some(dues)) = (old, &mut self.dues) {
            let was_there = dues.remove(old, digest);
            debug_assert!(was_there, "each field with a time has a record");
            if dues.len() == 0 {
                self.dues = None;
            }
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        match self.dict.remove_with(name, |stored| Cell::read(stored).due_ms) {
            None => false,
            Some(due_ms) => {
                self.move_due(name, due_ms, None);
                true
            }
        }
    }

    /// Gives a field that is there another time.
    pub(super) fn set_due(&mut self, name: &[u8], due_ms: Option<u64>) {
        let Some(stored) = self.dict.get(name) else { return };
        let cell = Cell::read(stored);
        let (old, prefix) = (cell.due_ms, Prefix::new(due_ms));
        if stored.len() - cell.value.len() == prefix.len {
            if let Some(place) = self.dict.get_mut(name) {
                place[..prefix.len].copy_from_slice(prefix.as_bytes());
            }
        } else {
            let value = cell.value.to_vec();
            write(&mut self.dict, name, &value, due_ms);
        }
        self.move_due(name, old, due_ms);
    }

    pub(super) fn expire(&mut self, now_ms: u64, max: usize, removed: &mut dyn FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < max {
            let Some(digest) = self.dues.as_ref().and_then(|dues| dues.first_past(now_ms)) else { break };
            let name = self.dict.find_digest(digest, |_, stored| Cell::read(stored).is_past(now_ms));
            let Some(name) = name.map(<[u8]>::to_vec) else {
                debug_assert!(false, "each record has a field");
                if let Some(dues) = self.dues.as_mut() {
                    dues.remove_first();
                }
                continue;
            };
            self.remove(&name);
            removed(&name);
            count += 1;
        }
        count
    }

    pub(super) fn iter(&self) -> TableFields<'_> {
        TableFields(self.dict.iter())
    }

    pub(super) fn random(&self) -> Option<Field<'_>> {
        self.dict.random().map(|(name, stored)| field(name, stored))
    }

    pub(super) fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Field<'_>)) -> u64 {
        self.dict.scan(cursor, count, &mut |name, stored| visit(field(name, stored)))
    }
}

/// All fields of a table.
pub(super) struct TableFields<'a>(dict::Iter<'a, { dict::ANY_WIDTH }>);

impl<'a> Iterator for TableFields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        self.0.next().map(|(name, stored)| field(name, stored))
    }
}
