// SPDX-License-Identifier: BSD-3-Clause
//! The handle that worker threads hold: it only queues requests and reads snapshots.
//! Every method may be called from any thread.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::api::{AgentConfig, AgentInfo, Answer, Request};
use crate::info::Info;

/// Called exactly once with the result of a request, on the cluster thread; must not block.
pub type Reply = Box<dyn FnOnce(Result<Answer, String>) + Send>;

/// What a handle asks of the agent's task.
pub(crate) enum Ask {
    Request(Request, Reply),
    Configure(Box<AgentConfig>),
    Shutdown(oneshot::Sender<()>),
}

/// A running agent. Clones are cheap and refer to the same agent.
#[derive(Clone)]
pub struct AgentHandle {
    pub(crate) asks: mpsc::UnboundedSender<Ask>,
    pub(crate) info: Arc<Info>,
}

impl AgentHandle {
    /// Queues a request; `reply` is called with its result (a final client text on refusal).
    pub fn submit(&self, request: Request, reply: Reply) {
        if let Err(mpsc::error::SendError(Ask::Request(_, reply))) = self.asks.send(Ask::Request(request, reply)) {
            reply(Err("ERR The cluster agent is shut down".into()));
        }
    }

    /// Like [`AgentHandle::submit`], for callers that are async themselves (tests, the simulator).
    pub async fn ask(&self, request: Request) -> Result<Answer, String> {
        let (sender, receiver) = oneshot::channel();
        self.submit(request, Box::new(move |result| drop(sender.send(result))));
        receiver.await.unwrap_or_else(|_| Err("ERR The cluster agent is shut down".into()))
    }

    /// Takes over a changed configuration, as far as it may change while the process runs, and tells the roots.
    pub fn configure(&self, config: AgentConfig) {
        // An error means that the agent is gone, and nobody needs the change.
        self.asks.send(Ask::Configure(Box::new(config))).ok();
    }

    /// What there is to show at this moment.
    pub fn info(&self) -> AgentInfo {
        self.info.snapshot()
    }

    /// This node is a voter of the root group.
    pub fn is_root(&self) -> bool {
        self.info.is_root()
    }

    /// A majority of the roots answers this node.
    pub fn has_quorum(&self) -> bool {
        self.info.has_quorum()
    }

    /// Hands leadership over if this node leads, ends its promises, and stops. Works on any runtime.
    pub async fn shutdown(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.asks.send(Ask::Shutdown(sender)).is_ok() {
            // An error means that the agent is gone already, which is what was asked for.
            receiver.await.ok();
        }
    }
}
