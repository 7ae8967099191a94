// SPDX-License-Identifier: BSD-3-Clause
//! How the processes of one cluster talk on the cluster port: frames, connections, messages.
//!
//! `frame` is the codec, `hello` and `credential` the first frames of a connection, `conn` a connection with requests,
//! replies and one-way frames, `messages` what nodes and roots say to each other (`beats`, `topology` and `whole` code what is
//! sent often), `explain` what operators ask. The bodies of Raft's frames belong to control/raft. Nothing here decides anything; control/agent and control/raft call it.

mod beats;
mod conn;
mod credential;
mod error;
pub mod explain;
mod frame;
mod hello;
pub mod messages;
mod topology;
mod whole;

pub use beats::Ends;
pub use conn::{Conn, ConnConfig, Handler, Identity, NoHandler};
pub use credential::{Credential, KeyOf, Keyring};
pub use error::WireError;
pub use frame::{
    BODY_BYTES_MAX, ClusterId, Frame, FrameReader, FrameWriter, HEADER_BYTES, Header, Kind, PROTOCOL, decode_body,
    encode_body, flags, kinds,
};
pub use hello::{Hello, Nonce, Purpose};
pub use topology::MapUpdate;
