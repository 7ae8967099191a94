// SPDX-License-Identifier: BSD-3-Clause
//! Answers about the topology, prepared once. Thousands of clients ask for the same CLUSTER SLOTS at the same moment, after a
//! failover above all; the first one pays for the rendering, the others for a copy.
//!
//! An answer is good as long as the view is the one that it was made of. Those with numbers in them that change
//! without it (the time of the last heartbeat, replication offsets) are made anew once a second.

use std::sync::{Arc, Mutex, PoisonError};

use pando_resp::{Proto, ReplyBuf};
use pando_session::{ClusterView, EndpointType};
use pando_topology::NodeId;

/// Numbers in answers and offsets of other nodes are at most so old.
const NUMBERS_MS: u64 = 1000;

/// Answers that are prepared.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kind {
    Nodes,
    Slots,
    Shards,
}

/// What an answer depends on beside the view.
#[derive(Copy, Clone, Eq, PartialEq)]
struct Shape {
    kind: Kind,
    proto: Proto,
    endpoint: EndpointType,
    is_tls: bool,
}

struct Entry {
    shape: Shape,
    made_ms: u64,
    bytes: Arc<[u8]>,
}

#[derive(Default)]
struct State {
    /// The view of the entries; held, so that another one at its address is another one.
    view: Option<Arc<ClusterView>>,
    entries: Vec<Entry>,
    /// Replication offsets of other nodes, sorted, and when they were asked for.
    offsets: Arc<Vec<(NodeId, u64)>>,
    offsets_ms: u64,
}

/// See the head of this file.
#[derive(Default)]
pub struct Prepared {
    state: Mutex<State>,
}

impl Prepared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the answer of this kind and view, made by `render` if there is none that is new enough.
    pub fn write(
        &self,
        kind: Kind,
        view: &Arc<ClusterView>,
        (endpoint, is_tls, now_ms): (EndpointType, bool, u64),
        reply: &mut ReplyBuf,
        render: impl FnOnce(&mut ReplyBuf),
    ) {
        let shape = Shape { kind, proto: reply.proto(), endpoint, is_tls };
        let is_good = |entry: &Entry| kind == Kind::Slots || now_ms.saturating_sub(entry.made_ms) < NUMBERS_MS;
        let known = {
            let state = self.lock();
            let is_same = state.view.as_ref().is_some_and(|known| Arc::ptr_eq(known, view));
            let entry = state.entries.iter().find(|entry| is_same && entry.shape == shape && is_good(entry));
            entry.map(|entry| Arc::clone(&entry.bytes))
        };
        if let Some(bytes) = known {
            return reply.raw(&bytes);
        }
        // Without the lock: who asks meanwhile renders it too, rather than to wait.
        let mut made = ReplyBuf::new(shape.proto);
        render(&mut made);
        reply.raw(made.as_slice());
        let bytes = Arc::from(made.take());
        let mut state = self.lock();
        if state.view.as_ref().is_none_or(|known| !Arc::ptr_eq(known, view)) {
            if state.view.as_ref().is_some_and(|known| known.map.version() > view.map.version()) {
                return;
            }
            state.view = Some(Arc::clone(view));
            state.entries.clear();
        }
        state.entries.retain(|entry| entry.shape != shape);
        state.entries.push(Entry { shape, made_ms: now_ms, bytes });
    }

    /// Whether the caller should ask for offsets: those here are old. The next callers go on with the old ones until the
    /// answer is there.
    pub fn claim_offsets(&self, now_ms: u64) -> bool {
        let mut state = self.lock();
        let is_old = now_ms.saturating_sub(state.offsets_ms) >= NUMBERS_MS;
        if is_old {
            state.offsets_ms = now_ms;
        }
        is_old
    }

    /// What a root has said.
    pub fn set_offsets(&self, mut offsets: Vec<(NodeId, u64)>) {
        offsets.sort_unstable();
        let mut state = self.lock();
        state.offsets = Arc::new(offsets);
        // Made without them.
        state.entries.retain(|entry| entry.shape.kind != Kind::Shards);
    }

    /// The last known replication offsets, sorted by node.
    pub fn offsets(&self) -> Arc<Vec<(NodeId, u64)>> {
        Arc::clone(&self.lock().offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Prepared};
    use pando_resp::{Proto, ReplyBuf};
    use pando_session::{ClusterView, EndpointType};
    use pando_topology::{ClusterId, ClusterMap, NodeId};
    use std::sync::Arc;

    fn view() -> Arc<ClusterView> {
        let map = ClusterMap::empty(ClusterId::from_bytes([1; 20]));
        Arc::new(ClusterView::new(Arc::new(map), NodeId::from_bytes([2; 20])))
    }

    #[test]
    fn answers_are_made_once_for_each_view_shape_and_second() {
        let prepared = Prepared::default();
        let made = std::cell::Cell::new(0);
        let ask = |kind, view: &Arc<ClusterView>, proto, now_ms| {
            let mut reply = ReplyBuf::new(proto);
            prepared.write(kind, view, (EndpointType::Ip, false, now_ms), &mut reply, |reply| {
                made.set(made.get() + 1);
                reply.int(made.get());
            });
            String::from_utf8(reply.take()).expect("text")
        };
        let (first, second) = (view(), view());
        for (kind, view, proto, now_ms, expected) in [
            (Kind::Slots, &first, Proto::Resp2, 5000, 1),
            (Kind::Slots, &first, Proto::Resp2, 99_000, 1),
            (Kind::Slots, &first, Proto::Resp3, 5000, 2),
            (Kind::Nodes, &first, Proto::Resp2, 5000, 3),
            (Kind::Nodes, &first, Proto::Resp2, 5999, 3),
            (Kind::Nodes, &first, Proto::Resp2, 6000, 4),
            (Kind::Slots, &second, Proto::Resp2, 6000, 5),
            (Kind::Nodes, &second, Proto::Resp2, 6000, 6),
            (Kind::Slots, &second, Proto::Resp2, 6000, 5),
        ] {
            assert_eq!(ask(kind, view, proto, now_ms), format!(":{expected}\r\n"), "{kind:?} {proto:?} {now_ms}");
        }
    }

    #[test]
    fn one_asks_for_offsets_each_second() {
        let prepared = Prepared::default();
        assert_eq!([5000, 5000, 5999, 6000].map(|now| prepared.claim_offsets(now)), [true, false, false, true]);
        prepared.set_offsets(vec![(NodeId::from_bytes([2; 20]), 7), (NodeId::from_bytes([1; 20]), 9)]);
        assert_eq!(prepared.offsets()[0], (NodeId::from_bytes([1; 20]), 9));
    }
}
