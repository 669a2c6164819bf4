//! Waiting for sockets, and bytes in.

use std::io::ErrorKind;

use crate::hub::Key;
use crate::metrics::CloseReason;
use crate::net::{Direction, Ready, Token};

use super::Core;
use super::session::{Awaits, Stage};

/// Reads of one session in a row before others get their turn.
const READS_PER_TURN: usize = 4;
/// What of a key's generation fits a token beside slot and direction.
const GENERATION_BITS: u32 = u32::MAX >> 1;

/// The name of a session's wait.
fn token(key: Key, direction: Direction) -> Token {
    let generation = u64::from(key.generation & GENERATION_BITS);
    Token::new((generation << 32) | u64::from(key.slot), direction)
}

impl Core {
    /// Deals with sockets that are ready, until there are none, `most` of them at the most. True if there may
    /// be more.
    pub(super) fn serve_sockets(&mut self, scratch: &mut [u8], most: usize) -> bool {
        let mut served = 0;
        let mut ready = std::mem::take(&mut self.ready_sockets);
        while served < most && self.sockets.take(&mut ready, most - served) {
            served += ready.len();
            let last = ready.len().saturating_sub(1);
            for (index, wait) in ready.drain(..).enumerate() {
                self.is_last_ready = index == last;
                self.serve_socket(wait, scratch);
            }
        }
        self.is_last_ready = false;
        self.ready_sockets = ready;
        served >= most
    }

    fn serve_socket(&mut self, wait: Ready, scratch: &mut [u8]) {
        // A session that ended meanwhile; its place may have another by now.
        let slot = wait.token.id() as u32;
        let Some(key) = self.sessions.key_at(slot) else {
            return;
        };
        let direction = wait.token.direction();
        if wait.token != token(key, direction) {
            return;
        }
        if !wait.waited {
            return self.broken(key);
        }
        match direction {
            Direction::Read => self.readable(key, scratch),
            Direction::Write => self.flush(key),
        }
    }

    /// Waits for a session's bytes, unless that is being done or it may not be read now. What the
    /// kernel holds already counts.
    pub(super) fn watch(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.is_watched || session.is_paused() {
            return;
        }
        session.is_watched = true;
        let Some(socket) = &session.socket else {
            return;
        };
        let token = token(key, Direction::Read);
        if self.sockets.wait(socket, token).is_err() {
            self.broken(key);
        }
    }

    /// Waits until the kernel takes more of a session's outbox.
    pub(super) fn watch_for_room(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let Some(socket) = &session.socket else {
            return;
        };
        let token = token(key, Direction::Write);
        if self.sockets.wait(socket, token).is_err() {
            self.broken(key);
        }
    }

    /// A session's socket cannot be waited for; without that it cannot go on.
    pub(super) fn broken(&mut self, key: Key) {
        let reason = self.end_reason(key, CloseReason::PeerReset);
        self.end(key, reason, true);
    }

    fn readable(&mut self, key: Key, scratch: &mut [u8]) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.is_watched = false;
        }
        self.receive(key, scratch);
        self.watch(key);
    }

    /// Reads what a session's socket has and acts on it.
    pub(super) fn receive(&mut self, key: Key, scratch: &mut [u8]) {
        for _ in 0..READS_PER_TURN {
            let Some(session) = self.sessions.get_mut(key) else {
                return;
            };
            if session.is_paused() {
                return;
            }
            let Some(socket) = &session.socket else {
                return;
            };
            match socket.try_recv(scratch) {
                Ok(0) => return self.end_of_file(key),
                Ok(read) => {
                    self.received(key, &mut scratch[..read]);
                    if read < scratch.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    let reason = self.end_reason(key, CloseReason::PeerReset);
                    return self.end(key, reason, false);
                }
            }
        }
    }

    /// The client has ended its side. It may still read: what was answered to it goes out, without
    /// anybody waiting for bytes any more.
    fn end_of_file(&mut self, key: Key) {
        let reason = self.end_reason(key, CloseReason::EndOfFile);
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let is_open = matches!(
            session.stage,
            Stage::WebSocket(_) | Stage::Stream(_) | Stage::Poll(_)
        );
        if session.outbox.is_none() || is_open {
            return self.end(key, reason, false);
        }
        self.finish(key, reason);
        if let Some(session) = self.sessions.get_mut(key)
            && let Stage::Closing(closing) = &mut session.stage
        {
            closing.awaits = Awaits::LastFlush;
        }
    }

    fn received(&mut self, key: Key, bytes: &mut [u8]) {
        self.metrics.received_bytes.add(bytes.len() as u64);
        let now_s = self.now_s();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.vitals.received(now_s);
        match &mut session.stage {
            Stage::Http(_) => self.receive_http(key, bytes),
            Stage::WebSocket(_) => self.receive_frames(key, bytes),
            Stage::Poll(_) => self.receive_ahead(key, bytes),
            Stage::Closing(closing) if closing.awaits == Awaits::CloseFrame => {
                self.await_close(key, bytes);
            }
            // This side has said everything, or has nothing to be told; what comes is thrown away.
            Stage::Closing(_) | Stage::Stream(_) | Stage::Polled(_) | Stage::Busy => {}
        }
    }
}
