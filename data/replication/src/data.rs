// SPDX-License-Identifier: BSD-3-Clause
//! What replication does to the data of its node, as an interface: [`crate::engine`] implements it for the real
//! engine, tests with a map.

use crate::image_out::ImageOut;
use pando_formats::rdb::{RdbWriter, Record};
use std::io;

/// The node's data and what guards them.
pub trait Data: Send + Sync {
    /// Which version REPLCONF announces.
    fn server_version(&self) -> &str;
    /// Whether the node is part of a cluster.
    fn is_cluster(&self) -> bool;
    /// Lets clients write, or not. Commands that were let in before may still run until
    /// [`with_all_locked`](Self::with_all_locked) was called.
    fn set_replica(&self, is_replica: bool);
    /// The data are incomplete while they are being loaded.
    fn set_loading(&self, is_loading: bool);
    /// See [`set_loading`](Self::set_loading).
    fn is_loading(&self) -> bool;
    /// Whether the link to the primary is up.
    fn set_link_up(&self, is_up: bool);
    /// How many replicas lag little.
    fn set_good_replicas(&self, count: u32);
    /// A replica acknowledged an offset.
    fn set_ack(&self, client_id: u64, offset: u64);
    /// A replica is gone.
    fn remove_ack(&self, client_id: u64);
    /// A client became the link of a replica, and is shown as such from now on.
    fn replica_linked(&self, _client_id: u64) {}
    /// A link to a primary is there, with these ends; answers the client id under which it is shown.
    fn primary_linked(&self, _remote: String, _local: String) -> u64 {
        0
    }
    /// A link to a primary or of a replica is gone.
    fn unlinked(&self, _client_id: u64) {}
    /// Runs something while no command executes.
    fn with_all_locked(&self, act: &mut dyn FnMut());
    /// Removes all keys.
    fn flush_all(&self);
    /// Stores one key of an image.
    fn load(&self, record: &Record) -> Result<(), String>;
    /// Begins a point-in-time walk; `at_cut` runs while no command executes. [`io::ErrorKind::WouldBlock`] if another
    /// walk is under way.
    fn begin_walk(&self, at_cut: &mut dyn FnMut()) -> io::Result<Box<dyn DataWalk>>;
    /// What a thread needs that applies the primary's stream.
    fn applier(&self) -> Box<dyn Applier>;
}

/// How a step of a walk ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum WalkEnd {
    More,
    Done,
    /// The keyspace was flushed or swapped: the image is of no use.
    Aborted,
}

/// A walk under way. Dropping it ends it.
pub trait DataWalk: Send {
    /// Writes about `budget_bytes` of keys, and waits for the output only while no lock is held.
    fn step(&mut self, budget_bytes: usize, to: &mut RdbWriter<ImageOut>) -> io::Result<WalkEnd>;
    /// Bytes of old values that are kept for the walk.
    fn pending_bytes(&self) -> usize;
}

/// One command of a stream that is kept for its transaction: database and arguments.
pub type Kept = (u16, Vec<Vec<u8>>);

/// Applies commands of the primary in order. An error means that this node's data cannot follow the primary's.
pub trait Applier {
    /// One command.
    fn apply(&mut self, db: u16, args: &[&[u8]]) -> Result<(), String>;
    /// A transaction: nobody sees a part of it.
    fn apply_all(&mut self, commands: &[Kept]) -> Result<(), String>;
}
