// SPDX-License-Identifier: BSD-3-Clause
//! Many threads that push, pop, move, give up and are unblocked at once: every element is taken exactly once, nobody is
//! forgotten, and the log leads to the same state. Made for the thread sanitizer too.

use crate::harness::{Client, Log, LogHandle};
use crate::stress::{Rng, run_all};
use pando_resp::decode;
use pando_session::{ApplySession, Engine, EngineConfig, Mailbox, Message, WorkerScratch};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

const CONSUMERS: usize = 6;
const PRODUCERS: usize = 3;
const MOVERS: usize = 2;
const KEYS: u64 = 5;
const WORKERS: usize = CONSUMERS + PRODUCERS + MOVERS + 1;
const MAIN: usize = WORKERS - 1;

/// A mailbox for each thread, which is a worker with one client.
struct Boxes(Vec<Mutex<Sender<Message>>>);

impl Mailbox for Boxes {
    fn post(&self, worker: usize, msg: Message) {
        // Who has ended gets nothing any more.
        let _ = self.0[worker].lock().unwrap().send(msg);
    }
    fn workers(&self) -> usize {
        self.0.len()
    }
}

struct Worker {
    client: Client,
    inbox: Receiver<Message>,
    rng: Rng,
}

impl Worker {
    fn new(engine: &Arc<Engine>, index: usize, inbox: Receiver<Message>) -> Worker {
        let client = Client::new(engine);
        client.session.shared.worker.store(index, Relaxed);
        Worker { client, inbox, rng: Rng(0x9E37_79B9 + index as u64 * 7919) }
    }

    fn handle(&mut self, message: &Message) {
        if let Message::ServeSlot(slot) = message {
            let mut worker = WorkerScratch::new(&self.client.engine);
            assert!(self.client.engine.serve_slot(&mut worker, *slot));
        } else {
            self.client.receive(message);
        }
    }

    /// Runs a command to its end; a client that waits may give up once, as `patience` decides.
    fn run(&mut self, line: &str, patience: u64) -> String {
        while let Ok(message) = self.inbox.try_recv() {
            self.handle(&message);
        }
        let mut reply = self.client.run(line);
        if patience > 0 && self.client.is_blocked() && self.rng.below(patience) == 0 {
            self.client.time_out();
        }
        while self.client.is_blocked() {
            let message = self.inbox.recv().expect("someone posts");
            self.handle(&message);
            reply = self.client.replies();
        }
        if reply.is_empty() { self.client.replies() } else { reply }
    }

    fn key(&mut self) -> u64 {
        self.rng.below(KEYS)
    }

    /// Goes on with what others need from this worker until they have ended.
    fn drain(mut self) {
        while let Ok(message) = self.inbox.recv() {
            if matches!(message, Message::Kill { .. }) {
                return;
            }
            self.handle(&message);
        }
    }
}

fn elements(reply: &str) -> Vec<u64> {
    reply.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).filter(|n| *n >= 1000).collect()
}

fn storm(rounds: usize) {
    let engine = Engine::new(EngineConfig::default(), &[]);
    let (senders, mut inboxes): (Vec<_>, Vec<_>) =
        (0..WORKERS).map(|_| channel()).map(|(to, from)| (Mutex::new(to), Some(from))).unzip();
    let boxes = Arc::new(Boxes(senders));
    assert!(engine.mailbox.set(boxes.clone()).is_ok());
    let log = Arc::new(Log::default());
    log.is_active.store(true, Relaxed);
    assert!(engine.log.set(Box::new(LogHandle(log.clone()))).is_ok());
    let seen = Arc::new(Mutex::new(Vec::<u64>::new()));
    let left = Arc::new(AtomicUsize::new(rounds * PRODUCERS * 3));
    let mut workers = Vec::new();
    for (index, inbox) in inboxes.iter_mut().enumerate() {
        workers.push(Worker::new(&engine, index, inbox.take().expect("one each")));
    }
    let ids: Vec<u64> = workers.iter().map(|worker| worker.client.session.shared.id).collect();
    let mut main = workers.pop().expect("the last one is ours");
    let mut jobs: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for (index, mut worker) in workers.into_iter().enumerate() {
        let (seen, left, boxes, ids) = (seen.clone(), left.clone(), boxes.clone(), ids.clone());
        jobs.push(Box::new(move || {
            if index < CONSUMERS {
                loop {
                    // All keys, so that nobody may wait while there is anything.
                    let first = worker.key();
                    let keys: String = (0..KEYS).map(|n| format!("k{} ", (first + n) % KEYS)).collect();
                    let line = match worker.rng.below(3) {
                        0 => format!("BLPOP {keys} stop 0"),
                        1 => format!("BRPOP {keys} stop 0"),
                        _ => format!("BLMPOP 0 {} {keys} stop LEFT COUNT 2", KEYS + 1),
                    };
                    let reply = worker.run(&line, 9);
                    if reply.contains("stop") {
                        break;
                    }
                    let taken = elements(&reply);
                    seen.lock().unwrap().extend(&taken);
                    if left.fetch_sub(taken.len(), Relaxed) == taken.len() {
                        boxes.post(MAIN, Message::Unpause);
                    }
                }
            } else if index < CONSUMERS + MOVERS {
                loop {
                    let (a, b) = (worker.key(), worker.key());
                    let reply = worker.run(&format!("BLMOVE k{a} k{b} LEFT RIGHT 0"), 3);
                    // Unblocked when all is over.
                    if reply.starts_with("-UNBLOCKED") {
                        break;
                    }
                }
            } else {
                for round in 0..rounds {
                    let first = 1000 + ((index * rounds + round) * 3) as u64;
                    let (a, b) = (worker.key(), worker.key());
                    worker.run("MULTI", 0);
                    worker.run(&format!("RPUSH k{a} {first}"), 0);
                    worker.run(&format!("RPUSH k{b} {}", first + 1), 0);
                    worker.run("EXEC", 0);
                    worker.run(&format!("LPUSH k{a} {}", first + 2), 0);
                    // Only time-outs: the error means the end.
                    let victim = ids[worker.rng.below(CONSUMERS as u64) as usize];
                    worker.run(&format!("CLIENT UNBLOCK {victim}"), 0);
                }
            }
            worker.drain();
        }));
    }
    jobs.push(Box::new(move || {
        loop {
            let message = main.inbox.recv().expect("someone posts");
            if matches!(message, Message::Unpause) {
                break;
            }
            main.handle(&message);
        }
        // A mover that is not waiting at this moment will be soon.
        for id in &ids[CONSUMERS..CONSUMERS + MOVERS] {
            while main.run(&format!("CLIENT UNBLOCK {id} ERROR"), 0) != ":1" {
                std::thread::yield_now();
            }
        }
        for _ in 0..CONSUMERS {
            main.run("RPUSH stop x", 0);
            // One by one, because some take two.
            while engine.keyspace.len(0) > 0 {
                while let Ok(message) = main.inbox.try_recv() {
                    main.handle(&message);
                }
                std::thread::yield_now();
            }
        }
        (0..MAIN).for_each(|worker| boxes.post(worker, Message::Kill { client: 0 }));
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        let expected: Vec<u64> =
            (0..rounds * PRODUCERS * 3).map(|n| 1000 + ((CONSUMERS + MOVERS) * rounds * 3 + n) as u64).collect();
        assert_eq!(seen, expected, "every element is taken once");
        // What the log says leads to the same end.
        let replica = Engine::new(EngineConfig::default(), &[]);
        let mut apply = ApplySession::new(&replica);
        for (_, record) in log.records.lock().unwrap().iter() {
            for command in decode::decode_all(record).unwrap() {
                let decode::Value::Array(Some(words)) = command else { panic!("a command") };
                let words: Vec<Vec<u8>> = words
                    .into_iter()
                    .map(|word| match word {
                        decode::Value::Bulk(Some(bytes)) => bytes,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                replica.apply(&mut apply, &args).unwrap();
            }
        }
        assert!(replica.keyspace.is_empty(0));
    }));
    run_all(jobs);
}

#[test]
fn nothing_is_lost_and_nothing_is_taken_twice() {
    storm(if cfg!(debug_assertions) { 400 } else { 4000 });
}
