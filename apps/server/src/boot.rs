// SPDX-License-Identifier: BSD-3-Clause
//! From arguments to a running server, and back to nothing. Called by the `pando` binary and by tests, which start a
//! server within their own process.

use crate::apply::{RESERVED_FILES, session_settings};
use crate::config::load::{Invocation, Loaded, VALKEY_VERSION, from_args};
use crate::config::{Config, Values};
use crate::cron::Alarm;
use crate::ending::{EndFlags, Ending};
use crate::net::mailbox::{Mailboxes, WorkerMessage};
use crate::replication::ReplicationSide;
use crate::server::{ProcessHost, Rates, Server};
use crate::worker::Worker;
use crate::{commands, cron, evictor, logging, os};
use pando_keyspace::KeyspaceConfig;
use pando_session::{Engine, EngineConfig};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Why a server cannot start; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error("Warning: {0}")]
    Listen(#[from] crate::net::listener::ListenError),
    /// Its part in the cluster cannot start.
    #[error("Cannot start the cluster agent: {0}")]
    Cluster(#[from] pando_agent::AgentError),
    /// The operating system refuses something.
    #[error("{0}: {1}")]
    System(&'static str, String),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System(what, crate::config::os_reason(&error))
}

/// A server and its threads.
pub struct Running {
    /// What its parts share.
    pub server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Ends all threads and closes all connections.
    pub fn stop(self) {
        if let Some(cluster) = self.server.cluster.get() {
            // Hands leadership over, so that the other roots need not wait for it to be missed.
            let leaving = cluster.agent().shutdown();
            let limit = std::time::Duration::from_secs(2);
            // Not done in time: they will miss it.
            let _ = self.server.replication.runtime().block_on(async { tokio::time::timeout(limit, leaving).await });
        }
        self.server.cron.stop();
        self.server.evictor.stop();
        self.server.listeners.lock().clear();
        self.server.mail.send_all(|| WorkerMessage::Stop);
        for thread in self.threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Fills in what the defaults leave open.
fn complete(values: &mut Values) {
    if let Some(index) = crate::config::table::find("io-threads")
        && values.get(index) == "0"
    {
        values.set(index, os::io_threads_default().to_string());
    }
    if let (Some(index), Ok(dir)) = (crate::config::table::find("dir"), std::env::current_dir()) {
        values.set(index, dir.display().to_string());
    }
}

/// The `rename-command` lines.
fn renames(values: &Values) -> Vec<(String, String)> {
    let lines = values.extra.iter().filter(|(name, _)| name == "rename-command");
    lines.filter_map(|(_, words)| Some((words.first()?.clone(), words.get(1)?.clone()))).collect()
}

fn random_hex(bytes: usize) -> String {
    let mut buffer = vec![0u8; bytes];
    // The pool is always ready on a running system.
    let _ = rustix::rand::getrandom(&mut buffer, rustix::rand::GetRandomFlags::empty());
    buffer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Starts a server with these values. Signals, the working directory and the log are the caller's business.
pub fn start(loaded: Loaded) -> Result<Running, StartError> {
    let Loaded { mut values, file } = loaded;
    complete(&mut values);
    let settings = session_settings(&values);
    let keyspace = KeyspaceConfig {
        databases: settings.databases,
        lfu: settings.lfu,
        lfu_log_factor: values.number("lfu-log-factor") as u32,
        lfu_decay_minutes: values.number("lfu-decay-time") as u32,
    };
    let engine = Engine::new(EngineConfig { keyspace, settings, renames: renames(&values) }, &commands::table());
    let workers = values.number("io-threads").max(1) as usize;
    let mail = Arc::new(Mailboxes::new(workers).map_err(system("Cannot make a wake-up counter"))?);
    let replication =
        ReplicationSide::start(&engine, &values).map_err(system("Cannot start the replication runtime"))?;
    let follow =
        values.named("replicaof").split_once(' ').map(|(host, port)| (host.to_owned(), port.parse().unwrap_or(0)));
    let server = Arc::new(Server {
        config: Config::new(values, file),
        engine: engine.clone(),
        mail: mail.clone(),
        listeners: parking_lot::Mutex::default(),
        net_stats: (0..workers).map(|_| Arc::default()).collect(),
        replication,
        cluster: std::sync::OnceLock::new(),
        clients: AtomicUsize::new(0),
        run_id: random_hex(20),
        executable: std::env::current_exe().map(|p| p.display().to_string()).unwrap_or_default(),
        started: Instant::now(),
        started_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        ending: Ending::default(),
        failover: crate::failover::Failover::default(),
        sentinels: crate::sentinels::Sentinels::default(),
        rates: Rates::default(),
        active_expire: AtomicBool::new(true),
        peak_memory: AtomicU64::new(0),
        startup_memory: AtomicU64::new(0),
        cron: Alarm::default(),
        evictor: crate::evictor::Bell::default(),
        expire_lag: cron::ExpireLag::default(),
        defrag: crate::defrag::DefragStats::default(),
    });
    server.register();
    let host = ProcessHost::new(&server).map_err(system("Cannot start a thread"))?;
    // The engine is new: nobody has set these before.
    let _ = engine.mailbox.set(mail);
    let _ = engine.host.set(Box::new(host));
    let mut threads = Vec::new();
    let mut spawn = |name: String, body: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name)
            .spawn(body)
            .map(|thread| threads.push(thread))
            .map_err(system("Cannot start a thread"))
    };
    for index in 0..workers {
        let worker = Worker::new(index, server.clone()).map_err(system("Cannot watch descriptors"))?;
        spawn(format!("pando-worker-{index}"), Box::new(move || worker.run()))?;
    }
    let for_cron = server.clone();
    spawn("pando-cron".to_owned(), Box::new(move || cron::run(&for_cron)))?;
    let for_evictor = server.clone();
    spawn("pando-evictor".to_owned(), Box::new(move || evictor::run(&for_evictor)))?;
    let running = Running { server, threads };
    let startup_memory = running.server.used_memory();
    running.server.startup_memory.store(startup_memory, Ordering::Relaxed);
    if let Err(error) = start_cluster(&running.server) {
        running.stop();
        return Err(error.into());
    }
    if let Err(error) = running.server.listen(&running.server.config.settings()) {
        running.stop();
        return Err(error.into());
    }
    if let Some((host, port)) = follow {
        logging::set_replica(true);
        running.server.replication.follow(&host, port);
    }
    Ok(running)
}

/// In cluster mode, the agent; else an ear for Sentinels. Before clients can connect, so that none is served without a view of the cluster.
fn start_cluster(server: &Arc<Server>) -> Result<(), pando_agent::AgentError> {
    let values = server.config.values();
    if values.is_yes("cluster-enabled") {
        return crate::cluster::start(server, &values);
    }
    let watched = Arc::downgrade(server);
    let hook = move |channel: &[u8], message: &[u8], _: bool| {
        if let Some(server) = watched.upgrade() {
            server.sentinels.hear(channel, message);
        }
    };
    // The engine is this server's own.
    let _ = server.engine.publish_hook.set(Box::new(hook));
    Ok(())
}

const USAGE: &str = "Usage: pando server [/path/to/valkey.conf] [options] [-]
       pando server - (read config from stdin)
       pando server -v or --version
       pando server -h or --help

Examples:
       pando server (run the server with default conf)
       echo 'maxmemory 128mb' | pando server -
       pando server /etc/valkey/6379.conf
       pando server --port 7777
       pando server --port 7777 --replicaof 127.0.0.1 8888
       pando server /etc/myvalkey.conf --loglevel verbose -
       pando server /etc/myvalkey.conf --loglevel verbose
";

/// Version of this program.
pub const PANDO_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The `server` command: arguments without the program's name. Returns when the server has ended.
pub fn main(args: &[String]) -> ExitCode {
    logging::install();
    let loaded = match from_args(args) {
        Ok(Invocation::Version) => {
            println!("Pando server v={PANDO_VERSION} valkey={VALKEY_VERSION} bits=64");
            return ExitCode::SUCCESS;
        }
        Ok(Invocation::Help) => {
            eprint!("{USAGE}");
            return ExitCode::FAILURE;
        }
        Ok(Invocation::Start(loaded)) => *loaded,
        Err(error @ crate::config::load::LoadError::File { .. }) => {
            logging::write_line('#', &error.to_string());
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match serve(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Listen(error)) => {
            tracing::warn!("Warning: {error}");
            tracing::warn!("Failed listening, aborting.");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::warn!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Log, directory, signals, the server, and the wait for its end.
fn serve(loaded: Loaded) -> Result<(), StartError> {
    let values = loaded.values.clone();
    logging::set_level(values.named("loglevel"));
    std::env::set_current_dir(values.named("dir")).map_err(system("Can't chdir to 'dir'"))?;
    logging::set_file(values.named("logfile"));
    if values.is_yes("daemonize") {
        os::daemonize().map_err(system("Cannot daemonize"))?;
    }
    let signals = os::block_signals();
    install_panic_message();
    let port = values.number("port");
    let mode = if values.is_yes("cluster-enabled") { "cluster" } else { "standalone" };
    tracing::info!("oO0OoO0OoO0Oo Pando is starting oO0OoO0OoO0Oo");
    tracing::info!(
        "Pando version={PANDO_VERSION}, compatible with Valkey version={VALKEY_VERSION}, bits=64, pid={}, just started",
        std::process::id()
    );
    match &loaded.file {
        Some(_) => tracing::info!("Configuration loaded"),
        None => tracing::info!("Running with the default config and the options of the command line"),
    }
    let idle = values.changed_without_effect();
    if !idle.is_empty() {
        tracing::warn!("These directives are accepted and have no effect in this version: {}", idle.join(" "));
    }
    let wanted = values.number("maxclients") as u64 + RESERVED_FILES;
    let files = os::raise_open_files(wanted);
    if files < wanted {
        tracing::warn!(
            "You requested maxclients of {} but only {files} files can be open.",
            values.number("maxclients")
        );
    }
    tracing::info!("Running mode={mode}, port={port}.");
    if values.is_yes("always-show-logo") {
        // Scripts that start a server look for this line of Valkey's start screen.
        logging::write_line('*', &format!("Port: {port}   PID: {}", std::process::id()));
    }
    let pidfile = pidfile_of(&values);
    if let Some(path) = &pidfile {
        // A server without its pid file works.
        let _ = std::fs::write(path, format!("{}\n", std::process::id()));
    }
    let running = start(loaded)?;
    tracing::info!("Server initialized");
    if port != 0 {
        tracing::info!("Ready to accept connections tcp");
    }
    if !values.named("unixsocket").is_empty() {
        tracing::info!("Ready to accept connections unix");
    }
    let server = running.server.clone();
    // Never joined: it waits for signals until the process ends.
    std::thread::spawn(move || {
        loop {
            let (name, directive) = match signals.wait() {
                libc::SIGTERM => ("SIGTERM", "shutdown-on-sigterm"),
                libc::SIGINT => ("SIGINT", "shutdown-on-sigint"),
                _ => continue,
            };
            tracing::info!("Received {name} scheduling shutdown...");
            let is_first = server.ending.request(EndFlags::of(server.config.values().named(directive)));
            if !is_first && name == "SIGINT" {
                tracing::warn!("You insist... exiting now.");
                std::process::exit(1);
            }
        }
    });
    running.server.ending.wait(&running.server);
    running.stop();
    if let Some(path) = pidfile {
        tracing::info!("Removing the pid file.");
        // It may be gone already.
        let _ = std::fs::remove_file(path);
    }
    tracing::warn!("Pando is now ready to exit, bye bye...");
    Ok(())
}

fn pidfile_of(values: &Values) -> Option<String> {
    match values.named("pidfile") {
        "" if values.is_yes("daemonize") => Some("/run/pando.pid".to_owned()),
        "" => None,
        path => Some(path.to_owned()),
    }
}

/// A panic in any thread is logged and ends the process: a server that has lost a thread must not seem alive.
fn install_panic_message() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::force_capture();
        logging::write_line('#', "=== PANDO BUG REPORT START: Cut & paste starting from here ===");
        logging::write_line('#', &format!("Pando {PANDO_VERSION} crashed in thread {:?}: {info}", thread.name()));
        logging::write_line('#', &format!("Stack trace:\n{backtrace}"));
        logging::write_line('#', "=== PANDO BUG REPORT END ===");
        std::process::abort();
    }));
}
