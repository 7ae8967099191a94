// SPDX-License-Identifier: BSD-3-Clause
//! One value at a time: its types, its encodings, its borrowed and owned forms.
//!
//! Not here: keys, TTLs, where a value is stored (`pando-keyspace`), commands. Called by `pando-keyspace`, which stores
//! values, and by `pando-commands`, which reads and changes them.

mod collection;
pub mod dict;
mod encoding;
pub mod geohash;
mod hash;
pub mod hll;
pub mod intset;
mod limits;
mod list;
pub mod listpack;
mod number;
mod random;
mod raw_bytes;
mod relocate;
mod set;
mod size_class;
mod stream;
mod value;
mod zset;

pub use collection::{Collection, TypedValue};
pub use dict::{Dict, FieldDict, KeyDict, ScoreDict};
pub use encoding::{Encoding, StrForm, StrHint, ValueType, encode_str, is_embstr};
pub use hash::{Field, FieldSet, FieldTtl, Fields, Hash};
pub use intset::{IntSet, InvalidIntSet};
pub use limits::Limits;
pub use list::{LIST_ELEMENT_BYTES_MAX, List, NodeRef, Side};
pub use listpack::{Element, InvalidListPack, ListPack};
pub use number::{INT_TEXT_LEN_MAX, parse_canonical_i64};
pub use random::{random, random_below};
pub use relocate::Mover;
pub use set::{Set, SetForm};
pub use size_class::size_class;
pub use stream::{
    AppendError, Consumer, ConsumerId, Group, GroupMut, Pending, Range, RangeBack, Stream, StreamCounters,
    StreamEntries, StreamEntry, StreamId, StreamIdText, TrimTo,
};
pub use value::{IntText, Typed, Value, ValueRef};
pub use zset::{LexBound, LexRange, ScoreRange, ZSet, ZSetIter};
