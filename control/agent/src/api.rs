// SPDX-License-Identifier: BSD-3-Clause
//! What the rest of the server sees of the control plane: its configuration, the requests that
//! clients cause, the answers, and the trait through which verdicts reach the data plane.
//! No behaviour here. `apps/server` and the simulator are the callers.

use std::path::PathBuf;
use std::sync::Arc;

use pando_env::BoxFuture;
use pando_topology::{ClusterId, ClusterMap, NodeId, Slot, SlotSet, TopologyVersion};
use pando_wire::explain::{Explanation, Question};
use tokio::sync::watch;

use crate::shared_maps::SharedMaps;

/// What one process brings along into its cluster.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Address announced to other nodes; empty means: learn it from the first contact.
    pub host: String,
    /// Announced host name (`cluster-announce-hostname`), may be empty.
    pub hostname: String,
    /// Address that the cluster port listens on; empty means all.
    pub bind: String,
    /// Client port, as announced.
    pub port: u16,
    /// TLS client port, 0 when there is none.
    pub tls_port: u16,
    /// Cluster port, listened on and, without `announced_cluster_port`, announced.
    pub cluster_port: u16,
    /// `cluster-announce-bus-port`; 0 if it is the same.
    pub announced_cluster_port: u16,
    /// Folder of the state file and of the roots' files.
    pub dir: PathBuf,
    /// Name of the state file in `dir` (`cluster-config-file`).
    pub state_file: String,
    /// What this process is for (`cluster-roles`).
    pub roles: Roles,
    /// `cluster-roots`: `host:client-port` of the roots that start together; empty means: an island.
    pub roots: Vec<String>,
    /// How many voters the root group grows to (1, 3, 5 or 7): of a cluster that this node founds, and of its
    /// cluster when it starts with another number than before.
    pub root_count: usize,
    /// A voter that is away for so long is replaced (`cluster-root-patience`), in milliseconds.
    pub root_patience_ms: u64,
    /// Length of every promise (`cluster-node-timeout`).
    pub lease_ms: u64,
    /// Availability zone, may be empty.
    pub zone: String,
    /// `replica-priority`; 0 means never promote.
    pub replica_priority: u16,
    /// `cluster-replica-no-failover`.
    pub no_failover: bool,
    /// `cluster-require-full-coverage`: without it, a partly served slot space is still "ok".
    pub require_full_coverage: bool,
    /// `cluster-migration-barrier`; none with `cluster-allow-replica-migration no`.
    pub migration_barrier: Option<u32>,
    /// `cluster-replica-validity-factor`; 0: data never are too old.
    pub validity_factor: u64,
    /// `repl-ping-replica-period`, in milliseconds.
    pub repl_ping_ms: u64,
    /// `cluster-failover-zone-affinity`, as the leading root has it.
    pub zone_affinity: bool,
    /// `cluster-manual-failover-timeout`, in milliseconds.
    pub manual_failover_ms: u64,
    /// A root replaces its log by a snapshot after so many entries.
    pub snapshot_entries: u64,
    /// Maps that several agents of one process share.
    pub maps: SharedMaps,
}

impl AgentConfig {
    /// A replica that has heard nothing of its primary for so long is not promoted unasked. As in Valkey, the time
    /// after which a primary counts as failed does not count.
    pub fn is_too_old(&self, data_age_ms: u64) -> bool {
        let limit = self.lease_ms.saturating_mul(self.validity_factor).saturating_add(self.repl_ping_ms);
        self.validity_factor != 0 && data_age_ms.saturating_sub(self.lease_ms) > limit
    }

    /// Takes over what may change while the process runs.
    pub(crate) fn update(&mut self, new: AgentConfig) {
        let AgentConfig { host, hostname, port, tls_port, announced_cluster_port, zone, .. } = new;
        (self.hostname, self.port, self.tls_port, self.zone) = (hostname, port, tls_port, zone);
        self.announced_cluster_port = announced_cluster_port;
        self.replica_priority = new.replica_priority;
        self.no_failover = new.no_failover;
        self.require_full_coverage = new.require_full_coverage;
        self.migration_barrier = new.migration_barrier;
        self.validity_factor = new.validity_factor;
        self.repl_ping_ms = new.repl_ping_ms;
        self.zone_affinity = new.zone_affinity;
        self.manual_failover_ms = new.manual_failover_ms;
        self.host = host;
    }
}

/// `cluster-roles`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Roles {
    /// Holds keys: gets a shard, may serve slots.
    pub data: bool,
    /// May become a member of the root group.
    pub root: bool,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            hostname: String::new(),
            bind: String::new(),
            port: 6379,
            tls_port: 0,
            cluster_port: 16379,
            dir: PathBuf::from("."),
            state_file: "nodes.conf".into(),
            roles: Roles { data: true, root: true },
            roots: Vec::new(),
            root_count: 3,
            root_patience_ms: 6000,
            lease_ms: 3000,
            zone: String::new(),
            replica_priority: 100,
            no_failover: false,
            require_full_coverage: true,
            announced_cluster_port: 0,
            migration_barrier: Some(1),
            validity_factor: 10,
            repl_ping_ms: 10_000,
            zone_affinity: true,
            manual_failover_ms: 5000,
            snapshot_entries: 5000,
            maps: SharedMaps::default(),
        }
    }
}

/// The data plane as the agent sees it. All calls come from the cluster thread, must not block, and
/// take effect before they return: after `lease(0, ..)` or a `topology` that demotes this node no
/// further write may be acknowledged.
pub trait DataPlane: Send + Sync {
    /// Swap to this map; start or stop replication accordingly. Called in order of versions; when
    /// the node changes its cluster (join, reset), `me` or the history may change as a whole.
    fn topology(&self, map: Arc<ClusterMap>, me: NodeId);
    /// Writes are allowed before this `CLOCK_BOOTTIME` millisecond (0 = none, `u64::MAX` = always).
    fn lease(&self, until_boottime_ms: u64, cluster_ok: bool);
    /// Where replication stands; read before each heartbeat.
    fn status(&self) -> DataStatus;
    /// A message published on another node, for the subscribers here.
    fn publish(&self, channel: &[u8], message: &[u8], sharded: bool);
    /// Planned failover: hold writes until that `CLOCK_BOOTTIME` millisecond, or let them go (`None`), at once. What is
    /// returned ends when the writes that were let in before have ended, with the offset at which they did; only a
    /// pause has any use for it.
    fn pause_writes(&self, until_boottime_ms: Option<u64>) -> BoxFuture<'static, u64>;
    /// Changes when the link to the primary goes up or down; a break only when what came before it is applied, and so
    /// part of `status().offset`. The roots hear of it at once.
    fn link_changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
    /// Ends when `status().offset` has probably reached this; the caller looks itself.
    fn reached(&self, offset: u64) -> BoxFuture<'static, ()>;
}

/// Answer of [`DataPlane::status`].
#[derive(Clone, Debug)]
pub struct DataStatus {
    /// Replication id of the history this node holds.
    pub replid: [u8; 40],
    /// Replication id of the history that it continues since the last promotion, and up to which offset.
    pub replid2: ([u8; 40], u64),
    /// Primary: end of its log. Replica: what it has applied.
    pub offset: u64,
    /// Replica: the link to the primary is up and in sync, or broke and what came is not applied yet.
    pub link_up: bool,
    /// Replica: since it last heard of the primary, or since the link broke, in milliseconds.
    pub data_age_ms: u64,
    /// It has the data of its shard: a full copy was completed at least once, from the present primary or from one
    /// before it, or this process has itself written for the shard. False on a primary that has restarted without data.
    pub synced: bool,
    /// Loading a file or a full sync at this moment.
    pub loading: bool,
}

impl Default for DataStatus {
    fn default() -> Self {
        Self {
            replid: [b'0'; 40],
            replid2: ([b'0'; 40], 0),
            offset: 0,
            link_up: false,
            data_age_ms: 0,
            synced: false,
            loading: false,
        }
    }
}

/// What a client (or the server itself) asks of the agent.
#[derive(Clone, Debug)]
pub enum Request {
    /// `CLUSTER MEET`; `cluster_port` 0 means `port + 10000`. Answered when committed.
    Meet { host: String, port: u16, cluster_port: u16 },
    /// `CLUSTER ADDSLOTS`/`ADDSLOTSRANGE`.
    AddSlots(SlotSet),
    /// `CLUSTER DELSLOTS`/`DELSLOTSRANGE`.
    DelSlots(SlotSet),
    /// `CLUSTER FLUSHSLOTS`.
    FlushSlots,
    /// `CLUSTER REPLICATE` (the server checks that this node is empty).
    Replicate(NodeId),
    /// `CLUSTER REPLICATE <replica> CHAIN`: as above, but its data come from that replica.
    Chain(NodeId),
    /// `CLUSTER REPLICATE NO ONE`: the primary of a new shard without slots.
    Detach,
    /// `CLUSTER FORGET`.
    Forget(NodeId),
    /// `CLUSTER RESET`. `as_replica`: the server saw a replica; one that is a primary by now is not reset. Of others
    /// the server checks that they are empty.
    Reset { hard: bool, as_replica: bool },
    /// `CLUSTER FAILOVER [FORCE|TAKEOVER]` on a replica.
    Failover(FailoverMode),
    /// This node is about to end: hand leadership of the roots over, and the shard to its best replica, within
    /// this time. `Ok` if there is nothing to hand over, too.
    HandOver(std::time::Duration),
    /// `CLUSTER SET-CONFIG-EPOCH`.
    SetConfigEpoch(u64),
    /// `CLUSTER BUMPEPOCH`.
    BumpEpoch,
    /// `CLUSTER SETSLOT <slot> ...`.
    SetSlot(Slot, SetSlot),
    /// `CONFIG SET cluster-root-count`: how many roots the whole cluster keeps.
    SetRootCount(u8),
    /// Wait until this node has every topology change that was committed before the request.
    ReadBarrier,
    /// `CLUSTER EXPLAIN`.
    Explain(Question),
    /// `CLUSTER LINKS`.
    Links,
    /// The replication offsets of all nodes, as a root has last heard of them.
    Offsets,
    /// Forward a published message to the other nodes; answered at once, delivery is best effort.
    Publish { channel: Arc<[u8]>, message: Arc<[u8]>, sharded: bool },
    /// `CLUSTER COUNT-FAILURE-REPORTS`: how many roots count this node as failed.
    CountFailureReports(NodeId),
}

/// `CLUSTER FAILOVER` variants.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum FailoverMode {
    /// Writes pause at the primary until the replica has all of them.
    Planned,
    /// Without the primary's consent.
    Force,
    /// As `Force`, and even without a complete copy of the data. A majority of the roots is needed all the same.
    Takeover,
}

/// `CLUSTER SETSLOT` variants.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum SetSlot {
    /// Give the slot to this node.
    Node(NodeId),
    /// Forget a half-done migration.
    Stable,
    /// The slot leaves for this node.
    Migrating(NodeId),
    /// The slot comes from this node.
    Importing(NodeId),
}

/// What a request came to; refusals are `Err(final client text)`.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Answer {
    /// Done and committed; this node's map includes it.
    Ok,
    /// `BUMPEPOCH`: the epoch, and whether it was bumped.
    Epoch { epoch: u64, bumped: bool },
    /// `COUNT-FAILURE-REPORTS`.
    Count(u64),
    /// `Explain`: what the leading root says, and what this node knows of itself.
    Explained(Box<Explanation>, Box<OwnView>),
    /// `Links`.
    Links(Vec<LinkInfo>),
    /// `Offsets`.
    Offsets(Vec<(NodeId, u64)>),
    /// `ReadBarrier`: the version that this node has now reached.
    Version(TopologyVersion),
}

/// What a node knows of its own right to write, for `CLUSTER EXPLAIN`. Durations in milliseconds.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct OwnView {
    /// By its map this process is the primary of its shard.
    pub claims: bool,
    /// It has had its promises once in this reign.
    pub is_active: bool,
    /// It may write for so long; `u64::MAX`: without an end.
    pub lease_left_ms: u64,
    /// Promises of a majority of the roots last so long.
    pub roots_left_ms: u64,
    /// Promises of all replicas that could be promoted last so long; `u64::MAX`: there is none.
    pub replicas_left_ms: u64,
    /// What it has promised itself, as a replica, keeps it from writing for so long.
    pub bound_ms: u64,
    /// A majority of the roots has answered within the last lease.
    pub has_quorum: bool,
    /// It is on its way into another cluster and does not write meanwhile.
    pub is_joining: bool,
    /// Its map.
    pub version: TopologyVersion,
    /// The roots, as this node sees them.
    pub roots: Vec<OwnRoot>,
}

/// One root, as a node sees it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct OwnRoot {
    /// The root.
    pub node: NodeId,
    /// When it last answered; `None`: never to this process.
    pub answered_ms_ago: Option<u64>,
    /// Its promise for the shard of this node lasts so long.
    pub promise_left_ms: Option<u64>,
}

/// A snapshot for `INFO`, `CLUSTER INFO` and `CLUSTER LINKS`.
#[derive(Clone, Debug, Default)]
pub struct AgentInfo {
    /// This node's id.
    pub me: Option<NodeId>,
    /// The cluster to which the node belongs (an island has one, too).
    pub cluster: Option<ClusterId>,
    /// Leading root, if known.
    pub leader: Option<NodeId>,
    /// Raft term, 0 on a node that is no root.
    pub term: u64,
    /// This node is a voter of the root group.
    pub is_root: bool,
    /// This node leads the root group.
    pub is_leader: bool,
    /// The roots of the cluster.
    pub roots: Vec<NodeId>,
    /// They are being exchanged: a majority of those before has to agree as well, until a lease later.
    pub roots_changing: bool,
    /// Last applied log index (roots only).
    pub applied: u64,
    /// Members of the root group: an index and the digest of all entries up to it. Members of one group that have
    /// applied as many entries show the same digest.
    pub digest: Option<(u64, u64)>,
    /// Version of the map in use.
    pub version: u64,
    /// A majority of the roots answers this node.
    pub quorum: bool,
    /// Why not, or empty.
    pub quorum_reason: String,
    /// The verdict that was last given to the data plane.
    pub cluster_ok: bool,
    /// End of the write lease, `CLOCK_BOOTTIME` milliseconds.
    pub lease_until_ms: u64,
    /// Cluster messages by kind: name, sent, received. Only kinds that occurred.
    pub messages: Vec<(&'static str, u64, u64)>,
    /// Published messages that were dropped because a peer's queue was full.
    pub publish_dropped: u64,
}

/// One cluster link.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct LinkInfo {
    /// Opened by this node.
    pub outbound: bool,
    /// The node at the other end.
    pub node: NodeId,
    /// Unix milliseconds of its creation.
    pub create_time_ms: u64,
    /// Bytes allocated for its send queue.
    pub send_buffer_allocated: u64,
    /// Bytes waiting to be sent.
    pub send_buffer_used: u64,
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// State file or roots' files.
    #[error("cluster state in {path}: {source}")]
    State {
        /// The file or folder.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The cluster port.
    #[error("cluster port {port}: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The root group's log or snapshot cannot be used.
    #[error("root group: {0}")]
    Raft(String),
    /// The secret in the state file cannot be used.
    #[error("the node's key: {0}")]
    Credential(String),
    /// The runtime or its thread could not be created.
    #[error("cluster thread: {0}")]
    Thread(std::io::Error),
}
