// SPDX-License-Identifier: BSD-3-Clause
//! The data types on one node, Pando and Valkey 9.1.2 in turn: server CPU per request of each command, and bytes per
//! element of each form.
//!
//! `cargo run --profile dist -p pando-bench --bin types -- --help`. The rows are in `bench/src/types/`.

use std::process::{Command, ExitCode};

use clap::Parser;
use pando_bench::load::{Load, Pin};
use pando_bench::types::{FAMILIES, Family, Memory, Shape, Speed, Talk, memory_of, speed_of, talk_cost};
use pando_bench::{median, table};
use pando_procs::{Node, Software};

#[derive(Parser)]
struct Options {
    /// Rounds of the speed table; figures are medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Factor on the number of requests of each row.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Depths of the pipeline.
    #[arg(long, default_values_t = [1, 16], value_delimiter = ',')]
    pipeline: Vec<u32>,
    /// Only families whose name contains this.
    #[arg(long, default_value = "")]
    family: String,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Leave out the speed table.
    #[arg(long)]
    no_speed: bool,
    /// Leave out the memory table.
    #[arg(long)]
    no_memory: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut families = FAMILIES.iter().filter(|family| family.name.contains(&options.family));
    match families.try_for_each(|family| measure(&options, family)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench types: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options, family: &Family) -> Result<(), String> {
    println!("## {}\n", family.name);
    if !options.no_speed {
        speed(options, family)?;
    }
    if !options.no_memory {
        memory(options, family)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Row {
    Speed(&'static Speed),
    Talk(&'static Talk),
}

impl Row {
    fn name(self) -> &'static str {
        match self {
            Row::Speed(row) => row.name,
            Row::Talk(row) => row.name,
        }
    }

    /// Server CPU per request in microseconds.
    fn cost(self, node: &Node, pipeline: u32, scale: f64) -> Result<f64, String> {
        let scaled = |requests: u64| ((requests as f64 * scale) as u64).max(1000);
        match self {
            Row::Speed(row) => {
                let load = Load { name: row.name, clients: 50, pipeline, requests: scaled(row.requests) };
                Ok(speed_of(node, row, load, Pin::Cpu(1))?.cpu_us)
            }
            Row::Talk(row) => talk_cost(node, row, pipeline, scaled(row.requests)),
        }
    }
}

/// Server CPU of one row and depth, by round.
struct Series {
    row: Row,
    pipeline: u32,
    pando: Vec<f64>,
    valkey: Vec<f64>,
}

fn speed(options: &Options, family: &Family) -> Result<(), String> {
    let rows = family.speed.iter().map(Row::Speed).chain(family.talks.iter().map(Row::Talk));
    let rows = rows.filter(|row| row.name().contains(&options.only));
    let mut series: Vec<Series> = rows
        .flat_map(|row| options.pipeline.iter().map(move |&pipeline| (row, pipeline)))
        .map(|(row, pipeline)| Series { row, pipeline, pando: Vec::new(), valkey: Vec::new() })
        .collect();
    if series.is_empty() {
        return Ok(());
    }
    for round in 0..options.rounds {
        let mut order = [Software::Pando, Software::Valkey];
        order.rotate_left(round % 2);
        for software in order {
            let node = start(software)?;
            for each in &mut series {
                let cost = each
                    .row
                    .cost(&node, each.pipeline, options.scale)
                    .map_err(|error| format!("{}: {error}", each.row.name()))?;
                if software == Software::Pando { &mut each.pando } else { &mut each.valkey }.push(cost);
            }
        }
        eprintln!("{}: round {} of {} done", family.name, round + 1, options.rounds);
    }
    println!(
        "Server CPU per request in microseconds, 50 clients, medians of {} rounds; ratio: Pando to",
        options.rounds
    );
    println!("Valkey 9.1.2 in the same round, median [min-max]; below 1 is better\n");
    table::print(
        &["command", "pipeline", "Pando", "Valkey", "ratio", "[min-max]"],
        &series.iter().map(speed_row).collect::<Vec<_>>(),
    );
    println!();
    Ok(())
}

/// A server with one worker on CPU 0; the load goes to CPU 1.
fn start(software: Software) -> Result<Node, String> {
    let node = Node::start(software, &["--io-threads", "1"])?;
    let pin = Command::new("taskset").args(["-a", "-c", "-p", "0", &node.pid().to_string()]).output();
    pin.map_err(|error| format!("taskset: {error}"))?;
    Ok(node)
}

fn speed_row(series: &Series) -> Vec<String> {
    let ratios: Vec<f64> = series.pando.iter().zip(&series.valkey).map(|(pando, valkey)| pando / valkey).collect();
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    vec![
        series.row.name().to_owned(),
        series.pipeline.to_string(),
        format!("{:.2}", median(&series.pando)),
        format!("{:.2}", median(&series.valkey)),
        format!("{:.2}", median(&ratios)),
        format!("[{low:.2}-{high:.2}]"),
    ]
}

fn memory(options: &Options, family: &Family) -> Result<(), String> {
    let shapes = family.memory.iter().filter(|row| row.name.contains(&options.only));
    let rows = shapes.map(memory_row).collect::<Result<Vec<_>, _>>()?;
    if rows.is_empty() {
        return Ok(());
    }
    println!("Bytes per element, keys included; ratio: Pando to Valkey 9.1.2, below 1 is better\n");
    table::print(&["data", "used_memory", "Valkey", "ratio", "RSS", "Valkey", "ratio"], &rows);
    println!();
    Ok(())
}

fn memory_row(shape: &Shape) -> Result<Vec<String>, String> {
    let weigh =
        |software| -> Result<Memory, String> { memory_of(&Node::start(software, &["--io-threads", "1"])?, shape) };
    let (pando, valkey) = (weigh(Software::Pando)?, weigh(Software::Valkey)?);
    let mut row = vec![shape.name.to_owned()];
    for (pando, valkey) in [(pando.used, valkey.used), (pando.rss, valkey.rss)] {
        row.extend([format!("{pando:.2}"), format!("{valkey:.2}"), format!("{:.3}", pando / valkey)]);
    }
    Ok(row)
}
