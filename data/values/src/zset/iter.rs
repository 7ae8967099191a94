// SPDX-License-Identifier: BSD-3-Clause
//! Walks over the elements of a sorted set of either form.

use super::walk::Walk;
use super::{Form, small};
use crate::listpack::{self, Element};
use std::ops::Range;

/// Elements with their scores, in order or backwards.
#[derive(Clone)]
pub struct Iter<'a>(Inner<'a>);

#[derive(Clone)]
enum Inner<'a> {
    Forward { elements: listpack::Iter<'a>, left: usize },
    Backward { elements: listpack::Iter<'a>, left: usize },
    Large(Walk<'a>),
}

impl<'a> Iter<'a> {
    pub(super) fn new(form: &'a Form, ranks: Range<usize>, reverse: bool) -> Iter<'a> {
        let left = ranks.end.saturating_sub(ranks.start);
        let last = ranks.end.saturating_sub(1);
        Iter(match form {
            Form::Large(large) if !reverse => Inner::Large(large.walk(ranks.start, left, false)),
            Form::Large(large) => {
                let last = last.min(large.len().saturating_sub(1));
                Inner::Large(large.walk(last, (last + 1).saturating_sub(ranks.start).min(left), true))
            }
            Form::Small(pack) => {
                let at = |rank: usize| {
                    let index = isize::try_from(rank).ok().and_then(|rank| rank.checked_mul(2));
                    index.and_then(|index| pack.seek(index)).unwrap_or(pack.end())
                };
                if reverse {
                    let left = left.min((pack.len() / 2).saturating_sub(ranks.start));
                    Inner::Backward { elements: pack.iter_until(at(ranks.end)), left }
                } else {
                    Inner::Forward { elements: pack.iter_from(at(ranks.start)), left }
                }
            }
        })
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Inner::Forward { elements, left } => {
                *left = left.checked_sub(1)?;
                Some((elements.next()?, small::score_of(elements.next()?)))
            }
            Inner::Backward { elements, left } => {
                *left = left.checked_sub(1)?;
                let score = small::score_of(elements.next_back()?);
                Some((elements.next_back()?, score))
            }
            Inner::Large(walk) => walk.next().map(|(member, score)| (Element::Str(member), score)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Inner::Forward { left, .. } | Inner::Backward { left, .. } => (0, Some(*left)),
            Inner::Large(walk) => (walk.remaining(), Some(walk.remaining())),
        }
    }
}
