// SPDX-License-Identifier: BSD-3-Clause
//! ROLE, REPLICAOF, FAILOVER, REPLCONF, PSYNC and SYNC: what clients and replicas say; data/replication does it.

use super::{Row, server_of, text};
use crate::failover::{Order, Phase};
use crate::server::Server;
use pando_commands::CommandError;
use pando_replication::ReplicaHello;
use pando_resp::{Args, num};
use pando_session::{HandOff, Next, Role, SessionCx};
use std::time::Duration;

pub(super) const TABLE: &[Row] = &[
    ("role", role),
    ("replicaof", replica_of),
    ("slaveof", replica_of),
    ("failover", failover),
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
    if server.failover.phase() != Phase::Idle {
        return Err(CommandError::text("ERR REPLICAOF not allowed while failing over."));
    }
    let (host, port) = (text(args[1]), text(args[2]));
    if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
        if cx.engine.gate.role() == Role::Replica {
            server.replication.promote();
            server.note_role(None);
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
        server.note_role(Some(&(host.to_string(), port)));
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

/// How long an order to be the primary waits for the rest of the log, in steps of a millisecond. Only a forced one has to.
const REST_WAIT_MS: u64 = 100;

/// `PSYNC … FAILOVER`: the primary of this node changes places with it.
fn take_over(cx: &SessionCx<'_>, server: &Server, replid: &[u8], next: &[u8]) -> Result<(), CommandError> {
    tracing::info!("Failover request received for replid {}.", text(replid));
    if cx.engine.settings.load().cluster_enabled {
        return Err(CommandError::text("ERR PSYNC FAILOVER not allowed in cluster mode."));
    }
    if cx.engine.gate.role() == Role::Primary {
        return Err(CommandError::format(format!("ERR {}", pando_replication::NOT_A_REPLICA)));
    }
    if !replid.eq_ignore_ascii_case(server.replication.status().replid.as_bytes()) {
        return Err(CommandError::text("ERR PSYNC FAILOVER replid must match my replid."));
    }
    // The end of the log may be on its way, by another connection.
    let end = num::parse_i64(next).and_then(|next| u64::try_from(next.checked_sub(1)?).ok()).unwrap_or(0);
    for _ in 0..REST_WAIT_MS {
        let status = server.replication.status();
        let is_linked = status.primary.is_some_and(|link| link.state == pando_replication::LinkState::Connected);
        if status.offset >= end || !is_linked {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    server.replication.promote();
    server.note_role(None);
    let (id, addr) = (cx.session.shared.id, &cx.session.shared.addr);
    tracing::info!("PRIMARY MODE enabled (failover request from 'id={id} addr={addr}')");
    Ok(())
}

/// FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]
fn failover(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    if cx.engine.settings.load().cluster_enabled {
        let line = "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.";
        return Err(CommandError::text(line));
    }
    let [_, options @ ..] = args else { return Err(CommandError::Syntax) };
    if let [only] = options
        && only.eq_ignore_ascii_case(b"abort")
    {
        server.failover.abort(&server).map_err(CommandError::text)?;
        cx.reply.ok();
        return Ok(Next::Continue);
    }
    server.failover.start(&server, failover_order(options)?).map_err(CommandError::text)?;
    cx.reply.ok();
    Ok(Next::Continue)
}

fn failover_order(mut options: &[&[u8]]) -> Result<Order, CommandError> {
    let mut order = Order::default();
    loop {
        options = match options {
            [] => return Ok(order),
            [name, value, rest @ ..] if name.eq_ignore_ascii_case(b"timeout") && order.limit.is_none() => {
                let limit_ms = num::parse_i64(value).ok_or(CommandError::NotInteger)?;
                let limit_ms = u64::try_from(limit_ms).ok().filter(|ms| *ms > 0);
                let limit_ms = limit_ms.ok_or(CommandError::text("ERR FAILOVER timeout must be greater than 0"))?;
                order.limit = Some(Duration::from_millis(limit_ms));
                rest
            }
            [name, host, port, rest @ ..] if name.eq_ignore_ascii_case(b"to") && order.target.is_none() => {
                let port = num::parse_i64(port).ok_or(CommandError::NotInteger)?;
                // No replica has a port that is none.
                order.target = Some((text(host).into_owned(), u16::try_from(port).unwrap_or(0)));
                rest
            }
            [name, rest @ ..] if name.eq_ignore_ascii_case(b"force") && !order.force => {
                order.force = true;
                rest
            }
            _ => return Err(CommandError::Syntax),
        };
    }
}

fn psync(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    if cx.in_exec {
        return Err(CommandError::text("ERR SYNC and PSYNC are not allowed in a transaction"));
    }
    if cx.session.shared.addr.starts_with('/') {
        return Err(CommandError::text("ERR A replica must connect over TCP"));
    }
    let server = server_of(cx)?;
    if args.len() > 3 && args[0].eq_ignore_ascii_case(b"psync") && args[3].eq_ignore_ascii_case(b"failover") {
        take_over(cx, &server, args[1], args[2])?;
    }
    if server.failover.phase() != Phase::Idle {
        return Err(CommandError::text("NOMASTERLINK Can't SYNC while failing over"));
    }
    if let Some(link) = server.replication.status().primary
        && link.state != pando_replication::LinkState::Connected
    {
        return Err(CommandError::text("NOMASTERLINK Can't SYNC while not connected with my master"));
    }
    if server.cluster.get().is_some_and(|cluster| !cluster.may_serve_replicas()) {
        return Err(CommandError::text("NOMASTERLINK Can't SYNC before the roots have confirmed this primary"));
    }
    tracing::info!("Replica {} asks for synchronization", cx.session.shared.addr);
    let request: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
    ReplicaHello::default().with_request(&request).map_err(CommandError::format)?;
    Ok(Next::HandOff(HandOff::Replica { request }))
}
