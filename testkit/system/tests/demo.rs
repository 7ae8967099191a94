// SPDX-License-Identifier: BSD-3-Clause
//! `pando demo` as a user starts it: ready, the tour, and that nothing stays behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pando_procs::node::{free_port, temp_dir};
use pando_procs::{Client, eventually, peers};

/// Six ports in a row, and their cluster ports, that are free.
fn base_port() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let all_free = |base: u16| (base..base + 6).all(|port| free(port) && free(port + 10_000));
    (0..1000).map(|_| free_port()).find(|&base| all_free(base)).expect("six free ports")
}

fn demo(dir: &Path, port: u16, extra: &[&str]) -> Child {
    let mut command = Command::new(peers::pando());
    command.args(["demo", "--plain", "--port", &port.to_string(), "--dir"]).arg(dir).args(extra);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().expect("the demo starts")
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn the_demo_gets_ready_and_leaves_nothing_behind() {
    let (dir, port) = (temp_dir("demo"), base_port());
    let mut child = demo(&dir, port, &[]);
    // The reader goes away when the demo is ready: that must not disturb it.
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut seen = Vec::new();
    for line in lines {
        let line = line.expect("text");
        let ready = line.contains("ready");
        seen.push(line);
        if ready {
            break;
        }
    }
    assert!(seen.iter().any(|line| line.contains("ready")), "{seen:#?}");
    let info = Client::connect(port).expect("connect").text(&["CLUSTER", "INFO"]).expect("info");
    assert!(info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6"), "{info}");
    // SAFETY: kill(2) takes no pointers; the child is ours and was not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let status = eventually(Duration::from_secs(20), "the demo ends", || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        _ => Err("runs".into()),
    });
    assert!(status.expect("it ends").success());
    assert!(Client::connect(port).is_err(), "a node still runs");
    assert!(is_empty(&dir), "files are left in {}", dir.display());
    let _ = std::fs::remove_dir(&dir);
}

#[test]
fn the_tour_shows_a_failover_and_exits_with_success() {
    let (dir, port) = (temp_dir("tour"), base_port());
    let mut command = Command::new("timeout");
    command.arg("120").arg(peers::pando()).args(["demo", "--tour", "--port", &port.to_string(), "--dir"]).arg(&dir);
    let output = command.stdin(Stdio::null()).output().expect("the tour starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("write gap: ") && text.contains("is a replica in sync"), "{text}");
    assert!(is_empty(&dir), "files are left in {}", dir.display());
    let _ = std::fs::remove_dir(&dir);
}
