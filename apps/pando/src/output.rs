// SPDX-License-Identifier: BSD-3-Clause
//! Lines for a person. A reader that has gone away (a closed pipe) is no reason to stop a cluster, so errors are ignored.

use std::fmt::Arguments;
use std::io::Write;

/// Writes one line to standard output.
pub fn line(text: Arguments<'_>) {
    // See the head of this file.
    _ = writeln!(std::io::stdout(), "{text}");
}

/// As `println!`, without its panic when nobody reads any more.
macro_rules! say {
    ($($part:tt)*) => { $crate::output::line(format_args!($($part)*)) };
}
pub(crate) use say;
