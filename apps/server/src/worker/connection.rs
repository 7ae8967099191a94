// SPDX-License-Identifier: BSD-3-Clause
//! One client's connection: its socket, its session, what was received and not executed, what was written and not sent.
//! An idle connection holds no buffers. Belongs to one worker at a time and can move to another.

use crate::net::listener::Peer;
use pando_resp::{Parser, ReplyBuf};
use pando_session::{Session, Suspend};
use std::os::fd::OwnedFd;

/// What becomes of a connection after the event batch.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Fate {
    /// It goes on.
    Open,
    /// It is closed when its replies have been sent (or cannot be).
    CloseAfterFlush,
    /// It is closed as soon as possible; nothing more is sent.
    CloseNow,
}

/// See the head of this file.
pub struct Connection {
    /// The socket.
    pub fd: OwnedFd,
    /// Its other end.
    pub peer: Peer,
    /// Number of the client.
    pub id: u64,
    /// The client.
    pub session: Session,
    /// Received bytes which are not executed yet.
    pub input: Vec<u8>,
    /// Where the parser is within the first request of `input`.
    pub parser: Parser,
    /// At least this many bytes are missing for that request.
    pub input_missing: usize,
    /// Replies which are not sent yet.
    pub output: ReplyBuf,
    /// How much of `output` was sent.
    pub output_sent: usize,
    /// Why no command is executed now.
    pub suspend: Option<Suspend>,
    /// There may be something to read.
    pub is_readable: bool,
    /// The other side has closed.
    pub has_hangup: bool,
    /// In the worker's list of those that have more to do.
    pub is_queued: bool,
    /// In the worker's list of those that have replies.
    pub is_dirty: bool,
    /// Writes were executed whose replies are not sent: the reign of the first one.
    pub wrote: Option<u64>,
    /// See `Fate`.
    pub fate: Fate,
    /// Since when the soft output limit is exceeded, in monotonic milliseconds.
    pub soft_limit_since_ms: Option<u64>,
    /// When the client sent or was sent something, in monotonic milliseconds.
    pub last_active_ms: u64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connection {
    /// A new client.
    pub fn new(fd: OwnedFd, peer: Peer, id: u64, session: Session, now_ms: u64) -> Connection {
        Connection {
            fd,
            peer,
            id,
            session,
            input: Vec::new(),
            parser: Parser::new(),
            input_missing: 1,
            output: ReplyBuf::default(),
            output_sent: 0,
            suspend: None,
            is_readable: true,
            has_hangup: false,
            is_queued: false,
            is_dirty: false,
            wrote: None,
            fate: Fate::Open,
            soft_limit_since_ms: None,
            last_active_ms: now_ms,
        }
    }

    /// A write was executed in this reign, if in any.
    pub fn note_wrote(&mut self, reign: Option<u64>) {
        self.wrote = self.wrote.or(reign);
    }

    /// Bytes of replies which are not sent yet.
    pub fn output_pending(&self) -> usize {
        self.output.len() - self.output_sent
    }
}
