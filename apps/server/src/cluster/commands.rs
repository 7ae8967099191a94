// SPDX-License-Identifier: BSD-3-Clause
//! CLUSTER subcommands.

use crate::commands::Row;
use pando_commands::CommandError;
use pando_resp::Args;
use pando_session::{Next, SessionCx};
use pando_topology::Slot;

pub(crate) const TABLE: &[Row] = &[("cluster|keyslot", key_slot)];

const DISABLED: &str = "ERR This instance has cluster support disabled";

fn key_slot(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    if !cx.engine.settings.load().cluster_enabled {
        return Err(CommandError::text(DISABLED));
    }
    cx.reply.int(Slot::of_key(args[2]).index() as i64);
    Ok(Next::Continue)
}
