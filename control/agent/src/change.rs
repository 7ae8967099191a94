// SPDX-License-Identifier: BSD-3-Clause
//! Changes of what this node is: founding an island, joining, leaving, becoming a root. Each is
//! written to the state file before anybody acts on it. The driver calls this, one at a time.

use std::sync::Arc;

use pando_raft::RootAddress;
use pando_root_state::{Command, JoinShard};
use pando_topology::{ClusterId, ClusterMap, Incarnation, ShardId};
use std::collections::BTreeMap;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use crate::api::AgentError;
use crate::driver::Driver;
use crate::event::{Change, Event};
use crate::flow::{Flow, ProposeError, own_node};
use crate::group::{Group, GroupConfig};
use crate::node_state::{NO_CLUSTER, random_node_id};
use crate::root_side::RootSide;

/// A process that asks for the map has it after so long, or has to tell that it is there without it.
pub(crate) const MAP_SOON: Duration = Duration::from_millis(500);
/// One that has just joined is known; of many that join at the same time the last ones wait for their first map.
const FIRST_MAP: Duration = Duration::from_secs(20);

impl Driver {
    /// What a process does first: go on where its state file says it was.
    pub async fn begin(&mut self) -> Result<(), AgentError> {
        self.plane.lease(0, false);
        if self.map.node(&self.state.node).is_some() {
            self.plane.topology(self.map.clone(), self.state.node);
        }
        if self.state.cluster == NO_CLUSTER {
            self.found_island().await.map_err(AgentError::Raft)?;
        } else {
            self.start_group_as_is().await.map_err(AgentError::Raft)?;
            if self.state.is_founding {
                tokio::spawn(self.flow().found());
            }
        }
        // An island with a list of roots has not found them yet.
        let is_alone = self.map.nodes().len() <= 1 && self.state.joining.is_none();
        if is_alone && !self.config.roots.is_empty() {
            tokio::spawn(self.flow().join_configured_roots());
        }
        if let Some(intent) = self.state.joining.clone() {
            tokio::spawn(self.flow().resume_join(intent));
        } else {
            tokio::spawn(self.flow().register(MAP_SOON));
        }
        let (count, before) = (self.config.root_count as u8, [self.state.root_count, self.state.root_count_set]);
        if !before.contains(&count) {
            tokio::spawn(self.flow().tell_root_count(count));
        }
        self.relink();
        self.update_view();
        Ok(())
    }

    /// Carries out one change; the text of an error is final.
    pub async fn change(&mut self, change: Change) -> Result<(), String> {
        match change {
            Change::BeginJoin(intent) => {
                if self.state.joining.is_some() {
                    return Err("ERR The node is about to join another cluster".into());
                }
                // A proposal of a foreign join that may still be committed here.
                if self.map.nodes().len() > 1 || Arc::strong_count(&self.absorbing) > 1 {
                    return Err("ERR Another node is about to join this one".into());
                }
                self.state.joining = Some(intent);
                self.update_lease();
                self.persist_durably().await?;
            }
            Change::AbandonJoin => {
                self.state.joining = None;
                self.persist_durably().await?;
                self.update_lease();
            }
            Change::FinishJoin(intent) => {
                if self.state.cluster == intent.cluster {
                    return Ok(());
                }
                self.leave_group().await;
                self.state.cluster = intent.cluster;
                self.state.contacts = intent.contacts;
                self.state.joining = None;
                self.become_stranger(Some(intent.incarnation)).await?;
                self.start_group(true, intent.voter).await?;
                tokio::spawn(self.flow().register(FIRST_MAP));
            }
            Change::BecomeIsland { hard } => {
                self.leave_group().await;
                if hard {
                    self.state.node = random_node_id(&self.env);
                }
                self.state.joining = None;
                self.state.contacts = Vec::new();
                self.found_island().await?;
            }
            Change::LearnHost(host) => self.learn_host(host),
            Change::NoteRootCount { count, is_start: true } => {
                self.state.root_count = count;
                self.persist();
            }
            Change::NoteRootCount { count, is_start: false } => {
                self.state.root_count_set = count;
                self.persist();
            }
        }
        self.update_view();
        Ok(())
    }

    /// Takes an address that somebody reached this node by, if it has none, and tells the roots.
    pub fn learn_host(&mut self, host: String) {
        if !self.state.host.is_empty() {
            return;
        }
        self.state.host = host;
        self.persist();
        self.update_view();
        tokio::spawn(self.flow().register(MAP_SOON));
    }

    /// A new cluster of this node alone (none yet, on a node that may not be a root).
    async fn found_island(&mut self) -> Result<(), String> {
        self.state.cluster = ClusterId::random(|bytes| self.env.rng.fill(bytes));
        self.state.is_founding = self.config.roles.root;
        self.become_stranger(None).await?;
        self.start_group(true, None).await?;
        if self.state.is_founding {
            tokio::spawn(self.flow().found());
        }
        Ok(())
    }

    /// The identity has changed: nothing that was promised or connected under the old one counts.
    /// `incarnation`: the next one, if it was announced.
    async fn become_stranger(&mut self, incarnation: Option<Incarnation>) -> Result<(), String> {
        self.plane.lease(0, false);
        self.map = Arc::new(ClusterMap::empty(self.state.cluster));
        self.state.reign = None;
        self.unstored_ms = None;
        self.state.told = None;
        self.state.root_files += 1;
        // As good as a new process: numbers of heartbeats start afresh.
        match incarnation.filter(|next| *next > self.state.incarnation) {
            Some(next) => self.state.incarnation = next,
            None => self.state.begin_incarnation(self.env.clock.unix_ms()),
        }
        self.persist_durably().await?;
        // Only now: a crash before must find the files of the group that the state names.
        let former = self.file.root_dir(self.state.root_files - 1);
        if let Err(error) = self.env.disk.remove_dir(&former).await {
            tracing::warn!(%error, "files of the former root group stay behind");
        }
        self.links.clear();
        for conn in self.inbound.values() {
            conn.close();
        }
        self.node.begin_cluster(&self.state);
        self.relink();
        self.update_view();
        Ok(())
    }

    /// Starts this node's member of the root group, if it may be a root. `is_new`: its folder is new,
    /// so no process before this one can have promised anything as a root of this cluster. `voter`: its id then, if it was
    /// announced.
    pub async fn start_group(&mut self, is_new: bool, voter: Option<u64>) -> Result<(), String> {
        if !self.config.roles.root {
            return Ok(());
        }
        let group = Group::start(GroupConfig { new_voter: voter, ..self.group_config() }).await;
        let group = group.map_err(|error| error.text)?;
        if self.state.is_founding {
            let host = self.state.host.clone();
            let address = RootAddress { node: self.state.node, host, port: self.config.cluster_port };
            group.initialize(address).await?;
        }
        self.adopt_group(group, is_new);
        Ok(())
    }

    pub fn group_config(&self) -> GroupConfig {
        GroupConfig {
            env: self.env.clone(),
            home: self.home.clone(),
            dir: self.file.root_dir(self.state.root_files),
            identity: self.identity(),
            new_voter: None,
            lease_ms: self.config.lease_ms,
            view: self.view.subscribe(),
            keyring: self.conn_config.keyring.clone(),
            is_only_voter: !self.can_be_replaced_as_root(),
            snapshot_entries: self.config.snapshot_entries,
        }
    }

    /// From here on this node has a member of the root group. `is_new`: see `start_group`.
    pub fn adopt_group(&mut self, group: Group, is_new: bool) {
        // A holder must be able to tell this ledger from the one that it has a promise of.
        let incarnation = Incarnation(self.state.incarnation.0 + self.reopened);
        let note = self.root_note.take().filter(|_| !is_new);
        let node = self.state.node;
        self.root = Some(RootSide::new(&self.env, &self.config, node, incarnation, is_new, note.as_ref()));
        let events = self.events.clone();
        let watched = group.clone().watch(move || events.send(Event::RootsChanged).is_ok());
        // There, because the member's status changes with each heartbeat, and most changes mean nothing here.
        self.group_watch = Some(self.home.spawn(watched));
        self.group = Some(group);
        self.update_view();
        self.on_roots_changed();
    }

    /// Stops being a root, and forgets what it knew as one.
    pub async fn leave_group(&mut self) {
        let Some(group) = self.group.take() else { return };
        self.plane.lease(0, false);
        if let Some(watch) = self.group_watch.take() {
            watch.abort();
        }
        self.root = None;
        group.stop().await;
    }

    /// Writes the state in the background; for what is only a cache.
    pub fn persist(&self) {
        self.store.send((self.state.clone(), None)).ok();
    }

    /// Writes the state and waits until it is durable.
    pub async fn persist_durably(&self) -> Result<(), String> {
        let (done, wait) = oneshot::channel();
        self.store.send((self.state.clone(), Some(done))).ok();
        match wait.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("ERR Cannot write the node's state: {error}")),
            Err(_) => Err("ERR The cluster agent is shut down".into()),
        }
    }
}

impl Flow {
    /// Waits, within bounds, until the root group does without this node's vote.
    pub async fn let_go(&self) {
        for _ in 0..200 {
            let view = self.view();
            let Some(group) = &view.group else { return };
            let status = group.status();
            // The only voter of a cluster that has other nodes stays until one of them has taken over. A leader that
            // has voted itself out stays until the others know: until then they need its vote.
            let is_telling = status.is_leader && status.members_since > status.last_applied;
            if (!status.voters.contains(&group.voter()) && !is_telling) || view.map.nodes().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// First entries of an island: its name, its node, its root. Repeats until they are there.
    pub async fn found(self) {
        let cluster = self.view().identity.cluster;
        let shard = ShardId::random(|bytes| self.env.rng.fill(bytes));
        loop {
            let view = self.view();
            if view.identity.cluster != cluster || view.myself().is_some() {
                return;
            }
            if let Some(group) = &view.group {
                let me = view.identity.node;
                let node = own_node(&self.config, &view, view.voter);
                let voter = group.voter();
                let shard = node.is_data.then(|| JoinShard { id: shard, epoch: 0, slots: Default::default() });
                let batch = Command::Batch(vec![
                    Command::Init { cluster_id: cluster },
                    Command::Join { node: Box::new(node), shard },
                    Command::SetRoots { voters: BTreeMap::from([(me, voter)]), expect_since: Default::default() },
                    Command::SetRootCount { count: self.config.root_count as u8 },
                ]);
                if group.propose(self.proposal(batch)).await.is_ok() {
                    self.until(Instant::now() + Duration::from_secs(1), |v| v.myself().is_some()).await;
                    continue;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// This process was started with another number of roots than the one before: the cluster is to keep so many.
    pub async fn tell_root_count(self, count: u8) {
        let cluster = self.view().identity.cluster;
        loop {
            let view = self.view();
            if view.identity.cluster != cluster {
                return;
            }
            let known = view.myself().is_some() && !view.joining;
            if known && view.map.roots().count != count {
                tracing::info!(count, before = view.map.roots().count, "cluster-root-count is another one now");
                match self.commit(Command::SetRootCount { count }).await {
                    Ok(_) => {}
                    Err(text) => {
                        tracing::debug!(text, "the number of roots is not committed yet");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                }
            }
            if known {
                self.change(Change::NoteRootCount { count, is_start: true }).await.ok();
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Tells the roots of this process and its address, until they know. `patience`: a map that says that they do
    /// may come within this time.
    pub async fn register(self, patience: Duration) {
        let cluster = self.view().identity.cluster;
        loop {
            let view = self.view();
            if view.identity.cluster != cluster || view.joining {
                return;
            }
            // A member that has to learn its address asks a root how it sees it.
            let is_member = view.map.nodes().len() > 1;
            if view.host.is_empty() && is_member && self.learn_own_host(&view).await.is_none() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let view = self.view();
            let info = self.node_info(&view);
            match view.myself() {
                Some(node)
                    if node.incarnation == view.identity.incarnation
                        && pando_root_state::NodeInfo::of(node) == info =>
                {
                    return;
                }
                // `found` or the first full copy will bring it.
                None => {
                    let is_other = |v: &crate::flow::View| v.identity.cluster != cluster || v.myself().is_some();
                    if self.until(Instant::now() + patience, is_other).await {
                        continue;
                    }
                }
                Some(_) => {}
            }
            let command = Command::Register { node: view.identity.node, incarnation: view.identity.incarnation, info };
            let deadline = Instant::now() + Duration::from_secs(5);
            match self.propose(&self.proposal(command), None, deadline).await {
                Ok((_, version)) => self.reach(cluster, version, deadline).await,
                Err(ProposeError::Refused(text)) if text.starts_with("ERR Unknown node") => {
                    // An island that is not founded yet does not know its node either, but then it knows none. A map
                    // with others only is what a process finds that ended before it could start afresh.
                    if !view.map.nodes().is_empty() {
                        tracing::warn!("the cluster has forgotten this node; it starts afresh");
                        self.change(Change::BecomeIsland { hard: false }).await.ok();
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(ProposeError::Refused(text)) => {
                    tracing::error!(text, "the roots refuse this process");
                    return;
                }
                Err(_) => {}
            }
        }
    }
}
