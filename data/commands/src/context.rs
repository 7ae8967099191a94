// SPDX-License-Identifier: BSD-3-Clause
//! `Ctx`: everything a handler may touch. Built by the session layer under the slot locks that cover all keys of the
//! command. No sockets, no wall clock, no log: `now_ms` is fixed for the command (and for a whole transaction).

use crate::effects::{Effects, EventClass};
use crate::error::CommandError;
use pando_keyspace::{DbIndex, LockedSlots};
use pando_resp::{Args, ReplyBuf};
use pando_values::Limits;

/// A handler of a data command. The reply is complete when it returns `Ok`; on `Err` the caller removes what was written.
pub type DataFn = fn(&mut Ctx<'_, '_>, Args<'_>) -> Result<(), CommandError>;

/// Settings and role that change how commands behave; a copy of the server's, taken for a batch of commands.
#[derive(Clone, Debug)]
pub struct ExecEnv {
    /// A primary deletes expired keys that it meets; a replica only hides them.
    pub is_primary: bool,
    /// CLIENT PAUSE holds back writes: expired keys are hidden and stay.
    pub keeps_expired: bool,
    /// The command comes from a primary's log or from a file: size limits are off and past expire times are stored. Such a
    /// caller also calls `LockedSlots::set_now(0)`, because the log decides which keys exist, not the clock.
    pub is_applying: bool,
    /// Longest string a client may build.
    pub proto_max_bulk_len: u64,
    /// The eviction policy counts access frequency (OBJECT FREQ) and not idle time.
    pub lfu: bool,
    /// Cluster mode: SWAPDB is refused.
    pub cluster_enabled: bool,
    /// Number of databases.
    pub databases: u16,
    /// CLIENT NO-TOUCH: lookups leave access times alone (TOUCH does not).
    pub no_touch: bool,
    /// lazyfree-lazy-expire: log UNLINK, not DEL, for expired keys.
    pub lazy_expire: bool,
    /// lazyfree-lazy-user-del: DEL frees in the background.
    pub lazy_user_del: bool,
    /// rdbcompression: DUMP packs strings.
    pub rdb_compression: bool,
    /// rdb-version-check relaxed: RESTORE takes payloads of versions that are not known.
    pub rdb_version_relaxed: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: RESTORE takes damaged payloads, if their content is valid.
    pub skip_checksum: bool,
    /// lazyfree-lazy-server-del: what a command deletes on the way is logged as UNLINK, not DEL.
    pub lazy_server_del: bool,
    /// lazyfree-lazy-user-flush: FLUSHALL without an option frees in the background.
    pub lazy_user_flush: bool,
    /// Up to which sizes values stay packed.
    pub limits: Limits,
    /// Event classes to record; `NONE` skips the work.
    pub notify: EventClass,
    /// The command may wait; not in EXEC, nor while a log is applied.
    pub may_block: bool,
    /// The command has waited and is called again.
    pub is_woken: bool,
    /// Someone reads the log (replica, file, migration): rewritten commands have to be encoded.
    pub log: bool,
    /// Record changed keys (some client watches or tracks keys).
    pub record_modified: bool,
}

impl Default for ExecEnv {
    fn default() -> ExecEnv {
        ExecEnv {
            is_primary: true,
            keeps_expired: false,
            is_applying: false,
            proto_max_bulk_len: 512 * 1024 * 1024,
            lfu: false,
            cluster_enabled: false,
            databases: 16,
            no_touch: false,
            lazy_expire: true,
            lazy_user_del: true,
            rdb_compression: true,
            rdb_version_relaxed: false,
            skip_checksum: false,
            lazy_server_del: true,
            lazy_user_flush: true,
            limits: Limits::default(),
            notify: EventClass::NONE,
            may_block: false,
            is_woken: false,
            log: true,
            record_modified: true,
        }
    }
}

/// The view of one command. See the head of this file.
pub struct Ctx<'a, 'k> {
    /// The locked slots.
    pub slots: &'a mut LockedSlots<'k>,
    /// The client's database.
    pub db: DbIndex,
    /// Where the reply goes.
    pub reply: &'a mut ReplyBuf,
    /// What else happened.
    pub effects: &'a mut Effects,
    /// Time of the command, Unix milliseconds.
    pub now_ms: u64,
    /// Settings.
    pub env: &'a ExecEnv,
}
