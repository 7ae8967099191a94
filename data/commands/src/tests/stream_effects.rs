// SPDX-License-Identifier: BSD-3-Clause
//! What the stream commands write to the log and which events they emit. The expectations were read off a replica of the
//! reference server and its keyspace events, with nodes of three entries.

use crate::testing::Run;

/// Command, log records, events; in order on one keyspace. The clock stands at 1700000000000.
const STEPS: &[(&str, &str, &str)] = &[
    ("XADD s * a 1", "XADD s 1700000000000-0 a 1", "xadd s"),
    ("XADD s 99999999999999-* a 1", "XADD s 99999999999999-0 a 1", "xadd s"),
    ("XTRIM s MAXLEN 0", "XTRIM s MAXLEN 0", "xtrim s"),
    ("DEL s", "DEL s", "del s"),
    ("XADD s 5-* a 1", "XADD s 5-0 a 1", "xadd s"),
    ("XADD s 5-2 a 1", "XADD s 5-2 a 1", "xadd s"),
    ("XADD s 5-3 b 1", "XADD s 5-3 b 1", "xadd s"),
    ("XADD s 5-4 a 1", "XADD s 5-4 a 1", "xadd s"),
    ("XADD s MAXLEN ~ 3 5-5 a 1", "XADD s MAXLEN = 5 5-5 a 1", "xadd s"),
    ("XADD s MAXLEN = 4 5-* a 1", "XADD s MAXLEN = 4 5-6 a 1", "xadd s, xtrim s"),
    ("XADD s MAXLEN 4 5-7 a 1", "XADD s MAXLEN 4 5-7 a 1", "xadd s, xtrim s"),
    ("XADD s MINID ~ 5-5 LIMIT 10 5-* a 1", "XADD s MINID = 5-4 LIMIT 10 5-8 a 1", "xadd s"),
    ("XADD s MINID 5-5 5-9 a 1", "XADD s MINID 5-5 5-9 a 1", "xadd s, xtrim s"),
    ("XADD s NOMKSTREAM 5-10 a 1", "XADD s NOMKSTREAM 5-10 a 1", "xadd s"),
    ("XADD nokey NOMKSTREAM 5-10 a 1", "", ""),
    ("XADD s MAXLEN ~ 100 5-* a 1", "XADD s MAXLEN = 7 5-11 a 1", "xadd s"),
    ("XADD s MAXLEN ~ 5 LIMIT 2 5-* a 1", "XADD s MAXLEN = 6 LIMIT 2 5-12 a 1", "xadd s, xtrim s"),
    ("XTRIM s MAXLEN ~ 5", "", ""),
    ("XTRIM s MAXLEN ~ 3", "XTRIM s MAXLEN = 3", "xtrim s"),
    ("XTRIM s MINID ~ 5-9", "", ""),
    ("XTRIM s MINID 5-10", "", ""),
    ("XDEL s 5-10", "XDEL s 5-10", "xdel s"),
    ("XDEL s 5-10", "", ""),
    ("XSETID s 5-20", "XSETID s 5-20", "xsetid s"),
    ("XGROUP CREATE s g 0", "XGROUP CREATE s g 0", "xgroup-create s"),
    ("XGROUP CREATE new g $ MKSTREAM", "XGROUP CREATE new g $ MKSTREAM", "xgroup-create new"),
    ("XGROUP CREATE s g 0", "", ""),
    ("XGROUP SETID s g 0", "XGROUP SETID s g 0", "xgroup-setid s"),
    ("XGROUP CREATECONSUMER s g bob", "XGROUP CREATECONSUMER s g bob", "xgroup-createconsumer s"),
    ("XGROUP CREATECONSUMER s g bob", "", ""),
    ("XGROUP DELCONSUMER s g bob", "XGROUP DELCONSUMER s g bob", "xgroup-delconsumer s"),
    ("XGROUP DELCONSUMER s g bob", "", ""),
    (
        "XREADGROUP GROUP g alice STREAMS s >",
        "XCLAIM s g alice 0 5-11 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 5-11; \
         XCLAIM s g alice 0 5-12 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 5-12; \
         XGROUP SETID s g 5-12 ENTRIESREAD 12",
        "xgroup-createconsumer s",
    ),
    ("XREADGROUP GROUP g alice STREAMS s >", "", ""),
    ("XREADGROUP GROUP g carol STREAMS s >", "", "xgroup-createconsumer s"),
    ("XREADGROUP GROUP g alice STREAMS s 0", "", ""),
    ("XADD s 6-1 a 1", "XADD s 6-1 a 1", "xadd s"),
    ("XADD s 6-2 a 1", "XADD s 6-2 a 1", "xadd s"),
    (
        "XREADGROUP GROUP g dave NOACK COUNT 1 STREAMS s >",
        "XGROUP CREATECONSUMER s g dave; \
         XGROUP SETID s g 6-1 ENTRIESREAD 13",
        "xgroup-createconsumer s",
    ),
    ("XREADGROUP GROUP g dave NOACK COUNT 1 STREAMS s >", "XGROUP SETID s g 6-2 ENTRIESREAD 14", ""),
    ("XREADGROUP GROUP g erin NOACK STREAMS s >", "XGROUP CREATECONSUMER s g erin", "xgroup-createconsumer s"),
    ("XADD s 6-3 a 1", "XADD s 6-3 a 1", "xadd s"),
    (
        "XREADGROUP GROUP g dave COUNT 1 STREAMS s new > >",
        "XCLAIM s g dave 0 6-3 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 6-3; \
         XGROUP SETID s g 6-3 ENTRIESREAD 15",
        "xgroup-createconsumer new",
    ),
    ("XACK s g 5-11", "XACK s g 5-11", ""),
    ("XACK s g 5-11", "", ""),
    (
        "XCLAIM s g zoe 0 6-3",
        "XCLAIM s g zoe 0 6-3 TIME 1700000000000 RETRYCOUNT 2 FORCE JUSTID LASTID 6-3",
        "xgroup-createconsumer s",
    ),
    ("XCLAIM s g zoe 1000000 6-3", "", ""),
    ("XCLAIM s g yan 1000000 6-3", "", "xgroup-createconsumer s"),
    (
        "XCLAIM s g zoe 0 6-3 5-12 JUSTID",
        "XCLAIM s g zoe 0 6-3 TIME 1700000000000 RETRYCOUNT 2 FORCE JUSTID LASTID 6-3; \
         XCLAIM s g zoe 0 5-12 TIME 1700000000000 RETRYCOUNT 2 FORCE JUSTID LASTID 6-3",
        "",
    ),
    (
        "XCLAIM s g zoe 0 6-3 LASTID 9-9",
        "XCLAIM s g zoe 0 6-3 TIME 1700000000000 RETRYCOUNT 3 FORCE JUSTID LASTID 9-9",
        "",
    ),
    ("XCLAIM s g zoe 0 6-1 LASTID 10-9", "XGROUP SETID s g 10-9 ENTRIESREAD 15", ""),
    (
        "XCLAIM s g zoe 0 6-1 FORCE RETRYCOUNT 7 TIME 5",
        "XCLAIM s g zoe 0 6-1 TIME 5 RETRYCOUNT 7 FORCE JUSTID LASTID 10-9",
        "",
    ),
    ("XDEL s 6-1", "XDEL s 6-1", "xdel s"),
    ("XCLAIM s g zoe 0 6-1", "XCLAIM s g zoe 0 6-1 TIME 5 RETRYCOUNT 7 FORCE JUSTID LASTID 10-9", ""),
    (
        "XAUTOCLAIM s g alice 0 0",
        "XCLAIM s g alice 0 5-12 TIME 1700000000000 RETRYCOUNT 3 FORCE JUSTID LASTID 10-9; \
         XCLAIM s g alice 0 6-3 TIME 1700000000000 RETRYCOUNT 4 FORCE JUSTID LASTID 10-9",
        "",
    ),
    (
        "XAUTOCLAIM s g alice 0 0 JUSTID",
        "XCLAIM s g alice 0 5-12 TIME 1700000000000 RETRYCOUNT 3 FORCE JUSTID LASTID 10-9; \
         XCLAIM s g alice 0 6-3 TIME 1700000000000 RETRYCOUNT 4 FORCE JUSTID LASTID 10-9",
        "",
    ),
    ("XAUTOCLAIM s g newone 10000000 0", "", "xgroup-createconsumer s"),
    ("XDEL s 6-3", "XDEL s 6-3", "xdel s"),
    (
        "XAUTOCLAIM s g alice 0 0",
        "XCLAIM s g alice 0 5-12 TIME 1700000000000 RETRYCOUNT 4 FORCE JUSTID LASTID 10-9; \
         XCLAIM s g alice 0 6-3 TIME 1700000000000 RETRYCOUNT 4 FORCE JUSTID LASTID 10-9",
        "",
    ),
    ("XGROUP DESTROY s g", "XGROUP DESTROY s g", "xgroup-destroy s"),
    ("XGROUP DESTROY s g", "", ""),
    (
        "XSETID s 10-10 ENTRIESADDED 100 MAXDELETEDID 7-7",
        "XSETID s 10-10 ENTRIESADDED 100 MAXDELETEDID 7-7",
        "xsetid s",
    ),
    ("XREAD STREAMS s 0", "", ""),
    ("COPY s s2", "COPY s s2", "copy_to s2"),
    ("RENAME s s3", "RENAME s s3", "rename_from s, rename_to s3"),
    ("DEL s3 s2 new", "DEL s3 s2 new", "del s3, del s2, del new"),
];

#[test]
fn log_records_and_events_of_streams() {
    let mut run = Run::new();
    run.env.limits.stream_node_max_entries = 3;
    for (line, log, events) in STEPS {
        let reply = run.run(line);
        assert_eq!((run.log().as_str(), run.events().as_str()), (*log, *events), "{line} -> {reply}");
    }
}

#[test]
fn changed_streams() {
    let mut run = Run::new();
    for (line, modified) in [
        ("XADD s 1-1 a 1", "s"),
        ("XADD s 1-1 a 1", ""),
        ("XADD s 1-2 a 1", "s"),
        ("XGROUP CREATE s g 0", ""),
        ("XGROUP CREATE new g 0 MKSTREAM", "new"),
        ("XREADGROUP GROUP g c STREAMS s >", ""),
        ("XACK s g 1-1", ""),
        ("XSETID s 1-5", ""),
        ("XTRIM s MAXLEN 1", "s"),
        ("XTRIM s MAXLEN 1", ""),
        ("XDEL s 1-2", "s"),
        ("XDEL s 1-2", ""),
    ] {
        run.run(line);
        assert_eq!(run.modified(), modified, "{line}");
    }
}

/// A log is applied at any later time, on a machine with any clock: times in it stay.
#[test]
fn times_in_the_log_are_kept() {
    let mut run = Run::new();
    for line in ["XADD s 1-1 a 1", "XGROUP CREATE s g 0"] {
        run.run(line);
    }
    run.env.is_applying = true;
    run.run("XCLAIM s g c 0 1-1 TIME 1700000500000 RETRYCOUNT 3 FORCE JUSTID LASTID 1-1");
    run.run("XADD s MAXLEN = 1 LIMIT 1 1-2 a 1");
    assert_eq!(run.run("XLEN s"), ":1");
    run.env.is_applying = false;
    run.advance(500_001);
    assert_eq!(run.run("XPENDING s g - + 9"), "[[\"1-1\", \"c\", :1, :3]]");
}
