// SPDX-License-Identifier: BSD-3-Clause
//! RDB: one point-in-time image of the keys, as bytes.
//!
//! [`RdbWriter`] writes onto any `io::Write`; [`RdbReader`] is fed bytes as they arrive and yields [`RdbItem`]s. Strings
//! are decoded here; the value of another type is found, and handed on as its bytes ([`RdbValue::Raw`]) for data/dump to
//! decode. What modules wrote is refused by name, never skipped in silence. Called by full syncs, snapshots and the
//! roots. Layout: `docs/formats/rdb.md`.

mod cursor;
mod encode;
mod extent;
mod kind;
mod reader;
mod writer;

pub use cursor::{Text, ValueError, ValueReader};
pub use encode::ValueOut;
pub use kind::RdbType;
pub use reader::RdbReader;
pub use writer::{RdbWriter, SUMMED_AT_END};

/// The RDB version that Pando writes for anyone: the newest that Valkey 7.2, 8 and 9 all accept.
pub const VERSION_WRITTEN: u32 = 11;
/// The version that Valkey 9 writes, with the magic `VALKEY` instead of `REDIS`.
pub const VERSION_VALKEY: u32 = 80;

pub(crate) mod op {
    pub const SLOT_IMPORT: u8 = 243;
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION2: u8 = 245;
    pub const FUNCTION_PRE_GA: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQ: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZE_DB: u8 = 251;
    pub const EXPIRE_MS: u8 = 252;
    pub const EXPIRE_S: u8 = 253;
    pub const SELECT_DB: u8 = 254;
    pub const EOF: u8 = 255;
}

/// The value of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RdbValue {
    /// A string stored as a number.
    Int(i64),
    /// A string.
    Str(Vec<u8>),
    /// A value of another type, undecoded: complete, and not otherwise checked.
    Raw { kind: RdbType, bytes: Vec<u8> },
}

/// One key of the image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    pub db: u32,
    pub key: Vec<u8>,
    pub value: RdbValue,
    /// Unix time in milliseconds, if the key expires.
    pub expire_at_ms: Option<u64>,
    /// Seconds since the last access, if the writer kept them.
    pub idle_s: Option<u64>,
    /// The counter of accesses, if the writer kept it.
    pub freq: Option<u8>,
}

/// What the reader yields, in file order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RdbItem {
    /// The first item: the version, and whether the magic was `VALKEY`.
    Header {
        version: u32,
        valkey: bool,
    },
    /// A named remark (`valkey-ver`, `repl-stream-db`, ...). Unknown names are to be ignored.
    Aux {
        name: Vec<u8>,
        value: Vec<u8>,
    },
    /// How many keys and expiring keys follow in this database: a hint.
    Sizes {
        db: u32,
        keys: u64,
        expires: u64,
    },
    /// The source of a function library.
    Function(Vec<u8>),
    Record(Record),
    /// The last item; the checksum was right, or `false` if the writer had switched it off.
    End {
        summed: bool,
    },
}

/// Why an image was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RdbError {
    #[error("not an RDB file: the magic is missing")]
    Magic,
    #[error("can't handle RDB format version {0}")]
    Version(String),
    #[error("unsupported RDB value type {code} ({name}) for key {key:?}")]
    Type { code: u8, name: &'static str, key: String },
    #[error("unsupported RDB opcode {code} ({name})")]
    Opcode { code: u8, name: &'static str },
    #[error("corrupt RDB at byte {offset}: {what}")]
    Corrupt { offset: u64, what: &'static str },
    #[error("wrong RDB checksum: expected {expected:016x}, got {got:016x}")]
    Checksum { expected: u64, got: u64 },
}

/// The name of a type, also of those that are refused.
pub(crate) fn type_name(code: u8) -> &'static str {
    match (code, RdbType::from_code(code)) {
        (_, Some(kind)) => kind.name(),
        (6, _) => "module-pre-release",
        (7, _) => "module",
        _ => "unknown",
    }
}
