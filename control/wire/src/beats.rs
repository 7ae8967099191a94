// SPDX-License-Identifier: BSD-3-Clause
//! Code of what is sent all the time while nothing happens: heartbeats and their answers. Not here: everything that is
//! sent seldom (`messages`, MessagePack), maps and changes (`whole`, `topology`).
//!
//! Numbers are varints. An id, or an incarnation, is one byte when both sides know it: those of the two ends of the connection
//! (0 the sender's, 1 the receiver's), and those that came before in the same message (2, 3, ...); otherwise 255 and its
//! bytes. Whatever may be missing has a bit in the first number.

use pando_liveness::{Ack, BeatAck, Claim, Grant, Heartbeat, Lineage, NodeStatus, PrimaryBeat, Told};
use pando_topology::{Incarnation, NodeId, ShardId, TopologyVersion};

use crate::WireError;
use crate::whole::{Cursor, put_number};

/// The two processes between which a message goes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Ends {
    /// Who sends it.
    pub from: (NodeId, Incarnation),
    /// Who gets it.
    pub to: (NodeId, Incarnation),
}

/// In the place of the number of something known: its bytes follow.
const NEW: u8 = 255;

type Id = [u8; 20];

/// What both sides know, in the order in which they came to know it.
struct Known {
    ids: Vec<Id>,
    incarnations: Vec<Incarnation>,
}

impl Known {
    fn of(ends: &Ends) -> Known {
        let ids = vec![*ends.from.0.as_bytes(), *ends.to.0.as_bytes()];
        Known { ids, incarnations: vec![ends.from.1, ends.to.1] }
    }
}

pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    known: Known,
}

impl Writer<'_> {
    fn number(&mut self, number: u64) {
        put_number(self.out, number);
    }

    fn version(&mut self, version: TopologyVersion) {
        self.number(version.get());
    }

    fn id(&mut self, id: &Id) {
        // A message has a handful of them: the place always fits in a byte.
        match self.known.ids.iter().position(|known| known == id) {
            Some(at) => self.out.push(at as u8),
            None => {
                self.out.push(NEW);
                self.out.extend_from_slice(id);
                self.known.ids.push(*id);
            }
        }
    }

    fn incarnation(&mut self, incarnation: Incarnation) {
        match self.known.incarnations.iter().position(|known| *known == incarnation) {
            Some(at) => self.out.push(at as u8),
            None => {
                self.out.push(NEW);
                self.out.extend_from_slice(&incarnation.get().to_le_bytes());
                self.known.incarnations.push(incarnation);
            }
        }
    }

    fn claim(&mut self, claim: Option<Claim>) {
        let Some(claim) = claim else { return };
        self.id(claim.shard.as_bytes());
        self.version(claim.reign);
    }

    fn grant(&mut self, grant: Option<Grant>) {
        let Some(grant) = grant else { return };
        self.claim(Some(Claim { shard: grant.shard, reign: grant.reign }));
        self.number(grant.lease_ms);
    }
}

pub(crate) struct Reader<'a> {
    cursor: Cursor<'a>,
    known: Known,
}

impl Reader<'_> {
    fn number(&mut self) -> Result<u64, WireError> {
        self.cursor.number()
    }

    fn version(&mut self) -> Result<TopologyVersion, WireError> {
        Ok(TopologyVersion(self.number()?))
    }

    fn id(&mut self) -> Result<Id, WireError> {
        let at = self.cursor.byte()?;
        if at == NEW {
            let id = self.cursor.array()?;
            self.known.ids.push(id);
            return Ok(id);
        }
        self.known.ids.get(usize::from(at)).copied().ok_or(WireError::Malformed("an id that nobody has said"))
    }

    fn incarnation(&mut self) -> Result<Incarnation, WireError> {
        let at = self.cursor.byte()?;
        if at == NEW {
            let incarnation = Incarnation(u64::from_le_bytes(self.cursor.array()?));
            self.known.incarnations.push(incarnation);
            return Ok(incarnation);
        }
        let known = self.known.incarnations.get(usize::from(at));
        known.copied().ok_or(WireError::Malformed("an incarnation that nobody has said"))
    }

    fn node(&mut self) -> Result<NodeId, WireError> {
        Ok(NodeId::from_bytes(self.id()?))
    }

    fn shard(&mut self) -> Result<ShardId, WireError> {
        Ok(ShardId::from_bytes(self.id()?))
    }

    fn claim(&mut self, is_there: bool) -> Result<Option<Claim>, WireError> {
        if !is_there {
            return Ok(None);
        }
        Ok(Some(Claim { shard: self.shard()?, reign: self.version()? }))
    }

    fn grant(&mut self, is_there: bool) -> Result<Option<Grant>, WireError> {
        let Some(Claim { shard, reign }) = self.claim(is_there)? else { return Ok(None) };
        Ok(Some(Grant { shard, reign, lease_ms: self.number()? }))
    }
}

/// A message that has a code of its own.
pub(crate) trait Beat: Sized {
    fn put(&self, to: &mut Writer<'_>);
    fn get(from: &mut Reader<'_>) -> Result<Self, WireError>;
}

/// Appends the code of a message to `out`.
pub(crate) fn encode(beat: &impl Beat, ends: &Ends, out: &mut Vec<u8>) {
    beat.put(&mut Writer { out, known: Known::of(ends) });
}

/// The reverse of [`encode`]. Bytes after the message are ignored: later versions may say more.
pub(crate) fn decode<T: Beat>(bytes: &[u8], ends: &Ends) -> Result<T, WireError> {
    T::get(&mut Reader { cursor: Cursor { bytes }, known: Known::of(ends) })
}

/// Bits of the first number: for each value that may be missing or is yes or no.
struct Bits(u64);

impl Bits {
    fn of(values: &[bool]) -> u64 {
        values.iter().rev().fold(0, |bits, value| bits << 1 | u64::from(*value))
    }

    fn next(&mut self) -> bool {
        let bit = self.0 & 1 != 0;
        self.0 >>= 1;
        bit
    }
}

impl Beat for Heartbeat {
    fn put(&self, to: &mut Writer<'_>) {
        let Heartbeat { node, incarnation, seq, root_incarnation, version, roots_since, claim, holds_promise, status } =
            self;
        let NodeStatus { offset, lineage, link_up, stale, synced, told, promise_left_ms, vouches, active } = status;
        to.number(Bits::of(&[
            *link_up,
            *synced,
            claim.is_some(),
            *holds_promise,
            active.is_some(),
            told.is_some(),
            vouches.is_some(),
            *stale,
        ]));
        to.id(node.as_bytes());
        to.incarnation(*incarnation);
        to.number(*seq);
        to.incarnation(*root_incarnation);
        to.version(*version);
        to.version(*roots_since);
        to.claim(*claim);
        to.number(*offset);
        let Lineage { id, before, shared } = lineage;
        to.number(*id);
        to.number(*before);
        to.number(*shared);
        if let Some(Told { shard, version }) = told {
            to.id(shard.as_bytes());
            to.version(*version);
        }
        to.number(*promise_left_ms);
        to.claim(*vouches);
        to.claim(*active);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut bits = Bits(from.number()?);
        let (link_up, synced, has_claim, holds_promise) = (bits.next(), bits.next(), bits.next(), bits.next());
        let (has_active, is_told, has_vouches, stale) = (bits.next(), bits.next(), bits.next(), bits.next());
        Ok(Heartbeat {
            node: from.node()?,
            incarnation: from.incarnation()?,
            seq: from.number()?,
            root_incarnation: from.incarnation()?,
            version: from.version()?,
            roots_since: from.version()?,
            claim: from.claim(has_claim)?,
            holds_promise,
            status: NodeStatus {
                offset: from.number()?,
                lineage: Lineage { id: from.number()?, before: from.number()?, shared: from.number()? },
                link_up,
                stale,
                synced,
                told: match is_told {
                    true => Some(Told { shard: from.shard()?, version: from.version()? }),
                    false => None,
                },
                promise_left_ms: from.number()?,
                vouches: from.claim(has_vouches)?,
                active: from.claim(has_active)?,
            },
        })
    }
}

/// With the leader that the root knows of.
impl Beat for (Ack, Option<NodeId>) {
    fn put(&self, to: &mut Writer<'_>) {
        let (Ack { root, root_incarnation, incarnation, seq, granted, version }, leader) = self;
        to.number(Bits::of(&[granted.is_some(), leader.is_some()]));
        to.id(root.as_bytes());
        to.incarnation(*root_incarnation);
        to.incarnation(*incarnation);
        to.number(*seq);
        to.grant(*granted);
        to.version(*version);
        if let Some(leader) = leader {
            to.id(leader.as_bytes());
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut bits = Bits(from.number()?);
        let (is_granted, has_leader) = (bits.next(), bits.next());
        let ack = Ack {
            root: from.node()?,
            root_incarnation: from.incarnation()?,
            incarnation: from.incarnation()?,
            seq: from.number()?,
            granted: from.grant(is_granted)?,
            version: from.version()?,
        };
        Ok((ack, if has_leader { Some(from.node()?) } else { None }))
    }
}

impl Beat for PrimaryBeat {
    fn put(&self, to: &mut Writer<'_>) {
        let PrimaryBeat { node, incarnation, seq, shard, reign, told, released } = self;
        to.number(Bits::of(&[told.is_some(), *released]));
        to.id(node.as_bytes());
        to.incarnation(*incarnation);
        to.number(*seq);
        to.id(shard.as_bytes());
        to.version(*reign);
        if let Some(told) = told {
            to.version(*told);
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut bits = Bits(from.number()?);
        let (is_told, released) = (bits.next(), bits.next());
        Ok(PrimaryBeat {
            node: from.node()?,
            incarnation: from.incarnation()?,
            seq: from.number()?,
            shard: from.shard()?,
            reign: from.version()?,
            told: if is_told { Some(from.version()?) } else { None },
            released,
        })
    }
}

impl Beat for BeatAck {
    fn put(&self, to: &mut Writer<'_>) {
        let BeatAck { replica, incarnation, seq, granted, version } = self;
        to.number(Bits::of(&[granted.is_some()]));
        to.id(replica.as_bytes());
        to.incarnation(*incarnation);
        to.number(*seq);
        to.grant(*granted);
        to.version(*version);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut bits = Bits(from.number()?);
        let is_granted = bits.next();
        Ok(BeatAck {
            replica: from.node()?,
            incarnation: from.incarnation()?,
            seq: from.number()?,
            granted: from.grant(is_granted)?,
            version: from.version()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 20])
    }

    fn ends(from: u8, to: u8) -> Ends {
        let process = |byte: u8| (id(byte), Incarnation(1_795_000_000_000_000_000 + u64::from(byte)));
        Ends { from: process(from), to: process(to) }
    }

    fn claim(shard: u8, reign: u64) -> Claim {
        Claim { shard: ShardId::from_bytes([shard; 20]), reign: TopologyVersion(reign) }
    }

    fn bytes_of(beat: &impl Beat, ends: &Ends) -> Vec<u8> {
        let mut out = Vec::new();
        encode(beat, ends, &mut out);
        out
    }

    /// What one end says is what the other hears, on a connection of these two and on one of two others; every
    /// cut is an error.
    fn check<T: Beat + PartialEq + std::fmt::Debug>(beat: &T, bytes_max: usize) {
        for ends in [ends(1, 2), ends(2, 1), ends(7, 8)] {
            let bytes = bytes_of(beat, &ends);
            assert_eq!(decode::<T>(&bytes, &ends).expect("a code"), *beat);
            for cut in 0..bytes.len() {
                assert!(decode::<T>(&bytes[..cut], &ends).is_err(), "cut at {cut}");
            }
            // A later version says more.
            let longer = [&bytes[..], &[1, 2, 3]].concat();
            assert_eq!(decode::<T>(&longer, &ends).expect("a code"), *beat);
        }
        let bytes = bytes_of(beat, &ends(1, 2)).len();
        assert!(bytes <= bytes_max, "{bytes} bytes: {beat:?}");
    }

    fn heartbeat() -> Heartbeat {
        let Ends { from, to } = ends(1, 2);
        Heartbeat {
            node: from.0,
            incarnation: from.1,
            seq: 100_000,
            root_incarnation: to.1,
            version: TopologyVersion(20_000),
            roots_since: TopologyVersion(20),
            claim: None,
            holds_promise: false,
            status: NodeStatus {
                offset: 1 << 40,
                lineage: Lineage { id: u64::MAX, before: 0, shared: 0 },
                link_up: true,
                synced: true,
                ..NodeStatus::default()
            },
        }
    }

    #[test]
    fn what_is_sent_all_the_time_is_small() {
        let Ends { from, to } = ends(1, 2);
        // A primary's.
        let mut beat = Heartbeat { claim: Some(claim(9, 300)), holds_promise: true, ..heartbeat() };
        beat.status.active = beat.claim;
        check(&beat, 70);
        // A replica's.
        let mut beat = heartbeat();
        beat.status.told = Some(Told { shard: claim(9, 0).shard, version: TopologyVersion(20_000) });
        beat.status.promise_left_ms = 3000;
        check(&beat, 70);
        let grant = Grant { shard: claim(9, 0).shard, reign: TopologyVersion(300), lease_ms: 3000 };
        let ack = Ack {
            root: from.0,
            root_incarnation: from.1,
            incarnation: to.1,
            seq: 100_000,
            granted: Some(grant),
            version: TopologyVersion(20_000),
        };
        check(&(ack.clone(), Some(from.0)), 40);
        check(&(ack, Some(id(3))), 60);
        let beat = PrimaryBeat {
            node: from.0,
            incarnation: from.1,
            seq: 100_000,
            shard: grant.shard,
            reign: grant.reign,
            told: Some(TopologyVersion(20_000)),
            released: false,
        };
        check(&beat, 40);
        let (incarnation, version) = (to.1, TopologyVersion(20_000));
        check(&BeatAck { replica: from.0, incarnation, seq: 100_000, granted: Some(grant), version }, 40);
    }

    #[test]
    fn odd_ones_survive_too() {
        let mut beat = heartbeat();
        beat.root_incarnation = Incarnation::ZERO;
        beat.status = NodeStatus {
            offset: u64::MAX,
            lineage: Lineage { id: 1, before: u64::MAX, shared: u64::MAX - 1 },
            stale: true,
            vouches: Some(claim(5, 1)),
            active: Some(claim(6, u64::MAX)),
            ..NodeStatus::default()
        };
        beat.claim = Some(claim(5, 2));
        check(&beat, 200);
        let nobody = Ack {
            root: id(2),
            root_incarnation: Incarnation(5),
            incarnation: Incarnation(6),
            seq: 0,
            granted: None,
            version: TopologyVersion::ZERO,
        };
        check(&(nobody, None), 60);
        let incarnation = Incarnation::ZERO;
        check(&BeatAck { replica: id(4), incarnation, seq: 0, granted: None, version: TopologyVersion::ZERO }, 60);
    }

    /// Freezes the code: changing it needs a new protocol version.
    #[test]
    fn golden_bytes() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mut beat = Heartbeat { claim: Some(claim(9, 300)), holds_promise: true, ..heartbeat() };
        beat.status.active = beat.claim;
        let shard = "09".repeat(20);
        let expected = format!(
            "1f0000a08d0601a09c0114ff{shard}ac02{offset}{lineage}000000{again}",
            offset = "808080808020",
            lineage = "ffffffffffffffffff01",
            again = "02ac02",
        );
        assert_eq!(hex(bytes_of(&beat, &ends(1, 2))), expected);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let ends = ends(1, 2);
            let _ = decode::<Heartbeat>(&bytes, &ends);
            let _ = decode::<(Ack, Option<NodeId>)>(&bytes, &ends);
            let _ = decode::<PrimaryBeat>(&bytes, &ends);
            let _ = decode::<BeatAck>(&bytes, &ends);
        }
    }
}
