// SPDX-License-Identifier: BSD-3-Clause
//! One load on one server, by redis-benchmark.

use std::process::{Command, Stdio};

use pando_procs::Node;

/// What redis-benchmark is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub name: &'static str,
    pub clients: u32,
    pub pipeline: u32,
    pub requests: u64,
}

/// One command's figures under a load.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Server time (user and system, all threads) per request, in microseconds.
    pub cpu_us: f64,
    pub requests_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Where the client runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pin {
    Nowhere,
    /// redis-benchmark on this CPU.
    Cpu(usize),
}

/// Runs one command (`get` or `set`) with 80-byte values over `keys` random keys.
///
/// # Errors
/// What redis-benchmark printed.
pub fn run(node: &Node, command: &str, load: Load, keys: u64, pin: Pin) -> Result<Figures, String> {
    benchmark(node, &["-t", command, "-d", "80"], &[], load, keys, pin)
}

/// Runs a command of any words, in which `__rand_int__` is a number below `range`.
///
/// # Errors
/// What redis-benchmark printed.
pub fn run_command(node: &Node, words: &[&str], load: Load, range: u64, pin: Pin) -> Result<Figures, String> {
    benchmark(node, &[], words, load, range, pin)
}

fn benchmark(
    node: &Node,
    options: &[&str],
    words: &[&str],
    load: Load,
    range: u64,
    pin: Pin,
) -> Result<Figures, String> {
    let mut program = match pin {
        Pin::Nowhere => Command::new("redis-benchmark"),
        Pin::Cpu(cpu) => {
            let mut taskset = Command::new("taskset");
            taskset.args(["-c", &cpu.to_string(), "redis-benchmark"]);
            taskset
        }
    };
    let (clients, pipeline) = (load.clients.to_string(), load.pipeline.to_string());
    let (requests, range, port) = (load.requests.to_string(), range.to_string(), node.port.to_string());
    program.args(["-h", "127.0.0.1", "-p", &port, "--csv"]).args(options);
    program.args(["-c", &clients, "-P", &pipeline, "-n", &requests, "-r", &range]).args(words);
    let before = node.cpu_us();
    let output = program.stdin(Stdio::null()).output().map_err(|error| format!("redis-benchmark: {error}"))?;
    let cpu_us = (node.cpu_us() - before) as f64 / load.requests as f64;
    let text = String::from_utf8_lossy(&output.stdout);
    // A head line with the columns' names, then one line: the name in quotes, then figures.
    let line = text.lines().find(|line| line.starts_with('"') && !line.starts_with("\"test\""));
    let figures = line.and_then(|line| line[1..].split_once("\",")).map(|(_, figures)| figures);
    let figures = figures.ok_or_else(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let cells: Vec<f64> = figures.split(',').map(|cell| cell.trim_matches('"').parse().unwrap_or(f64::NAN)).collect();
    let cell = |index: usize| cells.get(index).copied().unwrap_or(f64::NAN);
    Ok(Figures { cpu_us, requests_per_s: cell(0), p50_ms: cell(3), p99_ms: cell(5) })
}

/// Writes keys 0..count as redis-benchmark names them (`key:000000000012`), with 80-byte values, in pipelines. With a TTL
/// they fall due spread over the time from one hour ahead to `ttl_s`.
///
/// # Errors
/// As the connection says.
pub fn fill(node: &Node, count: u64, ttl_s: Option<u64>) -> std::io::Result<()> {
    let mut client = node.client();
    let value = [b'x'; 80];
    let mut next = 0;
    while next < count {
        let end = (next + 1000).min(count);
        let mut batch = Vec::new();
        for number in next..end {
            let key = format!("key:{number:012}");
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let ttl = ttl_s.map(|ttl| (3600 + spread % ttl.saturating_sub(3600).max(1)).to_string());
            match &ttl {
                Some(ttl) => {
                    pando_resp::encode_command(&mut batch, &[b"SET", key.as_bytes(), &value, b"EX", ttl.as_bytes()]);
                }
                None => pando_resp::encode_command(&mut batch, &[b"SET", key.as_bytes(), &value]),
            }
        }
        client.send_raw(&batch)?;
        for _ in next..end {
            client.receive()?;
        }
        next = end;
    }
    Ok(())
}
