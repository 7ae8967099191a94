// SPDX-License-Identifier: BSD-3-Clause
//! What operators are told about decisions: the lines of the log, and the answers to CLUSTER EXPLAIN. Called by the
//! driver's root half; decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use pando_failover::Policy;
use pando_liveness::{NodeState, UNLIMITED};
use pando_root_state::{
    Command, Decision, Event as Told, History, Opinion, Proposal, Record, RequestId, SeenCandidate, Subject, Topic, Why,
};
use pando_topology::{ClusterMap, NodeId, Shard, ShardId};
use pando_wire::Conn;
use pando_wire::explain::{Explanation, Question, RootNow, ShardNow};
use pando_wire::messages::{Call, Reply};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::api::{Answer, LinkInfo, OwnRoot, OwnView};
use crate::driver::Driver;
use crate::event::Event;
use crate::flow::{Flow, NO_MAJORITY};
use crate::group::Group;

const SHUT_DOWN: &str = "ERR The cluster agent is shut down";

/// How long CLUSTER EXPLAIN waits for the leading root.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// CLUSTER EXPLAIN LAST tells no more than this.
const LAST_MAX: usize = 1000;

/// The same refusal of an operator's failover is put on record no more often than this.
const REPEATED_MS: u64 = 60_000;

/// A batch that decides more than this is told in part: CLUSTER EXPLAIN has all of it.
const LOGGED_MAX: usize = 32;

/// Writes what the leading root decided to the log, with the evidence.
pub(crate) fn log_decisions(roots: &[NodeId], decisions: &[Decision]) {
    for decision in decisions.iter().take(LOGGED_MAX) {
        log_decision(roots, decision);
    }
    if decisions.len() > LOGGED_MAX {
        tracing::warn!("and {} more decisions with them", decisions.len() - LOGGED_MAX);
    }
}

pub(crate) fn log_decision(roots: &[NodeId], decision: &Decision) {
    let why = &decision.why;
    let said = |place: usize| said(roots, why.opinions.iter().skip(place * roots.len()));
    match &decision.command {
        Command::MarkFailed { nodes } => {
            for (place, node) in nodes.iter().enumerate().take(LOGGED_MAX) {
                tracing::warn!("Marking node {node} as failed: {}", said(place));
            }
        }
        Command::ClearFailed { nodes } => {
            for (place, node) in nodes.iter().enumerate().take(LOGGED_MAX) {
                tracing::info!("Clearing the failure of node {node}: {}", said(place));
            }
        }
        Command::Promote { shard, to, reason, .. } => {
            let reason = reason.words();
            let candidates = tell_candidates(&why.candidates);
            tracing::warn!(
                "Promoting replica {to} of shard {shard} ({reason}): of the primary, {}; replicas: {candidates}",
                said(0)
            );
        }
        Command::Refuse { shard, text, .. } => {
            let candidates = tell_candidates(&why.candidates);
            tracing::warn!("No other primary for shard {shard}: {text}; {}; replicas: {candidates}", said(0));
        }
        other => tracing::info!(command = ?other, "Decided: {}", said(0)),
    }
}

/// What roots said, in one line.
fn said<'a>(roots: &[NodeId], opinions: impl Iterator<Item = &'a Opinion>) -> String {
    let told: Vec<String> =
        roots.iter().zip(opinions).map(|(root, opinion)| format!("root {root} {opinion}")).collect();
    if told.is_empty() { "no opinions".to_owned() } else { told.join(", ") }
}

fn tell_candidates(candidates: &[SeenCandidate]) -> String {
    let told: Vec<String> = candidates.iter().map(tell_candidate).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

/// One replica in words: `<id> at offset 1200, zone a, priority 100, link up: chosen`.
fn tell_candidate(candidate: &SeenCandidate) -> String {
    let zone = if candidate.zone.is_empty() { String::new() } else { format!(", zone {}", candidate.zone) };
    let link = if candidate.link_up { "up" } else { "down" };
    let verdict = candidate.why_not.as_ref().map_or_else(|| "chosen".to_owned(), ToString::to_string);
    let (node, offset, priority) = (candidate.node, candidate.offset, candidate.priority);
    format!("{node} at offset {offset}{zone}, priority {priority}, link {link}: {verdict}")
}

/// What the leading root remembers for the records that it makes; all of it may be lost.
#[derive(Default)]
pub(crate) struct Telling {
    /// Shards that get no other primary: for which reason, and since when this root sees it.
    refused: BTreeMap<ShardId, (Why, u64)>,
    is_noting: bool,
    /// The term that was noted last.
    term: u64,
}

impl Driver {
    /// What this node's operators want of failovers.
    pub fn policy(&self) -> Policy {
        Policy { zone_affinity: self.config.zone_affinity }
    }

    /// Leader: puts it on record that it leads, once for each term.
    pub fn note_election(&mut self) {
        let Some(group) = self.group.clone() else { return };
        let status = group.status();
        let now = self.env.clock.now_ms();
        let me = self.state.node;
        let Some(root) = &mut self.root else { return };
        if !status.is_leader || root.telling.term >= status.term || self.map.node(&me).is_none() {
            return;
        }
        root.telling.term = status.term;
        let history = group.history();
        let former = history.last(&Subject::Roots, Topic::Elections).and_then(|record| match record.event {
            Told::Elected { root, term } if root != me => Some((root, term)),
            _ => None,
        });
        drop(history);
        let note = former.map_or_else(String::new, |(id, term)| {
            let state = match root.ledger.state_of(now, &id) {
                Some(NodeState::Dead) => "its process is gone".to_owned(),
                Some(NodeState::Silent { for_ms }) => format!("it has been counted as failed for {for_ms} ms"),
                Some(NodeState::Alive { .. }) => {
                    "it is alive: it handed over, or was cut off from most roots".to_owned()
                }
                Some(NodeState::Unknown) | None => "nothing is known of it".to_owned(),
            };
            format!("{id} led before (term {term}); {state}")
        });
        tracing::info!("This root leads since term {}{}{note}", status.term, if note.is_empty() { "" } else { ": " });
        let command = Command::Lead { root: me, term: status.term, note };
        let pause = Duration::from_millis(50);
        tokio::spawn(async move {
            while group.propose(Proposal::new(RequestId::NONE, command.clone())).await.is_err() {
                let now = group.status();
                if !now.is_leader || now.term != status.term || now.stopped.is_some() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Leader: puts shards on record that get no other primary, once for each reason that stands for a lease. What
    /// passes sooner is the usual course of a failover.
    pub fn note_refusals(&mut self) {
        let now = self.env.clock.now_ms();
        let (lease_ms, policy) = (self.config.lease_ms, self.policy());
        let (Some(group), Some(root)) = (&self.group, &mut self.root) else { return };
        let map = group.map();
        let standing = pando_failover::unrepaired(&map, &root.evidence, now, &policy);
        let shard_of = |decision: &Decision| match &decision.command {
            Command::Refuse { shard, .. } => Some(*shard),
            _ => None,
        };
        let is_standing = |id: &ShardId| standing.iter().any(|decision| shard_of(decision) == Some(*id));
        root.telling.refused.retain(|id, _| is_standing(id));
        if standing.is_empty() || root.telling.is_noting {
            return;
        }
        let mut decisions = Vec::new();
        for decision in standing {
            let Some(id) = shard_of(&decision) else { continue };
            let known = root.telling.refused.entry(id).or_insert_with(|| (decision.why.clone(), now));
            if !pando_failover::is_same_refusal(&known.0, &decision.why) {
                *known = (decision.why.clone(), now);
            }
            if now >= known.1.saturating_add(lease_ms) {
                decisions.push((id, decision));
            }
        }
        if decisions.is_empty() {
            return;
        }
        let history = group.history();
        decisions.retain(|(id, decision)| !is_on_record(&history, map.shard(id), &decision.why));
        drop(history);
        if decisions.is_empty() {
            return;
        }
        root.telling.is_noting = true;
        let decisions: Vec<Decision> = decisions.into_iter().map(|(_, decision)| decision).collect();
        let roots = pando_failover::witnesses(&map);
        log_decisions(&roots, &decisions);
        let (group, events) = (group.clone(), self.events.clone());
        tokio::spawn(async move {
            group.propose(Proposal::new(RequestId::NONE, Command::Decide { roots, decisions })).await.ok();
            let done = |driver: &mut Driver| {
                if let Some(root) = &mut driver.root {
                    root.telling.is_noting = false;
                }
            };
            events.send(Event::Look(Box::new(done))).ok();
        });
    }

    /// What this root, leading, knows about the question.
    fn explain(&self, question: &Question) -> Option<Explanation> {
        let now = self.env.clock.now_ms();
        let (group, root) = (self.group.as_ref()?, self.root.as_ref()?);
        let policy = self.policy();
        let (status, map, history) = (group.status(), group.map(), group.history());
        let witnesses = pando_failover::witnesses(&map);
        let report = |id: &NodeId| RootNow {
            node: *id,
            report_age_ms: root.evidence.report_age_ms(now, id),
            answers: root.evidence.is_fresh(now, id),
        };
        let opinions = |node: &NodeId, process| {
            let opinions = pando_failover::opinions(now, &root.evidence, &witnesses, node, process);
            witnesses.iter().copied().zip(opinions).collect::<Vec<_>>()
        };
        let (mut shard, mut node) = (None, None);
        let records = match question {
            Question::Shard(id) => {
                shard = Some(*id);
                newest_first(&history, &[Subject::Shard(*id)], &map, |_| true)
            }
            Question::Node(id) => {
                node = Some(*id);
                let own = map.shard_of(id).map(|shard| shard.id);
                shard = own;
                let subjects: Vec<Subject> =
                    std::iter::once(Subject::Node(*id)).chain(own.map(Subject::Shard)).collect();
                newest_first(&history, &subjects, &map, |record| concerns(record, id))
            }
            Question::Roots => newest_first(&history, &[Subject::Roots], &map, |_| true),
            Question::Last(count) => history.newest((*count).min(LAST_MAX)),
        };
        let shard = shard.and_then(|id| map.shard(&id)).map(|shard| ShardNow {
            shard: shard.id,
            opinions: opinions(&shard.primary, Some(shard.primary_incarnation)),
            candidates: pando_failover::why_shard(now, &map, &root.evidence, shard, &policy, None).candidates,
            promised: root.ledger.promise_left(now, &shard.id),
            next: pando_failover::outlook(&map, &root.evidence, now, shard, &policy),
        });
        Some(Explanation {
            root: self.state.node,
            term: status.term,
            unix_ms: self.env.clock.unix_ms(),
            version: map.version(),
            roots: witnesses.iter().map(report).collect(),
            records,
            shard,
            opinions: node.map(|id| opinions(&id, None)).unwrap_or_default(),
        })
    }

    /// The replication offsets of all nodes, as this root has heard of them.
    pub fn offsets(&self) -> Vec<(NodeId, u64)> {
        self.root.as_ref().map(|root| root.ledger.offsets().collect()).unwrap_or_default()
    }

    /// All connections on the cluster port that are kept.
    fn list_links(&self) -> Vec<LinkInfo> {
        let info = |conn: &Conn, outbound, node, create_time_ms| LinkInfo {
            outbound,
            node,
            create_time_ms,
            send_buffer_allocated: conn.queued_bytes(),
            send_buffer_used: conn.queued_bytes(),
        };
        let open = self.inbound.values().filter(|conn| !conn.is_closed());
        let inbound = open.map(|conn| info(conn, false, conn.peer().node, conn.created_unix_ms()));
        let outbound = self.links.list().map(|(node, created_ms, conn)| info(conn, true, node, created_ms));
        outbound.chain(inbound).collect()
    }

    /// This node's own part, for `OwnView`.
    fn own_view(&mut self) -> OwnView {
        let now = self.env.clock.now_ms();
        let lease = self.node.lease.poll(now, &self.node.promise);
        let left = |until: u64| if until == UNLIMITED { until } else { until.saturating_sub(now) };
        let promised = |root: &NodeId| {
            self.node.lease.promise_of(root).map(|until| until.saturating_sub(now)).filter(|left| *left > 0)
        };
        let roots = self.map.roots().members().into_iter().map(|root| OwnRoot {
            node: root,
            answered_ms_ago: self.node.roots.get(&root).map(|(at, _)| now.saturating_sub(*at)),
            promise_left_ms: promised(&root),
        });
        OwnView {
            claims: self.node.lease.claim().is_some(),
            is_active: lease.active.is_some(),
            lease_left_ms: left(self.node.lease_until_ms),
            roots_left_ms: left(lease.roots_until_ms),
            replicas_left_ms: left(lease.replicas_until_ms),
            bound_ms: self.node.promise.left_ms(now),
            has_quorum: self.has_quorum(),
            is_joining: self.state.joining.is_some(),
            version: self.map.version(),
            roots: roots.collect(),
        }
    }

    /// Why no majority of the roots is reachable, as a client is told.
    fn why_no_majority(&self) -> String {
        format!("{NO_MAJORITY}: {}", self.quorum_reason())
    }

    /// A majority of the roots has answered this process, but not within the last lease.
    pub fn is_cut_off(&self) -> bool {
        !self.has_quorum() && self.map.roots().is_quorum(|root| self.node.roots.contains_key(root))
    }

    /// Which roots answer this node and which do not.
    pub fn quorum_reason(&self) -> String {
        let now = self.env.clock.now_ms();
        let roots = self.map.roots().members();
        let patience_ms = (self.config.lease_ms / 2).max(1);
        let mut silent = Vec::new();
        for root in &roots {
            match self.node.roots.get(root) {
                Some((at, _)) if now.saturating_sub(*at) < patience_ms => {}
                Some((at, _)) => silent.push(format!("no answer from {root} for {} ms", now.saturating_sub(*at))),
                None => silent.push(format!("no answer from {root} yet")),
            }
        }
        let answer = roots.len() - silent.len();
        let verb = if answer == 1 { "answers" } else { "answer" };
        let more = match self.leader() {
            _ if roots.is_empty() => return "this node knows no root yet".to_owned(),
            _ if !silent.is_empty() => format!(" ({})", silent.join(", ")),
            Some(leader) => format!(", but the leading one, {leader}, has not confirmed its lead in time"),
            None => ", but none of them leads: an election is under way".to_owned(),
        };
        format!("{answer} of {} {verb}{more}", roots.len())
    }
}

impl Flow {
    /// Lets the driver look at its own state.
    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&mut Driver) -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let look = move |driver: &mut Driver| drop(sender.send(look(driver)));
        self.events.send(Event::Look(Box::new(look))).ok()?;
        receiver.await.ok()
    }

    /// `NO_MAJORITY` with what this node knows of the roots.
    pub async fn why_no_majority(&self) -> String {
        self.look(|driver| driver.why_no_majority()).await.unwrap_or_else(|| NO_MAJORITY.into())
    }

    /// The offsets of all nodes, on a root.
    pub async fn own_offsets(&self) -> Result<Answer, String> {
        self.look(|driver| Answer::Offsets(driver.offsets())).await.ok_or_else(|| SHUT_DOWN.into())
    }

    /// `CLUSTER LINKS`.
    pub async fn list_links(&self) -> Result<Answer, String> {
        self.look(|driver| Answer::Links(driver.list_links())).await.ok_or_else(|| SHUT_DOWN.into())
    }

    /// `CLUSTER EXPLAIN`: from the leading root, by a linearizable read, and from this node itself.
    pub async fn explain(&self, question: Question) -> Result<Answer, String> {
        let deadline = Instant::now() + EXPLAIN_TIMEOUT;
        let cluster = self.view().identity.cluster;
        let explained = match self.ask_leader(&Call::Explain(question), None, deadline).await? {
            Reply::Explained(explained) => explained,
            other => return Err(format!("ERR Unexpected answer of a root: {other:?}")),
        };
        self.reach(cluster, explained.version, deadline).await;
        let own = self.look(Driver::own_view).await.ok_or(SHUT_DOWN)?;
        Ok(Answer::Explained(explained, Box::new(own)))
    }

    /// The leading root's answer; others name it.
    pub async fn answer_explain(&self, group: &Group, question: Question) -> Reply {
        if !group.status().is_leader {
            return Reply::NotLeader(group.leader());
        }
        if let Err(leader) = group.barrier().await {
            return Reply::NotLeader(leader);
        }
        let explained = self.look(move |driver| driver.explain(&question)).await.flatten();
        explained.map_or(Reply::NotLeader(None), |explained| Reply::Explained(Box::new(explained)))
    }

    /// Puts it on record that a failover which an operator asked for was refused. Best effort, without waiting.
    pub fn note_refused(&self, shard: ShardId, text: &str) {
        let flow = self.clone();
        let text = text.strip_prefix("ERR ").unwrap_or(text).to_owned();
        tokio::spawn(async move {
            let node = Some(flow.view().identity.node);
            let proposal = flow.proposal(Command::Refuse { shard, node, text });
            flow.propose(&proposal, None, Instant::now() + EXPLAIN_TIMEOUT).await.ok();
        });
    }
}

/// Whether the last refusal of this shard was for the same reasons, and in the present failure of its primary.
fn is_on_record(history: &History, shard: Option<&Shard>, why: &Why) -> bool {
    let Some(shard) = shard else { return true };
    let failed = history.last(&Subject::Node(shard.primary), Topic::Health).map_or(0, |record| record.index);
    let refusals = history.of(&Subject::Shard(shard.id)).iter().rev();
    let last = refusals.clone().find(|record| matches!(record.event, Told::NotPromoted { node: None, .. }));
    last.is_some_and(|record| {
        let known = Why { candidates: record.candidates.clone(), ..Why::default() };
        record.index >= failed && pando_failover::is_same_refusal(&known, why)
    })
}

/// Whether a leading root need not put a node's refusal on record: the same was said lately.
pub(crate) fn is_repeated_refusal(history: &History, command: &Command, unix_ms: u64) -> bool {
    let Command::Refuse { shard, node, text } = command else { return false };
    let records = history.of(&Subject::Shard(*shard)).iter();
    records.rev().any(|record| match &record.event {
        Told::NotPromoted { node: known, text: said } => {
            known == node && said == text && unix_ms.saturating_sub(record.stamp.unix_ms) < REPEATED_MS
        }
        _ => false,
    })
}

/// A record of a shard that is about this node too.
fn concerns(record: &Record, id: &NodeId) -> bool {
    match &record.event {
        Told::Promoted { from, to, .. } => from == id || to == id || record.candidates.iter().any(|c| c.node == *id),
        Told::NotPromoted { node, .. } => {
            node.as_ref() == Some(id) || record.candidates.iter().any(|candidate| candidate.node == *id)
        }
        Told::Confirmed { node, .. } | Told::Attached { node, .. } | Told::Detached { node, .. } => node == id,
        Told::Slots { .. } => false,
        _ => true,
    }
}

fn newest_first(
    history: &History,
    subjects: &[Subject],
    map: &ClusterMap,
    is_wanted: impl Fn(&Record) -> bool,
) -> Vec<(Subject, Record)> {
    // Why a shard's primary was marked belongs to the story of the shard.
    let primaries = subjects.iter().filter_map(|subject| match subject {
        Subject::Shard(id) => map.shard(id),
        Subject::Roots | Subject::Node(_) => None,
    });
    let mut all: Vec<Subject> =
        primaries.flat_map(|shard| shard.members().map(Subject::Node)).chain(subjects.iter().copied()).collect();
    if subjects.iter().any(|subject| matches!(subject, Subject::Node(_))) {
        all = subjects.to_vec();
    }
    all.sort_unstable();
    all.dedup();
    let mut records: Vec<(Subject, Record)> = all
        .iter()
        .flat_map(|subject| history.of(subject).iter().filter(|r| is_wanted(r)).map(|r| (*subject, r.clone())))
        .collect();
    records.sort_by_key(|(subject, record)| (std::cmp::Reverse(record.index), *subject));
    records
}
