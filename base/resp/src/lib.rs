// SPDX-License-Identifier: BSD-3-Clause
//! RESP2 and RESP3 over byte slices: writing replies, parsing requests, encoding commands, and
//! Valkey's rules for numbers in text.
//!
//! Not here: sockets, buffers that are read into, commands. Called by everything that speaks to a
//! client, a replica or a file that holds commands.

mod grisu;
mod inline;
mod longdouble;
mod parser;
#[cfg(test)]
mod parser_tests;
mod reply;

pub mod decode;
pub mod num;

pub use inline::split_args;
pub use longdouble::LongDouble;
pub use parser::{ArgVec, Limits, Parser, ProtocolError, Step, recycle};
pub use reply::{Mark, Proto, ReplyBuf};

/// One command: `args[0]` is its name, as the client sent it.
pub type Args<'a> = &'a [&'a [u8]];

/// Appends one command as a RESP array of bulk strings (replication stream, AOF).
pub fn encode_command(out: &mut Vec<u8>, args: Args<'_>) {
    let mut digits = itoa::Buffer::new();
    let payload: usize = args.iter().map(|arg| arg.len() + 16).sum();
    out.reserve(payload + 16);
    out.push(b'*');
    out.extend_from_slice(digits.format(args.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for arg in args {
        out.push(b'$');
        out.extend_from_slice(digits.format(arg.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}
