// SPDX-License-Identifier: BSD-3-Clause
//! Stock clients and tools, unmodified, against one node and against a cluster of six.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use pando_procs::cluster::Creator;
use pando_procs::{Cluster, Node, Software, peers};

fn script(name: &str) -> PathBuf {
    peers::workspace().join("testkit/system/clients").join(name)
}

/// Runs a program with a limit of a minute; its output when it succeeds.
fn run(command: &mut Command) -> String {
    let mut limited = Command::new("timeout");
    limited.arg("60").arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let output = limited.output().expect("timeout(1) runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

fn python(library: &str, mode: &str, port: u16) {
    let mut command = Command::new("python3");
    command.arg(script("smoke_py.py")).args([library, mode, &port.to_string()]);
    command.env("PYTHONPATH", peers::require_peer("python"));
    assert!(run(&mut command).contains("ok"));
}

fn ioredis(mode: &str, port: u16) {
    let mut command = Command::new("node");
    command.arg(script("smoke_ioredis.js")).args([mode, &port.to_string()]);
    command.env("NODE_PATH", peers::require_peer("node").join("node_modules"));
    assert!(run(&mut command).contains("ok"));
}

fn cli(port: u16, args: &[&str]) -> String {
    let mut command = Command::new(peers::require_peer("valkey-cli"));
    command.args(["-p", &port.to_string()]).args(args);
    run(&mut command)
}

fn redis_rs_single(port: u16) {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/?protocol=resp3")).expect("url");
    let mut connection = client.get_connection().expect("connect");
    let got: (String, i64) = redis::pipe()
        .atomic()
        .cmd("SET")
        .arg("rs:a")
        .arg("1")
        .ignore()
        .cmd("GET")
        .arg("rs:a")
        .cmd("INCR")
        .arg("rs:a")
        .query(&mut connection)
        .expect("transaction");
    assert_eq!(got, ("1".to_owned(), 2));
    let missing: Option<String> = redis::cmd("GET").arg("rs:none").query(&mut connection).expect("get");
    assert_eq!(missing, None);
    redis_rs_collections(&mut connection);
    let mut waiting = client.get_connection().expect("connect");
    let waiter = std::thread::spawn(move || -> (String, String) {
        redis::cmd("BLPOP").arg("{rs}:q").arg(10).query(&mut waiting).expect("blpop")
    });
    let _: i64 = redis::cmd("RPUSH").arg("{rs}:q").arg("v").query(&mut connection).expect("rpush");
    assert_eq!(waiter.join().expect("the waiter"), ("{rs}:q".to_owned(), "v".to_owned()));
}

/// One of each collection, on one node or in a cluster.
fn redis_rs_collections(connection: &mut impl redis::ConnectionLike) {
    let mut run = |line: &str| -> redis::Value {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().expect("a name"));
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(connection).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    let int = redis::Value::Int;
    assert_eq!(run("RPUSH {rs}:l a b c"), int(3));
    assert_eq!(redis::from_redis_value::<Vec<String>>(run("LRANGE {rs}:l 0 -1")).expect("a list"), ["a", "b", "c"]);
    assert_eq!(run("HSET {rs}:h f 1 g 2"), int(2));
    assert_eq!(run("HINCRBY {rs}:h f 41"), int(42));
    assert_eq!(redis::from_redis_value::<Vec<i64>>(run("HEXPIRE {rs}:h 100 FIELDS 1 f")).expect("codes"), [1]);
    assert_eq!(run("SADD {rs}:s x y x"), int(2));
    assert_eq!(run("ZADD {rs}:z 1 a 2 b"), int(2));
    assert_eq!(run("ZRANK {rs}:z b"), int(1));
    assert_eq!(run("GEOADD {rs}:g 13.361389 38.115556 Palermo"), int(1));
    assert_eq!(run("PFADD {rs}:p a b c"), int(1));
    assert_eq!(run("PFCOUNT {rs}:p"), int(3));
    run("XADD {rs}:x 1-1 f v");
    run("XGROUP CREATE {rs}:x g 0");
    run("XREADGROUP GROUP g c STREAMS {rs}:x >");
    assert_eq!(run("XACK {rs}:x g 1-1"), int(1));
}

fn redis_rs_cluster(port: u16) {
    let client = redis::cluster::ClusterClient::new(vec![format!("redis://127.0.0.1:{port}/")]).expect("url");
    let mut connection = client.get_connection().expect("connect");
    for number in 0..200 {
        let key = format!("rs:c:{number}");
        let () = redis::cmd("SET").arg(&key).arg(number).query(&mut connection).expect("set");
        let got: i64 = redis::cmd("GET").arg(&key).query(&mut connection).expect("get");
        assert_eq!(got, number);
    }
    redis_rs_collections(&mut connection);
}

#[test]
fn stock_clients_work_with_one_node() {
    let node = Node::start(Software::Pando, &[]).expect("start");
    python("valkey", "single", node.port);
    python("redis", "single", node.port);
    ioredis("single", node.port);
    redis_rs_single(node.port);
    assert_eq!(cli(node.port, &["SET", "cli", "x"]).trim(), "OK");
    assert_eq!(cli(node.port, &["--no-raw", "GET", "cli"]).trim(), "\"x\"");
    assert!(cli(node.port, &["--scan"]).contains("cli"));
    assert!(cli(node.port, &["INFO", "server"]).contains("redis_version:"));
    assert!(cli(node.port, &["--bigkeys"]).contains("keys in the keyspace"));
}

#[test]
fn applications_work_with_one_node() {
    let node = Node::start(Software::Pando, &[]).expect("start");
    for program in ["rq", "session", "cache"] {
        let mut command = Command::new("python3");
        command.arg(script("apps_py.py")).args([program, &node.port.to_string()]);
        command.env("PYTHONPATH", peers::require_peer("python"));
        assert!(run(&mut command).contains("ok"), "{program}");
    }
}

#[test]
fn redis_benchmark_runs_its_string_tests() {
    let node = Node::start(Software::Pando, &[]).expect("start");
    let port = node.port.to_string();
    for extra in [&["-c", "50"][..], &["-c", "50", "-P", "32"], &["-c", "500"]] {
        let mut command = Command::new("redis-benchmark");
        command
            .args(["-p", &port, "-n", "20000", "-r", "1000", "-d", "80", "-t", "ping,set,get,incr,mset", "-q"])
            .args(extra);
        let text = run(&mut command);
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"] {
            assert!(text.contains(test) && text.contains("requests per second"), "{text}");
        }
        assert!(!text.contains("rror"), "{text}");
    }
}

#[test]
fn stock_clients_work_with_a_cluster_made_by_valkey_cli() {
    let cluster = Cluster::create(6, 1, Creator::ValkeyCli, &[]).expect("cluster");
    let port = cluster.nodes[0].port;
    let checked = cli(port, &["--cluster", "check", &format!("127.0.0.1:{port}")]);
    assert!(checked.contains("All 16384 slots covered"), "{checked}");
    python("valkey", "cluster", cluster.nodes[1].port);
    python("redis", "cluster", cluster.nodes[4].port);
    ioredis("cluster", port);
    redis_rs_cluster(port);
    assert_eq!(cli(port, &["-c", "SET", "some-key", "x"]).lines().last(), Some("OK"));
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port.to_string(), "--cluster", "-n", "20000", "-r", "1000", "-t", "set,get", "-P", "8", "-q"]);
    assert!(run(&mut command).contains("GET"));
}
