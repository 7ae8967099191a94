// SPDX-License-Identifier: BSD-3-Clause
//! The tasks that write the node's state and its map to disk, beside the driver: it never waits for the disk but where a
//! change must be durable first. The files are in `node_state`.

use std::sync::Arc;
use std::time::Duration;

use pando_topology::ClusterMap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::event::Event;
use crate::net::Events;
use crate::node_state::{NodeState, StateFile};

/// A state to be written, and who waits for it.
pub(crate) type Store = (NodeState, Option<oneshot::Sender<std::io::Result<()>>>);

/// How long to wait before a state that could not be written is tried again.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Writes states in order; of several that wait only the last, because each holds everything. What could
/// not be written is tried again: a new primary waits for its reign to be durable.
pub(crate) async fn write_states(file: StateFile, mut stores: mpsc::UnboundedReceiver<Store>, events: Events) {
    let mut failed: Option<NodeState> = None;
    loop {
        let next = match failed.take() {
            None => stores.recv().await,
            Some(state) => match tokio::time::timeout(STORE_RETRY, stores.recv()).await {
                Ok(next) => next,
                Err(_) => Some((state, None)),
            },
        };
        let Some((mut state, done)) = next else { return };
        let mut waiting: Vec<_> = done.into_iter().collect();
        while let Ok((newer, done)) = stores.try_recv() {
            state = newer;
            waiting.extend(done);
        }
        let result = file.store(&state).await;
        for done in waiting {
            let copy = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
            };
            done.send(copy).ok();
        }
        match result {
            Ok(()) => {
                if let Some(reign) = state.reign {
                    events.send(Event::Stored(reign.version)).ok();
                }
            }
            Err(error) => {
                tracing::error!(%error, path = %file.path().display(), "cannot write the node's state");
                failed = Some(state);
            }
        }
    }
}

/// Writes maps, the last of those that wait. It is a cache: one that cannot be written is left out.
pub(crate) async fn write_maps(file: StateFile, mut maps: watch::Receiver<Option<Arc<ClusterMap>>>) {
    while maps.changed().await.is_ok() {
        let map = maps.borrow_and_update().clone();
        if let Some(map) = map
            && let Err(error) = file.store_map(&map).await
        {
            tracing::warn!(%error, "cannot write the map; after a restart the roots tell it");
        }
    }
}
