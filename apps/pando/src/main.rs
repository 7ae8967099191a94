// SPDX-License-Identifier: BSD-3-Clause
//! The `pando` binary: picks the subcommand, nothing else. Called `valkey-server` or `redis-server` (a link to it), it is
//! `pando server`.

mod cluster;
mod demo;
mod link;
mod output;
mod server;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pages that are free go back within a second, also when nobody allocates: keys that are gone must not cost memory.
struct MallocConf(#[allow(dead_code, reason = "read by jemalloc")] *const u8);
// SAFETY: a pointer to a constant.
unsafe impl Sync for MallocConf {}
// SAFETY: jemalloc reads a zero-terminated string by this name at its start.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: MallocConf =
    MallocConf(c"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0".as_ptr().cast());

/// A Valkey-compatible server.
#[derive(Parser)]
#[command(name = "pando", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a server: [FILE] [--directive value ...], as valkey-server does.
    #[command(disable_help_flag = true)]
    Server(server::ServerArgs),
    /// Starts a six-node cluster on loopback to look at; `--tour` shows a failover by itself.
    Demo(demo::DemoArgs),
    /// What an operator does to a whole cluster.
    Cluster(cluster::ClusterArgs),
}

/// Is the program called like one that it replaces?
fn is_server_name(program: &OsString) -> bool {
    let name = Path::new(program).file_name().unwrap_or_default();
    name == "valkey-server" || name == "redis-server"
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|program| is_server_name(&program)) {
        return server::run(&server::ServerArgs { args: args.collect() });
    }
    match Cli::parse().command {
        Command::Server(args) => server::run(&args),
        Command::Demo(args) => explain(demo::run(&args)),
        Command::Cluster(args) => explain(cluster::run(&args)),
    }
}

/// Tells the person what went wrong.
fn explain(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("pando: {reason}");
            ExitCode::FAILURE
        }
    }
}
