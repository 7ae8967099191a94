// SPDX-License-Identifier: BSD-3-Clause
//! A cluster of real processes, formed by an unmodified `valkey-cli --cluster create` or by `pando cluster create`.

use std::process::{Command, Stdio};
use std::time::Duration;

use pando_resp::decode::Value;

use crate::client::info_field;
use crate::node::{Node, Software};
use crate::peers;
use crate::wait::eventually;

/// How a cluster is put together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Creator {
    ValkeyCli,
    PandoCluster,
}

/// Nodes of one cluster. The first `primaries` of them started as primaries.
pub struct Cluster {
    pub nodes: Vec<Node>,
}

/// A line of CLUSTER NODES.
#[derive(Clone, Debug)]
pub struct NodeLine {
    pub id: String,
    pub port: u16,
    pub flags: Vec<String>,
    pub primary: Option<String>,
    pub slots: Vec<String>,
}

impl NodeLine {
    /// The lines of a CLUSTER NODES reply.
    pub fn parse_all(text: &str) -> Vec<Self> {
        text.lines().filter_map(parse_line).collect()
    }

    /// Whether the line has this flag (`master`, `slave`, `fail` …).
    pub fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|each| each == flag)
    }
}

impl Cluster {
    /// Starts `count` processes with `cluster-enabled yes` and makes them one cluster with `replicas` per primary.
    ///
    /// # Errors
    /// What the creating tool printed, or which node did not come up.
    pub fn create(count: usize, replicas: usize, creator: Creator, args: &[&str]) -> Result<Self, String> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            let mut all = vec!["--cluster-enabled", "yes"];
            all.extend_from_slice(args);
            nodes.push(Node::start(Software::Pando, &all)?);
        }
        let cluster = Self { nodes };
        cluster.form(replicas, creator)?;
        cluster.wait_ok(Duration::from_secs(30))?;
        Ok(cluster)
    }

    fn form(&self, replicas: usize, creator: Creator) -> Result<(), String> {
        let addresses: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let replicas = replicas.to_string();
        let mut command = match creator {
            Creator::ValkeyCli => {
                let mut command = Command::new(peers::require_peer("valkey-cli"));
                command.args(["--cluster", "create"]).args(&addresses);
                command.args(["--cluster-replicas", &replicas, "--cluster-yes"]);
                command
            }
            Creator::PandoCluster => {
                let mut command = Command::new(peers::pando());
                command.args(["cluster", "create"]).args(&addresses).args(["--replicas", &replicas]);
                command
            }
        };
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.success() && !text.contains("[ERR]") { Ok(()) } else { Err(text) }
    }

    /// Waits until every node says `cluster_state:ok` with all slots, and every replica has its primary's data.
    ///
    /// # Errors
    /// The node that does not, and what it says.
    pub fn wait_ok(&self, limit: Duration) -> Result<(), String> {
        eventually(limit, "cluster ok", || {
            for node in &self.nodes {
                let mut client = node.connect().map_err(|error| error.to_string())?;
                let info = client.text(&["CLUSTER", "INFO"]).map_err(|error| error.to_string())?;
                let ok = info_field(&info, "cluster_state").as_deref() == Some("ok")
                    && info_field(&info, "cluster_slots_assigned").as_deref() == Some("16384")
                    && info_field(&info, "cluster_known_nodes") == Some(self.nodes.len().to_string());
                if !ok {
                    return Err(format!("port {}: {info}", node.port));
                }
                let info = client.text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
                let down = info_field(&info, "role").as_deref() == Some("slave")
                    && info_field(&info, "master_link_status").as_deref() != Some("up");
                if down {
                    return Err(format!("port {}: {info}", node.port));
                }
            }
            Ok(())
        })
    }

    /// The id of the leading root, once all nodes that answer name the same one. A node that has just joined, or whose
    /// leader has just gone, does not know it for a moment.
    ///
    /// # Errors
    /// Whom they name, if they do not agree in half a minute.
    pub fn root_leader(&self) -> Result<String, String> {
        eventually(Duration::from_secs(30), "a leading root that all know", || {
            let mut named = Vec::new();
            for node in &self.nodes {
                let Ok(mut client) = node.connect() else { continue };
                let info = client.text(&["CLUSTER", "INFO"]).map_err(|error| error.to_string())?;
                named.push(info_field(&info, "cluster_root_leader").ok_or("no field")?);
            }
            let first = named.first().filter(|first| !first.is_empty()).cloned().ok_or("nobody knows any")?;
            if named.iter().all(|name| *name == first) { Ok(first) } else { Err(format!("{named:?}")) }
        })
    }

    /// CLUSTER NODES as `node` sees it.
    ///
    /// # Errors
    /// As the connection says.
    pub fn lines(&self, node: usize) -> Result<Vec<NodeLine>, String> {
        let mut client = self.nodes[node].connect().map_err(|error| error.to_string())?;
        let text = client.text(&["CLUSTER", "NODES"]).map_err(|error| error.to_string())?;
        if text.starts_with('-') {
            return Err(text);
        }
        Ok(NodeLine::parse_all(&text))
    }

    /// The index of the node with this client port.
    pub fn index_of(&self, port: u16) -> Option<usize> {
        self.nodes.iter().position(|node| node.port == port)
    }

    /// The port of the primary that serves the key's slot, as `node` sees it: the node itself, or where it redirects to.
    ///
    /// # Errors
    /// As the connection says.
    pub fn owner_port(&self, node: usize, key: &str) -> Result<u16, String> {
        let port = self.nodes[node].port;
        let mut client = self.nodes[node].connect().map_err(|error| error.to_string())?;
        match client.call(&["GET", key]).map_err(|error| error.to_string())? {
            Value::Error(text) => {
                let target = text.strip_prefix("MOVED ").and_then(|rest| rest.rsplit(':').next()?.parse().ok());
                target.ok_or(text)
            }
            _ => Ok(port),
        }
    }
}

fn parse_line(line: &str) -> Option<NodeLine> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [id, address, flags, primary, _, _, _, _, slots @ ..] = fields.as_slice() else { return None };
    let port = address.split(['@', ',']).next()?.rsplit(':').next()?.parse().ok()?;
    Some(NodeLine {
        id: (*id).to_owned(),
        port,
        flags: flags.split(',').map(str::to_owned).collect(),
        primary: (*primary != "-").then(|| (*primary).to_owned()),
        slots: slots.iter().map(|&slot| slot.to_owned()).collect(),
    })
}
