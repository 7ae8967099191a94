// SPDX-License-Identifier: BSD-3-Clause
//! Whom a root tells of a new topology, and when. All who subscribe are told in rounds, so that ten thousand joins are
//! not ten thousand times ten thousand messages; whom a change concerns hears of it before. A round takes many
//! turns of a few subscribers and at least a millisecond each: in between the driver answers heartbeats, and its
//! connections are served.
//! What has come when it is somebody's turn is told as well, and who has it already costs nothing.
//! Pure; `root_side` sends.

use std::collections::{BTreeMap, BTreeSet};

use crate::feed::calm_pause_ms;
use crate::net::ConnId;

/// How many are told in one turn: a millisecond or two.
pub(crate) const TURN_MAX: usize = 128;

/// From one round to the next pass at least so many microseconds for each subscriber.
const ROUND_US_EACH: u64 = 80;
const ROUND_MIN_MS: u64 = 5;
const ROUND_MAX_MS: u64 = 500;

/// Where a round takes more than one turn it begins when nothing has come for so many microseconds for each node, or at
/// last after a few times as long: when thousands fail at once the news come in pieces, and each round of each
/// piece would delay the next. Those whom a change concerns do not wait.
const QUIET_US_EACH: u64 = 20;
const QUIET_TIMES_MAX: u64 = 5;

/// So many microseconds for each subscriber those wait for each other whom calm changes concern: for each that is
/// told alone the changes since all were told have to be coded again.
const CONCERNED_US_EACH: u64 = 10;

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// When the last round began, and whether something has come since that some have not been told, or that they should
    /// hear soon.
    round_ms: u64,
    is_untold: bool,
    is_pressing: bool,
    /// When the first and the last such thing came.
    pressing_ms: (u64, u64),
    /// The round under way: whose turn is next, and who is the last of it.
    round: Option<(ConnId, ConnId)>,
    /// When the last turn was.
    turn_ms: u64,
    /// Those whom changes concern, and when they are told.
    concerned: BTreeSet<ConnId>,
    concerned_due_ms: u64,
}

impl Rounds {
    /// There is a new map. `concerned`: the connections of those whom it concerns.
    pub fn note(&mut self, now: u64, is_calm: bool, concerned: impl IntoIterator<Item = ConnId>, subscribers: usize) {
        self.is_untold = true;
        if !is_calm {
            self.pressing_ms = (if self.is_pressing { self.pressing_ms.0 } else { now }, now);
            self.is_pressing = true;
        }
        let was_empty = self.concerned.is_empty();
        self.concerned.extend(concerned);
        if !is_calm {
            self.concerned_due_ms = now;
        } else if was_empty {
            self.concerned_due_ms = now + subscribers as u64 * CONCERNED_US_EACH / 1000;
        }
    }

    /// When the next round begins, unless one is under way.
    fn round_due_ms(&self, subscribers: usize, nodes: usize) -> Option<u64> {
        if !self.is_untold || self.round.is_some() {
            return None;
        }
        if !self.is_pressing {
            return Some(self.round_ms + calm_pause_ms(nodes));
        }
        let pause_ms = (subscribers as u64 * ROUND_US_EACH / 1000).clamp(ROUND_MIN_MS, ROUND_MAX_MS);
        let quiet_ms = if subscribers > TURN_MAX { nodes as u64 * QUIET_US_EACH / 1000 } else { 0 };
        let (first_ms, last_ms) = self.pressing_ms;
        let settled_ms = (last_ms + quiet_ms).min(first_ms + QUIET_TIMES_MAX * quiet_ms);
        Some(settled_ms.max(self.round_ms + pause_ms))
    }

    /// When somebody is to be told. `nodes`: of the map.
    pub fn due_ms(&self, subscribers: usize, nodes: usize) -> Option<u64> {
        let concerned = (!self.concerned.is_empty()).then_some(self.concerned_due_ms);
        let round = self.round.map(|_| self.turn_ms + 1);
        [concerned, round, self.round_due_ms(subscribers, nodes)].into_iter().flatten().min()
    }

    /// Begins a round if it is time; says whether it did.
    pub fn begin_round<S>(&mut self, now: u64, subscribers: &BTreeMap<ConnId, S>, nodes: usize) -> bool {
        if self.round_due_ms(subscribers.len(), nodes).is_none_or(|due_ms| due_ms > now) {
            return false;
        }
        let ends = (subscribers.keys().next(), subscribers.keys().next_back());
        self.round = ends.0.zip(ends.1).map(|(first, last)| (*first, *last));
        (self.round_ms, self.is_untold, self.is_pressing) = (now, false, false);
        // They are the first of the round.
        self.concerned_due_ms = now;
        true
    }

    /// Who is to be told now.
    pub fn turn<S>(&mut self, now: u64, subscribers: &BTreeMap<ConnId, S>) -> Vec<ConnId> {
        let mut turn = Vec::new();
        while turn.len() < TURN_MAX
            && self.concerned_due_ms <= now
            && let Some(id) = self.concerned.pop_first()
        {
            turn.push(id);
        }
        if let Some((next, last)) = self.round
            && turn.len() < TURN_MAX
            && now > self.turn_ms
        {
            self.turn_ms = now;
            let mut rest = subscribers.range(next..=last).map(|(id, _)| *id);
            turn.extend(rest.by_ref().take(TURN_MAX - turn.len()));
            self.round = rest.next().map(|next| (next, last));
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribers(count: u64) -> BTreeMap<ConnId, ()> {
        (1..=count).map(|id| (id, ())).collect()
    }

    /// Everything that is due until then, with when it was told.
    fn run(rounds: &mut Rounds, all: &BTreeMap<ConnId, ()>, from_ms: u64, until_ms: u64) -> Vec<(u64, Vec<ConnId>)> {
        let mut told = Vec::new();
        for now in from_ms..until_ms {
            if rounds.due_ms(all.len(), all.len()).is_some_and(|due_ms| due_ms <= now) {
                rounds.begin_round(now, all, all.len());
                told.push((now, rounds.turn(now, all)));
            }
        }
        told
    }

    #[test]
    fn a_round_reaches_everybody_once_a_few_at_a_time() {
        let (mut rounds, all) = (Rounds::default(), subscribers(1000));
        rounds.note(10_000, false, [7, 900], all.len());
        let told = run(&mut rounds, &all, 10_000, 11_000);
        assert!(told.iter().all(|(_, ids)| ids.len() <= TURN_MAX));
        assert_eq!(told[0], (10_000, vec![7, 900]), "whom it concerns first");
        assert_eq!(told.len(), 1 + 8, "a turn each millisecond");
        let mut ids: Vec<ConnId> = told.iter().flat_map(|(_, ids)| ids.iter().copied()).skip(2).collect();
        assert!(ids.is_sorted());
        ids.dedup();
        assert_eq!(ids, all.keys().copied().collect::<Vec<_>>());
        assert_eq!(run(&mut rounds, &all, 11_000, 20_000), []);
    }

    #[test]
    fn a_round_waits_for_the_end_of_a_storm_but_not_for_ever() {
        let all = subscribers(1000);
        let round = |until_ms: u64| {
            let mut rounds = Rounds::default();
            (10_000..=until_ms).step_by(10).for_each(|now| rounds.note(now, false, [], all.len()));
            rounds.round_due_ms(all.len(), all.len())
        };
        assert_eq!(round(10_000), Some(10_020));
        assert_eq!(round(10_030), Some(10_050));
        assert_eq!(round(10_200), Some(10_100));
        let mut few = Rounds::default();
        few.note(10_000, false, [], TURN_MAX);
        assert_eq!(few.round_due_ms(TURN_MAX, 300), Some(10_000));
    }

    #[test]
    fn whoever_is_last_has_a_turn_however_much_comes() {
        let (mut rounds, all) = (Rounds::default(), subscribers(1000));
        let mut last_told = Vec::new();
        for now in 10_000..10_500 {
            // More is concerned than one turn can tell, some of the time.
            let concerned = if now % 3 == 0 { 1..=200 } else { 1..=1 };
            rounds.note(now, false, concerned, all.len());
            rounds.begin_round(now, &all, all.len());
            if rounds.turn(now, &all).contains(&1000) {
                last_told.push(now);
            }
        }
        assert!(last_told.len() > 3, "{last_told:?}");
    }

    #[test]
    fn calm_changes_wait_and_those_whom_they_concern_wait_less() {
        let (mut rounds, all) = (Rounds::default(), subscribers(1000));
        rounds.note(10_000, true, [], all.len());
        assert_eq!(run(&mut rounds, &all, 10_000, 10_100).len(), 8);
        rounds.note(10_100, true, [5], all.len());
        rounds.note(10_105, true, [6], all.len());
        let told = run(&mut rounds, &all, 10_105, 10_500);
        assert_eq!(told[0], (10_110, vec![5, 6]));
        assert_eq!(told[1].0, 10_000 + calm_pause_ms(1000), "then everybody");
        // Whoever asks while a round is under way is told by it or has been.
        rounds.note(10_500, true, [], all.len());
        rounds.note(10_500, false, [8], all.len());
        assert_eq!(run(&mut rounds, &all, 10_500, 10_501)[0].1[0], 8);
    }

    #[test]
    fn nobody_there_is_nobody_told() {
        let mut rounds = Rounds::default();
        rounds.note(10_000, false, [], 0);
        assert_eq!(run(&mut rounds, &subscribers(0), 10_000, 10_100), [(10_000, vec![])]);
    }
}
