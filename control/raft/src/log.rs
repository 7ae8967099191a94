// SPDX-License-Identifier: BSD-3-Clause
//! The Raft log: all of it in memory, and in one append-only file (`record`, `log_writer`).
//!
//! Memory is changed and the record queued under one lock, so the file has the order of the calls.
//! The log stays small: entries behind a snapshot are purged, and a file that has grown past its
//! limits is then written anew. openraft calls this through its storage traits.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState as Ends, OptionalSend, RaftLogReader};
use pando_env::{Disk, Env};
use pando_wire::ClusterId;
use tokio::sync::{mpsc, oneshot};

use crate::VoterId;
use crate::log_writer::{FileSize, LogWriter, Notify, Order};
use crate::record::{self, End, LogState, Owner};
use crate::types::{Entry, LogId, Types, Vote};

/// Name of the log file in the folder.
pub const LOG_FILE: &str = "roots.aof";

/// When the file is written anew.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    pub bytes_max: u64,
    pub entries_max: u64,
}

/// The log; clones share it.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<LogState>,
    orders: mpsc::UnboundedSender<Order>,
    size: Arc<FileSize>,
    limits: Limits,
    /// Length of the snapshot.
    snapshot_bytes: AtomicU64,
    owner: Owner,
}

impl Log {
    /// Opens the log in `dir`, or makes one with a new voter id (`new_voter`, or a random one). An existing file is written anew, so
    /// that what this process builds on is on the disk even if a sync of an earlier one has failed.
    ///
    /// A torn last batch is cut: nobody was told that it is durable. One that is there and damaged may have
    /// been, so it is an error, unless `loses_damaged_end`: a group of one has nobody to ask.
    ///
    /// # Errors
    /// `InvalidData` if the file is damaged or of another cluster; whatever the disk says.
    pub async fn open(
        env: &Env,
        dir: &Path,
        cluster: ClusterId,
        limits: Limits,
        loses_damaged_end: bool,
        new_voter: Option<VoterId>,
    ) -> io::Result<Log> {
        let path = dir.join(LOG_FILE);
        env.disk.create_dir(dir).await?;
        let bytes = match env.disk.read(&path).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => create(env, &path, cluster, new_voter).await?,
            Err(e) => return Err(e),
        };
        let mut parsed = record::parse(&bytes)?;
        let Some(owner) = parsed.state.owner else {
            return Err(invalid("the log of the roots does not say whose it is".to_owned()));
        };
        if owner.cluster != cluster {
            return Err(invalid(format!("the log of the roots belongs to cluster {}", owner.cluster)));
        }
        let lost_bytes = bytes.len() as u64 - parsed.good_bytes;
        match parsed.end {
            End::Whole => {}
            End::Torn => tracing::warn!(lost_bytes, "cutting the torn end of the log of the roots"),
            End::Damaged if loses_damaged_end => {
                tracing::error!(lost_bytes, "cutting the damaged end of the log of the roots: changes may be lost");
            }
            End::Damaged => {
                let text = format!("the log of the roots is damaged at byte {}, in its end", parsed.good_bytes);
                return Err(invalid(text));
            }
        }
        let file = record::put_all(&parsed.state)?;
        let size = Arc::new(FileSize::default());
        size.bytes.store(file.len() as u64, Ordering::Relaxed);
        size.entries.store(parsed.state.entries.len() as u64, Ordering::Relaxed);
        env.disk.replace(&path, file).await?;
        parsed.next_sequence = 1;
        let file = env.disk.open_append(&path).await?;
        Ok(Log::start(&env.disk, path, file, parsed, owner, size, limits))
    }

    fn start(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        file: Box<dyn pando_env::AppendFile>,
        parsed: record::Parsed,
        owner: Owner,
        size: Arc<FileSize>,
        limits: Limits,
    ) -> Log {
        let (tx, orders) = mpsc::unbounded_channel();
        let writer = LogWriter {
            disk: Arc::clone(disk),
            path,
            file,
            next_sequence: parsed.next_sequence,
            size: Arc::clone(&size),
            orders,
        };
        tokio::spawn(writer.run());
        let state = Mutex::new(parsed.state);
        let snapshot_bytes = AtomicU64::new(0);
        Log { shared: Arc::new(Shared { state, orders: tx, size, limits, snapshot_bytes, owner }) }
    }

    /// Identity of this root's files.
    pub fn voter(&self) -> VoterId {
        self.shared.owner.voter
    }

    /// The last position removed behind a snapshot.
    pub fn purged(&self) -> Option<LogId> {
        self.state().purged
    }

    /// The file may be twice as long as the snapshot: of ten thousand nodes one is megabytes, and to write it
    /// anew for each few megabytes of entries would keep the roots from their work.
    pub fn note_snapshot(&self, bytes: u64) {
        self.shared.snapshot_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether the file has outgrown its limits, so that a snapshot should be taken now.
    pub fn is_oversize(&self) -> bool {
        let Shared { size, limits, snapshot_bytes, .. } = &*self.shared;
        let bytes_max = limits.bytes_max.max(2 * snapshot_bytes.load(Ordering::Relaxed));
        size.bytes.load(Ordering::Relaxed) > bytes_max || size.entries.load(Ordering::Relaxed) > limits.entries_max
    }

    /// Length of the file.
    #[cfg(test)]
    pub fn file_bytes(&self) -> u64 {
        self.shared.size.bytes.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) -> io::Result<()> {
        self.shared.orders.send(order).map_err(|_| io::Error::other("the log writer has ended"))
    }

    /// Changes memory and queues the record under one lock, then waits for the sync.
    async fn write_through(&self, change: impl FnOnce(&mut LogState, &mut Vec<u8>)) -> io::Result<()> {
        let (tx, done) = oneshot::channel();
        {
            let mut state = self.state();
            let mut commands = Vec::new();
            change(&mut state, &mut commands);
            if commands.is_empty() {
                return Ok(());
            }
            self.order(Order::Write { commands, entries: 0, notify: Notify::Done(tx) })?;
        }
        done.await.map_err(|_| io::Error::other("the log writer has ended"))?
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

async fn create(env: &Env, path: &Path, cluster: ClusterId, voter: Option<VoterId>) -> io::Result<Vec<u8>> {
    // Zero would read as "no voter".
    let voter = voter.unwrap_or_else(|| env.rng.next_u64()).max(1);
    let state = LogState { owner: Some(Owner { cluster, voter }), ..LogState::default() };
    let bytes = record::put_all(&state)?;
    env.disk.replace(path, bytes.clone()).await?;
    Ok(bytes)
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        if is_empty(&bounds) {
            return Ok(Vec::new());
        }
        Ok(self.state().entries.range(bounds).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.state().vote)
    }
}

/// `BTreeMap::range` panics on an inverted range; openraft may ask for one.
fn is_empty(bounds: &(Bound<u64>, Bound<u64>)) -> bool {
    let first = match bounds.0 {
        Bound::Included(n) => n,
        Bound::Excluded(n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    match bounds.1 {
        Bound::Included(n) => first > n,
        Bound::Excluded(n) => first >= n,
        Bound::Unbounded => false,
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<Ends<Types>, io::Error> {
        let state = self.state();
        let last = state.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(Ends { last_purged_log_id: state.purged, last_log_id: last.or(state.purged) })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write_through(|state, out| {
            state.vote = Some(*vote);
            record::put_vote(out, vote);
        })
        .await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut state = self.state();
        if state.committed == committed {
            return Ok(());
        }
        state.committed = committed;
        let Some(id) = committed else { return Ok(()) };
        let mut commands = Vec::new();
        record::put_committed(&mut commands, &id);
        // Losing the marker only costs a replay after the next election, so it waits for no sync.
        self.order(Order::Write { commands, entries: 0, notify: Notify::Lazy })
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.state().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.state();
        let mut commands = Vec::new();
        let mut count = 0;
        for entry in entries {
            record::put_entry(&mut commands, &entry)?;
            state.entries.insert(entry.log_id.index, entry);
            count += 1;
        }
        self.order(Order::Write { commands, entries: count, notify: Notify::Flushed(callback) })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.write_through(|state, out| {
            let first = last.map_or(0, |id| id.index + 1);
            let removed = state.entries.split_off(&first);
            if let (Some((first, _)), Some((last, _))) = (removed.first_key_value(), removed.last_key_value()) {
                record::put_truncate(out, *first, *last);
            }
        })
        .await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        let mut state = self.state();
        if state.purged.is_some_and(|purged| purged.index >= id.index) {
            return Ok(());
        }
        state.purged = Some(id);
        state.entries = state.entries.split_off(&(id.index + 1));
        if self.is_oversize() {
            let entries = state.entries.len() as u64;
            let file = record::put_all(&state)?;
            return self.order(Order::Replace { file, entries });
        }
        let mut commands = Vec::new();
        record::put_purged(&mut commands, &id);
        self.order(Order::Write { commands, entries: 0, notify: Notify::Lazy })
    }
}
