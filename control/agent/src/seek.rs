// SPDX-License-Identifier: BSD-3-Clause
//! Finds nodes whose addresses in the map are wrong, because they came back elsewhere and the roots that could commit
//! that have yet to find each other. A process that the map does not have tells every root that it reaches where it is
//! (`Message::At`); and while no majority of the roots answers, the names in `cluster-roots` are resolved and asked
//! again. What answers as a newer process of a node is that node, until the map knows better.
//!
//! A node that finds no majority for longer asks other members where the roots are, a few at a time and ever less
//! often, and tells them where it is itself: so nodes that have all moved find each other by one that has not.

use std::collections::BTreeMap;
use std::sync::Arc;

use pando_topology::{ClusterMap, Incarnation, NodeId};
use pando_wire::messages::{Call, Contact, Message, Reply};
use pando_wire::{Conn, NoHandler, Purpose};

use crate::driver::Driver;
use crate::event::Event;
use crate::joining::parse_root;
use crate::net::{Address, Line};

/// Pause between two rounds of questions, and in large clusters so many microseconds for each node: all of them may have
/// lost the roots because those have too much to do.
const PAUSE_MS: u64 = 250;
const PAUSE_US_EACH: u64 = 500;

/// Longest pause between two rounds of questions to other members: without roots, thousands of nodes may ask.
const MEMBERS_PAUSE_MAX_MS: u64 = 4_000;

/// Members that are asked in a round.
const MEMBERS: usize = 3;

/// How long one of them may take to answer.
const ASK_LIMIT: std::time::Duration = std::time::Duration::from_millis(500);

/// Addresses that are newer than the map.
#[derive(Default)]
pub(crate) struct Book {
    found: BTreeMap<NodeId, (Incarnation, Address)>,
    next_ms: u64,
    /// Nodes that are roots by the word of another member and not by the map, with their addresses.
    hints: BTreeMap<NodeId, Address>,
    /// When other members may be asked again, and how long to wait after that; 0: nobody was asked yet.
    members_ms: u64,
    pause_ms: u64,
}

impl Book {
    /// Notes where a process answered; false if that is nothing new.
    fn note(&mut self, map: &ClusterMap, node: NodeId, incarnation: Incarnation, address: Address) -> bool {
        let Some(known) = map.node(&node) else { return false };
        let is_newer = incarnation > known.incarnation
            && self.found.get(&node).is_none_or(|(found, at)| incarnation > *found || *at != address);
        if is_newer {
            self.found.insert(node, (incarnation, address));
        }
        is_newer
    }

    /// The newer address of a node.
    pub fn address(&self, node: &NodeId) -> Option<&Address> {
        self.found.get(node).map(|(_, address)| address)
    }

    /// Forgets what the map knows as well.
    pub fn prune(&mut self, map: &ClusterMap) {
        self.found.retain(|id, (found, _)| map.node(id).is_some_and(|node| node.incarnation < *found));
        self.hints.clear();
    }

    /// Nodes that are to be treated as roots until the map says who they are.
    pub fn hints(&self) -> impl Iterator<Item = (&NodeId, &Address)> {
        self.hints.iter()
    }

    /// Begins a round of questions; says whether other members are to be asked in it.
    fn begin(&mut self, now_ms: u64, nodes: usize) -> bool {
        self.next_ms = now_ms + PAUSE_MS.max(nodes as u64 * PAUSE_US_EACH / 1000);
        if self.pause_ms == 0 {
            // A node that has just started will soon know.
            (self.pause_ms, self.members_ms) = (PAUSE_MS, now_ms + PAUSE_MS);
            return false;
        }
        let is_due = now_ms >= self.members_ms;
        if is_due {
            self.members_ms = now_ms + self.pause_ms;
            self.pause_ms = (2 * self.pause_ms).min(MEMBERS_PAUSE_MAX_MS);
        }
        is_due
    }

    /// A majority of the roots answers.
    fn rest(&mut self) {
        (self.pause_ms, self.members_ms) = (0, 0);
    }

    /// When the next round of questions may begin.
    pub fn due_ms(&self) -> u64 {
        self.next_ms
    }

    /// For those who only look.
    pub fn snapshot(&self) -> Arc<BTreeMap<NodeId, Address>> {
        Arc::new(self.found.iter().map(|(node, (_, address))| (*node, address.clone())).collect())
    }
}

impl Driver {
    /// When to ask again; never while there is nothing to ask for.
    pub fn seek_due_ms(&self, now: u64) -> u64 {
        if self.can_seek() { self.book.next_ms.max(now) } else { u64::MAX }
    }

    /// A member of a cluster that no majority of its roots answers.
    fn can_seek(&self) -> bool {
        self.map.nodes().len() > 1 && self.state.joining.is_none() && !self.has_quorum()
    }

    /// Asks who answers at the configured names, and others where the roots are, while no majority of them answers.
    pub fn seek_roots(&mut self) {
        let now = self.env.clock.now_ms();
        if !self.can_seek() {
            return self.book.rest();
        }
        if now < self.book.next_ms {
            return;
        }
        let asks_members = self.book.begin(now, self.map.nodes().len());
        for address in self.config.roots.iter().filter_map(|text| parse_root(text)) {
            self.look_who_answers(address);
        }
        if asks_members {
            self.ask_members();
        }
    }

    /// Whoever answers there is noted.
    fn look_who_answers(&self, address: Address) {
        let (env, identity, config) = (self.env.clone(), self.identity(), self.conn_config.clone());
        let events = self.events.clone();
        tokio::spawn(async move {
            let (host, port, handler) = (&address.host, address.port, Arc::new(NoHandler));
            let conn = Conn::connect(&env, host, port, identity, Purpose::Probe, None, &config, handler).await;
            let Ok(conn) = conn else { return };
            let peer = conn.peer().clone();
            conn.close();
            if peer.cluster == identity.cluster && peer.node != identity.node {
                events.send(Event::Found { node: peer.node, incarnation: peer.incarnation, address }).ok();
            }
        });
    }

    /// Asks a few members at random where the roots are.
    fn ask_members(&self) {
        let me = self.state.node;
        let members: Vec<NodeId> = self.map.nodes().keys().copied().filter(|id| *id != me).collect();
        for _ in 0..MEMBERS.min(members.len()) {
            let member = members[self.env.rng.below(members.len() as u64) as usize];
            if let Some(address) = self.address_of(&member) {
                self.ask_member(address);
            }
        }
    }

    /// Tells whoever is there where this node is, and asks where the roots are.
    fn ask_member(&self, address: Address) {
        let (env, identity, config) = (self.env.clone(), self.identity(), self.conn_config.clone());
        let (events, host, port) = (self.events.clone(), self.state.host.clone(), self.config.cluster_port);
        tokio::spawn(async move {
            let Ok(line) = Line::open(&env, identity, &address, ASK_LIMIT, &config).await else { return };
            if !host.is_empty() {
                line.tell(&Message::At { host, port });
            }
            let question = Call::GetIsland { dialled: address.host.clone() };
            if let Ok(Reply::Island(island)) = line.call(&question, ASK_LIMIT).await
                && island.cluster == identity.cluster
            {
                events.send(Event::Look(Box::new(move |driver| driver.on_roots_told(island.roots)))).ok();
            }
        });
    }

    /// An operator says that a member of this cluster is there. Perhaps nothing else would tell the two.
    pub fn meet_member(&self, address: Address) {
        self.look_who_answers(address.clone());
        self.ask_member(address);
    }

    /// By the word of another member these are the roots. Whether they are there is seen; that it is them they prove.
    fn on_roots_told(&mut self, roots: Vec<Contact>) {
        if !self.can_seek() {
            return;
        }
        let mut is_news = false;
        for root in roots.into_iter().filter(|root| root.node != self.state.node && !root.host.is_empty()) {
            let address = Address { host: root.host, port: root.cluster_port };
            if self.map.node(&root.node).is_none() {
                continue;
            }
            if self.address_of(&root.node).as_ref() != Some(&address) {
                self.look_who_answers(address.clone());
            }
            if !self.map.roots().contains(&root.node) && self.book.hints.get(&root.node) != Some(&address) {
                self.book.hints.insert(root.node, address);
                is_news = true;
            }
        }
        if is_news {
            self.relink();
        }
    }

    pub fn on_found(&mut self, node: NodeId, incarnation: Incarnation, address: Address) {
        let text = format!("{}:{}", address.host, address.port);
        if self.book.note(&self.map, node, incarnation, address) {
            tracing::info!(%node, address = text, "a node answers at another address than the topology has");
            self.relink();
            self.update_view();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pando_topology::{ClusterId, MapParts, Node, TopologyVersion};

    fn map(incarnation: u64) -> ClusterMap {
        let mut node = Node::new(NodeId::from_bytes([1; 20]), "old", 1);
        node.incarnation = Incarnation(incarnation);
        node.is_data = false;
        let empty = ClusterMap::empty(ClusterId::from_bytes([1; 20]));
        let mut parts = MapParts { version: TopologyVersion(5), ..empty.parts().clone() };
        parts.nodes.insert(node.id, Arc::new(node));
        ClusterMap::new(parts).expect("valid")
    }

    #[test]
    fn members_are_asked_ever_less_often() {
        let mut book = Book::default();
        let mut asked = |now_ms: u64| (now_ms >= book.due_ms() && book.begin(now_ms, 3)).then_some(now_ms);
        let times: Vec<u64> = (0..20_000).filter_map(&mut asked).collect();
        assert_eq!(times, [250, 500, 1_000, 2_000, 4_000, 8_000, 12_000, 16_000]);
        book.rest();
        assert!(!book.begin(30_000, 10_000), "not in the first round");
        assert_eq!(book.due_ms(), 35_000);
    }

    #[test]
    fn only_what_is_newer_than_the_map_is_kept() {
        let id = NodeId::from_bytes([1; 20]);
        let at = |host: &str| Address { host: host.into(), port: 1 };
        let mut book = Book::default();
        assert!(!book.note(&map(3), id, Incarnation(3), at("new")), "the process that the map knows");
        assert!(!book.note(&map(3), NodeId::from_bytes([2; 20]), Incarnation(4), at("new")), "a stranger");
        assert!(book.note(&map(3), id, Incarnation(4), at("new")));
        assert!(!book.note(&map(3), id, Incarnation(4), at("new")), "known");
        assert_eq!(book.address(&id), Some(&at("new")));
        book.prune(&map(3));
        assert!(book.address(&id).is_some());
        book.prune(&map(4));
        assert_eq!(book.address(&id), None);
    }
}
