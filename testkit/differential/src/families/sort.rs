// SPDX-License-Identifier: BSD-3-Clause
//! Patterns of the family `sort`. Sets stay small and of integers, or are sorted by what tells all elements apart: where
//! elements are equal, Valkey's order is that of its hash table.

use super::Family;

pub(super) const FAMILY: Family = Family { name: "sort", places: PLACES, setup: SETUP, patterns: PATTERNS };

const SETUP: &[&str] = &[
    "MSET w_1 30 w_2 10 w_3 20 w_a x w_b nan name_1 one name_2 two name_3 three name_a A",
    "HSET h_1 f 3 g three",
    "HSET h_2 f 1 g one",
    "HSET h_3 f 2",
];

const PLACES: &[(&str, &[&str])] = &[
    ("K", &["list", "list", "set", "zset", "ints", "string", "nokey", "dst"]),
    ("NUM", &["1", "2", "3", "10", "-5", "1.5", "2e1", "inf", "-inf"]),
    ("TEXT", &["a", "b", "B", "aa", "", "3", "zz"]),
    ("L", &["0", "1", "2", "-1", "3", "10", "x", "9223372036854775807"]),
];

const PATTERNS: &[&str] = &[
    "RPUSH list NUM",
    "RPUSH list NUM NUM TEXT",
    "RPUSH list 1 2 3",
    "SADD ints [1|2|3|10|20|-5]",
    "SADD set [1|2|3|a|b|10|zz]",
    "ZADD zset NUM [1|2|3]",
    "ZADD zset NUM [a|b|10]",
    "DEL K",
    "LTRIM list 0 5",
    "SET string 1",
    "SORT K",
    "SORT K [ASC|DESC|desc|x]",
    "SORT K ALPHA [DESC|ASC|]",
    "SORT K LIMIT L L",
    "SORT K ALPHA LIMIT L L [DESC|]",
    "SORT list BY w_* [DESC|] [LIMIT 1 2|]",
    "SORT ints BY w_* [GET #|GET name_*|]",
    "SORT list BY h_*->f GET # GET h_*->g",
    "SORT list BY h_*->f GET # GET h_*->g GET nostar GET #",
    "SORT list BY h_*->",
    "SORT list BY name_*->f",
    "SORT [list|zset] BY nosort [DESC|] [LIMIT L L|]",
    "SORT ints BY nosort [GET name_*|]",
    "SORT K BY nosort GET # STORE dst",
    "SORT K BY nosort DESC STORE dst",
    "SORT list BY w_* BY nosort",
    "SORT list BY nosort BY w_*",
    "SORT list BY #",
    "SORT K STORE dst",
    "SORT K ALPHA STORE dst",
    "SORT K [ALPHA|] GET name_* GET # STORE dst",
    "SORT K STORE list",
    "SORT_RO K",
    "SORT_RO K ALPHA LIMIT 0 2",
    "SORT_RO K STORE dst",
    "SORT K [BY|GET|STORE|LIMIT 1|LIMIT|GET # BY]",
    "LRANGE dst 0 -1",
    "OBJECT ENCODING dst",
    "TYPE dst",
    "CONFIG SET list-max-listpack-size [-2|3]",
    "EXISTS K",
];
