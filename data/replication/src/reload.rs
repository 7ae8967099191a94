// SPDX-License-Identifier: BSD-3-Clause
//! DEBUG RELOAD: all data out into an image and in again, in memory. It shows that the format loses nothing.
//!
//! The image is that of a full sync. Writes of other clients meanwhile are lost with the old data, as those who reload for
//! debugging must know. Called by [`crate::Replication::reload`].

use crate::data::{Data, WalkEnd};
use crate::image_out::ImageOut;
use pando_formats::rdb::{RdbItem, RdbReader, RdbWriter};
use std::io;
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

const STEP_BYTES: usize = 1 << 20;

/// Makes an image of all data, drops them and loads the image. When the image cannot be made, nothing has happened.
pub(crate) fn reload(engine: &dyn Data, is_primary: bool) -> Result<(), String> {
    let pieces = image(engine).map_err(|error| error.to_string())?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut reader = RdbReader::new();
    engine.flush_all();
    for piece in pieces {
        reader.push(&piece);
        while let Some(item) = reader.next().map_err(|error| error.to_string())? {
            match item {
                // A primary loads nothing that was due before.
                RdbItem::Record(record) if is_primary && record.expire_at_ms.is_some_and(|at| at < now_ms) => {}
                RdbItem::Record(record) => engine.load(&record)?,
                _ => {}
            }
        }
    }
    if reader.is_done() { Ok(()) } else { Err("the image ended too early".into()) }
}

fn image(engine: &dyn Data) -> io::Result<Vec<Vec<u8>>> {
    let (send, pieces) = mpsc::channel();
    let out = ImageOut::new(move |piece| send.send(piece).map_err(io::Error::other));
    let mut rdb = RdbWriter::new_valkey(out);
    let mut walk = engine.begin_walk(&mut || {})?;
    loop {
        match walk.step(STEP_BYTES, &mut rdb)? {
            WalkEnd::More => {}
            WalkEnd::Done => break,
            WalkEnd::Aborted => return Err(io::Error::other("the keyspace was flushed or swapped during the walk")),
        }
    }
    drop(walk);
    rdb.finish()?.send_rest()?;
    Ok(pieces.try_iter().collect())
}
