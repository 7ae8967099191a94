// SPDX-License-Identifier: BSD-3-Clause
//! The topology in the shapes that Valkey's clients and tools parse: CLUSTER NODES, SLOTS, SHARDS, REPLICAS, LINKS, INFO.
//!
//! Pure: what is shown comes in, text or a reply goes out. Where Pando adds fields it adds them behind Valkey's.

use std::fmt::Write;

use pando_agent::{AgentInfo, LinkInfo};
use pando_resp::ReplyBuf;
use pando_session::{ClusterView, EndpointType};
use pando_topology::{Node, NodeFlag, NodeId, Shard};

/// What rendering needs beside the map.
pub struct Moment {
    pub unix_ms: u64,
    /// Of this node.
    pub offset: u64,
    /// This node is loading its data, or a replica that was never in sync.
    pub is_loading: bool,
    pub endpoint: EndpointType,
    pub is_tls: bool,
}

impl Moment {
    /// What a prepared answer depends on.
    pub fn shape(&self) -> (EndpointType, bool, u64) {
        (self.endpoint, self.is_tls, self.unix_ms)
    }
}

/// One line of CLUSTER NODES, without its end.
fn node_line(view: &ClusterView, node: &Node, moment: &Moment) -> String {
    let map = &view.map;
    let is_me = node.id == view.me;
    let flags: Vec<&str> = map.flags_of(&node.id, &view.me).into_iter().map(NodeFlag::as_str).collect();
    let shard = map.shard_of(&node.id);
    let primary = shard.filter(|shard| shard.primary != node.id).map(|shard| shard.primary.to_string());
    let hostname = if node.hostname.is_empty() { String::new() } else { format!(",{}", node.hostname) };
    let pong_ms = if is_me || node.failed { 0 } else { moment.unix_ms };
    let link = if node.failed && !is_me { "disconnected" } else { "connected" };
    let mut line = format!(
        "{} {}:{}@{}{hostname} {} {} 0 {pong_ms} {} {link}",
        node.id,
        node.host,
        if moment.is_tls { node.tls_port } else { node.port },
        node.cluster_port,
        flags.join(","),
        primary.as_deref().unwrap_or("-"),
        map.config_epoch_of(&node.id),
    );
    if let Some(shard) = shard.filter(|shard| shard.primary == node.id && !shard.slots.is_empty()) {
        _ = write!(line, " {}", shard.slots);
    }
    line
}

/// The text of CLUSTER NODES.
pub fn nodes(view: &ClusterView, moment: &Moment) -> String {
    view.map.nodes().values().map(|node| node_line(view, node, moment) + "\n").collect()
}

/// CLUSTER REPLICAS: lines of the replicas of a primary.
pub fn replicas(view: &ClusterView, primary: &NodeId, moment: &Moment, reply: &mut ReplyBuf) {
    let shard = view.map.shard_of(primary);
    let ids = shard.map(|shard| shard.replicas.as_slice()).unwrap_or_default();
    let nodes: Vec<&Node> = ids.iter().filter_map(|id| view.map.node(id)).collect();
    reply.array(nodes.len());
    for node in nodes {
        reply.bulk(node_line(view, node, moment).as_bytes());
    }
}

/// The reply of CLUSTER SLOTS.
pub fn slots(view: &ClusterView, moment: &Moment, reply: &mut ReplyBuf) {
    let ranges = view.map.owned_ranges();
    reply.array(ranges.len());
    for (range, shard) in ranges {
        let nodes = serving_nodes(view, shard);
        reply.array(2 + nodes.len());
        reply.int(range.first.index() as i64);
        reply.int(range.last.index() as i64);
        for node in nodes {
            reply.array(4);
            endpoint(node, moment.endpoint, reply);
            reply.int(i64::from(if moment.is_tls { node.tls_port } else { node.port }));
            reply.bulk(node.id.to_string().as_bytes());
            slots_metadata(node, moment.endpoint, reply);
        }
    }
}

/// The primary, and the replicas that are not failed.
fn serving_nodes<'a>(view: &'a ClusterView, shard: &'a Shard) -> Vec<&'a Node> {
    let members = shard.members().filter_map(|id| view.map.node(&id));
    members.filter(|node| node.id == shard.primary || !node.failed).collect()
}

fn endpoint(node: &Node, endpoint: EndpointType, reply: &mut ReplyBuf) {
    match endpoint {
        EndpointType::Ip => reply.bulk(node.host.as_bytes()),
        EndpointType::Hostname if node.hostname.is_empty() => reply.bulk(b"?"),
        EndpointType::Hostname => reply.bulk(node.hostname.as_bytes()),
        EndpointType::UnknownEndpoint => reply.null(),
    }
}

/// What the preferred endpoint does not say.
fn slots_metadata(node: &Node, endpoint: EndpointType, reply: &mut ReplyBuf) {
    let ip = (endpoint != EndpointType::Ip).then_some(("ip", node.host.as_str()));
    let hostname = (endpoint != EndpointType::Hostname && !node.hostname.is_empty())
        .then_some(("hostname", node.hostname.as_str()));
    let pairs: Vec<_> = ip.into_iter().chain(hostname).collect();
    reply.map(pairs.len());
    for (name, value) in pairs {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

/// The reply of CLUSTER SHARDS. `offsets`: of other nodes, sorted.
pub fn shards(view: &ClusterView, moment: &Moment, offsets: &[(NodeId, u64)], reply: &mut ReplyBuf) {
    reply.array(view.map.shards().len());
    for shard in view.map.shards().values() {
        reply.map(3);
        reply.bulk(b"slots");
        let ranges = shard.slots.ranges();
        reply.array(2 * ranges.len());
        for range in ranges {
            reply.int(range.first.index() as i64);
            reply.int(range.last.index() as i64);
        }
        reply.bulk(b"nodes");
        let nodes: Vec<&Node> = shard.members().filter_map(|id| view.map.node(&id)).collect();
        reply.array(nodes.len());
        for node in nodes {
            let known = offsets.binary_search_by_key(&node.id, |(id, _)| *id).ok();
            let offset = if node.id == view.me { moment.offset } else { known.map_or(0, |at| offsets[at].1) };
            shard_node(view, shard, node, (moment, offset), reply);
        }
        reply.bulk(b"id");
        reply.bulk(shard.id.to_string().as_bytes());
    }
}

fn shard_node(view: &ClusterView, shard: &Shard, node: &Node, (moment, offset): (&Moment, u64), reply: &mut ReplyBuf) {
    let is_me = node.id == view.me;
    let has_hostname = !node.hostname.is_empty();
    let ports = [("port", node.port), ("tls-port", node.tls_port)];
    let ports: Vec<_> = ports.into_iter().filter(|(_, port)| *port != 0).collect();
    // Pando's own, and only where it says more than the role.
    let upstream = view.map.upstream_of(&node.id).filter(|upstream| upstream.id != shard.primary);
    reply.map(6 + ports.len() + usize::from(has_hostname) + usize::from(upstream.is_some()));
    reply.bulk(b"id");
    reply.bulk(node.id.to_string().as_bytes());
    for (name, port) in ports {
        reply.bulk(name.as_bytes());
        reply.int(i64::from(port));
    }
    reply.bulk(b"ip");
    reply.bulk(node.host.as_bytes());
    reply.bulk(b"endpoint");
    endpoint(node, moment.endpoint, reply);
    if has_hostname {
        reply.bulk(b"hostname");
        reply.bulk(node.hostname.as_bytes());
    }
    reply.bulk(b"role");
    reply.bulk(if shard.primary == node.id { b"master" } else { b"replica" });
    reply.bulk(b"replication-offset");
    reply.int(offset as i64);
    reply.bulk(b"health");
    let health: &[u8] = match (node.failed, is_me && moment.is_loading) {
        (true, _) => b"fail",
        (false, true) => b"loading",
        (false, false) => b"online",
    };
    reply.bulk(health);
    if let Some(upstream) = upstream {
        reply.bulk(b"upstream");
        reply.bulk(upstream.id.to_string().as_bytes());
    }
}

/// The reply of CLUSTER LINKS.
pub fn links(links: &[LinkInfo], reply: &mut ReplyBuf) {
    reply.array(links.len());
    for link in links {
        reply.map(6);
        reply.bulk(b"direction");
        reply.bulk(if link.outbound { b"to" } else { b"from" });
        reply.bulk(b"node");
        reply.bulk(link.node.to_string().as_bytes());
        reply.bulk(b"create-time");
        reply.int(link.create_time_ms as i64);
        reply.bulk(b"events");
        reply.bulk(b"r");
        reply.bulk(b"send-buffer-allocated");
        reply.int(link.send_buffer_allocated as i64);
        reply.bulk(b"send-buffer-used");
        reply.int(link.send_buffer_used as i64);
    }
}

/// The text of CLUSTER INFO.
pub fn info(view: &ClusterView, agent: &AgentInfo, is_ok: bool) -> String {
    let map = &view.map;
    let owners = map.shards().values().filter(|shard| !shard.slots.is_empty());
    let is_failed = |shard: &Shard| map.node(&shard.primary).is_some_and(|node| node.failed);
    let slots_failed: usize = owners.clone().filter(|shard| is_failed(shard)).map(|shard| shard.slots.len()).sum();
    let voting_failed = owners.filter(|shard| is_failed(shard)).count();
    let nodes_failed = map.nodes().values().filter(|node| node.failed).count();
    let assigned = map.slots_assigned();
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| _ = write!(text, "{name}:{value}\r\n");
    line("cluster_state", &if is_ok { "ok" } else { "fail" });
    line("cluster_slots_assigned", &assigned);
    line("cluster_slots_ok", &(assigned - slots_failed));
    line("cluster_slots_pfail", &0);
    line("cluster_slots_fail", &slots_failed);
    line("cluster_nodes_pfail", &0);
    line("cluster_nodes_fail", &nodes_failed);
    line("cluster_voting_nodes_pfail", &0);
    line("cluster_voting_nodes_fail", &voting_failed);
    line("cluster_known_nodes", &map.nodes().len());
    line("cluster_size", &map.size());
    line("cluster_current_epoch", &map.current_epoch());
    line("cluster_my_epoch", &map.config_epoch_of(&view.me));
    let (mut sent, mut received) = (0, 0);
    for (name, sent_of_kind, received_of_kind) in &agent.messages {
        sent += sent_of_kind;
        received += received_of_kind;
        line(&format!("cluster_stats_messages_{name}_sent"), sent_of_kind);
        line(&format!("cluster_stats_messages_{name}_received"), received_of_kind);
    }
    line("cluster_stats_messages_sent", &sent);
    line("cluster_stats_messages_received", &received);
    line("total_cluster_links_buffer_limit_exceeded", &0);
    // Pando's own.
    let leader = agent.leader.map(|id| id.to_string()).unwrap_or_default();
    line("cluster_topology_version", &agent.version);
    line("cluster_roots", &agent.roots.len());
    line("cluster_roots_changing", &u8::from(agent.roots_changing));
    line("cluster_root_leader", &leader);
    line("cluster_root_term", &agent.term);
    line("cluster_root_quorum", &if agent.quorum { "ok" } else { "lost" });
    line("cluster_root_quorum_reason", &agent.quorum_reason);
    line("cluster_is_root", &u8::from(agent.is_root));
    line("cluster_publish_dropped", &agent.publish_dropped);
    text
}
