// SPDX-License-Identifier: BSD-3-Clause
//! Applying a primary's stream.

use crate::harness::Server;
use pando_resp::split_args;
use pando_session::{ApplySession, Role};
use std::sync::atomic::Ordering::Relaxed;

fn apply(server: &Server, session: &mut ApplySession, line: &str) -> Result<(), String> {
    let args = split_args(line.as_bytes()).expect("balanced quotes");
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    server.engine.apply(session, &args).map_err(|error| error.to_string())
}

#[test]
fn the_stream_is_executed_without_checks_and_not_logged() {
    let server = Server::with(|settings| settings.requirepass = Some(b"x".to_vec()));
    server.engine.gate.set_role(Role::Replica);
    server.log.is_active.store(true, Relaxed);
    let mut session = ApplySession::new(&server.engine);
    for line in ["SELECT 2", "SET a 1", "PING", "MULTI", "INCR a", "SELECT 3", "SET b 2", "EXEC", "INCR b"] {
        assert_eq!(apply(&server, &mut session, line), Ok(()), "{line}");
    }
    assert_eq!(session.db, 3);
    assert!(apply(&server, &mut session, "FOO").is_err());
    assert!(apply(&server, &mut session, "CLIENT LIST").is_err());
    assert!(apply(&server, &mut session, "EXEC").is_err());
    assert!(server.logged().is_empty());
    let mut client = server.client();
    client.check(&[
        ("AUTH x", "+OK"),
        ("SELECT 2", "+OK"),
        ("GET a", "\"2\""),
        ("SELECT 3", "+OK"),
        ("GET b", "\"3\""),
    ]);
}

#[test]
fn messages_and_watches() {
    let server = Server::new();
    let mut client = server.client();
    client.run("HELLO 3");
    client.run("SUBSCRIBE c");
    client.run("WATCH a");
    let mut session = ApplySession::new(&server.engine);
    assert_eq!(apply(&server, &mut session, "PUBLISH c m"), Ok(()));
    assert_eq!(apply(&server, &mut session, "SET a 1"), Ok(()));
    assert_eq!(server.pushed(&client), [r#">["message", "c", "m"]"#]);
    client.check(&[("MULTI", "+OK"), ("EXEC", "null")]);
}

#[test]
fn the_primary_decides_which_keys_are_past_due() {
    let server = Server::new();
    server.engine.gate.set_role(Role::Replica);
    let mut session = ApplySession::new(&server.engine);
    for line in ["SET a 1 PXAT 1", "INCR a", "MULTI", "PERSIST a", "INCR a", "EXEC"] {
        assert_eq!(apply(&server, &mut session, line), Ok(()), "{line}");
    }
    let stat = |name: &str| server.engine.stats.command(pando_commands::find_spec(name.as_bytes()).expect("known").id);
    assert_eq!((stat("incr").calls, stat("persist").calls, stat("get").calls), (2, 1, 0));
    server.client().check(&[("GET a", "\"3\"")]);
}
