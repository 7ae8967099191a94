// SPDX-License-Identifier: BSD-3-Clause
//! `cargo xtask sim`: many seeds of the simulation, a process for each, on all cores; prints what was done and which
//! seeds failed. What a seed does is in testkit/sim.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const OPTIONS: &str = "cargo xtask sim [--seeds N] [--from S] [--minutes M] [--jobs J]";

/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(30);

/// The words after `sim`.
struct Options {
    seeds: u64,
    from: u64,
    minutes: Option<u64>,
    jobs: usize,
}

impl Options {
    fn parse(words: &[String]) -> Result<Options, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut options = Options { seeds: u64::MAX, from: 1, minutes: None, jobs: cores };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !["--seeds", "--from", "--minutes", "--jobs"].contains(&word.as_str()) {
                return Err(format!("unknown option {word}; {OPTIONS}"));
            }
            let number: Option<u64> = words.next().and_then(|text| text.parse().ok());
            let number = number.ok_or_else(|| format!("a number must follow {word}"))?;
            match word.as_str() {
                "--seeds" => options.seeds = number,
                "--from" => options.from = number,
                "--minutes" => options.minutes = Some(number),
                _ => options.jobs = (number as usize).max(1),
            }
        }
        if options.seeds == u64::MAX && options.minutes.is_none() {
            options.seeds = 100;
        }
        Ok(options)
    }
}

/// What all seeds came to.
#[derive(Default)]
struct Sum {
    counts: BTreeMap<String, u64>,
    failed: BTreeMap<u64, String>,
    runs: u64,
}

/// Builds the simulation and runs seeds.
pub fn run(root: &Path, words: &[String]) -> Result<(), String> {
    let options = Options::parse(words)?;
    let program = build(root)?;
    let folder = root.join("target/sim");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let end = options.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let (next, sum) = (AtomicU64::new(options.from), Mutex::new(Sum::default()));
    let (start, told) = (Instant::now(), Mutex::new(Instant::now()));
    let last = options.from.saturating_add(options.seeds);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while end.is_none_or(|end| Instant::now() < end) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last {
                        return;
                    }
                    let (is_good, text) = one(&program, seed);
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    sum.add(seed, is_good, &text);
                    if !is_good {
                        println!("seed {seed} failed: {}", sum.failed[&seed]);
                    }
                    if !is_good || options.seeds == 1 {
                        // The whole report, for whoever looks at it later.
                        let _ = std::fs::write(folder.join(format!("{seed}.txt")), text);
                    }
                    let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if told.elapsed() >= PROGRESS {
                        *told = Instant::now();
                        println!("{} seeds, {} failed, {} s", sum.runs, sum.failed.len(), start.elapsed().as_secs());
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.print(&folder);
    if options.seeds == 1 {
        println!("report {}", folder.join(format!("{}.txt", options.from)).display());
    }
    println!("{} seeds in {} s, {} failed", sum.runs, start.elapsed().as_secs(), sum.failed.len());
    match sum.failed.len() {
        0 if sum.runs == 0 => Err("no seed was run".into()),
        0 => Ok(()),
        failed => Err(format!("{failed} of {} seeds failed", sum.runs)),
    }
}

/// The test program that runs a seed.
fn build(root: &Path) -> Result<PathBuf, String> {
    let words = ["test", "--package", "pando-sim", "--test", "random_faults", "--no-run", "--message-format=json"];
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(words).current_dir(root).stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err("the simulation does not build".into());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().rev().find(|line| line.contains("\"random_faults\"") && line.contains("\"executable\":\""));
    let path = line.and_then(|line| line.split("\"executable\":\"").nth(1)?.split('"').next());
    path.map(PathBuf::from).ok_or_else(|| "cargo names no program".to_owned())
}

fn one(program: &Path, seed: u64) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(["--ignored", "--exact", "--nocapture", "one_seed"]);
    let output = command.env("PANDO_SIM_FIRST", seed.to_string()).env("RUST_BACKTRACE", "0").output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            (output.status.success(), text.into_owned())
        }
        Err(error) => (false, error.to_string()),
    }
}

impl Sum {
    /// Lines of a report are a word, and for most of them a number and what it counts.
    fn add(&mut self, seed: u64, is_good: bool, text: &str) {
        self.runs += 1;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [kind @ ("fault" | "answered" | "refused" | "writes"), number, rest @ ..] => {
                    self.count(&format!("{kind}: {}", rest.join(" ")), number.parse().unwrap_or(0));
                }
                ["seed", _, rest @ ..] => {
                    for name in ["steps", "failovers"] {
                        let at = rest.iter().position(|word| *word == name);
                        let number = at.and_then(|at| rest.get(at + 1)?.parse().ok());
                        self.count(name, number.unwrap_or(0));
                    }
                }
                _ => {}
            }
        }
        if !is_good {
            let start = format!("seed {seed}: ");
            let why = text.lines().find(|line| line.starts_with(&start)).unwrap_or("the process died");
            self.failed.insert(seed, why.trim_start_matches(&start).to_owned());
        }
    }

    fn count(&mut self, name: &str, number: u64) {
        *self.counts.entry(name.to_owned()).or_default() += number;
    }

    fn print(&self, folder: &Path) {
        for (name, count) in &self.counts {
            println!("{count:>10} {name}");
        }
        for (seed, why) in &self.failed {
            println!("FAILED seed {seed}: {why}");
            println!("       report {}", folder.join(format!("{seed}.txt")).display());
            println!(
                "       repeat cargo xtask sim --from {seed} --seeds 1    (PANDO_SIM_AGENTS=info: with the agents' log)"
            );
        }
    }
}
