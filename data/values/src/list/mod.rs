// SPDX-License-Identifier: BSD-3-Clause
//! A list: one listpack while it is small, packed nodes in order when it is large.
//!
//! A writer that adds elements calls [`List::make_room`] first, one that removed some calls [`List::settle_smaller`]
//! afterwards: these are Valkey's moments of changing the form, and with its node rules (`quick.rs`, `fill.rs`) the
//! encoding that a client sees is the same after any sequence of commands. `list-compress-depth` changes nothing: nodes
//! are kept as they are, at the cost that Valkey has at depth 0.
//!
//! Not here: commands. Called by `pando-commands` and by whatever reads or writes dumps.

mod fill;
mod iter;
mod nodes;
mod quick;

pub use iter::Iter;

use crate::collection::Collection;
use crate::encoding::Encoding;
use crate::limits::Limits;
use crate::listpack::{Element, ListPack};
use crate::number::parse_canonical_i64;
use crate::relocate::Mover;
use crate::size_class::size_class;
use fill::Fill;
use nodes::Node;
use quick::QuickList;

/// An element that is longer is refused by commands: packed forms count bytes in 32 bits.
pub const LIST_ELEMENT_BYTES_MAX: usize = 1 << 30;

/// An end of a list, or a direction in it: `LEFT` is the head.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Side {
    /// The head; before.
    Left,
    /// The tail; after.
    Right,
}

/// A node of a list's large form, as RDB files keep it.
#[derive(Copy, Clone, Debug)]
pub enum NodeRef<'a> {
    /// A run of elements.
    Packed(&'a ListPack),
    /// One large element.
    Plain(Element<'a>),
}

/// See the head of this file.
#[derive(Clone)]
pub struct List(Form);

#[derive(Clone)]
enum Form {
    Pack(ListPack),
    Quick(Box<QuickList>),
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Equal when the elements are.
impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(a, b)| a == b || a.to_vec() == b.to_vec())
    }
}

impl Collection for List {
    fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        match &mut self.0 {
            Form::Pack(pack) => {
                pack.relocate(mover);
                0
            }
            Form::Quick(quick) => {
                if from == 0 {
                    mover.boxed(quick, || QuickList::new(0));
                }
                quick.nodes.relocate(from, mover)
            }
        }
    }

    fn len(&self) -> usize {
        match &self.0 {
            Form::Pack(pack) => pack.len(),
            Form::Quick(quick) => quick.nodes.elements(),
        }
    }

    fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Pack(pack) => pack.is_empty(),
            Form::Quick(quick) => quick.nodes.elements() == 0,
        }
    }

    fn encoding(&self) -> Encoding {
        match &self.0 {
            Form::Pack(_) => Encoding::ListPack,
            Form::Quick(_) => Encoding::QuickList,
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Pack(pack) => pack.heap_bytes(),
            Form::Quick(quick) => size_class(size_of::<QuickList>()) + quick.nodes.heap_bytes(),
        }
    }

    fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Pack(_) => 1,
            Form::Quick(quick) => quick.nodes.len(),
        }
    }
}

fn fill(limits: &Limits) -> Fill {
    Fill { size: limits.list_max_listpack_size, plain_from_bytes: limits.list_plain_from_bytes }
}

/// Removes the first `count` matches from one side on. Gives how many there were.
fn remove_matches(pack: &mut ListPack, needle: &[u8], side: Side, count: usize) -> usize {
    let int = parse_canonical_i64(needle);
    let mut spared = match side {
        Side::Left => 0,
        Side::Right => pack.count_matches(needle).saturating_sub(count),
    };
    let mut left = count;
    pack.retain(|element| {
        if left == 0 || !element.is_parsed(needle, int) {
            return true;
        }
        if spared > 0 {
            spared -= 1;
            return true;
        }
        left -= 1;
        false
    })
}

impl List {
    /// Without elements.
    pub fn new() -> Self {
        List(Form::Pack(ListPack::new()))
    }

    /// Without elements, in the large form: for a list of which it is not known how long it becomes. Call
    /// [`List::settle_built`] after the last element.
    pub fn new_large(limits: &Limits) -> Self {
        let mut list = List::new();
        list.make_quick(limits);
        list
    }

    /// Changes to the large form if `elements` more elements of together `bytes` bytes could be too many for the small
    /// one. To be called once for all elements that a command is about to add.
    pub fn make_room(&mut self, bytes: usize, elements: usize, limits: &Limits) {
        if let Form::Pack(pack) = &self.0
            && fill(limits).exceeds(pack.bytes().len() + bytes, pack.len() + elements)
        {
            self.make_quick(limits);
        }
    }

    /// Changes back to the small form when a list that shrank is below half of the limit, so that one at the limit does
    /// not change with every command.
    pub fn settle_smaller(&mut self, limits: &Limits) {
        self.settle(limits, 2);
    }

    /// Gives a list that was built as a whole the form that it should have.
    pub fn settle_built(&mut self, limits: &Limits) {
        self.make_room(0, 0, limits);
        self.settle(limits, 1);
    }

    fn settle(&mut self, limits: &Limits, divisor: usize) {
        let Form::Quick(quick) = &mut self.0 else { return };
        let Some(first) = quick.nodes.first() else { return };
        let node = quick.nodes.get(first);
        let (bytes, elements) = fill(limits).node_max();
        if quick.nodes.len() != 1
            || node.is_plain
            || node.bytes() > bytes / divisor
            || node.count as usize > elements / divisor
        {
            return;
        }
        if let Some(pack) = std::mem::take(&mut quick.nodes).into_only_pack() {
            self.0 = Form::Pack(pack);
        }
    }

    fn make_quick(&mut self, limits: &Limits) -> &mut QuickList {
        if let Form::Pack(pack) = &mut self.0 {
            let mut quick = Box::new(QuickList::new(limits.list_max_listpack_size));
            if !pack.is_empty() {
                quick.append(Node::packed(std::mem::take(pack)));
            }
            self.0 = Form::Quick(quick);
        }
        match &mut self.0 {
            Form::Quick(quick) => quick,
            Form::Pack(_) => unreachable!("the form was changed above"),
        }
    }

    /// Appends a packed run as a node of the large form. Call [`List::settle_built`] after the last one.
    pub fn append_pack(&mut self, pack: ListPack, limits: &Limits) {
        if !pack.is_empty() {
            self.make_quick(limits).append(Node::packed(pack));
        }
    }

    /// Appends a large element as a node of its own. Call [`List::settle_built`] after the last one.
    pub fn append_plain(&mut self, element: &[u8], limits: &Limits) {
        self.make_quick(limits).append(Node::of(element, true));
    }

    /// The listpack of the small form.
    pub fn as_pack(&self) -> Option<&ListPack> {
        match &self.0 {
            Form::Pack(pack) => Some(pack),
            Form::Quick(_) => None,
        }
    }

    /// The nodes of the large form in order; nothing for the small one.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        let quick = match &self.0 {
            Form::Pack(_) => None,
            Form::Quick(quick) => Some(quick.nodes.iter()),
        };
        quick.into_iter().flatten().map(|node| match (node.is_plain, node.pack.get(0)) {
            (true, Some(element)) => NodeRef::Plain(element),
            _ => NodeRef::Packed(&node.pack),
        })
    }

    /// Nodes of the large form; zero for the small one.
    pub fn node_count(&self) -> usize {
        match &self.0 {
            Form::Pack(_) => 0,
            Form::Quick(quick) => quick.nodes.len(),
        }
    }

    /// Adds an element at an end. [`List::make_room`] must have been called.
    pub fn push(&mut self, side: Side, element: &[u8], limits: &Limits) {
        match (&mut self.0, side) {
            (Form::Pack(pack), Side::Left) => pack.push_front(element),
            (Form::Pack(pack), Side::Right) => pack.push_back(element),
            (Form::Quick(quick), _) => quick.push(side, element, limits.list_plain_from_bytes),
        }
    }

    /// Takes an element from an end, after `then` has seen it. [`List::settle_smaller`] is the caller's.
    pub fn pop<R>(&mut self, side: Side, then: impl FnOnce(Element<'_>) -> R) -> Option<R> {
        match &mut self.0 {
            Form::Pack(pack) => {
                let pos = edge(pack, side)?;
                let result = then(pack.at(pos)?);
                pack.remove(pos, 1);
                Some(result)
            }
            Form::Quick(quick) => {
                let at = match side {
                    Side::Left => quick.nodes.first()?,
                    Side::Right => quick.nodes.last()?,
                };
                let pack = &quick.nodes.get(at).pack;
                let pos = edge(pack, side)?;
                let result = then(pack.at(pos)?);
                quick.remove_in(at, pos, 1);
                Some(result)
            }
        }
    }

    /// All elements.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0, Side::Right)
    }

    /// The elements from `index` on, towards the end that `towards` names.
    pub fn iter_from(&self, index: usize, towards: Side) -> Iter<'_> {
        Iter::new(&self.0, index, towards)
    }

    /// The element of `index`.
    pub fn get(&self, index: usize) -> Option<Element<'_>> {
        self.iter_from(index, Side::Right).next()
    }

    /// Replaces the element of `index`; false when there is none. [`List::make_room`] goes before,
    /// [`List::settle_smaller`] after.
    pub fn set(&mut self, index: usize, element: &[u8], limits: &Limits) -> bool {
        match &mut self.0 {
            Form::Pack(pack) => {
                let pos = isize::try_from(index).ok().and_then(|index| pack.seek(index));
                pos.map(|pos| pack.replace(pos, element)).is_some()
            }
            Form::Quick(quick) => {
                let Some((at, offset)) = quick.nodes.seek(index) else { return false };
                let Some(pos) = quick.nodes.get(at).pack.seek(offset as isize) else { return false };
                quick.replace(at, pos, element, limits.list_plain_from_bytes);
                true
            }
        }
    }

    /// Puts an element on the left or right of the first one that equals `pivot`; false when none does.
    /// [`List::make_room`] goes before.
    pub fn insert(&mut self, pivot: &[u8], side: Side, element: &[u8], limits: &Limits) -> bool {
        match &mut self.0 {
            Form::Pack(pack) => {
                let Some(pos) = pack.find(pivot, pack.first(), 0) else { return false };
                let pos = match side {
                    Side::Left => pos,
                    Side::Right => pack.next(pos),
                };
                pack.insert(pos, element);
                true
            }
            Form::Quick(quick) => {
                let Some((at, pos)) = quick.find(pivot) else { return false };
                quick.insert(at, pos, side, element, limits.list_plain_from_bytes);
                true
            }
        }
    }

    /// Removes up to `limit` elements equal to `needle`, beginning at one side; gives how many.
    /// [`List::settle_smaller`] is the caller's.
    pub fn remove_matching(&mut self, needle: &[u8], side: Side, limit: usize) -> usize {
        match &mut self.0 {
            Form::Pack(pack) => remove_matches(pack, needle, side, limit),
            Form::Quick(quick) => quick.remove_matching(needle, side, limit),
        }
    }

    /// Removes `count` elements from `start` on, or as many as there are. [`List::settle_smaller`] is the caller's.
    pub fn remove_range(&mut self, start: usize, count: usize) {
        match &mut self.0 {
            Form::Pack(pack) => {
                if let Some(pos) = isize::try_from(start).ok().and_then(|start| pack.seek(start)) {
                    pack.remove(pos, count);
                }
            }
            Form::Quick(quick) => quick.remove_range(start, count),
        }
    }
}

fn edge(pack: &ListPack, side: Side) -> Option<crate::listpack::Pos> {
    match side {
        Side::Left => Some(pack.first()),
        Side::Right => pack.last(),
    }
}

#[cfg(test)]
mod tests;
