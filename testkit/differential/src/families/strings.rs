// SPDX-License-Identifier: BSD-3-Clause
//! Patterns of the family `strings`.

use super::Family;

pub(super) const FAMILY: Family = Family { name: "strings", places: &[], setup: &[], patterns: PATTERNS };

const PATTERNS: &[&str] = &[
    "SET K V",
    "SET K V [NX|XX|GET|KEEPTTL|IFEQ V|]",
    "SET K V [EX S|PX M|EXAT S|PXAT S|] [NX|XX|GET|KEEPTTL|]",
    "SET K V [GET|] [NX|XX|] [EX S|]",
    "GET K",
    "GETSET K V",
    "GETDEL K",
    "GETEX K",
    "GETEX K [EX S|PX M|PERSIST|EXAT S|PXAT S]",
    "SETNX K V",
    "SETEX K S V",
    "PSETEX K M V",
    "MSET K V K V",
    "MSET K V K",
    "MSETNX K V K V",
    "MGET K K K",
    "APPEND K V",
    "STRLEN K",
    "SETRANGE K O V",
    "GETRANGE K N N",
    "SUBSTR K N N",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "INCRBYFLOAT K V",
    "LCS K K",
    "LCS K K [LEN|IDX|IDX WITHMATCHLEN|IDX MINMATCHLEN N|LEN IDX]",
    "DELIFEQ K V",
    "MSETEX 2 K V K V [NX|XX|] [EX S|PX M|KEEPTTL|]",
    "MSETEX N K V",
    "SET K",
    "GET",
    "GET K K",
];
