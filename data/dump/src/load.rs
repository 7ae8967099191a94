// SPDX-License-Identifier: BSD-3-Clause
//! A value from its bytes: which form belongs to which type, and what is refused.

use pando_formats::rdb::{RdbType, Text, ValueError, ValueReader};
use pando_values::{Limits, Typed};

/// What decides how a value is loaded.
#[derive(Copy, Clone, Debug)]
pub struct LoadContext<'a> {
    /// Up to which sizes values stay packed.
    pub limits: &'a Limits,
    /// Fields of hashes that were due before this time (Unix milliseconds) are left out: for a primary that loads its own
    /// image. `None` keeps them, because somebody else decides when they go.
    pub drop_due_before_ms: Option<u64>,
}

/// A value that was loaded.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// A string that is the text of a number.
    Int(i64),
    /// Another string.
    Str(Vec<u8>),
    /// A collection.
    Typed(Typed),
}

/// Why a value was not loaded.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// A collection without elements, which must not exist. An image may hold one; the key is left out then.
    #[error("a collection without elements")]
    Empty,
    /// A hash all of whose fields were due.
    #[error("a hash whose fields are all due")]
    AllDue,
    /// The bytes are not what they claim to be.
    #[error("{0}")]
    Value(#[from] ValueError),
}

impl LoadError {
    pub(crate) const fn corrupt(what: &'static str) -> LoadError {
        LoadError::Value(ValueError::Corrupt(what))
    }
}

/// Loads the value of type `kind` that `bytes` start with.
pub fn load(kind: RdbType, bytes: &[u8], cx: &LoadContext<'_>) -> Result<Loaded, LoadError> {
    let mut from = ValueReader::new(bytes);
    let typed = match kind {
        RdbType::String => {
            return Ok(match from.text()? {
                Text::Int(n) => Loaded::Int(n),
                other => Loaded::Str(other.into_bytes()),
            });
        }
        RdbType::List | RdbType::ListZipList | RdbType::ListQuickList | RdbType::ListQuickList2 => {
            Typed::List(crate::list::load(kind, &mut from, cx.limits)?)
        }
        RdbType::ZSet | RdbType::ZSet2 | RdbType::ZSetZipList | RdbType::ZSetListPack => {
            Typed::ZSet(crate::zset::load(kind, &mut from, cx.limits)?)
        }
        RdbType::Set | RdbType::SetIntSet | RdbType::SetListPack => {
            Typed::Set(crate::set::load(kind, &mut from, cx.limits)?)
        }
        RdbType::Hash | RdbType::Hash2 | RdbType::HashZipMap | RdbType::HashZipList | RdbType::HashListPack => {
            Typed::Hash(crate::hash::load(kind, &mut from, cx)?)
        }
        RdbType::Stream | RdbType::Stream2 | RdbType::Stream3 => Typed::Stream(crate::stream::load(kind, &mut from)?),
    };
    Ok(Loaded::Typed(typed))
}
