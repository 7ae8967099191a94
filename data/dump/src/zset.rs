// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets: a listpack while small, else members with their scores, highest first.

use crate::load::LoadError;
use crate::packed::{are_distinct, list_pack, zip_list};
use pando_formats::rdb::{RdbType, ValueOut, ValueReader};
use pando_values::{Collection, IntText, Limits, ZSet};
use std::io;

/// Least bytes of a member with its score.
const MEMBER_BYTES: usize = 2;

pub(crate) fn kind(set: &ZSet) -> RdbType {
    if set.as_listpack().is_some() { RdbType::ZSetListPack } else { RdbType::ZSet2 }
}

pub(crate) fn save(set: &ZSet, out: &mut impl ValueOut) -> io::Result<()> {
    if let Some(pack) = set.as_listpack() {
        return out.put_string(pack.bytes());
    }
    out.put_len(set.len() as u64)?;
    for (member, score) in set.range(0..set.len(), true) {
        out.put_string(member.as_bytes(&mut IntText::new()))?;
        out.put_double(score)?;
    }
    Ok(())
}

pub(crate) fn load(kind: RdbType, from: &mut ValueReader<'_>, limits: &Limits) -> Result<ZSet, LoadError> {
    let pack = match kind {
        RdbType::ZSetListPack => list_pack(from)?,
        RdbType::ZSetZipList => zip_list(from)?,
        _ => return load_members(kind, from, limits),
    };
    if pack.is_empty() {
        return Err(LoadError::Empty);
    }
    if !are_distinct(&pack, 1) {
        return Err(LoadError::corrupt("a member of a sorted set twice"));
    }
    let set = ZSet::from_listpack(pack);
    let mut set = set.map_err(|_| LoadError::corrupt("a score of a sorted set that is no number"))?;
    set.prepare(set.len(), 0, limits);
    Ok(set)
}

fn load_members(kind: RdbType, from: &mut ValueReader<'_>, limits: &Limits) -> Result<ZSet, LoadError> {
    let count = from.count(MEMBER_BYTES)?;
    if count == 0 {
        return Err(LoadError::Empty);
    }
    // The form is chosen when all members are known: they come in falling order, which packs would pay for.
    let mut set = ZSet::for_size(usize::MAX, 0, limits);
    for _ in 0..count {
        let member = from.bytes()?;
        let score = if kind == RdbType::ZSet2 { from.double()? } else { from.old_double()? };
        if score.is_nan() {
            return Err(LoadError::corrupt("a score of a sorted set that is no number"));
        }
        if set.add(score, &member, limits).is_some() {
            return Err(LoadError::corrupt("a member of a sorted set twice"));
        }
    }
    set.compact(limits);
    Ok(set)
}
