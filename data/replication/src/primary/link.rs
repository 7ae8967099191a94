// SPDX-License-Identifier: BSD-3-Clause
//! One replica's link: decides how it may catch up, then follows the log for it until something ends the link.

use super::acks::AckReader;
use super::full_sync;
use crate::core::Core;
use crate::hello::ReplicaHello;
use crate::log::{Feed, LogReader, ReadError, ReaderWatch};
use crate::status::{LinkState, ReplicaState, ReplicaStatus};
use pando_env::{Clock, RealClock, real_alarm};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

/// How often a task that waits for its socket looks at the limits.
const LOOK: Duration = Duration::from_millis(100);

/// How long a wait for acknowledgements may last before the limits are looked at. They come every second, so that the
/// alarm of an idle link never rings; with less than half of it left it is set anew, not with each acknowledgement.
const LISTEN_MAX: Duration = Duration::from_secs(3);

/// What others may see of a link, and how they end it.
pub(crate) struct ReplicaLink {
    pub(crate) hello: ReplicaHello,
    peer_ip: String,
    state: Mutex<ReplicaState>,
    acked: AtomicU64,
    acked_at: Mutex<Option<Instant>>,
    heard_at: Mutex<Instant>,
    first_ack: Notify,
    end: Notify,
    ended: AtomicBool,
}

impl ReplicaLink {
    pub(crate) fn new(hello: ReplicaHello, peer_ip: String) -> ReplicaLink {
        ReplicaLink {
            hello,
            peer_ip,
            state: Mutex::new(ReplicaState::WaitBgsave),
            acked: AtomicU64::new(0),
            acked_at: Mutex::new(None),
            heard_at: Mutex::new(Instant::now()),
            first_ack: Notify::new(),
            end: Notify::new(),
            ended: AtomicBool::new(false),
        }
    }

    /// Ends the link, now or as soon as its task looks.
    pub(crate) fn kill(&self) {
        self.ended.store(true, Ordering::Release);
        self.end.notify_waiters();
    }

    /// Completes when the link is to end.
    async fn killed(&self) {
        let end = self.end.notified();
        tokio::pin!(end);
        end.as_mut().enable();
        if !self.ended.load(Ordering::Acquire) {
            end.await;
        }
    }

    pub(crate) fn set_state(&self, state: ReplicaState) {
        *self.state.lock() = state;
    }

    pub(crate) fn is_online(&self) -> bool {
        *self.state.lock() == ReplicaState::Online
    }

    /// Time since the last acknowledgement.
    pub(crate) fn lag(&self) -> Option<Duration> {
        self.acked_at.lock().map(|at| at.elapsed())
    }

    /// Waits for the acknowledgement that says that the image was loaded.
    /// Fails when nothing at all is heard for `patience`: a replica that loads sends empty lines.
    pub(crate) async fn acknowledged(&self, patience: Duration) -> io::Result<()> {
        *self.heard_at.lock() = Instant::now();
        loop {
            let first = self.first_ack.notified();
            tokio::pin!(first);
            first.as_mut().enable();
            if self.acked_at.lock().is_some() || timeout(LOOK, first).await.is_ok() {
                return Ok(());
            }
            if self.heard_at.lock().elapsed() > patience {
                return Err(io::Error::other("timed out while the replica was loading"));
            }
        }
    }

    pub(crate) fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            client_id: self.hello.client_id,
            ip: self.hello.ip_address.clone().unwrap_or_else(|| self.peer_ip.clone()),
            port: self.hello.listening_port,
            state: *self.state.lock(),
            offset: self.acked.load(Ordering::Acquire),
            lag_s: self.lag().map_or(-1, |lag| lag.as_secs() as i64),
        }
    }

    fn on_ack(&self, core: &Core, offset: u64) {
        self.acked.fetch_max(offset, Ordering::AcqRel);
        let before = self.acked_at.lock().replace(Instant::now());
        let was_away = before.is_none_or(|at| at.elapsed() > core.config().min_replicas_max_lag);
        self.first_ack.notify_waiters();
        core.acked.notify_waiters();
        // During a full sync the replica acknowledges what it had; only an online one counts for WAIT.
        if self.is_online() {
            core.engine.set_ack(self.hello.client_id, offset);
            if was_away {
                core.count_good_replicas();
            }
        }
    }
}

/// Serves one replica until its link ends. The caller registered `link`.
pub(crate) async fn serve(
    core: Arc<Core>,
    link: Arc<ReplicaLink>,
    stream: TcpStream,
    unsent: Vec<u8>,
    unread: Vec<u8>,
) {
    let who = link.status();
    let (up, mut down) = stream.into_split();
    let result = tokio::select! {
        result = give(&core, &link, &mut down, unsent) => result,
        result = listen(&core, &link, up, unread) => result,
        () = link.killed() => Err(io::Error::other("the link was closed from this side")),
    };
    core.remove_replica(&link);
    if let Err(error) = result {
        warn!(replica = %format_args!("{}:{}", who.ip, who.port), %error, "connection with replica lost");
    }
}

/// Reads acknowledgements; returns when the replica is gone or silent for too long.
async fn listen(core: &Core, link: &ReplicaLink, mut up: OwnedReadHalf, unread: Vec<u8>) -> io::Result<()> {
    let mut acks = AckReader::default();
    let mut buf = vec![0u8; 4096];
    let mut bytes = unread;
    let (clock, mut alarm) = (RealClock, real_alarm());
    let mut look_ms = 0;
    loop {
        match acks.push(&bytes) {
            Ok(Some(offset)) => link.on_ack(core, offset),
            Ok(None) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        let n = loop {
            let left = core.config().repl_timeout.saturating_sub(link.heard_at.lock().elapsed());
            let now_ms = clock.now_ms();
            let wait_ms = left.clamp(LOOK, LISTEN_MAX).as_millis() as u64;
            if !(now_ms + wait_ms / 2..=now_ms + wait_ms).contains(&look_ms) {
                look_ms = now_ms + wait_ms;
            }
            let read = tokio::select! {
                biased;
                read = up.read(&mut buf) => Some(read),
                () = alarm.wait(now_ms, look_ms) => None,
            };
            match read {
                Some(n) => break n?,
                // While the image is under way a replica is silent (it may be loading), and one that used SYNC always.
                None if !link.is_online() || link.hello.psync.is_none() => {}
                None if link.heard_at.lock().elapsed() > core.config().repl_timeout => {
                    return Err(io::Error::other("timed out"));
                }
                None => {}
            }
        };
        *link.heard_at.lock() = Instant::now();
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.clear();
        bytes.extend_from_slice(&buf[..n]);
    }
}

async fn give(core: &Arc<Core>, link: &Arc<ReplicaLink>, down: &mut OwnedWriteHalf, unsent: Vec<u8>) -> io::Result<()> {
    down.write_all(&unsent).await?;
    if core.primary_link_state().is_some_and(|state| state != LinkState::Connected) {
        down.write_all(b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n").await?;
        return Err(io::Error::other("asked for a sync while our own primary's link is down"));
    }
    let reader = match try_partial(core, link) {
        Some((reader, answer)) => {
            down.write_all(answer.as_bytes()).await?;
            info!(client = link.hello.client_id, from = reader.offset(), "partial resynchronization");
            reader
        }
        None => full_sync::give(core, link, down).await?,
    };
    *link.heard_at.lock() = Instant::now();
    link.set_state(ReplicaState::Online);
    core.on_replica_online(link);
    follow(core, link, reader, down).await
}

/// A reader at the place that the replica asked for, if it has our bytes up to there and the backlog the rest.
fn try_partial(core: &Core, link: &ReplicaLink) -> Option<(LogReader, String)> {
    let (replid, next) = link.hello.psync.as_ref()?;
    if replid.as_slice() == b"?" {
        return None;
    }
    let history = core.history();
    let from = next.checked_sub(1).and_then(|from| u64::try_from(from).ok());
    let reader = from
        .filter(|_| core.feed() != Feed::Off && history.shares(replid, *next))
        .filter(|from| *from >= core.log.first_offset())
        .and_then(|from| core.log.reader(from).ok());
    match reader {
        Some(reader) => {
            core.counters.sync_partial_ok.fetch_add(1, Ordering::Relaxed);
            let answer = match link.hello.capa_psync2 {
                true => format!("+CONTINUE {}\r\n", history.replid),
                false => "+CONTINUE\r\n".to_owned(),
            };
            Some((reader, answer))
        }
        None => {
            core.counters.sync_partial_err.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// Sends the log as it grows.
async fn follow(core: &Core, link: &ReplicaLink, mut reader: LogReader, down: &mut OwnedWriteHalf) -> io::Result<()> {
    let watch = reader.watch();
    loop {
        reader.ready().await.map_err(io::Error::other)?;
        let bytes = reader.peek().map_err(io::Error::other)?;
        // After these bytes were seen, not before: links are killed before the stream goes on under another id, and a
        // replica that got such bytes under the old id would need a full sync.
        if link.ended.load(Ordering::Acquire) {
            return Err(io::Error::other("the link was closed from this side"));
        }
        let n = write_some(core, &watch, down, bytes).await?;
        reader.consume(n);
    }
}

/// Writes what the socket takes. Fails if it takes nothing for `repl-timeout`, or if the log has given the reader up.
pub(super) async fn write_some(
    core: &Core,
    watch: &ReaderWatch,
    down: &mut OwnedWriteHalf,
    bytes: &[u8],
) -> io::Result<usize> {
    let began = Instant::now();
    loop {
        match timeout(LOOK, down.write(bytes)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => return n,
            Err(_) if watch.is_gone() => return Err(io::Error::other(ReadError::Gone)),
            Err(_) if began.elapsed() > core.config().repl_timeout => {
                return Err(io::Error::other("timed out writing"));
            }
            Err(_) => {}
        }
    }
}
