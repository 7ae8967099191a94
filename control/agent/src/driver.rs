// SPDX-License-Identifier: BSD-3-Clause
//! The one task that owns the agent's state. It takes events in order, lets the pure crates
//! (`liveness`, `failover`, `root-state`) decide, and performs what they say; whatever waits runs as
//! a task beside it and reports back with an event.
//!
//! ```text
//!  handles ──asks──►┐                         ┌─► DataPlane (lease, topology, publish)
//!  connections ────►│  Driver::on_event/tick  ├─► links and connections (try_send, never waits)
//!  flows, group ───►┘                         └─► flows (proposals, joins, probes)
//! ```
//! `following` is its node half, `root_side` its root half, `change` what changes its identity.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pando_env::{BoxFuture, Env};
use pando_liveness::LedgerNote;
use pando_topology::{ClusterMap, NodeId, NodeKey, Role};
use pando_wire::messages::{Call, Contact, Island, Reply};
use pando_wire::{Conn, ConnConfig, Credential, Header, Identity, Keyring, Purpose};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::api::{AgentConfig, AgentError, Answer, DataPlane, Request};
use crate::barrier::Readers;
use crate::counters::Counters;
use crate::event::Event;
use crate::flow::{Flow, NO_MAJORITY, View};
use crate::following::NodeSide;
use crate::giving::{GIVING, Giving};
use crate::group::Group;
use crate::handle::{AgentHandle, Ask};
use crate::home::Home;
use crate::info::{Info, Moment};
use crate::links::Links;
use crate::net::{self, ConnId, Door, Events, LinkKind};
use crate::node_state::{NodeState, StateFile};
use crate::reach::Reach;
use crate::root_side::RootSide;
use crate::seek::Book;
use crate::storing::{Store, write_maps, write_states};

/// See the head of this file.
pub(crate) struct Driver {
    pub env: Env,
    pub config: Arc<AgentConfig>,
    pub conn_config: ConnConfig,
    /// By which this node proves who it is.
    pub key: NodeKey,
    pub plane: Arc<dyn DataPlane>,
    pub file: StateFile,
    pub state: NodeState,
    pub map: Arc<ClusterMap>,
    pub events: Events,
    pub links: Links,
    /// Accepted connections.
    pub inbound: BTreeMap<ConnId, Conn>,
    pub node: NodeSide,
    /// The root half; there is one as long as there is a group.
    pub root: Option<RootSide>,
    /// What the process before this one has promised as a root.
    pub root_note: Option<LedgerNote>,
    /// Where the group runs.
    pub home: Home,
    pub group: Option<Group>,
    pub group_watch: Option<JoinHandle<()>>,
    /// How often this process has started its member again, see `repair`.
    pub reopened: u64,
    /// Foreign nodes whose join this node is proposing right now.
    pub absorbing: Arc<()>,
    pub reach: Reach,
    pub readers: Readers,
    pub book: Book,
    pub giving: Giving,
    pub counters: Counters,
    pub store: mpsc::UnboundedSender<Store>,
    pub store_map: watch::Sender<Option<Arc<ClusterMap>>>,
    /// The map has changed since it was last written; when to write it.
    pub unstored_ms: Option<u64>,
    pub view: watch::Sender<View>,
    pub door: watch::Sender<Door>,
    pub info: Arc<Info>,
    pub listener: Option<JoinHandle<()>>,
}

/// Events that are taken in before the driver looks at the clock again.
const EVENTS_MAX: usize = 64;

/// The driver looks at the clock at least so often, whatever is due.
const IDLE_MS: u64 = 10_000;

/// Starts an agent on this runtime: see [`crate::Agent::start`].
pub(crate) async fn start(
    config: AgentConfig,
    plane: Arc<dyn DataPlane>,
    env: Env,
    home: Home,
) -> Result<AgentHandle, AgentError> {
    let file = StateFile::new(env.clone(), &config);
    let in_file = |source| AgentError::State { path: file.path().display().to_string(), source };
    let loaded = file.load().await.map_err(in_file)?;
    let is_first_ever = loaded.is_none();
    let mut state = loaded.unwrap_or_else(|| NodeState::fresh(&env, &config));
    // Gone from the file before this process promises anything itself.
    let root_note = state.root_note.take();
    state.begin_incarnation(env.clock.unix_ms());
    if !config.host.is_empty() {
        state.host = config.host.clone();
    } else if !state.host.is_empty() && !net::is_own_address(&env, &state.host).await {
        tracing::info!(host = state.host, "this machine has not the address any more that this node had");
        state.host.clear();
    }
    // Durable before anybody hears of the new incarnation.
    file.store(&state).await.map_err(in_file)?;

    let host = if config.bind.is_empty() { "0.0.0.0" } else { &config.bind };
    let listener = env.net.listen(host, config.cluster_port).await;
    let listener = listener.map_err(|source| AgentError::Listen { port: config.cluster_port, source })?;

    let (events, received) = mpsc::unbounded_channel();
    let (asks, asked) = mpsc::unbounded_channel();
    let (store, stores) = mpsc::unbounded_channel();
    tokio::spawn(write_states(file.clone(), stores, events.clone()));
    let (store_map, maps) = watch::channel(None);
    tokio::spawn(write_maps(file.clone(), maps));

    let identity = Identity { cluster: state.cluster, node: state.node, incarnation: state.incarnation };
    let map = file.load_map(state.cluster).await.unwrap_or_else(|| ClusterMap::empty(state.cluster));
    let map = Arc::new(map);
    let credential = Credential::from_secret(&state.secret).map_err(AgentError::Credential)?;
    let config = Arc::new(config);
    let view = View {
        identity,
        config: config.clone(),
        key: credential.key(),
        host: state.host.clone(),
        voter: None,
        map: map.clone(),
        book: Default::default(),
        contacts: state.contacts.clone(),
        leader: None,
        group: None,
        joining: state.joining.is_some(),
        told_at: Default::default(),
        bound_until_ms: 0,
        is_backed: false,
    };
    let (view, seen) = watch::channel(view);
    let key_of = move |node: &NodeId| seen.borrow().map.node(node).and_then(|node| node.key);
    let keyring = Keyring { own: Arc::new(credential), key_of: Arc::new(key_of) };
    let key = keyring.own.key();
    let conn_config = net::conn_config(config.lease_ms, keyring);
    let (door, door_seen) = watch::channel(Door { identity, raft: None });
    let info = Arc::new(Info::new(env.clock.clone()));
    let mut driver = Driver {
        links: Links::new(env.clone(), conn_config.clone(), events.clone()),
        node: NodeSide::new(&env, &config, &state, is_first_ever),
        root: None,
        root_note,
        home,
        group: None,
        group_watch: None,
        reopened: 0,
        inbound: BTreeMap::new(),
        absorbing: Arc::new(()),
        reach: Reach::default(),
        readers: Readers::default(),
        book: Book::default(),
        giving: Giving::default(),
        counters: info.counters.clone(),
        listener: None,
        env,
        config,
        conn_config,
        key,
        plane,
        file,
        state,
        map,
        events,
        store,
        store_map,
        unstored_ms: None,
        view,
        door,
        info: info.clone(),
    };
    driver.begin().await?;
    driver.listener = Some(tokio::spawn(net::listen(
        driver.env.clone(),
        listener,
        door_seen,
        driver.conn_config.clone(),
        driver.events.clone(),
    )));
    let (mut changes, events) = (driver.plane.link_changes(), driver.events.clone());
    tokio::spawn(async move { while changes.changed().await.is_ok() && events.send(Event::LinkToPrimary).is_ok() {} });
    tokio::spawn(driver.run(received, asked));
    Ok(AgentHandle { asks, info })
}

impl Driver {
    /// Who this process is at the moment.
    pub fn identity(&self) -> Identity {
        Identity { cluster: self.state.cluster, node: self.state.node, incarnation: self.state.incarnation }
    }

    /// What flows need.
    pub fn flow(&self) -> Flow {
        Flow {
            env: self.env.clone(),
            config: self.config.clone(),
            events: self.events.clone(),
            view: self.view.subscribe(),
            conn_config: self.conn_config.clone(),
        }
    }

    async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let mut batch = Vec::with_capacity(EVENTS_MAX);
        let mut has_handles = true;
        let mut alarm = self.env.clock.alarm();
        // Events that this task has still to take in before it lets others run.
        let mut waiting = 0_usize;
        loop {
            // What was due is done; if something is left, time has to pass for it.
            let due_ms = self.next_due_ms();
            // Biased: the order of branches is part of a simulated run.
            tokio::select! {
                biased;
                _ = events.recv_many(&mut batch, EVENTS_MAX) => {
                    waiting = waiting.saturating_sub(batch.len());
                    for event in batch.drain(..) {
                        self.on_event(event).await;
                    }
                }
                ask = asks.recv(), if has_handles => match ask {
                    Some(Ask::Request(request, reply)) => self.on_request(request, reply),
                    Some(Ask::Configure(config)) => self.configure(*config),
                    Some(Ask::Shutdown(done)) => {
                        self.shut_down().await;
                        done.send(()).ok();
                        return;
                    }
                    // Nobody holds a handle any more; the agent goes on, as the process does.
                    None => has_handles = false,
                },
                () = alarm.wait(self.env.clock.now_ms(), due_ms) => {}
            }
            self.on_due();
            if waiting == 0 && !events.is_empty() {
                // What has come meanwhile comes after the other tasks: connections and flows are not to wait for all of it.
                tokio::task::yield_now().await;
                waiting = events.len();
            }
        }
    }

    /// When something is due by itself.
    fn next_due_ms(&self) -> u64 {
        let now = self.env.clock.now_ms();
        let root = self.root.as_ref().and_then(RootSide::due_ms);
        let due = [Some(self.node_due_ms(now)), root, self.reporting_due_ms(), self.reach.due_ms()];
        due.into_iter().flatten().min().unwrap_or(u64::MAX).min(now + IDLE_MS)
    }

    /// Does what is due; costs next to nothing if nothing is.
    fn on_due(&mut self) {
        let now = self.env.clock.now_ms();
        self.on_node_due(now);
        self.on_root_due(now);
        self.report_due();
        self.look_at_unreached(now);
    }

    pub(crate) async fn on_event(&mut self, event: Event) {
        match event {
            Event::LinkUp { key, generation, conn } => {
                let incarnation = conn.peer().incarnation;
                if self.links.up(key, generation, conn, &mut self.counters) {
                    if let Some(address) = self.links.address(key) {
                        self.reach.note_answered(self.env.clock.now_ms(), key.1, incarnation, address);
                    }
                    match key.0 {
                        LinkKind::Root => self.on_root_link_up(key.1),
                        LinkKind::Replica => self.send_heartbeats(),
                        LinkKind::Publish => {}
                    }
                }
            }
            Event::LinkDown { key, generation } => {
                if self.links.down(key, generation) && key.0 == LinkKind::Root {
                    self.on_root_link_down(key.1);
                }
            }
            Event::LinkMessage { key, generation, message } => {
                if self.links.heard(key, generation) {
                    self.counters.received(&message);
                    self.on_link_message(key, message);
                }
            }
            Event::Accepted { id, conn } => {
                // A connection made with an identity that has changed since is of no use.
                if conn.is_closed() {
                    return;
                }
                if conn.peer().purpose == Purpose::Raft && self.group.is_none() {
                    return conn.close();
                }
                self.on_peer_accepted(id, conn.peer());
                conn.note_created(self.env.clock.unix_ms());
                self.inbound.insert(id, conn);
            }
            Event::Message { id, conn, message } => {
                self.counters.received(&message);
                self.on_message(id, &conn, message);
            }
            Event::Call { conn, header, from, call } => self.on_call(conn, header, from, call),
            Event::Closed { id, peer } => {
                self.inbound.remove(&id);
                self.on_peer_closed(id, &peer);
            }
            Event::Probed { node, incarnation, is_dead } => self.on_probed(node, incarnation, is_dead),
            Event::Tried { node, incarnation, address, is_reached } => {
                self.on_tried(node, incarnation, &address, is_reached);
            }
            Event::Found { node, incarnation, address } => self.on_found(node, incarnation, address),
            Event::RootsChanged => self.on_roots_changed(),
            Event::Decided => self.on_decided(),
            Event::GroupOpened(reopened) => self.on_group_opened(*reopened).await,
            Event::LinkToPrimary => self.send_heartbeats(),
            Event::VotersChecked(checked) => self.on_voters_checked(checked),
            Event::CaughtUp => self.on_caught_up(),
            Event::Stored(version) => self.on_stored(version),
            Event::BarrierDone => self.on_barrier_done(),
            Event::Look(look) => look(self),
            Event::Change(change, done) => {
                let result = self.change(change).await;
                done.send(result).ok();
            }
        }
    }

    fn configure(&mut self, new: AgentConfig) {
        let mut config = (*self.config).clone();
        config.update(new);
        if !config.host.is_empty() && config.host != self.state.host {
            self.state.host = config.host.clone();
            self.persist();
        }
        self.config = Arc::new(config);
        self.update_view();
        self.update_lease();
        // Returns at once if the roots know all of it.
        tokio::spawn(self.flow().register(crate::change::MAP_SOON));
    }

    fn on_request(&mut self, request: Request, reply: crate::handle::Reply) {
        if let Request::Publish { channel, message, sharded } = request {
            self.forward_published(&channel, &message, sharded);
            reply(Ok(Answer::Ok));
            return;
        }
        if matches!(request, Request::ReadBarrier) {
            self.read_barrier(reply);
            return;
        }
        let (flow, plane) = (self.flow(), self.plane.clone());
        tokio::spawn(async move {
            let result = match flow.clone().request(request, &*plane).await {
                Err(text) if text == NO_MAJORITY => Err(flow.why_no_majority().await),
                result => result,
            };
            reply(result);
        });
    }

    fn on_call(&mut self, conn: Conn, header: Header, from: std::net::IpAddr, call: Call) {
        let flow = self.flow();
        let view = self.view.borrow().clone();
        match call {
            Call::GetIsland { dialled } => {
                if self.state.host.is_empty() && !dialled.is_empty() && conn.peer().node != self.state.node {
                    self.learn_host(dialled.clone());
                }
                let reply = Reply::Island(self.island(&dialled, from));
                net::reply(&conn, &header, &reply);
            }
            Call::PauseWrites { shard, epoch, for_ms } => {
                let paused = self.pause_writes(shard, epoch, for_ms);
                // It may take as long as the longest command that runs.
                tokio::spawn(async move {
                    let reply = match paused {
                        Ok(paused) => Reply::Paused { offset: paused.await },
                        Err(text) => Reply::Refused(text),
                    };
                    net::reply(&conn, &header, &reply);
                });
            }
            Call::Position => {
                let status = self.plane.status();
                let is_bound = self.env.clock.now_ms() < self.node.bound_until_ms;
                let is_ready = status.link_up && status.synced && !status.loading && !is_bound;
                net::reply(&conn, &header, &Reply::Position { offset: status.offset, is_ready });
            }
            Call::TakeOver { shard, epoch } => {
                let plane = self.plane.clone();
                tokio::spawn(async move {
                    let reply = flow.take_over(shard, epoch, &*plane).await;
                    net::reply(&conn, &header, &reply);
                });
            }
            Call::Offsets => net::reply(&conn, &header, &Reply::Offsets(self.offsets())),
            Call::CountFailures(node) => {
                let count = u64::from(self.counts_as_failed(&node));
                net::reply(&conn, &header, &Reply::Count(count));
            }
            Call::Propose(proposal) => {
                let is_join = matches!(proposal.command, pando_root_state::Command::Join { .. });
                if !is_join && conn.peer().cluster != self.state.cluster {
                    // It means the cluster that this node has left.
                    return net::reply(&conn, &header, &Reply::NotLeader(None));
                }
                if is_join && self.state.joining.is_some() {
                    let text = "ERR The node is about to join another cluster".into();
                    net::reply(&conn, &header, &Reply::Busy(text));
                    return;
                }
                let absorbing = is_join.then(|| self.absorbing.clone());
                tokio::spawn(async move {
                    let reply = flow.answer_as_root(&view, &Call::Propose(proposal)).await;
                    net::reply(&conn, &header, &reply);
                    drop(absorbing);
                });
            }
            Call::Barrier | Call::Explain(_) => {
                tokio::spawn(async move {
                    let reply = flow.answer_as_root(&view, &call).await;
                    net::reply(&conn, &header, &reply);
                });
            }
            Call::JoinUs { cluster, roots } => {
                tokio::spawn(async move {
                    let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
                    let reply = match flow.join(cluster, roots, deadline).await {
                        Ok(()) => Reply::Joined,
                        Err(crate::flow::ProposeError::Refused(text)) => Reply::Refused(text),
                        Err(error) => Reply::Busy(error.into()),
                    };
                    net::reply(&conn, &header, &reply);
                });
            }
        }
    }

    fn island(&self, dialled: &str, from: std::net::IpAddr) -> Island {
        let mut roots = self.view.borrow().roots();
        let me = self.state.node;
        if roots.is_empty() && self.group.is_some() {
            let cluster_port = self.config.cluster_port;
            roots.push(Contact { node: me, host: String::new(), cluster_port });
        }
        // Who wants to join asks the first one first.
        let leader = self.leader();
        roots.sort_by_key(|root| Some(root.node) != leader);
        for root in roots.iter_mut().filter(|root| root.node == me && root.host.is_empty()) {
            root.host = dialled.to_owned();
        }
        Island {
            cluster: self.state.cluster,
            node: me,
            size: self.map.nodes().len(),
            roots,
            your_host: from.to_string(),
            // An island that is not founded yet has nothing to join.
            joining: self.state.joining.is_some() || self.map.node(&me).is_none(),
        }
    }

    fn pause_writes(
        &mut self,
        shard: pando_topology::ShardId,
        epoch: u64,
        for_ms: u64,
    ) -> Result<BoxFuture<'static, u64>, String> {
        let me = self.state.node;
        let is_primary = self.map.role_of(&me) == Some(Role::Primary)
            && self.map.shard_of(&me).is_some_and(|own| own.id == shard && own.epoch == epoch);
        if for_ms == 0 {
            self.giving.handover_until_ms = 0;
            match self.giving.is_under_way() {
                true => Ok(Box::pin(std::future::ready(0))),
                false => Ok(self.plane.pause_writes(None)),
            }
        } else if self.giving.is_under_way() {
            Err(GIVING.into())
        } else if is_primary {
            let until_ms = self.env.clock.now_ms() + for_ms;
            self.giving.handover_until_ms = until_ms;
            Ok(self.plane.pause_writes(Some(until_ms)))
        } else {
            Err("ERR The master of this shard has changed".into())
        }
    }

    /// Forwards a published message: to all nodes, or to those of the own shard.
    fn forward_published(&mut self, channel: &[u8], message: &[u8], sharded: bool) {
        let me = self.state.node;
        let own_shard = self.map.shard_of(&me).map(|shard| shard.id);
        let targets: Vec<_> = self
            .map
            .nodes()
            .values()
            .filter(|node| node.id != me && node.is_data && (!sharded || node.shard == own_shard))
            .cloned()
            .collect();
        let message =
            pando_wire::messages::Message::Publish { channel: channel.to_vec(), message: message.to_vec(), sharded };
        for node in targets {
            let address = net::Address { host: node.host.clone(), port: node.cluster_port };
            let key = (LinkKind::Publish, node.id);
            self.links.open(key, &address, self.identity());
            self.links.send_or_wait(key, &message, &mut self.counters);
        }
    }

    /// Publishes the state to flows and to the listener.
    pub fn update_view(&mut self) {
        let identity = self.identity();
        let view = View {
            identity,
            config: self.config.clone(),
            key: self.key,
            host: self.state.host.clone(),
            voter: self.group.as_ref().map(Group::voter),
            map: self.map.clone(),
            book: self.book.snapshot(),
            contacts: self.state.contacts.clone(),
            leader: self.leader(),
            group: self.group.clone(),
            joining: self.state.joining.is_some(),
            told_at: self.told_at(),
            bound_until_ms: self.node.bound_until_ms,
            is_backed: self.node.is_backed,
        };
        self.view.send_replace(view);
        self.update_info();
        self.door.send_replace(Door { identity, raft: self.group.as_ref().map(Group::handler) });
    }

    /// Shows the present state to those who ask for it.
    fn update_info(&self) {
        self.info.set(Moment {
            me: self.state.node,
            cluster: self.state.cluster,
            leader: self.leader(),
            is_root: self.map.roots().contains(&self.state.node),
            roots: self.map.roots().voters.keys().copied().collect(),
            roots_changing: self.map.roots().previous.is_some(),
            version: self.map.version(),
            group: self.group.clone(),
        });
    }

    async fn shut_down(&mut self) {
        if let Some(group) = &self.group {
            // Before the port refuses: the next leader tells this one.
            group.let_another_lead().await;
        }
        // A node that is a replica by now still tells where its keys are.
        self.plane.lease(0, self.node.cluster_ok);
        if let Some(listener) = self.listener.take() {
            // From here on the port refuses, which tells the roots that this process is gone.
            listener.abort();
        }
        if let Some(group) = self.group.take() {
            group.stop().await;
        }
        if let Some(watch) = self.group_watch.take() {
            watch.abort();
        }
        self.links.clear();
        for conn in std::mem::take(&mut self.inbound).into_values() {
            conn.close();
        }
        // Nobody is answered any more, so the process after this one can know what was promised.
        if let Some(root) = self.root.take() {
            self.state.root_note = Some(root.note(&self.env));
            if let Err(text) = self.persist_durably().await {
                tracing::warn!(text, "the next process of this root will wait for promises that it cannot know");
            }
        }
    }
}
