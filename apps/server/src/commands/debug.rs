// SPDX-License-Identifier: BSD-3-Clause
//! DEBUG: what test suites use of it.

use super::config::is_allowed;
use super::{Row, digest, help, server_of, text};
use crate::config::kind::parse_bytes;
use pando_commands::CommandError;
use pando_keyspace::{Encoding, StrHint, Ttl, ValueRef};
use pando_resp::{Args, Proto};
use pando_session::{Next, SessionCx};
use pando_topology::Slot;
use pando_values::{Collection, Limits, List, Typed};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub(super) const TABLE: &[Row] = &[("debug", debug)];

const DENIED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.";

const NO_RELOAD: &str = "ERR Error trying to load the RDB dump, check server logs.";

/// The double that Valkey's PROTOCOL replies with; near pi, but not pi.
#[allow(clippy::approx_constant)]
const PROTOCOL_DOUBLE: f64 = 3.141;

const NO_PACKED_THRESHOLD: &str = "ERR argument must be a memory value bigger than 1 and smaller than 4gb";
/// Valkey's bound: a little below four gigabytes.
const PLAIN_FROM_BYTES_MAX: u64 = (1 << 32) - (1 << 20);

const HELP: &[&str] = &[
    "CHANGE-REPL-ID",
    "    Give the stream of this server another id.",
    "DIGEST",
    "    Output a hex signature of all data.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Output a hex signature of the values of the keys.",
    "ERROR <string>",
    "    Reply with <string> as an error.",
    "LISTPACK <key>",
    "    Check that the key's value is a listpack.",
    "LOG <message>",
    "    Write <message> to the server log.",
    "OBJECT <key>",
    "    Show low level facts about a key and its value.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Create <count> string keys, which are not propagated to replicas.",
    "PROTOCOL <type>",
    "    Reply with a test value: string, integer, double, bignum, null, array,",
    "    set, map, attrib, push, verbatim, true, false.",
    "QUICKLIST <key>",
    "    Check that the key's value is a quicklist.",
    "QUICKLIST-PACKED-THRESHOLD <bytes>",
    "    Give longer list elements nodes of their own. Zero restores the default.",
    "RELOAD",
    "    Write all data out into an image in memory, drop them, and load the image.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Stop or start to delete keys as they fall due.",
    "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
    "    Let RESTORE take payloads whose checksum is wrong, or not.",
    "SLEEP <seconds>",
    "    Keep the worker of this client busy for <seconds>. Decimals allowed.",
];

fn debug(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    if !is_allowed(&server.config.value("enable-debug-command"), cx) {
        return Err(CommandError::text(DENIED));
    }
    let name = args[1].to_ascii_lowercase();
    match (name.as_slice(), &args[2..]) {
        (b"help", []) => help(cx, "DEBUG", HELP),
        (b"sleep", [seconds]) => {
            // Like strtod: what is no number is zero.
            let seconds = text(seconds).parse::<f64>().unwrap_or(0.0).clamp(0.0, 3600.0);
            std::thread::sleep(Duration::from_secs_f64(seconds));
            cx.reply.ok();
        }
        (b"set-active-expire", [flag]) => {
            server.active_expire.store(*flag != b"0", Relaxed);
            cx.reply.ok();
        }
        (b"error", [message]) => {
            let message = text(message).into_owned();
            cx.error(&message);
        }
        (b"log", [message]) => {
            tracing::warn!("DEBUG LOG: {}", text(message));
            cx.reply.ok();
        }
        (b"object", [key] | [key, _]) => object(cx, key)?,
        (b"populate", [count, rest @ ..]) if rest.len() <= 2 => populate(cx, count, rest)?,
        (b"protocol", [kind]) => protocol(cx, kind)?,
        (b"digest", []) => {
            let digest = digest::of_all(cx.engine, cx.worker.now_ms());
            cx.reply.simple(&digest);
        }
        (b"digest-value", keys) if !keys.is_empty() => {
            cx.reply.array(keys.len());
            for key in keys {
                let digest = digest::of_value(cx.engine, cx.session.db(), key, cx.worker.now_ms());
                cx.reply.simple(&digest);
            }
        }
        (b"change-repl-id", []) => {
            tracing::info!("Changing replication IDs after receiving DEBUG change-repl-id");
            server.replication.inner().change_id();
            cx.reply.ok();
        }
        (b"quicklist-packed-threshold", [bytes]) => {
            let bytes = parse_bytes(&text(bytes)).filter(|bytes| *bytes <= PLAIN_FROM_BYTES_MAX);
            let bytes = bytes.ok_or(CommandError::text(NO_PACKED_THRESHOLD))? as usize;
            cx.engine.update_settings(|settings| settings.limits.list_plain_from_bytes = bytes);
            cx.reply.ok();
        }
        (b"listpack", [key]) => structure(cx, key, Encoding::ListPack, "Listpack")?,
        (b"quicklist", [key] | [key, _]) => structure(cx, key, Encoding::QuickList, "Quicklist")?,
        (b"set-skip-checksum-validation", [flag]) => {
            cx.engine.update_settings(|settings| settings.skip_checksum_validation = *flag != b"0");
            cx.reply.ok();
        }
        (b"reload", options) => reload(cx, options)?,
        // Settings of structures that we do not have.
        (
            b"dict-resizing"
            | b"pause-cron"
            | b"replybuffer"
            | b"client-enforce-reply-list"
            | b"hashing-always-safe"
            | b"delay-rdb-client-free-seconds"
            | b"stringmatch-len"
            | b"set-disable-deny-scripts",
            [_, ..],
        )
        | (b"config-rewrite-force-all" | b"jmap", []) => cx.reply.ok(),
        _ => {
            return Err(CommandError::format(format!(
                "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
                text(args[1])
            )));
        }
    }
    Ok(Next::Continue)
}

/// DEBUG LISTPACK and DEBUG QUICKLIST: Valkey prints the structure for its developers; we check the encoding.
fn structure(cx: &mut SessionCx<'_>, key: &[u8], encoding: Encoding, name: &str) -> Result<(), CommandError> {
    let mut locked = cx.engine.keyspace.lock_one(Slot::of_key(key));
    locked.set_now(cx.worker.now_ms());
    let Some(meta) = locked.db(cx.session.db()).meta(key) else { return Err(CommandError::NoSuchKey) };
    drop(locked);
    if meta.encoding != encoding {
        return Err(CommandError::format(format!("ERR Not a {} encoded object.", encoding.name())));
    }
    cx.reply.simple(&format!("{name} structure printed on stdout"));
    Ok(())
}

/// DEBUG RELOAD. Without files there is nothing that NOSAVE could load.
fn reload(cx: &mut SessionCx<'_>, options: &[&[u8]]) -> Result<(), CommandError> {
    for option in options {
        match option.to_ascii_lowercase().as_slice() {
            b"merge" | b"noflush" => {}
            b"nosave" => return Err(CommandError::text(NO_RELOAD)),
            _ => {
                return Err(CommandError::text(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    let server = server_of(cx)?;
    if let Err(error) = server.replication.inner().reload() {
        tracing::warn!("DEBUG RELOAD: {error}");
        return Err(CommandError::text(NO_RELOAD));
    }
    tracing::info!("DB reloaded by DEBUG RELOAD");
    cx.reply.ok();
    Ok(())
}

fn object(cx: &mut SessionCx<'_>, key: &[u8]) -> Result<(), CommandError> {
    let db = cx.session.db();
    let mut locked = cx.engine.keyspace.lock_one(Slot::of_key(key));
    locked.set_now(cx.worker.now_ms());
    let Some(meta) = locked.db(db).meta(key) else { return Err(CommandError::NoSuchKey) };
    let limits = cx.worker.settings().limits;
    let nodes = match locked.db(db).peek(key) {
        Some(ValueRef::Typed(Typed::List(list))) if list.encoding() == Encoding::QuickList => of_nodes(list, &limits),
        _ => String::new(),
    };
    drop(locked);
    cx.reply.simple(&format!(
        "Value at:0x0 refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}{nodes}",
        meta.encoding.name(),
        meta.bytes,
        (cx.worker.now_ms() / 1000).saturating_sub(meta.idle_s) & 0x00ff_ffff,
        meta.idle_s
    ));
    Ok(())
}

/// What Valkey tells of a quicklist. `ql_compressed` is the setting: nodes stay as they are.
fn of_nodes(list: &List, limits: &Limits) -> String {
    let nodes = list.free_effort().max(1);
    format!(
        " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{}",
        list.len() as f64 / nodes as f64,
        limits.list_max_listpack_size,
        u8::from(limits.list_compress_depth != 0),
        list.heap_bytes()
    )
}

fn populate(cx: &mut SessionCx<'_>, count: &[u8], rest: &[&[u8]]) -> Result<(), CommandError> {
    let count: u64 = text(count).parse().map_err(|_| CommandError::MustBePositive)?;
    let prefix = rest.first().copied().unwrap_or(b"key");
    let size = match rest.get(1) {
        Some(size) => Some(text(size).parse::<usize>().map_err(|_| CommandError::MustBePositive)?),
        None => None,
    };
    let db = cx.session.db();
    for number in 0..count {
        let key = [prefix, b":", number.to_string().as_bytes()].concat();
        let mut value = format!("value:{number}").into_bytes();
        if let Some(size) = size {
            value.resize(size, 0);
        }
        let mut locked = cx.engine.keyspace.lock_one(Slot::of_key(&key));
        locked.set_now(cx.worker.now_ms());
        let mut keys = locked.db(db);
        if !keys.contains(&key) {
            keys.set_str(&key, &value, Ttl::Clear, StrHint::Auto);
        }
    }
    cx.reply.ok();
    Ok(())
}

fn protocol(cx: &mut SessionCx<'_>, kind: &[u8]) -> Result<(), CommandError> {
    let is_resp3 = cx.reply.proto() == Proto::Resp3;
    let reply = &mut *cx.reply;
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.int(12345),
        b"double" => reply.double(PROTOCOL_DOUBLE),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|n| reply.int(n));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|n| reply.int(n));
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.int(n);
                reply.boolean(n == 1);
            }
        }
        b"attrib" if is_resp3 => {
            reply.raw(b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n");
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if is_resp3 => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
        }
        // An attribute is no reply of its own: without it the reply is still there.
        b"attrib" => reply.bulk(b"Some real reply following the attribute"),
        b"push" => {
            return Err(CommandError::text("ERR RESP2 is not supported by this command"));
        }
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        _ => {
            return Err(CommandError::text(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}
