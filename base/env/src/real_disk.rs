// SPDX-License-Identifier: BSD-3-Clause
//! The real file system: one thread does all file operations in order.
//!
//! A thread of its own rather than tokio's blocking pool, because appends and syncs of the Raft
//! log must keep their order and a slow fsync must not wait behind unrelated work.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::BoxFuture;
use crate::disk::{AppendFile, Disk};

type Job = Box<dyn FnOnce() + Send>;

/// The files of the operating system. Dropping it ends the thread after its queue is empty.
#[derive(Debug)]
pub struct RealDisk {
    jobs: mpsc::Sender<Job>,
}

impl RealDisk {
    /// Starts the file thread.
    pub fn start() -> RealDisk {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("pando-files".to_owned())
            .spawn(move || {
                for job in queue {
                    job();
                }
            })
            // Without this thread no root can keep a promise: better not to start at all.
            .expect("cannot start the file thread");
        RealDisk { jobs }
    }
}

/// Queues `work` and gives a future of its result.
fn submit<T: Send + 'static>(
    jobs: &mpsc::Sender<Job>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> BoxFuture<'static, io::Result<T>> {
    let (tx, rx) = oneshot::channel();
    let sent = jobs.send(Box::new(move || {
        let _ = tx.send(work());
    }));
    Box::pin(async move {
        if sent.is_err() {
            return Err(io::Error::other("the file thread has ended"));
        }
        rx.await.unwrap_or_else(|_| Err(io::Error::other("the file thread has ended")))
    })
}

struct RealAppendFile {
    jobs: mpsc::Sender<Job>,
    file: Arc<File>,
    len: AtomicU64,
}

impl AppendFile for RealAppendFile {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    fn append(&self, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        self.len.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let file = Arc::clone(&self.file);
        submit(&self.jobs, move || (&*file).write_all(&bytes))
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.file);
        submit(&self.jobs, move || file.sync_data())
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.len.store(len, Ordering::Relaxed);
        let file = Arc::clone(&self.file);
        submit(&self.jobs, move || file.set_len(len))
    }
}

fn sync_dir_now(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn replace_now(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(".tmp");
    let temp = PathBuf::from(temp);
    let write = || {
        let mut file = File::create(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    };
    if let Err(error) = write() {
        // On a full disk a piece of the new file would keep the room that the next try needs.
        fs::remove_file(&temp).ok();
        return Err(error);
    }
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => sync_dir_now(dir),
        _ => sync_dir_now(Path::new(".")),
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        submit(&self.jobs, move || fs::read(path))
    }

    fn open_append(&self, path: &Path) -> BoxFuture<'static, io::Result<Box<dyn AppendFile>>> {
        let path = path.to_owned();
        let jobs = self.jobs.clone();
        submit(&self.jobs, move || {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let len = AtomicU64::new(file.metadata()?.len());
            Ok(Box::new(RealAppendFile { jobs, file: Arc::new(file), len }) as Box<dyn AppendFile>)
        })
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        submit(&self.jobs, move || replace_now(&path, &bytes))
    }

    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'static, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        submit(&self.jobs, move || fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        submit(&self.jobs, move || ignore_missing(fs::remove_file(path)))
    }

    fn remove_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        submit(&self.jobs, move || ignore_missing(fs::remove_dir_all(path)))
    }

    fn create_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        submit(&self.jobs, move || fs::create_dir_all(path))
    }

    fn list(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>> {
        let path = path.to_owned();
        submit(&self.jobs, move || {
            let entries = match fs::read_dir(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                other => other?,
            };
            let mut names = Vec::new();
            for entry in entries {
                names.push(PathBuf::from(entry?.file_name()));
            }
            names.sort();
            Ok(names)
        })
    }

    fn sync_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        submit(&self.jobs, move || sync_dir_now(&path))
    }
}
