// SPDX-License-Identifier: BSD-3-Clause
//! Full syncs of every type between the real engine and a real Valkey 9.1.2, both ways. Every key is compared by having
//! Valkey restore our DUMP of it and tell the DEBUG DIGEST of both. Needs the peers (`cargo xtask peers`, or `PANDO_PEERS`).

mod common;

use common::{accept_on, config, eventually};
use pando_procs::{Client, Node as Process, Software, peers};
use pando_replication::Replication;
use pando_resp::decode::{Value, decode};
use pando_resp::{Proto, ReplyBuf};
use pando_session::{ClientInfo, Engine, EngineConfig, Session, WorkerScratch};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The real engine with its replication.
struct Pando {
    engine: Arc<Engine>,
    replication: Replication,
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Pando {
    fn start() -> Pando {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let engine = Engine::new(EngineConfig::default(), &[]);
        let replication = Replication::new(engine.clone(), config(), runtime.handle().clone());
        let listener = TcpListener::bind("127.0.0.1:0").expect("free port");
        let port = listener.local_addr().expect("bound").port();
        accept_on(listener, replication.clone(), Arc::new(AtomicBool::new(false)));
        Pando { engine, replication, port, _runtime: runtime }
    }
}

/// Something that executes commands.
trait Ask {
    fn ask(&mut self, args: &[&[u8]]) -> Value;

    fn line(&mut self, line: &str) -> Value {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.ask(&args)
    }
}

impl Ask for Client {
    fn ask(&mut self, args: &[&[u8]]) -> Value {
        self.send(args).expect("valkey lives");
        self.receive().expect("valkey answers")
    }
}

struct Direct<'a> {
    engine: &'a Engine,
    session: Session,
    scratch: WorkerScratch,
    reply: ReplyBuf,
}

impl<'a> Direct<'a> {
    fn new(pando: &'a Pando) -> Direct<'a> {
        Direct {
            engine: &pando.engine,
            session: Session::new(&pando.engine, ClientInfo::default()),
            scratch: WorkerScratch::new(&pando.engine),
            reply: ReplyBuf::new(Proto::Resp2),
        }
    }
}

impl Ask for Direct<'_> {
    fn ask(&mut self, args: &[&[u8]]) -> Value {
        self.reply.clear();
        self.scratch.refresh_time();
        let _ = self.session.execute(self.engine, &mut self.scratch, args, &mut self.reply);
        decode(self.reply.as_slice()).expect("RESP").expect("a whole reply").0
    }
}

/// Values of every type and encoding, by chance: `seed` makes them differ.
fn fill(to: &mut dyn Ask, seed: u64) {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 11) % below
    };
    for round in 0..1500u64 {
        let key = |kind: &str, number: u64| format!("{kind}:{number}").into_bytes();
        let number = random(12);
        let count = [1, 1, 3, 30, 200][random(5) as usize];
        let mut text = |of: u64| -> Vec<u8> {
            match of % 6 {
                0 => random(500).to_string().into_bytes(),
                1 => (random(u64::MAX) as i64).to_string().into_bytes(),
                2 => format!("v{}", random(60)).into_bytes(),
                3 => vec![b'x'; random(150) as usize],
                4 => (0..random(30)).map(|_| random(256) as u8).collect(),
                _ => vec![b'y'; [63, 64, 65, 9000][random(4) as usize]],
            }
        };
        let mut args: Vec<Vec<u8>> = Vec::new();
        let kind = round % 6;
        match kind {
            0 => args.extend([b"RPUSH".to_vec(), key("list", number)]),
            1 => args.extend([b"SADD".to_vec(), key("set", number)]),
            2 => args.extend([b"ZADD".to_vec(), key("zset", number)]),
            3 => args.extend([b"HSET".to_vec(), key("hash", number)]),
            4 => args.extend([b"XADD".to_vec(), key("stream", number), format!("{}-1", round + 1).into_bytes()]),
            _ => args.extend([b"SET".to_vec(), key("string", number), text(round / 6)]),
        }
        // Some keys stay small, or have numbers only.
        let count = if number < 4 { count.min(3) } else { count };
        for i in 0..count * u64::from(kind != 5) {
            let of = if number % 4 == 1 { 0 } else { round / 6 + i };
            let element = text(of);
            match kind {
                2 => args.extend([
                    format!("{}", (i + number) as f64 / 7.0 * 10f64.powi(i as i32 % 40 - 20)).into_bytes(),
                    element,
                ]),
                3 | 4 => args.extend([text(i), element]),
                _ => args.push(element),
            }
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let reply = to.ask(&args);
        assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
    }
    for n in 0..12 {
        to.line(&format!("PEXPIREAT set:{n} {}", 4_000_000_000_000u64 + n));
        to.line(&format!("XGROUP CREATE stream:{n} one 0"));
        to.line(&format!("XGROUP CREATE stream:{n} two $"));
        to.line(&format!("XREADGROUP GROUP one alice COUNT {} STREAMS stream:{n} >", 1 + n * 2));
        to.line(&format!("XREADGROUP GROUP one bob COUNT 3 STREAMS stream:{n} >"));
        to.line(&format!("XGROUP CREATECONSUMER stream:{n} two idle"));
        to.line(&format!("XTRIM stream:{n} MAXLEN 20"));
        to.line(&format!("HSET ttl:{n} a 1 b 2 c 3"));
        to.line(&format!("HPEXPIREAT ttl:{n} 4000000000000 FIELDS 2 a b"));
    }
    to.line("XADD emptied 1-1 f v");
    to.line("XDEL emptied 1-1");
}

fn bulks(value: Value) -> Vec<Vec<u8>> {
    let Value::Array(Some(values)) = value else { panic!("{value:?} is no array") };
    values
        .into_iter()
        .map(|value| if let Value::Bulk(Some(bytes)) = value { bytes } else { panic!("{value:?}") })
        .collect()
}

/// Every key that Valkey has, by its own judgement of our payload.
fn compare(pando: &mut dyn Ask, valkey: &mut Client) {
    let keys = bulks(valkey.line("KEYS *"));
    assert_eq!(pando.line("DBSIZE"), Value::Int(keys.len() as i64));
    assert!(keys.len() > 60, "{}", keys.len());
    for key in keys {
        let name = String::from_utf8_lossy(&key).into_owned();
        let Value::Bulk(Some(payload)) = pando.ask(&[b"DUMP", &key]) else { panic!("{name} is not there") };
        assert_eq!(pando.ask(&[b"OBJECT", b"ENCODING", &key]), valkey.ask(&[b"OBJECT", b"ENCODING", &key]), "{name}");
        let due = valkey.ask(&[b"PEXPIRETIME", &key]);
        assert_eq!(pando.ask(&[b"PEXPIRETIME", &key]), due, "{name}");
        valkey.line("SELECT 1");
        let Value::Int(due) = due else { panic!("{due:?}") };
        let due = due.max(0).to_string();
        let restored = valkey.ask(&[b"RESTORE", b"copy", due.as_bytes(), &payload, b"REPLACE", b"ABSTTL"]);
        assert_eq!(restored, Value::Simple("OK".into()), "{name}");
        let copy = valkey.line("DEBUG DIGEST-VALUE copy");
        let times = valkey.line("HPEXPIRETIME copy FIELDS 2 a b");
        let groups = valkey.line("XINFO GROUPS copy");
        let pending = valkey.line("XPENDING copy one");
        valkey.line("FLUSHDB");
        valkey.line("SELECT 0");
        assert_eq!(valkey.ask(&[b"DEBUG", b"DIGEST-VALUE", &key]), copy, "{name}");
        assert_eq!(valkey.ask(&[b"HPEXPIRETIME", &key, b"FIELDS", b"2", b"a", b"b"]), times, "{name}");
        assert_eq!(valkey.ask(&[b"XINFO", b"GROUPS", &key]), groups, "{name}");
        // An error names the key.
        let (own, copy) = (valkey.ask(&[b"XPENDING", &key, b"one"]), pending);
        assert!(own == copy || matches!((&own, &copy), (Value::Error(_), Value::Error(_))), "{name}: {own:?} {copy:?}");
    }
}

fn valkey(args: &[&str]) -> Option<Process> {
    if peers::peer("valkey-server").is_none() {
        eprintln!("skipped: valkey-server is not installed");
        return None;
    }
    let always = ["--save", "", "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"];
    Some(Process::start(Software::Valkey, &[&always, args].concat()).expect("valkey-server starts"))
}

#[test]
fn pando_follows_a_valkey_with_every_type() {
    for diskless in ["yes", "no"] {
        let Some(process) = valkey(&["--repl-diskless-sync", diskless]) else { return };
        let mut client = process.client();
        fill(&mut client, 1);
        let pando = Pando::start();
        pando.replication.replica_of(Some(("127.0.0.1", process.port)));
        eventually("the image arrives", || pando.replication.position().synced && pando.replication.position().link_up);
        // Read as a client of a primary: nothing is written meanwhile.
        compare(&mut Direct::new(&pando), &mut client);
    }
}

#[test]
fn a_valkey_follows_pando_with_every_type() {
    let Some(process) = valkey(&[]) else { return };
    let mut client = process.client();
    let pando = Pando::start();
    fill(&mut Direct::new(&pando), 2);
    assert_eq!(client.line(&format!("REPLICAOF 127.0.0.1 {}", pando.port)), Value::Simple("OK".into()));
    let up = || {
        let info = process.client().text(&["INFO", "replication"]).unwrap_or_default();
        info.contains("master_link_status:up")
    };
    eventually("the image arrives", up);
    assert_eq!(client.line("REPLICAOF NO ONE"), Value::Simple("OK".into()));
    compare(&mut Direct::new(&pando), &mut client);
}
