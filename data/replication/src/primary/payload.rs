// SPDX-License-Identifier: BSD-3-Clause
//! Makes the image of a full sync: walks the keyspace on a thread of its own and hands the bytes over in pieces, in the
//! newest version that the replica understands.

use crate::core::Core;
use crate::data::{DataWalk, WalkEnd};
use crate::history::ReplId;
use crate::image_out::ImageOut;
use crate::log::{Feed, LogReader};
use pando_formats::rdb::RdbWriter;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes of keys per turn of the walk.
const STEP_BYTES: usize = 128 * 1024;
/// Pieces that may wait for the socket.
const QUEUE: usize = 4;

/// The instant that an image shows, and the stream from there on.
pub(crate) struct Cut {
    pub(crate) replid: ReplId,
    pub(crate) offset: u64,
    pub(crate) reader: LogReader,
    pub(crate) pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
}

/// Cuts, and starts the walk. The walk must be free. `is_valkey_9`: the replica understands what Valkey 9 writes.
pub(crate) fn start(core: &Arc<Core>, is_valkey_9: bool) -> io::Result<Cut> {
    // A relayed stream must not move between what is applied and what is logged.
    let applying = core.applied.lock();
    if core.feed() == Feed::Off {
        return Err(io::Error::other("this node has no data to give: it is loading itself"));
    }
    let mut at_cut = None;
    let walk = core.engine.begin_walk(&mut || {
        if core.feed() == Feed::Own {
            core.log.forget_db();
        }
        at_cut = Some(core.log.reader_at_end());
    })?;
    let stream_db = if core.feed() == Feed::Relay { applying.db } else { 0 };
    let history = core.history();
    drop(applying);
    let Some(reader) = at_cut else { return Err(io::Error::other("the walk did not cut")) };
    let (send, pieces) = mpsc::channel(QUEUE);
    let cut = Cut { replid: history.replid, offset: reader.offset(), reader, pieces };
    let (core, offset) = (core.clone(), cut.offset);
    std::thread::Builder::new().name("pando-full-sync".into()).spawn(move || {
        let gone = || io::Error::other("the replica is gone");
        let to_link = send.clone();
        let out = ImageOut::new(move |piece| to_link.blocking_send(Ok(piece)).map_err(|_| gone()));
        let rdb = if is_valkey_9 { RdbWriter::new_valkey(out) } else { RdbWriter::new(out) };
        let position = Position { replid: cut.replid, offset, stream_db };
        if let Err(error) = write_image(&core, walk, rdb, &position, is_valkey_9) {
            // Nobody to tell if the link is gone already.
            let _ = send.blocking_send(Err(error));
        }
    })?;
    Ok(cut)
}

/// Where the image stands in the stream.
struct Position {
    replid: ReplId,
    offset: u64,
    stream_db: u16,
}

fn write_image(
    core: &Core,
    mut walk: Box<dyn DataWalk>,
    mut rdb: RdbWriter<ImageOut>,
    position: &Position,
    is_valkey_9: bool,
) -> io::Result<()> {
    let ctime = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    match is_valkey_9 {
        true => rdb.aux("valkey-ver", core.engine.server_version().as_bytes())?,
        false => rdb.aux("redis-ver", b"7.2.4")?,
    }
    rdb.aux("redis-bits", b"64")?;
    rdb.aux("ctime", ctime.to_string().as_bytes())?;
    rdb.aux("repl-stream-db", position.stream_db.to_string().as_bytes())?;
    rdb.aux("repl-id", position.replid.as_bytes())?;
    rdb.aux("repl-offset", position.offset.to_string().as_bytes())?;
    rdb.aux("aof-base", b"0")?;
    let limit = match core.config().replica_output_limit {
        0 => usize::MAX,
        n => n as usize,
    };
    loop {
        let end = walk.step(STEP_BYTES, &mut rdb)?;
        if walk.pending_bytes() > limit {
            return Err(io::Error::other("old values that wait for the replica exceed the output limit"));
        }
        match end {
            WalkEnd::More => {}
            WalkEnd::Done => break,
            WalkEnd::Aborted => return Err(io::Error::other("the keyspace was flushed or swapped during the walk")),
        }
    }
    // Whoever knows that the image is complete may count on the walk to be free.
    drop(walk);
    rdb.finish()?.send_rest()
}
