// SPDX-License-Identifier: BSD-3-Clause
//! Role, loading, memory, replicas and pauses: what the gate lets through.

use crate::harness::Server;
use pando_session::{Next, PauseMode, PausePurpose, Role, Suspend, boot_ms};
use std::sync::atomic::Ordering::Relaxed;

const EXECABORT_READONLY: &str =
    "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.";

#[test]
fn replicas_refuse_writes() {
    let server = Server::new();
    let mut client = server.client();
    client.check(&[("MULTI", "+OK"), ("SET a 1", "+QUEUED")]);
    server.engine.gate.set_role(Role::Replica);
    client.check(&[
        ("EXEC", EXECABORT_READONLY),
        ("SET a 1", "-READONLY You can't write against a read only replica."),
        ("GET a", "nil"),
        ("MULTI", "+OK"),
        ("SET a 1", "-READONLY You can't write against a read only replica."),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("WAIT 1 1", "-ERR WAIT cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated."),
    ]);
    server.engine.gate.set_link_up(false);
    assert_eq!(client.run("GET a"), "nil");
    server.engine.update_settings(|settings| settings.replica_serve_stale_data = false);
    client.check(&[
        ("GET a", "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
    ]);
}

#[test]
fn loading_memory_and_replicas() {
    let server = Server::new();
    let mut client = server.client();
    server.engine.gate.set_loading(true);
    client.check(&[
        ("GET a", "-LOADING Valkey is loading the dataset in memory"),
        ("PING", "-LOADING Valkey is loading the dataset in memory"),
        ("SELECT 1", "+OK"),
        ("SUBSCRIBE c", r#"["subscribe", "c", :1]"#),
        ("RESET", "+RESET"),
    ]);
    server.engine.gate.set_loading(false);
    assert_eq!(client.run("SET a 1"), "+OK");
    server.engine.update_settings(|settings| settings.maxmemory = 1);
    client.check(&[
        ("SET a 1", "-OOM command not allowed when used memory > 'maxmemory'."),
        ("GET a", "\"1\""),
        ("MULTI", "+OK"),
        ("GET a", "-OOM command not allowed when used memory > 'maxmemory'."),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("DEL a", ":1"),
    ]);
    server.engine.update_settings(|settings| {
        settings.maxmemory = 0;
        settings.min_replicas_to_write = 1;
    });
    client.check(&[("SET a 1", "-NOREPLICAS Not enough good replicas to write."), ("GET a", "nil")]);
    server.engine.gate.set_good_replicas(1);
    assert_eq!(client.run("SET a 1"), "+OK");
    server.engine.gate.set_write_error(Some("MISCONF broken"));
    client.check(&[("SET a 1", "-MISCONF broken"), ("GET a", "\"1\"")]);
    server.engine.gate.set_write_error(None);
    assert_eq!(client.run("SET a 1"), "+OK");
}

#[test]
fn pauses_suspend_and_change_nothing() {
    let server = Server::new();
    let mut client = server.client();
    let mut other = server.client();
    assert_eq!(client.run("CLIENT PAUSE 100000 WRITE"), "+OK");
    assert_eq!(client.run("SET a 1"), "");
    assert_eq!(client.next, Next::Suspend(Suspend::Paused));
    assert_eq!(client.run("PUBLISH a 1"), "");
    assert_eq!(client.next, Next::Suspend(Suspend::Paused));
    client.check(&[("GET a", "nil"), ("MULTI", "+OK"), ("GET a", "+QUEUED"), ("EXEC", "[nil]")]);
    assert!(server.engine.gate.paused_until().is_some_and(|until| until > boot_ms() + 90_000));
    assert_eq!(other.run("CLIENT UNPAUSE"), "+OK");
    assert_eq!(client.run("SET a 1"), "+OK");
    server.engine.gate.pause(PausePurpose::Failover, PauseMode::All, u64::MAX);
    assert_eq!(client.run("GET a"), "");
    server.engine.unpause(PausePurpose::Failover);
    assert_eq!(client.run("GET a"), "\"1\"");
    // A pause that ran out needs nobody to end it.
    server.engine.gate.pause(PausePurpose::Client, PauseMode::All, boot_ms());
    assert_eq!(client.run("GET a"), "\"1\"");
}

#[test]
fn writes_of_a_former_primary_stay_held_until_it_is_settled_who_takes_them() {
    let server = Server::new();
    let gate = &server.engine.gate;
    let (mut client, mut redirected) = (server.client(), server.client());
    assert_eq!(redirected.run("CLIENT CAPA REDIRECT"), "+OK");
    let readonly = "-READONLY You can't write against a read only replica.";
    // A replica that is paused later never held a write.
    server.engine.set_role(Role::Replica);
    gate.pause(PausePurpose::Client, PauseMode::Write, u64::MAX);
    assert_eq!(client.run("SET a 1"), readonly);
    server.engine.unpause(PausePurpose::Client);
    server.engine.set_role(Role::Primary);
    for purpose in [PausePurpose::Failover, PausePurpose::Client] {
        gate.pause(purpose, PauseMode::Write, u64::MAX);
        server.engine.set_role(Role::Replica);
        assert_eq!(client.run("SET a 1"), "", "{purpose:?}");
        assert_eq!(client.next, Next::Suspend(Suspend::Paused));
        // Reads need to wait only where a redirection might come back.
        assert_eq!(client.run("GET a"), "nil");
        assert_eq!(redirected.run("GET a").is_empty(), purpose == PausePurpose::Failover);
        server.engine.unpause(purpose);
        assert_eq!(client.run("SET a 1"), readonly);
        server.engine.set_role(Role::Primary);
    }
    // It was called off.
    gate.pause(PausePurpose::Failover, PauseMode::Write, u64::MAX);
    server.engine.set_role(Role::Replica);
    server.engine.set_role(Role::Primary);
    server.engine.role_settled();
    assert_eq!(client.run("SET a 1"), "+OK");
}

#[test]
fn who_waits_counts_a_replica_that_left_to_be_the_primary() {
    let server = Server::new();
    let acks = &server.engine.acks;
    server.engine.replica_acked(1, 100);
    server.engine.replica_acked(2, 50);
    acks.keep_departed(true, true);
    acks.remove(1);
    assert_eq!(acks.count(100), 1);
    // The change of places was called off.
    acks.keep_departed(false, true);
    assert_eq!((acks.count(100), acks.count(50)), (0, 1));
    acks.keep_departed(true, true);
    acks.remove(2);
    acks.keep_departed(false, false);
    assert_eq!(acks.count(50), 1);
    server.engine.set_role(Role::Replica);
    assert_eq!(acks.count(50), 1);
    server.engine.set_role(Role::Primary);
    assert_eq!(acks.count(50), 0);
}

#[test]
fn wait_for_acknowledgements() {
    let server = Server::new();
    server.log.is_active.store(true, Relaxed);
    let mut client = server.client();
    client.run("SET a 1");
    assert_eq!(client.run("WAIT 1 0"), "");
    assert!(
        matches!(
            client.next,
            Next::Suspend(Suspend::Wait { replicas: 1, offset: 27, in_files: false, deadline_boot_ms: None })
        ),
        "{:?}",
        client.next
    );
    assert!(client.session.shared.is_blocked.load(Relaxed));
    server.engine.replica_acked(7, 20);
    assert!(!client.finish_wait(false));
    server.engine.replica_acked(7, 27);
    assert_eq!(server.post.0.lock().unwrap().len(), 2);
    assert!(client.finish_wait(false));
    assert_eq!(client.replies(), ":1");
    assert_eq!(client.run("WAIT 1 0"), ":1");
    assert_eq!(client.run("WAIT 2 100000"), "");
    assert!(client.finish_wait(true));
    assert_eq!(client.replies(), ":1");
    assert!(!client.session.shared.is_blocked.load(Relaxed));
}
