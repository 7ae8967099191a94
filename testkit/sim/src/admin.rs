// SPDX-License-Identifier: BSD-3-Clause
//! Requests of operators and their answers: what was asked of which host, and what follows from the answer. Reads
//! of the topology go through here as well. Told as facts to the invariants.

use std::collections::BTreeMap;

use pando_agent::{Answer, FailoverMode, Request};
use pando_topology::{ClusterId, NodeId, Role, ShardId, TopologyVersion};

use crate::host::Host;
use crate::invariants::{Fact, Order};
use crate::world::{Pending, answer};

struct Open {
    number: u64,
    host: usize,
    /// Which process of the host was asked.
    start: u64,
    pending: Pending,
    kind: Asked,
    cluster: Option<ClusterId>,
}

enum Asked {
    Read,
    Change,
    /// A planned failover: the primary of the shard, how many writes it had taken when it was last seen as such.
    Failover {
        primary: NodeId,
        shard: ShardId,
        reign: TopologyVersion,
        former: Option<usize>,
        len: usize,
        sum: u64,
    },
}

/// All requests under way.
#[derive(Default)]
pub struct Admin {
    next: u64,
    open: Vec<Open>,
    began: Vec<Fact>,
    /// How many requests of each kind were answered well, and badly.
    pub answers: BTreeMap<&'static str, [u64; 2]>,
}

impl Admin {
    /// Notes a request that was just put to a host.
    pub fn asked(&mut self, host: &Host, request: &Request, pending: Pending) {
        self.next += 1;
        let view = host.plane.state().view.clone();
        let order = match (request, view.as_ref().map(|(_, me)| *me)) {
            (Request::Forget(node), _) => Some((*node, Order::Leave)),
            (Request::Failover(FailoverMode::Takeover), Some(me)) => Some((me, Order::TakeOver)),
            (Request::Replicate(_) | Request::Chain(_) | Request::Detach | Request::Reset { .. }, Some(me)) => {
                Some((me, Order::Leave))
            }
            _ => None,
        };
        self.began.extend(order.map(|(node, order)| Fact::Ordered { node, order }));
        let kind = match request {
            Request::ReadBarrier => {
                self.began.push(Fact::ReadBegan { host: host.id, number: self.next });
                Asked::Read
            }
            Request::Failover(FailoverMode::Planned) => {
                let shard = view.as_ref().and_then(|(map, me)| map.shard_of(me));
                let Some(shard) = shard else { return };
                let (primary, id, reign) = (shard.primary, shard.id, shard.reign);
                Asked::Failover { primary, shard: id, reign, former: None, len: 0, sum: 0 }
            }
            _ => Asked::Change,
        };
        let cluster = view.map(|(map, _)| map.cluster_id());
        self.open.push(Open { number: self.next, host: host.id, start: host.starts(), pending, kind, cluster });
    }

    /// One step: what was asked and answered since the last one.
    pub fn step(&mut self, hosts: &[Host], facts: &mut Vec<Fact>) {
        facts.append(&mut self.began);
        for open in &mut self.open {
            let Asked::Failover { primary, shard, reign, former, len, sum } = &mut open.kind else { continue };
            let found = hosts.iter().find(|host| {
                let state = host.plane.state();
                let is_primary = |(map, me): &(_, NodeId)| {
                    let map: &std::sync::Arc<pando_topology::ClusterMap> = map;
                    // One that was forgotten meanwhile writes on for itself, one that got the shard back for a later reign.
                    let is_there = map.shard_of(me).is_some_and(|of| of.id == *shard && of.reign <= *reign);
                    is_there && me == primary && map.role_of(me) == Some(Role::Primary)
                };
                state.view.as_ref().is_some_and(is_primary)
            });
            if let Some(host) = found {
                let log = host.plane.log();
                (*former, *len, *sum) = (Some(host.id), log.len(), log.sum(log.len()).unwrap_or(0));
            }
        }
        let mut still = Vec::new();
        for open in std::mem::take(&mut self.open) {
            // A process that is gone never answers.
            if !hosts[open.host].has_process() || hosts[open.host].starts() != open.start {
                continue;
            }
            match answer(&open.pending) {
                None => still.push(open),
                Some(result) => self.answered(&hosts[open.host], open, &result, facts),
            }
        }
        self.open = still;
    }

    fn answered(&mut self, host: &Host, open: Open, result: &Result<Answer, String>, facts: &mut Vec<Fact>) {
        let name = match open.kind {
            Asked::Read => "reads",
            Asked::Change => "changes",
            Asked::Failover { .. } => "planned failovers",
        };
        self.answers.entry(name).or_default()[usize::from(result.is_err())] += 1;
        let view = host.plane.state().view.clone();
        let same = view.map(|(map, _)| map).filter(|map| Some(map.cluster_id()) == open.cluster);
        match open.kind {
            Asked::Read => {
                let version = match result {
                    Ok(Answer::Version(version)) if same.is_some() => Some(*version),
                    _ => None,
                };
                let (host, number, cluster) = (open.host, open.number, open.cluster);
                facts.push(Fact::ReadEnded { host, number, cluster, version });
            }
            Asked::Change | Asked::Failover { .. } if result.is_err() => {}
            Asked::Change => facts.extend(changed(&open, same.as_deref())),
            Asked::Failover { former, len, sum, .. } => {
                facts.extend(changed(&open, same.as_deref()));
                if let Some(former) = former {
                    facts.push(Fact::HandedOver { to: open.host, former, len, sum });
                }
            }
        }
    }
}

fn changed(open: &Open, map: Option<&pando_topology::ClusterMap>) -> Option<Fact> {
    let version = map?.version();
    Some(Fact::Changed { host: open.host, cluster: open.cluster?, version })
}
