// SPDX-License-Identifier: BSD-3-Clause
//! Connections of the agent: links it keeps open to other nodes, the listener of the cluster port,
//! single calls, and the look whether a process still lives. Tasks here only move frames and tell
//! the driver what happened; they decide nothing.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pando_env::{BoxListener, Env};
use pando_topology::{Incarnation, NodeId};
use pando_wire::messages::{CALL, Call, MESSAGE, Message, Reply, decode_message, encode_message};
use pando_wire::{
    Conn, ConnConfig, Frame, Handler, Hello, Identity, Keyring, NoHandler, Purpose, WireError, decode_body, encode_body,
};
use tokio::sync::{mpsc, watch};

use crate::event::Event;

/// Events to the driver. Unbounded, because a connection task that waits for the driver would make
/// the driver wait for itself; the peers' queues bound what can be in flight.
pub(crate) type Events = mpsc::UnboundedSender<Event>;

/// What a kept link is for; a node may have one of each.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) enum LinkKind {
    /// To a root: heartbeats, evidence, topology.
    Root,
    /// To a replica of ours: promises.
    Replica,
    /// Published messages.
    Publish,
}

/// Names a kept link.
pub(crate) type LinkKey = (LinkKind, NodeId);

/// Names an accepted connection.
pub(crate) type ConnId = u64;

/// Where a node is.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Address {
    pub host: String,
    pub port: u16,
}

/// First and longest pause between attempts to connect.
const RECONNECT_MIN: Duration = Duration::from_millis(10);
const RECONNECT_MAX: Duration = Duration::from_millis(250);

/// Limits of all the agent's connections.
pub(crate) fn conn_config(lease_ms: u64, keyring: Keyring) -> ConnConfig {
    let connect_timeout = Duration::from_millis((lease_ms / 4).clamp(100, 1000));
    let hello_timeout = connect_timeout * 3;
    ConnConfig { connect_timeout, hello_timeout, keyring: Some(keyring), ..ConnConfig::default() }
}

struct LinkHandler {
    key: LinkKey,
    generation: u64,
    events: Events,
}

impl Handler for LinkHandler {
    fn on_frame(&self, conn: &Conn, frame: Frame) {
        if frame.header.kind == MESSAGE
            && let Ok(message) = decode_message(&frame.body, &conn.ends_heard())
        {
            let (key, generation) = (self.key, self.generation);
            self.events.send(Event::LinkMessage { key, generation, message }).ok();
        }
    }
}

/// Keeps one link open until the task is aborted. `generation` tells the events of this link from
/// those of an earlier one with the same key.
pub(crate) async fn keep_link(
    env: Env,
    key: LinkKey,
    generation: u64,
    address: Address,
    identity: Identity,
    config: ConnConfig,
    events: Events,
) {
    let purpose = match key.0 {
        LinkKind::Root => Purpose::Node,
        LinkKind::Replica => Purpose::Peer,
        LinkKind::Publish => Purpose::Publish,
    };
    let mut pause = RECONNECT_MIN;
    loop {
        let handler = Arc::new(LinkHandler { key, generation, events: events.clone() });
        let connected =
            Conn::connect(&env, &address.host, address.port, identity, purpose, Some(key.1), &config, handler);
        match connected.await {
            Ok(conn) if conn.peer().cluster == identity.cluster => {
                pause = RECONNECT_MIN;
                events.send(Event::LinkUp { key, generation, conn: conn.clone() }).ok();
                conn.closed().await;
                events.send(Event::LinkDown { key, generation }).ok();
            }
            // The node has left this cluster; the map will say so, unless it comes back.
            Ok(conn) => conn.close(),
            Err(error) => tracing::trace!(?key, %error, "no link"),
        }
        // Jitter keeps the nodes of a cluster from connecting in step.
        let jitter = Duration::from_millis(env.rng.below(5));
        tokio::time::sleep(pause + jitter).await;
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}

/// A connection for several questions, opened before they are urgent.
pub(crate) struct Line {
    conn: Conn,
}

impl Line {
    pub async fn open(
        env: &Env,
        identity: Identity,
        to: &Address,
        limit: Duration,
        config: &ConnConfig,
    ) -> Result<Line, WireError> {
        let connect_timeout = limit.min(Duration::from_secs(1));
        let config = ConnConfig { connect_timeout, hello_timeout: limit, ..config.clone() };
        let handler = Arc::new(NoHandler);
        let conn = Conn::connect(env, &to.host, to.port, identity, Purpose::Call, None, &config, handler).await?;
        Ok(Line { conn })
    }

    /// Says something that needs no answer.
    pub fn tell(&self, message: &Message) {
        send(&self.conn, message).ok();
    }

    pub async fn call(&self, question: &Call, limit: Duration) -> Result<Reply, WireError> {
        self.conn.call(CALL, question, limit).await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.conn.close();
    }
}

/// One question on a connection of its own.
pub(crate) async fn call(
    env: &Env,
    identity: Identity,
    address: &Address,
    question: &Call,
    deadline: Duration,
    config: &ConnConfig,
) -> Result<Reply, WireError> {
    Line::open(env, identity, address, deadline, config).await?.call(question, deadline).await
}

/// What a look at an address showed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Look {
    /// This process of the node that was asked for answered.
    Answered(Incarnation),
    /// Nobody listens there.
    Refused,
    /// No answer in time, or somebody else's.
    Unclear,
}

/// Looks who answers at an address.
pub(crate) async fn look(env: &Env, identity: Identity, node: NodeId, address: &Address, config: &ConnConfig) -> Look {
    let handler = Arc::new(NoHandler);
    let (host, port) = (&address.host, address.port);
    match Conn::connect(env, host, port, identity, Purpose::Probe, None, config, handler).await {
        Ok(conn) => {
            let peer = conn.peer().clone();
            conn.close();
            if peer.node == node { Look::Answered(peer.incarnation) } else { Look::Unclear }
        }
        Err(WireError::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Look::Refused,
        Err(_) => Look::Unclear,
    }
}

/// Whether the process `suspect` of a node is certainly gone: another process of the node answers
/// at its address, or (if `was_reached` there before) nobody does. A few attempts, because a dying
/// process closes its sockets one by one.
pub(crate) async fn is_process_gone(
    env: &Env,
    identity: Identity,
    node: NodeId,
    suspect: Incarnation,
    address: &Address,
    config: &ConnConfig,
    was_reached: bool,
) -> bool {
    for pause_ms in [0u64, 2, 5, 10, 20, 50] {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        match look(env, identity, node, address, config).await {
            Look::Answered(incarnation) => return incarnation > suspect,
            Look::Refused if was_reached => return true,
            Look::Refused => return false,
            Look::Unclear => {}
        }
    }
    false
}

/// A learned address belongs to the machine that it was learned on; this may be another one. When in doubt it is.
pub(crate) async fn is_own_address(env: &Env, host: &str) -> bool {
    match env.net.listen(host, 0).await {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrNotAvailable,
    }
}

/// What an accepted connection's frames become.
struct InboundHandler {
    id: ConnId,
    from: IpAddr,
    events: Events,
}

impl Handler for InboundHandler {
    fn on_frame(&self, conn: &Conn, frame: Frame) {
        match frame.header.kind {
            MESSAGE => {
                if let Ok(message) = decode_message(&frame.body, &conn.ends_heard()) {
                    let (id, conn) = (self.id, conn.clone());
                    self.events.send(Event::Message { id, conn, message }).ok();
                }
            }
            CALL => match decode_body::<Call>(&frame.body) {
                Ok(call) => {
                    let (conn, header, from) = (conn.clone(), frame.header, self.from);
                    self.events.send(Event::Call { conn, header, from, call }).ok();
                }
                Err(error) => conn.reply_error(&frame.header, &error.to_string()),
            },
            _ => conn.reply_error(&frame.header, "unexpected request"),
        }
    }

    fn on_closed(&self, conn: &Conn) {
        self.events.send(Event::Closed { id: self.id, peer: conn.peer().clone() }).ok();
    }
}

/// What the listener needs to know of this node at the moment of a connection.
#[derive(Clone)]
pub(crate) struct Door {
    /// Who this node is.
    pub identity: Identity,
    /// Takes the Raft library's frames; `None` on a node that is no root.
    pub raft: Option<Arc<dyn Handler>>,
}

/// Accepts connections until aborted.
pub(crate) async fn listen(
    env: Env,
    mut listener: BoxListener,
    door: watch::Receiver<Door>,
    config: ConnConfig,
    events: Events,
) {
    let mut next_id: ConnId = 0;
    loop {
        let (stream, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly; accepting again at once would spin.
                tracing::warn!(%error, "cluster port");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        next_id += 1;
        let (id, from, env, config, events) = (next_id, addr.ip(), env.clone(), config.clone(), events.clone());
        let door = door.borrow().clone();
        tokio::spawn(async move {
            let identity = door.identity;
            let inbound = InboundHandler { id, from, events: events.clone() };
            let admitted = Conn::accept(&env, stream, identity, &config, |hello| admit(hello, door, inbound));
            match admitted.await {
                Ok(conn) => drop(events.send(Event::Accepted { id, conn })),
                Err(error @ WireError::Impostor(_)) => tracing::warn!(%error, %from, "cluster port: refused"),
                Err(error) => tracing::trace!(%error, %from, "cluster port: refused"),
            }
        });
    }
}

/// Members of the cluster may open any connection, strangers only those for calls and probes.
fn admit(hello: &Hello, door: Door, inbound: InboundHandler) -> Option<Arc<dyn Handler>> {
    match hello.purpose {
        Purpose::Call | Purpose::Probe => Some(Arc::new(inbound)),
        _ if hello.cluster != door.identity.cluster => None,
        Purpose::Node | Purpose::Peer | Purpose::Publish => Some(Arc::new(inbound)),
        Purpose::Raft => door.raft,
    }
}

/// Sends a one-way message; an error means that the connection is full or gone.
pub(crate) fn send(conn: &Conn, message: &Message) -> Result<(), WireError> {
    conn.send(MESSAGE, encode_message(message, &conn.ends_sent())?)
}

/// Answers a call.
pub(crate) fn reply(conn: &Conn, header: &pando_wire::Header, reply: &Reply) {
    match encode_body(reply) {
        Ok(body) => conn.reply(header, body),
        Err(error) => conn.reply_error(header, &error.to_string()),
    }
}
