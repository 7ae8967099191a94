// SPDX-License-Identifier: BSD-3-Clause
//! What operators are told about decisions: the lines of the log, and the answers to CLUSTER EXPLAIN. Called by the
//! driver's root half; decides nothing.

use pando_root_state::{Command, Decision, Opinion, SeenCandidate};
use pando_topology::NodeId;

/// A batch that decides more than this is told in part: CLUSTER EXPLAIN has all of it.
const LOGGED_MAX: usize = 32;

/// Writes what the leading root decided to the log, with the evidence.
pub(crate) fn log_decisions(roots: &[NodeId], decisions: &[Decision]) {
    for decision in decisions.iter().take(LOGGED_MAX) {
        log_decision(roots, decision);
    }
    if decisions.len() > LOGGED_MAX {
        tracing::warn!("and {} more decisions with them", decisions.len() - LOGGED_MAX);
    }
}

pub(crate) fn log_decision(roots: &[NodeId], decision: &Decision) {
    let why = &decision.why;
    let said = |place: usize| said(roots, why.opinions.iter().skip(place * roots.len()));
    match &decision.command {
        Command::MarkFailed { nodes } => {
            for (place, node) in nodes.iter().enumerate().take(LOGGED_MAX) {
                tracing::warn!("Marking node {node} as failed: {}", said(place));
            }
        }
        Command::ClearFailed { nodes } => {
            for (place, node) in nodes.iter().enumerate().take(LOGGED_MAX) {
                tracing::info!("Clearing the failure of node {node}: {}", said(place));
            }
        }
        Command::Promote { shard, to, reason, .. } => {
            let reason = reason.words();
            let candidates = tell_candidates(&why.candidates);
            tracing::warn!(
                "Promoting replica {to} of shard {shard} ({reason}): of the primary, {}; replicas: {candidates}",
                said(0)
            );
        }
        Command::Refuse { shard, text, .. } => {
            let candidates = tell_candidates(&why.candidates);
            tracing::warn!("No other primary for shard {shard}: {text}; {}; replicas: {candidates}", said(0));
        }
        other => tracing::info!(command = ?other, "Decided: {}", said(0)),
    }
}

/// What roots said, in one line.
fn said<'a>(roots: &[NodeId], opinions: impl Iterator<Item = &'a Opinion>) -> String {
    let told: Vec<String> =
        roots.iter().zip(opinions).map(|(root, opinion)| format!("root {root} {opinion}")).collect();
    if told.is_empty() { "no opinions".to_owned() } else { told.join(", ") }
}

fn tell_candidates(candidates: &[SeenCandidate]) -> String {
    let told: Vec<String> = candidates.iter().map(tell_candidate).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

/// One replica in words: `<id> at offset 1200, zone a, priority 100, link up: chosen`.
fn tell_candidate(candidate: &SeenCandidate) -> String {
    let zone = if candidate.zone.is_empty() { String::new() } else { format!(", zone {}", candidate.zone) };
    let link = if candidate.link_up { "up" } else { "down" };
    let verdict = candidate.why_not.as_ref().map_or_else(|| "chosen".to_owned(), ToString::to_string);
    let (node, offset, priority) = (candidate.node, candidate.offset, candidate.priority);
    format!("{node} at offset {offset}{zone}, priority {priority}, link {link}: {verdict}")
}
