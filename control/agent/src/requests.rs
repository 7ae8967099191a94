// SPDX-License-Identifier: BSD-3-Clause
//! One function per request of a client: which command it becomes, what must hold before, and what
//! the client hears. `joining` has MEET. Runs as a task of its own for each request.

use std::time::Duration;

use pando_root_state::{Command, Outcome};
use pando_topology::{NodeId, ShardId, Slot, SlotSet};
use pando_wire::messages::{Call, Reply};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::api::{Answer, DataPlane, Request, SetSlot};
use crate::event::Change;
use crate::flow::{COMMIT_TIMEOUT, Flow, NO_MAJORITY};
use crate::net::{self, Address};

/// How long a question to one root may take whose answer is not worth waiting for.
const ROOT_TIMEOUT: Duration = Duration::from_millis(500);

impl Flow {
    /// Carries out one request.
    pub async fn request(self, request: Request, plane: &dyn DataPlane) -> Result<Answer, String> {
        let me = self.view().identity.node;
        let command = match request {
            Request::Meet { host, port, cluster_port } => {
                return self.meet(host, port, cluster_port).await;
            }
            Request::AddSlots(slots) => Command::AddSlots { node: me, slots },
            Request::DelSlots(slots) => {
                let command = Command::DelSlots { node: me, slots: slots.clone() };
                return self.give_away(Some(&slots), command).await;
            }
            Request::FlushSlots => return self.give_away(None, Command::FlushSlots { node: me }).await,
            Request::Replicate(of) => Command::Replicate { node: me, of },
            Request::Chain(to) => Command::Chain { node: me, to },
            Request::Detach => Command::Detach { node: me, shard: ShardId::random(|bytes| self.env.rng.fill(bytes)) },
            Request::Forget(node) => Command::Forget { node, by: me },
            Request::Reset { hard, as_replica } => return self.reset(hard, as_replica).await,
            Request::Failover(mode) => return self.failover(mode, plane).await,
            Request::HandOver(limit) => return self.hand_over(limit).await,
            Request::SetConfigEpoch(epoch) => Command::SetConfigEpoch { node: me, epoch },
            Request::SetRootCount(count) => return self.set_root_count(count).await,
            Request::BumpEpoch => return self.bump_epoch(me).await,
            Request::SetSlot(slot, action) => return self.set_slot(slot, action, me).await,
            Request::Explain(question) => return self.explain(question).await,
            Request::Links => return self.list_links().await,
            Request::Offsets => return self.offsets().await,
            Request::CountFailureReports(node) => return self.count_failures(node).await,
            // The driver forwards published messages itself, and collects reads.
            Request::Publish { .. } | Request::ReadBarrier => return Ok(Answer::Ok),
        };
        self.commit(command).await.map(|_| Answer::Ok)
    }

    async fn set_root_count(&self, count: u8) -> Result<Answer, String> {
        self.commit(Command::SetRootCount { count }).await?;
        self.change(Change::NoteRootCount { count, is_start: false }).await?;
        Ok(Answer::Ok)
    }

    async fn bump_epoch(&self, node: NodeId) -> Result<Answer, String> {
        let outcome = self.commit(Command::BumpEpoch { node }).await?;
        let text = match &outcome {
            Outcome::Answer(text) => text.as_str(),
            Outcome::Done | Outcome::Refused(_) | Outcome::Batch(_) => "",
        };
        let epoch = text.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok(Answer::Epoch { epoch, bumped: text.starts_with("BUMPED") })
    }

    async fn set_slot(&self, slot: Slot, action: SetSlot, me: NodeId) -> Result<Answer, String> {
        match action {
            SetSlot::Node(to) => {
                let mut slots = SlotSet::new();
                slots.insert(slot);
                // The owner itself may give its slot away; anybody else only a free one.
                let command = Command::SetSlotOwner { slots: slots.clone(), to, consent: Some(me) };
                match to == me {
                    true => self.commit(command).await.map(|_| Answer::Ok),
                    false => self.give_away(Some(&slots), command).await,
                }
            }
            SetSlot::Stable => Ok(Answer::Ok),
            SetSlot::Migrating(_) | SetSlot::Importing(_) => {
                Err("ERR Moving single keys between nodes is not supported".into())
            }
        }
    }

    /// Asks every root, all at once, what it thinks of the node.
    async fn count_failures(&self, node: NodeId) -> Result<Answer, String> {
        let view = self.view();
        if view.map.node(&node).is_none() {
            return Err(format!("ERR Unknown node {node}"));
        }
        let mut asked = JoinSet::new();
        for root in view.roots() {
            let address = Address { host: root.host, port: root.cluster_port };
            let (env, identity, call) = (self.env.clone(), view.identity, Call::CountFailures(node));
            let config = self.conn_config.clone();
            asked.spawn(async move { net::call(&env, identity, &address, &call, ROOT_TIMEOUT, &config).await });
        }
        let mut count = 0;
        while let Some(answer) = asked.join_next().await {
            if let Ok(Ok(Reply::Count(n))) = answer {
                count += n;
            }
        }
        Ok(Answer::Count(count))
    }

    /// The replication offsets of all nodes, by the root that leads or else any other.
    async fn offsets(&self) -> Result<Answer, String> {
        let view = self.view();
        if view.group.is_some() && view.map.roots().contains(&view.identity.node) {
            return self.own_offsets().await;
        }
        let mut roots = view.roots();
        roots.sort_by_key(|root| (Some(root.node) != view.leader, root.node));
        for root in roots.into_iter().take(2) {
            let address = Address { host: root.host, port: root.cluster_port };
            let asked =
                net::call(&self.env, view.identity, &address, &Call::Offsets, ROOT_TIMEOUT, &self.conn_config).await;
            if let Ok(Reply::Offsets(offsets)) = asked {
                return Ok(Answer::Offsets(offsets));
            }
        }
        Err(NO_MAJORITY.into())
    }

    /// `CLUSTER RESET`: leaves the cluster if there is one, then starts afresh as an island.
    async fn reset(&self, hard: bool, as_replica: bool) -> Result<Answer, String> {
        let view = self.view();
        if view.joining {
            return Err("ERR The node is about to join another cluster".into());
        }
        let me = view.identity.node;
        let is_member = view.map.nodes().len() > 1 && view.map.node(&me).is_some();
        if is_member {
            let deadline = Instant::now() + COMMIT_TIMEOUT;
            let proposal = self.proposal(Command::Reset { node: me, hard, as_replica });
            match self.propose(&proposal, None, deadline).await {
                Ok(_) => {}
                // Somebody has forgotten this node already, which is half of what was asked.
                Err(crate::flow::ProposeError::Refused(text)) if text.starts_with("ERR Unknown node") => {}
                // The cluster let it go, but the answer was lost with the connection, and the next attempt met the
                // island that it is by now.
                Err(_) if self.view().identity.cluster != view.identity.cluster => {}
                Err(error) => return Err(error.into()),
            }
        }
        if is_member {
            self.let_go().await;
        }
        self.change(Change::BecomeIsland { hard }).await?;
        let cluster = view.identity.cluster;
        self.until(Instant::now() + COMMIT_TIMEOUT, |v| {
            v.identity.cluster != cluster && v.myself().is_some() && !(hard && v.identity.node == me)
        })
        .await;
        Ok(Answer::Ok)
    }
}
