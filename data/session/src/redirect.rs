// SPDX-License-Identifier: BSD-3-Clause
//! Whether the keys of a command are served here, and where else if not.
//!
//! Not here: moving of slots (ASK, TRYAGAIN), which does not exist yet.

use crate::cluster_view::Placement;
use crate::dispatch::Refusal;
use crate::engine::Engine;
use crate::gate::Role;
use crate::scratch::WorkerScratch;
use crate::session::Session;
use crate::settings::Settings;
use pando_commands::{CommandSpec, KeyVec, keys_of};
use pando_keyspace::HashedKey;
use pando_resp::Args;
use pando_topology::Slot;
use std::borrow::Cow;

/// What a command asks for, as far as routing is concerned.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Route {
    pub slot: Option<Slot>,
    pub is_crossing: bool,
}

impl Route {
    pub(crate) const NONE: Route = Route { slot: None, is_crossing: false };

    pub(crate) fn add(&mut self, slot: Slot) {
        match self.slot {
            None => self.slot = Some(slot),
            Some(known) if known != slot => self.is_crossing = true,
            Some(_) => {}
        }
    }

    /// Adds the keys (or sharded channels) of a command.
    pub(crate) fn add_command(&mut self, spec: &CommandSpec, args: Args<'_>, hashed: &HashedKey, keys: &mut KeyVec) {
        if is_pubsub_shard(spec) {
            let channels = if spec.name == "spublish" { &args[1..2] } else { &args[1..] };
            channels.iter().for_each(|channel| self.add(hashed.slot_of(channel)));
            return;
        }
        keys.clear();
        // Arguments that make no sense have no keys; the handler will say what is wrong with them.
        if keys_of(spec, args, keys).is_ok() {
            keys.iter().for_each(|key| self.add(hashed.slot_of(args[key.index as usize])));
        }
        keys.clear();
    }
}

pub(crate) fn is_pubsub_shard(spec: &CommandSpec) -> bool {
    matches!(spec.name, "spublish" | "ssubscribe" | "sunsubscribe")
}

impl Session {
    /// Refuses keys that are not served here, or not now. Only called in cluster mode.
    pub(crate) fn check_route(
        &self,
        engine: &Engine,
        w: &mut WorkerScratch,
        settings: &Settings,
        route: Route,
        is_write: bool,
        is_pubsub_shard: bool,
    ) -> Result<(), Refusal> {
        const DOWN: Refusal = Refusal::Redirect(Cow::Borrowed("CLUSTERDOWN The cluster is down"));
        let refused = |line: &'static str| Err(Refusal::Redirect(Cow::Borrowed(line)));
        let is_primary = engine.gate.role() == Role::Primary;
        let has_lease = !is_primary || engine.gate.may_write_now();
        let Some(slot) = route.slot else {
            // FLUSHALL and the like name no key, but are writes all the same.
            return match is_write && !has_lease {
                true if engine.gate.is_changing_hands() => Err(Refusal::Paused),
                true => Err(DOWN),
                false => Ok(()),
            };
        };
        let view = w.cluster();
        let placement = view.map_or(Placement::Unassigned, |view| view.placement(slot));
        if placement == Placement::Unassigned {
            return refused("CLUSTERDOWN Hash slot not served");
        }
        if route.is_crossing {
            return refused("CROSSSLOT Keys in request don't hash to the same slot");
        }
        if !has_lease && placement == Placement::Mine && engine.gate.is_changing_hands() {
            return Err(Refusal::Paused);
        }
        // Without a lease this node may not serve its own slots, but it can tell who serves the others:
        // a root without data never has one.
        if !engine.gate.cluster_ok() || (!has_lease && placement == Placement::Mine) {
            if is_pubsub_shard {
                if !settings.cluster_allow_pubsubshard_when_down {
                    return Err(DOWN);
                }
            } else if !settings.cluster_allow_reads_when_down {
                return Err(DOWN);
            } else if is_write {
                return refused("CLUSTERDOWN The cluster is down and only accepts read commands");
            }
        }
        let is_served = match placement {
            Placement::Mine => true,
            Placement::MyPrimarys => !is_write && (self.is_readonly || is_pubsub_shard),
            Placement::Elsewhere | Placement::Unassigned => false,
        };
        if is_served {
            return Ok(());
        }
        let line = view.map(|view| view.moved(slot, settings.cluster_preferred_endpoint_type, self.shared.is_tls));
        Err(Refusal::Redirect(Cow::Owned(line.unwrap_or_default())))
    }
}
