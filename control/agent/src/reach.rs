// SPDX-License-Identifier: BSD-3-Clause
//! Which processes were reached at their announced address. A port that refuses proves a process
//! dead only if that process has answered there before: a node that announces a wrong address, or one
//! behind a firewall, is refused or silent while it lives. Peers that were not reached yet are tried again
//! as long as they are connected, and few at a time: when thousands join at once, each try that comes too late would only
//! cause another one. Pure; the driver asks and probes.

use std::collections::{BTreeMap, BTreeSet};

use pando_topology::{Incarnation, NodeId};

use crate::net::{Address, ConnId};

/// Pause before an address that did not answer is tried again; it doubles each time.
const RETRY_MS: u64 = 2_000;
const RETRY_MAX_MS: u64 = 32_000;

/// So many tries are under way at a time.
const TRIES_MAX: usize = 64;

#[derive(Clone, Debug)]
struct Tried {
    incarnation: Incarnation,
    address: Address,
    is_reached: bool,
    at_ms: u64,
    pause_ms: u64,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Reach {
    nodes: BTreeMap<NodeId, Tried>,
    /// Peers whose death matters: the process that is connected, and its connections.
    peers: BTreeMap<NodeId, (Incarnation, BTreeSet<ConnId>)>,
    /// When to try whom again.
    due: BTreeSet<(u64, NodeId)>,
    /// Tries under way, and who waits for the end of one.
    tries: usize,
    waiting: BTreeSet<NodeId>,
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
                let pause_ms = self.nodes.get(&node).map_or(RETRY_MS, |tried| tried.pause_ms);
                self.due.insert((now_ms + pause_ms, node));
            }
        }
        due
    }

    /// Whether to try the address now; if so, the try is noted, and `end` is to be called after it.
    pub fn begin(&mut self, now_ms: u64, node: NodeId, incarnation: Incarnation, address: &Address) -> bool {
        let before = self.nodes.get(&node);
        let before = before.filter(|tried| tried.incarnation == incarnation && tried.address == *address);
        if before.is_some_and(|tried| tried.is_reached || now_ms < tried.at_ms + tried.pause_ms) {
            return false;
        }
        if self.tries >= TRIES_MAX {
            self.waiting.insert(node);
            return false;
        }
        let pause_ms = before.map_or(RETRY_MS, |tried| (tried.pause_ms * 2).min(RETRY_MAX_MS));
        let tried = Tried { incarnation, address: address.clone(), is_reached: false, at_ms: now_ms, pause_ms };
        self.nodes.insert(node, tried);
        self.tries += 1;
        true
    }

    /// A try has ended.
    pub fn end(&mut self) {
        self.tries = self.tries.saturating_sub(1);
    }

    /// Who has waited for the end of a try, while another one may begin.
    pub fn next_waiting(&mut self) -> Option<(NodeId, Incarnation)> {
        while self.tries < TRIES_MAX
            && let Some(node) = self.waiting.pop_first()
        {
            if let Some(incarnation) = self.connected(&node) {
                return Some((node, incarnation));
            }
        }
        None
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
        let address = address.clone();
        let tried = Tried { incarnation, address, is_reached: true, at_ms: now_ms, pause_ms: RETRY_MS };
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
        assert!(!reach.begin(20 + 2 * RETRY_MS, node, new, &here), "the pause has doubled");
        assert!(reach.begin(20 + 3 * RETRY_MS, node, new, &here));
    }

    #[test]
    fn of_thousands_a_few_are_tried_at_a_time_and_all_in_the_end() {
        let address = Address { host: "10.0.0.1".into(), port: 1 };
        let mut reach = Reach::default();
        let mut under_way = Vec::new();
        for n in 0..=255 {
            let node = NodeId::from_bytes([n; 20]);
            reach.note_connected(0, u64::from(n), node, Incarnation(1));
            if reach.begin(0, node, Incarnation(1), &address) {
                under_way.push(node);
            }
        }
        reach.note_disconnected(255, &NodeId::from_bytes([255; 20]));
        let mut reached = 0;
        while let Some(node) = under_way.pop() {
            reach.note_reached(node, Incarnation(1), &address);
            reached += 1;
            reach.end();
            while let Some((next, incarnation)) = reach.next_waiting() {
                assert!(reach.begin(1, next, incarnation, &address));
                under_way.push(next);
            }
            assert!(under_way.len() <= TRIES_MAX);
        }
        assert_eq!(reached, 255, "all but the one that is gone");
        assert_eq!(reach.take_due(RETRY_MS), []);
    }
}
