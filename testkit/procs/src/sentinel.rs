// SPDX-License-Identifier: BSD-3-Clause
//! A real Valkey Sentinel.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pando_resp::decode::Value;

use crate::client::Client;
use crate::node::{free_port, temp_dir};
use crate::peers;
use crate::wait::eventually;

/// What Sentinels call the primary.
pub const NAME: &str = "mymaster";

/// A running Sentinel. Dropping it kills the process and removes its directory.
pub struct Sentinel {
    pub port: u16,
    dir: PathBuf,
    child: Child,
}

impl Sentinel {
    /// Starts one that watches the primary on this port and takes it for dead after `down_after`.
    ///
    /// # Errors
    /// When it does not come up within 20 seconds.
    pub fn start(primary: u16, quorum: usize, down_after: Duration) -> Result<Self, String> {
        let (port, dir) = (free_port(), temp_dir("sentinel"));
        let file = dir.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nlogfile sentinel.log\nsentinel monitor {NAME} 127.0.0.1 {primary} {quorum}\n\
             sentinel down-after-milliseconds {NAME} {}\nsentinel failover-timeout {NAME} 20000\n",
            dir.display(),
            down_after.as_millis()
        );
        std::fs::write(&file, text).map_err(|error| error.to_string())?;
        let child = Command::new(peers::require_peer("valkey-server"))
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let sentinel = Self { port, dir, child };
        eventually(Duration::from_secs(20), "sentinel start", || {
            let mut client = Client::connect(port).map_err(|error| error.to_string())?;
            let reply = client.text(&["PING"]).map_err(|error| error.to_string())?;
            if reply == "PONG" { Ok(()) } else { Err(reply) }
        })
        .map_err(|error| format!("{error}\n{}", sentinel.log()))?;
        Ok(sentinel)
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The port of the primary, as it sees it.
    ///
    /// # Errors
    /// As the connection says.
    pub fn primary(&self) -> Result<u16, String> {
        let mut client = Client::connect(self.port).map_err(|error| error.to_string())?;
        match client.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).map_err(|error| error.to_string())? {
            Value::Array(Some(parts)) => match parts.get(1) {
                Some(Value::Bulk(Some(port))) => {
                    String::from_utf8_lossy(port).parse().map_err(|_| "no port".to_owned())
                }
                other => Err(format!("{other:?}")),
            },
            other => Err(format!("{other:?}")),
        }
    }

    /// A field of what it says of the primary.
    ///
    /// # Errors
    /// As the connection says.
    pub fn field(&self, name: &str) -> Result<String, String> {
        let mut client = Client::connect(self.port).map_err(|error| error.to_string())?;
        let reply = client.call(&["SENTINEL", "MASTER", NAME]).map_err(|error| error.to_string())?;
        let Value::Array(Some(values)) = reply else { return Err(format!("{reply:?}")) };
        let text = |value: &Value| match value {
            Value::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        };
        let fields: Vec<String> = values.iter().map(text).collect();
        let found = fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
        found.ok_or_else(|| format!("no {name} in {fields:?}"))
    }

    /// How many replicas and other Sentinels it knows.
    ///
    /// # Errors
    /// As the connection says.
    pub fn knows(&self) -> Result<(String, String), String> {
        Ok((self.field("num-slaves")?, self.field("num-other-sentinels")?))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("sentinel.log")).unwrap_or_default()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the Sentinel on port {} ---\n{}", self.port, self.log());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
