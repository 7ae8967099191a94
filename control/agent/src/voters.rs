// SPDX-License-Identifier: BSD-3-Clause
//! The leader's care for the set of voters: who has been away for how long, when to change it, and the
//! steps of a change. Who should be in it is `pando_root_state::choose_voters`.
//!
//! ```text
//!   new voters become learners and catch up ─► SetRoots committed ─► the group exchanges its voters
//!   (joint) ─► a lease later: SettleRoots committed ─► former voters leave the group
//! ```
//! Each step can be repeated, and whoever leads goes on where the leader before stopped: the map says which
//! exchange is under way, the group which members it has.

use std::collections::{BTreeMap, BTreeSet};

use pando_liveness::{Evidence, Verdict};
use pando_raft::RootAddress;
use pando_root_state::{
    Choice, Command, Decision, Proposal, Reason, RequestId, RootStep, Why, choose_voters, next_root_step,
};
use pando_topology::{ClusterMap, NodeId, TopologyVersion};

use crate::driver::Driver;
use crate::event::Event;
use crate::group::Group;

/// A wish that nothing speaks for any more, or that failed, is looked at again after this.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// In larger clusters the leader looks for better voters a few times per lease only.
const SMALL_CLUSTER: usize = 256;

/// What the leader remembers about the voters; all of it may be lost.
#[derive(Default)]
pub(crate) struct Voters {
    /// A step is on its way.
    is_checking: bool,
    /// The term whose leader is known to have applied all that was committed before it.
    confirmed_term: u64,
    /// Voters that have failed, and since when this root has seen that.
    absent: BTreeMap<NodeId, u64>,
    /// The group is known to have exchanged its voters as of a version, since when.
    exchanged: Option<(TopologyVersion, u64)>,
    /// With all voters there, nothing could be better in this version, for so many of them.
    settled: Option<(TopologyVersion, usize)>,
    /// Voters that would stand farther apart, and since when they could.
    intended: Option<(BTreeMap<NodeId, u64>, u64)>,
    /// Nodes whose member could not be brought up to date, and until when others are preferred.
    unready: BTreeMap<NodeId, u64>,
    /// When to look for better voters again.
    next_look_ms: u64,
}

impl Voters {
    /// Notes which voters are away.
    fn look(&mut self, now: u64, map: &ClusterMap, evidence: &Evidence) {
        self.absent.retain(|id, _| map.roots().voters.contains_key(id));
        self.unready.retain(|_, until| now < *until);
        for id in map.roots().voters.keys() {
            match evidence.verdict(now, map, id) {
                Verdict::Failed => drop(self.absent.entry(*id).or_insert(now)),
                Verdict::Alive => drop(self.absent.remove(id)),
                Verdict::Open => {}
            }
        }
    }

    fn is_gone(&self, now: u64, patience_ms: u64, id: &NodeId) -> bool {
        self.absent.get(id).is_some_and(|since| now >= since.saturating_add(patience_ms))
    }

    /// The voters to change to, if it is time for a change.
    fn choose(&mut self, asked: &Asked<'_>) -> Option<Choice> {
        let Asked { now, map, evidence, me, count, patience_ms, lease_ms } = *asked;
        let key = (map.version(), count);
        let is_well = self.absent.is_empty();
        if is_well && (self.settled == Some(key) || now < self.next_look_ms) {
            return None;
        }
        let voters = &map.roots().voters;
        let alive = |id: &NodeId| evidence.verdict(now, map, id) == Verdict::Alive && !self.unready.contains_key(id);
        let is_voter =
            |id: &NodeId| voters.contains_key(id) && map.node(id).is_some_and(|n| n.root_id == voters.get(id).copied());
        let is_live = |id: &NodeId| if is_voter(id) { !self.is_gone(now, patience_ms, id) } else { alive(id) };
        let choice = choose_voters(map, count, me, is_live);
        if map.nodes().len() > SMALL_CLUSTER {
            self.next_look_ms = now + lease_ms / 4;
        }
        match choice.reason {
            Reason::Same => {
                self.intended = None;
                if is_well && choose_voters(map, count, me, |_| true).reason == Reason::Same {
                    self.settled = Some(key);
                }
                None
            }
            Reason::Needed => {
                self.intended = None;
                // What is not known yet is no reason for fewer roots: a leader that has just been elected
                // has heard of nobody.
                let is_open = |id: &NodeId| evidence.verdict(now, map, id) == Verdict::Open;
                let is_unknown = || map.nodes().values().any(|node| node.root_eligible && is_open(&node.id));
                (choice.voters.len() >= voters.len() || !is_unknown()).then_some(choice)
            }
            Reason::Spread => {
                let since = match &self.intended {
                    Some((intended, since)) if *intended == choice.voters => *since,
                    _ => {
                        self.intended = Some((choice.voters, now));
                        return None;
                    }
                };
                // A node that comes and goes must not take a vote each time.
                (now >= since.saturating_add(patience_ms)).then_some(choice)
            }
        }
    }
}

/// What a choice depends on.
#[derive(Copy, Clone)]
struct Asked<'a> {
    now: u64,
    map: &'a ClusterMap,
    evidence: &'a Evidence,
    me: &'a NodeId,
    count: usize,
    patience_ms: u64,
    lease_ms: u64,
}

/// Why the voters change, for the history and the log.
fn reason(map: &ClusterMap, choice: &Choice, count: usize, patience_ms: u64) -> String {
    let before = &map.roots().voters;
    let lost: Vec<String> = before
        .iter()
        .filter(|(id, _)| !choice.voters.contains_key(*id))
        .map(|(id, voter)| match map.node(id) {
            None => format!("{id} has left the cluster"),
            Some(node) if !node.root_eligible => format!("{id} may not be a root any more"),
            Some(node) if node.root_id != Some(*voter) => format!("{id} has lost its files"),
            Some(_) if choice.reason == Reason::Spread => format!("{id} shares its zone or host with another root"),
            Some(_) if choice.voters.len() < before.len() && choice.voters.len() == count => {
                format!("{id} is one more than the {count} asked for")
            }
            Some(_) => format!("{id} has been away for {patience_ms} ms"),
        })
        .collect();
    match lost.is_empty() {
        true => format!("there are nodes for {} of the {count} roots asked for", choice.voters.len()),
        false => lost.join(", "),
    }
}

/// What came of a look at the voters.
pub(crate) enum Checked {
    /// A step, or an attempt.
    Done,
    /// All that was committed before this term is applied here.
    Confirmed(u64),
    /// This node could not be brought up to date.
    Unready(NodeId),
}

/// One step, to be performed beside the driver.
struct Step {
    /// The members that the map asks for, unless the group has them already.
    members: Option<BTreeMap<u64, RootAddress>>,
    /// Members without a vote that may stay.
    kept: BTreeSet<u64>,
    /// Members that have to be up to date before `command` is proposed.
    newcomers: Vec<(u64, RootAddress)>,
    command: Option<(Command, String)>,
}

impl Step {
    async fn perform(self, group: &Group) -> Checked {
        if let Some(members) = &self.members
            && let Err(error) = group.become_voters(members, &self.kept).await
        {
            tracing::debug!(error, "the voters could not be changed yet");
            tokio::time::sleep(PAUSE).await;
            return Checked::Done;
        }
        for (voter, address) in &self.newcomers {
            if let Err(error) = group.add(*voter, address).await {
                tracing::warn!(error, node = %address.node, "this node cannot become a root yet");
                tokio::time::sleep(PAUSE).await;
                return Checked::Unready(address.node);
            }
        }
        if let Some((command, why)) = self.command {
            let decision = Decision { command, why: Why::note(why) };
            let command = Command::Decide { roots: Vec::new(), decisions: vec![decision] };
            let done = group.propose(Proposal::new(RequestId::NONE, command)).await;
            if !done.is_ok_and(|(outcome, _)| outcome.is_done()) {
                // Whatever is missing, asking again at once would only keep this root busy.
                tokio::time::sleep(PAUSE).await;
            }
        }
        Checked::Done
    }
}

impl Driver {
    /// Leader: the next step towards the voters that there should be.
    pub fn check_voters(&mut self) {
        let now = self.env.clock.now_ms();
        let lease_ms = self.config.lease_ms;
        let (Some(group), Some(root)) = (&self.group, &mut self.root) else { return };
        if root.voters.is_checking {
            return;
        }
        let map = group.map();
        if map.nodes().is_empty() {
            return;
        }
        // Nobody reports to a leader that the map does not show, so it can decide nothing.
        let heirs = group.heirs(|id: &NodeId| map.node(id).is_some_and(|node| !node.failed));
        if map.node(&self.state.node).is_none() && !heirs.is_empty() {
            let group = group.clone();
            return self.perform(async move {
                if let Err(error) = group.hand_over(&heirs).await {
                    tracing::debug!(error, "leadership was not handed over yet");
                    tokio::time::sleep(PAUSE).await;
                }
                Checked::Done
            });
        }
        let status = group.status();
        if root.voters.confirmed_term != status.term {
            // A map from before this term may not show an exchange that is under way, or over.
            let group = group.clone();
            return self.perform(async move {
                if group.barrier().await.is_ok() {
                    return Checked::Confirmed(status.term);
                }
                tokio::time::sleep(PAUSE).await;
                Checked::Done
            });
        }
        let roots = map.roots();
        let since = roots.since;
        let count = match roots.count {
            0 => self.config.root_count,
            asked => usize::from(asked),
        };
        let patience_ms = self.config.root_patience_ms;
        root.voters.look(now, &map, &root.evidence);
        // During an exchange there is no other; without a quorum nothing is known.
        let choice = if roots.previous.is_none() && root.evidence.has_quorum(now, &map) {
            let (evidence, me) = (&root.evidence, &self.state.node);
            root.voters.choose(&Asked { now, map: &map, evidence, me, count, patience_ms, lease_ms })
        } else {
            None
        };
        let address = |id: &NodeId, voter: &u64| match map.node(id) {
            Some(node) => Some(RootAddress { node: *id, host: node.host.clone(), port: node.cluster_port }),
            None => status.addresses.get(voter).cloned(),
        };
        let wanted: BTreeSet<u64> = roots.voters.values().copied().collect();
        let members: BTreeMap<u64, RootAddress> =
            roots.voters.iter().filter_map(|(id, voter)| Some((*voter, address(id, voter)?))).collect();
        // The promises of the former voters count until the exchange is settled. One that restarts
        // meanwhile can give none before it knows what is committed, so it goes on hearing of it.
        let mut kept: BTreeSet<u64> = roots.previous.iter().flat_map(|previous| previous.values().copied()).collect();
        let desired = choice.as_ref().map_or(&roots.voters, |choice| &choice.voters);
        kept.extend(desired.values());
        let is_same = group.has_members(&wanted, &kept);
        // By a change of the members that came after `SetRoots`, that is, as follows:
        if !is_same || status.members_since <= since.get() {
            root.voters.exchanged = None;
        } else if root.voters.exchanged.is_none_or(|(version, _)| version != since) {
            root.voters.exchanged = Some((since, now));
        }
        // The group exchanges its voters when a majority of the former ones knows of it. That it has
        // done so then proves it to any later leader, even when those former voters are gone.
        let evidence = &mut root.evidence;
        let knowing = |previous: &BTreeMap<NodeId, u64>, evidence: &mut Evidence| {
            previous.keys().filter(|id| evidence.has_applied_for(now, id, since, 0)).count()
        };
        let may_exchange = roots.previous.as_ref().is_none_or(|p| knowing(p, evidence) * 2 > p.len());
        // A new voter that died before it got its vote must not hold up its own replacement.
        let is_lost = |(id, voter): (&NodeId, &u64)| {
            !status.voters.contains(voter) && (map.node(id).is_none() || root.voters.is_gone(now, patience_ms, id))
        };
        let is_vain = roots.previous.is_some() && !status.is_joint && roots.voters.iter().any(is_lost);
        let is_exchanged = root.voters.exchanged.is_some_and(|(_, at)| now >= at.saturating_add(lease_ms));
        let applied = std::cell::RefCell::new(evidence);
        let has_applied = |id: &NodeId| applied.borrow_mut().has_applied_for(now, id, since, lease_ms);
        let command = match next_root_step(&map, desired, |id, _| is_exchanged || (is_same && has_applied(id))) {
            RootStep::Stay if is_vain && !is_same => roots.previous.clone().map(|voters| {
                let why = "a new root is gone before it got its vote: back to those before".to_owned();
                (Command::SetRoots { voters, expect_since: since }, why)
            }),
            RootStep::Stay => None,
            RootStep::Exchange(voters) => {
                let why = choice.as_ref().map(|choice| reason(&map, choice, count, patience_ms)).unwrap_or_default();
                tracing::info!(why, to = ?voters.keys().collect::<Vec<_>>(), "the roots change");
                Some((Command::SetRoots { voters, expect_since: since }, why))
            }
            RootStep::Settle(since) => Some((Command::SettleRoots { expect_since: since }, String::new())),
        };
        // A majority of the new voters has to be there before they count: the change takes effect as soon as it
        // is in the leader's log.
        let is_there = |id: &NodeId| !root.voters.absent.contains_key(id);
        let there = roots.voters.keys().filter(|id| is_there(id)).count();
        let is_safe = members.len() == wanted.len() && there * 2 > wanted.len();
        let can_change = !is_same && may_exchange && is_safe && !is_vain;
        if command.is_none() && !can_change {
            return;
        }
        let newcomers = desired
            .iter()
            .filter(|(_, voter)| !status.addresses.contains_key(*voter) || status.learners.contains(*voter));
        let newcomers = match command {
            Some((Command::SetRoots { .. }, _)) if !is_vain => {
                newcomers.filter_map(|(id, voter)| Some((*voter, address(id, voter)?))).collect()
            }
            _ => Vec::new(),
        };
        let step = Step { members: can_change.then_some(members), kept, newcomers, command };
        let group = group.clone();
        self.perform(async move { step.perform(&group).await });
    }

    fn perform(&mut self, step: impl Future<Output = Checked> + Send + 'static) {
        if let Some(root) = &mut self.root {
            root.voters.is_checking = true;
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            let checked = step.await;
            events.send(Event::VotersChecked(checked)).ok();
        });
    }

    pub fn on_voters_checked(&mut self, checked: Checked) {
        let until = self.env.clock.now_ms().saturating_add(self.config.root_patience_ms);
        if let Some(root) = &mut self.root {
            root.voters.is_checking = false;
            match checked {
                Checked::Done => {}
                Checked::Confirmed(term) => root.voters.confirmed_term = term,
                Checked::Unready(node) => drop(root.voters.unready.insert(node, until)),
            }
        }
        if self.is_leader() {
            self.check_voters();
        }
    }
}
