// SPDX-License-Identifier: BSD-3-Clause
//! Set: members without order, each once. Integers only and few: an intset; few and short: a listpack; else a `Dict`.
//! Conversions happen exactly where Valkey makes them, so that `OBJECT ENCODING` and `DUMP` say the same.
//!
//! Not here: random choices (`random.rs`), the algebra of several sets (the commands). Called by the set commands, by the
//! keyspace and by persistence.

mod random;
#[cfg(test)]
mod tests;

use crate::collection::Collection;
use crate::dict::{self, KeyDict};
use crate::encoding::Encoding;
use crate::intset::IntSet;
use crate::limits::Limits;
use crate::listpack::{self, Element, ListPack};
use crate::number::parse_canonical_i64;
use crate::relocate::Mover;
use crate::size_class::size_class;
use crate::value::IntText;

/// An intset never has more integers than this, whatever the threshold; Valkey's limit.
const INTSET_LEN_MAX: usize = 1 << 30;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Set(Form);

#[derive(Clone, Debug)]
enum Form {
    Ints(IntSet),
    Pack(ListPack),
    Table(Box<KeyDict>),
}

/// What a set is made of, for those who write it out.
#[derive(Copy, Clone, Debug)]
pub enum SetForm<'a> {
    /// Few integers.
    Ints(&'a IntSet),
    /// Few short members.
    Pack(&'a ListPack),
    /// Anything else.
    Table(&'a KeyDict),
}

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

/// Two sets are equal when they have the same members, whatever their forms.
impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|member| other.contains_element(member))
    }
}

fn ints_max(limits: &Limits) -> usize {
    limits.set_max_intset_entries.min(INTSET_LEN_MAX)
}

/// The member as bytes, when it is stored as an integer.
#[inline]
fn bytes_of<'b>(member: Element<'b>, text: &'b mut IntText) -> &'b [u8] {
    member.as_bytes(text)
}

impl Set {
    /// Without members, as an intset.
    pub const fn new() -> Self {
        Self(Form::Ints(IntSet::new()))
    }

    /// Without members, as a listpack.
    pub fn new_pack() -> Self {
        Self(Form::Pack(ListPack::new()))
    }

    /// Without members, as a table.
    pub fn new_table() -> Self {
        Self(Form::Table(Box::default()))
    }

    /// Without members, in the form for about `count` members, of which `first` is one.
    pub fn new_for(first: &[u8], count: usize, limits: &Limits) -> Self {
        if count <= limits.set_max_intset_entries && parse_canonical_i64(first).is_some() {
            Self::new()
        } else if count <= limits.set_max_listpack_entries {
            Self::new_pack()
        } else {
            Self::new_table()
        }
    }

    /// The set of an intset's integers.
    pub fn from_ints(ints: IntSet, limits: &Limits) -> Self {
        let mut set = Self(Form::Ints(ints));
        set.leave_ints_if_too_many(limits);
        set
    }

    /// The set of a listpack's elements, `None` when there is one twice.
    pub fn from_pack(pack: ListPack, limits: &Limits) -> Option<Self> {
        let mut members = KeyDict::new();
        let mut text = IntText::new();
        if !pack.iter().all(|member| members.insert_new(bytes_of(member, &mut text), &[])) {
            return None;
        }
        let is_table = pack.len() > limits.set_max_listpack_entries;
        Some(Self(if is_table { Form::Table(Box::new(members)) } else { Form::Pack(pack) }))
    }

    /// What the set is made of.
    pub fn form(&self) -> SetForm<'_> {
        match &self.0 {
            Form::Ints(ints) => SetForm::Ints(ints),
            Form::Pack(pack) => SetForm::Pack(pack),
            Form::Table(table) => SetForm::Table(table),
        }
    }

    /// Converts to a table when so many members are about to be added that none of the small forms is meant for them.
    pub fn expect(&mut self, count: usize, limits: &Limits) {
        let max = match self.0 {
            Form::Ints(_) => limits.set_max_intset_entries,
            Form::Pack(_) => limits.set_max_listpack_entries,
            Form::Table(_) => return,
        };
        if count > max {
            self.make_table();
        }
    }

    /// Whether there is such a member.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.0 {
            Form::Ints(ints) => parse_canonical_i64(member).is_some_and(|int| ints.contains(int)),
            Form::Pack(pack) => pack.find(member, pack.first(), 0).is_some(),
            Form::Table(table) => table.contains(member),
        }
    }

    /// [`Set::contains`] for a member of another set.
    pub fn contains_element(&self, member: Element<'_>) -> bool {
        match (&self.0, member) {
            (Form::Ints(ints), Element::Int(int)) => ints.contains(int),
            _ => self.contains(bytes_of(member, &mut IntText::new())),
        }
    }

    /// Adds a member. Returns whether it was new.
    #[inline]
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        match &mut self.0 {
            Form::Table(table) => table.insert_new(member, &[]),
            Form::Pack(pack) => {
                if pack.find(member, pack.first(), 0).is_some() {
                    return false;
                }
                if pack.len() < limits.set_max_listpack_entries
                    && member.len() <= limits.set_max_listpack_value
                    && pack.may_add(member.len())
                {
                    pack.push_back(member);
                } else {
                    self.make_table().insert_new(member, &[]);
                }
                true
            }
            Form::Ints(_) => match parse_canonical_i64(member) {
                Some(int) => self.add_int(int, limits),
                None => {
                    self.leave_ints_for(member, limits);
                    true
                }
            },
        }
    }

    /// [`Set::add`] for a member of another set.
    pub fn add_element(&mut self, member: Element<'_>, limits: &Limits) -> bool {
        match (&self.0, member) {
            (Form::Ints(_), Element::Int(int)) => self.add_int(int, limits),
            _ => self.add(bytes_of(member, &mut IntText::new()), limits),
        }
    }

    fn add_int(&mut self, int: i64, limits: &Limits) -> bool {
        let Form::Ints(ints) = &mut self.0 else { return false };
        let is_new = ints.insert(int);
        if is_new {
            self.leave_ints_if_too_many(limits);
        }
        is_new
    }

    fn leave_ints_if_too_many(&mut self, limits: &Limits) {
        if matches!(&self.0, Form::Ints(ints) if ints.len() > ints_max(limits)) {
            self.make_table();
        }
    }

    /// Adds a member that is no integer to an intset, which thereby becomes a listpack or a table.
    fn leave_ints_for(&mut self, member: &[u8], limits: &Limits) {
        let Form::Ints(ints) = &self.0 else { return };
        // An upper bound: all integers as long as the longest one.
        let (mut text_max, mut bytes_max) = (0, 0);
        for int in ints.bounds().map_or([None; 2], |(min, max)| [Some(min), Some(max)]).into_iter().flatten() {
            let mut text = IntText::new();
            let text = text.format(int);
            text_max = text_max.max(text.len());
            bytes_max = bytes_max.max(ListPack::entry_bytes(text.as_bytes()) * ints.len());
        }
        if ints.len() < limits.set_max_listpack_entries
            && member.len().max(text_max) <= limits.set_max_listpack_value
            && ListPack::new().may_add(bytes_max + member.len())
        {
            let mut pack = ListPack::new();
            ints.iter().for_each(|int| pack.push_back_int(int));
            pack.push_back(member);
            self.0 = Form::Pack(pack);
        } else {
            self.make_table().insert_new(member, &[]);
        }
    }

    fn make_table(&mut self) -> &mut KeyDict {
        if !matches!(self.0, Form::Table(_)) {
            let mut table = Box::new(KeyDict::new());
            let mut text = IntText::new();
            for member in self.iter() {
                table.insert_new(bytes_of(member, &mut text), &[]);
            }
            self.0 = Form::Table(table);
        }
        match &mut self.0 {
            Form::Table(table) => table,
            Form::Ints(_) | Form::Pack(_) => unreachable!("made a table above"),
        }
    }

    /// Makes an intset of a set whose members are all integers, unless there are too many.
    pub fn make_ints(&mut self, limits: &Limits) {
        if matches!(self.0, Form::Ints(_)) || self.len() > ints_max(limits) {
            return;
        }
        let mut ints = IntSet::new();
        if self.iter().all(|member| member.as_int().is_some_and(|int| ints.insert(int))) {
            self.0 = Form::Ints(ints);
        }
    }

    /// Removes a member. Returns whether it was there.
    #[inline]
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Ints(ints) => parse_canonical_i64(member).is_some_and(|int| ints.remove(int)),
            Form::Pack(pack) => match pack.find(member, pack.first(), 0) {
                Some(pos) => pack.remove(pos, 1) == 1,
                None => false,
            },
            Form::Table(table) => table.remove(member),
        }
    }

    /// [`Set::remove`] for a member of another set.
    pub fn remove_element(&mut self, member: Element<'_>) -> bool {
        match (&mut self.0, member) {
            (Form::Ints(ints), Element::Int(int)) => ints.remove(int),
            _ => self.remove(bytes_of(member, &mut IntText::new())),
        }
    }

    /// All members, in an order that stays the same until the set is changed; those of an intset ascending, those of a
    /// listpack as they were added.
    pub fn iter(&self) -> Iter<'_> {
        match &self.0 {
            Form::Ints(ints) => Iter(Walk::Ints(ints, 0)),
            Form::Pack(pack) => Iter(Walk::Pack(pack.iter())),
            Form::Table(table) => Iter(Walk::Table(table.iter())),
        }
    }

    /// As `Dict::scan`; the small forms emit all members at once and return zero.
    pub fn scan(&self, cursor: u64, count: usize, emit: &mut dyn FnMut(&[u8])) -> u64 {
        if let Form::Table(table) = &self.0 {
            return table.scan(cursor, count, &mut |member, _| emit(member));
        }
        let mut text = IntText::new();
        self.iter().for_each(|member| emit(bytes_of(member, &mut text)));
        0
    }
}

impl Collection for Set {
    fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        match &mut self.0 {
            Form::Ints(ints) => ints.relocate(mover),
            Form::Pack(pack) => pack.relocate(mover),
            Form::Table(table) => {
                if from == 0 {
                    mover.boxed(table, KeyDict::new);
                }
                return table.relocate(from, mover);
            }
        }
        0
    }

    #[inline]
    fn len(&self) -> usize {
        match &self.0 {
            Form::Ints(ints) => ints.len(),
            Form::Pack(pack) => pack.len(),
            Form::Table(table) => table.len(),
        }
    }

    fn encoding(&self) -> Encoding {
        match &self.0 {
            Form::Ints(_) => Encoding::IntSet,
            Form::Pack(_) => Encoding::ListPack,
            Form::Table(_) => Encoding::HashTable,
        }
    }

    #[inline]
    fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Ints(ints) => ints.heap_bytes(),
            Form::Pack(pack) => pack.heap_bytes(),
            Form::Table(table) => size_class(size_of::<KeyDict>()) + table.heap_bytes(),
        }
    }

    fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Ints(_) | Form::Pack(_) => 1,
            Form::Table(table) => table.free_effort(),
        }
    }
}

/// See [`Set::iter`].
pub struct Iter<'a>(Walk<'a>);

enum Walk<'a> {
    Ints(&'a IntSet, usize),
    Pack(listpack::Iter<'a>),
    Table(dict::Iter<'a, 0>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match &mut self.0 {
            Walk::Ints(ints, index) => {
                *index += 1;
                ints.get(*index - 1).map(Element::Int)
            }
            Walk::Pack(elements) => elements.next(),
            Walk::Table(entries) => entries.next().map(|(member, _)| Element::Str(member)),
        }
    }
}
