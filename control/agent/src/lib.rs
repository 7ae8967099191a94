// SPDX-License-Identifier: BSD-3-Clause
//! The control plane of one process: joins a cluster, keeps its promises and those of others,
//! follows the topology and, on a root, decides about it. It never touches keys: verdicts go to
//! the data plane through [`DataPlane`], requests come in through [`AgentHandle`].

mod api;
mod handle;

use std::sync::Arc;

use pando_env::Env;

pub use api::{
    AgentConfig, AgentError, AgentInfo, Answer, DataPlane, DataStatus, FailoverMode, LinkInfo,
    Request, Roles, SetSlot,
};
pub use handle::{AgentHandle, Reply};

/// Starts agents; the running one is an [`AgentHandle`].
pub struct Agent;

impl Agent {
    /// Starts an agent on the current tokio runtime (the simulator, tests). Returns once the state
    /// file is read and the cluster port is open; before that `plane` got the last known map.
    pub async fn start(
        config: AgentConfig,
        plane: Arc<dyn DataPlane>,
        env: Env,
    ) -> Result<AgentHandle, AgentError> {
        let _ = (config, plane, env);
        Err(AgentError::Raft("not built yet".into()))
    }

    /// Starts an agent on a thread of its own, named `cluster`, with its own runtime (the server).
    pub fn start_on_own_thread(
        config: AgentConfig,
        plane: Arc<dyn DataPlane>,
        env: Env,
    ) -> Result<AgentHandle, AgentError> {
        let _ = (config, plane, env);
        Err(AgentError::Raft("not built yet".into()))
    }
}
