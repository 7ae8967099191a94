// SPDX-License-Identifier: BSD-3-Clause
//! The memory limit within a session: room is made before a command, and victims are logged; who does not evict.

use crate::harness::Server;
use pando_keyspace::EvictionPolicy;
use pando_session::{PauseMode, PausePurpose, Role, boot_ms};
use std::sync::atomic::Ordering::Relaxed;

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";

fn full(policy: EvictionPolicy) -> Server {
    let server = Server::with(|settings| settings.maxmemory_policy = policy);
    let mut client = server.client();
    for n in 0..200 {
        client.run(&format!("SET k:{n} {}", "x".repeat(200)));
    }
    let used = server.engine.counted_memory();
    server.engine.update_settings(|settings| settings.maxmemory = used);
    server.engine.memory_limit_changed(used);
    server
}

#[test]
fn victims_come_before_the_write_in_the_log() {
    for (is_lazy, name) in [(true, "UNLINK"), (false, "DEL")] {
        let server = full(EvictionPolicy::AllkeysLru);
        server.engine.update_settings(|settings| settings.lazyfree_lazy_eviction = is_lazy);
        server.log.is_active.store(true, Relaxed);
        let mut client = server.client();
        assert_eq!(client.run(&format!("SET new {}", "y".repeat(200))), "+OK");
        let logged = server.logged();
        let (write, victims) = logged.split_last().expect("the write was logged");
        assert!(write.starts_with("0: SET new "), "{write}");
        assert!(
            !victims.is_empty() && victims.iter().all(|each| each.starts_with(&format!("0: {name} k:"))),
            "{victims:?}"
        );
        assert_eq!(server.engine.stats.evicted_keys.load(Relaxed), victims.len() as u64);
        assert_eq!(server.engine.eviction.evicted_by_writers.load(Relaxed), victims.len() as u64);
        let limit = server.engine.settings.load().maxmemory;
        assert!(server.engine.counted_memory() <= limit);
        // Reading, and what frees memory, evicts nobody.
        client.run("GET new");
        client.run("DEL new");
        assert_eq!(server.engine.stats.evicted_keys.load(Relaxed), victims.len() as u64);
    }
}

#[test]
fn nobody_is_evicted_where_it_is_not_allowed() {
    let set = format!("SET new {}", "y".repeat(200));
    let evicted = |server: &Server| server.engine.stats.evicted_keys.load(Relaxed);
    let server = full(EvictionPolicy::AllkeysRandom);
    server.engine.gate.pause(PausePurpose::Failover, PauseMode::Write, boot_ms() + 60_000);
    assert_eq!(server.client().run(&set), "");
    assert_eq!(evicted(&server), 0);

    let server = full(EvictionPolicy::AllkeysRandom);
    server.engine.update_settings(|settings| settings.replica_read_only = false);
    server.engine.gate.set_role(Role::Replica);
    assert_eq!(server.client().run(&set), "+OK");
    assert_eq!(evicted(&server), 0);
    server.engine.update_settings(|settings| settings.replica_ignore_maxmemory = false);
    server.log.is_active.store(true, Relaxed);
    assert_eq!(server.client().run(&set), "+OK");
    assert!(evicted(&server) > 0);
    assert!(server.logged().iter().all(|each| !each.contains("UNLINK")), "a replica's victims are its own");

    let server = full(EvictionPolicy::VolatileLru);
    server.engine.update_settings(|settings| settings.maxmemory -= 1);
    assert_eq!(server.client().run(&set), OOM);
    assert_eq!(evicted(&server), 0);
}

#[test]
fn a_lowered_limit_does_not_refuse_writes() {
    let server = full(EvictionPolicy::AllkeysRandom);
    let half = server.engine.counted_memory() / 2;
    server.engine.update_settings(|settings| {
        settings.maxmemory = half;
        // One look at the clock ends it: this write evicts a few keys only.
        settings.maxmemory_eviction_tenacity = 0;
    });
    server.engine.memory_limit_changed(half);
    assert_eq!(server.client().run("SET new 1"), "+OK");
    let evicted = server.engine.stats.evicted_keys.load(Relaxed);
    assert!((1..=16).contains(&evicted), "{evicted}");
    assert!(server.engine.counted_memory() > half);
    assert!(server.engine.eviction.exceeded_ms().0 < 60_000);
}
