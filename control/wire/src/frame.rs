// SPDX-License-Identifier: BSD-3-Clause
//! The frame: a fixed header of 88 bytes and a body. All numbers are little-endian.
//!
//! ```text
//!  0  magic      "PNDO"
//!  4  protocol   u16
//!  6  kind       u8      what the body is
//!  7  flags      u8      1 = reply, 2 = error reply (the body is a text)
//!  8  request    u64     0 = one-way; a reply repeats the number of its request
//! 16  cluster    20      id of the cluster the sender belongs to
//! 36  from       20      node id of the sender
//! 56  to         20      node id of the receiver, zeroes if not known yet
//! 76  length     u32     of the body
//! 80  reserved   u32     0
//! 84  crc        u32     CRC-32 of bytes 0..84 and the body
//! 88  body
//! ```
//!
//! Bodies are MessagePack maps with named fields, so that fields can be added. The codec does
//! not look into them.

use bytes::{Buf, Bytes, BytesMut};
pub use pando_topology::ClusterId;
use pando_topology::NodeId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::WireError;

/// The protocol version this build speaks.
pub const PROTOCOL: u16 = 1;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 88;
/// No body is longer. Snapshots travel in chunks.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

const MAGIC: [u8; 4] = *b"PNDO";

/// Bits of [`Header::flags`].
pub mod flags {
    /// This frame answers the request of the same number.
    pub const REPLY: u8 = 1;
    /// With [`REPLY`]: the body is the text of an error.
    pub const ERROR: u8 = 2;
}

/// What a body is. 0x00-0x0f belong to this crate, 0x10-0x1f to control/raft, the rest to
/// `messages`.
pub type Kind = u8;

/// Kinds of this crate and the limits of the others.
pub mod kinds {
    use super::Kind;

    /// The first frame in each direction.
    pub const HELLO: Kind = 0x01;
    /// Third frame of a connection: the connecting side's proof that it is the node of its hello.
    pub const PROOF: Kind = 0x03;
    /// An error reply whose request had a kind the receiver does not know.
    pub const UNKNOWN: Kind = 0x02;
    /// First kind of control/raft.
    pub const RAFT_FIRST: Kind = 0x10;
    /// Last kind of control/raft.
    pub const RAFT_LAST: Kind = 0x1f;
    /// First kind of `messages`.
    pub const MESSAGES_FIRST: Kind = 0x20;

    /// Whether control/raft's handler takes this kind.
    pub fn is_raft(kind: Kind) -> bool {
        (RAFT_FIRST..=RAFT_LAST).contains(&kind)
    }
}

/// The part of a frame before its body.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// See [`flags`].
    pub flags: u8,
    /// Number of the request, 0 if one-way.
    pub request: u64,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender.
    pub from: NodeId,
    /// The receiver, or zeroes.
    pub to: NodeId,
}

impl Header {
    /// Whether the frame answers a request.
    pub fn is_reply(&self) -> bool {
        self.flags & flags::REPLY != 0
    }

    /// Whether the frame answers a request with an error text.
    pub fn is_error(&self) -> bool {
        self.flags & flags::ERROR != 0
    }

    /// Whether the sender waits for a reply.
    pub fn wants_reply(&self) -> bool {
        self.request != 0 && !self.is_reply()
    }
}

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Who, what, to whom.
    pub header: Header,
    /// Encoded by [`encode_body`].
    pub body: Bytes,
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.body.len() > BODY_BYTES_MAX {
            return Err(WireError::TooLong(self.body.len() as u64));
        }
        let start = out.len();
        let h = &self.header;
        out.reserve(HEADER_BYTES + self.body.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&PROTOCOL.to_le_bytes());
        out.push(h.kind);
        out.push(h.flags);
        out.extend_from_slice(&h.request.to_le_bytes());
        out.extend_from_slice(h.cluster.as_bytes());
        out.extend_from_slice(h.from.as_bytes());
        out.extend_from_slice(h.to.as_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&out[start..]);
        crc.update(&self.body);
        out.extend_from_slice(&crc.finalize().to_le_bytes());
        debug_assert_eq!(out.len() - start, HEADER_BYTES);
        out.extend_from_slice(&self.body);
        Ok(())
    }

    /// Takes one frame off the front of `input`; `None` if it is not complete yet.
    pub fn decode(input: &mut BytesMut, body_bytes_max: usize) -> Result<Option<Frame>, WireError> {
        let seen = input.len().min(MAGIC.len());
        if input[..seen] != MAGIC[..seen] {
            return Err(WireError::Malformed("magic"));
        }
        if input.len() < HEADER_BYTES {
            return Ok(None);
        }
        let protocol = u16::from_le_bytes(field(input, 4));
        if protocol != PROTOCOL {
            return Err(WireError::Version(protocol));
        }
        let length = u32::from_le_bytes(field(input, 76)) as usize;
        if length > body_bytes_max {
            return Err(WireError::TooLong(length as u64));
        }
        if input.len() < HEADER_BYTES + length {
            input.reserve(HEADER_BYTES + length - input.len());
            return Ok(None);
        }
        let header = Header {
            kind: input[6],
            flags: input[7],
            request: u64::from_le_bytes(field(input, 8)),
            cluster: ClusterId::from_bytes(field(input, 16)),
            from: NodeId::from_bytes(field(input, 36)),
            to: NodeId::from_bytes(field(input, 56)),
        };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&input[..84]);
        crc.update(&input[HEADER_BYTES..HEADER_BYTES + length]);
        if crc.finalize() != u32::from_le_bytes(field(input, 84)) {
            return Err(WireError::Checksum);
        }
        input.advance(HEADER_BYTES);
        let body = input.split_to(length).freeze();
        Ok(Some(Frame { header, body }))
    }
}

/// A fixed field of the header; the caller has checked that the header is there.
fn field<const N: usize>(input: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&input[at..at + N]);
    out
}

/// MessagePack with named fields.
pub fn encode_body<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, WireError> {
    let bytes = rmp_serde::to_vec_named(value).map_err(|e| WireError::Body(e.to_string()))?;
    Ok(Bytes::from(bytes))
}

/// The reverse of [`encode_body`]; unknown fields are ignored.
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    rmp_serde::from_slice(body).map_err(|e| WireError::Body(e.to_string()))
}

/// Reads frames from a stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    pub(crate) stream: R,
    pub(crate) buffer: BytesMut,
    pub(crate) body_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that refuses longer bodies than this.
    pub fn new(stream: R, body_bytes_max: usize) -> FrameReader<R> {
        FrameReader { stream, buffer: BytesMut::with_capacity(4096), body_bytes_max }
    }

    /// Changes the limit, after the hello has shown who is there.
    pub fn set_body_bytes_max(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// The next frame; `None` at a clean end. Safe to cancel: bytes read so far are kept.
    pub async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer, self.body_bytes_max)? {
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(WireError::Malformed("the stream ends inside a frame")),
                };
            }
        }
    }
}

/// Writes frames to a stream.
#[derive(Debug)]
pub struct FrameWriter<W> {
    pub(crate) stream: W,
    pub(crate) buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer with an empty buffer.
    pub fn new(stream: W) -> FrameWriter<W> {
        FrameWriter { stream, buffer: Vec::new() }
    }

    /// Puts a frame into the buffer; [`FrameWriter::flush`] sends it.
    pub fn push(&mut self, frame: &Frame) -> Result<(), WireError> {
        frame.encode(&mut self.buffer)
    }

    /// Bytes that wait for [`FrameWriter::flush`].
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Writes the buffer out. Not safe to cancel.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        if !self.buffer.is_empty() {
            self.stream.write_all(&self.buffer).await?;
            self.buffer.clear();
            // One snapshot chunk must not keep megabytes allocated for ever.
            self.buffer.shrink_to(64 * 1024);
        }
        self.stream.flush().await?;
        Ok(())
    }

    /// Closes the writing half.
    pub async fn shutdown(&mut self) -> Result<(), WireError> {
        self.stream.shutdown().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(body: &'static [u8]) -> Frame {
        Frame {
            header: Header {
                kind: 0x21,
                flags: flags::REPLY,
                request: 7,
                cluster: ClusterId::from_bytes([0xcc; 20]),
                from: NodeId::from_bytes([0xaa; 20]),
                to: NodeId::from_bytes([0xbb; 20]),
            },
            body: Bytes::from_static(body),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Freezes the layout: changing it needs a new protocol version.
    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        sample(b"body").encode(&mut out).unwrap();
        assert_eq!(out.len(), HEADER_BYTES + 4);
        let expected = concat!(
            "504e444f",
            "0100",
            "21",
            "01",
            "0700000000000000",
            "cccccccccccccccccccccccccccccccccccccccc",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            "04000000",
            "00000000",
        );
        assert_eq!(hex(&out[..84]), expected);
        assert_eq!(hex(&out[84..]), concat!("badfac8c", "626f6479"));
    }

    #[test]
    fn a_frame_survives_any_split() {
        let mut bytes = Vec::new();
        sample(b"first").encode(&mut bytes).unwrap();
        sample(b"").encode(&mut bytes).unwrap();
        for cut in 0..bytes.len() {
            let mut input = BytesMut::from(&bytes[..cut]);
            let mut got = Vec::new();
            while let Some(frame) = Frame::decode(&mut input, 100).unwrap() {
                got.push(frame);
            }
            input.extend_from_slice(&bytes[cut..]);
            while let Some(frame) = Frame::decode(&mut input, 100).unwrap() {
                got.push(frame);
            }
            assert_eq!(got, [sample(b"first"), sample(b"")]);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        sample(b"body").encode(&mut bytes).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let result = Frame::decode(&mut BytesMut::from(&damaged[..]), 1 << 20);
            // A larger length asks for more bytes, everything else is an error.
            assert!(!matches!(result, Ok(Some(_))), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            random in proptest::collection::vec(any::<u8>(), 0..300),
            with_magic in any::<bool>(),
        ) {
            let mut bytes = random;
            if with_magic {
                bytes.splice(0..bytes.len().min(6), [b'P', b'N', b'D', b'O', 1, 0]);
            }
            let _ = Frame::decode(&mut BytesMut::from(&bytes[..]), 1000);
            let _ = decode_body::<crate::Hello>(&bytes);
        }
    }
}
