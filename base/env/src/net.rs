// SPDX-License-Identifier: BSD-3-Clause
//! Stream sockets behind a trait. The real ones are tokio's; the simulator's live in testkit/sim.
//!
//! Not here: TLS, framing, reconnecting. Called by control/wire and control/agent.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::BoxFuture;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Switches Nagle's algorithm off (`true`) or on.
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()>;
    /// The address of the other side.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    /// The address of this side.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// Lets the runtime of the caller wake whoever waits for it, in place of the one on which it was made.
    fn move_here(self: Box<Self>) -> io::Result<BoxStream>;
}

/// A connected byte stream of any kind.
pub type BoxStream = Box<dyn Stream>;

/// A bound listening socket.
pub trait Listener: Send + Sync {
    /// Waits for the next connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;
    /// The bound address (tells the port after binding port 0).
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A bound listening socket of any kind.
pub type BoxListener = Box<dyn Listener>;

/// Makes connections.
pub trait Net: Send + Sync {
    /// Connects to `host` (an address or a name) at `port`. No deadline of its own.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>>;
    /// Listens on `host` at `port`; 0 picks a free port.
    fn listen<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>>;
}

/// The real network.
#[derive(Debug, Default, Clone, Copy)]
pub struct TcpNet;

impl Stream for TcpStream {
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        TcpStream::set_nodelay(self, nodelay)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::peer_addr(self)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::local_addr(self)
    }

    fn move_here(self: Box<Self>) -> io::Result<BoxStream> {
        Ok(Box::new(TcpStream::from_std(self.into_std()?)?))
    }
}

struct RealListener(TcpListener);

impl Listener for RealListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, addr) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxStream, addr))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Net for TcpNet {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async move {
            let listener = TcpListener::bind((host, port)).await?;
            Ok(Box::new(RealListener(listener)) as BoxListener)
        })
    }
}
