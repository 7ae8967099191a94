// SPDX-License-Identifier: BSD-3-Clause
//! Sets: members added, found and taken out; small sets and one of a million members.

use super::{Family, Fill, Shape, Speed};

pub(super) const FAMILY: Family = Family { name: "sets", speed: SPEED, talks: &[], memory: MEMORY };

/// A table of redis-benchmark's numbers as it writes them, twelve digits and a prefix.
const LARGE: Fill = Fill { keys: 1, elements: 1_000_000, batch: 100, head: "SADD set:{k}", each: "{n32}" };
/// Many listpacks.
const PACKS: Fill = Fill { keys: 10_000, elements: 20, batch: 20, head: "SADD set:{k}", each: "{n8}" };
/// Many intsets.
const INTS: Fill = Fill { keys: 10_000, elements: 100, batch: 100, head: "SADD set:{k}", each: "{n}" };

const SPEED: &[Speed] = &[
    Speed { name: "SADD", fill: &[], command: "SADD set:0 element:__rand_int__", range: 1_000_000, requests: 400_000 },
    Speed {
        name: "SADD, members there",
        fill: &[LARGE],
        command: "SADD set:0 xxxxxxxxxxxxxxxxxxxx__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "SADD, many small sets",
        fill: &[],
        command: "SADD set:__rand_int__ abcdefgh",
        range: 50_000,
        requests: 200_000,
    },
    Speed {
        name: "SISMEMBER, a million",
        fill: &[LARGE],
        command: "SISMEMBER set:0 xxxxxxxxxxxxxxxxxxxxxxxxxx500000",
        range: 1,
        requests: 200_000,
    },
    Speed {
        name: "SISMEMBER, at random",
        fill: &[Fill { elements: 1, ..LARGE }],
        command: "SISMEMBER set:0 xxxxxxxxxxxxxxxxxxxx__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "SISMEMBER, listpack",
        fill: &[PACKS],
        command: "SISMEMBER set:7 xxxxxx10",
        range: 1,
        requests: 200_000,
    },
    Speed { name: "SISMEMBER, intset", fill: &[INTS], command: "SISMEMBER set:7 50", range: 1, requests: 200_000 },
    Speed {
        name: "SREM",
        fill: &[LARGE],
        command: "SREM set:0 xxxxxxxxxxxxxxxxxxxxxxxxxx500000",
        range: 1,
        requests: 200_000,
    },
    Speed { name: "SPOP", fill: &[LARGE], command: "SPOP set:0", range: 1, requests: 100_000 },
    Speed { name: "SRANDMEMBER", fill: &[LARGE], command: "SRANDMEMBER set:0", range: 1, requests: 100_000 },
    Speed { name: "SMEMBERS 20, listpack", fill: &[PACKS], command: "SMEMBERS set:7", range: 1, requests: 100_000 },
    Speed {
        name: "SINTER of two tables",
        fill: &[Fill { keys: 2, elements: 200, ..LARGE }],
        command: "SINTER set:0 set:1",
        range: 1,
        requests: 20_000,
    },
];

const MEMORY: &[Shape] = &[
    // So many keys that what every slot takes, used or not, weighs little.
    Shape { name: "intset of 20", fill: Fill { keys: 200_000, elements: 20, batch: 20, ..INTS } },
    Shape { name: "intset of 500", fill: Fill { keys: 20_000, elements: 500, ..INTS } },
    Shape { name: "listpack of 20 x 8 bytes", fill: Fill { keys: 200_000, ..PACKS } },
    Shape { name: "table of 200 x 8 bytes", fill: Fill { keys: 5000, elements: 200, batch: 200, ..PACKS } },
    Shape { name: "table of a million, 8 bytes", fill: Fill { each: "{n8}", ..LARGE } },
    Shape { name: "table of a million, 32 bytes", fill: LARGE },
    Shape { name: "table, 100 bytes", fill: Fill { elements: 500_000, each: "{n100}", ..LARGE } },
    Shape { name: "table, 300 bytes", fill: Fill { elements: 300_000, each: "{n300}", ..LARGE } },
    Shape { name: "table, 5000 bytes", fill: Fill { elements: 20_000, batch: 10, each: "{n5000}", ..LARGE } },
];
