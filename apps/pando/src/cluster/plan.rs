// SPDX-License-Identifier: BSD-3-Clause
//! Which node becomes what when a cluster is created: pure, so that it can be tested by tables.

const SLOTS: usize = 16384;

/// Indexes are into the list of nodes that was given.
#[derive(Debug, Eq, PartialEq)]
pub struct Plan {
    pub primaries: Vec<Primary>,
    pub replicas: Vec<Replica>,
}

/// A primary and its slots, both ends included.
#[derive(Debug, Eq, PartialEq)]
pub struct Primary {
    pub node: usize,
    pub first: usize,
    pub last: usize,
}

#[derive(Debug, Eq, PartialEq)]
pub struct Replica {
    pub node: usize,
    pub of: usize,
}

/// Deals contiguous, equal slot ranges to primaries and replicas to primaries on other hosts where there are any.
/// Primaries are taken from the hosts in turn.
///
/// # Errors
/// Too few nodes for that many replicas, or one named twice.
pub fn plan(nodes: &[String], replicas: usize) -> Result<Plan, String> {
    if let Some(twice) = nodes.iter().enumerate().find(|(at, node)| nodes[..*at].contains(node)) {
        return Err(format!("{} is named twice", twice.1));
    }
    let count = nodes.len() / (replicas + 1);
    if count == 0 {
        return Err(format!("{} nodes are too few for {replicas} replicas per primary", nodes.len()));
    }
    let order = by_hosts_in_turn(nodes);
    let (chosen, mut rest) = (order[..count].to_vec(), order[count..].to_vec());
    let range = |index: usize| (index * SLOTS / count, (index + 1) * SLOTS / count - 1);
    let primaries = chosen.iter().enumerate().map(|(index, &node)| {
        let (first, last) = range(index);
        Primary { node, first, last }
    });
    let mut dealt = Vec::new();
    // Nodes that do not fill a round become extra replicas of the first primaries.
    while !rest.is_empty() {
        for &of in &chosen {
            let other_host = rest.iter().position(|&node| host(&nodes[node]) != host(&nodes[of]));
            if rest.is_empty() {
                break;
            }
            let node = rest.remove(other_host.unwrap_or(0));
            dealt.push(Replica { node, of });
        }
    }
    Ok(Plan { primaries: primaries.collect(), replicas: dealt })
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn by_hosts_in_turn(nodes: &[String]) -> Vec<usize> {
    let mut rank: Vec<(usize, usize)> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let before = nodes[..index].iter().filter(|other| host(other) == host(node)).count();
        rank.push((before, index));
    }
    rank.sort_unstable();
    rank.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::{Plan, plan};

    fn of(nodes: &[&str], replicas: usize) -> Result<Plan, String> {
        plan(&nodes.iter().map(|&node| node.to_owned()).collect::<Vec<_>>(), replicas)
    }

    fn check(nodes: &[&str], replicas: usize, primaries: &[(usize, usize, usize)], pairs: &[(usize, usize)]) {
        let plan = of(nodes, replicas).expect("a plan");
        let got: Vec<_> = plan.primaries.iter().map(|each| (each.node, each.first, each.last)).collect();
        assert_eq!(got, primaries);
        let got: Vec<_> = plan.replicas.iter().map(|each| (each.node, each.of)).collect();
        assert_eq!(got, pairs);
    }

    #[test]
    fn one_host() {
        let thirds = [(0, 0, 5460), (1, 5461, 10921), (2, 10922, 16383)];
        check(&["h:1", "h:2", "h:3", "h:4", "h:5", "h:6"], 1, &thirds, &[(3, 0), (4, 1), (5, 2)]);
        check(&["h:1"], 0, &[(0, 0, 16383)], &[]);
        check(&["h:1", "h:2", "h:3"], 1, &[(0, 0, 16383)], &[(1, 0), (2, 0)]);
    }

    #[test]
    fn replicas_live_on_other_hosts() {
        let halves = [(0, 0, 8191), (2, 8192, 16383)];
        check(&["a:1", "a:2", "b:1", "b:2"], 1, &halves, &[(3, 0), (1, 2)]);
    }

    #[test]
    fn refusals() {
        assert!(of(&["h:1"], 1).is_err());
        assert!(of(&["h:1", "h:1"], 0).is_err());
    }
}
