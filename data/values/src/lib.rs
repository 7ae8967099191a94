// SPDX-License-Identifier: BSD-3-Clause
//! One value at a time: its types, its encodings, its borrowed and owned forms.
//!
//! Not here: keys, TTLs, where a value is stored (`pando-keyspace`), commands. Called by `pando-keyspace`, which stores
//! values, and by `pando-commands`, which reads and changes them.

mod encoding;
pub mod listpack;
mod number;
mod size_class;
mod value;

pub use encoding::{EMBSTR_LEN_MAX, Encoding, StrForm, StrHint, ValueType, encode_str, is_embstr};
pub use listpack::{Element, InvalidListPack, ListPack};
pub use number::{INT_TEXT_LEN_MAX, parse_canonical_i64};
pub use size_class::size_class;
pub use value::{IntText, Typed, Value, ValueRef};
