// SPDX-License-Identifier: BSD-3-Clause
//! The leader's care for the set of voters: who has been away for how long, and the next step of an
//! exchange. The choice itself is `pando_root_state::desired_voters`, the steps `Group` and the log.

use std::collections::{BTreeMap, BTreeSet};

use pando_liveness::Verdict;
use pando_raft::RootAddress;
use pando_root_state::{Command, Proposal, RequestId, RootStep, desired_voters, next_root_step};
use pando_topology::{NodeId, TopologyVersion};

use crate::driver::Driver;
use crate::event::Event;

/// A voter that is away for so many leases is replaced. Most come back sooner: a restart should not
/// change the roots twice.
const VOTER_PATIENCE_LEASES: u64 = 2;

/// What the leader remembers about the voters; all of it may be lost.
#[derive(Default)]
pub(crate) struct Voters {
    /// A step is on its way.
    is_checking: bool,
    /// Voters that have failed, and since when this root has seen that.
    absent: BTreeMap<NodeId, u64>,
    /// The group is known to have exchanged its voters as of a version, since when.
    exchanged: Option<(TopologyVersion, u64)>,
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
        let is_fit = |id: &NodeId| map.node(id).is_some_and(|node| !node.failed);
        if map.node(&self.state.node).is_none()
            && let Some(heir) = group.heir(is_fit)
        {
            root.voters.is_checking = true;
            let (group, events) = (group.clone(), self.events.clone());
            tokio::spawn(async move {
                if let Err(error) = group.hand_over(heir).await {
                    tracing::debug!(error, "leadership was not handed over yet");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                events.send(Event::VotersChecked).ok();
            });
            return;
        }
        let since = map.roots().since;
        let address = |id: &NodeId| {
            map.node(id).map(|node| RootAddress { node: *id, host: node.host.clone(), port: node.cluster_port })
        };
        let voters: BTreeMap<u64, RootAddress> =
            map.roots().voters.iter().filter_map(|(id, voter)| Some((*voter, address(id)?))).collect();
        // The promises of the former voters count until the exchange is settled. One that restarts
        // meanwhile can give none before it knows what is committed, so it goes on hearing of it.
        let kept: BTreeSet<u64> = map.roots().previous.iter().flat_map(|previous| previous.values().copied()).collect();
        let wanted: BTreeSet<u64> = map.roots().voters.values().copied().collect();
        let is_same = group.has_members(&wanted, &kept);
        if !is_same {
            root.voters.exchanged = None;
        } else if root.voters.exchanged.is_none_or(|(version, _)| version != since) {
            root.voters.exchanged = Some((since, now));
        }
        let evidence = &mut root.evidence;
        let patience_ms = VOTER_PATIENCE_LEASES * lease_ms;
        root.voters.absent.retain(|id, _| map.roots().voters.contains_key(id));
        for id in map.roots().voters.keys() {
            match evidence.verdict(now, &map, id) {
                Verdict::Failed => drop(root.voters.absent.entry(*id).or_insert(now)),
                Verdict::Alive => drop(root.voters.absent.remove(id)),
                Verdict::Open => {}
            }
        }
        let is_gone = |id: &NodeId| root.voters.absent.get(id).is_some_and(|since| now >= since + patience_ms);
        let is_live = |id: &NodeId| match map.roots().voters.contains_key(id) {
            true => !is_gone(id),
            false => evidence.verdict(now, &map, id) == Verdict::Alive,
        };
        let mut desired = desired_voters(&map, self.config.root_count, is_live);
        // What is not known yet is no reason for a change, least of all for fewer roots: a leader that
        // has just been elected has heard of nobody.
        let is_shrinking = desired.len() < map.roots().voters.len();
        let is_open = |id: &NodeId| evidence.verdict(now, &map, id) == Verdict::Open;
        let is_unknown = || map.nodes().values().any(|node| node.root_eligible && is_open(&node.id));
        if !evidence.has_quorum(now, &map) || (is_shrinking && is_unknown()) {
            desired = map.roots().voters.clone();
        }
        let applied = std::cell::RefCell::new(evidence);
        let has_applied = |id: &NodeId, for_ms| applied.borrow_mut().has_applied_for(now, id, since, for_ms);
        // The group exchanges its voters when a majority of the former ones knows of it. That it has
        // done so then proves it to any later leader, even when those former voters are gone.
        let may_exchange = map
            .roots()
            .previous
            .as_ref()
            .is_none_or(|previous| previous.keys().filter(|id| has_applied(id, 0)).count() * 2 > previous.len());
        let is_exchanged = root.voters.exchanged.is_some_and(|(_, at)| now >= at.saturating_add(lease_ms));
        // A new voter that died before it got its vote must not hold up its own replacement.
        let is_stuck = map.roots().voters.keys().any(is_gone);
        let step = next_root_step(&map, &desired, |id, _| is_exchanged || (is_stuck && has_applied(id, lease_ms)));
        let command = match step {
            RootStep::Stay => None,
            RootStep::Exchange(voters) => Some(Command::SetRoots { voters, expect_since: since }),
            RootStep::Settle(since) => Some(Command::SettleRoots { expect_since: since }),
        };
        // A voter without an address has been forgotten; the next exchange will replace it.
        let can_change = may_exchange && !voters.is_empty() && voters.len() == map.roots().voters.len();
        if command.is_none() && (is_same || !can_change) {
            return;
        }
        root.voters.is_checking = true;
        let (group, events) = (group.clone(), self.events.clone());
        tokio::spawn(async move {
            let mut is_done = true;
            if !is_same
                && can_change
                && let Err(error) = group.become_voters(&voters, &kept).await
            {
                tracing::debug!(error, "the voters could not be changed yet");
                is_done = false;
            }
            if let Some(command) = command {
                let proposal = Proposal::new(RequestId::NONE, command);
                is_done &= group.propose(proposal).await.is_ok_and(|(outcome, _)| outcome.is_done());
            }
            if !is_done {
                // Whatever is missing, asking again at once would only keep this root busy.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            events.send(Event::VotersChecked).ok();
        });
    }

    pub fn on_voters_checked(&mut self) {
        if let Some(root) = &mut self.root {
            root.voters.is_checking = false;
        }
        if self.is_leader() {
            self.check_voters();
        }
    }
}
