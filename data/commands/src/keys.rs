// SPDX-License-Identifier: BSD-3-Clause
//! Keys whatever their value: DEL, UNLINK, EXISTS, TOUCH, TYPE. Moving keys is in `move_keys.rs`,
//! expiry in `expire.rs`, listing in `scan.rs`.

use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent};
use crate::registry::{Row, row};
use pando_resp::Args;

pub(crate) const TABLE: &[Row] =
    &[row("del", del), row("unlink", unlink), row("exists", exists), row("touch", touch), row("type", type_of)];

fn del(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    remove_all(ctx, args)
}

/// UNLINK differs from DEL in the log only: freeing is the keyspace's business either way.
fn unlink(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    remove_all(ctx, args)
}

fn remove_all(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let mut removed = 0;
    for key in &args[1..] {
        if !ctx.delete_if_expired(ctx.db, key) && ctx.current().remove(key) {
            ctx.changed(EventClass::GENERIC, "del", key);
            removed += 1;
        }
    }
    ctx.reply.int(removed);
    Ok(())
}

fn exists(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    count_found(ctx, args, Access::Peek)
}

fn touch(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    // CLIENT NO-TOUCH does not apply: moving the access time is what TOUCH is for.
    if ctx.env.no_touch {
        ctx.slots.set_no_touch(false);
    }
    let outcome = count_found(ctx, args, Access::Touch);
    if ctx.env.no_touch {
        ctx.slots.set_no_touch(true);
    }
    outcome
}

fn count_found(ctx: &mut Ctx<'_, '_>, args: Args<'_>, access: Access) -> Result<(), CommandError> {
    let mut found = 0;
    for key in &args[1..] {
        found += ctx.with_value(key, Intent::Read, access, |value, _| i64::from(value.is_some()));
    }
    ctx.reply.int(found);
    Ok(())
}

fn type_of(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.with_value(args[1], Intent::Read, Access::Peek, |value, reply| {
        reply.simple(value.map_or("none", |value| value.type_().name()));
    });
    Ok(())
}
