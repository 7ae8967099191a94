// SPDX-License-Identifier: BSD-3-Clause
//! Who subscribed to what, and delivery to them through the workers' mailboxes.
//!
//! Not here: the commands, and the way to other nodes ([`crate::Engine::publish_hook`]). Lock
//! order: a table of this file, then a client's own set.

use crate::clients::{ClientShared, Subscriptions};
use crate::engine::Engine;
use crate::ports::{ClientId, Message};
use pando_commands::glob;
use pando_resp::{Proto, ReplyBuf};
use pando_topology::Slot;
use parking_lot::RwLock;
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

type Name = Arc<[u8]>;
type Table = RwLock<HashMap<Name, HashMap<ClientId, Arc<ClientShared>>>>;

/// Which of the three kinds of subscription.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    pub(crate) fn subscribed(self) -> &'static str {
        match self {
            Kind::Channel => "subscribe",
            Kind::Pattern => "psubscribe",
            Kind::Shard => "ssubscribe",
        }
    }

    pub(crate) fn unsubscribed(self) -> &'static str {
        match self {
            Kind::Channel => "unsubscribe",
            Kind::Pattern => "punsubscribe",
            Kind::Shard => "sunsubscribe",
        }
    }

    fn set(self, subscriptions: &mut Subscriptions) -> &mut HashSet<Name> {
        match self {
            Kind::Channel => &mut subscriptions.channels,
            Kind::Pattern => &mut subscriptions.patterns,
            Kind::Shard => &mut subscriptions.shard_channels,
        }
    }

    /// The number that subscription replies carry; stored for the checks of every command too.
    fn publish_count(self, client: &ClientShared, subscriptions: &Subscriptions) -> usize {
        match self {
            Kind::Shard => {
                let count = subscriptions.shard_channels.len();
                client.subscribed_shard.store(count as u32, Relaxed);
                count
            }
            Kind::Channel | Kind::Pattern => {
                let count = subscriptions.channels.len() + subscriptions.patterns.len();
                client.subscribed.store(count as u32, Relaxed);
                count
            }
        }
    }
}

/// See the head of this file.
#[derive(Default)]
pub struct PubSub {
    channels: Table,
    patterns: Table,
    shard_channels: Table,
    /// Entries in all tables, so that nobody pays where nobody listens.
    entries: AtomicUsize,
}

/// Posts a message to clients, encoded once for each protocol; one mailbox message for each worker and protocol.
fn post_to(engine: &Engine, parts: &[&[u8]], clients: &HashMap<ClientId, Arc<ClientShared>>) {
    let workers = engine.workers();
    let proto_at = |index: usize| if index.is_multiple_of(2) { Proto::Resp2 } else { Proto::Resp3 };
    let mut groups: SmallVec<[Vec<ClientId>; 4]> = SmallVec::new();
    for client in clients.values() {
        let index = client.worker.load(Relaxed) * 2 + usize::from(client.proto() == Proto::Resp3);
        if index >= groups.len() {
            groups.resize_with(index + 1, Vec::new);
        }
        let group = &mut groups[index];
        if group.is_empty() {
            group.reserve_exact(clients.len().div_ceil(workers));
        }
        group.push(client.id);
    }
    let mut forms: [Option<Arc<[u8]>>; 2] = [None, None];
    for (index, clients) in groups.into_iter().enumerate().filter(|(_, clients)| !clients.is_empty()) {
        let bytes = forms[index % 2].get_or_insert_with(|| {
            let mut buffer = ReplyBuf::new(proto_at(index));
            buffer.push(parts.len());
            parts.iter().for_each(|part| buffer.bulk(part));
            buffer.take().into()
        });
        engine.post(index / 2, Message::PushAll { clients, bytes: bytes.clone() });
    }
}

impl PubSub {
    /// Whether there is no subscription at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.load(Relaxed) == 0
    }

    fn table(&self, kind: Kind) -> &Table {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shard_channels,
        }
    }

    /// Adds a subscription; the number for the reply.
    pub(crate) fn subscribe(&self, client: &Arc<ClientShared>, kind: Kind, name: &[u8]) -> usize {
        let mut table = self.table(kind).write();
        let mut subscriptions = client.subscriptions.lock();
        if !kind.set(&mut subscriptions).contains(name) {
            let name: Name = match table.get_key_value(name) {
                Some((known, _)) => known.clone(),
                None => name.into(),
            };
            kind.set(&mut subscriptions).insert(name.clone());
            table.entry(name).or_default().insert(client.id, client.clone());
            self.entries.fetch_add(1, Relaxed);
        }
        kind.publish_count(client, &subscriptions)
    }

    /// Ends a subscription, if there is one; the number for the reply.
    pub(crate) fn unsubscribe(&self, client: &ClientShared, kind: Kind, name: &[u8]) -> usize {
        let mut table = self.table(kind).write();
        let mut subscriptions = client.subscriptions.lock();
        if kind.set(&mut subscriptions).remove(name)
            && let Some(subscribers) = table.get_mut(name)
        {
            subscribers.remove(&client.id);
            if subscribers.is_empty() {
                table.remove(name);
            }
            self.entries.fetch_sub(1, Relaxed);
        }
        kind.publish_count(client, &subscriptions)
    }

    /// What a client subscribed to, sorted.
    pub(crate) fn names_of(&self, client: &ClientShared, kind: Kind) -> Vec<Name> {
        let mut names: Vec<Name> = kind.set(&mut client.subscriptions.lock()).iter().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Ends all subscriptions of a client without telling it.
    pub(crate) fn forget(&self, client: &ClientShared) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in self.names_of(client, kind) {
                self.unsubscribe(client, kind, &name);
            }
        }
    }

    pub(crate) fn deliver(&self, engine: &Engine, channel: &[u8], message: &[u8], is_sharded: bool) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut receivers = 0;
        let (kind, name): (Kind, &[u8]) =
            if is_sharded { (Kind::Shard, b"smessage") } else { (Kind::Channel, b"message") };
        if let Some(subscribers) = self.table(kind).read().get(channel) {
            let parts = [name, channel, message];
            post_to(engine, &parts, subscribers);
            receivers += subscribers.len();
        }
        if is_sharded {
            return receivers;
        }
        for (pattern, subscribers) in self.patterns.read().iter() {
            if !glob::matches(pattern, channel) {
                continue;
            }
            let parts = [b"pmessage".as_slice(), pattern, channel, message];
            post_to(engine, &parts, subscribers);
            receivers += subscribers.len();
        }
        receivers
    }

    pub(crate) fn slots_lost(&self, engine: &Engine, slots: &[Slot]) {
        let mut table = self.shard_channels.write();
        let lost: Vec<Name> = table.keys().filter(|name| slots.contains(&Slot::of_key(name))).cloned().collect();
        for name in lost {
            let Some(subscribers) = table.remove(&name) else { continue };
            self.entries.fetch_sub(subscribers.len(), Relaxed);
            for client in subscribers.values() {
                let mut subscriptions = client.subscriptions.lock();
                subscriptions.shard_channels.remove(&name);
                let count = Kind::Shard.publish_count(client, &subscriptions);
                let mut buffer = ReplyBuf::new(client.proto());
                buffer.push(3);
                buffer.bulk(b"sunsubscribe");
                buffer.bulk(&name);
                buffer.int(count as i64);
                let message = Message::Push { client: client.id, bytes: buffer.take().into() };
                engine.post(client.worker.load(Relaxed), message);
            }
        }
    }

    /// Active channels, sorted, that match a pattern.
    pub(crate) fn active(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Name> {
        let table = self.table(kind).read();
        let is_wanted = |name: &Name| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        let mut names: Vec<Name> = table.keys().filter(|name| is_wanted(name)).cloned().collect();
        names.sort_unstable();
        names
    }

    /// Number of subscribers of one channel.
    pub(crate) fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        self.table(kind).read().get(name).map_or(0, HashMap::len)
    }

    /// Number of different channels, patterns and sharded channels (`INFO`).
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.channels.read().len(), self.patterns.read().len(), self.shard_channels.read().len())
    }
}
