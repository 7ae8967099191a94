// SPDX-License-Identifier: BSD-3-Clause
//! A disk in memory that loses what was not synced when [`SimDisk::crash`] is called.
//!
//! Content and names are kept twice: as the running process sees them and as they would be after
//! a power cut. A crash keeps a random part of the unsynced tail of each file, so torn records
//! happen. Handles from before the crash answer with errors. What else can go wrong with it is in
//! `sim_disk_faults`. Only tests and the simulator use it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{AppendFile, Disk};
use crate::sim_disk_faults::Faults;
use crate::{BoxFuture, Rng};

/// One host's disk. Clones share it, so a test keeps one while the "process" uses another.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    sync_latency: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Counts crashes; a handle of an older generation is dead.
    pub generation: u64,
    next_file: u64,
    pub files: BTreeMap<u64, Content>,
    pub names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pub faults: Faults,
    synced: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub bytes: Vec<u8>,
    /// What a crash certainly leaves. `bytes` starts with it unless the file was cut.
    pub durable: Vec<u8>,
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

impl SimDisk {
    /// An empty disk whose operations take no time.
    pub fn new() -> SimDisk {
        SimDisk::with_sync_latency(Duration::ZERO)
    }

    /// An empty disk whose syncs take `sync_latency` of tokio time.
    pub fn with_sync_latency(sync_latency: Duration) -> SimDisk {
        SimDisk { state: Arc::default(), sync_latency }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A power cut: unsynced names are undone, unsynced appends are lost except for a random
    /// prefix of them, and all handles die.
    pub fn crash(&self, rng: &dyn Rng) {
        let mut state = self.state();
        let state = &mut *state;
        state.generation += 1;
        state.names = state.durable_names.clone();
        let alive: BTreeSet<u64> = state.names.values().copied().collect();
        state.files.retain(|id, _| alive.contains(id));
        for file in state.files.values_mut() {
            if let Some(tail) = file.bytes.strip_prefix(&file.durable[..]) {
                let kept = rng.below(tail.len() as u64 + 1) as usize;
                let mut tail = tail[..kept].to_vec();
                if state.faults.holes && kept > 0 && rng.below(4) == 0 {
                    // The length was written, a block of the content was not.
                    let first = rng.below(kept as u64) as usize;
                    let last = (first + 1 + rng.below(512) as usize).min(kept);
                    tail[first..last].fill(0);
                }
                file.durable.extend_from_slice(&tail);
            }
            file.bytes = file.durable.clone();
        }
    }

    /// The process was killed: all handles die, but what was written stays visible.
    pub fn kill(&self) {
        self.state().generation += 1;
    }

    /// How many syncs have completed; a test of batching looks at it.
    pub fn sync_count(&self) -> u64 {
        self.state().synced
    }

    /// Replaces the durable and visible bytes of a file, for corruption tests.
    pub fn overwrite(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let id = state.create(path);
        state.durable_names.insert(path.to_owned(), id);
        state.files.insert(id, Content { durable: bytes.clone(), bytes });
    }

    /// How long one sync takes now.
    fn latency(&self) -> Duration {
        self.sync_latency + self.state().faults.slow
    }

    fn ready<T: Send + 'static>(result: io::Result<T>) -> BoxFuture<'static, io::Result<T>> {
        Box::pin(std::future::ready(result))
    }
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl State {
    fn create(&mut self, path: &Path) -> u64 {
        if let Some(id) = self.names.get(path) {
            return *id;
        }
        self.next_file += 1;
        self.files.insert(self.next_file, Content::default());
        self.names.insert(path.to_owned(), self.next_file);
        self.next_file
    }

    fn sync_names(&mut self, dir: &Path) {
        self.durable_names.retain(|path, _| path.parent() != Some(dir));
        for (path, id) in &self.names {
            if path.parent() == Some(dir) {
                self.durable_names.insert(path.clone(), *id);
            }
        }
    }

    fn file(&mut self, generation: u64, id: u64) -> io::Result<&mut Content> {
        if generation != self.generation {
            return Err(io::Error::other("this process has crashed"));
        }
        self.files.get_mut(&id).ok_or_else(|| io::Error::other("the file was removed"))
    }
}

struct SimFile {
    disk: SimDisk,
    generation: u64,
    id: u64,
}

impl AppendFile for SimFile {
    fn len(&self) -> u64 {
        self.disk.state().file(self.generation, self.id).map_or(0, |f| f.bytes.len() as u64)
    }

    fn append(&self, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let mut state = self.disk.state();
        let (allowed, error) = state.faults.on_write(bytes.len());
        let written = state.file(self.generation, self.id).map(|f| f.bytes.extend_from_slice(&bytes[..allowed]));
        SimDisk::ready(written.and(error))
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let (disk, generation, id) = (self.disk.clone(), self.generation, self.id);
        // What is durable afterwards is what was queued before the call.
        let snapshot = disk.state().file(generation, id).map(|f| f.bytes.clone());
        let latency = disk.latency();
        Box::pin(async move {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            let snapshot = snapshot?;
            let mut state = disk.state();
            state.faults.on_sync()?;
            let is_lost = state.faults.lying;
            let file = state.file(generation, id)?;
            if !is_lost {
                file.durable = snapshot;
            }
            state.synced += 1;
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        let result = self
            .disk
            .state()
            .file(self.generation, self.id)
            .map(|f| f.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX)));
        SimDisk::ready(result)
    }
}

impl Disk for SimDisk {
    fn read(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let state = self.state();
        if let Err(error) = state.faults.on_read() {
            return SimDisk::ready(Err(error));
        }
        let found = state.names.get(path).and_then(|id| state.files.get(id));
        SimDisk::ready(found.map(|f| f.bytes.clone()).ok_or_else(|| missing(path)))
    }

    fn open_append(&self, path: &Path) -> BoxFuture<'static, io::Result<Box<dyn AppendFile>>> {
        let mut state = self.state();
        let id = state.create(path);
        let file = SimFile { disk: self.clone(), generation: state.generation, id };
        SimDisk::ready(Ok(Box::new(file) as Box<dyn AppendFile>))
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let (disk, path) = (self.clone(), path.to_owned());
        let generation = disk.state().generation;
        Box::pin(async move {
            let latency = disk.latency() * 2;
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            let mut state = disk.state();
            if generation != state.generation {
                return Err(io::Error::other("this process has crashed"));
            }
            state.faults.on_write(bytes.len()).1?;
            state.faults.on_sync()?;
            state.next_file += 1;
            let id = state.next_file;
            state.files.insert(id, Content { durable: bytes.clone(), bytes });
            state.names.insert(path.clone(), id);
            if !state.faults.lying || !state.durable_names.contains_key(&path) {
                state.durable_names.insert(path, id);
            }
            state.synced += 1;
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'static, io::Result<()>> {
        let mut state = self.state();
        let result = match state.names.remove(from) {
            Some(id) => {
                state.names.insert(to.to_owned(), id);
                Ok(())
            }
            None => Err(missing(from)),
        };
        SimDisk::ready(result)
    }

    fn remove(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        self.state().names.remove(path);
        SimDisk::ready(Ok(()))
    }

    fn remove_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        self.state().names.retain(|name, _| !name.starts_with(path));
        SimDisk::ready(Ok(()))
    }

    fn create_dir(&self, _path: &Path) -> BoxFuture<'static, io::Result<()>> {
        SimDisk::ready(Ok(()))
    }

    fn list(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>> {
        let state = self.state();
        let names = state.names.keys().filter(|name| name.parent() == Some(path));
        SimDisk::ready(Ok(names.filter_map(|name| name.file_name().map(PathBuf::from)).collect()))
    }

    fn sync_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        self.state().sync_names(path);
        SimDisk::ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RealDisk, SeededRng};

    /// What every disk must do; run on the simulated and on the real one.
    async fn check(disk: &dyn Disk, dir: &Path) {
        let (log, other) = (dir.join("log"), dir.join("other"));
        assert_eq!(disk.read(&log).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(disk.list(dir).await.unwrap().is_empty());
        disk.create_dir(dir).await.unwrap();
        let file = disk.open_append(&log).await.unwrap();
        assert!(file.is_empty());
        // Queued in the order of the calls, whatever the order of waiting.
        let (first, second) = (file.append(b"one ".to_vec()), file.append(b"two".to_vec()));
        assert_eq!(file.len(), 7);
        second.await.unwrap();
        first.await.unwrap();
        file.sync().await.unwrap();
        assert_eq!(disk.read(&log).await.unwrap(), b"one two");
        file.truncate(3).await.unwrap();
        file.append(b"!".to_vec()).await.unwrap();
        assert_eq!(disk.read(&log).await.unwrap(), b"one!");
        drop(file);
        let file = disk.open_append(&log).await.unwrap();
        assert_eq!(file.len(), 4);
        disk.replace(&other, b"whole".to_vec()).await.unwrap();
        assert_eq!(disk.list(dir).await.unwrap(), [PathBuf::from("log"), PathBuf::from("other")]);
        disk.rename(&other, &log).await.unwrap();
        disk.sync_dir(dir).await.unwrap();
        assert_eq!(disk.read(&log).await.unwrap(), b"whole");
        disk.remove(&log).await.unwrap();
        disk.remove(&log).await.unwrap();
        assert!(disk.list(dir).await.unwrap().is_empty());
        disk.remove_dir(dir).await.unwrap();
        disk.remove_dir(dir).await.unwrap();
    }

    #[tokio::test]
    async fn both_disks_do_the_same() {
        check(&SimDisk::new(), Path::new("/sim")).await;
        let name = format!("pando-env-{}-{:x}", std::process::id(), crate::SystemRng.next_u64());
        check(&RealDisk::start(), &std::env::temp_dir().join(name)).await;
    }

    #[tokio::test]
    async fn a_crash_keeps_what_was_synced_and_perhaps_a_part_of_the_rest() {
        let mut kept = BTreeSet::new();
        for seed in 0..200 {
            let disk = SimDisk::new();
            let path = Path::new("/d/file");
            let file = disk.open_append(path).await.unwrap();
            file.append(b"safe".to_vec()).await.unwrap();
            file.sync().await.unwrap();
            disk.sync_dir(Path::new("/d")).await.unwrap();
            file.append(b"lost".to_vec()).await.unwrap();
            disk.open_append(Path::new("/d/unsynced name")).await.unwrap();
            disk.crash(&SeededRng::new(seed));
            assert!(file.append(b"dead".to_vec()).await.is_err());
            assert_eq!(disk.list(Path::new("/d")).await.unwrap(), [PathBuf::from("file")]);
            let bytes = disk.read(path).await.unwrap();
            assert!(b"safelost".starts_with(&bytes[..]) && bytes.len() >= 4);
            kept.insert(bytes.len());
        }
        assert_eq!(kept.len(), 5);
    }
}
