// SPDX-License-Identifier: BSD-3-Clause
//! Listpacks out of images: those of today, and those made of yesterday's ziplists. All are checked before use.

use crate::load::LoadError;
use pando_formats::packed;
use pando_formats::rdb::ValueReader;
use pando_formats::ziplist::ZipList;
use pando_values::{Element, ListPack};
use std::collections::HashSet;

/// Most bytes that an entry of a listpack takes beside its text.
pub(crate) const ENTRY_OVERHEAD_MAX: usize = 10;

/// A string that is a listpack.
pub(crate) fn list_pack(from: &mut ValueReader<'_>) -> Result<ListPack, LoadError> {
    ListPack::from_bytes_checked(from.bytes()?.into_owned()).map_err(|_| LoadError::corrupt("invalid listpack"))
}

/// A string that is a ziplist, as a listpack.
pub(crate) fn zip_list(from: &mut ValueReader<'_>) -> Result<ListPack, LoadError> {
    let bytes = from.bytes()?;
    let list = ZipList::parse(&bytes).map_err(|_| LoadError::corrupt("invalid ziplist"))?;
    let mut pack = ListPack::new();
    for element in list.iter() {
        match element {
            packed::Element::Int(n) => pack.push_back_int(n),
            packed::Element::Str(text) => {
                if !pack.may_add(text.len() + ENTRY_OVERHEAD_MAX) {
                    return Err(LoadError::corrupt("a ziplist too large for a listpack"));
                }
                pack.push_back(text);
            }
        }
    }
    Ok(pack)
}

/// Whether no two of the elements are the same text, looking at one and leaving out `skip`, and so on.
pub(crate) fn are_distinct(pack: &ListPack, skip: usize) -> bool {
    // An element may be stored as a number or as its text, whatever a well-behaved writer would have chosen.
    let mut seen = HashSet::new();
    pack.iter().step_by(skip + 1).all(|element| match (element.as_int(), element) {
        (Some(n), _) => seen.insert((Some(n), &[][..])),
        (None, Element::Str(text)) => seen.insert((None, text)),
        (None, Element::Int(_)) => false,
    })
}
