// SPDX-License-Identifier: BSD-3-Clause
//! Clients that wait for keys: who is served, in which order, what the log gets, and every way out.

use crate::harness::{Client, Server};
use pando_session::{PauseMode, PausePurpose, Role, boot_ms};
use pando_topology::Slot;
use std::sync::atomic::Ordering::Relaxed;

fn block(server: &Server, line: &str) -> Client {
    let mut client = server.client();
    assert_eq!(client.run(line), "", "{line}");
    assert!(client.is_blocked(), "{line}");
    client
}

fn log_to(server: &Server) {
    server.log.is_active.store(true, Relaxed);
}

#[test]
fn what_is_there_is_taken_at_once() {
    let server = Server::new();
    log_to(&server);
    let mut client = server.client();
    client.check(&[
        ("RPUSH a 1 2 3 4 5 6 7", ":7"),
        ("BLPOP none a 0", "[\"a\", \"1\"]"),
        ("BRPOP a none 0.5", "[\"a\", \"7\"]"),
        ("BLMPOP 0 2 none a RIGHT COUNT 2", "[\"a\", [\"6\", \"5\"]]"),
        ("BLMOVE a b LEFT RIGHT 0", "\"2\""),
        ("BRPOPLPUSH a b 0", "\"4\""),
        ("BLPOP a 0", "[\"a\", \"3\"]"),
        ("SET s x", "+OK"),
        ("BLPOP s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("BLPOP none -1", "-ERR timeout is negative"),
        ("BLMOVE b s LEFT UP 0", "-ERR syntax error"),
        ("BLMOVE b s LEFT LEFT 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ]);
    assert_eq!(
        server.logged(),
        [
            "0: RPUSH a 1 2 3 4 5 6 7",
            "0: LPOP a",
            "0: RPOP a",
            "0: RPOP a 2",
            "0: LMOVE a b LEFT RIGHT",
            "0: RPOPLPUSH a b",
            "0: LPOP a",
            "0: SET s x"
        ]
    );
    assert_eq!(server.engine.keyspace.blocking_keys(), (0, 0));
}

#[test]
fn first_come_first_served() {
    let server = Server::new();
    log_to(&server);
    let mut waiting: Vec<Client> = (0..4).map(|_| block(&server, "BLPOP q 0")).collect();
    let mut pusher = server.client();
    pusher.check(&[("RPUSH q 1 2", ":2"), ("LLEN q", ":0"), ("RPUSH q 3 4 5", ":3"), ("LRANGE q 0 -1", "[\"5\"]")]);
    server.pump(&mut waiting.iter_mut().collect::<Vec<_>>());
    let got: Vec<String> = waiting.iter_mut().map(Client::replies).collect();
    assert_eq!(got, ["[\"q\", \"1\"]", "[\"q\", \"2\"]", "[\"q\", \"3\"]", "[\"q\", \"4\"]"]);
    // As Valkey's: the push first, then each pop by itself.
    assert_eq!(
        server.logged(),
        ["0: RPUSH q 1 2", "0: LPOP q", "0: LPOP q", "0: RPUSH q 3 4 5", "0: LPOP q", "0: LPOP q"]
    );
    assert_eq!(server.engine.keyspace.blocking_keys(), (0, 0));
}

#[test]
fn a_transaction_wakes_when_it_is_done_and_never_waits() {
    let server = Server::new();
    let mut waiter = block(&server, "BLPOP q 0");
    let mut client = server.client();
    client.check(&[
        ("MULTI", "+OK"),
        ("BLPOP none 0", "+QUEUED"),
        ("BLMOVE none q LEFT LEFT 0", "+QUEUED"),
        ("RPUSH q 1", "+QUEUED"),
        ("RPUSH q 2", "+QUEUED"),
        ("LPOP q", "+QUEUED"),
        ("EXEC", "[nil, nil, :1, :2, \"1\"]"),
    ]);
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[\"q\", \"2\"]");
    // What a transaction pushes and deletes nobody sees.
    let mut waiter = block(&server, "BLPOP q 0");
    client.check(&[("MULTI", "+OK"), ("RPUSH q 1", "+QUEUED"), ("DEL q", "+QUEUED"), ("EXEC", "[:1, :1]")]);
    server.pump(&mut [&mut waiter]);
    assert!(waiter.is_blocked());
}

#[test]
fn keys_are_looked_at_in_the_order_of_the_command() {
    let server = Server::new();
    let mut waiter = block(&server, "BLPOP {k}1 {k}2 0");
    let mut client = server.client();
    client.check(&[("MULTI", "+OK"), ("RPUSH {k}2 b", "+QUEUED"), ("RPUSH {k}1 a", "+QUEUED"), ("EXEC", "[:1, :1]")]);
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[\"{k}1\", \"a\"]");
    client.check(&[("LLEN {k}2", ":1")]);
}

#[test]
fn every_way_a_list_comes_to_be_wakes() {
    for (prepare, cause) in [
        ("RPUSH {q}x 1", "RENAME {q}x {q}"),
        ("RPUSH {q}x 1", "COPY {q}x {q}"),
        ("RPUSH {q}x 1", "LMOVE {q}x {q} LEFT RIGHT"),
        ("SET unrelated 1", "RPUSH {q} 1"),
    ] {
        let server = Server::new();
        let mut client = server.client();
        client.run(prepare);
        let mut waiter = block(&server, "BRPOP {q} 0");
        client.run(cause);
        server.pump(&mut [&mut waiter]);
        assert_eq!(waiter.replies(), "[\"{q}\", \"1\"]", "{cause}");
    }
    let server = Server::new();
    let mut client = server.client();
    client.check(&[("SELECT 5", "+OK"), ("RPUSH q 1", ":1")]);
    let mut waiter = block(&server, "BRPOP q 0");
    client.check(&[("MOVE q 0", ":1")]);
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[\"q\", \"1\"]");
    client.run("RPUSH q 2");
    let mut waiter = block(&server, "BRPOP q 0");
    client.check(&[("SWAPDB 0 5", "+OK")]);
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[\"q\", \"2\"]");
}

#[test]
fn another_type_wakes_nobody() {
    let server = Server::new();
    let mut waiter = block(&server, "BLPOP q 0");
    let mut client = server.client();
    client.check(&[("SET q 1", "+OK"), ("DEL q", ":1"), ("SET q 2", "+OK")]);
    server.pump(&mut [&mut waiter]);
    assert!(waiter.is_blocked());
    client.check(&[("DEL q", ":1"), ("RPUSH q 3", ":1")]);
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[\"q\", \"3\"]");
}

#[test]
fn moves_form_chains() {
    let server = Server::new();
    log_to(&server);
    // One slot: all under one lock. Different slots: each mover is served by its own worker.
    for (a, b, c) in [("{t}a", "{t}b", "{t}c"), ("a", "b", "c")] {
        let mut last = block(&server, &format!("BLPOP {c} 0"));
        let mut second = block(&server, &format!("BLMOVE {b} {c} LEFT RIGHT 0"));
        let mut first = block(&server, &format!("BRPOPLPUSH {a} {b} 0"));
        let mut client = server.client();
        client.run(&format!("RPUSH {a} 1"));
        server.pump(&mut [&mut first, &mut second, &mut last]);
        assert_eq!(first.replies(), "\"1\"");
        assert_eq!(second.replies(), "\"1\"");
        assert_eq!(last.replies(), format!("[\"{c}\", \"1\"]"));
        let logged = server.logged();
        let expected = [
            format!("0: RPUSH {a} 1"),
            format!("0: RPOPLPUSH {a} {b}"),
            format!("0: LMOVE {b} {c} LEFT RIGHT"),
            format!("0: LPOP {c}"),
        ];
        assert_eq!(logged, expected);
    }
    assert_eq!(server.engine.keyspace.blocking_keys(), (0, 0));
}

#[test]
fn a_circle_ends() {
    let server = Server::new();
    let mut there = block(&server, "BRPOPLPUSH a b 0");
    let mut back = block(&server, "BRPOPLPUSH b a 0");
    let mut client = server.client();
    client.run("RPUSH a foo");
    server.pump(&mut [&mut there, &mut back]);
    assert_eq!((there.replies(), back.replies()), ("\"foo\"".into(), "\"foo\"".into()));
    client.check(&[("LRANGE a 0 -1", "[\"foo\"]"), ("EXISTS b", ":0")]);
    let mut onto_itself = block(&server, "BLMOVE c c LEFT RIGHT 0");
    client.run("RPUSH c 1 2");
    server.pump(&mut [&mut onto_itself]);
    assert_eq!(onto_itself.replies(), "\"1\"");
    client.check(&[("LRANGE c 0 -1", "[\"2\", \"1\"]")]);
}

#[test]
fn who_needs_more_locks_keeps_its_place() {
    let server = Server::new();
    let mut mover = block(&server, "BLMOVE a elsewhere LEFT RIGHT 0");
    let mut second = block(&server, "BLPOP a 0");
    let mut client = server.client();
    client.check(&[("RPUSH a 1 2 3 4", ":4")]);
    // Nobody has been served: the first one's worker has not been there yet. Who comes now lines up.
    let mut third = block(&server, "BLPOP a 0");
    client.check(&[("LLEN a", ":4"), ("RPUSH a 5", ":5")]);
    server.pump(&mut [&mut mover, &mut second, &mut third]);
    assert_eq!(mover.replies(), "\"1\"");
    assert_eq!(second.replies(), "[\"a\", \"2\"]");
    assert_eq!(third.replies(), "[\"a\", \"3\"]");
    client.check(&[("LRANGE a 0 -1", "[\"4\", \"5\"]")]);
}

#[test]
fn who_leaves_while_it_is_waited_for_lets_the_others_go_on() {
    for ending in ["close", "time", "unblock"] {
        let server = Server::new();
        let mut mover = block(&server, "BLMOVE a elsewhere LEFT RIGHT 1000");
        let mut second = block(&server, "BLPOP a 0");
        let mut client = server.client();
        client.run("RPUSH a 1");
        match ending {
            "close" => drop(mover),
            "time" => mover.time_out(),
            _ => {
                assert_eq!(client.run(&format!("CLIENT UNBLOCK {}", mover.session.shared.id)), ":1");
                server.pump(&mut [&mut mover, &mut second]);
            }
        }
        server.pump(&mut [&mut second]);
        assert_eq!(second.replies(), "[\"a\", \"1\"]", "{ending}");
        assert_eq!(server.engine.keyspace.blocking_keys(), (0, 0));
    }
}

#[test]
fn many_waiters_are_served_in_portions_and_in_order() {
    let server = Server::new();
    let mut waiting: Vec<Client> = (0..500).map(|_| block(&server, "BLPOP q 0")).collect();
    let mut client = server.client();
    let elements: Vec<String> = (0..510).map(|n| n.to_string()).collect();
    client.run(&format!("RPUSH q {}", elements.join(" ")));
    // Not all at once: the slot is released in between, and a newcomer does not overtake.
    assert_ne!(client.run("LLEN q"), ":10");
    waiting.push(block(&server, "BLPOP q 0"));
    server.pump(&mut waiting.iter_mut().collect::<Vec<_>>());
    for (n, waiter) in waiting.iter_mut().enumerate() {
        assert_eq!(waiter.replies(), format!("[\"q\", \"{n}\"]"));
    }
    client.check(&[("LLEN q", ":9"), ("BLPOP q 0", "[\"q\", \"501\"]")]);
}

#[test]
fn timeouts_and_unblock() {
    let server = Server::new();
    let mut client = server.client();
    for (proto, null) in [("2", "nil"), ("3", "null")] {
        for line in ["BLPOP x y 100", "BLMOVE x y LEFT RIGHT 100", "BLMPOP 100 2 x y LEFT"] {
            for ending in ["", "TIMEOUT", "ERROR", "time"] {
                let mut waiter = server.client();
                waiter.run(&format!("HELLO {proto}"));
                waiter.run(line);
                assert!(waiter.is_blocked());
                let id = waiter.session.shared.id;
                assert!(client.run(&format!("CLIENT LIST ID {id}")).contains(" flags=b "));
                if ending == "time" {
                    waiter.time_out();
                } else {
                    client.check(&[
                        (&format!("CLIENT UNBLOCK {id} {ending}"), ":1"),
                        (&format!("CLIENT UNBLOCK {id} {ending}"), ":0"),
                    ]);
                    // It is out already: what comes now is not for it.
                    client.check(&[("RPUSH x 1", ":1"), ("DEL x", ":1")]);
                    server.pump(&mut [&mut waiter]);
                }
                let expected = if ending == "ERROR" { "-UNBLOCKED client unblocked via CLIENT UNBLOCK" } else { null };
                assert_eq!(waiter.replies(), expected, "{line} {ending}");
                assert!(client.run(&format!("CLIENT LIST ID {id}")).contains(" flags=N "));
                assert_eq!(server.engine.keyspace.blocking_keys(), (0, 0));
                assert_eq!(waiter.run("PING"), "+PONG");
            }
        }
    }
    client.check(&[("CLIENT UNBLOCK 12345", ":0"), ("RPUSH x 1", ":1"), ("LLEN x", ":1")]);
}

#[test]
fn a_client_that_goes_takes_nothing_along() {
    let server = Server::new();
    drop(block(&server, "BLPOP a b c 0"));
    let mut client = server.client();
    client.check(&[("RPUSH b 1", ":1"), ("LLEN b", ":1")]);
    assert_eq!(server.engine.keyspace.blocking_keys(), (0, 0));
}

#[test]
fn muted_clients_get_no_answer() {
    let server = Server::new();
    let mut waiter = server.client();
    waiter.run("CLIENT REPLY OFF");
    waiter.run("BLPOP q 0");
    server.client().run("RPUSH q 1");
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "");
    waiter.check(&[("CLIENT REPLY ON", "+OK"), ("CLIENT REPLY SKIP", ""), ("BLPOP q 0", "")]);
    waiter.time_out();
    assert_eq!(waiter.replies(), "");
    waiter.check(&[("PING", "+PONG")]);
}

#[test]
fn another_role_sends_clients_away() {
    let server = Server::new();
    let mut waiter = block(&server, "BLPOP q 0");
    server.engine.set_role(Role::Replica);
    server.pump(&mut [&mut waiter]);
    assert_eq!(
        waiter.replies(),
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
    );
    assert_eq!(waiter.next, pando_session::Next::Close);
    // An answer that was on its way when the role changed acknowledges nothing.
    server.engine.set_role(Role::Primary);
    let mut waiter = block(&server, "BLPOP q 0");
    server.client().run("RPUSH q 1");
    server.engine.set_role(Role::Replica);
    server.engine.set_role(Role::Primary);
    server.pump(&mut [&mut waiter]);
    assert!(waiter.replies().starts_with("-UNBLOCKED"));
}

#[test]
fn what_was_written_for_a_client_is_what_it_waits_for() {
    let server = Server::new();
    log_to(&server);
    let mut waiter = block(&server, "BLPOP q 0");
    server.client().run("RPUSH q 1");
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[\"q\", \"1\"]");
    server.engine.replica_acked(1, server.log_offset());
    waiter.check(&[("WAIT 1 0", ":1")]);
    server.engine.acks.remove(1);
    server.engine.replica_acked(2, server.log_offset() - 1);
    waiter.check(&[("WAIT 1 0", "")]);
}

#[test]
fn changes_without_a_command_wake_too() {
    let server = Server::new();
    let mut waiter = block(&server, "BLPOP q 0");
    let mut apply = pando_session::ApplySession::new(&server.engine);
    server.engine.apply(&mut apply, &[b"RPUSH", b"q", b"1"]).unwrap();
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[\"q\", \"1\"]");
}

#[test]
fn a_pause_holds_back_what_is_left() {
    let server = Server::new();
    let engine = &server.engine;
    let mut waiter = block(&server, "BLPOP q 0");
    let mut apply = pando_session::ApplySession::new(engine);
    engine.gate.pause(PausePurpose::Client, PauseMode::Write, boot_ms() + 100_000);
    engine.apply(&mut apply, &[b"RPUSH", b"q", b"1"]).unwrap();
    let mut worker = pando_session::WorkerScratch::new(engine);
    assert!(!engine.serve_slot(&mut worker, Slot::of_key(b"q")));
    server.pump(&mut [&mut waiter]);
    assert!(waiter.is_blocked());
    engine.unpause(PausePurpose::Client);
    assert!(engine.serve_slot(&mut worker, Slot::of_key(b"q")));
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[\"q\", \"1\"]");
}

#[test]
fn sorted_sets_are_waited_for_beside_lists() {
    let server = Server::new();
    log_to(&server);
    let mut least = block(&server, "BZPOPMIN z 0");
    let mut of_list = block(&server, "BLPOP z 0");
    let mut most = block(&server, "BZPOPMAX none z 0");
    let mut many = block(&server, "BZMPOP 0 2 none z MIN COUNT 10");
    let mut client = server.client();
    client.check(&[("ZADD z 1 a 2 b 3 c 4 d", ":4"), ("EXISTS z", ":0"), ("RPUSH z x", ":1"), ("EXISTS z", ":0")]);
    server.pump(&mut [&mut least, &mut of_list, &mut most, &mut many]);
    assert_eq!(least.replies(), "[\"z\", \"a\", \"1\"]");
    assert_eq!(most.replies(), "[\"z\", \"d\", \"4\"]");
    assert_eq!(many.replies(), "[\"z\", [[\"b\", \"2\"], [\"c\", \"3\"]]]");
    assert_eq!(of_list.replies(), "[\"z\", \"x\"]");
    let expected =
        ["0: ZADD z 1 a 2 b 3 c 4 d", "0: ZPOPMIN z", "0: ZPOPMAX z", "0: ZPOPMIN z 2", "0: RPUSH z x", "0: LPOP z"];
    assert_eq!(server.logged(), expected);
    client.check(&[
        ("BZPOPMIN none -1", "-ERR timeout is negative"),
        ("RPUSH l x", ":1"),
        ("BZPOPMIN l 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("BZMPOP 0 1 l MIDDLE", "-ERR syntax error"),
        ("ZADD z 1 a", ":1"),
        ("BZMPOP 0 1 z MIN", "[\"z\", [[\"a\", \"1\"]]]"),
    ]);
}

#[test]
fn streams_are_read_when_something_comes() {
    let server = Server::new();
    let mut client = server.client();
    client.check(&[("XADD {s}1 1-1 a 1", "\"1-1\""), ("XGROUP CREATE {s}1 g $", "+OK")]);
    let mut tail = block(&server, "XREAD BLOCK 0 STREAMS {s}1 {s}2 $ $");
    let mut later = block(&server, "XREAD BLOCK 0 STREAMS {s}1 5-0");
    let mut first = block(&server, "XREADGROUP GROUP g alice BLOCK 0 STREAMS {s}1 >");
    let mut second = block(&server, "XREADGROUP GROUP g bob BLOCK 0 STREAMS {s}1 >");
    client.check(&[("XADD {s}1 2-1 b 2", "\"2-1\"")]);
    server.pump(&mut [&mut tail, &mut later, &mut first, &mut second]);
    assert_eq!(tail.replies(), "[[\"{s}1\", [[\"2-1\", [\"b\", \"2\"]]]]]");
    assert_eq!(first.replies(), "[[\"{s}1\", [[\"2-1\", [\"b\", \"2\"]]]]]");
    assert!(later.is_blocked() && second.is_blocked());
    assert_eq!(server.engine.keyspace.blocking_keys(), (1, 1));
    client.check(&[("XADD {s}1 6-1 c 3", "\"6-1\"")]);
    server.pump(&mut [&mut later, &mut second]);
    assert_eq!(later.replies(), "[[\"{s}1\", [[\"6-1\", [\"c\", \"3\"]]]]]");
    assert_eq!(second.replies(), "[[\"{s}1\", [[\"6-1\", [\"c\", \"3\"]]]]]");
}

#[test]
fn a_group_that_goes_is_told() {
    for (cause, expected) in [
        ("DEL s", "-NOGROUP"),
        ("SET s x", "-WRONGTYPE"),
        ("FLUSHALL", "-NOGROUP"),
        ("XGROUP DESTROY s g", "-NOGROUP"),
        ("RENAME other s", "-NOGROUP"),
        ("SWAPDB 0 1", "-NOGROUP"),
        ("PEXPIREAT s 1", "-NOGROUP"),
    ] {
        let server = Server::new();
        let mut client = server.client();
        client.check(&[("XGROUP CREATE s g $ MKSTREAM", "+OK"), ("XADD other 1-1 a 1", "\"1-1\"")]);
        let mut waiter = block(&server, "XREADGROUP GROUP g alice BLOCK 0 STREAMS s >");
        let mut reader = block(&server, "XREAD BLOCK 0 STREAMS s 9-9");
        client.run(cause);
        server.pump(&mut [&mut waiter, &mut reader]);
        let reply = waiter.replies();
        assert!(reply.starts_with(expected), "{cause}: {reply}");
        assert!(reader.is_blocked(), "{cause}");
        assert_eq!(server.engine.keyspace.blocking_keys(), (1, 0));
    }
}

#[test]
fn a_stream_on_another_slot_is_not_forgotten() {
    let server = Server::new();
    let mut client = server.client();
    let mut waiter = block(&server, "XREAD BLOCK 0 STREAMS a b c 0 5-0 0");
    client.check(&[("XADD b 1-1 x 1", "\"1-1\"")]);
    server.pump(&mut [&mut waiter]);
    assert!(waiter.is_blocked());
    client.check(&[("XADD b 6-1 x 1", "\"6-1\"")]);
    server.pump(&mut [&mut waiter]);
    assert_eq!(waiter.replies(), "[[\"b\", [[\"6-1\", [\"x\", \"1\"]]]]]");
    assert_eq!(server.engine.keyspace.blocking_keys(), (0, 0));
}

#[test]
fn waitaof_knows_that_nobody_has_a_file() {
    let server = Server::new();
    let mut client = server.client();
    client.check(&[
        ("SET a 1", "+OK"),
        ("WAITAOF 0 0 0", "[:0, :0]"),
        ("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1"),
        ("WAITAOF 0 -1 0", "-ERR value is out of range, must be positive"),
        ("WAITAOF 0 0 -1", "-ERR timeout is negative"),
        ("WAIT 1 9223372036854775807", "-ERR timeout is out of range"),
        ("WAITAOF 1 0 0", "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."),
        ("WAITAOF 0 1 10", ""),
    ]);
    assert!(!client.finish_wait(false));
    assert!(client.finish_wait(true));
    assert_eq!(client.replies(), "[:0, :0]");
}
