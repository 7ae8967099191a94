// SPDX-License-Identifier: BSD-3-Clause
//! What the data planes do in a step: every process that may write does so once, and replicas pull from the
//! primary that their map shows, with a lag; one whose history is another one's gets a full copy first.

use std::collections::BTreeMap;
use std::sync::Arc;

use pando_env::Rng;
use pando_topology::{NodeId, Role};

use crate::host::Host;
use crate::invariants::Fact;
use crate::net::Network;

/// How far a replica lags behind its primary.
const LAG_MS: u64 = 5;
/// Steps of history that are kept.
const HISTORY: usize = 64;

/// Numbers of writes that nobody waits for.
#[derive(Default)]
pub struct Writer {
    next: u64,
}

impl Writer {
    /// A number that no other write has.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// One step of all data planes at this true time.
pub fn step(
    now_ms: u64,
    hosts: &mut [Host],
    network: &Network,
    rng: &dyn Rng,
    writer: &mut Writer,
    facts: &mut Vec<Fact>,
) {
    for host in hosts.iter_mut() {
        if host.is_running() && host.plane.state().accepts(host.now_ms()).is_some() {
            host.plane.write(writer.number());
        }
        let len = host.plane.log().len() as u64;
        host.history.push((now_ms, len));
        if host.history.len() > HISTORY {
            host.history.remove(0);
        }
    }
    let me = |host: &Host| host.plane.state().view.as_ref().map(|(_, me)| *me);
    let by_id: BTreeMap<NodeId, usize> =
        hosts.iter().filter(|host| host.has_process()).filter_map(|host| Some((me(host)?, host.id))).collect();
    for id in 0..hosts.len() {
        let was_up = hosts[id].plane.state().link_up;
        pull(now_ms, id, hosts, network, rng, &by_id, facts);
        let mut state = hosts[id].plane.state();
        state.data_age_ms = if state.link_up { 0 } else { state.data_age_ms + 1 };
        let has_changed = state.link_up != was_up;
        drop(state);
        if has_changed {
            hosts[id].plane.link_changed();
        }
    }
}

fn pull(
    now_ms: u64,
    id: usize,
    hosts: &[Host],
    network: &Network,
    rng: &dyn Rng,
    by_id: &BTreeMap<NodeId, usize>,
    facts: &mut Vec<Fact>,
) {
    let host = &hosts[id];
    let Some((map, me)) = host.plane.state().view.clone() else { return };
    if !host.is_running() || map.role_of(&me) != Some(Role::Replica) || host.plane.state().lies {
        return;
    }
    let Some(shard) = map.shard_of(&me) else { return };
    let upstream = map.upstream_of(&me).map_or(shard.primary, |upstream| upstream.id);
    let source = by_id.get(&upstream).map(|source| &hosts[*source]).filter(|source| {
        let state = source.plane.state();
        let role = state.view.as_ref().and_then(|(map, id)| map.role_of(id));
        let is_source = match role {
            Some(Role::Primary) => state.has_data(),
            // A replica gives what it has while its own link is up.
            Some(Role::Replica) => upstream != shard.primary && state.link_up,
            None => false,
        };
        let has_data = state.has_data() && state.shard() == Some(shard.id);
        drop(state);
        source.is_running() && is_source && has_data && !network.is_cut(host.id, source.id)
    });
    let Some(source) = source else {
        let mut state = host.plane.state();
        state.link_up = false;
        // A copy that was interrupted begins anew.
        state.loading_until_ms = None;
        return;
    };
    let old_enough = |(at, _): &&(u64, u64)| *at + LAG_MS <= now_ms;
    let Some(offset) = source.history.iter().rev().find(old_enough).map(|(_, offset)| *offset as usize) else { return };
    let is_loaded = match host.plane.state().loading_until_ms {
        Some(until) if now_ms < until => return,
        until => until.is_some(),
    };
    let theirs = source.plane.log();
    let mut log = host.plane.log();
    if is_loaded {
        log.has_history = true;
        log.follow(&theirs, offset);
    } else if log.has_history && log.is_prefix_of(&theirs) {
        log.follow(&theirs, offset);
    } else {
        // What it had goes when the copy begins.
        let former = Arc::new(std::mem::take(&mut *log));
        if !former.is_prefix_of(&theirs) {
            facts.push(Fact::Replaced { host: id, shard: Some(shard.id), former });
        }
        drop((log, theirs));
        let mut state = host.plane.state();
        state.loading_until_ms = Some(now_ms + 10 + rng.below(60));
        (state.link_up, state.holds, state.offset) = (false, None, 0);
        return;
    }
    let len = log.len() as u64;
    drop((log, theirs));
    let mut state = host.plane.state();
    state.offset = len;
    state.link_up = true;
    state.loading_until_ms = None;
    state.holds = Some(shard.id);
}
