// SPDX-License-Identifier: BSD-3-Clause
//! [`Data`] over the real engine, and the engine's log over ours. All that replication knows of sessions and of the
//! keyspace is in this file.

use crate::data::{Applier, Data, DataWalk, Kept, WalkEnd};
use crate::image_out::ImageOut;
use crate::log::ReplicationLog;
use pando_dump::{LoadContext, LoadError, Loaded};
use pando_formats::rdb::{RdbValue, RdbWriter, Record};
use pando_keyspace::{DbIndex, EvictionPolicy, StrHint, Ttl, Typed, ValueRef, Walk, Walked};
use pando_session::{ApplySession, ClientInfo, Engine, LogSink, Role, SERVER_VERSION};
use pando_topology::Slot;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// The log as sessions see it.
pub(crate) struct Sink(Arc<ReplicationLog>);

impl Sink {
    pub(crate) fn new(log: Arc<ReplicationLog>) -> Sink {
        Sink(log)
    }
}

impl LogSink for Sink {
    fn active(&self) -> bool {
        self.0.is_active()
    }

    fn append(&self, db: DbIndex, resp: &[u8]) -> u64 {
        self.0.append(db, resp)
    }

    fn append_transaction(&self, first: DbIndex, last: DbIndex, body: &[u8]) -> u64 {
        self.0.append_transaction(first, last, body)
    }

    fn offset(&self) -> u64 {
        self.0.offset()
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// See the head of this file.
pub(crate) struct EngineData(Arc<Engine>);

impl EngineData {
    pub(crate) fn new(engine: Arc<Engine>) -> EngineData {
        EngineData(engine)
    }
}

impl Data for EngineData {
    fn server_version(&self) -> &str {
        SERVER_VERSION
    }

    fn is_cluster(&self) -> bool {
        self.0.settings.load().cluster_enabled
    }

    fn set_replica(&self, is_replica: bool) {
        self.0.set_role(if is_replica { Role::Replica } else { Role::Primary });
    }

    fn set_loading(&self, is_loading: bool) {
        self.0.gate.set_loading(is_loading);
    }

    fn is_loading(&self) -> bool {
        self.0.gate.is_loading()
    }

    fn set_link_up(&self, is_up: bool) {
        self.0.gate.set_link_up(is_up);
    }

    fn set_good_replicas(&self, count: u32) {
        self.0.gate.set_good_replicas(count);
    }

    fn set_ack(&self, client_id: u64, offset: u64) {
        if let Some(client) = self.0.clients.get(client_id) {
            client.last_active_ms.store(unix_ms(), Relaxed);
        }
        self.0.replica_acked(client_id, offset);
    }

    fn remove_ack(&self, client_id: u64) {
        self.0.acks.remove(client_id);
    }

    fn replica_linked(&self, client_id: u64) {
        self.0.turn_into_link(client_id);
    }

    fn primary_linked(&self, addr: String, laddr: String) -> u64 {
        self.0.add_link(ClientInfo { addr, laddr, fd: -1, worker: 0, is_tls: false, now_ms: unix_ms() })
    }

    fn unlinked(&self, client_id: u64) {
        self.0.remove_link(client_id);
    }

    fn with_all_locked(&self, act: &mut dyn FnMut()) {
        let locked = self.0.keyspace.lock_all();
        act();
        drop(locked);
    }

    fn flush_all(&self) {
        let garbage = self.0.keyspace.flush(None);
        match self.0.host.get() {
            Some(host) => host.drop_later(vec![garbage]),
            None => drop(garbage),
        }
    }

    fn load(&self, record: &Record) -> Result<(), String> {
        let db = u16::try_from(record.db).ok().filter(|db| *db < self.0.keyspace.databases());
        let db = db.ok_or_else(|| format!("the image has database {}, which this node has not", record.db))?;
        let ttl = record.expire_at_ms.map_or(Ttl::Clear, Ttl::At);
        // Decoded before the slot is locked: that may take a while.
        let typed = match &record.value {
            RdbValue::Raw { kind, bytes } => {
                let limits = self.0.settings.load().limits;
                let fail = |error: LoadError| {
                    let key = String::from_utf8_lossy(&record.key);
                    format!("the image has a bad {} at key {key:?}: {error}", kind.name())
                };
                match pando_dump::load(*kind, bytes, &LoadContext { limits: &limits, drop_due_before_ms: None }) {
                    Ok(Loaded::Typed(typed)) => Some(typed),
                    Ok(_) => None,
                    // Old bugs of other servers left keys without elements.
                    Err(LoadError::Empty) => return Ok(()),
                    Err(error) => return Err(fail(error)),
                }
            }
            _ => None,
        };
        let mut locked = self.0.keyspace.lock_one(Slot::of_key(&record.key));
        {
            let mut keys = locked.db(db);
            match (&record.value, typed) {
                (_, Some(typed)) => keys.put_typed(&record.key, typed, ttl),
                (RdbValue::Int(n), _) => keys.set_int(&record.key, *n, ttl),
                (RdbValue::Str(s), _) => keys.set_str(&record.key, s, ttl, StrHint::Auto),
                _ => return Err("the image has a value of a type that is not supported".into()),
            };
        }
        if record.idle_s.is_some() || record.freq.is_some() {
            locked.set_now(unix_ms());
            let mut keys = locked.db(db);
            match (record.idle_s, record.freq) {
                (_, Some(freq)) if self.0.settings.load().lfu => _ = keys.set_freq(&record.key, freq),
                (Some(idle_s), _) if !self.0.settings.load().lfu => _ = keys.set_idle(&record.key, idle_s),
                _ => {}
            }
        }
        Ok(())
    }

    fn begin_walk(&self, at_cut: &mut dyn FnMut()) -> io::Result<Box<dyn DataWalk>> {
        let walk = self.0.keyspace.begin_walk(at_cut);
        let walk = walk.map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "another walk is under way"))?;
        Ok(Box::new(EngineWalk { engine: self.0.clone(), walk }))
    }

    fn applier(&self) -> Box<dyn Applier> {
        Box::new(EngineApplier { session: ApplySession::new(&self.0), engine: self.0.clone() })
    }
}

struct EngineWalk {
    engine: Arc<Engine>,
    walk: Walk,
}

/// A collection that is written when no lock is held. The copy shares its nodes with the original.
struct Later {
    db: DbIndex,
    key: Vec<u8>,
    value: Typed,
    expire_at: Option<u64>,
    usage: Usage,
}

/// What the image says of a key's access clock: seconds without access, or the counter, where the eviction policy goes by
/// it.
type Usage = (Option<u64>, Option<u8>);

/// Collections up to this size are written at once: copying them would cost as much.
const AT_ONCE_BYTES: usize = 4096;

fn write_typed(
    to: &mut RdbWriter<ImageOut>,
    db: DbIndex,
    key: &[u8],
    value: &Typed,
    expire_at: Option<u64>,
) -> io::Result<()> {
    let value = ValueRef::Typed(value);
    to.typed(u32::from(db), key, expire_at, pando_dump::kind_of(value), |to| pando_dump::save(value, to))
}

impl DataWalk for EngineWalk {
    fn step(&mut self, budget_bytes: usize, to: &mut RdbWriter<ImageOut>) -> io::Result<WalkEnd> {
        let mut result = Ok(());
        let mut later = Vec::new();
        to.output_mut().hold();
        let policy = self.engine.settings.load().maxmemory_policy;
        let (keyspace, now_ms) = (&self.engine.keyspace, unix_ms());
        let is_done = self.walk.step(keyspace, budget_bytes, &mut |Walked { db, key, value, expire_at, access }| {
            if result.is_ok() {
                let (idle_s, freq) = keyspace.usage(access, now_ms);
                let usage = match policy {
                    EvictionPolicy::AllkeysLru | EvictionPolicy::VolatileLru => (Some(idle_s), None),
                    EvictionPolicy::AllkeysLfu | EvictionPolicy::VolatileLfu => (None, Some(freq)),
                    _ => (None, None),
                };
                if let ValueRef::Typed(value) = value
                    && value.heap_bytes() > AT_ONCE_BYTES
                {
                    later.push(Later { db, key: key.to_vec(), value: value.clone(), expire_at, usage });
                    return;
                }
                result = to.usage(usage.0, usage.1).and_then(|()| match value {
                    ValueRef::Int(n) => to.int(u32::from(db), key, n, expire_at),
                    ValueRef::Str(s) => to.string(u32::from(db), key, s, expire_at),
                    ValueRef::Typed(value) => write_typed(to, db, key, value, expire_at),
                    _ => Err(io::Error::other("a value of a type that cannot be written yet")),
                });
            }
        });
        result?;
        to.output_mut().release()?;
        for Later { db, key, value, expire_at, usage } in later {
            to.usage(usage.0, usage.1)?;
            write_typed(to, db, &key, &value, expire_at)?;
        }
        Ok(match (self.walk.is_aborted(), is_done) {
            (true, _) => WalkEnd::Aborted,
            (false, true) => WalkEnd::Done,
            (false, false) => WalkEnd::More,
        })
    }

    fn pending_bytes(&self) -> usize {
        self.walk.pending_bytes()
    }
}

struct EngineApplier {
    engine: Arc<Engine>,
    session: ApplySession,
}

impl EngineApplier {
    fn run(&mut self, args: &[&[u8]]) -> Result<(), String> {
        self.engine.apply(&mut self.session, args).map_err(|error| {
            let name = String::from_utf8_lossy(args[0]);
            format!("cannot apply '{name}' of the primary's stream: {error}")
        })
    }
}

impl Applier for EngineApplier {
    fn apply(&mut self, db: u16, args: &[&[u8]]) -> Result<(), String> {
        self.session.db = db;
        self.run(args)
    }

    fn apply_all(&mut self, commands: &[Kept]) -> Result<(), String> {
        let Some((first_db, _)) = commands.first() else { return Ok(()) };
        self.session.db = *first_db;
        let mut selected = *first_db;
        self.run(&[b"MULTI"])?;
        for (db, args) in commands {
            if *db != selected {
                selected = *db;
                self.run(&[b"SELECT", db.to_string().as_bytes()])?;
            }
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            self.run(&args)?;
        }
        self.run(&[b"EXEC"])
    }
}
