// SPDX-License-Identifier: BSD-3-Clause
//! Cluster mode: the agent's data plane and the CLUSTER commands. How topology is agreed on is the agent's business.

mod arguments;
pub mod commands;
mod config;
mod data_plane;
mod explain;
mod explain_text;
mod prepared;
mod role_thread;
pub mod runtime;
mod scan;
mod show;
mod slot_stats;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pando_agent::{Agent, AgentError, Request};

use pando_env::Env;

use crate::config::Values;
use crate::server::Server;
pub use config::is_live;
use data_plane::ServerDataPlane;
pub use runtime::ClusterRuntime;

/// Starts the agent on a thread of its own, and lets CLUSTER commands and PUBLISH reach it. Until the roots have spoken, this
/// node holds no lease and takes no writes.
///
/// # Errors
/// A cluster port that is taken, or files that cannot be used.
pub fn start(server: &Arc<Server>, values: &Values) -> Result<(), AgentError> {
    let engine = &server.engine;
    engine.gate.set_lease_until(0);
    engine.gate.set_cluster_ok(false);
    let runtime = ClusterRuntime::new(server);
    let data_plane = Arc::new(ServerDataPlane::new(Arc::clone(&runtime)).map_err(AgentError::Thread)?);
    let agent = Agent::start_on_own_thread(config::agent_config(values), data_plane, Env::real())?;
    let publisher = agent.clone();
    let hook = move |channel: &[u8], message: &[u8], sharded: bool| {
        let (channel, message) = (Arc::from(channel), Arc::from(message));
        publisher.submit(Request::Publish { channel, message, sharded }, Box::new(|_| ()));
    };
    // Set once for each process; a second server in one process (tests) has an engine of its own.
    let _ = engine.publish_hook.set(Box::new(hook));
    runtime.set_agent(agent);
    let _ = server.cluster.set(runtime);
    wait_for_first_map(server, values);
    Ok(())
}

/// A cluster of one, and a node that comes back, knows its topology at once; clients are let in when it does. A node that
/// has yet to find its roots opens its port without.
fn wait_for_first_map(server: &Arc<Server>, values: &Values) {
    const LIMIT: Duration = Duration::from_secs(2);
    let start = Instant::now();
    let is_alone = values.named("cluster-roots").is_empty();
    while is_alone && server.engine.cluster.load().is_none() && start.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(2));
    }
}
