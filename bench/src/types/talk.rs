// SPDX-License-Identifier: BSD-3-Clause
//! Loads that redis-benchmark cannot make: several commands per request, clients that are told what others do. All
//! connections take turns: each sends, then each receives all that it is owed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use pando_procs::Node;
use pando_resp::decode::{Value, decode};

use super::Talk;
use super::run::{empty, expand, run_fill};

/// Server time of one request in microseconds, all threads. A request is all commands of the talk, and what listeners
/// send and hear because of it.
///
/// # Errors
/// As the server says.
pub fn talk_cost(node: &Node, talk: &Talk, pipeline: u32, requests: u64) -> Result<f64, String> {
    empty(node)?;
    for fill in talk.fill {
        run_fill(node, fill)?;
    }
    let mut listeners = (0..talk.listeners)
        .map(|index| {
            let mut peer = Peer::new(node, encode(talk.asks, index, pipeline))?;
            if !talk.enters.is_empty() {
                peer.send_bytes(&encode(talk.enters, index, 1))?;
                peer.receive(1)?;
            }
            Ok(peer)
        })
        .collect::<Result<Vec<_>, String>>()?;
    let mut speakers = (0..talk.speakers)
        .map(|index| Peer::new(node, encode(talk.commands, index, pipeline)))
        .collect::<Result<Vec<_>, String>>()?;
    let commands = talk.commands.split(';').count() as u64;
    let per_turn = u64::from(talk.speakers * pipeline);
    let heard = if talk.asks.is_empty() { per_turn * commands } else { u64::from(pipeline) };
    let turns = requests.div_ceil(per_turn).max(1);
    let before = node.cpu_us();
    for _ in 0..turns {
        listeners.iter_mut().chain(&mut speakers).try_for_each(Peer::send)?;
        speakers.iter_mut().try_for_each(|peer| peer.receive(u64::from(pipeline) * commands))?;
        listeners.iter_mut().try_for_each(|peer| peer.receive(heard))?;
    }
    Ok((node.cpu_us() - before) as f64 / (turns * per_turn) as f64)
}

fn encode(commands: &str, index: u32, times: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..times {
        for command in commands.split(';').filter(|command| !command.trim().is_empty()) {
            let words = expand(command, u64::from(index), 0);
            pando_resp::encode_command(&mut out, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
    out
}

/// One connection, with what it sends in each turn.
struct Peer {
    stream: TcpStream,
    request: Vec<u8>,
    received: Vec<u8>,
}

impl Peer {
    fn new(node: &Node, request: Vec<u8>) -> Result<Self, String> {
        let stream = node.client().stream().map_err(|error| error.to_string())?;
        Ok(Self { stream, request, received: Vec::new() })
    }

    fn send(&mut self) -> Result<(), String> {
        self.stream.write_all(&self.request).map_err(|error| error.to_string())
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| error.to_string())
    }

    /// Receives this many replies.
    fn receive(&mut self, mut count: u64) -> Result<(), String> {
        let mut chunk = [0; 64 * 1024];
        loop {
            let mut at = 0;
            while count > 0
                && let Some((value, used)) = decode(&self.received[at..]).map_err(|error| error.to_string())?
            {
                if let Value::Error(error) = value {
                    return Err(error);
                }
                at += used;
                count -= 1;
            }
            self.received.drain(..at);
            if count == 0 {
                return Ok(());
            }
            match self.stream.read(&mut chunk).map_err(|error| error.to_string())? {
                0 => return Err("the server closed a connection".to_owned()),
                read => self.received.extend_from_slice(&chunk[..read]),
            }
        }
    }
}
