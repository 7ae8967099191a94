// SPDX-License-Identifier: BSD-3-Clause
//! CLUSTER EXPLAIN: why the last failover, refusal or vote went as it did, and what a shard or node waits for now.
//!
//! The decisions come from the leading root by a linearizable read, the lease of this node from its own agent. The
//! reply is a map of named fields, in the manner of CLUSTER SHARDS; its field `summary` says all of it in sentences.

use pando_agent::{Answer, Event, Explanation, OwnView, Question, Record, Request, SeenCandidate, Subject};
use pando_commands::CommandError;
use pando_resp::{Args, ReplyBuf, num};
use pando_session::{ClusterView, Next, SessionCx};
use pando_topology::{NodeId, ShardId, Slot};

use super::commands::{ask, view};
use super::{arguments, explain_text};

/// Behind its name in CLUSTER HELP.
pub(super) const HELP: &[&str] = &[
    "    Why the roots decided as they did: the last decisions, or all about",
    "    * SHARD <shard-id|node-id|slot>",
    "    * NODE <node-id>",
    "    * ROOTS",
    "    * LAST <count>",
];

/// How many decisions are told without a count.
const LAST_DEFAULT: usize = 10;

/// `CLUSTER EXPLAIN [SHARD <shard-id|node-id|slot> | NODE <node-id> | ROOTS | LAST [count]]`.
pub(super) fn explain(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let view = view(cx)?;
    let question = question(&view, &args[2..])?;
    ask(cx, Request::Explain(question), move |runtime, answer, reply| {
        let Answer::Explained(told, own) = answer else { return reply.error("ERR Unexpected answer of the roots") };
        match runtime.engine().cluster.load_full() {
            Some(view) => render(&view, &question, &told, &own, reply),
            None => reply.error("CLUSTERDOWN This node is not part of a cluster"),
        }
    })
}

fn question(view: &ClusterView, words: Args<'_>) -> Result<Question, CommandError> {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    match words {
        [] => Ok(Question::Last(LAST_DEFAULT)),
        [word] if is(word, "last") => Ok(Question::Last(LAST_DEFAULT)),
        [word] if is(word, "roots") => Ok(Question::Roots),
        [word, count] if is(word, "last") => {
            let count = num::parse_i64(count).ok_or(CommandError::NotInteger)?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0);
            count.map(Question::Last).ok_or(CommandError::text("ERR count should be greater than 0"))
        }
        [word, id] if is(word, "node") => Ok(Question::Node(arguments::node_id(id)?)),
        [word, name] if is(word, "shard") => shard(view, name).map(Question::Shard),
        _ => Err(CommandError::Syntax),
    }
}

/// A shard by its id, by one of its nodes or by one of its slots.
fn shard(view: &ClusterView, name: &[u8]) -> Result<ShardId, CommandError> {
    let map = &view.map;
    if let Some(slot) = num::parse_i64(name).filter(|_| name.len() <= 5) {
        let slot = u16::try_from(slot).ok().and_then(Slot::new);
        let slot = slot.ok_or(CommandError::text("ERR Invalid or out of range slot"))?;
        let owner = map.owner_of(slot).map(|shard| shard.id);
        return owner.ok_or(CommandError::text("ERR Slot is not assigned to a shard"));
    }
    let text = std::str::from_utf8(name).unwrap_or_default();
    let of_node = text.parse::<NodeId>().ok().and_then(|id| map.shard_of(&id)).map(|shard| shard.id);
    let unknown = || CommandError::format(format!("ERR Unknown shard or node {}", String::from_utf8_lossy(name)));
    // One that is gone may still have a history.
    of_node.or_else(|| text.parse::<ShardId>().ok()).ok_or_else(unknown)
}

fn render(view: &ClusterView, question: &Question, told: &Explanation, own: &OwnView, reply: &mut ReplyBuf) {
    let summary = match question {
        Question::Shard(id) => match (view.map.shard(id), &told.shard) {
            (Some(shard), Some(now)) => explain_text::shard_summary(view, told, shard, now, own),
            _ if told.records.is_empty() => {
                return reply.error(&format!("ERR Unknown shard {id}"));
            }
            _ => vec![format!("{} is not in the cluster any more", explain_text::shard_name(id))],
        },
        Question::Node(id) => match view.map.node(id) {
            Some(node) => explain_text::node_summary(view, told, node, own),
            None if told.records.is_empty() => {
                return reply.error(&format!("ERR Unknown node {id}"));
            }
            None => vec![format!("node {id} is not in the cluster any more")],
        },
        Question::Roots => explain_text::roots_summary(view, told, own),
        Question::Last(_) => {
            told.records.iter().map(|(subject, record)| explain_text::line(view, subject, record)).collect()
        }
    };
    let mut fields = Fields { mark: reply.array_deferred(), count: 0 };
    fields.texts(reply, "summary", &summary);
    fields.int(reply, "time", told.unix_ms);
    fields.int(reply, "version", told.version.get());
    fields.text(reply, "root-leader", &told.root.to_string());
    fields.int(reply, "root-term", told.term);
    if !matches!(question, Question::Last(_)) {
        fields.name(reply, "roots");
        roots(told, own, reply);
    }
    match question {
        Question::Shard(id) => {
            fields.text(reply, "shard", &id.to_string());
            shard_fields(view, told, own, &mut fields, reply);
        }
        Question::Node(id) => {
            fields.text(reply, "node", &id.to_string());
            fields.name(reply, "opinions");
            opinions(&told.opinions, reply);
            if *id == view.me {
                lease_fields(own, &mut fields, reply);
            }
        }
        Question::Roots | Question::Last(_) => {}
    }
    fields.name(reply, "history");
    reply.array(told.records.len());
    for (subject, record) in &told.records {
        record_map(view, subject, record, reply);
    }
    reply.finish_map(fields.mark, fields.count);
}

/// Counts the fields of a map while they are written.
struct Fields {
    mark: pando_resp::Mark,
    count: usize,
}

impl Fields {
    fn name(&mut self, reply: &mut ReplyBuf, name: &str) {
        self.count += 1;
        reply.bulk(name.as_bytes());
    }

    fn text(&mut self, reply: &mut ReplyBuf, name: &str, value: &str) {
        self.name(reply, name);
        reply.bulk(value.as_bytes());
    }

    fn texts(&mut self, reply: &mut ReplyBuf, name: &str, values: &[String]) {
        self.name(reply, name);
        reply.array(values.len());
        values.iter().for_each(|value| reply.bulk(value.as_bytes()));
    }

    fn int(&mut self, reply: &mut ReplyBuf, name: &str, value: u64) {
        self.name(reply, name);
        int(value, reply);
    }
}

/// Numbers beyond what a reply can hold mean "for ever".
fn int(value: u64, reply: &mut ReplyBuf) {
    reply.int(i64::try_from(value).unwrap_or(-1));
}

fn shard_fields(view: &ClusterView, told: &Explanation, own: &OwnView, fields: &mut Fields, reply: &mut ReplyBuf) {
    let Some(now) = &told.shard else { return };
    if let Some(shard) = view.map.shard(&now.shard) {
        fields.text(reply, "primary", &shard.primary.to_string());
        fields.int(reply, "config-epoch", shard.epoch);
        fields.text(reply, "slots", &shard.slots.to_string());
        let failed = view.map.node(&shard.primary).is_some_and(|node| node.failed);
        fields.text(reply, "health", if failed { "fail" } else { "online" });
    }
    fields.name(reply, "opinions");
    opinions(&now.opinions, reply);
    fields.name(reply, "replicas");
    candidates(&now.candidates, reply);
    fields.text(reply, "next", &now.next);
    fields.name(reply, "promised-to");
    match now.promised {
        Some((node, _)) => reply.bulk(node.to_string().as_bytes()),
        None => reply.null(),
    }
    fields.int(reply, "promise-left-ms", now.promised.map_or(0, |(_, left_ms)| left_ms));
    if view.my_shard == Some(now.shard) {
        lease_fields(own, fields, reply);
    }
    let last = |is_it: fn(&Event) -> bool| told.records.iter().find(|(_, record)| is_it(&record.event));
    for (name, record) in [
        ("last-failover", last(|event| matches!(event, Event::Promoted { .. }))),
        ("last-refusal", last(|event| matches!(event, Event::NotPromoted { .. }))),
    ] {
        fields.name(reply, name);
        match record {
            Some((subject, record)) => record_map(view, subject, record, reply),
            None => reply.null(),
        }
    }
}

/// What this node knows of its own right to write.
fn lease_fields(own: &OwnView, fields: &mut Fields, reply: &mut ReplyBuf) {
    fields.name(reply, "own-lease");
    reply.map(5);
    for (name, value) in [
        ("left-ms", own.lease_left_ms),
        ("roots-left-ms", own.roots_left_ms),
        ("replicas-left-ms", own.replicas_left_ms),
        ("bound-ms", own.bound_ms),
        ("promises", own.roots.iter().filter(|root| root.promise_left_ms.is_some()).count() as u64),
    ] {
        reply.bulk(name.as_bytes());
        int(value, reply);
    }
}

/// The roots, as the leader and as this node see them; -1: never.
fn roots(told: &Explanation, own: &OwnView, reply: &mut ReplyBuf) {
    reply.array(told.roots.len());
    for root in &told.roots {
        let mine = own.roots.iter().find(|mine| mine.node == root.node);
        reply.map(4);
        reply.bulk(b"id");
        reply.bulk(root.node.to_string().as_bytes());
        reply.bulk(b"reports");
        reply.bulk(if root.answers { b"yes" } else { b"no" });
        reply.bulk(b"reported-ms-ago");
        int(root.report_age_ms.unwrap_or(u64::MAX), reply);
        reply.bulk(b"answered-me-ms-ago");
        int(mine.and_then(|mine| mine.answered_ms_ago).unwrap_or(u64::MAX), reply);
    }
}

fn opinions(opinions: &[(NodeId, pando_agent::Opinion)], reply: &mut ReplyBuf) {
    reply.array(opinions.len());
    for (root, opinion) in opinions {
        let (name, ms) = explain_text::opinion_name(opinion);
        reply.map(3);
        reply.bulk(b"root");
        reply.bulk(root.to_string().as_bytes());
        reply.bulk(b"says");
        reply.bulk(name.as_bytes());
        reply.bulk(b"ms");
        int(ms, reply);
    }
}

fn candidates(candidates: &[SeenCandidate], reply: &mut ReplyBuf) {
    reply.array(candidates.len());
    for seen in candidates {
        reply.map(7);
        reply.bulk(b"id");
        reply.bulk(seen.node.to_string().as_bytes());
        reply.bulk(b"replication-offset");
        int(seen.offset, reply);
        reply.bulk(b"zone");
        reply.bulk(seen.zone.as_bytes());
        reply.bulk(b"priority");
        reply.int(i64::from(seen.priority));
        reply.bulk(b"link");
        reply.bulk(if seen.link_up { b"up" } else { b"down" });
        reply.bulk(b"eligible");
        reply.bulk(if seen.is_eligible() { b"yes" } else { b"no" });
        reply.bulk(b"why-not");
        let why_not = seen.why_not.as_ref().map(ToString::to_string).unwrap_or_default();
        reply.bulk(why_not.as_bytes());
    }
}

fn record_map(view: &ClusterView, subject: &Subject, record: &Record, reply: &mut ReplyBuf) {
    let mut fields = Fields { mark: reply.array_deferred(), count: 0 };
    fields.text(reply, "event", explain_text::event_name(&record.event));
    match subject {
        Subject::Roots => {}
        Subject::Shard(id) => fields.text(reply, "shard", &id.to_string()),
        Subject::Node(id) => fields.text(reply, "node", &id.to_string()),
    }
    match &record.event {
        Event::Promoted { from, to, epoch, .. } => {
            fields.text(reply, "from", &from.to_string());
            fields.text(reply, "to", &to.to_string());
            fields.int(reply, "config-epoch", *epoch);
        }
        Event::Elected { root, term } => {
            fields.text(reply, "root", &root.to_string());
            fields.int(reply, "term", *term);
        }
        _ => {}
    }
    fields.int(reply, "time", record.stamp.unix_ms);
    fields.int(reply, "version", record.index);
    fields.int(reply, "root-term", record.stamp.term);
    fields.text(reply, "decided-by", &record.stamp.root.map(|root| root.to_string()).unwrap_or_default());
    if !record.note.is_empty() {
        fields.text(reply, "note", &record.note);
    }
    fields.name(reply, "opinions");
    opinions(&record.opinions, reply);
    fields.name(reply, "replicas");
    candidates(&record.candidates, reply);
    fields.text(reply, "text", &explain_text::line(view, subject, record));
    reply.finish_map(fields.mark, fields.count);
}
