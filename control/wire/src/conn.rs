// SPDX-License-Identifier: BSD-3-Clause
//! A connection between two processes: hello, then requests, replies and one-way frames in both
//! directions over one stream.
//!
//! One task reads and one writes. Requests carry a number, so many may be under way. The queue
//! to the writer is bounded: a sender never waits without noticing. A connection is used until
//! its first error and never repaired; the owner makes a new one.
//!
//! Frames that are no replies go to the [`Handler`], in the order they arrived, on the reading
//! task: it must return soon and spawn what takes longer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pando_env::{BoxStream, Env};
use pando_topology::{ClusterId, Incarnation, NodeId};
use serde::Serialize;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::WireError;
use crate::beats::Ends;
use crate::credential::Keyring;
use crate::frame::{BODY_BYTES_MAX, Frame, FrameReader, FrameWriter, Header, Kind, decode_body, encode_body, flags};
use crate::hello::{Greeting, Hello, Purpose, fresh, hear_hello};

/// A stranger may make us hold at most this much.
const HELLO_BYTES_MAX: usize = 16 * 1024;
/// The writer collects frames up to this many bytes into one write.
const WRITE_BATCH_BYTES: usize = 256 * 1024;

/// Who this process is; it may change (a join changes the cluster), so each connection gets one.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// This start of the process.
    pub incarnation: Incarnation,
}

/// Limits of a connection.
#[derive(Clone, Debug)]
pub struct ConnConfig {
    /// For connecting.
    pub connect_timeout: Duration,
    /// For the hello. It may be longer: who has accepted the connection is there, but perhaps busy, and asking it again
    /// would make it busier.
    pub hello_timeout: Duration,
    /// Frames that may wait for the writer.
    pub queue_frames_max: usize,
    /// Longest body accepted.
    pub body_bytes_max: usize,
    /// Proves who this process is and checks who others are; without it nobody has to prove anything.
    pub keyring: Option<Keyring>,
}

impl Default for ConnConfig {
    fn default() -> ConnConfig {
        ConnConfig {
            connect_timeout: Duration::from_secs(2),
            hello_timeout: Duration::from_secs(2),
            queue_frames_max: 1024,
            body_bytes_max: BODY_BYTES_MAX,
            keyring: None,
        }
    }
}

/// Receives what the other side starts.
pub trait Handler: Send + Sync + 'static {
    /// A request ([`Header::wants_reply`]) or a one-way frame. Answer with [`Conn::reply`] or
    /// [`Conn::reply_error`], now or later.
    fn on_frame(&self, conn: &Conn, frame: Frame);

    /// The runtime on which connections are served that call this handler; none: where they were made.
    fn home(&self) -> Option<Runtime> {
        None
    }

    /// The connection has ended; called once, after the last frame.
    fn on_closed(&self, conn: &Conn) {
        let _ = conn;
    }
}

/// Refuses every request: for connections on which only this side asks.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoHandler;

impl Handler for NoHandler {
    fn on_frame(&self, conn: &Conn, frame: Frame) {
        conn.reply_error(&frame.header, "unexpected request");
    }
}

/// A live connection. Clones share it; it closes when [`Conn::close`] is called, on the first
/// error, or when the other side closes, not when the clones are dropped.
#[derive(Clone)]
pub struct Conn {
    shared: Arc<Shared>,
}

struct Shared {
    local: Identity,
    peer: Hello,
    queue: mpsc::Sender<Frame>,
    next_request: AtomicU64,
    /// Requests that wait for an answer. Ordered, so that closing wakes them in a fixed order.
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Result<Frame, WireError>>>>,
    closed: watch::Sender<bool>,
    close_reported: AtomicBool,
    /// Bytes of frames that wait to be written.
    queued_bytes: AtomicU64,
    created_unix_ms: AtomicU64,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("peer", &self.shared.peer).finish_non_exhaustive()
    }
}

pub(crate) type Reader = FrameReader<ReadHalf<BoxStream>>;
pub(crate) type Writer = FrameWriter<WriteHalf<BoxStream>>;

impl Conn {
    /// Connects, says hello and waits for the other hello. `expect` is the node that should be
    /// there, if known; the caller compares clusters itself (see [`Conn::peer`]).
    #[allow(clippy::too_many_arguments)]
    pub async fn connect(
        env: &Env,
        host: &str,
        port: u16,
        local: Identity,
        purpose: Purpose,
        expect: Option<NodeId>,
        config: &ConnConfig,
        handler: Arc<dyn Handler>,
    ) -> Result<Conn, WireError> {
        let stream =
            timeout(config.connect_timeout, env.net.connect(host, port)).await.map_err(|_| WireError::Timeout)??;
        let _ = stream.set_nodelay(true);
        let (mut reader, mut writer) = split(stream);
        let greeting = Greeting { local, keyring: config.keyring.as_ref(), nonce: fresh(&*env.rng) };
        let talk = greeting.connect(&mut reader, &mut writer, purpose, host);
        let peer = timeout(config.hello_timeout, talk).await.map_err(|_| WireError::Timeout)??;
        if !peer.accepted {
            return Err(WireError::WrongPeer(format!("refused by {}", peer.node)));
        }
        if let Some(expected) = expect
            && peer.node != expected
        {
            return Err(WireError::WrongPeer(peer.node.to_string()));
        }
        Conn::run(reader, writer, local, peer, config, handler)
    }

    /// Takes an accepted stream: waits for the hello, lets `admit` judge it and choose the
    /// handler (`None` refuses), then answers with our hello and waits for the proof of theirs. A probe has its answer
    /// then and is [`WireError::Closed`].
    pub async fn accept(
        env: &Env,
        stream: BoxStream,
        local: Identity,
        config: &ConnConfig,
        admit: impl FnOnce(&Hello) -> Option<Arc<dyn Handler>>,
    ) -> Result<Conn, WireError> {
        let _ = stream.set_nodelay(true);
        let (mut reader, mut writer) = split(stream);
        let peer = timeout(config.hello_timeout, hear_hello(&mut reader)).await.map_err(|_| WireError::Timeout)??;
        let handler = admit(&peer);
        let accepted = handler.is_some();
        let greeting = Greeting { local, keyring: config.keyring.as_ref(), nonce: fresh(&*env.rng) };
        let answer = greeting.answer(&mut reader, &mut writer, &peer, accepted);
        timeout(config.hello_timeout, answer).await.map_err(|_| WireError::Timeout)??;
        let Some(handler) = handler else {
            return Err(WireError::WrongPeer(peer.node.to_string()));
        };
        if peer.purpose == Purpose::Probe {
            return Err(WireError::Closed);
        }
        Conn::run(reader, writer, local, peer, config, handler)
    }

    fn run(
        reader: Reader,
        writer: Writer,
        local: Identity,
        peer: Hello,
        config: &ConnConfig,
        handler: Arc<dyn Handler>,
    ) -> Result<Conn, WireError> {
        let home = handler.home();
        let (mut reader, writer) = match &home {
            Some(home) => move_to(home, reader, writer)?,
            None => (reader, writer),
        };
        let home = home.unwrap_or_else(Runtime::current);
        let (queue, frames) = mpsc::channel(config.queue_frames_max.max(1));
        let (closed, _) = watch::channel(false);
        reader.set_body_bytes_max(config.body_bytes_max);
        let conn = Conn {
            shared: Arc::new(Shared {
                local,
                peer,
                queue,
                next_request: AtomicU64::new(1),
                waiting: Mutex::default(),
                closed,
                close_reported: AtomicBool::new(false),
                queued_bytes: AtomicU64::new(0),
                created_unix_ms: AtomicU64::new(0),
            }),
        };
        home.spawn(write_loop(conn.clone(), writer, frames));
        home.spawn(read_loop(conn.clone(), reader, handler));
        Ok(conn)
    }

    /// What the other side said of itself.
    pub fn peer(&self) -> &Hello {
        &self.shared.peer
    }

    /// The ends of what this side sends, for [`crate::messages::encode_message`].
    pub fn ends_sent(&self) -> Ends {
        let Ends { from, to } = self.ends_heard();
        Ends { from: to, to: from }
    }

    /// The ends of what this side hears.
    pub fn ends_heard(&self) -> Ends {
        let Shared { local, peer, .. } = &*self.shared;
        Ends { from: (peer.node, peer.incarnation), to: (local.node, local.incarnation) }
    }

    /// Bytes of frames that wait to be written; for display.
    pub fn queued_bytes(&self) -> u64 {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }

    /// Remembers when the connection was made; for display.
    pub fn note_created(&self, unix_ms: u64) {
        self.shared.created_unix_ms.store(unix_ms, Ordering::Relaxed);
    }

    /// What `note_created` was told; 0: nothing.
    pub fn created_unix_ms(&self) -> u64 {
        self.shared.created_unix_ms.load(Ordering::Relaxed)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        *self.shared.closed.borrow()
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        let mut watch = self.shared.closed.subscribe();
        // The sender lives in `self`, so waiting can only end with `true`.
        let _ = watch.wait_for(|closed| *closed).await;
    }

    /// Ends the connection; everything that waits fails with [`WireError::Closed`].
    pub fn close(&self) {
        self.shared.closed.send_replace(true);
        let waiting = std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, tx) in waiting {
            let _ = tx.send(Err(WireError::Closed));
        }
    }

    fn frame(kind: Kind, flags: u8, request: u64, body: Bytes) -> Frame {
        Frame { header: Header { kind, flags, request }, body }
    }

    fn enqueue(&self, frame: Frame) -> Result<(), WireError> {
        if self.is_closed() {
            return Err(WireError::Closed);
        }
        if frame.body.len() > BODY_BYTES_MAX {
            return Err(WireError::TooLong(frame.body.len() as u64));
        }
        let bytes = frame_bytes(&frame);
        // Before it is sent: the writer takes it off again. Relaxed: only shown.
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.queue.try_send(frame).map_err(|e| {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match e {
                mpsc::error::TrySendError::Full(_) => WireError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => WireError::Closed,
            }
        })
    }

    /// Queues a one-way frame.
    pub fn send(&self, kind: Kind, body: Bytes) -> Result<(), WireError> {
        self.enqueue(Self::frame(kind, 0, 0, body))
    }

    /// Sends a request and waits for its reply. After [`WireError::Timeout`] or
    /// [`WireError::Closed`] it is unknown whether the other side carried it out.
    pub async fn request(&self, kind: Kind, body: Bytes, deadline: Duration) -> Result<Frame, WireError> {
        // Relaxed: the number only has to be unique.
        let number = self.shared.next_request.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = oneshot::channel();
        self.waiting(|waiting| waiting.insert(number, tx));
        // However this future ends, the entry must not stay.
        let _guard = RemoveOnDrop { conn: self, number };
        self.enqueue(Self::frame(kind, 0, number, body))?;
        match timeout(deadline, rx).await {
            Err(_) => Err(WireError::Timeout),
            Ok(Err(_)) => Err(WireError::Closed),
            Ok(Ok(result)) => result,
        }
    }

    /// [`Conn::request`] with typed bodies.
    pub async fn call<Q: Serialize + ?Sized, A: serde::de::DeserializeOwned>(
        &self,
        kind: Kind,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, WireError> {
        let reply = self.request(kind, encode_body(question)?, deadline).await?;
        decode_body(&reply.body)
    }

    /// Answers `to`; does nothing if `to` wants no reply.
    pub fn reply(&self, to: &Header, body: Bytes) {
        self.answer(to, flags::REPLY, body);
    }

    /// Answers `to` with the text of an error, which the asker sees as [`WireError::Refused`].
    pub fn reply_error(&self, to: &Header, text: &str) {
        self.answer(to, flags::REPLY | flags::ERROR, Bytes::copy_from_slice(text.as_bytes()));
    }

    fn answer(&self, to: &Header, flags: u8, body: Bytes) {
        if !to.wants_reply() {
            return;
        }
        if let Err(e) = self.enqueue(Self::frame(to.kind, flags, to.request, body)) {
            // The asker cannot tell a lost reply from a lost request, so end it for both.
            tracing::debug!(peer = %self.shared.peer.node, "reply dropped: {e}");
            self.close();
        }
    }

    fn waiting<T>(&self, f: impl FnOnce(&mut BTreeMap<u64, oneshot::Sender<Result<Frame, WireError>>>) -> T) -> T {
        f(&mut self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct RemoveOnDrop<'a> {
    conn: &'a Conn,
    number: u64,
}

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        self.conn.waiting(|waiting| waiting.remove(&self.number));
    }
}

fn split(stream: BoxStream) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(stream);
    (FrameReader::new(read, HELLO_BYTES_MAX), FrameWriter::new(write))
}

/// The same with its stream on another runtime.
fn move_to(home: &Runtime, reader: Reader, writer: Writer) -> Result<(Reader, Writer), WireError> {
    let _there = home.enter();
    let (read, write) = tokio::io::split(reader.stream.unsplit(writer.stream).move_here()?);
    Ok((Reader { stream: read, ..reader }, Writer { stream: write, ..writer }))
}

/// What a frame takes in the queue, about.
fn frame_bytes(frame: &Frame) -> u64 {
    (crate::frame::HEADER_BYTES + frame.body.len()) as u64
}

async fn write_loop(conn: Conn, mut writer: Writer, mut frames: mpsc::Receiver<Frame>) {
    let work = async {
        while let Some(frame) = frames.recv().await {
            let mut bytes = frame_bytes(&frame);
            writer.push(&frame)?;
            while writer.buffered_bytes() < WRITE_BATCH_BYTES {
                match frames.try_recv() {
                    Ok(frame) => {
                        bytes += frame_bytes(&frame);
                        writer.push(&frame)?;
                    }
                    Err(_) => break,
                }
            }
            writer.flush().await?;
            conn.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok::<(), WireError>(())
    };
    tokio::select! {
        result = work => {
            if let Err(e) = result {
                tracing::debug!(peer = %conn.shared.peer.node, "cannot write: {e}");
            }
        }
        () = conn.closed() => {}
    }
    conn.close();
    let _ = timeout(Duration::from_secs(1), writer.shutdown()).await;
}

async fn read_loop(conn: Conn, mut reader: Reader, handler: Arc<dyn Handler>) {
    let work = async {
        while let Some(frame) = reader.next().await? {
            if !frame.header.is_reply() {
                handler.on_frame(&conn, frame);
                continue;
            }
            // An answer after its deadline finds nobody waiting.
            let Some(tx) = conn.waiting(|waiting| waiting.remove(&frame.header.request)) else {
                continue;
            };
            let result = match frame.header.is_error() {
                true => Err(WireError::Refused(String::from_utf8_lossy(&frame.body).into_owned())),
                false => Ok(frame),
            };
            let _ = tx.send(result);
        }
        Ok::<(), WireError>(())
    };
    tokio::select! {
        result = work => {
            if let Err(e) = result {
                tracing::debug!(peer = %conn.shared.peer.node, "cannot read: {e}");
            }
        }
        () = conn.closed() => {}
    }
    conn.close();
    if !conn.shared.close_reported.swap(true, Ordering::Relaxed) {
        handler.on_closed(&conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Credential;

    struct Echo;

    impl Handler for Echo {
        fn on_frame(&self, conn: &Conn, frame: Frame) {
            match frame.header.kind {
                0x21 => conn.reply(&frame.header, frame.body),
                0x22 => conn.reply_error(&frame.header, "no"),
                // 0x23: never answered.
                _ => {}
            }
        }
    }

    fn identity(byte: u8) -> Identity {
        Identity {
            cluster: ClusterId::from_bytes([9; 20]),
            node: NodeId::from_bytes([byte; 20]),
            incarnation: Incarnation(u64::from(byte)),
        }
    }

    async fn pair(accept: bool, expect: u8) -> (Result<Conn, WireError>, Result<Conn, WireError>) {
        let env = Env::real();
        let mut listener = env.net.listen("127.0.0.1", 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = ConnConfig::default();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let admit = |_: &Hello| accept.then(|| Arc::new(Echo) as Arc<dyn Handler>);
            Conn::accept(&env, stream, identity(1), &config, admit).await
        };
        let expect = Some(identity(expect).node);
        let (me, handler) = (identity(2), Arc::new(NoHandler));
        let client = Conn::connect(&env, "127.0.0.1", port, me, Purpose::Call, expect, &config, handler);
        let (server, client) = tokio::join!(server, client);
        (client, server)
    }

    #[tokio::test]
    async fn requests_are_answered_refused_timed_out_and_cut() {
        let (client, server) = pair(true, 1).await;
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!(client.peer().node, identity(1).node);
        assert_eq!((server.peer().node, server.peer().purpose), (identity(2).node, Purpose::Call));
        let second = Duration::from_secs(5);
        let body = Bytes::from_static(b"x");
        let reply = client.request(0x21, body.clone(), second).await.unwrap();
        assert_eq!(reply.body, body);
        let refused = client.request(0x22, body.clone(), second).await;
        assert!(matches!(refused, Err(WireError::Refused(text)) if text == "no"));
        let late = client.request(0x23, body.clone(), Duration::from_millis(1)).await;
        assert!(matches!(late, Err(WireError::Timeout)));
        // The connection survives a late answer; closing wakes whoever waits.
        let (cut, ()) = tokio::join!(client.request(0x23, body, second), async { server.close() });
        assert!(matches!(cut, Err(WireError::Closed)));
        client.closed().await;
        assert!(matches!(client.send(1, Bytes::new()), Err(WireError::Closed)));
    }

    fn keyring(own: u8, known: Option<(u8, u8)>) -> Keyring {
        let credential = |byte| Credential::from_secret(&[byte; 32]).expect("a key");
        let known = known.map(|(node, key)| (identity(node).node, credential(key).key()));
        let key_of = move |node: &NodeId| known.filter(|known| known.0 == *node).map(|known| known.1);
        Keyring { own: Arc::new(credential(own)), key_of: Arc::new(key_of) }
    }

    /// Node 2 connects to node 1, each with these keys.
    async fn meet(client: Option<Keyring>, server: Keyring) -> (Result<Conn, WireError>, Result<Conn, WireError>) {
        let env = Env::real();
        let mut listener = env.net.listen("127.0.0.1", 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let with = |keyring| ConnConfig { keyring, ..ConnConfig::default() };
        let (client, server) = (with(client), with(Some(server)));
        let accept = async {
            let (stream, _) = listener.accept().await.unwrap();
            Conn::accept(&env, stream, identity(1), &server, |_| Some(Arc::new(Echo) as Arc<dyn Handler>)).await
        };
        let (me, handler) = (identity(2), Arc::new(NoHandler));
        let connect = Conn::connect(&env, "127.0.0.1", port, me, Purpose::Node, None, &client, handler);
        let (server, client) = tokio::join!(accept, connect);
        (client, server)
    }

    #[tokio::test]
    async fn a_known_node_has_to_prove_that_it_is_the_one() {
        // Each has the key that the other knows of it, or nothing is known.
        for (client, server) in [(Some((1, 11)), Some((2, 22))), (None, None)] {
            let (client, server) = meet(Some(keyring(22, client)), keyring(11, server)).await;
            let (client, server) = (client.expect("connected"), server.expect("accepted"));
            let reply = client.request(0x21, Bytes::from_static(b"x"), Duration::from_secs(5)).await;
            assert_eq!(reply.expect("an answer").body, Bytes::from_static(b"x"));
            server.close();
        }
        let (client, server) = meet(Some(keyring(33, None)), keyring(11, Some((2, 22)))).await;
        assert!(matches!(server, Err(WireError::Impostor(_))), "{server:?}");
        // The one that connects hears of it when the connection closes.
        client.expect("it was greeted").closed().await;
        let (client, server) = meet(Some(keyring(22, Some((1, 11)))), keyring(33, None)).await;
        assert!(matches!(client, Err(WireError::Impostor(_))), "{client:?}");
        assert!(server.is_err());
        // Without a key nothing is proven.
        let (_, server) = meet(None, keyring(11, Some((2, 22)))).await;
        assert!(matches!(server, Err(WireError::Impostor(_))), "{server:?}");
    }

    #[tokio::test]
    async fn strangers_are_refused() {
        let (client, server) = pair(false, 1).await;
        assert!(matches!(client, Err(WireError::WrongPeer(_))));
        assert!(matches!(server, Err(WireError::WrongPeer(_))));
        let (client, _server) = pair(true, 7).await;
        assert!(matches!(client, Err(WireError::WrongPeer(_))));
    }
}
