// SPDX-License-Identifier: BSD-3-Clause
//! The families of commands: one file and one line for each.

mod bitmaps;
mod dump;
mod generic;
mod geo;
mod hash_expire;
mod hashes;
mod hyperloglog;
mod lists;
mod mixed;
mod sets;
mod sort;
mod streams;
mod strings;
mod transactions;
mod zsets;

/// What the generator draws from.
pub struct Family {
    /// Its name, as the test has it.
    pub name: &'static str,
    /// Places of its own, which go before the general ones: a word of a pattern and what may stand there.
    pub places: &'static [(&'static str, &'static [&'static str])],
    /// Commands that every sequence begins with.
    pub setup: &'static [&'static str],
    /// Patterns of commands: literal words and places that are filled in. `K` a key, `V` a value, `N` an integer, `S` a
    /// time in seconds, `M` one in milliseconds, `O` an offset, `B` a bit; `[a|b|]` one of these or nothing.
    pub patterns: &'static [&'static str],
}

/// All families.
pub const FAMILIES: &[Family] = &[
    strings::FAMILY,
    bitmaps::FAMILY,
    dump::FAMILY,
    generic::FAMILY,
    hashes::FAMILY,
    hash_expire::FAMILY,
    hyperloglog::FAMILY,
    lists::FAMILY,
    sets::FAMILY,
    sort::FAMILY,
    streams::FAMILY,
    transactions::FAMILY,
    zsets::FAMILY,
    geo::FAMILY,
    mixed::FAMILY,
];
