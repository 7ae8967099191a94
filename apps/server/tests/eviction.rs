// SPDX-License-Identifier: BSD-3-Clause
//! The memory limit as clients see it: what is evicted, when writes are refused, what is told to whom.

mod support;

use support::{Client, TestServer, show};

fn field(client: &mut Client, section: &str, name: &str) -> u64 {
    let info = show(&client.call(&format!("INFO {section}")));
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("{name} in {info}"))
}

/// Writes keys in pipelines; returns how many were refused.
fn fill(client: &mut Client, prefix: &str, count: usize, value_len: usize, suffix: &str) -> usize {
    let value = "x".repeat(value_len);
    let mut refused = 0;
    for first in (0..count).step_by(500) {
        let mut batch = Vec::new();
        let end = (first + 500).min(count);
        for n in first..end {
            let text = format!("SET {prefix}:{n} {value}{suffix}");
            let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            pando_resp::encode_command(&mut batch, &args);
        }
        client.send_raw(&batch);
        for _ in first..end {
            let reply = client.reply().map(|reply| show(&reply)).unwrap_or_default();
            if reply != "+OK" {
                assert_eq!(reply, "-OOM command not allowed when used memory > 'maxmemory'.");
                refused += 1;
            }
        }
    }
    refused
}

fn limit_above_use(client: &mut Client, room: u64) -> u64 {
    let limit = field(client, "memory", "used_memory") + room;
    client.check(&format!("CONFIG SET maxmemory {limit}"), "+OK");
    limit
}

#[test]
fn every_policy_makes_room() {
    for (policy, suffix) in [
        ("allkeys-lru", ""),
        ("allkeys-lfu", ""),
        ("allkeys-random", ""),
        ("volatile-lru", " EX 1000"),
        ("volatile-lfu", " EX 1000"),
        ("volatile-random", " EX 1000"),
        ("volatile-ttl", " EX 1000"),
    ] {
        let server = TestServer::start(&["--maxmemory-policy", policy]);
        let mut client = server.client();
        client.check("SET stays 1", "+OK");
        let limit = limit_above_use(&mut client, 2 << 20);
        assert_eq!(fill(&mut client, "k", 20_000, 400, suffix), 0, "{policy}");
        let used = field(&mut client, "memory", "used_memory");
        assert!(used <= limit + limit / 50, "{policy}: {used} of {limit}");
        assert!(field(&mut client, "stats", "evicted_keys") > 5_000, "{policy}");
        if !suffix.is_empty() {
            client.check("GET stays", "1");
        }
    }
}

#[test]
fn without_victims_writes_are_refused() {
    let server = TestServer::start(&[]);
    let mut client = server.client();
    limit_above_use(&mut client, 1 << 20);
    for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
        client.check(&format!("CONFIG SET maxmemory-policy {policy}"), "+OK");
        assert!(fill(&mut client, policy, 6_000, 400, "") > 1_000, "{policy}");
    }
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    client.check("GET noeviction:1", &"x".repeat(400));
    // Clearly over the limit: at the limit itself a refusal depends on the last measurement.
    let far_over = field(&mut client, "memory", "used_memory") - (512 << 10);
    client.check(&format!("CONFIG SET maxmemory {far_over}"), "+OK");
    client.check("DEL noeviction:1", ":1");
    client.check("APPEND noeviction:2 y", oom);
    client.check("MULTI", "+OK");
    client.check("GET noeviction:2", oom);
    client.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
    assert_eq!(field(&mut client, "stats", "evicted_keys"), 0);
    assert!(field(&mut client, "stats", "current_eviction_exceeded_time") < 60_000);
    client.check("CONFIG SET maxmemory 0", "+OK");
    client.check("APPEND noeviction:2 y", ":401");
}

#[test]
fn a_lowered_limit_is_reached_in_the_background() {
    let server = TestServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let mut client = server.client();
    fill(&mut client, "k", 40_000, 400, "");
    let limit = field(&mut client, "memory", "used_memory") - (8 << 20);
    client.check(&format!("CONFIG SET maxmemory {limit}"), "+OK");
    // Nobody writes.
    client.eventually("INFO memory", |info| {
        let used =
            info.lines().find_map(|line| line.strip_prefix("used_memory:")).and_then(|text| text.trim().parse().ok());
        used.is_some_and(|used: u64| used <= limit + limit / 100)
    });
    client.check("SET one more", "+OK");
    assert!(field(&mut client, "stats", "evicted_keys") > 5_000);
}

#[test]
fn victims_are_announced_and_watched() {
    let server = TestServer::start(&["--maxmemory-policy", "allkeys-random", "--notify-keyspace-events", "Ee"]);
    let (mut client, mut watcher, mut listener) = (server.client(), server.client(), server.client());
    client.check("SET watched 1", "+OK");
    watcher.check("WATCH watched", "+OK");
    watcher.check("MULTI", "+OK");
    watcher.check("PING", "+QUEUED");
    listener.send("SUBSCRIBE __keyevent@0__:evicted");
    assert!(listener.reply().is_some());
    client.check("CONFIG SET maxmemory 1", "+OK");
    let event = listener.reply().map(|reply| show(&reply)).unwrap_or_default();
    assert!(event.ends_with("__keyevent@0__:evicted watched]"), "{event}");
    client.check("CONFIG SET maxmemory 0", "+OK");
    client.check("EXISTS watched", ":0");
    watcher.check("EXEC", "(nil)");
}

#[test]
fn clients_with_large_buffers_are_closed() {
    let server = TestServer::start(&["--maxmemory-clients", "3mb"]);
    let (mut observer, mut safe, mut greedy) = (server.client(), server.client(), server.client());
    safe.check("CLIENT NO-EVICT on", "+OK");
    // Incomplete requests: their bytes wait in the query buffers.
    for client in [&mut safe, &mut greedy] {
        client.send_raw(b"*2\r\n$3\r\nGET\r\n$8000000\r\n");
        client.send_raw(&vec![b'x'; 4_000_000]);
    }
    observer.eventually("INFO stats", |info| info.contains("evicted_clients:1\r\n"));
    assert_eq!(greedy.read_to_end(), "");
    safe.send_raw(&vec![b'x'; 4_000_000]);
    safe.send_raw(b"\r\n");
    assert_eq!(safe.reply().map(|reply| show(&reply)).as_deref(), Some("(nil)"));
}
