// SPDX-License-Identifier: BSD-3-Clause
//! ROLE, REPLICAOF, REPLCONF, PSYNC and SYNC: what clients and replicas say; data/replication does it.

use super::{Row, server_of, text};
use pando_commands::CommandError;
use pando_replication::ReplicaHello;
use pando_resp::Args;
use pando_session::{HandOff, Next, Role, SessionCx};

pub(super) const TABLE: &[Row] = &[
    ("role", role),
    ("replicaof", replica_of),
    ("slaveof", replica_of),
    ("replconf", replconf),
    ("psync", psync),
    ("sync", psync),
];

fn role(cx: &mut SessionCx<'_>, _: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    let status = server.replication.status();
    match &status.primary {
        None => {
            cx.reply.array(3);
            cx.reply.bulk(b"master");
            cx.reply.int(status.offset as i64);
            let online: Vec<_> =
                status.replicas.iter().filter(|r| r.state == pando_replication::ReplicaState::Online).collect();
            cx.reply.array(online.len());
            for replica in online {
                cx.reply.array(3);
                cx.reply.bulk(replica.ip.as_bytes());
                cx.reply.bulk(replica.port.to_string().as_bytes());
                cx.reply.bulk(replica.offset.to_string().as_bytes());
            }
        }
        Some(link) => {
            cx.reply.array(5);
            cx.reply.bulk(b"slave");
            cx.reply.bulk(link.host.as_bytes());
            cx.reply.int(i64::from(link.port));
            cx.reply.bulk(link.state.role_name().as_bytes());
            cx.reply.int(if link.synced { status.offset as i64 } else { -1 });
        }
    }
    Ok(Next::Continue)
}

fn replica_of(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    if cx.engine.settings.load().cluster_enabled {
        return Err(CommandError::text("ERR REPLICAOF not allowed in cluster mode."));
    }
    let (host, port) = (text(args[1]), text(args[2]));
    if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
        if cx.engine.gate.role() == Role::Replica {
            server.replication.promote();
            server.config.force("replicaof", String::new());
            crate::logging::set_replica(false);
            tracing::info!(
                "PRIMARY MODE enabled (user request from 'id={} addr={}')",
                cx.session.shared.id,
                cx.session.shared.addr
            );
        }
    } else {
        let Ok(port) = port.parse::<u16>() else {
            return Err(CommandError::text("ERR Invalid master port"));
        };
        if server.replication.primary_address().is_some_and(|(h, p)| h == host && p == port) {
            tracing::info!(
                "REPLICAOF would result into synchronization with the primary we are already connected with. No operation performed."
            );
            cx.reply.simple("OK Already connected to specified master");
            return Ok(Next::Continue);
        }
        server.replication.follow(&host, port);
        server.config.force("replicaof", format!("{host} {port}"));
        crate::logging::set_replica(true);
        tracing::info!(
            "REPLICAOF {host}:{port} enabled (user request from 'id={} addr={}')",
            cx.session.shared.id,
            cx.session.shared.addr
        );
    }
    cx.reply.ok();
    Ok(Next::Continue)
}

fn replconf(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let is_ack = |arg: &&[u8]| arg.eq_ignore_ascii_case(b"ack") || arg.eq_ignore_ascii_case(b"getack");
    if args.get(1).is_some_and(is_ack) {
        // Outside of a replication link it means nothing, and it never has a reply.
        return Ok(Next::Continue);
    }
    let server = server_of(cx)?;
    server.replication.replconf(cx.session.shared.id, args).map_err(CommandError::format)?;
    cx.reply.ok();
    Ok(Next::Continue)
}

fn psync(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    if cx.in_exec {
        return Err(CommandError::text("ERR SYNC and PSYNC are not allowed in a transaction"));
    }
    if cx.session.shared.addr.starts_with('/') {
        return Err(CommandError::text("ERR A replica must connect over TCP"));
    }
    let server = server_of(cx)?;
    if let Some(link) = server.replication.status().primary
        && link.state != pando_replication::LinkState::Connected
    {
        return Err(CommandError::text("NOMASTERLINK Can't SYNC while not connected with my master"));
    }
    tracing::info!("Replica {} asks for synchronization", cx.session.shared.addr);
    let request: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
    ReplicaHello::default().with_request(&request).map_err(CommandError::format)?;
    Ok(Next::HandOff(HandOff::Replica { request }))
}
