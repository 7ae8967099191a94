// SPDX-License-Identifier: BSD-3-Clause
//! The guided tour: load, kill -9 of a primary, the write gap, its return as a replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::load::{self, Load};
use super::processes::Processes;
use super::watch::{NodeView, Watch};
use crate::link::{Link, field, wait_for};
use crate::output::say;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs the tour to its end, or until `stop`.
///
/// # Errors
/// The step that failed.
pub fn run(processes: &mut Processes, stop: &AtomicBool) -> Result<(), String> {
    let addresses = processes.addresses();
    let mut watch = Watch::new(addresses.clone());
    let pause = |seconds: u64| {
        for _ in 0..seconds * 20 {
            if stop.load(Ordering::Relaxed) {
                return Err("stopped by a signal".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    say!("\n1. load: writes to all shards for two seconds");
    let load = Load::start(&addresses);
    pause(2)?;
    watch.look();
    watch.look();
    say!("   {} writes acknowledged; {}", load.written(), watch.summary());

    let victim = victim(&watch)?;
    let index = addresses.iter().position(|address| *address == victim.address).ok_or("an unknown node")?;
    let key = key_of(&victim.address)?;
    say!(
        "\n2. kill -9 of the primary {} (process {}), slots {}",
        victim.address,
        processes.pid(index).unwrap_or(0),
        victim.slots
    );
    let others = addresses.clone();
    let lost = victim.address.clone();
    let gap_key = key.clone();
    processes.kill(index);
    let (gap, taker) = load::gap(&others, &lost, &gap_key, LIMIT)?;
    say!("   write gap: {} ms; {taker} is the primary now", gap.as_millis());
    for event in watch.look() {
        say!("   {event}");
    }

    say!("\n3. the killed process starts again and follows the new primary");
    processes.spawn(index)?;
    wait_for(LIMIT, || {
        let mut link = Link::connect(&victim.address, Duration::from_secs(1))?;
        let info = link.text(&["INFO", "replication"])?;
        let follows = field(&info, "role") == Some("slave") && field(&info, "master_link_status") == Some("up");
        if follows { Ok(()) } else { Err(format!("{} is not a replica in sync yet", victim.address)) }
    })?;
    say!("   {} is a replica in sync", victim.address);
    let written = load.written();
    pause(1)?;
    say!(
        "\n4. the load went on: {} writes acknowledged, {} of them in the last second",
        load.written(),
        load.written() - written
    );
    drop(load);
    let value = Link::connect(&taker, LIMIT)?.text(&["GET", &key])?;
    say!("   the key written after the failover holds: {value}");
    Ok(())
}

/// A primary that does not lead the roots: the plain case first.
fn victim(watch: &Watch) -> Result<NodeView, String> {
    let primaries = || watch.view().nodes.iter().filter(|node| node.primary && !node.slots.is_empty());
    let chosen = primaries().find(|node| !node.leads).or_else(|| primaries().next());
    chosen.cloned().ok_or_else(|| "no primary with slots".to_owned())
}

/// A key that the node takes itself.
fn key_of(address: &str) -> Result<String, String> {
    let mut link = Link::connect(address, LIMIT)?;
    let keys = (0..1000).map(|number| format!("gap:{number}"));
    keys.into_iter()
        .find(|key| link.text(&["SET", key, "before"]).is_ok())
        .ok_or_else(|| format!("{address} takes no key"))
}
