// SPDX-License-Identifier: BSD-3-Clause
//! Records of the roots as sentences for people. Pure: `explain` lays out what the structured fields hold, this
//! says the same in one line each.

use pando_agent::{Event, Explanation, Opinion, OwnView, Record, SeenCandidate, ShardNow, Subject};
use pando_session::ClusterView;
use pando_topology::{Node, NodeId, Shard, ShardId};

/// A node as people know it: its address, and enough of its id to find it in CLUSTER NODES.
pub fn node_name(view: &ClusterView, id: &NodeId) -> String {
    let short = &id.to_string()[..8];
    match view.map.node(id) {
        Some(node) => format!("{}:{} ({short})", node.host, node.port),
        None => format!("{id} (not in the cluster)"),
    }
}

/// A shard by the beginning of its id.
pub fn shard_name(id: &ShardId) -> String {
    format!("shard {}", &id.to_string()[..8])
}

/// `2026-11-22T03:04:05.678Z`.
pub fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days since 0000-03-01, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) =
        (era * 400 + year_of_era + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A name for the kind of record, for programs.
pub fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Promoted { .. } => "promoted",
        Event::Confirmed { .. } => "confirmed",
        Event::NotPromoted { .. } => "refused",
        Event::Attached { .. } => "attached",
        Event::Detached { .. } => "detached",
        Event::Slots { .. } => "slots",
        Event::Failed => "failed",
        Event::Back => "back",
        Event::Joined => "joined",
        Event::Restarted(_) => "restarted",
        Event::Moved { .. } => "moved",
        Event::Forgotten { .. } => "forgotten",
        Event::Left => "left",
        Event::VotersChange { .. } => "roots-change",
        Event::VotersSettled => "roots-settled",
        Event::Elected { .. } => "elected",
    }
}

/// What happened, without when and by whom.
fn what(view: &ClusterView, subject: &Subject, event: &Event) -> String {
    let name = |id: &NodeId| node_name(view, id);
    let names = |ids: &[NodeId]| ids.iter().map(name).collect::<Vec<_>>().join(", ");
    match event {
        Event::Promoted { from, to, epoch, slots, reason } => format!(
            "{} was promoted in place of {}, because {}; epoch {epoch}, {slots} slots",
            name(to),
            name(from),
            match reason {
                // The one that needs more words than the rule's.
                pando_agent::PromoteReason::Manual => "it was asked for",
                reason => reason.words(),
            }
        ),
        Event::Confirmed { node, incarnation } => {
            format!("{} goes on as primary, as a new process ({incarnation})", name(node))
        }
        Event::NotPromoted { node: Some(node), text } => format!("{} was not promoted: {text}", name(node)),
        Event::NotPromoted { node: None, text } => format!("nobody was promoted: {text}"),
        Event::Attached { node, from } => {
            let from = from.map(|shard| format!(", from {}", shard_name(&shard))).unwrap_or_default();
            format!("{} became a replica of it{from}", name(node))
        }
        Event::Detached { node, to: Some(to) } => format!("{} left it for {}", name(node), shard_name(to)),
        Event::Detached { node, to: None } => format!("{} left it", name(node)),
        Event::Slots { gained, lost, peer, steps, since_ms } => {
            let (count, verb, way) = if *lost == 0 { (gained, "got", "from") } else { (lost, "gave up", "to") };
            let peer = peer.map(|peer| format!(" {way} {}", shard_name(&peer))).unwrap_or_default();
            let steps = if *steps > 1 { format!(" in {steps} steps since {}", utc(*since_ms)) } else { String::new() };
            format!("it {verb} {count} slots{peer}{steps}")
        }
        Event::Failed => format!("{} was marked as failed", about(view, subject)),
        Event::Back => format!("{} is back", about(view, subject)),
        Event::Joined => format!("{} joined the cluster", about(view, subject)),
        Event::Restarted(incarnation) => format!("{} runs as a new process ({incarnation})", about(view, subject)),
        Event::Moved { from, to } => format!("{} has the address {to}, before {from}", about(view, subject)),
        Event::Forgotten { by } => format!("{} was forgotten, asked for at {}", about(view, subject), name(by)),
        Event::Left => format!("{} left the cluster (CLUSTER RESET)", about(view, subject)),
        Event::VotersChange { from, to } if from.is_empty() => format!("the first root is {}", names(to)),
        Event::VotersChange { from, to } => format!("the roots change from {} to {}", names(from), names(to)),
        Event::VotersSettled => "the change of the roots is complete".to_owned(),
        Event::Elected { root, term } => format!("{} leads the roots since term {term}", name(root)),
    }
}

fn about(view: &ClusterView, subject: &Subject) -> String {
    match subject {
        Subject::Roots => "the roots".to_owned(),
        Subject::Shard(id) => shard_name(id),
        Subject::Node(id) => node_name(view, id),
    }
}

/// What a root said of a node, with its name. What a root said of itself before it failed proves nothing.
pub fn opinion(view: &ClusterView, root: &NodeId, opinion: &Opinion, of: Option<&NodeId>) -> String {
    let name = node_name(view, root);
    if of == Some(root) { format!("root {name} is that node itself") } else { format!("root {name} {opinion}") }
}

/// A name for what a root says, for programs, and its number of milliseconds.
pub fn opinion_name(opinion: &Opinion) -> (&'static str, u64) {
    match opinion {
        Opinion::Missing => ("missing", 0),
        Opinion::Unknown => ("unknown", 0),
        Opinion::Alive(left_ms) => ("alive", *left_ms),
        Opinion::Silent(for_ms) => ("silent", *for_ms),
        Opinion::Dead => ("dead", 0),
        Opinion::Restarted(_) => ("restarted", 0),
    }
}

/// A replica, and what speaks against it; `fit`: said of one against which nothing does.
pub fn candidate(view: &ClusterView, seen: &SeenCandidate, fit: &str) -> String {
    let zone = if seen.zone.is_empty() { String::new() } else { format!(", zone {}", seen.zone) };
    let link = if seen.link_up { "up" } else { "down" };
    let verdict = seen.why_not.as_ref().map_or_else(|| fit.to_owned(), ToString::to_string);
    format!("{} at offset {}{zone}, link {link}: {verdict}", node_name(view, &seen.node), seen.offset)
}

/// A record in one line.
pub fn line(view: &ClusterView, subject: &Subject, record: &Record) -> String {
    // What happened to a node names it already.
    let about = match subject {
        Subject::Shard(id) => format!("{}: ", shard_name(id)),
        Subject::Roots | Subject::Node(_) => String::new(),
    };
    let mut text = format!("{} {about}{}", utc(record.stamp.unix_ms), what(view, subject, &record.event));
    if !record.note.is_empty() {
        text += &format!("; {}", record.note);
    }
    let of = match (subject, &record.event) {
        (Subject::Node(id), _) | (_, Event::Promoted { from: id, .. } | Event::Confirmed { node: id, .. }) => Some(id),
        _ => None,
    };
    for (root, said) in &record.opinions {
        text += &format!("; {}", opinion(view, root, said, of));
    }
    for seen in &record.candidates {
        let fit = if matches!(record.event, Event::Promoted { .. }) { "chosen" } else { "fit" };
        text += &format!("; replica {}", candidate(view, seen, fit));
    }
    let by = record.stamp.root.map(|root| format!(", root {}", node_name(view, &root))).unwrap_or_default();
    text + &format!(" [version {}, term {}{by}]", record.index, record.stamp.term)
}

/// Milliseconds for people.
fn left(ms: u64) -> String {
    if ms == u64::MAX { "without an end".to_owned() } else { format!("for {ms} ms more") }
}

/// Why this node may write now, or why not and what it waits for.
pub fn own_lease(view: &ClusterView, own: &OwnView) -> String {
    if !view.is_primary {
        return "this node is not the primary, so it takes no writes".to_owned();
    }
    let promises = own.roots.iter().filter(|root| root.promise_left_ms.is_some()).count();
    let count = own.roots.len();
    let held = format!("it holds promises of {promises} of {count} roots");
    if own.lease_left_ms > 0 {
        let by = match (own.roots_left_ms > 0, own.replicas_left_ms) {
            (true, _) => held,
            (false, u64::MAX) => "no majority of the roots answers, and no replica could be promoted".to_owned(),
            (false, _) => "no majority of the roots answers, but all replicas that could be promoted do".to_owned(),
        };
        return format!("this node may write {}: {by}", left(own.lease_left_ms));
    }
    let why = if own.is_joining {
        "it is joining another cluster".to_owned()
    } else if !own.claims {
        "its process is newer than the one that the roots know as primary; it waits for their decision".to_owned()
    } else if own.bound_ms > 0 && !own.is_active {
        format!("as a replica it has promised not to write for {} ms more", own.bound_ms)
    } else if !own.is_active {
        format!("it waits for promises of a majority of the roots; {held}")
    } else {
        format!("its promises have run out and no majority of the roots renews them; {held}")
    };
    format!("this node may not write: {why}")
}

/// The present state of a shard in a few lines.
pub fn shard_summary(
    view: &ClusterView,
    told: &Explanation,
    shard: &Shard,
    now: &ShardNow,
    own: &OwnView,
) -> Vec<String> {
    let primary = view.map.node(&shard.primary);
    let state = if primary.is_some_and(|node| node.failed) { "has failed" } else { "is not counted as failed" };
    let mut lines = vec![format!(
        "{} serves {} slots with {} replicas; its primary is {}, epoch {}, and {state}",
        shard_name(&shard.id),
        shard.slots.len(),
        shard.replicas.len(),
        node_name(view, &shard.primary),
        shard.epoch
    )];
    if view.my_shard == Some(shard.id) {
        lines.push(own_lease(view, own));
    }
    lines.push(match now.promised {
        Some((node, ms)) => format!("the leading root's promise to {} lasts {ms} ms more", node_name(view, &node)),
        None => "the leading root has promised nobody that he may write".to_owned(),
    });
    lines.extend(
        now.opinions
            .iter()
            .map(|(root, said)| format!("the primary: {}", opinion(view, root, said, Some(&shard.primary)))),
    );
    lines.extend(now.candidates.iter().map(|seen| format!("replica {}", candidate(view, seen, "it could take over"))));
    lines.push(format!("the roots would now: {}", now.next));
    lines.extend(last_of(told, |event| matches!(event, Event::Promoted { .. }), "last failover", view));
    lines.extend(last_of(told, |event| matches!(event, Event::NotPromoted { .. }), "last refusal", view));
    lines
}

/// The present state of a node in a few lines.
pub fn node_summary(view: &ClusterView, told: &Explanation, node: &Node, own: &OwnView) -> Vec<String> {
    let shard = view.map.shard_of(&node.id);
    let role = match shard {
        Some(shard) if shard.primary == node.id => format!("the primary of {}", shard_name(&shard.id)),
        Some(shard) => format!("a replica of {} in {}", node_name(view, &shard.primary), shard_name(&shard.id)),
        None => "without data".to_owned(),
    };
    let root = if view.map.roots().contains(&node.id) { ", and a root" } else { "" };
    let state = if node.failed { "it is marked as failed" } else { "it is not marked as failed" };
    let mut lines = vec![format!("{} is {role}{root}; {state}", node_name(view, &node.id))];
    if node.id == view.me {
        lines.push(own_lease(view, own));
    }
    lines.extend(told.opinions.iter().map(|(root, said)| opinion(view, root, said, Some(&node.id))));
    lines.extend(last_of(told, |event| matches!(event, Event::Failed), "last failure", view));
    lines.extend(last_of(told, |event| matches!(event, Event::Promoted { .. }), "last failover", view));
    lines
}

/// Who the roots are and who answers, in a few lines.
pub fn roots_summary(view: &ClusterView, told: &Explanation, own: &OwnView) -> Vec<String> {
    let answers = told.roots.iter().filter(|root| root.answers).count();
    let mut lines = vec![format!(
        "{} leads the roots in term {}; {answers} of {} roots report to it",
        node_name(view, &told.root),
        told.term,
        told.roots.len()
    )];
    for root in told.roots.iter().filter(|root| !root.answers) {
        lines.push(match root.report_age_ms {
            Some(ms) => format!("root {} has not reported for {ms} ms", node_name(view, &root.node)),
            None => format!("root {} has not reported to this leader yet", node_name(view, &root.node)),
        });
    }
    for root in &own.roots {
        let name = node_name(view, &root.node);
        lines.push(match root.answered_ms_ago {
            Some(ms) => format!("root {name} answered this node {ms} ms ago"),
            None => format!("root {name} has not answered this node yet"),
        });
    }
    lines.extend(last_of(told, |event| matches!(event, Event::Elected { .. }), "last election", view));
    lines.extend(last_of(told, |event| matches!(event, Event::VotersChange { .. }), "last change of the roots", view));
    lines
}

fn last_of(told: &Explanation, is_it: impl Fn(&Event) -> bool, name: &str, view: &ClusterView) -> Option<String> {
    let (subject, record) = told.records.iter().find(|(_, record)| is_it(&record.event))?;
    Some(format!("{name}: {}", line(view, subject, record)))
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_utc() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_316_645_678, "2026-11-22T03:04:05.678Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(unix_ms), expected);
        }
    }
}
