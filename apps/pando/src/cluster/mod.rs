// SPDX-License-Identifier: BSD-3-Clause
//! `pando cluster`: what an operator does to a whole cluster. So far `create`.

mod plan;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::link::{Link, field, wait_for};
use crate::output::say;
use plan::{Plan, plan};

/// For one reply. Changes are answered when the roots have committed them.
const REPLY_LIMIT: Duration = Duration::from_secs(15);
/// For a node that is starting to accept connections.
const START_LIMIT: Duration = Duration::from_secs(5);
/// Nodes that join one after the other, to be the roots.
const ROOTS: usize = 3;
/// Nodes that are asked at the same time.
const THREADS: usize = 64;
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

/// Forms a cluster; `say` is told each step. The nodes are asked at the same time, but for the first three.
///
/// # Errors
/// The node and the step that failed. Steps that were done stay done.
pub fn create(nodes: &[String], replicas: usize, say: &mut dyn FnMut(String)) -> Result<(), String> {
    let plan = plan(nodes, replicas)?;
    let cluster = Cluster::connect(nodes)?;
    for primary in &plan.primaries {
        say(format!("primary {}: slots {}-{}", nodes[primary.node], primary.first, primary.last));
    }
    for replica in &plan.replicas {
        say(format!("replica {} of {}", nodes[replica.node], nodes[replica.of]));
    }
    // The roots are the nodes that joined first.
    for node in 1..nodes.len().min(ROOTS) {
        cluster.join(node)?;
    }
    // Primaries first: replicas wait for theirs.
    let primaries = plan.primaries.iter().map(|primary| primary.node);
    let order: Vec<usize> = primaries.chain(plan.replicas.iter().map(|replica| replica.node)).collect();
    at_once(order.len(), |place| {
        let node = order[place];
        if node >= ROOTS {
            cluster.join(node)?;
        }
        cluster.assign(node, &plan)
    })?;
    say(format!("{} nodes joined, slots and replicas assigned", nodes.len()));
    cluster.each(|node| cluster.wait_formed(node))?;
    say("all 16384 slots are served and every replica is in sync".into());
    Ok(())
}

/// One of the nodes.
struct Member {
    address: String,
    id: String,
    link: Mutex<Link>,
}

/// The nodes, by their place in the list that was given.
struct Cluster {
    members: Vec<Member>,
}

impl Cluster {
    fn connect(nodes: &[String]) -> Result<Cluster, String> {
        let members = at_once(nodes.len(), |node| {
            let address = nodes[node].clone();
            // Whoever starts nodes and makes them a cluster in one script need not wait in between.
            let link = wait_for(START_LIMIT, || Link::connect(&address, REPLY_LIMIT));
            let mut link = link.map_err(|reason| format!("{address}: {reason}"))?;
            let id = check_unused(&mut link).map_err(|reason| format!("{address}: {reason}"))?;
            Ok(Member { address, id, link: Mutex::new(link) })
        });
        Ok(Cluster { members: members? })
    }

    fn each(&self, act: impl Fn(usize) -> Result<(), String> + Sync) -> Result<(), String> {
        at_once(self.members.len(), act).map(drop)
    }

    fn ask(&self, node: usize, command: &[&str]) -> Result<String, String> {
        let member = &self.members[node];
        let mut link = member.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.text(command)
    }

    /// As [`Self::ask`]; an error says where, and what was asked.
    fn order(&self, node: usize, command: &[&str]) -> Result<(), String> {
        let reply = self.ask(node, command);
        reply.map(drop).map_err(|reason| format!("{}: {}: {reason}", self.members[node].address, command.join(" ")))
    }

    /// Makes a node part of the first one's cluster.
    fn join(&self, node: usize) -> Result<(), String> {
        let (host, port) = split(&self.members[0].address)?;
        self.order(node, &["CLUSTER", "MEET", &host, &port])
    }

    /// Gives a node that has joined what it is to do.
    fn assign(&self, node: usize, plan: &Plan) -> Result<(), String> {
        if let Some(primary) = plan.primaries.iter().find(|primary| primary.node == node) {
            let (first, last) = (primary.first.to_string(), primary.last.to_string());
            return self.order(node, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        let Some(replica) = plan.replicas.iter().find(|replica| replica.node == node) else { return Ok(()) };
        let primary = &self.members[replica.of].id;
        // Its primary joins at the same time.
        wait_for(FORM_LIMIT, || match self.order(node, &["CLUSTER", "REPLICATE", primary]) {
            Err(reason) if !reason.contains("Unknown node") => Ok(Err(reason)),
            result => result.map(Ok),
        })?
    }

    fn wait_formed(&self, node: usize) -> Result<(), String> {
        let all = self.members.len().to_string();
        let formed = wait_for(FORM_LIMIT, || {
            let info = self.ask(node, &["CLUSTER", "INFO"])?;
            let known = field(&info, "cluster_known_nodes").unwrap_or_default();
            if known != all {
                return Err(format!("knows {known} of {all} nodes"));
            }
            if field(&info, "cluster_state") != Some("ok") {
                return Err("cluster_state is not ok".into());
            }
            let info = self.ask(node, &["INFO", "replication"])?;
            let in_sync = field(&info, "role") == Some("master") || field(&info, "master_link_status") == Some("up");
            if in_sync { Ok(()) } else { Err("its replication link is not up".into()) }
        });
        formed.map_err(|reason| format!("{}: {reason}", self.members[node].address))
    }
}

/// Calls `act` for all numbers below `count`, many at a time; the results in order, or one of the errors.
fn at_once<T: Send>(count: usize, act: impl Fn(usize) -> Result<T, String> + Sync) -> Result<Vec<T>, String> {
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..count.min(THREADS) {
            scope.spawn(|| {
                while !has_failed.load(Relaxed) {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= count {
                        return;
                    }
                    let result = act(number);
                    has_failed.fetch_or(result.is_err(), Relaxed);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The node's id, if it can become part of a new cluster.
fn check_unused(link: &mut Link) -> Result<String, String> {
    // One that has just started does not know itself yet.
    let info = wait_for(START_LIMIT, || {
        let info = link.text(&["CLUSTER", "INFO"])?;
        if field(&info, "cluster_known_nodes") == Some("0") { Err("knows no node".into()) } else { Ok(info) }
    })?;
    if field(&info, "cluster_known_nodes") != Some("1") || field(&info, "cluster_slots_assigned") != Some("0") {
        return Err("is part of a cluster already, or has slots (CLUSTER RESET makes it free)".into());
    }
    match link.text(&["DBSIZE"])?.as_str() {
        "0" => link.text(&["CLUSTER", "MYID"]),
        keys => Err(format!("holds {keys} keys; only an empty node can join")),
    }
}

fn split(address: &str) -> Result<(String, String), String> {
    let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address}: expected HOST:PORT"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::at_once;

    #[test]
    fn results_are_in_order_and_an_error_ends_all() {
        assert_eq!(at_once(200, |number| Ok(number * 2)), Ok((0..200).map(|number| number * 2).collect()));
        assert_eq!(at_once(0, |_| Err::<(), _>("never".into())), Ok(Vec::new()));
        assert_eq!(at_once(1000, |_| Err::<(), _>("no".into())), Err("no".into()));
    }
}
