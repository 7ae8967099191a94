// SPDX-License-Identifier: BSD-3-Clause
//! Messages to a worker, and connections that leave it for the replication runtime.

use super::Worker;
use super::connection::Fate;
use super::slab::Token;
use crate::net::mailbox::WorkerMessage;
use crate::net::poller::Poller as _;
use pando_session::{ClientId, Message};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Worker {
    pub(super) fn handle_message(&mut self, message: WorkerMessage) {
        match message {
            WorkerMessage::Session(message) => self.handle_session_message(message),
            WorkerMessage::New(accepted) => self.welcome(accepted),
            WorkerMessage::Adopt(connection) => self.own(connection),
            WorkerMessage::Listen => self.listen(),
            WorkerMessage::Flushed(done) => self.flushed.push(done),
            WorkerMessage::Stop => self.is_stopping = true,
        }
    }

    fn handle_session_message(&mut self, message: Message) {
        match message {
            Message::Push { client, bytes } => self.push(client, &bytes),
            Message::PushAll { clients, bytes } => {
                for client in clients {
                    self.push(client, &bytes);
                }
            }
            Message::Kill { client } => {
                let Some(token) = self.token_of(client, || Message::Kill { client }) else { return };
                let Some(mut connection) = self.slab.take(token) else { return };
                // Replies of this batch may be among what it is sent: see `flush_dirty`.
                if connection.wrote.is_none_or(|reign| self.server.engine.may_acknowledge(reign)) {
                    connection.fate = Fate::CloseAfterFlush;
                    self.flush(token, &mut connection);
                }
                connection.fate = Fate::CloseNow;
                self.put_back_or_close(token, connection);
            }
            Message::Resume { client, ticket, bytes } => self.finish_async(client, ticket, &bytes),
            Message::Unblock { client, ticket, with_error } => self.unblock(client, ticket, with_error),
            Message::Served(served) => self.finish_served(&served),
            Message::Retry { client, ticket } => self.retry_blocked(client, ticket),
            Message::ServeSlot(slot) => self.serve_slot(slot),
            Message::Recheck { role_changed } => self.recheck_blocked(role_changed),
            Message::Unpause | Message::AcksChanged => self.due.is_now = true,
        }
    }

    /// Adds bytes to what a client is sent.
    fn push(&mut self, client: ClientId, bytes: &Arc<[u8]>) {
        let Some(token) = self.token_of(client, || Message::Push { client, bytes: bytes.clone() }) else { return };
        let Some(mut connection) = self.slab.take(token) else { return };
        self.lend_output(&mut connection);
        connection.output.raw(bytes);
        self.check_output_limit(&mut connection);
        self.mark_dirty(token, &mut connection);
        self.put_back_or_close(token, connection);
    }

    /// The client's token. A client that has moved gets its message there.
    fn token_of(&self, client: ClientId, message: impl Fn() -> Message) -> Option<Token> {
        let token = self.by_client.get(&client).copied();
        if token.is_none()
            && let Some(shared) = self.server.engine.clients.get(client)
        {
            let worker = shared.worker.load(Relaxed);
            if worker != self.index {
                self.server.mail.send(worker, WorkerMessage::Session(message()));
            }
        }
        token
    }

    /// Gives the sockets of replicas away.
    pub(super) fn do_hand_offs(&mut self) {
        while let Some((token, hand_off)) = self.hand_offs.pop() {
            let Some(connection) = self.slab.get_mut(token) else { continue };
            let unsent = connection.output.as_slice()[connection.output_sent..].to_vec();
            let Some(connection) = self.slab.remove(token) else { continue };
            if self.poller.remove(connection.fd.as_fd()).is_err() {
                self.close(token, connection);
                continue;
            }
            let fd = match connection.fd.as_fd().try_clone_to_owned() {
                Ok(fd) => fd,
                Err(_) => {
                    self.close(token, connection);
                    continue;
                }
            };
            let (client, peer, input) = (connection.id, connection.peer.clone(), connection.input.clone());
            self.server.hand_off(crate::server::HandedOff { fd, peer, client, hand_off, input, unsent });
            self.close(token, connection);
        }
    }
}
