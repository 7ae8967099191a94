// SPDX-License-Identifier: BSD-3-Clause
//! What multi-step requests share: the view of the agent's state that they read, the way to commit a
//! proposal through whichever root leads, and the way to ask the driver for a change. Flows run as
//! tasks beside the driver and own no state. `requests` and `joining` build on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pando_env::Env;
use pando_root_state::{Command, NodeInfo, Outcome, Proposal, RequestId};
use pando_topology::{ClusterId, ClusterMap, Node, NodeId, NodeKey, TopologyVersion};
use pando_wire::messages::{CALL, Call, Contact, Reply};
use pando_wire::{Conn, ConnConfig, Identity};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::api::AgentConfig;
use crate::driver::Driver;
use crate::event::{Change, Event};
use crate::explain::is_repeated_refusal;
use crate::group::Group;
use crate::net::{self, Address, Events, LinkKind};
use crate::node_state::random_u128;

/// What clients hear when no majority of the roots answers.
pub(crate) const NO_MAJORITY: &str = "CLUSTERDOWN No majority of the roots is reachable";

/// How long a client waits for a change to be committed.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The driver's state, as flows see it.
#[derive(Clone)]
pub(crate) struct View {
    pub identity: Identity,
    /// The configuration in force; what flows were started with may be older.
    pub config: Arc<AgentConfig>,
    /// By which this node proves who it is.
    pub key: NodeKey,
    /// Announced address; empty until learned.
    pub host: String,
    /// This node's id in the root group, if it may become a root.
    pub voter: Option<u64>,
    pub map: Arc<ClusterMap>,
    /// Addresses of nodes that are newer than those in the map.
    pub book: Arc<BTreeMap<NodeId, Address>>,
    /// Where roots were last seen, for a node without a map.
    pub contacts: Vec<Contact>,
    /// The leading root, if known.
    pub leader: Option<NodeId>,
    /// This node's member of the root group.
    pub group: Option<Group>,
    /// A join is under way.
    pub joining: bool,
    /// Replica: the version at which its reigning primary told it that it needs its promise.
    pub told_at: TopologyVersion,
    /// This process does not write before that; see `ReplicaPromise`.
    pub bound_until_ms: u64,
    /// This node writes for its shard, and a replica could take over from it.
    pub is_backed: bool,
}

impl View {
    /// The roots, with the addresses by which they can be reached.
    pub fn roots(&self) -> Vec<Contact> {
        let known: Vec<Contact> = self
            .map
            .voters()
            .filter_map(|(_, node)| {
                let Address { host, port } = self.address(&node.id)?;
                Some(Contact { node: node.id, host, cluster_port: port })
            })
            .collect();
        if known.is_empty() { self.contacts.clone() } else { known }
    }

    /// Where a node's cluster port is.
    pub fn address(&self, node: &NodeId) -> Option<Address> {
        let known = || self.map.node(node).map(|n| Address { host: n.host.clone(), port: n.cluster_port });
        self.book.get(node).cloned().or_else(known)
    }

    /// This node as the map has it.
    pub fn myself(&self) -> Option<&Node> {
        self.map.node(&self.identity.node)
    }
}

/// What flows hold.
#[derive(Clone)]
pub(crate) struct Flow {
    pub env: Env,
    pub config: Arc<AgentConfig>,
    pub events: Events,
    pub view: watch::Receiver<View>,
    /// Limits, and the keys.
    pub conn_config: ConnConfig,
}

/// Why a proposal came to nothing.
#[derive(Debug)]
pub(crate) enum ProposeError {
    /// Final text for the client; certainly not done.
    Refused(String),
    /// Certainly not done, another try may succeed.
    Busy(String),
    /// Nobody confirmed it in time; it may still be done.
    Unknown,
}

impl From<ProposeError> for String {
    fn from(error: ProposeError) -> String {
        match error {
            ProposeError::Refused(text) | ProposeError::Busy(text) => text,
            ProposeError::Unknown => NO_MAJORITY.into(),
        }
    }
}

impl Flow {
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// A fresh proposal of a client.
    pub fn proposal(&self, command: Command) -> Proposal {
        Proposal::new(RequestId(random_u128(&self.env)), command)
    }

    /// Asks the driver for a change of this node's own state.
    pub async fn change(&self, change: Change) -> Result<(), String> {
        let (done, wait) = oneshot::channel();
        self.events.send(Event::Change(change, done)).ok();
        wait.await.unwrap_or_else(|_| Err("ERR The cluster agent is shut down".into()))
    }

    /// Commits a proposal in this node's cluster and waits until this node's map includes it.
    pub async fn commit(&self, command: Command) -> Result<Outcome, String> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        let cluster = self.view().identity.cluster;
        let proposal = self.proposal(command);
        let (outcome, version) = self.propose(&proposal, None, deadline).await?;
        self.reach(cluster, version, deadline).await;
        Ok(outcome)
    }

    /// Waits until this node has the version (or belongs to another cluster, or the deadline).
    pub async fn reach(&self, cluster: ClusterId, version: TopologyVersion, deadline: Instant) {
        let mut view = self.view.clone();
        let reached = view.wait_for(|view| view.identity.cluster != cluster || view.map.version() >= version);
        tokio::time::timeout_at(deadline, reached).await.ok();
    }

    /// Waits until the own view fulfils a condition; says whether it did before the deadline.
    pub async fn until(&self, deadline: Instant, test: impl Fn(&View) -> bool) -> bool {
        let mut view = self.view.clone();
        matches!(tokio::time::timeout_at(deadline, view.wait_for(|v| test(v))).await, Ok(Ok(_)))
    }

    /// Commits a proposal through the leading root: of this cluster, or of the one with these roots.
    /// Retries with the same request id, so it has its effect once.
    pub async fn propose(
        &self,
        proposal: &Proposal,
        foreign: Option<&[Contact]>,
        deadline: Instant,
    ) -> Result<(Outcome, TopologyVersion), ProposeError> {
        let call = Call::Propose(Box::new(proposal.clone()));
        match self.ask_leader(&call, foreign, deadline).await? {
            Reply::Committed { outcome, version } => match outcome.refusal() {
                Some(text) => Err(ProposeError::Refused(text.to_owned())),
                None => Ok((outcome, version)),
            },
            other => Err(ProposeError::Refused(format!("ERR Unexpected answer of a root: {other:?}"))),
        }
    }

    /// Puts a call to the leading root, wherever it moves, until it answers for good.
    pub async fn ask_leader(
        &self,
        call: &Call,
        foreign: Option<&[Contact]>,
        deadline: Instant,
    ) -> Result<Reply, ProposeError> {
        let mut hint: Option<NodeId> = None;
        let mut turn = 0;
        // After an attempt whose fate is unknown a "busy" no longer means "not done".
        let mut is_certain = true;
        loop {
            let view = self.view();
            let roots = match foreign {
                Some(contacts) => contacts.to_vec(),
                None => view.roots(),
            };
            let wanted = hint.take().or(if foreign.is_none() { view.leader } else { None });
            let index = wanted.and_then(|id| roots.iter().position(|root| root.node == id));
            let left = deadline.saturating_duration_since(Instant::now());
            let target = roots.get(index.unwrap_or(turn % roots.len().max(1)));
            turn += 1;
            // Without a target: the map may name this node's roots any moment.
            if let Some(root) = target {
                match self.ask(&view, root, call, left.min(Duration::from_secs(2)), foreign.is_none()).await {
                    Ok(Reply::NotLeader(leader)) => hint = leader.filter(|id| *id != root.node),
                    Ok(Reply::Refused(text)) => return Err(ProposeError::Refused(text)),
                    Ok(Reply::Busy(text)) if foreign.is_some() && is_certain => {
                        return Err(ProposeError::Busy(text));
                    }
                    Ok(Reply::Busy(_)) => {}
                    Ok(reply) => return Ok(reply),
                    Err(error) => is_certain &= error.is_certainly_not_done(),
                }
            }
            if Instant::now() >= deadline {
                return Err(ProposeError::Unknown);
            }
            if hint.is_none() {
                let pause = Duration::from_millis(15 + self.env.rng.below(15));
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn ask(
        &self,
        view: &View,
        root: &Contact,
        call: &Call,
        deadline: Duration,
        may_use_link: bool,
    ) -> Result<Reply, pando_wire::WireError> {
        if root.node == view.identity.node {
            // Bounded like a remote call: without a majority nothing would ever come back.
            let answer = tokio::time::timeout(deadline, self.answer_as_root(view, call)).await;
            return answer.map_err(|_| pando_wire::WireError::Timeout);
        }
        // Another connection costs both sides more than most questions do.
        if may_use_link && let Some(conn) = self.link_to(root.node).await {
            return conn.call(CALL, call, deadline).await;
        }
        let address = Address { host: root.host.clone(), port: root.cluster_port };
        net::call(&self.env, view.identity, &address, call, deadline, &self.conn_config).await
    }

    /// The connection to a root that the driver keeps, if it is up.
    async fn link_to(&self, root: NodeId) -> Option<Conn> {
        let (found, wait) = oneshot::channel();
        let look = move |driver: &mut Driver| drop(found.send(driver.links.conn((LinkKind::Root, root)).cloned()));
        self.events.send(Event::Look(Box::new(look))).ok()?;
        wait.await.ok()?
    }

    /// What this node answers to a call for the leading root.
    pub async fn answer_as_root(&self, view: &View, call: &Call) -> Reply {
        let Some(group) = &view.group else { return Reply::NotLeader(view.leader) };
        match call {
            Call::Propose(proposal)
                if is_repeated_refusal(&group.history(), &proposal.command, self.env.clock.unix_ms()) =>
            {
                Reply::Committed { outcome: Outcome::Done, version: view.map.version() }
            }
            Call::Propose(proposal) if leaves(&proposal.command, &view.identity.node) && group.can_hand_over() => {
                // A leader that the map does not show could decide nothing.
                group.let_another_lead().await;
                match group.status().is_leader {
                    true => self.propose_here(group, proposal).await,
                    false => Reply::NotLeader(group.leader()),
                }
            }
            Call::Propose(proposal) => self.propose_here(group, proposal).await,
            Call::Barrier => match group.barrier().await {
                Ok(version) => Reply::Version(version),
                Err(leader) => Reply::NotLeader(leader),
            },
            Call::Explain(question) => self.answer_explain(group, *question).await,
            other => Reply::Refused(format!("ERR Not a question for the roots: {other:?}")),
        }
    }

    async fn propose_here(&self, group: &Group, proposal: &Proposal) -> Reply {
        match group.propose(proposal.clone()).await {
            Ok((outcome, version)) => Reply::Committed { outcome, version },
            Err(leader) => Reply::NotLeader(leader),
        }
    }

    /// What this node registers about itself.
    pub fn node_info(&self, view: &View) -> NodeInfo {
        node_info(&view.config, view.host.clone(), view.voter)
    }
}

/// Whether the command takes this node out of the cluster.
fn leaves(command: &Command, node: &NodeId) -> bool {
    matches!(command, Command::Forget { node: gone, .. } | Command::Reset { node: gone, .. } if gone == node)
}

/// What a node with this configuration registers about itself.
pub(crate) fn node_info(config: &AgentConfig, host: String, voter: Option<u64>) -> NodeInfo {
    NodeInfo {
        host,
        hostname: config.hostname.clone(),
        port: config.port,
        cluster_port: announced_port(config),
        tls_port: config.tls_port,
        zone: config.zone.clone(),
        replica_priority: config.replica_priority,
        no_failover: config.no_failover,
        migration_barrier: config.migration_barrier,
        root_eligible: config.roles.root,
        root_id: voter,
    }
}

fn announced_port(config: &AgentConfig) -> u16 {
    if config.announced_cluster_port == 0 { config.cluster_port } else { config.announced_cluster_port }
}

/// The node itself, as it joins a cluster.
pub(crate) fn own_node(config: &AgentConfig, view: &View, voter: Option<u64>) -> Node {
    let identity = &view.identity;
    let mut node = Node::new(identity.node, view.host.clone(), config.port);
    node.key = Some(view.key);
    node.hostname = config.hostname.clone();
    node.cluster_port = announced_port(config);
    node.tls_port = config.tls_port;
    node.incarnation = identity.incarnation;
    node.zone = config.zone.clone();
    node.is_data = config.roles.data;
    node.root_id = voter;
    node.root_eligible = config.roles.root;
    node.replica_priority = config.replica_priority;
    node.no_failover = config.no_failover;
    node.migration_barrier = config.migration_barrier;
    node
}
