//! Where an event stream of a client that only listens stands in all its channels: the id of its last event, which
//! a browser sends back when it reconnects.

use bytes::Bytes;

use crate::hub::{Dialect, Encoding, Framing, Key, Position};
use crate::proto::centrifuge::ConnectRequest;
use crate::proto::cursor::{Cursor, append_channel_cursor, parse_channel_cursors};

use super::Core;
use super::client::Progress;

/// The longest id. It comes back in the head of a request, which has a limit too; who is in so many channels that
/// it would be longer gets none.
const ID_BYTES_MAX: usize = 4096;

/// Where a client stands in one of its channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The channel in the shard's table.
    channel: u32,
    /// Up to where the client has everything.
    position: Position,
}

/// True for what goes to an event stream of a client that only listens.
pub(super) fn has_ids(encoding: Encoding) -> bool {
    encoding.dialect == Dialect::UniJson && encoding.framing == Framing::Events
}

/// Has a request to connect begin where the client's last event was. What is no id of such an event is ignored.
pub(super) fn resume(request: &mut ConnectRequest, last_event_id: &str, channels_max: usize) {
    let cursors = parse_channel_cursors(last_event_id, channels_max);
    for (channel, cursor) in cursors.into_iter().flatten() {
        let known = request.subs.entry(channel).or_default();
        known.recover = true;
        known.epoch = cursor.epoch.to_owned();
        known.offset = cursor.offset;
    }
}

impl Core {
    /// A client has everything of a channel up to `position`.
    pub(super) fn note_place(&mut self, key: Key, channel: u32, position: Position) {
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let places = &mut client.rare_mut().places;
        match places.iter_mut().find(|place| place.channel == channel) {
            Some(place) => place.position = position,
            None => places.push(Place { channel, position }),
        }
    }

    /// A client is about to get what a channel has up to `position`: `frames`, and the id that says so.
    pub(super) fn with_id(
        &mut self,
        key: Key,
        channel: u32,
        position: Position,
        frames: &Bytes,
    ) -> Bytes {
        if self.move_place(key, channel, position).is_none() {
            return frames.clone();
        }
        let mut out = frames.to_vec();
        // What comes before the answer to a request to connect is held back, and so is where it leads.
        if self
            .client(key)
            .is_ok_and(|client| client.progress == Progress::Connected)
        {
            self.append_id(&mut out, key);
        }
        out.into()
    }

    /// Tells a client where it stands, if it is to know.
    pub(super) fn say_id(&mut self, key: Key) {
        let mut out = Vec::new();
        self.append_id(&mut out, key);
        if !out.is_empty() {
            self.send(key, out);
        }
    }

    /// `None` if it does not matter where the client stands there.
    fn move_place(&mut self, key: Key, channel: u32, position: Position) -> Option<()> {
        let places = &mut self.client_mut(key).ok()?.rare.as_mut()?.places;
        let place = places.iter_mut().find(|place| place.channel == channel)?;
        place.position = position;
        Some(())
    }

    fn append_id(&mut self, out: &mut Vec<u8>, key: Key) {
        let Some(id) = self.id_of(key) else {
            return;
        };
        if id.len() <= ID_BYTES_MAX {
            self.scribe.mark(out, &id, false, None);
        }
    }

    /// Where a client stands in all its channels; `None` if it is in none where that matters.
    fn id_of(&mut self, key: Key) -> Option<String> {
        let session = self.sessions.get(key)?;
        let places = &session.client()?.rare.as_ref()?.places;
        let mut id = String::new();
        for place in places {
            let epoch = place.position.epoch.to_string();
            let cursor = Cursor {
                epoch: &epoch,
                offset: place.position.offset,
            };
            if let Some((_, channel)) = self.local.at_mut(place.channel) {
                append_channel_cursor(&mut id, &channel.name, cursor);
            }
        }
        (!id.is_empty()).then_some(id)
    }
}

impl Place {
    /// Whether it is in that channel of the shard's table.
    pub fn is_in(&self, channel: u32) -> bool {
        self.channel == channel
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::shard::testing::{Bed, Client as Peer, with_cores};

    fn publish(bed: &mut Bed, channel: &str, body: &str) {
        let mut peer = bed.connect(0);
        let length = body.len();
        let request = format!(
            "POST /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        bed.say(&mut peer, request.as_bytes());
        bed.pass_messages();
        assert!(peer.head().starts_with("HTTP/1.1 200 "));
        for core in &mut bed.cores {
            while core.fan_out() {}
        }
    }

    /// An event stream over channels.
    fn events(bed: &mut Bed, channels: &[String], last_event_id: &str) -> Peer {
        let subs: Vec<String> = channels
            .iter()
            .map(|name| format!("\"{name}\":{{}}"))
            .collect();
        let body = format!("{{\"subs\":{{{}}}}}", subs.join(","));
        let length = body.len();
        let request = format!(
            "POST /connection/uni_sse HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last_event_id}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut peer = bed.connect(1);
        bed.say(&mut peer, request.as_bytes());
        bed.pass_messages();
        assert!(peer.head().starts_with("HTTP/1.1 200 "));
        assert_eq!(peer.chunk(), b"\r\n");
        peer
    }

    fn text(peer: &mut Peer) -> String {
        String::from_utf8(peer.chunk()).unwrap()
    }

    #[test]
    fn a_stream_goes_on_in_all_its_channels_where_its_last_event_was() {
        with_cores(2, Config::default(), |bed| {
            let channels = [bed.channel_of(0), bed.channel_of(1)];
            let mut peer = events(bed, &channels, "");
            assert!(text(&mut peer).starts_with("data: {\"connect\":"));
            let first = text(&mut peer);
            assert!(
                first.contains(&channels[0]) && first.contains(&channels[1]),
                "{first}"
            );
            publish(bed, &channels[0], "1");
            assert!(text(&mut peer).starts_with("data: {\"channel\":"));
            let id = text(&mut peer);
            let id = id.strip_prefix("id: ").unwrap().trim_end().to_owned();
            publish(bed, &channels[0], "2");
            publish(bed, &channels[1], "3");
            let key = peer.key;
            peer.reset();
            bed.receive_at(1, key);
            let mut again = events(bed, &channels, &id);
            let connect = text(&mut again);
            assert_eq!(
                connect.matches("\"recovered\":true").count(),
                2,
                "{connect}"
            );
            for missed in ["\"data\":2", "\"data\":3"] {
                assert!(connect.contains(missed), "{connect}");
            }
            assert!(!connect.contains("\"data\":1"), "{connect}");
            let id = text(&mut again);
            assert!(id.contains(":2") && id.contains(":1"), "{id}");
        });
    }

    #[test]
    fn channels_without_history_have_no_ids() {
        let mut config = Config::default();
        config.channel.without_namespace.history_size = 0;
        with_cores(2, config, |bed| {
            let channels = [bed.channel_of(0)];
            let mut peer = events(bed, &channels, "not an id");
            text(&mut peer);
            publish(bed, &channels[0], "1");
            publish(bed, &channels[0], "2");
            assert!(text(&mut peer).ends_with("{\"data\":1}}\n\n"));
            assert!(text(&mut peer).ends_with("{\"data\":2}}\n\n"));
        });
    }

    #[test]
    fn an_id_says_where_to_begin() {
        let mut request = ConnectRequest::default();
        resume(&mut request, "a=e:7,b=f:8", 2);
        assert_eq!(request.subs["a"].offset, 7);
        assert!(request.subs["b"].recover && request.subs["b"].epoch == "f");
        for bad in ["", "a", "a=e:7,b=f:8,c=g:9"] {
            let mut request = ConnectRequest::default();
            resume(&mut request, bad, 2);
            assert!(request.subs.is_empty(), "{bad}");
        }
    }
}
