// SPDX-License-Identifier: BSD-3-Clause
//! What the roots put on record about faults, as CLUSTER EXPLAIN gets it from any node; and reads of the topology
//! at roots, which show everything that was committed before or say why they cannot.

use std::sync::Arc;

use pando_agent::{
    Answer, Event, Explanation, FailoverMode, Opinion, PromoteReason, Question, Record, Request, Subject, WhyNot,
};
use pando_sim::faults::heal_all;
use pando_sim::world::{LEASE_MS, World, answer};
use pando_topology::{ClusterMap, NodeId, ShardId};

fn leader(world: &World) -> usize {
    let leader = (0..world.len()).find_map(|host| world.handle(host)?.info().leader).expect("a leader");
    (0..world.len()).find(|host| world.node_id(*host) == Some(leader)).expect("a host")
}

/// Asks one host, and waits for what it says.
fn ask(world: &mut World, host: usize, request: Request) -> Result<Answer, String> {
    let pending = world.ask(host, request);
    assert!(world.until(20_000, |_| answer(&pending).is_some()), "no answer: {}", world.describe());
    answer(&pending).expect("an answer")
}

fn explain(world: &mut World, host: usize, question: Question) -> Explanation {
    match ask(world, host, Request::Explain(question)) {
        Ok(Answer::Explained(told, _)) => *told,
        other => panic!("{other:?}"),
    }
}

fn id(world: &World, host: usize) -> NodeId {
    world.node_id(host).expect("it runs")
}

fn map(world: &World, host: usize) -> Arc<ClusterMap> {
    world.plane(host).state().view.clone().expect("a map").0
}

fn shard(world: &World, host: usize) -> ShardId {
    world.plane(host).state().shard().expect("a shard")
}

/// The newest record of this kind.
fn newest(told: &Explanation, is_it: impl Fn(&Event) -> bool) -> Option<&Record> {
    told.records.iter().map(|(_, record)| record).find(|record| is_it(&record.event))
}

/// Three primaries with a replica each, all of them formed; a primary that does not lead the roots.
fn formed(seed: u64) -> (World, usize) {
    let mut world = World::new(seed, 6);
    world.form(3);
    world.run_ms(500);
    let victim = (0..3).find(|host| *host != leader(&world)).expect("another primary");
    (world, victim)
}

/// Does something to a primary, waits until it is replaced, and gives the promotion as node 5 tells it.
fn promotion(seed: u64, fault: impl FnOnce(&mut World, usize)) -> (World, usize, Record) {
    let (mut world, victim) = formed(seed);
    let (shard, former) = (shard(&world, victim), id(&world, victim));
    fault(&mut world, victim);
    let asked = (0..6).rev().find(|host| *host != victim).expect("another host");
    for _ in 0..40 {
        world.run_ms(LEASE_MS / 4);
        let told = explain(&mut world, asked, Question::Shard(shard));
        if let Some(record) = newest(&told, |event| matches!(event, Event::Promoted { .. })) {
            assert!(matches!(record.event, Event::Promoted { from, .. } if from == former), "{record:?}");
            assert!(record.stamp.root.is_some() && record.stamp.unix_ms > 0 && record.stamp.term > 0);
            assert_eq!(record.candidates.len(), 1);
            assert!(record.candidates[0].why_not.is_none(), "{record:?}");
            let record = record.clone();
            return (world, victim, record);
        }
    }
    panic!("not replaced: {}", world.describe());
}

fn count(record: &Record, is_it: impl Fn(&Opinion) -> bool) -> usize {
    record.opinions.iter().filter(|(_, opinion)| is_it(opinion)).count()
}

#[test]
fn a_killed_primary_is_on_record_as_dead() {
    let (mut world, victim, record) = promotion(41, |world, victim| world.crash(victim));
    assert!(count(&record, |opinion| *opinion == Opinion::Dead) >= 2, "{record:?}");
    assert_eq!(record.opinions.len(), 3);
    // Why it was marked is told with the shard and with the node.
    let known = map(&world, leader(&world));
    let dead = known.nodes().values().find(|node| node.failed).expect("a failed node").id;
    let asked = (0..6).find(|host| *host != victim).expect("another host");
    let told = explain(&mut world, asked, Question::Node(dead));
    assert!(newest(&told, |event| *event == Event::Failed).is_some());
    assert!(told.opinions.iter().filter(|(_, opinion)| *opinion == Opinion::Dead).count() >= 2);
    assert!(told.shard.is_some_and(|now| now.next.starts_with("nothing")));
}

#[test]
fn a_primary_that_is_cut_off_is_on_record_as_silent() {
    let (_, _, record) = promotion(42, |world, victim| world.isolate(victim));
    assert!(count(&record, |opinion| matches!(opinion, Opinion::Silent(_))) >= 2, "{record:?}");
    assert!(matches!(record.event, Event::Promoted { reason: PromoteReason::Failed, .. }));
}

#[test]
fn a_shard_without_a_fit_replica_is_on_record_once() {
    let mut world = World::with_config(43, 6, |host, config| config.no_failover = host >= 3);
    world.form(3);
    world.run_ms(500);
    let victim = (0..3).find(|host| *host != leader(&world)).expect("another primary");
    let shard = shard(&world, victim);
    world.crash(victim);
    world.run_ms(12 * LEASE_MS);
    let asked = (0..3).find(|host| *host != victim).expect("another host");
    let told = explain(&mut world, asked, Question::Shard(shard));
    let is_refusal = |event: &Event| matches!(event, Event::NotPromoted { node: None, .. });
    let record = newest(&told, is_refusal).expect("a refusal");
    assert_eq!(record.candidates[0].why_not, Some(WhyNot::NoFailover));
    assert!(count(record, Opinion::is_failed) >= 2, "{record:?}");
    let version = record.index;
    assert_eq!(told.records.iter().filter(|(_, record)| is_refusal(&record.event)).count(), 1);
    // However long it lasts and whoever leads, it is said once.
    world.crash(leader(&world));
    world.run_ms(2 * LEASE_MS);
    heal_all(&mut world);
    world.run_ms(4 * LEASE_MS);
    let told = explain(&mut world, 5, Question::Shard(shard));
    let again = newest(&told, is_refusal).expect("the refusal");
    assert!(again.index == version || told.records.iter().filter(|(_, r)| is_refusal(&r.event)).count() <= 2);
}

#[test]
fn an_operators_failover_is_on_record_whether_done_or_refused() {
    let (mut world, victim) = formed(44);
    let shard = shard(&world, victim);
    let replica = (3..6).find(|host| self::shard(&world, *host) == shard).expect("a replica");
    world.must(replica, Request::Failover(FailoverMode::Planned));
    let told = explain(&mut world, victim, Question::Shard(shard));
    let record = newest(&told, |event| matches!(event, Event::Promoted { .. })).expect("a promotion");
    assert!(matches!(record.event, Event::Promoted { reason: PromoteReason::Manual, .. }));
    assert!(record.note.starts_with("CLUSTER FAILOVER on "), "{record:?}");
    // The node that is replica now, and whose primary is gone, refuses.
    let (primary, replica) = (replica, victim);
    world.isolate(primary);
    assert!(ask(&mut world, replica, Request::Failover(FailoverMode::Planned)).is_err());
    world.run_ms(500);
    let asked = leader(&world);
    let told = explain(&mut world, if asked == primary { replica } else { asked }, Question::Shard(shard));
    let record = newest(&told, |event| matches!(event, Event::NotPromoted { node: Some(_), .. }));
    assert!(record.is_some(), "{:?}", told.records);
}

#[test]
fn elections_are_on_record_with_the_leader_before() {
    let (mut world, _) = formed(45);
    let first = leader(&world);
    let former = id(&world, first);
    world.crash(first);
    world.run_ms(6 * LEASE_MS);
    let asked = (0..3).find(|host| *host != first).expect("another root");
    let told = explain(&mut world, asked, Question::Roots);
    let record = newest(&told, |event| matches!(event, Event::Elected { .. })).expect("an election");
    assert!(matches!(record.event, Event::Elected { root, .. } if root == told.root), "{record:?}");
    assert!(record.note.contains(&former.to_string()) || told.records.len() > 2, "{record:?}");
    assert!(told.records.iter().all(|(subject, _)| *subject == Subject::Roots));
    assert!(told.roots.iter().filter(|root| root.answers).count() >= 2);
    let last = explain(&mut world, asked, Question::Last(5));
    assert_eq!(last.records.len(), 5);
    assert!(last.records.windows(2).all(|pair| pair[0].1.index >= pair[1].1.index));
}

#[test]
fn what_one_root_has_acknowledged_every_root_shows() {
    let (mut world, _) = formed(46);
    world.set_latency_max(20);
    for turn in 0..12 {
        let writer = turn % 3;
        ask(&mut world, writer, Request::BumpEpoch).expect("bumped");
        let version = map(&world, writer).version();
        let readers: Vec<_> = (0..3).map(|host| (host, world.ask(host, Request::ReadBarrier))).collect();
        for (host, pending) in readers {
            assert!(world.until(5000, |_| answer(&pending).is_some()));
            match answer(&pending) {
                Some(Ok(Answer::Version(read))) => assert!(read >= version, "root {host} reads {read} after {version}"),
                other => panic!("root {host}: {other:?}"),
            }
            // What the data plane renders from has it too.
            assert!(map(&world, host).version() >= version);
        }
    }
}

#[test]
fn a_root_that_is_cut_off_says_which_roots_do_not_answer() {
    let (mut world, _) = formed(47);
    world.isolate(1);
    world.run_ms(2 * LEASE_MS);
    for request in [Request::ReadBarrier, Request::Explain(Question::Roots), Request::BumpEpoch] {
        let text = ask(&mut world, 1, request).expect_err("no majority");
        let start = "CLUSTERDOWN No majority of the roots is reachable: 1 of 3 answers (no answer from ";
        assert!(text.starts_with(start) && text.ends_with(" ms)"), "{text}");
        assert!(text.contains(&format!("no answer from {} for ", id(&world, 0))), "{text}");
    }
    // Many at once are answered by one barrier each time.
    heal_all(&mut world);
    world.run_ms(2 * LEASE_MS);
    let many: Vec<_> = (0..200).map(|_| world.ask(1, Request::ReadBarrier)).collect();
    assert!(world.until(5000, |_| many.iter().all(|pending| answer(pending).is_some())));
    assert!(many.iter().all(|pending| matches!(answer(pending), Some(Ok(Answer::Version(_))))));
}
