// SPDX-License-Identifier: BSD-3-Clause
//! INFO: which sections are asked for, and their text. One function per section, in Valkey's order.

pub mod allocator;
mod commands;
pub mod memory;
mod replication;
mod server;
mod stats;

use crate::server::Server;

type Section = (&'static str, Shown, fn(&Server, &mut String));

/// When a section is shown without being named.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Shown {
    /// By default.
    Default,
    /// In `all` and `everything`.
    All,
}

const SECTIONS: &[Section] = &[
    ("server", Shown::Default, server::server),
    ("clients", Shown::Default, server::clients),
    ("memory", Shown::Default, memory::memory),
    ("persistence", Shown::Default, server::persistence),
    ("stats", Shown::Default, stats::stats),
    ("replication", Shown::Default, replication::replication),
    ("cpu", Shown::Default, stats::cpu),
    ("threads", Shown::All, stats::threads),
    // There are none, and nobody is told of one.
    ("modules", Shown::Default, |_, out| out.push_str("# Modules\r\n")),
    ("commandstats", Shown::All, commands::command_stats),
    ("errorstats", Shown::Default, commands::error_stats),
    ("latencystats", Shown::All, commands::latency_stats),
    ("cluster", Shown::Default, replication::cluster),
    ("keyspace", Shown::Default, memory::keyspace),
];

/// The text for these section names (lower case; none: the default ones).
pub fn render(server: &Server, names: &[String]) -> String {
    let has = |name: &str| names.iter().any(|n| n == name);
    let (default, all) = (names.is_empty() || has("default"), has("all") || has("everything"));
    let mut out = String::new();
    for (name, shown, write) in SECTIONS {
        if all || has(name) || (default && *shown == Shown::Default) {
            let start = out.len();
            if start > 0 {
                out.push_str("\r\n");
            }
            write(server, &mut out);
        }
    }
    out
}

/// Bytes for people: `1.50M`.
fn human(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.2}K", value / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.2}M", value / 1_048_576.0),
        1_073_741_824..1_099_511_627_776 => format!("{:.2}G", value / 1_073_741_824.0),
        _ => format!("{:.2}T", value / 1_099_511_627_776.0),
    }
}

/// Appends one `name:value` line.
fn field(out: &mut String, name: &str, value: impl std::fmt::Display) {
    use std::fmt::Write as _;
    // Writing to a string cannot fail.
    let _ = write!(out, "{name}:{value}\r\n");
}

/// Fields which are zero because Pando has nothing that they count.
fn zeros(out: &mut String, names: &[&str]) {
    for name in names {
        field(out, name, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_for_people() {
        for (bytes, expected) in [(0, "0B"), (1023, "1023B"), (1536, "1.50K"), (1 << 20, "1.00M"), (3 << 30, "3.00G")] {
            assert_eq!(human(bytes), expected);
        }
    }
}
