// SPDX-License-Identifier: BSD-3-Clause
//! The snapshot: an RDB image of string keys, so that a stock Valkey can load it.
//!
//! `metaspace:raft:*` say up to which entry it goes and who the members were; all other keys come
//! from the state machine. The image ends with RDB's CRC-64. No file is opened here.

use std::io;

use bytes::Bytes;
use pando_formats::rdb::{RdbItem, RdbReader, RdbValue, RdbWriter};

use crate::types::{LogId, SnapshotMeta, StoredMembership, log_id, term_of};

/// Name of the snapshot in the folder.
pub const SNAPSHOT_FILE: &str = "roots.rdb";

const LAST_KEY: &[u8] = b"metaspace:raft:last";
const MEMBERS_KEY: &[u8] = b"metaspace:raft:members";

/// A key of the state machine and its value.
pub type Pair = (Vec<u8>, Vec<u8>);
/// All of them.
pub type Pairs = Vec<Pair>;

/// Makes an image.
pub struct Writer {
    rdb: RdbWriter<Vec<u8>>,
}

impl Writer {
    /// Begins the image of so many pairs as of `meta`.
    pub fn new(meta: &SnapshotMeta, pairs: usize) -> io::Result<Writer> {
        let mut rdb = RdbWriter::new(Vec::new());
        rdb.aux("pando-raft", b"1")?;
        rdb.sizes(0, pairs as u64 + 2, 0)?;
        let last = meta.last_log_id.map(|id| format!("{} {}", term_of(&id), id.index)).unwrap_or_default();
        rdb.string(0, LAST_KEY, last.as_bytes(), None)?;
        let members = rmp_serde::to_vec_named(&meta.last_membership).map_err(io::Error::other)?;
        rdb.string(0, MEMBERS_KEY, &members, None)?;
        Ok(Writer { rdb })
    }

    /// Adds a pair.
    pub fn put(&mut self, (key, value): &Pair) -> io::Result<()> {
        self.rdb.string(0, key, value, None)
    }

    /// The whole image.
    pub fn finish(self) -> io::Result<Bytes> {
        Ok(Bytes::from(self.rdb.finish()?))
    }
}

/// Writes the image of `pairs` as of `meta`.
#[cfg(test)]
pub fn encode(meta: &SnapshotMeta, pairs: &Pairs) -> io::Result<Bytes> {
    let mut writer = Writer::new(meta, pairs.len())?;
    pairs.iter().try_for_each(|pair| writer.put(pair))?;
    writer.finish()
}

/// Reads an image; anything unexpected or a wrong checksum is an error.
pub fn decode(image: &[u8]) -> io::Result<(SnapshotMeta, Pairs)> {
    let mut reader = RdbReader::new();
    reader.push(image);
    let mut last: Option<Option<LogId>> = None;
    let mut members: Option<StoredMembership> = None;
    let mut pairs = Pairs::new();
    loop {
        let item = reader.next().map_err(|e| damaged(&e.to_string()))?;
        match item.ok_or_else(|| damaged("it ends too early"))? {
            RdbItem::Record(record) => {
                let value = match record.value {
                    RdbValue::Str(value) => value,
                    RdbValue::Int(n) => n.to_string().into_bytes(),
                    _ => return Err(damaged("a value is not a string")),
                };
                match &record.key[..] {
                    LAST_KEY => last = Some(position(&value)?),
                    MEMBERS_KEY => {
                        members = Some(rmp_serde::from_slice(&value).map_err(|e| damaged(&e.to_string()))?);
                    }
                    _ => pairs.push((record.key, value)),
                }
            }
            RdbItem::End { summed } => {
                if !summed {
                    return Err(damaged("it has no checksum"));
                }
                break;
            }
            RdbItem::Header { .. } | RdbItem::Aux { .. } | RdbItem::Sizes { .. } | RdbItem::Function(_) => {}
        }
    }
    let (Some(last_log_id), Some(last_membership)) = (last, members) else {
        return Err(damaged("it is no snapshot of the roots"));
    };
    Ok((SnapshotMeta { last_log_id, last_membership }, pairs))
}

fn position(value: &[u8]) -> io::Result<Option<LogId>> {
    if value.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let (term, index) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(log_id(term.parse().ok()?, index.parse().ok()?))
    };
    parse().map(Some).ok_or_else(|| damaged("bad position"))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad snapshot of the roots: {what}"))
}
