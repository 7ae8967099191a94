// SPDX-License-Identifier: BSD-3-Clause
//! Receiving and executing requests of one connection. A turn is bounded in bytes and in time, so that no client keeps the others
//! waiting; requests that arrived together are parsed together, so that their keys can be fetched into the cache before
//! the first one is executed.

use super::Worker;
use super::connection::{Connection, Fate};
use super::output::FIXED_REPLY_BYTES;
use super::slab::Token;
use crate::net::listener::{Transfer, receive_appending};
use pando_keyspace::HashedKey;
use pando_resp::{Args, Limits, Step, recycle};
use pando_session::{Next, Suspend};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering::Relaxed;

/// Size of the shared read buffer.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// A connection that has received this much lets the others go first.
const TURN_BYTES: usize = 256 * 1024;
/// As is one that has executed requests for this long: little input can ask for much.
const TURN_MS: u64 = 3;
/// Requests parsed and prefetched together.
const BATCH: usize = 32;
/// A partial request shorter than this is moved to the shared buffer and back; a longer one grows in place.
const SMALL_PARTIAL: usize = 16 * 1024;
/// Replies of one batch are checked against the output limits when they reach this size, and sent early.
const OUTPUT_CHECK_BYTES: usize = 256 * 1024;

/// One parsed request: where its arguments are, and where it ends in the input.
struct Request {
    first_arg: usize,
    end_arg: usize,
    end: usize,
    /// Of the argument where nearly all commands have their key; in batches only.
    key: HashedKey,
}

impl Worker {
    /// Reads and executes what the client sent. The caller puts the connection back.
    pub(super) fn turn(&mut self, token: Token, connection: &mut Connection) {
        let mut left = TURN_BYTES;
        self.turn_until_ms = self.scratch.now_ms() + TURN_MS;
        if !connection.input.is_empty() && connection.suspend.is_none() && connection.input_missing == 0 {
            // Requests that were held back behind a suspended one.
            let input = std::mem::take(&mut connection.input);
            let used = self.process(token, connection, &input);
            keep_rest(connection, input, used);
            if has_more(connection) && !self.is_backlogged(token, connection, connection.input.len()) {
                return self.queue_turn(token, connection);
            }
        }
        while connection.is_readable && connection.fate == Fate::Open && connection.suspend.is_none() {
            let received = self.receive(token, connection);
            if has_more(connection) && !self.is_backlogged(token, connection, connection.input.len()) {
                return self.queue_turn(token, connection);
            }
            match received {
                Transfer::Bytes(count) if count >= left => {
                    if connection.is_readable && connection.fate == Fate::Open {
                        self.queue_turn(token, connection);
                    }
                    return;
                }
                Transfer::Bytes(count) => left -= count,
                Transfer::WouldBlock => connection.is_readable = false,
                Transfer::Closed => {
                    connection.is_readable = false;
                    connection.fate = Fate::CloseAfterFlush;
                    self.mark_dirty(token, connection);
                }
            }
        }
    }

    /// One read, and the requests that it completed.
    fn receive(&mut self, token: Token, connection: &mut Connection) -> Transfer {
        let in_place = connection.input.len() + connection.input_missing > SMALL_PARTIAL;
        let mut buffer = if in_place {
            let mut own = std::mem::take(&mut connection.input);
            // Exactly what the request needs: a value of 512 MiB is received without copying it again and again.
            own.reserve_exact(connection.input_missing.max(SMALL_PARTIAL));
            own
        } else {
            let mut shared = std::mem::take(&mut self.read_buffer);
            shared.extend_from_slice(&connection.input);
            connection.input = Vec::new();
            shared
        };
        let room = buffer.capacity() - buffer.len();
        let transfer = receive_appending(connection.fd.as_fd(), &mut buffer);
        if let Transfer::Bytes(count) = transfer {
            self.stats.net_in.add(count as u64);
            self.stats.reads.add(1);
            connection.last_active_ms = self.now_ms;
            connection.session.shared.net_in.fetch_add(count as u64, Relaxed);
            if count < room && !connection.has_hangup {
                // Nothing is left; what comes later makes a new edge.
                connection.is_readable = false;
            }
            let used = self.process(token, connection, &buffer);
            if in_place {
                keep_rest(connection, buffer, used);
            } else {
                connection.input.extend_from_slice(&buffer[used..]);
                buffer.clear();
                self.read_buffer = buffer;
            }
            self.check_query_limit(token, connection);
        } else if in_place {
            connection.input = buffer;
        } else {
            connection.input.extend_from_slice(&buffer);
            buffer.clear();
            self.read_buffer = buffer;
        }
        transfer
    }

    fn check_query_limit(&mut self, token: Token, connection: &mut Connection) {
        let held = connection.input.len() as u64;
        connection.session.shared.query_bytes.store(held, Relaxed);
        // What is known to be missing counts: the request could not be completed within the limit.
        let missing = if held > 0 { connection.input_missing as u64 } else { 0 };
        if held + missing > self.settings.query_buffer_limit {
            self.stats.query_limit_closes.add(1);
            tracing::warn!(
                "Closing client that reached max query buffer length: id={} addr={} qbuf={held}",
                connection.id,
                connection.peer.remote_text(),
            );
            connection.fate = Fate::CloseNow;
            self.mark_dirty(token, connection);
        }
    }

    /// Executes the complete requests in `input`; returns how many bytes were used.
    pub(super) fn process(&mut self, token: Token, connection: &mut Connection, input: &[u8]) -> usize {
        let mut at = 0;
        let mut argv = recycle(std::mem::take(&mut self.argv));
        let mut requests: Vec<Request> = Vec::with_capacity(if input.len() > 512 { BATCH } else { 4 });
        connection.input_missing = 1;
        'batches: while at < input.len() && connection.fate == Fate::Open {
            if self.is_backlogged(token, connection, input.len() - at) {
                connection.input_missing = 0;
                break;
            }
            let unauthenticated = !connection.session.is_authenticated();
            let limits =
                Limits { bulk_len_max: self.settings.proto_max_bulk_len, unauthenticated, ..Limits::default() };
            // What a client may send can change with its next command as long as it has not authenticated.
            let batch = if unauthenticated { 1 } else { BATCH };
            argv.clear();
            requests.clear();
            let mut end = at;
            let mut failure = None;
            let mut owned = None;
            let mut needs_more = false;
            while requests.len() < batch && end < input.len() {
                let first_arg = argv.len();
                match connection.parser.parse(&input[end..], &limits, &mut argv) {
                    Ok(Step::Complete { consumed }) => {
                        end += consumed;
                        requests.push(Request { first_arg, end_arg: argv.len(), end, key: HashedKey::NONE });
                    }
                    Ok(Step::Empty { consumed }) => {
                        end += consumed;
                        match requests.last_mut() {
                            Some(last) => last.end = end,
                            None => at = end,
                        }
                    }
                    Ok(Step::Owned { consumed, args }) => {
                        // Rare: executed after those before it, and alone.
                        owned = Some((args, end + consumed));
                        break;
                    }
                    Ok(Step::Incomplete { need_hint }) => {
                        connection.input_missing = need_hint;
                        needs_more = true;
                        break;
                    }
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            if requests.len() > 1 {
                for request in requests.iter_mut().filter(|request| request.end_arg - request.first_arg > 1) {
                    request.key = HashedKey::of(argv[request.first_arg + 1]);
                }
                let keys = requests.iter().map(|request| &request.key).filter(|key| key.is_some());
                self.server.engine.keyspace.prefetch(connection.session.db(), keys);
                self.stats.prefetch_batches.add(1);
                self.stats.prefetch_keys.add(requests.len() as u64);
            }
            if !requests.is_empty() || owned.is_some() || failure.is_some() {
                self.lend_output(connection);
                self.mark_dirty(token, connection);
            }
            for request in &requests {
                let args = &argv[request.first_arg..request.end_arg];
                if !self.execute(token, connection, args, request.key, &mut at, request.end) {
                    break 'batches;
                }
            }
            if let Some((args, end)) = owned {
                let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                if !self.execute(token, connection, &args, HashedKey::NONE, &mut at, end) {
                    break 'batches;
                }
            }
            if let Some(error) = failure {
                let text = format!("ERR {error}");
                tracing::debug!(
                    "Protocol error ({error}) from client: id={} addr={}",
                    connection.id,
                    connection.peer.remote_text()
                );
                self.server.engine.stats.count_error(text.as_bytes());
                connection.output.error(&text);
                connection.fate = Fate::CloseAfterFlush;
                at = input.len();
            }
            if needs_more {
                break;
            }
            if at < input.len() && self.scratch.now_ms() >= self.turn_until_ms {
                connection.input_missing = 0;
                break;
            }
        }
        self.argv = recycle(argv);
        at
    }

    /// Executes one request, which ends at `end` in the input, and advances `at` over it. False if the connection
    /// executes no more of them now.
    fn execute(
        &mut self,
        token: Token,
        connection: &mut Connection,
        args: Args<'_>,
        key: HashedKey,
        at: &mut usize,
        end: usize,
    ) -> bool {
        let engine = &self.server.engine;
        if connection.session.shared.killed.load(Relaxed) {
            // Killed by a client whose CLIENT KILL was answered before this request is looked at.
            connection.fate = Fate::CloseNow;
            return false;
        }
        self.scratch.set_hashed(key);
        let next = connection.session.execute(engine, &mut self.scratch, args, &mut connection.output);
        connection.note_wrote(self.scratch.take_wrote());
        // A request held back by a pause was not executed: it stays in the input and is executed again.
        if next != Next::Suspend(Suspend::Paused) {
            *at = end;
        }
        if next != Next::Continue {
            // The parser may be ahead of what was executed.
            connection.parser.reset();
            connection.input_missing = 0;
        }
        match next {
            Next::Continue => {}
            Next::Close => {
                connection.fate = Fate::CloseAfterFlush;
                return false;
            }
            Next::Suspend(suspend) => {
                self.suspend(token, connection, suspend);
                return false;
            }
            Next::HandOff(hand_off) => {
                // What follows belongs to the link: nothing more is read here.
                connection.suspend = Some(Suspend::Async(u64::MAX));
                self.hand_offs.push((token, hand_off));
                return false;
            }
        }
        if connection.output_pending() > FIXED_REPLY_BYTES {
            // Before anything is sent: a reply above the hard limit is never seen, as with Valkey.
            self.check_output_limit(connection);
        }
        if connection.output_pending() > OUTPUT_CHECK_BYTES {
            self.send_early(token, connection);
        }
        connection.fate == Fate::Open
    }

    /// Sends replies within a batch when they became large, so that they do not all sit in memory.
    fn send_early(&mut self, token: Token, connection: &mut Connection) {
        if self.blocked_writers.contains(&token.raw()) {
            self.check_output_limit(connection);
            return;
        }
        if connection.wrote.is_some_and(|reign| !self.server.engine.may_acknowledge(reign)) {
            connection.fate = Fate::CloseNow;
            return;
        }
        self.flush(token, connection);
        self.lend_output(connection);
    }
}

/// Whether the connection holds complete requests that could be executed, because its turn was over.
pub(super) fn has_more(connection: &Connection) -> bool {
    connection.input_missing == 0
        && !connection.input.is_empty()
        && connection.fate == Fate::Open
        && connection.suspend.is_none()
}

/// Keeps the bytes of the connection's own buffer that were not used.
fn keep_rest(connection: &mut Connection, mut buffer: Vec<u8>, used: usize) {
    if used == buffer.len() {
        return;
    }
    if buffer.len() - used <= SMALL_PARTIAL {
        // The large allocation has done its work.
        connection.input = buffer[used..].to_vec();
        return;
    }
    buffer.drain(..used);
    connection.input = buffer;
}
