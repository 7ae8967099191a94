// SPDX-License-Identifier: BSD-3-Clause
//! Commands over values of several types: SORT, geo, COPY, DUMP, the cursors of SCAN.

use super::{Family, Fill, Speed};

pub(super) const FAMILY: Family = Family { name: "mixed", speed: SPEED, talks: &[], memory: &[] };

const NUMBERS: Fill = Fill { keys: 1, elements: 100, batch: 100, head: "RPUSH numbers", each: "{n}" };
const WEIGHTS: Fill = Fill { keys: 100, elements: 1, batch: 1, head: "SET weight:{k}", each: "{n}" };
/// Places along a line.
const PLACES: Fill =
    Fill { keys: 1, elements: 1000, batch: 1, head: "GEOADD places", each: "1.{n03} 43.{n03} place:{n}" };
const KEYS: Fill = Fill { keys: 100_000, elements: 1, batch: 1, head: "SET key:{k}", each: "{n80}" };
const HASH: Fill = Fill { keys: 1, elements: 50, batch: 50, head: "HSET hash", each: "field:{n} {n16}" };

const SPEED: &[Speed] = &[
    Speed { name: "SORT 100", fill: &[NUMBERS], command: "SORT numbers DESC", range: 1, requests: 20_000 },
    Speed { name: "SORT 100 ALPHA", fill: &[NUMBERS], command: "SORT numbers ALPHA", range: 1, requests: 20_000 },
    Speed {
        name: "SORT 100 LIMIT 10",
        fill: &[NUMBERS],
        command: "SORT numbers LIMIT 0 10",
        range: 1,
        requests: 20_000,
    },
    Speed {
        name: "SORT 100 BY GET",
        fill: &[NUMBERS, WEIGHTS],
        command: "SORT numbers BY weight:* GET weight:* GET #",
        range: 1,
        requests: 10_000,
    },
    Speed {
        name: "GEOADD",
        fill: &[],
        command: "GEOADD places 13.361389 38.115556 place:__rand_int__",
        range: 100_000,
        requests: 100_000,
    },
    Speed { name: "GEODIST", fill: &[PLACES], command: "GEODIST places place:1 place:2", range: 1, requests: 200_000 },
    Speed { name: "GEOPOS", fill: &[PLACES], command: "GEOPOS places place:1 place:2", range: 1, requests: 100_000 },
    Speed {
        name: "GEOSEARCH BYRADIUS",
        fill: &[PLACES],
        command: "GEOSEARCH places FROMLONLAT 1.5 43.5 BYRADIUS 20 km COUNT 10 ASC",
        range: 1,
        requests: 20_000,
    },
    Speed {
        name: "GEOSEARCH BYBOX, WITHDIST",
        fill: &[PLACES],
        command: "GEOSEARCH places FROMMEMBER place:7 BYBOX 20 20 km WITHDIST",
        range: 1,
        requests: 20_000,
    },
    Speed { name: "DUMP", fill: &[HASH], command: "DUMP hash", range: 1, requests: 60_000 },
    Speed { name: "COPY REPLACE", fill: &[HASH], command: "COPY hash copy REPLACE", range: 1, requests: 60_000 },
    Speed { name: "OBJECT ENCODING", fill: &[HASH], command: "OBJECT ENCODING hash", range: 1, requests: 100_000 },
    Speed { name: "TYPE", fill: &[HASH], command: "TYPE hash", range: 1, requests: 200_000 },
    Speed { name: "EXISTS", fill: &[HASH], command: "EXISTS hash", range: 1, requests: 200_000 },
    Speed { name: "SCAN COUNT 100", fill: &[KEYS], command: "SCAN 0 COUNT 100", range: 1, requests: 30_000 },
    Speed { name: "HSCAN COUNT 100", fill: &[HASH], command: "HSCAN hash 0 COUNT 100", range: 1, requests: 60_000 },
    Speed { name: "PING", fill: &[], command: "PING", range: 1, requests: 200_000 },
];
