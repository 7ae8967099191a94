// SPDX-License-Identifier: BSD-3-Clause
//! Walks over a list's elements, from any index towards either end.

use super::nodes::{At, Nodes};
use super::{Form, Side};
use crate::listpack::{self, Element, ListPack};

/// Elements of a list.
#[derive(Clone)]
pub struct Iter<'a> {
    /// What is left of the node at hand.
    pack: listpack::Iter<'a>,
    /// Where the nodes to come are.
    rest: Option<(&'a Nodes, At)>,
    towards: Side,
}

impl<'a> Iter<'a> {
    pub(super) fn new(form: &'a Form, index: usize, towards: Side) -> Iter<'a> {
        match form {
            Form::Pack(pack) => Iter { pack: part(pack, index, towards), rest: None, towards },
            Form::Quick(quick) => match quick.nodes.seek(index) {
                Some((at, offset)) => {
                    let pack = part(&quick.nodes.get(at).pack, offset, towards);
                    Iter { pack, rest: Some((&quick.nodes, at)), towards }
                }
                None => Iter { pack: listpack::Iter::default(), rest: None, towards },
            },
        }
    }

    #[cold]
    fn next_node(&mut self) -> Option<Element<'a>> {
        let (nodes, at) = self.rest?;
        let next = match self.towards {
            Side::Right => nodes.next(at),
            Side::Left => nodes.prev(at),
        };
        self.rest = next.map(|next| (nodes, next));
        self.pack = nodes.get(next?).pack.iter();
        self.step()
    }

    #[inline]
    fn step(&mut self) -> Option<Element<'a>> {
        match self.towards {
            Side::Right => self.pack.next(),
            Side::Left => self.pack.next_back(),
        }
    }
}

/// The elements of a listpack from `index` on in one direction.
fn part(pack: &ListPack, index: usize, towards: Side) -> listpack::Iter<'_> {
    let Some(pos) = isize::try_from(index).ok().and_then(|index| pack.seek(index)) else {
        return listpack::Iter::default();
    };
    match towards {
        Side::Right => pack.iter_from(pos),
        Side::Left => pack.iter_until(pack.next(pos)),
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match self.step() {
            Some(element) => Some(element),
            None => self.next_node(),
        }
    }
}
