// SPDX-License-Identifier: BSD-3-Clause
//! How a process proves that it is the node that it says it is: a key pair (Ed25519, RFC 8032) that lives in the
//! node's state file, whose public half the roots keep with the node. In the hello each side signs the other's
//! fresh number, so a proof cannot be used twice. Not here: encryption of what follows (TLS does that).

use std::sync::Arc;

use pando_topology::{NodeId, NodeKey};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::hello::{Hello, Nonce};

/// The secret half of a node's key.
pub struct Credential {
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("key", &self.key()).finish_non_exhaustive()
    }
}

impl Credential {
    /// The key pair that grows from this secret; the same one each time.
    ///
    /// # Errors
    /// The library's word, should it refuse the secret (it takes any).
    pub fn from_secret(secret: &[u8; 32]) -> Result<Credential, String> {
        Ed25519KeyPair::from_seed_unchecked(secret).map(|pair| Credential { pair }).map_err(|error| error.to_string())
    }

    /// The public half.
    pub fn key(&self) -> NodeKey {
        let bytes: [u8; 32] = self.pair.public_key().as_ref().try_into().unwrap_or_default();
        NodeKey::from_bytes(bytes)
    }
}

/// The keys of the nodes that a process knows at the moment; none of a stranger.
pub type KeyOf = Arc<dyn Fn(&NodeId) -> Option<NodeKey> + Send + Sync>;

/// What a connection needs to prove and to check identities.
#[derive(Clone)]
pub struct Keyring {
    /// Of this process.
    pub own: Arc<Credential>,
    /// Of the others. Who has one there must prove that it is the node.
    pub key_of: KeyOf,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Which side of a connection signs.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Connecting,
    Accepting,
}

/// What is signed: who says it to whom, over the fresh numbers of both.
fn statement(side: Side, signer: &Hello, to: &NodeId, theirs: &Nonce) -> Vec<u8> {
    let mut text = Vec::with_capacity(160);
    text.extend_from_slice(b"pando hello 1 ");
    text.push(side as u8);
    text.extend_from_slice(signer.cluster.as_bytes());
    text.extend_from_slice(signer.node.as_bytes());
    text.extend_from_slice(&signer.incarnation.get().to_be_bytes());
    text.push(signer.purpose as u8);
    text.extend_from_slice(to.as_bytes());
    text.extend_from_slice(theirs);
    text.extend_from_slice(&signer.nonce);
    text
}

/// The proof for a hello; empty without a key.
pub(crate) fn prove(keyring: Option<&Keyring>, side: Side, own: &Hello, to: &NodeId, theirs: &Nonce) -> Vec<u8> {
    keyring.map_or_else(Vec::new, |ring| ring.own.pair.sign(&statement(side, own, to, theirs)).as_ref().to_vec())
}

/// Whether the peer is who its hello says, or a stranger of whom nothing is known. `own`: the number that
/// was sent to it.
pub(crate) fn is_proven(
    keyring: Option<&Keyring>,
    side: Side,
    peer: &Hello,
    me: &NodeId,
    own: &Nonce,
    proof: &[u8],
) -> bool {
    let Some(key) = keyring.and_then(|ring| (ring.key_of)(&peer.node)) else { return true };
    UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(&statement(side, peer, me, own), proof).is_ok()
}
