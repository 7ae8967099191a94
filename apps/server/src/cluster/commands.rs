// SPDX-License-Identifier: BSD-3-Clause
//! The CLUSTER command family.
//!
//! Questions are answered from the applied topology; a node that is a root first makes sure that it is up to date with the
//! majority, and refuses when it cannot. Changes are proposals to the roots, answered when they are committed. Both take
//! a while on another thread: the client is suspended and its worker goes on with others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pando_agent::{AgentHandle, Answer, FailoverMode, Request, SetSlot};
use pando_commands::CommandError;
use pando_resp::{Args, ReplyBuf, num};
use pando_session::{ClientId, ClusterView, Engine, Message, Next, SessionCx, SessionFn, Suspend};
use pando_topology::{ClusterId, ClusterMap, NodeId, Slot};

use super::prepared::Kind;
use super::runtime::{self, ClusterRuntime};
use super::{arguments, show};

/// Names as in the command table.
pub const TABLE: &[(&str, SessionFn)] = &[
    ("cluster|addslots", add_slots),
    ("cluster|addslotsrange", add_slots_range),
    ("cluster|bumpepoch", bump_epoch),
    ("cluster|count-failure-reports", count_failure_reports),
    ("cluster|countkeysinslot", count_keys_in_slot),
    ("cluster|delslots", del_slots),
    ("cluster|delslotsrange", del_slots_range),
    ("cluster|explain", super::explain::explain),
    ("cluster|failover", failover),
    ("cluster|flushslots", flush_slots),
    ("cluster|forget", forget),
    ("cluster|getkeysinslot", get_keys_in_slot),
    ("cluster|help", help),
    ("cluster|info", info),
    ("cluster|keyslot", key_slot),
    ("cluster|links", links),
    ("cluster|meet", meet),
    ("cluster|myid", my_id),
    ("cluster|myshardid", my_shard_id),
    ("cluster|nodes", nodes),
    ("cluster|replicas", replicas),
    ("cluster|replicate", replicate),
    ("cluster|reset", reset),
    ("cluster|saveconfig", save_config),
    ("cluster|set-config-epoch", set_config_epoch),
    ("cluster|setslot", set_slot),
    ("cluster|shards", shards),
    ("cluster|slaves", replicas),
    ("cluster|slot-stats", super::slot_stats::slot_stats),
    ("cluster|slots", slots),
    ("clusterscan", super::scan::clusterscan),
];

type Outcome = Result<Next, CommandError>;

const NOT_ENABLED: CommandError = CommandError::text("ERR This instance has cluster support disabled");

/// The cluster's parts of this process.
fn runtime(cx: &SessionCx<'_>) -> Result<Arc<ClusterRuntime>, CommandError> {
    runtime::of(cx.engine).ok_or(NOT_ENABLED)
}

/// Whether any database holds a key.
fn has_keys(cx: &SessionCx<'_>) -> bool {
    (0..cx.engine.keyspace.databases()).any(|db| !cx.engine.keyspace.is_empty(db))
}

/// The applied topology. Before the first one arrives, a node that looks for its roots has an empty one.
pub(super) fn view(cx: &SessionCx<'_>) -> Result<Arc<ClusterView>, CommandError> {
    let runtime = runtime(cx)?;
    let known = cx.engine.cluster.load_full();
    known.ok_or(()).or_else(|()| match runtime.agent().info().me {
        Some(me) => {
            Ok(Arc::new(ClusterView::new(Arc::new(ClusterMap::empty(ClusterId::random(|bytes| bytes.fill(0)))), me)))
        }
        None => Err(CommandError::text("CLUSTERDOWN This node has not joined a cluster yet")),
    })
}

/// A client that waits for an answer of the agent.
struct Waiting {
    runtime: Arc<ClusterRuntime>,
    client: ClientId,
    worker: usize,
    ticket: u64,
    reply: ReplyBuf,
}

impl Waiting {
    /// Suspends the client until `finish`.
    fn begin(cx: &SessionCx<'_>) -> Result<Waiting, CommandError> {
        let runtime = runtime(cx)?;
        if cx.in_exec {
            return Err(CommandError::text("ERR This CLUSTER subcommand is not allowed inside a transaction"));
        }
        let ticket = runtime.next_ticket();
        let (client, worker) = (cx.session.shared.id, cx.session.shared.worker.load(Ordering::Relaxed));
        Ok(Waiting { runtime, client, worker, ticket, reply: ReplyBuf::new(cx.reply.proto()) })
    }

    fn suspended(&self) -> Outcome {
        Ok(Next::Suspend(Suspend::Async(self.ticket)))
    }

    fn refuse(mut self, line: &str) {
        self.runtime.engine().stats.count_error(line.as_bytes());
        self.reply.error(line);
        self.finish();
    }

    fn finish(mut self) {
        let bytes = self.reply.take();
        self.runtime.post(self.worker, Message::Resume { client: self.client, ticket: self.ticket, bytes });
    }
}

/// Asks the agent, suspends the client, and lets `render` write the reply when the answer is there.
pub(super) fn ask(
    cx: &mut SessionCx<'_>,
    request: Request,
    render: impl FnOnce(&ClusterRuntime, Answer, &mut ReplyBuf) + Send + 'static,
) -> Outcome {
    let mut waiting = Waiting::begin(cx)?;
    let suspended = waiting.suspended();
    let runtime = Arc::clone(&waiting.runtime);
    let answer = move |result: Result<Answer, String>| match result {
        Ok(answer) => {
            let runtime = Arc::clone(&waiting.runtime);
            render(&runtime, answer, &mut waiting.reply);
            waiting.finish();
        }
        Err(line) => waiting.refuse(&line),
    };
    runtime.agent().submit(request, Box::new(answer));
    suspended
}

/// A change that makes a replica a primary of its own, answered with OK when it is empty.
fn leave_empty(cx: &mut SessionCx<'_>, request: Request) -> Outcome {
    let mut waiting = Waiting::begin(cx)?;
    let suspended = waiting.suspended();
    let runtime = Arc::clone(&waiting.runtime);
    let answer = move |result: Result<Answer, String>| match (result, waiting.runtime.server()) {
        (Ok(_), Some(server)) => {
            // Not on the cluster thread: what the replication link has received is applied first.
            server.replication.runtime().spawn_blocking(move || {
                waiting.runtime.start_empty();
                waiting.reply.ok();
                waiting.finish();
            });
        }
        (Ok(_), None) => waiting.refuse("ERR The server is shutting down"),
        (Err(line), _) => waiting.refuse(&line),
    };
    runtime.agent().submit(request, Box::new(answer));
    suspended
}

/// A change that is answered with OK.
fn change(cx: &mut SessionCx<'_>, request: Request) -> Outcome {
    ask(cx, request, |_, _, reply| reply.ok())
}

/// How many roots the cluster was told to keep, as far as this node knows.
pub fn root_count(cx: &SessionCx<'_>) -> Option<u8> {
    let view = cx.engine.cluster.load_full()?;
    Some(view.map.roots().count).filter(|count| *count > 0)
}

/// CONFIG SET cluster-root-count, answered when it is committed.
pub fn set_root_count(cx: &mut SessionCx<'_>, count: u8) -> Outcome {
    ask(cx, Request::SetRootCount(count), move |runtime, _, reply| {
        if let Some(server) = runtime.server() {
            // For CONFIG REWRITE here.
            let pairs = [("cluster-root-count".to_owned(), count.to_string())];
            server.config.set(&pairs, false, &mut |_, _| Ok(())).ok();
        }
        reply.ok();
    })
}

/// A question about the topology: at a root only after it has caught up with the majority.
fn read(
    cx: &mut SessionCx<'_>,
    render: impl FnOnce(&ClusterRuntime, &Arc<ClusterView>, &mut ReplyBuf) + Send + 'static,
) -> Outcome {
    let runtime = runtime(cx)?;
    if runtime.agent().is_root() {
        if !cx.in_exec {
            return ask(cx, Request::ReadBarrier, move |runtime, _, reply| render_current(runtime, reply, render));
        }
        // A transaction cannot wait; what a root answers in it may be as old as its last word from the majority.
        if !runtime.agent().has_quorum() {
            return Err(CommandError::text("CLUSTERDOWN No majority of the roots is reachable"));
        }
    }
    let view = view(cx)?;
    render(&runtime, &view, cx.reply);
    Ok(Next::Continue)
}

fn render_current(
    runtime: &ClusterRuntime,
    reply: &mut ReplyBuf,
    render: impl FnOnce(&ClusterRuntime, &Arc<ClusterView>, &mut ReplyBuf),
) {
    match runtime.engine().cluster.load_full() {
        Some(view) => render(runtime, &view, reply),
        None => reply.error("CLUSTERDOWN This node is not part of a cluster"),
    }
}

fn add_slots(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    let slots = arguments::slot_list(&args[2..])?;
    change(cx, Request::AddSlots(slots))
}

fn add_slots_range(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    let slots = arguments::slot_ranges(&args[2..], "cluster|addslotsrange")?;
    change(cx, Request::AddSlots(slots))
}

fn del_slots(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    let slots = arguments::slot_list(&args[2..])?;
    change(cx, Request::DelSlots(slots))
}

fn del_slots_range(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    let slots = arguments::slot_ranges(&args[2..], "cluster|delslotsrange")?;
    change(cx, Request::DelSlots(slots))
}

fn flush_slots(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    runtime(cx)?;
    if has_keys(cx) {
        return Err(CommandError::text("ERR DB must be empty to perform CLUSTER FLUSHSLOTS."));
    }
    change(cx, Request::FlushSlots)
}

fn bump_epoch(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    ask(cx, Request::BumpEpoch, |_, answer, reply| match answer {
        Answer::Epoch { epoch, bumped: true } => reply.simple(&format!("BUMPED {epoch}")),
        Answer::Epoch { epoch, bumped: false } => reply.simple(&format!("STILL {epoch}")),
        _ => reply.ok(),
    })
}

fn set_config_epoch(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    let epoch = num::parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    match u64::try_from(epoch) {
        Ok(epoch) => change(cx, Request::SetConfigEpoch(epoch)),
        Err(_) => Err(CommandError::format(format!("ERR Invalid config epoch specified: {epoch}"))),
    }
}

fn meet(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    if args.len() > 5 {
        return Err(CommandError::Arity("cluster|meet"));
    }
    let (host, port, cluster_port) = arguments::address(&args[2..])?;
    change(cx, Request::Meet { host, port, cluster_port })
}

fn known_node(cx: &SessionCx<'_>, word: &[u8]) -> Result<NodeId, CommandError> {
    let view = view(cx)?;
    let id = arguments::node_id(word)?;
    view.map.node(&id).map(|node| node.id).ok_or_else(|| arguments::unknown_node(word))
}

fn forget(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    let view = view(cx)?;
    // Not looked up in the map: a node that was forgotten a moment ago may be forgotten through every other node too.
    let id = arguments::node_id(args[2])?;
    if id == view.me {
        return Err(CommandError::text("ERR I tried hard but I can't forget myself..."));
    }
    if view.map.shard_of(&view.me).is_some_and(|shard| shard.primary == id && shard.primary != view.me) {
        return Err(CommandError::text("ERR Can't forget my master!"));
    }
    change(cx, Request::Forget(id))
}

/// `CLUSTER REPLICATE <primary> | <replica> CHAIN | NO ONE`.
fn replicate(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    let is_chain = match args.get(3) {
        None => false,
        Some(_) if args.len() > 4 => return Err(CommandError::Arity("cluster|replicate")),
        Some(word) if word.eq_ignore_ascii_case(b"one") && args[2].eq_ignore_ascii_case(b"no") => {
            return detach(cx);
        }
        Some(word) if word.eq_ignore_ascii_case(b"chain") => true,
        Some(_) => return Err(CommandError::Syntax),
    };
    let id = known_node(cx, args[2])?;
    let view = view(cx)?;
    if id == view.me {
        return Err(CommandError::text("ERR Can't replicate myself"));
    }
    if !is_chain && view.map.shard_of(&id).is_some_and(|shard| shard.primary != id) {
        return Err(CommandError::text("ERR I can only replicate a master, not a replica."));
    }
    let has_slots = view.map.shard_of(&view.me).is_some_and(|shard| !shard.slots.is_empty());
    if view.is_primary && (has_slots || has_keys(cx)) {
        let text = "ERR To set a master the node must be empty and without assigned slots.";
        return Err(CommandError::text(text));
    }
    change(cx, if is_chain { Request::Chain(id) } else { Request::Replicate(id) })
}

/// `CLUSTER REPLICATE NO ONE`: an empty primary of a new shard.
fn detach(cx: &mut SessionCx<'_>) -> Outcome {
    if view(cx)?.is_primary {
        cx.reply.ok();
        return Ok(Next::Continue);
    }
    leave_empty(cx, Request::Detach)
}

fn reset(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    let view = view(cx)?;
    let hard = match args.get(2) {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"soft") => false,
        Some(word) if word.eq_ignore_ascii_case(b"hard") => true,
        Some(_) => return Err(CommandError::Syntax),
    };
    if args.len() > 3 {
        let word = String::from_utf8_lossy(args[1]);
        let text = format!("ERR unknown subcommand or wrong number of arguments for '{word}'. Try CLUSTER HELP.");
        return Err(CommandError::format(text));
    }
    if view.is_primary && has_keys(cx) {
        return Err(CommandError::text("ERR CLUSTER RESET can't be called with master nodes containing keys"));
    }
    match view.is_primary {
        true => change(cx, Request::Reset { hard, as_replica: false }),
        // The data was its primary's; a node of its own starts empty.
        false => leave_empty(cx, Request::Reset { hard, as_replica: true }),
    }
}

fn failover(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    let view = view(cx)?;
    let mode = match args.get(2) {
        None => FailoverMode::Planned,
        Some(word) if word.eq_ignore_ascii_case(b"force") => FailoverMode::Force,
        Some(word) if word.eq_ignore_ascii_case(b"takeover") => FailoverMode::Takeover,
        Some(_) => return Err(CommandError::Syntax),
    };
    if args.len() > 3 {
        return Err(CommandError::Syntax);
    }
    if view.is_primary || view.my_shard.is_none() {
        return Err(CommandError::text("ERR You should send CLUSTER FAILOVER to a replica"));
    }
    let primary = view.map.shard_of(&view.me).and_then(|shard| view.map.node(&shard.primary));
    if mode == FailoverMode::Planned && primary.is_none_or(|primary| primary.failed) {
        return Err(CommandError::text("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE"));
    }
    change(cx, Request::Failover(mode))
}

fn set_slot(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    let slot = arguments::slot(args[2])?;
    let invalid = "ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP";
    let action = args[3].to_ascii_lowercase();
    let state = match (action.as_slice(), args.get(4)) {
        (b"stable", None) => SetSlot::Stable,
        (b"node", Some(id)) => SetSlot::Node(known_node(cx, id)?),
        (b"migrating", Some(id)) => SetSlot::Migrating(known_node(cx, id)?),
        (b"importing", Some(id)) => SetSlot::Importing(known_node(cx, id)?),
        _ => return Err(CommandError::text(invalid)),
    };
    change(cx, Request::SetSlot(slot, state))
}

fn count_failure_reports(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    let id = known_node(cx, args[2])?;
    ask(cx, Request::CountFailureReports(id), |_, answer, reply| match answer {
        Answer::Count(count) => reply.int(count as i64),
        _ => reply.int(0),
    })
}

fn save_config(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    // Every change is on disk before it is answered; there is nothing left to save.
    runtime(cx)?;
    cx.reply.ok();
    Ok(Next::Continue)
}

fn nodes(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    read(cx, |runtime, view, reply| {
        let moment = runtime.moment();
        runtime.prepared().write(Kind::Nodes, view, moment.shape(), reply, |reply| {
            reply.verbatim("txt", show::nodes(view, &moment).as_bytes());
        });
    })
}

fn slots(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    read(cx, |runtime, view, reply| {
        let moment = runtime.moment();
        let render = |reply: &mut ReplyBuf| show::slots(view, &moment, reply);
        runtime.prepared().write(Kind::Slots, view, moment.shape(), reply, render);
    })
}

fn write_shards(runtime: &ClusterRuntime, view: &Arc<ClusterView>, reply: &mut ReplyBuf) {
    let (moment, offsets) = (runtime.moment(), runtime.prepared().offsets());
    let render = |reply: &mut ReplyBuf| show::shards(view, &moment, &offsets, reply);
    runtime.prepared().write(Kind::Shards, view, moment.shape(), reply, render);
}

/// The offsets of other nodes come from the roots, for all clients of a second at once.
fn shards(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    let runtime = runtime(cx)?;
    let agent = runtime.agent();
    if cx.in_exec || !agent.has_quorum() || !runtime.prepared().claim_offsets(runtime.moment().unix_ms) {
        return read(cx, write_shards);
    }
    let is_root = agent.is_root();
    let mut waiting = Waiting::begin(cx)?;
    let suspended = waiting.suspended();
    let answer = move |result: Result<Answer, String>| {
        if let Ok(Answer::Offsets(offsets)) = result {
            waiting.runtime.prepared().set_offsets(offsets);
        }
        // Without them it is answered all the same.
        let runtime = Arc::clone(&waiting.runtime);
        if !is_root {
            render_current(&runtime, &mut waiting.reply, write_shards);
            return waiting.finish();
        }
        let answer = move |result: Result<Answer, String>| match result {
            Ok(_) => {
                let runtime = Arc::clone(&waiting.runtime);
                render_current(&runtime, &mut waiting.reply, write_shards);
                waiting.finish();
            }
            Err(line) => waiting.refuse(&line),
        };
        runtime.agent().submit(Request::ReadBarrier, Box::new(answer));
    };
    agent.submit(Request::Offsets, Box::new(answer));
    suspended
}

fn replicas(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    let id = known_node(cx, args[2])?;
    let view = view(cx)?;
    if view.map.shard_of(&id).is_none_or(|shard| shard.primary != id) {
        return Err(CommandError::text("ERR The specified node is not a master"));
    }
    read(cx, move |runtime, view, reply| show::replicas(view, &id, &runtime.moment(), reply))
}

/// Always answered: who asks wants to know what is wrong. A root that has a majority is up to date with it first.
fn info(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    let runtime = runtime(cx)?;
    let (agent, view) = (runtime.agent(), view(cx)?);
    if cx.in_exec || !agent.is_root() || !agent.has_quorum() {
        write_info(cx.engine, agent, &view, cx.reply);
        return Ok(Next::Continue);
    }
    let mut waiting = Waiting::begin(cx)?;
    let suspended = waiting.suspended();
    let answer = move |_: Result<Answer, String>| {
        let runtime = Arc::clone(&waiting.runtime);
        let view = runtime.engine().cluster.load_full().unwrap_or(view);
        write_info(runtime.engine(), runtime.agent(), &view, &mut waiting.reply);
        waiting.finish();
    };
    agent.submit(Request::ReadBarrier, Box::new(answer));
    suspended
}

fn write_info(engine: &Engine, agent: &AgentHandle, view: &ClusterView, reply: &mut ReplyBuf) {
    let gate = &engine.gate;
    // A primary that may not write yet, or no longer, does not serve its slots, whatever the others do.
    let serves_slots = view.is_primary && view.map.shard_of(&view.me).is_some_and(|shard| !shard.slots.is_empty());
    let is_ok = gate.cluster_ok() && (!serves_slots || gate.may_write_now());
    let text = show::info(view, &agent.info(), is_ok);
    reply.verbatim("txt", text.as_bytes());
}

fn links(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    ask(cx, Request::Links, |_, answer, reply| match answer {
        Answer::Links(links) => show::links(&links, reply),
        _ => reply.array(0),
    })
}

fn my_id(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    let id = view(cx)?.me.to_string();
    cx.reply.bulk(id.as_bytes());
    Ok(Next::Continue)
}

fn my_shard_id(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    match view(cx)?.my_shard {
        Some(id) => cx.reply.bulk(id.to_string().as_bytes()),
        None => cx.reply.null(),
    }
    Ok(Next::Continue)
}

fn key_slot(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    cx.reply.int(Slot::of_key(args[2]).index() as i64);
    Ok(Next::Continue)
}

/// A slot of the commands that look at keys; other than in [`arguments::slot`] it is a plain number first.
fn slot_of_keys(word: &[u8], refusal: &'static str) -> Result<Slot, CommandError> {
    let number = num::parse_i64(word).ok_or(CommandError::NotInteger)?;
    let slot = u16::try_from(number).ok().and_then(Slot::new);
    slot.ok_or(CommandError::text(refusal))
}

fn count_keys_in_slot(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    runtime(cx)?;
    let slot = slot_of_keys(args[2], "ERR Invalid slot")?;
    let count = cx.engine.keyspace.slot_len(slot, cx.session.db());
    cx.reply.int(count as i64);
    Ok(Next::Continue)
}

fn get_keys_in_slot(cx: &mut SessionCx<'_>, args: Args<'_>) -> Outcome {
    const REFUSAL: &str = "ERR Invalid slot or number of keys";
    runtime(cx)?;
    let slot = slot_of_keys(args[2], REFUSAL)?;
    let count = num::parse_i64(args[3]).ok_or(CommandError::NotInteger)?;
    let count = usize::try_from(count).map_err(|_| CommandError::text(REFUSAL))?;
    let keys = cx.engine.keyspace.lock_one(slot).keys_in_slot(slot, cx.session.db(), count);
    cx.reply.array(keys.len());
    for key in keys {
        cx.reply.bulk(&key);
    }
    Ok(Next::Continue)
}

fn help(cx: &mut SessionCx<'_>, _: Args<'_>) -> Outcome {
    let names = TABLE.iter().filter_map(|(name, _)| name.strip_prefix("cluster|"));
    let names: Vec<&str> = names.filter(|name| *name != "slaves").collect();
    cx.reply.array(names.len() + 1 + super::explain::HELP.len());
    cx.reply.simple("CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for name in names {
        cx.reply.simple(&name.to_ascii_uppercase());
        if name == "explain" {
            super::explain::HELP.iter().for_each(|line| cx.reply.simple(line));
        }
    }
    Ok(Next::Continue)
}
