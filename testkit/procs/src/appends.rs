// SPDX-License-Identifier: BSD-3-Clause
//! Clients that append unique ids to lists while something fails, and note what came of each: the material of
//! [`crate::history`]. They find the primary as clients do: by MOVED, by ROLE, or by asking Sentinels.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pando_resp::decode::Value;

use crate::client::Client;
use crate::history::{History, Id, Key, Outcome, Read, Write};
use crate::wait::eventually;

/// How the primary is found.
#[derive(Clone, Debug)]
pub enum Seek {
    /// Nodes of a cluster: any of them is asked, MOVED is followed.
    Cluster(Vec<SocketAddr>),
    /// Nodes outside of a cluster: the one that says that it is the master. REDIRECT is followed.
    Role(Vec<SocketAddr>),
    /// Sentinels, and what they call it.
    Sentinels(Vec<SocketAddr>, String),
}

/// What to do.
#[derive(Clone)]
pub struct AppendPlan {
    pub seek: Seek,
    /// The lists.
    pub keys: Vec<String>,
    /// Threads, each with a connection to every node that it needs.
    pub writers: usize,
    /// Time between two appends of one of them.
    pub pause: Duration,
    /// After so many appends to a node a writer waits until a replica has them.
    pub wait_every: usize,
    /// After so long without a reply a connection is given up.
    pub patience: Duration,
    /// Every thread calls it first: it may move to another network namespace.
    pub enter: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl AppendPlan {
    /// Four writers on `keys` lists called `list:number`.
    pub fn new(seek: Seek, keys: usize) -> Self {
        Self {
            seek,
            keys: (0..keys).map(|number| format!("list:{number}")).collect(),
            writers: 4,
            pause: Duration::from_millis(2),
            wait_every: 4,
            patience: Duration::from_secs(1),
            enter: None,
        }
    }
}

/// Writers that run.
pub struct Appends {
    plan: AppendPlan,
    began: Instant,
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Part>>,
}

/// What they saw.
#[derive(Clone, Debug, Default)]
pub struct AppendReport {
    pub history: History,
    /// Replies that were neither a length nor a redirection, and how connections ended, with how often.
    pub errors: BTreeMap<String, u64>,
    /// Redirections.
    pub redirected: u64,
}

type Part = AppendReport;

impl Appends {
    /// Starts them.
    pub fn start(plan: AppendPlan) -> Self {
        let (began, stop, taken) = (Instant::now(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let run = |number: usize| {
            let (plan, stop, taken) = (plan.clone(), stop.clone(), taken.clone());
            std::thread::spawn(move || {
                if let Some(enter) = &plan.enter {
                    enter();
                }
                Writer::new(plan, number, began).run(&stop, &taken)
            })
        };
        let threads = (0..plan.writers).map(run).collect();
        Self { plan, began, stop, taken, threads }
    }

    /// Acknowledged appends so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The time that a history would give to this moment.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits for so many more acknowledged appends.
    ///
    /// # Errors
    /// When they do not come within `limit`.
    pub fn wait_more(&self, more: u64, limit: Duration) -> Result<(), String> {
        let goal = self.taken() + more;
        eventually(limit, "appends", || match self.taken() {
            now if now >= goal => Ok(()),
            now => Err(format!("{now} of {goal}")),
        })
    }

    /// Ends them.
    ///
    /// # Panics
    /// When one of the threads did.
    pub fn stop(self) -> AppendReport {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = AppendReport::default();
        for thread in self.threads {
            let part = thread.join().expect("a writer panicked");
            report.history.writes.extend(part.history.writes);
            report.history.reads.extend(part.history.reads);
            report.redirected += part.redirected;
            for (text, count) in part.errors {
                *report.errors.entry(text).or_default() += count;
            }
        }
        report
    }

    /// What was planned.
    pub fn plan(&self) -> AppendPlan {
        self.plan.clone()
    }
}

/// What all lists hold, read from their primaries.
///
/// # Errors
/// When one cannot be read within `limit`.
pub fn read_lists(plan: &AppendPlan, limit: Duration) -> Result<BTreeMap<Key, Vec<Id>>, String> {
    let read = move |plan: AppendPlan| {
        if let Some(enter) = &plan.enter {
            enter();
        }
        let mut reader = Writer::new(plan.clone(), 0, Instant::now());
        let mut lists = BTreeMap::new();
        for key in 0..plan.keys.len() {
            let list = eventually(limit, "reading a list", || reader.read_list(key))?;
            lists.insert(key, list);
        }
        Ok(lists)
    };
    let plan = plan.clone();
    std::thread::spawn(move || read(plan)).join().map_err(|_| "the reader panicked".to_owned())?
}

/// One thread.
struct Writer {
    plan: AppendPlan,
    number: usize,
    began: Instant,
    /// Where the lists were last.
    at: HashMap<Key, SocketAddr>,
    clients: HashMap<SocketAddr, Link>,
    next_seed: usize,
    part: Part,
}

/// A connection, and the writes on it that no replica is known to have.
struct Link {
    client: Client,
    unkept: Vec<usize>,
}

impl Writer {
    fn new(plan: AppendPlan, number: usize, began: Instant) -> Self {
        Self {
            plan,
            number,
            began,
            at: HashMap::new(),
            clients: HashMap::new(),
            next_seed: number,
            part: Part::default(),
        }
    }

    fn run(mut self, stop: &AtomicBool, taken: &AtomicU64) -> Part {
        let mut count = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let key = (self.number + count as usize) % self.plan.keys.len();
            let id = ((self.number as u64) << 40) | count;
            count += 1;
            if self.append(key, id) {
                taken.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(self.plan.pause);
            }
            if count.is_multiple_of(8) && matches!(self.plan.seek, Seek::Cluster(_)) {
                self.read_length(key);
            }
        }
        let ends: Vec<SocketAddr> = self.clients.keys().copied().collect();
        ends.into_iter().for_each(|node| self.wait_for_replica(node));
        self.part
    }

    fn note(&mut self, text: &str) {
        *self.part.errors.entry(text.to_owned()).or_default() += 1;
    }

    /// The node to ask for a list, as far as is known.
    fn node_of(&mut self, key: Key) -> Option<SocketAddr> {
        if let Some(node) = self.at.get(&key) {
            return Some(*node);
        }
        self.next_seed += 1;
        let node = match self.plan.seek.clone() {
            Seek::Cluster(nodes) => Some(nodes[self.next_seed % nodes.len()]),
            Seek::Role(nodes) => nodes.into_iter().find(|node| says_master(*node)),
            Seek::Sentinels(sentinels, name) => ask_sentinel(sentinels[self.next_seed % sentinels.len()], &name),
        }?;
        self.at.insert(key, node);
        Some(node)
    }

    fn forget(&mut self, key: Key, node: SocketAddr) {
        match self.plan.seek {
            Seek::Cluster(_) => _ = self.at.remove(&key),
            // All lists are at one node.
            Seek::Role(_) | Seek::Sentinels(..) => self.at.retain(|_, at| *at != node),
        }
    }

    fn link(&mut self, node: SocketAddr) -> Option<&mut Link> {
        if !self.clients.contains_key(&node) {
            let mut client = Client::connect_addr(node, self.plan.patience).ok()?;
            if matches!(self.plan.seek, Seek::Role(_)) {
                client.text(&["CLIENT", "CAPA", "REDIRECT"]).ok()?;
            }
            self.clients.insert(node, Link { client, unkept: Vec::new() });
        }
        self.clients.get_mut(&node)
    }

    /// True if it was acknowledged.
    fn append(&mut self, key: Key, id: Id) -> bool {
        let (name, value) = (self.plan.keys[key].clone(), id.to_string());
        let node = self.node_of(key);
        let Some(node) = node.filter(|node| self.link(*node).is_some()) else {
            // Nobody was asked.
            self.part.errors.entry("nobody to ask".to_owned()).and_modify(|count| *count += 1).or_insert(1);
            node.into_iter().for_each(|node| self.forget(key, node));
            std::thread::sleep(Duration::from_millis(5));
            return false;
        };
        let sent = self.began.elapsed();
        let reply = self.link(node).map(|link| link.client.call(&["RPUSH", &name, &value]));
        let ended = self.began.elapsed();
        let outcome = match reply {
            Some(Ok(Value::Int(length))) => Outcome::Taken { length: length.max(0) as usize, kept: false },
            Some(Ok(Value::Error(line))) => {
                self.follow(key, node, &line);
                Outcome::Refused
            }
            Some(Ok(other)) => {
                self.note(&format!("{other:?}"));
                Outcome::Unknown
            }
            Some(Err(error)) => {
                self.note(&format!("connection ended: {:?}", error.kind()));
                Outcome::Unknown
            }
            None => return false,
        };
        let is_taken = matches!(outcome, Outcome::Taken { .. });
        if outcome == Outcome::Unknown {
            self.clients.remove(&node);
            self.forget(key, node);
        }
        self.part.history.writes.push(Write { client: self.number, key, id, node, sent, ended, outcome });
        let index = self.part.history.writes.len() - 1;
        let wait_every = self.plan.wait_every;
        if is_taken && let Some(link) = self.clients.get_mut(&node) {
            link.unkept.push(index);
            if link.unkept.len() >= wait_every {
                self.wait_for_replica(node);
            }
        }
        is_taken
    }

    /// Goes where an error reply points to, or elsewhere.
    fn follow(&mut self, key: Key, node: SocketAddr, line: &str) {
        let target = line
            .strip_prefix("MOVED ")
            .or_else(|| line.strip_prefix("REDIRECT "))
            .and_then(|rest| rest.rsplit(' ').next()?.parse().ok());
        self.forget(key, node);
        match target {
            Some(target) => {
                self.part.redirected += 1;
                self.at.insert(key, target);
            }
            None => {
                self.note(line);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// WAIT: what was written on this connection before is kept.
    fn wait_for_replica(&mut self, node: SocketAddr) {
        let Some(link) = self.clients.get_mut(&node) else { return };
        match link.client.call(&["WAIT", "1", "50"]) {
            Ok(Value::Int(replicas)) if replicas > 0 => {
                for index in std::mem::take(&mut link.unkept) {
                    if let Outcome::Taken { kept, .. } = &mut self.part.history.writes[index].outcome {
                        *kept = true;
                    }
                }
            }
            // They are tried again with the next ones.
            Ok(_) => {}
            Err(_) => _ = self.clients.remove(&node),
        }
    }

    fn read_length(&mut self, key: Key) {
        let name = self.plan.keys[key].clone();
        let Some(node) = self.at.get(&key).copied() else { return };
        let sent = self.began.elapsed();
        match self.link(node).map(|link| link.client.call(&["LLEN", &name])) {
            Some(Ok(Value::Int(length))) => {
                self.part.history.reads.push(Read { key, node, sent, length: length.max(0) as usize });
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                self.clients.remove(&node);
                self.forget(key, node);
            }
        }
    }

    fn read_list(&mut self, key: Key) -> Result<Vec<Id>, String> {
        let name = self.plan.keys[key].clone();
        let node = self.node_of(key).ok_or("no primary is found")?;
        let reply = self.link(node).map(|link| link.client.call(&["LRANGE", &name, "0", "-1"]));
        match reply {
            Some(Ok(Value::Array(Some(values)))) => {
                let id = |value: &Value| match value {
                    Value::Bulk(Some(bytes)) => std::str::from_utf8(bytes).ok()?.parse().ok(),
                    _ => None,
                };
                values.iter().map(id).collect::<Option<_>>().ok_or_else(|| format!("{name} holds other things"))
            }
            Some(Ok(Value::Error(line))) => {
                self.follow(key, node, &line);
                Err(line)
            }
            other => {
                self.clients.remove(&node);
                self.forget(key, node);
                Err(format!("{node}: {other:?}"))
            }
        }
    }
}

/// A short question.
fn ask(node: SocketAddr, args: &[&str]) -> Option<Value> {
    Client::connect_addr(node, Duration::from_millis(200)).ok()?.call(args).ok()
}

fn says_master(node: SocketAddr) -> bool {
    let Some(Value::Array(Some(role))) = ask(node, &["ROLE"]) else { return false };
    role.first() == Some(&Value::Bulk(Some(b"master".to_vec())))
}

/// Where the primary is; none if it does not say itself that it is one.
fn ask_sentinel(sentinel: SocketAddr, name: &str) -> Option<SocketAddr> {
    let Some(Value::Array(Some(parts))) = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]) else {
        return None;
    };
    let texts: Vec<String> = parts
        .iter()
        .filter_map(|part| match part {
            Value::Bulk(Some(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
        .collect();
    let [host, port] = texts.as_slice() else { return None };
    let node = SocketAddr::new(host.parse().ok()?, port.parse().ok()?);
    says_master(node).then_some(node)
}
