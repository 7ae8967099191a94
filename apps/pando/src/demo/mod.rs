// SPDX-License-Identifier: BSD-3-Clause
//! `pando demo`: a real cluster of six processes on loopback, to look at; `--tour` shows a failover by itself.
//!
//! The processes are this binary's own `server` subcommand. Whatever ends the demo stops them and removes what they made.

mod load;
mod processes;
mod screen;
mod tour;
mod watch;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use crate::cluster;
use crate::output::say;
use processes::Processes;
use watch::Watch;

/// Three primaries (roots as well) and a replica for each.
const NODES: u16 = 6;
const REPLICAS: usize = 1;
/// Between two looks at the cluster.
const PERIOD: Duration = Duration::from_millis(250);

#[derive(Args)]
pub struct DemoArgs {
    /// Port of the first node; the others follow. Cluster ports lie 10000 above.
    #[arg(long, default_value_t = 7000)]
    port: u16,
    /// Where the nodes keep their files (default: a temporary folder). What the demo made there is removed at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print lines instead of the live screen. Always so when the output is not a terminal.
    #[arg(long)]
    plain: bool,
    /// A guided tour: load, kill a primary, show the write gap, bring it back, stop.
    #[arg(long)]
    tour: bool,
}

/// Runs until a signal, or to the tour's end.
///
/// # Errors
/// What went wrong, for a person to read. Processes are stopped in any case.
pub fn run(args: &DemoArgs) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| error.to_string())?;
    }
    if args.port == 0 || args.port > u16::MAX - 10_000 - NODES {
        return Err(format!("--port must leave room for cluster ports: 1 to {}", u16::MAX - 10_000 - NODES));
    }
    let start = Instant::now();
    let mut processes = Processes::start(args.port, NODES, args.dir.clone())?;
    say!("{NODES} processes started in {}", processes.dir().display());
    processes.wait_up(&stop)?;
    let addresses = processes.addresses();
    cluster::create(&addresses, REPLICAS, &mut |line| say!("{line}"))?;
    describe(&addresses, start.elapsed());
    if args.tour {
        tour::run(&mut processes, &stop)?;
    } else {
        let plain = args.plain || !std::io::stdout().is_terminal();
        if plain { follow_plain(&addresses, &stop) } else { screen::run(&addresses, &stop)? }
    }
    processes.stop();
    say!("stopped; everything the demo made is gone");
    Ok(())
}

fn describe(addresses: &[String], took: Duration) {
    let port = addresses[0].rsplit(':').next().unwrap_or_default();
    say!("nodes: {}", addresses.join(" "));
    say!("connect with any Valkey or Redis client in cluster mode, for example:");
    say!("  valkey-cli -c -p {port}");
    say!("  redis-benchmark --cluster -p {port} -t set,get -P 16 -n 1000000 -r 100000");
    say!("try `kill -9` on a primary's process and watch its shard move on");
    say!("ready: all slots served {:.1} s after the start", took.as_secs_f64());
}

/// One line for each thing that happens, and one a while for the load.
fn follow_plain(addresses: &[String], stop: &AtomicBool) {
    let mut watch = Watch::new(addresses.to_vec());
    let mut last_line = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for event in watch.look() {
            say!("{event}");
        }
        if last_line.elapsed() >= Duration::from_secs(5) {
            last_line = Instant::now();
            say!("{}", watch.summary());
        }
        std::thread::sleep(PERIOD);
    }
}
