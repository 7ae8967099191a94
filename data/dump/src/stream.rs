// SPDX-License-Identifier: BSD-3-Clause
//! Streams: nodes as they are, counters, groups with what is pending in them. Three forms are read, which know ever more;
//! the newest is written.

use crate::load::LoadError;
use pando_formats::rdb::{RdbType, ValueOut, ValueReader};
use pando_values::{Consumer, ConsumerId, Group, Pending, Stream, StreamCounters, StreamId};
use std::io;

use crate::packed::list_pack;

/// Least bytes of a node, of a pending entry, of a consumer and of a group: what bounds the room that is reserved.
const PENDING_BYTES: usize = 16 + 8 + 1;
const ID_BYTES: usize = 16;

pub(crate) fn save(stream: &Stream, out: &mut impl ValueOut) -> io::Result<()> {
    let entries = stream.entries();
    out.put_len(entries.node_count() as u64)?;
    for (first, pack) in entries.nodes() {
        out.put_string(&first.to_be_bytes())?;
        out.put_string(pack.bytes())?;
    }
    let counters = entries.counters();
    out.put_len(counters.len)?;
    for id in [counters.last_id, counters.first_id, counters.max_deleted_id] {
        save_id(id, out)?;
    }
    out.put_len(counters.entries_added)?;
    out.put_len(stream.groups().len() as u64)?;
    for (name, group) in stream.groups() {
        out.put_string(name)?;
        save_group(group, out)?;
    }
    Ok(())
}

fn save_id(id: StreamId, out: &mut impl ValueOut) -> io::Result<()> {
    out.put_len(id.ms)?;
    out.put_len(id.seq)
}

fn save_group(group: &Group, out: &mut impl ValueOut) -> io::Result<()> {
    save_id(group.last_id, out)?;
    // Unknown is -1 in 64 bits.
    out.put_len(group.entries_read.unwrap_or(-1) as u64)?;
    out.put_len(group.pending_len() as u64)?;
    for (id, pending) in group.pending_from(StreamId::MIN) {
        out.put(&id.to_be_bytes())?;
        out.put_millis(pending.delivered_at_ms)?;
        out.put_len(pending.deliveries)?;
    }
    out.put_len(group.consumer_len() as u64)?;
    for (_, consumer) in group.consumers() {
        save_consumer(consumer, out)?;
    }
    Ok(())
}

fn save_consumer(consumer: &Consumer, out: &mut impl ValueOut) -> io::Result<()> {
    out.put_string(consumer.name())?;
    out.put_millis(consumer.seen_at_ms)?;
    out.put_millis(consumer.active_at_ms)?;
    out.put_len(consumer.pending_len() as u64)?;
    for id in consumer.pending_from(StreamId::MIN) {
        out.put(&id.to_be_bytes())?;
    }
    Ok(())
}

pub(crate) fn load(kind: RdbType, from: &mut ValueReader<'_>) -> Result<Stream, LoadError> {
    let has_counters = kind != RdbType::Stream;
    let mut stream = Stream::new();
    for _ in 0..from.number()? {
        let first = <[u8; 16]>::try_from(&*from.bytes()?).map_err(|_| LoadError::corrupt("a node's id is no id"))?;
        let pack = list_pack(from)?;
        if !stream.restore_node(StreamId::from_be_bytes(first), pack) {
            return Err(LoadError::corrupt("invalid node of a stream"));
        }
    }
    let mut counters = StreamCounters { len: from.number()?, last_id: load_id(from)?, ..StreamCounters::default() };
    counters.entries_added = counters.len;
    if has_counters {
        counters.first_id = load_id(from)?;
        counters.max_deleted_id = load_id(from)?;
        counters.entries_added = from.number()?;
    }
    if !stream.restore_counters(counters) {
        return Err(LoadError::corrupt("the counters of a stream contradict its nodes"));
    }
    for _ in 0..from.number()? {
        let name = from.bytes()?;
        let last_id = load_id(from)?;
        let mut group = Group::new(last_id, None);
        group.entries_read = match has_counters {
            true => Some(from.number()? as i64).filter(|read| *read != -1),
            // The best guess that the old form allows.
            false => group.lag(stream.entries()).map(|lag| (counters.entries_added as i64).wrapping_sub(lag)),
        };
        load_pending(kind, from, &mut group)?;
        if !stream.create_group(&name, group) {
            return Err(LoadError::corrupt("two groups of one name"));
        }
    }
    Ok(stream)
}

fn load_id(from: &mut ValueReader<'_>) -> Result<StreamId, LoadError> {
    Ok(StreamId::new(from.number()?, from.number()?))
}

/// A pending entry whose consumer is not known yet.
struct Unowned {
    id: StreamId,
    delivered_at_ms: i64,
    deliveries: u64,
    owner: Option<ConsumerId>,
}

/// What is pending in a group, then its consumers, each with the ids that are pending for it: every entry must have one.
fn load_pending(kind: RdbType, from: &mut ValueReader<'_>, group: &mut Group) -> Result<(), LoadError> {
    let count = from.count(PENDING_BYTES)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let id = StreamId::from_be_bytes(from.array()?);
        entries.push(Unowned { id, delivered_at_ms: from.millis()?, deliveries: from.number()?, owner: None });
    }
    entries.sort_by_key(|entry| entry.id);
    if entries.windows(2).any(|pair| pair[0].id == pair[1].id) {
        return Err(LoadError::corrupt("an entry is pending twice"));
    }
    for _ in 0..from.number()? {
        let name = from.bytes()?;
        let consumer = group.create_consumer(&name, 0).ok_or(LoadError::corrupt("two consumers of one name"))?;
        let seen_at_ms = from.millis()?;
        let active_at_ms = if kind == RdbType::Stream3 { from.millis()? } else { seen_at_ms };
        if let Some(consumer) = group.consumer_mut(consumer) {
            (consumer.seen_at_ms, consumer.active_at_ms) = (seen_at_ms, active_at_ms);
        }
        for _ in 0..from.count(ID_BYTES)? {
            let id = StreamId::from_be_bytes(from.array()?);
            let entry = entries.binary_search_by_key(&id, |entry| entry.id).ok().map(|at| &mut entries[at]);
            let entry = entry.ok_or(LoadError::corrupt("an entry is pending for a consumer, but not in its group"))?;
            if entry.owner.replace(consumer).is_some() {
                return Err(LoadError::corrupt("an entry is pending twice"));
            }
        }
    }
    for Unowned { id, delivered_at_ms, deliveries, owner } in entries {
        let consumer = owner.ok_or(LoadError::corrupt("an entry is pending for no consumer"))?;
        group.set_pending(id, Pending { delivered_at_ms, deliveries, consumer });
    }
    Ok(())
}
