// SPDX-License-Identifier: BSD-3-Clause
//! A reader of the log: a position that the log keeps bytes for, up to the lag limit.
//!
//! Used by the link to each replica, and by whoever else follows the stream (AOF writer, slot migration). A reader is
//! used by one task at a time.

use super::block::{BLOCK_BYTES, Block};
use super::{ReplicationLog, block_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CUT_OFF: u64 = u64::MAX;

/// Where a reader stands, as the log sees it.
pub(crate) struct Position(AtomicU64);

impl Position {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn cut_off(&self) {
        self.0.store(CUT_OFF, Ordering::Release);
    }
}

/// Why a reader cannot go on.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    #[error("the position is outside of the log")]
    OutOfRange,
    #[error("the reader lags behind the limit, or the log was reset")]
    Gone,
}

/// A registered reader. Dropping it lets the log go on without it.
pub struct LogReader {
    log: Arc<ReplicationLog>,
    position: Arc<Position>,
    at: u64,
    block: Option<(u64, Arc<Block>)>,
}

/// See [`LogReader::watch`].
pub struct ReaderWatch(Arc<Position>);

impl ReaderWatch {
    /// Whether the log gave the reader up.
    pub fn is_gone(&self) -> bool {
        self.0.get() == CUT_OFF
    }
}

impl ReplicationLog {
    /// Registers a reader at `offset`, which must lie in the backlog or be its end.
    pub fn reader(self: &Arc<Self>, offset: u64) -> Result<LogReader, ReadError> {
        let mut kept = self.kept.lock();
        if offset < self.oldest(&kept) || offset > self.offset() {
            return Err(ReadError::OutOfRange);
        }
        let position = Arc::new(Position(AtomicU64::new(offset)));
        kept.readers.push(position.clone());
        Ok(LogReader { log: self.clone(), position, at: offset, block: None })
    }

    /// Registers a reader at the end. With all slots locked this is the exact cut between snapshot and stream.
    pub fn reader_at_end(self: &Arc<Self>) -> LogReader {
        let mut kept = self.kept.lock();
        let at = self.offset();
        let position = Arc::new(Position(AtomicU64::new(at)));
        kept.readers.push(position.clone());
        LogReader { log: self.clone(), position, at, block: None }
    }
}

impl ReplicationLog {
    /// Waits until the end has reached `offset`.
    pub async fn reached(&self, offset: u64) {
        loop {
            let notified = self.wake.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            self.sleepers.store(true, Ordering::Relaxed);
            // SeqCst: pairs with the fence in `wake_readers`.
            std::sync::atomic::fence(Ordering::SeqCst);
            if self.offset() >= offset {
                return;
            }
            notified.await;
        }
    }
}

impl LogReader {
    /// The offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Says of this reader, while it is in use elsewhere, whether the log gave it up.
    pub fn watch(&self) -> ReaderWatch {
        ReaderWatch(self.position.clone())
    }

    /// The published bytes at the position, perhaps none; does not move. At most the rest of one block.
    pub fn peek(&mut self) -> Result<&[u8], ReadError> {
        if self.position.get() == CUT_OFF {
            return Err(ReadError::Gone);
        }
        let number = block_of(self.at);
        if self.block.as_ref().is_none_or(|(n, _)| *n != number) {
            self.block = self.log.block(number).map(|block| (number, block));
        }
        let at = (self.at % BLOCK_BYTES as u64) as usize;
        Ok(self.block.as_ref().map_or(&[][..], |(_, block)| block.published_from(at)))
    }

    /// Moves past `n` bytes that `peek` gave.
    pub fn consume(&mut self, n: usize) {
        self.at += n as u64;
        // A lost race with `cut_off` must stay cut off.
        let old = self.position.get();
        if old != CUT_OFF {
            let _ = self.position.0.compare_exchange(old, self.at, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Waits until `peek` has bytes, or fails. Cancel-safe.
    pub async fn ready(&mut self) -> Result<(), ReadError> {
        loop {
            if !self.peek()?.is_empty() {
                return Ok(());
            }
            let log = self.log.clone();
            let notified = log.wake.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            log.sleepers.store(true, Ordering::Relaxed);
            // SeqCst: pairs with the fence in `wake_readers`.
            std::sync::atomic::fence(Ordering::SeqCst);
            if !self.peek()?.is_empty() {
                return Ok(());
            }
            notified.await;
        }
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        let mut kept = self.log.kept.lock();
        kept.readers.retain(|p| !Arc::ptr_eq(p, &self.position));
    }
}
