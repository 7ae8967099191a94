// SPDX-License-Identifier: BSD-3-Clause
//! The checks before a command, in the order of Valkey's `processCommand`, and what then happens
//! to it: refused, suspended, queued or executed.

use crate::engine::Engine;
use crate::gate::{PauseMode, PausePurpose, Role};
use crate::next::{Next, Suspend};
use crate::redirect::{Route, is_pubsub_shard};
use crate::scratch::WorkerScratch;
use crate::session::Session;
use pando_commands::{CommandSpec, Exec, Flags, Lookup, unknown_command_error, unknown_subcommand_error};
use pando_resp::{Args, Proto, ReplyBuf};
use std::borrow::Cow;
use std::sync::atomic::Ordering::Relaxed;

const NO_AUTH: &str = "NOAUTH Authentication required.";

/// Why a command is not executed now.
pub(crate) enum Refusal {
    /// An error line, code first.
    Error(Cow<'static, str>),
    /// A redirection: ends a transaction without EXECABORT.
    Redirect(Cow<'static, str>),
    /// A pause.
    Paused,
}

impl Refusal {
    fn text(line: &'static str) -> Refusal {
        Refusal::Error(Cow::Borrowed(line))
    }
}

/// Flags of a command; for EXEC those of what is queued.
#[derive(Copy, Clone)]
struct Traits {
    /// Some command has the flag.
    any: Flags,
    /// Every command has the flag.
    all: Flags,
}

/// Executed at once inside MULTI.
fn is_transaction_control(spec: &CommandSpec) -> bool {
    matches!(spec.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

/// What a lookup that did not end with a command knows of it.
fn spec_of(lookup: &Lookup) -> Option<&'static CommandSpec> {
    match lookup {
        Lookup::Found(spec, _) | Lookup::WrongArity(spec) => Some(spec),
        Lookup::UnknownCommand | Lookup::UnknownSubcommand(_) => None,
    }
}

/// Names of a browser that was tricked into talking to us.
fn is_http(name: &[u8]) -> bool {
    [b"post".as_slice(), b"host:"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether the lookup's answer is for clients that have not authenticated too.
fn is_open(lookup: &Lookup, args: Args<'_>) -> bool {
    spec_of(lookup).is_some_and(|spec| spec.flags.has(Flags::NO_AUTH)) || is_http(args[0])
}

fn is_allowed_when_subscribed(spec: &CommandSpec) -> bool {
    matches!(
        spec.name,
        "ping"
            | "subscribe"
            | "ssubscribe"
            | "unsubscribe"
            | "sunsubscribe"
            | "psubscribe"
            | "punsubscribe"
            | "quit"
            | "reset"
    )
}

impl Session {
    /// Into its one caller, so that what it returns need not be copied right after it was written.
    #[inline(always)]
    pub(crate) fn dispatch(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        args: Args<'_>,
        out: &mut ReplyBuf,
    ) -> Next {
        let (spec, exec) = match engine.registry.lookup(args) {
            Lookup::Found(spec, exec) => (spec, exec),
            // Who has not authenticated learns nothing about commands.
            lookup if !self.is_authenticated && w.settings().requirepass.is_some() && !is_open(&lookup, args) => {
                return self.refuse(engine, spec_of(&lookup), NO_AUTH, out);
            }
            Lookup::WrongArity(spec) => {
                self.count_rejected(w, spec);
                let line = format!("ERR wrong number of arguments for '{}' command", spec.name);
                return self.refuse(engine, Some(spec), &line, out);
            }
            Lookup::UnknownCommand => {
                if is_http(args[0]) {
                    // Say nothing.
                    return Next::Close;
                }
                return self.refuse(engine, None, &unknown_command_error(args), out);
            }
            Lookup::UnknownSubcommand(container) => {
                return self.refuse(engine, None, &unknown_subcommand_error(container, args), out);
            }
        };
        self.shared.last_command.store(spec.id, Relaxed);
        self.shared.last_active_ms.store(w.now_ms(), Relaxed);
        loop {
            let epoch = engine.gate.epoch();
            if let Err(refusal) = self.check(engine, w, spec, args) {
                // The role may have changed between two checks: together they would refuse what each
                // of the two roles takes or redirects.
                if engine.gate.epoch() != epoch {
                    continue;
                }
                if !matches!(refusal, Refusal::Paused) {
                    self.count_rejected(w, spec);
                }
                return match refusal {
                    Refusal::Paused => Next::Suspend(Suspend::Paused),
                    Refusal::Error(line) => self.refuse(engine, Some(spec), &line, out),
                    Refusal::Redirect(line) => self.redirect(engine, spec, &line, out),
                };
            }
            if self.transaction.is_some() && !is_transaction_control(spec) {
                self.queue(spec, exec, args);
                out.simple("QUEUED");
                return Next::Continue;
            }
            let next = match exec {
                Exec::Data(run) => self.run_data(engine, w, spec, run, args, epoch, out),
                Exec::Session(_) if spec.name == "exec" => self.exec(engine, w, spec, epoch, out),
                Exec::Session(id) => Some(self.run_session(engine, w, spec, id, args, false, out)),
            };
            // None: role or cluster changed before the locks were taken. Nothing happened yet.
            if let Some(next) = next {
                if spec.name != "asking" {
                    self.is_asking = false;
                }
                return next;
            }
        }
    }

    fn count_rejected(&self, w: &WorkerScratch, spec: &CommandSpec) {
        w.stats.commands[usize::from(spec.id)].rejected.add(1);
    }

    /// Writes the error of a command that is not executed. It spoils a transaction; EXEC itself ends
    /// it.
    fn refuse(&mut self, engine: &Engine, spec: Option<&'static CommandSpec>, line: &str, out: &mut ReplyBuf) -> Next {
        if spec.is_some_and(|spec| spec.name == "exec") && self.transaction.is_some() {
            self.end_transaction(engine);
            let reason = line.strip_prefix("ERR ").unwrap_or(line);
            let line = format!("EXECABORT Transaction discarded because of: {reason}");
            out.error(&line);
            engine.stats.count_error(line.as_bytes());
            return Next::Continue;
        }
        self.spoil_transaction();
        out.error(line);
        engine.stats.count_error(line.as_bytes());
        Next::Continue
    }

    fn redirect(&mut self, engine: &Engine, spec: &CommandSpec, line: &str, out: &mut ReplyBuf) -> Next {
        if spec.name == "exec" {
            self.end_transaction(engine);
        } else {
            self.spoil_transaction();
        }
        out.error(line);
        engine.stats.count_error(line.as_bytes());
        Next::Continue
    }

    #[inline]
    fn check(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        spec: &'static CommandSpec,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        w.routed = None;
        let settings = w.settings();
        // One test for the overwhelmingly common case: a plain primary and a plain client.
        let is_plain = engine.gate.is_plain()
            && !settings.cluster_enabled
            && (settings.maxmemory == 0 || engine.eviction.has_room(engine, settings.maxmemory))
            && settings.min_replicas_to_write == 0
            && self.is_authenticated
            && self.transaction.is_none()
            && !self.shared.is_subscribed();
        if is_plain && !spec.flags.has(Flags::PROTECTED) {
            return Ok(());
        }
        self.check_all(engine, w, spec, args)
    }

    fn traits(&self, spec: &CommandSpec) -> Traits {
        match &self.transaction {
            Some(transaction) if spec.name == "exec" => Traits {
                any: spec.flags.with(transaction.any_flags),
                all: Flags(spec.flags.0 & transaction.all_flags.0),
            },
            _ => Traits { any: spec.flags, all: spec.flags },
        }
    }

    fn check_all(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        spec: &'static CommandSpec,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        let settings = w.settings().clone();
        let flags = self.traits(spec);
        let is_write = flags.any.has(Flags::WRITE);
        let is_replica = engine.gate.role() == Role::Replica;
        let in_multi = self.transaction.is_some();

        if !self.is_authenticated && settings.requirepass.is_some() && !spec.flags.has(Flags::NO_AUTH) {
            return Err(Refusal::text(NO_AUTH));
        }
        if spec.flags.has(Flags::PROTECTED) && !settings.enable_debug_command {
            let name = spec.name.split('|').next().unwrap_or(spec.name).to_uppercase();
            return Err(Refusal::Error(Cow::Owned(format!(
                "ERR {name} command not allowed. If the enable-{}-command option is set to \"local\", you can run it from a \
                 local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
                name.to_lowercase()
            ))));
        }
        if in_multi && spec.flags.has(Flags::NO_MULTI) {
            return Err(Refusal::Error(Cow::Owned(format!(
                "ERR Command '{}' not allowed inside a transaction",
                spec.name
            ))));
        }
        if settings.cluster_enabled {
            let mut route = Route::NONE;
            let mut keys = std::mem::take(&mut w.keys);
            if spec.name == "exec" {
                self.route_of_queue(&mut route, &mut keys);
            } else {
                route.add_command(spec, args, &w.hashed, &mut keys);
            }
            w.keys = keys;
            w.routed = route.slot;
            self.check_route(engine, w, &settings, route, is_write, is_pubsub_shard(spec))?;
        } else if is_replica
            && (is_write || (self.has_capa_redirect && flags.any.has(Flags::READONLY) && !self.is_readonly))
            && settings.replica_read_only
            && engine.gate.holds_writes_of_a_former_primary()
            && (is_write || engine.gate.holds(PausePurpose::Failover))
        {
            // The replica that is to be the primary may not know of it yet.
            return Err(Refusal::Paused);
        } else if self.has_capa_redirect
            && is_replica
            && (is_write || (flags.any.has(Flags::READONLY) && !self.is_readonly))
            && let Some((host, port)) = engine.host.get().and_then(|host| host.primary_address())
        {
            return Err(Refusal::Redirect(Cow::Owned(format!("REDIRECT {host}:{port}"))));
        }
        if settings.maxmemory > 0 && (flags.any.has(Flags::DENYOOM) || (in_multi && !is_transaction_control(spec))) {
            // A queued command takes memory too, so inside MULTI every command is refused.
            let incoming = if is_write { args.iter().map(|arg| arg.len() as u64).sum() } else { 0 };
            if !engine.make_room(&settings, incoming, w.now_ms()) {
                return Err(Refusal::text("OOM command not allowed when used memory > 'maxmemory'."));
            }
        }
        if is_write && !is_replica {
            if let Some(line) = engine.gate.write_error() {
                return Err(Refusal::Error(Cow::Owned(line)));
            }
            if settings.min_replicas_to_write > engine.gate.good_replicas() {
                return Err(Refusal::text("NOREPLICAS Not enough good replicas to write."));
            }
        }
        if is_write && is_replica && settings.replica_read_only {
            return Err(Refusal::text("READONLY You can't write against a read only replica."));
        }
        if self.shared.is_subscribed() && self.shared.proto() == Proto::Resp2 && !is_allowed_when_subscribed(spec) {
            return Err(Refusal::Error(Cow::Owned(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                spec.name
            ))));
        }
        if is_replica && !engine.gate.is_link_up() && !settings.replica_serve_stale_data && !flags.all.has(Flags::STALE)
        {
            return Err(Refusal::text(
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            ));
        }
        if engine.gate.is_loading() && !flags.all.has(Flags::LOADING) {
            return Err(Refusal::text(if settings.extended_redis_compatibility {
                "LOADING Redis is loading the dataset in memory"
            } else {
                "LOADING Valkey is loading the dataset in memory"
            }));
        }
        match engine.gate.paused() {
            Some(PauseMode::All) => Err(Refusal::Paused),
            Some(PauseMode::Write) if flags.any.has(Flags::WRITE.with(Flags::MAY_REPLICATE)) => Err(Refusal::Paused),
            _ => Ok(()),
        }
    }
}
