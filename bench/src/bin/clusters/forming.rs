// SPDX-License-Identifier: BSD-3-Clause
//! Starts the processes of one cluster at once, forms it, and tells when all of them agree that it is whole.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pando_procs::client::info_field;
use pando_procs::cluster::NodeLine;
use pando_procs::node::temp_dir;
use pando_procs::{Client, Cluster, Node, Software, eventually, peers};

const SLOTS: usize = 16384;
/// For the processes to answer, and for them to agree.
const LIMIT: Duration = Duration::from_secs(180);
/// The cluster ports are 10000 above; both stay below the ports of outgoing connections.
const FIRST_PORT: u16 = 11_000;

/// How a cluster is put together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    PandoCreate,
    PandoRoots,
    ValkeyCli,
    ValkeyCommands,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Way::PandoCreate => "Pando by `pando cluster create`",
            Way::PandoRoots => "Pando by cluster-roots",
            Way::ValkeyCli => "Valkey by `valkey-cli --cluster create`",
            Way::ValkeyCommands => "Valkey by commands",
        }
    }

    pub fn software(self) -> Software {
        match self {
            Way::PandoCreate | Way::PandoRoots => Software::Pando,
            Way::ValkeyCli | Way::ValkeyCommands => Software::Valkey,
        }
    }
}

/// One cluster; the first half of its processes started as primaries.
pub struct World {
    pub cluster: Cluster,
}

/// What forming it took.
pub struct Formed {
    /// From the start of the first process until all answer PING.
    pub ready: Duration,
    /// From the start of the first process until all agree.
    pub formed: Duration,
    /// Of all processes together, until then.
    pub cpu_s: f64,
    /// Resident memory of a process then.
    pub rss_mib: f64,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl World {
    /// Starts and forms a cluster.
    ///
    /// # Errors
    /// What did not happen in time.
    pub fn form(size: usize, way: Way, pando_args: &[String]) -> Result<(World, Formed), String> {
        if size < 6 || !size.is_multiple_of(2) {
            return Err("an even number of at least 6 processes is needed".into());
        }
        let ports: Vec<u16> = (0..size as u16).map(|index| FIRST_PORT + index).collect();
        let roots: Vec<String> = ports.iter().take(3).map(|port| format!("127.0.0.1:{port}")).collect();
        let roots = roots.join(" ");
        let mut args = vec!["--cluster-enabled", "yes"];
        match way {
            Way::PandoCreate | Way::PandoRoots => {
                if way == Way::PandoRoots {
                    args.extend(["--cluster-roots", &roots]);
                }
                args.extend(pando_args.iter().map(String::as_str));
            }
            Way::ValkeyCli | Way::ValkeyCommands => args.extend(["--cluster-node-timeout", "5000"]),
        }
        let start = Instant::now();
        let mut nodes = Vec::new();
        for &port in &ports {
            nodes.push(Node::launch(way.software(), port, temp_dir("clusters"), &args)?);
        }
        for node in &mut nodes {
            node.wait_ready()?;
        }
        let ready = start.elapsed();
        let world = World { cluster: Cluster { nodes } };
        match way {
            Way::PandoCreate => world.create(&peers::pando(), &["cluster", "create"], &["--replicas", "1"])?,
            Way::ValkeyCli => {
                let program = peers::require_peer("valkey-cli");
                world.create(&program, &["--cluster", "create"], &["--cluster-replicas", "1", "--cluster-yes"])?;
            }
            Way::PandoRoots => {
                world.wait_known()?;
                world.assign()?;
            }
            Way::ValkeyCommands => {
                world.meet()?;
                world.assign()?;
            }
        }
        world.wait_formed(LIMIT)?;
        let formed = start.elapsed();
        let cpu_us: u64 = world.cluster.nodes.iter().map(Node::cpu_us).sum();
        let rss: u64 = world.cluster.nodes.iter().map(Node::rss_bytes).sum();
        let rss_mib = rss as f64 / size as f64 / 1_048_576.0;
        Ok((world, Formed { ready, formed, cpu_s: cpu_us as f64 / 1e6, rss_mib }))
    }

    fn create(&self, program: &std::path::Path, before: &[&str], after: &[&str]) -> Result<(), String> {
        let addresses = self.cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let mut command = Command::new(program);
        command.args(before).args(addresses).args(after).stdin(Stdio::null());
        let output = command.output().map_err(text)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() && !said.contains("[ERR]") { Ok(()) } else { Err(said) }
    }

    /// Valkey: every node has an epoch of its own, as valkey-cli sets it, and meets the first one.
    fn meet(&self) -> Result<(), String> {
        let first = self.cluster.nodes[0].port.to_string();
        self.each(|index, client| {
            let epoch = (index + 1).to_string();
            expect_ok(client, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            if index > 0 { expect_ok(client, &["CLUSTER", "MEET", "127.0.0.1", &first]) } else { Ok(()) }
        })
    }

    /// Slots to the first half, then replicas from the second half as soon as the nodes know their primaries.
    fn assign(&self) -> Result<(), String> {
        let half = self.cluster.nodes.len() / 2;
        self.each(|index, client| {
            if index >= half {
                return Ok(());
            }
            let (first, end) = (index * SLOTS / half, (index + 1) * SLOTS / half);
            expect_ok(client, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()])
        })?;
        let ids: Result<Vec<String>, String> = self.cluster.nodes[..half]
            .iter()
            .map(|node| node.client().text(&["CLUSTER", "MYID"]).map_err(text))
            .collect();
        let ids = ids?;
        self.each(|index, client| {
            if index < half {
                return Ok(());
            }
            eventually(LIMIT, "CLUSTER REPLICATE", || expect_ok(client, &["CLUSTER", "REPLICATE", &ids[index - half]]))
        })
    }

    /// Does something on every node at once.
    fn each(&self, act: impl Fn(usize, &mut Client) -> Result<(), String> + Sync) -> Result<(), String> {
        let act = &act;
        std::thread::scope(|scope| {
            let threads = self.cluster.nodes.iter().enumerate().map(|(index, node)| {
                scope.spawn(move || {
                    let mut client = Client::connect(node.port).map_err(text)?;
                    act(index, &mut client).map_err(|reason| format!("port {}: {reason}", node.port))
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
        })
    }

    fn wait_known(&self) -> Result<(), String> {
        let all = Some(self.cluster.nodes.len().to_string());
        self.each(|_, client| {
            eventually(LIMIT, "joining", || {
                let info = client.text(&["CLUSTER", "INFO"]).map_err(text)?;
                if info_field(&info, "cluster_known_nodes") == all { Ok(()) } else { Err(info) }
            })
        })
    }

    /// Waits until every process says that the cluster is whole: see [`look`]. Each is asked again until it does; then
    /// all once more.
    ///
    /// # Errors
    /// The node that does not, and what it says.
    pub fn wait_formed(&self, limit: Duration) -> Result<(), String> {
        let start = Instant::now();
        let size = self.cluster.nodes.len();
        let mut clients = Vec::new();
        for node in &self.cluster.nodes {
            clients.push(Client::connect(node.port).map_err(|error| format!("port {}: {error}", node.port))?);
        }
        let mut open: Vec<usize> = (0..size).collect();
        loop {
            let mut last = String::new();
            open.retain(|&index| match look(&mut clients[index], size) {
                Ok(()) => false,
                Err(reason) => {
                    last = format!("port {}: {reason}", self.cluster.nodes[index].port);
                    true
                }
            });
            if open.is_empty() {
                open.extend((0..size).filter(|&index| look(&mut clients[index], size).is_err()));
                if open.is_empty() {
                    return Ok(());
                }
            }
            if start.elapsed() > limit {
                return Err(format!("{} of {size} processes do not agree after {limit:?}: {last}", open.len()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// One process's view: the state is ok, all nodes are known, half of them are healthy replicas, all slots are served,
/// and its own data is in sync.
fn look(client: &mut Client, size: usize) -> Result<(), String> {
    let info = client.text(&["CLUSTER", "INFO"]).map_err(text)?;
    let is_ok = info_field(&info, "cluster_state").as_deref() == Some("ok")
        && info_field(&info, "cluster_slots_ok") == Some(SLOTS.to_string())
        && info_field(&info, "cluster_known_nodes") == Some(size.to_string());
    if !is_ok {
        return Err(info);
    }
    let info = client.text(&["INFO", "replication"]).map_err(text)?;
    let is_synced = match info_field(&info, "role").as_deref() {
        Some("slave") => info_field(&info, "master_link_status").as_deref() == Some("up"),
        Some("master") => info.contains("state=online"),
        _ => false,
    };
    if !is_synced {
        return Err(info);
    }
    let nodes = client.text(&["CLUSTER", "NODES"]).map_err(text)?;
    let lines = NodeLine::parse_all(&nodes);
    let replicas = lines.iter().filter(|line| line.is("slave") && line.primary.is_some()).count();
    let is_healthy = lines.iter().all(|line| !line.is("fail") && !line.is("fail?") && !line.is("handshake"));
    if replicas == size / 2 && is_healthy { Ok(()) } else { Err(nodes) }
}

fn expect_ok(client: &mut Client, command: &[&str]) -> Result<(), String> {
    let reply = client.text(command).map_err(text)?;
    if reply == "OK" { Ok(()) } else { Err(format!("{}: {reply}", command.join(" "))) }
}
