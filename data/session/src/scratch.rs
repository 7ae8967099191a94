// SPDX-License-Identifier: BSD-3-Clause
//! What a worker reuses from command to command, so that the common path allocates nothing, and
//! its view of the time.

use crate::cluster_view::ClusterView;
use crate::engine::Engine;
use crate::settings::Settings;
use crate::stats::WorkerStats;
use crate::ticks::{Tick, Ticks};
use arc_swap::{ArcSwap, ArcSwapOption, Cache};
use pando_commands::{Effects, ExecEnv, KeyVec};
use pando_keyspace::HashedKey;
use pando_topology::Slot;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// See the head of this file. One per worker thread; also one per thread that applies a stream.
pub struct WorkerScratch {
    pub(crate) effects: Effects,
    pub(crate) keys: KeyVec,
    pub(crate) slots: Vec<Slot>,
    pub(crate) record: Vec<u8>,
    pub(crate) log: Vec<u8>,
    pub(crate) env: ExecEnv,
    pub(crate) stats: Arc<WorkerStats>,
    settings: Cache<Arc<ArcSwap<Settings>>, Arc<Settings>>,
    cluster: Cache<Arc<ArcSwapOption<ClusterView>>, Option<Arc<ClusterView>>>,
    seen_settings: Arc<Settings>,
    /// `latency-tracking`, as of the last command.
    pub(crate) tracks_latency: bool,
    own_settings: Arc<Settings>,
    /// What the worker computed of the next request's key; see [`WorkerScratch::set_hashed`].
    pub(crate) hashed: HashedKey,
    /// The one slot of the command, if the cluster's checks found it already.
    pub(crate) routed: Option<Slot>,
    wall_ms: u64,
    pub(crate) ticks: Ticks,
    base: Tick,
    pub(crate) last: Tick,
    frozen: bool,
    /// The reign in which the first write since the worker last looked was executed; see [`WorkerScratch::take_wrote`].
    pub(crate) wrote: Option<u64>,
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl WorkerScratch {
    /// For a new worker.
    pub fn new(engine: &Engine) -> Self {
        let ticks = Ticks::new();
        let now = ticks.now();
        Self {
            effects: Effects::default(),
            keys: KeyVec::new(),
            slots: Vec::new(),
            record: Vec::new(),
            log: Vec::new(),
            env: ExecEnv::default(),
            stats: engine.stats.register(),
            settings: Cache::new(engine.settings.clone()),
            cluster: Cache::new(engine.cluster.clone()),
            seen_settings: Arc::default(),
            tracks_latency: true,
            own_settings: Arc::default(),
            hashed: HashedKey::NONE,
            routed: None,
            wall_ms: wall_ms(),
            ticks,
            base: now,
            last: now,
            frozen: false,
            wrote: None,
        }
    }

    /// Reads the clocks; call it once per batch of requests.
    pub fn refresh_time(&mut self) {
        self.ticks.refresh(Instant::now());
        self.last = self.ticks.now();
        if !self.frozen {
            self.base = self.last;
            self.wall_ms = wall_ms();
        }
    }

    /// Tells what was computed of a key of the request that is executed next, to spare doing it again.
    #[inline]
    pub fn set_hashed(&mut self, key: HashedKey) {
        self.hashed = key;
    }

    /// Stops the wall clock at this time: tests, and streams that carry their own time.
    pub fn freeze_time(&mut self, now_ms: u64) {
        self.wall_ms = now_ms;
        self.frozen = true;
    }

    /// Unix milliseconds as of the end of the last command.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        if self.frozen { self.wall_ms } else { self.wall_ms + self.ticks.ns(self.base, self.last) / 1_000_000 }
    }

    /// If a write was executed since the last call, the reign in which the first one was. Then the worker must see
    /// [`Engine::may_acknowledge`] before it lets replies out.
    pub fn take_wrote(&mut self) -> Option<u64> {
        self.wrote.take()
    }

    /// The settings of this moment: a copy of this worker's own, so that counting references to it
    /// is not shared among cores.
    #[inline]
    pub fn settings(&mut self) -> &Arc<Settings> {
        let current = self.settings.load();
        if !Arc::ptr_eq(current, &self.seen_settings) {
            self.seen_settings = current.clone();
            self.copy_settings();
        }
        &self.own_settings
    }

    #[cold]
    fn copy_settings(&mut self) {
        let settings = Settings::clone(&self.seen_settings);
        self.env = ExecEnv {
            proto_max_bulk_len: settings.proto_max_bulk_len,
            lfu: settings.lfu,
            limits: settings.limits,
            cluster_enabled: settings.cluster_enabled,
            databases: settings.databases,
            lazy_expire: settings.lazyfree_lazy_expire,
            lazy_server_del: settings.lazyfree_lazy_server_del,
            lazy_user_del: settings.lazyfree_lazy_user_del,
            rdb_compression: settings.rdb_compression,
            rdb_version_relaxed: settings.rdb_version_relaxed,
            skip_checksum: settings.skip_checksum_validation,
            lazy_user_flush: settings.lazyfree_lazy_user_flush,
            notify: settings.notify_keyspace_events,
            ..ExecEnv::default()
        };
        self.tracks_latency = settings.latency_tracking;
        self.own_settings = Arc::new(settings);
    }

    /// The cluster of this moment.
    #[inline]
    pub fn cluster(&mut self) -> Option<&Arc<ClusterView>> {
        self.cluster.load().as_ref()
    }

    /// Brings the handlers' environment up to date; cheap when the settings did not change.
    #[inline]
    pub(crate) fn refresh_env(&mut self, is_primary: bool, no_touch: bool) {
        self.settings();
        self.env.is_primary = is_primary;
        self.env.keeps_expired = false;
        self.env.is_applying = false;
        self.env.may_block = false;
        self.env.is_woken = false;
        self.env.no_touch = no_touch;
    }
}
