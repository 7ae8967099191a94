// SPDX-License-Identifier: BSD-3-Clause
//! Judges what clients saw while something failed: no write lost, doubled or resurrected, and never two primaries.
//!
//! Clients append unique ids to lists, each list a key of its own, and note for every attempt when it was sent, when and how it
//! ended, and at which node. The reply to an append is the length of the list, so it tells the position. At the end the lists are
//! read. As lists only grow, every client's view must fit into one order, that of the lists:
//!
//! | rule | broken when |
//! |---|---|
//! | kept | an id that was acknowledged and that a replica had as well (WAIT) is not in its list |
//! | once | an id is in a list twice |
//! | sent | an id is there that nobody sent, or whose write was refused |
//! | placed | an acknowledged id is not at the position that its reply said |
//! | ordered | a write that began after another had ended comes before it |
//! | one primary | a write that did not last was taken by one node after another node had taken one that did |
//! | fresh | a read did not see a kept write that had ended before the read began |
//!
//! Acknowledged writes that no replica had may be lost with their node; they are counted. Pure: no clocks, no sockets. Times are
//! those of one clock (all clients on one machine). Used by testkit/system.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Number of a list.
pub type Key = usize;
/// What is appended; never used twice.
pub type Id = u64;

/// How a write ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Acknowledged; the length of the list after it. `kept`: at least one replica had it.
    Taken { length: usize, kept: bool },
    /// An error reply: it did not happen.
    Refused,
    /// No reply: it may have happened, or may yet.
    Unknown,
}

/// One attempt to append.
#[derive(Clone, Debug)]
pub struct Write {
    pub client: usize,
    pub key: Key,
    pub id: Id,
    /// The node that was asked.
    pub node: SocketAddr,
    pub sent: Duration,
    pub ended: Duration,
    pub outcome: Outcome,
}

/// One answered read of a list's length.
#[derive(Clone, Debug)]
pub struct Read {
    pub key: Key,
    pub node: SocketAddr,
    pub sent: Duration,
    pub length: usize,
}

/// All that clients saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
}

/// The judgement.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Acknowledged writes.
    pub taken: usize,
    /// Of those, the ones that a replica had.
    pub kept: usize,
    /// Acknowledged writes without a replica that are gone.
    pub lost_unkept: usize,
    /// Writes that were refused.
    pub refused: usize,
    /// Writes without an answer, and how many of them happened.
    pub unknown: usize,
    pub unknown_happened: usize,
    /// The longest time in which no write at all was acknowledged.
    pub gap: Duration,
    /// Broken rules, one line each.
    pub broken: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { taken, kept, lost_unkept, refused, unknown, unknown_happened, gap, broken } = self;
        write!(
            f,
            "{taken} taken ({kept} kept), {lost_unkept} unkept lost, {refused} refused, {unknown} unknown \
             ({unknown_happened} happened), longest gap {} ms, {} rules broken",
            gap.as_millis(),
            broken.len()
        )
    }
}

/// More broken rules than these are not listed.
const LISTED_MAX: usize = 20;

/// See the head of this file. `lists`: what every list held at the end.
pub fn judge(history: &History, lists: &BTreeMap<Key, Vec<Id>>) -> Verdict {
    let mut verdict = Verdict::default();
    let empty = Vec::new();
    let mut by_key: BTreeMap<Key, Vec<&Write>> = lists.keys().map(|key| (*key, Vec::new())).collect();
    for write in &history.writes {
        by_key.entry(write.key).or_default().push(write);
        match write.outcome {
            Outcome::Taken { kept, .. } => {
                verdict.taken += 1;
                verdict.kept += usize::from(kept);
            }
            Outcome::Refused => verdict.refused += 1,
            Outcome::Unknown => verdict.unknown += 1,
        }
    }
    verdict.gap = longest_gap(history);
    for (key, writes) in &by_key {
        judge_list(*key, writes, lists.get(key).unwrap_or(&empty), &mut verdict);
    }
    judge_reads(history, &mut verdict);
    verdict.broken.truncate(LISTED_MAX);
    verdict
}

/// The longest time, from `since` on, in which a list took nothing: the one that waited longest of those that are
/// asked for.
pub fn longest_gap_of_a_list(history: &History, since: Duration, is_asked: impl Fn(Key) -> bool) -> Duration {
    let mut times: BTreeMap<Key, Vec<Duration>> = BTreeMap::new();
    for write in &history.writes {
        if matches!(write.outcome, Outcome::Taken { .. }) && write.ended >= since && is_asked(write.key) {
            times.entry(write.key).or_insert_with(|| vec![since]).push(write.ended);
        }
    }
    let gap = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    times.values_mut().map(gap).max().unwrap_or_default()
}

fn longest_gap(history: &History) -> Duration {
    let taken = history.writes.iter().filter(|write| matches!(write.outcome, Outcome::Taken { .. }));
    let mut times: Vec<Duration> = taken.map(|write| write.ended).collect();
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
}

fn judge_list(key: Key, writes: &[&Write], list: &[Id], verdict: &mut Verdict) {
    let sent: HashMap<Id, &Write> = writes.iter().map(|write| (write.id, *write)).collect();
    let mut positions: HashMap<Id, usize> = HashMap::new();
    for (position, id) in list.iter().enumerate() {
        if *positions.entry(*id).or_insert(position) != position {
            verdict.broken.push(format!("once: list {key} has {id} twice"));
        }
        match sent.get(id).map(|write| &write.outcome) {
            None => verdict.broken.push(format!("sent: list {key} has {id}, which nobody sent")),
            Some(Outcome::Refused) => verdict.broken.push(format!("sent: list {key} has {id}, which was refused")),
            Some(Outcome::Unknown) => verdict.unknown_happened += 1,
            Some(Outcome::Taken { .. }) => {}
        }
    }
    let mut lost = Vec::new();
    for write in writes {
        let Outcome::Taken { length, kept } = write.outcome else { continue };
        match positions.get(&write.id) {
            None if kept => verdict.broken.push(format!("kept: {} is gone: {write:?}", write.id)),
            None => {
                verdict.lost_unkept += 1;
                lost.push(*write);
            }
            Some(position) if position + 1 != length => verdict
                .broken
                .push(format!("placed: {} is at position {position}, its reply said {length}: {write:?}", write.id)),
            Some(_) => {}
        }
    }
    // Writes that are there, in the order of the list: none may have ended before one that comes earlier was sent.
    let there: Vec<&Write> = list.iter().filter_map(|id| sent.get(id).copied()).collect();
    let mut earliest_end: Option<&Write> = None;
    for write in there.iter().rev() {
        if let Some(later) = earliest_end
            && later.ended < write.sent
        {
            verdict.broken.push(format!("ordered: {later:?} ended before this began, which comes earlier: {write:?}"));
        }
        // What got no answer may have happened long after it was given up.
        let has_ended = matches!(write.outcome, Outcome::Taken { .. });
        if has_ended && earliest_end.is_none_or(|other| write.ended < other.ended) {
            earliest_end = Some(write);
        }
    }
    for gone in lost {
        let heir = there.iter().find(|write| {
            matches!(write.outcome, Outcome::Taken { .. }) && write.node != gone.node && write.ended < gone.sent
        });
        // A node may come back as the primary: then it took writes that are there after the heir's, and before the lost one.
        let is_back = |heir: &Write| {
            there.iter().any(|write| {
                write.node == gone.node
                    && matches!(write.outcome, Outcome::Taken { .. })
                    && write.sent > heir.ended
                    && write.sent <= gone.sent
            })
        };
        if let Some(heir) = heir
            && !is_back(heir)
        {
            verdict.broken.push(format!("one primary: {gone:?} was taken although another had taken {heir:?}"));
        }
    }
}

fn judge_reads(history: &History, verdict: &mut Verdict) {
    let mut kept: BTreeMap<Key, Vec<(Duration, usize)>> = BTreeMap::new();
    for write in &history.writes {
        if let Outcome::Taken { length, kept: true } = write.outcome {
            kept.entry(write.key).or_default().push((write.ended, length));
        }
    }
    // Per list: the longest length that was certain at each time.
    for lengths in kept.values_mut() {
        lengths.sort_unstable();
        let mut longest = 0;
        for (_, length) in lengths.iter_mut() {
            longest = longest.max(*length);
            *length = longest;
        }
    }
    for read in &history.reads {
        let Some(lengths) = kept.get(&read.key) else { continue };
        let before = lengths.partition_point(|(ended, _)| *ended < read.sent);
        if before > 0 && lengths[before - 1].1 > read.length {
            verdict.broken.push(format!("fresh: {} kept writes had ended before {read:?}", lengths[before - 1].1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Id, Key, Outcome, Read, Write, judge};
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn node(number: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], number))
    }

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    fn write(id: Id, at: u16, from: u64, to: u64, outcome: Outcome) -> Write {
        Write { client: 0, key: 0, id, node: node(at), sent: ms(from), ended: ms(to), outcome }
    }

    fn taken(id: Id, at: u16, from: u64, to: u64, length: usize) -> Write {
        write(id, at, from, to, Outcome::Taken { length, kept: false })
    }

    fn kept(id: Id, at: u16, from: u64, to: u64, length: usize) -> Write {
        write(id, at, from, to, Outcome::Taken { length, kept: true })
    }

    /// The first word of each broken rule.
    fn broken(writes: Vec<Write>, reads: Vec<Read>, list: &[Id]) -> Vec<String> {
        let lists: BTreeMap<Key, Vec<Id>> = [(0, list.to_vec())].into();
        let verdict = judge(&History { writes, reads }, &lists);
        verdict.broken.iter().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_history_with_a_failover_and_a_lost_tail_is_fine() {
        let writes = vec![
            kept(1, 1, 0, 10, 1),
            taken(2, 1, 10, 20, 2),
            // Lost with the first primary.
            taken(3, 1, 20, 30, 3),
            write(4, 1, 30, 1030, Outcome::Unknown),
            write(5, 2, 40, 50, Outcome::Refused),
            kept(6, 2, 60, 70, 3),
        ];
        let reads = vec![Read { key: 0, node: node(2), sent: ms(80), length: 3 }];
        let lists = [(0, vec![1, 2, 6])].into();
        let verdict = judge(&History { writes, reads }, &lists);
        assert_eq!(verdict.broken, Vec::<String>::new());
        assert_eq!((verdict.taken, verdict.kept, verdict.lost_unkept, verdict.refused), (4, 2, 1, 1));
        assert_eq!((verdict.unknown, verdict.unknown_happened, verdict.gap), (1, 0, ms(40)));
    }

    #[test]
    fn a_write_without_an_answer_may_happen_once_and_late() {
        let late = vec![write(1, 1, 0, 5, Outcome::Unknown), taken(2, 1, 10, 20, 1), taken(3, 1, 30, 40, 3)];
        assert_eq!(broken(late, vec![], &[2, 1, 3]), Vec::<String>::new());
        let twice = vec![write(1, 1, 0, 5, Outcome::Unknown)];
        assert_eq!(broken(twice, vec![], &[1, 1]), ["once"]);
    }

    #[test]
    fn each_rule_can_be_broken() {
        assert_eq!(broken(vec![kept(1, 1, 0, 10, 1)], vec![], &[]), ["kept"]);
        assert_eq!(broken(vec![taken(1, 1, 0, 10, 1)], vec![], &[1, 1]), ["once"]);
        assert_eq!(broken(vec![], vec![], &[9]), ["sent"]);
        assert_eq!(broken(vec![write(1, 1, 0, 10, Outcome::Refused)], vec![], &[1]), ["sent"]);
        assert_eq!(broken(vec![taken(1, 1, 0, 10, 2)], vec![], &[1]), ["placed"]);
        // The second began after the first had ended.
        assert_eq!(broken(vec![taken(1, 1, 0, 10, 2), taken(2, 1, 20, 30, 1)], vec![], &[2, 1]), ["ordered"]);
        // Node 1 took a write after node 2 had, and it is gone.
        let two = vec![taken(1, 1, 0, 10, 1), taken(2, 2, 20, 30, 2), taken(3, 1, 40, 50, 2)];
        assert_eq!(broken(two, vec![], &[1, 2]), ["one primary"]);
        let stale = vec![Read { key: 0, node: node(1), sent: ms(50), length: 1 }];
        assert_eq!(broken(vec![kept(1, 1, 0, 10, 1), kept(2, 2, 20, 30, 2)], stale, &[1, 2]), ["fresh"]);
    }

    #[test]
    fn a_node_that_is_the_primary_again_is_no_second_one() {
        let back = vec![
            taken(1, 1, 0, 10, 1),
            taken(2, 2, 20, 30, 2),
            taken(3, 1, 40, 50, 3),
            // Lost when node 1 failed once more.
            taken(4, 1, 60, 70, 4),
            taken(5, 2, 80, 90, 4),
        ];
        assert_eq!(broken(back, vec![], &[1, 2, 3, 5]), Vec::<String>::new());
    }

    #[test]
    fn writes_at_the_same_time_may_come_in_any_order() {
        let both = |list: &[Id], lengths: (usize, usize)| {
            broken(vec![taken(1, 1, 0, 20, lengths.0), taken(2, 1, 10, 30, lengths.1)], vec![], list)
        };
        assert_eq!(both(&[1, 2], (1, 2)), Vec::<String>::new());
        assert_eq!(both(&[2, 1], (2, 1)), Vec::<String>::new());
    }

    #[test]
    fn lists_are_judged_each_for_itself() {
        let other = Write { key: 1, ..taken(2, 2, 20, 30, 1) };
        let lists = [(0, vec![1]), (1, vec![2])].into();
        let history = History { writes: vec![taken(1, 1, 0, 10, 1), other], reads: vec![] };
        assert_eq!(judge(&history, &lists).broken, Vec::<String>::new());
        let history = History { writes: vec![kept(1, 1, 0, 10, 1)], reads: vec![] };
        assert_eq!(judge(&history, &BTreeMap::new()).broken.len(), 1);
    }
}
