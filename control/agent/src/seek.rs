// SPDX-License-Identifier: BSD-3-Clause
//! Finds nodes whose addresses in the map are wrong, because they came back elsewhere and the roots that could commit
//! that have yet to find each other. A process that the map does not have tells every root that it reaches where it is
//! (`Message::At`); and while no majority of the roots answers, the names in `cluster-roots` are resolved and asked
//! again. What answers as a newer process of a node is that node, until the map knows better.

use std::collections::BTreeMap;
use std::sync::Arc;

use pando_topology::{ClusterMap, Incarnation, NodeId};
use pando_wire::{Conn, NoHandler, Purpose};

use crate::driver::Driver;
use crate::event::Event;
use crate::joining::parse_root;
use crate::net::Address;

/// Pause between two rounds of questions.
const PAUSE_MS: u64 = 250;

/// Addresses that are newer than the map.
#[derive(Default)]
pub(crate) struct Book {
    found: BTreeMap<NodeId, (Incarnation, Address)>,
    next_ms: u64,
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
        let is_member = self.map.nodes().len() > 1 && self.state.joining.is_none();
        if self.config.roots.is_empty() || !is_member || self.has_quorum() {
            return u64::MAX;
        }
        self.book.next_ms.max(now)
    }

    /// Asks who answers at the configured names, while no majority of the roots does.
    pub fn seek_roots(&mut self) {
        let now = self.env.clock.now_ms();
        let is_member = self.map.nodes().len() > 1 && self.state.joining.is_none();
        if self.config.roots.is_empty() || !is_member || now < self.book.next_ms || self.has_quorum() {
            return;
        }
        self.book.next_ms = now + PAUSE_MS;
        for address in self.config.roots.iter().filter_map(|text| parse_root(text)) {
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
