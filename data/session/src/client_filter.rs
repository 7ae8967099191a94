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
const FLAGS: &[u8] = b"OSMPxbtRBdcuAUreTIN";

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Kind {
    Normal,
    Primary,
    Replica,
    PubSub,
}

/// See the head of this file. All that is given must hold.
#[derive(Default, Debug)]
pub(crate) struct Filter {
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

fn only_known(value: &[u8], known: &[u8], what: &str) -> Result<Vec<u8>, CommandError> {
    let unknown: Vec<u8> = value.iter().copied().filter(|flag| !known.contains(flag)).collect();
    if unknown.is_empty() {
        return Ok(value.to_vec());
    }
    Err(CommandError::format(format!("ERR Unknown {what} found in the provided filter: {}", text(&unknown))))
}

impl Filter {
    /// `CLIENT KILL ip:port`.
    pub(crate) fn by_addr(addr: &[u8]) -> Self {
        Self { addr: Some(addr.to_vec()), ..Self::default() }
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
                b"id" => rest = filter.parse_ids(more)?,
                b"type" => filter.kind = Some(parse_kind(value)?),
                b"addr" => filter.addr = Some(value.to_vec()),
                b"laddr" => filter.laddr = Some(value.to_vec()),
                b"ip" => filter.ip = Some(value.to_vec()),
                b"name" => filter.name = Some(value.to_vec()),
                b"lib-name" => filter.lib_name = Some(value.to_vec()),
                b"lib-ver" => filter.lib_ver = Some(value.to_vec()),
                b"flags" => filter.flags = Some(only_known(value, FLAGS, "flags")?),
                b"capa" => filter.capa = Some(only_known(value, b"r", "capa")?),
                b"maxage" => filter.max_age_s = Some(positive(value, "maxage")?),
                b"idle" => filter.idle_s = Some(positive(value, "idle")?),
                b"user" if *value == b"default" => {}
                b"user" => return Err(CommandError::format(format!("ERR No such user '{}'", text(value)))),
                b"db" => {
                    let db = num::parse_i64(value).ok_or(CommandError::text("ERR DB is not an integer or out of range"))?;
                    let db = u16::try_from(db).ok().filter(|db| *db < databases);
                    filter.db = Some(db.ok_or_else(|| {
                        CommandError::format(format!("ERR DB number should be between 0 and {}", databases - 1))
                    })?);
                }
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.skip_me = Some(true),
                b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.skip_me = Some(false),
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(filter)
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

    pub(crate) fn accepts(&self, engine: &Engine, client: &ClientShared, now_ms: u64) -> bool {
        let same = |wanted: &Option<Vec<u8>>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is.as_bytes());
        let age_s = now_ms.saturating_sub(client.created_ms) / 1000;
        let idle_s = now_ms.saturating_sub(client.last_active_ms.load(Relaxed)) / 1000;
        let names = client.names.lock().clone();
        let ip = client.addr.rsplit_once(':').map_or(client.addr.as_str(), |(ip, _)| ip);
        let has_flags = |wanted: &Option<Vec<u8>>, is: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.iter().all(|flag| is.as_bytes().contains(flag)))
        };
        (self.ids.is_empty() || self.ids.contains(&client.id))
            && self.kind.is_none_or(|kind| kind == kind_of(client))
            && same(&self.addr, &client.addr)
            && same(&self.laddr, &client.laddr)
            && same(&self.ip, ip.trim_matches(|c| c == '[' || c == ']'))
            && same(&self.name, &names.name)
            && same(&self.lib_name, &names.lib_name)
            && same(&self.lib_ver, &names.lib_ver)
            && self.db.is_none_or(|db| db == client.db.load(Relaxed))
            && self.max_age_s.is_none_or(|max| age_s >= max)
            && self.idle_s.is_none_or(|min| idle_s >= min)
            && (self.flags.is_none() || has_flags(&self.flags, &flags_of(engine, client)))
            && has_flags(&self.capa, capa_of(client))
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
