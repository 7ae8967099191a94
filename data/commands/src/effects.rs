// SPDX-License-Identifier: BSD-3-Clause
//! What a command did, besides its reply: what to write to the log, which keyspace events to publish, which keys changed.
//! Filled by handlers through `Ctx`; read and cleared by the session layer after each command, under the slot locks.
//! One `Effects` is reused per worker, so clearing keeps the buffers.
//!
//! Order in the log: the deletions of expired keys met on the way (`before`), then the command: itself, its rewritten
//! form, or nothing. More than one record belongs in one MULTI/EXEC, which is the log's business.

use crate::blocking::Block;
use pando_keyspace::{DbIndex, Garbage};
use pando_resp::{Args, encode_command};
use std::ops::Range;

/// What of the command itself goes to the log.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Propagation {
    /// The client's own arguments, when `dirty` is above zero.
    #[default]
    Verbatim,
    /// Nothing, whatever `dirty` says.
    None,
    /// The records given to [`Effects::propagate`].
    Rewritten,
}

/// A set of event classes, with the bits of the reference server's `notify-keyspace-events`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct EventClass(pub u32);

#[allow(missing_docs)]
impl EventClass {
    pub const NONE: EventClass = EventClass(0);
    /// `K`: publish to `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: EventClass = EventClass(1 << 0);
    /// `E`: publish to `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: EventClass = EventClass(1 << 1);
    pub const GENERIC: EventClass = EventClass(1 << 2);
    pub const STRING: EventClass = EventClass(1 << 3);
    pub const LIST: EventClass = EventClass(1 << 4);
    pub const SET: EventClass = EventClass(1 << 5);
    pub const HASH: EventClass = EventClass(1 << 6);
    pub const ZSET: EventClass = EventClass(1 << 7);
    pub const EXPIRED: EventClass = EventClass(1 << 8);
    pub const EVICTED: EventClass = EventClass(1 << 9);
    pub const STREAM: EventClass = EventClass(1 << 10);
    pub const KEY_MISS: EventClass = EventClass(1 << 11);
    pub const MODULE: EventClass = EventClass(1 << 13);
    pub const NEW: EventClass = EventClass(1 << 14);
    /// `A`: every class but key misses and new keys.
    pub const ALL: EventClass = EventClass(0b0010_0111_1111_1100);

    /// True when the sets share a class.
    pub const fn has(self, other: EventClass) -> bool {
        self.0 & other.0 != 0
    }
}

/// One keyspace event.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// Class, for the filter of `notify-keyspace-events`.
    pub class: EventClass,
    /// Name, such as `set` or `expired`.
    pub name: &'static str,
    /// Database of the key.
    pub db: DbIndex,
    /// Key.
    pub key: &'a [u8],
}

/// A change of the keyspace as a whole; every watched key of the databases counts as modified.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WholeChange {
    /// All databases were emptied.
    FlushAll,
    /// One database was emptied.
    FlushDb(DbIndex),
    /// Two databases changed places.
    Swap(DbIndex, DbIndex),
}

/// See the head of this file.
#[derive(Default)]
pub struct Effects {
    /// Number of changes; zero means that the command is not logged.
    pub dirty: u64,
    /// What of the command itself is logged.
    pub propagation: Propagation,
    /// Lookups for reading that found a key.
    pub hits: u64,
    /// Lookups for reading that found none.
    pub misses: u64,
    /// Keys deleted because they were past due.
    pub expired: u64,
    /// Fields of hashes deleted because they were past due.
    pub expired_fields: u64,
    /// Set by FLUSHALL, FLUSHDB and SWAPDB.
    pub whole: Option<WholeChange>,
    /// The command waits: see `blocking`. It wrote no reply.
    pub block: Option<Box<Block>>,
    /// Heavy values to drop on a background thread.
    pub garbage: Vec<Garbage>,
    bytes: Vec<u8>,
    is_separate: bool,
    before: Vec<(DbIndex, Range<usize>)>,
    rewritten: Vec<(DbIndex, Range<usize>)>,
    events: Vec<(EventClass, &'static str, DbIndex, Range<usize>)>,
    modified: Vec<(DbIndex, Range<usize>)>,
}

impl Effects {
    /// Forgets everything and keeps the buffers.
    pub fn clear(&mut self) {
        self.dirty = 0;
        self.propagation = Propagation::Verbatim;
        self.hits = 0;
        self.misses = 0;
        self.expired = 0;
        self.expired_fields = 0;
        self.whole = None;
        self.block = None;
        self.garbage.clear();
        self.bytes.clear();
        self.before.clear();
        self.is_separate = false;
        self.rewritten.clear();
        self.events.clear();
        self.modified.clear();
    }

    /// Logs `args` in place of the command (more than once: all of them, in order).
    pub fn propagate(&mut self, db: DbIndex, args: Args<'_>) {
        self.propagation = Propagation::Rewritten;
        let range = self.encode(args);
        self.rewritten.push((db, range));
    }

    /// Logs `args` ahead of the command, whatever becomes of the command itself.
    pub fn propagate_before(&mut self, db: DbIndex, args: Args<'_>) {
        let range = self.encode(args);
        self.before.push((db, range));
    }

    /// The command changed nothing that belongs in the log.
    pub fn propagate_nothing(&mut self) {
        self.propagation = Propagation::None;
    }

    /// Records a keyspace event.
    pub fn event(&mut self, class: EventClass, name: &'static str, db: DbIndex, key: &[u8]) {
        let range = self.store(key);
        self.events.push((class, name, db, range));
    }

    /// Records that a key changed (WATCH, tracking).
    pub fn modify(&mut self, db: DbIndex, key: &[u8]) {
        let range = self.store(key);
        self.modified.push((db, range));
    }

    /// Keyspace events in order.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.events.iter().map(|(class, name, db, range)| Event {
            class: *class,
            name,
            db: *db,
            key: &self.bytes[range.clone()],
        })
    }

    /// Changed keys in order, possibly repeated.
    pub fn modified(&self) -> impl Iterator<Item = (DbIndex, &[u8])> {
        self.modified.iter().map(|(db, range)| (*db, &self.bytes[range.clone()]))
    }

    /// True when [`Effects::modified`] is not empty.
    pub fn has_modified(&self) -> bool {
        !self.modified.is_empty()
    }

    /// Deletions of expired keys that go to the log ahead of the command, as RESP.
    pub fn before(&self) -> impl Iterator<Item = (DbIndex, &[u8])> {
        self.before.iter().map(|(db, range)| (*db, &self.bytes[range.clone()]))
    }

    /// Records that replace the command when `propagation` is `Rewritten`, as RESP.
    pub fn rewritten(&self) -> impl Iterator<Item = (DbIndex, &[u8])> {
        self.rewritten.iter().map(|(db, range)| (*db, &self.bytes[range.clone()]))
    }

    /// The command's records have nothing to do with one another: walks delete what they happen to meet.
    pub fn separate_records(&mut self) {
        self.is_separate = true;
    }

    /// Whether several records of the command belong in one MULTI/EXEC.
    pub fn is_one_transaction(&self) -> bool {
        !self.is_separate
    }

    /// Number of log records that the command makes: see `is_one_transaction`.
    pub fn record_count(&self) -> usize {
        let own = match self.propagation {
            Propagation::Verbatim => usize::from(self.dirty > 0),
            Propagation::None => 0,
            Propagation::Rewritten => self.rewritten.len(),
        };
        self.before.len() + own
    }

    /// Hands every log record in order to `sink`; `db` and `args` are the client's, for the verbatim case.
    /// `scratch` is cleared and used to encode them.
    pub fn for_each_record(
        &self,
        db: DbIndex,
        args: Args<'_>,
        scratch: &mut Vec<u8>,
        sink: &mut dyn FnMut(DbIndex, &[u8]),
    ) {
        for (db, record) in self.before() {
            sink(db, record);
        }
        match self.propagation {
            Propagation::None => {}
            Propagation::Verbatim if self.dirty == 0 => {}
            Propagation::Verbatim => {
                scratch.clear();
                encode_command(scratch, args);
                sink(db, scratch);
            }
            Propagation::Rewritten => {
                for (db, record) in self.rewritten() {
                    sink(db, record);
                }
            }
        }
    }

    fn encode(&mut self, args: Args<'_>) -> Range<usize> {
        let start = self.bytes.len();
        encode_command(&mut self.bytes, args);
        start..self.bytes.len()
    }

    fn store(&mut self, key: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        start..self.bytes.len()
    }
}
