// SPDX-License-Identifier: BSD-3-Clause
//! Against a real Valkey: as our replica, and as our primary. Needs `PANDO_PEERS`, a directory with `valkey-server`.

mod common;

use common::{Map, Node, config, eventually};
use pando_replication::ReplicationConfig;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

struct Valkey {
    port: u16,
    dir: PathBuf,
    child: Child,
}

impl Valkey {
    /// `None`, with a message, where there is none to start.
    fn start(options: &[&str]) -> Option<Valkey> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = std::env::var_os("PANDO_PEERS").map(|dir| PathBuf::from(dir).join("valkey-server"));
        let Some(server) = server.filter(|path| path.exists()) else {
            eprintln!("skipped: no valkey-server in PANDO_PEERS");
            return None;
        };
        let name = format!("pando-repl-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("free port").port();
        let child = Command::new(server)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(&dir)
            .args(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("valkey-server starts");
        let valkey = Valkey { port, dir, child };
        eventually("valkey answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(valkey)
    }

    /// The replies to inline commands, each as its text (bulk strings only their content).
    fn ask(&self, commands: &[String]) -> Vec<Option<String>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("valkey lives");
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        stream.write_all((commands.join("\r\n") + "\r\n").as_bytes()).expect("valkey lives");
        let mut one = || {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a reply");
            match line.as_bytes()[0] {
                b'$' => {
                    let len: i64 = line[1..].trim_end().parse().expect("a length");
                    let mut bytes = vec![0; usize::try_from(len).ok()? + 2];
                    reader.read_exact(&mut bytes).expect("a bulk string");
                    bytes.truncate(bytes.len() - 2);
                    Some(String::from_utf8_lossy(&bytes).into_owned())
                }
                _ => Some(line.trim_end().to_owned()),
            }
        };
        commands.iter().map(|_| one()).collect()
    }

    fn ask_one(&self, command: &str) -> String {
        self.ask(&[command.to_owned()]).remove(0).unwrap_or_default()
    }

    fn info(&self, field: &str) -> String {
        let info = self.ask_one("INFO everything");
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned));
        value.unwrap_or_default()
    }

    /// Whether it has exactly these keys, values and expiries.
    fn has(&self, map: &Map) -> bool {
        for db in 0..3u16 {
            let here: Vec<_> = map.iter().filter(|((of, _), _)| *of == db).collect();
            let mut commands = vec![format!("SELECT {db}"), "DBSIZE".to_owned()];
            let mut expected = vec![Some("+OK".to_owned()), Some(format!(":{}", here.len()))];
            for ((_, key), (value, expire_at)) in here {
                let key = String::from_utf8_lossy(key);
                commands.push(format!("GET {key}"));
                expected.push(Some(String::from_utf8_lossy(value).into_owned()));
                commands.push(format!("PEXPIRETIME {key}"));
                expected.push(Some(expire_at.map_or(":-1".to_owned(), |at| format!(":{at}"))));
            }
            if self.ask(&commands) != expected {
                return false;
            }
        }
        true
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        // It is ours, and may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_valkey_follows_pando() {
    for load in ["disabled", "swapdb"] {
        let Some(valkey) = Valkey::start(&["--repl-diskless-load", load]) else { return };
        let pando = Node::start(config());
        pando.churn(1, 3000);
        assert_eq!(valkey.ask_one(&format!("REPLICAOF 127.0.0.1 {}", pando.port)), "+OK");
        pando.churn(2, 500);
        eventually("valkey has all", || valkey.has(&pando.map()));
        let caught_up = || valkey.info("slave_repl_offset") == pando.replication.offset().to_string();
        eventually("the offsets are equal", caught_up);
        // A partial resync, which it asks for when its link breaks.
        pando.replication.kill_replicas(None);
        pando.churn(3, 500);
        eventually("valkey has the rest", || caught_up() && valkey.has(&pando.map()));
        let status = pando.replication.status();
        assert_eq!((status.sync_full, status.sync_partial_ok), (1, 1), "{load}");
        assert_eq!(valkey.info("master_replid"), status.replid.to_string());
        pando.replication.request_acks();
        eventually("it acknowledges", || {
            let acked = pando.data.acks.lock().values().copied().max();
            acked.is_some_and(|acked| acked + 40 >= pando.replication.offset())
        });
        // It takes over, and we follow, without a full sync.
        assert_eq!(valkey.ask_one("REPLICAOF NO ONE"), "+OK");
        pando.replication.replica_of(Some(("127.0.0.1", valkey.port)));
        eventually("we follow", || pando.replication.position().link_up);
        assert_eq!(valkey.ask_one("SET handed over"), "+OK");
        eventually("the stream goes on", || pando.get(0, "handed").as_deref() == Some("over"));
        assert_eq!(valkey.info("sync_full"), "0");
    }
}

#[test]
fn pando_follows_a_valkey() {
    for (diskless, dual) in [("yes", "no"), ("no", "no"), ("yes", "yes")] {
        let options =
            ["--repl-diskless-sync", diskless, "--dual-channel-replication-enabled", dual, "--requirepass", "secret"];
        let Some(valkey) = Valkey::start(&options) else { return };
        let ask = |commands: &[&str]| {
            let all = std::iter::once("AUTH secret").chain(commands.iter().copied()).map(str::to_owned);
            valkey.ask(&all.collect::<Vec<_>>()).pop().flatten().unwrap_or_default()
        };
        let fill = |from: u32| {
            let commands: Vec<String> = (from..from + 500).map(|i| format!("SET key:{i} {}", i * 77_777)).collect();
            ask(&commands.iter().map(String::as_str).collect::<Vec<_>>());
        };
        fill(0);
        ask(&["SELECT 2", "SET far away PXAT 4000000000000", "SET large 0", "SETRANGE large 100000 x"]);
        ask(&["DEL large"]);
        ask(&["SELECT 2", "DEL large"]);
        let pando = Node::start(ReplicationConfig { primary_auth: Some(b"secret".to_vec()), ..config() });
        pando.replication.replica_of(Some(("127.0.0.1", valkey.port)));
        eventually("the image arrives", || pando.get(2, "far").is_some() && pando.replication.position().link_up);
        assert_eq!(pando.map().len(), 501);
        fill(500);
        ask(&["MULTI", "SET t 1", "SET u 2", "EXEC"]);
        eventually("the stream arrives", || pando.get(0, "u").is_some());
        let offset = || {
            let info = ask(&["INFO replication"]);
            info.lines().find_map(|line| line.strip_prefix("master_repl_offset:")?.parse::<u64>().ok()).unwrap_or(0)
        };
        eventually("the offsets are equal", || offset() == pando.replication.offset());
        // WAIT sends a GETACK.
        assert_eq!(ask(&["SET w 1", "WAIT 1 10000"]), ":1");
        pando.replication.kill_primary_link();
        fill(1000);
        eventually("the rest arrives", || pando.map().len() == 1504);
        let stats = ask(&["INFO stats"]);
        assert!(stats.contains("sync_full:1\r\n") && stats.contains("sync_partial_ok:1\r\n"), "{stats}");
        assert_eq!(pando.get(0, "key:1499"), Some((1499 * 77_777).to_string()));
        assert_eq!(pando.data.transactions.load(Ordering::SeqCst), 1);
        // A replica of ours continues where Valkey's stream stands, and outlives it.
        let second = Node::start(config());
        second.follow(&pando);
        second.has_caught_up_with(&pando);
        drop(valkey);
        pando.replication.promote();
        pando.set(2, "still", "here");
        second.has_caught_up_with(&pando);
        assert_eq!(pando.replication.status().sync_full, 1);
    }
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let Some(valkey) = Valkey::start(&[]) else { return };
    assert_eq!(valkey.ask_one("RPUSH mylist a b"), ":2");
    let pando = Node::start(config());
    pando.replication.replica_of(Some(("127.0.0.1", valkey.port)));
    eventually("the type is named", || {
        let error = pando.replication.status().primary.and_then(|link| link.last_error);
        error.is_some_and(|error| error.contains("unknown type"))
    });
    assert_eq!(valkey.ask_one("DEL mylist"), ":1");
    eventually("then it works", || pando.replication.position().synced);
}
