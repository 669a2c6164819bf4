//! How connections that speak a protocol of their own begin and end their talk: pings, and disconnects.

use bytes::Bytes;

use crate::hub::{Framing, HeartbeatTimes, Key, Vitals};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::{Disconnect, PushEvent, encode_ping};
use crate::proto::frame::{Opcode, encode_frame};
use crate::proto::http::LAST_CHUNK;
use crate::proto::sockjs::BadMessages;
use crate::proto::{sockjs, sse};

use super::Core;
use super::burst::Cargo;
use super::client::Progress;
use super::scribe::opcode_of;
use super::session::{Purpose, Stage};

/// An unmasked WebSocket Ping without payload.
const PING: &[u8] = &[0x89, 0x00];
/// The heartbeat of the plain dialect, where it has words: a page's script sees no Ping.
pub(super) const HEARTBEAT: &[u8] = b"{}";
/// Clients that are told of every heartbeat wait no longer for one, in seconds.
pub(super) const SILENCE_MAX_S: u32 = 30;

impl Core {
    /// Ends a session of the Centrifuge protocol, in the words of its carrier.
    pub(super) fn disconnect(&mut self, key: Key, disconnect: &Disconnect, reason: CloseReason) {
        match self.stage(key) {
            Some(Stage::WebSocket(websocket)) => {
                if websocket.purpose == Purpose::SockJs {
                    self.close_sockjs(key, disconnect);
                } else if self.client(key).is_ok_and(|client| client.is_uni) {
                    self.push(key, "", PushEvent::Disconnect(disconnect));
                }
                self.close_with(key, disconnect.code(), disconnect.reason(), reason);
            }
            Some(Stage::Stream(_)) => {
                self.push(key, "", PushEvent::Disconnect(disconnect));
                self.end_stream(key, reason);
            }
            Some(Stage::Polled(_)) => self.disconnect_polled(key, disconnect, reason),
            _ => {}
        }
    }

    /// Tells a client of SockJS on a WebSocket that it may begin.
    pub(super) fn open_sockjs(&mut self, key: Key) {
        let mut frame = Vec::new();
        sockjs::append_open(&mut frame);
        let frame = self.encode_for(key, Opcode::Text, &frame);
        self.send(key, frame);
    }

    /// Messages of a client of SockJS on a WebSocket.
    pub(super) fn receive_sockjs(&mut self, key: Key, frame: &[u8]) {
        match sockjs::parse_messages(frame) {
            Ok(messages) if !messages.is_empty() => {
                self.receive_commands(key, Opcode::Text, messages.join("\n").as_bytes());
            }
            Ok(_) | Err(BadMessages::Missing) => {}
            Err(BadMessages::Broken) => {
                self.disconnect(key, &Disconnect::BadRequest, CloseReason::BadCommand);
            }
        }
    }

    /// The end in the words of SockJS, which the WebSocket's own follow. Who does not read gets those only.
    fn close_sockjs(&mut self, key: Key, disconnect: &Disconnect) {
        let session = self.sessions.get(key);
        if session.is_none_or(|session| session.outbox.is_some()) {
            return;
        }
        let mut frame = Vec::new();
        sockjs::append_close(&mut frame, disconnect.code(), disconnect.reason());
        let frame = self.encode_for(key, Opcode::Text, &frame);
        self.send(key, frame);
    }

    /// Ends a response that goes on.
    pub(super) fn end_stream(&mut self, key: Key, reason: CloseReason) {
        if matches!(self.stage(key), Some(Stage::Stream(_))) {
            self.send(key, Bytes::from_static(LAST_CHUNK));
            self.finish(key, reason);
        }
    }

    /// The times of a session's heartbeat.
    pub(super) fn heartbeat_of(&self, key: Key) -> HeartbeatTimes {
        match self.client(key) {
            Ok(client) if client.ping_interval_s != 0 => HeartbeatTimes {
                ping_interval_s: u32::from(client.ping_interval_s),
                pong_timeout_s: match client.pong_timeout_s {
                    0 => u32::from(client.ping_interval_s),
                    pong_timeout_s => u32::from(pong_timeout_s),
                },
                max_missed: 1,
            },
            _ if self.has_heartbeats(key) => {
                let times = self.listener_heartbeat(key);
                HeartbeatTimes {
                    ping_interval_s: times.ping_interval_s.min(SILENCE_MAX_S),
                    pong_timeout_s: times.pong_timeout_s.min(SILENCE_MAX_S),
                    ..times
                }
            }
            _ => self.listener_heartbeat(key),
        }
    }

    /// The times for a listener of the plain dialect: its channel's own, if the channel's options have any.
    fn listener_heartbeat(&self, key: Key) -> HeartbeatTimes {
        let times = self.limits.heartbeat;
        if !self.limits.has_own_heartbeats {
            return times;
        }
        let session = self.sessions.get(key);
        let subscription = session.and_then(|session| session.subscription.as_ref());
        let Some(channel) = subscription.and_then(|one| self.local.at(one.channel)) else {
            return times;
        };
        let options = self.shared.config.channel.resolve_or_default(&channel.name);
        let or = |own, general| if own == 0 { general } else { own };
        HeartbeatTimes {
            ping_interval_s: or(options.ping_interval_s, times.ping_interval_s),
            pong_timeout_s: or(options.pong_timeout_s, times.pong_timeout_s),
            ..times
        }
    }

    /// Whether a session is sent heartbeats that its client sees.
    fn has_heartbeats(&self, key: Key) -> bool {
        let session = self.sessions.get(key);
        session.is_some_and(|session| {
            matches!(session.stage, Stage::Stream(_)) || session.is_told_all()
        })
    }

    /// A client is let in: its pings begin.
    pub(super) fn begin_heartbeat(&mut self, key: Key) {
        let interval_s = self.heartbeat_of(key).ping_interval_s.max(1);
        let first_ping_s = self.random.u32(interval_s.div_ceil(2)..=interval_s);
        let now_s = self.now_s();
        if let Some(session) = self.sessions.get_mut(key) {
            session.vitals = Vitals::new(now_s, first_ping_s);
        }
        self.reschedule(key);
    }

    /// True if nothing comes from a session that would show whether it is there: what goes out and is not
    /// acknowledged must do.
    pub(super) fn is_one_way(&self, key: Key) -> bool {
        match self.client(key) {
            Ok(client) => client.is_uni && !client.pings_by_frame || client.pong_timeout_s == 0,
            Err(_) => matches!(self.stage(key), Some(Stage::Stream(_))),
        }
    }

    /// Plans to send a ping, whatever that is on this connection.
    pub(super) fn ping(&mut self, key: Key) {
        let client = self.client(key);
        if client.is_ok_and(|client| !client.is_uni && client.progress != Progress::Connected) {
            // Its answer would not be the request to connect that must come first; that has its own time-out.
            return;
        }
        self.metrics.heartbeat_pings.add(1);
        let mut out = Vec::new();
        if let Ok(client) = self.client_mut(key)
            && !client.pings_by_frame
        {
            client.owes_pong = true;
            encode_ping(&mut out, client.format);
            let opcode = opcode_of(client.format);
            let frame = self.frame(key, opcode, &out);
            return self.plan_send(key, frame.into(), Cargo::Other);
        }
        match self.stage(key) {
            Some(Stage::WebSocket(_)) if self.has_heartbeats(key) => {
                out.extend_from_slice(PING);
                encode_frame(&mut out, Opcode::Text, HEARTBEAT);
                self.plan_send(key, out.into(), Cargo::Other);
            }
            Some(Stage::WebSocket(_)) => {
                self.plan_send(key, Bytes::from_static(PING), Cargo::Other);
            }
            // Its session has heartbeats of its own.
            Some(Stage::Stream(stream)) if stream.receiver().is_some() => {}
            Some(Stage::Stream(stream)) => {
                let mut ping = Vec::new();
                match stream.framing() {
                    Framing::Events => sse::append_comment(&mut ping, ""),
                    _ => ping.extend_from_slice(b"{}\n"),
                }
                crate::proto::http::append_chunk(&mut out, &ping);
                self.plan_send(key, out.into(), Cargo::Other);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::config::{ChannelOptions, Config};
    use crate::proto::frame::encode_masked_frame;
    use crate::shard::testing::{Bed, Client, with_cores};

    /// A WebSocket that speaks the subprotocol, past its first message.
    fn subprotocol(bed: &mut Bed, path: &str) -> Client {
        let mut client = bed.connect(0);
        let offer = "Sec-WebSocket-Protocol: longwire.v1\r\n\r\n";
        let request = crate::shard::testing::upgrade(path);
        let request = request.trim_end().to_owned() + "\r\n" + offer;
        bed.say(&mut client, request.as_bytes());
        assert!(
            client
                .head()
                .contains("Sec-WebSocket-Protocol: longwire.v1\r\n")
        );
        assert!(client.message().starts_with(b"{\"subscribed\":"));
        client
    }

    fn ping(bed: &mut Bed, client: &mut Client) {
        let mut frame = Vec::new();
        encode_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], HEARTBEAT);
        bed.say(client, &frame);
    }

    #[test]
    fn who_asks_whether_anybody_is_there_is_answered_and_publishes_nothing() {
        with_cores(1, Config::default(), |bed| {
            // Where clients may publish, and where they may not.
            for path in ["/chat", "/channels/a"] {
                let mut client = subprotocol(bed, path);
                for _ in 0..3 {
                    ping(bed, &mut client);
                    assert_eq!(client.message(), HEARTBEAT);
                }
            }
            assert_eq!(bed.cores[0].metrics.publications.get(), 0);
            // Without the subprotocol it is a message like any other.
            let mut client = bed.websocket(0, "/channels/a");
            ping(bed, &mut client);
            assert_eq!(client.frame().0, 0x88);
        });
    }

    #[test]
    fn a_token_may_ask_for_other_pings_than_everybody_has() {
        let mut config = Config::default();
        config.client.token.hmac_secret_key = "secret".to_owned();
        with_cores(1, config, |bed| {
            for (claims, ping_s) in [
                (r#"{"sub":"1"}"#, 25),
                (r#"{"sub":"1","ping_interval":120}"#, 120),
                (r#"{"sub":"1","ping_interval":3}"#, 3),
            ] {
                let mut client = bed.websocket(0, "/connection/websocket");
                let token = crate::auth::sign_hs256("secret", claims).unwrap();
                let connect = format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#);
                let mut frame = Vec::new();
                encode_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], connect.as_bytes());
                bed.say(&mut client, &frame);
                let reply = String::from_utf8(client.message()).unwrap();
                assert!(reply.contains(&format!(r#""ping":{ping_s},"#)), "{reply}");
                let times = bed.cores[0].heartbeat_of(client.key);
                assert_eq!(times.ping_interval_s, ping_s);
                assert!(times.pong_timeout_s <= ping_s);
                let mut waited_s = 0;
                while !client.has_bytes() {
                    bed.pass_seconds(1);
                    waited_s += 1;
                    assert!(waited_s <= ping_s + 1, "{ping_s}: no ping");
                }
                assert!(
                    waited_s >= ping_s / 2,
                    "{ping_s}: a ping after {waited_s} s"
                );
                assert_eq!(client.message(), b"{}");
                bed.pass_seconds(times.pong_timeout_s + 1);
                assert!(
                    bed.cores[0].client(client.key).is_err(),
                    "it has not answered"
                );
            }
        });
    }

    #[test]
    fn listeners_of_a_channel_have_the_pings_its_options_say() {
        let mut config = Config::default();
        let slow = ChannelOptions {
            ping_interval_s: 120,
            pong_timeout_s: 20,
            ..config.channel.without_namespace.clone()
        };
        config.channel.namespaces.push(("slow".to_owned(), slow));
        with_cores(1, config, |bed| {
            for (path, ping_s, pong_s) in [("/channels/slow:a", 120, 20), ("/channels/a", 30, 15)] {
                let mut client = bed.websocket(0, path);
                let times = bed.cores[0].heartbeat_of(client.key);
                assert_eq!(
                    (times.ping_interval_s, times.pong_timeout_s),
                    (ping_s, pong_s)
                );
                bed.pass_seconds(ping_s / 2 - 1);
                assert!(!client.has_bytes(), "{path}: too early");
                let mut waited_s = ping_s / 2 - 1;
                while !client.has_bytes() {
                    bed.pass_seconds(1);
                    waited_s += 1;
                    assert!(waited_s <= ping_s + 1, "{path}: no ping");
                }
                assert_eq!(client.frame(), (0x89, vec![]));
            }
        });
    }

    #[test]
    fn whoever_sees_heartbeats_has_one_every_half_minute_whatever_the_pings_are() {
        let mut config = Config::default();
        config.heartbeat.ping_interval_ms = 600_000;
        config.heartbeat.pong_timeout_ms = 600_000;
        with_cores(1, config, |bed| {
            let mut client = subprotocol(bed, "/channels/a");
            let mut stream = bed.connect(0);
            let request = "GET /channels/a HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n";
            bed.say(&mut stream, request.as_bytes());
            bed.pass_seconds(SILENCE_MAX_S + 1);
            assert_eq!(client.frame().0, 0x89);
            assert_eq!(client.frame(), (0x81, HEARTBEAT.to_vec()));
            stream.head();
            let mut told = Vec::new();
            while !told.ends_with(b"3\r\n{}\n\r\n") {
                let mut byte = [0];
                stream.socket.read_exact(&mut byte).unwrap();
                told.push(byte[0]);
            }
            bed.cores[0].close_some(10, false);
            let mut told = std::iter::repeat_with(|| client.message());
            let goodbye = told.find(|told| told != HEARTBEAT).unwrap();
            assert!(goodbye.starts_with(b"{\"disconnect\":{\"code\":1001,"));
            assert_eq!(client.frame().0, 0x88);
        });
    }
}
