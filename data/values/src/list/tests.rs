// SPDX-License-Identifier: BSD-3-Clause
//! Against a vector, through all thresholds.

use super::{Form, List, NodeRef, Side};
use crate::collection::Collection;
use crate::encoding::Encoding;
use crate::limits::Limits;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn side(&mut self) -> Side {
        if self.below(2) == 0 { Side::Left } else { Side::Right }
    }

    fn element(&mut self) -> Vec<u8> {
        match self.below(6) {
            0 => self.below(10).to_string().into_bytes(),
            1 => self.below(1_000_000).to_string().into_bytes(),
            2 => vec![b'x'; self.below(300)],
            3 if self.below(30) == 0 => vec![b'y'; 4000 + self.below(200)],
            4 if self.below(60) == 0 => vec![b'z'; 8100 + self.below(200)],
            _ => format!("v{}", self.below(12)).into_bytes(),
        }
    }
}

fn check_against(list: &List, model: &[Vec<u8>]) {
    assert_eq!(list.len(), model.len());
    assert_eq!(list.is_empty(), model.is_empty());
    assert!(list.iter().map(|element| element.to_vec()).eq(model.iter().cloned()));
    let last = model.len().saturating_sub(1);
    assert!(list.iter_from(last, Side::Left).map(|element| element.to_vec()).eq(model.iter().rev().cloned()));
    if let Form::Quick(quick) = &list.0 {
        quick.nodes.check_invariants();
    }
    let nodes: usize = list
        .nodes()
        .map(|node| match node {
            NodeRef::Packed(pack) => pack.len(),
            NodeRef::Plain(_) => 1,
        })
        .sum();
    assert_eq!(nodes, if list.encoding() == Encoding::QuickList { model.len() } else { 0 });
}

fn random_step(random: &mut Random, list: &mut List, model: &mut Vec<Vec<u8>>, limits: &Limits) {
    let element = random.element();
    let index = random.below(model.len() + 1);
    let side = random.side();
    match random.below(16) {
        0..6 => {
            list.make_room(element.len(), 1, limits);
            list.push(side, &element, limits);
            let at = if side == Side::Left { 0 } else { model.len() };
            model.insert(at, element);
        }
        6..8 => {
            let popped = list.pop(side, |element| element.to_vec());
            let expected = match side {
                Side::Left if !model.is_empty() => Some(model.remove(0)),
                Side::Left => None,
                Side::Right => model.pop(),
            };
            assert_eq!(popped, expected);
            list.settle_smaller(limits);
        }
        8..10 => {
            list.make_room(element.len(), 1, limits);
            assert_eq!(list.set(index, &element, limits), index < model.len());
            if index < model.len() {
                model[index] = element;
            }
            list.settle_smaller(limits);
        }
        10..13 => {
            let pivot = random.element();
            list.make_room(element.len(), 1, limits);
            let found = model.iter().position(|own| *own == pivot);
            assert_eq!(list.insert(&pivot, side, &element, limits), found.is_some());
            if let Some(at) = found {
                model.insert(if side == Side::Left { at } else { at + 1 }, element);
            }
        }
        13 => {
            let limit = [1, 2, 3, usize::MAX][random.below(4)];
            let removed = list.remove_matching(&element, side, limit);
            let mut expected = 0;
            while expected < limit {
                let found = match side {
                    Side::Left => model.iter().position(|own| *own == element),
                    Side::Right => model.iter().rposition(|own| *own == element),
                };
                let Some(at) = found else { break };
                model.remove(at);
                expected += 1;
            }
            assert_eq!(removed, expected);
            list.settle_smaller(limits);
        }
        14 if random.below(8) == 0 => {
            let count = random.below(model.len() + 1);
            list.remove_range(index, count);
            let end = model.len().min(index + count);
            model.drain(index..end);
            list.settle_smaller(limits);
        }
        _ => {
            assert_eq!(list.get(index).map(|element| element.to_vec()).as_ref(), model.get(index));
            let rest = list.iter_from(index, Side::Left).map(|element| element.to_vec());
            assert!(rest.eq(model.iter().take(if index < model.len() { index + 1 } else { 0 }).rev().cloned()));
        }
    }
}

#[test]
fn random_operations_do_what_a_vector_does() {
    for (round, size) in [-2, -1, 1, 2, 5, 128, 0, -5, -2, 3].into_iter().enumerate() {
        let plain_from_bytes = if round % 3 == 2 { 100 } else { 0 };
        let limits =
            Limits { list_max_listpack_size: size, list_plain_from_bytes: plain_from_bytes, ..Limits::default() };
        let mut random = Random(0x9E37_79B9 + round as u64);
        let (mut list, mut model) = (List::new(), Vec::new());
        for step in 0..1500 {
            random_step(&mut random, &mut list, &mut model, &limits);
            if step % 7 == 0 {
                check_against(&list, &model);
            }
        }
        check_against(&list, &model);
    }
}

#[test]
fn a_clone_keeps_its_elements() {
    let limits = Limits { list_max_listpack_size: 4, ..Limits::default() };
    let mut random = Random(5);
    let (mut list, mut model) = (List::new(), Vec::new());
    for _ in 0..600 {
        random_step(&mut random, &mut list, &mut model, &limits);
    }
    let (copy, copied) = (list.clone(), model.clone());
    for _ in 0..300 {
        random_step(&mut random, &mut list, &mut model, &limits);
    }
    check_against(&list, &model);
    check_against(&copy, &copied);
    assert!(copy != list);
    assert!(copy == copy.clone());
}

#[test]
fn many_nodes_can_be_walked_split_and_joined() {
    let limits = Limits { list_max_listpack_size: 1, ..Limits::default() };
    let (mut list, mut model) = (List::new(), Vec::new());
    for i in 0..1000_u32 {
        list.make_room(4, 1, &limits);
        let (side, at) = if i % 3 == 0 { (Side::Left, 0) } else { (Side::Right, model.len()) };
        list.push(side, i.to_string().as_bytes(), &limits);
        model.insert(at, i.to_string().into_bytes());
    }
    check_against(&list, &model);
    assert_eq!(list.node_count(), 1000);
    for i in (0..1000_u32).rev().step_by(7) {
        assert!(list.insert(i.to_string().as_bytes(), Side::Left, b"new", &limits));
        let at = model.iter().position(|own| *own == i.to_string().as_bytes()).unwrap();
        model.insert(at, b"new".to_vec());
    }
    check_against(&list, &model);
    for index in (0..model.len()).step_by(37) {
        assert_eq!(list.get(index).map(|element| element.to_vec()).as_ref(), model.get(index));
    }
    for start in [900, 500, 20, 3] {
        list.remove_range(start, 190);
        let end = model.len().min(start + 190);
        model.drain(start..end);
        check_against(&list, &model);
    }
}

/// Encodings that valkey-server 9.1.2 showed for lists of ten-byte elements at `list-max-listpack-size`.
#[test]
fn forms_change_where_valkeys_do() {
    let check = |size: i32, side: Side, grown_at: usize, shrunk_at: usize| {
        let limits = Limits { list_max_listpack_size: size, ..Limits::default() };
        let mut list = List::new();
        while list.encoding() == Encoding::ListPack {
            list.make_room(10, 1, &limits);
            list.push(Side::Right, b"abcdefghij", &limits);
        }
        assert_eq!(list.len(), grown_at, "{size}");
        while list.encoding() == Encoding::QuickList {
            list.pop(side, |_| ());
            list.settle_smaller(&limits);
        }
        assert_eq!(list.len(), shrunk_at, "{size}");
    };
    check(-1, Side::Left, 341, 1);
    check(-1, Side::Right, 341, 170);
    check(-2, Side::Left, 683, 1);
    check(-2, Side::Right, 683, 340);
    check(5, Side::Left, 6, 1);
    check(5, Side::Right, 6, 2);
    check(128, Side::Left, 129, 1);
    check(128, Side::Right, 129, 64);
}

#[test]
fn the_handle_is_small() {
    assert_eq!(size_of::<List>(), 16);
    assert_eq!(size_of::<super::nodes::Node>(), 16);
}
