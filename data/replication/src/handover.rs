// SPDX-License-Identifier: BSD-3-Clause
//! What a planned handover to a replica (FAILOVER) needs of the stream and of the link. Not here: holding writes back,
//! choosing the replica, limits of time; apps/server does that.
//!
//! ```text
//!  set_quiet ─► settled ─► (every byte acknowledged) ─► hand_to ─► PSYNC … FAILOVER ─┬─ +CONTINUE ─► Taken
//!                                                                                   └─ refused ───► promote again
//! ```

use crate::Replication;
use crate::core::GETACK;
use crate::log::Feed;
use crate::replica::PrimaryLink;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// What came of [`Replication::hand_to`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HandoverEnd {
    /// The other one is the primary, and this node its replica.
    Taken,
    /// Its answer. This node is a replica of a replica now; [`Replication::promote`] is to follow.
    Refused(String),
}

impl Replication {
    /// Keeps everything out of the log that is no write, or no longer. With writes held back, its end stands still.
    pub fn set_quiet(&self, is_quiet: bool) {
        self.core.is_quiet.store(is_quiet, Ordering::Release);
    }

    /// The log's end once all commands that were let in before have ended.
    pub fn settled(&self) -> u64 {
        self.core.engine.with_all_locked(&mut || {});
        self.core.log.offset()
    }

    /// Asks the replicas how far they are, although the log is quiet. Answers the offset whose acknowledgement means that a
    /// replica has the whole log, this question included: Valkey counts a question only after it has answered it, so
    /// there are two of them. `None` on a replica.
    pub fn ask_for_all(&self) -> Option<u64> {
        let core = &self.core;
        let role = core.role.lock();
        (role.is_none() && core.feed() == Feed::Own).then(|| {
            let first = core.log.append_plain(GETACK);
            core.log.append_plain(GETACK);
            first
        })
    }

    /// Completes when some replica acknowledges something after the call.
    pub fn next_ack(&self) -> tokio::sync::futures::Notified<'_> {
        self.core.acked.notified()
    }

    /// Follows this replica of ours from now on and orders it to be the primary. The receiver tells how it ends; that may take as
    /// long as the other one cannot be reached. `None` if this node is no primary.
    pub fn hand_to(&self, host: &str, port: u16) -> Option<oneshot::Receiver<HandoverEnd>> {
        let core = &self.core;
        let mut role = core.role.lock();
        if role.is_some() {
            return None;
        }
        core.end_own_stream();
        let (end, ended) = oneshot::channel();
        core.follow(&mut role, Arc::new(PrimaryLink::with_order(host.to_owned(), port, end)));
        Some(ended)
    }
}
