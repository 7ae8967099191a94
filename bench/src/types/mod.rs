// SPDX-License-Identifier: BSD-3-Clause
//! What `bench types` measures of the data types: one file per family with its two tables, one line in [`FAMILIES`].

mod hashes;
mod lists;
mod run;
mod sets;
mod streams;
mod zsets;

pub use run::{Memory, memory_of, speed_of};

/// Commands that make data: `head` with the values of `each` behind it, `batch` of them per command.
///
/// In `head` and `each`, `{k}` is the number of the key, `{n}` the number of the element, and `{n32}` the same padded at
/// its left to 32 bytes with `x`, so that it is no integer (`{n032}`: with zeros, as redis-benchmark writes numbers). `__rand_int__` stays for redis-benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub keys: u64,
    /// Elements of each key.
    pub elements: u64,
    /// Elements per command.
    pub batch: u64,
    /// Command and key, such as `RPUSH list:{k}`.
    pub head: &'static str,
    /// Words of one element, such as `field:{n} {n32}`.
    pub each: &'static str,
}

/// One command whose server time is measured.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    pub name: &'static str,
    /// What is there before.
    pub fill: &'static [Fill],
    /// The command, in redis-benchmark's words: `__rand_int__` is a number below `range`, in twelve digits.
    pub command: &'static str,
    pub range: u64,
    /// Requests per round, without a factor for the pipeline.
    pub requests: u64,
}

/// One data set whose bytes are measured.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub fill: Fill,
}

/// The rows of one family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub speed: &'static [Speed],
    pub memory: &'static [Shape],
}

/// All families.
pub const FAMILIES: &[Family] = &[lists::FAMILY, sets::FAMILY, streams::FAMILY, zsets::FAMILY, hashes::FAMILY];
