// SPDX-License-Identifier: BSD-3-Clause
//! Which commands this server has: the rows of the family files plus those that the session and server layers register by
//! name. Lookup is one multiply hash over the name without case, then open addressing; no allocation. A command of the
//! reference server without a handler is unknown, so COMMAND never promises what does not run.

use crate::context::DataFn;
use crate::hyperloglog;
use crate::set_algebra;
use crate::sets;
use crate::spec::{COMMAND_ID_COUNT, COMMANDS, CommandSpec};
use crate::{
    bitfield, bitmaps, bitop, blocking_lists, blocking_zsets, counters, databases, expire, get_set, hash_expire,
    hashes, keys, lcs, list_pops, lists, move_keys, object, ranges, scan, set, sort,
};
use crate::{geo, geo_search, zset_add, zset_combine, zset_pop, zset_range, zset_read};
use crate::{
    stream_add, stream_claim, stream_group, stream_info, stream_pending, stream_range, stream_read, stream_read_group,
    stream_trim,
};
use pando_resp::Args;

/// One row of a family's table.
pub(crate) struct Row {
    name: &'static str,
    run: DataFn,
}

/// Binds a name of `commands.json` to its handler.
pub(crate) const fn row(name: &'static str, run: DataFn) -> Row {
    Row { name, run }
}

const FAMILIES: &[&[Row]] = &[
    set::TABLE,
    get_set::TABLE,
    counters::TABLE,
    ranges::TABLE,
    lcs::TABLE,
    bitmaps::TABLE,
    bitop::TABLE,
    bitfield::TABLE,
    lists::TABLE,
    list_pops::TABLE,
    sort::TABLE,
    zset_add::TABLE,
    zset_read::TABLE,
    zset_range::TABLE,
    zset_pop::TABLE,
    zset_combine::TABLE,
    geo::TABLE,
    geo_search::TABLE,
    keys::TABLE,
    move_keys::TABLE,
    expire::TABLE,
    scan::TABLE,
    object::TABLE,
    blocking_lists::TABLE,
    blocking_zsets::TABLE,
    databases::TABLE,
    crate::dump::TABLE,
    sets::TABLE,
    hyperloglog::TABLE,
    set_algebra::TABLE,
    hashes::TABLE,
    hash_expire::TABLE,
    stream_add::TABLE,
    stream_trim::TABLE,
    stream_range::TABLE,
    stream_read::TABLE,
    stream_read_group::TABLE,
    stream_group::TABLE,
    stream_pending::TABLE,
    stream_claim::TABLE,
    stream_info::TABLE,
];

/// A number that the session layer chooses for a handler of its own.
pub type SessionCommandId = u16;

/// Who runs a command.
#[derive(Copy, Clone, Debug)]
pub enum Exec {
    /// A handler of this crate, run under the slot locks of its keys.
    Data(DataFn),
    /// A handler registered by an upper layer.
    Session(SessionCommandId),
}

/// Answer of [`Registry::lookup`].
#[derive(Copy, Clone, Debug)]
pub enum Lookup {
    /// Known, with the right number of arguments.
    Found(&'static CommandSpec, Exec),
    /// Known, but the argument count is wrong.
    WrongArity(&'static CommandSpec),
    /// Not known.
    UnknownCommand,
    /// The container is known, the subcommand is not.
    UnknownSubcommand(&'static CommandSpec),
}

/// A row names a command that `commands.json` does not have.
#[derive(Debug, thiserror::Error)]
#[error("command '{0}' is not in commands.json")]
pub struct UnknownRow(pub String);

const BUCKETS: usize = 1024;
const EMPTY: u16 = u16::MAX;

/// See the head of this file.
pub struct Registry {
    /// Hash table over `COMMANDS`: index of the spec, or `EMPTY`.
    buckets: Box<[u16; BUCKETS]>,
    /// By command id.
    exec: Vec<Option<Exec>>,
    /// By index in `COMMANDS`: the command itself or one of its subcommands has a handler.
    present: Vec<bool>,
    /// `rename-command`: other names, in lower case, and the index that they stand for.
    renamed: Vec<(Vec<u8>, u16)>,
}

/// A command cannot be renamed.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum RenameError {
    /// Nobody is called so.
    #[error("No such command in rename-command")]
    NoSuchCommand,
    /// The other name is taken.
    #[error("Target command name already exists")]
    NameTaken,
}

impl Registry {
    /// All data commands of this crate plus `extra` (names as in `commands.json`, `container|sub` for subcommands).
    ///
    /// # Panics
    /// When a name is not in `commands.json`: rows are constants, so this is a programming error found at first start.
    pub fn new(extra: &[(&'static str, SessionCommandId)]) -> Registry {
        let mut registry = Registry {
            buckets: Box::new([EMPTY; BUCKETS]),
            exec: vec![None; COMMAND_ID_COUNT],
            present: vec![false; COMMANDS.len()],
            renamed: Vec::new(),
        };
        for row in FAMILIES.iter().flat_map(|family| family.iter()) {
            registry.add(row.name, Exec::Data(row.run));
        }
        for (name, id) in extra {
            registry.add(name, Exec::Session(*id));
        }
        registry
    }

    /// Gives a command another name (`rename-command`); under the empty name nobody reaches it. A command of the
    /// reference server that is not there yet may be renamed without effect.
    pub fn rename(&mut self, name: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let Some(spec) = self.find(name) else {
            let is_known = COMMANDS.iter().any(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name));
            return if is_known { Ok(()) } else { Err(RenameError::NoSuchCommand) };
        };
        if !to.is_empty() && self.find(to).is_some() {
            return Err(RenameError::NameTaken);
        }
        let Some((_, index)) = top_level(spec.name) else { return Err(RenameError::NoSuchCommand) };
        self.renamed.retain(|(_, other)| usize::from(*other) != index);
        if !to.is_empty() {
            self.renamed.push((to.to_ascii_lowercase(), index as u16));
        }
        self.buckets.fill(EMPTY);
        self.present[index] = false;
        for index in 0..COMMANDS.len() {
            if self.present[index] {
                self.place(index);
            }
        }
        Ok(())
    }

    fn place(&mut self, index: usize) {
        let mut bucket = bucket_of(COMMANDS[index].name.as_bytes());
        while self.buckets[bucket] != EMPTY {
            bucket = (bucket + 1) % BUCKETS;
        }
        self.buckets[bucket] = index as u16;
    }

    fn add(&mut self, name: &str, exec: Exec) {
        let (top, index) = top_level(name).unwrap_or_else(|| panic!("{}", UnknownRow(name.to_owned())));
        let spec = match name.split_once('|') {
            None => top,
            Some((_, sub)) => {
                top.subcommand(sub.as_bytes()).unwrap_or_else(|| panic!("{}", UnknownRow(name.to_owned())))
            }
        };
        self.exec[usize::from(spec.id)] = Some(exec);
        if !self.present[index] {
            self.present[index] = true;
            self.place(index);
        }
    }

    /// Finds the command that `args` names, its subcommand resolved and the argument count checked.
    #[inline]
    pub fn lookup(&self, args: Args<'_>) -> Lookup {
        let Some(top) = args.first().and_then(|name| self.find(name)) else { return Lookup::UnknownCommand };
        let spec = match args.get(1) {
            Some(sub) if !top.subcommands.is_empty() => match top.subcommand(sub) {
                Some(spec) if self.exec[usize::from(spec.id)].is_some() => spec,
                _ => return Lookup::UnknownSubcommand(top),
            },
            _ => top,
        };
        if !spec.accepts_arity(args.len()) {
            return Lookup::WrongArity(spec);
        }
        match self.exec[usize::from(spec.id)] {
            Some(exec) => Lookup::Found(spec, exec),
            None => Lookup::WrongArity(spec),
        }
    }

    /// The top-level spec with this name, when it is implemented.
    pub fn find(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        let mut bucket = bucket_of(name);
        loop {
            let index = self.buckets[bucket];
            if index == EMPTY {
                let other = self.renamed.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                return other.map(|(_, index)| &COMMANDS[usize::from(*index)]);
            }
            let spec = &COMMANDS[usize::from(index)];
            if spec.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(spec);
            }
            bucket = (bucket + 1) % BUCKETS;
        }
    }

    /// The spec called `name` or `container|sub`, when it is implemented.
    pub fn find_full(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        let Some(bar) = name.iter().position(|byte| *byte == b'|') else { return self.find(name) };
        let sub = self.find(&name[..bar])?.subcommand(&name[bar + 1..])?;
        self.has(sub).then_some(sub)
    }

    /// True when the command (or, for a container, any of its subcommands) has a handler.
    pub fn has(&self, spec: &CommandSpec) -> bool {
        self.exec[usize::from(spec.id)].is_some()
            || spec.subcommands.iter().any(|sub| self.exec[usize::from(sub.id)].is_some())
    }

    /// All implemented top-level commands, by name.
    pub fn commands(&self) -> impl Iterator<Item = &'static CommandSpec> {
        COMMANDS.iter().zip(&self.present).filter(|(_, present)| **present).map(|(spec, _)| spec)
    }

    /// The implemented subcommands of a container, by name.
    pub fn subcommands(&self, spec: &'static CommandSpec) -> impl Iterator<Item = &'static CommandSpec> {
        spec.subcommands.iter().filter(|sub| self.has(sub))
    }
}

fn top_level(name: &str) -> Option<(&'static CommandSpec, usize)> {
    let container = name.split('|').next()?;
    let index = COMMANDS.binary_search_by(|spec| spec.name.cmp(container)).ok()?;
    Some((&COMMANDS[index], index))
}

/// The first and last eight bytes folded to lower case (`| 0x20` also maps other bytes, which only costs a comparison).
#[inline]
fn bucket_of(name: &[u8]) -> usize {
    let (head, tail) =
        if name.len() >= 8 { (word(&name[..8]), word(&name[name.len() - 8..])) } else { (word(name), 0) };
    let mixed = (head ^ tail.rotate_left(23) ^ name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 54) as usize
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0x20u8; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = from | 0x20;
    }
    u64::from_le_bytes(word)
}

/// The reply to a name nobody knows: at most 128 bytes of name and 128 bytes of arguments are repeated.
pub fn unknown_command_error(args: Args<'_>) -> String {
    let name = args.first().copied().unwrap_or(b"");
    let mut shown: Vec<u8> = Vec::with_capacity(160);
    for arg in args.iter().skip(1) {
        if shown.len() >= 128 {
            break;
        }
        let room = 128 - shown.len();
        shown.push(b'\'');
        shown.extend_from_slice(c_string(arg, room));
        shown.extend_from_slice(b"' ");
    }
    sanitize(&format!(
        "ERR unknown command '{}', with args beginning with: {}",
        String::from_utf8_lossy(c_string(name, 128)),
        String::from_utf8_lossy(&shown)
    ))
}

/// The reply to a subcommand nobody knows.
pub fn unknown_subcommand_error(container: &CommandSpec, args: Args<'_>) -> String {
    let sub = args.get(1).copied().unwrap_or(b"");
    sanitize(&format!(
        "ERR unknown subcommand '{}'. Try {} HELP.",
        String::from_utf8_lossy(c_string(sub, 128)),
        container.name.to_uppercase()
    ))
}

/// What `%.*s` prints: up to `max` bytes, stopping at a zero byte.
fn c_string(bytes: &[u8], max: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(max)];
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}

/// Line breaks would end the error line early.
fn sanitize(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}
