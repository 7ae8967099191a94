// SPDX-License-Identifier: BSD-3-Clause
//! GET and SET on one node, Pando and Valkey 9.1.2 in turn: server CPU per request, throughput, latencies, ratios.
//!
//! `cargo run --profile dist -p pando-bench --bin node -- --help`. Each round starts fresh servers, in alternating order.

use std::process::{Command, ExitCode};

use clap::Parser;
use pando_bench::load::{self, Figures, Load, Pin};
use pando_bench::{median, table};
use pando_procs::{Node, Software};

#[derive(Parser)]
struct Options {
    /// Rounds; figures are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Keys that are loaded first, and that requests choose from.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Factor on the number of requests of each load.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Worker threads (Valkey: io-threads). With 1 the server is pinned to CPU 0 and the load to CPU 1.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Only loads whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Extra arguments for Pando, separated by spaces.
    #[arg(long, default_value = "")]
    pando_args: String,
}

const LOADS: &[Load] = &[
    Load { name: "c50", clients: 50, pipeline: 1, requests: 150_000 },
    Load { name: "c50-P32", clients: 50, pipeline: 32, requests: 2_000_000 },
    Load { name: "c500", clients: 500, pipeline: 1, requests: 150_000 },
    Load { name: "c500-P32", clients: 500, pipeline: 32, requests: 2_000_000 },
];
const COMMANDS: [&str; 2] = ["set", "get"];

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench node: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Figures of one load and command: Pando's and Valkey's, by round.
struct Series {
    load: Load,
    command: &'static str,
    pando: Vec<Figures>,
    valkey: Vec<Figures>,
}

fn measure(options: &Options) -> Result<(), String> {
    let chosen = LOADS.iter().filter(|load| load.name.contains(&options.only));
    let mut series: Vec<Series> = chosen
        .flat_map(|&load| COMMANDS.map(|command| Series { load, command, pando: Vec::new(), valkey: Vec::new() }))
        .collect();
    for round in 0..options.rounds {
        let mut order = [Software::Pando, Software::Valkey];
        order.rotate_left(round % 2);
        for software in order {
            let node = start(software, options)?;
            load::fill(&node, options.keys, None).map_err(|error| error.to_string())?;
            for each in &mut series {
                let requests = (each.load.requests as f64 * options.scale) as u64;
                let load = Load { requests: requests.max(1000), ..each.load };
                let pin = if options.workers == 1 { Pin::Cpu(1) } else { Pin::Nowhere };
                let figures = load::run(&node, each.command, load, options.keys, pin)?;
                if software == Software::Pando { &mut each.pando } else { &mut each.valkey }.push(figures);
            }
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }
    report(options, &series);
    Ok(())
}

fn start(software: Software, options: &Options) -> Result<Node, String> {
    let workers = options.workers.to_string();
    let mut args = vec!["--io-threads", workers.as_str()];
    if software == Software::Pando {
        args.extend(options.pando_args.split_whitespace());
    }
    let node = Node::start(software, &args)?;
    if options.workers == 1 {
        let pin = Command::new("taskset").args(["-a", "-c", "-p", "0", &node.pid().to_string()]).output();
        pin.map_err(|error| format!("taskset: {error}"))?;
    }
    Ok(node)
}

fn report(options: &Options, series: &[Series]) {
    println!(
        "{} keys, 80-byte values, {} worker(s), medians of {} rounds",
        options.keys, options.workers, options.rounds
    );
    println!("ratio: Pando to Valkey 9.1.2 in the same round, median [min-max]; below 1 is better\n");
    let rows: Vec<Vec<String>> = series.iter().map(row).collect();
    table::print(
        &["load", "CPU us", "Valkey", "ratio", "[min-max]", "kreq/s", "Valkey", "p50 ms", "Valkey", "p99 ms", "Valkey"],
        &rows,
    );
}

fn row(series: &Series) -> Vec<String> {
    let of = |figures: &[Figures], field: fn(&Figures) -> f64| median(&figures.iter().map(field).collect::<Vec<_>>());
    let pairs = series.pando.iter().zip(&series.valkey);
    let ratios: Vec<f64> = pairs.map(|(pando, valkey)| pando.cpu_us / valkey.cpu_us).collect();
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    let (pando, valkey) = (&series.pando[..], &series.valkey[..]);
    vec![
        format!("{} {}", series.load.name, series.command.to_uppercase()),
        format!("{:.2}", of(pando, |each| each.cpu_us)),
        format!("{:.2}", of(valkey, |each| each.cpu_us)),
        format!("{:.2}", median(&ratios)),
        format!("[{low:.2}-{high:.2}]"),
        format!("{:.0}", of(pando, |each| each.requests_per_s) / 1000.0),
        format!("{:.0}", of(valkey, |each| each.requests_per_s) / 1000.0),
        format!("{:.2}", of(pando, |each| each.p50_ms)),
        format!("{:.2}", of(valkey, |each| each.p50_ms)),
        format!("{:.2}", of(pando, |each| each.p99_ms)),
        format!("{:.2}", of(valkey, |each| each.p99_ms)),
    ]
}
