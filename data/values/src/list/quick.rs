// SPDX-License-Identifier: BSD-3-Clause
//! The large form of a list: packed nodes, filled, split and joined by Valkey's rules. Whether a list that shrinks becomes
//! one listpack again depends on how many nodes it has, so the rules are kept exactly; what holds the nodes is `nodes.rs`.
//!
//! Not here: the small form and the change between the two (`mod.rs`), compression (nodes stay as they are).

use super::fill::Fill;
use super::nodes::{At, Node, Nodes};
use super::{Side, remove_matches};
use crate::listpack::Pos;

/// A listpack without elements: what joining two nodes saves.
const EMPTY_BYTES: usize = 7;

/// See the head of this file.
#[derive(Clone)]
pub(super) struct QuickList {
    pub(super) nodes: Nodes,
    /// `list-max-listpack-size` when the list took this form: a later change of the setting leaves its nodes alone.
    size: i16,
}

impl QuickList {
    pub(super) fn new(size: i32) -> QuickList {
        QuickList { nodes: Nodes::default(), size: size.clamp(-5, i16::MAX.into()) as i16 }
    }

    /// This list's rules.
    fn fill(&self, plain_from_bytes: usize) -> Fill {
        Fill { size: self.size.into(), plain_from_bytes }
    }

    /// Appends a node as it is.
    pub(super) fn append(&mut self, node: Node) {
        self.nodes.push_back(node);
    }

    pub(super) fn push(&mut self, side: Side, element: &[u8], plain_from_bytes: usize) {
        let fill = self.fill(plain_from_bytes);
        let edge = match side {
            Side::Left => self.nodes.first(),
            Side::Right => self.nodes.last(),
        };
        if let Some(at) = edge
            && self.takes(at, fill, element.len())
        {
            self.nodes.edit(at, |node| {
                match side {
                    Side::Left => node.pack.push_front(element),
                    Side::Right => node.pack.push_back(element),
                }
                node.count += 1;
            });
            return;
        }
        let node = Node::of(element, fill.is_large(element.len()));
        match side {
            Side::Left => self.nodes.push_front(node),
            Side::Right => self.nodes.push_back(node),
        }
    }

    /// Whether the node at `at` has room for an element of `bytes`.
    fn takes(&self, at: At, fill: Fill, bytes: usize) -> bool {
        let node = self.nodes.get(at);
        !node.is_plain && !fill.is_large(bytes) && !fill.is_full_for(node.bytes(), node.count as usize, bytes)
    }

    /// Removes `count` elements from `pos` on in one node, and the node with its last one.
    pub(super) fn remove_in(&mut self, at: At, pos: Pos, count: usize) {
        if self.nodes.get(at).count as usize <= count && pos == self.nodes.get(at).pack.first() {
            self.nodes.remove(at);
        } else {
            self.nodes.edit(at, |node| node.count -= node.pack.remove(pos, count) as u32);
        }
    }

    /// Removes the elements of an index range that is within the list.
    pub(super) fn remove_range(&mut self, start: usize, mut count: usize) {
        let Some((at, mut offset)) = self.nodes.seek(start) else { return };
        let mut next = Some(at);
        while let (Some(at), 1..) = (next, count) {
            let in_node = self.nodes.get(at).count as usize;
            let here = count.min(in_node - offset);
            if here == in_node {
                next = self.nodes.remove(at);
            } else {
                self.nodes.edit(at, |node| {
                    if let Some(pos) = node.pack.seek(offset as isize) {
                        node.count -= node.pack.remove(pos, here) as u32;
                    }
                });
                next = self.nodes.next(at);
            }
            count -= here;
            offset = 0;
        }
    }

    /// Removes up to `limit` elements equal to `needle`, from one side on.
    pub(super) fn remove_matching(&mut self, needle: &[u8], side: Side, limit: usize) -> usize {
        let mut removed = 0;
        let mut at = match side {
            Side::Left => self.nodes.first(),
            Side::Right => self.nodes.last(),
        };
        while let (Some(here), true) = (at, removed < limit) {
            let found = self.nodes.get(here).pack.count_matches(needle).min(limit - removed);
            removed += found;
            if found == 0 || found < self.nodes.get(here).count as usize {
                if found > 0 {
                    self.nodes
                        .edit(here, |node| node.count -= remove_matches(&mut node.pack, needle, side, found) as u32);
                }
                at = match side {
                    Side::Left => self.nodes.next(here),
                    Side::Right => self.nodes.prev(here),
                };
            } else {
                let next = self.nodes.remove(here);
                at = match (side, next) {
                    (Side::Left, next) => next,
                    (Side::Right, Some(next)) => self.nodes.prev(next),
                    (Side::Right, None) => self.nodes.last(),
                };
            }
        }
        removed
    }

    /// The first element equal to `needle`.
    pub(super) fn find(&self, needle: &[u8]) -> Option<(At, Pos)> {
        let mut next = self.nodes.first();
        while let Some(at) = next {
            let pack = &self.nodes.get(at).pack;
            if let Some(pos) = pack.find(needle, pack.first(), 0) {
                return Some((at, pos));
            }
            next = self.nodes.next(at);
        }
        None
    }

    /// Puts an element beside the one at `pos`: on its left or right.
    pub(super) fn insert(&mut self, at: At, pos: Pos, side: Side, element: &[u8], plain_from_bytes: usize) {
        let fill = self.fill(plain_from_bytes);
        let pack = &self.nodes.get(at).pack;
        // The entry ahead of which the element belongs; it may be the end.
        let border = match side {
            Side::Left => pos,
            Side::Right => pack.next(pos),
        };
        let is_at_edge = match side {
            Side::Left => border == pack.first(),
            Side::Right => border == pack.end(),
        };
        let is_plain = fill.is_large(element.len());
        if self.takes(at, fill, element.len()) {
            self.nodes.edit(at, |node| {
                node.pack.insert(border, element);
                node.count += 1;
            });
            return;
        }
        if is_at_edge {
            let neighbour = match side {
                Side::Left => self.nodes.prev(at),
                Side::Right => self.nodes.next(at),
            };
            match neighbour {
                Some(neighbour) if self.takes(neighbour, fill, element.len()) => self.nodes.edit(neighbour, |node| {
                    match side {
                        Side::Left => node.pack.push_back(element),
                        Side::Right => node.pack.push_front(element),
                    }
                    node.count += 1;
                }),
                _ => self.insert_beside(at, side, Node::of(element, is_plain)),
            }
            return;
        }
        // In the middle of a full node, or a large element in the middle.
        let number = self.nodes.number(at);
        self.split(at, border);
        if is_plain {
            self.nodes.insert(self.place(number + 1), Node::of(element, true));
            return;
        }
        let receiver = match side {
            Side::Left => number,
            Side::Right => number + 1,
        };
        self.nodes.edit(self.place(receiver), |node| {
            match side {
                Side::Left => node.pack.push_back(element),
                Side::Right => node.pack.push_front(element),
            }
            node.count += 1;
        });
        // Around the half that did not get the element: Valkey's choice.
        self.merge_around(2 * number + 1 - receiver, fill);
    }

    fn insert_beside(&mut self, at: At, side: Side, node: Node) {
        match side {
            Side::Left => self.nodes.insert(at, node),
            Side::Right => self.nodes.insert_after(Some(at), node),
        };
    }

    /// Replaces one element.
    pub(super) fn replace(&mut self, at: At, pos: Pos, element: &[u8], plain_from_bytes: usize) {
        let fill = self.fill(plain_from_bytes);
        let is_large = fill.is_large(element.len());
        let node = self.nodes.get(at);
        match (node.is_plain, is_large) {
            (false, false) => self.nodes.edit(at, |node| node.pack.replace(pos, element)),
            (true, true) => self.nodes.edit(at, |node| *node = Node::of(element, true)),
            (true, false) => {
                let number = self.nodes.number(at);
                self.insert(at, pos, Side::Right, element, plain_from_bytes);
                self.nodes.remove(self.place(number));
            }
            (false, true) => {
                let number = self.nodes.number(at);
                let after = node.pack.next(pos);
                if after != node.pack.end() {
                    self.split(at, after);
                }
                self.nodes.insert_after(Some(self.place(number)), Node::of(element, true));
                let at = self.place(number);
                let is_only = self.nodes.get(at).count == 1;
                self.remove_in(at, pos, 1);
                if !is_only {
                    self.merge_around(number + 1, fill);
                }
            }
        }
    }

    /// The place of a node by its number. Places move when nodes come and go; numbers are easier to follow.
    fn place(&self, number: usize) -> At {
        self.nodes.place(number)
    }

    /// Moves the elements from `pos` on, which is neither first nor end, to a new node behind.
    fn split(&mut self, at: At, pos: Pos) {
        let tail = self.nodes.edit(at, |node| {
            let tail = Node::packed(node.pack.split_off(pos));
            node.count -= tail.count;
            tail
        });
        self.nodes.insert_after(Some(at), tail);
    }

    /// Joins the node of number `center` with its neighbours, and these with theirs, where they fit into one.
    fn merge_around(&mut self, mut center: usize, fill: Fill) {
        if center >= 2 && self.try_join(center - 2, fill) {
            center -= 1;
        }
        self.try_join(center + 1, fill);
        if center >= 1 && self.try_join(center - 1, fill) {
            center -= 1;
        }
        self.try_join(center, fill);
    }

    /// Joins the node of number `left` with the next when both fit into one node.
    fn try_join(&mut self, left: usize, fill: Fill) -> bool {
        if left + 1 >= self.nodes.len() {
            return false;
        }
        let (left, right) = (self.place(left), self.place(left + 1));
        let (a, b) = (self.nodes.get(left), self.nodes.get(right));
        let bytes = a.bytes() + b.bytes() - EMPTY_BYTES;
        if a.is_plain || b.is_plain || fill.exceeds(bytes, (a.count + b.count) as usize) {
            return false;
        }
        let (tail, count) = (b.pack.clone(), b.count);
        self.nodes.edit(left, |node| {
            node.pack.append(&tail);
            node.count += count;
        });
        self.nodes.remove(right);
        true
    }
}
