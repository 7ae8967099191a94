// SPDX-License-Identifier: BSD-3-Clause
//! One connection: two ends, and a wire from each to the other. State only; `super` moves the packets.

use std::collections::VecDeque;
use std::task::Waker;

use super::HostId;

/// Names a connection.
pub type ConnKey = u64;

/// What travels.
pub enum Packet {
    Data(Vec<u8>),
    Fin,
    Reset,
}

/// See the head of this file. End 0 is the one that connected.
pub struct Conn {
    pub ends: [End; 2],
    /// Wire 0 goes from end 0 to end 1.
    pub wires: [Wire; 2],
    /// What came of the attempt to connect.
    pub answer: Option<bool>,
    pub attempts: u32,
    pub port: u16,
}

/// A socket.
pub struct End {
    pub host: HostId,
    /// Which process of the host has it.
    pub generation: u64,
    pub is_open: bool,
    pub is_reset: bool,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
}

/// One direction.
#[derive(Default)]
pub struct Wire {
    /// Packets and when they arrive, in order.
    pub flying: VecDeque<(u64, Packet)>,
    pub is_scheduled: bool,
    /// Failed attempts to deliver the first.
    pub attempts: u32,
    /// Arrived and not read.
    pub inbox: VecDeque<u8>,
    pub is_ended: bool,
    /// Sent and not confirmed.
    pub in_flight: usize,
    /// Arrived, but the confirmation has not.
    pub unconfirmed: usize,
    pub is_reset_sent: bool,
}

impl End {
    pub fn new(host: HostId, generation: u64, is_open: bool) -> End {
        End { host, generation, is_open, is_reset: false, reader: None, writer: None }
    }
}
