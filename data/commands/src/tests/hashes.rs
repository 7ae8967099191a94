// SPDX-License-Identifier: BSD-3-Clause
//! Hashes: what is logged and announced, and fields that are past due but still there. As valkey-server 9.1.2 was seen to do
//! it with a replica attached and `DEBUG SET-ACTIVE-EXPIRE 0`.

use crate::testing::Run;

/// Command, reply, log, events; `+n` lets n milliseconds pass.
fn check(steps: &[(&str, &str, &str, &str)]) {
    let mut run = Run::new();
    for (line, reply, log, events) in steps {
        if let Some(ms) = line.strip_prefix('+') {
            run.advance(ms.parse().expect("milliseconds"));
            continue;
        }
        let got = (run.run(line), run.log(), run.events());
        assert_eq!((got.0.as_str(), got.1.as_str(), got.2.as_str()), (*reply, *log, *events), "{line}");
    }
}

#[test]
fn writes_are_logged_by_their_effect() {
    check(&[
        ("HSET h a 1 b 2 a 3", ":2", "HSET h a 1 b 2 a 3", "hset h"),
        ("HSETNX h a 9", ":0", "", ""),
        ("HSETNX h c 9", ":1", "HSETNX h c 9", "hset h"),
        ("HINCRBY h a 4", ":7", "HINCRBY h a 4", "hincrby h"),
        ("HINCRBYFLOAT h a 0.5", "\"7.5\"", "HSET h a 7.5", "hincrbyfloat h"),
        ("HINCRBY h a 1", "-ERR hash value is not an integer", "", ""),
        ("HEXPIRE h 100 FIELDS 2 a nosuch", "[:1, :-2]", "HPEXPIREAT h 1700000100000 FIELDS 2 a nosuch", "hexpire h"),
        ("HEXPIRE h 100 GT FIELDS 1 a", "[:0]", "", ""),
        ("HPEXPIREAT h 1700000100001 GT FIELDS 1 a", "[:1]", "HPEXPIREAT h 1700000100001 GT FIELDS 1 a", "hexpire h"),
        ("OBJECT ENCODING h", "\"hashtable\"", "", ""),
        ("HINCRBYFLOAT h a 1", "\"8.5\"", "HSETEX h PXAT 1700000100001 FIELDS 1 a 8.5", "hincrbyfloat h"),
        ("HINCRBY h b 1", ":3", "HSET h b 3", "hincrby h"),
        ("HSETNX h d 1", ":1", "HSET h d 1", "hset h"),
        ("HTTL h FIELDS 3 a b x", "[:100, :-1, :-2]", "", ""),
        ("HPERSIST h FIELDS 2 a b", "[:1, :-1]", "HPERSIST h FIELDS 2 a b", "hpersist h"),
        ("HGETEX h PX 5 FIELDS 2 b x", "[\"3\", nil]", "HPEXPIREAT h 1700000000005 FIELDS 1 b", "hexpire h"),
        ("HGETEX h PERSIST FIELDS 2 b a", "[\"3\", \"8.5\"]", "HPERSIST h FIELDS 1 b", "hpersist h"),
        ("HGETEX h EXAT 1 FIELDS 1 b", "[\"3\"]", "HDEL h b", "hexpired h"),
        ("HSETEX h NX FIELDS 1 a 1", ":0", "", ""),
        ("HSETEX h XX EX 1 FIELDS 1 e 1", ":1", "HSETEX h PXAT 1700000001000 FIELDS 1 e 1", "hset h, hexpire h"),
        ("HSETEX h PXAT 1 FIELDS 2 e 1 x 2", ":1", "HDEL h e", "hset h, hexpire h, hexpired h"),
        ("HSETEX n EX 0 FIELDS 1 f v", ":1", "", "hset n, hexpire n, hexpired n, del n"),
        ("HEXPIRE h 0 FIELDS 2 a x", "[:2, :-2]", "HDEL h a", "hexpired h"),
        ("HGETDEL h FIELDS 2 c x", "[\"9\", nil]", "HGETDEL h FIELDS 2 c x", "hdel h"),
        ("HDEL h d x", ":1", "HDEL h d x", "hdel h, del h"),
        ("EXISTS h", ":0", "", ""),
    ]);
}

#[test]
fn fields_past_due_are_invisible_but_counted() {
    check(&[
        ("HSET h a 1 b 2 c 3", ":3", "HSET h a 1 b 2 c 3", "hset h"),
        ("HPEXPIRE h 10 FIELDS 2 a b", "[:1, :1]", "HPEXPIREAT h 1700000000010 FIELDS 2 a b", "hexpire h"),
        ("+10", "", "", ""),
        ("HLEN h", ":3", "", ""),
        ("HGETALL h", "[\"c\", \"3\"]", "", ""),
        ("HGET h a", "nil", "", ""),
        ("HEXISTS h a", ":0", "", ""),
        ("HSTRLEN h a", ":0", "", ""),
        ("HTTL h FIELDS 1 a", "[:-2]", "", ""),
        ("HSCAN h 0", "[\"0\", [\"c\", \"3\"]]", "", ""),
        ("HRANDFIELD h 2", "[\"c\"]", "", ""),
        ("HDEL h a", ":0", "", ""),
        ("HPERSIST h FIELDS 1 a", "[:-2]", "", ""),
        ("HINCRBY h a 5", ":5", "HSET h a 5", "hexpired h, hincrby h"),
        ("HTTL h FIELDS 1 a", "[:-1]", "", ""),
        ("HSETEX h FNX KEEPTTL FIELDS 1 b 7", ":1", "HDEL h b; HSETEX h KEEPTTL FIELDS 1 b 7", "hexpired h, hset h"),
        ("HTTL h FIELDS 1 b", "[:-1]", "", ""),
    ]);
}

#[test]
fn a_replica_hides_and_keeps_what_is_past_due() {
    let mut run = Run::new();
    run.run("HSETEX h PX 10 FIELDS 1 f v");
    run.advance(10);
    run.env.is_primary = false;
    assert_eq!(run.run("HGET h f"), "nil");
    // What comes from the primary sees the field, and may give it a time in the past.
    run.env.is_applying = true;
    assert_eq!(run.run("HSETNX h f w"), ":0");
    assert_eq!(run.run("HSETEX h PXAT 1 FIELDS 1 f w"), ":1");
    assert_eq!(run.run("HLEN h"), ":1");
    assert_eq!(run.run("HDEL h f"), ":1");
    assert_eq!(run.run("EXISTS h"), ":0");
}

#[test]
fn times_move_with_the_hash() {
    let mut run = Run::new();
    run.run("HSETEX {t}a PXAT 4102444800000 FIELDS 1 f v");
    run.run("HSET {t}a g v");
    assert_eq!(run.run("COPY {t}a {t}b"), ":1");
    assert_eq!(run.run("RENAME {t}a {t}c"), "OK");
    for key in ["{t}b", "{t}c"] {
        assert_eq!(run.run(&format!("HPEXPIRETIME {key} FIELDS 2 f g")), "[:4102444800000, :-1]");
        assert_eq!(run.run(&format!("OBJECT ENCODING {key}")), "\"hashtable\"");
    }
    assert_eq!(run.run("MEMORY USAGE {t}b"), run.run("MEMORY USAGE {t}c"));
}

#[test]
fn random_fields_are_distinct_or_not_as_asked() {
    let mut run = Run::new();
    let pairs: Vec<String> = (0..1000).map(|n| format!("{n} {n}")).collect();
    run.run(&format!("HSET large {}", pairs.join(" ")));
    run.run(&format!("HSET small {}", pairs[..100].join(" ")));
    assert_eq!(run.run("OBJECT ENCODING small"), "\"listpack\"");
    for (key, count, expected) in
        [("large", 100, 100), ("large", 900, 900), ("large", 5000, 1000), ("small", 50, 50), ("small", 500, 100)]
    {
        let reply = run.run(&format!("HRANDFIELD {key} {count}"));
        let mut names: Vec<&str> = reply.trim_matches(['[', ']']).split(", ").collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), expected, "{key} {count}");
    }
    let repeated = run.run("HRANDFIELD small -300 WITHVALUES");
    assert_eq!(repeated.split(", ").count(), 600);
    run.env.proto_max_bulk_len = 1000;
    assert!(run.run("HRANDFIELD small -9223372036854775807").starts_with("-ERR the reply would be larger"));
}
