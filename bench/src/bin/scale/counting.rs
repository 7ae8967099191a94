// SPDX-License-Identifier: BSD-3-Clause
//! The real network with a count of the bytes that go through it, without what TCP and IP add.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pando_env::{BoxFuture, BoxListener, BoxStream, Listener, Net, Stream, TcpNet};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of all connections of a process.
#[derive(Debug, Default)]
pub struct Bytes {
    read: AtomicU64,
    written: AtomicU64,
    writes: AtomicU64,
}

impl Bytes {
    /// `bytes READ WRITTEN WRITES`.
    pub fn list(&self) -> String {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!("bytes {} {} {}", load(&self.read), load(&self.written), load(&self.writes))
    }
}

/// See the head of this file. Its connections come from the address of its host: from one address the ports of
/// 28,000 connections to each root would be all there are, and those of the last minute count.
pub struct CountingNet {
    bytes: Arc<Bytes>,
    from: IpAddr,
}

impl CountingNet {
    /// Counts into `bytes`.
    pub fn new(bytes: Arc<Bytes>, from: IpAddr) -> Self {
        Self { bytes, from }
    }

    async fn connect_to(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = match to {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(self.from, 0))?;
        socket.connect(to).await
    }
}

impl Net for CountingNet {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let to = host.parse::<IpAddr>().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let stream = Box::new(self.connect_to(SocketAddr::new(to, port)).await?);
            Ok(Box::new(Counted { stream, bytes: self.bytes.clone() }) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async move {
            let listener = TcpNet.listen(host, port).await?;
            Ok(Box::new(CountedListener { listener, bytes: self.bytes.clone() }) as BoxListener)
        })
    }
}

struct CountedListener {
    listener: BoxListener,
    bytes: Arc<Bytes>,
}

impl Listener for CountedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, addr) = self.listener.accept().await?;
            Ok((Box::new(Counted { stream, bytes: self.bytes.clone() }) as BoxStream, addr))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Counted {
    stream: BoxStream,
    bytes: Arc<Bytes>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.bytes.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &result {
            self.bytes.written.fetch_add(*written as u64, Ordering::Relaxed);
            self.bytes.writes.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Stream for Counted {
    fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.stream.set_nodelay(nodelay)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    fn move_here(self: Box<Self>) -> io::Result<BoxStream> {
        Ok(Box::new(Counted { stream: self.stream.move_here()?, bytes: self.bytes }))
    }
}
