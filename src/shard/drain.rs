//! The orderly stop: sessions are closed a few at a time.

use std::ops::Range;

use crate::hub::{Framing, Key};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::Disconnect;
use crate::proto::close::CloseCode;
use crate::proto::envelope;
use crate::proto::frame::Opcode;
use crate::proto::http::append_chunk;
use crate::proto::sse;

use super::session::Stage;
use super::{Core, Reply};

/// How sessions are sent away, and told to come back.
pub(super) struct Farewell {
    /// To those that speak the Centrifuge protocol.
    disconnect: Disconnect,
    /// To the others, with Close 1001.
    text: &'static str,
    reason: CloseReason,
    /// Requests that are being received are not waited for.
    is_late: bool,
}

impl Farewell {
    /// The server stops.
    pub const DRAINED: Self = Self {
        disconnect: Disconnect::Shutdown,
        text: "server is going away",
        reason: CloseReason::GoingAway,
        is_late: false,
    };
    /// The connection has been there as long as it may.
    pub const AGED: Self = Self {
        disconnect: Disconnect::ForceReconnect,
        text: "connection is old enough",
        reason: CloseReason::MaxAge,
        is_late: false,
    };
}

/// When clients come back that are told when to, in milliseconds.
const RETRY_AFTER_MS: Range<u32> = 100..5_000;

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

    /// Begins to close up to `count` sessions that are not closing yet. Requests that are being received
    /// may be completed unless `is_late`.
    pub(super) fn close_some(&mut self, count: usize, is_late: bool) {
        let places = self.sessions.places() as u32;
        let farewell = Farewell {
            is_late,
            ..Farewell::DRAINED
        };
        let mut closed = 0;
        for _ in 0..places {
            if closed == count {
                break;
            }
            self.drain_slot = (self.drain_slot + 1) % places;
            if let Some(key) = self.sessions.key_at(self.drain_slot) {
                closed += usize::from(self.send_away(key, &farewell));
            }
        }
    }

    fn retry_after_ms(&mut self) -> u32 {
        self.random.u32(RETRY_AFTER_MS)
    }

    /// For `Retry-After` where a connection ends because the server stops, in whole seconds.
    pub(super) fn retry_after_s(&mut self) -> u32 {
        self.retry_after_ms().div_ceil(1_000)
    }

    /// Tells an event stream's client when to come back.
    fn say_retry(&mut self, key: Key) {
        match self.stage(key) {
            Some(Stage::Stream(stream)) if stream.framing == Framing::Events => {}
            _ => return,
        }
        let mut event = Vec::new();
        sse::append_retry(&mut event, self.retry_after_ms());
        let mut chunk = Vec::new();
        append_chunk(&mut chunk, &event);
        self.send(key, chunk);
    }

    /// Tells a client of the plain dialect that its connection ends, if its form has words for that.
    fn say_goodbye(&mut self, key: Key, text: &str) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        if !session.is_told_all() {
            return;
        }
        let retry_after_ms = self.retry_after_ms();
        let mut message = Vec::new();
        let code = CloseCode::GoingAway.code();
        envelope::append_disconnect(&mut message, code, text, Some(retry_after_ms));
        self.say_as(key, Opcode::Text, &message);
    }

    /// Begins to close a session. False if there is nothing to do, or not yet.
    pub(super) fn send_away(&mut self, key: Key, farewell: &Farewell) -> bool {
        let (reason, is_late) = (farewell.reason, farewell.is_late);
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let is_client = session.client().is_some();
        match &mut session.stage {
            Stage::WebSocket(_) | Stage::Stream(_) | Stage::Polled(_) if is_client => {
                self.say_retry(key);
                self.disconnect(key, &farewell.disconnect, reason);
                true
            }
            Stage::Poll(_) => {
                self.drain_poll(key);
                true
            }
            Stage::Stream(_) => {
                self.say_goodbye(key, farewell.text);
                self.say_retry(key);
                self.end_stream(key, reason);
                true
            }
            Stage::WebSocket(_) => {
                self.say_goodbye(key, farewell.text);
                self.close(key, CloseCode::GoingAway, farewell.text, reason);
                true
            }
            Stage::Http(http) if http.is_idle() => {
                self.finish(key, reason);
                true
            }
            Stage::Http(http) if is_late && !http.is_paused() => {
                let retry_s = self.retry_after_s().to_string();
                let reply = Reply::text(503, farewell.text).with("Retry-After", retry_s);
                let reply = reply.closing();
                self.reply_and_finish(key, &reply, reason);
                true
            }
            Stage::Http(http) => {
                http.is_last = true;
                false
            }
            Stage::Closing(_) | Stage::Polled(_) | Stage::Busy => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::shard::testing::with_cores;

    #[test]
    fn a_request_that_does_not_come_to_its_end_ends_with_the_window() {
        with_cores(1, Config::default(), |bed| {
            let mut client = bed.connect(0);
            let request =
                b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab";
            bed.say(&mut client, request);
            let core = &mut bed.cores[0];
            core.begin_drain();
            core.close_some(10, false);
            assert_eq!(core.metrics.request_body_bytes.get(), 2);
            core.close_some(10, true);
            assert_eq!(core.metrics.request_body_bytes.get(), 0);
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 503 "));
            assert!(head.contains("Retry-After: "));
            bed.pass_seconds(6);
            assert_eq!(bed.cores[0].session_count(), 0);
        });
    }
}
