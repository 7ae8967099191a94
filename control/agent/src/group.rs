// SPDX-License-Identifier: BSD-3-Clause
//! This node's member of the root group, as the rest of the agent uses it: node ids instead of voter
//! ids, and errors reduced to "ask that one". Every node that may become a root runs one, idle until a
//! leader adds it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pando_env::Env;
use pando_raft::{ProposeError, Raft, RaftConfig, ReadError, RootAddress, Status};
use pando_root_state::{History, Outcome, Proposal, Stamp};
use pando_topology::{ClusterMap, NodeId, TopologyVersion};
use pando_wire::{Handler, Identity, Keyring};
use tokio::sync::watch;

use crate::flow::View;
use crate::home::Home;

/// How long a leader that stops tries to hand over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a member is started with.
pub(crate) struct GroupConfig {
    pub env: Env,
    /// Where it runs.
    pub home: Home,
    pub dir: PathBuf,
    pub identity: Identity,
    /// The id of a member whose files do not exist yet, if it was announced.
    pub new_voter: Option<u64>,
    pub lease_ms: u64,
    /// Where the present addresses of nodes are found.
    pub view: watch::Receiver<View>,
    /// The keys of this node and of the others.
    pub keyring: Option<Keyring>,
    /// This node is the only voter: see [`RaftConfig::loses_damaged_end`].
    pub is_only_voter: bool,
    /// See [`crate::AgentConfig::snapshot_entries`].
    pub snapshot_entries: u64,
}

/// Why a member could not be started.
#[derive(Debug)]
pub(crate) struct GroupError {
    /// For people.
    pub text: String,
    /// Its files are there and cannot be used: to try again is in vain.
    pub is_damage: bool,
}

/// A running member. Clones share it.
#[derive(Clone)]
pub(crate) struct Group {
    raft: Raft,
    home: Home,
    node: NodeId,
    clock: Arc<dyn pando_env::Clock>,
}

impl Group {
    pub async fn start(config: GroupConfig) -> Result<Self, GroupError> {
        let mut raft = RaftConfig::new(config.dir, config.identity);
        raft.loses_damaged_end = config.is_only_voter;
        raft.new_voter = config.new_voter;
        raft.keyring = config.keyring;
        raft.snapshot_every_entries = config.snapshot_entries;
        raft.keep_entries = raft.keep_entries.min(config.snapshot_entries / 2);
        raft.log_entries_max = 2 * config.snapshot_entries;
        // Elections must be over well before leases are.
        if config.lease_ms < 1000 {
            raft.heartbeat_ms = 30;
            raft.election_min_ms = 100;
            raft.election_max_ms = 200;
        }
        let (view, node, clock) = (config.view, config.identity.node, config.env.clock.clone());
        raft.resolver = Some(Arc::new(move |node: &NodeId| {
            let address = view.borrow().address(node).filter(|address| !address.host.is_empty())?;
            Some((address.host, address.port))
        }));
        let (home, env) = (config.home, config.env);
        match home.run(async move { Raft::start(raft, &env).await }).await {
            Ok(raft) => Ok(Self { raft, home, node, clock }),
            Err(error) => Err(GroupError { text: error.to_string(), is_damage: error.is_damage() }),
        }
    }

    /// Makes this member a group of its own, unless it belongs to one.
    pub async fn initialize(&self, address: RootAddress) -> Result<(), String> {
        if self.raft.is_initialized().await.map_err(|error| error.to_string())? {
            return Ok(());
        }
        self.raft.initialize(address).await.map_err(|error| error.to_string())
    }

    pub fn voter(&self) -> u64 {
        self.raft.voter()
    }

    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(self.raft.handler())
    }

    pub fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    pub fn status(&self) -> Status {
        self.raft.status()
    }

    pub fn map(&self) -> Arc<ClusterMap> {
        self.raft.map()
    }

    /// What was decided and why. Not to be kept.
    pub fn history(&self) -> Arc<History> {
        self.raft.history()
    }

    /// See `Raft::digest`.
    pub fn digest(&self) -> (u64, u64) {
        self.raft.digest()
    }

    /// The node that leads, as far as known.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.leader_node()
    }

    /// Commits; `Err` names the leader if another one is known. An unknown outcome is an error, too:
    /// whoever repeats it does so with the same request id.
    pub async fn propose(&self, mut proposal: Proposal) -> Result<(Outcome, TopologyVersion), Option<NodeId>> {
        let term = self.raft.status().term;
        proposal.stamp = Stamp { root: Some(self.node), term, unix_ms: self.clock.unix_ms() };
        match self.raft.propose(&proposal).await {
            Ok(done) => {
                // The entry is applied; the map has its version or, without effect, an older one.
                Ok((done.outcome, self.raft.map().version().min(TopologyVersion(done.index))))
            }
            Err(ProposeError::NotLeader(leader)) => Err(leader.map(|(_, address)| address.node)),
            Err(ProposeError::NoQuorum | ProposeError::Unknown | ProposeError::Stopped(_)) => Err(None),
        }
    }

    /// The version that includes everything committed before the call.
    pub async fn barrier(&self) -> Result<TopologyVersion, Option<NodeId>> {
        // The connection on which the leader is asked belongs to the member.
        let raft = self.raft.clone();
        match self.home.run(async move { raft.read_barrier().await }).await {
            Ok(_) => Ok(self.raft.map().version()),
            Err(ReadError::NoLeader) => Err(self.leader()),
            Err(ReadError::NoQuorum | ReadError::Timeout | ReadError::Stopped(_)) => Err(None),
        }
    }

    /// Whether the members are these voters and, without a vote, at most those to be kept.
    pub fn has_members(&self, voters: &BTreeSet<u64>, kept: &BTreeSet<u64>) -> bool {
        let status = self.raft.status();
        !status.is_joint && status.voters == *voters && status.learners.is_subset(kept)
    }

    /// Makes this member one without a vote, unless it has one, and waits until it has what is committed.
    pub async fn add(&self, voter: u64, address: &RootAddress) -> Result<(), String> {
        if self.raft.status().voters.contains(&voter) {
            return Ok(());
        }
        self.raft.add_learner(voter, address.clone()).await.map_err(|error| error.to_string())
    }

    /// Brings the members to these voters; one step or several, all safe to repeat. Of those that lose
    /// their vote the `kept` stay without one.
    pub async fn become_voters(&self, voters: &BTreeMap<u64, RootAddress>, kept: &BTreeSet<u64>) -> Result<(), String> {
        let status = self.raft.status();
        for (voter, address) in voters {
            if !status.addresses.contains_key(voter) {
                self.add(*voter, address).await?;
            }
        }
        let wanted: BTreeSet<u64> = voters.keys().copied().collect();
        // A leader that votes itself out confuses the library when another change follows; somebody
        // who stays should make the change.
        if !wanted.contains(&status.voter) && wanted.iter().any(|voter| status.voters.contains(voter)) {
            let moved = self.raft.transfer_leader(Some(&wanted)).await;
            return Err(moved.map_or_else(|error| error.to_string(), |()| "handed over first".into()));
        }
        if status.is_joint || status.voters != wanted {
            self.raft.exchange_voters(wanted.clone()).await.map_err(|error| error.to_string())?;
        }
        let learners = self.raft.status().learners;
        let extra: BTreeSet<u64> = learners.difference(kept).filter(|id| !wanted.contains(id)).copied().collect();
        if !extra.is_empty() {
            self.raft.remove_learners(extra).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Calls `changed` after each change of the map, the leader or the voters, until the member
    /// stops. Other changes of the status come with every heartbeat and interest nobody.
    pub async fn watch(self, changed: impl Fn() -> bool) {
        let (mut map, mut status) = (self.raft.watch_map(), self.raft.watch_status());
        let key = |s: &Status| (s.leader, s.is_leader, s.term, s.voters.clone(), s.stopped.clone());
        let mut known = key(&status.borrow());
        loop {
            tokio::select! {
                biased;
                Ok(()) = map.changed() => {}
                result = status.changed() => {
                    if result.is_err() {
                        // Its end, by itself or not, is the last news.
                        changed();
                        return;
                    }
                    let new = key(&status.borrow_and_update());
                    if new == known {
                        continue;
                    }
                    known = new;
                }
            }
            if !changed() {
                return;
            }
        }
    }

    /// The other voters that run on a node which is fit.
    pub fn heirs(&self, is_fit: impl Fn(&NodeId) -> bool) -> BTreeSet<u64> {
        let status = self.raft.status();
        let others = status.voters.iter().copied().filter(|voter| *voter != status.voter);
        others.filter(|voter| status.addresses.get(voter).is_some_and(|address| is_fit(&address.node))).collect()
    }

    /// Hands leadership to one of these voters.
    pub async fn hand_over(&self, to: &BTreeSet<u64>) -> Result<(), String> {
        self.raft.transfer_leader(Some(to)).await.map_err(|error| error.to_string())
    }

    /// This member leads, and there is another voter.
    pub fn can_hand_over(&self) -> bool {
        self.raft.is_leader() && self.raft.status().voters.len() > 1
    }

    /// Hands leadership over if this member leads and somebody can take it.
    pub async fn let_another_lead(&self) {
        if self.raft.is_leader() && self.raft.status().voters.len() > 1 {
            match tokio::time::timeout(HAND_OVER_TIMEOUT, self.raft.transfer_leader(None)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "leadership was not handed over"),
                Err(_) => tracing::warn!("leadership was not handed over in time"),
            }
        }
    }

    pub async fn stop(&self) {
        self.raft.shutdown().await;
    }
}
