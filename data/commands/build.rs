// SPDX-License-Identifier: BSD-3-Clause
//! Turns `commands.json` (facts read off a running Valkey), `pando.json` (subcommands that only Pando has) and
//! `summaries.json` (our own one-line texts) into the static tables that `src/spec.rs` includes. It knows nothing about handlers: which commands run is decided by the rows of the
//! family files.

use serde_json::Value;
use std::fmt::Write as _;
use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=commands.json");
    println!("cargo::rerun-if-changed=pando.json");
    println!("cargo::rerun-if-changed=summaries.json");
    println!("cargo::rerun-if-changed=build.rs");
    let root: Value = read_json("commands.json");
    let own: Value = read_json("pando.json");
    let summaries: Value = read_json("summaries.json");
    let mut commands: Vec<&Value> = array(&root, "commands").iter().collect();
    commands.sort_by_key(|command| text(command, "name"));
    let mut out = Generator { own, summaries, next_id: 0 };
    let mut rows = String::new();
    for command in &commands {
        rows.push_str(&out.command(command));
        rows.push_str(",\n");
    }
    let count = commands.len();
    let ids = out.next_id;
    let code = format!(
        "/// Every command of the reference server, sorted by name; containers hold their subcommands.\n\
         pub static COMMANDS: [CommandSpec; {count}] = [\n{rows}];\n\
         /// Ids of commands and subcommands are below this.\n\
         pub const COMMAND_ID_COUNT: usize = {ids};\n"
    );
    let path = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("command_table.rs");
    fs::write(path, code).expect("the output directory is writable");
}

fn read_json(name: &str) -> Value {
    let text = fs::read_to_string(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

struct Generator {
    own: Value,
    summaries: Value,
    next_id: u16,
}

impl Generator {
    fn command(&mut self, command: &Value) -> String {
        let id = self.next_id;
        self.next_id += 1;
        let name = text(command, "name");
        let own = self.own.clone();
        let own = array(&own, "subcommands").iter().filter(|sub| text(sub, "container") == name);
        let mut subcommands: Vec<&Value> = array(command, "subcommands").iter().chain(own).collect();
        subcommands.sort_by_key(|sub| text(sub, "name"));
        let subs: Vec<String> = subcommands.iter().map(|sub| self.command(sub)).collect();
        let summary =
            self.summaries.get(name).and_then(Value::as_str).unwrap_or_else(|| text(command, "summary")).to_owned();
        let mut out = String::new();
        write!(
            out,
            "CommandSpec {{ id: {id}, name: {name:?}, arity: {}, flags: Flags({}), acl: AclCategories({}), first_key: {}, \
             last_key: {}, step: {}, key_specs: {}, tips: &{:?}, since: {:?}, group: {:?}, summary: {summary:?}, doc_flags: &{:?}, \
             deprecated_since: {:?}, replaced_by: {:?}, subcommands: &[{}], args: {} }}",
            int(command, "arity"),
            flag_bits(command, name),
            category_bits(command),
            int(command, "first_key"),
            int(command, "last_key"),
            int(command, "step"),
            self.key_specs(command),
            texts(command, "tips"),
            text(command, "since"),
            text(command, "group"),
            texts(command, "doc_flags"),
            text(command, "deprecated_since"),
            text(command, "replaced_by"),
            subs.join(",\n"),
            self.arguments(command),
        )
        .expect("writing to a string");
        out
    }

    fn key_specs(&self, command: &Value) -> String {
        let specs: Vec<String> = array(command, "key_specs").iter().map(key_spec).collect();
        format!("&[{}]", specs.join(", "))
    }

    fn arguments(&self, owner: &Value) -> String {
        let arguments: Vec<String> = array(owner, "arguments")
            .iter()
            .map(|argument| {
                let key_spec = argument.get("key_spec_index").and_then(Value::as_i64).unwrap_or(-1);
                let token = match argument.get("token").and_then(Value::as_str) {
                    Some(token) => format!("Some({token:?})"),
                    None => "None".to_owned(),
                };
                format!(
                    "ArgDoc {{ name: {:?}, kind: {:?}, display_text: {:?}, token: {token}, since: {:?}, deprecated_since: {:?}, \
                     key_spec: {key_spec}, flags: &{:?}, args: {} }}",
                    text(argument, "name"),
                    text(argument, "type"),
                    text(argument, "display_text"),
                    text(argument, "since"),
                    text(argument, "deprecated_since"),
                    texts(argument, "flags"),
                    self.arguments(argument),
                )
            })
            .collect();
        format!("&[{}]", arguments.join(", "))
    }
}

fn key_spec(spec: &Value) -> String {
    let begin = &spec["begin_search"];
    let begin_spec = &begin["spec"];
    let begin = match text(begin, "type") {
        "index" => format!("BeginSearch::Index({})", int(begin_spec, "index")),
        "keyword" => format!(
            "BeginSearch::Keyword {{ keyword: {:?}, start_from: {} }}",
            text(begin_spec, "keyword"),
            int(begin_spec, "startfrom")
        ),
        _ => "BeginSearch::Unknown".to_owned(),
    };
    let find = &spec["find_keys"];
    let find_spec = &find["spec"];
    let find = match text(find, "type") {
        "range" => format!(
            "FindKeys::Range {{ last_key: {}, step: {}, limit: {} }}",
            int(find_spec, "lastkey"),
            int(find_spec, "keystep"),
            int(find_spec, "limit")
        ),
        "keynum" => format!(
            "FindKeys::KeyNum {{ key_num_index: {}, first_key: {}, step: {} }}",
            int(find_spec, "keynumidx"),
            int(find_spec, "firstkey"),
            int(find_spec, "keystep")
        ),
        _ => "FindKeys::Unknown".to_owned(),
    };
    let bits = union(texts(spec, "flags").iter().map(|flag| format!("KeyFlags::{}.0", flag.to_uppercase())));
    format!(
        "KeySpec {{ notes: {:?}, flags: KeyFlags({bits}), begin_search: {begin}, find_keys: {find} }}",
        text(spec, "notes")
    )
}

/// The flags that COMMAND does not print but a server needs to decide by.
fn hidden_flags(name: &str) -> &'static [&'static str] {
    match name {
        "debug" => &["PROTECTED"],
        name if name.starts_with("module|load") || name == "module|unload" => &["PROTECTED"],
        "eval" | "evalsha" | "fcall" | "publish" | "spublish" | "pfcount" => &["MAY_REPLICATE"],
        "keys" | "scan" | "dbsize" | "randomkey" | "flushall" | "flushdb" | "swapdb" => &["WHOLE_KEYSPACE"],
        _ => &[],
    }
}

fn flag_bits(command: &Value, name: &str) -> String {
    let shown = texts(command, "flags");
    union(shown.iter().chain(hidden_flags(name)).map(|flag| format!("Flags::{}.0", flag.to_uppercase())))
}

fn category_bits(command: &Value) -> String {
    let categories = texts(command, "acl_categories");
    union(
        categories
            .iter()
            .map(|category| format!("AclCategories::{}.0", category.trim_start_matches('@').to_uppercase())),
    )
}

fn union(bits: impl Iterator<Item = String>) -> String {
    let bits: Vec<String> = bits.collect();
    if bits.is_empty() { "0".to_owned() } else { bits.join(" | ") }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn int(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_i64).unwrap_or(0)
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts<'v>(value: &'v Value, key: &str) -> Vec<&'v str> {
    array(value, key).iter().filter_map(Value::as_str).collect()
}
