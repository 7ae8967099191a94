// SPDX-License-Identifier: BSD-3-Clause
//! `pando cluster`: what an operator does to a whole cluster. So far `create`.

mod plan;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::link::{Link, field, wait_for};
use crate::output::say;
use plan::{Plan, plan};

/// For one reply. Changes are answered when the roots have committed them.
const REPLY_LIMIT: Duration = Duration::from_secs(15);
/// For the cluster to agree and its replicas to have their data.
const FORM_LIMIT: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make one cluster of nodes that were started with `cluster-enabled yes`. The first three become its roots.
    Create {
        /// The nodes; the first ones become primaries.
        #[arg(required = true, value_name = "HOST:PORT")]
        nodes: Vec<String>,
        /// Replicas for each primary.
        #[arg(long, default_value_t = 0)]
        replicas: usize,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// What went wrong, for the operator to read.
pub fn run(args: &ClusterArgs) -> Result<(), String> {
    match &args.command {
        Command::Create { nodes, replicas } => create(nodes, *replicas, &mut |line| say!("{line}")),
    }
}

/// Forms a cluster; `say` is told each step.
///
/// # Errors
/// The node and the step that failed. Steps that were done stay done.
pub fn create(nodes: &[String], replicas: usize, say: &mut dyn FnMut(String)) -> Result<(), String> {
    let plan = plan(nodes, replicas)?;
    let mut links = Vec::new();
    for node in nodes {
        let mut link = Link::connect(node, REPLY_LIMIT)?;
        check_unused(&mut link).map_err(|reason| format!("{node}: {reason}"))?;
        links.push(link);
    }
    for primary in &plan.primaries {
        say(format!("primary {}: slots {}-{}", nodes[primary.node], primary.first, primary.last));
    }
    for replica in &plan.replicas {
        say(format!("replica {} of {}", nodes[replica.node], nodes[replica.of]));
    }
    join(nodes, &mut links)?;
    say(format!("{} nodes joined", nodes.len()));
    assign(nodes, &plan, &mut links)?;
    say("slots and replicas assigned".into());
    wait_formed(nodes, &mut links)?;
    say("all 16384 slots are served and every replica is in sync".into());
    Ok(())
}

fn check_unused(link: &mut Link) -> Result<(), String> {
    let info = link.text(&["CLUSTER", "INFO"])?;
    if field(&info, "cluster_known_nodes") != Some("1") || field(&info, "cluster_slots_assigned") != Some("0") {
        return Err("is part of a cluster already, or has slots (CLUSTER RESET makes it free)".into());
    }
    match link.text(&["DBSIZE"])?.as_str() {
        "0" => Ok(()),
        keys => Err(format!("holds {keys} keys; only an empty node can join")),
    }
}

/// Every node meets the first, one after the other: so the first three are the roots.
fn join(nodes: &[String], links: &mut [Link]) -> Result<(), String> {
    let (host, port) = split(&nodes[0])?;
    for (node, link) in nodes.iter().zip(links.iter_mut()).skip(1) {
        link.text(&["CLUSTER", "MEET", &host, &port]).map_err(|reason| format!("{node}: CLUSTER MEET: {reason}"))?;
    }
    for (node, link) in nodes.iter().zip(links) {
        let all = nodes.len().to_string();
        let known = wait_for(FORM_LIMIT, || {
            let info = link.text(&["CLUSTER", "INFO"])?;
            let known = field(&info, "cluster_known_nodes").unwrap_or_default();
            if known == all { Ok(()) } else { Err(format!("knows {known} of {all} nodes")) }
        });
        known.map_err(|reason| format!("{node}: {reason}"))?;
    }
    Ok(())
}

fn assign(nodes: &[String], plan: &Plan, links: &mut [Link]) -> Result<(), String> {
    for primary in &plan.primaries {
        let (first, last) = (primary.first.to_string(), primary.last.to_string());
        let reply = links[primary.node].text(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        reply.map_err(|reason| format!("{}: CLUSTER ADDSLOTSRANGE: {reason}", nodes[primary.node]))?;
    }
    for replica in &plan.replicas {
        let id = links[replica.of].text(&["CLUSTER", "MYID"])?;
        let reply = links[replica.node].text(&["CLUSTER", "REPLICATE", &id]);
        reply.map_err(|reason| format!("{}: CLUSTER REPLICATE: {reason}", nodes[replica.node]))?;
    }
    Ok(())
}

fn wait_formed(nodes: &[String], links: &mut [Link]) -> Result<(), String> {
    for (node, link) in nodes.iter().zip(links) {
        let formed = wait_for(FORM_LIMIT, || {
            let info = link.text(&["CLUSTER", "INFO"])?;
            if field(&info, "cluster_state") != Some("ok") {
                return Err("cluster_state is not ok".into());
            }
            let info = link.text(&["INFO", "replication"])?;
            let in_sync = field(&info, "role") == Some("master") || field(&info, "master_link_status") == Some("up");
            if in_sync { Ok(()) } else { Err("its replication link is not up".into()) }
        });
        formed.map_err(|reason| format!("{node}: {reason}"))?;
    }
    Ok(())
}

fn split(address: &str) -> Result<(String, String), String> {
    let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address}: expected HOST:PORT"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port.to_owned()))
}
