// SPDX-License-Identifier: BSD-3-Clause
//! Sets: an intset or a listpack while small, else members in the order of the table.

use crate::load::LoadError;
use crate::packed::list_pack;
use pando_formats::rdb::{RdbType, ValueOut, ValueReader};
use pando_values::{IntSet, Limits, Set, SetForm};
use std::io;

pub(crate) fn kind(set: &Set) -> RdbType {
    match set.form() {
        SetForm::Ints(_) => RdbType::SetIntSet,
        SetForm::Pack(_) => RdbType::SetListPack,
        SetForm::Table(_) => RdbType::Set,
    }
}

pub(crate) fn save(set: &Set, out: &mut impl ValueOut) -> io::Result<()> {
    match set.form() {
        SetForm::Ints(ints) => out.put_string(ints.bytes()),
        SetForm::Pack(pack) => out.put_string(pack.bytes()),
        SetForm::Table(table) => {
            out.put_len(table.len() as u64)?;
            table.iter().try_for_each(|(member, _)| out.put_string(member))
        }
    }
}

pub(crate) fn load(kind: RdbType, from: &mut ValueReader<'_>, limits: &Limits) -> Result<Set, LoadError> {
    match kind {
        RdbType::SetIntSet => {
            let ints = IntSet::from_bytes_checked(from.bytes()?.into_owned());
            let ints = ints.map_err(|_| LoadError::corrupt("invalid intset"))?;
            if ints.is_empty() {
                return Err(LoadError::corrupt("an intset without integers"));
            }
            Ok(Set::from_ints(ints, limits))
        }
        RdbType::SetListPack => {
            let pack = list_pack(from)?;
            if pack.is_empty() {
                return Err(LoadError::Empty);
            }
            Set::from_pack(pack, limits).ok_or(LoadError::corrupt("a member of a set twice"))
        }
        _ => {
            let count = from.count(1)?;
            if count == 0 {
                return Err(LoadError::Empty);
            }
            let mut set = Set::new();
            set.expect(count, limits);
            for _ in 0..count {
                if !set.add(&from.bytes()?, limits) {
                    return Err(LoadError::corrupt("a member of a set twice"));
                }
            }
            Ok(set)
        }
    }
}
