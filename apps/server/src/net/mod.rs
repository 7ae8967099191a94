// SPDX-License-Identifier: BSD-3-Clause
//! Sockets and readiness: what the worker threads stand on. No commands, no sessions.

pub mod listener;
pub mod mailbox;
pub mod poller;
