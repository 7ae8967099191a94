// SPDX-License-Identifier: BSD-3-Clause
//! Files behind a trait: whole-file reads, append-only files, atomic replacement.
//!
//! Every call is queued in the order the methods are called (not the order their futures are
//! polled) and none of them blocks the async runtime. Dropping a future does not cancel its
//! operation. Called by control/raft (log, snapshots) and control/agent (its state file).

use std::io;
use std::path::{Path, PathBuf};

use crate::BoxFuture;

/// One file that only grows at its end (or is cut).
pub trait AppendFile: Send + Sync {
    /// Length in bytes, including appends that are queued.
    fn len(&self) -> u64;
    /// Whether the file has no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Appends `bytes`. Done does not mean durable: see [`AppendFile::sync`].
    fn append(&self, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>>;
    /// Makes every append and cut queued before this call durable.
    fn sync(&self) -> BoxFuture<'static, io::Result<()>>;
    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>>;
}

/// A file system.
pub trait Disk: Send + Sync {
    /// The whole file. `NotFound` if there is none.
    fn read(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>>;
    /// Opens a file for appending, creating it if needed. The new name is durable after
    /// [`Disk::sync_dir`].
    fn open_append(&self, path: &Path) -> BoxFuture<'static, io::Result<Box<dyn AppendFile>>>;
    /// Replaces (or creates) a file in one step that survives a crash: after it completes the
    /// new content is durable, before that a crash leaves the old or the new content whole.
    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>>;
    /// Renames a file over another. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// Removes a file; no error if it does not exist.
    fn remove(&self, path: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// Removes a folder with all it contains; no error if it does not exist.
    fn remove_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// Creates a folder and those above it.
    fn create_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// The names in a folder, sorted; empty if the folder does not exist.
    fn list(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<()>>;
}
