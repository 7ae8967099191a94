// SPDX-License-Identifier: BSD-3-Clause
//! The CLIENT command. Its filters are in `client_filter`.

use crate::client_filter::Filter;
use crate::clients::{ClientKind, ClientShared};
use crate::connection::check_word;
use crate::context::{SessionCx, SessionFn};
use crate::engine::Engine;
use crate::gate::{PauseMode, PausePurpose, boot_ms};
use crate::help;
use crate::next::Next;
use crate::ports::Message;
use crate::session::ReplyMode;
use crate::wait::parse_timeout_ms;
use pando_commands::{COMMANDS, CommandError, CommandSpec};
use pando_resp::{Args, Proto, num};
use std::fmt::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub(crate) const TABLE: &[(&str, SessionFn)] = &[
    ("client|id", id),
    ("client|info", info),
    ("client|list", list),
    ("client|kill", kill),
    ("client|setname", setname),
    ("client|getname", getname),
    ("client|setinfo", setinfo),
    ("client|reply", reply),
    ("client|no-evict", no_evict),
    ("client|no-touch", no_touch),
    ("client|pause", pause),
    ("client|unpause", unpause),
    ("client|unblock", unblock),
    ("client|capa", capa),
    ("client|getredir", getredir),
    ("client|trackinginfo", trackinginfo),
    ("client|help", |cx, _| help::write(cx, help::CLIENT)),
];

/// Flags of CLIENT LIST, in Valkey's order.
pub(crate) fn flags_of(engine: &Engine, client: &ClientShared) -> String {
    let mut flags = String::new();
    match client.kind() {
        ClientKind::Replica => flags.push('S'),
        ClientKind::Primary => flags.push('M'),
        ClientKind::Normal => {}
    }
    let bits = [
        (client.is_subscribed(), 'P'),
        (client.multi.load(Relaxed) >= 0, 'x'),
        (client.is_blocked.load(Relaxed) || client.is_postponed.load(Relaxed), 'b'),
        (engine.watchers.is_dirty(client.id), 'd'),
        (client.killed.load(Relaxed), 'A'),
        (client.is_readonly.load(Relaxed), 'r'),
        (client.is_no_evict.load(Relaxed), 'e'),
        (client.is_no_touch.load(Relaxed), 'T'),
    ];
    flags.extend(bits.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag));
    if flags.is_empty() {
        flags.push('N');
    }
    flags
}

pub(crate) fn capa_of(client: &ClientShared) -> &'static str {
    if client.has_capa_redirect.load(Relaxed) { "r" } else { "" }
}

fn command_name(id: u16) -> &'static str {
    fn collect(specs: &'static [CommandSpec], names: &mut Vec<&'static str>) {
        for spec in specs {
            let at = usize::from(spec.id);
            if names.len() <= at {
                names.resize(at + 1, "NULL");
            }
            names[at] = spec.name;
            collect(spec.subcommands, names);
        }
    }
    static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let mut names = Vec::new();
        collect(&COMMANDS, &mut names);
        names
    });
    NAMES.get(usize::from(id)).copied().unwrap_or("NULL")
}

/// The line of CLIENT LIST and CLIENT INFO, without its line end.
pub fn describe(engine: &Engine, client: &ClientShared, now_ms: u64) -> String {
    let subscriptions = client.subscriptions.lock();
    let (channels, patterns, shard_channels) =
        (subscriptions.channels.len(), subscriptions.patterns.len(), subscriptions.shard_channels.len());
    drop(subscriptions);
    let names = client.names.lock().clone();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    let (query, query_free, argv) =
        (load(&client.query_bytes), load(&client.query_free_bytes), load(&client.argv_bytes));
    let (multi, output) = (load(&client.multi_bytes), load(&client.output_bytes));
    let mut line = String::with_capacity(512);
    let result = write!(
        line,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} capa={} db={} sub={channels} psub={patterns} \
         ssub={shard_channels} multi={} watch={} qbuf={query} qbuf-free={query_free} argv-mem={argv} multi-mem={multi} rbs=0 \
         rbp=0 obl={output} oll=0 omem={output} tot-mem={} events=r cmd={} user=default redir={} resp={} lib-name={} lib-ver={} \
         tot-net-in={} tot-net-out={} tot-cmds={}",
        client.id,
        client.addr,
        client.laddr,
        client.fd,
        names.name,
        now_ms.saturating_sub(client.created_ms) / 1000,
        now_ms.saturating_sub(client.last_active_ms.load(Relaxed)) / 1000,
        flags_of(engine, client),
        capa_of(client),
        client.db.load(Relaxed),
        client.multi.load(Relaxed),
        client.watched.load(Relaxed),
        query + query_free + argv + multi + output + size_of::<ClientShared>() as u64,
        command_name(client.last_command.load(Relaxed)),
        client.redirect_to.load(Relaxed),
        if client.proto() == Proto::Resp3 { 3 } else { 2 },
        names.lib_name,
        names.lib_ver,
        load(&client.net_in),
        load(&client.net_out),
        load(&client.commands),
    );
    debug_assert!(result.is_ok());
    line
}

fn id(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    cx.reply.int(cx.session.shared.id as i64);
    Ok(Next::Continue)
}

fn info(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    let mut line = describe(cx.engine, &cx.session.shared, cx.worker.now_ms());
    line.push('\n');
    cx.reply.verbatim("txt", line.as_bytes());
    Ok(Next::Continue)
}

fn list(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let filter = Filter::parse(cx, &args[2..])?;
    let now_ms = cx.worker.now_ms();
    let skip_me = filter.skip_me.unwrap_or(false);
    let mut text = String::new();
    for client in cx.engine.clients.all() {
        if (skip_me && client.id == cx.session.shared.id) || !filter.accepts(cx.engine, &client, now_ms) {
            continue;
        }
        text.push_str(&describe(cx.engine, &client, now_ms));
        text.push('\n');
    }
    cx.reply.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}

fn kill(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let me = cx.session.shared.id;
    let is_old_style = args.len() == 3;
    let filter = if is_old_style { Filter::by_addr(args[2]) } else { Filter::parse(cx, &args[2..])? };
    let skip_me = filter.skip_me.unwrap_or(!is_old_style);
    let now_ms = cx.worker.now_ms();
    let mut killed = 0;
    let mut next = Next::Continue;
    for client in cx.engine.clients.all() {
        if (skip_me && client.id == me) || !filter.accepts(cx.engine, &client, now_ms) {
            continue;
        }
        if client.id == me {
            // The reply is still sent.
            next = Next::Close;
        } else {
            cx.engine.kill(client.id);
        }
        killed += 1;
    }
    match (is_old_style, killed) {
        (true, 0) => return Err(CommandError::text("ERR No such client")),
        (true, _) => cx.reply.ok(),
        (false, count) => cx.reply.int(count),
    }
    Ok(next)
}

fn setname(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    check_word(args[2], "Client names")?;
    cx.session.shared.names.lock().name = String::from_utf8_lossy(args[2]).into_owned();
    cx.reply.ok();
    Ok(Next::Continue)
}

fn getname(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    let names = cx.session.shared.names.lock();
    if names.name.is_empty() {
        cx.reply.null();
    } else {
        cx.reply.bulk(names.name.as_bytes());
    }
    drop(names);
    Ok(Next::Continue)
}

fn setinfo(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let (option, value) = (args[2], args[3]);
    let text = || String::from_utf8_lossy(value).into_owned();
    if option.eq_ignore_ascii_case(b"lib-name") {
        check_word(value, &String::from_utf8_lossy(option))?;
        cx.session.shared.names.lock().lib_name = text();
    } else if option.eq_ignore_ascii_case(b"lib-ver") {
        check_word(value, &String::from_utf8_lossy(option))?;
        cx.session.shared.names.lock().lib_ver = text();
    } else {
        let line = format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(option));
        return Err(CommandError::format(line));
    }
    cx.reply.ok();
    Ok(Next::Continue)
}

fn reply(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let session = &mut *cx.session;
    if args[2].eq_ignore_ascii_case(b"on") {
        session.answers_now = true;
        session.reply_mode = ReplyMode::On;
        cx.reply.ok();
    } else if args[2].eq_ignore_ascii_case(b"off") {
        session.reply_mode = ReplyMode::Off;
    } else if args[2].eq_ignore_ascii_case(b"skip") {
        if session.reply_mode == ReplyMode::On {
            session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CommandError::Syntax);
    }
    Ok(Next::Continue)
}

fn on_or_off(text: &[u8]) -> Result<bool, CommandError> {
    match text {
        _ if text.eq_ignore_ascii_case(b"on") => Ok(true),
        _ if text.eq_ignore_ascii_case(b"off") => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

fn set_switch(
    cx: &mut SessionCx<'_>,
    is_on: bool,
    switch: impl Fn(&ClientShared) -> &AtomicBool,
) -> Result<Next, CommandError> {
    switch(&cx.session.shared).store(is_on, Relaxed);
    cx.reply.ok();
    Ok(Next::Continue)
}

fn no_evict(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let is_on = on_or_off(args[2])?;
    set_switch(cx, is_on, |client| &client.is_no_evict)
}

fn no_touch(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let is_on = on_or_off(args[2])?;
    cx.session.is_no_touch = is_on;
    set_switch(cx, is_on, |client| &client.is_no_touch)
}

fn pause(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let mode = match args.get(3) {
        None => PauseMode::All,
        Some(text) if text.eq_ignore_ascii_case(b"all") => PauseMode::All,
        Some(text) if text.eq_ignore_ascii_case(b"write") => PauseMode::Write,
        Some(_) => return Err(CommandError::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let timeout = parse_timeout_ms(args[2], cx.worker.now_ms())?;
    cx.engine.gate.pause(PausePurpose::Client, mode, boot_ms().saturating_add(timeout));
    cx.reply.ok();
    Ok(Next::Continue)
}

fn unpause(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    cx.engine.unpause(PausePurpose::Client);
    cx.reply.ok();
    Ok(Next::Continue)
}

fn unblock(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let with_error = match args.get(3) {
        None => false,
        Some(text) if text.eq_ignore_ascii_case(b"timeout") => false,
        Some(text) if text.eq_ignore_ascii_case(b"error") => true,
        Some(_) => return Err(CommandError::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    let id = num::parse_i64(args[2]).ok_or(CommandError::NotInteger)?;
    let client = u64::try_from(id).ok().and_then(|id| cx.engine.clients.get(id));
    // Both under the lock: a client that is blocked and waits for no key is in WAIT.
    let blocked = client.and_then(|client| {
        let guard = client.waiter.lock();
        let (is_blocked, waiter) = (client.is_blocked.load(Relaxed), guard.clone());
        drop(guard);
        is_blocked.then_some((client, waiter))
    });
    let Some((client, waiter)) = blocked else {
        cx.reply.int(0);
        return Ok(Next::Continue);
    };
    let is_unblocked = waiter.as_ref().is_none_or(|waiter| waiter.end());
    if is_unblocked {
        let ticket = waiter.map(|waiter| waiter.ticket);
        let message = Message::Unblock { client: client.id, ticket, with_error };
        cx.engine.post(client.worker.load(Relaxed), message);
    }
    cx.reply.int(i64::from(is_unblocked));
    Ok(Next::Continue)
}

fn capa(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    // Capabilities that nobody knows are ignored, so that clients may send all of theirs.
    if args[2..].iter().any(|name| name.eq_ignore_ascii_case(b"redirect")) {
        cx.session.has_capa_redirect = true;
        cx.session.shared.has_capa_redirect.store(true, Relaxed);
    }
    cx.reply.ok();
    Ok(Next::Continue)
}

fn getredir(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    cx.reply.int(-1);
    Ok(Next::Continue)
}

fn trackinginfo(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    let reply = &mut *cx.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.int(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
    Ok(Next::Continue)
}
