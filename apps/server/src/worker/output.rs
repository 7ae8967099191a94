// SPDX-License-Identifier: BSD-3-Clause
//! Sending replies: all connections of an event batch at its end, the rest when their sockets have room. Output limits.

use super::Worker;
use super::connection::{Connection, Fate};
use super::requests::has_more;
use super::slab::Token;
use crate::config::kind::OutputLimit;
use crate::net::listener::{Transfer, send};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering::Relaxed;

/// Buffers larger than this are given back to the allocator.
const SPARE_BYTES_MAX: usize = 256 * 1024;
/// Replies of this size are outside of output limits: Valkey has them in a buffer of fixed size.
pub(super) const FIXED_REPLY_BYTES: usize = 16 * 1024;
/// With more replies than this unsent, and this many times the bytes of the requests that wait, a client has to read.
const BACKLOG_BYTES: usize = 1024 * 1024;
const BACKLOG_RATIO: usize = 4;
/// What a client that has not authenticated may leave unread beyond that.
const UNAUTHENTICATED_REPLY_BYTES: usize = 1024;
/// More spare buffers than this are never needed at once.
const SPARE_COUNT_MAX: usize = 256;

impl Worker {
    /// Gives the connection a buffer to write replies to, if it has none.
    pub(super) fn lend_output(&mut self, connection: &mut Connection) {
        if connection.output.capacity() == 0
            && let Some(spare) = self.spare_outputs.pop()
        {
            let proto = connection.output.proto();
            connection.output = pando_resp::ReplyBuf::from_vec(spare, proto);
        }
    }

    /// Takes back the buffer of a connection whose replies were all sent.
    fn reclaim_output(&mut self, connection: &mut Connection) {
        connection.output_sent = 0;
        connection.output.clear();
        let buffer = connection.output.take();
        if buffer.capacity() <= SPARE_BYTES_MAX && buffer.capacity() > 0 && self.spare_outputs.len() < SPARE_COUNT_MAX {
            self.spare_outputs.push(buffer);
        }
    }

    /// Remembers that the connection has something to send or is to be closed.
    pub(super) fn mark_dirty(&mut self, token: Token, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.is_dirty, true) {
            self.dirty.push(token);
        }
    }

    /// Sends what the event batch produced and closes what is to be closed.
    pub(super) fn flush_dirty(&mut self) {
        // Read once, after the last command of the batch: a stopped process that wakes without its lease must not
        // acknowledge the writes that it executed.
        let may_write = self.server.engine.gate.may_write_now();
        let mut dirty = std::mem::take(&mut self.dirty);
        for token in dirty.drain(..) {
            let Some(mut connection) = self.slab.take(token) else { continue };
            connection.is_dirty = false;
            if connection.wrote.take().is_some_and(|reign| !may_write || !self.server.engine.is_same_reign(reign)) {
                connection.fate = Fate::CloseNow;
            }
            self.flush(token, &mut connection);
            self.put_back_or_close(token, connection);
        }
        self.dirty = dirty;
    }

    /// Sends as much as the socket takes. The caller closes the connection if its fate says so.
    pub(super) fn flush(&mut self, token: Token, connection: &mut Connection) {
        if connection.fate == Fate::CloseNow {
            return;
        }
        while connection.output_pending() > 0 {
            let pending = &connection.output.as_slice()[connection.output_sent..];
            match send(connection.fd.as_fd(), pending) {
                Transfer::Bytes(count) => {
                    connection.output_sent += count;
                    self.stats.net_out.add(count as u64);
                    self.stats.writes.add(1);
                    connection.session.shared.net_out.fetch_add(count as u64, Relaxed);
                }
                Transfer::WouldBlock => {
                    self.check_output_limit(connection);
                    if connection.output_sent > BACKLOG_BYTES.max(connection.output_pending()) {
                        // A client that always leaves something unread would keep all it was ever sent.
                        connection.output.consume(connection.output_sent);
                        connection.output_sent = 0;
                    }
                    if has_more(connection) && connection.output_pending() <= BACKLOG_BYTES {
                        self.queue_turn(token, connection);
                    }
                    connection.session.shared.output_bytes.store(connection.output_pending() as u64, Relaxed);
                    self.blocked_writers.insert(token.raw());
                    return;
                }
                Transfer::Closed => {
                    connection.fate = Fate::CloseNow;
                    return;
                }
            }
        }
        if !self.blocked_writers.is_empty() && self.blocked_writers.remove(&token.raw()) {
            connection.session.shared.output_bytes.store(0, Relaxed);
        }
        connection.soft_limit_since_ms = None;
        if has_more(connection) {
            self.queue_turn(token, connection);
        }
        if connection.output.capacity() > 0 {
            self.reclaim_output(connection);
        }
        if connection.fate == Fate::CloseAfterFlush {
            connection.fate = Fate::CloseNow;
        }
    }

    /// Whether the client is to read before more of its requests are executed: it has asked for much more than it reads,
    /// and `held` bytes of its requests wait. They go on being received, so a client that sends everything before it
    /// reads anything is not stuck: the more it sends, the more replies are kept for it. Whoever limits the output has
    /// said what is to become of such clients.
    pub(super) fn is_backlogged(&self, token: Token, connection: &Connection, held: usize) -> bool {
        let pending = connection.output_pending();
        if pending <= BACKLOG_BYTES || pending / BACKLOG_RATIO <= held {
            return false;
        }
        let OutputLimit { hard_bytes, soft_bytes, .. } = self.settings.output_limits[0];
        hard_bytes == 0 && soft_bytes == 0 && self.blocked_writers.contains(&token.raw())
    }

    /// Closes a client that lets too many replies pile up.
    pub(super) fn check_output_limit(&mut self, connection: &mut Connection) {
        let pending = connection.output_pending() as u64;
        let class = if connection.session.shared.is_subscribed() { 2 } else { 0 };
        let OutputLimit { hard_bytes, soft_bytes, soft_seconds } = self.settings.output_limits[class];
        let is_stranger = self.settings.has_password && !connection.session.is_authenticated();
        let too_much = (hard_bytes != 0 && pending > hard_bytes)
            || (is_stranger && pending > (FIXED_REPLY_BYTES + UNAUTHENTICATED_REPLY_BYTES) as u64);
        let mut too_long = false;
        if soft_bytes != 0 && pending > soft_bytes {
            let since = *connection.soft_limit_since_ms.get_or_insert(self.now_ms);
            too_long = self.now_ms.saturating_sub(since) > soft_seconds * 1000;
        } else {
            connection.soft_limit_since_ms = None;
        }
        if (too_much || too_long) && connection.fate != Fate::CloseNow {
            self.stats.output_limit_closes.add(1);
            tracing::warn!(
                "Client id={} addr={} omem={pending} scheduled to be closed ASAP for overcoming of output buffer limits.",
                connection.id,
                connection.peer.remote_text(),
            );
            connection.fate = Fate::CloseNow;
        }
    }
}
