//! Subscribers that read too slowly, in channels whose publications may be dropped for them.
//!
//! What waits for such a subscriber waits frame by frame. When too much does, publications of the channel
//! that have not begun to go out make room, as the channel's options say; everything else stays. Nobody
//! loses anything without being told, where the protocol has words for it:
//!
//! - The dialects of objects and of events are told how many were dropped.
//! - A Centrifuge subscription with a position is ended with code 2500, so that its client subscribes anew
//!   and recovers; one that the server made ends with its connection, code 3010.
//! - A subscriber of differences gets the next publication whole.
//! - To a bare WebSocket, and to a Centrifuge subscription without position, nothing can be said.

use std::hash::BuildHasher;

use bytes::Bytes;

use crate::config::SlowReader;
use crate::hub::{Backlog, Dialect, Droppable, Dropped, Encoding, Framing, Key, Publication};
use crate::metrics::{CloseReason, DropPolicy};
use crate::proto::centrifuge::{Disconnect, UnsubscribeCode};
use crate::proto::envelope;
use crate::proto::frame::Opcode;
use crate::proto::http::append_chunk;
use crate::proto::sse;

use super::client::Progress;
use super::fanout::Portion;
use super::session::Session;
use super::{Core, Shared};

/// How a subscriber hears that it lost something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    /// In its own words, or not at all.
    Notice,
    /// It gets the next publication whole.
    Whole(Encoding),
    /// Its subscription ends, and it recovers.
    Unsubscribed,
    /// Its connection ends, and it recovers.
    Disconnected,
}

/// What may be dropped of a channel, and what a publication is a newer state of there.
pub(super) fn backlog_of(
    shared: &Shared,
    name: &str,
    publication: Option<&Publication>,
) -> (Backlog, u64) {
    let options = shared.config.channel.resolve_or_default(name);
    match options.slow_reader {
        SlowReader::Disconnect => (Backlog::Kept, 0),
        SlowReader::DropOldest => (Backlog::DropOldest, 0),
        SlowReader::KeepNewest => {
            let value = publication.and_then(|publication| tag(publication, &options.conflate_by));
            let key = value.map_or(0, |value| shared.channel_hash.hash_one(value));
            (Backlog::KeepNewest, key)
        }
    }
}

impl Core {
    /// Delivers a batch of a channel whose publications may be dropped to one subscriber of it.
    pub(super) fn deliver_or_drop(
        &mut self,
        key: Key,
        portion: &Portion<'_>,
        mut encoding: Encoding,
        now_s: u32,
    ) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let (channel, backlog) = (portion.channel, portion.frames.backlog());
        let mut frames = portion.bytes(encoding);
        let publications = portion.publications();
        if !may_drop(session) {
            return self.send_publications(key, &frames, publications, now_s);
        }
        let Some(outbox) = &session.outbox else {
            self.send_publications(key, &frames, publications, now_s);
            return self.split_backlog(key, portion, encoding);
        };
        let limits = &self.limits.outbox;
        if outbox.is_crowded(frames.len(), limits) {
            match self.consequence(key, channel, encoding) {
                Consequence::Notice => {
                    self.relieve(key, channel, backlog, encoding, frames.len());
                }
                Consequence::Whole(whole) => {
                    self.drop_all(key, channel, backlog, 0);
                    encoding = whole;
                    frames = portion.bytes(whole);
                }
                Consequence::Unsubscribed => {
                    self.drop_all(key, channel, backlog, publications);
                    let code = UnsubscribeCode::InsufficientState;
                    return self.unsubscribe_by_server(key, channel.slot, code);
                }
                Consequence::Disconnected => {
                    self.drop_all(key, channel, backlog, publications);
                    let reason = CloseReason::SlowConsumer;
                    return self.disconnect(key, &Disconnect::InsufficientState, reason);
                }
            }
        }
        self.metrics.sends.add(1);
        self.metrics.deliveries.add(u64::from(publications));
        self.queue_frames(key, portion, encoding, &frames, now_s);
    }

    fn consequence(&self, key: Key, channel: Key, encoding: Encoding) -> Consequence {
        let client = self.client(key).ok();
        let subscription = client.and_then(|client| client.subscription(channel.slot));
        match (subscription, encoding.without_base()) {
            (Some(one), _) if one.is_positioned && one.is_server_side => Consequence::Disconnected,
            (Some(one), _) if one.is_positioned => Consequence::Unsubscribed,
            (_, Some(whole)) => Consequence::Whole(whole),
            _ => Consequence::Notice,
        }
    }

    /// Drops what the channel's options say, and tells the subscriber.
    fn relieve(
        &mut self,
        key: Key,
        channel: Key,
        backlog: Backlog,
        encoding: Encoding,
        incoming: usize,
    ) {
        let now_s = self.now_s();
        let limits = &self.limits.outbox;
        let session = self.sessions.get_mut(key);
        let Some(outbox) = session.and_then(|session| session.outbox.as_mut()) else {
            return;
        };
        let dropped = match backlog {
            Backlog::KeepNewest => outbox.keep_newest(channel.slot, limits, now_s),
            _ => outbox.drop_oldest(channel.slot, incoming, limits, now_s),
        };
        self.note_dropped(backlog, dropped);
        if dropped.publications > 0 {
            self.tell_dropped(key, encoding, dropped.publications);
        }
    }

    fn drop_all(&mut self, key: Key, channel: Key, backlog: Backlog, unsent: u32) {
        let now_s = self.now_s();
        let limits = &self.limits.outbox;
        let session = self.sessions.get_mut(key);
        let Some(outbox) = session.and_then(|session| session.outbox.as_mut()) else {
            return;
        };
        let mut dropped = outbox.drop_all(channel.slot, limits, now_s);
        dropped.publications = dropped.publications.saturating_add(unsent);
        self.note_dropped(backlog, dropped);
    }

    fn note_dropped(&self, backlog: Backlog, dropped: Dropped) {
        let policy = match backlog {
            Backlog::KeepNewest => DropPolicy::KeepNewest,
            _ => DropPolicy::DropOldest,
        };
        let publications = u64::from(dropped.publications);
        self.metrics.publications_dropped(policy, publications);
        self.metrics.outbox_bytes.sub(dropped.bytes as u64);
    }

    /// Tells a subscriber of the plain dialect that so many more publications were dropped, if it has
    /// words for that.
    fn tell_dropped(&mut self, key: Key, encoding: Encoding, more: u32) {
        if !has_words(encoding) {
            return;
        }
        let now_s = self.now_s();
        let (scribe, limits) = (&mut self.scribe, &self.limits.outbox);
        let session = self.sessions.get_mut(key);
        let Some(outbox) = session.and_then(|session| session.outbox.as_mut()) else {
            return;
        };
        let before = outbox.bytes();
        outbox.note_dropped(more, limits, now_s, |dropped| {
            let mut message = Vec::new();
            envelope::append_dropped(&mut message, dropped);
            let mut frame = Vec::new();
            match encoding.framing {
                Framing::Events if encoding.dialect == Dialect::Verbatim => {
                    let event = sse::Event {
                        id: None,
                        event: Some("longwire.gap"),
                        data: &message,
                    };
                    let mut chunk = Vec::new();
                    sse::append_event(&mut chunk, &event);
                    append_chunk(&mut frame, &chunk);
                }
                _ => scribe.say(&mut frame, encoding, Opcode::Text, &message),
            }
            Bytes::from(frame)
        });
        self.metrics.outbox_bytes.add(outbox.bytes() as u64);
        self.metrics.outbox_bytes.sub(before as u64);
    }

    /// The kernel did not take all: what is left waits frame by frame.
    fn split_backlog(&mut self, key: Key, portion: &Portion<'_>, encoding: Encoding) {
        let session = self.sessions.get_mut(key);
        if let Some(outbox) = session.and_then(|session| session.outbox.as_mut()) {
            let parts = portion.parts(encoding);
            outbox.split(parts.map(|part| {
                let what = part.key.map(|key| Droppable {
                    channel: portion.channel.slot,
                    key,
                });
                (part.end as usize, what)
            }));
        }
    }

    /// Appends frames to an outbox, one by one.
    fn queue_frames(
        &mut self,
        key: Key,
        portion: &Portion<'_>,
        encoding: Encoding,
        frames: &Bytes,
        now_s: u32,
    ) {
        let limits = &self.limits.outbox;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.vitals.sent(now_s);
        let Some(outbox) = &mut session.outbox else {
            return;
        };
        let (before, mut start) = (outbox.bytes(), 0);
        let mut has_room = true;
        for part in portion.parts(encoding) {
            let end = (part.end as usize).min(frames.len());
            // A slice would keep all of the frames in memory.
            let frame = Bytes::copy_from_slice(frames.get(start..end).unwrap_or_default());
            start = end;
            let pushed = match part.key {
                Some(key) => {
                    let channel = portion.channel.slot;
                    let what = Droppable { channel, key };
                    outbox.push_publication(frame, what, limits, now_s)
                }
                None => outbox.push(frame, limits, now_s),
            };
            has_room = has_room && pushed.is_ok();
        }
        let queued = outbox.bytes() - before;
        self.queued(key, queued);
        if !has_room {
            self.close_slow_reader(key);
        }
    }
}

/// Whether what waits for a session can be taken apart: not if its frames refer to those before them, nor
/// before its first answer.
fn may_drop(session: &Session) -> bool {
    let is_connecting = session
        .client()
        .is_some_and(|client| client.progress == Progress::Connecting);
    !session.has_server_window() && !is_connecting
}

fn has_words(encoding: Encoding) -> bool {
    encoding.dialect == Dialect::Envelope
        || (encoding.dialect == Dialect::Verbatim && encoding.framing == Framing::Events)
}

/// The value of a publication's tag.
fn tag<'a>(publication: &'a Publication, name: &str) -> Option<&'a str> {
    let extra = publication.extra.as_ref()?;
    let mut tags = extra.tags.iter();
    tags.find(|(tag, _)| **tag == *name)
        .map(|(_, value)| &**value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;
    use crate::hub::Kind;
    use crate::proto::centrifuge::fossil;
    use crate::shard::inbox::Asker;
    use crate::shard::testing::{Bed, Client, with_cores};
    use crate::shard::{PublishOptions, Submission, Submitted};

    /// So many that most of them find no room.
    const PUBLICATIONS: usize = 2000;

    fn config(slow_reader: SlowReader) -> Config {
        let mut config = Config::default();
        config.client.limits.insecure = true;
        config.outbox.soft_bytes = 20_000;
        config.outbox.hard_bytes = 200_000;
        let options = &mut config.channel.without_namespace;
        options.slow_reader = slow_reader;
        options.force_recovery = false;
        if slow_reader == SlowReader::KeepNewest {
            options.conflate_by = "key".to_owned();
        }
        config
    }

    /// Publishes objects with a number and a key of three, to subscribers that read nothing meanwhile.
    fn publish_all(bed: &mut Bed) {
        for i in 1..=PUBLICATIONS {
            let key = format!("{}", i % 3);
            let data = json!({"i": i, "key": key, "filler": "x".repeat(500)});
            let submission = Submission {
                channel: Arc::from("a"),
                kind: Kind::Json,
                data: Bytes::from(data.to_string()),
                options: Some(Box::new(PublishOptions {
                    tags: vec![("key".into(), key.into())],
                    uses_delta: true,
                    ..PublishOptions::default()
                })),
            };
            let session = Key {
                slot: 0,
                generation: 0,
            };
            let outcome = bed.cores[0].publish(submission, Asker { session, tag: 0 });
            assert!(matches!(outcome, Submitted::Done(Ok(_))));
            while bed.cores[0].fan_out() {}
        }
    }

    /// Reads until `is_last`, while the shard sends what waits.
    fn read_all(
        bed: &mut Bed,
        mut client: Client,
        mut is_last: impl FnMut(&Value) -> bool + Send + 'static,
    ) -> Vec<Value> {
        assert!(bed.cores[0].sessions.get(client.key).is_some(), "closed");
        let reader = std::thread::spawn(move || {
            let mut messages = Vec::new();
            loop {
                let message = client.message();
                let text = String::from_utf8(message).unwrap();
                for line in text.lines() {
                    messages.push(serde_json::from_str(line).unwrap());
                }
                if messages.last().is_some_and(&mut is_last) {
                    return (messages, client);
                }
            }
        });
        bed.flush_all(0);
        let (messages, _client) = reader.join().unwrap();
        assert_eq!(bed.cores[0].metrics.outbox_bytes.get(), 0);
        messages
    }

    /// A subscriber that is told of offsets and of what was dropped.
    fn listener(bed: &mut Bed) -> Client {
        let client = bed.websocket(0, "/channels/a");
        let core = &mut bed.cores[0];
        let plain = core.sessions.get_mut(client.key).unwrap();
        let plain = plain.subscription.take().unwrap();
        let local = core.local.find("a").unwrap();
        let encoding = Encoding {
            dialect: Dialect::Envelope,
            ..Encoding::PLAIN
        };
        let subscription = core.add_subscriber(local, client.key, encoding);
        core.sessions.get_mut(client.key).unwrap().subscription = subscription;
        core.remove_subscriber(plain);
        client
    }

    fn offsets(messages: &[Value]) -> Vec<u64> {
        let offsets = messages.iter().filter_map(|m| m["offset"].as_u64());
        offsets.collect()
    }

    fn dropped(messages: &[Value]) -> u64 {
        messages.iter().filter_map(|m| m["dropped"].as_u64()).sum()
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        with_cores(1, config(SlowReader::DropOldest), |bed| {
            let client = listener(bed);
            publish_all(bed);
            let is_last = |m: &Value| m["offset"] == json!(PUBLICATIONS);
            let messages = read_all(bed, client, is_last);
            let offsets = offsets(&messages);
            assert!(offsets.is_sorted_by(|a, b| a < b));
            let missing = PUBLICATIONS as u64 - offsets.len() as u64;
            assert!(missing > 0);
            assert_eq!(dropped(&messages), missing);
            let counted = bed.cores[0].metrics.dropped(DropPolicy::DropOldest);
            assert_eq!(counted, missing);
        });
    }

    #[test]
    fn the_newest_of_each_key_is_kept() {
        with_cores(1, config(SlowReader::KeepNewest), |bed| {
            let client = listener(bed);
            publish_all(bed);
            let is_last = |m: &Value| m["offset"] == json!(PUBLICATIONS);
            let messages = read_all(bed, client, is_last);
            let offsets = offsets(&messages);
            assert!(offsets.is_sorted_by(|a, b| a < b));
            let newest = [2, 1, 0].map(|ago| PUBLICATIONS as u64 - ago);
            assert_eq!(offsets[offsets.len() - 3..], newest);
            assert_eq!(
                dropped(&messages),
                PUBLICATIONS as u64 - offsets.len() as u64
            );
        });
    }

    #[test]
    fn where_nothing_may_be_dropped_a_slow_reader_is_closed() {
        with_cores(1, config(SlowReader::Disconnect), |bed| {
            let client = listener(bed);
            publish_all(bed);
            drop(client);
            assert_eq!(bed.cores[0].metrics.closes(CloseReason::SlowConsumer), 0);
            bed.pass_seconds(10);
            assert_eq!(bed.cores[0].metrics.closes(CloseReason::SlowConsumer), 1);
        });
    }

    fn say(bed: &mut Bed, client: &mut Client, command: Value) -> Value {
        let mut payload = command.to_string().into_bytes();
        let mask = [1, 2, 3, 4];
        let masked = payload.iter_mut().zip(mask.iter().cycle());
        masked.for_each(|(byte, mask)| *byte ^= mask);
        let length = u8::try_from(payload.len()).unwrap();
        assert!(length < 126);
        let head = [0x81, 0x80 | length, 1, 2, 3, 4];
        bed.say(client, &[&head[..], &payload].concat());
        serde_json::from_slice(&client.message()).unwrap()
    }

    fn centrifuge(bed: &mut Bed, subscribe: Value) -> Client {
        let mut client = bed.websocket(0, "/connection/websocket");
        say(bed, &mut client, json!({"id": 1, "connect": {}}));
        let answer = say(bed, &mut client, json!({"id": 2, "subscribe": subscribe}));
        assert!(answer["subscribe"].is_object(), "{answer}");
        client
    }

    #[test]
    fn a_client_with_a_position_is_unsubscribed_so_that_it_recovers() {
        let mut config = config(SlowReader::DropOldest);
        let options = &mut config.channel.without_namespace;
        options.history_size = 10_000;
        options.history_ttl_s = 60;
        options.force_recovery = true;
        with_cores(1, config, |bed| {
            let client = centrifuge(bed, json!({"channel": "a"}));
            publish_all(bed);
            let is_last = |m: &Value| m["push"]["unsubscribe"].is_object();
            let messages = read_all(bed, client, is_last);
            let (last, publications) = messages.split_last().unwrap();
            assert_eq!(last["push"]["unsubscribe"]["code"], json!(2500));
            let offsets: Vec<_> = publications
                .iter()
                .map(|m| m["push"]["pub"]["offset"].as_u64().unwrap())
                .collect();
            let whole: Vec<_> = (1..=offsets.len() as u64).collect();
            assert_eq!(offsets, whole, "no gap before it");
            let counted = bed.cores[0].metrics.dropped(DropPolicy::DropOldest);
            assert!(counted > 0);
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 0);
        });
    }

    #[test]
    fn a_subscriber_of_differences_gets_a_whole_publication_after_a_gap() {
        let mut config = config(SlowReader::DropOldest);
        let options = &mut config.channel.without_namespace;
        options.allowed_delta_types = vec![crate::config::DeltaType::Fossil];
        with_cores(1, config, |bed| {
            let client = centrifuge(bed, json!({"channel": "a", "delta": "fossil"}));
            publish_all(bed);
            let mut base = Vec::new();
            let (numbers, seen) = std::sync::mpsc::channel();
            read_all(bed, client, move |message| {
                let publication = &message["push"]["pub"];
                let data = publication["data"].as_str().unwrap().as_bytes();
                base = match publication["delta"] == json!(true) {
                    true => fossil::apply(&base, data, 10_000).unwrap(),
                    false => data.to_vec(),
                };
                let value: Value = serde_json::from_slice(&base).unwrap();
                let number = value["i"].as_u64().unwrap();
                numbers.send(number).unwrap();
                number == PUBLICATIONS as u64
            });
            let seen: Vec<u64> = seen.iter().collect();
            assert!(seen.is_sorted_by(|a, b| a < b));
            assert!(seen.len() < PUBLICATIONS);
        });
    }
}
