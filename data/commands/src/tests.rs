// SPDX-License-Identifier: BSD-3-Clause
//! Tests of all families: replies recorded from the reference server (`tests/golden/*.txt`), and what the recordings
//! cannot show: log records, events, changed keys and the passing of time.

mod coverage;
mod dump;
mod effects;
mod hashes;
mod lists;
mod sets;
mod stream_effects;
mod time;
mod zset_effects;

use crate::testing::check_golden;

#[test]
fn strings_reply_as_recorded() {
    check_golden(include_str!("../tests/golden/strings.txt"));
}

#[test]
fn bitmaps_reply_as_recorded() {
    check_golden(include_str!("../tests/golden/bitmaps.txt"));
}

#[test]
fn keys_reply_as_recorded() {
    check_golden(include_str!("../tests/golden/keys.txt"));
}

#[test]
fn command_replies_as_recorded() {
    check_golden(include_str!("../tests/golden/command.txt"));
}
