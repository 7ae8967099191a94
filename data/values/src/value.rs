// SPDX-License-Identifier: BSD-3-Clause
//! A value: borrowed from the keyspace (`ValueRef`) or owned (`Value`), the latter for moves between keys.
//!
//! Not here: storage, keys. Called by the keyspace and by command handlers.

use crate::collection::Collection;
use crate::encoding::{Encoding, ValueType};
use crate::relocate::Mover;
use crate::{Hash, List, Set, Stream, ZSet};

/// The text of an integer, kept by the caller of [`ValueRef::as_bytes`].
pub type IntText = itoa::Buffer;

/// A value that is neither string nor integer. It lies in the entry of its key, so the variants are small handles.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Typed {
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A sorted set.
    ZSet(ZSet),
    /// A hash.
    Hash(Hash),
    /// A stream.
    Stream(Stream),
}

const _: () = assert!(size_of::<Typed>() <= 32 && align_of::<Typed>() <= 8, "the handles are small");

macro_rules! each {
    ($typed:expr, $value:ident => $result:expr) => {
        match $typed {
            Typed::List($value) => $result,
            Typed::Set($value) => $result,
            Typed::ZSet($value) => $result,
            Typed::Hash($value) => $result,
            Typed::Stream($value) => $result,
        }
    };
}

impl Typed {
    /// The value's type.
    pub fn type_(&self) -> ValueType {
        match self {
            Self::List(_) => ValueType::List,
            Self::Set(_) => ValueType::Set,
            Self::ZSet(_) => ValueType::ZSet,
            Self::Hash(_) => ValueType::Hash,
            Self::Stream(_) => ValueType::Stream,
        }
    }

    /// The value's encoding.
    pub fn encoding(&self) -> Encoding {
        each!(self, value => value.encoding())
    }

    /// Elements.
    pub fn len(&self) -> usize {
        each!(self, value => value.len())
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        each!(self, value => value.is_empty())
    }

    /// Heap bytes that the value holds, without the handle. O(1).
    pub fn heap_bytes(&self) -> usize {
        each!(self, value => value.heap_bytes())
    }

    /// About how many allocations it takes to free the value. O(1).
    pub fn free_effort(&self) -> usize {
        each!(self, value => value.free_effort())
    }

    /// See [`Collection::relocate`].
    pub fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        each!(self, value => value.relocate(from, mover))
    }
}

/// A value borrowed from the keyspace.
#[derive(Copy, Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ValueRef<'a> {
    /// A string that is stored as an integer.
    Int(i64),
    /// Any other string.
    Str(&'a [u8]),
    /// A collection.
    Typed(&'a Typed),
}

impl<'a> ValueRef<'a> {
    /// The string's bytes; an integer is written to `text` first. `None` for what is not a string.
    #[inline]
    pub fn str_bytes<'b>(&self, text: &'b mut IntText) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        match *self {
            Self::Int(int) => Some(text.format(int).as_bytes()),
            Self::Str(bytes) => Some(bytes),
            Self::Typed(_) => None,
        }
    }

    /// The string's bytes; an integer is written to `text` first. Empty for what is not a string: a command checks the
    /// type before.
    #[inline]
    pub fn as_bytes<'b>(&self, text: &'b mut IntText) -> &'b [u8]
    where
        'a: 'b,
    {
        self.str_bytes(text).unwrap_or_default()
    }

    /// The string's length, without writing an integer out. Zero for what is not a string.
    #[inline]
    pub fn str_len(&self) -> usize {
        match *self {
            Self::Int(int) => {
                let digits = int.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                digits + usize::from(int < 0)
            }
            Self::Str(bytes) => bytes.len(),
            Self::Typed(_) => 0,
        }
    }

    /// The value's type.
    #[inline]
    pub fn type_(&self) -> ValueType {
        match self {
            Self::Int(_) | Self::Str(_) => ValueType::String,
            Self::Typed(typed) => typed.type_(),
        }
    }

    /// An owned copy. A string's encoding is not part of a `ValueRef`: `encoding` says which of the two it is.
    pub fn to_value(&self, encoding: Encoding) -> Value {
        match *self {
            Self::Int(int) => Value::Int(int),
            Self::Str(bytes) => Value::Str { bytes: bytes.to_vec(), encoding },
            Self::Typed(typed) => Value::Typed(typed.clone()),
        }
    }
}

/// An owned value, on its way from one key to another or to a snapshot.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A string that is stored as an integer.
    Int(i64),
    /// Any other string, with the encoding (`EmbStr` or `Raw`) that it keeps.
    Str {
        /// The string.
        bytes: Vec<u8>,
        /// `EmbStr` or `Raw`.
        encoding: Encoding,
    },
    /// A collection.
    Typed(Typed),
}

impl Value {
    /// The value, borrowed.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Int(int) => ValueRef::Int(*int),
            Self::Str { bytes, .. } => ValueRef::Str(bytes),
            Self::Typed(typed) => ValueRef::Typed(typed),
        }
    }

    /// The value's encoding.
    pub fn encoding(&self) -> Encoding {
        match self {
            Self::Int(_) => Encoding::Int,
            Self::Str { encoding, .. } => *encoding,
            Self::Typed(typed) => typed.encoding(),
        }
    }

    /// Heap bytes that the value holds.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Int(_) => 0,
            Self::Str { bytes, .. } => bytes.capacity(),
            Self::Typed(typed) => typed.heap_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_of_an_integer_is_that_of_its_text() {
        for int in [0, 9, 10, -1, -10, 99, 100, i64::MAX, i64::MIN] {
            let mut text = IntText::new();
            let value = ValueRef::Int(int);
            assert_eq!(value.str_len(), value.as_bytes(&mut text).len(), "{int}");
        }
    }
}
