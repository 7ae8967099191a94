// SPDX-License-Identifier: BSD-3-Clause
//! Lists: what goes to the log and which events come, as a replica and a subscriber of the reference server saw it; and
//! replies that the differential family does not draw.

use crate::testing::{Run, check};

/// Command, log records, events; in order on one keyspace.
const STEPS: &[(&str, &str, &str)] = &[
    ("RPUSH l a b c", "RPUSH l a b c", "rpush l"),
    ("LPUSH l x", "LPUSH l x", "lpush l"),
    ("LPUSHX nokey a", "", ""),
    ("RPUSHX l d d", "RPUSHX l d d", "rpush l"),
    ("LSET l 0 y", "LSET l 0 y", "lset l"),
    ("LSET l 99 y", "", ""),
    ("LINSERT l BEFORE b new", "LINSERT l BEFORE b new", "linsert l"),
    ("LINSERT l AFTER nopivot new", "", ""),
    ("LREM l 0 d", "LREM l 0 d", "lrem l"),
    ("LREM l 0 d", "", ""),
    ("LTRIM l 0 100", "", "ltrim l"),
    ("LTRIM l 0 3", "LTRIM l 0 3", "ltrim l"),
    ("LPOP l", "LPOP l", "lpop l"),
    ("RPOP l", "RPOP l", "rpop l"),
    ("LPOP l 0", "", ""),
    ("LPOP l 1", "LPOP l 1", "lpop l"),
    ("RPUSH l 1 2 3 4 5 6", "RPUSH l 1 2 3 4 5 6", "rpush l"),
    ("RPOP l 2", "RPOP l 2", "rpop l"),
    ("LMOVE l m LEFT RIGHT", "LMOVE l m LEFT RIGHT", "rpush m, lpop l"),
    ("LMOVE l l LEFT RIGHT", "LMOVE l l LEFT RIGHT", "rpush l, lpop l"),
    ("RPOPLPUSH l m", "RPOPLPUSH l m", "lpush m, rpop l"),
    ("RPOPLPUSH m m", "RPOPLPUSH m m", "lpush m, rpop m"),
    ("LMOVE nokey m LEFT LEFT", "", ""),
    ("LMPOP 2 nokey m LEFT COUNT 1", "LPOP m 1", "lpop m"),
    ("LMPOP 2 nokey m RIGHT COUNT 10", "RPOP m 1", "rpop m, del m"),
    ("LMPOP 1 m RIGHT", "", ""),
    ("LPOP l 100", "LPOP l 100", "lpop l, del l"),
    ("RPUSH one x", "RPUSH one x", "rpush one"),
    ("RPOPLPUSH one two", "RPOPLPUSH one two", "lpush two, rpop one, del one"),
    ("LPOP two", "LPOP two", "lpop two, del two"),
    ("LTRIM two 0 0", "", ""),
    ("RPUSH t 1 2 3", "RPUSH t 1 2 3", "rpush t"),
    ("LTRIM t 5 10", "LTRIM t 5 10", "ltrim t, del t"),
    ("RPUSH t 1 1 1", "RPUSH t 1 1 1", "rpush t"),
    ("LREM t 0 1", "LREM t 0 1", "lrem t, del t"),
    ("RPUSH t 1", "RPUSH t 1", "rpush t"),
    ("RPOPLPUSH t t", "RPOPLPUSH t t", "lpush t, rpop t"),
    ("RPUSH s 3 1 2", "RPUSH s 3 1 2", "rpush s"),
    ("SORT s", "", ""),
    ("SORT s STORE d", "SORT s STORE d", "sortstore d"),
    ("SORT nokey STORE d", "SORT nokey STORE d", "del d"),
    ("SORT nokey STORE d", "", ""),
    ("SORT s BY w_* GET # STORE d", "SORT s BY w_* GET # STORE d", "sortstore d"),
];

#[test]
fn log_records_and_events() {
    Run::new().check(STEPS);
}

#[test]
fn changed_keys() {
    let mut run = Run::new();
    for (line, modified) in [
        ("RPUSH a 1 2 3", "a"),
        ("LTRIM a 0 -1", ""),
        ("LREM a 0 x", ""),
        ("LSET a 9 x", ""),
        ("LINSERT a BEFORE x y", ""),
        ("LMOVE a b LEFT LEFT", "b a"),
        ("LPOP a 0", ""),
        ("LMPOP 2 a b LEFT COUNT 5", "a"),
    ] {
        run.run(line);
        assert_eq!(run.modified(), modified, "{line}");
    }
}

#[test]
fn hits_and_misses_count_readers_only() {
    let mut run = Run::new();
    for (line, counts) in [
        ("RPUSH a 1 2 3", (0, 0)),
        ("LLEN a", (1, 0)),
        ("LRANGE b 0 -1", (0, 1)),
        ("LINDEX a 0", (1, 0)),
        ("LPOS b x", (0, 1)),
        ("LMOVE a b LEFT LEFT", (0, 0)),
        ("LPOP nokey", (0, 0)),
    ] {
        run.run(line);
        assert_eq!((run.effects.hits, run.effects.misses), counts, "{line}");
    }
}

#[test]
fn a_moved_element_keeps_the_time_to_live_of_its_list() {
    check(&[
        ("RPUSH a x", ":1"),
        ("EXPIRE a 100", ":1"),
        ("LMOVE a a LEFT RIGHT", "\"x\""),
        ("TTL a", ":100"),
        ("LMOVE a b LEFT RIGHT", "\"x\""),
        ("TTL b", ":-1"),
        ("EXISTS a", ":0"),
    ]);
}

#[test]
fn patterns_of_sort_name_keys_and_fields_in_any_slot() {
    check(&[
        ("RPUSH l 1 2 3", ":3"),
        ("MSET w_1 30 w_2 10 w_3 20", "OK"),
        ("HSET h_1 f one", ":1"),
        ("SORT l BY w_* GET # GET h_*->f", "[\"2\", nil, \"3\", nil, \"1\", \"one\"]"),
        ("SORT l BY w_* ALPHA DESC LIMIT 0 1", "[\"1\"]"),
        ("SORT_RO l BY w_* STORE d", "-ERR syntax error"),
    ]);
}

#[test]
fn what_is_refused_changes_nothing() {
    check(&[
        ("RPUSH a x", ":1"),
        ("SET s 1", "OK"),
        ("LMOVE a s LEFT RIGHT", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("LMPOP 2 nokey s LEFT", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("LPOP a -1", "-ERR value is out of range, must be positive"),
        ("LPOP a 1 2", "-ERR wrong number of arguments for 'lpop' command"),
        ("LRANGE a 0 -1", "[\"x\"]"),
    ]);
}
