// SPDX-License-Identifier: BSD-3-Clause
//! A steady load of writes to one slot of a cluster from a few pipelined connections that follow MOVED, and what came of
//! it: gaps, errors, and whether all that was acknowledged can be read. Used by testkit/system and bench.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pando_resp::decode::Value;

use crate::client::Client;

/// How long a write is tried before the load gives up.
const GIVE_UP: Duration = Duration::from_secs(30);

/// What to send.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Keys are `{tag}:connection:number`, so all of them are in one slot.
    pub tag: String,
    /// Ports of the cluster's nodes; the first one is asked first.
    pub ports: Vec<u16>,
    /// Connections, each on a thread of its own.
    pub connections: usize,
    /// Writes in one pipelined batch.
    pub batch: u64,
    /// Time from one batch of a connection to its next.
    pub interval: Duration,
}

/// A load that runs.
pub struct Load {
    plan: LoadPlan,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<Part, String>>>,
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// The longest time in which no connection had a write acknowledged.
    pub gap: Duration,
    /// The longest time in which one of the connections had no write acknowledged.
    pub connection_gap: Duration,
    /// Redirects.
    pub moved: u64,
    /// Everything else that was not OK, with how often it came. Connections that ended while a reply was due are among it.
    pub errors: BTreeMap<String, u64>,
    /// Acknowledged writes of each connection: all numbers below.
    counts: Vec<u64>,
}

/// One connection's share of the report.
#[derive(Default)]
struct Part {
    times: Vec<Instant>,
    written: u64,
    moved: u64,
    errors: BTreeMap<String, u64>,
}

impl Load {
    /// Starts it.
    pub fn start(plan: LoadPlan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let run = |number: usize| {
            let (plan, stop, acknowledged) = (plan.clone(), stop.clone(), acknowledged.clone());
            std::thread::spawn(move || Writer::new(plan, number).run(&stop, &acknowledged))
        };
        let threads = (0..plan.connections).map(run).collect();
        Self { plan, stop, acknowledged, threads }
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// A write that nobody took within 30 seconds.
    pub fn stop(self) -> Result<LoadReport, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = LoadReport::default();
        let mut all = Vec::new();
        for thread in self.threads {
            let part = thread.join().map_err(|_| "a thread of the load panicked")??;
            report.acknowledged += part.written;
            report.counts.push(part.written);
            report.moved += part.moved;
            for (text, count) in part.errors {
                *report.errors.entry(text).or_default() += count;
            }
            report.connection_gap = report.connection_gap.max(longest_gap(&part.times));
            all.extend(part.times);
        }
        all.sort_unstable();
        report.gap = longest_gap(&all);
        Ok(report)
    }

    /// What was planned.
    pub fn plan(&self) -> LoadPlan {
        self.plan.clone()
    }
}

impl LoadReport {
    /// How many acknowledged writes cannot be read any more.
    ///
    /// # Errors
    /// When reading fails.
    pub fn lost(&self, plan: &LoadPlan) -> Result<u64, String> {
        let mut lost = 0;
        for (connection, &count) in self.counts.iter().enumerate() {
            let mut reader = Writer::new(plan.clone(), connection);
            let mut next = 0;
            while next < count {
                let numbers: Vec<u64> = (next..count.min(next + 500)).collect();
                next += numbers.len() as u64;
                lost += reader.missing(&numbers)?;
            }
        }
        Ok(lost)
    }
}

fn longest_gap(times: &[Instant]) -> Duration {
    times.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
}

/// One connection's writes; it has connections to several nodes when it is redirected.
struct Writer {
    plan: LoadPlan,
    number: usize,
    port: u16,
    clients: BTreeMap<u16, Client>,
    part: Part,
}

impl Writer {
    fn new(plan: LoadPlan, number: usize) -> Self {
        let port = plan.ports.first().copied().unwrap_or_default();
        Self { plan, number, port, clients: BTreeMap::new(), part: Part::default() }
    }

    fn key(&self, number: u64) -> String {
        format!("{{{}}}:{}:{number}", self.plan.tag, self.number)
    }

    fn run(mut self, stop: &AtomicBool, acknowledged: &AtomicU64) -> Result<Part, String> {
        let mut due = Instant::now() + self.plan.interval.mul_f64(self.number as f64 / self.plan.connections as f64);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // What was missed meanwhile is not made up for.
            due = due.max(Instant::now() - self.plan.interval) + self.plan.interval;
            let first = self.part.written;
            let mut open: Vec<u64> = (first..first + self.plan.batch).collect();
            let limit = Instant::now() + GIVE_UP;
            while !open.is_empty() {
                let (before, port) = (open.len(), self.port);
                let last = self.send(&mut open);
                acknowledged.fetch_add((before - open.len()) as u64, Ordering::Relaxed);
                if open.len() == before && self.port == port {
                    if Instant::now() > limit {
                        return Err(format!("no write within {GIVE_UP:?}: {last}"));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            self.part.written += self.plan.batch;
        }
        Ok(self.part)
    }

    fn note(&mut self, text: &str) {
        *self.part.errors.entry(text.to_owned()).or_default() += 1;
    }

    /// Where another try may succeed when a node is gone.
    fn next_port(&mut self) {
        self.clients.remove(&self.port);
        let at = self.plan.ports.iter().position(|port| *port == self.port).unwrap_or_default();
        self.port = self.plan.ports[(at + 1) % self.plan.ports.len()];
    }

    fn client(&mut self) -> Result<&mut Client, String> {
        if !self.clients.contains_key(&self.port) {
            let client = Client::connect(self.port).map_err(|error| error.to_string())?;
            self.clients.insert(self.port, client);
        }
        self.clients.get_mut(&self.port).ok_or_else(|| "no connection".to_owned())
    }

    /// Sends the writes and takes those out that were acknowledged; the last thing that went wrong.
    fn send(&mut self, open: &mut Vec<u64>) -> String {
        let mut bytes = Vec::new();
        for number in &*open {
            let (key, value) = (self.key(*number), number.to_string());
            pando_resp::encode_command(&mut bytes, &[b"SET", key.as_bytes(), value.as_bytes()]);
        }
        let sent = match self.client() {
            Ok(client) => client.send_raw(&bytes).map_err(|error| error.to_string()),
            Err(error) => {
                // Nobody listens: this is no error of a write.
                self.next_port();
                return error;
            }
        };
        let mut last = String::new();
        let mut target = None;
        let mut left = Vec::new();
        let mut broken = sent.is_err();
        for number in std::mem::take(open) {
            if broken {
                left.push(number);
                continue;
            }
            match self.client().and_then(|client| client.receive().map_err(|error| error.to_string())) {
                Ok(Value::Simple(text)) if text == "OK" => self.part.times.push(Instant::now()),
                Ok(Value::Error(text)) if text.starts_with("MOVED ") => {
                    self.part.moved += 1;
                    target = text.rsplit(':').next().and_then(|port| port.parse().ok());
                    left.push(number);
                }
                Ok(other) => {
                    last = match other {
                        Value::Error(text) => text,
                        other => format!("{other:?}"),
                    };
                    self.note(&last.clone());
                    left.push(number);
                }
                Err(error) => {
                    last = format!("connection ended with replies due: {error}");
                    self.note(&last.clone());
                    left.push(number);
                    broken = true;
                }
            }
        }
        *open = left;
        if broken {
            self.next_port();
        } else if let Some(port) = target {
            self.port = port;
        }
        last
    }

    /// How many of these keys do not have their values.
    fn missing(&mut self, numbers: &[u64]) -> Result<u64, String> {
        let limit = Instant::now() + GIVE_UP;
        'again: loop {
            if Instant::now() > limit {
                return Err(format!("cannot read from port {}", self.port));
            }
            let mut bytes = Vec::new();
            for number in numbers {
                pando_resp::encode_command(&mut bytes, &[b"GET", self.key(*number).as_bytes()]);
            }
            let sent = match self.client() {
                Ok(client) => client.send_raw(&bytes).is_ok(),
                Err(_) => false,
            };
            if !sent {
                self.next_port();
                continue;
            }
            let mut missing = 0;
            for number in numbers {
                match self.client()?.receive() {
                    Ok(Value::Bulk(Some(bytes))) => missing += u64::from(bytes != number.to_string().as_bytes()),
                    Ok(Value::Bulk(None) | Value::Null) => missing += 1,
                    Ok(Value::Error(text)) => {
                        // Replies to the rest are still on their way.
                        self.clients.remove(&self.port);
                        if let Some(port) = text.strip_prefix("MOVED ").and_then(|rest| rest.rsplit(':').next()) {
                            self.port = port.parse().map_err(|_| text.clone())?;
                        } else {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        continue 'again;
                    }
                    Ok(other) => return Err(format!("{other:?}")),
                    Err(_) => {
                        self.next_port();
                        continue 'again;
                    }
                }
            }
            return Ok(missing);
        }
    }
}
