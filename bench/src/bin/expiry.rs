// SPDX-License-Identifier: BSD-3-Clause
//! Expiry beside Valkey 9.1.2: how late `expired` events arrive among many other volatile keys, and how long keys that
//! fall due in one instant stay, with the latency of a steady client meanwhile.
//!
//! `cargo run --release -p pando-bench --bin expiry -- --help`.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use pando_bench::{load, table};
use pando_procs::{Node, Software};
use pando_resp::decode::Value;

#[derive(Parser)]
struct Options {
    /// Other keys with a TTL.
    #[arg(long, default_value_t = 10_000_000)]
    others: u64,
    /// Keys whose events are timed.
    #[arg(long, default_value_t = 2_000)]
    timed: u64,
    /// Keys that fall due in the same instant.
    #[arg(long, default_value_t = 1_000_000)]
    burst: u64,
}

/// Longest wait for events and for the end of the burst.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench expiry: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let mut rows = Vec::new();
    for (name, software) in [("Pando", Software::Pando), ("Valkey 9.1.2", Software::Valkey)] {
        let node = Node::start(software, &["--notify-keyspace-events", "Ex"])?;
        let text = |error: io::Error| format!("{name}: {error}");
        load::fill(&node, options.others, Some(86_400)).map_err(text)?;
        let mut row = vec![name.to_owned()];
        row.extend(events(&node, options.timed).map_err(text)?);
        row.extend(burst(&node, options.burst).map_err(text)?);
        rows.push(row);
    }
    println!(
        "{} other volatile keys; {} timed events; {} keys due at once\n",
        options.others, options.timed, options.burst
    );
    table::print(
        &[
            "server",
            "events",
            "late ms p50",
            "p99",
            "max",
            "burst gone after s",
            "GET us calm p50",
            "p99.9",
            "burst p50",
            "p99.9",
        ],
        &rows,
    );
    Ok(())
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn percentile(sorted: &[u64], permille: usize) -> u64 {
    sorted.get((sorted.len() * permille / 1000).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// How late events arrive: count, then p50, p99 and the longest in milliseconds. An event that does not arrive counts as
/// late as the wait was long.
fn events(node: &Node, timed: u64) -> io::Result<Vec<String>> {
    let mut subscriber = node.client();
    subscriber.send(&[b"SUBSCRIBE", b"__keyevent@0__:expired"])?;
    subscriber.receive()?;
    let mut writer = node.client();
    // Keys carry their due times, spread over two seconds.
    let start = unix_ms() + 1000;
    let mut batch = Vec::new();
    for number in 0..timed {
        let due = (start + number * 2000 / timed).to_string();
        let key = format!("timed:{due}:{number}");
        pando_resp::encode_command(&mut batch, &[b"SET", key.as_bytes(), b"x", b"PXAT", due.as_bytes()]);
    }
    writer.send_raw(&batch)?;
    for _ in 0..timed {
        writer.receive()?;
    }
    let end = Instant::now() + PATIENCE;
    let mut late = Vec::new();
    while (late.len() as u64) < timed && Instant::now() < end {
        let Ok(Value::Array(Some(parts))) = subscriber.receive() else { break };
        let now = unix_ms();
        if let Some(Value::Bulk(Some(key))) = parts.into_iter().nth(2) {
            let key = String::from_utf8_lossy(&key).into_owned();
            let due = key.split(':').nth(1).and_then(|due| due.parse::<u64>().ok());
            late.extend(due.map(|due| now.saturating_sub(due)));
        }
    }
    let arrived = late.len();
    late.resize(timed as usize, PATIENCE.as_millis() as u64);
    late.sort_unstable();
    let cells = [percentile(&late, 500), percentile(&late, 990), late.last().copied().unwrap_or(0)];
    Ok([arrived as u64].into_iter().chain(cells).map(|cell| cell.to_string()).collect())
}

/// GETs at about a thousand per second until told to stop; their times in microseconds.
fn paced(node: &Node, stop: &AtomicBool) -> io::Result<Vec<u64>> {
    let mut client = node.client();
    let mut times = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Relaxed) {
        let start = Instant::now();
        client.send(&[b"GET", b"key:000000000001"])?;
        client.receive()?;
        times.push(start.elapsed().as_micros() as u64);
        next += Duration::from_millis(1);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    times.sort_unstable();
    Ok(times)
}

/// Seconds until the last of `count` keys with one due time is gone, and latencies before and meanwhile.
fn burst(node: &Node, count: u64) -> io::Result<Vec<String>> {
    let mut writer = node.client();
    let mut size = node.client();
    let mut keys = || -> io::Result<u64> {
        size.send(&[b"DBSIZE"])?;
        Ok(if let Value::Int(keys) = size.receive()? { keys as u64 } else { 0 })
    };
    let before = keys()?;
    let due = unix_ms() + 10_000 + count / 50;
    let due_text = due.to_string();
    for first in (0..count).step_by(1000) {
        let numbers = first..(first + 1000).min(count);
        let mut batch = Vec::new();
        for number in numbers.clone() {
            let key = format!("burst:{number}");
            pando_resp::encode_command(&mut batch, &[b"SET", key.as_bytes(), b"value", b"PXAT", due_text.as_bytes()]);
        }
        writer.send_raw(&batch)?;
        for _ in numbers {
            writer.receive()?;
        }
    }
    let (gone_after, calm, meanwhile) = std::thread::scope(|scope| -> io::Result<_> {
        let stop = Arc::new(AtomicBool::new(false));
        let phase = |stop: Arc<AtomicBool>| scope.spawn(move || paced(node, &stop));
        let calm = phase(stop.clone());
        std::thread::sleep(Duration::from_millis(due.saturating_sub(unix_ms() + 200)));
        stop.store(true, Relaxed);
        let calm = calm.join().expect("the client does not panic")?;
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::sleep(Duration::from_millis(due.saturating_sub(unix_ms())));
        let meanwhile = phase(stop.clone());
        let end = Instant::now() + PATIENCE;
        while keys()? > before && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let gone_after = unix_ms().saturating_sub(due);
        stop.store(true, Relaxed);
        Ok((gone_after, calm, meanwhile.join().expect("the client does not panic")?))
    })?;
    let mut cells = vec![format!("{:.2}", gone_after as f64 / 1000.0)];
    for times in [&calm, &meanwhile] {
        cells.extend([500, 999].map(|permille| percentile(times, permille).to_string()));
    }
    Ok(cells)
}
