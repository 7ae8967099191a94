// SPDX-License-Identifier: BSD-3-Clause
//! What the readers of packed encodings have in common.

/// One element of a packed encoding.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Element<'a> {
    /// Stored as a number; its text is the canonical decimal one.
    Int(i64),
    /// Stored as it is.
    Str(&'a [u8]),
}

/// The bytes are not what they claim to be.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("damaged packed encoding")]
pub struct Damaged;
