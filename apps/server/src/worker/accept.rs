// SPDX-License-Identifier: BSD-3-Clause
//! New clients: who may stay, and which worker gets them.

use super::connection::Connection;
use super::{OWN, Worker};
use crate::net::listener::{Accepted, send};
use crate::net::mailbox::WorkerMessage;
use crate::net::poller::{Poller, Watch};
use pando_session::{ClientInfo, Session};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::Ordering::Relaxed;

/// Clients accepted in one turn, so that those who are connected are not kept waiting.
const ACCEPTS_PER_TURN: usize = 64;

const DENIED: &str = "-DENIED Running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers, you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting from the same host the server is running, however MAKE SURE it's not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Set up an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n";
const TOO_MANY: &str = "-ERR max number of clients reached\r\n";

impl Worker {
    /// Watches the server's listening sockets. Those that were closed are forgotten by themselves.
    pub(super) fn listen(&mut self) {
        let server = self.server.clone();
        for (index, listener) in server.listeners.lock().iter().enumerate() {
            // A socket that stayed is watched already, under a number that may be another's by now: it is told anew.
            let _ = self.poller.remove(listener.as_fd());
            if let Err(error) = self.poller.add(listener.as_fd(), OWN | (index as u64 + 1), Watch::ReadLevel) {
                tracing::error!("Cannot watch a listening socket: {error}");
            }
        }
    }

    pub(super) fn accept_from(&mut self, index: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match self.server.listeners.lock().get(index) {
                Some(listener) => listener.accept(self.settings.tcp_keepalive_s),
                None => return,
            };
            match accepted {
                Ok(Some(accepted)) => self.admit(accepted),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!("Accepting client connection: {}", crate::config::os_reason(&error));
                    return;
                }
            }
        }
    }

    /// Decides whether a client may stay and hands it to a worker.
    fn admit(&mut self, accepted: Accepted) {
        tracing::debug!("Accepted {}", accepted.peer.remote_text());
        self.server.engine.stats.connections_received.fetch_add(1, Relaxed);
        let refusal = if self.server.clients.load(Relaxed) >= self.settings.maxclients as usize {
            Some(TOO_MANY)
        } else if self.settings.protected_mode && !self.settings.has_password && !accepted.peer.is_local() {
            Some(DENIED)
        } else {
            None
        };
        if let Some(text) = refusal {
            self.stats.rejected.add(1);
            // The client may be gone already.
            let _ = send(accepted.fd.as_fd(), text.as_bytes());
            return;
        }
        self.server.clients.fetch_add(1, Relaxed);
        let worker = self.pick_worker();
        self.server.mail.slot(worker).clients.fetch_add(1, Relaxed);
        if worker == self.index {
            self.welcome(accepted);
        } else {
            self.server.mail.send(worker, WorkerMessage::New(accepted));
        }
    }

    /// Takes a new client.
    pub(super) fn welcome(&mut self, accepted: Accepted) {
        let Accepted { fd, peer } = accepted;
        let info = ClientInfo {
            addr: peer.remote_text(),
            laddr: peer.local_text(),
            fd: fd.as_raw_fd(),
            worker: self.index,
            is_tls: false,
            now_ms: self.scratch.now_ms(),
        };
        let session = Session::new(&self.server.engine, info);
        let id = session.shared.id;
        self.own(Box::new(Connection::new(fd, peer, id, session, self.now_ms)));
    }

    /// Starts to serve a connection.
    pub(super) fn own(&mut self, connection: Box<Connection>) {
        let id = connection.id;
        let is_suspended = connection.suspend.is_some();
        let token = self.slab.insert(connection);
        self.by_client.insert(id, token);
        let Some(mut connection) = self.slab.take(token) else { return };
        if let Err(error) = self.poller.add(connection.fd.as_fd(), token.raw(), Watch::Edges) {
            tracing::warn!("Cannot watch a client's socket: {error}");
            connection.fate = super::Fate::CloseNow;
        }
        if connection.session.shared.killed.load(Relaxed) {
            // The message that says so may have come here before the connection did.
            connection.fate = super::Fate::CloseNow;
        }
        if is_suspended {
            self.suspended.insert(token.raw());
        }
        if connection.output_pending() > 0 {
            self.mark_dirty(token, &mut connection);
        }
        // What arrived before we watched makes an edge as well, so nothing is missed.
        self.put_back_or_close(token, connection);
    }
}
