//! Bytes out. Everything a session sends goes through its one outbox, and so does its end.

use std::io::{self, ErrorKind};
use std::net::Shutdown;

use bytes::Bytes;

use crate::hub::{Key, Outbox, OutboxLimits};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::Disconnect;
use crate::proto::close::CloseCode;
use crate::proto::frame::{Opcode, encode_close, encode_frame, frame_end};
use crate::proto::message::{MessageReader, Violation};

use super::Core;
use super::asks::Departure;
use super::burst::Cargo;
use super::session::{Awaits, Closing, Session, Stage};

impl Core {
    /// Sends `bytes`, or as much as the kernel takes and the rest later. A reader too slow for them is
    /// closed. Whoever calls must look the session up again after.
    pub(super) fn send(&mut self, key: Key, bytes: impl Into<Bytes>) {
        self.make_sends();
        let now_s = self.now_s();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let sent = Self::send_to(session, &bytes.into(), &self.limits.outbox, now_s);
        self.act_on_sent(key, sent);
    }

    /// Sends what was planned, now.
    pub(super) fn send_cargo(&mut self, key: Key, bytes: &Bytes, cargo: Cargo) {
        match cargo {
            Cargo::Publications(count) => self.send_publications(key, bytes, count, self.now_s()),
            Cargo::Other => self.send(key, bytes.clone()),
        }
    }

    /// Counts a send, and goes on as it came out.
    pub(super) fn note_sent(&mut self, key: Key, sent: Sent, cargo: Cargo) {
        if let Cargo::Publications(count) = cargo {
            self.metrics.sends.add(1);
            self.metrics.deliveries.add(u64::from(count));
            self.metrics.coalesced_sends.add(u64::from(count > 1));
        }
        self.act_on_sent(key, sent);
    }

    fn act_on_sent(&mut self, key: Key, sent: Sent) {
        match sent {
            Sent::All(sent) => self.metrics.sent_bytes.add(sent as u64),
            Sent::Part { sent, queued } => self.note_backlog(key, sent, queued),
            Sent::Queued(bytes) => self.queued(key, bytes),
            Sent::TooSlow => self.close_slow_reader(key),
            Sent::Broken => self.end(key, CloseReason::PeerReset, false),
        }
    }

    /// Bytes joined what waits for a session.
    pub(super) fn queued(&mut self, key: Key, bytes: usize) {
        self.metrics.outbox_bytes.add(bytes as u64);
        self.serve_receiver(key);
        self.reschedule(key);
    }

    /// Where bytes meet a session's socket or outbox, but for bursts. They are shared only if they must wait.
    pub(super) fn send_to(
        session: &mut Session,
        bytes: &Bytes,
        limits: &OutboxLimits,
        now_s: u32,
    ) -> Sent {
        session.vitals.sent(now_s);
        if let Some(outbox) = &mut session.outbox {
            let length = bytes.len();
            return match outbox.push(bytes.clone(), limits, now_s) {
                Ok(()) => Sent::Queued(length),
                Err(_) => Sent::TooSlow,
            };
        }
        let Some(socket) = &session.socket else {
            let length = bytes.len();
            session.outbox = Some(Box::new(Outbox::new(bytes.clone(), 0, limits, now_s)));
            return Sent::Queued(length);
        };
        let taken = socket.try_send(bytes);
        Self::note_taken(session, bytes, taken, limits, now_s)
    }

    /// The socket of a session without an outbox has taken so much of `bytes`, or none. The rest waits in an outbox.
    pub(super) fn note_taken(
        session: &mut Session,
        bytes: &Bytes,
        taken: io::Result<usize>,
        limits: &OutboxLimits,
        now_s: u32,
    ) -> Sent {
        let sent = match taken {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return Sent::Broken,
        };
        if sent == bytes.len() {
            return Sent::All(sent);
        }
        let queued = bytes.len() - sent;
        session.outbox = Some(Box::new(Outbox::new(bytes.clone(), sent, limits, now_s)));
        Sent::Part { sent, queued }
    }

    /// A message to one session, compressed if that was agreed and makes it smaller.
    pub(super) fn encode_for(&mut self, key: Key, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        if !self.encode_compressed(&mut frame, key, opcode, payload) {
            encode_frame(&mut frame, opcode, payload);
        }
        frame
    }

    fn encode_compressed(
        &mut self,
        frame: &mut Vec<u8>,
        key: Key,
        opcode: Opcode,
        payload: &[u8],
    ) -> bool {
        if payload.len() < self.shared.config.websocket.compression_min_bytes {
            return false;
        }
        let Some(Stage::WebSocket(websocket)) =
            self.sessions.get_mut(key).map(|session| &mut session.stage)
        else {
            return false;
        };
        let Some(deflate) = websocket.deflate_mut() else {
            return false;
        };
        match &mut deflate.server_window {
            Some(window) => self
                .scribe
                .deflater
                .encode_frame_with_takeover(frame, opcode, payload, window),
            None => {
                let bits = deflate.params.server_window_bits();
                self.scribe
                    .deflater
                    .encode_frame(frame, opcode, payload, bits)
            }
        }
    }

    /// A session's outbox has just come into being.
    pub(super) fn note_backlog(&mut self, key: Key, sent: usize, queued: usize) {
        self.metrics.sent_bytes.add(sent as u64);
        self.metrics.outbox_bytes.add(queued as u64);
        self.reschedule(key);
        self.watch_for_room(key);
    }

    /// Sends what waits, as much as the kernel takes, and waits for it to take the rest.
    pub(super) fn flush(&mut self, key: Key) {
        let now_s = self.now_s();
        loop {
            let Some(session) = self.sessions.get_mut(key) else {
                return;
            };
            let Some(outbox) = &mut session.outbox else {
                return;
            };
            let Some(front) = outbox.front() else {
                session.outbox = None;
                return self.flushed(key);
            };
            let Some(socket) = &session.socket else {
                return;
            };
            match socket.try_send(front) {
                Ok(sent) => {
                    outbox.advance(sent, &self.limits.outbox, now_s);
                    self.metrics.outbox_bytes.sub(sent as u64);
                    self.metrics.sent_bytes.add(sent as u64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.watch_for_room(key);
                }
                Err(_) => {
                    return self.end(key, self.end_reason(key, CloseReason::PeerReset), false);
                }
            }
        }
    }

    /// The outbox of a session is empty again.
    fn flushed(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        match &mut session.stage {
            Stage::Closing(closing) if closing.awaits == Awaits::Flush => {
                closing.awaits = Awaits::EndOfFile;
                if let Some(socket) = &session.socket {
                    socket.shutdown(Shutdown::Write);
                }
            }
            Stage::Closing(closing) if closing.awaits == Awaits::LastFlush => {
                let reason = closing.reason;
                self.end(key, reason, false);
            }
            Stage::WebSocket(_) => self.resume(key),
            Stage::Stream(_) => self.fetch_next(key),
            Stage::Http(_) => self.resume_http(key),
            _ => {}
        }
    }

    /// Closes a WebSocket: sends Close and waits for the client's, within the close timeout. Of what
    /// waits only the frame that is partly out still goes, so the Close never lands inside one.
    pub(super) fn close(&mut self, key: Key, code: CloseCode, text: &str, reason: CloseReason) {
        self.close_with(key, code.code(), text, reason);
    }

    /// The same, with any code.
    pub(super) fn close_with(&mut self, key: Key, code: u16, text: &str, reason: CloseReason) {
        // While its client is still known.
        self.unsubscribe(key, Departure::of(reason));
        let (reader, extras) = match self.sessions.get_mut(key).map(|s| &mut s.stage) {
            Some(Stage::WebSocket(websocket)) => (
                std::mem::take(&mut websocket.reader),
                websocket.extras.take(),
            ),
            _ => return,
        };
        self.begin_closing(key, reader, Awaits::CloseFrame, reason);
        self.send_close_frame(key, code, text);
        if let Some(mut extras) = extras {
            // The client's Close may be in what was put aside.
            self.await_close(key, &mut extras.unread);
        }
    }

    /// Fails a WebSocket whose client broke the protocol (RFC 6455 section 7.1.7): Close, then the end
    /// of this side; nothing the client sends is looked at any more.
    pub(super) fn fail(&mut self, key: Key, violation: Violation) {
        let reason = match violation.code {
            CloseCode::InvalidPayload => CloseReason::InvalidPayload,
            CloseCode::MessageTooBig => CloseReason::MessageTooBig,
            CloseCode::PolicyViolation => CloseReason::Policy,
            _ => CloseReason::ProtocolError,
        };
        self.begin_closing(key, MessageReader::new(), Awaits::Flush, reason);
        self.send_close_frame(key, violation.code.code(), violation.reason);
        self.finish(key, reason);
    }

    /// A reader was too slow.
    pub(super) fn close_slow_reader(&mut self, key: Key) {
        let reason = CloseReason::SlowConsumer;
        match self.sessions.get(key).map(|session| &session.stage) {
            Some(Stage::WebSocket(_)) if self.client(key).is_ok() => {
                self.disconnect(key, &Disconnect::Slow, reason);
            }
            Some(Stage::WebSocket(_)) => {
                self.close(key, CloseCode::SlowConsumer, "reading too slowly", reason);
            }
            Some(Stage::Polled(_)) => self.drop_polled(key),
            Some(Stage::Closing(closing)) => self.end(key, closing.reason, true),
            _ => self.end(key, reason, true),
        }
    }

    /// Answers the client's Close and ends this side of TCP first (RFC 6455 section 7.1.1).
    pub(super) fn answer_close(&mut self, key: Key, code: Option<u16>) {
        let payload = code.map(u16::to_be_bytes);
        let mut frame = Vec::new();
        crate::proto::frame::encode_frame(
            &mut frame,
            crate::proto::frame::Opcode::Close,
            payload.as_ref().map_or(&[], |code| code.as_slice()),
        );
        self.begin_closing(
            key,
            MessageReader::new(),
            Awaits::Flush,
            CloseReason::Client,
        );
        self.send_cut(key, frame);
        self.finish(key, CloseReason::Client);
    }

    /// Ends this side once everything is out, then waits for the client to end its own, within the
    /// close timeout. Closing at once could reset the connection and destroy the last bytes.
    pub(super) fn finish(&mut self, key: Key, reason: CloseReason) {
        self.make_sends();
        if !matches!(self.stage(key), Some(Stage::Closing(_))) {
            self.begin_closing(key, MessageReader::new(), Awaits::Flush, reason);
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Stage::Closing(closing) = &mut session.stage {
            closing.awaits = Awaits::Flush;
            if session.outbox.is_none() {
                closing.awaits = Awaits::EndOfFile;
                if let Some(socket) = &session.socket {
                    socket.shutdown(Shutdown::Write);
                }
            }
        }
    }

    /// The reason to count for a session that ends now: the one it began to close for, if it did.
    pub(super) fn end_reason(&self, key: Key, otherwise: CloseReason) -> CloseReason {
        match self.stage(key) {
            Some(Stage::Closing(closing)) => closing.reason,
            _ => otherwise,
        }
    }

    pub(super) fn stage(&self, key: Key) -> Option<&Stage> {
        self.sessions.get(key).map(|session| &session.stage)
    }

    fn begin_closing(
        &mut self,
        key: Key,
        reader: MessageReader,
        awaits: Awaits,
        reason: CloseReason,
    ) {
        self.unsubscribe(key, Departure::of(reason));
        let deadline_s = self.now_s() + self.limits.close_timeout_s;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let closing = Closing {
            reader,
            deadline_s,
            reason,
            awaits,
        };
        self.refusing += closing.is_refusal();
        let stage = std::mem::replace(&mut session.stage, Stage::Closing(closing));
        self.wheel.schedule(key.slot, deadline_s);
        if matches!(stage, Stage::Http(_)) {
            self.leave_polled(key, &stage);
        }
        match stage {
            Stage::Http(http) => self.count_request_bytes(http.held_bytes(), 0),
            Stage::Poll(poll) => self.count_request_bytes(poll.input.len(), 0),
            _ => {}
        }
        // It may have been paused; the client's Close, or its end, is waited for from now on.
        self.watch(key);
    }

    fn send_close_frame(&mut self, key: Key, code: u16, text: &str) {
        let mut frame = Vec::new();
        encode_close(&mut frame, code, text);
        self.send_cut(key, frame);
    }

    /// Sends a last frame: after the frame that is partly out, before everything else.
    fn send_cut(&mut self, key: Key, frame: Vec<u8>) {
        self.make_sends();
        let Some(outbox) = self.sessions.get_mut(key).map(|s| &mut s.outbox) else {
            return;
        };
        let Some(outbox) = outbox else {
            return self.send(key, frame);
        };
        self.metrics.outbox_bytes.sub(outbox.bytes() as u64);
        outbox.cut(frame.into(), frame_end);
        self.metrics.outbox_bytes.add(outbox.bytes() as u64);
    }
}

/// What became of bytes to send.
pub(super) enum Sent {
    /// The kernel took them all, so many.
    All(usize),
    /// The kernel took `sent` and is full; an outbox holds the other `queued`.
    Part { sent: usize, queued: usize },
    /// So many joined the outbox.
    Queued(usize),
    /// The outbox is full.
    TooSlow,
    /// The connection is broken.
    Broken,
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::proto::close::CloseCode;
    use crate::proto::frame::{Opcode, encode_frame};
    use crate::shard::testing::with_cores;

    #[test]
    fn the_close_follows_a_message_longer_than_the_outbox_may_hold() {
        const BYTES: usize = 400_000;
        let mut config = Config::default();
        config.outbox.soft_bytes = 1024;
        config.outbox.hard_bytes = 2048;
        with_cores(1, config, |bed| {
            let mut client = bed.websocket(0, "/channels/a");
            let mut frame = Vec::new();
            encode_frame(&mut frame, Opcode::Binary, &vec![7; BYTES]);
            let core = &mut bed.cores[0];
            core.send(client.key, frame);
            core.close_some(1, false);
            let reader = std::thread::spawn(move || (client.frame(), client.frame()));
            bed.flush_all(0);
            let (message, close) = reader.join().unwrap();
            assert_eq!(message.1.len(), BYTES);
            assert_eq!(close.0, 0x88);
            assert_eq!(close.1[..2], CloseCode::GoingAway.code().to_be_bytes());
        });
    }
}
