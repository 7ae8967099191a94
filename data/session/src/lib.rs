// SPDX-License-Identifier: BSD-3-Clause
//! One client without its socket: the checks before a command, its execution under the slot locks,
//! and what follows from it (log, WATCH, notifications), transactions and Pub/Sub.
//!
//! ```text
//!  server: parse ──► Session::execute ──► checks (dispatch) ──► lock slots ──► handler ──► settle ──► unlock
//!                          │                   │                                  (log, WATCH, events)
//!                          ▼                   ▼
//!                        Next             refusal: error line, Suspend
//! ```
//!
//! Not here: sockets, event loops, configuration files, the log itself, and the commands on keys.
//! Called by apps/server (workers) and data/replication (apply, offsets).

mod acks;
mod apply;
mod blocked;
mod client_command;
mod client_filter;
mod clients;
mod cluster_view;
mod connection;
mod context;
mod dispatch;
mod engine;
mod eviction;
mod execute;
mod gate;
mod help;
mod latency;
mod next;
mod ports;
mod pubsub;
mod pubsub_commands;
mod redirect;
mod scratch;
mod serve;
mod session;
mod settings;
mod stats;
mod ticks;
mod transaction;
mod wait;
mod watch;

pub use acks::ReplicaAcks;
pub use apply::{ApplyError, ApplySession};
pub use blocked::{Served, Unblocked};
pub use client_command::describe as describe_client;
pub use clients::{ClientInfo, ClientKind, ClientNames, ClientRegistry, ClientShared};
pub use cluster_view::ClusterView;
pub use context::{SessionCx, SessionFn};
pub use engine::{Engine, EngineConfig, PublishHook, SERVER_VERSION};
pub use eviction::{Evicting, Eviction};
pub use gate::{Gate, PauseMode, PausePurpose, Role, boot_ms};
pub use next::{HandOff, Next, Suspend};
pub use ports::{ClientId, Host, LogSink, Mailbox, Message};
pub use pubsub::PubSub;
pub use scratch::WorkerScratch;
pub use session::Session;
pub use settings::{EndpointType, Settings};
pub use stats::{CommandStat, Counter, Stats, Totals, WorkerStats};
