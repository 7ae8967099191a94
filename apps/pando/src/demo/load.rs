// SPDX-License-Identifier: BSD-3-Clause
//! A small cluster-aware load for the tour: writes to all shards, and to one key while its primary dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::link::Link;

/// For one write; a dead or hanging node costs no more than this.
const WRITE_LIMIT: Duration = Duration::from_millis(100);

/// Writes `key` through whichever node takes it, beginning with `first`; the address that took it.
///
/// # Errors
/// The last refusal.
pub fn write(addresses: &[String], first: &str, key: &str, value: &str) -> Result<String, String> {
    let mut last = "no node answers".to_owned();
    let mut next = Some(first.to_owned());
    let mut others = addresses.iter().filter(|address| *address != first);
    // Each node once, and a few redirects.
    for _ in 0..addresses.len() + 3 {
        let Some(address) = next.take().or_else(|| others.next().cloned()) else { break };
        match Link::connect(&address, WRITE_LIMIT).and_then(|mut link| link.text(&["SET", key, value])) {
            Ok(_) => return Ok(address),
            Err(reason) => {
                next = reason.strip_prefix("MOVED ").and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
                last = reason;
            }
        }
    }
    Err(last)
}

/// Threads that write random keys to every shard until it is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// One thread for each address.
    pub fn start(addresses: &[String]) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = addresses.iter().enumerate().map(|(index, address)| {
            let (stop, written, address) = (Arc::clone(&stop), Arc::clone(&written), address.clone());
            std::thread::spawn(move || fill(index, &address, &stop, &written))
        });
        Self { threads: threads.collect(), stop, written }
    }

    /// Writes that were acknowledged.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Writes the keys that this node owns; those of others it is told to leave.
fn fill(index: usize, address: &str, stop: &AtomicBool, written: &AtomicU64) {
    let mut number = index as u64;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut link) = Link::connect(address, Duration::from_secs(1)) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("tour:{}", (number >> 33) % 100_000);
            match link.text(&["SET", &key, "some value"]) {
                Ok(_) => _ = written.fetch_add(1, Ordering::Relaxed),
                Err(reason) if reason.starts_with("MOVED") => {}
                Err(_) => break,
            }
        }
    }
}

/// Measures from now until a write to `key` succeeds elsewhere than on `lost`.
///
/// # Errors
/// The last refusal, when none succeeds within `limit`.
pub fn gap(addresses: &[String], lost: &str, key: &str, limit: Duration) -> Result<(Duration, String), String> {
    let others: Vec<String> = addresses.iter().filter(|address| *address != lost).cloned().collect();
    let start = Instant::now();
    loop {
        match write(&others, &others[0], key, "written after the failover") {
            Ok(address) if address != lost => return Ok((start.elapsed(), address)),
            Err(reason) if start.elapsed() > limit => return Err(reason),
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
