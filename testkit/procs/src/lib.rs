// SPDX-License-Identifier: BSD-3-Clause
//! Real processes for tests and benchmarks: start, stop, kill and talk to Pando and to its peers on loopback.
//!
//! Not a test framework: every function returns plain values and errors. Processes are ended by their id when their
//! handle is dropped, ports are free ones asked of the kernel, directories are temporary, and each wait has a deadline.
//! Used by testkit/system, testkit/differential and bench.

pub mod appends;
pub mod client;
pub mod cluster;
pub mod gap;
pub mod history;
pub mod late_packets;
pub mod load;
pub mod node;
pub mod peers;
pub mod sentinel;
pub mod slow_disk;
pub mod wait;

pub use appends::{AppendPlan, AppendReport, Appends, Seek, read_lists};
pub use client::Client;
pub use cluster::Cluster;
pub use history::judge;
pub use late_packets::Relay;
pub use load::{Load, LoadPlan, LoadReport};
pub use node::{Node, Software};
pub use sentinel::Sentinel;
pub use slow_disk::SlowDisk;
pub use wait::eventually;
