// SPDX-License-Identifier: BSD-3-Clause
//! What the agent takes from the configuration.

use std::path::PathBuf;

use pando_agent::{AgentConfig, Roles};

use crate::config::Values;

/// Distance between the client port and the cluster port, as in Valkey.
const CLUSTER_PORT_OFFSET: u16 = 10_000;

/// Directives that the agent takes over while it runs.
const LIVE: &[&str] = &[
    "availability-zone",
    "cluster-allow-replica-migration",
    "cluster-failover-zone-affinity",
    "cluster-manual-failover-timeout",
    "cluster-migration-barrier",
    "cluster-replica-no-failover",
    "cluster-replica-validity-factor",
    "cluster-require-full-coverage",
    "repl-ping-replica-period",
    "replica-priority",
];

/// Whether a change of this directive concerns the agent.
pub fn is_live(name: &str) -> bool {
    LIVE.contains(&name) || name.starts_with("cluster-announce-")
}

/// The agent's configuration.
pub fn agent_config(values: &Values) -> AgentConfig {
    let text = |name: &str| values.named(name).to_owned();
    let port = |name: &str| values.number(name) as u16;
    let or = |announced: u16, own: u16| if announced == 0 { own } else { announced };
    let client_port = or(port("cluster-announce-port"), port("port"));
    let own_cluster_port = or(port("cluster-port"), port("port").saturating_add(CLUSTER_PORT_OFFSET));
    AgentConfig {
        host: announced_host(values),
        maps: Default::default(),
        hostname: text("cluster-announce-hostname"),
        bind: bind_address(values),
        port: client_port,
        tls_port: 0,
        cluster_port: own_cluster_port,
        dir: PathBuf::from(values.named("dir")),
        state_file: text("cluster-config-file"),
        roles: roles(values.named("cluster-roles")),
        roots: values.named("cluster-roots").split_whitespace().map(str::to_owned).collect(),
        root_count: values.number("cluster-root-count") as usize,
        root_patience_ms: values.number("cluster-root-patience") as u64,
        lease_ms: values.number("cluster-node-timeout").max(1) as u64,
        zone: text("availability-zone"),
        // 0 must stay 0; what is larger than fits comes last all the same.
        replica_priority: values.number("replica-priority").min(i64::from(u16::MAX)) as u16,
        no_failover: values.is_yes("cluster-replica-no-failover"),
        require_full_coverage: values.is_yes("cluster-require-full-coverage"),
        announced_cluster_port: port("cluster-announce-bus-port"),
        migration_barrier: values
            .is_yes("cluster-allow-replica-migration")
            .then(|| values.number("cluster-migration-barrier") as u32),
        validity_factor: values.number("cluster-replica-validity-factor") as u64,
        repl_ping_ms: 1000 * values.number("repl-ping-replica-period") as u64,
        zone_affinity: values.is_yes("cluster-failover-zone-affinity"),
        manual_failover_ms: values.number("cluster-manual-failover-timeout") as u64,
        snapshot_entries: 5000,
    }
}

fn roles(text: &str) -> Roles {
    let has = |role: &str| text.split([',', ' ']).any(|word| word.trim() == role);
    Roles { data: has("data"), root: has("root") }
}

/// The addresses of `bind` without the mark for optional ones.
fn bound(values: &Values) -> Vec<&str> {
    values.named("bind").split_whitespace().map(|address| address.trim_start_matches('-')).collect()
}

fn is_wildcard(address: &str) -> bool {
    matches!(address, "*" | "0.0.0.0" | "::" | "::*" | "")
}

/// The announced address; else the first bound one that others can reach; else nothing: it is learned from the first contact.
fn announced_host(values: &Values) -> String {
    let announced = values.named("cluster-announce-ip");
    if !announced.is_empty() {
        return announced.to_owned();
    }
    let first = bound(values).first().copied().unwrap_or_default();
    if is_wildcard(first) { String::new() } else { first.to_owned() }
}

/// Where the cluster port listens: on the one bound address, or on all when there are several.
fn bind_address(values: &Values) -> String {
    match bound(values).as_slice() {
        [only] if !is_wildcard(only) => (*only).to_owned(),
        _ => String::new(),
    }
}
