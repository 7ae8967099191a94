// SPDX-License-Identifier: BSD-3-Clause
//! A whole cluster map in few bytes: ten thousand nodes get one of ten thousand nodes each. Nodes name shards and
//! shards name nodes by their place; what many nodes have in common is said once. `topology` calls this.
//!
//! ```text
//!   head     length, MessagePack of (cluster, version, epoch, roots, [profile])
//!   shards   how many, the id of each
//!   nodes    how many; of each: id, bits, profile, [key], host, [hostname], incarnation, [root id], [shard],
//!            [upstream], join index, promotable since
//!   shards   of each: bits, epoch, reign, primary, [incarnation], how many replicas, these, how many ranges of slots,
//!            of each the gap before it and its length
//! ```
//! Numbers are varints (7 bits a byte, lowest first), ids 20 bytes, incarnations and root ids 8, texts length and bytes.

use std::sync::Arc;

use pando_topology::{
    ClusterId, ClusterMap, Incarnation, MapParts, Node, NodeId, NodeKey, RootSet, Shard, ShardId, Slot, SlotRange,
    SlotSet, TopologyVersion,
};
use serde::{Deserialize, Serialize};

use crate::WireError;

/// What nodes have in common that are configured alike.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
struct Profile {
    port: u16,
    cluster_port: u16,
    tls_port: u16,
    zone: String,
    is_data: bool,
    root_eligible: bool,
    replica_priority: u16,
    no_failover: bool,
    migration_barrier: Option<u32>,
}

impl Profile {
    fn of(node: &Node) -> Profile {
        Profile {
            port: node.port,
            cluster_port: node.cluster_port,
            tls_port: node.tls_port,
            zone: node.zone.clone(),
            is_data: node.is_data,
            root_eligible: node.root_eligible,
            replica_priority: node.replica_priority,
            no_failover: node.no_failover,
            migration_barrier: node.migration_barrier,
        }
    }
}

type Head = (ClusterId, TopologyVersion, u64, RootSet, Vec<Profile>);

/// Bits of a node: what follows, and its verdict.
mod node_bits {
    pub const KEY: u8 = 1;
    pub const HOSTNAME: u8 = 2;
    pub const ROOT_ID: u8 = 4;
    pub const SHARD: u8 = 8;
    pub const UPSTREAM: u8 = 16;
    pub const FAILED: u8 = 32;
}

/// Bits of a shard.
mod shard_bits {
    pub const WANTS_REPLICA: u8 = 1;
    /// The process that reigns is not the one that its node has registered.
    pub const INCARNATION: u8 = 2;
}

fn bad(what: &'static str) -> WireError {
    WireError::Malformed(what)
}

/// Appends a varint.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends slots: how many ranges, then of each the gap before it and its length.
pub(crate) fn put_slots(out: &mut Vec<u8>, slots: &SlotSet) {
    put_number(out, slots.ranges().len() as u64);
    let mut next = 0;
    for range in slots.ranges() {
        put_number(out, (range.first.index() - next) as u64);
        put_number(out, range.len() as u64);
        next = range.last.index() + 1;
    }
}

/// Codes a map.
pub(crate) fn encode(map: &ClusterMap) -> Result<Vec<u8>, WireError> {
    let parts = map.parts();
    let mut profiles: Vec<Profile> = parts.nodes.values().map(|node| Profile::of(node)).collect();
    profiles.sort_unstable();
    profiles.dedup();
    let head = (parts.cluster_id, parts.version, parts.current_epoch, &parts.roots, &profiles);
    let head = rmp_serde::to_vec(&head).map_err(|error| WireError::Body(error.to_string()))?;
    let mut out = Vec::with_capacity(head.len() + 96 * parts.nodes.len() + 48 * parts.shards.len() + 32);
    put_bytes(&mut out, &head);
    put_number(&mut out, parts.shards.len() as u64);
    for id in parts.shards.keys() {
        out.extend_from_slice(id.as_bytes());
    }
    put_number(&mut out, parts.nodes.len() as u64);
    for node in parts.nodes.values() {
        let profile = profiles.binary_search(&Profile::of(node)).map_err(|_| bad("a node without its profile"))?;
        put_node(&mut out, map, node, profile)?;
    }
    for shard in parts.shards.values() {
        put_shard(&mut out, map, shard)?;
    }
    Ok(out)
}

fn put_node(out: &mut Vec<u8>, map: &ClusterMap, node: &Node, profile: usize) -> Result<(), WireError> {
    let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    out.extend_from_slice(node.id.as_bytes());
    out.push(
        bit(node.key.is_some(), node_bits::KEY)
            | bit(!node.hostname.is_empty(), node_bits::HOSTNAME)
            | bit(node.root_id.is_some(), node_bits::ROOT_ID)
            | bit(node.shard.is_some(), node_bits::SHARD)
            | bit(node.upstream.is_some(), node_bits::UPSTREAM)
            | bit(node.failed, node_bits::FAILED),
    );
    put_number(out, profile as u64);
    if let Some(key) = &node.key {
        out.extend_from_slice(key.as_bytes());
    }
    put_bytes(out, node.host.as_bytes());
    if !node.hostname.is_empty() {
        put_bytes(out, node.hostname.as_bytes());
    }
    out.extend_from_slice(&node.incarnation.get().to_le_bytes());
    if let Some(root_id) = node.root_id {
        out.extend_from_slice(&root_id.to_le_bytes());
    }
    if let Some(shard) = &node.shard {
        put_number(out, map.shards().index_of(shard).ok_or(bad("a node of no shard"))? as u64);
    }
    if let Some(upstream) = &node.upstream {
        out.extend_from_slice(upstream.as_bytes());
    }
    put_number(out, node.join_index);
    put_number(out, node.promotable_since.get());
    Ok(())
}

fn put_shard(out: &mut Vec<u8>, map: &ClusterMap, shard: &Shard) -> Result<(), WireError> {
    let place = |id: &NodeId| map.nodes().index_of(id).map(|index| index as u64).ok_or(bad("a shard of no node"));
    let registered = map.node(&shard.primary).map(|node| node.incarnation);
    let is_other = registered != Some(shard.primary_incarnation);
    let wants = if shard.wants_replica { shard_bits::WANTS_REPLICA } else { 0 };
    out.push(wants | if is_other { shard_bits::INCARNATION } else { 0 });
    put_number(out, shard.epoch);
    put_number(out, shard.reign.get());
    put_number(out, place(&shard.primary)?);
    if is_other {
        out.extend_from_slice(&shard.primary_incarnation.get().to_le_bytes());
    }
    put_number(out, shard.replicas.len() as u64);
    for replica in &shard.replicas {
        put_number(out, place(replica)?);
    }
    put_slots(out, &shard.slots);
    Ok(())
}

/// Reads what the functions above wrote; an error for everything else.
pub(crate) struct Cursor<'a> {
    pub bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(bad("a cut map"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| bad("a cut map"))
    }

    pub fn number(&mut self) -> Result<u64, WireError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(bad("a long number"))
    }

    pub fn small(&mut self) -> Result<usize, WireError> {
        usize::try_from(self.number()?).ok().filter(|n| *n <= 1 << 24).ok_or(bad("a large number"))
    }

    pub fn slots(&mut self) -> Result<SlotSet, WireError> {
        let mut slots = SlotSet::new();
        let mut next = 0;
        // Each range takes two bytes at least, so a lie about their number ends with the bytes.
        for _ in 0..self.small()? {
            let first = next + self.small()?;
            next = first + self.small()?.max(1);
            let slot = |index: usize| u16::try_from(index).ok().and_then(Slot::new).ok_or(bad("no slot"));
            slots.insert_range(SlotRange { first: slot(first)?, last: slot(next - 1)? });
        }
        Ok(slots)
    }

    fn text(&mut self) -> Result<&'a str, WireError> {
        let count = self.small()?;
        std::str::from_utf8(self.take(count)?).map_err(|_| bad("a text that is none"))
    }
}

/// Decodes a map. What it holds is not checked here: see `ClusterMap::new`. A lie about how many there are of
/// something ends with the bytes, so memory is bounded by them.
pub(crate) fn decode(bytes: &[u8]) -> Result<MapParts, WireError> {
    let mut cursor = Cursor { bytes };
    let count = cursor.small()?;
    let head: Head = rmp_serde::from_slice(cursor.take(count)?).map_err(|error| WireError::Body(error.to_string()))?;
    let (cluster_id, version, current_epoch, roots, profiles) = head;
    let mut shard_ids = Vec::new();
    for _ in 0..cursor.small()? {
        shard_ids.push(ShardId::from_bytes(cursor.array()?));
    }
    let mut nodes: Vec<Arc<Node>> = Vec::new();
    for _ in 0..cursor.small()? {
        nodes.push(Arc::new(node(&mut cursor, &profiles, &shard_ids)?));
    }
    let mut shards: Vec<Arc<Shard>> = Vec::new();
    for id in &shard_ids {
        shards.push(Arc::new(shard(&mut cursor, *id, &nodes)?));
    }
    if !cursor.bytes.is_empty() {
        return Err(bad("more than a map"));
    }
    let nodes = nodes.into_iter().map(|node| (node.id, node)).collect();
    let shards = shards.into_iter().map(|shard| (shard.id, shard)).collect();
    Ok(MapParts { cluster_id, version, current_epoch, nodes, shards, roots })
}

fn node(cursor: &mut Cursor<'_>, profiles: &[Profile], shards: &[ShardId]) -> Result<Node, WireError> {
    let id = NodeId::from_bytes(cursor.array()?);
    let bits = cursor.byte()?;
    let has = |bit: u8| bits & bit != 0;
    let profile = profiles.get(cursor.small()?).ok_or(bad("no such profile"))?;
    let key = if has(node_bits::KEY) { Some(NodeKey::from_bytes(cursor.array()?)) } else { None };
    let host = cursor.text()?.to_owned();
    let hostname = if has(node_bits::HOSTNAME) { cursor.text()?.to_owned() } else { String::new() };
    let incarnation = Incarnation(u64::from_le_bytes(cursor.array()?));
    let root_id = if has(node_bits::ROOT_ID) { Some(u64::from_le_bytes(cursor.array()?)) } else { None };
    let shard = match has(node_bits::SHARD) {
        true => Some(*shards.get(cursor.small()?).ok_or(bad("no such shard"))?),
        false => None,
    };
    let upstream = if has(node_bits::UPSTREAM) { Some(NodeId::from_bytes(cursor.array()?)) } else { None };
    Ok(Node {
        id,
        key,
        host,
        hostname,
        port: profile.port,
        cluster_port: profile.cluster_port,
        tls_port: profile.tls_port,
        incarnation,
        zone: profile.zone.clone(),
        is_data: profile.is_data,
        root_id,
        root_eligible: profile.root_eligible,
        shard,
        replica_priority: profile.replica_priority,
        failed: has(node_bits::FAILED),
        no_failover: profile.no_failover,
        migration_barrier: profile.migration_barrier,
        upstream,
        join_index: cursor.number()?,
        promotable_since: TopologyVersion(cursor.number()?),
    })
}

fn shard(cursor: &mut Cursor<'_>, id: ShardId, nodes: &[Arc<Node>]) -> Result<Shard, WireError> {
    let bits = cursor.byte()?;
    let (epoch, reign) = (cursor.number()?, TopologyVersion(cursor.number()?));
    let node = |place: usize| nodes.get(place).ok_or(bad("no such node"));
    let primary = node(cursor.small()?)?;
    let primary_incarnation = match bits & shard_bits::INCARNATION != 0 {
        true => Incarnation(u64::from_le_bytes(cursor.array()?)),
        false => primary.incarnation,
    };
    let mut replicas = Vec::new();
    for _ in 0..cursor.small()? {
        replicas.push(node(cursor.small()?)?.id);
    }
    Ok(Shard {
        id,
        epoch,
        reign,
        primary: primary.id,
        primary_incarnation,
        replicas,
        slots: cursor.slots()?,
        wants_replica: bits & shard_bits::WANTS_REPLICA != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 20])
    }

    /// A map in which each field has another value than it usually has, somewhere.
    fn odd_map() -> ClusterMap {
        let mut parts = ClusterMap::empty(ClusterId::from_bytes([1; 20])).parts().clone();
        parts.version = TopologyVersion(300);
        parts.current_epoch = 77;
        let shard_id = ShardId::from_bytes([9; 20]);
        let root = Node {
            is_data: false,
            root_id: Some(u64::MAX),
            hostname: "näme".into(),
            zone: "a".into(),
            tls_port: 1,
            ..Node::new(id(3), "::1", 7)
        };
        let primary = Node {
            key: Some(NodeKey::from_bytes([5; 32])),
            incarnation: Incarnation(1 << 60),
            shard: Some(shard_id),
            failed: true,
            replica_priority: 0,
            join_index: 299,
            ..Node::new(id(7), "10.0.0.1", 7000)
        };
        let replica = Node {
            shard: Some(shard_id),
            upstream: Some(id(2)),
            no_failover: true,
            root_eligible: false,
            migration_barrier: None,
            promotable_since: TopologyVersion(299),
            ..Node::new(id(1), "", 7000)
        };
        let other = Node { shard: Some(shard_id), ..Node::new(id(2), "h", 7001) };
        let slots = [0u16, 1, 2, 700, 16_383].into_iter().filter_map(Slot::new).collect();
        let shard = Shard {
            id: shard_id,
            epoch: 76,
            reign: TopologyVersion(200),
            primary: id(7),
            primary_incarnation: Incarnation(3),
            replicas: vec![id(2), id(1)],
            slots,
            wants_replica: true,
        };
        parts.roots.voters.insert(id(3), u64::MAX);
        parts.roots.count = 3;
        parts.nodes = [root, primary, replica, other].into_iter().map(|node| (node.id, Arc::new(node))).collect();
        parts.shards = [(shard_id, Arc::new(shard))].into_iter().collect();
        ClusterMap::new(parts).expect("valid")
    }

    #[test]
    fn a_map_survives_its_code_and_a_cut_one_is_an_error() {
        let map = odd_map();
        let bytes = encode(&map).expect("it can be coded");
        assert_eq!(decode(&bytes).expect("it can be decoded"), *map.parts());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                if let Ok(parts) = decode(&damaged) {
                    let _ = ClusterMap::new(parts);
                }
            }
        }
    }

    #[test]
    fn a_node_takes_about_a_hundred_bytes() {
        let mut parts = ClusterMap::empty(ClusterId::from_bytes([1; 20])).parts().clone();
        parts.version = TopologyVersion(200);
        for n in 0..200u8 {
            let shard = ShardId::from_bytes([n; 20]);
            let mut node = Node::new(id(n), "10.20.30.40", 7000);
            (node.key, node.shard) = (Some(NodeKey::from_bytes([n; 32])), Some(shard));
            let shard = Shard {
                id: shard,
                epoch: 0,
                reign: TopologyVersion(100),
                primary: node.id,
                primary_incarnation: node.incarnation,
                replicas: Vec::new(),
                slots: SlotSet::new(),
                wants_replica: false,
            };
            parts.shards.insert(shard.id, Arc::new(shard));
            parts.nodes.insert(node.id, Arc::new(node));
        }
        let bytes = encode(&ClusterMap::new(parts).expect("valid")).expect("it can be coded").len();
        assert!(bytes < 200 * 112, "{bytes} bytes");
    }
}
