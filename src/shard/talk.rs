//! How connections that speak a protocol of their own begin and end their talk: pings, and disconnects.

use bytes::Bytes;

use crate::hub::{Framing, HeartbeatTimes, Key, Vitals};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::{Disconnect, PushEvent, encode_ping};
use crate::proto::http::LAST_CHUNK;
use crate::proto::{sockjs, sse};

use super::Core;
use super::client::Progress;
use super::session::Stage;

/// An unmasked WebSocket Ping without payload.
const PING: &[u8] = &[0x89, 0x00];

impl Core {
    /// Ends a session of the Centrifuge protocol, in the words of its carrier.
    pub(super) fn disconnect(&mut self, key: Key, disconnect: &Disconnect, reason: CloseReason) {
        match self.stage(key) {
            Some(Stage::WebSocket(_)) => {
                self.close_with(key, disconnect.code(), disconnect.reason(), reason);
            }
            Some(Stage::Stream(_)) => {
                self.push(key, "", PushEvent::Disconnect(disconnect));
                self.end_stream(key, reason);
            }
            _ => {}
        }
    }

    /// Ends a response that goes on.
    pub(super) fn end_stream(&mut self, key: Key, reason: CloseReason) {
        let Some(Stage::Stream(stream)) = self.stage(key) else {
            return;
        };
        let _ = stream;
        self.send(key, Bytes::from_static(LAST_CHUNK));
        self.finish(key, reason);
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
            _ => self.limits.heartbeat,
        }
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
            Ok(client) => client.is_uni || client.pong_timeout_s == 0,
            Err(_) => matches!(self.stage(key), Some(Stage::Stream(_))),
        }
    }

    /// Sends a ping, whatever that is on this connection.
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
            return self.say(key, &out);
        }
        match self.stage(key) {
            Some(Stage::WebSocket(_)) => self.send(key, Bytes::from_static(PING)),
            Some(Stage::Stream(stream)) => {
                let mut ping = Vec::new();
                match stream.framing {
                    Framing::Events => sse::append_comment(&mut ping, ""),
                    Framing::SockJsChunks | Framing::SockJsEvents | Framing::SockJsWebSocket => {
                        sockjs::append_heartbeat(&mut ping);
                    }
                    _ => ping.extend_from_slice(b"{}\n"),
                }
                crate::proto::http::append_chunk(&mut out, &ping);
                self.send(key, out);
            }
            _ => {}
        }
    }
}
