// SPDX-License-Identifier: BSD-3-Clause
//! Control never starves: every worker of every node fully loaded for a while causes no failover.
//!
//! CI loads for some seconds; `PANDO_LOAD_SECONDS=60` is the full minute.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pando_procs::Cluster;
use pando_procs::client::info_field;
use pando_procs::cluster::Creator;

#[test]
fn full_client_load_causes_no_failover() {
    let seconds = std::env::var("PANDO_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_u64);
    let cluster = Cluster::create(6, 1, Creator::PandoCluster, &[]).expect("cluster");
    let epoch = |index: usize| {
        let info = cluster.nodes[index].client().text(&["CLUSTER", "INFO"]).expect("info");
        assert_eq!(info_field(&info, "cluster_state").as_deref(), Some("ok"), "{info}");
        (info_field(&info, "cluster_current_epoch"), info_field(&info, "cluster_root_leader"))
    };
    cluster.root_leader().expect("a leader");
    let before = epoch(0);
    // More load than the machine can serve: a pipelined benchmark on each primary at the same time.
    let start = |port: u16| -> Child {
        let mut command = Command::new("timeout");
        command.args([&seconds.to_string(), "redis-benchmark", "-p", &port.to_string(), "-c", "50", "-P", "64"]);
        command.args(["-n", "1000000000", "-t", "ping,get", "-q", "-l"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-benchmark")
    };
    let mut loads: Vec<Child> = cluster.nodes[..3].iter().map(|node| start(node.port)).collect();
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    while std::time::Instant::now() < end {
        assert_eq!(epoch(4), before, "something failed over under load");
        std::thread::sleep(Duration::from_millis(200));
    }
    for load in &mut loads {
        let _ = load.kill();
        let _ = load.wait();
    }
    assert_eq!(epoch(0), before, "something failed over under load");
}
