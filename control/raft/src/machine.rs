// SPDX-License-Identifier: BSD-3-Clause
//! The replicated state behind the log, as openraft wants it: apply, snapshot, install.
//!
//! The state itself is a [`Machine`]; this file adds the position, the members and the snapshot
//! file. Only the snapshot is durable: after a restart the log is applied again from there.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use pando_env::Disk;
use pando_root_state::History;

use crate::snapshot::{self, Pair, Pairs, SNAPSHOT_FILE};
use crate::types::{LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types, term_of};

/// A deterministic state machine over encoded commands.
pub trait Machine: Send + 'static {
    /// Applies the command at `index`, given as names and values in turn, and gives the encoded outcome. An error means that the bytes
    /// are no command: this root must stop, since the others may be able to read them.
    fn apply(&mut self, index: u64, fields: &[Bytes]) -> Result<Vec<u8>, String>;
    /// Notes an entry without a command.
    fn skip(&mut self, index: u64);
    /// The whole state as it is now; its keys and values are made as they are asked for.
    fn freeze(&self) -> Box<dyn ExactSizeIterator<Item = Pair> + Send>;
    /// Becomes what `freeze` gave.
    fn restore(&mut self, pairs: Pairs) -> Result<(), String>;
    /// What was decided and why; nothing if the machine keeps no record of it.
    fn history(&self) -> Arc<History> {
        Arc::default()
    }
    /// Called after a run of entries and after a restore: show the state to those who watch.
    fn publish(&mut self);
}

/// The state machine; clones share it.
#[derive(Clone)]
pub struct Store {
    state: Arc<Mutex<State>>,
    /// Held while the file is replaced, so that an older snapshot never follows a newer one.
    writing: Arc<tokio::sync::Mutex<()>>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

struct State {
    machine: Box<dyn Machine>,
    applied: Option<LogId>,
    members: StoredMembership,
    /// The newest snapshot on disk.
    snapshot: Option<(SnapshotMeta, Bytes)>,
    /// Of all entries up to `applied`, in order.
    digest: u64,
}

/// So many keys and values of a snapshot are made in one go: about a millisecond's work.
const PAIRS_PER_TURN: usize = 128;

/// Key of the digest in a snapshot.
const DIGEST_KEY: &[u8] = b"metaspace:raft:digest";

/// The digest that includes one more entry.
fn digest_with(before: u64, id: &LogId, fields: &[Bytes]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    for field in fields {
        crc.update(&(field.len() as u64).to_le_bytes());
        crc.update(field);
    }
    let mut digest = before;
    for word in [id.index, term_of(id), u64::from(crc.finalize())] {
        digest = (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    digest
}

/// Takes the digest out of what a snapshot holds.
fn take_digest(pairs: &mut Pairs) -> io::Result<u64> {
    let at = pairs.iter().position(|(key, _)| key == DIGEST_KEY);
    let text = at.map(|at| pairs.remove(at).1).unwrap_or_default();
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| bad("the snapshot has no digest".to_owned()))
}

fn bad(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Store {
    /// Loads the snapshot in `dir`, if there is one, into `machine`.
    pub async fn open(disk: &Arc<dyn Disk>, dir: &std::path::Path, mut machine: Box<dyn Machine>) -> io::Result<Store> {
        let path = dir.join(SNAPSHOT_FILE);
        let mut state = match disk.read(&path).await {
            Ok(image) => {
                let (meta, mut pairs) = snapshot::decode(&image)?;
                let digest = take_digest(&mut pairs)?;
                machine.restore(pairs).map_err(bad)?;
                let (applied, members) = (meta.last_log_id, meta.last_membership.clone());
                State { machine, applied, members, snapshot: Some((meta, Bytes::from(image))), digest }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                State { machine, applied: None, members: StoredMembership::default(), snapshot: None, digest: 0 }
            }
            Err(e) => return Err(e),
        };
        state.machine.publish();
        Ok(Store { state: Arc::new(Mutex::new(state)), writing: Arc::default(), disk: Arc::clone(disk), path })
    }

    /// Position of the snapshot on disk.
    pub fn snapshot_position(&self) -> Option<LogId> {
        self.lock().snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id)
    }

    /// Length of the newest snapshot; 0 if there is none.
    pub fn snapshot_bytes(&self) -> u64 {
        self.lock().snapshot.as_ref().map_or(0, |(_, image)| image.len() as u64)
    }

    /// What was decided and why, as of the last entry applied.
    pub fn history(&self) -> Arc<History> {
        self.lock().machine.history()
    }

    /// Index of the last entry applied (0 for none) and the digest of all entries up to it: equal on all roots that
    /// have applied as many, or one of them has lost its log.
    pub fn digest(&self) -> (u64, u64) {
        let state = self.lock();
        (state.applied.map_or(0, |id| id.index), state.digest)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftSnapshotBuilder<Types> for Store {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, frozen, digest) = {
            let state = self.lock();
            let meta = SnapshotMeta { last_log_id: state.applied, last_membership: state.members.clone() };
            (meta, state.machine.freeze(), state.digest)
        };
        let mut writer = snapshot::Writer::new(&meta, frozen.len() + 1)?;
        writer.put(&(DIGEST_KEY.to_vec(), digest.to_string().into_bytes()))?;
        for (index, pair) in frozen.enumerate() {
            if index % PAIRS_PER_TURN == PAIRS_PER_TURN - 1 {
                // The other roots' heartbeats do not wait for a large snapshot.
                tokio::task::yield_now().await;
            }
            writer.put(&pair)?;
        }
        let image = writer.finish()?;
        let _writing = self.writing.lock().await;
        if let Some((newest, image)) = &self.lock().snapshot
            && newest.last_log_id > meta.last_log_id
        {
            // One from the leader was installed meanwhile.
            return Ok(Snapshot { meta: newest.clone(), snapshot: image.clone() });
        }
        self.disk.replace(&self.path, image.to_vec()).await?;
        self.lock().snapshot = Some((meta.clone(), image.clone()));
        Ok(Snapshot { meta, snapshot: image })
    }
}

impl RaftStateMachine<Types> for Store {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Store;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.lock();
        Ok((state.applied, state.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let mut state = self.lock();
            let index = entry.log_id.index;
            let fields = match &entry.payload {
                EntryPayload::Normal(command) => &command.0[..],
                EntryPayload::Blank | EntryPayload::Membership(_) => &[],
            };
            state.digest = digest_with(state.digest, &entry.log_id, fields);
            let outcome = match entry.payload {
                EntryPayload::Normal(command) => {
                    let outcome = state.machine.apply(index, &command.0);
                    outcome.map_err(|e| bad(format!("entry {index} cannot be applied: {e}")))?
                }
                EntryPayload::Blank => {
                    state.machine.skip(index);
                    Vec::new()
                }
                EntryPayload::Membership(members) => {
                    state.machine.skip(index);
                    state.members = StoredMembership::new(Some(entry.log_id), members);
                    Vec::new()
                }
            };
            state.applied = Some(entry.log_id);
            // Published before the proposer hears of it, so that it can read what it wrote.
            state.machine.publish();
            drop(state);
            if let Some(responder) = responder {
                responder.send(Payload(vec![Bytes::from(outcome)]));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Store {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, image: Bytes) -> Result<(), io::Error> {
        let (inside, mut pairs) = snapshot::decode(&image)?;
        let digest = take_digest(&mut pairs)?;
        if inside.last_log_id != meta.last_log_id {
            return Err(bad("the snapshot is not the one announced".to_owned()));
        }
        let _writing = self.writing.lock().await;
        // Durable before it counts: the log behind it is purged next.
        self.disk.replace(&self.path, image.to_vec()).await?;
        let mut state = self.lock();
        state.machine.restore(pairs).map_err(bad)?;
        state.digest = digest;
        state.applied = meta.last_log_id;
        state.members = meta.last_membership.clone();
        state.snapshot = Some((meta.clone(), image));
        state.machine.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let state = self.lock();
        Ok(state.snapshot.as_ref().map(|(meta, image)| Snapshot { meta: meta.clone(), snapshot: image.clone() }))
    }
}
