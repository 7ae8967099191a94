// SPDX-License-Identifier: BSD-3-Clause
//! LCS: the longest common subsequence of two strings, by the usual table of prefix lengths.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::lookup::{Access, Intent, require_string};
use crate::registry::{Row, row};
use pando_keyspace::IntText;
use pando_resp::Args;

pub(crate) const TABLE: &[Row] = &[row("lcs", lcs)];

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: u64,
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN n] [WITHMATCHLEN]
fn lcs(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let a = text_of(ctx, args[1]);
    let b = text_of(ctx, args[2]);
    let (Some(a), Some(b)) = (a, b) else {
        return Err(CommandError::text("ERR The specified keys must contain string values"));
    };
    let options = read_options(&args[3..])?;
    if a.len() >= u32::MAX as usize - 1 || b.len() >= u32::MAX as usize - 1 {
        return Err(CommandError::text("ERR String too long for LCS"));
    }
    let cells = (a.len() as u64 + 1) * (b.len() as u64 + 1);
    let too_big = cells.checked_mul(4).is_none_or(|bytes| bytes > ctx.env.proto_max_bulk_len);
    if too_big {
        return Err(CommandError::text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"));
    }
    let table = Table::build(&a, &b);
    if options.idx {
        reply_matches(ctx, &a, &b, &table, &options);
    } else if options.len {
        ctx.reply.int(i64::from(table.at(a.len(), b.len())));
    } else {
        ctx.reply.bulk(&table.subsequence(&a, &b));
    }
    Ok(())
}

/// The string at `key`, empty when absent; `None` when it is not a string.
fn text_of(ctx: &mut Ctx<'_, '_>, key: &[u8]) -> Option<Vec<u8>> {
    ctx.with_value(key, Intent::Read, Access::Touch, |value, _| {
        require_string(value).ok()?;
        Some(value.map_or_else(Vec::new, |value| value.as_bytes(&mut IntText::new()).to_vec()))
    })
}

fn read_options(args: &[&[u8]]) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let mut at = 0;
    while at < args.len() {
        if is_word(args[at], "IDX") {
            options.idx = true;
        } else if is_word(args[at], "LEN") {
            options.len = true;
        } else if is_word(args[at], "WITHMATCHLEN") {
            options.with_match_len = true;
        } else if is_word(args[at], "MINMATCHLEN") && at + 1 < args.len() {
            options.min_match_len = integer(args[at + 1])?.max(0).cast_unsigned();
            at += 1;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    if options.len && options.idx {
        return Err(CommandError::text("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(options)
}

/// `at(i, j)` is the length of the LCS of the first `i` bytes of one string and the first `j` of the other.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn build(a: &[u8], b: &[u8]) -> Table {
        let width = b.len() + 1;
        let mut cells = vec![0u32; width * (a.len() + 1)];
        for (i, from_a) in a.iter().enumerate() {
            let (above, row) = cells[i * width..(i + 2) * width].split_at_mut(width);
            for (j, from_b) in b.iter().enumerate() {
                row[j + 1] = if from_a == from_b { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Table { cells, width }
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }

    /// Walks back from the end; `visit(i, j, is_match)` sees each step, the indexes before it, and stops the walk with false.
    fn walk_back(&self, a: &[u8], b: &[u8], mut visit: impl FnMut(usize, usize, bool)) {
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            let is_match = a[i - 1] == b[j - 1];
            visit(i, j, is_match);
            if is_match {
                i -= 1;
                j -= 1;
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }

    fn subsequence(&self, a: &[u8], b: &[u8]) -> Vec<u8> {
        let mut result = Vec::with_capacity(self.at(a.len(), b.len()) as usize);
        self.walk_back(a, b, |i, _, is_match| {
            if is_match {
                result.push(a[i - 1]);
            }
        });
        result.reverse();
        result
    }
}

/// Ranges of consecutive matches, last first, then the total length.
fn reply_matches(ctx: &mut Ctx<'_, '_>, a: &[u8], b: &[u8], table: &Table, options: &Options) {
    // Start in `a`, start in `b`, length.
    let mut ranges: Vec<(usize, usize, usize)> = Vec::new();
    let mut open: Option<(usize, usize, usize)> = None;
    table.walk_back(a, b, |i, j, is_match| {
        open = match (open, is_match) {
            (Some((start_a, start_b, len)), true) if start_a == i && start_b == j => Some((i - 1, j - 1, len + 1)),
            (range, is_match) => {
                ranges.extend(range);
                is_match.then_some((i - 1, j - 1, 1))
            }
        };
    });
    ranges.extend(open);
    ranges.retain(|(_, _, len)| *len as u64 >= options.min_match_len);
    let reply = &mut *ctx.reply;
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(ranges.len());
    for (start_a, start_b, len) in ranges {
        reply.array(if options.with_match_len { 3 } else { 2 });
        for start in [start_a, start_b] {
            reply.array(2);
            reply.int(start as i64);
            reply.int((start + len - 1) as i64);
        }
        if options.with_match_len {
            reply.int(len as i64);
        }
    }
    reply.bulk(b"len");
    reply.int(i64::from(table.at(a.len(), b.len())));
}
