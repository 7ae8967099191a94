// SPDX-License-Identifier: BSD-3-Clause
//! The task that writes the log file: collects what is queued into one batch, appends it, syncs it
//! once, then tells everybody whose records were in it.
//!
//! The next batch is not written before the sync of the last one has ended; `record` relies on it.
//! After the first error nothing is written any more: what the disk holds is no longer known.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::storage::IOFlushed;
use pando_env::{AppendFile, Disk};
use tokio::sync::{mpsc, oneshot};

use crate::record;
use crate::types::Types;

/// A marker that nobody waits for is written with the next batch, or alone after this time.
const LAZY_DELAY: Duration = Duration::from_millis(50);
/// Stop collecting at this size.
const BATCH_BYTES: usize = 1024 * 1024;

/// Who is told that the records are durable.
pub enum Notify {
    /// openraft, after an append.
    Flushed(IOFlushed<Types>),
    /// A waiting call.
    Done(oneshot::Sender<io::Result<()>>),
    /// Nobody, and there is no hurry.
    Lazy,
}

/// One order to the writer.
pub enum Order {
    /// Add these commands.
    Write { commands: Vec<u8>, entries: u64, notify: Notify },
    /// Put this file in place of the present one.
    Replace { file: Vec<u8>, entries: u64 },
}

/// What the file is like; read by the log to decide about compaction.
#[derive(Debug, Default)]
pub struct FileSize {
    /// Length, as of the last batch.
    pub bytes: AtomicU64,
    /// Entries written since the file was made.
    pub entries: AtomicU64,
}

pub struct LogWriter {
    pub disk: Arc<dyn Disk>,
    pub path: PathBuf,
    pub file: Box<dyn AppendFile>,
    pub next_sequence: u64,
    pub size: Arc<FileSize>,
    pub orders: mpsc::UnboundedReceiver<Order>,
}

impl LogWriter {
    /// Runs until all senders are gone.
    pub async fn run(mut self) {
        let mut failed: Option<(io::ErrorKind, String)> = None;
        let mut batch = Batch::default();
        loop {
            let order = match batch.is_lazy() {
                false => self.orders.recv().await,
                true => match tokio::time::timeout(LAZY_DELAY, self.orders.recv()).await {
                    Ok(order) => order,
                    Err(_) => {
                        self.write(&mut batch, &mut failed).await;
                        continue;
                    }
                },
            };
            let Some(order) = order else { break };
            let mut replacement = batch.add(order);
            while replacement.is_none() && batch.commands.len() < BATCH_BYTES {
                match self.orders.try_recv() {
                    Ok(order) => replacement = batch.add(order),
                    Err(_) => break,
                }
            }
            if !batch.is_lazy() || replacement.is_some() {
                self.write(&mut batch, &mut failed).await;
            }
            if let Some((file, entries)) = replacement
                && failed.is_none()
                && let Err(e) = self.replace(file, entries).await
            {
                tracing::error!("cannot compact the log of the roots: {e}");
                failed = Some((e.kind(), e.to_string()));
            }
        }
        if !batch.commands.is_empty() {
            self.write(&mut batch, &mut failed).await;
        }
    }

    async fn write(&mut self, batch: &mut Batch, failed: &mut Option<(io::ErrorKind, String)>) {
        let Batch { mut commands, notify, entries } = std::mem::take(batch);
        if failed.is_none() && !commands.is_empty() {
            record::close_batch(&mut commands, self.next_sequence);
            self.next_sequence += 1;
            let append = self.file.append(commands);
            let sync = self.file.sync();
            if let Err(e) = async { append.await.and(sync.await) }.await {
                tracing::error!("cannot write the log of the roots: {e}");
                *failed = Some((e.kind(), e.to_string()));
            }
            self.size.bytes.store(self.file.len(), Ordering::Relaxed);
            self.size.entries.fetch_add(entries, Ordering::Relaxed);
        }
        for notify in notify {
            let result = match failed {
                None => Ok(()),
                Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            };
            match notify {
                Notify::Flushed(callback) => callback.io_completed(result),
                Notify::Done(tx) => {
                    let _ = tx.send(result);
                }
                Notify::Lazy => {}
            }
        }
    }

    async fn replace(&mut self, file: Vec<u8>, entries: u64) -> io::Result<()> {
        self.disk.replace(&self.path, file).await?;
        self.file = self.disk.open_append(&self.path).await?;
        self.next_sequence = 1;
        self.size.bytes.store(self.file.len(), Ordering::Relaxed);
        self.size.entries.store(entries, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Default)]
struct Batch {
    commands: Vec<u8>,
    notify: Vec<Notify>,
    entries: u64,
}

impl Batch {
    /// Adds an order; hands back a replacement of the file, which must not join the batch.
    fn add(&mut self, order: Order) -> Option<(Vec<u8>, u64)> {
        match order {
            Order::Write { commands, entries, notify } => {
                self.commands.extend_from_slice(&commands);
                self.entries += entries;
                self.notify.push(notify);
                None
            }
            Order::Replace { file, entries } => Some((file, entries)),
        }
    }

    /// Whether there is something to write and nobody waits for it.
    fn is_lazy(&self) -> bool {
        !self.notify.is_empty() && self.notify.iter().all(|n| matches!(n, Notify::Lazy))
    }
}
