// SPDX-License-Identifier: BSD-3-Clause
//! Sets and HyperLogLogs: what goes to the log and which events there are, read off a replica of the reference server.

use crate::testing::Run;
use std::collections::BTreeSet;

/// Command, log records, events; in order on one keyspace.
const STEPS: &[(&str, &str, &str)] = &[
    ("SADD s a b c", "SADD s a b c", "sadd s"),
    ("SADD s a", "", ""),
    ("SADD i 1 2 3", "SADD i 1 2 3", "sadd i"),
    ("SADD s a d", "SADD s a d", "sadd s"),
    ("SREM s a zz", "SREM s a zz", "srem s"),
    ("SREM s zz", "", ""),
    ("SREM i 1 2 3", "SREM i 1 2 3", "srem i, del i"),
    ("SMOVE s t b", "SMOVE s t b", "srem s, sadd t"),
    ("SMOVE s t zz", "", ""),
    ("SADD t c", "SADD t c", "sadd t"),
    ("SMOVE s t c", "SMOVE s t c", "srem s"),
    ("SMOVE s t d", "SMOVE s t d", "srem s, del s, sadd t"),
    ("SMOVE t t d", "", ""),
    ("SADD one x", "SADD one x", "sadd one"),
    ("SPOP one", "SREM one x", "spop one, del one"),
    ("SPOP one", "", ""),
    ("SADD two x y", "SADD two x y", "sadd two"),
    ("SPOP two 0", "", ""),
    ("SPOP two 5", "UNLINK two", "spop two, del two"),
    ("SADD p a a", "SADD p a a", "sadd p"),
    ("SPOP p 1", "UNLINK p", "spop p, del p"),
    ("SINTERSTORE dst t t", "SINTERSTORE dst t t", "sinterstore dst"),
    ("SINTERSTORE dst nokey t", "SINTERSTORE dst nokey t", "del dst"),
    ("SINTERSTORE dst nokey t", "", ""),
    ("SUNIONSTORE dst t nokey", "SUNIONSTORE dst t nokey", "sunionstore dst"),
    ("SDIFFSTORE dst t t", "SDIFFSTORE dst t t", "del dst"),
    ("SDIFFSTORE dst t t", "", ""),
    ("PFADD h a b c", "PFADD h a b c", "pfadd h"),
    ("PFADD h a", "", ""),
    ("PFADD h2", "PFADD h2", "pfadd h2"),
    ("PFADD h2", "", ""),
    // The count is cached in the value.
    ("PFCOUNT h", "PFCOUNT h", ""),
    ("PFCOUNT h", "", ""),
    ("PFCOUNT h h2", "", ""),
    ("PFMERGE h3 h h2", "PFMERGE h3 h h2", "pfadd h3"),
    ("PFMERGE h3", "PFMERGE h3", "pfadd h3"),
    ("PFDEBUG ENCODING h", "", ""),
    ("PFDEBUG TODENSE h", "PFDEBUG TODENSE h", ""),
    ("PFDEBUG TODENSE h", "", ""),
    ("PFDEBUG GETREG h2", "PFDEBUG GETREG h2", ""),
    ("PFDEBUG GETREG h2", "", ""),
];

#[test]
fn log_records_and_events() {
    Run::new().check(STEPS);
}

#[test]
fn what_was_popped_is_logged() {
    let mut run = Run::new();
    let members: Vec<String> = (0..3000).map(|n| format!("m{n}")).collect();
    assert_eq!(run.run(&format!("SADD s {}", members.join(" "))), ":3000");
    for count in [1, 100, 2500] {
        let reply = run.run(&format!("SPOP s {count}"));
        let popped: BTreeSet<&str> = reply.trim_matches(['[', ']']).split(", ").map(|m| m.trim_matches('"')).collect();
        let log = run.log();
        let records: Vec<&str> = log.split("; ").collect();
        assert_eq!(records.len(), usize::div_ceil(count, 1024));
        let logged: Vec<&str> =
            records.iter().flat_map(|record| record.strip_prefix("SREM s ").unwrap_or_default().split(' ')).collect();
        assert_eq!((logged.len(), popped.len()), (count, count));
        assert!(logged.iter().all(|member| popped.contains(member)));
    }
    assert_eq!((run.run("SCARD s"), run.run("OBJECT ENCODING s")), (":399".to_owned(), "\"hashtable\"".to_owned()));
}

#[test]
fn a_replica_does_not_cache_counts() {
    let mut run = Run::new();
    run.run("PFADD h a b");
    run.env.is_primary = false;
    assert_eq!((run.run("PFCOUNT h"), run.log()), (":2".to_owned(), String::new()));
    run.env.is_primary = true;
    assert_eq!((run.run("PFCOUNT h"), run.log()), (":2".to_owned(), "PFCOUNT h".to_owned()));
}

#[test]
fn a_failed_command_changes_nothing() {
    let mut run = Run::new();
    // Only half of the registers: some elements find theirs, others do not.
    run.run(r#"SET h "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x5f\xff""#);
    let before = run.run("GET h");
    assert_eq!(run.run("PFADD h x1 x2 x3 x4 x5 x6 x7 x8"), "-INVALIDOBJ Corrupted HLL object detected");
    assert_eq!((run.run("GET h"), run.log()), (before, String::new()));
    run.run("SET str x");
    run.run("SADD s m");
    assert_eq!(run.run("SMOVE s str m"), "-WRONGTYPE Operation against a key holding the wrong kind of value");
    assert_eq!(run.run("SMEMBERS s"), "[\"m\"]");
}
