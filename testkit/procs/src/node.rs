// SPDX-License-Identifier: BSD-3-Clause
//! One server process, Pando or a peer, in a temporary directory of its own on a free port.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::client::Client;
use crate::peers;
use crate::wait::eventually;

/// Which server a [`Node`] runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Software {
    Pando,
    /// The reference, Valkey 9.1.2.
    Valkey,
    /// Valkey 8.x, for memory figures.
    Valkey8,
}

/// A running server. Dropping it kills the process and removes its directory.
pub struct Node {
    pub software: Software,
    pub port: u16,
    pub dir: PathBuf,
    /// The address that it is bound to.
    pub host: String,
    child: Child,
    /// What it is started with, besides port, directory and address.
    pub args: Vec<String>,
    stopped: bool,
}

/// A port that was free a moment ago, such that port + 10000 (the cluster port) was free as well.
///
/// # Panics
/// When the machine has no free port pair.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let Ok(listener) = TcpListener::bind(("127.0.0.1", 0)) else { continue };
        let port = listener.local_addr().map_or(0, |addr| addr.port());
        if port == 0 {
            continue;
        }
        // Fold the ephemeral range (32768..60999) below it, so that outgoing connections do not take the pair.
        let port = 10_000 + port % 20_000;
        let both = TcpListener::bind(("127.0.0.1", port)).and(TcpListener::bind(("127.0.0.1", port + 10_000)));
        if both.is_ok() {
            return port;
        }
    }
    panic!("no free pair of ports");
}

/// A new empty directory below the system's temporary one.
///
/// # Panics
/// When it cannot be made.
pub fn temp_dir(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pando-{name}-{}-{count}", std::process::id()));
        match std::fs::create_dir(&dir) {
            Ok(()) => return dir,
            // In another namespace of processes the same number was another process, whose files may still be there.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{}: {error}", dir.display()),
        }
    }
}

impl Node {
    /// Starts a server with extra arguments in the form `--name value` and waits until it answers PING.
    ///
    /// # Errors
    /// The end of its log, when it does not come up within 20 seconds.
    pub fn start(software: Software, args: &[&str]) -> Result<Self, String> {
        Self::start_at(software, free_port(), temp_dir("node"), args)
    }

    /// As [`Self::start`], on a given port in a given directory.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_at(software: Software, port: u16, dir: PathBuf, args: &[&str]) -> Result<Self, String> {
        let mut node = Self::launch(software, port, dir, args)?;
        node.wait_ready()?;
        Ok(node)
    }

    /// As [`Self::start_at`], without waiting until it answers: many can be launched at once.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn launch(software: Software, port: u16, dir: PathBuf, args: &[&str]) -> Result<Self, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let host = "127.0.0.1".to_owned();
        let child = spawn(software, &host, port, &dir, &args)?;
        Ok(Self { software, port, dir, host, child, args, stopped: false })
    }

    /// Waits until it answers PING.
    ///
    /// # Errors
    /// The end of its log, when it does not within 20 seconds.
    pub fn wait_ready(&mut self) -> Result<(), String> {
        let addr = self.addr();
        eventually(Duration::from_secs(20), "server start", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended with {status}"));
            }
            let client = Client::connect_addr(addr, Duration::from_secs(10));
            let mut client = client.map_err(|error| error.to_string())?;
            let reply = client.text(&["PING"]).map_err(|error| error.to_string())?;
            let up = reply == "PONG" || reply.starts_with("-NOAUTH");
            if up { Ok(()) } else { Err(reply) }
        })
        .map_err(|error| format!("{error}\n{}", self.log_tail()))
    }

    /// Where its clients connect.
    pub fn addr(&self) -> std::net::SocketAddr {
        let ip = self.host.parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        std::net::SocketAddr::new(ip, self.port)
    }

    /// A new connection to this node, if it accepts one.
    ///
    /// # Errors
    /// As the socket says.
    pub fn connect(&self) -> std::io::Result<Client> {
        Client::connect_addr(self.addr(), Duration::from_secs(10))
    }

    /// Starts the process again at another address, as when it is scheduled elsewhere; does not wait for its answer.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn move_to(&mut self, host: &str, port: u16) -> Result<(), String> {
        self.kill();
        host.clone_into(&mut self.host);
        self.port = port;
        self.restart_without_wait()
    }

    /// A new connection to this node.
    ///
    /// # Panics
    /// When the node does not accept it.
    pub fn client(&self) -> Client {
        self.connect().unwrap_or_else(|error| panic!("port {}: {error}\n{}", self.port, self.log_tail()))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and wait for the end.
    pub fn kill(&mut self) {
        self.resume();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// kill -9 without waiting: several can be killed at one moment. [`Self::kill`] or a restart follows.
    pub fn kill_now(&self) {
        self.signal(libc::SIGKILL);
    }

    /// SIGTERM without waiting.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Waits for the process to end by itself; its exit code.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<i32> {
        eventually(limit, "exit", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
            _ => Err("still running".into()),
        })
        .ok()
    }

    /// SIGSTOP, and waits until every thread stands still: the signal is on its way for a moment.
    pub fn pause(&mut self) {
        self.signal(libc::SIGSTOP);
        self.stopped = true;
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_still = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state follows the name, which may contain anything but ends with the last parenthesis.
            stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['T', 't', 'Z', 'X']))
        };
        let stands = eventually(Duration::from_secs(5), "standstill", || {
            let all =
                std::fs::read_dir(&tasks).map_err(|error| error.to_string())?.filter_map(Result::ok).all(is_still);
            if all { Ok(()) } else { Err("a thread still runs".into()) }
        });
        if let Err(error) = stands {
            eprintln!("port {}: {error}", self.port);
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        if self.stopped {
            self.signal(libc::SIGCONT);
            self.stopped = false;
        }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill(2) takes no pointers; the child is ours and not yet reaped, so the id cannot be another process's.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Starts the process again after its end, same port, directory and arguments, without waiting until it answers.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart_without_wait(&mut self) -> Result<(), String> {
        self.kill();
        self.child = spawn(self.software, &self.host, self.port, &self.dir, &self.args)?;
        Ok(())
    }

    /// As [`Self::restart_without_wait`], and waits until it answers.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<(), String> {
        self.restart_without_wait()?;
        self.wait_ready()
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// User and system time of the process so far, all threads, in microseconds.
    pub fn cpu_us(&self) -> u64 {
        let mut clock: libc::clockid_t = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both pointers are to locals that live through the calls. The child was not waited for, so that its
        // number is not another's.
        let failed = unsafe {
            libc::clock_getcpuclockid(self.pid() as libc::pid_t, &raw mut clock) != 0
                || libc::clock_gettime(clock, &raw mut time) != 0
        };
        if failed { 0 } else { time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000 }
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) * 1024
    }
}

fn spawn(software: Software, host: &str, port: u16, dir: &PathBuf, args: &[String]) -> Result<Child, String> {
    let program = match software {
        Software::Pando => peers::pando(),
        Software::Valkey => peers::require_peer("valkey-server"),
        Software::Valkey8 => peers::require_peer("valkey-server-8"),
    };
    let mut command = Command::new(&program);
    if software == Software::Pando {
        command.arg("server");
    }
    command.args(["--port", &port.to_string(), "--dir"]).arg(dir);
    command.args(["--bind", host, "--save", "", "--appendonly", "no"]);
    command.args(args);
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("server.log"));
    let log = log.map_err(|error| error.to_string())?;
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().map_err(|error| format!("{}: {error}", program.display()))
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the node on port {} ---\n{}", self.port, self.log_tail());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
