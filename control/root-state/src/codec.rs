// SPDX-License-Identifier: BSD-3-Clause
//! A proposal as a command that any Valkey can execute, so that the roots' log is a plain AOF:
//!
//! ```text
//!   HSET metaspace:entry:<index>  kind AddSlots  request <32 hex digits>  stamp {"root":…}  node "<id>"  slots [[0,5460]]
//! ```
//! `kind` is the name of the variant, `stamp` says who put the entry into the log and when; each field of the variant is a field of the hash, its value as
//! JSON, in the order of their names. The Raft adapter may add fields of its own, whose names start
//! with `raft-`; they are ignored here. Writing an index again replaces all of it (the adapter deletes
//! the key first when it truncates its log).

use crate::command::{Command, Proposal, RequestId};
use crate::evidence::Stamp;
use serde_json::{Map, Value};

/// Fields of other layers in the same hash start so.
const FOREIGN: &str = "raft-";
const KEY: &str = "metaspace:entry:";

/// Why bytes are not a proposal.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not `HSET metaspace:entry:<index> field value ...`.
    #[error("not an entry of the metaspace")]
    NotAnEntry,
    /// A field is missing.
    #[error("the entry has no field '{0}'")]
    Missing(&'static str),
    /// A value is not UTF-8, not JSON or not of the right type.
    #[error("the entry is malformed: {0}")]
    Malformed(String),
}

/// The fields of a proposal and their values, in the order in which they are written.
pub fn encode_fields(proposal: &Proposal) -> Vec<(String, Vec<u8>)> {
    let (kind, body) = match to_value(&proposal.command) {
        Value::Object(variant) => variant.into_iter().next().unwrap_or_default(),
        other => (String::new(), other),
    };
    let mut fields = vec![
        ("kind".to_owned(), kind.into_bytes()),
        ("request".to_owned(), format!("{:032x}", proposal.request.0).into_bytes()),
        ("stamp".to_owned(), to_value(&proposal.stamp).to_string().into_bytes()),
    ];
    match body {
        Value::Object(map) => {
            let mut named: Vec<_> =
                map.into_iter().map(|(name, value)| (name, value.to_string().into_bytes())).collect();
            named.sort();
            fields.extend(named);
        }
        // Only a batch is not made of named fields.
        list => fields.push(("commands".to_owned(), list.to_string().into_bytes())),
    }
    fields
}

/// Reads what `encode_fields` wrote, in any order.
pub fn decode_fields<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Proposal, DecodeError> {
    let malformed = |e: &dyn std::fmt::Display| DecodeError::Malformed(e.to_string());
    let (mut kind, mut request, mut body, mut commands) = (None, None, Map::new(), None);
    let mut stamp = Stamp::default();
    for (name, value) in fields {
        let name = std::str::from_utf8(name).map_err(|e| malformed(&e))?;
        let text = std::str::from_utf8(value).map_err(|e| malformed(&e));
        match name {
            foreign if foreign.starts_with(FOREIGN) => {}
            "kind" => kind = Some(text?.to_owned()),
            "request" => request = Some(u128::from_str_radix(text?, 16).map_err(|e| malformed(&e))?),
            "stamp" => stamp = serde_json::from_str(text?).map_err(|e| malformed(&e))?,
            "commands" => commands = Some(serde_json::from_str(text?).map_err(|e| malformed(&e))?),
            field => {
                let value: Value = serde_json::from_str(text?).map_err(|e| malformed(&e))?;
                body.insert(field.to_owned(), value);
            }
        }
    }
    let kind = kind.ok_or(DecodeError::Missing("kind"))?;
    let body = commands.unwrap_or(Value::Object(body));
    let command: Command =
        serde_json::from_value(Value::Object(Map::from_iter([(kind, body)]))).map_err(|e| malformed(&e))?;
    Ok(Proposal { request: RequestId(request.ok_or(DecodeError::Missing("request"))?), command, stamp })
}

/// The whole AOF command for the entry at `index`.
pub fn to_argv(index: u64, proposal: &Proposal) -> Vec<Vec<u8>> {
    let mut argv = vec![b"HSET".to_vec(), format!("{KEY}{index}").into_bytes()];
    for (name, value) in encode_fields(proposal) {
        argv.push(name.into_bytes());
        argv.push(value);
    }
    argv
}

/// Reads what `to_argv` wrote.
pub fn from_argv<T: AsRef<[u8]>>(argv: &[T]) -> Result<(u64, Proposal), DecodeError> {
    let [command, key, fields @ ..] = argv else { return Err(DecodeError::NotAnEntry) };
    let index = std::str::from_utf8(key.as_ref()).ok().and_then(|k| k.strip_prefix(KEY)).and_then(|i| i.parse().ok());
    let (true, Some(index), 0) = (command.as_ref() == b"HSET", index, fields.len() % 2) else {
        return Err(DecodeError::NotAnEntry);
    };
    let pairs = fields.chunks_exact(2).map(|pair| (pair[0].as_ref(), pair[1].as_ref()));
    Ok((index, decode_fields(pairs)?))
}

/// Commands are maps with string keys, lists, strings and integers: JSON has room for all of them.
pub(crate) fn to_value<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
