//! Bytes in.

use std::io::ErrorKind;

use crate::hub::Key;
use crate::metrics::CloseReason;

use super::Core;
use super::session::{Awaits, Stage};

/// Reads of one session in a row before others get their turn.
const READS_PER_TURN: usize = 4;

/// What a session's task does next.
pub(super) enum Next {
    /// Wait for bytes.
    Read,
    /// Wait until the session may be read again.
    Pause,
    /// The session is over.
    End,
}

impl Core {
    /// Reads what a session's socket has and acts on it.
    pub(super) fn receive(&mut self, key: Key, scratch: &mut [u8]) -> Next {
        for _ in 0..READS_PER_TURN {
            let Some(session) = self.sessions.get_mut(key) else {
                return Next::End;
            };
            if session.is_paused() {
                return Next::Pause;
            }
            match session.stream.try_recv(scratch) {
                Ok(0) => {
                    self.end_of_file(key);
                    return Next::End;
                }
                Ok(read) => {
                    self.received(key, &mut scratch[..read]);
                    if read < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    let reason = self.end_reason(key, CloseReason::PeerReset);
                    self.end(key, reason, false);
                    return Next::End;
                }
            }
        }
        match self.sessions.get_mut(key) {
            None => Next::End,
            Some(session) if session.is_paused() => Next::Pause,
            Some(_) => Next::Read,
        }
    }

    /// Whether a paused session may be read again; otherwise `waker` is woken when it may.
    pub(super) fn is_resumed(&mut self, key: Key, waker: &std::task::Waker) -> bool {
        match self.sessions.get_mut(key) {
            Some(session) if session.is_paused() => {
                session.set_waker(waker.clone());
                false
            }
            _ => true,
        }
    }

    /// The client has ended its side. It may still read: what was answered to it goes out, without
    /// anybody waiting for bytes any more.
    fn end_of_file(&mut self, key: Key) {
        let reason = self.end_reason(key, CloseReason::EndOfFile);
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let is_open = matches!(session.stage, Stage::WebSocket(_));
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
            Stage::Closing(closing) if closing.awaits == Awaits::CloseFrame => {
                self.await_close(key, bytes);
            }
            // This side has said everything; what still comes is thrown away.
            Stage::Closing(_) | Stage::Busy => {}
        }
    }
}
