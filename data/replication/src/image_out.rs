// SPDX-License-Identifier: BSD-3-Clause
//! Where the image of a full sync is written to: pieces of bounded size for the task that owns the socket. Written to by the
//! walk's thread alone.
//!
//! While the walk holds a slot's lock it must not wait for the socket: [`ImageOut::hold`] keeps what is written until
//! [`ImageOut::release`].

use std::io::{self, Write};

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 128 * 1024;

/// Takes a piece; may wait.
type Send = Box<dyn FnMut(Vec<u8>) -> io::Result<()> + std::marker::Send>;

/// See the head of this file.
pub struct ImageOut {
    piece: Vec<u8>,
    is_held: bool,
    send: Send,
}

impl ImageOut {
    /// Hands pieces to `send`.
    pub fn new(send: impl FnMut(Vec<u8>) -> io::Result<()> + std::marker::Send + 'static) -> ImageOut {
        ImageOut { piece: Vec::new(), is_held: false, send: Box::new(send) }
    }

    /// From here on nothing is sent, and nothing waits.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Ends [`hold`](Self::hold); sends what there is, if that is a piece.
    pub fn release(&mut self) -> io::Result<()> {
        self.is_held = false;
        self.send_full()
    }

    /// Sends all that is left.
    pub fn send_rest(&mut self) -> io::Result<()> {
        match self.piece.is_empty() {
            true => Ok(()),
            false => (self.send)(std::mem::take(&mut self.piece)),
        }
    }

    fn send_full(&mut self) -> io::Result<()> {
        match self.piece.len() >= PIECE_BYTES && !self.is_held {
            true => (self.send)(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES * 5 / 4))),
            false => Ok(()),
        }
    }
}

impl Write for ImageOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        self.send_full()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageOut, PIECE_BYTES};
    use std::io::Write;
    use std::sync::mpsc;

    #[test]
    fn pieces_wait_while_held() {
        let (send, sent) = mpsc::channel();
        let mut out = ImageOut::new(move |piece: Vec<u8>| send.send(piece.len()).map_err(std::io::Error::other));
        out.hold();
        out.write_all(&vec![0; 3 * PIECE_BYTES]).expect("memory");
        assert!(sent.try_recv().is_err());
        out.release().expect("received");
        assert_eq!(sent.try_recv(), Ok(3 * PIECE_BYTES));
        for _ in 0..3 {
            out.write_all(&vec![0; PIECE_BYTES / 2]).expect("received");
        }
        assert_eq!(sent.try_recv(), Ok(PIECE_BYTES));
        assert!(sent.try_recv().is_err());
        out.send_rest().expect("received");
        assert_eq!(sent.try_recv(), Ok(PIECE_BYTES / 2));
    }
}
