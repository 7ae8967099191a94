// SPDX-License-Identifier: BSD-3-Clause
//! The replication log: one stream of command bytes in memory with one monotonic offset.
//!
//! Appenders reserve, copy and publish, so they do not queue behind each other:
//!
//! ```text
//! head (one atomic word: database of the stream's end << 48 | offset of its end)
//!   1. reserve: compare-exchange moves head; a SELECT is part of the reservation if the database differs
//!   2. copy:    into the blocks that the range covers (256 KiB each; found in a ring of slots by offset / 256 KiB)
//!   3. publish: set one bit per byte in the block's bitmap
//! ```
//!
//! A reader hands out the longest run of published bytes at its position. Blocks are reference-counted: a reader
//! keeps the block that it stands in; the ring keeps those within the backlog or at or after a registered reader, as
//! far back as the hard limit. A block leaves the ring only when all its bits are set, so an appender's block cannot
//! vanish under it.
//!
//! While the node is a replica, [`ReplicationLog::append`] does nothing and the stream of the primary is relayed byte
//! for byte with [`ReplicationLog::relay`]. The log does not know sockets, roles' reasons or commands.

mod block;
mod reader;

pub use reader::{LogReader, ReadError, ReaderWatch};

use block::{BLOCK_BYTES, Block};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Slots of the ring: with blocks of 256 KiB at most 2 GiB are kept.
const RING: usize = 8192;
/// Most bytes that can be kept, with a margin for appends under way.
const KEPT_BYTES_MAX: u64 = ((RING as u64) - 64) * BLOCK_BYTES as u64;
/// "No database": the next append writes a SELECT.
const DB_NONE: u64 = 0xffff;
const OFFSET_MASK: u64 = (1 << 48) - 1;
const VACANT: u64 = u64::MAX;
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";

/// Who feeds the log.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Feed {
    /// Nobody: appends are ignored and cost one load.
    Off = 0,
    /// This node's own writes.
    Own = 1,
    /// The stream of its primary.
    Relay = 2,
}

struct RingSlot {
    /// Number of the block in `block`, or [`VACANT`]. Set after `block`, cleared before it.
    number: AtomicU64,
    block: AtomicPtr<Block>,
}

/// Limits; may change at run time.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct LogLimits {
    /// `repl-backlog-size`.
    pub backlog_bytes: u64,
    /// How far a registered reader may lag (`client-output-buffer-limit replica`, hard); 0 = as far as memory allows.
    pub reader_lag_bytes_max: u64,
}

/// The one word that all appenders write, on cache lines of its own: what they only read must not bounce with it.
#[repr(align(128))]
struct Head(AtomicU64);

/// The log. Shared by all appenders and readers.
pub struct ReplicationLog {
    head: Head,
    feed: AtomicU8,
    ring: Box<[RingSlot]>,
    /// Set by a reader before it sleeps; an appender that sees it wakes all.
    sleepers: AtomicBool,
    wake: Notify,
    kept: Mutex<Kept>,
    limits: Mutex<LogLimits>,
}

/// What the slow paths share.
struct Kept {
    /// First offset that exists at all: of the last reset.
    start: u64,
    /// Blocks `first_block..end_block` are in the ring.
    first_block: u64,
    end_block: u64,
    readers: Vec<Arc<reader::Position>>,
    spare: Option<Arc<Block>>,
}

impl ReplicationLog {
    /// An empty log that nobody feeds.
    pub fn new(limits: LogLimits) -> ReplicationLog {
        let slot = || RingSlot { number: AtomicU64::new(VACANT), block: AtomicPtr::new(std::ptr::null_mut()) };
        ReplicationLog {
            head: Head(AtomicU64::new(pack(DB_NONE, 0))),
            feed: AtomicU8::new(Feed::Off as u8),
            ring: (0..RING).map(|_| slot()).collect(),
            sleepers: AtomicBool::new(false),
            wake: Notify::new(),
            kept: Mutex::new(Kept { start: 0, first_block: 0, end_block: 0, readers: Vec::new(), spare: None }),
            limits: Mutex::new(limits),
        }
    }

    /// Whether own writes are to be appended.
    pub fn is_active(&self) -> bool {
        self.feed.load(Ordering::Acquire) == Feed::Own as u8
    }

    /// Who feeds the log now.
    pub fn feed(&self) -> Feed {
        match self.feed.load(Ordering::Acquire) {
            0 => Feed::Off,
            1 => Feed::Own,
            _ => Feed::Relay,
        }
    }

    /// Changes who feeds the log; the bytes stay. The next own append starts with a SELECT. The caller makes sure
    /// that no append is under way (all slots locked) when it takes the feed away from own writes.
    pub fn set_feed(&self, feed: Feed) {
        self.forget_db();
        self.feed.store(feed as u8, Ordering::Release);
    }

    /// The offset of the end: how many bytes the stream has had.
    pub fn offset(&self) -> u64 {
        self.head.0.load(Ordering::Acquire) & OFFSET_MASK
    }

    /// The oldest offset that a new reader may start at.
    pub fn first_offset(&self) -> u64 {
        let kept = self.kept.lock();
        let backlog = self.limits.lock().backlog_bytes;
        self.offset().saturating_sub(backlog).max(self.oldest(&kept))
    }

    /// The limits in force.
    pub fn limits(&self) -> LogLimits {
        *self.limits.lock()
    }

    /// Changes the limits; memory follows with the next block.
    pub fn set_limits(&self, limits: LogLimits) {
        *self.limits.lock() = limits;
    }

    /// Appends one own command that ran in `db`, and a SELECT before it where needed; answers the offset after it.
    /// Called under the locks of the command's slots, by any thread.
    pub fn append(&self, db: u16, resp: &[u8]) -> u64 {
        if !self.is_active() {
            return self.offset();
        }
        self.reserve_and_copy(b"", Some((db, db)), resp)
    }

    /// The same for commands that begin in database `first`, leave the stream in `last` and end with EXEC: the MULTI comes
    /// first, then the SELECT where needed.
    pub fn append_transaction(&self, first: u16, last: u16, body: &[u8]) -> u64 {
        if !self.is_active() {
            return self.offset();
        }
        self.reserve_and_copy(MULTI, Some((first, last)), body)
    }

    /// Appends bytes that belong to no database (PING, REPLCONF GETACK).
    pub fn append_plain(&self, resp: &[u8]) -> u64 {
        if !self.is_active() {
            return self.offset();
        }
        self.reserve_and_copy(b"", None, resp)
    }

    /// Appends bytes of the primary's stream unchanged. One thread only.
    pub fn relay(&self, bytes: &[u8]) -> u64 {
        debug_assert_eq!(self.feed(), Feed::Relay);
        self.reserve_and_copy(b"", None, bytes)
    }

    /// The next own append starts with a SELECT: a full sync begins here and its replica knows no database yet.
    pub fn forget_db(&self) {
        self.head.0.fetch_or(pack(DB_NONE, 0), Ordering::AcqRel);
    }

    /// Throws all bytes away and goes on at `offset`. The caller makes sure that no append is under way. Readers get
    /// [`ReadError::Gone`].
    pub fn reset(&self, offset: u64) {
        let mut kept = self.kept.lock();
        for number in kept.first_block..kept.end_block {
            self.vacate(number);
        }
        kept.start = offset;
        kept.first_block = block_of(offset);
        kept.end_block = kept.first_block;
        for reader in kept.readers.drain(..) {
            reader.cut_off();
        }
        self.head.0.store(pack(DB_NONE, offset), Ordering::Release);
        drop(kept);
        self.wake.notify_waiters();
    }

    fn reserve_and_copy(&self, lead: &[u8], dbs: Option<(u16, u16)>, bytes: &[u8]) -> u64 {
        let mut select = [0u8; 32];
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            let (last_db, start) = (head >> 48, head & OFFSET_MASK);
            let (prefix, new_db) = match dbs {
                Some((first, last)) if u64::from(first) != last_db => {
                    (select_command(&mut select, first), u64::from(last))
                }
                Some((_, last)) => (&[][..], u64::from(last)),
                None => (&[][..], last_db),
            };
            let end = start + (lead.len() + prefix.len() + bytes.len()) as u64;
            match self.head.0.compare_exchange_weak(head, pack(new_db, end), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    let start = self.copy(start, lead);
                    let start = self.copy(start, prefix);
                    self.copy(start, bytes);
                    self.wake_readers();
                    return end;
                }
                Err(now) => head = now,
            }
        }
    }

    /// Copies into a reserved range and publishes it, block by block. Answers the offset after it.
    fn copy(&self, mut start: u64, mut bytes: &[u8]) -> u64 {
        while !bytes.is_empty() {
            let at = (start % BLOCK_BYTES as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - at));
            let number = block_of(start);
            let slot = &self.ring[number as usize % RING];
            // Acquire: pairs with the release in `add_blocks`, so that `block` is the one with this number.
            if slot.number.load(Ordering::Acquire) != number {
                self.add_blocks(number);
            }
            let block = slot.block.load(Ordering::Relaxed);
            // SAFETY: the slot carries our block's number, and a block leaves the ring only when all its bytes are
            // published; ours at `start` are not, so it stays until `write` has set their bits. The range was
            // reserved for this thread alone.
            unsafe { (*block).write(at, now) };
            start += now.len() as u64;
            bytes = later;
        }
        start
    }

    /// Makes blocks up to and including `number` exist, and lets go of old ones.
    #[cold]
    fn add_blocks(&self, number: u64) {
        loop {
            let mut kept = self.kept.lock();
            self.trim(&mut kept);
            while kept.end_block <= number {
                let next = kept.end_block;
                let slot = &self.ring[next as usize % RING];
                if slot.number.load(Ordering::Relaxed) != VACANT {
                    break;
                }
                let block = match kept.spare.take().map(Arc::try_unwrap) {
                    Some(Ok(mut spare)) => {
                        spare.clear();
                        Arc::new(spare)
                    }
                    _ => Arc::new(Block::new()),
                };
                if next == block_of(kept.start) {
                    // Bytes before the first one are never written; without this the block would never count as full.
                    block.publish(0, (kept.start % BLOCK_BYTES as u64) as usize);
                }
                slot.block.store(Arc::into_raw(block).cast_mut(), Ordering::Relaxed);
                slot.number.store(next, Ordering::Release);
                kept.end_block += 1;
            }
            if kept.end_block > number {
                return;
            }
            // The ring is full because an append 2 GiB ago is not finished yet: its thread must run first.
            drop(kept);
            std::thread::yield_now();
        }
    }

    /// Lets go of blocks that neither the backlog nor a reader within the limit needs.
    fn trim(&self, kept: &mut Kept) {
        let head = self.offset();
        let limits = *self.limits.lock();
        let lag_max = match limits.reader_lag_bytes_max {
            0 => KEPT_BYTES_MAX,
            n => n.min(KEPT_BYTES_MAX),
        };
        let backlog_from = head.saturating_sub(limits.backlog_bytes.min(KEPT_BYTES_MAX));
        let readers_from = kept.readers.iter().map(|r| r.get()).min().unwrap_or(head);
        let from = backlog_from.min(readers_from.max(head.saturating_sub(lag_max)));
        while kept.first_block < block_of(from).min(kept.end_block) {
            let slot = &self.ring[kept.first_block as usize % RING];
            // SAFETY: blocks in the ring are alive, and only this function and `reset` take them out, under `kept`.
            if !unsafe { (*slot.block.load(Ordering::Relaxed)).is_full() } {
                break;
            }
            let block = self.vacate(kept.first_block);
            kept.spare = block;
            kept.first_block += 1;
        }
        let oldest = self.oldest(kept);
        kept.readers.retain(|reader| {
            let behind = reader.get() < oldest;
            if behind {
                reader.cut_off();
            }
            !behind
        });
    }

    /// Takes a block out of the ring. The caller holds `kept`.
    fn vacate(&self, number: u64) -> Option<Arc<Block>> {
        let slot = &self.ring[number as usize % RING];
        slot.number.store(VACANT, Ordering::Release);
        let block = slot.block.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: the pointer came from `Arc::into_raw` in `add_blocks` and leaves the ring here, once.
        (!block.is_null()).then(|| unsafe { Arc::from_raw(block.cast_const()) })
    }

    fn oldest(&self, kept: &Kept) -> u64 {
        kept.start.max(kept.first_block * BLOCK_BYTES as u64)
    }

    fn block(&self, number: u64) -> Option<Arc<Block>> {
        let kept = self.kept.lock();
        if !(kept.first_block..kept.end_block).contains(&number) {
            return None;
        }
        let block = self.ring[number as usize % RING].block.load(Ordering::Relaxed).cast_const();
        // SAFETY: the ring owns one count of this block, and gives it up only under `kept`, which we hold.
        unsafe {
            Arc::increment_strong_count(block);
            Some(Arc::from_raw(block))
        }
    }

    fn wake_readers(&self) {
        // SeqCst fences here and in `LogReader::ready`: either we see the sleeper, or it sees our bytes.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) && self.sleepers.swap(false, Ordering::AcqRel) {
            self.wake.notify_waiters();
        }
    }
}

impl Drop for ReplicationLog {
    fn drop(&mut self) {
        let (first, end) = {
            let kept = self.kept.get_mut();
            (kept.first_block, kept.end_block)
        };
        for number in first..end {
            self.vacate(number);
        }
    }
}

fn pack(db: u64, offset: u64) -> u64 {
    (db << 48) | offset
}

fn block_of(offset: u64) -> u64 {
    offset / BLOCK_BYTES as u64
}

fn select_command(buf: &mut [u8; 32], db: u16) -> &[u8] {
    use std::io::Write;
    let digits = db.checked_ilog10().unwrap_or(0) + 1;
    let mut rest = &mut buf[..];
    // Cannot fail: 23 bytes and at most 5 digits.
    let _ = write!(rest, "*2\r\n$6\r\nSELECT\r\n${digits}\r\n{db}\r\n");
    let used = 32 - rest.len();
    &buf[..used]
}
