//! Receivers that stream: responses that go on, with the frames of a polled session one after the other.
//!
//! Such a response asks for the session's next frame as a poll would, and again once its client has taken that. So a
//! session does not know how it is fetched, and what its client is slow to take waits with the session. After a while
//! the response ends, since a client's memory of it may grow with it, and the client asks for another.

use std::net::IpAddr;

use bytes::Bytes;

use crate::hub::{Framing, Key};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::Disconnect;
use crate::proto::http::append_chunk;
use crate::proto::sockjs;

use super::Core;
use super::asks::AnswerTo;
use super::http::Phase;
use super::inbox::{Asker, Message};
use super::polled::{Poll, Polling, ReceiverGone};
use super::session::Stage;

/// After so many bytes a response ends; SockJS's own number.
const RESPONSE_BYTES: usize = 128 * 1024;

/// A response that streams the frames of a session.
pub(super) struct StreamingReceiver {
    /// The session's id.
    session: Box<str>,
    /// Whose request it is.
    client: IpAddr,
    /// Bytes of frames so far.
    sent: usize,
    /// The next frame is asked for.
    is_asking: bool,
}

impl StreamingReceiver {
    pub fn new(session: Box<str>, client: IpAddr) -> Self {
        Self {
            session,
            client,
            sent: 0,
            is_asking: false,
        }
    }
}

impl Core {
    /// Asks for the next frame of a session, unless that is being done or the last one is not taken yet.
    pub(super) fn fetch_next(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let has_outbox = session.outbox.is_some();
        let Some(receiver) = session.receiver_mut() else {
            return;
        };
        if has_outbox || std::mem::replace(&mut receiver.is_asking, true) {
            return;
        }
        let poll = Poll {
            asker: asker(key),
            id: receiver.session.clone(),
            client: receiver.client,
            polling: Polling::Receive,
        };
        if let Some(answer) = self.poll(poll) {
            self.fetched(key, answer);
        }
    }

    /// A response is old enough: it ends with the next frame. True if it streams the frames of a session.
    pub(super) fn end_after_next(&mut self, key: Key) -> bool {
        let session = self.sessions.get_mut(key);
        match session.and_then(|session| session.receiver_mut()) {
            Some(receiver) => {
                receiver.sent = RESPONSE_BYTES;
                true
            }
            None => false,
        }
    }

    /// The next frame of a session came, or there is no room for one.
    pub(super) fn fetched(&mut self, key: Key, answer: AnswerTo) {
        let Some(Stage::Stream(stream)) = self.stage(key) else {
            return;
        };
        let framing = stream.framing();
        let frame = match answer {
            AnswerTo::Polled(frame) => frame,
            _ => busy(),
        };
        let Some(receiver) = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.receiver_mut())
        else {
            return;
        };
        receiver.is_asking = false;
        receiver.sent += frame.len();
        let is_last = frame.starts_with(b"c") || receiver.sent >= RESPONSE_BYTES;
        self.send(key, chunk(framing, &frame));
        match is_last {
            true => self.end_stream(key, CloseReason::HttpDone),
            false => self.fetch_next(key),
        }
    }

    /// A connection is gone: if it waited for a session's next frame, the session's shard is told. A response that came
    /// to its end is not gone.
    pub(super) fn leave_polled(&mut self, key: Key, stage: &Stage) {
        let session: Option<Box<str>> = match stage {
            Stage::Http(http) => match &http.phase {
                Phase::Await { awaiting, .. } => awaiting.polled().map(Box::from),
                _ => None,
            },
            Stage::Stream(stream) => {
                let receiver = stream.receiver();
                receiver.map(|receiver| receiver.session.clone())
            }
            _ => None,
        };
        if let Some(session) = session {
            let shard = self.shared.owner_of(&session);
            let asker = asker(key);
            let gone = ReceiverGone { asker, session };
            self.tell(shard, Message::ReceiverGone(Box::new(gone)));
        }
    }
}

fn asker(key: Key) -> Asker {
    Asker {
        session: key,
        tag: 0,
    }
}

fn busy() -> Bytes {
    let mut frame = Vec::new();
    let disconnect = Disconnect::InternalServerError;
    sockjs::append_close(&mut frame, disconnect.code(), disconnect.reason());
    frame.push(b'\n');
    frame.into()
}

/// A frame as a chunk of the response.
fn chunk(framing: Framing, frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame.len() + 32);
    match framing {
        Framing::Events => {
            let mut event = Vec::with_capacity(frame.len() + 16);
            sockjs::append_event(&mut event, frame.strip_suffix(b"\n").unwrap_or(frame));
            append_chunk(&mut out, &event);
        }
        _ => append_chunk(&mut out, frame),
    }
    out
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use crate::config::Config;
    use crate::shard::testing::{Bed, Client as Peer, with_cores};

    fn send(bed: &mut Bed, shard: usize, id: &str, command: &str) {
        let path = format!("/connection/sockjs/000/{id}/xhr_send");
        let body = serde_json::to_string(&[command]).unwrap();
        let (status, _) = bed.post(shard, &path, "", &body);
        assert_eq!(status, 204);
        bed.pass_messages();
    }

    /// A response that streams, past what it begins with.
    fn stream(bed: &mut Bed, shard: usize, id: &str, transport: &str) -> Peer {
        let method = if transport == "eventsource" {
            "GET"
        } else {
            "POST"
        };
        let request = format!(
            "{method} /connection/sockjs/000/{id}/{transport} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let mut peer = bed.connect(shard);
        bed.say(&mut peer, request.as_bytes());
        bed.pass_messages();
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let begins = peer.chunk();
        assert_eq!(begins.len(), if method == "GET" { 2 } else { 2049 });
        peer
    }

    fn text(peer: &mut Peer) -> String {
        String::from_utf8(peer.chunk()).unwrap()
    }

    #[test]
    fn a_response_brings_frame_after_frame_from_every_shard() {
        with_cores(2, Config::default(), |bed| {
            let id = bed.channel_of(0);
            for (shard, transport) in [
                (0, "xhr_streaming"),
                (1, "xhr_streaming"),
                (1, "eventsource"),
            ] {
                let mut peer = stream(bed, shard, &id, transport);
                let (before, after) = match transport {
                    "eventsource" => ("data: ", "\r\n\r\n"),
                    _ => ("", "\n"),
                };
                assert_eq!(text(&mut peer), format!("{before}o{after}"));
                send(bed, 1, &id, "{\"id\":1,\"connect\":{}}");
                assert!(text(&mut peer).starts_with(&format!("{before}a[\"{{\\\"id\\\":1,")));
                for number in 2..5 {
                    send(
                        bed,
                        shard,
                        &id,
                        &format!("{{\"id\":{number},\"rpc\":{{\"method\":\"100%\"}}}}"),
                    );
                    assert!(text(&mut peer).contains(&format!("\\\"id\\\":{number},")));
                }
                send(bed, 0, &id, "nonsense");
                let end = format!("{before}c[3501,\"bad request\"]{after}");
                assert_eq!(text(&mut peer), end);
                assert_eq!(text(&mut peer), "");
                bed.pass_messages();
                assert!(bed.cores[0].polled.is_empty());
            }
        });
    }

    #[test]
    fn a_session_whose_receiver_goes_away_is_opened_anew_at_once() {
        for transport in ["xhr_streaming", "eventsource", "xhr"] {
            with_cores(2, Config::default(), |bed| {
                let id = bed.channel_of(0);
                for shard in [1, 0] {
                    let path = format!("/connection/sockjs/000/{id}/xhr");
                    assert_eq!(bed.post(shard, &path, "", "").1, "o\n");
                    let waiting = match transport {
                        "xhr" => {
                            let request = format!(
                                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                            );
                            let mut peer = bed.connect(shard);
                            bed.say(&mut peer, request.as_bytes());
                            bed.pass_messages();
                            peer
                        }
                        _ => stream(bed, shard, &id, transport),
                    };
                    waiting.socket.shutdown(Shutdown::Both).unwrap();
                    bed.receive(&waiting);
                    bed.pass_messages();
                    let (_, told) = bed.post(shard, &path, "", "");
                    assert_eq!(told, "c[1002,\"Connection interrupted\"]\n");
                    assert!(bed.cores[0].polled.is_empty());
                }
            });
        }
    }

    #[test]
    fn a_long_response_ends_and_the_next_goes_on() {
        with_cores(2, Config::default(), |bed| {
            let id = bed.channel_of(0);
            let mut peer = stream(bed, 1, &id, "xhr_streaming");
            text(&mut peer);
            send(bed, 1, &id, "{\"id\":1,\"connect\":{}}");
            text(&mut peer);
            send(bed, 1, &id, "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}");
            text(&mut peer);
            let data = format!("\"{}\"", "x".repeat(20_000));
            let mut bytes = 0;
            for _ in 0..20 {
                bed.post(0, "/channels/a", "", &data);
                for _ in 0..3 {
                    bed.pass_messages();
                    bed.cores
                        .iter_mut()
                        .for_each(|core| while core.fan_out() {});
                }
                let (shard, key) = (peer.shard, peer.key);
                let frame = std::thread::scope(|scope| {
                    let reader = scope.spawn(|| text(&mut peer));
                    bed.flush_all(shard);
                    reader.join().unwrap()
                });
                bed.pass_messages();
                bytes += frame.len();
                if bed.cores[shard]
                    .sessions
                    .get(key)
                    .is_none_or(|one| !matches!(one.stage, super::Stage::Stream(_)))
                {
                    break;
                }
            }
            assert!(
                (super::RESPONSE_BYTES..super::RESPONSE_BYTES + 30_000).contains(&bytes),
                "{bytes}"
            );
            assert_eq!(text(&mut peer), "");
            let mut again = stream(bed, 0, &id, "xhr_streaming");
            send(bed, 1, &id, "{\"id\":3,\"rpc\":{}}");
            assert!(text(&mut again).contains("\\\"id\\\":3,"));
        });
    }

    #[test]
    fn sessions_count_among_the_connections_of_their_address() {
        let mut config = Config::default();
        config.admission.connections_per_address = 3;
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        with_cores(1, config, |bed| {
            let mut open = |id: &str| {
                let path = format!("/connection/sockjs/000/{id}/xhr");
                bed.post(0, &path, "X-Forwarded-For: 203.0.113.9\r\n", "").0
            };
            // The poll itself counts too, until it is answered.
            assert_eq!([open("a"), open("b"), open("c")], [200, 200, 503]);
            bed.pass_seconds(10);
            let path = "/connection/sockjs/000/d/xhr";
            assert_eq!(
                bed.post(0, path, "X-Forwarded-For: 203.0.113.9\r\n", "").0,
                200
            );
        });
    }
}
