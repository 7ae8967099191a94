// SPDX-License-Identifier: BSD-3-Clause
//! A value as the bytes that Valkey 9.1 writes for it.

use pando_formats::rdb::{RdbType, ValueOut};
use pando_values::{Typed, ValueRef};
use std::io;

/// The type under which a value is saved.
pub fn kind_of(value: ValueRef<'_>) -> RdbType {
    match value {
        ValueRef::Typed(typed) => kind_of_typed(typed),
        _ => RdbType::String,
    }
}

/// Writes a value in the form of its [`kind_of`]. Large collections go to `out` element by element or node by node.
pub fn save(value: ValueRef<'_>, out: &mut impl ValueOut) -> io::Result<()> {
    match value {
        ValueRef::Int(n) => out.put_int(n),
        ValueRef::Str(s) => out.put_string(s),
        ValueRef::Typed(typed) => save_typed(typed, out),
        _ => Err(io::Error::other("a value of an unknown type")),
    }
}

fn kind_of_typed(typed: &Typed) -> RdbType {
    match typed {
        Typed::List(_) => RdbType::ListQuickList2,
        Typed::Set(value) => crate::set::kind(value),
        Typed::ZSet(value) => crate::zset::kind(value),
        Typed::Hash(value) => crate::hash::kind(value),
        Typed::Stream(_) => RdbType::Stream3,
        _ => RdbType::String,
    }
}

fn save_typed(typed: &Typed, out: &mut impl ValueOut) -> io::Result<()> {
    match typed {
        Typed::List(value) => crate::list::save(value, out),
        Typed::Set(value) => crate::set::save(value, out),
        Typed::ZSet(value) => crate::zset::save(value, out),
        Typed::Hash(value) => crate::hash::save(value, out),
        Typed::Stream(value) => crate::stream::save(value, out),
        _ => Err(io::Error::other("a value of a type that cannot be saved yet")),
    }
}
