// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets: updates, ranks and ranges in a set of a million members, and in small ones; members of several lengths.

use super::{Family, Fill, Shape, Speed};

pub(super) const FAMILY: Family = Family { name: "zsets", speed: SPEED, talks: &[], memory: MEMORY };

/// A million members `element:000000000000` and so on, with their numbers as scores.
const LARGE: Fill =
    Fill { keys: 1, elements: 1_000_000, batch: 100, head: "ZADD zset:{k}", each: "{n} element:{n012}" };
/// Many small sets: one listpack each.
const SMALL: Fill = Fill { keys: 10_000, elements: 20, batch: 20, head: "ZADD zset:{k}", each: "{n} {n8}" };

const SPEED: &[Speed] = &[
    Speed {
        name: "ZADD, new",
        fill: &[LARGE],
        command: "ZADD zset:0 __rand_int__ new:__rand_int__",
        range: 1_000_000_000,
        requests: 200_000,
    },
    Speed {
        name: "ZADD, another score",
        fill: &[LARGE],
        command: "ZADD zset:0 __rand_int__ element:__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "ZINCRBY",
        fill: &[LARGE],
        command: "ZINCRBY zset:0 10000 element:__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "ZSCORE",
        fill: &[LARGE],
        command: "ZSCORE zset:0 element:__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "ZRANK",
        fill: &[LARGE],
        command: "ZRANK zset:0 element:__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "ZRANGEBYSCORE, 10 of them",
        fill: &[LARGE],
        command: "ZRANGEBYSCORE zset:0 __rand_int__ +inf LIMIT 0 10",
        range: 1_000_000,
        requests: 100_000,
    },
    Speed {
        name: "ZRANGE 100 WITHSCORES",
        fill: &[LARGE],
        command: "ZRANGE zset:0 0 99 WITHSCORES",
        range: 1,
        requests: 60_000,
    },
    Speed { name: "ZPOPMIN", fill: &[LARGE], command: "ZPOPMIN zset:0", range: 1, requests: 40_000 },
    Speed {
        name: "ZADD, small",
        fill: &[SMALL],
        command: "ZADD small:__rand_int__ __rand_int__ xxxxxxxx",
        range: 50_000,
        requests: 200_000,
    },
    Speed { name: "ZRANGE 20, small", fill: &[SMALL], command: "ZRANGE zset:7 0 -1", range: 1, requests: 100_000 },
];

const MEMORY: &[Shape] = &[
    Shape { name: "listpack of 20 x 8 bytes", fill: Fill { keys: 50_000, ..SMALL } },
    Shape { name: "listpack of 100", fill: Fill { keys: 5000, elements: 100, batch: 100, ..SMALL } },
    Shape { name: "skiplist of 200 x 8 bytes", fill: Fill { keys: 2000, elements: 200, batch: 100, ..SMALL } },
    Shape { name: "skiplist, 8 bytes", fill: Fill { each: "{n} {n8}", ..LARGE } },
    Shape { name: "skiplist, 16 bytes", fill: Fill { each: "{n}.5 {n16}", ..LARGE } },
    Shape { name: "skiplist, 40 bytes", fill: Fill { each: "{n} {n40}", ..LARGE } },
    Shape { name: "skiplist, 200 bytes", fill: Fill { each: "{n} {n200}", ..LARGE } },
    Shape { name: "skiplist, 1000 bytes", fill: Fill { elements: 100_000, each: "{n} {n1000}", ..LARGE } },
    Shape { name: "skiplist, one score", fill: Fill { each: "0 {n16}", ..LARGE } },
];
