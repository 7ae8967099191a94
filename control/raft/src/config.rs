// SPDX-License-Identifier: BSD-3-Clause
//! Settings of one root, and their translation into openraft's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pando_topology::NodeId;
use pando_wire::{Identity, Keyring};

use crate::{StartError, VoterId};

/// Finds the present address of a node: the agent knows of moves before the membership does.
pub type Resolver = Arc<dyn Fn(&NodeId) -> Option<(String, u16)> + Send + Sync>;

/// Settings of one root.
#[derive(Clone)]
pub struct RaftConfig {
    /// Folder of the log and the snapshot; created if needed, used by nobody else.
    pub dir: PathBuf,
    /// This process: cluster, node, incarnation.
    pub identity: Identity,
    /// The id of this member if its log is a new one; a random one otherwise.
    pub new_voter: Option<VoterId>,
    /// Proves who this process is to the other roots.
    pub keyring: Option<Keyring>,
    /// No other root has this one's log: start even if the end of it is damaged, and lose that.
    pub loses_damaged_end: bool,
    /// Present addresses of nodes; the membership's addresses are used where it knows none.
    pub resolver: Option<Resolver>,
    /// The leader's heartbeat.
    pub heartbeat_ms: u64,
    /// Shortest wait before standing for election.
    pub election_min_ms: u64,
    /// Longest wait, and the length of the leader's lease.
    pub election_max_ms: u64,
    /// Bound of one snapshot transfer.
    pub snapshot_timeout_ms: u64,
    /// Wait before a root that refused a connection is tried again.
    pub retry_ms: u64,
    /// Bound of [`crate::Raft::propose`] and of membership steps.
    pub propose_timeout_ms: u64,
    /// Bound of [`crate::Raft::read_barrier`].
    pub read_timeout_ms: u64,
    /// A snapshot is taken after so many entries.
    pub snapshot_every_entries: u64,
    /// Entries kept behind a snapshot for roots that lag a little.
    pub keep_entries: u64,
    /// Above this size the log file is compacted.
    pub log_bytes_max: u64,
    /// Above this many entries in the file the log is compacted.
    pub log_entries_max: u64,
    /// Bytes of one piece of a snapshot in transfer.
    pub snapshot_chunk_bytes: usize,
}

impl RaftConfig {
    /// The defaults for a data centre.
    pub fn new(dir: PathBuf, identity: Identity) -> RaftConfig {
        RaftConfig {
            dir,
            identity,
            new_voter: None,
            keyring: None,
            loses_damaged_end: false,
            resolver: None,
            heartbeat_ms: 50,
            election_min_ms: 150,
            election_max_ms: 300,
            snapshot_timeout_ms: 10_000,
            retry_ms: 50,
            propose_timeout_ms: 5_000,
            read_timeout_ms: 1_000,
            snapshot_every_entries: 5_000,
            keep_entries: 200,
            log_bytes_max: 4 * 1024 * 1024,
            log_entries_max: 10_000,
            snapshot_chunk_bytes: 256 * 1024,
        }
    }

    pub(crate) fn propose_timeout(&self) -> Duration {
        Duration::from_millis(self.propose_timeout_ms)
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub(crate) fn to_openraft(&self) -> Result<openraft::Config, StartError> {
        let retry = format!("{0}ms {0}ms {0}ms ...{0}ms", self.retry_ms);
        let config = openraft::Config {
            cluster_name: self.identity.cluster.to_string(),
            // `keep_house` sends the heartbeats. The library's clock ticks five times in this interval, and needs
            // to do so only to notice that an election is due.
            heartbeat_interval: self.election_min_ms - self.election_min_ms.div_ceil(16),
            enable_heartbeat: false,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            install_snapshot_timeout: self.snapshot_timeout_ms,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_every_entries),
            max_in_snapshot_log_to_keep: self.keep_entries,
            replication_lag_threshold: self.snapshot_every_entries.max(self.keep_entries),
            // A returning root must not wait for a grown backoff.
            backoff: retry,
            // Off by default, and then an isolated root disturbs the leader when it returns.
            enable_pre_vote: Some(true),
            // Without it a leader that reaches one bridge voter of five blocks elections for ever.
            quorum_loss_probe_interval: Some(2 * self.election_max_ms),
            allow_log_reversion: Some(false),
            enable_leader_restore: Some(false),
            // `keep_house` lets the clock run while this member may have to stand for election: most never do.
            enable_tick: false,
            ..openraft::Config::default()
        };
        config.validate().map_err(|e| StartError::Config(e.to_string()))
    }
}

impl std::fmt::Debug for RaftConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftConfig").field("dir", &self.dir).field("identity", &self.identity).finish_non_exhaustive()
    }
}
