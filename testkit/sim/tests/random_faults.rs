// SPDX-License-Identifier: BSD-3-Clause
//! Random runs: form a cluster, torment it, heal it; safe at every step, whole at the end. A seed
//! that fails is printed and repeats with `PANDO_SIM_FIRST=<seed> PANDO_SIM_SEEDS=1`.

use pando_sim::run::run;
use pando_sim::seeds;

/// Runs a seed in a process of its own: some counters of the libraries are global, and a seed has to
/// give the same run whatever ran before it. Gives the line with the trace.
fn in_child(seed: u64) -> String {
    let exe = std::env::current_exe().expect("the test's own path");
    let output = std::process::Command::new(exe)
        .args(["--ignored", "--exact", "--nocapture", "one_seed"])
        .env("PANDO_SIM_FIRST", seed.to_string())
        .output()
        .expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let trace = text.lines().find_map(|line| line.find("trace ").map(|at| line[at..].to_owned()));
    match trace {
        Some(trace) if output.status.success() => trace,
        _ => panic!("seed {seed} failed:\n{text}\n{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
#[ignore = "run by the others, once for each seed"]
fn one_seed() {
    let seed = seeds(1).start;
    let outcome = run(seed);
    println!("{}", outcome.report());
    if let Some(failure) = outcome.failure {
        panic!("seed {seed}: {failure}");
    }
}

#[test]
fn clusters_survive_random_faults() {
    for seed in seeds(8) {
        println!("seed {seed}: {}", in_child(seed));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [332, 333] {
        assert_eq!(in_child(seed), in_child(seed), "seed {seed}");
    }
}
