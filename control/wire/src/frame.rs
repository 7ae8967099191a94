// SPDX-License-Identifier: BSD-3-Clause
//! The frame: a head of 14 bytes, or 22 with a number, and a body. All numbers are little-endian.
//!
//! ```text
//!  0  magic      "PND"
//!  3  protocol   u8
//!  4  kind       u8      what the body is
//!  5  flags      u8      1 = reply, 2 = error reply (the body is a text), 4 = there is a number
//!  6  length     u32     of the body
//! 10  crc        u32     CRC-32 of bytes 0..10, the number and the body
//! 14  request    u64     only with flag 4: number of the request; a reply repeats the number of its request
//!     body
//! ```
//!
//! Most frames are heartbeats of some tens of bytes, sent by every node all the time, so the head is small. Who the two
//! ends of a connection are, and of which cluster, is said once (`hello`), not in each frame.
//!
//! Bodies are MessagePack maps with named fields, so that fields can be added. The codec does
//! not look into them.

use bytes::{Buf, Bytes, BytesMut};
pub use pando_topology::ClusterId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::WireError;

/// The protocol version this build speaks.
pub const PROTOCOL: u8 = 2;
/// Most bytes before the body.
pub const HEADER_BYTES: usize = FIXED_BYTES + NUMBER_BYTES;
/// No body is longer. Snapshots travel in chunks.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

const MAGIC: [u8; 3] = *b"PND";
/// The part of the head that each frame has.
const FIXED_BYTES: usize = 14;
const NUMBER_BYTES: usize = 8;
/// Where the checksum is, which covers what is before it and what is after it.
const CRC_AT: usize = 10;
/// A bit of the flags on the wire: the number follows. Not in [`Header::flags`], where the number says it.
const NUMBERED: u8 = 4;

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
    /// What it is.
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
        let is_numbered = h.request != 0;
        out.reserve(HEADER_BYTES + self.body.len());
        out.extend_from_slice(&MAGIC);
        out.push(PROTOCOL);
        out.push(h.kind);
        out.push(h.flags | if is_numbered { NUMBERED } else { 0 });
        out.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&out[start..]);
        let number = h.request.to_le_bytes();
        let number = if is_numbered { &number[..] } else { &[] };
        crc.update(number);
        crc.update(&self.body);
        out.extend_from_slice(&crc.finalize().to_le_bytes());
        out.extend_from_slice(number);
        out.extend_from_slice(&self.body);
        Ok(())
    }

    /// Takes one frame off the front of `input`; `None` if it is not complete yet.
    pub fn decode(input: &mut BytesMut, body_bytes_max: usize) -> Result<Option<Frame>, WireError> {
        let seen = input.len().min(MAGIC.len());
        if input[..seen] != MAGIC[..seen] {
            return Err(WireError::Malformed("magic"));
        }
        if input.len() < FIXED_BYTES {
            return Ok(None);
        }
        if input[3] != PROTOCOL {
            return Err(WireError::Version(input[3]));
        }
        let (kind, flags) = (input[4], input[5]);
        let length = u32::from_le_bytes(field(input, 6)) as usize;
        if length > body_bytes_max {
            return Err(WireError::TooLong(length as u64));
        }
        let is_numbered = flags & NUMBERED != 0;
        let head = FIXED_BYTES + if is_numbered { NUMBER_BYTES } else { 0 };
        if input.len() < head + length {
            input.reserve(head + length - input.len());
            return Ok(None);
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&input[..CRC_AT]);
        crc.update(&input[FIXED_BYTES..head + length]);
        if crc.finalize() != u32::from_le_bytes(field(input, CRC_AT)) {
            return Err(WireError::Checksum);
        }
        let request = if is_numbered { u64::from_le_bytes(field(input, FIXED_BYTES)) } else { 0 };
        input.advance(head);
        let body = input.split_to(length).freeze();
        Ok(Some(Frame { header: Header { kind, flags: flags & !NUMBERED, request }, body }))
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
        Frame { header: Header { kind: 0x21, flags: flags::REPLY, request: 7 }, body: Bytes::from_static(body) }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Freezes the layout: changing it needs a new protocol version.
    #[test]
    fn golden_bytes() {
        let check = |frame: &Frame, expected: &str| {
            let mut out = Vec::new();
            frame.encode(&mut out).unwrap();
            assert_eq!(hex(&out), expected);
        };
        let numbered = sample(b"body");
        check(&numbered, concat!("504e44", "02", "21", "05", "04000000", "6247e0ff", "0700000000000000", "626f6479"));
        let header = Header { request: 0, flags: 0, ..numbered.header };
        check(&Frame { header, ..numbered }, concat!("504e44", "02", "21", "00", "04000000", "b5a8eb04", "626f6479"));
    }

    #[test]
    fn a_frame_survives_any_split() {
        let mut bytes = Vec::new();
        sample(b"first").encode(&mut bytes).unwrap();
        let empty = Frame { header: Header { request: 0, ..sample(b"").header }, ..sample(b"") };
        empty.encode(&mut bytes).unwrap();
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
            assert_eq!(got, [sample(b"first"), empty.clone()]);
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
                bytes.splice(0..bytes.len().min(6), [b'P', b'N', b'D', PROTOCOL, 0x21, 4]);
            }
            let _ = Frame::decode(&mut BytesMut::from(&bytes[..]), 1000);
            let _ = decode_body::<crate::Hello>(&bytes);
        }
    }
}
