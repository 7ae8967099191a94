// SPDX-License-Identifier: BSD-3-Clause
//! INFO. The sections are in `crate::info`.

use super::{Row, server_of};
use pando_commands::CommandError;
use pando_resp::Args;
use pando_session::{Next, SessionCx};

pub(super) const TABLE: &[Row] = &[("info", info)];

fn info(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    let names: Vec<String> = args[1..].iter().map(|name| super::text(name).to_ascii_lowercase()).collect();
    let text = crate::info::render(&server, &names);
    cx.reply.verbatim("txt", text.as_bytes());
    Ok(Next::Continue)
}
