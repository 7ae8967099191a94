// SPDX-License-Identifier: BSD-3-Clause
//! A small blocking client: one connection, RESP2 unless HELLO is sent, no redirects unless asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pando_resp::decode::{self, Value};

/// One connection to a server.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects within a second; replies are waited for at most 10 seconds.
    ///
    /// # Errors
    /// As the socket says.
    pub fn connect(port: u16) -> std::io::Result<Self> {
        Self::connect_addr(SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(10))
    }

    /// Connects to any address with a limit for each reply.
    ///
    /// # Errors
    /// As the socket says.
    pub fn connect_addr(addr: SocketAddr, reply_limit: Duration) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, reply_limit.min(Duration::from_secs(1)))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(reply_limit))?;
        stream.set_write_timeout(Some(reply_limit))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends one command.
    ///
    /// # Errors
    /// As the socket says.
    pub fn send(&mut self, args: &[&[u8]]) -> std::io::Result<()> {
        let mut out = Vec::new();
        pando_resp::encode_command(&mut out, args);
        self.stream.write_all(&out)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// As the socket says.
    pub fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// A closed connection, a timeout, or bytes that are not RESP.
    pub fn receive(&mut self) -> std::io::Result<Value> {
        loop {
            if let Some((value, used)) = decode::decode(&self.received).map_err(std::io::Error::other)? {
                self.received.drain(..used);
                return Ok(value);
            }
            let mut chunk = [0; 16 * 1024];
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
    }

    /// Sends a command and reads its reply.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::receive`].
    pub fn call(&mut self, args: &[&str]) -> std::io::Result<Value> {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.send(&args)?;
        self.receive()
    }

    /// The reply as text: statuses, integers and bulk strings as they are, errors with their leading `-`.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn text(&mut self, args: &[&str]) -> std::io::Result<String> {
        Ok(match self.call(args)? {
            Value::Simple(text) => text,
            Value::Error(text) => format!("-{text}"),
            Value::Int(number) => number.to_string(),
            Value::Bulk(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::Verbatim(_, data) => String::from_utf8_lossy(&data).into_owned(),
            Value::Bulk(None) | Value::Null => "(nil)".to_owned(),
            other => format!("{other:?}"),
        })
    }

    /// Splits the connection for threads that write and read at the same time.
    ///
    /// # Errors
    /// As the socket says.
    pub fn stream(&self) -> std::io::Result<TcpStream> {
        self.stream.try_clone()
    }
}

/// One field of an INFO reply, or of anything else in the form `name:value`.
pub fn info_field(info: &str, name: &str) -> Option<String> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
}
