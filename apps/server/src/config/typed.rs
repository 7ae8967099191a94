// SPDX-License-Identifier: BSD-3-Clause
//! The values that the network layer and the workers read, parsed once per change. Not the session's settings.

use super::Values;
use super::kind::{OutputLimit, output_limits};

/// Read-only, swapped as a whole.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Addresses to listen at; a leading `-` means that failing is fine.
    pub bind: Vec<String>,
    /// TCP port, 0 = none.
    pub port: u16,
    /// Path of the unix socket, empty = none.
    pub unixsocket: String,
    /// Its permissions, 0 = as the process's mask says.
    pub unixsocketperm: u32,
    /// Length of the accept queue.
    pub tcp_backlog: i32,
    /// Seconds, 0 = off.
    pub tcp_keepalive_s: u32,
    /// Refuse strangers while no password is set.
    pub protected_mode: bool,
    /// Most clients at once.
    pub maxclients: u64,
    /// Seconds after which an idle client is closed, 0 = never.
    pub timeout_s: u64,
    /// Limits of normal clients, replicas, subscribers.
    pub output_limits: [OutputLimit; 3],
    /// Most bytes of an incomplete request.
    pub query_buffer_limit: u64,
    /// Longest argument.
    pub proto_max_bulk_len: u64,
    /// Has the default user a password?
    pub has_password: bool,
}

impl ServerSettings {
    /// Parses the values, which are canonical.
    pub fn from_values(values: &Values) -> ServerSettings {
        ServerSettings {
            bind: values.named("bind").split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect(),
            port: values.number("port") as u16,
            unixsocket: values.named("unixsocket").to_owned(),
            unixsocketperm: u32::from_str_radix(values.named("unixsocketperm"), 8).unwrap_or(0),
            tcp_backlog: values.number("tcp-backlog") as i32,
            tcp_keepalive_s: values.number("tcp-keepalive") as u32,
            protected_mode: values.is_yes("protected-mode"),
            maxclients: values.number("maxclients") as u64,
            timeout_s: values.number("timeout") as u64,
            output_limits: output_limits(values.named("client-output-buffer-limit")),
            query_buffer_limit: values.number("client-query-buffer-limit") as u64,
            proto_max_bulk_len: values.number("proto-max-bulk-len") as u64,
            has_password: !values.named("requirepass").is_empty(),
        }
    }
}
