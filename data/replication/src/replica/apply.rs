// SPDX-License-Identifier: BSD-3-Clause
//! The apply thread of one connection to the primary: image first (if any), then the stream.
//!
//! The stream is applied in order, a transaction as one, and relayed into the log byte for byte once it is applied. So
//! the log's offset is what this node has, and a transaction of which only a part arrived counts as not received.
//!
//! Here is the place for applying by slot on several threads: [`Stream::take`] sees whole commands in order, and only
//! the relay must wait until all before it are done.

use super::PrimaryLink;
use super::handshake::Payload;
use super::load::Image;
use crate::core::Core;
use crate::data::{Applier, Kept};
use crate::history::{History, ReplId};
use crate::log::Feed;
use pando_formats::aof::{AofItem, AofReader};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Pieces (of at most 64 KiB) that may wait to be applied.
const QUEUE: usize = 64;

/// How a connection begins.
pub(super) enum Begin {
    /// At our offset.
    Stream { replid: Option<ReplId> },
    /// With an image.
    Image { replid: ReplId, offset: u64, payload: Payload },
}

/// What the network task is told.
pub(super) enum ApplyEvent {
    /// The stream is being applied from here on.
    Streaming,
    /// The primary asked for an acknowledgement.
    AckWanted,
    /// The connection is of no more use.
    Failed(String),
}

/// A running apply thread.
pub(super) struct ApplyThread {
    finish: Arc<AtomicBool>,
    wake: mpsc::Sender<Vec<u8>>,
    thread: JoinHandle<()>,
}

impl ApplyThread {
    /// Starts the thread; answers where its bytes go.
    pub(super) fn start(
        core: Arc<Core>,
        link: Arc<PrimaryLink>,
        begin: Begin,
        events: mpsc::UnboundedSender<ApplyEvent>,
    ) -> io::Result<(mpsc::Sender<Vec<u8>>, ApplyThread)> {
        let (send, mut pieces) = mpsc::channel::<Vec<u8>>(QUEUE);
        let finish = Arc::new(AtomicBool::new(false));
        let asked = finish.clone();
        let thread = std::thread::Builder::new().name("pando-apply".into()).spawn(move || {
            let mut next = || {
                // Once asked to finish, only what has arrived counts.
                match asked.load(Ordering::Acquire) {
                    true => pieces.try_recv().ok(),
                    false => pieces.blocking_recv(),
                }
            };
            if let Err(error) = run(&core, &link, begin, &mut next, &asked, &events) {
                // Nobody listens any more if the link was stopped.
                let _ = events.send(ApplyEvent::Failed(error));
            }
        })?;
        Ok((send.clone(), ApplyThread { finish, wake: send, thread }))
    }

    /// Lets the thread apply what has arrived and end; waits for that. An image that is not complete is given up.
    pub(super) fn finish(self) {
        self.finish.store(true, Ordering::Release);
        // Wakes the thread if it waits; if the queue is full it does not.
        let _ = self.wake.try_send(Vec::new());
        if self.thread.join().is_err() {
            tracing::error!("the apply thread panicked");
        }
    }
}

fn run(
    core: &Arc<Core>,
    link: &PrimaryLink,
    begin: Begin,
    next: &mut dyn FnMut() -> Option<Vec<u8>>,
    finish: &AtomicBool,
    events: &mpsc::UnboundedSender<ApplyEvent>,
) -> Result<(), String> {
    let mut rest = Vec::new();
    match begin {
        Begin::Stream { replid } => {
            if let Some(replid) = replid.filter(|id| *id != core.history().replid) {
                // Same bytes, new name: our replicas must learn it.
                core.shift_history(replid);
                core.kill_replicas();
            }
        }
        Begin::Image { replid, offset, payload } => {
            let mut image = Image::begin(core, link, payload);
            loop {
                let Some(piece) = next() else { return Ok(()) };
                if finish.load(Ordering::Acquire) {
                    return Ok(());
                }
                if let Some(left) = image.take(&piece)? {
                    rest = left;
                    break;
                }
            }
            let mut applied = core.applied.lock();
            applied.db = image.stream_db();
            core.log.reset(offset);
            core.log.set_feed(Feed::Relay);
            core.set_history(History::of(replid));
            drop(applied);
            image.finish();
        }
    }
    let _ = events.send(ApplyEvent::Streaming);
    let mut stream = Stream {
        core,
        applier: core.engine.applier(),
        reader: AofReader::at_offset(core.log.offset()),
        relay: Vec::new(),
        db: core.applied.lock().db,
        transaction: None,
    };
    loop {
        if stream.take(&rest)? {
            let _ = events.send(ApplyEvent::AckWanted);
        }
        match next() {
            Some(piece) => rest = piece,
            None => return Ok(()),
        }
    }
}

struct Stream<'a> {
    core: &'a Core,
    applier: Box<dyn Applier>,
    reader: AofReader,
    /// Bytes that are applied, or belong to the open transaction, and not relayed yet.
    relay: Vec<u8>,
    /// The database selected last, perhaps within the open transaction.
    db: u16,
    /// Commands since MULTI, with their databases.
    transaction: Option<Vec<Kept>>,
}

impl Stream<'_> {
    /// Applies what is complete and relays it. True if the primary wants an acknowledgement.
    fn take(&mut self, piece: &[u8]) -> Result<bool, String> {
        if piece.is_empty() {
            return Ok(false);
        }
        self.reader.push(piece);
        let mut ack_wanted = false;
        let mut complete = 0;
        let mut applied = self.core.applied.lock();
        let result = loop {
            let (args, raw) = match self.reader.next() {
                Ok(Some(AofItem::Command { args, raw })) => (args, raw),
                Ok(Some(_)) => continue,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            };
            self.relay.extend_from_slice(raw);
            let done = match (Verb::of(args[0]), &mut self.transaction) {
                (Verb::Select, _) => match args.get(1).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok()) {
                    Some(n) => {
                        self.db = n;
                        Ok(())
                    }
                    None => Err("the primary sent a SELECT without a database".to_owned()),
                },
                (Verb::Multi, transaction) => {
                    *transaction = Some(Vec::new());
                    Ok(())
                }
                (Verb::Exec, transaction) => {
                    let commands = transaction.take().unwrap_or_default();
                    self.applier.apply_all(&commands)
                }
                (Verb::Replconf, _) => {
                    ack_wanted |= args.get(1).is_some_and(|what| what.eq_ignore_ascii_case(b"getack"));
                    Ok(())
                }
                (Verb::Ping, _) => Ok(()),
                (Verb::Other, Some(commands)) => {
                    commands.push((self.db, args.iter().map(|arg| arg.to_vec()).collect()));
                    Ok(())
                }
                (Verb::Other, None) => self.applier.apply(self.db, &args),
            };
            if let Err(error) = done {
                break Err(error);
            }
            if self.transaction.is_none() {
                complete = self.relay.len();
                applied.db = self.db;
            }
        };
        if complete > 0 {
            self.core.log.relay(&self.relay[..complete]);
            self.relay.drain(..complete);
        }
        result.map(|()| ack_wanted)
    }
}

/// Commands that the stream itself is made of.
enum Verb {
    Select,
    Multi,
    Exec,
    Ping,
    Replconf,
    Other,
}

impl Verb {
    fn of(name: &[u8]) -> Verb {
        let known: [(&[u8], Verb); 5] = [
            (b"select", Verb::Select),
            (b"multi", Verb::Multi),
            (b"exec", Verb::Exec),
            (b"ping", Verb::Ping),
            (b"replconf", Verb::Replconf),
        ];
        known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map_or(Verb::Other, |(_, verb)| verb)
    }
}
