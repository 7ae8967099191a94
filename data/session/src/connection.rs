// SPDX-License-Identifier: BSD-3-Clause
//! Commands about the connection itself: HELLO, AUTH, SELECT, PING, ECHO, QUIT, RESET, TIME,
//! READONLY, READWRITE, ASKING, and COMMAND, which data/commands answers.

use crate::clients::ClientKind;
use crate::context::{SessionCx, SessionFn};
use crate::engine::SERVER_VERSION;
use crate::gate::Role;
use crate::next::Next;
use crate::session::ReplyMode;
use pando_commands::{CommandError, introspect};
use pando_resp::{Args, Proto, num};
use std::sync::atomic::Ordering::Relaxed;

pub(crate) const TABLE: &[(&str, SessionFn)] = &[
    ("hello", hello),
    ("auth", auth),
    ("ping", ping),
    ("echo", echo),
    ("select", select),
    ("quit", quit),
    ("reset", reset),
    ("time", time),
    ("readonly", |cx, _| set_readonly(cx, true)),
    ("readwrite", |cx, _| set_readonly(cx, false)),
    ("asking", asking),
    ("command", command),
    ("command|count", command),
    ("command|info", command),
    ("command|docs", command),
    ("command|list", command),
    ("command|getkeys", command),
    ("command|getkeysandflags", command),
    ("command|help", command),
];

const NO_CLUSTER: CommandError = CommandError::text("ERR This instance has cluster support disabled");
const WRONG_PASSWORD: CommandError =
    CommandError::text("WRONGPASS invalid username-password pair or user is disabled.");

/// Checks a password without telling by its duration how much of it was right.
fn is_password(given: &[u8], expected: &[u8]) -> bool {
    let mut difference = given.len() ^ expected.len();
    for (at, byte) in given.iter().enumerate() {
        difference |= usize::from(byte ^ expected.get(at).copied().unwrap_or(0));
    }
    difference == 0
}

fn authenticate(cx: &mut SessionCx<'_>, user: &[u8], password: &[u8]) -> Result<(), CommandError> {
    let settings = cx.worker.settings().clone();
    // The default user without a password takes any.
    let is_right =
        user == b"default" && settings.requirepass.as_deref().is_none_or(|expected| is_password(password, expected));
    if !is_right {
        return Err(WRONG_PASSWORD);
    }
    cx.session.is_authenticated = true;
    Ok(())
}

fn auth(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    match args[1..] {
        [password] => {
            if cx.worker.settings().requirepass.is_none() {
                return Err(CommandError::text(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                     configuration is correct?",
                ));
            }
            authenticate(cx, b"default", password)?;
        }
        [user, password] => authenticate(cx, user, password)?,
        _ => return Err(CommandError::Syntax),
    }
    cx.reply.ok();
    Ok(Next::Continue)
}

fn hello(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let proto = match args.get(1) {
        None => None,
        Some(text) => match num::parse_i64(text) {
            None => return Err(CommandError::text("ERR Protocol version is not an integer or out of range")),
            Some(2) => Some(Proto::Resp2),
            Some(3) => Some(Proto::Resp3),
            Some(_) => return Err(CommandError::text("NOPROTO unsupported protocol version")),
        },
    };
    let mut credentials = None;
    let mut name = None;
    let mut rest = args.get(2..).unwrap_or(&[]);
    while let Some((option, more)) = rest.split_first() {
        match more {
            [user, password, more @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                credentials = Some((*user, *password));
                rest = more;
            }
            [text, more @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                check_word(text, "Client names")?;
                name = Some(*text);
                rest = more;
            }
            _ => {
                let line = format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(option));
                return Err(CommandError::format(line));
            }
        }
    }
    if let Some((user, password)) = credentials {
        authenticate(cx, user, password)?;
    }
    if !cx.session.is_authenticated && cx.worker.settings().requirepass.is_some() {
        return Err(CommandError::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        cx.session.shared.names.lock().name = String::from_utf8_lossy(name).into_owned();
    }
    if let Some(proto) = proto {
        cx.session.set_proto(proto, cx.reply);
    }
    let settings = cx.worker.settings().clone();
    let as_redis = settings.extended_redis_compatibility;
    let reply = &mut *cx.reply;
    reply.map(7 + usize::from(!settings.availability_zone.is_empty()));
    reply.bulk(b"server");
    reply.bulk(if as_redis { b"redis" } else { b"valkey" });
    reply.bulk(b"version");
    reply.bulk(if as_redis { b"7.2.4" } else { SERVER_VERSION.as_bytes() });
    reply.bulk(b"proto");
    reply.int(if reply.proto() == Proto::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(cx.session.shared.id as i64);
    reply.bulk(b"mode");
    reply.bulk(if settings.cluster_enabled { b"cluster" } else { b"standalone" });
    reply.bulk(b"role");
    reply.bulk(if cx.engine.gate.role() == Role::Primary { b"master" } else { b"replica" });
    reply.bulk(b"modules");
    reply.array(0);
    if !settings.availability_zone.is_empty() {
        reply.bulk(b"availability_zone");
        reply.bulk(settings.availability_zone.as_bytes());
    }
    Ok(Next::Continue)
}

/// Names may hold printable ASCII without spaces, since they appear in CLIENT LIST.
pub(crate) fn check_word(text: &[u8], what: &str) -> Result<(), CommandError> {
    if text.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(CommandError::format(format!("ERR {what} cannot contain spaces, newlines or special characters.")))
}

fn ping(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let message = match args[1..] {
        [] => None,
        [message] => Some(message),
        _ => return Err(CommandError::Arity("ping")),
    };
    if cx.session.shared.is_subscribed() && cx.reply.proto() == Proto::Resp2 {
        cx.reply.array(2);
        cx.reply.bulk(b"pong");
        cx.reply.bulk(message.unwrap_or(b""));
        return Ok(Next::Continue);
    }
    match message {
        Some(message) => cx.reply.bulk(message),
        None => cx.reply.simple("PONG"),
    }
    Ok(Next::Continue)
}

fn echo(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    cx.reply.bulk(args[1]);
    Ok(Next::Continue)
}

fn select(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let db = num::parse_i64(args[1]).ok_or(CommandError::NotInteger)?;
    if i32::try_from(db).is_err() {
        return Err(CommandError::text("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    let databases = cx.worker.settings().databases;
    let db = u16::try_from(db).ok().filter(|db| *db < databases).ok_or(CommandError::DbOutOfRange)?;
    cx.session.select(db);
    cx.reply.ok();
    Ok(Next::Continue)
}

fn quit(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    cx.reply.ok();
    Ok(Next::Close)
}

fn reset(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    let session = &mut *cx.session;
    if session.shared.kind() != ClientKind::Normal {
        return Err(CommandError::text("ERR can only reset normal client connections"));
    }
    session.end_transaction(cx.engine);
    cx.engine.pubsub.forget(&session.shared);
    session.select(0);
    session.set_proto(Proto::Resp2, cx.reply);
    session.is_authenticated = cx.worker.settings().requirepass.is_none();
    session.is_asking = false;
    session.is_readonly = false;
    session.is_no_touch = false;
    session.has_capa_redirect = false;
    session.reply_mode = ReplyMode::On;
    let shared = &session.shared;
    shared.names.lock().name.clear();
    shared.is_readonly.store(false, Relaxed);
    shared.is_no_touch.store(false, Relaxed);
    shared.is_no_evict.store(false, Relaxed);
    shared.has_capa_redirect.store(false, Relaxed);
    cx.reply.simple("RESET");
    Ok(Next::Continue)
}

fn time(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    cx.reply.array(2);
    cx.reply.bulk_int(now.as_secs() as i64);
    cx.reply.bulk_int(i64::from(now.subsec_micros()));
    Ok(Next::Continue)
}

fn set_readonly(cx: &mut SessionCx<'_>, is_readonly: bool) -> Result<Next, CommandError> {
    cx.session.is_readonly = is_readonly;
    cx.session.shared.is_readonly.store(is_readonly, Relaxed);
    cx.reply.ok();
    Ok(Next::Continue)
}

fn asking(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    if !cx.worker.settings().cluster_enabled {
        return Err(NO_CLUSTER);
    }
    cx.session.is_asking = true;
    cx.reply.ok();
    Ok(Next::Continue)
}

fn command(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    introspect::command(&cx.engine.registry, args, cx.reply)?;
    Ok(Next::Continue)
}
