// SPDX-License-Identifier: BSD-3-Clause
//! Clusters of real processes on loopback, Pando beside Valkey 9.1.2: how long they take to form, what they cost while
//! nothing happens, and how they recover from kill -9 of primaries.
//!
//! `cargo run --release -p pando-bench --bin clusters -- --sizes 6,30,60,120 --software both`. Half of the processes are
//! primaries. Runs in a network namespace of its own where the system allows it, so that the bytes counted are the
//! cluster's; elsewhere on the machine's loopback interface, which should be quiet then.
//!
//! - `forming.rs`: start, form, and the check that all processes agree
//! - `idle.rs`: processor time, bytes and wake-ups of an idle cluster
//! - `recovery.rs`: faults, with writes to the shards that lost nobody

mod forming;
mod idle;
mod recovery;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use pando_bench::table;
use pando_procs::Software;

use forming::{Formed, Way, World};
use idle::Idle;
use recovery::{Fault, Recovery};

#[derive(Parser)]
struct Options {
    /// Numbers of processes; even ones.
    #[arg(long, value_delimiter = ',', default_value = "6,30,60,120")]
    sizes: Vec<usize>,
    #[arg(long, value_enum, default_value = "both")]
    software: Which,
    /// Only these parts, of `form`, `idle`, `faults`. Forming is always part of it.
    #[arg(long, value_delimiter = ',', default_value = "form,idle,faults")]
    parts: Vec<String>,
    /// How Pando's clusters are formed.
    #[arg(long, value_enum, default_value = "create")]
    pando_by: PandoBy,
    /// How Valkey's clusters are formed.
    #[arg(long, value_enum, default_value = "commands")]
    valkey_by: ValkeyBy,
    /// How long an idle cluster is looked at, in seconds.
    #[arg(long, default_value_t = 30)]
    idle_s: u64,
    /// Time from its forming to that look.
    #[arg(long, default_value_t = 10)]
    settle_s: u64,
    /// How often each cluster is formed; all but the last time only to measure that.
    #[arg(long, default_value_t = 1)]
    forms: usize,
    /// More arguments for each Pando process.
    #[arg(long, allow_hyphen_values = true, value_delimiter = ' ')]
    pando_args: Vec<String>,
    /// Leave the cluster running until the process is interrupted, to look at it.
    #[arg(long)]
    stay: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Which {
    Pando,
    Valkey,
    Both,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum PandoBy {
    /// `pando cluster create`, as a user would.
    Create,
    /// Processes that are started with `cluster-roots`; slots and replicas by commands.
    Roots,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ValkeyBy {
    /// `valkey-cli --cluster create`.
    Cli,
    /// The same commands, as early as Valkey takes them.
    Commands,
}

/// Set in the process that runs inside of the namespace.
const INSIDE: &str = "PANDO_BENCH_NAMESPACE";

fn main() -> ExitCode {
    let options = Options::parse();
    if std::env::var_os(INSIDE).is_none() && has_namespaces() {
        let error = enter_namespace();
        eprintln!(
            "bench clusters: no network namespace ({error}); bytes are those of the machine's loopback interface"
        );
    }
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench clusters: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// With numbers of processes of its own, too: whatever ends this program ends all that it started.
const UNSHARE: [&str; 7] = ["--net", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];

/// Not `exec`: the first process of a namespace does not end by SIGINT or SIGTERM.
const SCRIPT: &str = "ip link set lo up && \"$0\" \"$@\"; exit $?";

fn has_namespaces() -> bool {
    let tried = Command::new("unshare").args(UNSHARE).args(["ip", "link", "set", "lo", "up"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Runs this program again in a namespace with a loopback interface of its own; returns only if that is impossible.
fn enter_namespace() -> std::io::Error {
    let Ok(program) = std::env::current_exe() else { return std::io::Error::other("this program has no path") };
    let mut command = Command::new("unshare");
    command.args(UNSHARE).args(["sh", "-c", SCRIPT]);
    command.arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec()
}

/// Figures of one size of one software.
struct Row {
    software: Software,
    size: usize,
    formed: Vec<Formed>,
    idle: Option<Idle>,
    faults: Vec<(Fault, Recovery)>,
}

fn measure(options: &Options) -> Result<(), String> {
    let mut ways = Vec::new();
    if options.software != Which::Valkey {
        ways.push(match options.pando_by {
            PandoBy::Create => Way::PandoCreate,
            PandoBy::Roots => Way::PandoRoots,
        });
    }
    if options.software != Which::Pando {
        ways.push(match options.valkey_by {
            ValkeyBy::Cli => Way::ValkeyCli,
            ValkeyBy::Commands => Way::ValkeyCommands,
        });
    }
    let mut rows = Vec::new();
    for &size in &options.sizes {
        for &way in &ways {
            match one(options, size, way) {
                Ok(row) => rows.push(row),
                Err(reason) => eprintln!("{size} processes, {}: {reason}", way.name()),
            }
        }
    }
    report(&rows);
    let expected = options.sizes.len() * ways.len();
    if rows.len() == expected { Ok(()) } else { Err("not all clusters could be measured".into()) }
}

fn one(options: &Options, size: usize, way: Way) -> Result<Row, String> {
    let wants = |part: &str| options.parts.iter().any(|each| each == part);
    let mut formed = Vec::new();
    let mut world = loop {
        let (world, figures) = World::form(size, way, &options.pando_args)?;
        eprintln!(
            "{size} processes, {}: answering after {:.2} s, formed after {:.2} s, {:.2} CPU s, {:.1} MiB a process",
            way.name(),
            figures.ready.as_secs_f64(),
            figures.formed.as_secs_f64(),
            figures.cpu_s,
            figures.rss_mib
        );
        formed.push(figures);
        if formed.len() >= options.forms.max(1) {
            break world;
        }
    };
    let mut row = Row { software: way.software(), size, formed, idle: None, faults: Vec::new() };
    if wants("idle") {
        std::thread::sleep(Duration::from_secs(options.settle_s));
        let idle = Idle::measure(&world, Duration::from_secs(options.idle_s))?;
        eprintln!("{size} processes, {}: {idle}", way.name());
        row.idle = Some(idle);
    }
    if wants("faults") {
        for fault in Fault::of(way.software(), size) {
            match recovery::measure(&mut world, fault) {
                Ok(recovery) => {
                    eprintln!("{size} processes, {}: {}: {recovery}", way.name(), fault.name());
                    row.faults.push((fault, recovery));
                }
                Err(reason) => {
                    eprintln!("{size} processes, {}: {}: {reason}", way.name(), fault.name());
                    break;
                }
            }
        }
    }
    if options.stay {
        eprintln!("the first process answers on port {}; the others follow", world.cluster.nodes[0].port);
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
    Ok(row)
}

fn name(software: Software) -> &'static str {
    if software == Software::Pando { "Pando" } else { "Valkey 9.1.2" }
}

/// From the table of issue 5.
fn form_target(size: usize) -> &'static str {
    match size {
        0..=6 => "1",
        7..=60 => "2",
        _ => "3",
    }
}

fn report(rows: &[Row]) {
    println!("\nforming: seconds from the start of the first process until all agree");
    let mut lines = Vec::new();
    for row in rows {
        let times: Vec<f64> = row.formed.iter().map(|formed| formed.formed.as_secs_f64()).collect();
        let last = row.formed.last();
        let of = |part: fn(&Formed) -> f64| last.map_or(f64::NAN, part);
        lines.push(vec![
            row.size.to_string(),
            name(row.software).into(),
            format!("{:.2}", of(|f| f.ready.as_secs_f64())),
            format!("{:.2}", pando_bench::median(&times)),
            form_target(row.size).into(),
            format!("{:.2}", of(|f| f.cpu_s)),
            format!("{:.1}", of(|f| f.rss_mib)),
        ]);
    }
    table::print(&["processes", "", "answering s", "formed s", "target s", "CPU s", "MiB each"], &lines);

    println!("\nidle: all processes together, a node, a process");
    let mut lines = Vec::new();
    for row in rows {
        let Some(idle) = &row.idle else { continue };
        lines.push(vec![
            row.size.to_string(),
            name(row.software).into(),
            format!("{:.2}", idle.cpu_s_per_minute),
            if row.size == 120 { "2".into() } else { "-".into() },
            format!("{:.0}", idle.payload_per_node),
            format!("{:.0}", idle.bytes_per_node),
            "1500".into(),
            format!("{:.1}", idle.wakes_per_process),
            format!("{:.1}", idle.rss_mib),
        ]);
    }
    table::print(
        &["processes", "", "CPU s/min", "target", "bus payload B/s", "all on lo B/s", "target", "wakes/s", "MiB each"],
        &lines,
    );

    println!("\nkill -9: ms until a write to each failed shard succeeds, until all survivors agree; others' refusals");
    let mut lines = Vec::new();
    for row in rows {
        for (fault, recovery) in &row.faults {
            lines.push(vec![
                row.size.to_string(),
                name(row.software).into(),
                fault.name().into(),
                recovery.killed.to_string(),
                format!("{:.0}", recovery.first_write.as_secs_f64() * 1000.0),
                format!("{:.0}", recovery.writes.as_secs_f64() * 1000.0),
                format!("{:.0}", recovery.agreed.as_secs_f64() * 1000.0),
                fault.target_ms().into(),
                recovery.others.refused.to_string(),
                format!("{:.0}", recovery.others.refusing.as_secs_f64() * 1000.0),
                format!("{:.0}", recovery.others.gap.as_secs_f64() * 1000.0),
            ]);
        }
    }
    table::print(
        &[
            "processes",
            "",
            "killed",
            "shards",
            "first write",
            "last write",
            "agreed",
            "target",
            "others refused",
            "for ms",
            "others' gap ms",
        ],
        &lines,
    );
}
