// SPDX-License-Identifier: BSD-3-Clause
//! Hashes: a listpack while small, else fields in the order of the table, with their due times if any field has one.

use crate::load::{LoadContext, LoadError};
use crate::packed::{ENTRY_OVERHEAD_MAX, list_pack, zip_list};
use pando_formats::rdb::{RdbType, ValueOut, ValueReader};
use pando_formats::zipmap;
use pando_values::{Collection, FieldSet, FieldTtl, Hash, IntText, ListPack};
use std::io;

/// Least bytes of a field with its value.
const FIELD_BYTES: usize = 2;
/// The due time of a field that has none.
const NEVER: i64 = -1;

pub(crate) fn kind(hash: &Hash) -> RdbType {
    match hash.as_packed() {
        Some(_) => RdbType::HashListPack,
        None if hash.is_volatile() => RdbType::Hash2,
        None => RdbType::Hash,
    }
}

pub(crate) fn save(hash: &Hash, out: &mut impl ValueOut) -> io::Result<()> {
    if let Some(pack) = hash.as_packed() {
        return out.put_string(pack.bytes());
    }
    let has_dues = hash.is_volatile();
    out.put_len(hash.len() as u64)?;
    for field in hash.iter(0) {
        out.put_string(field.name.as_bytes(&mut IntText::new()))?;
        out.put_string(field.value.as_bytes(&mut IntText::new()))?;
        if has_dues {
            out.put_millis(field.due_ms.map_or(NEVER, |due_ms| due_ms as i64))?;
        }
    }
    Ok(())
}

pub(crate) fn load(kind: RdbType, from: &mut ValueReader<'_>, cx: &LoadContext<'_>) -> Result<Hash, LoadError> {
    let pack = match kind {
        RdbType::HashListPack => list_pack(from)?,
        RdbType::HashZipList => zip_list(from)?,
        RdbType::HashZipMap => zip_map(from)?,
        _ => return load_fields(kind, from, cx),
    };
    if pack.is_empty() {
        return Err(LoadError::Empty);
    }
    Hash::from_packed(pack, cx.limits).ok_or(LoadError::corrupt("a field of a hash twice, or without a value"))
}

fn zip_map(from: &mut ValueReader<'_>) -> Result<ListPack, LoadError> {
    let bytes = from.bytes()?;
    let pairs = zipmap::parse(&bytes).map_err(|_| LoadError::corrupt("invalid zipmap"))?;
    let mut pack = ListPack::new();
    for text in pairs.into_iter().flat_map(|(field, value)| [field, value]) {
        if !pack.may_add(text.len() + ENTRY_OVERHEAD_MAX) {
            return Err(LoadError::corrupt("a zipmap too large for a listpack"));
        }
        pack.push_back(text);
    }
    Ok(pack)
}

fn load_fields(kind: RdbType, from: &mut ValueReader<'_>, cx: &LoadContext<'_>) -> Result<Hash, LoadError> {
    let count = from.count(FIELD_BYTES)?;
    if count == 0 {
        return Err(LoadError::Empty);
    }
    let has_dues = kind == RdbType::Hash2;
    let mut hash = Hash::new();
    // With due times it is a table from the start, however small, because Valkey's is.
    hash.prepare(if has_dues { usize::MAX } else { count }, std::iter::empty(), cx.limits);
    for _ in 0..count {
        let (name, value) = (from.bytes()?, from.bytes()?);
        let ttl = match if has_dues { from.millis()? } else { NEVER } {
            NEVER => FieldTtl::Clear,
            // Time zero means that no field is past due, so none can be due then; a millisecond later is as long ago.
            due_ms => {
                FieldTtl::At(u64::try_from(due_ms).map_err(|_| LoadError::corrupt("a due time below zero"))?.max(1))
            }
        };
        if let (FieldTtl::At(due_ms), Some(before_ms)) = (ttl, cx.drop_due_before_ms)
            && due_ms < before_ms
        {
            continue;
        }
        if hash.set(&name, &value, ttl, 0, cx.limits) != FieldSet::Created {
            return Err(LoadError::corrupt("a field of a hash twice"));
        }
    }
    if hash.is_empty() { Err(LoadError::AllDue) } else { Ok(hash) }
}
