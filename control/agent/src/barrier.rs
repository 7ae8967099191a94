// SPDX-License-Identifier: BSD-3-Clause
//! Linearizable reads of the topology, shared: a read that comes while a barrier is under way waits for the next one, together
//! with all others that come meanwhile. However many clients ask, one barrier at a time goes to the majority.
//! Called by the driver.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pando_wire::messages::{Call, Reply};
use tokio::time::Instant;

use crate::api::Answer;
use crate::driver::Driver;
use crate::event::Event;
use crate::flow::{Flow, NO_MAJORITY};
use crate::handle;

/// How long a read of the topology waits for a majority: some elections, less than clients wait.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The same on a node that a majority has answered before and does not any more: there is little hope.
const CUT_OFF_TIMEOUT: Duration = Duration::from_millis(300);

/// Reads that wait.
#[derive(Default)]
pub(crate) struct Readers {
    /// Behind a lock that nobody contends for: references to the driver cross tasks.
    waiting: Mutex<Vec<handle::Reply>>,
    is_under_way: bool,
}

impl Driver {
    /// `Request::ReadBarrier`.
    pub fn read_barrier(&mut self, reply: handle::Reply) {
        self.readers.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).push(reply);
        self.next_barrier();
    }

    /// A barrier is over; those who came after it began need another one.
    pub fn on_barrier_done(&mut self) {
        self.readers.is_under_way = false;
        self.next_barrier();
    }

    fn next_barrier(&mut self) {
        let waiting = self.readers.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.readers.is_under_way || waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(waiting);
        self.readers.is_under_way = true;
        let limit = if self.is_cut_off() { CUT_OFF_TIMEOUT } else { READ_TIMEOUT };
        let (flow, events) = (self.flow(), self.events.clone());
        tokio::spawn(async move {
            let result = match flow.read_barrier(limit).await {
                Err(text) if text == NO_MAJORITY => Err(flow.why_no_majority().await),
                result => result,
            };
            events.send(Event::BarrierDone).ok();
            for reply in waiting {
                reply(result.clone());
            }
        });
    }
}

impl Flow {
    /// Waits until this node's map, and the data plane's, has every change that was committed before the call.
    async fn read_barrier(&self, limit: Duration) -> Result<Answer, String> {
        let deadline = Instant::now() + limit;
        let cluster = self.view().identity.cluster;
        let version = loop {
            let view = self.view();
            let is_root = view.map.roots().contains(&view.identity.node);
            let asked = match &view.group {
                // A root asks over the connections that the group has anyway.
                Some(group) if is_root => match tokio::time::timeout_at(deadline, group.barrier()).await {
                    Ok(Ok(version)) => Some(version),
                    Ok(Err(_)) | Err(_) => None,
                },
                _ => match self.ask_leader(&Call::Barrier, None, deadline).await? {
                    Reply::Version(version) => Some(version),
                    _ => None,
                },
            };
            match asked {
                Some(version) => break version,
                None if Instant::now() >= deadline => return Err(NO_MAJORITY.into()),
                None => tokio::time::sleep(Duration::from_millis(15 + self.env.rng.below(15))).await,
            }
        };
        self.reach(cluster, version, deadline).await;
        let reached = self.view().map.version();
        if reached < version { Err(NO_MAJORITY.into()) } else { Ok(Answer::Version(reached)) }
    }
}
