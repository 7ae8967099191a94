// SPDX-License-Identifier: BSD-3-Clause
//! How the processes of one cluster talk on the cluster port: frames, connections, messages.
//!
//! `frame` is the codec, `conn` a connection with a hello, requests, replies and one-way frames,
//! `messages` what nodes and roots say to each other, `explain` what operators ask. The bodies of Raft's frames belong to
//! control/raft. Nothing here decides anything; control/agent and control/raft call it.

mod conn;
mod error;
pub mod explain;
mod frame;
pub mod messages;

pub use conn::{Conn, ConnConfig, Handler, Hello, Identity, NoHandler, Purpose};
pub use error::WireError;
pub use frame::{
    BODY_BYTES_MAX, ClusterId, Frame, FrameReader, FrameWriter, HEADER_BYTES, Header, Kind, PROTOCOL, decode_body,
    encode_body, flags, kinds,
};
