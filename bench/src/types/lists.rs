// SPDX-License-Identifier: BSD-3-Clause
//! Lists: pushes and pops at both ends, ranges; small lists and large ones.

use super::{Family, Fill, Shape, Speed};

pub(super) const FAMILY: Family = Family { name: "lists", speed: SPEED, talks: &[], memory: MEMORY };

/// A list of redis-benchmark's size: large form.
const LARGE: Fill = Fill { keys: 1, elements: 100_000, batch: 100, head: "RPUSH list:{k}", each: "{n32}" };
/// Many small lists: one listpack each.
const SMALL: Fill = Fill { keys: 10_000, elements: 20, batch: 20, head: "RPUSH list:{k}", each: "{n8}" };

const SPEED: &[Speed] = &[
    Speed {
        name: "LPUSH",
        fill: &[LARGE],
        command: "LPUSH list:0 xxxxxxxx__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "RPUSH",
        fill: &[LARGE],
        command: "RPUSH list:0 xxxxxxxx__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "LPUSH, small",
        fill: &[SMALL],
        command: "LPUSH small:__rand_int__ xxxxxxxx",
        range: 50_000,
        requests: 200_000,
    },
    Speed {
        name: "LPOP",
        fill: &[Fill { elements: 1_000_000, ..LARGE }],
        command: "LPOP list:0",
        range: 1,
        requests: 60_000,
    },
    Speed {
        name: "RPOP",
        fill: &[Fill { elements: 1_000_000, ..LARGE }],
        command: "RPOP list:0",
        range: 1,
        requests: 60_000,
    },
    Speed {
        name: "LMOVE, rotating",
        fill: &[LARGE],
        command: "LMOVE list:0 list:0 LEFT RIGHT",
        range: 1,
        requests: 100_000,
    },
    Speed { name: "LINDEX, middle", fill: &[LARGE], command: "LINDEX list:0 50000", range: 1, requests: 100_000 },
    Speed { name: "LRANGE 100", fill: &[LARGE], command: "LRANGE list:0 0 99", range: 1, requests: 60_000 },
    Speed { name: "LRANGE 600", fill: &[LARGE], command: "LRANGE list:0 0 599", range: 1, requests: 30_000 },
    Speed { name: "LRANGE 20, small", fill: &[SMALL], command: "LRANGE list:7 0 -1", range: 1, requests: 100_000 },
    Speed { name: "LPOS, small", fill: &[SMALL], command: "LPOS list:7 xxxxxx10", range: 1, requests: 100_000 },
];

const MEMORY: &[Shape] = &[
    Shape { name: "listpack of 20 x 8 bytes", fill: Fill { keys: 50_000, ..SMALL } },
    Shape {
        name: "listpack of 100 integers",
        fill: Fill { keys: 10_000, elements: 100, batch: 100, each: "{n}", ..SMALL },
    },
    Shape { name: "quicklist, 8 bytes", fill: Fill { elements: 1_000_000, each: "{n8}", ..LARGE } },
    Shape { name: "quicklist, 32 bytes", fill: Fill { elements: 1_000_000, ..LARGE } },
    Shape { name: "quicklist, 200 bytes", fill: Fill { elements: 1_000_000, each: "{n200}", ..LARGE } },
    Shape { name: "quicklist, pushed left", fill: Fill { elements: 1_000_000, head: "LPUSH list:{k}", ..LARGE } },
    Shape { name: "quicklist of 3 nodes", fill: Fill { keys: 1000, elements: 500, each: "{n32}", ..LARGE } },
    Shape { name: "quicklist, 10 KB elements", fill: Fill { elements: 5000, batch: 10, each: "{n10000}", ..LARGE } },
];
