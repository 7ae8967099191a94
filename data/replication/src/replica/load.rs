// SPDX-License-Identifier: BSD-3-Clause
//! Loads the image of a full sync.
//!
//! The old data go when the new image begins, and with them what this node could give to replicas of its own. Until the
//! image is complete the gate says "loading". An image that breaks off leaves an empty node that has no position, so
//! that the next try is a full sync again.

use super::PrimaryLink;
use super::handshake::Payload;
use crate::core::Core;
use crate::history::History;
use crate::log::Feed;
use pando_formats::rdb::{RdbItem, RdbReader};
use std::sync::atomic::Ordering;

/// An image being loaded.
pub(super) struct Image<'a> {
    core: &'a Core,
    link: &'a PrimaryLink,
    reader: RdbReader,
    payload: Payload,
    /// Behind the end: what arrived of the mark, and of the stream.
    tail: Option<Vec<u8>>,
    stream_db: u16,
    begun: bool,
    complete: bool,
}

impl<'a> Image<'a> {
    pub(super) fn begin(core: &'a Core, link: &'a PrimaryLink, payload: Payload) -> Image<'a> {
        link.begin_sync(match payload {
            Payload::Len(len) => len,
            Payload::Mark(_) => 0,
        });
        let reader = RdbReader::new();
        Image { core, link, reader, payload, tail: None, stream_db: 0, begun: false, complete: false }
    }

    /// The database that the stream has selected at the cut.
    pub(super) fn stream_db(&self) -> u16 {
        self.stream_db
    }

    /// Takes bytes; when the image is complete, answers those behind it.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if piece.is_empty() {
            return Ok(None);
        }
        self.link.sync_read_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if !self.begun {
            self.begun = true;
            self.drop_old_data();
        }
        match &mut self.tail {
            Some(tail) => tail.extend_from_slice(piece),
            None => {
                self.reader.push(piece);
                while let Some(item) = self.reader.next().map_err(|e| e.to_string())? {
                    self.load(item)?;
                }
                if self.reader.is_done() {
                    self.tail = Some(self.reader.take_rest());
                }
            }
        }
        let Some(tail) = &mut self.tail else {
            return match self.payload {
                Payload::Len(len) if self.reader.consumed() > len => Err("the image is longer than announced".into()),
                _ => Ok(None),
            };
        };
        match self.payload {
            Payload::Len(len) if len == self.reader.consumed() => Ok(Some(std::mem::take(tail))),
            Payload::Len(_) => Err("the image is not as long as announced".into()),
            Payload::Mark(_) if tail.len() < 40 => Ok(None),
            Payload::Mark(mark) if tail[..40] == mark => Ok(Some(tail.split_off(40))),
            Payload::Mark(_) => Err("the mark at the end of the image is wrong".into()),
        }
    }

    /// The log stands where the image ends: serve it.
    pub(super) fn finish(mut self) {
        self.complete = true;
        self.core.complete.store(true, Ordering::Release);
    }

    fn drop_old_data(&self) {
        self.core.complete.store(false, Ordering::Release);
        {
            let _applied = self.core.applied.lock();
            self.core.engine.with_all_locked(&mut || {
                self.core.log.set_feed(Feed::Off);
                self.core.log.reset(0);
            });
            self.core.set_history(History::new());
        }
        self.core.kill_replicas();
        self.core.engine.set_loading(true);
        self.core.engine.flush_all();
    }

    fn load(&mut self, item: RdbItem) -> Result<(), String> {
        match item {
            RdbItem::Record(record) => self.core.engine.load(&record),
            RdbItem::Aux { name, value } if name == b"repl-stream-db" => {
                let db = std::str::from_utf8(&value).ok().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
                // Valkey writes -1 for "none selected yet".
                self.stream_db = u16::try_from(db).unwrap_or(0);
                Ok(())
            }
            RdbItem::Function(_) => Err("the image has function libraries, which are not supported".into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        if !self.complete {
            self.core.engine.flush_all();
        }
        self.core.engine.set_loading(false);
    }
}
