// SPDX-License-Identifier: BSD-3-Clause
//! Frames and messages of the cluster port from somebody who is no node.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pando_wire::Frame;
use pando_wire::messages::{Call, Message, Reply};

fuzz_target!(|input: &[u8]| {
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(_)) = Frame::decode(&mut buffer, 1 << 16) {}
    let _ = pando_wire::decode_body::<Message>(input);
    let _ = pando_wire::decode_body::<Call>(input);
    let _ = pando_wire::decode_body::<Reply>(input);
});
