// SPDX-License-Identifier: BSD-3-Clause
//! Listening sockets: TCP on several addresses and a unix socket, by `bind`, `port`, `unixsocket`. Accepting and the
//! options of accepted sockets. Not who may stay: `accept.rs` decides.

use crate::config::{ServerSettings, os_reason};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Where a client comes from.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Its address and ours.
    Tcp {
        /// The client's.
        remote: SocketAddr,
        /// The one it connected to.
        local: SocketAddr,
    },
    /// Path of our socket.
    Unix(String),
}

impl Peer {
    /// The client's address as CLIENT LIST shows it.
    pub fn remote_text(&self) -> String {
        match self {
            Peer::Tcp { remote, .. } => remote.to_string(),
            Peer::Unix(path) => format!("{path}:0"),
        }
    }

    /// Our address as CLIENT LIST shows it.
    pub fn local_text(&self) -> String {
        match self {
            Peer::Tcp { local, .. } => local.to_string(),
            Peer::Unix(path) => format!("{path}:0"),
        }
    }

    /// Does it come from this machine?
    pub fn is_local(&self) -> bool {
        match self {
            Peer::Tcp { remote, .. } => remote.ip().to_canonical().is_loopback(),
            Peer::Unix(_) => true,
        }
    }
}

/// An accepted, non-blocking socket.
#[derive(Debug)]
pub struct Accepted {
    /// The socket.
    pub fd: OwnedFd,
    /// Its other end.
    pub peer: Peer,
}

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    unix_path: Option<String>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.unix_path {
            // Already gone is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address of `bind`.
    #[error("Could not create server TCP listening socket {address}:{port}: {reason}")]
    Tcp {
        /// As it was configured.
        address: String,
        /// The port.
        port: u16,
        /// From the operating system.
        reason: String,
    },
    /// The unix socket.
    #[error("Failed opening Unix socket: bind: {0}")]
    Unix(String),
}

fn addresses(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match name {
        "*" => Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)]),
        "::*" => Ok(vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)]),
        name => {
            let first = (name, port).to_socket_addrs()?.next();
            first.map(|a| vec![a]).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
        }
    }
}

fn listen_tcp(address: SocketAddr, backlog: i32) -> io::Result<Listener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, backlog)?;
    Ok(Listener { fd, unix_path: None })
}

fn listen_unix(settings: &ServerSettings) -> io::Result<Listener> {
    // A file that an earlier process left behind is in the way of bind.
    let _ = std::fs::remove_file(&settings.unixsocket);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = rustix::net::SocketAddrUnix::new(settings.unixsocket.as_str())?;
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, settings.tcp_backlog)?;
    if settings.unixsocketperm != 0 {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(settings.unixsocketperm);
        std::fs::set_permissions(&settings.unixsocket, mode)?;
    }
    Ok(Listener { fd, unix_path: Some(settings.unixsocket.clone()) })
}

/// Opens the TCP sockets. An address with a leading `-` may fail, unless none is left.
pub fn open_tcp(settings: &ServerSettings) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    if settings.port == 0 {
        return Ok(listeners);
    }
    let mut last_error = None;
    for configured in &settings.bind {
        let (name, optional) = match configured.strip_prefix('-') {
            Some(name) => (name, true),
            None => (configured.as_str(), false),
        };
        let opened = addresses(name, settings.port).and_then(|found| {
            found.into_iter().map(|a| listen_tcp(a, settings.tcp_backlog)).collect::<io::Result<Vec<_>>>()
        });
        match opened {
            Ok(found) => listeners.extend(found),
            Err(e) => {
                let error = ListenError::Tcp { address: name.to_owned(), port: settings.port, reason: os_reason(&e) };
                // An address that is taken is an error even if it is optional.
                if !optional || e.kind() == io::ErrorKind::AddrInUse {
                    return Err(error);
                }
                last_error = Some(error);
            }
        }
    }
    match last_error {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// Opens all sockets that the settings ask for.
pub fn open_all(settings: &ServerSettings) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = open_tcp(settings)?;
    if !settings.unixsocket.is_empty() {
        listeners.push(listen_unix(settings).map_err(|e| ListenError::Unix(os_reason(&e)))?);
    }
    Ok(listeners)
}

impl Listener {
    /// Is it the unix socket?
    pub fn is_unix(&self) -> bool {
        self.unix_path.is_some()
    }

    /// The next waiting client, or None.
    pub fn accept(&self, keepalive_s: u32) -> io::Result<Option<Accepted>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = match rustix::net::accept_with(&self.fd, flags) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let peer = match &self.unix_path {
            Some(path) => Peer::Unix(path.clone()),
            None => {
                let remote = rustix::net::getpeername(&fd).ok().flatten().and_then(|a| SocketAddr::try_from(a).ok());
                let local = rustix::net::getsockname(&fd).ok().and_then(|a| SocketAddr::try_from(a).ok());
                let (Some(remote), Some(local)) = (remote, local) else {
                    // The client was gone before we looked.
                    return Ok(None);
                };
                set_tcp_options(fd.as_fd(), keepalive_s);
                Peer::Tcp { remote, local }
            }
        };
        Ok(Some(Accepted { fd, peer }))
    }
}

/// Options which make a connection better; one without them works too, so errors are nobody's business.
fn set_tcp_options(fd: BorrowedFd<'_>, keepalive_s: u32) {
    let _ = sockopt::set_tcp_nodelay(fd, true);
    if keepalive_s > 0 {
        let interval = Duration::from_secs(u64::from((keepalive_s / 3).max(1)));
        let _ = sockopt::set_socket_keepalive(fd, true);
        let _ = sockopt::set_tcp_keepidle(fd, Duration::from_secs(u64::from(keepalive_s)));
        let _ = sockopt::set_tcp_keepintvl(fd, interval);
        let _ = sockopt::set_tcp_keepcnt(fd, 3);
    }
}

/// Result of one attempt to read or write.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Transfer {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    WouldBlock,
    /// The other side has closed, or the connection is broken.
    Closed,
}

/// Reads what is there into the spare part of `buffer` (at most its capacity).
pub fn receive_appending(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Transfer {
    let before = buffer.len();
    match rustix::net::recv(fd, rustix::buffer::spare_capacity(buffer), RecvFlags::empty()) {
        Ok(_) if buffer.len() == before => Transfer::Closed,
        Ok(_) => Transfer::Bytes(buffer.len() - before),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Transfer::WouldBlock,
        Err(_) => Transfer::Closed,
    }
}

/// Writes as much as the socket takes.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> Transfer {
    match rustix::net::send(fd, bytes, rustix::net::SendFlags::NOSIGNAL) {
        Ok(count) => Transfer::Bytes(count),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Transfer::WouldBlock,
        Err(_) => Transfer::Closed,
    }
}
