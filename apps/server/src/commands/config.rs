// SPDX-License-Identifier: BSD-3-Clause
//! CONFIG: GET, SET, REWRITE, RESETSTAT, HELP.

use super::{Row, help, server_of, text};
use crate::config::rewrite::rewrite_file;
use pando_commands::CommandError;
use pando_resp::Args;
use pando_session::{Next, SessionCx};

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
    for (name, value) in found {
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
    let protected_allowed = is_allowed(&server.config.value("enable-protected-configs"), cx);
    server
        .config
        .set(&pairs, protected_allowed, &mut |values, changed| crate::apply::apply(&server, values, changed))
        .map_err(CommandError::format)?;
    cx.reply.ok();
    Ok(Next::Continue)
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
