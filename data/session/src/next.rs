// SPDX-License-Identifier: BSD-3-Clause
//! What the server does with a connection after a command.

/// See the head of this file.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Next {
    /// The reply (if any) is in the buffer; go on with the next request.
    Continue,
    /// Close, once what is in the buffer was sent.
    Close,
    /// Read no further requests of this client until something happens.
    Suspend(Suspend),
    /// The connection is no longer a client's.
    HandOff(HandOff),
}

/// Why a client is suspended.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Suspend {
    /// WAIT: ask [`crate::Session::finish_wait`] when acknowledgements arrive
    /// ([`crate::Message::AcksChanged`]), at the deadline, and on [`crate::Message::Unblock`].
    Wait {
        /// How many replicas must have the offset.
        replicas: usize,
        /// The offset.
        offset: u64,
        /// They must have it in their files (WAITAOF).
        in_files: bool,
        /// Instant of [`crate::boot_ms`]; none: no limit.
        deadline_boot_ms: Option<u64>,
    },
    /// A pause: nothing was executed. Execute the same request again after
    /// [`crate::Message::Unpause`] or at [`crate::Gate::paused_until`].
    Paused,
    /// A command that waits for keys: answered by [`crate::Message::Served`], at the deadline by
    /// [`crate::Session::time_out_blocked`], or after other messages that name the ticket.
    Blocked {
        /// Number of the wait, never reused.
        ticket: u64,
        /// Instant of [`crate::boot_ms`]; none: no limit.
        deadline_boot_ms: Option<u64>,
    },
    /// The reply arrives as [`crate::Message::Resume`] with this ticket.
    Async(u64),
}

/// What a connection becomes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum HandOff {
    /// The link of a replica: the request (PSYNC, SYNC) that asked for it, name first.
    Replica {
        /// The whole request.
        request: Vec<Vec<u8>>,
    },
}
