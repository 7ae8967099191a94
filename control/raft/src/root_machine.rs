// SPDX-License-Identifier: BSD-3-Clause
//! The metaspace (control/root-state) as the state machine of the log. The only file that knows
//! that entries are its commands.

use std::sync::Arc;

use bytes::Bytes;
use pando_root_state::{History, Proposal, RootState, decode_fields, encode_fields};
use pando_topology::ClusterMap;
use tokio::sync::watch;

use crate::machine::Machine;
use crate::snapshot::{Pair, Pairs};
use crate::types::Payload;

/// The state and what is shown of it.
pub struct RootMachine {
    state: RootState,
    map: watch::Sender<Arc<ClusterMap>>,
}

impl RootMachine {
    /// The state before the first entry, and the watch on its map.
    pub fn new() -> (RootMachine, watch::Receiver<Arc<ClusterMap>>) {
        let state = RootState::new();
        let (map, watch) = watch::channel(Arc::new(state.map().clone()));
        (RootMachine { state, map }, watch)
    }
}

/// The log entry of a proposal.
pub fn encode(proposal: &Proposal) -> Payload {
    let fields = encode_fields(proposal);
    Payload(fields.into_iter().flat_map(|(name, value)| [Bytes::from(name), Bytes::from(value)]).collect())
}

impl Machine for RootMachine {
    fn apply(&mut self, index: u64, fields: &[Bytes]) -> Result<Vec<u8>, String> {
        let pairs = fields.chunks_exact(2).map(|pair| (&pair[0][..], &pair[1][..]));
        let proposal = decode_fields(pairs).map_err(|e| e.to_string())?;
        let applied = self.state.apply(index, &proposal);
        rmp_serde::to_vec_named(&applied.outcome).map_err(|e| e.to_string())
    }

    fn skip(&mut self, index: u64) {
        // The library counts from 0, the metaspace from 1. Entry 0 is always the first membership.
        if index > 0 {
            self.state.skip(index);
        }
    }

    fn freeze(&self) -> Box<dyn ExactSizeIterator<Item = Pair> + Send> {
        Box::new(self.state.freeze().map(|(key, value)| (key.into_bytes(), value.into_bytes())))
    }

    fn restore(&mut self, pairs: Pairs) -> Result<(), String> {
        self.state = RootState::from_pairs(pairs).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn history(&self) -> Arc<History> {
        self.state.history()
    }

    fn publish(&mut self) {
        let version = self.state.map().version();
        self.map.send_if_modified(|shown| {
            if shown.version() == version && shown.cluster_id() == self.state.map().cluster_id() {
                return false;
            }
            *shown = Arc::new(self.state.map().clone());
            true
        });
    }
}
