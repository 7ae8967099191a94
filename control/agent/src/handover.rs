// SPDX-License-Identifier: BSD-3-Clause
//! A shard gets another primary on purpose: CLUSTER FAILOVER on a replica, and a primary that is about to end.
//! Runs as a task of its own for each request.
//!
//! ```text
//!   replica                                       primary
//!   finds the leading root, connects to both
//!   catches up ◄────────── Position ─────────────
//!   PauseWrites ────────────────────────────────► holds writes        ┐
//!   has all of it ◄──────── end of the log ──────                     │ clients wait
//!   Promote ──► leading root commits ──► new map to both              │
//!   claims promises                               gives them back,    │
//!   writes                                        says MOVED          ┘
//! ```
//! A primary that ends asks its best replica to do all of this (`TakeOver`).

use std::time::Duration;

use pando_root_state::{Command, Decision, Outcome, PromoteReason, Why};
use pando_topology::{Node, NodeId, Role, Shard};
use pando_wire::messages::{Call, Reply};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::api::{Answer, DataPlane, FailoverMode};
use crate::flow::{Flow, NO_MAJORITY, View};
use crate::net::{Address, Line};

/// Nobody wakes a waiting replica if its log has no reader.
const OFFSET_STEP: Duration = Duration::from_millis(2);

/// A replica that needed no longer than this to get what its primary had is close enough to pause writes.
const CLOSE: Duration = Duration::from_millis(5);

/// How long a replica may take to come close.
const CATCH_UP: Duration = Duration::from_secs(5);

/// How long the leading root is looked for.
const FIND_LEADER: Duration = Duration::from_secs(2);

/// How long a primary that ends waits before it asks replicas again that cannot take over yet.
const HEIR_STEP: Duration = Duration::from_millis(50);

/// How long a planned failover waits for the first replica of the new primary.
const BACKED_TIMEOUT: Duration = Duration::from_secs(2);

/// Limit of one question to another node.
const CALL_LIMIT: Duration = Duration::from_secs(1);

/// Replicas that miss no more bytes than this are level: under load all of them miss some.
const LEVEL_BYTES: u64 = 1 << 20;

const PRIMARY_GONE: &str = "ERR Master is down or failed, please use CLUSTER FAILOVER FORCE";

const NO_COPY: &str = "ERR This replica has no complete copy of its master's data; \
                       CLUSTER FAILOVER TAKEOVER promotes it all the same, and the master's data are lost";

/// The way to the leading root.
enum Leader {
    Here,
    There(Line),
}

impl Flow {
    /// `CLUSTER FAILOVER`. The roots decide in every mode; the modes differ in what the primary does.
    pub async fn failover(&self, mode: FailoverMode, plane: &dyn DataPlane) -> Result<Answer, String> {
        let asked = match mode {
            FailoverMode::Planned => "CLUSTER FAILOVER",
            FailoverMode::Force => "CLUSTER FAILOVER FORCE",
            FailoverMode::Takeover => "CLUSTER FAILOVER TAKEOVER",
        };
        self.failover_because(mode, plane, asked).await
    }

    /// `asked`: by what, for the record.
    async fn failover_because(&self, mode: FailoverMode, plane: &dyn DataPlane, asked: &str) -> Result<Answer, String> {
        let view = self.view();
        let shard = view.map.shard_of(&view.identity.node).map(|shard| shard.id);
        let result = self.try_failover(mode, plane, asked).await;
        if let (Err(text), Some(shard)) = (&result, shard) {
            self.note_refused(shard, &format!("{asked}: {}", text.strip_prefix("ERR ").unwrap_or(text)));
        }
        result
    }

    async fn try_failover(&self, mode: FailoverMode, plane: &dyn DataPlane, asked: &str) -> Result<Answer, String> {
        let view = self.view();
        let me = view.identity.node;
        if view.map.role_of(&me) != Some(Role::Replica) {
            return Err("ERR You should send CLUSTER FAILOVER to a replica".into());
        }
        let shard = view.map.shard_of(&me).ok_or("ERR This node has no shard")?.clone();
        let primary = view.map.node(&shard.primary).ok_or("ERR I'm a replica but my master is unknown to me")?;
        if mode != FailoverMode::Planned {
            let note = format!("{asked} on {me}, without the consent of the primary");
            return self.failover_by_force(mode, &view, &shard, note, plane).await;
        }
        if primary.failed {
            return Err(PRIMARY_GONE.into());
        }
        // A process that has just started could not take over yet, and clients would wait for it.
        let bound_ms = view.bound_until_ms.saturating_sub(self.env.clock.now_ms());
        tokio::time::sleep(Duration::from_millis(bound_ms)).await;
        // All that can be done before writes pause.
        let line = Line::open(&self.env, view.identity, &address_of(primary), CALL_LIMIT, &self.conn_config).await;
        let line = line.map_err(|_| PRIMARY_GONE)?;
        let leader = self.find_leader(Instant::now() + FIND_LEADER).await.ok_or(NO_MAJORITY)?;
        self.come_close(&line, plane).await?;

        let pause = |for_ms| Call::PauseWrites { shard: shard.id, epoch: shard.epoch, for_ms };
        let pause_ms = view.config.manual_failover_ms;
        // Less than what the primary is asked for: its clock may go faster than this one.
        let until = Instant::now() + Duration::from_millis(pause_ms - pause_ms / 64);
        let end = match line.call(&pause(pause_ms), CALL_LIMIT).await {
            Ok(Reply::Paused { offset }) => offset,
            Ok(Reply::Refused(text) | Reply::Busy(text)) => return Err(text),
            Ok(_) | Err(_) => {
                line.call(&pause(0), CALL_LIMIT).await.ok();
                return Err(PRIMARY_GONE.into());
            }
        };
        // Half the pause for catching up, the rest for the commit: the pause must outlast both.
        if !wait_offset(plane, end, until - Duration::from_millis(pause_ms / 2)).await {
            line.call(&pause(0), CALL_LIMIT).await.ok();
            return Err("ERR The replica could not catch up with its master in time".into());
        }
        let note =
            format!("{asked} on {me}; the primary held its writes at offset {end}, and the replica had all of them");
        // By what is known now: a replica is told anew after each change.
        let result = self.commit_at(leader, promote(&self.view(), &shard, note), until).await;
        match result {
            Ok(()) => {
                // Answered before a replica knows that it is needed, the death of the new primary in
                // these milliseconds would leave a shard without a successor.
                self.until(Instant::now() + BACKED_TIMEOUT, |v| v.is_backed).await;
                Ok(Answer::Ok)
            }
            // It may still be committed: what the primary took before that would be lost.
            Err(text) if text == NO_MAJORITY => Err(text),
            Err(text) => {
                line.call(&pause(0), CALL_LIMIT).await.ok();
                Err(text)
            }
        }
    }

    /// `FORCE` and `TAKEOVER`: the roots decide without asking the primary. It hears of it with the map and lets go at once;
    /// one that cannot be reached keeps its promises until they run out, and only then this node writes. So nothing can
    /// be done without a majority of the roots: only they know that nobody else is about to take over, and only
    /// their promises tell when the primary has stopped.
    async fn failover_by_force(
        &self,
        mode: FailoverMode,
        view: &View,
        shard: &Shard,
        note: String,
        plane: &dyn DataPlane,
    ) -> Result<Answer, String> {
        let status = plane.status();
        if mode == FailoverMode::Force && (!status.synced || status.loading) {
            return Err(NO_COPY.into());
        }
        match self.commit(promote(view, shard, note)).await {
            Ok(_) => Ok(Answer::Ok),
            Err(text) if text == NO_MAJORITY => Err(format!("{NO_MAJORITY}: {}", self.silent_roots().await)),
            // The roots may have promoted somebody meanwhile, perhaps this node.
            Err(text) => {
                let (me, deadline) = (view.identity.node, Instant::now() + CALL_LIMIT);
                let is_promoted = |view: &View| view.map.role_of(&me) == Some(Role::Primary);
                let is_newer = |view: &View| view.map.shard(&shard.id).is_none_or(|now| now.epoch != shard.epoch);
                let has_changed = text.starts_with("ERR Shard") && self.until(deadline, is_newer).await;
                if has_changed && is_promoted(&self.view()) { Ok(Answer::Ok) } else { Err(text) }
            }
        }
    }

    /// What stands in the way of a commit, for people.
    async fn silent_roots(&self) -> String {
        let view = self.view();
        let roots = view.roots();
        let mut asked = JoinSet::new();
        for root in roots.iter().filter(|root| root.node != view.identity.node).cloned() {
            let (env, identity, config) = (self.env.clone(), view.identity, self.conn_config.clone());
            asked.spawn(async move {
                let address = Address { host: root.host.clone(), port: root.cluster_port };
                let limit = Duration::from_millis(500);
                let is_there = tokio::time::timeout(limit, Line::open(&env, identity, &address, limit, &config)).await;
                (!matches!(is_there, Ok(Ok(_)))).then(|| format!("{}:{}", root.host, root.cluster_port))
            });
        }
        let mut silent = Vec::new();
        while let Some(answer) = asked.join_next().await {
            silent.extend(answer.ok().flatten());
        }
        silent.sort();
        match silent.len() {
            0 => format!("all {} roots answer, but none of them leads yet, try again", roots.len()),
            count => format!(
                "{count} of {} do not answer ({}), and without them the promises that the master may still hold cannot be ended",
                roots.len(),
                silent.join(" ")
            ),
        }
    }

    /// Waits until this replica has, but for a few milliseconds, what its primary has.
    async fn come_close(&self, line: &Line, plane: &dyn DataPlane) -> Result<(), String> {
        let limit = Instant::now() + CATCH_UP;
        loop {
            let Ok(Reply::Position { offset, .. }) = line.call(&Call::Position, CALL_LIMIT).await else {
                return Err(PRIMARY_GONE.into());
            };
            let start = Instant::now();
            if !wait_offset(plane, offset, limit).await {
                return Err("ERR The replica could not catch up with its master in time".into());
            }
            if start.elapsed() <= CLOSE {
                return Ok(());
            }
        }
    }

    /// The root that leads and has a majority at this moment.
    async fn find_leader(&self, deadline: Instant) -> Option<Leader> {
        let mut hint: Option<NodeId> = None;
        let mut turn = 0;
        while Instant::now() < deadline {
            let view = self.view();
            let roots = view.roots();
            let wanted = hint.take().or(view.leader);
            let index =
                wanted.filter(|_| turn == 0 || turn % 2 == 1).and_then(|id| roots.iter().position(|r| r.node == id));
            turn += 1;
            let root = roots.get(index.unwrap_or(turn % roots.len().max(1)))?.clone();
            if root.node == view.identity.node {
                let answer = tokio::time::timeout(CALL_LIMIT, self.answer_as_root(&view, &Call::Barrier)).await;
                match answer {
                    Ok(Reply::Version(_)) => return Some(Leader::Here),
                    Ok(Reply::NotLeader(leader)) => hint = leader.filter(|id| *id != root.node),
                    _ => {}
                }
            } else {
                let address = Address { host: root.host.clone(), port: root.cluster_port };
                if let Ok(line) = Line::open(&self.env, view.identity, &address, CALL_LIMIT, &self.conn_config).await {
                    match line.call(&Call::Barrier, CALL_LIMIT).await {
                        Ok(Reply::Version(_)) => return Some(Leader::There(line)),
                        Ok(Reply::NotLeader(leader)) => hint = leader.filter(|id| *id != root.node),
                        _ => {}
                    }
                }
            }
            if hint.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        None
    }

    /// As [`Flow::commit`], by a root that leads as far as known, and by whoever leads if it does not.
    async fn commit_at(&self, leader: Leader, command: Command, deadline: Instant) -> Result<(), String> {
        let view = self.view();
        let proposal = self.proposal(command);
        let call = Call::Propose(Box::new(proposal.clone()));
        let limit = deadline.saturating_duration_since(Instant::now()).min(CALL_LIMIT);
        let first = match &leader {
            Leader::Here => tokio::time::timeout(limit, self.answer_as_root(&view, &call)).await.ok(),
            Leader::There(line) => line.call(&call, limit).await.ok(),
        };
        let (outcome, version): (Outcome, _) = match first {
            Some(Reply::Committed { outcome, version }) => (outcome, version),
            _ => self.propose(&proposal, None, deadline).await?,
        };
        if let Some(text) = outcome.refusal() {
            return Err(text.to_owned());
        }
        self.reach(view.identity.cluster, version, deadline).await;
        Ok(())
    }

    /// See [`crate::Request::HandOver`].
    pub async fn hand_over(&self, limit: Duration) -> Result<Answer, String> {
        let deadline = Instant::now() + limit;
        let view = self.view();
        if let Some(group) = &view.group {
            // Before anything waits for a commit.
            tokio::time::timeout_at(deadline, group.let_another_lead()).await.ok();
        }
        let me = view.identity.node;
        let shard = match view.map.shard_of(&me) {
            Some(shard) if shard.primary == me && !shard.slots.is_empty() && !shard.replicas.is_empty() => {
                shard.clone()
            }
            _ => return Ok(Answer::Ok),
        };
        let mut why = "ERR No replica can take over".to_owned();
        let is_there = |id: &NodeId| view.map.node(id).is_some_and(is_eligible);
        while shard.replicas.iter().any(is_there) && Instant::now() < deadline {
            for heir in self.heirs(&view, &shard).await {
                match self.hand_to(&view, &shard, &heir, deadline).await {
                    Ok(()) => return Ok(Answer::Ok),
                    Err(text) => why = text,
                }
            }
            // One that has just started is bound for a lease, or still synchronizes.
            tokio::time::sleep(HEIR_STEP).await;
        }
        Err(why)
    }

    async fn hand_to(&self, view: &View, shard: &Shard, heir: &Node, deadline: Instant) -> Result<(), String> {
        tracing::info!(node = %heir.id, "handing this node's slots over");
        let me = view.identity.node;
        let call = Call::TakeOver { shard: shard.id, epoch: shard.epoch };
        let line = Line::open(&self.env, view.identity, &address_of(heir), CALL_LIMIT, &self.conn_config).await;
        let line = line.map_err(|error| format!("ERR {error}"))?;
        let answer = line.call(&call, deadline.saturating_duration_since(Instant::now())).await;
        if let Ok(Reply::TakenOver) = answer {
            // The new primary has its map; this node's is on its way.
            self.until(deadline, |view| view.map.role_of(&me) != Some(Role::Primary)).await;
        }
        match answer {
            _ if self.view().map.role_of(&me) != Some(Role::Primary) => Ok(()),
            Ok(Reply::Refused(text) | Reply::Busy(text)) => Err(text),
            Ok(_) | Err(_) => Err("ERR The replica does not answer".into()),
        }
    }

    /// The replicas that could take over, best first.
    async fn heirs(&self, view: &View, shard: &Shard) -> Vec<Node> {
        let mut asked = JoinSet::new();
        for id in &shard.replicas {
            let node = view.map.node(id).filter(|node| is_eligible(node));
            let Some(node) = node.cloned() else { continue };
            let (env, identity, config) = (self.env.clone(), view.identity, self.conn_config.clone());
            asked.spawn(async move {
                let line = Line::open(&env, identity, &address_of(&node), CALL_LIMIT, &config).await.ok()?;
                match line.call(&Call::Position, CALL_LIMIT).await {
                    Ok(Reply::Position { offset, is_ready: true }) => Some((node, offset)),
                    _ => None,
                }
            });
        }
        let mut found = Vec::new();
        while let Some(answer) = asked.join_next().await {
            found.extend(answer.ok().flatten());
        }
        let best = found.iter().map(|(_, offset)| *offset).max().unwrap_or_default();
        let zone = view.myself().map(|node| node.zone.clone()).unwrap_or_default();
        let is_far = |node: &Node| view.config.zone_affinity && node.zone != zone;
        found.sort_by_key(|(node, offset)| {
            let missing = best - offset;
            let is_behind = missing > LEVEL_BYTES;
            (is_behind, if is_behind { missing } else { 0 }, is_far(node), node.replica_priority, missing, node.id)
        });
        found.into_iter().map(|(node, _)| node).collect()
    }

    /// A replica's answer to `TakeOver`.
    pub async fn take_over(&self, shard: pando_topology::ShardId, epoch: u64, plane: &dyn DataPlane) -> Reply {
        let view = self.view();
        let own = view.map.shard_of(&view.identity.node);
        if own.is_none_or(|own| (own.id, own.epoch) != (shard, epoch)) {
            return Reply::Refused("ERR The master of this shard has changed".into());
        }
        let asked = "the primary is about to end (SIGTERM or SHUTDOWN) and hands over";
        match self.failover_because(FailoverMode::Planned, plane, asked).await {
            Ok(_) => Reply::TakenOver,
            Err(text) => Reply::Refused(text),
        }
    }
}

fn is_eligible(node: &Node) -> bool {
    !node.failed && !node.no_failover && node.replica_priority > 0
}

fn address_of(node: &Node) -> Address {
    Address { host: node.host.clone(), port: node.cluster_port }
}

fn promote(view: &View, shard: &Shard, note: String) -> Command {
    let command = Command::Promote {
        shard: shard.id,
        to: view.identity.node,
        incarnation: view.identity.incarnation,
        expect_epoch: shard.epoch,
        told_at: view.told_at,
        over: None,
        reason: PromoteReason::Manual,
    };
    Command::Decide { roots: Vec::new(), decisions: vec![Decision { command, why: Why::note(note) }] }
}

/// Waits until the replica has everything up to `end`.
async fn wait_offset(plane: &dyn DataPlane, end: u64, deadline: Instant) -> bool {
    loop {
        let status = plane.status();
        if status.link_up && status.offset >= end {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::timeout(OFFSET_STEP, plane.reached(end)).await.ok();
        if !plane.status().link_up {
            tokio::time::sleep(OFFSET_STEP).await;
        }
    }
}
