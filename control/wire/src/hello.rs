// SPDX-License-Identifier: BSD-3-Clause
//! The first frames of a connection: each side says who it is and what it wants, and proves the former.
//!
//! ```text
//!   connecting side                               accepting side
//!   HELLO  who, what for, a fresh number   ──►
//!                                          ◄──    HELLO  who, accepted, a fresh number, proof over the first
//!   PROOF  over the second number          ──►    from here on frames are handled
//! ```
//! A probe ends with the answer: what it wants to know is in it.

use pando_env::Rng;
use pando_topology::{ClusterId, Incarnation, NodeId};
use serde::{Deserialize, Serialize};

use crate::WireError;
use crate::conn::{Identity, Reader, Writer};
use crate::credential::{Keyring, Side, is_proven, prove};
use crate::frame::{Frame, Header, Kind, PROTOCOL, decode_body, encode_body, kinds};

/// A number used once.
pub type Nonce = [u8; 16];

/// What a connection is for. The accepting side uses it to decide who gets the frames.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
pub enum Purpose {
    /// A node talks to a root.
    Node,
    /// A primary talks to its replica.
    Peer,
    /// Published messages.
    Publish,
    /// Single calls, from anybody.
    Call,
    /// Frames of control/raft.
    Raft,
    /// Is somebody there, and which incarnation? The connection ends with the answer.
    Probe,
}

/// The first frame in each direction.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u8,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender.
    pub node: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
    /// What the connection is for, said by the side that connects and repeated in the answer.
    pub purpose: Purpose,
    /// The host that the connecting side dialled: a node that knows no address of its own takes
    /// it. Empty in the answer.
    pub dialled: String,
    /// A number that the sender has not used before, for the other side to sign.
    pub nonce: Nonce,
    /// In the answer: the proof that the sender is the node (see `credential`).
    pub proof: Vec<u8>,
    /// In the answer: whether the purpose can be served (no for another cluster, except calls and
    /// probes). The connection closes after a refusal.
    pub accepted: bool,
}

/// A number that nobody has seen.
pub(crate) fn fresh(rng: &dyn Rng) -> Nonce {
    let mut nonce = [0; 16];
    rng.fill(&mut nonce);
    nonce
}

/// One side of the exchange.
pub(crate) struct Greeting<'a> {
    pub local: Identity,
    pub keyring: Option<&'a Keyring>,
    pub nonce: Nonce,
}

impl Greeting<'_> {
    /// The connecting side's part; gives the other's hello, accepted or not.
    pub async fn connect(
        &self,
        reader: &mut Reader,
        writer: &mut Writer,
        purpose: Purpose,
        dialled: &str,
    ) -> Result<Hello, WireError> {
        let hello = self.hello(purpose, dialled, true);
        write(writer, kinds::HELLO, &hello).await?;
        let peer = hear_hello(reader).await?;
        if !is_proven(self.keyring, Side::Accepting, &peer, &self.local.node, &self.nonce, &peer.proof) {
            return Err(WireError::Impostor(peer.node.to_string()));
        }
        // Who probes only listens: nothing that it says is handled.
        if peer.accepted && purpose != Purpose::Probe {
            let proof = prove(self.keyring, Side::Connecting, &hello, &peer.node, &peer.nonce);
            write(writer, kinds::PROOF, &proof).await?;
        }
        Ok(peer)
    }

    /// The accepting side's part, after the hello of the other.
    pub async fn answer(
        &self,
        reader: &mut Reader,
        writer: &mut Writer,
        peer: &Hello,
        accepted: bool,
    ) -> Result<(), WireError> {
        let mut hello = self.hello(peer.purpose, "", accepted);
        hello.proof = prove(self.keyring, Side::Accepting, &hello, &peer.node, &peer.nonce);
        write(writer, kinds::HELLO, &hello).await?;
        if !accepted || peer.purpose == Purpose::Probe {
            return Ok(());
        }
        let frame = reader.next().await?.ok_or(WireError::Closed)?;
        if frame.header.kind != kinds::PROOF {
            return Err(WireError::Malformed("the second frame is no proof"));
        }
        let proof: Vec<u8> = decode_body(&frame.body)?;
        match is_proven(self.keyring, Side::Connecting, peer, &self.local.node, &self.nonce, &proof) {
            true => Ok(()),
            false => Err(WireError::Impostor(peer.node.to_string())),
        }
    }

    fn hello(&self, purpose: Purpose, dialled: &str, accepted: bool) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: self.local.cluster,
            node: self.local.node,
            incarnation: self.local.incarnation,
            purpose,
            dialled: dialled.to_owned(),
            nonce: self.nonce,
            proof: Vec::new(),
            accepted,
        }
    }
}

async fn write<T: Serialize>(writer: &mut Writer, kind: Kind, body: &T) -> Result<(), WireError> {
    writer.push(&Frame { header: Header { kind, flags: 0, request: 0 }, body: encode_body(body)? })?;
    writer.flush().await
}

/// The first frame of the other side.
pub(crate) async fn hear_hello(reader: &mut Reader) -> Result<Hello, WireError> {
    let frame = reader.next().await?.ok_or(WireError::Closed)?;
    if frame.header.kind != kinds::HELLO {
        return Err(WireError::Malformed("the first frame is no hello"));
    }
    let hello: Hello = decode_body(&frame.body)?;
    if hello.protocol != PROTOCOL {
        return Err(WireError::Version(hello.protocol));
    }
    Ok(hello)
}
