// SPDX-License-Identifier: BSD-3-Clause
//! Connections of one worker by number. A number is reused, its generation is not: an event for a connection that was
//! closed earlier in the same batch finds nothing.

use super::connection::Connection;

/// Number and generation of a connection within its worker.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Token(u64);

impl Token {
    /// As the poller keeps it.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// Back from the poller.
    pub fn from_raw(raw: u64) -> Token {
        Token(raw)
    }

    fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Slab {
    entries: Vec<(u32, Option<Box<Connection>>)>,
    free: Vec<u32>,
}

impl Slab {
    /// Keeps a connection.
    pub fn insert(&mut self, connection: Box<Connection>) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.1 = Some(connection);
        Token(u64::from(entry.0) << 32 | u64::from(index))
    }

    /// The connection, unless it is gone.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut Connection> {
        let (generation, connection) = self.entries.get_mut(token.index())?;
        if u64::from(*generation) == token.0 >> 32 { connection.as_deref_mut() } else { None }
    }

    /// Takes the connection out for a while; its token stays its own until `put_back` or `forget`.
    pub fn take(&mut self, token: Token) -> Option<Box<Connection>> {
        self.get_mut(token)?;
        self.entries[token.index()].1.take()
    }

    /// Undoes `take`.
    pub fn put_back(&mut self, token: Token, connection: Box<Connection>) {
        self.entries[token.index()].1 = Some(connection);
    }

    /// After `take`: the token finds nothing from now on.
    pub fn forget(&mut self, token: Token) {
        // The top bit of a token marks the worker's own descriptors.
        let generation = &mut self.entries[token.index()].0;
        *generation = (*generation + 1) & 0x7fff_ffff;
        self.free.push(token.index() as u32);
    }

    /// Takes the connection out; its token finds nothing from now on.
    pub fn remove(&mut self, token: Token) -> Option<Box<Connection>> {
        let connection = self.take(token)?;
        self.forget(token);
        Some(connection)
    }

    /// Tokens of all connections.
    pub fn tokens(&self) -> Vec<Token> {
        let with_index = self.entries.iter().enumerate();
        with_index
            .filter(|(_, (_, connection))| connection.is_some())
            .map(|(index, (generation, _))| Token(u64::from(*generation) << 32 | index as u64))
            .collect()
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
