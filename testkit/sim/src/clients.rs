// SPDX-License-Identifier: BSD-3-Clause
//! Simulated clients: each writes again and again, follows MOVED, tries elsewhere when nobody answers, and waits
//! for its write to be on all members of the shard (as WAIT does) or not. They reach every host, whatever is cut
//! between hosts, so a primary that is cut off is asked as well. What was acknowledged is told as facts.

use std::collections::BTreeMap;

use pando_env::Rng;
use pando_topology::{NodeId, Role, SLOT_COUNT, ShardId, Slot, TopologyVersion};

use crate::data::Writer;
use crate::host::Host;
use crate::invariants::Fact;

/// How long a client waits for a host that says nothing.
const PATIENCE_MS: u64 = 150;
/// How long it waits for the members of a shard.
const WAIT_MS: u64 = 400;

/// What a client is about.
enum Doing {
    /// Nothing until then.
    Pausing { until: u64 },
    /// Its request arrives at the host at this time.
    Asking { host: usize, slot: Slot, at: u64, since: u64 },
    /// The host has written it and looks once more whether it still may.
    Written { host: usize, write: u64, place: usize, reign: TopologyVersion, shard: ShardId, since: u64 },
}

struct Client {
    /// Waits for all members of the shard.
    waits: bool,
    doing: Doing,
    /// Where slots were last, by the first slot of each quarter thousand.
    known: BTreeMap<usize, usize>,
}

/// All clients of a run.
#[derive(Default)]
pub struct Clients {
    clients: Vec<Client>,
    /// How many writes were acknowledged, with and without waiting.
    pub acknowledged: [u64; 2],
    /// How many got no answer or a refusal.
    pub unknown: u64,
}

impl Clients {
    /// So many clients; every second one waits for the members of the shard.
    pub fn new(count: usize) -> Clients {
        let client = |index| Client {
            waits: index % 2 == 0,
            doing: Doing::Pausing { until: index as u64 },
            known: BTreeMap::new(),
        };
        Clients { clients: (0..count).map(client).collect(), ..Clients::default() }
    }

    /// One step of all of them at this true time.
    pub fn step(&mut self, now_ms: u64, hosts: &[Host], rng: &dyn Rng, writer: &mut Writer, facts: &mut Vec<Fact>) {
        for client in &mut self.clients {
            let next = match &client.doing {
                Doing::Pausing { until } if now_ms < *until => continue,
                Doing::Pausing { .. } => {
                    let slot = Slot::new(rng.below(SLOT_COUNT as u64) as u16).unwrap_or(Slot::MIN);
                    let host = client.known.get(&(slot.index() / 256)).copied();
                    let host = host.unwrap_or_else(|| rng.below(hosts.len() as u64) as usize);
                    Doing::Asking { host, slot, at: now_ms + 1, since: now_ms }
                }
                Doing::Asking { at, .. } if now_ms < *at => continue,
                Doing::Asking { host, slot, since, .. } => {
                    let (host, slot, since) = (*host, *slot, *since);
                    match ask(&hosts[host], hosts, slot, writer) {
                        Heard::Written(write, place, shard, reign) => {
                            client.known.insert(slot.index() / 256, host);
                            Doing::Written { host, write, place, reign, shard, since: now_ms }
                        }
                        Heard::Moved(to) => {
                            client.known.insert(slot.index() / 256, to);
                            Doing::Asking { host: to, slot, at: now_ms + 2, since }
                        }
                        Heard::NotNow if now_ms < since + PATIENCE_MS => continue,
                        Heard::NotNow | Heard::Refused => {
                            // Somewhere else next time.
                            self.unknown += 1;
                            client.known.insert(slot.index() / 256, rng.below(hosts.len() as u64) as usize);
                            Doing::Pausing { until: now_ms + 5 + rng.below(20) }
                        }
                    }
                }
                Doing::Written { host, write, place, reign, shard, since } => {
                    let (write, place, shard) = (*write, *place, *shard);
                    match look_again(&hosts[*host], hosts, write, place, (shard, *reign), client.waits) {
                        Some(true) => {
                            self.acknowledged[usize::from(client.waits)] += 1;
                            if client.waits {
                                facts.push(Fact::Kept { shard, write, at: place });
                            }
                            Doing::Pausing { until: now_ms + 1 + rng.below(8) }
                        }
                        Some(false) if now_ms < since + WAIT_MS => continue,
                        Some(false) | None => {
                            self.unknown += 1;
                            Doing::Pausing { until: now_ms + 1 + rng.below(8) }
                        }
                    }
                }
            };
            client.doing = next;
        }
    }
}

enum Heard {
    Written(u64, usize, ShardId, TopologyVersion),
    Moved(usize),
    /// Nothing yet: the process stands still, or holds the request.
    NotNow,
    Refused,
}

fn ask(host: &Host, hosts: &[Host], slot: Slot, writer: &mut Writer) -> Heard {
    if !host.has_process() {
        return Heard::Refused;
    }
    if !host.is_running() {
        return Heard::NotNow;
    }
    let state = host.plane.state().clone();
    let Some((map, me)) = &state.view else { return Heard::Refused };
    let Some(owner) = map.owner_of(slot) else { return Heard::Refused };
    if owner.primary != *me {
        let to = host_of(hosts, &owner.primary);
        return to.filter(|to| *to != host.id).map_or(Heard::Refused, Heard::Moved);
    }
    if host.now_ms() < state.paused_until_ms {
        return Heard::NotNow;
    }
    let Some((shard, reign)) = state.accepts(host.now_ms()) else { return Heard::Refused };
    let (write, place) = (writer.number(), host.plane.log().len());
    host.plane.write(write);
    Heard::Written(write, place, shard, reign)
}

/// Whether the write may be acknowledged; `None`: never.
fn look_again(
    host: &Host,
    hosts: &[Host],
    write: u64,
    place: usize,
    reign: (ShardId, TopologyVersion),
    waits: bool,
) -> Option<bool> {
    if !host.has_process() || host.plane.log().writes().get(place) != Some(&write) {
        return None;
    }
    if !host.is_running() {
        return Some(false);
    }
    let state = host.plane.state().clone();
    let (map, me) = state.view.as_ref()?;
    let shard = map.shard(&reign.0).filter(|shard| shard.reign == reign.1 && shard.primary == *me)?;
    // As `accepts`, but a pause that began meanwhile holds no reply.
    if host.now_ms() >= state.lease_until_ms {
        return None;
    }
    if !waits {
        return Some(true);
    }
    let has = |replica: &NodeId| {
        hosts.iter().any(|other| {
            let state = other.plane.state().clone();
            let is_it = state.view.is_some_and(|(map, id)| {
                id == *replica
                    && map.role_of(&id) == Some(Role::Replica)
                    && map.shard_of(&id).map(|s| s.id) == Some(reign.0)
            });
            is_it && state.link_up && other.is_running() && other.plane.log().writes().get(place) == Some(&write)
        })
    };
    // Without replicas there is nobody to wait for, and nothing is promised.
    if shard.replicas.is_empty() { None } else { Some(shard.replicas.iter().all(has)) }
}

/// The host that has this node, by its own view.
fn host_of(hosts: &[Host], node: &NodeId) -> Option<usize> {
    hosts.iter().find(|host| host.plane.state().view.as_ref().is_some_and(|(_, id)| id == node)).map(|host| host.id)
}
