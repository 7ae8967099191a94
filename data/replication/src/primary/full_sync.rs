// SPDX-License-Identifier: BSD-3-Clause
//! Gives one replica a full sync: waits for the walk, sends the image in the form that the replica takes, and answers
//! the reader that stands at the cut.
//!
//! A replica with `capa eof` gets the image as it is made, between two marks. Another needs its length first, so it is
//! spooled to a file. Concurrent full syncs queue.

use super::link::{ReplicaLink, write_some};
use super::payload::{self, Cut};
use crate::core::Core;
use crate::history::ReplId;
use crate::log::{LogReader, ReaderWatch};
use crate::status::ReplicaState;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tracing::info;

/// The version of Valkey that brought fields that expire, and an image that can hold them.
const FIELD_EXPIRY_SINCE: u32 = 9;
/// How often a waiting replica gets an empty line.
const KEEPALIVE: Duration = Duration::from_secs(1);

pub(crate) async fn give(core: &Arc<Core>, link: &ReplicaLink, down: &mut OwnedWriteHalf) -> io::Result<LogReader> {
    core.start_log();
    let free = loop {
        tokio::select! {
            free = core.walk.lock() => break free,
            () = tokio::time::sleep(KEEPALIVE) => down.write_all(b"\n").await?,
        }
    };
    let cut = loop {
        // Somebody else's walk (a snapshot) may be under way too.
        match payload::start(core, link.hello.major_version >= FIELD_EXPIRY_SINCE) {
            Ok(cut) => break cut,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                down.write_all(b"\n").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
        }
    };
    let watch = cut.reader.watch();
    link.set_state(ReplicaState::SendBulk);
    core.counters.sync_full.fetch_add(1, Ordering::Relaxed);
    info!(client = link.hello.client_id, replid = %cut.replid, offset = cut.offset, "full resynchronization");
    if link.hello.psync.is_some() {
        write(core, &watch, down, format!("+FULLRESYNC {} {}\r\n", cut.replid, cut.offset).as_bytes()).await?;
    }
    let Cut { reader, mut pieces, .. } = cut;
    if link.hello.capa_eof && link.hello.psync.is_some() {
        let mark = ReplId::random();
        write(core, &watch, down, format!("$EOF:{mark}\r\n").as_bytes()).await?;
        while let Some(piece) = pieces.recv().await {
            write(core, &watch, down, &piece?).await?;
        }
        write(core, &watch, down, mark.as_bytes()).await?;
        drop(free);
        // A replica that looks for the mark at the end of what it reads must not get more before it found it.
        link.acknowledged(core.config().repl_timeout).await?;
    } else {
        let mut spool = Spool::create(core).await?;
        while let Some(piece) = pieces.recv().await {
            spool.file.write_all(&piece?).await?;
        }
        drop(free);
        spool.file.flush().await?;
        let len = spool.file.stream_position().await?;
        spool.file.rewind().await?;
        write(core, &watch, down, format!("${len}\r\n").as_bytes()).await?;
        let mut buf = vec![0u8; 256 * 1024];
        loop {
            let n = spool.file.read(&mut buf).await?;
            if n == 0 {
                break;
            }
            write(core, &watch, down, &buf[..n]).await?;
        }
    }
    Ok(reader)
}

async fn write(core: &Core, watch: &ReaderWatch, down: &mut OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = write_some(core, watch, down, bytes).await?;
        bytes = &bytes[n..];
    }
    Ok(())
}

/// A temporary file that is removed when the sync ends, however it ends.
struct Spool {
    file: tokio::fs::File,
    path: PathBuf,
}

impl Spool {
    async fn create(core: &Core) -> io::Result<Spool> {
        let path = core.config().spool_dir.join(format!("temp-sync-{}.rdb", ReplId::random()));
        let file = tokio::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).await?;
        Ok(Spool { file, path })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Left behind at worst; the name says what it is.
        let _ = std::fs::remove_file(&self.path);
    }
}
