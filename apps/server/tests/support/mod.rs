// SPDX-License-Identifier: BSD-3-Clause
//! A server within the test's process, and a client that speaks to it.

use pando_resp::decode::{Value, decode};
use pando_server::Running;
use pando_server::config::load::{Invocation, from_args};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Stopped when it is dropped.
pub struct TestServer {
    running: Option<Running>,
    pub port: u16,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

impl TestServer {
    /// With these options, on a free port of the loopback interface.
    pub fn start(options: &[&str]) -> TestServer {
        // Another process may take the port between our look and our bind.
        for _ in 0..20 {
            let port = free_port();
            let mut args: Vec<String> = ["--bind", "127.0.0.1", "--port"].iter().map(|a| (*a).to_owned()).collect();
            args.push(port.to_string());
            args.extend(options.iter().map(|a| (*a).to_owned()));
            let Ok(Invocation::Start(loaded)) = from_args(&args) else { panic!("options are refused: {options:?}") };
            if let Ok(running) = pando_server::start(*loaded) {
                return TestServer { running: Some(running), port };
            }
        }
        panic!("no port could be had");
    }

    pub fn client(&self) -> Client {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens"))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// Commands are given as one line, split at spaces.
pub struct Client {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Client { stream, received: Vec::new() }
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub fn send(&mut self, command: &str) {
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        pando_resp::encode_command(&mut bytes, &args);
        self.send_raw(&bytes);
    }

    /// The next reply; None if the connection ended.
    pub fn reply(&mut self) -> Option<Value> {
        loop {
            if let Ok(Some((value, used))) = decode(&self.received) {
                self.received.drain(..used);
                return Some(value);
            }
            let mut chunk = [0u8; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            }
        }
    }

    pub fn call(&mut self, command: &str) -> Value {
        self.send(command);
        self.reply().unwrap_or_else(|| panic!("no reply to {command}"))
    }

    /// Sends a command and compares the reply, written as `+OK`, `-ERR ...`, `:1`, `text` or `(nil)`.
    #[track_caller]
    pub fn check(&mut self, command: &str, expected: &str) {
        assert_eq!(show(&self.call(command)), expected, "{command}");
    }

    /// Waits until the command has this reply.
    #[track_caller]
    pub fn eventually(&mut self, command: &str, test: impl Fn(&str) -> bool) {
        let mut last = String::new();
        for _ in 0..400 {
            last = show(&self.call(command));
            if test(&last) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{command} stayed at {last}");
    }

    /// Everything until the server closes the connection.
    pub fn read_to_end(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.received);
        // A reset instead of an end is an end, too.
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// A reply as text.
pub fn show(value: &Value) -> String {
    let list = |items: &[Value]| format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match value {
        Value::Simple(t) => format!("+{}", text(t.as_ref())),
        Value::Error(t) => format!("-{}", text(t.as_ref())),
        Value::Int(n) => format!(":{n}"),
        Value::Bulk(Some(bytes)) => text(bytes),
        Value::Array(Some(items)) => list(items),
        Value::Set(items) | Value::Push(items) => list(items),
        Value::Map(pairs) => {
            let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{}={}", show(k), show(v))).collect();
            format!("{{{}}}", pairs.join(" "))
        }
        Value::Bulk(None) | Value::Array(None) | Value::Null => "(nil)".to_owned(),
        other => format!("{other:?}"),
    }
}
