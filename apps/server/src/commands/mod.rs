// SPDX-License-Identifier: BSD-3-Clause
//! Commands that belong to the server as a whole and not to keys or a session. One file per family, its table first.
//! Registered by name when the engine is made.

mod config;
mod debug;
mod digest;
mod info;
mod memory;
mod replication;
mod shutdown;

use crate::server::Server;
use pando_commands::CommandError;
use pando_session::{SessionCx, SessionFn};
use std::sync::Arc;

/// A command's name in commands.json and its handler.
pub type Row = (&'static str, SessionFn);

/// All commands of this crate.
pub fn table() -> Vec<Row> {
    [
        config::TABLE,
        debug::TABLE,
        info::TABLE,
        memory::TABLE,
        replication::TABLE,
        shutdown::TABLE,
        crate::cluster::commands::TABLE,
    ]
    .concat()
}

/// The server that the command runs in.
pub fn server_of(cx: &SessionCx<'_>) -> Result<Arc<Server>, CommandError> {
    Server::of(cx.engine).ok_or(CommandError::text("ERR The server is shutting down"))
}

/// An argument as text; what is no UTF-8 is replaced and so matches nothing.
pub fn text(arg: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(arg)
}

/// Writes the lines of a HELP subcommand.
pub fn help(cx: &mut SessionCx<'_>, container: &str, lines: &[&str]) {
    cx.reply.array(lines.len() + 3);
    cx.reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines {
        cx.reply.simple(line);
    }
    cx.reply.simple("HELP");
    cx.reply.simple("    Print this help.");
}
