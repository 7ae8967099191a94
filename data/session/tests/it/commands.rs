// SPDX-License-Identifier: BSD-3-Clause
//! Connection and CLIENT commands: replies and error texts as Valkey 9.1.2 gave them.

use crate::harness::Server;
use pando_session::Next;

#[test]
fn connection_commands() {
    Server::new().client().check(&[
        ("PING", "+PONG"),
        ("PING x", "\"x\""),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
        ("ECHO a", "\"a\""),
        ("ECHO a b", "-ERR wrong number of arguments for 'echo' command"),
        ("FOO a b", "-ERR unknown command 'FOO', with args beginning with: 'a' 'b' "),
        ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP."),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command"),
        ("SELECT 3", "+OK"),
        ("SELECT 16", "-ERR DB index is out of range"),
        ("SELECT -1", "-ERR DB index is out of range"),
        ("SELECT 99999999999", "-ERR value is out of range, value must between -2147483648 and 2147483647"),
        ("SELECT x", "-ERR value is not an integer or out of range"),
        ("AUTH x", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"),
        ("AUTH default x", "+OK"),
        ("AUTH nobody x", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("AUTH a b c", "-ERR syntax error"),
        ("ASKING", "-ERR This instance has cluster support disabled"),
        ("READONLY", "+OK"),
        ("READWRITE", "+OK"),
        ("TIME x", "-ERR wrong number of arguments for 'time' command"),
        ("RESET", "+RESET"),
        ("WAIT 0 0", ":0"),
        ("WAIT -1 1", ":0"),
        ("WAIT x 10", "-ERR value is not an integer or out of range"),
        ("WAIT 1 x", "-ERR timeout is not an integer or out of range"),
        ("WAIT 1 -1", "-ERR timeout is negative"),
        ("COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP."),
        ("COMMAND GETKEYS GET a", "[\"a\"]"),
    ]);
}

#[test]
fn hello_negotiates() {
    let server = Server::new();
    let mut client = server.client();
    client.check(&[
        ("HELLO abc", "-ERR Protocol version is not an integer or out of range"),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'"),
        ("HELLO 3 SETNAME a b", "-ERR Syntax error in HELLO option 'b'"),
        ("HELLO 3 SETNAME \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters."),
        ("HELLO", r#"["server", "valkey", "version", "9.1.2", "proto", :2, "id", :1, "mode", "standalone", "role", "master", "modules", []]"#),
        ("HELLO 3 AUTH default x SETNAME foo", r#"{"server": "valkey", "version": "9.1.2", "proto": :3, "id": :1, "mode": "standalone", "role": "master", "modules": []}"#),
        ("CLIENT GETNAME", "\"foo\""),
        ("CLIENT TRACKINGINFO", r#"{"flags": ~["off"], "redirect": :-1, "prefixes": []}"#),
        ("RESET", "+RESET"),
        ("CLIENT GETNAME", "nil"),
    ]);
}

#[test]
fn passwords() {
    let server = Server::with(|settings| settings.requirepass = Some(b"secret".to_vec()));
    let mut client = server.client();
    client.check(&[
        ("PING", "-NOAUTH Authentication required."),
        ("FOO", "-NOAUTH Authentication required."),
        ("HELLO 3", "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"),
        ("AUTH bad", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("AUTH secre", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("AUTH secret", "+OK"),
        ("PING", "+PONG"),
        ("RESET", "+RESET"),
        ("PING", "-NOAUTH Authentication required."),
        ("NOSUCH", "-NOAUTH Authentication required."),
        ("CLIENT NOSUCH", "-NOAUTH Authentication required."),
        ("GET", "-NOAUTH Authentication required."),
        ("AUTH", "-ERR wrong number of arguments for 'auth' command"),
        ("MULTI", "-NOAUTH Authentication required."),
    ]);
    assert!(client.run("HELLO 2 AUTH default secret").starts_with("[\"server\""));
    assert_eq!(server.engine.stats.errors()["NOAUTH"], 8);
    assert_eq!(server.engine.stats.errors()["WRONGPASS"], 2);
}

#[test]
fn client_subcommands() {
    let server = Server::new();
    let mut client = server.client();
    client.check(&[
        ("CLIENT ID", ":1"),
        ("CLIENT SETNAME \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters."),
        ("CLIENT SETNAME me", "+OK"),
        ("CLIENT SETINFO lib-name x", "+OK"),
        ("CLIENT SETINFO lib-ver \"x y\"", "-ERR lib-ver cannot contain spaces, newlines or special characters."),
        ("CLIENT SETINFO foo x", "-ERR Unrecognized option 'foo'"),
        ("CLIENT NO-EVICT foo", "-ERR syntax error"),
        ("CLIENT NO-EVICT on", "+OK"),
        ("CLIENT NO-TOUCH on", "+OK"),
        ("CLIENT CAPA redirect foo", "+OK"),
        ("CLIENT GETREDIR", ":-1"),
        ("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range"),
        ("CLIENT PAUSE -1", "-ERR timeout is negative"),
        ("CLIENT PAUSE 1 foo", "-ERR CLIENT PAUSE mode must be WRITE or ALL"),
        ("CLIENT UNBLOCK a", "-ERR value is not an integer or out of range"),
        ("CLIENT UNBLOCK 3 foo", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        ("CLIENT UNBLOCK 3", ":0"),
        ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'"),
        ("CLIENT LIST ID 1 2 x", "-ERR syntax error"),
        ("CLIENT LIST ID", "-ERR syntax error"),
        ("CLIENT LIST foo bar", "-ERR syntax error"),
        ("CLIENT LIST MAXAGE x", "-ERR maxage is not an integer or out of range"),
        ("CLIENT LIST MAXAGE 0", "-ERR maxage should be greater than 0"),
        ("CLIENT LIST FLAGS NZ", "-ERR Unknown flags found in the provided filter: NZ"),
        ("CLIENT LIST NOT-FLAGS NZ", "-ERR Unknown flags found in the NOT-FLAGS filter: NZ"),
        ("CLIENT LIST NOT-DB 99", "-ERR NOT-DB number should be between 0 and 15"),
        ("CLIENT LIST NOT-ID 0", "-ERR client-id should be greater than 0"),
        ("CLIENT LIST NOT-TYPE normal", "\"\""),
        ("CLIENT LIST NOT-ID 1", "\"\""),
        ("CLIENT KILL SKIPME no NOT-USER default", ":0"),
        ("CLIENT LIST DB 99", "-ERR DB number should be between 0 and 15"),
        ("CLIENT LIST CAPA z", "-ERR Unknown capa found in the provided filter: z"),
        ("CLIENT LIST USER nobody", "-ERR No such user 'nobody'"),
        ("CLIENT LIST ID 7", "\"\""),
        ("CLIENT LIST DB 3", "\"\""),
        ("CLIENT LIST SKIPME yes", "\"\""),
        ("CLIENT KILL foo", "-ERR No such client"),
        ("CLIENT KILL ID 12345", ":0"),
        ("CLIENT KILL ADDR 1 FOO", "-ERR syntax error"),
        ("CLIENT REPLY FOO", "-ERR syntax error"),
        ("CLIENT REPLY SKIP", ""),
        ("PING", ""),
        ("PING", "+PONG"),
        ("CLIENT REPLY OFF", ""),
        ("PING", ""),
        ("CLIENT REPLY ON", "+OK"),
        ("CLIENT REPLY ON", "+OK"),
        ("CLIENT REPLY SKIP", ""),
        ("PING", ""),
        ("CLIENT REPLY SKIP", ""),
        ("CLIENT REPLY SKIP", ""),
        ("PING", ""),
        ("PING", "+PONG"),
        ("CLIENT REPLY SKIP", ""),
        ("CLIENT REPLY ON", "+OK"),
        ("PING", "+PONG"),
        ("CLIENT LIST IDLE 0", "-ERR idle should be greater than 0"),
        ("CLIENT LIST ID 0", "-ERR client-id should be greater than 0"),
    ]);
    let line = client.run("CLIENT LIST FLAGS eT CAPA r NAME me LIB-NAME x DB 0 TYPE normal USER default");
    assert_eq!(
        line.split(" tot-mem=").next().unwrap_or(""),
        "\"id=1 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=8 name=me age=".to_owned()
            + line.split("age=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("")
            + " idle=0 flags=eT capa=r db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 \
               rbs=0 rbp=0 obl=0 oll=0 omem=0"
    );
    assert!(line.ends_with(
        " events=r cmd=client|list user=default redir=-1 resp=2 lib-name=x lib-ver= tot-net-in=0 tot-net-out=0 tot-cmds=58\n\""
    ), "{line}");
}

#[test]
fn killing_clients() {
    let server = Server::new();
    let (mut one, two) = (server.client(), server.client());
    one.check(&[("CLIENT KILL ID 2", ":1"), ("CLIENT KILL TYPE normal", ":1")]);
    assert_eq!(one.next, Next::Continue);
    let kills = std::mem::take(&mut *server.post.0.lock().unwrap());
    assert_eq!(kills.len(), 2);
    drop(two);
    assert_eq!(one.run("CLIENT KILL TYPE normal SKIPME no"), ":1");
    assert_eq!(one.next, Next::Close);
    assert_eq!(one.run("QUIT"), "+OK");
    assert_eq!(one.next, Next::Close);
    assert_eq!(one.run("POST / HTTP/1.1"), "");
    assert_eq!(one.next, Next::Close);
}

#[test]
fn links_of_replicas_and_primaries_are_clients() {
    let server = Server::new();
    let (mut one, mut two) = (server.client(), server.client());
    server.engine.turn_into_link(2);
    let primary =
        server.engine.add_link(pando_session::ClientInfo { addr: "10.0.0.1:6379".to_owned(), ..Default::default() });
    // The connection is closed when its socket was given away.
    two.session.close(&server.engine);
    assert!(one.run("CLIENT LIST TYPE replica").starts_with("\"id=2 "));
    assert!(one.run("CLIENT LIST TYPE primary").starts_with("\"id=3 addr=10.0.0.1:6379 "));
    server.engine.remove_link(2);
    server.engine.remove_link(primary);
    one.check(&[("CLIENT LIST TYPE replica", "\"\""), ("CLIENT LIST NOT-TYPE normal", "\"\"")]);
}

#[test]
fn statistics_are_counted() {
    let server = Server::new();
    let mut client = server.client();
    client.check(&[
        ("SET k v", "+OK"),
        ("GET k", "\"v\""),
        ("GET nope", "nil"),
        ("INCR k", "-ERR value is not an integer or out of range"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
    ]);
    let stats = &server.engine.stats;
    let of = |name: &str| stats.command(pando_commands::find_spec(name.as_bytes()).expect("known").id);
    assert_eq!((of("get").calls, of("get").rejected, of("get").failed), (2, 1, 0));
    assert_eq!((of("incr").calls, of("incr").failed), (1, 1));
    assert_eq!(stats.errors()["ERR"], 2);
    let totals = stats.totals();
    assert_eq!((totals.commands, totals.keyspace_hits, totals.keyspace_misses, totals.dirty), (4, 1, 1, 1));
    stats.reset();
    assert_eq!(of("get"), pando_session::CommandStat::default());
}
