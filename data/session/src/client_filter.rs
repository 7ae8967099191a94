// SPDX-License-Identifier: BSD-3-Clause
//! The filters of CLIENT LIST and CLIENT KILL.

use crate::client_command::{capa_of, flags_of};
use crate::clients::{ClientKind, ClientShared};
use crate::context::SessionCx;
use crate::engine::Engine;
use pando_commands::CommandError;
use pando_resp::{Args, num};
use std::sync::atomic::Ordering::Relaxed;

/// Flags that a filter may name.
const FLAGS: &[u8] = b"OSMPxbtRBdcuAUreTIiEN";

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Kind {
    Normal,
    Primary,
    Replica,
    PubSub,
}

/// What may be asked for as it is, and with `NOT-` for its contrary.
#[derive(Default, Debug)]
struct Criteria {
    ids: Vec<u64>,
    kind: Option<Kind>,
    addr: Option<Vec<u8>>,
    laddr: Option<Vec<u8>>,
    ip: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    lib_name: Option<Vec<u8>>,
    lib_ver: Option<Vec<u8>>,
    flags: Option<Vec<u8>>,
    capa: Option<Vec<u8>>,
    db: Option<u16>,
    /// Every client is the default user.
    user: bool,
}

/// See the head of this file. All that is given must hold.
#[derive(Default, Debug)]
pub(crate) struct Filter {
    wanted: Criteria,
    unwanted: Criteria,
    max_age_s: Option<u64>,
    idle_s: Option<u64>,
    /// SKIPME; what holds without it depends on the command.
    pub skip_me: Option<bool>,
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn positive(value: &[u8], what: &str) -> Result<u64, CommandError> {
    let number = num::parse_i64(value)
        .ok_or_else(|| CommandError::format(format!("ERR {what} is not an integer or out of range")))?;
    match u64::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(CommandError::format(format!("ERR {what} should be greater than 0"))),
    }
}

fn only_known(value: &[u8], known: &[u8], what: &str, filter: &str) -> Result<Vec<u8>, CommandError> {
    if value.iter().all(|flag| known.contains(flag)) {
        return Ok(value.to_vec());
    }
    Err(CommandError::format(format!("ERR Unknown {what} found in the {filter} filter: {}", text(value))))
}

impl Filter {
    /// `CLIENT KILL ip:port`.
    pub(crate) fn by_addr(addr: &[u8]) -> Self {
        Self { wanted: Criteria { addr: Some(addr.to_vec()), ..Criteria::default() }, ..Self::default() }
    }

    /// Parses the options after the subcommand.
    pub(crate) fn parse(cx: &mut SessionCx<'_>, mut rest: Args<'_>) -> Result<Self, CommandError> {
        let mut filter = Self::default();
        let databases = cx.worker.settings().databases;
        while let [option, more @ ..] = rest {
            let [value, after @ ..] = more else { return Err(CommandError::Syntax) };
            let option = option.to_ascii_lowercase();
            rest = after;
            match option.as_slice() {
                b"maxage" => filter.max_age_s = Some(positive(value, "maxage")?),
                b"idle" => filter.idle_s = Some(positive(value, "idle")?),
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.skip_me = Some(true),
                b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.skip_me = Some(false),
                b"id" => rest = filter.wanted.parse_ids(more)?,
                b"not-id" => rest = filter.unwanted.parse_ids(more)?,
                name => match name.strip_prefix(b"not-") {
                    Some(name) => filter.unwanted.parse(name, value, databases, true)?,
                    None => filter.wanted.parse(name, value, databases, false)?,
                },
            }
        }
        Ok(filter)
    }

    pub(crate) fn accepts(&self, engine: &Engine, client: &ClientShared, now_ms: u64) -> bool {
        let age_s = now_ms.saturating_sub(client.created_ms) / 1000;
        let idle_s = now_ms.saturating_sub(client.last_active_ms.load(Relaxed)) / 1000;
        self.max_age_s.is_none_or(|max| age_s >= max)
            && self.idle_s.is_none_or(|min| idle_s >= min)
            && self.wanted.check(engine, client).all(|holds| holds)
            && !self.unwanted.check(engine, client).any(|holds| holds)
    }
}

impl Criteria {
    fn parse(&mut self, name: &[u8], value: &[u8], databases: u16, is_negated: bool) -> Result<(), CommandError> {
        let filter = |of: &'static str| if is_negated { of } else { "provided" };
        let bytes = || Some(value.to_vec());
        match name {
            b"type" => self.kind = Some(parse_kind(value)?),
            b"addr" => self.addr = bytes(),
            b"laddr" => self.laddr = bytes(),
            b"ip" => self.ip = bytes(),
            b"name" => self.name = bytes(),
            b"lib-name" => self.lib_name = bytes(),
            b"lib-ver" => self.lib_ver = bytes(),
            b"flags" => self.flags = Some(only_known(value, FLAGS, "flags", filter("NOT-FLAGS"))?),
            b"capa" => self.capa = Some(only_known(value, b"r", "capa", filter("NOT-CAPA"))?),
            b"user" if value == b"default" => self.user = true,
            b"user" => return Err(CommandError::format(format!("ERR No such user '{}'", text(value)))),
            b"db" => {
                let what = if is_negated { "NOT-DB" } else { "DB" };
                let not_integer = || CommandError::format(format!("ERR {what} is not an integer or out of range"));
                let db = num::parse_i64(value).ok_or_else(not_integer)?;
                let db = u16::try_from(db).ok().filter(|db| *db < databases);
                self.db = Some(db.ok_or_else(|| {
                    CommandError::format(format!("ERR {what} number should be between 0 and {}", databases - 1))
                })?);
            }
            _ => return Err(CommandError::Syntax),
        }
        Ok(())
    }

    /// Takes numbers as long as there are some; returns what follows.
    fn parse_ids<'a>(&mut self, values: Args<'a>) -> Result<Args<'a>, CommandError> {
        let mut rest = values;
        while let [value, after @ ..] = rest {
            let Some(id) = num::parse_i64(value) else { break };
            let id = u64::try_from(id).ok().filter(|id| *id > 0);
            self.ids.push(id.ok_or(CommandError::text("ERR client-id should be greater than 0"))?);
            rest = after;
        }
        if self.ids.is_empty() { Err(CommandError::Syntax) } else { Ok(rest) }
    }

    /// Of each criterion that is given, whether the client meets it.
    fn check(&self, engine: &Engine, client: &ClientShared) -> impl Iterator<Item = bool> {
        let same = |wanted: &Option<Vec<u8>>, is: &str| wanted.as_deref().map(|wanted| wanted == is.as_bytes());
        let has_flags = |wanted: &Option<Vec<u8>>, is: &dyn Fn() -> String| {
            wanted.as_deref().map(|wanted| {
                let is = is();
                wanted.iter().all(|flag| is.as_bytes().contains(flag))
            })
        };
        let names = client.names.lock().clone();
        let ip = client.addr.rsplit_once(':').map_or(client.addr.as_str(), |(ip, _)| ip);
        [
            (!self.ids.is_empty()).then(|| self.ids.contains(&client.id)),
            self.kind.map(|kind| kind == kind_of(client)),
            same(&self.addr, &client.addr),
            same(&self.laddr, &client.laddr),
            same(&self.ip, ip.trim_matches(|c| c == '[' || c == ']')),
            same(&self.name, &names.name),
            same(&self.lib_name, &names.lib_name),
            same(&self.lib_ver, &names.lib_ver),
            self.db.map(|db| db == client.db.load(Relaxed)),
            has_flags(&self.flags, &|| flags_of(engine, client)),
            has_flags(&self.capa, &|| capa_of(client).to_owned()),
            self.user.then_some(true),
        ]
        .into_iter()
        .flatten()
    }
}

fn kind_of(client: &ClientShared) -> Kind {
    match client.kind() {
        ClientKind::Primary => Kind::Primary,
        ClientKind::Replica => Kind::Replica,
        ClientKind::Normal if client.is_subscribed() => Kind::PubSub,
        ClientKind::Normal => Kind::Normal,
    }
}

fn parse_kind(value: &[u8]) -> Result<Kind, CommandError> {
    match value.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Kind::Normal),
        b"master" | b"primary" => Ok(Kind::Primary),
        b"slave" | b"replica" => Ok(Kind::Replica),
        b"pubsub" => Ok(Kind::PubSub),
        _ => Err(CommandError::format(format!("ERR Unknown client type '{}'", text(value)))),
    }
}
