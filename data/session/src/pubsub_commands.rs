// SPDX-License-Identifier: BSD-3-Clause
//! SUBSCRIBE and its relatives, PUBLISH, SPUBLISH, PUBSUB.

use crate::context::{SessionCx, SessionFn};
use crate::help;
use crate::next::Next;
use crate::pubsub::Kind;
use pando_commands::CommandError;
use pando_resp::Args;

pub(crate) const TABLE: &[(&str, SessionFn)] = &[
    ("subscribe", |cx, args| subscribe(cx, args, Kind::Channel)),
    ("psubscribe", |cx, args| subscribe(cx, args, Kind::Pattern)),
    ("ssubscribe", |cx, args| subscribe(cx, args, Kind::Shard)),
    ("unsubscribe", |cx, args| unsubscribe(cx, args, Kind::Channel)),
    ("punsubscribe", |cx, args| unsubscribe(cx, args, Kind::Pattern)),
    ("sunsubscribe", |cx, args| unsubscribe(cx, args, Kind::Shard)),
    ("publish", |cx, args| publish(cx, args, false)),
    ("spublish", |cx, args| publish(cx, args, true)),
    ("pubsub|channels", |cx, args| channels(cx, args, Kind::Channel)),
    ("pubsub|shardchannels", |cx, args| channels(cx, args, Kind::Shard)),
    ("pubsub|numsub", |cx, args| numsub(cx, args, Kind::Channel)),
    ("pubsub|shardnumsub", |cx, args| numsub(cx, args, Kind::Shard)),
    ("pubsub|numpat", numpat),
    ("pubsub|help", |cx, _| help::write(cx, help::PUBSUB)),
];

fn confirm(cx: &mut SessionCx<'_>, kind: &str, name: Option<&[u8]>, count: usize) {
    cx.reply.push(3);
    cx.reply.bulk(kind.as_bytes());
    match name {
        Some(name) => cx.reply.bulk(name),
        None => cx.reply.null(),
    }
    cx.reply.int(count as i64);
}

fn subscribe(cx: &mut SessionCx<'_>, args: Args<'_>, kind: Kind) -> Result<Next, CommandError> {
    for name in &args[1..] {
        let count = cx.engine.pubsub.subscribe(&cx.session.shared, kind, name);
        confirm(cx, kind.subscribed(), Some(name), count);
    }
    Ok(Next::Continue)
}

fn unsubscribe(cx: &mut SessionCx<'_>, args: Args<'_>, kind: Kind) -> Result<Next, CommandError> {
    let pubsub = &cx.engine.pubsub;
    if args.len() > 1 {
        for name in &args[1..] {
            let count = pubsub.unsubscribe(&cx.session.shared, kind, name);
            confirm(cx, kind.unsubscribed(), Some(name), count);
        }
        return Ok(Next::Continue);
    }
    let names = pubsub.names_of(&cx.session.shared, kind);
    if names.is_empty() {
        // Removing nothing only counts.
        let count = pubsub.unsubscribe(&cx.session.shared, kind, b"");
        confirm(cx, kind.unsubscribed(), None, count);
    }
    for name in names {
        let count = pubsub.unsubscribe(&cx.session.shared, kind, &name);
        confirm(cx, kind.unsubscribed(), Some(&name), count);
    }
    Ok(Next::Continue)
}

fn publish(cx: &mut SessionCx<'_>, args: Args<'_>, is_sharded: bool) -> Result<Next, CommandError> {
    let (channel, message) = (args[1], args[2]);
    let receivers = cx.engine.deliver(channel, message, is_sharded);
    let is_cluster = cx.worker.settings().cluster_enabled;
    if let Some(hook) = cx.engine.publish_hook.get() {
        hook(channel, message, is_sharded);
    }
    // In cluster mode the other nodes, replicas among them, get the message over the cluster port.
    if !is_cluster && cx.engine.gate.role() == crate::gate::Role::Primary {
        cx.session.log_own(cx.engine, args, cx.in_exec);
    }
    cx.reply.int(receivers as i64);
    Ok(Next::Continue)
}

fn channels(cx: &mut SessionCx<'_>, args: Args<'_>, kind: Kind) -> Result<Next, CommandError> {
    if args.len() > 3 {
        return Err(help::wrong_subcommand_arguments(cx, args));
    }
    let names = cx.engine.pubsub.active(kind, args.get(2).copied());
    cx.reply.array(names.len());
    names.iter().for_each(|name| cx.reply.bulk(name));
    Ok(Next::Continue)
}

fn numsub(cx: &mut SessionCx<'_>, args: Args<'_>, kind: Kind) -> Result<Next, CommandError> {
    cx.reply.array((args.len() - 2) * 2);
    for name in &args[2..] {
        let count = cx.engine.pubsub.subscribers(kind, name);
        cx.reply.bulk(name);
        cx.reply.int(count as i64);
    }
    Ok(Next::Continue)
}

fn numpat(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    let (_, patterns, _) = cx.engine.pubsub.counts();
    cx.reply.int(patterns as i64);
    Ok(Next::Continue)
}
