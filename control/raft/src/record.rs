// SPDX-License-Identifier: BSD-3-Clause
//! The bytes of the log file: AOF commands in batches, each batch closed by a checksum line.
//!
//! ```text
//! batch := command+ "#pando-raft <sequence> <bytes of the commands> <crc32 of both and them>\r\n"
//!
//! HSET metaspace:raft format 1 cluster <id> voter <id>      first command of the file
//! HSET metaspace:raft vote "<term> <voter> <0|1 committed>"
//! HSET metaspace:entry:<index> raft-term <term> <fields>        metaspace command (control/root-state)
//! HSET metaspace:entry:<index> raft-term <term> raft-blank 1    first entry of a leader
//! HSET metaspace:entry:<index> raft-term <term> raft-members .. members, MessagePack
//! DEL metaspace:entry:<index> ...                               entries taken back, up to the last
//! HSET metaspace:raft committed "<term> <index>"
//! HSET metaspace:raft purged "<term> <index>"
//! ```
//!
//! A batch is what one fsync covers, and the next batch is written after that fsync: so only the
//! last batch of a file can be torn. `parse` cuts such a tail; a bad batch before a good one means
//! that synced bytes were lost, and nothing of the file can be trusted.
//! A stock Valkey can load the file: it is a plain AOF. No file is opened here.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::impls::leader_id_std::LeaderId;
use pando_formats::aof::{self, AofItem, AofReader};
use pando_wire::ClusterId;

use crate::VoterId;
use crate::types::{Entry, LogId, Membership, Payload, Vote, log_id, term_of};

const ENTRY_KEY: &str = "metaspace:entry:";
const META_KEY: &[u8] = b"metaspace:raft";
const FORMAT: &[u8] = b"1";
const MARK: &str = "pando-raft";

/// Whose file it is.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    pub cluster: ClusterId,
    pub voter: VoterId,
}

/// Everything that the file says.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    pub owner: Option<Owner>,
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub entries: BTreeMap<u64, Entry>,
}

/// What [`parse`] found besides the state.
#[derive(Debug)]
pub struct Parsed {
    pub state: LogState,
    /// Length of the good part.
    pub good_bytes: u64,
    /// Sequence number of the next batch.
    pub next_sequence: u64,
    /// What follows the good part.
    pub end: End,
}

/// How a file ends.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// With its last batch.
    Whole,
    /// With the beginning of a batch: it was never synced, or else it would be whole.
    Torn,
    /// With a batch that is complete and wrong. It may have been synced.
    Damaged,
}

pub fn put_owner(out: &mut Vec<u8>, owner: Owner) {
    let (cluster, voter) = (owner.cluster.to_string(), owner.voter.to_string());
    let args: [&[u8]; 8] =
        [b"HSET", META_KEY, b"format", FORMAT, b"cluster", cluster.as_bytes(), b"voter", voter.as_bytes()];
    aof::encode_command(out, &args);
}

pub fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    let text = format!("{} {} {}", vote.leader_id.term, vote.leader_id.voted_for, u8::from(vote.committed));
    put_meta(out, "vote", &text);
}

pub fn put_committed(out: &mut Vec<u8>, id: &LogId) {
    put_meta(out, "committed", &format!("{} {}", term_of(id), id.index));
}

pub fn put_purged(out: &mut Vec<u8>, id: &LogId) {
    put_meta(out, "purged", &format!("{} {}", term_of(id), id.index));
}

fn put_meta(out: &mut Vec<u8>, field: &str, text: &str) {
    let args: [&[u8]; 4] = [b"HSET", META_KEY, field.as_bytes(), text.as_bytes()];
    aof::encode_command(out, &args);
}

pub fn put_entry(out: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
    let key = entry_key(entry.log_id.index);
    let term = term_of(&entry.log_id).to_string();
    let mut args: Vec<&[u8]> = vec![b"HSET", key.as_bytes(), b"raft-term", term.as_bytes()];
    let encoded;
    match &entry.payload {
        EntryPayload::Blank => args.extend([&b"raft-blank"[..], b"1"]),
        EntryPayload::Normal(payload) => args.extend(payload.0.iter().map(|field| &field[..])),
        EntryPayload::Membership(members) => {
            encoded = rmp_serde::to_vec_named(members).map_err(io::Error::other)?;
            args.extend([&b"raft-members"[..], &encoded[..]]);
        }
    }
    aof::encode_command(out, &args);
    Ok(())
}

fn entry_key(index: u64) -> String {
    format!("{ENTRY_KEY}{index}")
}

fn index_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key).ok()?.strip_prefix(ENTRY_KEY)?.parse().ok()
}

/// Takes back the entries `first..=last`; nothing if there are none.
pub fn put_truncate(out: &mut Vec<u8>, first: u64, last: u64) {
    if first > last {
        return;
    }
    let mut args = vec!["DEL".to_owned()];
    args.extend((first..=last).map(entry_key));
    aof::encode_command(out, &args);
}

/// Closes the batch that `out` consists of.
pub fn close_batch(out: &mut Vec<u8>, sequence: u64) {
    let line = format!("{MARK} {sequence} {} {:08x}", out.len(), checksum(sequence, out));
    aof::encode_annotation(out, line.as_bytes());
}

fn checksum(sequence: u64, commands: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&sequence.to_le_bytes());
    crc.update(&(commands.len() as u64).to_le_bytes());
    crc.update(commands);
    crc.finalize()
}

/// A whole file that says what `state` says, as one batch.
pub fn put_all(state: &LogState) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if let Some(owner) = state.owner {
        put_owner(&mut out, owner);
    }
    if let Some(vote) = &state.vote {
        put_vote(&mut out, vote);
    }
    if let Some(id) = &state.purged {
        put_purged(&mut out, id);
    }
    for entry in state.entries.values() {
        put_entry(&mut out, entry)?;
    }
    if let Some(id) = &state.committed {
        put_committed(&mut out, id);
    }
    close_batch(&mut out, 0);
    Ok(out)
}

fn damaged(at: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the log of the roots is damaged at byte {at}: {what}"))
}

/// Reads a file. Fails if it is damaged anywhere but in its last batch; what is wrong with that says
/// [`Parsed::end`].
pub fn parse(file: &[u8]) -> io::Result<Parsed> {
    let mut parsed = Parsed { state: LogState::default(), good_bytes: 0, next_sequence: 0, end: End::Whole };
    loop {
        let at = parsed.good_bytes as usize;
        if at == file.len() {
            return Ok(parsed);
        }
        let Some(batch) = read_batch(&file[at..], parsed.next_sequence) else {
            if let Some(later) = find_batch(&file[at..], parsed.next_sequence) {
                return Err(damaged(parsed.good_bytes, &format!("a good batch follows {later} bytes later")));
            }
            if parsed.next_sequence == 0 {
                // The first batch is written with the file: it cannot be torn.
                return Err(damaged(0, "not a log of the roots"));
            }
            parsed.end = if is_cut_short(&file[at..]) { End::Torn } else { End::Damaged };
            return Ok(parsed);
        };
        for args in &batch.commands {
            apply(&mut parsed, args).map_err(|what| damaged(at as u64, what))?;
        }
        parsed.good_bytes += batch.bytes as u64;
        parsed.next_sequence += 1;
    }
}

/// Whether these bytes are the beginning of a batch, and nothing else.
fn is_cut_short(end: &[u8]) -> bool {
    let mut reader = AofReader::new();
    reader.push(end);
    loop {
        match reader.next() {
            Ok(Some(AofItem::Command { .. })) => {}
            Ok(None) => return true,
            // The closing line is there, so the commands before it should match it.
            Ok(Some(AofItem::Annotation { .. } | AofItem::Blank { .. })) | Err(_) => return false,
        }
    }
}

struct Batch {
    commands: Vec<Vec<Vec<u8>>>,
    /// With its checksum line.
    bytes: usize,
}

/// The batch at the front of `input`, if it is whole and has this number.
fn read_batch(input: &[u8], sequence: u64) -> Option<Batch> {
    let mut reader = AofReader::new();
    reader.push(input);
    let mut commands = Vec::new();
    let mut length = 0;
    loop {
        match reader.next().ok()?? {
            AofItem::Command { args, raw } => {
                length += raw.len();
                commands.push(args.into_iter().map(<[u8]>::to_vec).collect());
            }
            AofItem::Annotation { text, raw } => {
                let bytes = length + raw.len();
                let good = text == closing_line(sequence, &input[..length]).as_bytes() && raw.ends_with(b"\r\n");
                return good.then_some(Batch { commands, bytes });
            }
            AofItem::Blank { .. } => return None,
        }
    }
}

fn closing_line(sequence: u64, commands: &[u8]) -> String {
    format!("{MARK} {sequence} {} {:08x}", commands.len(), checksum(sequence, commands))
}

/// Whether a good batch with a number above `after` lies somewhere in `input`.
fn find_batch(input: &[u8], after: u64) -> Option<usize> {
    let needle = format!("#{MARK} ");
    let mut from = 0;
    while let Some(found) = find(&input[from..], needle.as_bytes()) {
        let line_at = from + found;
        from = line_at + 1;
        let line = &input[line_at + 1..];
        let line = &line[..line.iter().position(|b| *b == b'\r').unwrap_or(line.len())];
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split(' ').skip(1);
        let number = words.next().and_then(|w| w.parse::<u64>().ok());
        let length = words.next().and_then(|w| w.parse::<usize>().ok());
        let (Some(number), Some(length)) = (number, length) else { continue };
        if number > after && length <= line_at && line == closing_line(number, &input[line_at - length..line_at]) {
            return Some(line_at - length);
        }
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn apply(parsed: &mut Parsed, args: &[Vec<u8>]) -> Result<(), &'static str> {
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let state = &mut parsed.state;
    match args[..] {
        [b"HSET", key, b"format", format, b"cluster", cluster, b"voter", voter] if key == META_KEY => {
            if format != FORMAT {
                return Err("unknown format version");
            }
            let cluster = text(cluster)?.parse().map_err(|_| "bad cluster id")?;
            state.owner = Some(Owner { cluster, voter: number(voter)? });
        }
        [b"HSET", key, b"vote", value] if key == META_KEY => {
            let words: Vec<&str> = text(value)?.split(' ').collect();
            let [term, voter, committed] = words[..] else { return Err("bad vote") };
            state.vote = Some(Vote {
                leader_id: LeaderId { term: number(term.as_bytes())?, voted_for: number(voter.as_bytes())? },
                committed: committed == "1",
            });
        }
        [b"HSET", key, b"committed", value] if key == META_KEY => state.committed = Some(position(value)?),
        [b"HSET", key, b"purged", value] if key == META_KEY => {
            let id = position(value)?;
            state.purged = Some(id);
            state.entries = state.entries.split_off(&(id.index + 1));
        }
        [b"HSET", key, b"raft-term", term, ref fields @ ..] => {
            let index = index_of(key).ok_or("unknown record")?;
            let entry = entry(log_id(number(term)?, index), fields)?;
            let expected = match state.entries.last_key_value() {
                Some((last, _)) => Some(last + 1),
                None => state.purged.as_ref().map(|id| id.index + 1),
            };
            // The first entry of an empty log may have any index (a snapshot came before it).
            if expected.is_some_and(|expected| entry.log_id.index > expected) {
                return Err("entries are missing");
            }
            drop(state.entries.split_off(&index));
            state.entries.insert(index, entry);
        }
        [b"DEL", first, ..] => {
            let first = index_of(first).ok_or("unknown record")?;
            drop(state.entries.split_off(&first));
        }
        _ => return Err("unknown record"),
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| "not a text")
}

fn number(bytes: &[u8]) -> Result<u64, &'static str> {
    text(bytes)?.parse().map_err(|_| "not a number")
}

fn position(bytes: &[u8]) -> Result<LogId, &'static str> {
    let (term, index) = text(bytes)?.split_once(' ').ok_or("bad position")?;
    Ok(log_id(number(term.as_bytes())?, number(index.as_bytes())?))
}

fn entry(log_id: LogId, fields: &[&[u8]]) -> Result<Entry, &'static str> {
    let payload = match fields {
        [b"raft-blank", b"1"] => EntryPayload::Blank,
        [b"raft-members", members] => {
            let members: Membership = rmp_serde::from_slice(members).map_err(|_| "bad membership")?;
            EntryPayload::Membership(members)
        }
        _ => EntryPayload::Normal(Payload(fields.iter().map(|field| Bytes::copy_from_slice(field)).collect())),
    };
    Ok(Entry { log_id, payload })
}
