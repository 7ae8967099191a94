// SPDX-License-Identifier: BSD-3-Clause
//! The table of faults and victims with real processes: whatever fails, what clients were told holds, and afterwards
//! everything is whole again. Six nodes in three zones, each a data node, the first three also the roots; writers append
//! to all shards and `pando_procs::history` judges what they saw.
//!
//! | fault | what it is |
//! |---|---|
//! | kill | kill -9; the process starts again when its part has been taken over |
//! | stop | SIGSTOP for more than a lease |
//! | cut | the cable is pulled for more than a lease |
//! | flap | the cable is pulled for 100 of every 250 ms: packets are lost and late |
//! | slow | the process gets 50 of every 250 ms |
//! | full | the disk of a root is full, and then a primary is killed |
//! | slow disk | each fsync of a root takes a fifth of a second longer, and then a primary is killed |
//! | late | every packet to and from the host takes 80 to 160 ms longer, each way |
//!
//! Outcomes are asserted, times are printed. Hosts are network namespaces, so this needs root; it is skipped with a
//! message where a user lacks it, never in CI. `PANDO_FAULTS=all` takes every cell of the table instead of a choice, a number
//! takes the whole table so many times, names of faults (`Full,Flap`) take theirs.
//!
//! The last columns of the table are about the shards that have nothing to do with the victim: how many writes were
//! refused there, and the longest time in which one of their lists took nothing.

mod netns;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use netns::{Hosts, PORT, Process};
use pando_procs::client::info_field;
use pando_procs::history::{Outcome, Write, longest_gap_of_a_list};
use pando_procs::{AppendPlan, Appends, Seek, eventually, judge, read_lists};

/// Far longer than anything takes: a slow machine must not fail.
const LIMIT: Duration = Duration::from_secs(60);
const NODES: usize = 6;
const SHARDS: usize = 3;
const CLIENTS: usize = NODES;
const LEASE: Duration = Duration::from_millis(1500);
/// Size of a root's disk.
const DISK_BYTES: usize = 4 << 20;

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Fault {
    Kill,
    Stop,
    Cut,
    Flap,
    Slow,
    Full,
    SlowDisk,
    Late,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Victim {
    LeadingRoot,
    OtherRoot,
    Primary,
    Replica,
    Zone,
}

use Fault::{Cut, Flap, Full, Kill, Late, Slow, SlowDisk, Stop};
use Victim::{LeadingRoot, OtherRoot, Primary, Replica, Zone};

/// What runs in CI: each fault and each victim, and the combinations that are decided in different ways.
const CHOICE: &[(Fault, Victim)] = &[
    (Kill, Primary),
    (Kill, LeadingRoot),
    (Stop, Primary),
    (Cut, LeadingRoot),
    (Kill, Zone),
    (Cut, Zone),
    (Flap, OtherRoot),
    (Slow, Replica),
    (Full, LeadingRoot),
    (SlowDisk, LeadingRoot),
    (Late, Primary),
];

fn table() -> Vec<(Fault, Victim)> {
    let mut all = Vec::new();
    for fault in [Kill, Stop, Cut, Flap, Slow, Late] {
        all.extend([LeadingRoot, OtherRoot, Primary, Replica, Zone].map(|victim| (fault, victim)));
    }
    for fault in [Full, SlowDisk] {
        all.extend([(fault, LeadingRoot), (fault, OtherRoot)]);
    }
    match std::env::var("PANDO_FAULTS").as_deref() {
        Err(_) => CHOICE.to_vec(),
        Ok("all") => all,
        Ok(text) => match text.parse() {
            Ok(times) => all.repeat(times),
            Err(_) => {
                let is_named = |fault: Fault| text.split(',').any(|name| name == format!("{fault:?}"));
                all.into_iter().filter(|(fault, _)| is_named(*fault)).collect()
            }
        },
    }
}

/// A small file system in memory. Dropping it takes it away.
struct Disk(PathBuf);

impl Disk {
    fn mount(dir: PathBuf) -> Self {
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir).status();
        assert!(mounted.is_ok_and(|status| status.success()), "mount");
        Self(dir)
    }

    /// Fills it, or makes room again.
    fn fill(&self, full: bool) {
        let filler = self.0.join("filler");
        if full {
            // Fails when there is no more room, which is the purpose.
            let _ = std::fs::write(&filler, vec![b'x'; DISK_BYTES]);
        } else {
            std::fs::remove_file(&filler).expect("the filler is there");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
        // The node could empty it only.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A line of CLUSTER NODES.
#[derive(Clone, Debug)]
struct Line {
    id: String,
    host: usize,
    is_primary: bool,
    primary: String,
}

struct Bed {
    /// Before `hosts` and `disks`: a node ends before its host and its disk do.
    nodes: Vec<Process>,
    disks: BTreeMap<usize, Disk>,
    args: Vec<Vec<String>>,
    hosts: Hosts,
    /// The names of two lists in each shard, and the shard.
    tags: Vec<(String, usize)>,
}

/// A shard's replica is in another zone than its primary.
fn zone_of(host: usize) -> usize {
    if host < SHARDS { host } else { (host + 1) % SHARDS }
}

impl Bed {
    fn new() -> Option<Self> {
        let hosts = Hosts::new(NODES + 1)?.with_slow_disks().map_err(|reason| eprintln!("skipped: {reason}")).ok()?;
        let list = (0..SHARDS).map(|host| format!("{}:{PORT}", Hosts::address(host))).collect::<Vec<_>>().join(" ");
        let (mut nodes, mut disks, mut args) = (Vec::new(), BTreeMap::new(), Vec::new());
        for host in 0..NODES {
            let dir = pando_procs::node::temp_dir("host");
            if host < SHARDS {
                disks.insert(host, Disk::mount(dir.clone()));
            }
            let zone = format!("zone{}", zone_of(host));
            let lease = LEASE.as_millis().to_string();
            let roles = if host < SHARDS { "data,root" } else { "data" };
            let all = ["--cluster-roots", &list, "--cluster-node-timeout", &lease, "--availability-zone", &zone];
            let all = [&all[..], &["--cluster-roles", roles]].concat();
            nodes.push(hosts.start_in(host, dir, &all));
            args.push(all.iter().map(|&arg| arg.to_owned()).collect());
        }
        let mut bed = Self { nodes, disks, args, hosts, tags: Vec::new() };
        bed.form();
        Some(bed)
    }

    fn text(&self, to: usize, args: &[&str]) -> Result<String, String> {
        let mut client = self.hosts.client(CLIENTS, to).map_err(|error| error.to_string())?;
        client.text(args).map_err(|error| error.to_string())
    }

    fn form(&mut self) {
        eventually(LIMIT, "nodes joined", || {
            for host in 0..NODES {
                let nodes = self.text(host, &["CLUSTER", "NODES"])?;
                if nodes.lines().count() != NODES {
                    return Err(nodes);
                }
            }
            Ok(())
        })
        .expect("nodes joined");
        for shard in 0..SHARDS {
            let (first, last) = (16384 * shard / SHARDS, 16384 * (shard + 1) / SHARDS - 1);
            let range = [first.to_string(), last.to_string()];
            let reply = self.text(shard, &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            assert_eq!(reply.as_deref(), Ok("OK"));
            let id = self.text(shard, &["CLUSTER", "MYID"]).expect("id");
            let replica = SHARDS + shard;
            eventually(LIMIT, "replicate", || match self.text(replica, &["CLUSTER", "REPLICATE", &id])? {
                reply if reply == "OK" => Ok(()),
                reply => Err(reply),
            })
            .expect("replicate");
        }
        let mut missing = vec![2; SHARDS];
        for number in 0.. {
            let tag = format!("f{number}");
            let slot = self.text(0, &["CLUSTER", "KEYSLOT", &tag]).expect("slot").parse::<usize>().expect("a slot");
            let shard = (0..SHARDS).find(|shard| slot < 16384 * (shard + 1) / SHARDS).unwrap_or(0);
            if missing[shard] > 0 {
                missing[shard] -= 1;
                self.tags.push((tag, shard));
            }
            if missing == [0; SHARDS] {
                break;
            }
        }
        self.wait_whole();
    }

    /// The cluster as one of the nodes sees it.
    fn lines(&self, from: usize) -> Result<Vec<Line>, String> {
        let text = self.text(from, &["CLUSTER", "NODES"])?;
        let parse = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let host = (0..NODES).find(|host| fields.get(1).is_some_and(|at| is_at(at, *host)))?;
            let is_primary = fields.get(2)?.contains("master") && fields.len() > 8;
            Some(Line { id: fields[0].to_owned(), host, is_primary, primary: (*fields.get(3)?).to_owned() })
        };
        Ok(text.lines().filter_map(parse).collect())
    }

    /// Every node says so, every shard has a primary and a replica that has its data.
    fn wait_whole(&self) {
        eventually(LIMIT, "whole", || {
            for host in 0..NODES {
                let info = self.text(host, &["CLUSTER", "INFO"])?;
                if info_field(&info, "cluster_state").as_deref() != Some("ok")
                    || info_field(&info, "cluster_root_quorum").as_deref() != Some("ok")
                    // Else the first root's word alone would be needed for a lease after the others joined it.
                    || info_field(&info, "cluster_roots_changing").as_deref() != Some("0")
                {
                    return Err(format!("host {host}: {info}"));
                }
                let lines = self.lines(host)?;
                let primaries: Vec<&Line> = lines.iter().filter(|line| line.is_primary).collect();
                let has_replica =
                    |primary: &&&Line| lines.iter().any(|line| !line.is_primary && line.primary == primary.id);
                if lines.len() != NODES
                    || primaries.len() != SHARDS
                    || primaries.iter().filter(has_replica).count() != SHARDS
                {
                    return Err(format!("host {host}: {lines:?}"));
                }
                let info = self.text(host, &["INFO", "replication"])?;
                let role = info_field(&info, "role");
                let is_well = match role.as_deref() {
                    Some("slave") => info.contains("master_link_status:up"),
                    _ => info.contains("state=online"),
                };
                if !is_well {
                    return Err(format!("host {host}: {info}"));
                }
            }
            Ok(())
        })
        .expect("whole");
    }

    /// Hosts that are members of the root group, the leading one first.
    fn roots(&self) -> Vec<usize> {
        let leader = eventually(LIMIT, "a leading root", || {
            let info = self.text(0, &["CLUSTER", "INFO"])?;
            let leader = info_field(&info, "cluster_root_leader").ok_or("no field")?;
            let lines = self.lines(0)?;
            lines.iter().find(|line| line.id == leader).map(|line| line.host).ok_or(info)
        });
        let leader = leader.expect("a leading root");
        let is_root = |host: &usize| {
            let info = self.text(*host, &["CLUSTER", "INFO"]).unwrap_or_default();
            *host != leader && info_field(&info, "cluster_is_root").as_deref() == Some("1")
        };
        std::iter::once(leader).chain((0..NODES).filter(is_root)).collect()
    }

    /// The hosts of a victim. A primary or replica is none of a root that leads, where there is such a one.
    fn hosts_of(&self, victim: Victim) -> Vec<usize> {
        let roots = self.roots();
        let lines = self.lines(0).expect("nodes");
        let pick = |is_primary: bool| {
            let mut fitting: Vec<usize> =
                lines.iter().filter(|line| line.is_primary == is_primary).map(|line| line.host).collect();
            fitting.sort_by_key(|host| roots.first() == Some(host));
            vec![fitting[0]]
        };
        match victim {
            LeadingRoot => vec![roots[0]],
            OtherRoot => vec![roots[1]],
            Primary => pick(true),
            Replica => pick(false),
            Zone => {
                let zone = zone_of(roots[0]);
                (0..NODES).filter(|host| zone_of(*host) == zone).collect()
            }
        }
    }

    /// The primary that is killed while a disk is bad: in another shard, and no root, because two of three roots that
    /// cannot write are none that could decide.
    fn other_primary(&self, hosts: &[usize]) -> usize {
        let primaries = || -> Result<Vec<usize>, String> {
            let lines = self.lines(SHARDS)?;
            Ok(lines.iter().filter(|line| line.is_primary).map(|line| line.host).collect())
        };
        let is_other = |host: &usize| hosts.iter().all(|victim| victim % SHARDS != host % SHARDS);
        let found = eventually(LIMIT, "primaries", primaries).expect("primaries");
        if let Some(host) = found.iter().copied().filter(is_other).find(|host| *host >= SHARDS) {
            return host;
        }
        let replica = (SHARDS..NODES).find(is_other).expect("another shard");
        eventually(LIMIT, "another primary that is no root", || {
            if primaries()?.contains(&replica) {
                return Ok(());
            }
            Err(self.text(replica, &["CLUSTER", "FAILOVER"])?)
        })
        .expect("another primary that is no root");
        self.wait_whole();
        replica
    }

    /// The shards of which none of these hosts is a member; hosts n and n + 3 are a shard.
    fn untouched(hosts: impl Iterator<Item = usize>) -> Vec<usize> {
        let touched: Vec<usize> = hosts.map(|host| host % SHARDS).collect();
        (0..SHARDS).filter(|shard| !touched.contains(shard)).collect()
    }

    /// Does it to the hosts, long enough that everybody notices, and ends it.
    fn inflict(&mut self, fault: Fault, hosts: &[usize], other: Option<usize>, load: &Appends) {
        let long = LEASE * 2;
        match fault {
            Kill => {
                hosts.iter().for_each(|host| self.nodes[*host].kill());
                self.wait_others_serve(hosts, load);
                for host in hosts {
                    let args: Vec<&str> = self.args[*host].iter().map(String::as_str).collect();
                    self.nodes[*host].restart(&self.hosts, *host, &args);
                }
            }
            Stop => {
                hosts.iter().for_each(|host| self.nodes[*host].signal(libc::SIGSTOP));
                std::thread::sleep(long);
                self.wait_others_serve(hosts, load);
                hosts.iter().for_each(|host| self.nodes[*host].signal(libc::SIGCONT));
            }
            Cut => {
                hosts.iter().for_each(|host| self.hosts.cable_up(*host, false));
                std::thread::sleep(long);
                self.wait_others_serve(hosts, load);
                hosts.iter().for_each(|host| self.hosts.cable_up(*host, true));
            }
            Flap => self.in_turns(long, |bed, is_bad| {
                hosts.iter().for_each(|host| bed.hosts.cable_up(*host, !is_bad));
                Duration::from_millis(if is_bad { 100 } else { 150 })
            }),
            Slow => self.in_turns(long, |bed, is_bad| {
                let signal = if is_bad { libc::SIGSTOP } else { libc::SIGCONT };
                hosts.iter().for_each(|host| bed.nodes[*host].signal(signal));
                Duration::from_millis(if is_bad { 200 } else { 50 })
            }),
            Late => {
                let (delay, more) = (Duration::from_millis(80), Duration::from_millis(80));
                let late: Vec<_> = hosts.iter().map(|host| self.hosts.make_late(*host, delay, more)).collect();
                let primaries = |bed: &Self| -> Vec<usize> {
                    let lines = eventually(LIMIT, "nodes", || bed.lines(SHARDS)).expect("nodes");
                    lines.iter().filter(|line| line.is_primary).map(|line| line.host).collect()
                };
                let before = primaries(self);
                std::thread::sleep(long);
                load.wait_more(40, LIMIT).expect("writes go on");
                // Late is not dead.
                assert_eq!(primaries(self), before, "the same nodes are primaries");
                assert!(late.iter().all(|cable| cable.passed() > 0), "packets were late");
            }
            Full | SlowDisk => {
                let spoil = |bed: &Self, spoiled: bool| {
                    for host in hosts {
                        match fault {
                            Full => bed.disks.get(host).expect("a root has a disk of its own").fill(spoiled),
                            _ if spoiled => bed.nodes[*host].disk().set(Duration::from_millis(200)),
                            _ => bed.nodes[*host].disk().set(Duration::ZERO),
                        }
                    }
                };
                let syncs: u64 = hosts.iter().map(|host| self.nodes[*host].disk().delayed()).sum();
                spoil(self, true);
                let other = other.expect("another primary");
                self.nodes[other].kill();
                self.wait_others_serve(&[other], load);
                spoil(self, false);
                let slow = hosts.iter().map(|host| self.nodes[*host].disk().delayed()).sum::<u64>() - syncs;
                assert_eq!(slow > 0, fault == SlowDisk, "syncs were slow");
                let args: Vec<&str> = self.args[other].iter().map(String::as_str).collect();
                self.nodes[other].restart(&self.hosts, other, &args);
            }
        }
    }

    /// Bad and good times in turn.
    fn in_turns(&self, time: Duration, set: impl Fn(&Self, bool) -> Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            std::thread::sleep(set(self, true));
            std::thread::sleep(set(self, false));
        }
    }

    /// Every shard has a primary that is not among these hosts, and takes writes.
    fn wait_others_serve(&self, gone: &[usize], load: &Appends) {
        let witness = (0..NODES).find(|host| !gone.contains(host)).expect("somebody is left");
        eventually(LIMIT, "others serve", || {
            let lines = self.lines(witness)?;
            let serving = lines.iter().filter(|line| line.is_primary && !gone.contains(&line.host)).count();
            if serving == SHARDS { Ok(()) } else { Err(format!("{lines:?}")) }
        })
        .expect("others serve");
        load.wait_more(200, LIMIT).expect("writes go on");
    }

    fn cell(&mut self, number: usize, fault: Fault, victim: Victim) -> String {
        self.wait_whole();
        let hosts = self.hosts_of(victim);
        let other = matches!(fault, Full | SlowDisk).then(|| self.other_primary(&hosts));
        let nodes: Vec<SocketAddr> = (0..NODES).map(|host| SocketAddr::from((Hosts::address(host), PORT))).collect();
        let keys = self.tags.iter().map(|(tag, _)| format!("{{{tag}}}:{number}")).collect();
        let load = Appends::start(AppendPlan {
            keys,
            patience: Duration::from_millis(300),
            enter: Some(self.hosts.enter(CLIENTS)),
            ..AppendPlan::new(Seek::Cluster(nodes), 0)
        });
        load.wait_more(200, LIMIT).expect("appends");
        let untouched = Self::untouched(hosts.iter().copied().chain(other));
        let since = load.now();
        let began = Instant::now();
        self.inflict(fault, &hosts, other, &load);
        let lasted = began.elapsed();
        let healing = Instant::now();
        load.wait_more(100, LIMIT).expect("appends go on");
        self.wait_whole();
        let healed = healing.elapsed();
        let plan = load.plan();
        let report = load.stop();
        let verdict = judge(&report.history, &read_lists(&plan, LIMIT).expect("lists"));
        let is_untouched = |key: usize| untouched.contains(&self.tags[key].1);
        let gap = longest_gap_of_a_list(&report.history, since, |_| true);
        let others_gap = longest_gap_of_a_list(&report.history, since, is_untouched);
        let of_others = |write: &&Write| write.ended >= since && is_untouched(write.key);
        let others_refused = report.history.writes.iter().filter(of_others).filter(|w| w.outcome == Outcome::Refused);
        let others_refused = others_refused.count();
        let name = format!("{fault:?} {victim:?}");
        let line = format!(
            "{name:<18} {:>5} {:>6} {:>6} {:>6} {:>5} {:>5} {:>7} {:>8} {:>8} {others_refused:>7} {:>7}",
            verdict.taken,
            verdict.kept,
            verdict.lost_unkept,
            verdict.refused,
            verdict.unknown,
            verdict.unknown_happened,
            gap.as_millis(),
            lasted.as_millis(),
            healed.as_millis(),
            others_gap.as_millis()
        );
        println!("{line}   {:?}", report.errors);
        assert_eq!(verdict.broken, Vec::<String>::new(), "{name} of hosts {hosts:?}");
        line
    }
}

#[test]
fn whatever_fails_clients_are_told_the_truth() {
    let Some(mut bed) = Bed::new() else { return };
    let mut lines = Vec::new();
    for (number, (fault, victim)) in table().into_iter().enumerate() {
        lines.push(bed.cell(number, fault, victim));
        // A root that has restarted gives no new promise for one lease; the next fault is to find a majority that does.
        std::thread::sleep(LEASE + LEASE / 4);
    }
    println!(
        "fault and victim   taken   kept   lost refused  unkn. happ.  gap ms fault ms  heal ms others: refused, gap ms"
    );
    lines.iter().for_each(|line| println!("{line}"));
}

/// Whether an address in CLUSTER NODES is this host's.
fn is_at(at: &str, host: usize) -> bool {
    at.strip_prefix(&Hosts::address(host).to_string()).is_some_and(|rest| rest.starts_with(':'))
}
