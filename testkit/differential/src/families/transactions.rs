// SPDX-License-Identifier: BSD-3-Clause
//! Patterns of the family `transactions`.

use super::Family;

pub(super) const FAMILY: Family = Family { name: "transactions", places: &[], setup: &[], patterns: PATTERNS };

const PATTERNS: &[&str] = &[
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH K",
    "WATCH K K",
    "UNWATCH",
    "SET K V",
    "INCR K",
    "GET K",
    "GET",
    "NOSUCH",
    "MGET K K",
    "DEL K",
    "EXPIRE K S",
    "SELECT [0|1]",
    "FLUSHDB",
    "DBSIZE",
    "SWAPDB 0 1",
    "PING",
    "WATCH",
];
