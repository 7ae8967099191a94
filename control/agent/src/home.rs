// SPDX-License-Identifier: BSD-3-Clause
//! Where this node's member of the root group runs. In a server it has a thread of its own: the thread of the
//! driver serves every node of the cluster, and while ten thousand of them talk at once, the other roots' heartbeats and entries
//! would wait behind them until they elect another leader, who has even more to do. In the simulator, and where
//! many agents share a process, everything runs on one runtime.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use pando_env::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// See the head of this file. Clones share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Home(Option<Arc<OnceLock<Handle>>>);

impl Home {
    /// A thread, started when it is first needed. It lasts as long as the process.
    pub fn own_thread() -> Self {
        Self(Some(Arc::default()))
    }

    fn handle(&self) -> Handle {
        let start = || {
            start().unwrap_or_else(|error| {
                tracing::warn!(%error, "the member of the root group has no thread of its own");
                Handle::current()
            })
        };
        let own = self.0.as_ref().map(|thread| thread.get_or_init(start));
        own.cloned().unwrap_or_else(Handle::current)
    }

    /// Starts a task there.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle().spawn(work)
    }

    /// Does the work there, and waits for it. There it goes on even if nobody waits any more.
    pub fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> BoxFuture<'static, T> {
        if self.0.is_none() {
            return Box::pin(work);
        }
        let working = self.spawn(work);
        Box::pin(async move {
            match working.await {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Nobody cancels it, and the runtime ends with the process.
                    Err(_) => std::future::pending().await,
                },
            }
        })
    }
}

/// Starts the thread; if it cannot be had, the member runs beside the driver.
fn start() -> std::io::Result<Handle> {
    let (started, start) = std::sync::mpsc::channel();
    let body = move || {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        started.send(Ok(runtime.handle().clone())).ok();
        runtime.block_on(std::future::pending::<()>());
    };
    std::thread::Builder::new().name("roots".into()).spawn(body)?;
    start.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread has died")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_the_own_thread_or_here() {
        let name = || async { std::thread::current().name().map(str::to_owned) };
        let here = name().await;
        assert_eq!(Home::default().run(name()).await, here);
        let home = Home::own_thread();
        assert_eq!(home.run(name()).await.as_deref(), Some("roots"));
        assert_eq!(home.clone().spawn(name()).await.expect("it ends").as_deref(), Some("roots"));
    }
}
