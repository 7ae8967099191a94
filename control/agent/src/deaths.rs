// SPDX-License-Identifier: BSD-3-Clause
//! The driver finds out whether the process behind a broken connection is gone. `reach` remembers which processes could
//! be reached, without which a refused connection proves nothing.

use pando_liveness::ProofOfDeath;
use pando_topology::{Incarnation, NodeId};
use pando_wire::{Hello, Purpose};

use crate::driver::Driver;
use crate::event::Event;
use crate::net::{self, Address, ConnId};

impl Driver {
    /// Whether the death of the process at the other end of this connection matters here: to roots
    /// that of any node, to replicas that of their primary.
    fn is_of_interest(&self, peer: &Hello) -> bool {
        let is_kind = match peer.purpose {
            Purpose::Node => self.group.is_some(),
            Purpose::Peer => true,
            Purpose::Publish | Purpose::Call | Purpose::Raft | Purpose::Probe => false,
        };
        is_kind && peer.cluster == self.state.cluster
    }

    /// Finds out, while they live, whether the peers can be reached at their announced addresses.
    pub fn look_at_unreached(&mut self, now: u64) {
        for (node, incarnation) in self.reach.take_due(now) {
            self.look_at(now, node, incarnation);
        }
    }

    /// The map shows a node, or another address of it.
    pub fn look_at_node(&mut self, node: &NodeId) {
        if let Some(incarnation) = self.reach.connected(node) {
            self.look_at(self.env.clock.now_ms(), *node, incarnation);
        }
    }

    /// A peer has connected: it may die at any moment.
    pub fn on_peer_accepted(&mut self, id: ConnId, peer: &Hello) {
        if self.is_of_interest(peer) {
            let now = self.env.clock.now_ms();
            self.reach.note_connected(now, id, peer.node, peer.incarnation);
            self.look_at(now, peer.node, peer.incarnation);
        }
    }

    fn look_at(&mut self, now: u64, node: NodeId, incarnation: Incarnation) {
        let Some(address) = self.address_of(&node) else { return };
        if !self.reach.begin(now, node, incarnation, &address) {
            return;
        }
        let (env, identity, config) = (self.env.clone(), self.identity(), self.conn_config.clone());
        let events = self.events.clone();
        tokio::spawn(async move {
            let look = net::look(&env, identity, node, &address, &config).await;
            let is_reached = look == net::Look::Answered(incarnation);
            events.send(Event::Tried { node, incarnation, address, is_reached }).ok();
        });
    }

    pub fn on_tried(&mut self, node: NodeId, incarnation: Incarnation, address: &Address, is_reached: bool) {
        self.reach.end();
        if is_reached {
            self.reach.note_reached(node, incarnation, address);
        }
        let now = self.env.clock.now_ms();
        while let Some((node, incarnation)) = self.reach.next_waiting() {
            self.look_at(now, node, incarnation);
        }
    }

    /// A connection from another node broke: find out whether its process is gone.
    pub fn on_peer_closed(&mut self, id: ConnId, peer: &Hello) {
        self.unsubscribe(id);
        self.reach.note_disconnected(id, &peer.node);
        if !self.is_of_interest(peer) {
            return;
        }
        let Some(address) = self.address_of(&peer.node) else { return };
        let was_reached = self.reach.is_reached(&peer.node, peer.incarnation, &address);
        let (env, identity, config) = (self.env.clone(), self.identity(), self.conn_config.clone());
        let (node, incarnation, events) = (peer.node, peer.incarnation, self.events.clone());
        tokio::spawn(async move {
            let is_dead = net::is_process_gone(&env, identity, node, incarnation, &address, &config, was_reached).await;
            events.send(Event::Probed { node, incarnation, is_dead }).ok();
        });
    }

    pub fn on_probed(&mut self, node: NodeId, incarnation: Incarnation, is_dead: bool) {
        if !is_dead {
            return;
        }
        tracing::info!(%node, %incarnation, "a process is gone");
        let proof = ProofOfDeath { node, incarnation };
        let bound_ms = self.node.promise.blocked_until_ms();
        self.node.promise.on_proof_of_death(proof);
        self.root_proof(proof);
        // A candidate is free now, and the roots want to know. Of a node of another shard they know themselves: a root finds
        // thousands dead at once and has nothing to say for itself.
        let is_of_shard = self.map.shard_of(&self.me()).is_some_and(|shard| shard.members().any(|id| id == node));
        if is_of_shard || self.node.promise.blocked_until_ms() != bound_ms {
            self.send_heartbeats();
            self.update_lease();
        }
    }
}
