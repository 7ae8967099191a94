// SPDX-License-Identifier: BSD-3-Clause
//! A primary gives slots of its own away: to another one (`CLUSTER SETSLOT … NODE`), or to nobody (`DELSLOTS`,
//! `FLUSHSLOTS`). The next owner may write as soon as it knows, which may be before this one does. So this one stops
//! first, and writes again when its own map shows what came of it.
//!
//! ```text
//!   hold writes until those under way have ended ─► give up the lease ─► commit, as often as it takes to know
//!   ─► the map shows it ─► the lease counts again, writes go on
//! ```
//! What is proposed is bound to the reign in which it was asked: a process that starts anew meanwhile knows nothing of
//! it, and with its reign the proposal has become void.

use std::time::Duration;

use pando_root_state::{Command, Proposal};
use pando_topology::{ClusterId, NodeId, Role, SlotSet};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::api::Answer;
use crate::driver::Driver;
use crate::event::Event;
use crate::flow::{COMMIT_TIMEOUT, Flow, NO_MAJORITY, ProposeError};

/// Why the shard cannot be handed over at the moment.
pub(crate) const GIVING: &str = "ERR Slots of this shard are being given away";
const BUSY: &str = "ERR The shard is being handed over, try again";
const SLOW: &str = "ERR A command that runs did not end in time, try again";

/// What the driver knows of it.
#[derive(Default)]
pub(crate) struct Giving {
    /// How many are under way, and how many of them keep the node from writing.
    begun: u32,
    withheld: u32,
    /// A planned failover holds writes until then.
    pub handover_until_ms: u64,
}

impl Giving {
    pub fn is_under_way(&self) -> bool {
        self.begun > 0
    }

    /// The lease does not count.
    pub fn withholds(&self) -> bool {
        self.withheld > 0
    }
}

impl Flow {
    /// Commits a change that takes `slots` (none: all) from this node.
    pub async fn give_away(&self, slots: Option<&SlotSet>, command: Command) -> Result<Answer, String> {
        let view = self.view();
        let me = view.identity.node;
        let shard = view.map.shard_of(&me).filter(|_| view.map.role_of(&me) == Some(Role::Primary));
        let owned = shard.filter(|shard| match slots {
            Some(slots) => slots.iter().any(|slot| shard.slots.contains(slot)),
            None => !shard.slots.is_empty(),
        });
        let Some(shard) = owned.filter(|_| view.map.nodes().len() > 1) else {
            return self.commit(command).await.map(|_| Answer::Ok);
        };
        let command = Command::DuringReign { node: me, reign: shard.reign, command: Box::new(command) };
        let (proposal, cluster, flow) = (self.proposal(command), view.identity.cluster, self.clone());
        self.ask_driver(Driver::begin_giving).await??;
        // Beside this flow: it goes on when nobody waits for it any more.
        let done = tokio::spawn(async move {
            let result = flow.give(&proposal, cluster, me).await;
            flow.ask_driver(Driver::end_giving).await.ok();
            result
        });
        // Something longer than it takes with roots that answer.
        match tokio::time::timeout(2 * COMMIT_TIMEOUT, done).await {
            Ok(Ok(result)) => result.map(|()| Answer::Ok),
            Ok(Err(_)) | Err(_) => Err(NO_MAJORITY.into()),
        }
    }

    async fn give(&self, proposal: &Proposal, cluster: ClusterId, me: NodeId) -> Result<(), String> {
        let limit = Duration::from_millis(self.config.manual_failover_ms);
        let until_ms = self.env.clock.now_ms() + self.config.manual_failover_ms;
        let ended = self.ask_driver(move |driver| driver.plane.pause_writes(Some(until_ms))).await?;
        tokio::time::timeout(limit, ended).await.map_err(|_| SLOW)?;
        self.ask_driver(Driver::withhold).await?;
        let left = |view: &crate::flow::View| view.identity.cluster != cluster || view.map.node(&me).is_none();
        let result = loop {
            match self.propose(proposal, None, Instant::now() + COMMIT_TIMEOUT).await {
                // It may still be done, now or later.
                Err(ProposeError::Unknown) if !left(&self.view()) => {}
                result => break result,
            }
        };
        if let Ok((_, version)) = &result {
            let mut seen = self.view.clone();
            seen.wait_for(|view| left(view) || view.map.version() >= *version).await.ok();
        }
        self.ask_driver(Driver::stop_withholding).await?;
        result.map(drop).map_err(String::from)
    }

    /// Has the driver do something and waits for what comes of it.
    async fn ask_driver<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Driver) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (done, wait) = oneshot::channel();
        let look = move |driver: &mut Driver| drop(done.send(work(driver)));
        self.events.send(Event::Look(Box::new(look))).ok();
        wait.await.map_err(|_| "ERR The cluster agent is shut down".into())
    }
}

impl Driver {
    fn begin_giving(&mut self) -> Result<(), String> {
        if self.env.clock.now_ms() < self.giving.handover_until_ms {
            return Err(BUSY.into());
        }
        // Without roots this node would stop writing for nothing.
        if !self.has_quorum() {
            return Err(NO_MAJORITY.into());
        }
        self.giving.begun += 1;
        Ok(())
    }

    fn withhold(&mut self) {
        self.giving.withheld += 1;
        self.update_lease();
    }

    fn stop_withholding(&mut self) {
        self.giving.withheld -= 1;
        self.update_lease();
    }

    fn end_giving(&mut self) {
        self.giving.begun -= 1;
        if self.giving.begun == 0 {
            drop(self.plane.pause_writes(None));
        }
    }
}
