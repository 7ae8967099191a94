// SPDX-License-Identifier: BSD-3-Clause
//! Sends sequences of commands to both servers and shortens those that differ.

use pando_procs::{Client, Node, Software};
use pando_resp::decode::Value;

use crate::{Words, explained, show};

/// Commands that are sent before the first reply is read: fewer round trips, and few enough that no buffer fills up.
const COMMANDS_IN_FLIGHT: usize = 20;

/// The two servers.
pub struct Pair {
    pando: Node,
    valkey: Node,
    protocol: &'static str,
}

/// The first reply that differs.
#[derive(Debug)]
pub struct Difference {
    pub at: usize,
    pub pando: String,
    pub valkey: String,
}

impl Pair {
    /// Starts both, speaking RESP2 (`"2"`) or RESP3 (`"3"`).
    ///
    /// # Panics
    /// When one does not start.
    pub fn start(protocol: &'static str) -> Self {
        let pando = Node::start(Software::Pando, &["--enable-debug-command", "yes"]).expect("pando starts");
        let valkey = Node::start(Software::Valkey, &["--enable-debug-command", "yes"]).expect("valkey starts");
        Self { pando, valkey, protocol }
    }

    /// Runs a sequence on both, each empty at the start.
    ///
    /// # Errors
    /// The first difference.
    ///
    /// # Panics
    /// When a server closes the connection or does not answer.
    pub fn run(&self, commands: &[Words]) -> Result<(), Difference> {
        let ours = replies(&self.pando, self.protocol, commands);
        let theirs = replies(&self.valkey, self.protocol, commands);
        for (at, command) in commands.iter().enumerate() {
            if !explained::same(command, &ours[at], &theirs[at]) {
                let (pando, valkey) = (format!("{:?}", ours[at]), format!("{:?}", theirs[at]));
                return Err(Difference { at, pando, valkey });
            }
        }
        Ok(())
    }

    /// Runs a sequence; when it differs, removes commands as long as it still differs, and panics with what is left.
    ///
    /// # Panics
    /// On a difference.
    pub fn check(&self, title: &str, commands: &[Words]) {
        let Err(first) = self.run(commands) else { return };
        let mut shortest = commands[..=first.at].to_vec();
        let mut difference = first;
        let mut chunk = shortest.len() / 2;
        while chunk >= 1 {
            let mut start = 0;
            // The last command is the one that differs; it stays.
            while start + chunk < shortest.len() {
                let mut shorter = shortest.clone();
                shorter.drain(start..start + chunk);
                match self.run(&shorter) {
                    Err(still) => {
                        shorter.truncate(still.at + 1);
                        (shortest, difference) = (shorter, still);
                    }
                    Ok(()) => start += chunk,
                }
            }
            chunk /= 2;
        }
        let lines: Vec<String> = shortest.iter().map(show).collect();
        panic!(
            "{title} (RESP{}):\n  {}\n  Pando:  {}\n  Valkey: {}",
            self.protocol,
            lines.join("\n  "),
            difference.pando,
            difference.valkey
        );
    }
}

fn replies(node: &Node, protocol: &str, commands: &[Words]) -> Vec<Value> {
    let mut client: Client = node.client();
    client.text(&["HELLO", protocol]).expect("HELLO");
    client.text(&["FLUSHALL"]).expect("FLUSHALL");
    let mut replies = Vec::with_capacity(commands.len());
    for batch in commands.chunks(COMMANDS_IN_FLIGHT) {
        let failed = |error: std::io::Error, command: &Words| -> ! {
            panic!("{:?}, {}: {error}\n{}", node.software, show(command), node.log_tail())
        };
        for command in batch {
            let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            client.send(&words).unwrap_or_else(|error| failed(error, command));
        }
        for command in batch {
            replies.push(client.receive().unwrap_or_else(|error| failed(error, command)));
        }
    }
    replies
}
