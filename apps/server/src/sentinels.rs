// SPDX-License-Identifier: BSD-3-Clause
//! Who watches this node, and how a Sentinel is asked to let a replica take over before this node ends.
//!
//! Sentinels say hello on a channel of every node that they watch, so a primary knows them without configuration. If it changed
//! places with a replica by itself, they would take it for dead soon after and might promote another replica; so one of
//! them is asked to lead the change (`SENTINEL FAILOVER name COORDINATED`), and orders FAILOVER here. Sentinels that do not
//! know the word promote a replica after writes have been stopped here. Not here: what FAILOVER does.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use pando_resp::decode::{self, Value};
use parking_lot::Mutex;

/// The channel that Sentinels greet each other on.
const CHANNEL: &[u8] = b"__sentinel__:hello";

/// They greet every two seconds; who has been silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// More than these are not remembered.
const KNOWN_MAX: usize = 32;

/// How long a Sentinel may take to connect or to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// One that greeted lately.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sentinel {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it calls this primary.
    pub name: String,
    heard: Instant,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Sentinels {
    /// By run id.
    known: Mutex<BTreeMap<String, Sentinel>>,
}

/// What a Sentinel answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It will.
    Agreed,
    /// It does not know how to change places without loss.
    Unknown,
    /// Anything else.
    Refused(String),
}

impl Sentinels {
    /// Looks at a message that was published here.
    pub fn hear(&self, channel: &[u8], message: &[u8]) {
        if channel == CHANNEL
            && let Some((run_id, sentinel)) = read_hello(message, Instant::now())
        {
            let mut known = self.known.lock();
            if known.len() >= KNOWN_MAX && !known.contains_key(&run_id) {
                known.retain(|_, other| other.heard.elapsed() < SILENCE_MAX);
            }
            if known.len() < KNOWN_MAX || known.contains_key(&run_id) {
                known.insert(run_id, sentinel);
            }
        }
    }

    /// Those that are there, the one that greeted last first.
    pub fn present(&self) -> Vec<Sentinel> {
        let mut present: Vec<Sentinel> =
            self.known.lock().values().filter(|each| each.heard.elapsed() < SILENCE_MAX).cloned().collect();
        present.sort_by_key(|each| each.heard.elapsed());
        present
    }
}

/// `ip,port,runid,epoch,name,primary ip,primary port,primary epoch`
fn read_hello(message: &[u8], heard: Instant) -> Option<(String, Sentinel)> {
    let text = std::str::from_utf8(message).ok()?;
    let fields: Vec<&str> = text.split(',').collect();
    let [host, port, run_id, _, name, _, _, _] = fields[..] else { return None };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((run_id.to_owned(), Sentinel { host: host.to_owned(), port, name: name.to_owned(), heard }))
}

/// A conversation with one of them.
pub struct Talk {
    stream: TcpStream,
    name: String,
    received: Vec<u8>,
}

impl Talk {
    /// Connects.
    ///
    /// # Errors
    /// As the socket says.
    pub fn to(sentinel: &Sentinel) -> std::io::Result<Talk> {
        let mut failed = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for addr in (sentinel.host.as_str(), sentinel.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&addr, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(Talk { stream, name: sentinel.name.clone(), received: Vec::new() });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn ask(&mut self, args: &[&str]) -> std::io::Result<Value> {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let mut out = Vec::new();
        pando_resp::encode_command(&mut out, &args);
        self.stream.write_all(&out)?;
        loop {
            if let Some((value, used)) = decode::decode(&self.received).map_err(std::io::Error::other)? {
                self.received.drain(..used);
                return Ok(value);
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
    }

    /// Asks it to have this primary change places with a replica that it chooses, by FAILOVER.
    ///
    /// # Errors
    /// As the socket says.
    pub fn ask_to_coordinate(&mut self) -> std::io::Result<Answer> {
        let name = self.name.clone();
        Ok(answer(&self.ask(&["SENTINEL", "FAILOVER", &name, "COORDINATED"])?))
    }

    /// Asks it to promote a replica whatever this primary does: only while that takes no writes.
    ///
    /// # Errors
    /// As the socket says.
    pub fn ask_to_promote(&mut self) -> std::io::Result<Answer> {
        let name = self.name.clone();
        Ok(answer(&self.ask(&["SENTINEL", "FAILOVER", &name])?))
    }

    /// Where it sends clients.
    ///
    /// # Errors
    /// As the socket says.
    pub fn primary(&mut self) -> std::io::Result<Value> {
        let name = self.name.clone();
        self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &name])
    }
}

fn answer(value: &Value) -> Answer {
    match value {
        Value::Simple(_) => Answer::Agreed,
        // Somebody asked before.
        Value::Error(line) if line.starts_with("INPROG") => Answer::Agreed,
        Value::Error(line) if line.starts_with("ERR Wrong number") || line.starts_with("ERR wrong number") => {
            Answer::Unknown
        }
        Value::Error(line) if line.starts_with("ERR Unknown") || line.starts_with("NOGOODPRIMARY") => Answer::Unknown,
        Value::Error(line) => Answer::Refused(line.clone()),
        other => Answer::Refused(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, CHANNEL, KNOWN_MAX, Sentinels, answer};
    use pando_resp::decode::Value;

    #[test]
    fn hellos_are_remembered_and_bounded() {
        let sentinels = Sentinels::default();
        for (channel, message) in [
            (&b"other"[..], &b"10.0.0.1,26379,a,0,mymaster,10.0.0.9,6379,0"[..]),
            (CHANNEL, b"10.0.0.1,26379,a,0,mymaster,10.0.0.9,6379"),
            (CHANNEL, b"10.0.0.1,port,a,0,mymaster,10.0.0.9,6379,0"),
            (CHANNEL, b"10.0.0.1,0,a,0,mymaster,10.0.0.9,6379,0"),
            (CHANNEL, b"\xff"),
        ] {
            sentinels.hear(channel, message);
        }
        assert_eq!(sentinels.present(), []);
        sentinels.hear(CHANNEL, b"10.0.0.1,26379,a,0,mymaster,10.0.0.9,6379,0");
        sentinels.hear(CHANNEL, b"10.0.0.2,26379,a,1,mymaster,10.0.0.9,6379,0");
        let present = sentinels.present();
        assert_eq!(present.len(), 1);
        assert_eq!((present[0].host.as_str(), present[0].name.as_str()), ("10.0.0.2", "mymaster"));
        for number in 0..1000 {
            sentinels.hear(CHANNEL, format!("10.0.0.1,26379,{number},0,m,10.0.0.9,6379,0").as_bytes());
        }
        assert_eq!(sentinels.present().len(), KNOWN_MAX);
    }

    #[test]
    fn answers() {
        for (line, expected) in [
            (Value::Simple("OK".into()), Answer::Agreed),
            (Value::Error("INPROG Failover already in progress".into()), Answer::Agreed),
            (Value::Error("ERR Unknown failover option specified".into()), Answer::Unknown),
            (Value::Error("NOGOODPRIMARY Primary does not support FAILOVER command".into()), Answer::Unknown),
            (Value::Error("ERR wrong number of arguments for 'sentinel|failover' command".into()), Answer::Unknown),
            (Value::Error("NOGOODSLAVE x".into()), Answer::Refused("NOGOODSLAVE x".into())),
        ] {
            assert_eq!(answer(&line), expected);
        }
    }
}
