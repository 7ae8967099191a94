// SPDX-License-Identifier: BSD-3-Clause
//! The server as clients see it over sockets: requests in all shapes, limits, suspended clients, configuration.

mod support;

use std::io::{Read, Write};
use support::{Client, TestServer, show};

#[test]
fn requests_in_all_shapes() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    client.check("SET a 1", "+OK");
    client.check("GET a", "1");
    client.check("GET none", "(nil)");
    client.send_raw(b"PING\r\n\r\nSET \"b c\" 'd'\r\nGET \"b c\"\n");
    for expected in ["+PONG", "+OK", "d"] {
        assert_eq!(client.reply().map(|r| show(&r)).as_deref(), Some(expected));
    }
    // Cut at every byte.
    for byte in b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n" {
        client.send_raw(&[*byte]);
    }
    assert_eq!(client.reply().map(|r| show(&r)).as_deref(), Some("1"));
}

#[test]
fn a_long_pipeline_keeps_its_order() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    let mut writer = Client::new(client.stream.try_clone().expect("a second handle"));
    const COUNT: usize = 20_000;
    let sending = std::thread::spawn(move || {
        for n in 0..COUNT {
            writer.send(&format!("ECHO {n}"));
        }
    });
    for n in 0..COUNT {
        assert_eq!(client.reply().map(|r| show(&r)), Some(n.to_string()));
    }
    sending.join().expect("everything was sent");
}

#[test]
fn a_large_value_arrives_whole() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    let value = vec![b'x'; 20 << 20];
    let mut request = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", value.len()).into_bytes();
    request.extend_from_slice(&value);
    request.extend_from_slice(b"\r\nPING\r\n");
    client.send_raw(&request);
    assert_eq!(client.reply().map(|r| show(&r)).as_deref(), Some("+OK"));
    assert_eq!(client.reply().map(|r| show(&r)).as_deref(), Some("+PONG"));
    client.check("STRLEN big", &format!(":{}", value.len()));
    assert!(client.call("GET big") == pando_resp::decode::Value::Bulk(Some(value)), "the value came back changed");
}

#[test]
fn what_is_no_request_ends_the_connection() {
    let server = TestServer::start(&[]);
    for (sent, expected) in [
        (&b"*1\r\n:1\r\n"[..], "-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-2\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"PING\r\nSET a \"b\r\n", "+PONG\r\n-ERR Protocol error: unbalanced quotes in request\r\n"),
    ] {
        let mut client = server.client();
        client.send_raw(sent);
        assert_eq!(client.read_to_end(), expected);
    }
}

#[test]
fn a_closed_client_still_gets_its_replies() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    client.send_raw(b"PING\r\nPING\r\n");
    client.stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    assert_eq!(client.read_to_end(), "+PONG\r\n+PONG\r\n");
}

#[test]
fn maxclients_is_kept() {
    let server = TestServer::start(&["--maxclients", "2"]);
    let (mut a, mut b) = (server.client(), server.client());
    a.check("PING", "+PONG");
    b.check("PING", "+PONG");
    assert_eq!(server.client().read_to_end(), "-ERR max number of clients reached\r\n");
    drop(b);
    a.eventually("INFO clients", |text| text.contains("connected_clients:1\r\n"));
    server.client().check("PING", "+PONG");
}

#[test]
fn a_reader_that_is_too_slow_is_closed() {
    let server = TestServer::start(&["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut observer = server.client();
    observer.check(&format!("SET big {}", "x".repeat(256 * 1024)), "+OK");
    let mut slow = server.client();
    for _ in 0..200 {
        // The server closes it at some point.
        if slow.stream.write_all(b"GET big\r\n").is_err() {
            break;
        }
    }
    observer.eventually("INFO stats", |text| text.contains("client_output_buffer_limit_disconnections:1\r\n"));
    let mut sink = vec![0; 1 << 20];
    while matches!(slow.stream.read(&mut sink), Ok(count) if count > 0) {}
}

#[test]
fn a_paused_client_goes_on_in_order() {
    let server = TestServer::start(&[]);
    let (mut writer, mut other) = (server.client(), server.client());
    other.check("CLIENT PAUSE 60000 WRITE", "+OK");
    writer.send_raw(b"GET k\r\nSET k 1\r\nINCR k\r\nGET k\r\n");
    assert_eq!(writer.reply().map(|r| show(&r)).as_deref(), Some("(nil)"));
    other.check("GET k", "(nil)");
    other.check("CLIENT UNPAUSE", "+OK");
    for expected in ["+OK", ":2", "2"] {
        assert_eq!(writer.reply().map(|r| show(&r)).as_deref(), Some(expected));
    }
    other.check("CLIENT PAUSE 50 WRITE", "+OK");
    writer.check("INCR k", ":3");
}

#[test]
fn wait_times_out_and_goes_away_with_its_client() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    client.check("SET a 1", "+OK");
    client.send_raw(b"WAIT 1 20\r\nPING\r\n");
    assert_eq!(client.reply().map(|r| show(&r)).as_deref(), Some(":0"));
    assert_eq!(client.reply().map(|r| show(&r)).as_deref(), Some("+PONG"));
    let mut waiting = server.client();
    waiting.check("SET a 1", "+OK");
    waiting.send("WAIT 1 0");
    client.eventually("INFO clients", |text| text.contains("connected_clients:2\r\n"));
    drop(waiting);
    client.eventually("INFO clients", |text| text.contains("connected_clients:1\r\n"));
}

#[test]
fn messages_cross_workers() {
    let server = TestServer::start(&["--io-threads", "4"]);
    let mut publisher = server.client();
    let mut subscribers: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for subscriber in &mut subscribers {
        subscriber.check("SUBSCRIBE news", "[subscribe news :1]");
    }
    publisher.check("PUBLISH news hello", ":20");
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.reply().map(|r| show(&r)).as_deref(), Some("[message news hello]"));
    }
}

#[test]
fn transactions() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    client.check("MULTI", "+OK");
    client.check("SET a 1", "+QUEUED");
    client.check("CONFIG GET maxclients", "+QUEUED");
    client.check("EXEC", "[+OK [maxclients 10000]]");
}

#[test]
fn expired_keys_are_deleted_without_being_asked_for() {
    let server = TestServer::start(&["--notify-keyspace-events", "Ex"]);
    let (mut client, mut listener) = (server.client(), server.client());
    listener.check("SUBSCRIBE __keyevent@0__:expired", "[subscribe __keyevent@0__:expired :1]");
    client.check("SET a 1 PX 20", "+OK");
    assert_eq!(listener.reply().map(|r| show(&r)).as_deref(), Some("[message __keyevent@0__:expired a]"));
    client.check("DBSIZE", ":0");
}

#[test]
fn configuration_is_shown_changed_and_refused() {
    let server = TestServer::start(&["--timeout", "100"]);
    let mut client = server.client();
    client.check("CONFIG GET timeout", "[timeout 100]");
    client.check("CONFIG SET timeout 5 maxmemory 1mb", "+OK");
    client.check("CONFIG GET maxmemory", "[maxmemory 1048576]");
    client.check("CONFIG SET timeout 7 foo 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'");
    client.check("CONFIG GET timeout", "[timeout 5]");
    client.check("CONFIG REWRITE", "-ERR The server is running without a config file");
    client.check("CONFIG SET requirepass secret", "+OK");
    server.client().check("GET a", "-NOAUTH Authentication required.");
    client.check(
        "CONFIG SET dir /",
        "-ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
    );
}

#[test]
fn the_port_can_be_changed() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    let port = support::free_port();
    client.check(&format!("CONFIG SET port {port}"), "+OK");
    let mut other = Client::new(std::net::TcpStream::connect(("127.0.0.1", port)).expect("the new port"));
    other.check("PING", "+PONG");
    client.check("PING", "+PONG");
}

#[test]
fn debug_is_guarded() {
    let server = TestServer::start(&[]);
    assert!(show(&server.client().call("DEBUG SLEEP 0")).starts_with("-ERR DEBUG command not allowed."));
    let open = TestServer::start(&["--enable-debug-command", "local"]);
    let mut client = open.client();
    client.check("DEBUG SLEEP 0", "+OK");
    client.check("DEBUG POPULATE 10", "+OK");
    client.check("DBSIZE", ":10");
    client.check("GET key:3", "value:3");
    client.check("DEBUG ERROR MYERR", "-MYERR");
    client.check("FLUSHALL", "+OK");
    client.check("DEBUG DIGEST", "+0000000000000000000000000000000000000000");
    client.check("MSET a b n 5", "+OK");
    client.check("DEBUG DIGEST", "+c36b5f8f50872f5bb915f87ed2e456865ffbec4f");
}

#[test]
fn shutdown_is_requested() {
    let server = TestServer::start(&[]);
    server.client().check("SHUTDOWN ABORT", "-ERR No shutdown in progress.");
    let mut client = server.client();
    client.send("SHUTDOWN NOSAVE");
    assert_eq!(client.read_to_end(), "");
}

#[test]
fn a_replica_follows_and_is_promoted() {
    let (primary, replica) = (TestServer::start(&[]), TestServer::start(&[]));
    let (mut to_primary, mut to_replica) = (primary.client(), replica.client());
    to_primary.check("SET before 1", "+OK");
    to_replica.check(&format!("REPLICAOF 127.0.0.1 {}", primary.port), "+OK");
    to_replica.eventually("INFO replication", |text| text.contains("master_link_status:up"));
    to_primary.check("SET after 2", "+OK");
    to_replica.eventually("GET after", |text| text == "2");
    to_replica.check("GET before", "1");
    to_replica.check("SET a 1", "-READONLY You can't write against a read only replica.");
    to_primary.check("SET last 3", "+OK");
    to_primary.check("WAIT 1 10000", ":1");
    to_replica.check("REPLICAOF NO ONE", "+OK");
    to_replica.check("SET a 1", "+OK");
}

#[test]
fn requests_and_replies_beyond_the_limits_close_the_client() {
    let server = TestServer::start(&["--client-query-buffer-limit", "1mb"]);
    let mut other = server.client();
    let mut client = server.client();
    // Closed as soon as the length is known: not even the value has to arrive.
    client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\nab");
    assert_eq!(client.reply(), None);
    other.check(&format!("SET v {}", "x".repeat(100_000)), "+OK");
    other.send_raw(b"CONFIG SET client-output-buffer-limit \"normal 50000 0 0\"\r\n");
    assert_eq!(other.reply().map(|r| show(&r)).as_deref(), Some("+OK"));
    // The reply would have fitted into the socket; the client sees nothing of it.
    let mut client = server.client();
    client.send("GET v");
    assert_eq!(client.reply(), None);
    other.check("STRLEN v", ":100000");
}

#[test]
fn a_killed_client_executes_nothing_more() {
    let server = TestServer::start(&[]);
    let (mut one, mut two) = (server.client(), server.client());
    one.check("PING", "+PONG");
    two.check("CLIENT KILL ID 1", ":1");
    one.send("SET k 1");
    assert_eq!(one.reply(), None);
    two.check("EXISTS k", ":0");
}
