// SPDX-License-Identifier: BSD-3-Clause
//! A network in memory whose hosts can be cut off and killed.
//!
//! A cut is a black hole: bytes vanish and nobody is told, as with a pulled cable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use pando_env::{BoxFuture, BoxListener, BoxStream, Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

const OPEN: u8 = 0;
const BLACK_HOLE: u8 = 1;

#[derive(Default)]
struct Wires {
    listeners: BTreeMap<(String, u16), mpsc::UnboundedSender<BoxStream>>,
    streams: Vec<(String, String, Arc<AtomicU8>)>,
    cut: BTreeSet<String>,
    /// Pairs of hosts that do not reach each other.
    apart: BTreeSet<(String, String)>,
}

/// All hosts; clones share it.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<Wires>>);

impl Hub {
    /// The network as seen from `host`.
    pub fn host(&self, host: &str) -> Arc<dyn Net> {
        Arc::new(Host { hub: self.clone(), name: host.to_owned() })
    }

    /// Cuts `host` off from all others.
    pub fn cut(&self, host: &str) {
        let mut wires = self.0.lock().unwrap();
        wires.cut.insert(host.to_owned());
        for (from, to, state) in &wires.streams {
            if from == host || to == host {
                state.store(BLACK_HOLE, Ordering::Relaxed);
            }
        }
    }

    /// Cuts two hosts off from each other.
    pub fn part(&self, a: &str, b: &str) {
        let mut wires = self.0.lock().unwrap();
        for pair in [(a, b), (b, a)] {
            wires.apart.insert((pair.0.to_owned(), pair.1.to_owned()));
        }
        for (from, to, state) in &wires.streams {
            if (from == a && to == b) || (from == b && to == a) {
                state.store(BLACK_HOLE, Ordering::Relaxed);
            }
        }
    }

    /// Ends all cuts between pairs.
    pub fn join_all(&self) {
        self.0.lock().unwrap().apart.clear();
    }

    /// Ends the cut; what was sent meanwhile is lost and old connections stay dead.
    pub fn heal(&self, host: &str) {
        self.0.lock().unwrap().cut.remove(host);
    }

    /// Connections to `host` are refused from now on.
    pub fn unlisten(&self, host: &str) {
        self.0.lock().unwrap().listeners.retain(|(name, _), _| name != host);
    }
}

struct Host {
    hub: Hub,
    name: String,
}

struct Wire {
    inner: DuplexStream,
    state: Arc<AtomicU8>,
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.state.load(Ordering::Relaxed) == BLACK_HOLE {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.state.load(Ordering::Relaxed) == BLACK_HOLE {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Stream for Wire {
    fn set_nodelay(&self, _nodelay: bool) -> io::Result<()> {
        Ok(())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(nowhere())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(nowhere())
    }

    fn move_here(self: Box<Self>) -> io::Result<BoxStream> {
        Ok(self)
    }
}

struct Ear(mpsc::UnboundedReceiver<BoxStream>);

impl Listener for Ear {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let stream = self.0.recv().await.ok_or_else(|| io::Error::other("unlistened"))?;
            Ok((stream, nowhere()))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(nowhere())
    }
}

impl Net for Host {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let is_cut = {
                let wires = self.hub.0.lock().unwrap();
                let pair = (self.name.clone(), host.to_owned());
                wires.cut.contains(host) || wires.cut.contains(&self.name) || wires.apart.contains(&pair)
            };
            if is_cut {
                std::future::pending::<()>().await;
            }
            let mut wires = self.hub.0.lock().unwrap();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = wires.listeners.get(&(host.to_owned(), port)).ok_or_else(refused)?;
            let (near, far) = tokio::io::duplex(1 << 20);
            let state = Arc::new(AtomicU8::new(OPEN));
            listener.send(Box::new(Wire { inner: far, state: Arc::clone(&state) })).map_err(|_| refused())?;
            wires.streams.push((self.name.clone(), host.to_owned(), Arc::clone(&state)));
            Ok(Box::new(Wire { inner: near, state }) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async move {
            let (tx, rx) = mpsc::unbounded_channel();
            self.hub.0.lock().unwrap().listeners.insert((host.to_owned(), port), tx);
            Ok(Box::new(Ear(rx)) as BoxListener)
        })
    }
}
