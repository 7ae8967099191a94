// SPDX-License-Identifier: BSD-3-Clause
//! Many threads, transactions over several slots, and commands on the whole keyspace: no deadlock,
//! no torn transaction.

use crate::harness::{Client, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

const ACCOUNTS: u64 = 12;
const BALANCE: i64 = 100;
/// Generous: the test takes about a second.
const DEADLINE: Duration = Duration::from_secs(60);

/// A small generator, so that a run does not depend on anything else.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn sum(reply: &str) -> i64 {
    reply.split(|c: char| !c.is_ascii_digit() && c != '-').filter_map(|n| n.parse::<i64>().ok()).sum()
}

fn accounts() -> String {
    (0..ACCOUNTS).map(|n| format!(" account:{n}")).collect()
}

fn transfer(client: &mut Client, rng: &mut Rng) {
    let (from, to, amount) = (rng.below(ACCOUNTS), rng.below(ACCOUNTS), rng.below(10));
    client.run("MULTI");
    client.run(&format!("DECRBY account:{from} {amount}"));
    client.run(&format!("INCRBY account:{to} {amount}"));
    assert!(client.run("EXEC").starts_with('['));
}

/// Moves money only if nobody touched the accounts in between.
fn watched_transfer(client: &mut Client, rng: &mut Rng) {
    let (from, to) = (rng.below(ACCOUNTS), rng.below(ACCOUNTS));
    if from == to {
        return;
    }
    client.run(&format!("WATCH account:{from} account:{to}"));
    let (a, b) = (sum(&client.run(&format!("GET account:{from}"))), sum(&client.run(&format!("GET account:{to}"))));
    client.run("MULTI");
    client.run(&format!("SET account:{from} {}", a - 1));
    client.run(&format!("SET account:{to} {}", b + 1));
    client.run("EXEC");
}

/// Runs the closures on threads of their own, and fails if they do not end in time.
pub fn run_all(jobs: Vec<Box<dyn FnOnce() + Send>>) {
    let (done, finished) = mpsc::channel();
    let count = jobs.len();
    for job in jobs {
        let done = done.clone();
        std::thread::spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = done.send(result.is_ok());
        });
    }
    for _ in 0..count {
        match finished.recv_timeout(DEADLINE) {
            Ok(true) => {}
            Ok(false) => panic!("a thread failed"),
            Err(_) => panic!("deadlock: threads did not end in time"),
        }
    }
}

#[test]
fn transfers_keep_the_sum() {
    let server = Server::new();
    let mut setup = server.client();
    (0..ACCOUNTS).for_each(|n| assert_eq!(setup.run(&format!("SET account:{n} {BALANCE}")), "+OK"));
    let total = ACCOUNTS as i64 * BALANCE;
    let writing = Arc::new(AtomicU64::new(4));
    let mut jobs: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for seed in 1..=4u64 {
        let (engine, writing) = (server.engine.clone(), writing.clone());
        jobs.push(Box::new(move || {
            let (mut client, mut rng) = (Client::new(&engine), Rng(seed * 7919));
            for round in 0..1500 {
                if round % 3 == 0 { watched_transfer(&mut client, &mut rng) } else { transfer(&mut client, &mut rng) }
            }
            writing.fetch_sub(1, Relaxed);
        }));
    }
    for variant in 0..3 {
        let (engine, writing) = (server.engine.clone(), writing.clone());
        jobs.push(Box::new(move || {
            let mut client = Client::new(&engine);
            let keys = accounts();
            let mut reads = 0;
            while writing.load(Relaxed) > 0 || reads < 50 {
                let reply = match variant {
                    0 => client.run(&format!("MGET{keys}")),
                    1 => {
                        client.run("MULTI");
                        client.run(&format!("MGET{keys}"));
                        client.run("EXEC")
                    }
                    _ => {
                        client.run("MULTI");
                        (0..ACCOUNTS).rev().for_each(|n| {
                            client.run(&format!("GET account:{n}"));
                        });
                        client.run("EXEC")
                    }
                };
                assert_eq!(sum(&reply), total, "{reply}");
                reads += 1;
            }
        }));
    }
    run_all(jobs);
    assert_eq!(sum(&setup.run(&format!("MGET{}", accounts()))), total);
}

#[test]
fn whole_keyspace_commands_in_between() {
    let server = Server::new();
    let stop = Arc::new(AtomicBool::new(false));
    let mut jobs: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    // Writers set all accounts to one value in one transaction: a reader sees all or none.
    for seed in 1..=2u64 {
        let engine = server.engine.clone();
        jobs.push(Box::new(move || {
            let (mut client, mut rng) = (Client::new(&engine), Rng(seed * 104_729));
            for _ in 0..400 {
                let value = rng.below(1000);
                client.run("MULTI");
                (0..ACCOUNTS).for_each(|n| {
                    client.run(&format!("SET account:{n} {value}"));
                });
                assert!(client.run("EXEC").starts_with('['));
            }
        }));
    }
    {
        let (engine, stop) = (server.engine.clone(), stop.clone());
        jobs.push(Box::new(move || {
            let (mut client, mut rng) = (Client::new(&engine), Rng(42));
            for _ in 0..120 {
                match rng.below(7) {
                    0 => drop(client.run("FLUSHALL")),
                    1 => drop(client.run("FLUSHDB")),
                    2 => drop(client.run("SWAPDB 0 1")),
                    3 => drop(client.run("KEYS *")),
                    4 => drop(client.run("SCAN 0 COUNT 100")),
                    5 => drop(client.run("RANDOMKEY")),
                    _ => {
                        client.run("MULTI");
                        client.run("DBSIZE");
                        client.run("FLUSHDB");
                        client.run("DBSIZE");
                        assert!(client.run("EXEC").ends_with("+OK, :0]"));
                    }
                }
            }
            stop.store(true, Relaxed);
        }));
    }
    for _ in 0..2 {
        let (engine, stop) = (server.engine.clone(), stop.clone());
        jobs.push(Box::new(move || {
            let mut client = Client::new(&engine);
            let line = format!("MGET{}", accounts());
            while !stop.load(Relaxed) {
                let reply = client.run(&line);
                let values: Vec<&str> = reply.trim_matches(['[', ']']).split(", ").collect();
                assert!(values.iter().all(|value| *value == values[0]), "{reply}");
            }
        }));
    }
    run_all(jobs);
}

#[test]
fn nothing_is_written_after_the_role_changed() {
    let server = Server::new();
    let stop = Arc::new(AtomicBool::new(false));
    let mut jobs: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for variant in 0..3 {
        let (engine, stop) = (server.engine.clone(), stop.clone());
        jobs.push(Box::new(move || {
            let mut client = Client::new(&engine);
            while !stop.load(Relaxed) {
                if variant == 0 {
                    client.run("INCR a");
                } else {
                    client.run("MULTI");
                    client.run("INCR a");
                    client.run("INCR b");
                    client.run("EXEC");
                }
            }
        }));
    }
    let (engine, stop) = (server.engine.clone(), stop.clone());
    jobs.push(Box::new(move || {
        let mut client = Client::new(&engine);
        for _ in 0..300 {
            engine.gate.set_role(pando_session::Role::Replica);
            // Whoever was let in before is done once every slot was locked.
            drop(engine.keyspace.lock_all());
            let before = client.run("MGET a b");
            std::thread::yield_now();
            (0..20).for_each(|_| assert_eq!(client.run("MGET a b"), before));
            engine.gate.set_role(pando_session::Role::Primary);
            client.run("GET a");
        }
        stop.store(true, Relaxed);
    }));
    run_all(jobs);
}
