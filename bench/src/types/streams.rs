// SPDX-License-Identifier: BSD-3-Clause
//! Streams: appending, capped and not, ranges, groups; one long stream and many short ones.

use super::{Family, Fill, Shape, Speed};

pub(super) const FAMILY: Family = Family { name: "streams", speed: SPEED, talks: &[], memory: MEMORY };

/// A stream of some thousand nodes.
const LARGE: Fill =
    Fill { keys: 1, elements: 20_000, batch: 1, head: "XADD stream:{k} *", each: "sensor {n} value {n32}" };
/// Given ids: what `*` makes of the clock takes more bytes or fewer.
const FIXED: Fill = Fill { elements: 200_000, head: "XADD stream:{k}", each: "{n}-1 sensor {n} value {n32}", ..LARGE };
/// A group that has read nothing. The one element is that of CREATE: where it begins.
const GROUP: Fill = Fill { keys: 1, elements: 1, batch: 1, head: "XGROUP CREATE stream:{k} group", each: "0" };

const SPEED: &[Speed] = &[
    Speed {
        name: "XADD",
        fill: &[LARGE],
        command: "XADD stream:0 * sensor 7 value xxxxxxxx__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "XADD MAXLEN ~",
        fill: &[LARGE],
        command: "XADD stream:0 MAXLEN ~ 10000 * sensor 7 value xxxxxxxx__rand_int__",
        range: 1_000_000,
        requests: 200_000,
    },
    Speed {
        name: "XADD, many streams",
        fill: &[],
        command: "XADD stream:__rand_int__ * sensor 7 value xxxxxxxx",
        range: 10_000,
        requests: 200_000,
    },
    Speed { name: "XRANGE 10", fill: &[LARGE], command: "XRANGE stream:0 - + COUNT 10", range: 1, requests: 100_000 },
    Speed { name: "XRANGE 100", fill: &[LARGE], command: "XRANGE stream:0 - + COUNT 100", range: 1, requests: 50_000 },
    Speed {
        name: "XREVRANGE 1",
        fill: &[LARGE],
        command: "XREVRANGE stream:0 + - COUNT 1",
        range: 1,
        requests: 100_000,
    },
    Speed {
        name: "XREVRANGE 100",
        fill: &[LARGE],
        command: "XREVRANGE stream:0 + - COUNT 100",
        range: 1,
        requests: 50_000,
    },
    Speed {
        name: "XREAD 10",
        fill: &[LARGE],
        command: "XREAD COUNT 10 STREAMS stream:0 0",
        range: 1,
        requests: 100_000,
    },
    Speed { name: "XLEN", fill: &[LARGE], command: "XLEN stream:0", range: 1, requests: 200_000 },
    Speed {
        name: "XREADGROUP 1",
        fill: &[LARGE, GROUP],
        command: "XREADGROUP GROUP group consumer COUNT 1 STREAMS stream:0 >",
        range: 1,
        requests: 30_000,
    },
];

const MEMORY: &[Shape] = &[
    Shape { name: "entries of 2 fields, one stream", fill: FIXED },
    Shape { name: "entries of 1 short field, one stream", fill: Fill { each: "{n}-1 f {n}", ..FIXED } },
    Shape { name: "entries of 2 fields, 20 in a stream", fill: Fill { keys: 5000, elements: 20, ..FIXED } },
    Shape { name: "entries of 200 bytes, one stream", fill: Fill { each: "{n}-1 f {n200}", ..FIXED } },
];
