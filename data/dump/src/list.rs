// SPDX-License-Identifier: BSD-3-Clause
//! Lists: one form is written, of nodes that are listpacks or single large elements; four are read.

use crate::load::LoadError;
use crate::packed::{list_pack, zip_list};
use pando_formats::rdb::{RdbType, ValueOut, ValueReader};
use pando_values::{Collection, IntText, LIST_ELEMENT_BYTES_MAX, Limits, List, NodeRef, Side};
use std::io;

/// A node that is one element.
const PLAIN: u64 = 1;
/// A node that is a listpack.
const PACKED: u64 = 2;

pub(crate) fn save(list: &List, out: &mut impl ValueOut) -> io::Result<()> {
    if let Some(pack) = list.as_pack() {
        out.put_len(1)?;
        out.put_len(PACKED)?;
        return out.put_string(pack.bytes());
    }
    out.put_len(list.node_count() as u64)?;
    for node in list.nodes() {
        match node {
            NodeRef::Packed(pack) => {
                out.put_len(PACKED)?;
                out.put_string(pack.bytes())?;
            }
            NodeRef::Plain(element) => {
                out.put_len(PLAIN)?;
                out.put_string(element.as_bytes(&mut IntText::new()))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn load(kind: RdbType, from: &mut ValueReader<'_>, limits: &Limits) -> Result<List, LoadError> {
    let mut list = List::new();
    match kind {
        RdbType::ListZipList => {
            for element in zip_list(from)?.iter() {
                push(&mut list, element.as_bytes(&mut IntText::new()), limits)?;
            }
        }
        RdbType::List => {
            for _ in 0..from.number()? {
                push(&mut list, &from.bytes()?, limits)?;
            }
        }
        RdbType::ListQuickList => {
            for _ in 0..from.number()? {
                list.append_pack(zip_list(from)?, limits);
            }
        }
        _ => {
            for _ in 0..from.number()? {
                match from.number()? {
                    PACKED => list.append_pack(list_pack(from)?, limits),
                    PLAIN => append_plain(&mut list, from, limits)?,
                    _ => return Err(LoadError::corrupt("a node of a list that is neither packed nor plain")),
                }
            }
        }
    }
    if list.is_empty() {
        return Err(LoadError::Empty);
    }
    list.settle_built(limits);
    Ok(list)
}

fn append_plain(list: &mut List, from: &mut ValueReader<'_>, limits: &Limits) -> Result<(), LoadError> {
    let element = from.bytes()?;
    if element.is_empty() || element.len() > LIST_ELEMENT_BYTES_MAX {
        return Err(LoadError::corrupt("a plain node of a list that is empty or too large"));
    }
    list.append_plain(&element, limits);
    Ok(())
}

fn push(list: &mut List, element: &[u8], limits: &Limits) -> Result<(), LoadError> {
    if element.len() > LIST_ELEMENT_BYTES_MAX {
        return Err(LoadError::corrupt("an element of a list is too large"));
    }
    list.make_room(element.len(), 1, limits);
    list.push(Side::Right, element, limits);
    Ok(())
}
