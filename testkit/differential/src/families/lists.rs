// SPDX-License-Identifier: BSD-3-Clause
//! Patterns of the family `lists`. Elements are few, so that pivots are found; some are long and limits are low, so that
//! every form of a list and every way of splitting and joining its nodes comes up.

use super::Family;

pub(super) const FAMILY: Family = Family { name: "lists", places: PLACES, setup: SETUP, patterns: PATTERNS };

const SETUP: &[&str] = &["CONFIG SET list-max-listpack-size -2"];

const BYTES_100: &str = filled(&[b'c'; 100]);
const BYTES_500: &str = filled(&[b'd'; 500]);
const BYTES_3000: &str = filled(&[b'e'; 3000]);
const BYTES_4090: &str = filled(&[b'f'; 4090]);
const BYTES_9000: &str = filled(&[b'g'; 9000]);

const fn filled(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => "",
    }
}

const PLACES: &[(&str, &[&str])] = &[
    ("K", &["a", "a", "b", "{t}1", "string"]),
    ("E", &["a", "b", "c", "1", "-1", "007", "100000", "9223372036854775807", "", BYTES_100, BYTES_500]),
    ("LONG", &[BYTES_3000, BYTES_3000, BYTES_4090, BYTES_9000]),
    ("SIDE", &["LEFT", "RIGHT", "left", "right", "LEFT", "RIGHT", "RIGHT", "up"]),
    ("I", &["0", "1", "2", "3", "5", "10", "-1", "-2", "-3", "-6", "100", "-100"]),
    ("KINT", &["0", "1", "2", "3", "-1", "10000000000", "x"]),
];

const PATTERNS: &[&str] = &[
    "LPUSH K E",
    "LPUSH K E E E",
    "RPUSH K E",
    "RPUSH K E E E E E E",
    "RPUSH K E LONG E E",
    "LPUSH K LONG",
    "LPUSHX K E",
    "RPUSHX K E E",
    "LPUSHX K E LONG",
    "LPOP K",
    "LPOP K",
    "RPOP K",
    "LPOP K KINT",
    "RPOP K [0|1|2|3|-1|100|x|9223372036854775807]",
    "LPOP K 1 1",
    "LLEN K",
    "LINDEX K I",
    "LINDEX K N",
    "LRANGE K I I",
    "LRANGE K N N",
    "LRANGE K 0 -1",
    "LSET K I E",
    "LSET K I LONG",
    "LSET K N E",
    "LINSERT K [BEFORE|AFTER|before|x] E E",
    "LINSERT K [BEFORE|AFTER] E LONG",
    "LINSERT K [BEFORE|AFTER] LONG E",
    "LREM K I E",
    "LREM K N E",
    "LREM K 0 LONG",
    "LTRIM K [0|1|1|2|-5|-8] [-1|-1|-2|5|8]",
    "LTRIM K N N",
    "LPOS K E",
    "LPOS K E [RANK I|RANK N|]",
    "LPOS K E [RANK I|] [COUNT I|COUNT N|] [MAXLEN I|MAXLEN N|]",
    "LPOS K E [COUNT|x 1|RANK -9223372036854775808|COUNT 0 RANK 0]",
    "LMOVE K K SIDE SIDE",
    "LMOVE K K SIDE SIDE",
    "RPOPLPUSH K K",
    "LMPOP 1 K SIDE",
    "LMPOP 2 K K SIDE COUNT [1|2|10|0|x]",
    "LMPOP [0|-1|x|3|100] K K SIDE",
    "LMPOP 1 K SIDE COUNT 1 COUNT 2",
    "LMPOP 2 {t}1 {t}2 SIDE [COUNT|COUNT 2|x]",
    "OBJECT ENCODING K",
    "OBJECT ENCODING K",
    "OBJECT ENCODING a",
    "CONFIG SET list-max-listpack-size [-2|-1|1|2|3|5|10|0|128]",
    "DEBUG QUICKLIST-PACKED-THRESHOLD [0|0|90b|400b|1k]",
    "TYPE K",
    "DEL K",
    "EXISTS K",
    "SET string [x|12|]",
    "GET K",
    "APPEND K V",
    "COPY K K REPLACE",
    "RENAME K K",
    "EXPIRE K 1000",
    "TTL K",
    "LPUSH K",
    "LLEN",
    "LRANGE K 0",
    "LMOVE K K LEFT",
];
