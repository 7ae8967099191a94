// SPDX-License-Identifier: BSD-3-Clause
//! The small form of a sorted set: a listpack of member, score, member, score, ... in order, with scores written as Valkey
//! writes them. Not here: when it is left.

use crate::IntText;
use crate::listpack::{Element, ListPack, Pos};
use pando_resp::num::FloatBuf;

/// Scores up to this are written as integers where they are whole; a negative zero becomes zero.
const INTEGER_MAX: f64 = (i64::MAX / 2) as f64;

/// Bytes of a score at most, with what the listpack adds.
const SCORE_ENTRY_MAX: usize = 40;

/// The score that an element stands for; zero for what is no number, which only foreign bytes can hold.
#[inline]
pub(super) fn score_of(element: Element<'_>) -> f64 {
    match element {
        Element::Int(int) => int as f64,
        Element::Str(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0),
    }
}

/// Whether the listpack is pairs, with scores that are numbers.
pub(super) fn is_valid(pack: &ListPack) -> bool {
    let mut elements = pack.iter();
    while elements.next().is_some() {
        match elements.next() {
            Some(score) if !score_of(score).is_nan() => {}
            _ => return false,
        }
    }
    true
}

/// The elements in order.
pub(super) fn pairs(pack: &ListPack) -> impl Iterator<Item = (Element<'_>, f64)> {
    let mut elements = pack.iter();
    std::iter::from_fn(move || Some((elements.next()?, score_of(elements.next()?))))
}

/// Whether another member leaves the listpack within its own limits.
pub(super) fn fits(pack: &ListPack, member: &[u8]) -> bool {
    pack.may_add(member.len().saturating_add(16 + SCORE_ENTRY_MAX))
}

pub(super) fn find(pack: &ListPack, member: &[u8]) -> Option<(Pos, f64)> {
    let pos = pack.find(member, pack.first(), 1)?;
    Some((pos, score_of(pack.at(pack.next(pos))?)))
}

pub(super) fn rank(pack: &ListPack, member: &[u8]) -> Option<(usize, f64)> {
    let (pos, score) = find(pack, member)?;
    Some((pack.iter_until(pos).count() / 2, score))
}

/// The ranks where `is_below` ends and `is_above` begins.
pub(super) fn ranks(
    pack: &ListPack,
    mut is_below: impl FnMut(f64, Element<'_>) -> bool,
    mut is_above: impl FnMut(f64, Element<'_>) -> bool,
) -> (usize, usize) {
    let mut pairs = pairs(pack);
    let mut rank = 0;
    let mut next = pairs.next();
    while let Some((member, score)) = next
        && is_below(score, member)
    {
        rank += 1;
        next = pairs.next();
    }
    let start = rank;
    while let Some((member, score)) = next
        && !is_above(score, member)
    {
        rank += 1;
        next = pairs.next();
    }
    (start, rank)
}

/// Inserts a member that is not there, where it belongs.
pub(super) fn insert(pack: &mut ListPack, member: &[u8], score: f64) {
    let mut text = IntText::new();
    let mut pos = pack.first();
    while let Some(other) = pack.at(pos) {
        let other_score_at = pack.next(pos);
        let other_score = pack.at(other_score_at).map_or(0.0, score_of);
        if other_score > score || (other_score == score && other.as_bytes(&mut text) > member) {
            break;
        }
        pos = pack.next(other_score_at);
    }
    pack.insert(pos, member);
    let score_at = pack.next(pos);
    write_score(pack, score_at, score);
}

/// Appends a member that is behind all others.
pub(super) fn push(pack: &mut ListPack, member: &[u8], score: f64) {
    pack.push_back(member);
    let end = pack.end();
    write_score(pack, end, score);
}

fn write_score(pack: &mut ListPack, at: Pos, score: f64) {
    if score.abs() <= INTEGER_MAX && score == score.trunc() {
        pack.insert_int(at, score as i64);
    } else {
        pack.insert(at, FloatBuf::new().format(score).as_bytes());
    }
}
