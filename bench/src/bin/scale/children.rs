// SPDX-License-Identifier: BSD-3-Clause
//! The parent's hold on a child process of `bench scale`: orders, answers within a time limit, processor time, the end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Process, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A group of agents in a process of their own. Dropping it kills the process.
pub struct Group {
    process: Process,
    orders: ChildStdin,
    answers: Receiver<String>,
    /// Number of its first agent.
    pub first: usize,
    /// How many agents.
    pub count: usize,
}

impl Group {
    /// Starts the process; its agents start with the order `join`.
    pub fn start(first: usize, count: usize, roots: &str, lease_ms: u64, window: usize) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut process = Command::new(program)
            .args(["agents", "--first", &first.to_string(), "--count", &count.to_string(), "--roots", roots])
            .args(["--lease-ms", &lease_ms.to_string(), "--window", &window.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("a child process: {error}"))?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a child process without pipes".into());
        };
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(answers).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, orders, answers: received, first, count })
    }

    /// The agents of the group.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }

    /// Gives an order.
    pub fn order(&mut self, order: &str) -> Result<(), String> {
        let written = self.orders.write_all(order.as_bytes()).and_then(|()| self.orders.write_all(b"\n"));
        written.map_err(|error| format!("agents {}..: {error}", self.first))
    }

    /// The words of the answer to the oldest order.
    pub fn answer(&self, limit: Duration) -> Result<Vec<String>, String> {
        let line = self.answers.recv_timeout(limit);
        let line = line.map_err(|_| format!("agents {}.. do not answer within {} s", self.first, limit.as_secs()))?;
        match line.split_once(' ') {
            Some(("error", text)) => Err(format!("agents {}..: {text}", self.first)),
            _ => Ok(line.split(' ').map(str::to_owned).collect()),
        }
    }

    /// Processor time so far, user and system, in microseconds; 0 if it cannot be told.
    pub fn cpu_us(&self) -> u64 {
        cpu_us(self.process.id())
    }

    /// SIGKILL, without waiting for the end.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processor time of a process from `/proc`, in steps of 10 ms.
fn cpu_us(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field =
        |index: usize| after_name.split_whitespace().nth(index).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    // utime and stime are fields 14 and 15, counted from the pid; the state after the name is field 3.
    (field(11) + field(12)) * 10_000
}
