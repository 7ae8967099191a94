// SPDX-License-Identifier: BSD-3-Clause
//! What commands on consumer groups write to the log in place of themselves: the state of each pending entry as an XCLAIM
//! that needs no clock, the group's position as XGROUP SETID. Called by XREADGROUP, XCLAIM and XAUTOCLAIM.

use crate::context::Ctx;
use pando_values::{Group, Pending, StreamId, StreamIdText};

/// The state of an entry that was pending when it changed.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) id: StreamId,
    pub(crate) state: Pending,
    /// The group's position at that moment.
    pub(crate) last_id: StreamId,
    /// Name of the consumer.
    pub(crate) consumer: Vec<u8>,
}

/// A group's position.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Position {
    pub(crate) last_id: StreamId,
    pub(crate) entries_read: Option<i64>,
}

impl Position {
    pub(crate) fn of(group: &Group) -> Position {
        Position { last_id: group.last_id, entries_read: group.entries_read }
    }
}

/// `XCLAIM key group consumer 0 id TIME ms RETRYCOUNT n FORCE JUSTID LASTID id`
pub(crate) fn log_claim(ctx: &mut Ctx<'_, '_>, key: &[u8], group: &[u8], claimed: &Claimed) {
    let (mut id, mut last): (StreamIdText, StreamIdText) = ([0; 41], [0; 41]);
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    ctx.rewrite(&[
        b"XCLAIM",
        key,
        group,
        &claimed.consumer,
        b"0",
        claimed.id.text(&mut id),
        b"TIME",
        time.format(claimed.state.delivered_at_ms).as_bytes(),
        b"RETRYCOUNT",
        count.format(claimed.state.deliveries).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        claimed.last_id.text(&mut last),
    ]);
}

/// `XGROUP SETID key group id ENTRIESREAD n`
pub(crate) fn log_position(ctx: &mut Ctx<'_, '_>, key: &[u8], group: &[u8], position: Position) {
    let mut last: StreamIdText = [0; 41];
    let mut read = itoa::Buffer::new();
    let read = read.format(position.entries_read.unwrap_or(-1)).as_bytes();
    ctx.rewrite(&[b"XGROUP", b"SETID", key, group, position.last_id.text(&mut last), b"ENTRIESREAD", read]);
}

/// `XGROUP CREATECONSUMER key group consumer`
pub(crate) fn log_consumer(ctx: &mut Ctx<'_, '_>, key: &[u8], group: &[u8], consumer: &[u8]) {
    ctx.rewrite(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer]);
}
