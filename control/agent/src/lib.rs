// SPDX-License-Identifier: BSD-3-Clause
//! The control plane of one process: joins a cluster, keeps its promises and those of others,
//! follows the topology and, on a root, decides about it. It never touches keys: verdicts go to
//! the data plane through [`DataPlane`], requests come in through [`AgentHandle`].

mod adopting;
mod api;
mod barrier;
mod change;
mod counters;
mod deaths;
mod driver;
mod event;
mod explain;
mod feed;
mod flow;
mod following;
mod giving;
mod group;
mod handle;
mod handover;
mod home;
mod info;
mod joining;
mod links;
mod net;
mod node_state;
mod reach;
mod repair;
mod reporting;
mod requests;
mod root_side;
mod seek;
mod shared_maps;
mod storing;
mod telling;
mod voters;

use std::sync::Arc;

use pando_env::Env;

pub use api::{
    AgentConfig, AgentError, AgentInfo, Answer, DataPlane, DataStatus, FailoverMode, LinkInfo, OwnRoot, OwnView,
    Request, Roles, SetSlot,
};
pub use handle::{AgentHandle, Reply};
pub use pando_root_state::{Event, Opinion, PromoteReason, Record, SeenCandidate, Stamp, Subject, Topic, WhyNot};
pub use pando_wire::explain::{Explanation, Question, RootNow, ShardNow};
pub use shared_maps::SharedMaps;

/// Starts agents; the running one is an [`AgentHandle`].
pub struct Agent;

impl Agent {
    /// Starts an agent on the current tokio runtime (the simulator, tests). Returns once the state
    /// file is read and the cluster port is open; before that `plane` got the last known map.
    pub async fn start(config: AgentConfig, plane: Arc<dyn DataPlane>, env: Env) -> Result<AgentHandle, AgentError> {
        driver::start(config, plane, env, home::Home::default()).await
    }

    /// Starts an agent on a thread of its own, named `cluster`, with its own runtime (the server). A node that may be
    /// a root gets a second one, `roots`, for its member of their group.
    pub fn start_on_own_thread(
        config: AgentConfig,
        plane: Arc<dyn DataPlane>,
        env: Env,
    ) -> Result<AgentHandle, AgentError> {
        let (started, start) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("cluster".into());
        let body = move || {
            // `roots` is started from here and gets the same.
            if let Err(error) = pando_env::make_this_thread_urgent() {
                tracing::debug!(%error, "the cluster's threads run like all others");
            }
            // One thread: the control plane's work is small, and it must not take cores from workers.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(AgentError::Thread(error)))),
            };
            runtime.block_on(async move {
                let result = driver::start(config, plane, env, home::Home::own_thread()).await;
                let is_running = result.is_ok();
                started.send(result).ok();
                if is_running {
                    // The runtime lives as long as the process; `shutdown` stops what runs in it.
                    std::future::pending::<()>().await;
                }
            });
        };
        thread.spawn(body).map_err(AgentError::Thread)?;
        start.recv().unwrap_or_else(|_| Err(AgentError::Raft("the cluster thread has died".into())))
    }
}
