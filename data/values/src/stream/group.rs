// SPDX-License-Identifier: BSD-3-Clause
//! A consumer group: where it stands in the stream, its consumers, and the entries that were delivered and not yet
//! acknowledged (pending).
//!
//! A pending entry lies in the group's map with its consumer's number, and its id in the consumer's own map, so both can be
//! read in order. Not here: the stream's entries, and what is logged. Called by the stream's commands.

use super::entries::StreamEntries;
use super::id::StreamId;
use super::id_map::IdMap;
use crate::size_class::size_class;

/// Number of a consumer within its group; good until that consumer is deleted.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct ConsumerId(u32);

/// A delivered entry that waits for its acknowledgement.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Pending {
    /// When it was last delivered, Unix milliseconds.
    pub delivered_at_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
    /// To whom it was last delivered.
    pub consumer: ConsumerId,
}

/// A consumer of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last tried to read or claim, Unix milliseconds.
    pub seen_at_ms: i64,
    /// When it last got something; -1 for never.
    pub active_at_ms: i64,
    pending: IdMap<()>,
}

impl Consumer {
    /// The name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Entries that wait for this consumer's acknowledgement.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Their ids in order, from `start` on.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = StreamId> + use<'_> {
        self.pending.iter_from(start).map(|(id, ())| id)
    }

    fn heap_bytes(&self) -> usize {
        size_class(size_of::<Consumer>()) + size_class(self.name.len()) + self.pending.heap_bytes()
    }
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The last id that was delivered.
    pub last_id: StreamId,
    /// How many entries were read, in the sense of the stream's count of added ones; `None` when that is not known.
    pub entries_read: Option<i64>,
    pending: IdMap<Pending>,
    /// By number; deleted ones leave a gap that the next new one fills.
    consumers: Vec<Option<Box<Consumer>>>,
    /// Numbers of the consumers, by name.
    by_name: Vec<u32>,
    /// Bytes of the consumers.
    consumer_bytes: usize,
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        let owner = |group: &Group, pending: &Pending| group.consumer(pending.consumer).map(|own| own.name.clone());
        let entry = |group: &Group, (id, pending): (StreamId, &Pending)| {
            (id, pending.delivered_at_ms, pending.deliveries, owner(group, pending))
        };
        (self.last_id, self.entries_read) == (other.last_id, other.entries_read)
            && self.consumers().map(|(_, consumer)| consumer).eq(other.consumers().map(|(_, consumer)| consumer))
            && self.pending.len() == other.pending.len()
            && self.pending.iter().map(|own| entry(self, own)).eq(other.pending.iter().map(|own| entry(other, own)))
    }
}

impl Group {
    /// A group without consumers.
    pub fn new(last_id: StreamId, entries_read: Option<i64>) -> Group {
        Group { last_id, entries_read, ..Group::default() }
    }

    /// Bytes that the group holds, its own struct not counted. O(1).
    pub(super) fn heap_bytes(&self) -> usize {
        let slots = self.consumers.capacity() * size_of::<Option<Box<Consumer>>>();
        self.pending.heap_bytes()
            + self.consumer_bytes
            + size_class(slots)
            + size_class(self.by_name.capacity() * size_of::<u32>())
    }

    pub(super) fn free_effort(&self) -> usize {
        // Each consumer has at least one chunk of its own for each of the group's.
        2 * self.by_name.len() + 2 * self.pending.chunk_count()
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.by_name.binary_search_by(|&number| match &self.consumers[number as usize] {
            Some(consumer) => (*consumer.name).cmp(name),
            None => std::cmp::Ordering::Less,
        })
    }

    /// The consumer with this name.
    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.place(name).ok().map(|place| ConsumerId(self.by_name[place]))
    }

    /// A consumer.
    #[inline]
    pub fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        self.consumers.get(id.0 as usize)?.as_deref()
    }

    /// A consumer's times, to be changed.
    #[inline]
    pub fn consumer_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.consumers.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Consumers.
    pub fn consumer_len(&self) -> usize {
        self.by_name.len()
    }

    /// All consumers by name.
    pub fn consumers(&self) -> impl Iterator<Item = (ConsumerId, &Consumer)> {
        self.by_name.iter().filter_map(|&number| {
            let id = ConsumerId(number);
            Some((id, self.consumer(id)?))
        })
    }

    /// Adds a consumer, seen now and never active; `None` when there is one of this name.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: u64) -> Option<ConsumerId> {
        let Err(place) = self.place(name) else { return None };
        let consumer =
            Consumer { name: name.into(), seen_at_ms: now_ms as i64, active_at_ms: -1, pending: IdMap::default() };
        self.consumer_bytes += consumer.heap_bytes();
        let gap = if self.by_name.len() < self.consumers.len() {
            self.consumers.iter().position(Option::is_none)
        } else {
            None
        };
        let number = gap.unwrap_or_else(|| {
            self.consumers.push(None);
            self.consumers.len() - 1
        });
        self.consumers[number] = Some(Box::new(consumer));
        self.by_name.insert(place, number as u32);
        Some(ConsumerId(number as u32))
    }

    /// Deletes a consumer with what is pending for it, and tells how much that was; `None` when there is none of this name.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let place = self.place(name).ok()?;
        let number = self.by_name.remove(place);
        let consumer = self.consumers.get_mut(number as usize)?.take()?;
        self.consumer_bytes -= consumer.heap_bytes();
        for (id, ()) in consumer.pending.iter() {
            self.pending.remove(id);
        }
        while self.consumers.last().is_some_and(Option::is_none) {
            self.consumers.pop();
        }
        Some(consumer.pending.len())
    }

    /// Pending entries.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The pending entry with this id.
    #[inline]
    pub fn pending(&self, id: StreamId) -> Option<Pending> {
        self.pending.get(id).copied()
    }

    /// Pending entries in order, from `start` on.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = (StreamId, &Pending)> + use<'_> {
        self.pending.iter_from(start)
    }

    /// The smallest and the largest pending id.
    pub fn pending_edges(&self) -> Option<(StreamId, StreamId)> {
        Some((self.pending.first()?.0, self.pending.last()?.0))
    }

    /// Makes `pending` the state of the entry `id`, whether or not it was pending, and for whom.
    pub fn set_pending(&mut self, id: StreamId, pending: Pending) {
        if self.pending.insert(id, pending) {
            self.edit_consumer(pending.consumer, |consumer| {
                consumer.pending.insert(id, ());
            });
            return;
        }
        let Some(own) = self.pending.get_mut(id) else { return };
        let before = std::mem::replace(own, pending).consumer;
        if before != pending.consumer {
            self.edit_consumer(before, |consumer| {
                consumer.pending.remove(id);
            });
            self.edit_consumer(pending.consumer, |consumer| {
                consumer.pending.insert(id, ());
            });
        }
    }

    /// Forgets a pending entry: acknowledged, or gone from the stream. False when it was not pending.
    pub fn remove_pending(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(id) else { return false };
        self.edit_consumer(pending.consumer, |consumer| {
            consumer.pending.remove(id);
        });
        true
    }

    /// Changes a consumer and keeps count of its bytes.
    #[inline]
    fn edit_consumer(&mut self, id: ConsumerId, edit: impl FnOnce(&mut Consumer)) {
        let Some(Some(consumer)) = self.consumers.get_mut(id.0 as usize) else { return };
        let before = consumer.pending.heap_bytes();
        edit(consumer);
        self.consumer_bytes = self.consumer_bytes + consumer.pending.heap_bytes() - before;
    }

    /// The entry `id` of `entries`, which is above the last delivered one, is being delivered: moves the group on.
    pub fn advance(&mut self, id: StreamId, entries: &StreamEntries) {
        let counters = entries.counters();
        match self.entries_read {
            Some(read) if self.last_id >= counters.first_id && !entries.may_have_holes_from(self.last_id) => {
                self.entries_read = Some(read.wrapping_add(1));
            }
            _ if counters.entries_added > 0 => self.entries_read = entries.added_up_to(id),
            _ => {}
        }
        self.last_id = id;
    }

    /// How many entries the group has not read; `None` when deletions make that unknowable.
    pub fn lag(&self, entries: &StreamEntries) -> Option<i64> {
        let added = entries.counters().entries_added;
        if added == 0 {
            return Some(0);
        }
        let read = match self.entries_read {
            Some(read) if !entries.may_have_holes_from(self.last_id) => read,
            _ => entries.added_up_to(self.last_id)?,
        };
        Some((added as i64).wrapping_sub(read))
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        self.pending.check_invariants();
        let consumers = || self.consumers().map(|(_, consumer)| consumer);
        assert_eq!(consumers().map(Consumer::heap_bytes).sum::<usize>(), self.consumer_bytes);
        assert_eq!(consumers().map(Consumer::pending_len).sum::<usize>(), self.pending.len());
        for (number, consumer) in self.consumers() {
            consumer.pending.check_invariants();
            assert!(consumer.pending.iter().all(|(id, ())| self.pending(id).is_some_and(|own| own.consumer == number)));
        }
        assert!(consumers().zip(consumers().skip(1)).all(|(a, b)| a.name < b.name));
    }
}
