// SPDX-License-Identifier: BSD-3-Clause
//! Cluster maps on the wire: a whole map, or what leads to it from an earlier one. The usual changes of a
//! node or shard that both ends have (failed, promoted, moved, slots) take a few bytes, by its number in the
//! order of the earlier map; whatever is not usual is sent whole.
//!
//! ```text
//!   whole    see `whole`
//!   update   one byte what the change is, then its fields: varints, ids (20 bytes), or length and MessagePack
//! ```

use std::sync::Arc;

use bytes::Bytes;
use pando_topology::{Change, ClusterMap, Delta, Node, NodeId, Shard, ShardId, TopologyVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::WireError;
use crate::whole::{self, Cursor};

/// Root to node: the topology, encoded once for all who get it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MapUpdate {
    /// Where it starts: none for a whole map.
    pub from: Option<TopologyVersion>,
    /// It fits only a map of exactly that version, else any of this history that is not older.
    pub is_exact: bool,
    /// The version to which it leads.
    pub to: TopologyVersion,
    /// The coded map or changes.
    pub body: Bytes,
}

/// Versions are said by how long before the new one they are.
mod kind {
    pub const NODE: u8 = 1;
    pub const NODE_GONE: u8 = 2;
    pub const SHARD: u8 = 3;
    pub const SHARD_GONE: u8 = 4;
    pub const META: u8 = 5;
    /// Number; bits: failed, `promotable_since` is new; then that.
    pub const NODE_VERDICT: u8 = 6;
    /// Number of the node, number of its new shard, `promotable_since`.
    pub const NODE_MOVED: u8 = 7;
    /// Number; place of the replica that is primary now; how much the epoch grew; the reign.
    pub const SHARD_PROMOTED: u8 = 8;
    /// Number; how many replicas came, their numbers.
    pub const SHARD_GREW: u8 = 9;
    /// Number; how many ranges of slots, for each the gap before it and its length.
    pub const SHARD_SLOTS: u8 = 10;
}

fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    rmp_serde::to_vec(value).map_err(|error| WireError::Body(error.to_string()))
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    rmp_serde::from_slice(bytes).map_err(|error| WireError::Body(error.to_string()))
}

fn bad(what: &'static str) -> WireError {
    WireError::Malformed(what)
}

impl MapUpdate {
    /// A whole map.
    pub fn whole(map: &ClusterMap) -> Result<MapUpdate, WireError> {
        Ok(MapUpdate { from: None, is_exact: true, to: map.version(), body: Bytes::from(whole::encode(map)?) })
    }

    /// What leads from `base` to `map`. `is_exact`: for a receiver that has `base` itself; else for one that has
    /// any map between the two, which takes more bytes.
    pub fn between(base: &ClusterMap, map: &ClusterMap, is_exact: bool) -> Result<MapUpdate, WireError> {
        let delta = base.diff(map);
        let mut writer = Writer { bytes: Vec::new(), base: is_exact.then_some(base), to: delta.to, node: 0, shard: 0 };
        for change in &delta.changes {
            writer.put(change)?;
        }
        let body = Bytes::from(writer.bytes);
        Ok(MapUpdate { from: Some(delta.from), is_exact, to: delta.to, body })
    }

    /// Whether a holder of this map can apply it.
    pub fn fits(&self, map: &ClusterMap) -> bool {
        let have = map.version();
        match self.from {
            None => true,
            Some(from) if self.is_exact => from == have,
            Some(from) => from <= have && have <= self.to,
        }
    }

    /// The map to which it leads from `base`.
    pub fn apply(&self, base: &ClusterMap) -> Result<ClusterMap, WireError> {
        let Some(from) = self.from else {
            let parts = whole::decode(&self.body)?;
            if (parts.cluster_id, parts.version) != (base.cluster_id(), self.to) {
                return Err(bad("the map of another cluster or version"));
            }
            return ClusterMap::new(parts).map_err(|error| WireError::Body(error.to_string()));
        };
        if !self.fits(base) {
            return Err(bad("an update of another map"));
        }
        let mut reader = Reader {
            cursor: Cursor { bytes: &self.body },
            base,
            is_exact: self.is_exact,
            to: self.to,
            node: 0,
            shard: 0,
        };
        let mut changes = Vec::new();
        while !reader.cursor.bytes.is_empty() {
            changes.push(reader.change()?);
        }
        let mut map = base.clone();
        let applied = map.catch_up(&Delta { from, to: self.to, changes });
        applied.map_err(|error| WireError::Body(error.to_string()))?;
        Ok(map)
    }
}

/// A node with another verdict.
fn with_verdict(node: &Node, failed: bool, promotable_since: Option<TopologyVersion>) -> Node {
    let promotable_since = promotable_since.unwrap_or(node.promotable_since);
    Node { failed, promotable_since, ..node.clone() }
}

/// A node that has become a member of this shard.
fn moved(node: &Node, shard: ShardId, promotable_since: TopologyVersion) -> Node {
    Node { shard: Some(shard), promotable_since, ..node.clone() }
}

/// A shard in which this replica and the primary have changed places.
fn promoted(base: &ClusterMap, shard: &Shard, place: usize, grown: u64, reign: TopologyVersion) -> Option<Shard> {
    let mut shard = shard.clone();
    std::mem::swap(&mut shard.primary, shard.replicas.get_mut(place)?);
    shard.primary_incarnation = base.node(&shard.primary)?.incarnation;
    shard.epoch = shard.epoch.checked_add(grown)?;
    shard.reign = reign;
    Some(shard)
}

/// Writes a change in its short form.
type Short<W> = Box<dyn FnOnce(&mut W)>;

struct Writer<'a> {
    bytes: Vec<u8>,
    base: Option<&'a ClusterMap>,
    to: TopologyVersion,
    /// The numbers that were written last: the next ones are written as differences.
    node: usize,
    shard: usize,
}

impl Writer<'_> {
    fn number(&mut self, number: u64) {
        whole::put_number(&mut self.bytes, number);
    }

    fn whole<T: Serialize>(&mut self, kind: u8, value: &T) -> Result<(), WireError> {
        let packed = pack(value)?;
        self.bytes.push(kind);
        self.number(packed.len() as u64);
        self.bytes.extend_from_slice(&packed);
        Ok(())
    }

    /// The difference to the number before, small ones of either sign in one byte.
    fn step(&mut self, index: usize, before: usize) {
        let step = index as i64 - before as i64;
        self.number(((step << 1) ^ (step >> 63)) as u64);
    }

    fn node_number(&mut self, index: usize) {
        self.step(index, self.node);
        self.node = index;
    }

    fn shard_number(&mut self, index: usize) {
        self.step(index, self.shard);
        self.shard = index;
    }

    fn put(&mut self, change: &Change) -> Result<(), WireError> {
        match change {
            Change::NodeUpsert(node) => match self.base.and_then(|base| self.usual_node(base, node)) {
                Some(usual) => usual(self),
                None => self.whole(kind::NODE, &**node)?,
            },
            Change::NodeRemove(id) => {
                self.bytes.push(kind::NODE_GONE);
                self.bytes.extend_from_slice(id.as_bytes());
            }
            Change::ShardUpsert(shard) => match self.base.and_then(|base| self.usual_shard(base, shard)) {
                Some(usual) => usual(self),
                None => self.whole(kind::SHARD, &**shard)?,
            },
            Change::ShardRemove(id) => {
                self.bytes.push(kind::SHARD_GONE);
                self.bytes.extend_from_slice(id.as_bytes());
            }
            Change::Meta { cluster_id, current_epoch, roots } => {
                self.whole(kind::META, &(cluster_id, current_epoch, roots))?;
            }
        }
        Ok(())
    }

    /// How to write the change of a node shortly, if the reader would arrive at the same.
    fn usual_node(&self, base: &ClusterMap, node: &Node) -> Option<Short<Self>> {
        let index = base.nodes().index_of(&node.id)?;
        let before = base.node(&node.id)?;
        let (failed, since) = (node.failed, node.promotable_since);
        let new_since = (since != before.promotable_since).then_some(since);
        let ago = self.to.get().checked_sub(since.get());
        if with_verdict(before, failed, new_since) == *node && (new_since.is_none() || ago.is_some()) {
            return Some(Box::new(move |writer| {
                writer.bytes.push(kind::NODE_VERDICT);
                writer.node_number(index);
                writer.bytes.push(u8::from(failed) | u8::from(new_since.is_some()) << 1);
                if let Some(ago) = ago.filter(|_| new_since.is_some()) {
                    writer.number(ago);
                }
            }));
        }
        let shard = node.shard?;
        let shard_index = base.shards().index_of(&shard)?;
        let ago = ago?;
        (moved(before, shard, since) == *node).then(|| -> Short<Self> {
            Box::new(move |writer| {
                writer.bytes.push(kind::NODE_MOVED);
                writer.node_number(index);
                writer.shard_number(shard_index);
                writer.number(ago);
            })
        })
    }

    fn usual_shard(&self, base: &ClusterMap, shard: &Shard) -> Option<Short<Self>> {
        let index = base.shards().index_of(&shard.id)?;
        let before = base.shard(&shard.id)?;
        if let Some(place) = before.replicas.iter().position(|replica| *replica == shard.primary) {
            let grown = shard.epoch.checked_sub(before.epoch)?;
            let ago = self.to.get().checked_sub(shard.reign.get())?;
            let is_it = promoted(base, before, place, grown, shard.reign).as_ref() == Some(shard);
            return is_it.then(|| -> Short<Self> {
                Box::new(move |writer| {
                    writer.bytes.push(kind::SHARD_PROMOTED);
                    writer.shard_number(index);
                    writer.number(place as u64);
                    writer.number(grown);
                    writer.number(ago);
                })
            });
        }
        if shard.slots != before.slots {
            let slots = shard.slots.clone();
            let is_it = Shard { slots: slots.clone(), ..before.clone() } == *shard;
            return is_it.then(|| -> Short<Self> {
                Box::new(move |writer| {
                    writer.bytes.push(kind::SHARD_SLOTS);
                    writer.shard_number(index);
                    whole::put_slots(&mut writer.bytes, &slots);
                })
            });
        }
        let came = shard.replicas.strip_prefix(before.replicas.as_slice())?;
        let came: Vec<usize> = came.iter().map(|id| base.nodes().index_of(id)).collect::<Option<_>>()?;
        let is_it = Shard { replicas: shard.replicas.clone(), ..before.clone() } == *shard;
        is_it.then(|| -> Short<Self> {
            Box::new(move |writer| {
                writer.bytes.push(kind::SHARD_GREW);
                writer.shard_number(index);
                writer.number(came.len() as u64);
                came.into_iter().for_each(|index| writer.node_number(index));
            })
        })
    }
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    base: &'a ClusterMap,
    is_exact: bool,
    to: TopologyVersion,
    node: usize,
    shard: usize,
}

impl<'a> Reader<'a> {
    fn whole<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        let count = self.cursor.small()?;
        unpack(self.cursor.take(count)?)
    }

    /// A version not after the new one.
    fn version(&mut self) -> Result<TopologyVersion, WireError> {
        let version = self.to.get().checked_sub(self.cursor.number()?);
        version.map(TopologyVersion).ok_or(bad("a version below zero"))
    }

    fn step(&mut self, before: usize) -> Result<usize, WireError> {
        let number = self.cursor.number()?;
        let step = (number >> 1) as i64 ^ -((number & 1) as i64);
        before.checked_add_signed(step as isize).ok_or(bad("a number below zero"))
    }

    fn a_node(&mut self) -> Result<&'a Arc<Node>, WireError> {
        self.node = self.step(self.node)?;
        self.base.nodes().at(self.node).map(|(_, node)| node).ok_or(bad("the number of no node"))
    }

    fn a_shard(&mut self) -> Result<&'a Arc<Shard>, WireError> {
        self.shard = self.step(self.shard)?;
        self.base.shards().at(self.shard).map(|(_, shard)| shard).ok_or(bad("the number of no shard"))
    }

    fn change(&mut self) -> Result<Change, WireError> {
        let kind = self.cursor.byte()?;
        if kind >= kind::NODE_VERDICT && !self.is_exact {
            return Err(bad("numbers in an update of several maps"));
        }
        Ok(match kind {
            kind::NODE => Change::NodeUpsert(Arc::new(self.whole()?)),
            kind::NODE_GONE => Change::NodeRemove(NodeId::from_bytes(self.cursor.array()?)),
            kind::SHARD => Change::ShardUpsert(Arc::new(self.whole()?)),
            kind::SHARD_GONE => Change::ShardRemove(ShardId::from_bytes(self.cursor.array()?)),
            kind::META => {
                let (cluster_id, current_epoch, roots) = self.whole()?;
                if cluster_id != self.base.cluster_id() {
                    return Err(bad("the map of another cluster"));
                }
                Change::Meta { cluster_id, current_epoch, roots }
            }
            kind::NODE_VERDICT => {
                let node = self.a_node()?;
                let bits = self.cursor.byte()?;
                let since = if bits & 2 != 0 { Some(self.version()?) } else { None };
                Change::NodeUpsert(Arc::new(with_verdict(node, bits & 1 != 0, since)))
            }
            kind::NODE_MOVED => {
                let node = self.a_node()?;
                let shard = self.a_shard()?.id;
                Change::NodeUpsert(Arc::new(moved(node, shard, self.version()?)))
            }
            kind::SHARD_PROMOTED => {
                let shard = self.a_shard()?;
                let (place, grown, reign) = (self.cursor.small()?, self.cursor.number()?, self.version()?);
                let shard = promoted(self.base, shard, place, grown, reign).ok_or(bad("no such replica"))?;
                Change::ShardUpsert(Arc::new(shard))
            }
            kind::SHARD_GREW => {
                let mut shard = Shard::clone(self.a_shard()?);
                // Each takes a byte at least, so a lie about their number ends with the bytes.
                for _ in 0..self.cursor.small()? {
                    shard.replicas.push(self.a_node()?.id);
                }
                Change::ShardUpsert(Arc::new(shard))
            }
            kind::SHARD_SLOTS => {
                let shard = Shard::clone(self.a_shard()?);
                let slots = self.cursor.slots()?;
                Change::ShardUpsert(Arc::new(Shard { slots, ..shard }))
            }
            _ => return Err(bad("an unknown change")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pando_topology::{ClusterId, Incarnation, MapParts, Slot};
    use proptest::prelude::*;

    fn id(n: u16) -> NodeId {
        let mut bytes = [7; 20];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    /// Shards of a primary and `replicas` each.
    fn map(shards: u16, replicas: u16, version: u64) -> ClusterMap {
        let mut parts = ClusterMap::empty(ClusterId::from_bytes([1; 20])).parts().clone();
        parts.version = TopologyVersion(version);
        parts.current_epoch = 100_000;
        for s in 0..shards {
            let shard = ShardId::from_bytes(*id(s).as_bytes());
            let members: Vec<NodeId> = (0..=replicas).map(|r| id(s + r * 1000)).collect();
            for member in &members {
                let mut node = Node::new(*member, "10.0.0.1", 7000);
                node.shard = Some(shard);
                node.incarnation = Incarnation(9);
                parts.nodes.insert(node.id, Arc::new(node));
            }
            let slots = [Slot::new(s)].into_iter().flatten().collect();
            let shard = Shard {
                id: shard,
                epoch: u64::from(s),
                reign: TopologyVersion(1),
                primary: members[0],
                primary_incarnation: Incarnation(1),
                replicas: members[1..].to_vec(),
                wants_replica: false,
                slots,
            };
            parts.shards.insert(shard.id, Arc::new(shard));
        }
        ClusterMap::new(parts).expect("valid")
    }

    fn edited(base: &ClusterMap, version: u64, edit: impl FnOnce(&mut MapParts)) -> ClusterMap {
        let mut parts = base.parts().clone();
        parts.version = TopologyVersion(version);
        edit(&mut parts);
        ClusterMap::new(parts).expect("valid")
    }

    fn check(what: &str, base: &ClusterMap, map: &ClusterMap, bytes_max: usize) {
        let exact = MapUpdate::between(base, map, true).expect("it can be coded");
        assert_eq!(exact.apply(base).expect("it fits"), *map, "{what}");
        assert!(exact.body.len() <= bytes_max, "{what}: {} bytes", exact.body.len());
        let loose = MapUpdate::between(base, map, false).expect("it can be coded");
        assert_eq!(loose.apply(base).expect("it fits"), *map, "{what}");
        assert_eq!(loose.apply(map).expect("it fits"), *map, "{what}, for one who has it");
        for cut in 0..exact.body.len() {
            let update = MapUpdate { body: exact.body.slice(..cut), ..exact.clone() };
            let _ = update.apply(base);
        }
    }

    #[test]
    fn usual_changes_are_small() {
        let base = map(300, 1, 5);
        let shard = |s: u16| ShardId::from_bytes(*id(s).as_bytes());
        let promote = |parts: &mut MapParts, s: u16, epoch: u64| {
            let primary = parts.nodes.get_mut(&id(s)).expect("a node");
            // Of several entries, told together.
            let reign = parts.version.get() - u64::from(s % 3);
            let failed = Node { failed: true, promotable_since: TopologyVersion(reign), ..(**primary).clone() };
            *primary = Arc::new(failed);
            let before = parts.shards.get_mut(&shard(s)).expect("a shard");
            *before = Arc::new(Shard {
                epoch,
                reign: TopologyVersion(reign),
                primary: id(s + 1000),
                primary_incarnation: Incarnation(9),
                replicas: vec![id(s)],
                ..(**before).clone()
            });
        };
        let half = edited(&base, 8, |parts| (0..150).for_each(|s| promote(parts, s * 2, 1000 + u64::from(s))));
        check("half of the primaries", &base, &half, 150 * 10);
        let moved = edited(&base, 6, |parts| {
            // The primary of shard 3 leaves its slots and follows that of shard 4.
            let other = parts.shards.remove(&shard(3)).expect("a shard");
            for member in other.members() {
                let node = parts.nodes.get_mut(&member).expect("a node");
                let changed = Node { shard: Some(shard(4)), promotable_since: TopologyVersion(6), ..(**node).clone() };
                *node = Arc::new(changed);
            }
            let target = parts.shards.get_mut(&shard(4)).expect("a shard");
            let mut changed = Shard::clone(target);
            changed.replicas.extend(other.members());
            *target = Arc::new(changed);
        });
        check("a moved node and its replica", &base, &moved, 50);
        let slots = edited(&base, 6, |parts| {
            let target = parts.shards.get_mut(&shard(9)).expect("a shard");
            let more = target.slots.union(&(400..900).filter_map(Slot::new).collect());
            *target = Arc::new(Shard { slots: more, ..(**target).clone() });
        });
        check("slots", &base, &slots, 12);
        let other = edited(&base, 6, |parts| {
            let node = parts.nodes.get_mut(&id(7)).expect("a node");
            *node = Arc::new(Node { port: 1, ..(**node).clone() });
            parts.current_epoch += 1;
        });
        check("anything else", &base, &other, 200);
        let whole = MapUpdate::whole(&half).expect("it can be coded");
        assert_eq!(whole.apply(&ClusterMap::empty(half.cluster_id())).expect("it fits"), half);
        assert!(whole.apply(&ClusterMap::empty(ClusterId::from_bytes([2; 20]))).is_err());
        let exact = MapUpdate::between(&base, &half, true).expect("it can be coded");
        assert!(exact.apply(&moved).is_err(), "another map");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), is_exact in any::<bool>()) {
            let base = map(5, 1, 5);
            let to = TopologyVersion(6);
            let from = Some(TopologyVersion(5));
            let update = MapUpdate { from, is_exact, to, body: Bytes::from(bytes.clone()) };
            let _ = update.apply(&base);
            let _ = MapUpdate { from: None, is_exact, to, body: Bytes::from(bytes) }.apply(&base);
        }
    }
}
