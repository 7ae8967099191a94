// SPDX-License-Identifier: BSD-3-Clause
//! A set of slots as sorted, disjoint, non-adjacent ranges: a usual shard holds a few ranges, and the
//! text form (`0-100 200`) is the one of CLUSTER NODES and of nodes.conf.

use crate::slot::{SLOT_COUNT, Slot};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Slots `first..=last`; `first <= last`.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
pub struct SlotRange {
    /// The lowest slot of the range.
    pub first: Slot,
    /// The highest slot of the range, included.
    pub last: Slot,
}

impl SlotRange {
    /// How many slots the range holds.
    pub fn len(&self) -> usize {
        self.last.index() + 1 - self.first.index()
    }

    /// A range always holds a slot.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The slots of the range, ascending (and from the back).
    pub fn slots(self) -> impl DoubleEndedIterator<Item = Slot> {
        (self.first.number()..=self.last.number()).filter_map(Slot::new)
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A set of slots. Equal sets are equal values: the ranges are kept sorted, disjoint and merged.
#[derive(Clone, Eq, PartialEq, Default, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u16, u16)>", into = "Vec<(u16, u16)>")]
pub struct SlotSet {
    ranges: Vec<SlotRange>,
}

impl SlotSet {
    /// The empty set.
    pub const fn new() -> SlotSet {
        SlotSet { ranges: Vec::new() }
    }

    /// All 16384 slots.
    pub fn full() -> SlotSet {
        SlotSet { ranges: vec![SlotRange { first: Slot::MIN, last: Slot::MAX }] }
    }

    /// How many slots are in the set.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(SlotRange::len).sum()
    }

    /// Whether the set holds no slot.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `slot` is in the set.
    pub fn contains(&self, slot: Slot) -> bool {
        self.range_at(slot).is_ok()
    }

    /// Where `slot` is: `Ok(range that holds it)` or `Err(range before which it would stand)`.
    fn range_at(&self, slot: Slot) -> Result<usize, usize> {
        self.ranges.binary_search_by(|range| {
            if range.last < slot {
                std::cmp::Ordering::Less
            } else if range.first > slot {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
    }

    /// Adds a slot; false if it was there.
    pub fn insert(&mut self, slot: Slot) -> bool {
        if self.contains(slot) {
            return false;
        }
        self.insert_range(SlotRange { first: slot, last: slot });
        true
    }

    /// Adds every slot of `range` (empty if `first > last`).
    pub fn insert_range(&mut self, range: SlotRange) {
        if range.first > range.last {
            return;
        }
        // Ranges that overlap or touch the new one are replaced by one.
        let from = self.ranges.partition_point(|r| r.last.index() + 1 < range.first.index());
        let to = self.ranges.partition_point(|r| r.first.index() <= range.last.index() + 1);
        let merged = match self.ranges.get(from..to) {
            Some([first, .., last]) => {
                SlotRange { first: first.first.min(range.first), last: last.last.max(range.last) }
            }
            Some([only]) => SlotRange { first: only.first.min(range.first), last: only.last.max(range.last) },
            _ => range,
        };
        self.ranges.splice(from..to, [merged]);
    }

    /// Removes a slot; false if it was not there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let Ok(at) = self.range_at(slot) else { return false };
        let range = self.ranges[at];
        let before = slot.previous().filter(|p| *p >= range.first).map(|last| SlotRange { first: range.first, last });
        let after = slot.next().filter(|n| *n <= range.last).map(|first| SlotRange { first, last: range.last });
        self.ranges.splice(at..=at, before.into_iter().chain(after));
        true
    }

    /// The ranges, ascending; reversible.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = SlotRange> + ExactSizeIterator + '_ {
        self.ranges.iter().copied()
    }

    /// The slots, ascending; reversible.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Slot> + '_ {
        self.ranges.iter().copied().flat_map(SlotRange::slots)
    }

    /// The lowest slot.
    pub fn first(&self) -> Option<Slot> {
        self.ranges.first().map(|r| r.first)
    }

    /// The slots of both.
    pub fn union(&self, other: &SlotSet) -> SlotSet {
        let mut all = self.clone();
        other.ranges().for_each(|r| all.insert_range(r));
        all
    }

    /// The slots of this set that are not in `other`.
    pub fn difference(&self, other: &SlotSet) -> SlotSet {
        self.filter(|slot| !other.contains(slot))
    }

    /// The slots that are in both.
    pub fn intersection(&self, other: &SlotSet) -> SlotSet {
        self.filter(|slot| other.contains(slot))
    }

    /// The slots of this set for which `keep` answers true.
    pub fn filter(&self, keep: impl Fn(Slot) -> bool) -> SlotSet {
        self.iter().filter(|slot| keep(*slot)).collect()
    }

    /// Whether every slot of `other` is in this set.
    pub fn is_superset(&self, other: &SlotSet) -> bool {
        other.ranges().all(|r| self.range_at(r.first).is_ok_and(|at| self.ranges[at].last >= r.last))
    }

    /// Panics if the ranges are not sorted, disjoint and merged.
    pub fn check_invariants(&self) {
        assert!(self.ranges.iter().all(|r| r.first <= r.last), "a range runs backwards: {self:?}");
        assert!(
            self.ranges.windows(2).all(|w| w[0].last.index() + 1 < w[1].first.index()),
            "ranges overlap or touch: {self:?}"
        );
        assert!(self.len() <= SLOT_COUNT);
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            fmt::Display::fmt(range, f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

impl FromStr for SlotSet {
    type Err = &'static str;
    /// Reads the form that `Display` writes.
    fn from_str(text: &str) -> Result<SlotSet, Self::Err> {
        let slot = |t: &str| t.parse().ok().and_then(Slot::new).ok_or("Invalid or out of range slot");
        let mut set = SlotSet::new();
        for word in text.split_ascii_whitespace() {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let range = SlotRange { first: slot(first)?, last: slot(last)? };
            if range.first > range.last {
                return Err("start slot number is greater than end slot number");
            }
            set.insert_range(range);
        }
        Ok(set)
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        let mut set = SlotSet::new();
        for slot in slots {
            // Ascending input, the usual case, only extends the last range.
            match set.ranges.last_mut() {
                Some(last) if last.last.next() == Some(slot) => last.last = slot,
                Some(last) if last.last >= slot => set.insert_range(SlotRange { first: slot, last: slot }),
                _ => set.ranges.push(SlotRange { first: slot, last: slot }),
            }
        }
        set
    }
}

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> SlotSet {
        let mut set = SlotSet::new();
        ranges.into_iter().for_each(|r| set.insert_range(r));
        set
    }
}

impl From<SlotSet> for Vec<(u16, u16)> {
    fn from(set: SlotSet) -> Vec<(u16, u16)> {
        set.ranges.iter().map(|r| (r.first.number(), r.last.number())).collect()
    }
}

impl TryFrom<Vec<(u16, u16)>> for SlotSet {
    type Error = &'static str;
    fn try_from(pairs: Vec<(u16, u16)>) -> Result<SlotSet, Self::Error> {
        pairs
            .into_iter()
            .map(|(first, last)| Ok(SlotRange { first: Slot::try_from(first)?, last: Slot::try_from(last)? }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn text_form() {
        for (input, text) in [
            ("", ""),
            ("0", "0"),
            ("0-100 200", "0-100 200"),
            ("200 0-100", "0-100 200"),
            ("0-5 6-9", "0-9"),
            ("0-16383", "0-16383"),
            ("5-7 1-3 4", "1-7"),
        ] {
            assert_eq!(input.parse::<SlotSet>().expect(input).to_string(), text);
        }
        for bad in ["16384", "a", "7-3", "-", "1-"] {
            assert!(bad.parse::<SlotSet>().is_err(), "{bad}");
        }
        assert_eq!(SlotSet::full().len(), SLOT_COUNT);
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(edits in proptest::collection::vec((any::<bool>(), 0u16..64, 0u16..8), 0..60)) {
            let (mut set, mut model) = (SlotSet::new(), BTreeSet::new());
            for (add, first, more) in edits {
                let slot = Slot::new(first).expect("small");
                if add {
                    let last = Slot::new(first + more).expect("small");
                    set.insert_range(SlotRange { first: slot, last });
                    model.extend(first..=first + more);
                } else {
                    prop_assert_eq!(set.remove(slot), model.remove(&first));
                }
                set.check_invariants();
            }
            prop_assert_eq!(set.iter().map(Slot::number).collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.iter().rev().map(Slot::number).collect::<Vec<_>>(), model.iter().rev().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.to_string().parse::<SlotSet>(), Ok(set.clone()));
            let packed = rmp_serde::to_vec(&set).expect("msgpack");
            prop_assert_eq!(rmp_serde::from_slice::<SlotSet>(&packed).expect("msgpack"), set.clone());
            let evens: SlotSet = Slot::all().filter(|s| s.number() % 2 == 0).collect();
            prop_assert_eq!(set.difference(&evens).union(&set.intersection(&evens)), set.clone());
            prop_assert!(set.is_superset(&set.intersection(&evens)));
        }
    }
}
