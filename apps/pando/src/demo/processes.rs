// SPDX-License-Identifier: BSD-3-Clause
//! The demo's server processes and their folders.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::link::{Link, wait_for};

const UP_LIMIT: Duration = Duration::from_secs(20);
/// How long a process may take to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// All processes. Dropping it stops them and removes the folders that were made.
pub struct Processes {
    dir: PathBuf,
    /// The parent folder is ours as well.
    made_dir: bool,
    nodes: Vec<Node>,
}

struct Node {
    port: u16,
    dir: PathBuf,
    child: Option<Child>,
}

impl Processes {
    /// Starts `count` nodes on ports from `base` on.
    ///
    /// # Errors
    /// A port that is taken, a folder that cannot be made, a process that cannot be started.
    pub fn start(base: u16, count: u16, dir: Option<PathBuf>) -> Result<Self, String> {
        for port in (base..base + count).flat_map(|port| [port, port + 10_000]) {
            TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error} (see --port)"))?;
        }
        let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("pando-demo-{}", std::process::id())));
        let made_dir = !dir.exists();
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let dir = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
        let mut processes = Self { dir: dir.clone(), made_dir, nodes: Vec::new() };
        for port in base..base + count {
            let folder = dir.join(format!("node-{port}"));
            if folder.exists() {
                return Err(format!("{} exists already; the demo only uses folders that it made", folder.display()));
            }
            std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            processes.nodes.push(Node { port, dir: folder, child: None });
            processes.spawn(processes.nodes.len() - 1)?;
        }
        Ok(processes)
    }

    /// Starts the process of one node, which must not run.
    ///
    /// # Errors
    /// As the system says.
    pub fn spawn(&mut self, index: usize) -> Result<(), String> {
        let node = &mut self.nodes[index];
        let binary = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(binary);
        command.arg("server").args(["--port", &node.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--cluster-enabled", "yes", "--save", "", "--logfile", "server.log", "--dir"]).arg(&node.dir);
        // A group of its own: Ctrl-C in the terminal reaches the demo, which then stops its nodes in order.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        // SAFETY: between fork and exec only an async-signal-safe prctl(2) is called; it takes no pointers.
        unsafe {
            command.pre_exec(|| {
                // A demo that is killed takes its nodes with it.
                let signal = Some(rustix::process::Signal::KILL);
                rustix::process::set_parent_process_death_signal(signal).map_err(std::io::Error::from)
            });
        }
        node.child = Some(command.spawn().map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Waits until every node answers.
    ///
    /// # Errors
    /// The node that does not, with the end of its log, or that a signal came.
    pub fn wait_up(&mut self, stop: &AtomicBool) -> Result<(), String> {
        for node in &mut self.nodes {
            let address = format!("127.0.0.1:{}", node.port);
            let up = wait_for(UP_LIMIT, || {
                if stop.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                Link::connect(&address, Duration::from_secs(1))?.text(&["PING"]).map(|_| true)
            });
            match up {
                Ok(true) => {}
                Ok(false) => return Err("stopped by a signal".into()),
                Err(reason) => {
                    let log = std::fs::read_to_string(node.dir.join("server.log")).unwrap_or_default();
                    return Err(format!("{address} does not answer: {reason}\n{log}"));
                }
            }
        }
        Ok(())
    }

    /// The nodes as `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect()
    }

    /// Where the nodes' folders lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process id of a node that runs.
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.nodes[index].child.as_ref().map(Child::id)
    }

    /// kill -9.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.nodes[index].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops all nodes in order, by force those that do not end in time, and removes what was made. Done only once.
    pub fn stop(&mut self) {
        for node in &self.nodes {
            let pid = node.child.as_ref().and_then(|child| rustix::process::Pid::from_raw(child.id() as i32));
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_LIMIT;
        for node in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        for node in self.nodes.drain(..) {
            let _ = std::fs::remove_dir_all(node.dir);
        }
        if std::mem::take(&mut self.made_dir) {
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop();
    }
}
