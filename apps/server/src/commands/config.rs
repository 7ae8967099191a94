// SPDX-License-Identifier: BSD-3-Clause
//! CONFIG: GET, SET, REWRITE, RESETSTAT, HELP.

use super::{Row, help, server_of, text};
use crate::config::rewrite::rewrite_file;
use crate::config::table::{TABLE as TABLE_OF_DIRECTIVES, find};
use pando_commands::CommandError;
use pando_resp::Args;
use pando_session::{Next, SessionCx};

/// See `set_root_count`.
const ROOT_COUNT: &str = "cluster-root-count";

pub(super) const TABLE: &[Row] = &[
    ("config|get", get),
    ("config|set", set),
    ("config|rewrite", rewrite),
    ("config|resetstat", reset_stat),
    ("config|help", show_help),
];

fn get(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    let found = server.config.matching(&args[2..]);
    cx.reply.map(found.len());
    for (name, mut value) in found {
        // The cluster's, not this node's: it may have been set on another node.
        if name == ROOT_COUNT
            && let Some(count) = crate::cluster::commands::root_count(cx)
        {
            value = count.to_string();
        }
        cx.reply.bulk(name.as_bytes());
        cx.reply.bulk(value.as_bytes());
    }
    Ok(Next::Continue)
}

fn set(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let pairs: Vec<(String, String)> =
        args[2..].chunks_exact(2).map(|pair| (text(pair[0]).into_owned(), text(pair[1]).into_owned())).collect();
    if pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case(ROOT_COUNT)) && cx.engine.settings.load().cluster_enabled
    {
        return set_root_count(cx, &pairs);
    }
    let protected_allowed = is_allowed(&server.config.value("enable-protected-configs"), cx);
    server
        .config
        .set(&pairs, protected_allowed, &mut |values, changed| crate::apply::apply(&server, values, changed))
        .map_err(CommandError::format)?;
    cx.reply.ok();
    Ok(Next::Continue)
}

/// The whole cluster decides on this one, and the client waits for it.
fn set_root_count(cx: &mut SessionCx<'_>, pairs: &[(String, String)]) -> Result<Next, CommandError> {
    let refused = |why: &str| {
        CommandError::format(format!("ERR CONFIG SET failed (possibly related to argument '{ROOT_COUNT}') - {why}"))
    };
    let [(_, value)] = pairs else { return Err(refused("it is set for the whole cluster, set it alone")) };
    let kind = find(ROOT_COUNT).map(|index| TABLE_OF_DIRECTIVES[index].kind);
    let count = match kind {
        Some(kind) => kind.parse(std::slice::from_ref(value), "").map_err(|why| refused(&why))?,
        None => value.clone(),
    };
    let number = count.parse().map_err(|_| refused("not a number"))?;
    crate::cluster::commands::set_root_count(cx, number)
}

/// Does `yes`, `no` or `local` allow this client something?
pub(super) fn is_allowed(setting: &str, cx: &SessionCx<'_>) -> bool {
    match setting {
        "yes" => true,
        "local" => {
            let addr = &cx.session.shared.addr;
            addr.starts_with("127.") || addr.starts_with("[::1]") || addr.starts_with('/')
        }
        _ => false,
    }
}

fn rewrite(cx: &mut SessionCx<'_>, _: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    let Some(file) = server.config.file() else {
        return Err(CommandError::text("ERR The server is running without a config file"));
    };
    match rewrite_file(file, &server.config.values()) {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            cx.reply.ok();
            Ok(Next::Continue)
        }
        Err(error) => {
            let reason = crate::config::os_reason(&error);
            tracing::warn!("CONFIG REWRITE failed: {reason}");
            Err(CommandError::format(format!("ERR Rewriting config file: {reason}")))
        }
    }
}

fn reset_stat(cx: &mut SessionCx<'_>, _: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    server.engine.stats.reset();
    server.engine.eviction.reset_stats();
    server.expire_lag.reset();
    for stats in &server.net_stats {
        stats.reset();
    }
    cx.reply.ok();
    Ok(Next::Continue)
}

fn show_help(cx: &mut SessionCx<'_>, _: Args<'_>) -> Result<Next, CommandError> {
    help(
        cx,
        "CONFIG",
        &[
            "GET <pattern>",
            "    Return parameters matching the glob-like <pattern> and their values.",
            "SET <directive> <value>",
            "    Set the configuration <directive> to <value>.",
            "RESETSTAT",
            "    Reset statistics reported by the INFO command.",
            "REWRITE",
            "    Rewrite the configuration file.",
        ],
    );
    Ok(Next::Continue)
}
