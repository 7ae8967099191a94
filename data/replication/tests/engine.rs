// SPDX-License-Identifier: BSD-3-Clause
//! The real engine on both ends: sessions write on several threads while links break and roles change.

mod common;

use common::{accept_on, config, eventually};
use pando_keyspace::{Typed, ValueRef, Walked};
use pando_replication::Replication;
use pando_resp::{Proto, ReplyBuf};
use pando_session::{ClientInfo, Engine, EngineConfig, Role, Session, WorkerScratch};
use pando_values::StreamId;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a key holds, in a form that two nodes can be compared by.
#[derive(Clone, Debug, PartialEq)]
enum Held {
    Text(Vec<u8>),
    Collection(Typed),
    /// A stream's entries, and its groups without the times at which consumers were seen: the log does not carry those.
    Stream(Vec<String>),
}

type Dump = BTreeMap<(u16, Vec<u8>), (Held, Option<u64>)>;

fn held(value: ValueRef<'_>) -> Held {
    match value {
        ValueRef::Int(n) => Held::Text(n.to_string().into_bytes()),
        ValueRef::Str(s) => Held::Text(s.to_vec()),
        ValueRef::Typed(Typed::Stream(stream)) => {
            let entries = stream.entries();
            let all = entries.range(StreamId::MIN, StreamId::MAX);
            let mut lines = vec![format!("{:?}", entries.counters())];
            lines.extend(all.map(|entry| format!("{} {:?}", entry.id, entry.fields().collect::<Vec<_>>())));
            for (name, group) in stream.groups() {
                lines.push(format!("{name:?} {} {:?}", group.last_id, group.entries_read));
                // Valkey does not log the consumer that XAUTOCLAIM makes when there is nothing to claim; nor do we.
                let busy = group.consumers().filter(|(_, consumer)| consumer.pending_len() > 0);
                lines.extend(busy.map(|(_, consumer)| {
                    format!("{:?} {:?}", consumer.name(), consumer.pending_from(StreamId::MIN).collect::<Vec<_>>())
                }));
                let pending = group.pending_from(StreamId::MIN);
                lines.extend(pending.map(|(id, pending)| format!("{id} {}", pending.deliveries)));
            }
            Held::Stream(lines)
        }
        ValueRef::Typed(typed) => Held::Collection(typed.clone()),
        _ => Held::Text(Vec::new()),
    }
}

struct Node {
    engine: Arc<Engine>,
    replication: Replication,
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    fn start() -> Node {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let engine = Engine::new(EngineConfig::default(), &[]);
        let replication = Replication::new(engine.clone(), config(), runtime.handle().clone());
        let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
        let port = listener.local_addr().expect("bound").port();
        accept_on(listener, replication.clone(), Arc::new(AtomicBool::new(false)));
        Node { engine, replication, port, _runtime: runtime }
    }

    fn client(&self) -> Client<'_> {
        Client {
            engine: &self.engine,
            session: Session::new(&self.engine, ClientInfo::default()),
            scratch: WorkerScratch::new(&self.engine),
            reply: ReplyBuf::new(Proto::Resp2),
        }
    }

    fn dump(&self) -> Dump {
        let mut dump = Dump::new();
        let mut walk = None;
        // A full sync for another node may be walking.
        while walk.is_none() {
            walk = self.engine.keyspace.begin_walk(&mut || {}).ok();
        }
        let mut walk = walk.expect("just begun");
        let mut sink = |Walked { db, key, value, expire_at: at, .. }: Walked<'_>| {
            assert!(dump.insert((db, key.to_vec()), (held(value), at)).is_none(), "a key is walked once");
        };
        while !walk.step(&self.engine.keyspace, 1 << 20, &mut sink) {}
        assert!(!walk.is_aborted());
        dump
    }

    fn has_caught_up_with(&self, primary: &Node) {
        eventually("the offset of the primary", || {
            self.replication.position().link_up && self.replication.offset() == primary.replication.offset()
        });
        let (here, there) = (self.dump(), primary.dump());
        let differs = here.iter().find(|(key, own)| there.get(*key) != Some(*own));
        assert!(
            here == there,
            "{} keys here, {} at the primary; {differs:?}, not {:?}",
            here.len(),
            there.len(),
            differs.map(|(key, _)| there.get(key))
        );
    }
}

struct Client<'a> {
    engine: &'a Engine,
    session: Session,
    scratch: WorkerScratch,
    reply: ReplyBuf,
}

impl Client<'_> {
    fn run(&mut self, command: &str) -> String {
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.reply.clear();
        self.scratch.refresh_time();
        let _ = self.session.execute(self.engine, &mut self.scratch, &args, &mut self.reply);
        String::from_utf8_lossy(self.reply.as_slice()).into_owned()
    }
}

/// Writes of every kind; `seed` makes them differ.
fn churn(node: &Node, seed: u64, count: u64) {
    let mut client = node.client();
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for i in 0..count {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let key = format!("key:{}", x % 300);
        if x.is_multiple_of(20) {
            client.run(&format!("SELECT {}", (x >> 30) % 3));
        }
        let n = (x >> 50) % 40;
        let command = match (x >> 16) % 20 {
            0 => format!("DEL {key}"),
            1 => format!("SET {key} 5 PX 9000000"),
            2 => format!("APPEND {key} x{i}"),
            3 => format!("SET counter:{} {i}", x % 20),
            4 => format!("INCR counter:{}", x % 20),
            5 => format!("MSET {key} a{i} other:{} b{i} third:{} c", x % 50, x % 7),
            6 => format!("PEXPIRE {key} 8000000"),
            7 => {
                client.run("MULTI");
                client.run(&format!("SET {key} in-a-transaction-{i}"));
                client.run(&format!("INCR counter:{}", x % 20));
                "EXEC".to_owned()
            }
            8 => format!("RPUSH list:{n} a{i} b{} {i} c", "z".repeat((x >> 40) as usize % 200)),
            9 => format!("LMPOP 2 list:{n} list:{} RIGHT COUNT 3", n / 2),
            10 => format!("SADD set:{n} {i} m{} {}", x % 97, x % 1000),
            11 => format!("SPOP set:{n} {}", x % 5),
            12 => format!("ZADD zset:{n} {} m{} 2.5 n{i}", x % 100, x % 50),
            13 => format!("ZPOPMIN zset:{n} 3"),
            14 => format!("HSET hash:{n} f{} {i} g{i} {}", x % 20, "v".repeat((x >> 40) as usize % 80)),
            15 => format!("HPEXPIRE hash:{n} 9000000 FIELDS 2 f{} f1", x % 20),
            16 => format!("HGETDEL hash:{n} FIELDS 2 f{} f2", x % 20),
            17 => format!("XADD stream:{n} MAXLEN ~ 150 * f {i} g m{}", x % 9),
            18 => {
                client.run(&format!("XGROUP CREATE stream:{n} group 0 MKSTREAM"));
                format!("XREADGROUP GROUP group c{} COUNT {} STREAMS stream:{n} >", x % 3, 1 + x % 6)
            }
            19 => format!("XAUTOCLAIM stream:{n} group c{} 0 0 COUNT 4", x % 3),
            _ => format!("SET {key} value-{i}-{}", "y".repeat((x >> 40) as usize % 300)),
        };
        client.run(&command);
    }
}

#[test]
fn many_writers_a_replica_and_broken_links() {
    let (a, b) = (Node::start(), Node::start());
    churn(&a, 1, 3000);
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> = (2..5)
            .map(|seed| {
                scope.spawn({
                    let a = &a;
                    move || churn(a, seed, 4000)
                })
            })
            .collect();
        b.replication.replica_of(Some(("127.0.0.1", a.port)));
        for _ in 0..3 {
            eventually("a link", || b.replication.position().link_up);
            b.replication.kill_primary_link();
        }
        writers.into_iter().map(|writer| writer.join()).all(|done| done.is_ok())
    });
    assert!(written);
    b.has_caught_up_with(&a);
    assert_eq!(a.replication.status().sync_full, 1);
    assert!(b.dump().len() > 100);
    assert_eq!(b.engine.gate.role(), Role::Replica);
    assert!(b.client().run("SET k v").starts_with("-READONLY"));
}

#[test]
fn promotion_and_the_way_back() {
    let nodes = [(); 3].map(|()| Node::start());
    let [a, b, c] = &nodes;
    churn(a, 1, 1000);
    b.replication.replica_of(Some(("127.0.0.1", a.port)));
    c.replication.replica_of(Some(("127.0.0.1", b.port)));
    churn(a, 2, 1000);
    b.has_caught_up_with(a);
    c.has_caught_up_with(b);
    // A killed primary: its last writes may be missing, but whoever follows b agrees with b.
    b.replication.promote();
    assert_eq!(b.client().run("SET promoted yes"), "+OK\r\n");
    churn(b, 3, 1000);
    a.replication.replica_of(Some(("127.0.0.1", b.port)));
    c.has_caught_up_with(b);
    a.has_caught_up_with(b);
    assert_eq!(b.replication.status().sync_full, 1, "c's first; all else goes on");
    assert_eq!(a.client().run("GET promoted"), "$3\r\nyes\r\n");
    b.client().run("FLUSHALL");
    churn(b, 4, 100);
    c.has_caught_up_with(b);
    a.has_caught_up_with(b);
}
