// SPDX-License-Identifier: BSD-3-Clause
//! `pando_env::Net` over turmoil's simulated network, plus the record of which paths are cut.
//! The agents under test use it without knowing; `world` cuts and heals.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pando_env::{BoxFuture, BoxListener, BoxStream, Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the simulated kernels and wires know beyond turmoil.
#[derive(Clone, Default)]
pub struct Cuts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Directed pairs between which nothing arrives.
    pairs: BTreeSet<(IpAddr, IpAddr)>,
    /// How many processes of a host were killed, and those who were told by their kernel at once.
    deaths: BTreeMap<IpAddr, u64>,
    /// Connections whose other end died while the path was open.
    resets: BTreeSet<(IpAddr, IpAddr, u64)>,
    readers: Vec<Waker>,
    /// Hosts on which nothing runs.
    down: BTreeSet<IpAddr>,
}

impl Cuts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that nothing gets from `from` to `to`.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.state().pairs.insert((from, to));
    }

    /// Forgets all cuts.
    pub fn heal(&self) {
        self.state().pairs.clear();
    }

    /// Whether the way there or the way back is cut.
    pub fn is_cut(&self, a: IpAddr, b: IpAddr) -> bool {
        let state = self.state();
        state.pairs.contains(&(a, b)) || state.pairs.contains(&(b, a))
    }

    /// A process was killed: its kernel closes its connections, and those of its peers who can hear
    /// it notice. Turmoil alone would leave them open.
    pub fn kill(&self, host: IpAddr, peers: impl Iterator<Item = IpAddr>) {
        let hear: Vec<IpAddr> = peers.filter(|peer| *peer != host && !self.is_cut(host, *peer)).collect();
        let mut state = self.state();
        let generation = *state.deaths.get(&host).unwrap_or(&0);
        state.deaths.insert(host, generation + 1);
        state.down.insert(host);
        state.resets.extend(hear.into_iter().map(|peer| (host, peer, generation)));
        for reader in state.readers.drain(..) {
            reader.wake();
        }
    }

    /// A process runs again.
    pub fn start(&self, host: IpAddr) {
        self.state().down.remove(&host);
    }

    fn generation(&self, host: IpAddr) -> u64 {
        *self.state().deaths.get(&host).unwrap_or(&0)
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

struct SimStream {
    stream: turmoil::net::TcpStream,
    cuts: Cuts,
    me: IpAddr,
    peer: IpAddr,
    /// Of the peer's process.
    generation: u64,
}

impl SimStream {
    fn new(stream: turmoil::net::TcpStream, cuts: &Cuts, me: IpAddr, peer: IpAddr) -> Self {
        let generation = cuts.generation(peer);
        Self { stream, cuts: cuts.clone(), me, peer, generation }
    }

    fn is_reset(&self) -> bool {
        self.cuts.state().resets.contains(&(self.peer, self.me, self.generation))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if result.is_pending() {
            let mut state = self.cuts.state();
            if !state.readers.iter().any(|reader| reader.will_wake(cx.waker())) {
                state.readers.push(cx.waker().clone());
            }
        }
        result
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Stream for SimStream {
    fn set_nodelay(&self, _nodelay: bool) -> io::Result<()> {
        Ok(())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

struct SimListener {
    listener: turmoil::net::TcpListener,
    cuts: Cuts,
    me: IpAddr,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, addr) = self.listener.accept().await?;
            let stream = SimStream::new(stream, &self.cuts, self.me, addr.ip());
            Ok((Box::new(stream) as BoxStream, addr))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Net for SimNet {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let target = turmoil::lookup(host);
            let was_cut = self.cuts.is_cut(self.me, target);
            if !was_cut && self.cuts.state().down.contains(&target) {
                // The kernel of a host without the process answers; turmoil's host is silent.
                tokio::time::sleep(Duration::from_millis(2)).await;
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            match turmoil::net::TcpStream::connect((target, port)).await {
                Ok(stream) => Ok(Box::new(SimStream::new(stream, &self.cuts, self.me, target)) as BoxStream),
                // Turmoil tells a cut path from a closed port no better than by refusing both, but a
                // real network lets the packets of a cut path vanish: only a host can refuse.
                Err(_) if was_cut || self.cuts.is_cut(self.me, target) => std::future::pending().await,
                Err(error) => Err(error),
            }
        })
    }

    fn listen<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?;
            let (cuts, me) = (self.cuts.clone(), self.me);
            Ok(Box::new(SimListener { listener, cuts, me }) as BoxListener)
        })
    }
}
