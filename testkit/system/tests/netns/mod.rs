// SPDX-License-Identifier: BSD-3-Clause
//! Hosts on one machine: network namespaces joined by a bridge, each with one address, cables that can be pulled.
//!
//! Needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN); [`Hosts::new`] returns `None` without it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pando_procs::{Client, Relay, SlowDisk, peers};

/// The client port of every node: each has a host of its own.
pub const PORT: u16 = 7000;

/// A set of hosts. Dropping it removes them.
pub struct Hosts {
    prefix: String,
    count: usize,
    /// Nodes are started such that their disks can be made slow.
    can_slow_disks: bool,
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
}

/// Tests run at the same time in one process, so the process id alone is not enough.
fn unique_prefix() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("pd{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Hosts {
    /// Makes `count` hosts, or says why it cannot.
    pub fn new(count: usize) -> Option<Self> {
        let hosts = Self { prefix: unique_prefix(), count, can_slow_disks: false };
        match hosts.build() {
            Ok(()) => Some(hosts),
            // In CI a missing privilege must not hide the test.
            Err(reason) if std::env::var_os("CI").is_some() => panic!("{reason}"),
            Err(reason) => {
                eprintln!("skipped: network namespaces need root: {reason}");
                None
            }
        }
    }

    /// The disks of nodes that are started from here on can be made slow.
    ///
    /// # Errors
    /// Why they cannot on this machine.
    pub fn with_slow_disks(mut self) -> Result<Self, String> {
        SlowDisk::check().map_err(|error| format!("seccomp user notification: {error}"))?;
        self.can_slow_disks = true;
        Ok(self)
    }

    fn build(&self) -> Result<(), String> {
        let switch = self.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for host in 0..self.count {
            let (name, cable) = (self.name(host), Self::cable(host));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &switch, "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", &switch, "link", "set", &cable, "master", "br0", "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", Self::address(host)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn switch(&self) -> String {
        format!("{}sw", self.prefix)
    }

    fn name(&self, host: usize) -> String {
        format!("{}h{host}", self.prefix)
    }

    fn cable(host: usize) -> String {
        format!("v{host}")
    }

    /// The address of a host inside the namespaces.
    pub fn address(host: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 10 + host as u8)
    }

    /// Pulls the host's cable, or plugs it in again.
    pub fn cable_up(&self, host: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.switch(), "link", "set", &Self::cable(host), state]).expect("ip link set");
    }

    /// Every packet to and from the host takes so much longer, and up to `more` on top, until what is returned is
    /// dropped.
    pub fn make_late(&self, host: usize, delay: Duration, more: Duration) -> LateCable {
        let (switch, cable, [near, far]) = (self.switch(), Self::cable(host), [format!("n{host}"), format!("f{host}")]);
        let made = ip(&["-n", &switch, "link", "add", &near, "type", "veth", "peer", "name", &far])
            .and_then(|()| ip(&["-n", &switch, "link", "set", &near, "up"]))
            .and_then(|()| ip(&["-n", &switch, "link", "set", &far, "master", "br0", "up"]))
            .and_then(|()| ip(&["-n", &switch, "link", "set", &cable, "nomaster"]));
        made.expect("a second cable");
        let (enter, ends) = (Self::enter_named(&switch), (cable.clone(), near.clone()));
        let relay = std::thread::spawn(move || {
            enter();
            Relay::start(&ends.0, &ends.1, delay, more)
        });
        let relay = relay.join().expect("a thread").expect("packets can be relayed");
        LateCable { relay: Some(relay), switch, cable, near }
    }

    /// Runs `work` on a thread of its own that lives on the host.
    pub fn on<T: Send + 'static>(
        &self,
        host: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let enter = self.enter(host);
        std::thread::spawn(move || {
            enter();
            work()
        })
    }

    /// Moves the thread that calls it to the host, for good.
    pub fn enter(&self, host: usize) -> std::sync::Arc<dyn Fn() + Send + Sync> {
        Self::enter_named(&self.name(host))
    }

    fn enter_named(name: &str) -> std::sync::Arc<dyn Fn() + Send + Sync> {
        let path = format!("/run/netns/{name}");
        std::sync::Arc::new(move || {
            let namespace = File::open(&path).expect("the namespace exists");
            // SAFETY: setns(2) takes a descriptor that is open here; it changes only this thread.
            let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        })
    }

    /// A client on `from` that is connected to the node on `to`.
    pub fn client(&self, from: usize, to: usize) -> std::io::Result<Client> {
        let addr = SocketAddr::from((Self::address(to), PORT));
        self.on(from, move || Client::connect_addr(addr, Duration::from_millis(1000))).join().expect("client thread")
    }

    /// Starts a node on the host.
    pub fn start(&self, host: usize, args: &[&str]) -> Process {
        self.start_in(host, pando_procs::node::temp_dir("host"), args)
    }

    /// Starts a node on the host in a directory that may hold what an earlier one left.
    pub fn start_in(&self, host: usize, dir: PathBuf, args: &[&str]) -> Process {
        let disk = SlowDisk::default();
        let child = self.spawn(host, &dir, args, &disk);
        Process { child, dir, disk }
    }

    fn spawn(&self, host: usize, dir: &std::path::Path, args: &[&str], disk: &SlowDisk) -> Child {
        // Beside the directory, which may be full.
        let log = File::options().create(true).append(true).open(dir.with_extension("log")).expect("log");
        let address = Self::address(host).to_string();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name(host)])
            .arg(peers::pando())
            .args(["server", "--port", &PORT.to_string(), "--bind", &address, "127.0.0.1", "--protected-mode", "no"])
            .args(["--save", "", "--cluster-enabled", "yes", "--dir"])
            .arg(dir)
            .args(args)
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("log"))
            .stdout(log);
        let prepared = self.can_slow_disks.then(|| disk.prepare(&mut command).expect("a socket"));
        let child = command.spawn().expect("ip netns exec");
        if let Some(prepared) = prepared {
            prepared.attach().expect("the filter of the node's syncs");
        }
        child
    }
}

/// A cable whose packets are late. Dropping it makes them punctual again.
pub struct LateCable {
    relay: Option<Relay>,
    switch: String,
    cable: String,
    near: String,
}

impl LateCable {
    /// How many packets were late.
    pub fn passed(&self) -> u64 {
        self.relay.as_ref().map_or(0, Relay::passed)
    }
}

impl Drop for LateCable {
    fn drop(&mut self) {
        self.relay.take();
        let _ = ip(&["-n", &self.switch, "link", "set", &self.cable, "master", "br0"]);
        let _ = ip(&["-n", &self.switch, "link", "del", &self.near]);
    }
}

impl Process {
    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill(2) takes no pointers; the child is ours and not yet reaped, so the id cannot be another process's.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// kill -9, and wait for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// kill -9, and the same node again with its old directory.
    pub fn restart(&mut self, hosts: &Hosts, host: usize, args: &[&str]) {
        self.kill();
        self.child = hosts.spawn(host, &self.dir, args, &self.disk);
    }

    /// Its disk, if the hosts were made so.
    pub fn disk(&self) -> &SlowDisk {
        &self.disk
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in 0..self.count {
            let _ = ip(&["netns", "del", &self.name(host)]);
        }
        let _ = ip(&["netns", "del", &self.switch()]);
    }
}

/// A node on a host; `ip netns exec` replaces itself by it, so the child is the node.
pub struct Process {
    child: Child,
    dir: PathBuf,
    disk: SlowDisk,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
            eprintln!("--- log of a node ---\n{log}");
        }
        let _ = std::fs::remove_file(self.dir.with_extension("log"));
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
