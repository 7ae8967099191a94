// SPDX-License-Identifier: BSD-3-Clause
//! The types of values in an image, by the number that stands before key and value, and what a value of each type is made
//! of. Called by the reader, which must find the end of a value that it does not understand, and by data/dump, which does.

use super::extent::Part;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $parts:expr;)*) => {
        /// The type of a value.
        #[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
        #[repr(u8)]
        pub enum RdbType {
            $($(#[$doc])* $name = $code,)*
        }

        impl RdbType {
            /// Every type, in the order of the codes.
            pub const ALL: &[RdbType] = &[$(RdbType::$name),*];

            /// The type with this code.
            pub fn from_code(code: u8) -> Option<RdbType> {
                match code {
                    $($code => Some(RdbType::$name),)*
                    _ => None,
                }
            }

            /// The name that error messages use.
            pub fn name(self) -> &'static str {
                match self {
                    $(RdbType::$name => $text,)*
                }
            }

            pub(super) fn parts(self) -> &'static [Part] {
                match self {
                    $(RdbType::$name => $parts,)*
                }
            }
        }
    };
}

use Part::{Bytes, Len, Many, OldDouble, Str};

const STR: &[Part] = &[Str];
const PENDING_IDS: &[Part] = &[Bytes(16)];
const PENDING: &[Part] = &[Bytes(16), Bytes(8), Len];
const CONSUMER: &[Part] = &[Str, Bytes(8), Many(PENDING_IDS)];
const CONSUMER_3: &[Part] = &[Str, Bytes(8), Bytes(8), Many(PENDING_IDS)];
const GROUP: &[Part] = &[Str, Len, Len, Many(PENDING), Many(CONSUMER)];
const GROUP_2: &[Part] = &[Str, Len, Len, Len, Many(PENDING), Many(CONSUMER)];
const GROUP_3: &[Part] = &[Str, Len, Len, Len, Many(PENDING), Many(CONSUMER_3)];
const NODE: &[Part] = &[Str, Str];

kinds! {
    /// A string.
    String = 0, "string", STR;
    /// Elements one by one.
    List = 1, "list", &[Many(&[Str])];
    /// Members one by one.
    Set = 2, "set", &[Many(&[Str])];
    /// Members with their scores as text.
    ZSet = 3, "zset", &[Many(&[Str, OldDouble])];
    /// Fields and values one by one.
    Hash = 4, "hash", &[Many(&[Str, Str])];
    /// Members with their scores as doubles, highest first.
    ZSet2 = 5, "zset2", &[Many(&[Str, Bytes(8)])];
    /// A zipmap.
    HashZipMap = 9, "hash-zipmap", STR;
    /// A ziplist.
    ListZipList = 10, "list-ziplist", STR;
    /// An intset.
    SetIntSet = 11, "set-intset", STR;
    /// A ziplist of members and scores.
    ZSetZipList = 12, "zset-ziplist", STR;
    /// A ziplist of fields and values.
    HashZipList = 13, "hash-ziplist", STR;
    /// Ziplists.
    ListQuickList = 14, "list-quicklist", &[Many(&[Str])];
    /// A stream's nodes, then its groups.
    Stream = 15, "stream", &[Many(NODE), Len, Len, Len, Many(GROUP)];
    /// A listpack of fields and values.
    HashListPack = 16, "hash-listpack", STR;
    /// A listpack of members and scores.
    ZSetListPack = 17, "zset-listpack", STR;
    /// Nodes: each a listpack, or one large element as it is.
    ListQuickList2 = 18, "list-quicklist2", &[Many(&[Len, Str])];
    /// With first id, highest deleted id and number of entries ever added; groups with entries read.
    Stream2 = 19, "stream2", &[Many(NODE), Len, Len, Len, Len, Len, Len, Len, Len, Many(GROUP_2)];
    /// A listpack of members.
    SetListPack = 20, "set-listpack", STR;
    /// With the time at which each consumer was last active.
    Stream3 = 21, "stream3", &[Many(NODE), Len, Len, Len, Len, Len, Len, Len, Len, Many(GROUP_3)];
    /// Fields and values with the due time of each field, from version 80 on.
    Hash2 = 22, "hash-with-field-expiration", &[Many(&[Str, Str, Bytes(8)])];
}

impl RdbType {
    /// The code that stands in the image.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Codes from here on mean other things in images of other products, whose magic is `REDIS` too.
    pub const FOREIGN_FROM: u8 = 22;
}
