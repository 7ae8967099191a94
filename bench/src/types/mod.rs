// SPDX-License-Identifier: BSD-3-Clause
//! What `bench types` measures of the data types: one file per family with its two tables, one line in [`FAMILIES`].

mod hashes;
mod lists;
mod mixed;
mod run;
mod sessions;
mod sets;
mod streams;
mod strings;
mod talk;
mod zsets;

pub use run::{Memory, memory_of, speed_of};
pub use talk::talk_cost;

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

/// What several connections say in turns, where one command over and over is not enough.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    pub name: &'static str,
    /// What is there before.
    pub fill: &'static [Fill],
    /// Connections that hear something because of the commands.
    pub listeners: u32,
    /// What each listener sends once; `{k}` is its number.
    pub enters: &'static str,
    /// What each listener sends in each turn; if nothing, it hears of every command of all speakers, else it is answered.
    pub asks: &'static str,
    /// Connections that send the commands.
    pub speakers: u32,
    /// One request: commands with `;` between them; `{k}` is the speaker's number.
    pub commands: &'static str,
    /// Requests per round.
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
    pub talks: &'static [Talk],
    pub memory: &'static [Shape],
}

/// All families.
pub const FAMILIES: &[Family] = &[
    strings::FAMILY,
    lists::FAMILY,
    hashes::FAMILY,
    sets::FAMILY,
    zsets::FAMILY,
    streams::FAMILY,
    mixed::FAMILY,
    sessions::FAMILY,
];
