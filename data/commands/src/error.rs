// SPDX-License-Identifier: BSD-3-Clause
//! Why a command is refused. `Display` is the exact error line without the leading `-`: the code that clients switch on,
//! then the text of the reference server. Handlers return these; the session layer writes them and counts the codes.

use std::borrow::Cow;

/// A refusal, as the client sees it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// The key holds a value of another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The options do not fit together.
    #[error("ERR syntax error")]
    Syntax,
    /// A number was expected.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// A floating point number was expected.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// A number is outside what the command allows.
    #[error("ERR value is out of range")]
    OutOfRange,
    /// A count must not be negative.
    #[error("ERR value is out of range, must be positive")]
    MustBePositive,
    /// An index is outside the value.
    #[error("ERR index out of range")]
    IndexOutOfRange,
    /// The key does not exist.
    #[error("ERR no such key")]
    NoSuchKey,
    /// An expire time that cannot be represented; carries the command's name.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// Too few or too many arguments; carries the command's name.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// The string would be longer than proto-max-bulk-len.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// A database number that is not there.
    #[error("ERR DB index is out of range")]
    DbOutOfRange,
    /// Anything else: the whole line, code first.
    #[error("{0}")]
    Custom(Cow<'static, str>),
}

impl CommandError {
    /// A line with code `ERR`; `text` is used as it is and must start with the code.
    pub const fn text(text: &'static str) -> CommandError {
        CommandError::Custom(Cow::Borrowed(text))
    }

    /// A line put together at run time, code first.
    pub fn format(text: String) -> CommandError {
        CommandError::Custom(Cow::Owned(text))
    }
}
