// SPDX-License-Identifier: BSD-3-Clause
//! How an island becomes part of a cluster: `CLUSTER MEET`, `cluster-roots`, and the join itself.
//!
//! ```text
//!   island ──BeginJoin (durable)──► joining ──Join committed──► FinishJoin: member, own group gone
//!     ▲                               │  ▲
//!     └────────AbandonJoin────────────┘  └── restart: resumed with the same request id
//!          (refused for good)
//! ```
//! From BeginJoin on, the island gives itself no lease: the other cluster may have committed the
//! join at any moment after.

use std::time::Duration;

use pando_root_state::{Command, JoinShard, Proposal, RequestId};
use pando_topology::{ClusterId, ShardId};
use pando_wire::messages::{Call, Contact, Island, Reply};
use tokio::time::Instant;

use crate::api::Answer;
use crate::event::Change;
use crate::flow::{Flow, ProposeError, View, own_node};
use crate::net::{self, Address};
use crate::node_state::{JoinIntent, next_incarnation, random_u128};

/// How long `CLUSTER MEET` waits.
const MEET_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one question to a stranger may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

impl Flow {
    /// `CLUSTER MEET`: brings the two islands together and waits until this node knows the result.
    pub async fn meet(self, host: String, port: u16, cluster_port: u16) -> Result<Answer, String> {
        let deadline = Instant::now() + MEET_TIMEOUT;
        let port = if cluster_port == 0 { port.saturating_add(10000) } else { cluster_port };
        let address = Address { host, port };
        loop {
            let failure = match self.ask_island(&address).await {
                Ok(island) => match self.meet_island(&address, &island, deadline).await {
                    Ok(()) => {
                        let cluster = self.view().identity.cluster;
                        self.until(deadline, |view| {
                            view.identity.cluster != cluster || view.map.node(&island.node).is_some()
                        })
                        .await;
                        return Ok(Answer::Ok);
                    }
                    Err(ProposeError::Refused(text)) => return Err(text),
                    Err(ProposeError::Busy(text)) => text,
                    Err(ProposeError::Unknown) => "ERR The other cluster does not answer".into(),
                },
                Err(error) => format!("ERR Cannot reach {}:{}: {error}", address.host, address.port),
            };
            if Instant::now() >= deadline {
                return Err(failure);
            }
            // Random, so that two nodes that meet each other at once do not stay in step.
            tokio::time::sleep(Duration::from_millis(20 + self.env.rng.below(60))).await;
        }
    }

    /// Asks the roots in turn by which address they see this node; that is its own from then on.
    pub async fn learn_own_host(&self, view: &View) -> Option<()> {
        for root in view.roots().into_iter().filter(|root| root.node != view.identity.node) {
            let address = Address { host: root.host, port: root.cluster_port };
            if self.ask_island(&address).await.is_ok() && !self.view().host.is_empty() {
                return Some(());
            }
        }
        None
    }

    async fn ask_island(&self, address: &Address) -> Result<Island, String> {
        let call = Call::GetIsland { dialled: address.host.clone() };
        let identity = self.view().identity;
        match net::call(&self.env, identity, address, &call, ASK_TIMEOUT, &self.conn_config).await {
            Ok(Reply::Island(island)) => {
                if self.view().host.is_empty() && !island.your_host.is_empty() {
                    self.change(Change::LearnHost(island.your_host.clone())).await?;
                }
                Ok(island)
            }
            Ok(other) => Err(format!("unexpected answer {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn meet_island(&self, address: &Address, island: &Island, deadline: Instant) -> Result<(), ProposeError> {
        let view = self.view();
        if island.cluster == view.identity.cluster {
            let address = address.clone();
            let look = move |driver: &mut crate::driver::Driver| driver.meet_member(address);
            self.events.send(crate::event::Event::Look(Box::new(look))).ok();
            return Ok(());
        }
        if island.joining || view.joining {
            return Err(ProposeError::Busy("ERR The node is about to join another cluster".into()));
        }
        if view.map.nodes().len() <= 1 {
            // The smaller joins the larger; of two single nodes the one that was told to meet joins.
            return self.join(island.cluster, island.roots.clone(), deadline).await;
        }
        if island.size > 1 {
            return Err(ProposeError::Refused(
                "ERR Both nodes belong to clusters of several nodes; reset one of them first".into(),
            ));
        }
        let call = Call::JoinUs { cluster: view.identity.cluster, roots: view.roots() };
        let left = deadline.saturating_duration_since(Instant::now());
        match net::call(&self.env, view.identity, address, &call, left, &self.conn_config).await {
            Ok(Reply::Joined) => Ok(()),
            Ok(Reply::Refused(text)) => Err(ProposeError::Refused(text)),
            Ok(Reply::Busy(text)) => Err(ProposeError::Busy(text)),
            Ok(_) | Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Joins the cluster with these roots. After `Unknown` the intent stays and `resume_join` goes on.
    pub async fn join(
        &self,
        cluster: ClusterId,
        contacts: Vec<Contact>,
        deadline: Instant,
    ) -> Result<(), ProposeError> {
        let intent = JoinIntent {
            cluster,
            contacts,
            request: random_u128(&self.env),
            incarnation: next_incarnation(self.view().identity.incarnation, self.env.clock.unix_ms()),
            voter: self.config.roles.root.then(|| self.env.rng.next_u64().max(1)),
        };
        self.change(Change::BeginJoin(intent.clone())).await.map_err(ProposeError::Busy)?;
        match self.try_join(&intent, deadline).await {
            Err(ProposeError::Unknown) => {
                let flow = self.clone();
                tokio::spawn(async move { flow.resume_join(intent).await });
                Err(ProposeError::Unknown)
            }
            result => result,
        }
    }

    /// Goes on with a join that was begun, until the other cluster says yes or no.
    pub async fn resume_join(self, intent: JoinIntent) {
        loop {
            let deadline = Instant::now() + MEET_TIMEOUT;
            match self.try_join(&intent, deadline).await {
                Ok(()) => return,
                Err(ProposeError::Unknown) => {}
                Err(ProposeError::Refused(text) | ProposeError::Busy(text)) => {
                    tracing::warn!(text, "the join was refused");
                    return;
                }
            }
        }
    }

    async fn try_join(&self, intent: &JoinIntent, deadline: Instant) -> Result<(), ProposeError> {
        let view = self.view();
        let mut node = own_node(&self.config, &view, intent.voter);
        // What it will be after the join. Until then nobody in that cluster asks for it.
        node.incarnation = node.incarnation.max(intent.incarnation);
        let shard = node.is_data.then(|| match view.map.shard_of(&node.id) {
            Some(shard) => JoinShard { id: shard.id, epoch: shard.epoch, slots: shard.slots.clone() },
            None => {
                JoinShard { id: ShardId::random(|bytes| self.env.rng.fill(bytes)), epoch: 0, slots: Default::default() }
            }
        });
        let command = Command::Join { node: Box::new(node), shard };
        let proposal = Proposal::new(RequestId(intent.request), command);
        match self.propose(&proposal, Some(&intent.contacts), deadline).await {
            Ok((_, version)) => {
                self.change(Change::FinishJoin(intent.clone())).await.map_err(ProposeError::Refused)?;
                self.reach(intent.cluster, version, deadline).await;
                Ok(())
            }
            Err(ProposeError::Unknown) => Err(ProposeError::Unknown),
            Err(error) => {
                self.change(Change::AbandonJoin).await.map_err(ProposeError::Refused)?;
                Err(error)
            }
        }
    }

    /// `cluster-roots`: the first in the list is the island that all others join.
    pub async fn join_configured_roots(self) {
        let targets: Vec<Address> = self.config.roots.iter().filter_map(|text| parse_root(text)).collect();
        loop {
            for (index, address) in targets.iter().enumerate() {
                let Ok(island) = self.ask_island(address).await else { continue };
                let view = self.view();
                if island.cluster == view.identity.cluster && island.node != view.identity.node {
                    return;
                }
                if island.node == view.identity.node {
                    if index == 0 {
                        return;
                    }
                    continue;
                }
                // Another single node waits for the first one, just like this one.
                if (index == 0 || island.size > 1) && !island.joining {
                    let deadline = Instant::now() + MEET_TIMEOUT;
                    match self.join(island.cluster, island.roots, deadline).await {
                        // Unknown goes on by itself.
                        Ok(()) | Err(ProposeError::Unknown) => return,
                        Err(error) => tracing::debug!(?error, "cannot join yet"),
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(30 + self.env.rng.below(30))).await;
        }
    }
}

/// `host:port` with the client port; the cluster port is 10000 above, or behind an `@`.
pub(crate) fn parse_root(text: &str) -> Option<Address> {
    let (text, cluster_port) = match text.split_once('@') {
        Some((text, port)) => (text, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = cluster_port.or_else(|| port.checked_add(10000))?;
    Some(Address { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_named_by_their_client_port() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let expected = expected.map(|(host, port)| Address { host: host.into(), port });
            assert_eq!(parse_root(text), expected, "{text}");
        };
        check("10.0.0.1:6379", Some(("10.0.0.1", 16379)));
        check("[::1]:6379", Some(("::1", 16379)));
        check("10.0.0.1:6379@7000", Some(("10.0.0.1", 7000)));
        check("10.0.0.1:6379@x", None);
        check("host", None);
        check("host:65000", None);
    }
}
