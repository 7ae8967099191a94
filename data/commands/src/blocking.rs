// SPDX-License-Identifier: BSD-3-Clause
//! What a command does that can wait: BLPOP and its like, XREAD BLOCK.
//!
//! Such a handler does what it can do at once. If that is nothing it calls [`Ctx::block`] and writes no reply: the session
//! suspends the client, and when one of the keys holds what the client waits for, it calls the same handler again with the
//! same arguments, until it no longer calls `block`. That may happen on another thread, and under the locks of some of the
//! keys only; so a handler leaves keys alone that are not at hand ([`Ctx::is_at_hand`]).
//! ```text
//!   for key in keys.filter(|key| ctx.is_at_hand(key))   take something, log it, reply, return
//!   if !ctx.block(Block::on(Awaited::List, keys, timeout))   may not wait (EXEC): the reply of a timeout
//! ```
//! An error of the handler is the reply, first time or later. A timeout's reply is the session's: a null array, for all
//! commands. Handlers that add to a key need not tell anybody: the keyspace notes keys that come, go or change.

use crate::context::Ctx;
use crate::error::CommandError;
pub use pando_keyspace::Awaited;
use pando_resp::{Args, LongDouble};
use pando_topology::Slot;

/// A command that waits.
#[derive(Clone, Debug)]
pub struct Block {
    /// What a key must hold so that the handler is called again. For streams it is called again for every change of the
    /// stream, and may block again: it keeps its place.
    pub awaited: Awaited,
    /// The keys, possibly repeated.
    pub keys: Vec<Vec<u8>>,
    /// Milliseconds; `None` waits forever. Only that of the first call counts.
    pub timeout_ms: Option<u64>,
    /// Call again also when a key is gone or holds another type (XREADGROUP).
    pub when_gone: bool,
    /// The handler needs the slots of all keys of the command, not only of one that it takes from (BLMOVE).
    pub needs_all: bool,
    /// Arguments for the next call, where they are not the client's (XREAD with `$`).
    pub args: Option<Vec<Vec<u8>>>,
}

impl Block {
    /// Waits for any of `keys`.
    pub fn on(awaited: Awaited, keys: &[&[u8]], timeout_ms: Option<u64>) -> Block {
        let keys = keys.iter().map(|key| key.to_vec()).collect();
        Block { awaited, keys, timeout_ms, when_gone: false, needs_all: false, args: None }
    }
}

impl Ctx<'_, '_> {
    /// Whether a blocking command may take from `key` now. If not, the key's slot is not locked, or clients that came
    /// earlier are about to be served from it: for this call the key counts as empty.
    pub fn is_at_hand(&mut self, key: &[u8]) -> bool {
        if self.env.is_woken {
            return self.slots.holds(Slot::of_key(key));
        }
        !self.env.may_block || !self.slots.is_contended(self.db, key)
    }

    /// Suspends the client after this call. False where a command must not wait (EXEC): nothing happens, and the handler
    /// replies what a timeout would.
    pub fn block(&mut self, block: Block) -> bool {
        if self.env.may_block {
            self.effects.block = Some(Box::new(block));
        }
        self.env.may_block
    }
}

const NOT_FLOAT: CommandError = CommandError::text("ERR timeout is not a float or out of range");
const NOT_INTEGER: CommandError = CommandError::text("ERR timeout is not an integer or out of range");
const NEGATIVE: CommandError = CommandError::text("ERR timeout is negative");
const TOO_LARGE: CommandError = CommandError::text("ERR timeout is out of range");

/// A timeout in seconds, with a fraction; rounded up to milliseconds. `None` for no limit.
pub fn timeout_of_seconds(arg: &[u8], now_ms: u64) -> Result<Option<u64>, CommandError> {
    let seconds = LongDouble::parse(arg).ok_or(NOT_FLOAT)?;
    checked_timeout(seconds.times_ceil(1000).ok_or(TOO_LARGE)?, now_ms)
}

/// A timeout in milliseconds (XREAD BLOCK). `None` for no limit.
pub fn timeout_of_ms(arg: &[u8], now_ms: u64) -> Result<Option<u64>, CommandError> {
    checked_timeout(pando_resp::num::parse_i64(arg).ok_or(NOT_INTEGER)?, now_ms)
}

fn checked_timeout(timeout_ms: i64, now_ms: u64) -> Result<Option<u64>, CommandError> {
    match u64::try_from(timeout_ms) {
        Err(_) => Err(NEGATIVE),
        Ok(timeout_ms) if timeout_ms > i64::MAX as u64 - now_ms.min(i64::MAX as u64) => Err(TOO_LARGE),
        Ok(0) => Ok(None),
        Ok(timeout_ms) => Ok(Some(timeout_ms)),
    }
}

/// Arguments as they are kept while the client waits.
pub fn owned_args(args: Args<'_>) -> Vec<Vec<u8>> {
    args.iter().map(|arg| arg.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::{timeout_of_ms, timeout_of_seconds};

    #[test]
    fn timeouts_are_those_of_valkey() {
        let far = 1_700_000_000_000;
        for (text, expected) in [
            ("0", "Ok(None)"),
            ("1", "Ok(Some(1000))"),
            ("0.001", "Ok(Some(1))"),
            ("0.0001", "Ok(Some(1))"),
            ("1.1", "Ok(Some(1100))"),
            ("0x10", "Ok(Some(16000))"),
            ("1e-20", "Ok(Some(1))"),
            ("-0.0001", "Ok(None)"),
            ("-1", "timeout is negative"),
            ("-inf", "timeout is negative"),
            ("-1e300", "timeout is negative"),
            ("inf", "timeout is out of range"),
            ("1e300", "timeout is out of range"),
            ("9223372036854775807", "timeout is out of range"),
            ("9223372036854775", "timeout is out of range"),
            ("9000000000000000", "Ok(Some(9000000000000000000))"),
            ("nan", "timeout is not a float or out of range"),
            ("", "timeout is not a float or out of range"),
            (" 1", "timeout is not a float or out of range"),
            ("1 ", "timeout is not a float or out of range"),
            ("a", "timeout is not a float or out of range"),
        ] {
            let got = timeout_of_seconds(text.as_bytes(), far);
            let got = got.as_ref().map_or_else(|error| error.to_string(), |ok| format!("Ok({ok:?})"));
            assert_eq!(got.trim_start_matches("ERR "), expected, "{text}");
        }
        for (text, expected) in [
            ("0", "Ok(None)"),
            ("15", "Ok(Some(15))"),
            ("-1", "timeout is negative"),
            ("1.5", "timeout is not an integer or out of range"),
            ("9223372036854775807", "timeout is out of range"),
        ] {
            let got = timeout_of_ms(text.as_bytes(), far);
            let got = got.as_ref().map_or_else(|error| error.to_string(), |ok| format!("Ok({ok:?})"));
            assert_eq!(got.trim_start_matches("ERR "), expected, "{text}");
        }
    }
}
