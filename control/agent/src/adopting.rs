// SPDX-License-Identifier: BSD-3-Clause
//! The driver takes over newer maps: what changes for this node, what of it has to be on disk, and what the data plane
//! hears. `following` and `root_side` get the maps.

use std::sync::Arc;

use pando_topology::{ClusterMap, Node, TopologyVersion};
use pando_wire::messages::Contact;

use crate::driver::Driver;
use crate::event::Change;
use crate::node_state::KnownReign;

impl Driver {
    /// Takes over a newer map of this cluster.
    pub fn adopt_map(&mut self, map: Arc<ClusterMap>) {
        let me = self.me();
        let is_newer = map.cluster_id() == self.state.cluster && (map.version() > self.map.version());
        if !is_newer {
            return;
        }
        let old = std::mem::replace(&mut self.map, map);
        self.book.prune(&self.map);
        let claim = self.node.lease.claim();
        self.node.lease.on_map(&self.map);
        self.note_superseded(&old);
        let has_lost_reign = claim.is_some() && self.node.lease.claim() != claim;
        if has_lost_reign {
            // Stop writing before anybody can learn from this node that it has stopped.
            self.plane.lease(0, self.node.cluster_ok);
            self.node.lease_until_ms = 0;
            let members = old.shard_of(&me).map(|shard| shard.members().filter(|id| *id != me).collect());
            self.node.ended = claim.map(|claim| (claim, members.unwrap_or_default()));
        }
        if self.map.node(&me).is_some() {
            self.state.is_founding = false;
            self.plane.topology(self.map.clone(), me);
        }
        if has_lost_reign {
            // Clients that waited for a planned failover are told where to go.
            drop(self.plane.pause_writes(None));
        }
        let roots_changed = old.roots() != self.map.roots();
        self.keep_map(roots_changed);
        self.update_lease();
        let mine_changed = old.shard_of(&me) != self.map.shard_of(&me);
        if mine_changed {
            self.node.eager_until_ms = self.env.clock.now_ms() + self.config.lease_ms;
        }
        let since = |map: &ClusterMap| map.node(&me).map(|node| node.promotable_since);
        if since(&old) != since(&self.map) {
            // What a primary has told this node already may be news now.
            self.persist();
            self.send_heartbeats();
        } else if roots_changed || mine_changed {
            self.send_heartbeats();
        }
        self.relink();
        self.update_view();
        if old.node(&me).is_some() && self.map.node(&me).is_none() && self.state.joining.is_none() {
            self.leave_when_let_go();
        }
    }

    /// Says why this process does not write any more, if a newer one of the same node is there.
    fn note_superseded(&self, old: &ClusterMap) {
        let (me, mine) = (self.me(), self.state.incarnation);
        let newer = |map: &ClusterMap| map.node(&me).filter(|node| node.incarnation > mine).cloned();
        if let Some(node) = newer(&self.map).filter(|_| newer(old).is_none()) {
            tracing::error!(
                "another process of this node ({me}) has started at {}:{}: its files were copied, or two processes use them. \
                 This one stops writing for good; end it",
                node.host,
                node.port
            );
        }
    }

    /// The voters that the map shows.
    fn contacts(&self) -> Vec<Contact> {
        let contact = |node: &Node| Contact { node: node.id, host: node.host.clone(), cluster_port: node.cluster_port };
        self.map.voters().map(|(_, node)| contact(node)).collect()
    }

    /// Writes down what the new map means for this node; the map itself soon.
    fn keep_map(&mut self, roots_changed: bool) {
        let me = self.me();
        let known = self.map.shard_of(&me).map(|shard| KnownReign {
            version: self.map.version(),
            shard: shard.id,
            reign: shard.reign,
            primary: shard.primary,
            incarnation: shard.primary_incarnation,
        });
        let is_same =
            |known: KnownReign| self.state.reign.map(|r| KnownReign { version: known.version, ..r }) == Some(known);
        let has_reign = known.is_some_and(|known| !is_same(known));
        if has_reign {
            self.state.reign = known;
        }
        if roots_changed {
            self.state.contacts = self.contacts();
        }
        if has_reign || roots_changed {
            self.persist();
        }
        if !self.config.maps.is_shared() && self.unstored_ms.is_none() {
            // A map of ten nodes after a tenth of a second, one of ten thousand after five.
            let pause_ms = (self.map.nodes().len() as u64 / 2).clamp(100, 10_000);
            self.unstored_ms = Some(self.env.clock.now_ms() + pause_ms);
        }
    }

    /// Forgotten, or reset: becomes an island when the roots can do without it.
    fn leave_when_let_go(&self) {
        let flow = self.flow();
        let cluster = self.state.cluster;
        tokio::spawn(async move {
            flow.let_go().await;
            let view = flow.view();
            if view.identity.cluster == cluster && view.myself().is_none() {
                flow.change(Change::BecomeIsland { hard: false }).await.ok();
            }
        });
    }

    /// The reign of the own shard as of this version is on disk.
    pub fn on_stored(&mut self, version: TopologyVersion) {
        if version <= self.map.version() {
            self.node.lease.note_durable(version);
            self.update_lease();
        }
    }
}
