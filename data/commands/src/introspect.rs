// SPDX-License-Identifier: BSD-3-Clause
//! COMMAND and its subcommands, as functions from the registry to a reply. They are not rows of a family because only the
//! session layer holds the registry; it registers them and calls [`command`].

use crate::error::CommandError;
use crate::glob;
use crate::key_positions::{KeyVec, keys_of};
use crate::object::reply_help;
use crate::registry::{Lookup, Registry};
use crate::spec::{
    AclCategories, ArgDoc, BeginSearch, CATEGORY_NAMES, CommandSpec, FLAG_NAMES, FindKeys, Flags, KEY_FLAG_NAMES,
    KeyFlags, KeySpec,
};
use pando_resp::{Args, ReplyBuf};

/// Names to register for [`command`].
pub const NAMES: [&str; 8] = [
    "command",
    "command|count",
    "command|info",
    "command|docs",
    "command|list",
    "command|getkeys",
    "command|getkeysandflags",
    "command|help",
];

/// Runs COMMAND with any of its subcommands; the argument count was checked by the lookup.
pub fn command(registry: &Registry, args: Args<'_>, reply: &mut ReplyBuf) -> Result<(), CommandError> {
    let Some(sub) = args.get(1) else {
        return command_all(registry, reply);
    };
    let rest = &args[2..];
    match sub.to_ascii_lowercase().as_slice() {
        b"count" => reply.int(registry.commands().count() as i64),
        b"info" if rest.is_empty() => command_all(registry, reply)?,
        b"info" => {
            reply.array(rest.len());
            for name in rest {
                match registry.find_full(name) {
                    Some(spec) => info(registry, spec, reply),
                    None => reply.null(),
                }
            }
        }
        b"docs" => docs(registry, rest, reply),
        b"list" => list(registry, rest, reply)?,
        b"getkeys" => get_keys(registry, rest, false, reply)?,
        b"getkeysandflags" => get_keys(registry, rest, true, reply)?,
        _ => help(reply),
    }
    Ok(())
}

fn command_all(registry: &Registry, reply: &mut ReplyBuf) -> Result<(), CommandError> {
    reply.array(registry.commands().count());
    for spec in registry.commands() {
        info(registry, spec, reply);
    }
    Ok(())
}

/// One element of COMMAND INFO.
fn info(registry: &Registry, spec: &'static CommandSpec, reply: &mut ReplyBuf) {
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.int(i64::from(spec.arity));
    named_bits(spec.flags.0, &FLAG_NAMES, "", reply);
    reply.int(i64::from(spec.first_key));
    reply.int(i64::from(spec.last_key));
    reply.int(i64::from(spec.step));
    named_bits(spec.acl.0, &CATEGORY_NAMES, "@", reply);
    reply.set(spec.tips.len());
    for tip in spec.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(spec.key_specs.len());
    for key_spec in spec.key_specs {
        key_spec_map(key_spec, reply);
    }
    reply.array(registry.subcommands(spec).count());
    for sub in registry.subcommands(spec) {
        info(registry, sub, reply);
    }
}

/// A set of simple strings, one for each bit that has a name.
fn named_bits(bits: u64, names: &[&str], prefix: &str, reply: &mut ReplyBuf) {
    let named = |index: &usize| bits >> index & 1 == 1;
    reply.set((0..names.len()).filter(named).count());
    for index in (0..names.len()).filter(named) {
        if prefix.is_empty() {
            reply.simple(names[index]);
        } else {
            reply.simple(&format!("{prefix}{}", names[index]));
        }
    }
}

fn key_flags(flags: KeyFlags, reply: &mut ReplyBuf) {
    named_bits(u64::from(flags.0), &KEY_FLAG_NAMES, "", reply);
}

fn key_spec_map(spec: &KeySpec, reply: &mut ReplyBuf) {
    reply.map(if spec.notes.is_empty() { 3 } else { 4 });
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    key_flags(spec.flags, reply);
    reply.bulk(b"begin_search");
    match spec.begin_search {
        BeginSearch::Index(index) => typed_spec("index", &[("index", Field::Int(index))], reply),
        BeginSearch::Keyword { keyword, start_from } => {
            typed_spec("keyword", &[("keyword", Field::Text(keyword)), ("startfrom", Field::Int(start_from))], reply);
        }
        BeginSearch::Unknown => typed_spec("unknown", &[], reply),
    }
    reply.bulk(b"find_keys");
    match spec.find_keys {
        FindKeys::Range { last_key, step, limit } => typed_spec(
            "range",
            &[("lastkey", Field::Int(last_key)), ("keystep", Field::Int(step)), ("limit", Field::Int(limit))],
            reply,
        ),
        FindKeys::KeyNum { key_num_index, first_key, step } => typed_spec(
            "keynum",
            &[
                ("keynumidx", Field::Int(key_num_index)),
                ("firstkey", Field::Int(first_key)),
                ("keystep", Field::Int(step)),
            ],
            reply,
        ),
        FindKeys::Unknown => typed_spec("unknown", &[], reply),
    }
}

enum Field {
    Int(i16),
    Text(&'static str),
}

fn typed_spec(kind: &str, fields: &[(&str, Field)], reply: &mut ReplyBuf) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields.len());
    for (name, field) in fields {
        reply.bulk(name.as_bytes());
        match field {
            Field::Int(value) => reply.int(i64::from(*value)),
            Field::Text(text) => reply.bulk(text.as_bytes()),
        }
    }
}

fn docs(registry: &Registry, names: &[&[u8]], reply: &mut ReplyBuf) {
    if names.is_empty() {
        reply.map(registry.commands().count());
        for spec in registry.commands() {
            doc_entry(registry, spec, reply);
        }
        return;
    }
    let found: Vec<_> = names.iter().filter_map(|name| registry.find_full(name)).collect();
    reply.map(found.len());
    for spec in found {
        doc_entry(registry, spec, reply);
    }
}

fn doc_entry(registry: &Registry, spec: &'static CommandSpec, reply: &mut ReplyBuf) {
    reply.bulk(spec.name.as_bytes());
    let texts = [("summary", spec.summary), ("since", spec.since), ("group", spec.group)];
    let after = [("deprecated_since", spec.deprecated_since), ("replaced_by", spec.replaced_by)];
    let subcommands = registry.subcommands(spec).count();
    let present = |(_, text): &&(&str, &str)| !text.is_empty();
    reply.map(
        texts.iter().filter(present).count()
            + after.iter().filter(present).count()
            + usize::from(!spec.doc_flags.is_empty())
            + usize::from(!spec.args.is_empty())
            + usize::from(subcommands > 0),
    );
    bulk_pairs(&texts, reply);
    if !spec.doc_flags.is_empty() {
        reply.bulk(b"doc_flags");
        simple_set(spec.doc_flags, reply);
    }
    bulk_pairs(&after, reply);
    if !spec.args.is_empty() {
        reply.bulk(b"arguments");
        arguments(spec.args, reply);
    }
    if subcommands > 0 {
        reply.bulk(b"subcommands");
        reply.map(subcommands);
        for sub in registry.subcommands(spec) {
            doc_entry(registry, sub, reply);
        }
    }
}

fn bulk_pairs(pairs: &[(&str, &str)], reply: &mut ReplyBuf) {
    for (name, text) in pairs.iter().filter(|(_, text)| !text.is_empty()) {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
}

fn simple_set(names: &[&str], reply: &mut ReplyBuf) {
    reply.set(names.len());
    for name in names {
        reply.simple(name);
    }
}

fn arguments(list: &[ArgDoc], reply: &mut ReplyBuf) {
    reply.array(list.len());
    for argument in list {
        let texts = [("since", argument.since), ("deprecated_since", argument.deprecated_since)];
        reply.map(
            2 + usize::from(!argument.display_text.is_empty())
                + usize::from(argument.key_spec >= 0)
                + usize::from(argument.token.is_some())
                + texts.iter().filter(|(_, text)| !text.is_empty()).count()
                + usize::from(!argument.flags.is_empty())
                + usize::from(!argument.args.is_empty()),
        );
        bulk_pairs(&[("name", argument.name), ("type", argument.kind), ("display_text", argument.display_text)], reply);
        if argument.key_spec >= 0 {
            reply.bulk(b"key_spec_index");
            reply.int(i64::from(argument.key_spec));
        }
        if let Some(token) = argument.token {
            reply.bulk(b"token");
            reply.bulk(token.as_bytes());
        }
        bulk_pairs(&texts, reply);
        if !argument.flags.is_empty() {
            reply.bulk(b"flags");
            simple_set(argument.flags, reply);
        }
        if !argument.args.is_empty() {
            reply.bulk(b"arguments");
            arguments(argument.args, reply);
        }
    }
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]. Filters also see subcommands.
fn list(registry: &Registry, args: &[&[u8]], reply: &mut ReplyBuf) -> Result<(), CommandError> {
    let mut names: Vec<&str> = Vec::new();
    let mut collect = |keep: &dyn Fn(&CommandSpec) -> bool| {
        for spec in registry.commands() {
            names.extend(keep(spec).then_some(spec.name));
            names.extend(registry.subcommands(spec).filter(|sub| keep(sub)).map(|sub| sub.name));
        }
    };
    match args {
        [] => collect(&|_| true),
        [by, kind, value] if by.eq_ignore_ascii_case(b"filterby") => {
            if kind.eq_ignore_ascii_case(b"aclcat") {
                if let Some(category) = AclCategories::by_name(value) {
                    collect(&|spec| spec.acl.has(category));
                }
            } else if kind.eq_ignore_ascii_case(b"pattern") {
                collect(&|spec| glob::matches_ignore_case(value, spec.name.as_bytes()));
            } else if !kind.eq_ignore_ascii_case(b"module") {
                return Err(CommandError::Syntax);
            }
        }
        _ => return Err(CommandError::Syntax),
    }
    reply.array(names.len());
    for name in names {
        reply.bulk(name.as_bytes());
    }
    Ok(())
}

fn get_keys(registry: &Registry, args: &[&[u8]], with_flags: bool, reply: &mut ReplyBuf) -> Result<(), CommandError> {
    let spec = match registry.lookup(args) {
        Lookup::Found(spec, _) => spec,
        Lookup::WrongArity(spec) if spec.has_keys() => {
            return Err(CommandError::text("ERR Invalid number of arguments specified for command"));
        }
        Lookup::WrongArity(_) => return Err(CommandError::text("ERR The command has no key arguments")),
        Lookup::UnknownCommand | Lookup::UnknownSubcommand(_) => {
            return Err(CommandError::text("ERR Invalid command specified"));
        }
    };
    if spec.key_specs.iter().all(|key_spec| key_spec.flags.has(KeyFlags::NOT_KEY)) {
        return Err(CommandError::text("ERR The command has no key arguments"));
    }
    let mut keys = KeyVec::new();
    if let Err(error) = keys_of(spec, args, &mut keys) {
        if !spec.flags.has(Flags::NO_MANDATORY_KEYS) {
            return Err(CommandError::format(error.to_string()));
        }
        keys.clear();
    }
    reply.array(keys.len());
    for key in keys {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(args[key.index as usize]);
        if with_flags {
            key_flags(key.flags, reply);
        }
    }
    Ok(())
}

fn help(reply: &mut ReplyBuf) {
    reply_help(
        reply,
        "COMMAND",
        &[
            "(no subcommand)",
            "    Return details about all commands.",
            "COUNT",
            "    Return the total number of commands in this server.",
            "LIST",
            "    Return a list of all commands in this server.",
            "INFO [<command-name> ...]",
            "    Return details about multiple commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "DOCS [<command-name> ...]",
            "    Return documentation details about multiple commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "GETKEYS <full-command>",
            "    Return the keys from a full command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Return the keys and the access flags from a full command.",
        ],
    );
}
