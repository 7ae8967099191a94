// SPDX-License-Identifier: BSD-3-Clause
//! Which processes were reached at their announced address. A port that refuses proves a process
//! dead only if that process has answered there before: a node that announces a wrong address, or one
//! behind a firewall, is refused or silent while it lives. Peers that were not reached yet are tried again
//! as long as they are connected. Pure; the driver asks and probes.

use std::collections::{BTreeMap, BTreeSet};

use pando_topology::{Incarnation, NodeId};

use crate::net::{Address, ConnId};

/// Pause before an address that did not answer is tried again.
const RETRY_MS: u64 = 2_000;

#[derive(Clone, Debug)]
struct Tried {
    incarnation: Incarnation,
    address: Address,
    is_reached: bool,
    at_ms: u64,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Reach {
    nodes: BTreeMap<NodeId, Tried>,
    /// Peers whose death matters: the process that is connected, and its connections.
    peers: BTreeMap<NodeId, (Incarnation, BTreeSet<ConnId>)>,
    /// When to try whom again.
    due: BTreeSet<(u64, NodeId)>,
}

impl Reach {
    /// A peer has connected; it is to be tried at once, and if need be again.
    pub fn note_connected(&mut self, now_ms: u64, id: ConnId, node: NodeId, incarnation: Incarnation) {
        let peer = self.peers.entry(node).or_insert((incarnation, BTreeSet::new()));
        peer.0 = peer.0.max(incarnation);
        peer.1.insert(id);
        self.due.insert((now_ms + RETRY_MS, node));
    }

    /// One of its connections has ended.
    pub fn note_disconnected(&mut self, id: ConnId, node: &NodeId) {
        if let Some((_, conns)) = self.peers.get_mut(node) {
            conns.remove(&id);
            if conns.is_empty() {
                self.peers.remove(node);
            }
        }
    }

    /// The process of a peer that is connected.
    pub fn connected(&self, node: &NodeId) -> Option<Incarnation> {
        self.peers.get(node).map(|(incarnation, _)| *incarnation)
    }

    /// When a peer is to be tried again.
    pub fn due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Peers that are to be tried again now; they come again until they were reached or are gone.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<(NodeId, Incarnation)> {
        let mut due = Vec::new();
        while let Some((due_ms, node)) = self.due.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms) {
            self.due.remove(&(due_ms, node));
            let Some(incarnation) = self.connected(&node) else { continue };
            let is_done =
                self.nodes.get(&node).is_some_and(|tried| tried.is_reached && tried.incarnation == incarnation);
            if !is_done {
                due.push((node, incarnation));
                self.due.insert((now_ms + RETRY_MS, node));
            }
        }
        due
    }

    /// Whether to try the address now; if so, the try is noted.
    pub fn begin(&mut self, now_ms: u64, node: NodeId, incarnation: Incarnation, address: &Address) -> bool {
        if let Some(tried) = self.nodes.get(&node)
            && tried.incarnation == incarnation
            && tried.address == *address
            && (tried.is_reached || now_ms < tried.at_ms + RETRY_MS)
        {
            return false;
        }
        let tried = Tried { incarnation, address: address.clone(), is_reached: false, at_ms: now_ms };
        self.nodes.insert(node, tried);
        true
    }

    /// The process answered at the address.
    pub fn note_reached(&mut self, node: NodeId, incarnation: Incarnation, address: &Address) {
        if let Some(tried) = self.nodes.get_mut(&node)
            && (tried.incarnation, &tried.address) == (incarnation, address)
        {
            tried.is_reached = true;
        }
    }

    /// The process has answered there without having been tried: a link to it is up.
    pub fn note_answered(&mut self, now_ms: u64, node: NodeId, incarnation: Incarnation, address: &Address) {
        let tried = Tried { incarnation, address: address.clone(), is_reached: true, at_ms: now_ms };
        self.nodes.insert(node, tried);
    }

    /// Whether this process has answered at this address.
    pub fn is_reached(&self, node: &NodeId, incarnation: Incarnation, address: &Address) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|tried| tried.is_reached && (tried.incarnation, &tried.address) == (incarnation, address))
    }

    /// Forgets a node that is not in the map any more.
    pub fn forget(&mut self, node: &NodeId) {
        self.nodes.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_that_answered_there_counts() {
        let node = NodeId::from_bytes([1; 20]);
        let (old, new) = (Incarnation(1), Incarnation(2));
        let here = Address { host: "10.0.0.1".into(), port: 1 };
        let there = Address { host: "10.0.0.2".into(), port: 1 };
        let mut reach = Reach::default();
        assert!(reach.begin(0, node, old, &here));
        assert!(!reach.begin(10, node, old, &here), "one try at a time");
        assert!(!reach.is_reached(&node, old, &here));
        reach.note_reached(node, old, &here);
        assert!(reach.is_reached(&node, old, &here));
        assert!(!reach.is_reached(&node, old, &there));
        assert!(!reach.is_reached(&node, new, &here));
        assert!(reach.begin(20, node, new, &here), "a new process has to answer itself");
        reach.note_reached(node, old, &here);
        assert!(!reach.is_reached(&node, new, &here));
        assert!(reach.begin(20 + RETRY_MS, node, new, &here));
    }
}
