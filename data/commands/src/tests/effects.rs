// SPDX-License-Identifier: BSD-3-Clause
//! What each command writes to the log, which events it emits and which keys it marks as changed. The expectations were
//! read off a replica of the reference server and its keyspace events.

use crate::effects::WholeChange;
use crate::testing::Run;

/// Command, log records, events; in order on one keyspace. The clock stands at 1700000000000.
const STEPS: &[(&str, &str, &str)] = &[
    ("SET a 1", "SET a 1", "set a"),
    ("SET a 1 EX 100", "SET a 1 PXAT 1700000100000", "set a, expire a"),
    ("SET a 1 PX 100000 GET", "SET a 1 PXAT 1700000100000", "set a, expire a"),
    ("SET a 1 XX EX 100", "SET a 1 PXAT 1700000100000", "set a, expire a"),
    ("SET a 1 EXAT 33333333333", "SET a 1 PXAT 33333333333000", "set a, expire a"),
    ("SET a 2 PXAT 33333333333000", "SET a 2 PXAT 33333333333000", "set a, expire a"),
    ("SET a 1 NX GET", "", ""),
    ("SET b 1 NX GET", "SET b 1 NX", "set b"),
    ("SET a 3 KEEPTTL GET", "SET a 3 KEEPTTL", "set a"),
    ("SET a 1 EXAT 1", "UNLINK a", "expired a"),
    ("SET nokey 1 EXAT 1", "", ""),
    ("SETEX a 10 v", "SET a v PXAT 1700000010000", "set a, expire a"),
    ("PSETEX a 10000 v", "SET a v PXAT 1700000010000", "set a, expire a"),
    ("SETNX c 1", "SETNX c 1", "set c"),
    ("SETNX c 1", "", ""),
    ("GETSET c 2", "SET c 2", "set c"),
    ("GETSET new 2", "SET new 2", "set new"),
    ("GETDEL new", "DEL new", "del new"),
    ("GETDEL new", "", ""),
    ("GETEX c", "", ""),
    ("GETEX c EX 100", "PEXPIREAT c 1700000100000", "expire c"),
    ("GETEX c PERSIST", "PERSIST c", "persist c"),
    ("GETEX c PERSIST", "", ""),
    ("GETEX c EXAT 1", "UNLINK c", "expired c"),
    ("APPEND x 1", "APPEND x 1", "append x"),
    ("SETRANGE x 0 \"\"", "", ""),
    ("SETRANGE x 1 zz", "SETRANGE x 1 zz", "setrange x"),
    ("INCR n", "INCR n", "incrby n"),
    ("DECRBY n 3", "DECRBY n 3", "incrby n"),
    ("INCRBYFLOAT n 1.5", "SET n -0.5 KEEPTTL", "incrbyfloat n"),
    ("MSET a 1 b 2", "MSET a 1 b 2", "set a, set b"),
    ("MSETNX a 1 zz 2", "", ""),
    ("MSETNX q 1 q 2", "MSETNX q 1 q 2", "set q, set q"),
    ("MSETEX 2 a 1 b 2 EX 100", "MSETEX 2 a 1 b 2 PXAT 1700000100000", "set a, expire a, set b, expire b"),
    ("MSETEX 2 a 1 b 2 NX", "", ""),
    ("MSETEX 1 b 1 KEEPTTL", "MSETEX 1 b 1 KEEPTTL", "set b"),
    ("SET d 1", "SET d 1", "set d"),
    ("DELIFEQ d 2", "", ""),
    ("DELIFEQ d 1", "DEL d", "del d"),
    ("SETBIT bm 7 1", "SETBIT bm 7 1", "setbit bm"),
    ("SETBIT bm 7 1", "", ""),
    ("BITOP NOT dst bm", "BITOP NOT dst bm", "set dst"),
    ("BITOP AND dst no1 no2", "BITOP AND dst no1 no2", "del dst"),
    ("BITOP AND dst no1 no2", "", ""),
    ("BITFIELD bm SET u8 0 1", "", ""),
    ("BITFIELD bm GET u8 0", "", ""),
    ("BITFIELD bf SET u8 0 0", "BITFIELD bf SET u8 0 0", "setbit bf"),
    // The reference server grows the string here and tells nobody; replicas of ours get to know.
    ("BITFIELD bf2 OVERFLOW FAIL INCRBY u1 0 2", "BITFIELD bf2 OVERFLOW FAIL INCRBY u1 0 2", ""),
    ("DEL a b nokey", "DEL a b nokey", "del a, del b"),
    ("UNLINK q c nokey", "UNLINK q c nokey", "del q"),
    ("DEL nokey", "", ""),
    ("SET a 1", "SET a 1", "set a"),
    ("EXPIRE a 100", "PEXPIREAT a 1700000100000", "expire a"),
    ("EXPIRE a 100 NX", "", ""),
    ("EXPIRE a 200 XX", "PEXPIREAT a 1700000200000 XX", "expire a"),
    ("PEXPIRE a 100000", "PEXPIREAT a 1700000100000", "expire a"),
    ("EXPIREAT a 33333333333", "PEXPIREAT a 33333333333000", "expire a"),
    ("PEXPIREAT a 33333333333000", "PEXPIREAT a 33333333333000", "expire a"),
    ("PERSIST a", "PERSIST a", "persist a"),
    ("PERSIST a", "", ""),
    ("EXPIRE a -1", "UNLINK a", "expired a"),
    ("SET a 1", "SET a 1", "set a"),
    ("RENAME a b", "RENAME a b", "rename_from a, rename_to b"),
    ("RENAMENX b c", "RENAMENX b c", "rename_from b, rename_to c"),
    ("RENAME c c", "", ""),
    ("COPY c d", "COPY c d", "copy_to d"),
    ("COPY c d", "", ""),
    ("COPY c d REPLACE", "COPY c d REPLACE", "copy_to d"),
    ("COPY c d2 DB 1", "COPY c d2 DB 1", "copy_to 1:d2"),
    ("MOVE c 1", "MOVE c 1", "move_from c, move_to 1:c"),
    ("SWAPDB 0 1", "SWAPDB 0 1", ""),
    ("FLUSHDB", "FLUSHDB", ""),
    ("FLUSHDB ASYNC", "FLUSHDB ASYNC", ""),
    ("FLUSHALL", "FLUSHALL", ""),
];

#[test]
fn log_records_and_events() {
    Run::new().check(STEPS);
}

#[test]
fn changed_keys() {
    let mut run = Run::new();
    for (line, modified) in [
        ("SET a 1", "a"),
        ("GET a", ""),
        ("SET a 1 NX", ""),
        ("MSET a 1 b 2", "a b"),
        ("EXPIRE a 100", "a"),
        ("GETEX a", ""),
        ("GETEX a PERSIST", "a"),
        ("RENAME a c", "a c"),
        ("COPY c d", "d"),
        ("DEL b c d x", "b c d"),
        ("SETBIT z 0 1", "z"),
        ("SETBIT z 0 1", ""),
        ("MOVE z 1", "z z"),
    ] {
        run.run(line);
        assert_eq!(run.modified(), modified, "{line}");
    }
    run.run("SWAPDB 0 1");
    assert_eq!(run.effects.whole, Some(WholeChange::Swap(0, 1)));
    run.run("FLUSHDB");
    assert_eq!(run.effects.whole, Some(WholeChange::FlushDb(0)));
    run.run("FLUSHALL");
    assert_eq!(run.effects.whole, Some(WholeChange::FlushAll));
    assert_eq!(run.effects.garbage.len(), 1);
}

#[test]
fn hits_and_misses_count_readers_only() {
    let mut run = Run::new();
    for (line, counts) in [
        ("SET a 1", (0, 0)),
        ("GET a", (1, 0)),
        ("GET b", (0, 1)),
        ("MGET a b a", (2, 1)),
        ("INCR a", (0, 0)),
        ("TTL b", (0, 1)),
        ("EXISTS a b", (1, 1)),
    ] {
        run.run(line);
        assert_eq!((run.effects.hits, run.effects.misses), counts, "{line}");
    }
}
