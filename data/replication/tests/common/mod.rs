// SPDX-License-Identifier: BSD-3-Clause
//! A node for tests: a map instead of the engine, and an accept loop instead of the server.
#![allow(dead_code, reason = "each test file uses a part")]

use pando_formats::aof::{AofItem, AofReader, encode_command};
use pando_formats::rdb::{RdbValue, RdbWriter, Record};
use pando_replication::data::{Applier, Data, DataWalk, Kept, WalkEnd};
use pando_replication::image_out::ImageOut;
use pando_replication::{ReplicaHello, ReplicaSocket, Replication, ReplicationConfig};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub type Map = BTreeMap<(u16, Vec<u8>), (Vec<u8>, Option<u64>)>;

/// The data of a test node.
#[derive(Default)]
pub struct FakeData {
    map: Arc<Mutex<Map>>,
    pub is_replica: AtomicBool,
    pub is_loading: AtomicBool,
    pub link_up: AtomicBool,
    pub good_replicas: AtomicU32,
    pub acks: Mutex<HashMap<u64, u64>>,
    /// Transactions applied as one.
    pub transactions: Arc<AtomicU64>,
    /// The walk is taken by somebody else.
    pub walk_busy: AtomicBool,
}

fn run(map: &mut Map, db: u16, args: &[&[u8]]) -> Result<(), String> {
    match (args[0].to_ascii_lowercase().as_slice(), &args[1..]) {
        (b"set", [key, value]) => _ = map.insert((db, key.to_vec()), (value.to_vec(), None)),
        (b"set", [key, value, _, at]) => {
            let at = String::from_utf8_lossy(at).parse().map_err(|_| "bad time")?;
            map.insert((db, key.to_vec()), (value.to_vec(), Some(at)));
        }
        (b"del" | b"unlink", keys) => keys.iter().for_each(|key| _ = map.remove(&(db, key.to_vec()))),
        (b"flushall", _) => map.clear(),
        (name, _) => return Err(format!("unknown command {}", String::from_utf8_lossy(name))),
    }
    Ok(())
}

impl Data for FakeData {
    fn server_version(&self) -> &str {
        "9.1.2"
    }
    fn is_cluster(&self) -> bool {
        false
    }
    fn set_replica(&self, is_replica: bool) {
        self.is_replica.store(is_replica, Ordering::SeqCst);
    }
    fn set_loading(&self, is_loading: bool) {
        self.is_loading.store(is_loading, Ordering::SeqCst);
    }
    fn is_loading(&self) -> bool {
        self.is_loading.load(Ordering::SeqCst)
    }
    fn set_link_up(&self, is_up: bool) {
        self.link_up.store(is_up, Ordering::SeqCst);
    }
    fn set_good_replicas(&self, count: u32) {
        self.good_replicas.store(count, Ordering::SeqCst);
    }
    fn set_ack(&self, client_id: u64, offset: u64) {
        self.acks.lock().insert(client_id, offset);
    }
    fn remove_ack(&self, client_id: u64) {
        self.acks.lock().remove(&client_id);
    }
    fn with_all_locked(&self, act: &mut dyn FnMut()) {
        let _map = self.map.lock();
        act();
    }
    fn flush_all(&self) {
        self.map.lock().clear();
    }
    fn load(&self, record: &Record) -> Result<(), String> {
        let value = match &record.value {
            RdbValue::Int(n) => n.to_string().into_bytes(),
            RdbValue::Str(s) => s.clone(),
            _ => return Err("unknown type".into()),
        };
        self.map.lock().insert((record.db as u16, record.key.clone()), (value, record.expire_at_ms));
        Ok(())
    }
    fn begin_walk(&self, at_cut: &mut dyn FnMut()) -> io::Result<Box<dyn DataWalk>> {
        if self.walk_busy.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let map = self.map.lock();
        at_cut();
        Ok(Box::new(FakeWalk(map.clone().into_iter().collect())))
    }
    fn applier(&self) -> Box<dyn Applier> {
        Box::new(FakeApplier(self.map.clone(), self.transactions.clone()))
    }
}

type Entry = ((u16, Vec<u8>), (Vec<u8>, Option<u64>));

struct FakeWalk(Vec<Entry>);

impl DataWalk for FakeWalk {
    fn step(&mut self, budget_bytes: usize, to: &mut RdbWriter<ImageOut>) -> io::Result<WalkEnd> {
        let mut done = 0;
        while done < budget_bytes {
            let Some(((db, key), (value, expire_at))) = self.0.pop() else { return Ok(WalkEnd::Done) };
            done += key.len() + value.len();
            to.string(u32::from(db), &key, &value, expire_at)?;
        }
        Ok(WalkEnd::More)
    }
    fn pending_bytes(&self) -> usize {
        0
    }
}

struct FakeApplier(Arc<Mutex<Map>>, Arc<AtomicU64>);

impl Applier for FakeApplier {
    fn apply(&mut self, db: u16, args: &[&[u8]]) -> Result<(), String> {
        run(&mut self.0.lock(), db, args)
    }
    fn apply_all(&mut self, commands: &[Kept]) -> Result<(), String> {
        let mut map = self.0.lock();
        self.1.fetch_add(1, Ordering::SeqCst);
        commands.iter().try_for_each(|(db, args)| {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            run(&mut map, *db, &args)
        })
    }
}

/// A running node.
pub struct Node {
    pub data: Arc<FakeData>,
    pub replication: Replication,
    pub port: u16,
    /// Connections are closed at once.
    pub refuses: Arc<AtomicBool>,
    _runtime: tokio::runtime::Runtime,
}

pub fn config() -> ReplicationConfig {
    ReplicationConfig { repl_backlog_size: 1 << 20, ..ReplicationConfig::default() }
}

impl Node {
    pub fn start(mut config: ReplicationConfig) -> Node {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
        let port = listener.local_addr().expect("bound").port();
        config.listening_port = port;
        let data = Arc::new(FakeData::default());
        let replication = Replication::over(data.clone(), config, runtime.handle().clone());
        let refuses = Arc::new(AtomicBool::new(false));
        accept_on(listener, replication.clone(), refuses.clone());
        Node { data, replication, port, refuses, _runtime: runtime }
    }

    pub fn follow(&self, other: &Node) {
        self.replication.replica_of(Some(("127.0.0.1", other.port)));
    }

    /// A write of a client.
    pub fn write(&self, db: u16, args: &[&[u8]]) {
        let mut map = self.data.map.lock();
        assert!(!self.data.is_replica.load(Ordering::SeqCst), "clients do not write to replicas");
        run(&mut map, db, args).expect("a known command");
        let mut bytes = Vec::new();
        encode_command(&mut bytes, args);
        self.replication.log().append(db, &bytes);
    }

    pub fn set(&self, db: u16, key: &str, value: &str) {
        self.write(db, &[b"SET", key.as_bytes(), value.as_bytes()]);
    }

    pub fn get(&self, db: u16, key: &str) -> Option<String> {
        self.data.map.lock().get(&(db, key.as_bytes().to_vec())).map(|(v, _)| String::from_utf8_lossy(v).into_owned())
    }

    pub fn map(&self) -> Map {
        self.data.map.lock().clone()
    }

    /// Random writes.
    pub fn churn(&self, seed: u64, count: usize) {
        let mut x = seed | 1;
        for i in 0..count {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let key = format!("key:{}", x % 500);
            let value = "v".repeat((x >> 20) as usize % 200);
            match x % 10 {
                0 => self.write((x >> 40) as u16 % 3, &[b"DEL", key.as_bytes()]),
                1 => {
                    let at = (4_000_000_000_000 + i).to_string();
                    self.write((x >> 40) as u16 % 3, &[b"SET", key.as_bytes(), b"17", b"PXAT", at.as_bytes()]);
                }
                _ => self.set((x >> 40) as u16 % 3, &key, &format!("{i}-{value}")),
            }
        }
    }

    /// Waits until this node has all that `primary` has, at the same offset.
    pub fn has_caught_up_with(&self, primary: &Node) {
        eventually("the replica has the primary's data and offset", || {
            self.replication.offset() == primary.replication.offset()
                && !self.data.is_loading()
                && self.replication.position().link_up
                && self.map() == primary.map()
        });
    }
}

/// Waits for a condition.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Accepts replicas for as long as the process lives.
pub fn accept_on(listener: TcpListener, accepting: Replication, refusing: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        for (id, stream) in listener.incoming().enumerate() {
            let (Ok(stream), replication) = (stream, accepting.clone()) else { return };
            if !refusing.load(Ordering::SeqCst) {
                std::thread::spawn(move || greet(&replication, stream, id as u64));
            }
        }
    });
}

/// Speaks with one client until it asks for the stream.
fn greet(replication: &Replication, mut stream: TcpStream, id: u64) {
    let mut hello = ReplicaHello { client_id: id, ..ReplicaHello::default() };
    let mut reader = AofReader::new();
    let mut buf = [0u8; 4096];
    loop {
        let Ok(n @ 1..) = stream.read(&mut buf) else { return };
        reader.push(&buf[..n]);
        while let Ok(Some(item)) = reader.next() {
            let AofItem::Command { args, .. } = item else { continue };
            let answer = match args[0].to_ascii_lowercase().as_slice() {
                b"ping" => "+PONG\r\n".to_owned(),
                b"replconf" => match hello.replconf(&args) {
                    Ok(()) => "+OK\r\n".to_owned(),
                    Err(line) => format!("-{line}\r\n"),
                },
                b"psync" | b"sync" => {
                    let hello = hello.clone().with_request(&args).expect("a valid request");
                    let socket = ReplicaSocket { stream, unsent: Vec::new(), unread: Vec::new() };
                    replication.accept_replica(hello, socket).expect("a live socket");
                    return;
                }
                _ => "-ERR unknown command\r\n".to_owned(),
            };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
