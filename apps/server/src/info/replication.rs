// SPDX-License-Identifier: BSD-3-Clause
//! INFO replication and cluster.

use super::field;
use crate::server::Server;
use pando_replication::LinkState;

pub(super) fn replication(server: &Server, out: &mut String) {
    let status = server.replication.status();
    out.push_str("# Replication\r\n");
    field(out, "role", if status.primary.is_some() { "slave" } else { "master" });
    if let Some(link) = &status.primary {
        let values = server.config.values();
        let is_up = link.state == LinkState::Connected;
        field(out, "master_host", &link.host);
        field(out, "master_port", link.port);
        field(out, "master_link_status", if is_up { "up" } else { "down" });
        field(out, "master_last_io_seconds_ago", link.last_io_s);
        let is_syncing = link.state == LinkState::Sync;
        field(out, "master_sync_in_progress", u8::from(is_syncing));
        field(out, "slave_read_repl_offset", status.offset);
        field(out, "slave_repl_offset", status.offset);
        field(out, "replicas_repl_buffer_size", 0);
        field(out, "replicas_repl_buffer_peak", 0);
        if is_syncing {
            field(out, "master_sync_total_bytes", link.sync_total_bytes);
            field(out, "master_sync_read_bytes", link.sync_read_bytes);
            field(out, "master_sync_left_bytes", link.sync_total_bytes.saturating_sub(link.sync_read_bytes));
        }
        if !is_up {
            field(out, "master_link_down_since_seconds", link.down_since_s);
        }
        field(out, "slave_priority", values.named("replica-priority"));
        field(out, "slave_read_only", u8::from(values.is_yes("replica-read-only")));
        field(out, "replica_announced", u8::from(values.is_yes("replica-announced")));
    }
    field(out, "connected_slaves", status.replicas.len());
    if server.config.value("min-replicas-to-write") != "0" && server.config.value("min-replicas-max-lag") != "0" {
        field(out, "min_slaves_good_slaves", server.engine.gate.good_replicas());
    }
    for (index, replica) in status.replicas.iter().enumerate() {
        let line = format!(
            "ip={},port={},state={},offset={},lag={},type=replica",
            replica.ip,
            replica.port,
            replica.state.info_name(),
            replica.offset,
            replica.lag_s.max(0)
        );
        field(out, &format!("slave{index}"), line);
    }
    field(out, "replicas_waiting_psync", 0);
    field(out, "master_failover_state", server.failover.phase().name());
    field(out, "master_replid", status.replid);
    field(out, "master_replid2", status.replid2);
    field(out, "master_repl_offset", status.offset);
    field(out, "second_repl_offset", status.second_offset);
    field(out, "repl_backlog_active", u8::from(status.backlog_active));
    field(out, "repl_backlog_size", status.backlog_size);
    field(out, "repl_backlog_first_byte_offset", status.backlog_first_byte);
    field(out, "repl_backlog_histlen", status.backlog_len);
}

pub(super) fn cluster(server: &Server, out: &mut String) {
    out.push_str("# Cluster\r\n");
    field(out, "cluster_enabled", u8::from(server.engine.settings.load().cluster_enabled));
    // Pando's own; Valkey has these in CLUSTER INFO only, or not at all.
    let Some(runtime) = server.cluster.get() else { return };
    let (agent, gate) = (runtime.agent().info(), &server.engine.gate);
    let lease_ms = match agent.lease_until_ms {
        u64::MAX => "unlimited".to_owned(),
        until => until.saturating_sub(pando_session::boot_ms()).to_string(),
    };
    field(out, "cluster_ok", u8::from(gate.cluster_ok()));
    field(out, "cluster_write_lease_ms", lease_ms);
    field(out, "cluster_topology_version", agent.version);
    field(out, "cluster_roots", agent.roots.len());
    field(out, "cluster_roots_changing", u8::from(agent.roots_changing));
    field(out, "cluster_root_leader", agent.leader.map(|id| id.to_string()).unwrap_or_default());
    field(out, "cluster_root_term", agent.term);
    field(out, "cluster_root_quorum", if agent.quorum { "ok" } else { "lost" });
    field(out, "cluster_root_quorum_reason", agent.quorum_reason);
    field(out, "cluster_is_root", u8::from(agent.is_root));
}
