// SPDX-License-Identifier: BSD-3-Clause
//! Active defragmentation: resident memory beside what is in use after heavy churn, before and after a pass, beside
//! Valkey 9.1.2. A Valkey that was built without jemalloc cannot defragment: then its rows say so.
//!
//! `cargo run --release -p pando-bench --bin defrag -- --megabytes 200`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pando_bench::table;
use pando_procs::client::{Client, info_field};
use pando_procs::{Node, Software};

#[derive(Parser)]
struct Options {
    /// Data before two thirds of it are deleted.
    #[arg(long, default_value_t = 200)]
    megabytes: usize,
    /// Longest wait for the server to be done, in seconds.
    #[arg(long, default_value_t = 60)]
    wait_s: u64,
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench defrag: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let mut rows = Vec::new();
    for (name, software) in [("Pando", Software::Pando), ("Valkey 9.1.2", Software::Valkey)] {
        for (load, churn) in
            [("strings", strings as Churn), ("strings, refilled", refilled), ("collections", collections)]
        {
            // A small data set must count too.
            let node = Node::start(software, &["--active-defrag-ignore-bytes", "8mb"])?;
            let mut client = node.client();
            let empty = node.rss_bytes() as f64 - memory(&node, &mut client)?.0;
            let mut rng = Rng(1);
            churn(&mut client, options.megabytes << 20, &mut rng).map_err(|error| error.to_string())?;
            std::thread::sleep(Duration::from_secs(3));
            let before = memory(&node, &mut client)?;
            let reply = client.text(&["CONFIG", "SET", "activedefrag", "yes"]).map_err(|error| error.to_string())?;
            let after = if reply == "OK" {
                settle(&mut client, options)?;
                let (used, rss) = memory(&node, &mut client)?;
                [format!("{:.0}", used / 1e6), format!("{:.0}", rss / 1e6), format!("{:.2}", (rss - empty) / used)]
            } else {
                ["-", "-", "not built with it"].map(str::to_owned)
            };
            let (used, rss) = before;
            let row = [format!("{name}, {load}"), format!("{:.0}", used / 1e6), format!("{:.0}", rss / 1e6)];
            rows.push(row.into_iter().chain([format!("{:.2}", (rss - empty) / used)]).chain(after).collect());
        }
    }
    println!("{} MB of data, two thirds deleted; MB", options.megabytes);
    println!("ratio: resident to used memory, without what the program itself takes when it is empty");
    table::print(&["server, load", "used", "RSS", "ratio", "used after", "RSS after", "ratio after"], &rows);
    Ok(())
}

fn memory(node: &Node, client: &mut Client) -> Result<(f64, f64), String> {
    let info = client.text(&["INFO", "memory"]).map_err(|error| error.to_string())?;
    let used = info_field(&info, "used_memory").and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    Ok((used, node.rss_bytes() as f64))
}

/// Until no pass has been running for three seconds.
fn settle(client: &mut Client, options: &Options) -> Result<(), String> {
    let start = Instant::now();
    let mut idle_since = Instant::now();
    while start.elapsed() < Duration::from_secs(options.wait_s) && idle_since.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(100));
        let info = client.text(&["INFO", "memory"]).map_err(|error| error.to_string())?;
        if info_field(&info, "active_defrag_running").is_some_and(|text| text != "0") {
            idle_since = Instant::now();
        }
    }
    let stats = client.text(&["INFO", "stats"]).map_err(|error| error.to_string())?;
    let info = stats + &client.text(&["INFO", "memory"]).map_err(|error| error.to_string())?;
    let field = |name: &str| info_field(&info, name).unwrap_or_default();
    let (hits, time_ms) = (field("active_defrag_hits"), field("total_active_defrag_time"));
    let [used, active, resident] = ["allocated", "active", "resident"].map(|name| field(&format!("allocator_{name}")));
    eprintln!(
        "settled in {:?}: {hits} moved in {time_ms} ms; allocated {used}, in pages {active}, resident {resident}",
        start.elapsed()
    );
    Ok(())
}

type Churn = fn(&mut Client, usize, &mut Rng) -> std::io::Result<()>;

/// Sends commands in batches and waits for their replies.
struct Batch<'c> {
    client: &'c mut Client,
    bytes: Vec<u8>,
    commands: usize,
}

impl<'c> Batch<'c> {
    fn new(client: &'c mut Client) -> Self {
        Batch { client, bytes: Vec::new(), commands: 0 }
    }

    fn add(&mut self, args: &[&[u8]]) -> std::io::Result<()> {
        pando_resp::encode_command(&mut self.bytes, args);
        self.commands += 1;
        if self.bytes.len() > 200_000 { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> std::io::Result<()> {
        self.client.send_raw(&self.bytes)?;
        self.bytes.clear();
        for _ in 0..std::mem::take(&mut self.commands) {
            self.client.receive()?;
        }
        Ok(())
    }
}

fn fill_strings(
    batch: &mut Batch<'_>,
    name: &str,
    bytes: usize,
    sizes: std::ops::Range<usize>,
    rng: &mut Rng,
) -> std::io::Result<usize> {
    let text = vec![b'x'; sizes.end];
    let (mut filled, mut count) = (0, 0);
    while filled < bytes {
        let len = sizes.start + rng.below(sizes.len());
        batch.add(&[b"SET", format!("{name}:{count}").as_bytes(), &text[..len]])?;
        filled += len;
        count += 1;
    }
    Ok(count)
}

/// Deletes two of three keys at random.
fn thin_out(batch: &mut Batch<'_>, name: &str, count: usize, rng: &mut Rng) -> std::io::Result<()> {
    for number in 0..count {
        if rng.below(3) != 0 {
            batch.add(&[b"DEL", format!("{name}:{number}").as_bytes()])?;
        }
    }
    Ok(())
}

/// Strings of 1.5 to 4 KiB.
fn strings(client: &mut Client, bytes: usize, rng: &mut Rng) -> std::io::Result<()> {
    let mut batch = Batch::new(client);
    let count = fill_strings(&mut batch, "a", bytes, 1536..4096, rng)?;
    thin_out(&mut batch, "a", count, rng)?;
    batch.send()
}

/// As [`strings`]; then strings of other sizes up to the former amount, of which two thirds go, too.
fn refilled(client: &mut Client, bytes: usize, rng: &mut Rng) -> std::io::Result<()> {
    strings(client, bytes, rng)?;
    let mut batch = Batch::new(client);
    let count = fill_strings(&mut batch, "b", bytes / 3 * 2, 4096..9000, rng)?;
    thin_out(&mut batch, "b", count, rng)?;
    batch.send()
}

/// Hashes, sorted sets and lists of up to 2000 elements that grow in turn; two thirds of them go, and of what stays half of
/// the elements.
fn collections(client: &mut Client, bytes: usize, rng: &mut Rng) -> std::io::Result<()> {
    const KINDS: usize = 3;
    let keys = bytes / 60_000;
    let mut batch = Batch::new(client);
    let text = [b'x'; 80];
    for round in 0..1000 {
        for key in 0..keys {
            if round > key % 1000 {
                continue;
            }
            let name = format!("c:{key}");
            let len = 20 + rng.below(60);
            let element = format!("{round}:{}", rng.below(1000));
            let value = &text[..len];
            match key % KINDS {
                0 => batch.add(&[b"HSET", name.as_bytes(), element.as_bytes(), value])?,
                1 => batch.add(&[
                    b"ZADD",
                    name.as_bytes(),
                    round.to_string().as_bytes(),
                    &[element.as_bytes(), value].concat(),
                ])?,
                _ => batch.add(&[b"RPUSH", name.as_bytes(), value, element.as_bytes()])?,
            }
        }
    }
    thin_out(&mut batch, "c", keys, rng)?;
    for key in 0..keys {
        let (name, half) = (format!("c:{key}"), (key % 1000 / 2).to_string());
        match key % KINDS {
            0 => {}
            1 => batch.add(&[b"ZREMRANGEBYRANK", name.as_bytes(), b"0", half.as_bytes()])?,
            _ => batch.add(&[b"LTRIM", name.as_bytes(), half.as_bytes(), b"-1"])?,
        }
    }
    batch.send()
}
