// SPDX-License-Identifier: BSD-3-Clause
//! `pando_env::Net` over turmoil's simulated network, plus the record of which paths are cut.
//! The agents under test use it without knowing; `world` cuts and heals.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pando_env::{BoxFuture, BoxListener, BoxStream, Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Directed pairs between which nothing arrives.
#[derive(Clone, Default)]
pub struct Cuts(Arc<Mutex<BTreeSet<(IpAddr, IpAddr)>>>);

impl Cuts {
    fn pairs(&self) -> MutexGuard<'_, BTreeSet<(IpAddr, IpAddr)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that nothing gets from `from` to `to`.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.pairs().insert((from, to));
    }

    /// Forgets all cuts.
    pub fn heal(&self) {
        self.pairs().clear();
    }

    /// Whether the way there or the way back is cut.
    pub fn is_cut(&self, a: IpAddr, b: IpAddr) -> bool {
        let pairs = self.pairs();
        pairs.contains(&(a, b)) || pairs.contains(&(b, a))
    }
}

/// The network as one host sees it.
pub struct SimNet {
    cuts: Cuts,
    me: IpAddr,
}

impl SimNet {
    /// The network of the host with this address.
    pub fn new(cuts: Cuts, me: IpAddr) -> Self {
        Self { cuts, me }
    }
}

struct SimStream(turmoil::net::TcpStream);

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Stream for SimStream {
    fn set_nodelay(&self, _nodelay: bool) -> io::Result<()> {
        Ok(())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct SimListener(turmoil::net::TcpListener);

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, addr) = self.0.accept().await?;
            Ok((Box::new(SimStream(stream)) as BoxStream, addr))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Net for SimNet {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let target = turmoil::lookup(host);
            let was_cut = self.cuts.is_cut(self.me, target);
            match turmoil::net::TcpStream::connect((target, port)).await {
                Ok(stream) => Ok(Box::new(SimStream(stream)) as BoxStream),
                // Turmoil tells a cut path from a closed port no better than by refusing both, but a
                // real network lets the packets of a cut path vanish: only a host can refuse.
                Err(_) if was_cut || self.cuts.is_cut(self.me, target) => {
                    std::future::pending().await
                }
                Err(error) => Err(error),
            }
        })
    }

    fn listen<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?;
            Ok(Box::new(SimListener(listener)) as BoxListener)
        })
    }
}
