// SPDX-License-Identifier: BSD-3-Clause
//! BITOP: bitwise AND, OR, XOR and NOT of strings into a key.

use crate::args::is_word;
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use pando_keyspace::{IntText, StrHint, Ttl};
use pando_resp::Args;

pub(crate) const TABLE: &[Row] = &[row("bitop", bitop)];

#[derive(Copy, Clone, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

/// BITOP operation destination key ...; shorter strings count as padded with zeros.
fn bitop(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let operation = [("AND", Operation::And), ("OR", Operation::Or), ("XOR", Operation::Xor), ("NOT", Operation::Not)]
        .into_iter()
        .find(|(word, _)| is_word(args[1], word))
        .map(|(_, operation)| operation)
        .ok_or(CommandError::Syntax)?;
    if operation == Operation::Not && args.len() != 4 {
        return Err(CommandError::text("ERR BITOP NOT must be called with a single source key."));
    }
    let target = args[2];
    let mut result: Option<Vec<u8>> = None;
    for key in &args[3..] {
        result = Some(ctx.read_string(key, |value, _| {
            let mut text = IntText::new();
            let bytes = value.as_ref().map_or(&[][..], |value| value.as_bytes(&mut text));
            Ok(match result.take() {
                None if operation == Operation::Not => bytes.iter().map(|byte| !byte).collect(),
                None => bytes.to_vec(),
                Some(so_far) => combine(operation, so_far, bytes),
            })
        })?);
    }
    let result = result.unwrap_or_default();
    if result.is_empty() {
        let existed = ctx.exists_in(ctx.db, target);
        if existed {
            ctx.current().remove(target);
            ctx.changed(EventClass::GENERIC, "del", target);
        }
    } else {
        ctx.delete_if_expired(ctx.db, target);
        let outcome = ctx.current().set_str(target, &result, Ttl::Clear, StrHint::Raw);
        if !outcome.existed {
            ctx.notify(EventClass::NEW, "new", target);
        }
        ctx.changed(EventClass::STRING, "set", target);
    }
    ctx.reply.int(result.len() as i64);
    Ok(())
}

fn combine(operation: Operation, mut so_far: Vec<u8>, other: &[u8]) -> Vec<u8> {
    so_far.resize(so_far.len().max(other.len()), 0);
    let (common, tail) = so_far.split_at_mut(other.len());
    let pairs = common.iter_mut().zip(other);
    match operation {
        Operation::And => {
            pairs.for_each(|(to, from)| *to &= from);
            tail.fill(0);
        }
        Operation::Or => pairs.for_each(|(to, from)| *to |= from),
        Operation::Xor => pairs.for_each(|(to, from)| *to ^= from),
        Operation::Not => {}
    }
    so_far
}
