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
use crate::hub::{
    Backlog, Dialect, Droppable, Dropped, Encoding, Frames, Framing, Key, Publication,
};
use crate::metrics::{CloseReason, DropPolicy};
use crate::proto::centrifuge::{Disconnect, UnsubscribeCode};
use crate::proto::envelope;
use crate::proto::frame::Opcode;
use crate::proto::http::append_chunk;
use crate::proto::sse;

use super::client::Progress;
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
        channel: Key,
        batch: &Frames,
        mut encoding: Encoding,
        now_s: u32,
    ) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let mut frames = batch.of(key.slot, encoding).into_owned();
        let publications = batch.publications_of(key.slot);
        if !may_drop(session) {
            return self.send_publications(key, &frames, publications, now_s);
        }
        let Some(outbox) = &session.outbox else {
            self.send_publications(key, &frames, publications, now_s);
            return self.split_backlog(key, channel, batch, encoding);
        };
        let limits = &self.limits.outbox;
        if outbox.is_crowded(frames.len(), limits) {
            match self.consequence(key, channel, encoding) {
                Consequence::Notice => {
                    self.relieve(key, channel, batch.backlog(), encoding, frames.len());
                }
                Consequence::Whole(whole) => {
                    self.drop_all(key, channel, batch.backlog(), 0);
                    encoding = whole;
                    frames = batch.of(key.slot, whole).into_owned();
                }
                Consequence::Unsubscribed => {
                    self.drop_all(key, channel, batch.backlog(), publications);
                    let code = UnsubscribeCode::InsufficientState;
                    return self.unsubscribe_by_server(key, channel.slot, code);
                }
                Consequence::Disconnected => {
                    self.drop_all(key, channel, batch.backlog(), publications);
                    let reason = CloseReason::SlowConsumer;
                    return self.disconnect(key, &Disconnect::InsufficientState, reason);
                }
            }
        }
        self.metrics.sends.add(1);
        self.metrics.deliveries.add(u64::from(publications));
        self.queue_frames(key, channel, batch, encoding, &frames, now_s);
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
    fn split_backlog(&mut self, key: Key, channel: Key, batch: &Frames, encoding: Encoding) {
        let session = self.sessions.get_mut(key);
        if let Some(outbox) = session.and_then(|session| session.outbox.as_mut()) {
            let parts = batch.parts_of(key.slot, encoding);
            outbox.split(parts.map(|part| {
                let what = part.key.map(|key| Droppable {
                    channel: channel.slot,
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
        channel: Key,
        batch: &Frames,
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
        for part in batch.parts_of(key.slot, encoding) {
            let end = (part.end as usize).min(frames.len());
            // A slice would keep all of the frames in memory.
            let frame = Bytes::copy_from_slice(frames.get(start..end).unwrap_or_default());
            start = end;
            let pushed = match part.key {
                Some(key) => {
                    let channel = channel.slot;
                    let what = Droppable { channel, key };
                    outbox.push_publication(frame, what, limits, now_s)
                }
                None => outbox.push(frame, limits, now_s),
            };
            has_room = has_room && pushed.is_ok();
        }
        let queued = outbox.bytes() - before;
        self.metrics.outbox_bytes.add(queued as u64);
        match has_room {
            true => self.reschedule(key),
            false => self.close_slow_reader(key),
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
