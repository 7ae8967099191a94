// SPDX-License-Identifier: BSD-3-Clause
//! The set of links that this node keeps open, and what waits to be sent over those that are not up
//! yet. Used by the driver only; the tasks behind the links are in `net`.

use std::collections::{BTreeMap, VecDeque};

use pando_env::Env;
use pando_topology::NodeId;
use pando_wire::messages::Message;
use pando_wire::{Conn, ConnConfig, Identity};
use tokio::task::JoinHandle;

use crate::counters::Counters;
use crate::net::{self, Address, Events, LinkKey, LinkKind};

/// Messages that wait for a link of kind `Publish` to come up.
const WAITING_MAX: usize = 128;

/// A link that follows silent ones is given so many times the usual time more.
const RESETS_MAX: u32 = 1;

struct Link {
    generation: u64,
    address: Address,
    task: JoinHandle<()>,
    conn: Option<Conn>,
    waiting: VecDeque<Message>,
    created_unix_ms: u64,
    /// When something was last received or the link came up.
    heard_ms: u64,
    /// When it came up, and how often it was closed for its silence since it last worked for a while.
    up_ms: u64,
    resets: u32,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(conn) = &self.conn {
            conn.close();
        }
    }
}

/// All kept links of this node.
pub(crate) struct Links {
    env: Env,
    config: ConnConfig,
    events: Events,
    links: BTreeMap<LinkKey, Link>,
    next_generation: u64,
}

impl Links {
    pub fn new(env: Env, config: ConnConfig, events: Events) -> Self {
        Self { env, config, events, links: BTreeMap::new(), next_generation: 1 }
    }

    /// Makes the links of `kind` exactly these; an unchanged one stays as it is.
    pub fn want(&mut self, kind: LinkKind, wanted: &BTreeMap<NodeId, Address>, identity: Identity) {
        self.links
            .retain(|(k, node), link| *k != kind || wanted.get(node).is_some_and(|address| *address == link.address));
        for (node, address) in wanted {
            self.open((kind, *node), address, identity);
        }
    }

    /// Opens a link unless there is one.
    pub fn open(&mut self, key: LinkKey, address: &Address, identity: Identity) {
        if self.links.get(&key).is_some_and(|link| link.address == *address) {
            return;
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        let task = tokio::spawn(net::keep_link(
            self.env.clone(),
            key,
            generation,
            address.clone(),
            identity,
            self.config.clone(),
            self.events.clone(),
        ));
        self.links.insert(
            key,
            Link {
                generation,
                address: address.clone(),
                task,
                conn: None,
                waiting: VecDeque::new(),
                created_unix_ms: self.env.clock.unix_ms(),
                heard_ms: self.env.clock.now_ms(),
                up_ms: 0,
                resets: 0,
            },
        );
    }

    /// Drops all links; the identity they were made with has changed.
    pub fn clear(&mut self) {
        self.links.clear();
    }

    /// A link works; returns false for one that was dropped meanwhile.
    pub fn up(&mut self, key: LinkKey, generation: u64, conn: Conn, counters: &mut Counters) -> bool {
        let now = self.env.clock.now_ms();
        let Some(link) = self.links.get_mut(&key).filter(|link| link.generation == generation) else {
            conn.close();
            return false;
        };
        (link.heard_ms, link.up_ms) = (now, now);
        for message in link.waiting.drain(..) {
            counters.sent(&message);
            if net::send(&conn, &message).is_err() {
                counters.dropped();
            }
        }
        link.conn = Some(conn);
        true
    }

    /// Where a link goes to.
    pub fn address(&self, key: LinkKey) -> Option<&Address> {
        self.links.get(&key).map(|link| &link.address)
    }

    /// A link broke; returns false for one that was dropped meanwhile.
    pub fn down(&mut self, key: LinkKey, generation: u64) -> bool {
        let link = self.links.get_mut(&key).filter(|link| link.generation == generation);
        let is_present = link.is_some();
        if let Some(link) = link {
            link.conn = None;
        }
        is_present
    }

    /// Roots to which a link is up.
    pub fn up_roots(&self) -> Vec<NodeId> {
        let replicas = (LinkKind::Replica, NodeId::from_bytes([0; 20]));
        let up = self.links.range(..replicas).filter(|(_, link)| link.conn.as_ref().is_some_and(|c| !c.is_closed()));
        up.map(|((_, node), _)| *node).collect()
    }

    /// Whether messages can be sent over it now.
    pub fn is_up(&self, key: LinkKey) -> bool {
        self.conn(key).is_some()
    }

    /// Notes that something came; says whether the link is the present one of its key.
    pub fn heard(&mut self, key: LinkKey, generation: u64) -> bool {
        let now = self.env.clock.now_ms();
        match self.links.get_mut(&key).filter(|link| link.generation == generation) {
            Some(link) => {
                link.heard_ms = now;
                true
            }
            None => false,
        }
    }

    /// The connection of a link that is up.
    pub fn conn(&self, key: LinkKey) -> Option<&Conn> {
        self.links.get(&key).and_then(|link| link.conn.as_ref()).filter(|conn| !conn.is_closed())
    }

    /// Sends if the link is up.
    pub fn send(&mut self, key: LinkKey, message: &Message, counters: &mut Counters) -> bool {
        let Some(conn) = self.links.get(&key).and_then(|link| link.conn.as_ref()) else { return false };
        counters.sent(message);
        net::send(conn, message).is_ok()
    }

    /// Sends now or, within bounds, when the link comes up.
    pub fn send_or_wait(&mut self, key: LinkKey, message: &Message, counters: &mut Counters) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let is_sent = match &link.conn {
            Some(conn) => {
                counters.sent(message);
                net::send(conn, message).is_ok()
            }
            None if link.waiting.len() < WAITING_MAX => {
                link.waiting.push_back(message.clone());
                true
            }
            None => false,
        };
        if !is_sent {
            counters.dropped();
        }
    }

    /// Closes links on which heartbeats go out but nothing has come back for so long. A connection
    /// whose packets vanish looks open for ever; its task makes a new one. After such an end the next one is given
    /// more time: a peer that is too busy to answer gets busier with each connection. `late_ms`: this process has not
    /// looked for so long, and what has come meanwhile may still be unread.
    pub fn reset_silent(&mut self, silent_ms: u64, late_ms: u64) {
        let now = self.env.clock.now_ms();
        // There may be thousands of links for published messages; they come last.
        let published = (LinkKind::Publish, NodeId::from_bytes([0; 20]));
        for (_, link) in self.links.range_mut(..published) {
            if link.resets > 0 && link.heard_ms > link.up_ms + u64::from(RESETS_MAX) * 2 * silent_ms {
                link.resets = 0;
            }
            let patience_ms = silent_ms * u64::from(1 + link.resets) + 2 * late_ms;
            if now.saturating_sub(link.heard_ms) > patience_ms
                && let Some(conn) = link.conn.take()
            {
                link.resets = (link.resets + 1).min(RESETS_MAX);
                conn.close();
            }
        }
    }

    /// Links that are up: node, unix time of creation, connection.
    pub fn list(&self) -> impl Iterator<Item = (NodeId, u64, &Conn)> {
        let up = self.links.iter().filter_map(|((_, node), link)| Some((*node, link, link.conn.as_ref()?)));
        up.map(|(node, link, conn)| (node, link.created_unix_ms, conn))
    }
}
