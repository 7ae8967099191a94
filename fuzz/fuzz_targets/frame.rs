// SPDX-License-Identifier: BSD-3-Clause
//! Frames and messages of the cluster port from somebody who is no node.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use pando_wire::{Ends, Frame};
use pando_topology::{ClusterId, ClusterMap, Incarnation, NodeId};
use pando_wire::messages::{Call, Message, Reply, decode_message};

fuzz_target!(|input: &[u8]| {
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(_)) = Frame::decode(&mut buffer, 1 << 16) {}
    let end = |byte| (NodeId::from_bytes([byte; 20]), Incarnation(byte.into()));
    let ends = Ends { from: end(1), to: end(2) };
    if let Ok(Message::Map(update)) = decode_message(&Bytes::copy_from_slice(input), &ends) {
        let _ = update.apply(&ClusterMap::empty(ClusterId::from_bytes([0; 20])));
    }
    let _ = pando_wire::decode_body::<Call>(input);
    let _ = pando_wire::decode_body::<Reply>(input);
});
