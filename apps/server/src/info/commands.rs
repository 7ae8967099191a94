// SPDX-License-Identifier: BSD-3-Clause
//! INFO commandstats, errorstats, latencystats.

use super::field;
use crate::server::Server;
use pando_commands::{COMMANDS, CommandSpec};

/// Commands that take their name from a subcommand, and others, that were called or refused.
fn each(server: &Server, visit: &mut dyn FnMut(&CommandSpec, pando_session::CommandStat)) {
    let all = COMMANDS.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
    for spec in all {
        let stat = server.engine.stats.command(spec.id);
        if stat.calls + stat.rejected + stat.failed > 0 {
            visit(spec, stat);
        }
    }
}

pub(super) fn command_stats(server: &Server, out: &mut String) {
    out.push_str("# Commandstats\r\n");
    each(server, &mut |spec, stat| {
        let usec = stat.nanoseconds / 1000;
        let per_call = if stat.calls == 0 { 0.0 } else { stat.nanoseconds as f64 / 1000.0 / stat.calls as f64 };
        let line = format!(
            "calls={},usec={usec},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
            stat.calls, stat.rejected, stat.failed
        );
        field(out, &format!("cmdstat_{}", spec.name), line);
    });
}

pub(super) fn error_stats(server: &Server, out: &mut String) {
    out.push_str("# Errorstats\r\n");
    for (code, count) in server.engine.stats.errors() {
        field(out, &format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

pub(super) fn latency_stats(server: &Server, out: &mut String) {
    out.push_str("# Latencystats\r\n");
    if !server.config.values().is_yes("latency-tracking") {
        return;
    }
    let text = server.config.value("latency-tracking-info-percentiles");
    let names: Vec<&str> = text.split(' ').filter(|name| !name.is_empty()).collect();
    let wanted: Vec<f64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    each(server, &mut |spec, _| {
        let found = server.engine.stats.latency(spec.id, &wanted);
        if found.is_empty() {
            return;
        }
        let values = names.iter().zip(found).map(|(name, ns)| format!("p{name}={:.3}", ns as f64 / 1000.0));
        field(out, &format!("latency_percentiles_usec_{}", spec.name), values.collect::<Vec<_>>().join(","));
    });
}
