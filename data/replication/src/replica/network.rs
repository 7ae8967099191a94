// SPDX-License-Identifier: BSD-3-Clause
//! The network task of the link to the primary: connects, greets, passes bytes on, acknowledges, and tries again.

use super::PrimaryLink;
use super::apply::{ApplyEvent, ApplyThread, Begin};
use super::handshake::{Granted, Wire};
use crate::core::Core;
use crate::handover::HandoverEnd;
use crate::log::Feed;
use crate::status::LinkState;
use pando_env::{Clock, RealClock, real_alarm};
use pando_formats::aof::encode_command;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Milliseconds between acknowledgements that nobody has asked for.
const TICK_MS: u64 = 1000;
/// Bytes per read.
const READ_BYTES: usize = 64 * 1024;

/// Follows the primary until the link is stopped.
pub(crate) async fn run(core: Arc<Core>, link: Arc<PrimaryLink>) {
    let mut backoff = BACKOFF_MIN;
    while !link.is_stopped() {
        let woken = link.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        if link.is_stopped() {
            break;
        }
        let mut was_connected = false;
        let ended = tokio::select! {
            ended = follow(&core, &link, &mut was_connected) => Some(ended),
            () = woken.as_mut() => None,
        };
        if link.is_stopped() {
            break;
        }
        link.while_alive(|| core.engine.set_link_up(false));
        let was_up = link.state() == LinkState::Connected;
        link.broke();
        // What was received is applied before the position is read again.
        if let Some(thread) = link.take_thread() {
            let _ = tokio::task::spawn_blocking(move || thread.finish()).await;
        }
        link.drained();
        if was_up {
            core.link_changed();
        }
        let Some(Err(error)) = ended else {
            backoff = BACKOFF_MIN;
            continue;
        };
        warn!(primary = %format_args!("{}:{}", link.host, link.port), %error, "connection with primary lost");
        link.set_error(error.to_string());
        if was_connected {
            backoff = BACKOFF_MIN;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = link.wake.notified() => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One connection, to its end.
async fn follow(core: &Arc<Core>, link: &Arc<PrimaryLink>, was_connected: &mut bool) -> io::Result<()> {
    if link.is_refused() {
        // Whoever gave the order stops this link.
        std::future::pending::<()>().await;
    }
    let config = core.config();
    link.set_state(LinkState::Connecting);
    let stream = timeout(CONNECT_TIMEOUT, connect(&link.host, link.port, config.source_addr))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    let ends = (stream.peer_addr()?.to_string(), stream.local_addr()?.to_string());
    link.set_state(LinkState::Handshake);
    link.heard();
    let mut wire = Wire::new(stream, config.repl_timeout);
    wire.greet(&config, core.engine.server_version()).await?;
    let position = (core.feed() == Feed::Relay).then(|| (core.history().replid, core.log.offset()));
    // While another full sync is under way the primary keeps us waiting, with empty lines.
    let was_sent = link.was_order_sent();
    let granted = wire.psync(position, link.give_order()).await?;
    link.end_order(match &granted {
        // The answer to the first order was lost on its way: it was yes.
        Granted::Refused(line) if !(was_sent && line.contains(crate::NOT_A_REPLICA)) => {
            HandoverEnd::Refused(line.clone())
        }
        _ => HandoverEnd::Taken,
    });
    let begin = match granted {
        Granted::Refused(line) => return Err(io::Error::other(format!("the primary refused PSYNC: {line}"))),
        Granted::Continue(replid) => {
            info!(offset = core.log.offset(), "partial resynchronization accepted");
            Begin::Stream { replid }
        }
        Granted::Full(replid, offset) => {
            link.set_state(LinkState::Sync);
            let payload = wire.payload().await?;
            info!(%replid, offset, "full resynchronization begins");
            Begin::Image { replid, offset, payload }
        }
    };
    let (events_in, mut events) = mpsc::unbounded_channel();
    let (bytes, thread) = ApplyThread::start(core.clone(), link.clone(), begin, events_in)?;
    link.install(thread);
    let _shown = Shown { client_id: core.engine.primary_linked(ends.0, ends.1), core };
    let Wire { stream, buf, .. } = wire;
    let (mut down, mut up) = stream.into_split();
    let gone = |_| io::Error::other("the apply thread ended");
    if !buf.is_empty() {
        bytes.send(buf).await.map_err(gone)?;
    }
    let mut streaming = false;
    let mut last_read = Instant::now();
    let (clock, mut alarm) = (RealClock, real_alarm());
    let mut tick_ms = clock.now_ms();
    let mut piece = Vec::new();
    loop {
        // Given away with what was read, and only then: a large block that comes and goes each second keeps the
        // allocator's threads awake.
        piece.reserve(READ_BYTES - piece.len());
        tokio::select! {
            event = events.recv() => match event {
                Some(ApplyEvent::Streaming) => {
                    streaming = true;
                    *was_connected = true;
                    link.set_state(LinkState::Connected);
                    link.while_alive(|| core.engine.set_link_up(true));
                    core.link_changed();
                    acknowledge(core, &mut up).await?;
                }
                Some(ApplyEvent::AckWanted) => acknowledge(core, &mut up).await?,
                Some(ApplyEvent::Failed(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other("the apply thread ended")),
            },
            () = alarm.wait(clock.now_ms(), tick_ms) => {
                tick_ms = clock.now_ms() + TICK_MS;
                if last_read.elapsed() > core.config().repl_timeout {
                    return Err(io::Error::other("timed out"));
                }
                match streaming {
                    true => acknowledge(core, &mut up).await?,
                    // Keeps the primary from giving us up while we load.
                    false => up.write_all(b"\n").await?,
                }
            }
            // Reads only when the apply thread can take more.
            read = async { (bytes.reserve().await, down.read_buf(&mut piece).await) } => {
                let (permit, n) = read;
                if n? == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the primary closed the connection"));
                }
                last_read = Instant::now();
                link.heard();
                permit.map_err(|_| io::Error::other("the apply thread ended"))?.send(std::mem::take(&mut piece));
            }
        }
    }
}

/// Connects, from a certain own address if there is one of the same family.
async fn connect(host: &str, port: u16, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect((host, port)).await };
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for to in lookup_host((host, port)).await?.filter(|to| to.is_ipv4() == source.is_ipv4()) {
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(SocketAddr::new(source, 0))?;
        match socket.connect(to).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The link among the clients, as long as it lives.
struct Shown<'a> {
    client_id: u64,
    core: &'a Core,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.core.engine.unlinked(self.client_id);
    }
}

async fn acknowledge(core: &Core, up: &mut OwnedWriteHalf) -> io::Result<()> {
    let offset = core.log.offset().to_string();
    let mut out = Vec::with_capacity(64);
    encode_command(&mut out, &[&b"REPLCONF"[..], b"ACK", offset.as_bytes()]);
    timeout(core.config().repl_timeout, up.write_all(&out)).await.map_err(|_| io::Error::other("timed out"))?
}
