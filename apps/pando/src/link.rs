// SPDX-License-Identifier: BSD-3-Clause
//! A blocking connection to a node, for the tools in this binary. Not a client library.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use pando_resp::decode::{Value, decode};

/// One connection; every reply is waited for at most as long as was said when it was made.
pub struct Link {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Link {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// A name that does not resolve, or as the socket says.
    pub fn connect(address: &str, limit: Duration) -> Result<Self, String> {
        let explain = |error: std::io::Error| format!("{address}: {error}");
        let resolved = address.to_socket_addrs().map_err(explain)?.next();
        let resolved = resolved.ok_or_else(|| format!("{address}: no such host"))?;
        let stream = TcpStream::connect_timeout(&resolved, limit).map_err(explain)?;
        stream.set_nodelay(true).map_err(explain)?;
        stream.set_read_timeout(Some(limit)).map_err(explain)?;
        stream.set_write_timeout(Some(limit)).map_err(explain)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a command and reads its reply.
    ///
    /// # Errors
    /// A connection that fails or takes too long, and the node's own error replies, as text.
    pub fn call(&mut self, args: &[&str]) -> Result<Value, String> {
        let words: Vec<&[u8]> = args.iter().map(|word| word.as_bytes()).collect();
        let mut out = Vec::new();
        pando_resp::encode_command(&mut out, &words);
        self.stream.write_all(&out).map_err(|error| error.to_string())?;
        match self.receive()? {
            Value::Error(text) => Err(text),
            value => Ok(value),
        }
    }

    fn receive(&mut self) -> Result<Value, String> {
        loop {
            if let Some((value, used)) = decode(&self.received).map_err(|error| error.to_string())? {
                self.received.drain(..used);
                return Ok(value);
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk).map_err(|error| error.to_string())? {
                0 => return Err("the connection was closed".into()),
                count => self.received.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// As [`Self::call`], for replies that are text or a number.
    ///
    /// # Errors
    /// As [`Self::call`], and a reply of another kind.
    pub fn text(&mut self, args: &[&str]) -> Result<String, String> {
        match self.call(args)? {
            Value::Simple(text) => Ok(text),
            Value::Int(number) => Ok(number.to_string()),
            Value::Bulk(Some(bytes)) | Value::Verbatim(_, bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            other => Err(format!("{}: unexpected reply {other:?}", args.join(" "))),
        }
    }
}

/// The value of `name:value` in an INFO-like text.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

/// Repeats `probe` every 20 ms until it succeeds.
///
/// # Errors
/// The last failure, when `limit` is over.
pub fn wait_for<T>(limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = std::time::Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(reason) if start.elapsed() >= limit => {
                return Err(format!("not within {} s: {reason}", limit.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
