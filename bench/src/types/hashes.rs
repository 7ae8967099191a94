// SPDX-License-Identifier: BSD-3-Clause
//! Hashes: small ones and large ones, with times of fields and without.

use super::{Family, Fill, Shape, Speed};

pub(super) const FAMILY: Family = Family { name: "hashes", speed: SPEED, talks: &[], memory: MEMORY };

/// Many objects of ten fields: one listpack each.
const SMALL: Fill = Fill { keys: 50_000, elements: 10, batch: 10, head: "HSET small:{k}", each: "field{n} {n16}" };
/// One hash of a million fields.
const LARGE: Fill = Fill { keys: 1, elements: 1_000_000, batch: 100, head: "HSET large:{k}", each: "field:{n} {n32}" };
/// The same with a day's time for each field.
const VOLATILE: Fill = Fill { head: "HSETEX volatile:{k} EX 86400 FIELDS 100", ..LARGE };

const SPEED: &[Speed] = &[
    Speed {
        name: "HSET, small",
        fill: &[SMALL],
        command: "HSET small:__rand_int__ field:7 xxxxxxxx__rand_int__",
        range: 50_000,
        requests: 200_000,
    },
    Speed {
        name: "HSET, large",
        fill: &[LARGE],
        command: "HSET large:0 field:__rand_int__ xxxxxxxxxxxxxxxx__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed { name: "HGET, small", fill: &[SMALL], command: "HGET small:7 field7", range: 1, requests: 200_000 },
    Speed {
        name: "HGET, large",
        fill: &[LARGE, Fill { elements: 100_000, each: "field:{n} {n32}", head: "HSET other:{k}", ..LARGE }],
        command: "HGET large:0 field:__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed { name: "HGETALL 10", fill: &[SMALL], command: "HGETALL small:7", range: 1, requests: 100_000 },
    Speed {
        name: "HGETALL 100, listpack",
        fill: &[Fill { keys: 10, elements: 100, batch: 100, ..SMALL }],
        command: "HGETALL small:7",
        range: 1,
        requests: 60_000,
    },
    Speed {
        name: "HGETALL 1000, hashtable",
        fill: &[Fill { keys: 10, elements: 1000, ..LARGE }],
        command: "HGETALL large:7",
        range: 1,
        requests: 10_000,
    },
    Speed {
        name: "HMGET 5, small",
        fill: &[SMALL],
        command: "HMGET small:7 field1 field3 field5 field7 field9",
        range: 1,
        requests: 100_000,
    },
    Speed { name: "HINCRBY, small", fill: &[SMALL], command: "HINCRBY small:7 counter 1", range: 1, requests: 200_000 },
    Speed {
        name: "HDEL of nothing, large",
        fill: &[LARGE],
        command: "HDEL large:0 nosuch:__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "HSETEX, large",
        fill: &[VOLATILE],
        command: "HSETEX volatile:0 EX 100000 FIELDS 1 field:__rand_int__ xxxxxxxxxxxxxxxx__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "HEXPIRE, large",
        fill: &[Fill { each: "{n} {n32}", ..VOLATILE }],
        command: "HEXPIRE volatile:0 100000 FIELDS 1 777",
        range: 1,
        requests: 200_000,
    },
    Speed {
        name: "HGET of a volatile field",
        fill: &[Fill { each: "{n} {n32}", ..VOLATILE }],
        command: "HGET volatile:0 777",
        range: 1,
        requests: 200_000,
    },
];

const MEMORY: &[Shape] = &[
    Shape { name: "listpack of 10 fields, 16 bytes", fill: SMALL },
    Shape {
        name: "listpack of 100 integers",
        fill: Fill { keys: 10_000, elements: 100, batch: 100, each: "field{n} {n}", ..SMALL },
    },
    Shape { name: "hashtable of 1M, 8 bytes", fill: Fill { each: "field:{n} {n8}", ..LARGE } },
    Shape { name: "hashtable of 1M, 32 bytes", fill: LARGE },
    Shape { name: "hashtable of 1M, 200 bytes", fill: Fill { each: "field:{n} {n200}", ..LARGE } },
    Shape { name: "hashtable of 1M, integers", fill: Fill { each: "{n} {n}", ..LARGE } },
    Shape { name: "hashtables of 600, 32 bytes", fill: Fill { keys: 1000, elements: 600, ..LARGE } },
    Shape { name: "hashtable of 1M with times", fill: VOLATILE },
    Shape { name: "hashtables of 600 with times", fill: Fill { keys: 1000, elements: 600, ..VOLATILE } },
    Shape {
        name: "hashtables of 3 with times",
        fill: Fill {
            keys: 50_000,
            elements: 3,
            batch: 3,
            head: "HSETEX volatile:{k} EX 86400 FIELDS 3",
            each: "field{n} {n16}",
        },
    },
    Shape { name: "hashtable, 10 KB values", fill: Fill { elements: 5000, batch: 10, each: "{n} {n10000}", ..LARGE } },
];
