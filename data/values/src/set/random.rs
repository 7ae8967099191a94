// SPDX-License-Identifier: BSD-3-Clause
//! Random members: one, several with or without repetition, and taking them out.

use super::{Form, Set, bytes_of};
use crate::collection::Collection;
use crate::dict::KeyDict;
use crate::intset::IntSet;
use crate::limits::Limits;
use crate::listpack::{Element, ListPack};
use crate::random::random_below;
use crate::value::IntText;

/// Taking members out one by one pays off as long as more than this part of the number taken is left.
const LEFT_MIN: usize = 5;
/// Drawing until there are enough different members pays off as long as the set has so many times more.
const DRAW_MAX: usize = 3;

impl Set {
    /// A member, each as likely as any other.
    pub fn random(&self) -> Option<Element<'_>> {
        match &self.0 {
            Form::Ints(ints) => ints.get(random_below(ints.len())).map(Element::Int),
            Form::Pack(pack) => pack.get(random_below(pack.len()).cast_signed()),
            Form::Table(table) => table.random().map(|(member, _)| Element::Str(member)),
        }
    }

    /// Hands `count` different members to `emit`, all of them when there are no more; each choice is as likely as any
    /// other.
    pub fn sample(&self, count: usize, emit: &mut dyn FnMut(Element<'_>)) {
        if count >= self.len() {
            self.iter().for_each(emit);
        } else if matches!(self.0, Form::Pack(_)) || count.saturating_mul(DRAW_MAX) > self.len() {
            let mut pick = Pick::new(count, self.len());
            self.iter().filter(|_| pick.next()).for_each(emit);
        } else {
            let mut drawn = KeyDict::new();
            let mut text = IntText::new();
            while drawn.len() < count {
                let Some(member) = self.random() else { return };
                drawn.insert_new(bytes_of(member, &mut text), &[]);
            }
            drawn.iter().for_each(|(member, _)| emit(Element::Str(member)));
        }
    }

    /// Removes a random member and hands it out.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        match &mut self.0 {
            Form::Ints(ints) => {
                let int = ints.get(random_below(ints.len()))?;
                ints.remove(int);
                Some(IntText::new().format(int).as_bytes().to_vec())
            }
            Form::Pack(pack) => {
                let pos = pack.seek(random_below(pack.len()).cast_signed())?;
                let member = pack.at(pos)?.to_vec();
                pack.remove(pos, 1);
                Some(member)
            }
            Form::Table(table) => {
                let member = table.random()?.0.to_vec();
                table.remove(&member);
                Some(member)
            }
        }
    }

    /// Removes `count` random members, fewer than there are, and hands them to `emit`. When most are taken, those that are
    /// left become a new set, in a form of its own.
    pub fn pop_many(&mut self, count: usize, limits: &Limits, emit: &mut dyn FnMut(Element<'_>)) {
        let left = self.len().saturating_sub(count);
        let takes_most = left.saturating_mul(LEFT_MIN) <= count;
        match &mut self.0 {
            Form::Pack(pack) => {
                let mut pick = Pick::new(left, pack.len());
                let mut rest = Self::new_pack();
                for member in pack.iter() {
                    match (pick.next(), &mut rest.0) {
                        (false, _) => emit(member),
                        (true, Form::Pack(rest)) if !takes_most => rest.push_back_element(member),
                        (true, _) => {
                            rest.add_element(member, limits);
                        }
                    }
                }
                *self = rest;
            }
            Form::Ints(ints) if takes_most => {
                let mut pick = Pick::new(left, ints.len());
                let mut rest = Self(Form::Ints(IntSet::new()));
                for int in ints.iter() {
                    if pick.next() {
                        rest.add_element(Element::Int(int), limits);
                    } else {
                        emit(Element::Int(int));
                    }
                }
                *self = rest;
            }
            Form::Table(table) if takes_most => {
                let mut pick = Pick::new(left, table.len());
                let mut rest = Self(Form::Pack(ListPack::new()));
                for (member, _) in table.iter() {
                    if pick.next() {
                        rest.add(member, limits);
                    } else {
                        emit(Element::Str(member));
                    }
                }
                *self = rest;
            }
            Form::Ints(_) | Form::Table(_) => {
                for _ in 0..count {
                    if let Some(member) = self.pop() {
                        emit(Element::Str(&member));
                    }
                }
            }
        }
    }
}

/// Chooses so many of a known number of things that are gone through once; each choice is as likely as any other.
struct Pick {
    wanted: usize,
    to_come: usize,
}

impl Pick {
    fn new(wanted: usize, of: usize) -> Self {
        Self { wanted, to_come: of }
    }

    /// Whether the next one is chosen.
    fn next(&mut self) -> bool {
        let is_chosen = random_below(self.to_come) < self.wanted;
        self.to_come = self.to_come.saturating_sub(1);
        self.wanted -= usize::from(is_chosen);
        is_chosen
    }
}
