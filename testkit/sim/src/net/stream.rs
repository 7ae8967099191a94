// SPDX-License-Identifier: BSD-3-Clause
//! `pando_env::Net` over the simulated network: what the agents under test use without knowing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use pando_env::{BoxFuture, BoxListener, BoxStream, Listener, Net, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::{Conn, ConnKey, End, Packet, Wire};
use super::{Due, HostId, Network, WINDOW};

/// The network as one process sees it.
pub struct SimNet {
    network: Network,
    host: HostId,
    generation: u64,
}

impl SimNet {
    /// The network for the process that runs on this machine now.
    pub fn new(network: Network, host: HostId) -> SimNet {
        let generation = network.state().machines[host].generation;
        SimNet { network, host, generation }
    }
}

/// An open end; closes when it is dropped.
struct SimStream {
    network: Network,
    key: ConnKey,
    side: usize,
    peer: SocketAddr,
    local: SocketAddr,
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl SimStream {
    fn new(network: &Network, key: ConnKey, side: usize) -> Option<SimStream> {
        let state = network.state();
        let conn = state.conns.get(&key)?;
        let addr = |side: usize| {
            let port = if side == 1 { conn.port } else { 50_000 };
            SocketAddr::new(state.machines[conn.ends[side].host].addr, port)
        };
        let (peer, local) = (addr(1 - side), addr(side));
        drop(state);
        Some(SimStream { network: network.clone(), key, side, peer, local })
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let (key, side) = (self.key, self.side);
        self.network.with(|state| {
            let is_unread = state.conns.get(&key).is_some_and(|conn| !conn.wires[1 - side].inbox.is_empty());
            let packet = if is_unread { Packet::Reset } else { Packet::Fin };
            state.close(key, side, Some(packet));
        });
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.network.state();
        let Some(conn) = state.conns.get_mut(&self.key) else { return Poll::Ready(Err(gone())) };
        let (end, wire) = (&mut conn.ends[self.side], &mut conn.wires[1 - self.side]);
        if end.is_reset || !end.is_open {
            return Poll::Ready(Err(gone()));
        }
        if wire.inbox.is_empty() {
            if wire.is_ended {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buf.remaining().min(wire.inbox.len());
        for byte in wire.inbox.drain(..count) {
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let (key, side) = (self.key, self.side);
        let waker = cx.waker();
        self.network.with(|state| {
            let Some(conn) = state.conns.get_mut(&key) else { return Poll::Ready(Err(gone())) };
            let end = &mut conn.ends[side];
            if end.is_reset || !end.is_open {
                return Poll::Ready(Err(gone()));
            }
            let room = WINDOW.saturating_sub(conn.wires[side].in_flight);
            if room == 0 {
                end.writer = Some(waker.clone());
                return Poll::Pending;
            }
            let count = buf.len().min(room);
            state.send(key, side, Packet::Data(buf[..count].to_vec()));
            Poll::Ready(Ok(count))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (key, side) = (self.key, self.side);
        self.network.with(|state| {
            if state.conns.get(&key).is_some_and(|conn| conn.ends[side].is_open) {
                state.send(key, side, Packet::Fin);
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl Stream for SimStream {
    fn set_nodelay(&self, _nodelay: bool) -> io::Result<()> {
        Ok(())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn move_here(self: Box<Self>) -> io::Result<BoxStream> {
        Ok(self)
    }
}

struct SimListener {
    network: Network,
    host: HostId,
    generation: u64,
    port: u16,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let place = (self.host, self.port);
        self.network.with(|state| {
            if state.listeners.get(&place).is_some_and(|listener| listener.generation == self.generation)
                && let Some(listener) = state.listeners.remove(&place)
            {
                for key in listener.accepted {
                    state.close(key, 1, Some(Packet::Reset));
                }
            }
        });
    }
}

impl SimListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<ConnKey>> {
        let mut state = self.network.state();
        let generation = self.generation;
        let listener = state.listeners.get_mut(&(self.host, self.port));
        let Some(listener) = listener.filter(|listener| listener.generation == generation) else {
            return Poll::Ready(Err(io::Error::other("the listener was closed")));
        };
        match listener.accepted.pop_front() {
            Some(key) => Poll::Ready(Ok(key)),
            None => {
                listener.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            loop {
                let key = std::future::poll_fn(|cx| self.poll_accept(cx)).await?;
                // Gone again while it waited to be accepted.
                let Some(stream) = SimStream::new(&self.network, key, 1) else { continue };
                let peer = stream.peer;
                return Ok((Box::new(stream) as BoxStream, peer));
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(self.network.state().machines[self.host].addr, self.port))
    }
}

/// An attempt to connect; given up when it is dropped.
struct Attempt {
    network: Network,
    key: ConnKey,
    is_done: bool,
}

impl Attempt {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.network.state();
        let Some(conn) = state.conns.get_mut(&self.key) else { return Poll::Ready(Err(gone())) };
        match conn.answer {
            Some(true) => Poll::Ready(Ok(())),
            Some(false) => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            None => {
                conn.ends[0].reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_done {
            self.network.with(|state| state.close(self.key, 0, Some(Packet::Reset)));
        }
    }
}

impl Net for SimNet {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let addr: IpAddr = host.parse().map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
            let key = self.network.with(|state| {
                let to = state.host_of(addr).ok_or_else(|| io::Error::from(io::ErrorKind::HostUnreachable))?;
                let key = state.number();
                let ends = [End::new(self.host, self.generation, true), End::new(to, 0, false)];
                let wires = [Wire::default(), Wire::default()];
                state.conns.insert(key, Conn { ends, wires, answer: None, attempts: 0, port });
                let at_ms = state.now_ms + state.delay(self.host, to);
                state.at(at_ms, Due::Syn(key, port));
                Ok::<_, io::Error>(key)
            })?;
            let mut attempt = Attempt { network: self.network.clone(), key, is_done: false };
            std::future::poll_fn(|cx| attempt.poll(cx)).await?;
            attempt.is_done = true;
            let stream = SimStream::new(&self.network, key, 0).ok_or_else(gone)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async move {
            let (network, host, generation) = (self.network.clone(), self.host, self.generation);
            let mut state = self.network.state();
            if state.listeners.contains_key(&(host, port)) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let listener = super::Listener { generation, accepted: Default::default(), waker: None };
            state.listeners.insert((host, port), listener);
            drop(state);
            Ok(Box::new(SimListener { network, host, generation, port }) as BoxListener)
        })
    }
}
