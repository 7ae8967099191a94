// SPDX-License-Identifier: BSD-3-Clause
//! Hash: fields with values, and for some a time at which they fall due.
//!
//! ```text
//! listpack    field, value, field, value ...                      up to hash-max-listpack-entries, no field has a time
//! hashtable   FieldTable: packed Dict + Dues (fields by time)     all others; never turns back
//! ```
//! A field past due stays until somebody removes it, and counts in `len` as in Valkey, but is not live: the methods that
//! take `now_ms` do not see it (zero sees all). Who removes what is past due asks [`Hash::next_due_ms`] and calls
//! [`Hash::expire`].
//!
//! Not here: commands, events. Called by the handlers, by the keyspace for expiry, by RDB and DUMP.

mod dues;
mod iter;
mod table;
#[cfg(test)]
mod tests;

pub use iter::{Field, Fields};

use crate::collection::Collection;
use crate::encoding::Encoding;
use crate::limits::Limits;
use crate::listpack::{Element, ListPack, Pos};
use crate::random::random_below;
use crate::relocate::Mover;
use table::FieldTable;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Hash(Form);

#[derive(Clone, Debug)]
enum Form {
    Packed(ListPack),
    Table(Box<FieldTable>),
}

/// What a write does with the time of a field.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum FieldTtl {
    /// Removes it.
    Clear,
    /// Leaves it; a new field has none.
    Keep,
    /// Due at this time, Unix milliseconds.
    At(u64),
}

/// What a write met.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum FieldSet {
    /// No such field.
    Created,
    /// The field was live.
    Replaced,
    /// The field was past due: it counts as new.
    Revived,
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Hash {
    /// Same fields, values and times; the encoding does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter(0).all(|field| {
                let mut text = crate::IntText::new();
                let name = field.name.as_bytes(&mut text);
                let value = other.get(name, 0);
                value.is_some_and(|value| value.to_vec() == field.value.to_vec())
                    && other.due_ms(name, 0) == Some(field.due_ms)
            })
    }
}

impl Hash {
    /// Without fields.
    pub fn new() -> Self {
        Self(Form::Packed(ListPack::new()))
    }

    /// The hash whose fields and values take turns in `packed`; `None` when a value is missing or a field is there twice.
    /// What exceeds the limits becomes a table.
    pub fn from_packed(packed: ListPack, limits: &Limits) -> Option<Self> {
        let len = packed.len();
        if !len.is_multiple_of(2) {
            return None;
        }
        let mut names: Vec<Vec<u8>> = packed.iter().step_by(2).map(|name| name.to_vec()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return None;
        }
        let is_long = packed.iter().any(|element| element.byte_len() > limits.hash_max_listpack_value);
        let mut hash = Self(Form::Packed(packed));
        if is_long || len / 2 > limits.hash_max_listpack_entries {
            hash.table();
        }
        Some(hash)
    }

    /// The listpack, in the encoding of that name.
    pub fn as_packed(&self) -> Option<&ListPack> {
        match &self.0 {
            Form::Packed(packed) => Some(packed),
            Form::Table(_) => None,
        }
    }

    /// Turns into a table now if writing `pairs` fields and values of these lengths would exceed the limits, as Valkey
    /// does before it writes several fields.
    pub fn prepare(&mut self, pairs: usize, mut lens: impl Iterator<Item = usize>, limits: &Limits) {
        let Form::Packed(packed) = &self.0 else { return };
        let mut sum = 0_usize;
        let mut is_long = |len: usize| {
            sum = sum.saturating_add(len);
            len > limits.hash_max_listpack_value
        };
        if pairs > limits.hash_max_listpack_entries || lens.any(&mut is_long) || !packed.may_add(sum) {
            self.table();
        }
    }

    /// The table; a listpack becomes one first.
    fn table(&mut self) -> &mut FieldTable {
        if let Form::Packed(packed) = &self.0 {
            self.0 = Form::Table(Box::new(FieldTable::from_packed(packed)));
        }
        match &mut self.0 {
            Form::Table(table) => table,
            Form::Packed(_) => unreachable!("it was turned into a table above"),
        }
    }

    /// The value of a live field.
    #[inline]
    pub fn get(&self, name: &[u8], now_ms: u64) -> Option<Element<'_>> {
        match &self.0 {
            Form::Packed(packed) => packed.at(packed.next(find(packed, name)?)),
            Form::Table(table) => {
                let cell = table.get(name)?;
                (!cell.is_past(now_ms)).then_some(Element::Str(cell.value))
            }
        }
    }

    /// Whether there is a live field of this name.
    pub fn contains(&self, name: &[u8], now_ms: u64) -> bool {
        self.due_ms(name, now_ms).is_some()
    }

    /// When a live field is due, Unix milliseconds. `None`: no such field; `Some(None)`: it has no time.
    pub fn due_ms(&self, name: &[u8], now_ms: u64) -> Option<Option<u64>> {
        match &self.0 {
            Form::Packed(packed) => find(packed, name).map(|_| None),
            Form::Table(table) => {
                let cell = table.get(name)?;
                (!cell.is_past(now_ms)).then_some(cell.due_ms)
            }
        }
    }

    /// Writes a field. `FieldTtl::Keep` does not keep the time of a field past due.
    pub fn set(&mut self, name: &[u8], value: &[u8], ttl: FieldTtl, now_ms: u64, limits: &Limits) -> FieldSet {
        if let Form::Packed(packed) = &mut self.0 {
            let is_long = name.len().max(value.len()) > limits.hash_max_listpack_value
                || !packed.may_add(name.len() + value.len() + 32);
            if !is_long && !matches!(ttl, FieldTtl::At(_)) {
                if let Some(pos) = find(packed, name) {
                    packed.replace(packed.next(pos), value);
                    return FieldSet::Replaced;
                }
                packed.push_back(name);
                packed.push_back(value);
                if packed.len() / 2 > limits.hash_max_listpack_entries {
                    self.table();
                }
                return FieldSet::Created;
            }
        }
        self.table().set(name, value, ttl, now_ms)
    }

    /// Removes a live field; false when there is none.
    pub fn remove(&mut self, name: &[u8], now_ms: u64) -> bool {
        match &mut self.0 {
            Form::Packed(packed) => {
                let Some(pos) = find(packed, name) else { return false };
                packed.remove(pos, 2);
                true
            }
            Form::Table(table) => {
                // Only a volatile field can be there and not be live.
                let is_hidden = table.has_dues() && table.get(name).is_some_and(|cell| cell.is_past(now_ms));
                !is_hidden && table.remove(name)
            }
        }
    }

    /// Gives a live field another time, or takes its time away; false when there is no such field. Giving a time makes a
    /// listpack a table.
    pub fn set_due(&mut self, name: &[u8], due_ms: Option<u64>, now_ms: u64) -> bool {
        match self.due_ms(name, now_ms) {
            None => false,
            Some(old) if old == due_ms => true,
            Some(_) => {
                self.table().set_due(name, due_ms);
                true
            }
        }
    }

    /// Fields that have a time, past due or not.
    #[inline]
    pub fn volatile_len(&self) -> usize {
        match &self.0 {
            Form::Packed(_) => 0,
            Form::Table(table) => table.volatile_len(),
        }
    }

    /// Whether any field has a time.
    #[inline]
    pub fn is_volatile(&self) -> bool {
        self.volatile_len() != 0
    }

    /// When the first field is due, Unix milliseconds.
    #[inline]
    pub fn next_due_ms(&self) -> Option<u64> {
        match &self.0 {
            Form::Packed(_) => None,
            Form::Table(table) => table.next_due_ms(),
        }
    }

    /// Removes up to `max` fields that are past due, the first due first, and tells each. Work in proportion to what it
    /// removes. Gives how many were removed.
    pub fn expire(&mut self, now_ms: u64, max: usize, removed: &mut dyn FnMut(&[u8])) -> usize {
        match &mut self.0 {
            Form::Packed(_) => 0,
            Form::Table(table) => table.expire(now_ms, max, removed),
        }
    }

    /// Live fields in no particular order.
    #[inline]
    pub fn iter(&self, now_ms: u64) -> Fields<'_> {
        match &self.0 {
            Form::Packed(packed) => Fields::packed(packed),
            Form::Table(table) => Fields::table(table, now_ms),
        }
    }

    /// A live field, each as likely as any other. `None` when there is none, or when a hundred attempts found only fields
    /// past due.
    pub fn random(&self, now_ms: u64) -> Option<Field<'_>> {
        const ATTEMPTS: usize = 100;
        match &self.0 {
            Form::Packed(packed) => Fields::packed_at(packed, random_below(packed.len() / 2)),
            Form::Table(table) => (0..ATTEMPTS).find_map(|_| {
                let field = table.random()?;
                (!field.is_past(now_ms)).then_some(field)
            }),
        }
    }

    /// Visits live fields from `cursor` on, about `count`, and gives the next cursor; zero starts and ends. Every field
    /// that is there from start to end is visited at least once. A listpack is visited at once.
    pub fn scan(&self, cursor: u64, count: usize, now_ms: u64, visit: &mut dyn FnMut(Field<'_>)) -> u64 {
        match &self.0 {
            Form::Packed(packed) => {
                Fields::packed(packed).for_each(visit);
                0
            }
            Form::Table(table) => table.scan(cursor, count, &mut |field| {
                if !field.is_past(now_ms) {
                    visit(field);
                }
            }),
        }
    }
}

#[inline]
fn find(packed: &ListPack, name: &[u8]) -> Option<Pos> {
    packed.find(name, packed.first(), 1)
}

impl Collection for Hash {
    fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        match &mut self.0 {
            Form::Packed(packed) => {
                packed.relocate(mover);
                0
            }
            Form::Table(table) => table.relocate(from, mover),
        }
    }

    fn len(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.len() / 2,
            Form::Table(table) => table.len(),
        }
    }

    fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Packed(packed) => packed.is_empty(),
            Form::Table(table) => table.len() == 0,
        }
    }

    fn encoding(&self) -> Encoding {
        match &self.0 {
            Form::Packed(_) => Encoding::ListPack,
            Form::Table(_) => Encoding::HashTable,
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Table(table) => table.heap_bytes(),
        }
    }

    fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Packed(_) => 1,
            Form::Table(table) => table.free_effort(),
        }
    }
}
