// SPDX-License-Identifier: BSD-3-Clause
//! Real Valkey Sentinels watch a Pando primary with two Pando replicas, under load: they fail over when it dies, when they
//! are asked to, and when it is told to end; each time they agree, and once.

use std::net::SocketAddr;
use std::time::Duration;

use pando_procs::client::info_field;
use pando_procs::history::Verdict;
use pando_procs::sentinel::NAME;
use pando_procs::{
    AppendPlan, AppendReport, Appends, Client, Node, Seek, Sentinel, Software, eventually, judge, read_lists,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A primary with two replicas and three Sentinels that have found each other.
struct Watched {
    nodes: Vec<Node>,
    sentinels: Vec<Sentinel>,
}

fn info(node: &Node, name: &str) -> Result<String, String> {
    let mut client = Client::connect(node.port).map_err(|error| error.to_string())?;
    let text = client.text(&["INFO", "replication"]).map_err(|error| error.to_string())?;
    info_field(&text, name).ok_or_else(|| format!("no {name} in {text}"))
}

impl Watched {
    fn start(args: &[&str], down_after: Duration) -> Self {
        let primary = Node::start(Software::Pando, args).expect("primary");
        let address = format!("127.0.0.1 {}", primary.port);
        let mut nodes = vec![primary];
        for _ in 0..2 {
            let args = [&["--replicaof", &address][..], args].concat();
            nodes.push(Node::start(Software::Pando, &args).expect("replica"));
        }
        let start = |_| Sentinel::start(nodes[0].port, 2, down_after).expect("sentinel");
        let sentinels: Vec<Sentinel> = (0..3).map(start).collect();
        let watched = Self { nodes, sentinels };
        eventually(LIMIT, "they know each other", || {
            for sentinel in &watched.sentinels {
                let knows = sentinel.knows()?;
                if knows != ("2".to_owned(), "2".to_owned()) {
                    return Err(format!("{knows:?}"));
                }
            }
            watched.replicas_follow(watched.nodes[0].port, 2)
        })
        .expect("they know each other");
        watched
    }

    fn load(&self) -> Appends {
        let sentinels: Vec<SocketAddr> = self.sentinels.iter().map(Sentinel::addr).collect();
        Appends::start(AppendPlan::new(Seek::Sentinels(sentinels, NAME.to_owned()), 3))
    }

    fn replicas_follow(&self, primary: u16, count: usize) -> Result<(), String> {
        let mut following = 0;
        for node in self.nodes.iter().filter(|node| node.port != primary) {
            let Ok(port) = info(node, "master_port") else { continue };
            let link = info(node, "master_link_status")?;
            following += usize::from(port == primary.to_string() && link == "up");
        }
        if following == count { Ok(()) } else { Err(format!("{following} of {count} follow {primary}")) }
    }

    /// Waits until all agree on a primary other than `old` that says so itself, and `replicas` follow it; its port.
    fn wait_other_primary(&self, old: u16, replicas: usize) -> u16 {
        eventually(LIMIT, "another primary", || {
            let port = self.sentinels[0].primary()?;
            for sentinel in &self.sentinels[1..] {
                if sentinel.primary()? != port {
                    return Err("they do not agree".to_owned());
                }
            }
            let node = self.nodes.iter().find(|node| node.port == port).ok_or("a stranger")?;
            if port == old || info(node, "role")? != "master" {
                return Err(format!("{port} is not it"));
            }
            self.replicas_follow(port, replicas)?;
            Ok(port)
        })
        .expect("another primary")
    }

    /// How often they have switched to another primary since their start.
    fn switches(&self) -> usize {
        self.sentinels.iter().map(|each| each.log().matches("+switch-master").count()).max().unwrap_or_default()
    }
}

/// Ends the load; every rule holds.
fn finish(name: &str, load: Appends) -> (Verdict, AppendReport) {
    let plan = load.plan();
    let report = load.stop();
    let verdict = judge(&report.history, &read_lists(&plan, LIMIT).expect("lists"));
    println!("{name}: {verdict}, errors {:?}", report.errors);
    assert_eq!(verdict.broken, Vec::<String>::new());
    (verdict, report)
}

#[test]
fn sentinels_replace_a_primary_that_was_killed() {
    let mut watched = Watched::start(&[], Duration::from_secs(2));
    let load = watched.load();
    load.wait_more(300, LIMIT).expect("appends");
    let old = watched.nodes[0].port;
    watched.nodes[0].kill();
    watched.wait_other_primary(old, 1);
    load.wait_more(300, LIMIT).expect("appends go on");
    finish("kill -9 under Sentinel", load);
    // It comes back as a primary, and is told to follow.
    watched.nodes[0].restart().expect("restart");
    let now = watched.sentinels[0].primary().expect("primary");
    eventually(LIMIT, "the old primary follows", || watched.replicas_follow(now, 2)).expect("it follows");
    assert_eq!(watched.switches(), 1);
}

fn ask(watched: &Watched, options: &[&str]) {
    eventually(LIMIT, "the Sentinel agrees", || {
        let all = [&["SENTINEL", "FAILOVER", NAME], options].concat();
        let mut client = Client::connect(watched.sentinels[0].port).map_err(|error| error.to_string())?;
        let reply = client.text(&all).map_err(|error| error.to_string())?;
        // It may not have heard of the replicas since the last failover, or that may not be quite over.
        if reply == "OK" { Ok(()) } else { Err(reply) }
    })
    .expect("the Sentinel agrees");
}

#[test]
fn sentinels_fail_over_as_they_are_asked() {
    let watched = Watched::start(&[], Duration::from_secs(30));
    let load = watched.load();
    load.wait_more(300, LIMIT).expect("appends");
    let first = watched.nodes[0].port;
    ask(&watched, &["COORDINATED"]);
    let second = watched.wait_other_primary(first, 2);
    load.wait_more(300, LIMIT).expect("appends go on");
    let (verdict, _) = finish("SENTINEL FAILOVER COORDINATED", load);
    assert_eq!(verdict.lost_unkept, 0, "lost");
    // Without the word a Sentinel promotes a replica while the primary still takes writes, which are lost: no load here.
    ask(&watched, &[]);
    watched.wait_other_primary(second, 2);
    assert_eq!(watched.switches(), 2);
}

#[test]
fn a_primary_that_ends_has_the_sentinels_lead_the_change() {
    let mut watched = Watched::start(&["--shutdown-on-sigterm", "failover"], Duration::from_secs(3));
    let load = watched.load();
    load.wait_more(300, LIMIT).expect("appends");
    let old = watched.nodes[0].port;
    watched.nodes[0].terminate();
    assert_eq!(watched.nodes[0].wait_exit(LIMIT), Some(0), "{}", watched.nodes[0].log_tail());
    let log = watched.nodes[0].log_tail();
    assert!(log.contains("The Sentinels have another primary."), "{log}");
    let now = watched.wait_other_primary(old, 1);
    load.wait_more(300, LIMIT).expect("appends go on");
    // Longer than they wait for a node that is gone before they would act.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(watched.sentinels[0].primary(), Ok(now), "a second failover");
    assert_eq!(watched.switches(), 1, "a second failover");
    let (verdict, _) = finish("SIGTERM under Sentinel", load);
    assert_eq!(verdict.lost_unkept, 0, "lost");
}
