// SPDX-License-Identifier: BSD-3-Clause
//! MULTI, EXEC, WATCH: replies, and what reaches the log.

use crate::harness::Server;
use pando_session::{Next, SessionFn};
use pando_topology::Slot;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn queueing_and_errors() {
    Server::new().client().check(&[
        ("EXEC", "-ERR EXEC without MULTI"),
        ("DISCARD", "-ERR DISCARD without MULTI"),
        ("MULTI", "+OK"),
        ("MULTI", "-ERR Command 'multi' not allowed inside a transaction"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("MULTI", "+OK"),
        ("WATCH a", "-ERR Command 'watch' not allowed inside a transaction"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("MULTI", "+OK"),
        ("SET a", "-ERR wrong number of arguments for 'set' command"),
        ("PING", "+QUEUED"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("MULTI", "+OK"),
        ("EXEC x", "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"),
        ("MULTI", "+OK"),
        ("CLIENT REPLY OFF", "-ERR Command 'client|reply' not allowed inside a transaction"),
        ("RESET", "+RESET"),
        ("MULTI", "+OK"),
        ("FOO", "-ERR unknown command 'FOO', with args beginning with: "),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("MULTI", "+OK"),
        ("SET a 1", "+QUEUED"),
        ("INCR a", "+QUEUED"),
        ("SELECT 3", "+QUEUED"),
        ("SELECT 99", "+QUEUED"),
        ("GET a", "+QUEUED"),
        ("SELECT 0", "+QUEUED"),
        ("APPEND a x", "+QUEUED"),
        ("INCR a", "+QUEUED"),
        ("WAIT 1 0", "+QUEUED"),
        ("EXEC", "[+OK, :2, +OK, -ERR DB index is out of range, nil, +OK, :2, -ERR value is not an integer or out of range, :0]"),
        ("EXEC", "-ERR EXEC without MULTI"),
        ("MULTI", "+OK"),
        ("SET a 9", "+QUEUED"),
        ("DISCARD", "+OK"),
        ("GET a", "\"2x\""),
        ("MULTI", "+OK"),
        ("DBSIZE", "+QUEUED"),
        ("FLUSHALL", "+QUEUED"),
        ("DBSIZE", "+QUEUED"),
        ("EXEC", "[:1, +OK, :0]"),
        ("MULTI", "+OK"),
        ("EXEC", "[]"),
    ]);
}

#[test]
fn watched_keys() {
    let server = Server::new();
    let (mut one, mut two) = (server.client(), server.client());
    // (before MULTI, meanwhile by another client, whether EXEC runs)
    let cases: &[(&str, &str, bool)] = &[
        ("WATCH a b", "SET a 1", false),
        ("WATCH a b", "SET c 1", true),
        ("WATCH a", "GET a", true),
        ("WATCH nope", "DEL nope", true),
        ("WATCH nope", "FLUSHALL", true),
        ("WATCH a", "FLUSHALL", false),
        ("WATCH a", "FLUSHDB", false),
        ("WATCH a", "EXPIRE a 100", false),
        ("WATCH a", "DEL a", false),
        ("WATCH a", "SWAPDB 0 1", false),
        ("WATCH nope", "SWAPDB 0 1", true),
        ("WATCH a", "SWAPDB 1 2", true),
        ("WATCH a", "PEXPIRE a 0", false),
        ("WATCH nope", "SET nope 1", false),
    ];
    for (watch, meanwhile, runs) in cases {
        two.run("FLUSHALL");
        two.run("SET a 0");
        one.run(watch);
        two.run(meanwhile);
        one.run("MULTI");
        one.run("PING");
        assert_eq!(one.run("EXEC"), if *runs { "[+PONG]" } else { "nil" }, "{watch}, {meanwhile}");
        assert_eq!(one.session.shared.watched.load(Relaxed), 0);
    }
    one.check(&[("WATCH a", "+OK"), ("UNWATCH", "+OK")]);
    two.run("SET a 2");
    one.check(&[("MULTI", "+OK"), ("PING", "+QUEUED"), ("EXEC", "[+PONG]")]);
    // One's own writes count too, before MULTI.
    one.check(&[("WATCH a", "+OK"), ("SET a 3", "+OK"), ("MULTI", "+OK"), ("EXEC", "nil")]);
    // A key that was past due when watched may go away.
    one.worker.freeze_time(1_000_000);
    two.worker.freeze_time(1_000_000);
    two.run("SET e v PX 10");
    one.worker.freeze_time(1_000_005);
    one.check(&[("WATCH e", "+OK"), ("MULTI", "+OK")]);
    one.worker.freeze_time(1_000_020);
    one.check(&[("PING", "+QUEUED"), ("EXEC", "nil")]);
    // One that SWAPDB brings where none was is no change.
    two.run("SET f v PX 10");
    two.worker.freeze_time(1_000_040);
    one.worker.freeze_time(1_000_040);
    one.check(&[("SELECT 1", "+OK"), ("WATCH f", "+OK")]);
    two.check(&[("SWAPDB 0 1", "+OK")]);
    one.check(&[("MULTI", "+OK"), ("PING", "+QUEUED"), ("EXEC", "[+PONG]")]);
}

#[test]
fn watch_is_seen_in_client_list() {
    let server = Server::new();
    let (mut one, mut two) = (server.client(), server.client());
    one.run("WATCH a b");
    two.run("SET a 1");
    one.run("MULTI");
    one.run("PING");
    let line = two.run("CLIENT LIST ID 1");
    assert!(line.contains(" flags=xd ") && line.contains(" multi=1 watch=2 "), "{line}");
}

#[test]
fn effects_reach_the_log_together() {
    let server = Server::new();
    server.log.is_active.store(true, Relaxed);
    let mut client = server.client();
    client.run("SET a 1");
    client.run("GET a");
    client.run("SELECT 2");
    client.run("INCR b");
    assert_eq!(server.logged(), ["0: SET a 1", "2: INCR b"]);
    for line in ["MULTI", "SET x 1", "GET x", "EXEC"] {
        client.run(line);
    }
    assert_eq!(server.logged(), ["2: SET x 1"]);
    for line in ["MULTI", "SET x 1", "SELECT 5", "SET y 2", "PUBLISH c m", "EXEC"] {
        client.run(line);
    }
    assert_eq!(server.logged(), ["2: MULTI; SET x 1; SELECT 5; SET y 2; PUBLISH c m; EXEC"]);
    client.run("PUBLISH c m");
    assert_eq!(server.logged(), ["5: PUBLISH c m"]);
    client.run("MSET a 1 b 2");
    client.run("FLUSHALL");
    assert_eq!(server.logged(), ["5: MSET a 1 b 2", "5: FLUSHALL"]);
    server.log.is_active.store(false, Relaxed);
    client.run("SET a 1");
    assert!(server.logged().is_empty());
}

#[test]
fn server_commands_in_a_transaction_run_without_its_locks() {
    // Takes a lock that the transaction needs too: with its locks held this would never end.
    let admin: SessionFn = |cx, _args| {
        let slot = pando_topology::Slot::of_key(b"a");
        drop(cx.engine.keyspace.lock_one(slot));
        drop(cx.engine.keyspace.lock_all());
        cx.reply.ok();
        Ok(Next::Continue)
    };
    let server = Server::with_commands(|_| {}, &[("info", admin)]);
    server.log.is_active.store(true, Relaxed);
    let mut client = server.client();
    client.check(&[
        ("INFO", "+OK"),
        ("MULTI", "+OK"),
        ("SET a 1", "+QUEUED"),
        ("INFO", "+QUEUED"),
        ("SET a 2", "+QUEUED"),
        ("INCR b", "+QUEUED"),
        ("EXEC", "[+OK, +OK, +OK, :1]"),
    ]);
    assert_eq!(server.logged(), ["0: SET a 1", "0: MULTI; SET a 2; INCR b; EXEC"]);
}

/// The requests from MULTI to EXEC, 76 bytes as valkey-server 9.1.2 counts them, and all their replies.
#[test]
fn a_transaction_counts_for_its_slot() {
    let server = Server::with(|settings| settings.cluster_slot_stats = true);
    let mut client = server.client();
    for line in ["MULTI", "SET k v", "GET k", "EXEC"] {
        client.run(line);
    }
    let usage = server.engine.keyspace.slot_usage(Slot::of_key(b"k"));
    assert_eq!((usage.bytes_in, usage.bytes_out), (76, 39));
}

#[test]
fn many_keys_of_one_slot_are_watched() {
    let server = Server::new();
    let (mut one, mut two) = (server.client(), server.client());
    // With a look at all others for each of them this would not end.
    let keys: Vec<String> = (0..50_000).map(|number| format!("{{t}}{number}")).collect();
    let watch = format!("WATCH {}", keys.join(" "));
    for _ in 0..2 {
        assert_eq!(one.run(&watch), "+OK");
        assert!(two.run("CLIENT LIST ID 1").contains(" watch=50000 "));
    }
    one.run("UNWATCH");
    assert!(two.run("CLIENT LIST ID 1").contains(" watch=0 "));
    two.run("SET {t}7 x");
    one.check(&[("MULTI", "+OK"), ("PING", "+QUEUED"), ("EXEC", "[+PONG]")]);
}
