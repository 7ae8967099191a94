// SPDX-License-Identifier: BSD-3-Clause
//! What happens as the clock moves: expiry on access, on a primary and on a replica.

use crate::testing::{Run, check};

#[test]
fn an_expired_key_is_deleted_on_access_by_a_primary() {
    for (line, reply, log) in [
        ("GET k", "nil", "UNLINK k"),
        ("EXISTS k", ":0", "UNLINK k"),
        ("TTL k", ":-2", "UNLINK k"),
        ("DEL k", ":0", "UNLINK k"),
        ("INCR k", ":1", "UNLINK k; INCR k"),
        ("SET k 5", "OK", "UNLINK k; SET k 5"),
        ("SET k 5 XX", "nil", "UNLINK k"),
        ("SET k 5 KEEPTTL", "OK", "UNLINK k; SET k 5 KEEPTTL"),
        ("APPEND k 5", ":1", "UNLINK k; APPEND k 5"),
        ("MSET k 5", "OK", "UNLINK k; MSET k 5"),
        ("GETEX k PERSIST", "nil", "UNLINK k"),
        ("RENAME k x", "-ERR no such key", "UNLINK k"),
        ("TYPE k", "none", "UNLINK k"),
        ("OBJECT ENCODING k", "nil", "UNLINK k"),
        ("SETRANGE k 1 a", ":2", "UNLINK k; SETRANGE k 1 a"),
        ("SETBIT k 1 1", ":0", "UNLINK k; SETBIT k 1 1"),
        ("EXPIRE k 5", ":0", "UNLINK k"),
    ] {
        let mut run = Run::new();
        run.run("SET k 1 PX 10");
        run.advance(9);
        assert_eq!(run.run("GET k"), "\"1\"");
        run.advance(1);
        assert_eq!(run.run(line), reply, "{line}");
        assert_eq!(run.log(), log, "{line}");
        assert!(run.events().starts_with("expired k"), "{line}: {}", run.events());
        assert_eq!(run.effects.expired, 1, "{line}");
        run.run("PERSIST k");
        assert_eq!(run.log(), "", "{line}: no TTL is left and the key is deleted once");
    }
}

#[test]
fn a_replica_hides_an_expired_key_and_keeps_it() {
    let mut run = Run::new();
    run.run("SET k 1 PX 10");
    run.env.is_primary = false;
    run.advance(20);
    assert_eq!(run.run("GET k"), "nil");
    assert_eq!((run.log(), run.events(), run.effects.expired), (String::new(), String::new(), 0));
    assert_eq!(run.run("KEYS *"), "[]");
    assert_eq!(run.run("DBSIZE"), ":1");
}

#[test]
fn the_primarys_log_decides_what_exists_on_a_replica() {
    let mut run = Run::new();
    run.env.is_primary = false;
    run.env.is_applying = true;
    assert_eq!(run.run("SET k 1 PXAT 5"), "OK");
    assert_eq!(run.run("APPEND k 2"), ":2");
    assert_eq!(run.run("EXPIRE k -1"), ":1");
    run.env.is_applying = false;
    assert_eq!(run.run("GET k"), "nil");
    assert_eq!(run.run("DBSIZE"), ":1");
}

#[test]
fn remaining_time_is_rounded() {
    let mut run = Run::new();
    run.run("SET k 1 PX 10400");
    assert_eq!(run.run("TTL k"), ":10");
    assert_eq!(run.run("PTTL k"), ":10400");
    run.advance(900);
    assert_eq!(run.run("TTL k"), ":10");
    run.advance(1);
    assert_eq!(run.run("TTL k"), ":9");
    assert_eq!(run.run("PEXPIRETIME k"), ":1700000010400");
    assert_eq!(run.run("EXPIRETIME k"), ":1700000010");
}

#[test]
fn walks_skip_expired_keys_and_delete_those_they_would_have_shown() {
    let mut run = Run::new();
    run.env.log = true;
    run.run("MSET a 1 b 2");
    run.run("RPUSH l x");
    for key in ["a", "l"] {
        run.run(&format!("PEXPIRE {key} 10"));
    }
    run.advance(10);
    assert_eq!((run.run("KEYS *"), run.log()), ("[\"b\"]".into(), String::new()));
    assert_eq!(run.run("DBSIZE"), ":3");
    run.env.is_primary = false;
    assert_eq!((run.run("SCAN 0"), run.log()), ("[\"0\", [\"b\"]]".into(), String::new()));
    run.env.is_primary = true;
    run.env.keeps_expired = true;
    assert_eq!((run.run("GET a"), run.log()), ("nil".into(), String::new()));
    assert_eq!((run.run("SCAN 0"), run.log()), ("[\"0\", [\"b\"]]".into(), String::new()));
    run.env.keeps_expired = false;
    assert_eq!((run.run("SCAN 0 TYPE list"), run.log()), ("[\"0\", []]".into(), "UNLINK l".into()));
    assert_eq!((run.run("SCAN 0 MATCH b*"), run.log()), ("[\"0\", [\"b\"]]".into(), String::new()));
    assert_eq!((run.run("SCAN 0"), run.log()), ("[\"0\", [\"b\"]]".into(), "UNLINK a".into()));
    assert!(!run.effects.is_one_transaction());
    assert_eq!(run.run("DBSIZE"), ":1");
    run.run("PEXPIRE b 10");
    run.advance(10);
    assert_eq!((run.run("RANDOMKEY"), run.log()), ("nil".into(), "UNLINK b".into()));
    assert_eq!(run.run("DBSIZE"), ":0");
}

#[test]
fn settings_of_the_server_change_replies() {
    check(&[("SET k v", "OK"), ("OBJECT IDLETIME k", ":0"), ("OBJECT REFCOUNT k", ":1")]);
    let mut run = Run::new();
    run.env.lfu = true;
    run.env.cluster_enabled = true;
    run.env.proto_max_bulk_len = 1024;
    run.run("SET k v");
    assert!(run.run("OBJECT FREQ k").starts_with(':'));
    assert!(run.run("OBJECT IDLETIME k").starts_with("-ERR An LFU maxmemory policy is selected"));
    assert_eq!(run.run("SWAPDB 0 1"), "-ERR SWAPDB is not allowed in cluster mode");
    assert_eq!(run.run("SETBIT k 8192 1"), "-ERR bit offset is not an integer or out of range");
    assert_eq!(run.run("SETBIT k 8191 1"), ":0");
    assert_eq!(run.run("APPEND k x"), "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    assert_eq!(run.run("LCS k k"), "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
}
