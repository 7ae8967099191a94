// SPDX-License-Identifier: BSD-3-Clause
//! What every collection type can say of itself, and how it is found in a [`Typed`].
//!
//! Not here: the types' own operations. Called by the keyspace (accounting, freeing) and by generic command helpers.

use crate::encoding::{Encoding, ValueType};
use crate::relocate::Mover;
use crate::value::Typed;

/// A collection: a small handle that lies in its key's entry, with its elements on the heap.
///
/// `Clone` is cheap for large values: their nodes are shared until one of the two changes.
pub trait Collection: Clone + PartialEq + std::fmt::Debug {
    /// Elements.
    fn len(&self) -> usize;

    /// Whether there is no element.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As `OBJECT ENCODING` names it.
    fn encoding(&self) -> Encoding;

    /// Bytes that the allocator gave for the elements, without the handle itself. O(1).
    fn heap_bytes(&self) -> usize;

    /// About how many allocations it takes to free the value. O(1).
    fn free_effort(&self) -> usize;

    /// Moves what lies in sparse memory, beginning with part `from`, where parts have numbers of the type's own. Returns
    /// the part to go on with when the mover had enough; zero when all was looked at. Changes in between do no harm.
    fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize;
}

/// A collection type that can be stored under a key.
pub trait TypedValue: Collection {
    /// Its type.
    const TYPE: ValueType;

    /// A collection without elements.
    fn empty() -> Self;

    /// The collection, if the value is of this type.
    fn of(typed: &Typed) -> Option<&Self>;

    /// See [`TypedValue::of`].
    fn of_mut(typed: &mut Typed) -> Option<&mut Self>;

    /// As a value.
    fn into_typed(self) -> Typed;
}

macro_rules! typed_value {
    ($type_:ident, $variant:ident) => {
        impl TypedValue for crate::$type_ {
            const TYPE: ValueType = ValueType::$variant;

            fn empty() -> Self {
                Self::new()
            }

            fn of(typed: &Typed) -> Option<&Self> {
                match typed {
                    Typed::$variant(value) => Some(value),
                    _ => None,
                }
            }

            fn of_mut(typed: &mut Typed) -> Option<&mut Self> {
                match typed {
                    Typed::$variant(value) => Some(value),
                    _ => None,
                }
            }

            fn into_typed(self) -> Typed {
                Typed::$variant(self)
            }
        }
    };
}

typed_value!(List, List);
typed_value!(Set, Set);
typed_value!(ZSet, ZSet);
typed_value!(Hash, Hash);
typed_value!(Stream, Stream);
