// SPDX-License-Identifier: BSD-3-Clause
//! What a replica says to a primary before it gets data: PING, AUTH, REPLCONF, PSYNC.
//!
//! Works with Pando and with Valkey. Called by the network task.

use crate::config::ReplicationConfig;
use crate::history::ReplId;
use pando_formats::aof::encode_command;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer line.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A socket read line by line, then in pieces.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) buf: Vec<u8>,
    /// How long the primary may be silent.
    patience: Duration,
}

/// The primary's answer to PSYNC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Granted {
    /// The stream goes on, perhaps under another id.
    Continue(Option<ReplId>),
    /// An image follows, then the stream from this offset.
    Full(ReplId, u64),
    /// An error line.
    Refused(String),
}

/// How the image is framed.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Payload {
    /// This many bytes.
    Len(u64),
    /// Up to this mark.
    Mark([u8; 40]),
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Wire {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Wire {
        Wire { stream, buf: Vec::new(), patience }
    }

    async fn send(&mut self, args: &[&[u8]]) -> io::Result<()> {
        let mut out = Vec::new();
        encode_command(&mut out, args);
        self.stream.write_all(&out).await
    }

    /// The next line that is not empty, without its end. Cancelling loses nothing.
    pub(super) async fn line(&mut self) -> io::Result<String> {
        loop {
            while let Some(end) = self.buf.iter().position(|b| *b == b'\n') {
                let line = String::from_utf8_lossy(self.buf[..end].trim_ascii_end()).into_owned();
                self.buf.drain(..=end);
                if !line.is_empty() {
                    return Ok(line);
                }
            }
            if self.buf.len() > LINE_BYTES_MAX {
                return Err(bad("answer too long"));
            }
            let read = timeout(self.patience, self.stream.read_buf(&mut self.buf));
            if read.await.map_err(|_| io::Error::other("timed out"))?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn ask(&mut self, args: &[&[u8]]) -> io::Result<String> {
        self.send(args).await?;
        self.line().await
    }

    /// Introduces this node.
    pub(super) async fn greet(&mut self, config: &ReplicationConfig, version: &str) -> io::Result<()> {
        let pong = self.ask(&[b"PING"]).await?;
        let is_known = ["+PONG", "-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
        if !is_known.iter().any(|known| pong.starts_with(known)) {
            return Err(bad(format!("error reply to PING: {pong}")));
        }
        if let Some(password) = &config.primary_auth {
            let answer = match &config.primary_user {
                Some(user) => self.ask(&[b"AUTH", user, password]).await?,
                None => self.ask(&[b"AUTH", password]).await?,
            };
            if answer.starts_with('-') {
                return Err(bad(format!("Unable to AUTH to PRIMARY: {answer}")));
            }
        }
        let port = config.listening_port.to_string();
        // An error is no obstacle: the primary may be older than the option.
        self.ask(&[b"REPLCONF", b"listening-port", port.as_bytes()]).await?;
        if let Some(ip) = &config.replica_announce_ip {
            self.ask(&[b"REPLCONF", b"ip-address", ip.as_bytes()]).await?;
        }
        self.ask(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]).await?;
        self.ask(&[b"REPLCONF", b"version", version.as_bytes()]).await?;
        Ok(())
    }

    /// Asks for the stream: from our position, or from scratch. The answer may take as long as the primary needs.
    /// `with_order`: who is asked is a replica of ours and is to be the primary from then on.
    pub(super) async fn psync(&mut self, position: Option<(ReplId, u64)>, with_order: bool) -> io::Result<Granted> {
        let (replid, next) = match &position {
            Some((replid, offset)) => (&replid.as_bytes()[..], (offset + 1).to_string()),
            None => (&b"?"[..], "-1".to_owned()),
        };
        let args = [b"PSYNC", replid, next.as_bytes(), b"FAILOVER"];
        self.send(&args[..if with_order { 4 } else { 3 }]).await?;
        granted(&self.line().await?)
    }

    /// Reads how the image is framed.
    pub(super) async fn payload(&mut self) -> io::Result<Payload> {
        payload(&self.line().await?)
    }
}

fn granted(line: &str) -> io::Result<Granted> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words[..] {
        ["+FULLRESYNC", replid, offset] => {
            let replid = ReplId::parse(replid.as_bytes());
            match (replid, offset.parse()) {
                (Some(replid), Ok(offset)) => Ok(Granted::Full(replid, offset)),
                _ => Err(bad(format!("cannot read the answer to PSYNC: {line}"))),
            }
        }
        ["+CONTINUE", ref id @ ..] => Ok(Granted::Continue(id.first().and_then(|id| ReplId::parse(id.as_bytes())))),
        _ if line.starts_with('-') => Ok(Granted::Refused(line.to_owned())),
        _ => Err(bad(format!("cannot read the answer to PSYNC: {line}"))),
    }
}

fn payload(line: &str) -> io::Result<Payload> {
    let form = line.strip_prefix('$').and_then(|rest| match rest.strip_prefix("EOF:") {
        Some(mark) => mark.as_bytes().try_into().ok().map(Payload::Mark),
        None => rest.parse().ok().map(Payload::Len),
    });
    form.ok_or_else(|| bad(format!("instead of an image the primary sent: {line}")))
}

#[cfg(test)]
mod tests {
    use super::{Granted, Payload, ReplId, granted, payload};

    #[test]
    fn answers_of_a_primary() {
        let id = ReplId::parse(&[b'a'; 40]).expect("40 characters");
        let a = "a".repeat(40);
        for (line, expected) in [
            (format!("+FULLRESYNC {a} 17"), Some(Granted::Full(id, 17))),
            (format!("+FULLRESYNC {a} x"), None),
            (format!("+CONTINUE {a}"), Some(Granted::Continue(Some(id)))),
            ("+CONTINUE".into(), Some(Granted::Continue(None))),
            ("-NOMASTERLINK Can't SYNC".into(), Some(Granted::Refused("-NOMASTERLINK Can't SYNC".into()))),
            ("nonsense".into(), None),
        ] {
            assert_eq!(granted(&line).ok(), expected, "{line}");
        }
        for (line, expected) in [
            ("$12".into(), Some(Payload::Len(12))),
            (format!("$EOF:{a}"), Some(Payload::Mark([b'a'; 40]))),
            ("$EOF:short".into(), None),
            ("-ERR".into(), None),
        ] {
            assert_eq!(payload(&line).ok(), expected, "{line}");
        }
    }
}
