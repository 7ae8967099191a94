// SPDX-License-Identifier: BSD-3-Clause
//! Which nodes should be voters of the roots, and the safe next step towards that. Pure functions
//! that the leader asks; the Raft adapter performs what they answer.
//!
//! ```text
//!   1 voter ──SetRoots{3}──► exchanging (quorum = majority of 1 AND of 3) ──SettleRoots──► 3 voters
//! ```
//! The exchange must last until no lease stands on the previous voters alone: a majority of them
//! has applied the `SetRoots` (from then on they renew nobody who does not know it), and one lease
//! has passed since. The Raft group exchanges its voters between the two, so that whoever leads it
//! afterwards knows of the first without asking the previous voters, who may be dead.

use pando_topology::{ClusterMap, Node, NodeId, TopologyVersion};
use std::collections::BTreeMap;

/// No cluster keeps more voters: each one costs every commit an acknowledgement.
pub const ROOTS_MAX: usize = 7;

/// Whether a cluster can be told to keep so many voters. An even number would cost a voter and survive
/// no failure more.
pub fn is_root_count(count: usize) -> bool {
    count % 2 == 1 && count <= ROOTS_MAX
}

/// The voters that there should be, and why they are others than the present ones.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Choice {
    /// Node and Raft id of each.
    pub voters: BTreeMap<NodeId, u64>,
    /// What the exchange is for.
    pub reason: Reason,
}

/// See [`Choice`].
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Reason {
    /// They are the present ones.
    Same,
    /// There are too few or too many, or one is lost.
    Needed,
    /// All is well, but others stand farther apart. Not urgent.
    Spread,
}

/// Chooses the voters: `count` of them, or the largest odd number that there are live nodes for. Each
/// seat goes to the zone with the fewest voters, in it to the host with the fewest, there to the node
/// that joined first. Present voters stay while they live. A seat moves only for the sake of
/// the spread, one at a time; the leader's last.
///
/// Lost voters for which there is no substitute keep their seats, unless fewer seats survive more.
/// `is_live`: a voter has not been away for too long; any other node is known to be alive.
pub fn choose_voters(map: &ClusterMap, count: usize, leader: &NodeId, is_live: impl Fn(&NodeId) -> bool) -> Choice {
    let current = &map.roots().voters;
    // A seat whose node was forgotten, may be no root any more, or has lost its files is lost for good.
    let seat = |node: &Node| node.root_eligible && current.get(&node.id).copied() == node.root_id;
    let (mut kept, mut lost, mut spare) = (Vec::new(), Vec::new(), Vec::new());
    for node in map.nodes().values().filter(|node| node.is_root_capable()) {
        match (seat(node), is_live(&node.id)) {
            (true, true) => kept.push(&**node),
            (true, false) => lost.push(&**node),
            (false, true) => spare.push(&**node),
            (false, false) => {}
        }
    }
    let live = kept.len() + spare.len();
    let size = size(current.len(), count, live, live + lost.len());
    let mut chosen = Spread::of(kept);
    while chosen.seats.len() > size {
        chosen.drop_one(leader);
    }
    chosen.fill(size, &mut spare);
    chosen.fill(size, &mut lost);
    let mut reason = if chosen.voters() == *current { Reason::Same } else { Reason::Needed };
    if chosen.seats.is_empty() {
        // Nothing is known.
        return Choice { voters: current.clone(), reason: Reason::Same };
    }
    if reason == Reason::Same && chosen.improve(leader, &spare) {
        reason = Reason::Spread;
    }
    Choice { voters: chosen.voters(), reason }
}

fn odd(n: usize) -> usize {
    n.saturating_sub(1) | usize::from(n > 0)
}

/// How many seats there should be. `live` nodes could have one, `nameable` with the voters that are away.
fn size(present: usize, count: usize, live: usize, nameable: usize) -> usize {
    // Founding takes one step of its own.
    let count = if present == 0 { 1 } else { count.clamp(1, ROOTS_MAX) };
    let all_live = odd(live.min(count));
    if all_live >= present {
        return all_live;
    }
    let with_lost = odd(nameable.min(count).min(present));
    // How many more failures they survive.
    let survives = |seats: usize, live: usize| live.min(seats) as isize - (seats / 2 + 1) as isize;
    if survives(all_live, all_live) > survives(with_lost, live) { all_live } else { with_lost }
}

/// Seats, and how many of them are in each zone and on each host.
struct Spread<'a> {
    seats: Vec<&'a Node>,
    zones: BTreeMap<&'a str, usize>,
    hosts: BTreeMap<&'a str, usize>,
}

impl<'a> Spread<'a> {
    fn of(nodes: Vec<&'a Node>) -> Spread<'a> {
        let mut spread = Spread { seats: Vec::new(), zones: BTreeMap::new(), hosts: BTreeMap::new() };
        nodes.into_iter().for_each(|node| spread.add(node));
        spread
    }

    fn add(&mut self, node: &'a Node) {
        self.seats.push(node);
        *self.zones.entry(&node.zone).or_default() += 1;
        *self.hosts.entry(&node.host).or_default() += 1;
    }

    fn remove(&mut self, at: usize) -> &'a Node {
        let node = self.seats.remove(at);
        for (counts, name) in [(&mut self.zones, &node.zone), (&mut self.hosts, &node.host)] {
            if let Some(count) = counts.get_mut(name.as_str()) {
                *count -= 1;
            }
        }
        node
    }

    /// How many seats share the node's zone and host. The lower, the better for another one there.
    fn crowd(&self, node: &Node) -> (usize, usize) {
        let at = |counts: &BTreeMap<&str, usize>, name: &str| counts.get(name).copied().unwrap_or(0);
        (at(&self.zones, &node.zone), at(&self.hosts, &node.host))
    }

    /// Which seat goes first: from the fullest zone and host, the leader's last, then who joined last.
    fn rank(&self, node: &Node, leader: &NodeId) -> impl Ord + use<> {
        (self.crowd(node), node.id != *leader, node.join_index, node.id)
    }

    fn drop_one(&mut self, leader: &NodeId) {
        if let Some(at) = (0..self.seats.len()).max_by_key(|at| self.rank(self.seats[*at], leader)) {
            self.remove(at);
        }
    }

    fn best(&self, from: &[&'a Node]) -> Option<usize> {
        (0..from.len()).min_by_key(|at| (self.crowd(from[*at]), from[*at].join_index, from[*at].id))
    }

    fn fill(&mut self, size: usize, from: &mut Vec<&'a Node>) {
        while self.seats.len() < size
            && let Some(at) = self.best(from)
        {
            self.add(from.remove(at));
        }
    }

    /// Moves one seat, if the seats stand farther apart after it. Each move lowers the numbers of seats that
    /// share a zone (or a host), so there is an end to it.
    fn improve(&mut self, leader: &NodeId, spare: &[&'a Node]) -> bool {
        let mut order: Vec<usize> = (0..self.seats.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(self.rank(self.seats[*at], leader)));
        for at in order {
            let crowd = self.crowd(self.seats[at]);
            let former = self.remove(at);
            if let Some(next) = self.best(spare) {
                let (zone, host) = self.crowd(spare[next]);
                if (zone + 1, host + 1) < crowd {
                    self.add(spare[next]);
                    return true;
                }
            }
            self.add(former);
            // `add` appends: the other places of `order` stay right only if this one does.
            let last = self.seats.len() - 1;
            self.seats[at..=last].rotate_right(1);
        }
        false
    }

    fn voters(&self) -> BTreeMap<NodeId, u64> {
        self.seats.iter().filter_map(|node| Some((node.id, node.root_id?))).collect()
    }
}

/// What the leader should propose about the voters.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum RootStep {
    /// Nothing to do, or nothing yet.
    Stay,
    /// Propose `Command::SetRoots` with these voters (and change the Raft membership to them, in one
    /// joint change, after it is committed).
    Exchange(BTreeMap<NodeId, u64>),
    /// Propose `Command::SettleRoots`.
    Settle(TopologyVersion),
}

/// The next step towards `desired`. `applied_for_one_lease` answers whether a root is known to have
/// applied a version at least one lease ago (or whether so much is known of a majority of them).
pub fn next_root_step(
    map: &ClusterMap,
    desired: &BTreeMap<NodeId, u64>,
    applied_for_one_lease: impl Fn(&NodeId, TopologyVersion) -> bool,
) -> RootStep {
    let roots = map.roots();
    match &roots.previous {
        Some(previous) => {
            let done = previous.keys().filter(|id| applied_for_one_lease(id, roots.since)).count();
            if done * 2 > previous.len() { RootStep::Settle(roots.since) } else { RootStep::Stay }
        }
        None if desired.is_empty() || *desired == roots.voters => RootStep::Stay,
        None => RootStep::Exchange(desired.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pando_topology::{ClusterId, MapParts, RootSet};
    use std::sync::Arc;

    fn id(n: usize) -> NodeId {
        NodeId::from_bytes([n as u8; 20])
    }

    /// Nodes by name: a letter for the zone (`-`: none) and perhaps a digit for the host, then `*` for a
    /// voter, `!` for one that is not live, `d` for one that may not be a root, `w` for one with new files, `f` for
    /// a voter that was forgotten. They joined in the order of the text, and are numbered by it from 1.
    fn map(nodes: &str) -> (ClusterMap, Vec<NodeId>) {
        let empty = ClusterMap::empty(ClusterId::from_bytes([1; 20]));
        let mut parts = MapParts { version: TopologyVersion(100), ..empty.parts().clone() };
        let (mut voters, mut dead) = (BTreeMap::new(), Vec::new());
        for (at, word) in nodes.split(' ').enumerate() {
            let n = at + 1;
            let has = |mark: char| word.contains(mark);
            let host =
                word.chars().find(char::is_ascii_digit).map_or_else(|| format!("h{n}"), |digit| format!("same{digit}"));
            let mut node = Node::new(id(n), host, 1);
            node.zone = word.chars().next().filter(|zone| *zone != '-').map(String::from).unwrap_or_default();
            node.is_data = false;
            node.join_index = n as u64;
            node.root_eligible = !has('d');
            node.root_id = Some(if has('w') { 100 + n as u64 } else { n as u64 });
            if has('*') {
                voters.insert(id(n), n as u64);
            }
            if has('!') {
                dead.push(id(n));
            }
            if !has('f') {
                parts.nodes.insert(id(n), Arc::new(node));
            }
        }
        parts.roots = RootSet { voters, ..RootSet::default() };
        (ClusterMap::new(parts).expect("a map"), dead)
    }

    /// The voters chosen, by number, and why; node 1 leads.
    fn check(nodes: &str, count: usize, expected: &str) {
        let (map, dead) = map(nodes);
        let choice = choose_voters(&map, count, &id(1), |node| !dead.contains(node));
        let numbers: Vec<String> = choice.voters.keys().map(|id| id.as_bytes()[0].to_string()).collect();
        let text = format!("{} {:?}", numbers.join(" "), choice.reason);
        assert_eq!(text, expected, "{nodes} for {count}");
        // What was chosen is not changed again.
        let mut parts = map.parts().clone();
        parts.roots.voters = choice.voters.clone();
        let next = ClusterMap::new(parts).expect("a map");
        let again = choose_voters(&next, count, &id(1), |node| !dead.contains(node));
        let is_end = again.reason == Reason::Same || (again.reason == Reason::Spread && choice.reason != Reason::Same);
        assert!(is_end, "{nodes}: then {again:?}");
        for (id, voter) in &choice.voters {
            assert!(
                map.node(id).is_none()
                    || choice.reason == Reason::Same
                    || map.node(id).and_then(|n| n.root_id) == Some(*voter)
            );
        }
    }

    #[test]
    fn clusters_keep_as_many_voters_as_there_are_nodes_for() {
        check("-*", 3, "1 Same");
        check("-* -", 3, "1 Same");
        check("-* - -", 3, "1 2 3 Needed");
        check("-* - -", 5, "1 2 3 Needed");
        check("-* - - - - - -", 1, "1 Same");
        check("-* - - - -", 5, "1 2 3 4 5 Needed");
        check("-* -* -* - -", 5, "1 2 3 4 5 Needed");
        check("-* -* -* - -!", 5, "1 2 3 Same");
        check("-* - - - - - - -", 7, "1 2 3 4 5 6 7 Needed");
        check("- - -", 1, "1 Needed");
        check("-d* -", 3, "2 Needed");
    }

    #[test]
    fn fewer_voters_when_asked_for() {
        check("-* -* -* -* -*", 3, "1 2 3 Needed");
        check("-* -* -* -* -*", 1, "1 Needed");
        check("a* a* b* b* c*", 3, "1 3 5 Needed");
        // Those that are away go first, the leader last.
        check("-* -*! -* -* -*", 3, "1 3 4 Needed");
        check("a* a* a* b* c*", 3, "1 4 5 Needed");
        check("-* -* -* -* -*", 4, "1 2 3 Needed");
    }

    #[test]
    fn lost_voters_are_replaced_and_do_not_push_out_who_took_their_place() {
        check("-* -*! -* -", 3, "1 3 4 Needed");
        check("-* - -* -*", 3, "1 3 4 Same");
        check("-* -*! -*! -* -* - -", 5, "1 4 5 6 7 Needed");
        check("-* -*! -*", 3, "1 2 3 Same");
        check("-* -*! -* -!", 3, "1 2 3 Same");
        // One of two can be replaced.
        check("-* -*! -*! -* -* -", 5, "1 2 4 5 6 Needed");
        // Two of five are gone for good measure: three survive one more failure, five would survive none.
        check("-* -*! -*! -* -*", 5, "1 4 5 Needed");
        check("-* -*! -* -* -*", 5, "1 2 3 4 5 Same");
        check("-* -*! -*! -* -* -* -*", 7, "1 4 5 6 7 Needed");
        check("-* -*! -* -* -* -* -*", 7, "1 2 3 4 5 6 7 Same");
    }

    #[test]
    fn seats_that_are_lost_for_good() {
        check("-* -f* -* -", 3, "1 3 4 Needed");
        check("-* -d* -* -", 3, "1 3 4 Needed");
        check("-* -d* -*", 3, "1 Needed");
        check("-f* -", 3, "2 Needed");
        check("-* -f* -* -* -*", 5, "1 3 4 Needed");
        // Who has lost its files is a candidate like any other.
        check("-* -w* -*", 3, "1 2 3 Needed");
        check("-* -w*! -* -", 3, "1 3 4 Needed");
        check("-! -!", 3, " Same");
    }

    #[test]
    fn voters_stand_in_as_many_zones_as_there_are() {
        check("a* a a b c", 3, "1 4 5 Needed");
        check("a* a a b b c c", 5, "1 2 4 5 6 Needed");
        check("a* a a a b c", 5, "1 2 3 5 6 Needed");
        // A lost one is replaced in its own zone, or in the emptiest.
        check("a* b* c*! a b c", 3, "1 2 6 Needed");
        check("a* b* c*! a a b", 3, "1 2 4 Needed");
        // And comes back there when somebody else can stand there again.
        check("a* b* c a*", 3, "1 2 3 Spread");
        check("a* b* c! a*", 3, "1 2 4 Same");
        // One move at a time, not the leader's.
        check("a* a* a* b c", 3, "1 2 4 Spread");
        check("a* a* b*", 3, "1 2 3 Same");
        // Nodes without a zone share one.
        check("-* -* -* a", 3, "1 2 4 Spread");
        check("a* b* c* a b c", 3, "1 2 3 Same");
        check("a* a* b* b* c* c", 5, "1 2 3 4 5 Same");
        check("a* a* a* b* c* c", 5, "1 2 4 5 6 Spread");
    }

    #[test]
    fn voters_stand_on_as_many_hosts_as_there_are() {
        check("-1* -1 -2 -2 -3 -3", 3, "1 3 5 Needed");
        check("-1* -1* -2* -2 -3", 3, "1 3 5 Spread");
        check("a1* a1 b1 b2", 3, "1 2 4 Needed");
    }

    #[test]
    fn only_odd_numbers_up_to_seven() {
        let good: Vec<usize> = (0..12).filter(|count| is_root_count(*count)).collect();
        assert_eq!(good, [1, 3, 5, 7]);
    }

    /// Whatever lives and dies: an odd number of voters, no two in a zone while a live node of another zone could
    /// stand there, and an end to the moves.
    #[test]
    fn random_clusters_come_to_rest() {
        let mut dice = 7u64;
        let mut roll = move |n: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % n
        };
        for _ in 0..2000 {
            let words: Vec<String> = (0..1 + roll(12))
                .map(|_| {
                    format!(
                        "{}{}{}{}",
                        ["a", "b", "c", "-"][roll(4) as usize],
                        ["1", "2", ""][roll(3) as usize],
                        ["", "*"][roll(2) as usize],
                        ["", "", "!"][roll(3) as usize]
                    )
                })
                .collect();
            let text = words.join(" ");
            let (mut map, dead) = map(&text);
            let count = [1, 3, 5, 7][roll(4) as usize];
            let is_live = |node: &NodeId| !dead.contains(node);
            let mut steps = 0;
            loop {
                let choice = choose_voters(&map, count, &id(1), is_live);
                if choice.reason == Reason::Same {
                    break;
                }
                steps += 1;
                assert!(steps < 12, "{text}: no end");
                assert_eq!(choice.voters.len() % 2, 1, "{text}");
                let mut parts = map.parts().clone();
                parts.roots.voters = choice.voters;
                map = ClusterMap::new(parts).expect("a map");
            }
            let voters = map.roots().voters.clone();
            let in_zone = |zone: &str| voters.keys().filter(|id| map.node(id).is_some_and(|n| n.zone == zone)).count();
            for node in map.nodes().values().filter(|n| is_live(&n.id) && !voters.contains_key(&n.id)) {
                let fullest = voters.keys().filter_map(|id| map.node(id)).map(|n| in_zone(&n.zone)).max().unwrap_or(0);
                assert!(voters.is_empty() || fullest <= in_zone(&node.zone) + 1, "{text}: {voters:?}");
            }
        }
    }
}
