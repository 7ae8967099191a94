// SPDX-License-Identifier: BSD-3-Clause
//! What can go wrong on a connection between two processes of the cluster.

use std::io;

/// Why a frame or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side closed, or this side did.
    #[error("the connection is closed")]
    Closed,
    /// No answer before the deadline. The request may have been carried out.
    #[error("no answer in time")]
    Timeout,
    /// Too many frames wait to be written.
    #[error("the queue of the connection is full")]
    QueueFull,
    /// The bytes are no frame of ours.
    #[error("not a cluster frame: {0}")]
    Malformed(&'static str),
    /// A frame longer than allowed at this point.
    #[error("a frame of {0} bytes is too long")]
    TooLong(u64),
    /// Checksum mismatch.
    #[error("the checksum of a frame is wrong")]
    Checksum,
    /// The other side speaks another version.
    #[error("protocol version {0} is not supported")]
    Version(u8),
    /// The other side is not the node or not of the cluster that was expected.
    #[error("connected to another node than expected: {0}")]
    WrongPeer(String),
    /// The other side says that it is a node whose key it does not have.
    #[error("the process does not prove that it is node {0}")]
    Impostor(String),
    /// The other side refused the request with this text.
    #[error("{0}")]
    Refused(String),
    /// A body could not be encoded or decoded.
    #[error("bad frame body: {0}")]
    Body(String),
}

impl WireError {
    /// Whether the request certainly was not carried out.
    pub fn is_certainly_not_done(&self) -> bool {
        match self {
            WireError::QueueFull | WireError::Refused(_) | WireError::WrongPeer(_) | WireError::Impostor(_) => true,
            WireError::Io(_)
            | WireError::Closed
            | WireError::Timeout
            | WireError::Malformed(_)
            | WireError::TooLong(_)
            | WireError::Checksum
            | WireError::Version(_)
            | WireError::Body(_) => false,
        }
    }
}
