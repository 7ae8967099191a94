// SPDX-License-Identifier: BSD-3-Clause
//! Strings and what is made of them: counters, bits, HyperLogLogs.

use super::{Family, Fill, Shape, Speed};

pub(super) const FAMILY: Family = Family { name: "strings", speed: SPEED, talks: &[], memory: MEMORY };

const KEYS: Fill = Fill { keys: 100_000, elements: 1, batch: 1, head: "SET key:{k}", each: "{n80}" };
/// Two dense HyperLogLogs.
const DENSE: Fill = Fill { keys: 2, elements: 10_000, batch: 100, head: "PFADD hll:{k}", each: "{n8}" };
/// A sparse one each.
const SPARSE: Fill = Fill { keys: 10_000, elements: 10, batch: 10, head: "PFADD hll:{k}", each: "{n8}" };

const SPEED: &[Speed] = &[
    Speed { name: "GET", fill: &[KEYS], command: "GET key:777", range: 1, requests: 200_000 },
    Speed { name: "SET", fill: &[], command: "SET key:__rand_int__ value", range: 100_000, requests: 200_000 },
    Speed { name: "INCR", fill: &[], command: "INCR counter:__rand_int__", range: 100_000, requests: 200_000 },
    Speed { name: "INCR, one key", fill: &[], command: "INCR counter", range: 1, requests: 200_000 },
    Speed { name: "APPEND", fill: &[], command: "APPEND key:__rand_int__ xxxxxxxx", range: 10_000, requests: 200_000 },
    Speed { name: "GETRANGE", fill: &[KEYS], command: "GETRANGE key:777 10 50", range: 1, requests: 200_000 },
    Speed {
        name: "MGET 10",
        fill: &[KEYS],
        command: "MGET key:1 key:2 key:3 key:4 key:5 key:6 key:7 key:8 key:9 key:10",
        range: 1,
        requests: 60_000,
    },
    Speed {
        name: "MSET 10",
        fill: &[],
        command: "MSET a:__rand_int__ v b:__rand_int__ v c:__rand_int__ v d:__rand_int__ v e:__rand_int__ v f:__rand_int__ v g:__rand_int__ v h:__rand_int__ v i:__rand_int__ v j:__rand_int__ v",
        range: 10_000,
        requests: 60_000,
    },
    Speed { name: "DEL and miss", fill: &[], command: "DEL key:__rand_int__", range: 100_000, requests: 200_000 },
    Speed { name: "EXPIRE", fill: &[KEYS], command: "EXPIRE key:777 1000", range: 1, requests: 200_000 },
    Speed { name: "SETBIT", fill: &[], command: "SETBIT bits 77777 1", range: 1, requests: 200_000 },
    Speed { name: "GETBIT", fill: &[KEYS], command: "GETBIT key:777 100", range: 1, requests: 200_000 },
    Speed {
        name: "BITCOUNT 12 KB",
        fill: &[Fill { keys: 1, elements: 1, batch: 1, head: "SETBIT bits 99999", each: "1" }],
        command: "BITCOUNT bits",
        range: 1,
        requests: 100_000,
    },
    Speed {
        name: "BITFIELD",
        fill: &[],
        command: "BITFIELD bits:__rand_int__ INCRBY u8 0 1 GET u4 8",
        range: 10_000,
        requests: 100_000,
    },
    Speed { name: "PFADD", fill: &[], command: "PFADD hll element:__rand_int__", range: 1_000_000, requests: 200_000 },
    Speed { name: "PFADD, sparse", fill: &[SPARSE], command: "PFADD hll:7 xxxxxxx5", range: 1, requests: 200_000 },
    Speed { name: "PFCOUNT", fill: &[DENSE], command: "PFCOUNT hll:0", range: 1, requests: 200_000 },
    Speed { name: "PFCOUNT of two", fill: &[DENSE], command: "PFCOUNT hll:0 hll:1", range: 1, requests: 20_000 },
    Speed { name: "PFMERGE of two", fill: &[DENSE], command: "PFMERGE all hll:0 hll:1", range: 1, requests: 20_000 },
];

const MEMORY: &[Shape] = &[
    Shape { name: "values of 8 bytes", fill: Fill { keys: 500_000, each: "{n8}", ..KEYS } },
    Shape { name: "values of 80 bytes", fill: Fill { keys: 500_000, ..KEYS } },
    Shape { name: "integers", fill: Fill { keys: 500_000, each: "{n}", ..KEYS } },
    Shape { name: "sparse HyperLogLogs of 10", fill: SPARSE },
];
