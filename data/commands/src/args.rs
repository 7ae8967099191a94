// SPDX-License-Identifier: BSD-3-Clause
//! Small readers of arguments, shared by all families: numbers and option words with the refusal that the reference server
//! gives.

use crate::error::CommandError;
use pando_resp::num;

/// A strict signed integer.
pub(crate) fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    num::parse_i64(arg).ok_or(CommandError::NotInteger)
}

/// A strict integer that fits 32 bits (C `int` in the reference server).
pub(crate) fn small_integer(arg: &[u8]) -> Result<i32, CommandError> {
    integer(arg)?.try_into().map_err(|_| CommandError::NotInteger)
}

/// True when the argument is this option word.
pub(crate) fn is_word(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
