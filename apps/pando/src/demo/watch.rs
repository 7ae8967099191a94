// SPDX-License-Identifier: BSD-3-Clause
//! Looks at a cluster from outside, as any client could, and tells what changed since the last look.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::link::{Link, field};

/// A node that does not answer within this is shown as down; the next look tries again.
const REPLY_LIMIT: Duration = Duration::from_millis(500);

/// What is known of one node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeView {
    pub address: String,
    pub id: String,
    pub up: bool,
    pub primary: bool,
    /// The primary's id, of a replica.
    pub of: String,
    pub slots: String,
    /// It leads the roots.
    pub leads: bool,
    pub keys: u64,
    pub ops_per_s: u64,
    pub offset: u64,
    /// A replica's link to its primary, or whether a primary serves.
    pub healthy: bool,
}

/// The cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub nodes: Vec<NodeView>,
    pub state: String,
    pub version: String,
    pub term: u64,
}

/// Connections and the last view.
pub struct Watch {
    addresses: Vec<String>,
    links: BTreeMap<String, Link>,
    start: Instant,
    view: View,
}

impl Watch {
    /// Nothing is connected yet.
    pub fn new(addresses: Vec<String>) -> Self {
        Self { addresses, links: BTreeMap::new(), start: Instant::now(), view: View::default() }
    }

    /// The last view.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Asks all nodes, and returns a line for each thing that changed.
    pub fn look(&mut self) -> Vec<String> {
        let mut next = View::default();
        let mut topology: Option<(u64, String)> = None;
        let mut leader = None;
        for address in self.addresses.clone() {
            let mut node = NodeView { address: address.clone(), ..NodeView::default() };
            if let Some((info, cluster, nodes)) = self.ask(&address) {
                let number = |name: &str| field(&info, name).and_then(|text| text.parse().ok()).unwrap_or(0);
                node.up = true;
                node.ops_per_s = number("instantaneous_ops_per_sec");
                node.offset = number("master_repl_offset");
                node.keys = keys(&info);
                node.healthy = match field(&info, "role") {
                    Some("slave") => field(&info, "master_link_status") == Some("up"),
                    _ => field(&cluster, "cluster_state") == Some("ok"),
                };
                let version: u64 =
                    field(&cluster, "cluster_topology_version").and_then(|text| text.parse().ok()).unwrap_or(0);
                // Nodes that are no root do not know the term.
                let term = field(&cluster, "cluster_root_term").and_then(|text| text.parse().ok()).unwrap_or(0);
                next.term = next.term.max(term);
                // The newest topology that any node has applied.
                if topology.as_ref().is_none_or(|(newest, _)| version >= *newest) && !nodes.is_empty() {
                    topology = Some((version, nodes));
                    next.version = version.to_string();
                    next.state = field(&cluster, "cluster_state").unwrap_or_default().to_owned();
                }
                if let Some(id) = field(&cluster, "cluster_root_leader").filter(|id| !id.is_empty()) {
                    leader = Some(id.to_owned());
                }
            }
            next.nodes.push(node);
        }
        if let Some((_, text)) = topology {
            apply_topology(&mut next, &text);
        } else {
            next.nodes.iter_mut().zip(&self.view.nodes).for_each(|(new, old)| {
                (new.id, new.slots, new.primary) = (old.id.clone(), old.slots.clone(), old.primary);
            });
        }
        for node in &mut next.nodes {
            node.leads = node.up && leader.as_deref() == Some(node.id.as_str());
        }
        let events = events(&self.view, &next);
        self.view = next;
        let at = self.start.elapsed().as_secs_f64();
        events.into_iter().map(|event| format!("{at:7.2} s  {event}")).collect()
    }

    /// One line on the whole.
    pub fn summary(&self) -> String {
        let nodes = &self.view.nodes;
        let ops: u64 = nodes.iter().filter(|node| node.primary).map(|node| node.ops_per_s).sum();
        let keys: u64 = nodes.iter().filter(|node| node.primary && node.up).map(|node| node.keys).sum();
        let up = nodes.iter().filter(|node| node.up).count();
        format!("{up} of {} nodes up, state {}, {keys} keys, {ops} operations/s", nodes.len(), self.view.state)
    }

    fn ask(&mut self, address: &str) -> Option<(String, String, String)> {
        if !self.links.contains_key(address) {
            let link = Link::connect(address, REPLY_LIMIT).ok()?;
            self.links.insert(address.to_owned(), link);
        }
        let link = self.links.get_mut(address)?;
        let answers = (|| {
            let info = link.text(&["INFO"])?;
            let cluster = link.text(&["CLUSTER", "INFO"])?;
            // A root without a majority refuses to tell the topology; the others tell it.
            let nodes = match link.text(&["CLUSTER", "NODES"]) {
                Err(reason) if reason.starts_with("CLUSTERDOWN") => String::new(),
                other => other?,
            };
            Ok::<_, String>((info, cluster, nodes))
        })();
        if answers.is_err() {
            self.links.remove(address);
        }
        answers.ok()
    }
}

/// Sums the keys of all databases in INFO's keyspace section.
fn keys(info: &str) -> u64 {
    let lines = info.lines().filter(|line| line.starts_with("db"));
    let counts = lines.filter_map(|line| line.split("keys=").nth(1)?.split(',').next()?.parse::<u64>().ok());
    counts.sum()
}

/// Fills in what CLUSTER NODES says.
fn apply_topology(view: &mut View, text: &str) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, address, flags, of, _, _, _, _, slots @ ..] = words.as_slice() else { continue };
        let address = address.split('@').next().unwrap_or_default();
        let Some(node) = view.nodes.iter_mut().find(|node| node.address == address) else { continue };
        node.id = (*id).to_owned();
        node.primary = flags.split(',').any(|flag| flag == "master");
        node.of = if *of == "-" { String::new() } else { (*of).to_owned() };
        node.slots = slots.join(" ");
    }
}

fn events(old: &View, new: &View) -> Vec<String> {
    let mut events = Vec::new();
    for (before, after) in old.nodes.iter().zip(&new.nodes) {
        let address = &after.address;
        match (before.up, after.up) {
            (true, false) => events.push(format!("{address} does not answer")),
            (false, true) => events.push(format!("{address} answers again")),
            _ => {}
        }
        match (before.primary, after.primary) {
            (false, true) if !before.id.is_empty() => {
                events.push(format!("{address} was promoted: primary of slots {}", after.slots));
            }
            (true, false) if !after.id.is_empty() => events.push(format!("{address} is a replica now")),
            _ => {}
        }
        if after.leads && !before.leads && old.nodes.iter().any(|node| node.leads) {
            events.push(format!("{address} leads the roots now, term {}", new.term));
        }
    }
    if !old.state.is_empty() && old.state != new.state {
        events.push(format!("cluster state: {}", new.state));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::{NodeView, View, apply_topology, events, keys};

    fn view(primaries: [bool; 2]) -> View {
        let node = |index: usize| NodeView {
            address: format!("h:{index}"),
            id: format!("{index}"),
            up: true,
            primary: primaries[index],
            ..NodeView::default()
        };
        View { nodes: vec![node(0), node(1)], state: "ok".into(), ..View::default() }
    }

    #[test]
    fn a_failover_is_told() {
        let mut after = view([false, true]);
        after.nodes[0].up = false;
        after.nodes[1].slots = "0-16383".into();
        let told = events(&view([true, false]), &after);
        assert_eq!(
            told,
            ["h:0 does not answer", "h:0 is a replica now", "h:1 was promoted: primary of slots 0-16383",]
        );
        assert!(events(&after, &after).is_empty());
    }

    #[test]
    fn topology_is_read_from_cluster_nodes() {
        let mut seen = view([false, false]);
        apply_topology(
            &mut seen,
            "aa h:0@1 myself,master - 0 0 1 connected 0-5 7\nbb h:1@1 slave aa 0 0 1 connected\n",
        );
        assert_eq!((seen.nodes[0].slots.as_str(), seen.nodes[0].primary), ("0-5 7", true));
        assert_eq!((seen.nodes[1].of.as_str(), seen.nodes[1].primary), ("aa", false));
    }

    #[test]
    fn keys_of_all_databases() {
        assert_eq!(keys("role:master\r\ndb0:keys=3,expires=0\r\ndb2:keys=4,expires=1\r\n"), 7);
    }
}
