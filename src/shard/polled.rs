//! Sessions without a connection of their own: SockJS clients that poll. What is sent to one waits in its outbox for
//! a request that takes it, or for which it has been waiting: the receiver.
//!
//! A session is on the shard that a keyed hash of its id names, and requests come to it from all shards.

use std::net::IpAddr;

use bytes::Bytes;

use crate::hub::{Key, Vitals};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::{Disconnect, Format};
use crate::proto::frame::Opcode;
use crate::proto::sockjs;

use super::Core;
use super::asks::{AnswerTo, Departure};
use super::client::Client;
use super::emulation::Emulation;
use super::inbox::{Asker, Message};
use super::session::{Session, Stage};

/// How long a session lives without a receiver, in seconds; one more, as deadlines count from the beginning of the
/// second they are set in.
const GRACE_S: u32 = 5 + 1;
/// How long a receiver waits before it is told that there is nothing, in seconds.
const RECEIVER_S: u32 = 25;
/// What a second receiver beside one that waits is told.
const ANOTHER: (u16, &str) = (2010, "Another connection still open");
/// What the next receiver is told after one that went away while it waited.
const INTERRUPTED: (u16, &str) = (1002, "Connection interrupted");

/// A session without a connection.
pub(super) struct PolledStage {
    /// Its id, by which requests name it.
    id: Box<str>,
    /// `None` once it was disconnected.
    pub client: Option<Box<Client>>,
    /// The request that waits for what is sent next.
    receiver: Option<Receiver>,
    /// When a session without a receiver ends, or when its receiver is told that there is nothing.
    pub deadline_s: u32,
    /// It was disconnected: the frame that says so, and why.
    closed: Option<(Bytes, CloseReason)>,
}

/// A request that waits, and its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Receiver {
    shard: u16,
    asker: Asker,
}

/// What a request wants of a session that is polled.
#[derive(Debug)]
pub enum Polling {
    /// What was sent to it, now or later. The first opens the session.
    Receive,
    /// These are commands of its client.
    Send(Bytes),
}

/// The same on its way to the session's shard.
#[derive(Debug)]
pub struct Poll {
    /// The request.
    pub asker: Asker,
    /// The session's id.
    pub id: Box<str>,
    /// Whose request it is.
    pub client: IpAddr,
    /// What is wanted.
    pub polling: Polling,
}

/// Word for a session's shard that a request is gone which waited for what is sent to it.
#[derive(Debug)]
pub struct ReceiverGone {
    /// The request.
    pub asker: Asker,
    /// The session's id.
    pub session: Box<str>,
}

impl Poll {
    /// What it counts for on its way.
    pub(super) fn bytes(&self) -> usize {
        let commands = match &self.polling {
            Polling::Receive => 0,
            Polling::Send(commands) => commands.len(),
        };
        self.id.len() + commands
    }
}

impl Core {
    /// Brings a request to its session. The answer, or nothing if it comes later.
    pub(super) fn poll(&mut self, poll: Poll) -> Option<AnswerTo> {
        let shard = self.shared.owner_of(&poll.id);
        if shard == self.id {
            return self.poll_here(shard, poll);
        }
        let link = self.links.get_mut(usize::from(shard))?;
        if !link.has_room(poll.bytes()) {
            return Some(AnswerTo::Emulation(Emulation::Busy));
        }
        link.send_data(Message::Poll(Box::new(poll)));
        None
    }

    /// A request came by another shard.
    pub(super) fn poll_for(&mut self, from: u16, poll: Poll) {
        let asker = poll.asker;
        if let Some(answer) = self.poll_here(from, poll) {
            self.answer_to(from, asker, answer);
        }
    }

    fn poll_here(&mut self, from: u16, poll: Poll) -> Option<AnswerTo> {
        let Poll {
            asker,
            id,
            client,
            polling,
        } = poll;
        let known = self.polled.get(&id).copied();
        match (polling, known) {
            (Polling::Receive, None) => Some(self.open_polled(id, client)),
            (Polling::Receive, Some(key)) => {
                let receiver = Receiver { shard: from, asker };
                self.take_or_wait(key, receiver).map(AnswerTo::Polled)
            }
            (Polling::Send(commands), Some(key)) => {
                let outcome = self.emulate_for_key(key, Opcode::Text, &commands);
                Some(AnswerTo::Emulation(outcome))
            }
            (Polling::Send(_), None) => Some(AnswerTo::Emulation(Emulation::Unknown)),
        }
    }

    /// Begins a session, for a request that is told so.
    fn open_polled(&mut self, id: Box<str>, client: IpAddr) -> AnswerTo {
        // Each needs a connection for its polls too.
        let most = self.shared.connections_per_shard;
        let is_full = self.sessions.len() >= most || self.polled.len() >= most / 2;
        if is_full || self.is_draining || self.admit_handshake().is_err() {
            return AnswerTo::Emulation(Emulation::Busy);
        }
        let Ok(place) = self.take_place(client) else {
            return AnswerTo::Emulation(Emulation::Busy);
        };
        let (now_s, stale_s) = (self.now_s(), self.stale_deadline_s());
        let key = self.sessions.insert(Session {
            socket: None,
            is_watched: false,
            stage: Stage::Busy,
            outbox: None,
            vitals: Vitals::new(now_s, self.limits.heartbeat.ping_interval_s.max(1)),
            subscription: None,
            place,
        });
        let client = Client::new(self.new_info(key), Format::Json, false, stale_s);
        if let Some(session) = self.sessions.get_mut(key) {
            session.stage = Stage::Polled(Box::new(PolledStage {
                id: id.clone(),
                client: Some(Box::new(client)),
                receiver: None,
                deadline_s: now_s + GRACE_S,
                closed: None,
            }));
        }
        self.metrics.connections.add(1);
        self.ages.begin(key.slot, &mut self.random);
        self.polled.insert(id, key);
        self.reschedule(key);
        let mut frame = Vec::new();
        sockjs::append_open(&mut frame);
        AnswerTo::Polled(line(frame))
    }

    /// What waits in a session; if nothing does, the receiver waits.
    fn take_or_wait(&mut self, key: Key, receiver: Receiver) -> Option<Bytes> {
        let now_s = self.now_s();
        // Its own deadline must not come first.
        let request_s = self.limits.body_pace.timeout_s.saturating_sub(2).max(1);
        let wait_s = RECEIVER_S.min(request_s);
        let session = self.sessions.get_mut(key)?;
        session.vitals.received(now_s);
        let Stage::Polled(polled) = &mut session.stage else {
            return None;
        };
        if polled.receiver.is_some() {
            let (code, reason) = ANOTHER;
            return Some(close_frame(code, reason));
        }
        if session.outbox.is_some() {
            polled.deadline_s = now_s + GRACE_S;
            let frame = self.take_polled(key);
            self.reschedule(key);
            return frame;
        }
        if let Some((frame, reason)) = polled.closed.clone() {
            self.end(key, reason, false);
            return Some(frame);
        }
        polled.receiver = Some(receiver);
        polled.deadline_s = now_s + wait_s;
        self.reschedule(key);
        None
    }

    /// Takes everything that waits in a session, as one frame.
    fn take_polled(&mut self, key: Key) -> Option<Bytes> {
        let outbox = self.sessions.get_mut(key)?.outbox.take()?;
        self.metrics.outbox_bytes.sub(outbox.bytes() as u64);
        let mut frame = b"a[".to_vec();
        outbox
            .segments()
            .for_each(|items| frame.extend_from_slice(items));
        // The comma behind the last.
        frame.pop();
        frame.push(b']');
        Some(line(frame))
    }

    /// Something waits in a session: its receiver gets it, if there is one.
    pub(super) fn serve_receiver(&mut self, key: Key) {
        let Some(receiver) = self.take_receiver(key) else {
            return;
        };
        if let Some(frame) = self.take_polled(key) {
            self.answer_to(receiver.shard, receiver.asker, AnswerTo::Polled(frame));
        }
    }

    /// A receiver is gone. What was sent to it last may not have come to its client, who would not know: so the session
    /// ends, and its client comes back with a new one. Unless it has another receiver by now.
    pub(super) fn receiver_gone(&mut self, from: u16, gone: &ReceiverGone) {
        let Some(key) = self.polled.get(&gone.session).copied() else {
            return;
        };
        let Some(Stage::Polled(polled)) = self.stage(key) else {
            return;
        };
        let receiver = Receiver {
            shard: from,
            asker: gone.asker,
        };
        if polled.receiver.is_none_or(|waiting| waiting == receiver) && polled.closed.is_none() {
            self.take_receiver(key);
            self.drop_outbox(key);
            let (code, reason) = INTERRUPTED;
            self.close_polled(key, close_frame(code, reason), CloseReason::EndOfFile);
        }
    }

    /// A session's receiver, which waits no more; the next has the time of grace to come.
    fn take_receiver(&mut self, key: Key) -> Option<Receiver> {
        let now_s = self.now_s();
        let Stage::Polled(polled) = &mut self.sessions.get_mut(key)?.stage else {
            return None;
        };
        let receiver = polled.receiver.take()?;
        polled.deadline_s = now_s + GRACE_S;
        Some(receiver)
    }

    /// Ends a session in its own words. If nobody is there to hear them, the next receiver will.
    pub(super) fn disconnect_polled(
        &mut self,
        key: Key,
        disconnect: &Disconnect,
        reason: CloseReason,
    ) {
        let frame = close_frame(disconnect.code(), disconnect.reason());
        self.close_polled(key, frame, reason);
    }

    fn close_polled(&mut self, key: Key, frame: Bytes, reason: CloseReason) {
        self.unsubscribe(key, Departure::of(reason));
        if let Some(receiver) = self.take_receiver(key) {
            self.answer_to(receiver.shard, receiver.asker, AnswerTo::Polled(frame));
            return self.end(key, reason, false);
        }
        let now_s = self.now_s();
        if let Some(session) = self.sessions.get_mut(key)
            && let Stage::Polled(polled) = &mut session.stage
        {
            polled.client = None;
            polled.closed = Some((frame, reason));
            polled.deadline_s = now_s + GRACE_S;
        }
        self.reschedule(key);
    }

    /// A session that does not fetch what is sent to it is told so, and nothing else.
    pub(super) fn drop_polled(&mut self, key: Key) {
        self.drop_outbox(key);
        self.disconnect_polled(key, &Disconnect::Slow, CloseReason::SlowConsumer);
    }

    fn drop_outbox(&mut self, key: Key) {
        let outbox = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.outbox.take());
        if let Some(outbox) = outbox {
            self.metrics.outbox_bytes.sub(outbox.bytes() as u64);
        }
    }

    /// Nothing was sent to a receiver for long enough, or no receiver came. True if the session has ended.
    pub(super) fn expire_polled(&mut self, key: Key, now_s: u32) -> bool {
        let Some(Stage::Polled(polled)) = self.stage(key) else {
            return false;
        };
        if now_s < polled.deadline_s {
            return false;
        }
        let closed = polled.closed.as_ref().map(|(_, reason)| *reason);
        let Some(receiver) = self.take_receiver(key) else {
            self.end(key, closed.unwrap_or(CloseReason::EndOfFile), false);
            return true;
        };
        let mut frame = Vec::new();
        sockjs::append_heartbeat(&mut frame);
        self.answer_to(
            receiver.shard,
            receiver.asker,
            AnswerTo::Polled(line(frame)),
        );
        false
    }

    /// A session is gone: nobody finds it any more, and nobody waits for it.
    pub(super) fn forget_polled(&mut self, polled: PolledStage) {
        self.polled.remove(&polled.id);
        if let Some(receiver) = polled.receiver {
            let gone = Disconnect::ConnectionClosed;
            let frame = close_frame(gone.code(), gone.reason());
            self.answer_to(receiver.shard, receiver.asker, AnswerTo::Polled(frame));
        }
    }
}

/// A frame as the body of an answer.
fn line(mut frame: Vec<u8>) -> Bytes {
    frame.push(b'\n');
    frame.into()
}

fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut frame = Vec::new();
    sockjs::append_close(&mut frame, code, reason);
    line(frame)
}

#[cfg(test)]
mod tests {

    use crate::config::Config;
    use crate::shard::testing::{Bed, Client as Peer, with_cores};

    const CONNECT: &str = r#"["{\"id\":1,\"connect\":{}}"]"#;

    /// A request to the session `id`, through a shard; its answer may have to be waited for.
    fn ask(bed: &mut Bed, shard: usize, id: &str, transport: &str, body: &str) -> Peer {
        let length = body.len();
        let request = format!(
            "POST /connection/sockjs/000/{id}/{transport} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut peer = bed.connect(shard);
        bed.say(&mut peer, request.as_bytes());
        bed.pass_messages();
        peer
    }

    fn receive(bed: &mut Bed, shard: usize, id: &str) -> String {
        ask(bed, shard, id, "xhr", "").body()
    }

    fn send(bed: &mut Bed, shard: usize, id: &str, body: &str) -> String {
        ask(bed, shard, id, "xhr_send", body).head()
    }

    /// A session of shard 0 whose client was let in.
    fn connected(bed: &mut Bed) -> String {
        let id = bed.channel_of(0);
        assert_eq!(receive(bed, 1, &id), "o\n");
        assert!(send(bed, 1, &id, CONNECT).starts_with("HTTP/1.1 204 "));
        assert!(receive(bed, 0, &id).starts_with(r#"a["{\"id\":1,\"connect\""#));
        id
    }

    #[test]
    fn a_session_is_polled_and_sent_to_from_every_shard() {
        with_cores(2, Config::default(), |bed| {
            let id = connected(bed);
            for shard in 0..2 {
                let mut waiting = ask(bed, shard, &id, "xhr", "");
                let command = format!(r#"["{{\"id\":{},\"rpc\":{{}}}}"]"#, shard + 2);
                for from in 0..2 {
                    assert!(send(bed, from, &id, &command).starts_with("HTTP/1.1 204 "));
                }
                let error = format!(r#""{{\"id\":{},\"error\""#, shard + 2);
                assert!(waiting.body().starts_with(&format!("a[{error}")));
                assert!(receive(bed, shard, &id).starts_with(&format!("a[{error}")));
            }
        });
    }

    #[test]
    fn what_waits_comes_in_one_frame() {
        with_cores(2, Config::default(), |bed| {
            let id = connected(bed);
            let commands = r#"["{\"id\":2,\"rpc\":{}}"]"#;
            send(bed, 0, &id, commands);
            send(bed, 1, &id, commands);
            let body = receive(bed, 1, &id);
            let messages: Vec<String> = serde_json::from_str(&body[1..]).unwrap();
            assert_eq!(messages.len(), 2);
            assert_eq!(bed.cores[0].metrics.outbox_bytes.get(), 0);
        });
    }

    #[test]
    fn a_second_receiver_is_turned_away() {
        with_cores(2, Config::default(), |bed| {
            let id = connected(bed);
            let _first = ask(bed, 0, &id, "xhr", "");
            let second = receive(bed, 1, &id);
            assert_eq!(second, "c[2010,\"Another connection still open\"]\n");
        });
    }

    #[test]
    fn nobody_sends_to_a_session_that_is_not_there() {
        with_cores(2, Config::default(), |bed| {
            let id = bed.channel_of(0);
            for shard in 0..2 {
                assert!(send(bed, shard, &id, CONNECT).starts_with("HTTP/1.1 404 "));
            }
            assert!(send(bed, 0, &id, "").starts_with("HTTP/1.1 500 "));
            assert!(send(bed, 0, &id, "[1").starts_with("HTTP/1.1 500 "));
        });
    }

    #[test]
    fn a_session_without_receivers_ends_after_its_grace() {
        with_cores(2, Config::default(), |bed| {
            let id = connected(bed);
            bed.pass_seconds(4);
            assert_eq!(bed.cores[0].polled.len(), 1);
            bed.pass_seconds(3);
            assert!(bed.cores[0].polled.is_empty());
            bed.pass_messages();
            assert_eq!(receive(bed, 0, &id), "o\n");
        });
    }

    #[test]
    fn a_receiver_is_told_that_there_is_nothing() {
        with_cores(2, Config::default(), |bed| {
            let id = bed.channel_of(0);
            receive(bed, 1, &id);
            let mut waiting = ask(bed, 1, &id, "xhr", "");
            // Nobody connected.
            bed.pass_seconds(12);
            bed.pass_messages();
            assert_eq!(waiting.body(), "c[3502,\"stale\"]\n");
            assert!(bed.cores[0].polled.is_empty());
        });
    }

    #[test]
    fn a_ping_is_answered_by_polling_on() {
        with_cores(2, Config::default(), |bed| {
            let id = connected(bed);
            for _ in 0..3 {
                let mut waiting = ask(bed, 0, &id, "xhr", "");
                // The first ping comes at any second of the interval, and is to be fetched before the grace is over.
                let is_answered = (0..30).any(|_| {
                    bed.pass_seconds(1);
                    bed.pass_messages();
                    waiting.has_bytes()
                });
                assert!(is_answered);
                let body = waiting.body();
                assert!(["a[\"{}\"]\n", "h\n"].contains(&&*body), "{body}");
                if body != "h\n" {
                    let pong = send(bed, 0, &id, "[\"{}\"]");
                    assert!(pong.starts_with("HTTP/1.1 204 "));
                }
            }
            assert_eq!(bed.cores[0].polled.len(), 1);
        });
    }

    #[test]
    fn what_is_not_fetched_is_bounded() {
        let mut config = Config::default();
        config.outbox.soft_bytes = 1024;
        config.outbox.hard_bytes = 2048;
        with_cores(2, config, |bed| {
            let id = connected(bed);
            let commands = r#"["{\"id\":2,\"rpc\":{}}"]"#;
            for _ in 0..40 {
                send(bed, 0, &id, commands);
            }
            assert_eq!(receive(bed, 0, &id), "c[3008,\"slow\"]\n");
            assert_eq!(bed.cores[0].metrics.outbox_bytes.get(), 0);
            assert!(send(bed, 0, &id, commands).starts_with("HTTP/1.1 404 "));
        });
    }

    #[test]
    fn a_disconnect_comes_after_what_was_said_before_it() {
        with_cores(2, Config::default(), |bed| {
            let id = connected(bed);
            let commands = r#"["{\"id\":2,\"rpc\":{}}\n{\"id\":3,\"nothing\":{}}"]"#;
            send(bed, 1, &id, commands);
            assert!(receive(bed, 1, &id).starts_with("a["));
            assert_eq!(receive(bed, 1, &id), "c[3501,\"bad request\"]\n");
            assert_eq!(receive(bed, 1, &id), "o\n");
        });
    }
}
