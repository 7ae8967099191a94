// SPDX-License-Identifier: BSD-3-Clause
//! The live fields of a hash, one after the other. Called by whoever reads all of them.

use super::table::{FieldTable, TableFields};
use crate::listpack::{Element, Iter, ListPack};

/// A field, borrowed from its hash.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Field<'a> {
    /// Its name.
    pub name: Element<'a>,
    /// Its value.
    pub value: Element<'a>,
    /// When it is due, Unix milliseconds.
    pub due_ms: Option<u64>,
}

impl Field<'_> {
    /// Whether it is past due.
    #[inline]
    pub(super) fn is_past(&self, now_ms: u64) -> bool {
        self.due_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }
}

/// See [`super::Hash::iter`].
pub struct Fields<'a>(Source<'a>);

enum Source<'a> {
    Packed(Iter<'a>),
    Table { fields: TableFields<'a>, now_ms: u64 },
}

impl<'a> Fields<'a> {
    pub(super) fn packed(packed: &'a ListPack) -> Self {
        Self(Source::Packed(packed.iter()))
    }

    /// The field of this number.
    pub(super) fn packed_at(packed: &'a ListPack, number: usize) -> Option<Field<'a>> {
        let pos = packed.seek(2 * number as isize)?;
        Self(Source::Packed(packed.iter_from(pos))).next()
    }

    pub(super) fn table(table: &'a FieldTable, now_ms: u64) -> Self {
        Self(Source::Table { fields: table.iter(), now_ms })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        match &mut self.0 {
            Source::Packed(elements) => {
                let (name, value) = (elements.next()?, elements.next()?);
                Some(Field { name, value, due_ms: None })
            }
            Source::Table { fields, now_ms } => fields.find(|field| !field.is_past(*now_ms)),
        }
    }
}
