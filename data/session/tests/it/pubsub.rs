// SPDX-License-Identifier: BSD-3-Clause
//! Pub/Sub: replies in both protocols, delivery, keyspace events.

use crate::harness::Server;
use pando_commands::EventClass;

#[test]
fn replies_in_resp2_and_the_subscribed_mode() {
    let server = Server::new();
    let mut client = server.client();
    client.check(&[
        ("SUBSCRIBE a b", r#"["subscribe", "a", :1] ["subscribe", "b", :2]"#),
        ("PSUBSCRIBE p*", r#"["psubscribe", "p*", :3]"#),
        ("SUBSCRIBE a", r#"["subscribe", "a", :3]"#),
        ("PING", r#"["pong", ""]"#),
        ("PING x", r#"["pong", "x"]"#),
        ("GET a", "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"),
        ("CLIENT INFO", "-ERR Can't execute 'client|info': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"),
        ("UNSUBSCRIBE nope", r#"["unsubscribe", "nope", :3]"#),
        ("UNSUBSCRIBE", r#"["unsubscribe", "a", :2] ["unsubscribe", "b", :1]"#),
        ("UNSUBSCRIBE", r#"["unsubscribe", nil, :1]"#),
        ("PUNSUBSCRIBE", r#"["punsubscribe", "p*", :0]"#),
        ("SSUBSCRIBE x", r#"["ssubscribe", "x", :1]"#),
        ("SUNSUBSCRIBE", r#"["sunsubscribe", "x", :0]"#),
        ("SUNSUBSCRIBE", r#"["sunsubscribe", nil, :0]"#),
        ("GET a", "nil"),
        ("SUBSCRIBE a", r#"["subscribe", "a", :1]"#),
        ("RESET", "+RESET"),
        ("GET a", "nil"),
    ]);
    assert!(server.engine.pubsub.is_empty());
}

#[test]
fn delivery() {
    let server = Server::new();
    let (mut two, mut three, mut sender) = (server.client(), server.client(), server.client());
    two.run("SUBSCRIBE news");
    two.run("PSUBSCRIBE n*");
    three.run("HELLO 3");
    assert_eq!(three.run("SUBSCRIBE news"), r#">["subscribe", "news", :1]"#);
    three.run("SSUBSCRIBE news");
    sender.check(&[
        ("PUBLISH news hi", ":3"),
        ("PUBLISH other hi", ":0"),
        ("SPUBLISH news shard", ":1"),
        ("PUBSUB CHANNELS", r#"["news"]"#),
        ("PUBSUB CHANNELS x*", "[]"),
        ("PUBSUB NUMSUB news a", r#"["news", :2, "a", :0]"#),
        ("PUBSUB NUMPAT", ":1"),
        ("PUBSUB SHARDCHANNELS", r#"["news"]"#),
        ("PUBSUB SHARDNUMSUB news", r#"["news", :1]"#),
        ("PUBSUB FOO", "-ERR unknown subcommand 'FOO'. Try PUBSUB HELP."),
    ]);
    assert_eq!(server.pushed(&two), [r#"["message", "news", "hi"]"#, r#"["pmessage", "n*", "news", "hi"]"#]);
    assert_eq!(server.pushed(&three), [r#">["message", "news", "hi"]"#, r#">["smessage", "news", "shard"]"#]);
    three.run("PUBLISH news self");
    assert_eq!(server.pushed(&three), [r#">["message", "news", "self"]"#]);
    drop(two);
    sender.check(&[("PUBSUB NUMSUB news", r#"["news", :1]"#), ("PUBSUB NUMPAT", ":0")]);
}

#[test]
fn in_a_transaction() {
    let server = Server::new();
    let mut client = server.client();
    client.run("HELLO 3");
    client.check(&[
        ("MULTI", "+OK"),
        ("SUBSCRIBE x", "+QUEUED"),
        ("PUBLISH x y", "+QUEUED"),
        ("UNSUBSCRIBE", "+QUEUED"),
        ("EXEC", r#"[>["subscribe", "x", :1], :1, >["unsubscribe", "x", :0]]"#),
    ]);
    assert_eq!(server.pushed(&client), [r#">["message", "x", "y"]"#]);
}

#[test]
fn keyspace_events() {
    let server = Server::with(|settings| {
        settings.notify_keyspace_events =
            EventClass(EventClass::ALL.0 | EventClass::KEYSPACE.0 | EventClass::KEYEVENT.0);
    });
    let (mut listener, mut writer) = (server.client(), server.client());
    listener.run("PSUBSCRIBE __key*");
    writer.run("SELECT 1");
    writer.run("SET k v");
    writer.run("DEL k");
    let pushed = server.pushed(&listener);
    assert!(pushed.contains(&r#"["pmessage", "__key*", "__keyspace@1__:k", "set"]"#.to_owned()), "{pushed:?}");
    assert!(pushed.contains(&r#"["pmessage", "__key*", "__keyevent@1__:del", "k"]"#.to_owned()), "{pushed:?}");
    server.engine.update_settings(|settings| settings.notify_keyspace_events = EventClass::NONE);
    writer.run("SET k v");
    assert!(server.pushed(&listener).is_empty());
}
