// SPDX-License-Identifier: BSD-3-Clause
//! The in-process harness of this crate's tests: one client, one keyspace, and a clock that only moves when told. It locks
//! what the session layer would lock and keeps the last command's effects for inspection.

use crate::context::{Ctx, ExecEnv};
use crate::effects::{Effects, EventClass};
use crate::introspect;
use crate::key_positions::{KeyVec, keys_of, reads_unnamed_keys};
use crate::registry::{Exec, Lookup, Registry, unknown_command_error, unknown_subcommand_error};
use crate::spec::touches_all;
use pando_keyspace::{DbIndex, Keyspace, KeyspaceConfig};
use pando_resp::decode::{Value, decode};
use pando_resp::{Proto, ReplyBuf, split_args};
use pando_topology::Slot;

/// One client of an empty keyspace.
pub(crate) struct Run {
    keyspace: Keyspace,
    registry: Registry,
    pub(crate) env: ExecEnv,
    pub(crate) now_ms: u64,
    pub(crate) db: DbIndex,
    pub(crate) proto: Proto,
    pub(crate) effects: Effects,
    last: Vec<Vec<u8>>,
    last_db: DbIndex,
}

impl Run {
    pub(crate) fn new() -> Run {
        let extra: Vec<(&'static str, u16)> = introspect::NAMES.iter().map(|name| (*name, 0)).collect();
        Run {
            keyspace: Keyspace::new(KeyspaceConfig::default()),
            registry: Registry::new(&extra),
            env: ExecEnv { notify: EventClass(u32::MAX), ..ExecEnv::default() },
            now_ms: 1_700_000_000_000,
            db: 0,
            proto: Proto::Resp2,
            effects: Effects::default(),
            last: Vec::new(),
            last_db: 0,
        }
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Runs one line (quotes as in a client's shell) and renders the reply.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let words = split_args(line.as_bytes()).expect("balanced quotes");
        let bytes = self.run_args(&words);
        match decode(&bytes).expect("valid RESP") {
            Some((value, used)) if used == bytes.len() => render(&value),
            other => panic!("{line}: not exactly one reply: {other:?} in {}", bytes.escape_ascii()),
        }
    }

    fn run_args(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut reply = ReplyBuf::new(self.proto);
        self.last = words.to_vec();
        self.last_db = self.db;
        self.effects.clear();
        if args[0].eq_ignore_ascii_case(b"select") {
            self.db = String::from_utf8_lossy(args[1]).parse().expect("a database number");
            reply.ok();
            return reply.take();
        }
        let outcome = match self.registry.lookup(&args) {
            Lookup::UnknownCommand => Err(unknown_command_error(&args)),
            Lookup::UnknownSubcommand(spec) => Err(unknown_subcommand_error(spec, &args)),
            Lookup::WrongArity(spec) => Err(format!("ERR wrong number of arguments for '{}' command", spec.name)),
            Lookup::Found(_, Exec::Session(_)) => {
                introspect::command(&self.registry, &args, &mut reply).map_err(|error| error.to_string())
            }
            Lookup::Found(spec, Exec::Data(run)) => {
                let mut keys = KeyVec::new();
                let mut slots: Vec<Slot> = match keys_of(spec, &args, &mut keys) {
                    Ok(()) => keys.iter().map(|key| Slot::of_key(args[key.index as usize])).collect(),
                    Err(_) => Vec::new(),
                };
                slots.sort();
                slots.dedup();
                let mut locked = if touches_all(spec) || reads_unnamed_keys(spec, &args) {
                    self.keyspace.lock_none()
                } else {
                    self.keyspace.lock(&slots)
                };
                locked.set_now(if self.env.is_applying { 0 } else { self.now_ms });
                let mut ctx = Ctx {
                    slots: &mut locked,
                    db: self.db,
                    reply: &mut reply,
                    effects: &mut self.effects,
                    now_ms: self.now_ms,
                    env: &self.env,
                };
                run(&mut ctx, &args).map_err(|error| error.to_string())
            }
        };
        if let Err(error) = outcome {
            reply.clear();
            reply.error(&error);
        }
        reply.take()
    }

    /// What the last command wrote to the log: `SET a 1; DEL b`, with `db:` ahead of records for other databases.
    pub(crate) fn log(&self) -> String {
        let args: Vec<&[u8]> = self.last.iter().map(Vec::as_slice).collect();
        let mut records = Vec::new();
        self.effects.for_each_record(self.last_db, &args, &mut Vec::new(), &mut |db, record| {
            let Some((Value::Array(Some(words)), _)) = decode(record).expect("valid RESP") else {
                panic!("not a command")
            };
            let words: Vec<String> = words
                .iter()
                .map(|word| match word {
                    Value::Bulk(Some(bytes)) => bytes.escape_ascii().to_string(),
                    other => panic!("{other:?} in a command"),
                })
                .collect();
            let prefix = if db == self.last_db { String::new() } else { format!("{db}:") };
            records.push(format!("{prefix}{}", words.join(" ")));
        });
        assert_eq!(records.len(), self.effects.record_count());
        records.join("; ")
    }

    /// Runs lines and compares what each logs and announces: line, log records, events.
    pub(crate) fn check(&mut self, steps: &[(&str, &str, &str)]) {
        for (line, log, events) in steps {
            let reply = self.run(line);
            assert_eq!((self.log().as_str(), self.events().as_str()), (*log, *events), "{line} -> {reply}");
        }
    }

    /// Events of the last command: `set a, expire a`, with `db:` ahead of keys of other databases. Without `new` and
    /// `keymiss`, which are off unless asked for by name.
    pub(crate) fn events(&self) -> String {
        let shown: Vec<String> = self
            .effects
            .events()
            .filter(|event| !event.class.has(EventClass(EventClass::NEW.0 | EventClass::KEY_MISS.0)))
            .map(|event| {
                let prefix = if event.db == self.last_db { String::new() } else { format!("{}:", event.db) };
                format!("{} {prefix}{}", event.name, event.key.escape_ascii())
            })
            .collect();
        shown.join(", ")
    }

    /// Keys that the last command changed.
    pub(crate) fn modified(&self) -> String {
        let shown: Vec<String> = self.effects.modified().map(|(_, key)| key.escape_ascii().to_string()).collect();
        shown.join(" ")
    }
}

/// `OK`, `-ERR ..`, `:1`, `"bulk"`, `nil`, `[..]`, `{k: v}`, `~[..]`.
pub(crate) fn render(value: &Value) -> String {
    let list = |values: &[Value]| values.iter().map(render).collect::<Vec<_>>().join(", ");
    match value {
        Value::Simple(text) => text.clone(),
        Value::Error(text) => format!("-{text}"),
        Value::Int(number) => format!(":{number}"),
        Value::Bulk(Some(bytes)) => format!("\"{}\"", bytes.escape_ascii()),
        Value::Bulk(None) | Value::Null => "nil".to_owned(),
        Value::Array(None) => "nil-array".to_owned(),
        Value::Array(Some(values)) => format!("[{}]", list(values)),
        Value::Map(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}: {}", render(key), render(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Set(values) => format!("~[{}]", list(values)),
        other => format!("{other:?}"),
    }
}

/// Runs the lines in order against one keyspace and compares the replies.
pub(crate) fn check(steps: &[(&str, &str)]) {
    let mut run = Run::new();
    for (line, expected) in steps {
        assert_eq!(run.run(line), *expected, "{line}");
    }
}

/// Runs a recording: `> command`, then the rendered reply; `---` starts over, `!resp3` changes the protocol, `#` is a
/// remark. Reports all differences at once.
pub(crate) fn check_golden(text: &str) {
    let mut run = Run::new();
    let mut failures = Vec::new();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    while let Some(line) = lines.next() {
        match line {
            "---" => run = Run::new(),
            "!resp3" => run.proto = Proto::Resp3,
            _ => {
                let Some(command) = line.strip_prefix("> ") else { continue };
                let expected = lines.next().unwrap_or_default();
                let got = run.run(command);
                if got != expected {
                    failures.push(format!("> {command}\n  expected {expected}\n  got      {got}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}
