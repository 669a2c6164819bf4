//! The orderly stop: sessions are closed a few at a time.

use crate::hub::Key;
use crate::metrics::CloseReason;
use crate::proto::close::CloseCode;

use super::Core;
use super::session::Stage;

impl Core {
    /// From now on no connection outlives its present exchange.
    pub(super) fn begin_drain(&mut self) {
        self.is_draining = true;
    }

    /// True once [`Self::begin_drain`] was called.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Sessions that are still there.
    pub(super) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Begins to close up to `count` sessions that are not closing yet.
    pub(super) fn close_some(&mut self, count: usize) {
        let places = self.sessions.places() as u32;
        let mut closed = 0;
        for _ in 0..places {
            if closed == count {
                break;
            }
            self.drain_slot = (self.drain_slot + 1) % places;
            if let Some(key) = self.sessions.key_at(self.drain_slot) {
                closed += usize::from(self.drain_session(key));
            }
        }
    }

    /// False if there was nothing to do for this session.
    fn drain_session(&mut self, key: Key) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        match &mut session.stage {
            Stage::WebSocket(_) => {
                let text = "server is going away";
                self.close(key, CloseCode::GoingAway, text, CloseReason::GoingAway);
                true
            }
            Stage::Http(http) if http.is_idle() => {
                self.finish(key, CloseReason::GoingAway);
                true
            }
            Stage::Http(http) => {
                http.is_last = true;
                false
            }
            Stage::Closing(_) | Stage::Busy => false,
        }
    }
}
