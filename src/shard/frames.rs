//! A WebSocket's bytes in: frames, messages, and what they lead to.

use crate::hub::{Key, Kind};
use crate::metrics::CloseReason;
use crate::proto::close::CloseCode;
use crate::proto::deflate::{Inflater, Inflation, SlidingWindow};
use crate::proto::frame::{Opcode, encode_frame};
use crate::proto::message::{Event, MessageReader, Role, Step, Violation};

use super::Core;
use super::session::{Awaits, Purpose, Session, Stage};
use super::talk::HEARTBEAT;

impl Core {
    pub(super) fn receive_frames(&mut self, key: Key, input: &mut [u8]) {
        let Some(mut reader) = self.take_reader(key) else {
            return;
        };
        let mut inflating = self.take_inflating(key);
        let rest = self.read_frames(key, &mut reader, inflating.as_mut(), input);
        self.put_inflating(key, inflating);
        match rest {
            Ok(Read::All { is_message_over }) => self.put_reader(key, reader, is_message_over),
            Ok(Read::UntilClosed { rest }) => self.goes_on_closing(key, reader, rest),
            Err(violation) => self.fail(key, violation),
        }
    }

    fn read_frames<'a>(
        &mut self,
        key: Key,
        reader: &mut MessageReader,
        mut inflating: Option<&mut Inflating>,
        mut input: &'a mut [u8],
    ) -> Result<Read<'a>, Violation> {
        let mut is_message_over = false;
        loop {
            let inflation = inflating.as_deref_mut().map(Inflating::lend);
            let limits = &self.limits.message;
            let step = reader.next_inflated(Role::Server, limits, inflation, input)?;
            let (consumed, closed) = match step {
                // Also frees what the last message was gathered in.
                Step { consumed: 0, .. } => break,
                Step { consumed, event } => (
                    consumed,
                    event.is_some_and(|event| self.act_on_event(key, event)),
                ),
            };
            input = &mut input[consumed..];
            if closed {
                return Ok(Read::UntilClosed { rest: input });
            }
            is_message_over |= !reader.is_partial();
            if self.put_aside(key, input) {
                break;
            }
        }
        Ok(Read::All { is_message_over })
    }

    /// What reading a compressed connection takes: the shard's inflater and the connection's window.
    fn take_inflating(&mut self, key: Key) -> Option<Inflating> {
        let Stage::WebSocket(websocket) = &mut self.sessions.get_mut(key)?.stage else {
            return None;
        };
        let window = websocket.deflate_mut()?.client_window.take();
        Some(Inflating {
            inflater: self.inflater.take().unwrap_or_default(),
            window,
        })
    }

    fn put_inflating(&mut self, key: Key, inflating: Option<Inflating>) {
        let Some(Inflating { inflater, window }) = inflating else {
            return;
        };
        self.inflater = Some(inflater);
        if let Some(session) = self.sessions.get_mut(key)
            && let Stage::WebSocket(websocket) = &mut session.stage
            && let Some(deflate) = websocket.deflate_mut()
        {
            deflate.client_window = window;
        }
    }

    /// Acts on what a client sent. True if the session's WebSocket is no longer open.
    fn act_on_event(&mut self, key: Key, event: Event<'_>) -> bool {
        match event {
            Event::Text(text) => self.act_on_message(key, Opcode::Text, text),
            Event::Binary(bytes) => self.act_on_message(key, Opcode::Binary, bytes),
            Event::Ping(payload) => {
                if self.allows_control(key) {
                    self.pong(key, payload);
                }
            }
            Event::Pong(_) => {
                self.allows_control(key);
            }
            Event::Close(close) => self.answer_close(key, close.map(|(code, _)| code)),
        }
        !matches!(self.stage(key), Some(Stage::WebSocket(_)))
    }

    fn act_on_message(&mut self, key: Key, opcode: Opcode, payload: &[u8]) {
        let Some(Stage::WebSocket(websocket)) = self.stage(key) else {
            return;
        };
        let purpose = websocket.purpose;
        if payload == HEARTBEAT
            && self
                .sessions
                .get(key)
                .is_some_and(|session| session.is_told_all())
        {
            return self.answer_heartbeat(key);
        }
        match purpose {
            Purpose::Echo => {
                let frame = self.encode_for(key, opcode, payload);
                self.send(key, frame);
            }
            Purpose::Publish => {
                let kind = match opcode {
                    Opcode::Text => kind_of_text(payload),
                    _ => Kind::Binary,
                };
                self.publish_from_client(key, kind, payload);
            }
            Purpose::Commands => self.receive_commands(key, opcode, payload),
            Purpose::SockJs => self.receive_sockjs(key, payload),
            Purpose::Listen => {
                let text = "clients may not publish in this channel";
                self.close(key, CloseCode::PolicyViolation, text, CloseReason::Policy);
            }
        }
    }

    /// A client of the plain dialect asks whether anybody is there.
    fn answer_heartbeat(&mut self, key: Key) {
        let has_outbox = |session: &Session| session.outbox.is_some();
        let is_behind = self.sessions.get(key).is_some_and(has_outbox);
        if self.allows_control(key) && !is_behind {
            let frame = self.encode_for(key, Opcode::Text, HEARTBEAT);
            self.send(key, frame);
        }
    }

    /// Counts a control frame; a client that sends too many is failed.
    fn allows_control(&mut self, key: Key) -> bool {
        let limit = self.limits.control_frames_per_s;
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        if session.vitals.allows_control(limit) {
            return true;
        }
        let violation = Violation {
            code: CloseCode::PolicyViolation,
            reason: "too many control frames",
        };
        self.fail(key, violation);
        false
    }

    /// Answers a ping, unless the client is not reading: only the latest ping needs an answer (RFC 6455
    /// section 5.5.3), and its next one gets it.
    fn pong(&mut self, key: Key, payload: &[u8]) {
        if self
            .sessions
            .get(key)
            .is_some_and(|session| session.outbox.is_some())
        {
            return;
        }
        let mut frame = Vec::new();
        encode_frame(&mut frame, Opcode::Pong, payload);
        self.send(key, frame);
    }

    /// This side began to close while it looked at what came: the client's Close may be in the rest.
    fn goes_on_closing(&mut self, key: Key, reader: MessageReader, rest: &mut [u8]) {
        if let Some(session) = self.sessions.get_mut(key)
            && let Stage::Closing(closing) = &mut session.stage
            && closing.awaits == Awaits::CloseFrame
        {
            closing.reader = reader;
            self.await_close(key, rest);
        }
    }

    /// Waits for the client's Close after ours; other frames are dropped unread.
    pub(super) fn await_close(&mut self, key: Key, mut input: &mut [u8]) {
        let Some(Stage::Closing(closing)) = self.sessions.get_mut(key).map(|s| &mut s.stage) else {
            return;
        };
        let mut reader = std::mem::take(&mut closing.reader);
        let reason = closing.reason;
        while !input.is_empty() {
            match reader.next(Role::Server, &self.limits.message, input) {
                Ok(Step {
                    event: Some(Event::Close(_)),
                    ..
                })
                | Err(_) => {
                    return self.finish(key, reason);
                }
                Ok(Step { consumed, .. }) => input = &mut input[consumed..],
            }
        }
        if let Some(Stage::Closing(closing)) = self.sessions.get_mut(key).map(|s| &mut s.stage) {
            closing.reader = reader;
        }
    }

    fn take_reader(&mut self, key: Key) -> Option<MessageReader> {
        match self.sessions.get_mut(key).map(|session| &mut session.stage) {
            Some(Stage::WebSocket(websocket)) => Some(std::mem::take(&mut websocket.reader)),
            _ => None,
        }
    }

    /// Gives a session its reader back. `is_message_over`: what was partial before came to its end; what
    /// is partial now, began later.
    fn put_reader(&mut self, key: Key, reader: MessageReader, is_message_over: bool) {
        let deadline_s = self.now_s() + self.limits.message_timeout_s;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Stage::WebSocket(websocket) = &mut session.stage else {
            return;
        };
        let was_partial = websocket.message_deadline_s != 0 && !is_message_over;
        let is_partial = reader.is_partial();
        websocket.reader = reader;
        if !is_partial {
            websocket.message_deadline_s = 0;
        } else if !was_partial {
            websocket.message_deadline_s = deadline_s;
            self.reschedule(key);
        }
    }

    /// Keeps `rest` for later if the session is paused now; true if it is.
    fn put_aside(&mut self, key: Key, rest: &[u8]) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let has_outbox = session.outbox.is_some();
        let Stage::WebSocket(websocket) = &mut session.stage else {
            return false;
        };
        if !websocket.is_paused(has_outbox) {
            return false;
        }
        if !rest.is_empty() {
            let extras = websocket.extras.get_or_insert_default();
            extras.unread.extend_from_slice(rest);
        }
        true
    }

    /// Goes on with a WebSocket that may have been paused: first what was put aside, then its socket.
    pub(super) fn resume(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.is_paused() {
            return;
        }
        if let Stage::WebSocket(websocket) = &mut session.stage
            && let Some(extras) = &mut websocket.extras
            && !extras.unread.is_empty()
        {
            let mut unread = std::mem::take(&mut extras.unread);
            self.receive_frames(key, &mut unread);
        }
        self.watch(key);
    }
}

/// How far the frames of one read were looked at.
enum Read<'a> {
    /// All of them, or the rest was put aside. `is_message_over`: a message came to its end.
    All { is_message_over: bool },
    /// Until the session began to close.
    UntilClosed { rest: &'a mut [u8] },
}

/// What it takes to read compressed messages.
struct Inflating {
    inflater: Box<Inflater>,
    window: Option<SlidingWindow>,
}

impl Inflating {
    fn lend(&mut self) -> Inflation<'_> {
        Inflation {
            inflater: &mut self.inflater,
            window: self.window.as_mut(),
        }
    }
}

/// JSON if it is, else text: the same rule as for what is published over HTTP.
fn kind_of_text(payload: &[u8]) -> Kind {
    match serde_json::from_slice::<&serde_json::value::RawValue>(payload) {
        Ok(_) => Kind::Json,
        Err(_) => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::config::Config;
    use crate::proto::frame::encode_masked_frame;
    use crate::shard::testing::with_cores;

    fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_masked_frame(&mut frame, opcode, [1, 2, 3, 4], payload);
        frame
    }

    #[test]
    fn a_close_that_crosses_the_servers_is_seen() {
        with_cores(1, Config::default(), |bed| {
            let mut client = bed.websocket(0, "/channels/a");
            let message = masked(Opcode::Text, b"not allowed here");
            let close = masked(Opcode::Close, b"");
            bed.say(&mut client, &[message, close].concat());
            assert_eq!(client.frame().0, 0x88);
            let mut rest = Vec::new();
            client.socket.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty());
        });
    }

    #[test]
    fn a_client_that_never_pauses_between_messages_is_not_taken_for_one_that_never_ends_one() {
        let config = Config {
            echo: true,
            ..Config::default()
        };
        let message = masked(Opcode::Text, b"hello");
        let (begin, end) = message.split_at(4);
        with_cores(1, config, |bed| {
            let mut client = bed.websocket(0, "/echo");
            bed.say(&mut client, begin);
            for _ in 0..100 {
                bed.say(&mut client, &[end, begin].concat());
                assert_eq!(client.message(), b"hello");
                bed.pass_seconds(1);
            }
            // And the one that does not end is noticed.
            bed.pass_seconds(31);
            let stage = bed.cores[0].stage(client.key);
            assert!(matches!(stage, Some(Stage::Closing(_))));
        });
    }
}
