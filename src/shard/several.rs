//! Listeners of several channels of the plain dialect on one connection.
//!
//! While such a listener is being let in, its request waits as an [`Opening`]: each channel begins on its own, as soon
//! as its owner has answered, and what comes of it before the last one begins is kept for the listener. Then it has the
//! head of its answer, and everything that was kept. The parts of a poll come the same way.

use std::sync::Arc;

use bytes::Bytes;

use crate::hub::{
    Dialect, Encoding, Framing, Key, Kind, Position, Publication, Recovery, Selection, Since,
};
use crate::metrics::CloseReason;
use crate::proto::cursor::{Cursor, append_channel_cursor};
use crate::proto::envelope::{self, Standing};
use crate::proto::frame::Opcode;
use crate::proto::http::append_chunk;
use crate::proto::sse;

use super::asks::{AnswerTo, Question, RecoveryWish};
use super::channels::Hearing;
use super::http::{ConnectionPlan, HttpStage, Phase};
use super::inbox::Asker;
use super::poll::{POSITION_HEADER, waited};
use super::requests::After;
use super::session::{Session, Stage, Subscription};
use super::upgrade::{Carrier, Heard, Upgrade, too_many_channels};
use super::{Core, Reply, scribe};

/// What was missed and what comes before the listener has the head of its answer, in bytes. Of a channel whose part is
/// beyond it a poll brings nothing yet, and a stream says that it is missing.
const OPENING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The channels of a request, and what its listener has of each.
#[derive(Clone, Debug)]
pub struct ListenSeveral {
    /// What is said about each publication.
    pub dialect: Dialect,
    /// The channels, each once.
    pub channels: Vec<Wish>,
    /// When the listener's token ends, in Unix seconds; 0 for never.
    pub expire_at_s: i64,
}

/// One channel of several.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The channel's name.
    pub channel: Arc<str>,
    /// What the listener has.
    pub since: Option<Since>,
}

/// Where a listener stands in its channels.
#[derive(Default)]
pub(super) struct Several {
    parts: Vec<Part>,
}

/// One of them.
#[derive(Clone, Copy)]
struct Part {
    /// The channel in the shard's table.
    channel: u32,
    /// `None` while it is not begun.
    place: Option<Subscription>,
    /// Up to where the listener has everything; `None` if it did not say, until the channel begins.
    position: Option<Position>,
}

/// A request that waits for the owners of its channels.
pub(super) struct Opening {
    upgrade: Box<Upgrade>,
    encoding: Encoding,
    wishes: Vec<Wish>,
    several: Several,
    /// Channels that are not begun.
    outstanding: usize,
    /// Of which channels the owner has been asked what was missed, by their place among the wishes.
    asked: Vec<bool>,
    /// Channels of which something is missing, by their place in the shard's table.
    gaps: Vec<u32>,
    /// For the listener: frames, or the parts of a page.
    out: Vec<u8>,
}

/// A listener that is let in.
pub(super) struct Opened {
    pub several: Several,
    /// What it is told first.
    pub out: Vec<u8>,
}

impl Core {
    /// Begins to listen to several channels.
    pub(super) fn begin_several(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        upgrade: Upgrade,
        listen: ListenSeveral,
        connection: ConnectionPlan,
    ) -> After {
        let mut opening = Opening::new(upgrade, listen);
        let owner_of = |core: &Self, name: &str| core.shared.owner_of(name);
        for index in 0..opening.wishes.len() {
            let Wish { channel, since } = opening.wishes[index].clone();
            let Some((local, hearing)) = self.hear(key, &channel) else {
                self.leave_parts(key, opening.several);
                return self.http_reply(key, http, &too_many_channels(), connection);
            };
            opening.several.parts.push(Part {
                channel: local.slot,
                place: None,
                position: since.and_then(position_of),
            });
            let here = self.local.get_mut(local).map(|channel| channel.position);
            let is_here = hearing == Hearing::Now;
            let has_all = is_here && since.is_some() && since == here.map(Since::from);
            let must_ask = since.is_some() && !has_all;
            let owner = owner_of(self, &channel);
            if is_here && (!must_ask || owner == self.id) {
                let recovery = match (must_ask, here) {
                    (true, _) => self.recover_here(&channel, opening.wish(since)),
                    (false, Some(position)) if has_all => Some(Recovery {
                        recovered: true,
                        publications: Vec::new(),
                        position,
                    }),
                    _ => None,
                };
                self.begin_part(key, &mut opening, index, recovery);
                continue;
            }
            if must_ask {
                if is_here {
                    self.hold(local, key);
                }
                opening.asked[index] = true;
                let tag = index as u32;
                let asker = Asker { session: key, tag };
                let question = Question::Recover(opening.wish(since));
                self.ask(owner, asker, &channel, question);
            }
        }
        if opening.outstanding == 0 {
            return self.opened(key, http, opening);
        }
        http.deadline_s = self.now_s() + self.limits.ready_timeout_s;
        http.phase = Phase::AwaitSeveral(Box::new(opening));
        After::Wait
    }

    /// One of the channels is delivered here, and what was missed of it is known: it begins.
    fn begin_part(
        &mut self,
        key: Key,
        opening: &mut Opening,
        index: usize,
        recovery: Option<Recovery>,
    ) {
        let Some(Wish { channel, since }) = opening.wishes.get(index).cloned() else {
            return;
        };
        let encoding = opening.encoding;
        let Some(slot) = opening.several.parts.get(index).map(|part| part.channel) else {
            return;
        };
        let Some((local, here)) = self
            .local
            .at_mut(slot)
            .map(|(key, one)| (key, one.position))
        else {
            return;
        };
        opening.outstanding -= 1;
        let mut known = recovery.unwrap_or(Recovery {
            recovered: false,
            publications: Vec::new(),
            position: here,
        });
        let is_full = opening.out.len() > OPENING_BYTES_MAX;
        if is_full && opening.is_poll() && known.recovered {
            // It will be asked again from where it is, and hears nothing until then. The answer names it.
            self.hold(local, key);
            return;
        }
        // What is beyond a page is for the next poll. What is published until this one is answered would come
        // after a gap.
        let is_page = opening.is_poll() && !known.publications.is_empty() && known.position != here;
        let place = match is_page {
            true => {
                self.hold(local, key);
                None
            }
            false => self.add_subscriber(local, key, encoding),
        };
        if let Some(part) = opening.several.part_mut(slot) {
            part.place = place;
        }
        if is_full {
            (known.recovered, known.publications) = (false, Vec::new());
        }
        let is_gap = since.is_some() && !known.recovered;
        if is_gap {
            opening.gaps.push(slot);
        }
        // Where it stands before what was missed.
        let position = match (since, known.recovered) {
            (Some(since), true) => Position {
                epoch: known.position.epoch,
                offset: since.offset,
            },
            _ => known.position,
        };
        opening.several.move_to(slot, position);
        self.greet_part(opening, &channel, slot, position, is_gap);
        let missed = known.publications.len() as u64;
        self.metrics.recovered_publications.add(missed);
        let mut frames = Vec::new();
        let place = scribe::Place {
            name: &channel,
            local: slot,
            epoch: known.position.epoch,
            is_stream: true,
        };
        for publication in &known.publications {
            self.scribe
                .publication(&mut frames, encoding, &place, publication, None);
        }
        let frames = frames.into();
        let frames = self.for_several(&mut opening.several, slot, known.position, encoding, frames);
        opening.out.extend_from_slice(&frames);
    }

    /// Tells the listener where it stands in a channel that begins.
    fn greet_part(
        &mut self,
        opening: &mut Opening,
        channel: &str,
        slot: u32,
        position: Position,
        is_gap: bool,
    ) {
        let encoding = opening.encoding;
        match (encoding.dialect, encoding.framing) {
            (_, Framing::Items) => {}
            (Dialect::NamedEnvelope, _) => {
                let mut message = Vec::new();
                let epoch = position.epoch.to_string();
                let index = opening
                    .several
                    .parts
                    .iter()
                    .position(|part| part.channel == slot);
                let wish = index.and_then(|index| opening.wishes.get(index));
                let recovered = !is_gap && wish.is_some_and(|wish| wish.since.is_some());
                let offset = position.offset;
                envelope::append_subscribed(&mut message, Some(channel), &epoch, offset, recovered);
                self.scribe
                    .say(&mut opening.out, encoding, Opcode::Text, &message);
            }
            _ if is_gap => {
                let mut about = Vec::new();
                envelope::append_about(&mut about, channel, None);
                let id = self.cursor_of(&opening.several);
                let event = sse::Event {
                    id: Some(&id),
                    event: Some(sse::GAP_EVENT),
                    data: &about,
                };
                let mut chunk = Vec::new();
                sse::append_event(&mut chunk, &event);
                append_chunk(&mut opening.out, &chunk);
            }
            _ => {}
        }
    }

    /// A channel that a request waited for is delivered here now.
    pub(super) fn part_heard(&mut self, key: Key, local: Key) {
        let index = self.opening(key).and_then(|opening| {
            let mut parts = opening.several.parts.iter();
            let index = parts.position(|part| part.channel == local.slot && part.place.is_none());
            index.filter(|index| opening.asked.get(*index) == Some(&false))
        });
        if let Some(index) = index {
            self.go_on_opening(key, index, None);
        }
    }

    /// The owner said what was missed of a channel.
    pub(super) fn part_answered(&mut self, asker: Asker, answer: AnswerTo) {
        let (key, index) = (asker.session, asker.tag as usize);
        let Some(opening) = self.opening(key) else {
            return;
        };
        let part = opening.several.parts.get(index);
        let Some(slot) = part
            .filter(|part| part.place.is_none())
            .map(|part| part.channel)
        else {
            return;
        };
        let recovery = match answer {
            AnswerTo::Recovery(recovery) => Some(recovery),
            _ => None,
        };
        let local = self.local.at_mut(slot).map(|(local, _)| local);
        self.go_on_opening(key, index, recovery);
        if let Some(local) = local {
            self.let_go(local, key);
        }
    }

    fn go_on_opening(&mut self, key: Key, index: usize, recovery: Option<Recovery>) {
        let Some(http) = self.opening_stage(key) else {
            return;
        };
        let Phase::AwaitSeveral(mut opening) = std::mem::replace(&mut http.phase, Phase::Head)
        else {
            return;
        };
        self.begin_part(key, &mut opening, index, recovery);
        if opening.outstanding > 0 {
            if let Some(http) = self.opening_stage(key) {
                http.phase = Phase::AwaitSeveral(opening);
            }
            return;
        }
        if let Some(mut http) = self.take_http(key) {
            let after = self.opened(key, &mut http, *opening);
            self.go_on(key, http, after);
        }
    }

    /// All channels are begun.
    fn opened(&mut self, key: Key, http: &mut HttpStage, opening: Opening) -> After {
        let is_answered = !opening.gaps.is_empty() || !opening.out.is_empty() || self.is_draining();
        if opening.is_poll() && is_answered {
            let reply = self.pages(&opening.several, &opening.gaps, &opening.out);
            self.leave_parts(key, opening.several);
            let connection = http.connection;
            return self.http_reply(key, http, &waited(reply), connection);
        }
        let Opening {
            upgrade,
            encoding,
            several,
            mut out,
            ..
        } = opening;
        if encoding.dialect == Dialect::NamedVerbatim {
            let (id, retry_ms) = (self.cursor_of(&several), self.retry_ms());
            self.scribe.mark(&mut out, &id, false, Some(retry_ms));
        }
        let opened = Opened { several, out };
        After::Upgrade(upgrade, Some(Heard::Several(Box::new(opened))))
    }

    /// A pass brings something to a request that still waits for others of its channels.
    pub(super) fn keep_for_opening(&mut self, key: Key, frames: &Bytes) {
        let Some(http) = self.opening_stage(key) else {
            return;
        };
        let Phase::AwaitSeveral(opening) = &mut http.phase else {
            return;
        };
        opening.out.extend_from_slice(frames);
        if opening.out.len() > 2 * OPENING_BYTES_MAX {
            let reply = Reply::text(503, "too much at once").with("Retry-After", "5");
            self.reply_and_finish(key, &reply.closing(), CloseReason::SlowConsumer);
        }
    }

    /// What a pass brings to a listener of several channels, as it is to get it: events have ids that say where it
    /// stands in all of them.
    pub(super) fn for_several(
        &mut self,
        several: &mut Several,
        channel: u32,
        position: Position,
        encoding: Encoding,
        frames: Bytes,
    ) -> Bytes {
        if encoding.dialect != Dialect::NamedVerbatim {
            several.move_to(channel, position);
            return frames;
        }
        let mut out = Vec::with_capacity(frames.len() * 2);
        several.renew(channel, position);
        let (before, after) = self.cursor_around(several, channel);
        let mut rest = &frames[..];
        while let Some((offset, event, others)) = split_record(rest) {
            let mut chunk = Vec::with_capacity(event.len() + before.len() + after.len() + 32);
            // What has no offset does not change where the listener is.
            if offset != 0 {
                let epoch = position.epoch;
                chunk
                    .extend_from_slice(format!("id: {before}{epoch}:{offset}{after}\n").as_bytes());
            }
            chunk.extend_from_slice(event);
            append_chunk(&mut out, &chunk);
            rest = others;
        }
        several.move_to(channel, position);
        out.into()
    }

    /// The same for a session in the table.
    pub(super) fn for_listener(
        &mut self,
        key: Key,
        channel: u32,
        position: Position,
        encoding: Encoding,
        frames: Bytes,
    ) -> Bytes {
        let several = self.sessions.get_mut(key).and_then(Session::several_mut);
        let Some(several) = several else {
            return frames;
        };
        let mut taken = std::mem::take(several);
        let frames = self.for_several(&mut taken, channel, position, encoding, frames);
        if let Some(several) = self.sessions.get_mut(key).and_then(Session::several_mut) {
            *several = taken;
        }
        frames
    }

    /// Where a listener stands in all its channels.
    pub(super) fn cursor_of(&mut self, several: &Several) -> String {
        let mut text = String::new();
        for part in &several.parts {
            self.append_cursor(&mut text, part, false);
        }
        text
    }

    /// What comes before the position in one of the channels, and what after it.
    fn cursor_around(&mut self, several: &Several, channel: u32) -> (String, String) {
        let is_own = |part: &Part| part.channel == channel;
        let own = several.parts.iter().position(is_own).unwrap_or(0);
        let mut before = String::new();
        for part in several.parts.iter().take(own + 1) {
            self.append_cursor(&mut before, part, is_own(part));
        }
        let mut after = String::from(",");
        for part in several.parts.iter().skip(own + 1) {
            let mut text = String::new();
            self.append_cursor(&mut text, part, false);
            if !text.is_empty() {
                after.push_str(&text);
                after.push(',');
            }
        }
        after.pop();
        (before, after)
    }

    /// Appends where a listener stands in one channel; without the position, if that `is_open`.
    fn append_cursor(&mut self, text: &mut String, part: &Part, is_open: bool) {
        let (Some(position), Some((_, channel))) = (part.position, self.local.at_mut(part.channel))
        else {
            return;
        };
        let epoch = position.epoch.to_string();
        let cursor = Cursor {
            epoch: &epoch,
            offset: position.offset,
        };
        append_channel_cursor(text, &channel.name, cursor);
        if is_open {
            let end = cursor.to_string().len();
            text.truncate(text.len() - end);
        }
    }

    /// Answers a poll of several channels that waited: with a pass of one of them, or with nothing when its time is
    /// over.
    pub(super) fn pages(&mut self, several: &Several, gaps: &[u32], parts: &[u8]) -> Reply {
        let names = several.parts.iter().map(|part| {
            let channel = self.local.at_mut(part.channel);
            channel.map(|(_, channel)| Arc::clone(&channel.name))
        });
        let names: Vec<Option<Arc<str>>> = names.collect();
        let standings = several.parts.iter().zip(&names).filter_map(|(part, name)| {
            let position = part.position?;
            Some(Standing {
                channel: name.as_deref()?,
                epoch: position.epoch.to_string(),
                offset: position.offset,
                recovered: !gaps.contains(&part.channel),
            })
        });
        let standings: Vec<Standing<'_>> = standings.collect();
        pages_reply(&standings, parts)
    }

    /// Takes a session out of all of several channels, and out of all it waits for.
    pub(super) fn leave_several(&mut self, key: Key) {
        let several = self.sessions.get_mut(key).and_then(Session::several_mut);
        if let Some(several) = several {
            let several = std::mem::take(several);
            self.leave_parts(key, several);
        }
    }

    pub(super) fn leave_parts(&mut self, key: Key, several: Several) {
        for part in several.parts {
            match part.place {
                Some(place) => self.remove_subscriber(place),
                None => {
                    if let Some((local, _)) = self.local.at_mut(part.channel) {
                        self.let_go(local, key);
                    }
                }
            }
        }
    }

    /// Whether a request waits for what was missed in the channel at `local`.
    pub(super) fn part_awaits_history(&self, key: Key, local: Key) -> bool {
        let Some(opening) = self.opening(key) else {
            return false;
        };
        let parts = opening.several.parts.iter().zip(&opening.asked);
        let mut awaited = parts
            .filter(|(part, asked)| part.channel == local.slot && part.place.is_none() && **asked);
        awaited.next().is_some()
    }

    /// The several channels a request waits for.
    pub(super) fn opening(&self, key: Key) -> Option<&Opening> {
        match self.stage(key)? {
            Stage::Http(http) => match &http.phase {
                Phase::AwaitSeveral(opening) => Some(opening),
                _ => None,
            },
            _ => None,
        }
    }

    fn opening_stage(&mut self, key: Key) -> Option<&mut HttpStage> {
        match &mut self.sessions.get_mut(key)?.stage {
            Stage::Http(http) => Some(http),
            _ => None,
        }
    }
}

impl Opening {
    fn new(upgrade: Upgrade, listen: ListenSeveral) -> Self {
        let framing = match &upgrade.carrier {
            Carrier::WebSocket { .. } => Framing::WebSocket,
            Carrier::Stream { framing, .. } => *framing,
            Carrier::Poll { .. } => Framing::Items,
        };
        let window_bits = match &upgrade.carrier {
            Carrier::WebSocket {
                deflate: Some(deflate),
                ..
            } if deflate.server_no_context_takeover => deflate.server_window_bits(),
            _ => 0,
        };
        let channels = listen.channels.len();
        Self {
            upgrade: Box::new(upgrade),
            encoding: Encoding {
                dialect: listen.dialect,
                framing,
                window_bits,
                selection: Selection::ALL,
            },
            wishes: listen.channels,
            several: Several::default(),
            outstanding: channels,
            asked: vec![false; channels],
            gaps: Vec::new(),
            out: Vec::new(),
        }
    }

    fn is_poll(&self) -> bool {
        matches!(self.upgrade.carrier, Carrier::Poll { .. })
    }

    fn wish(&self, since: Option<Since>) -> RecoveryWish {
        RecoveryWish {
            since,
            latest_only: false,
            in_pages: self.is_poll(),
        }
    }

    pub(super) fn several_mut(&mut self) -> &mut Several {
        &mut self.several
    }
}

impl Several {
    /// The place in the channel at `channel` of the shard's table.
    pub fn place_mut(&mut self, channel: u32) -> Option<&mut Subscription> {
        self.part_mut(channel)?.place.as_mut()
    }

    /// Up to where the listener has everything there.
    pub fn position(&self, channel: u32) -> Option<Position> {
        let mut parts = self.parts.iter();
        parts.find(|part| part.channel == channel)?.position
    }

    /// The listener has everything of a channel up to `position`.
    pub fn move_to(&mut self, channel: u32, position: Position) {
        if let Some(part) = self.part_mut(channel) {
            part.position = Some(position);
        }
    }

    /// Whether its publications are objects.
    pub fn is_told_all(&self) -> bool {
        let places = self.parts.iter().filter_map(|part| part.place.as_ref());
        let mut encodings = places.map(|place| place.encoding);
        encodings.any(|encoding| encoding.dialect == Dialect::NamedEnvelope)
    }

    /// A channel may have another epoch by now, of which the listener has nothing.
    fn renew(&mut self, channel: u32, position: Position) {
        if let Some(part) = self.part_mut(channel)
            && part
                .position
                .is_none_or(|known| known.epoch != position.epoch)
        {
            part.position = Some(position);
        }
    }

    fn part_mut(&mut self, channel: u32) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.channel == channel)
    }
}

/// The answer to a poll of several channels.
pub fn pages_reply(standings: &[Standing<'_>], parts: &[u8]) -> Reply {
    let mut body = Vec::with_capacity(100 * standings.len() + parts.len());
    envelope::append_pages(&mut body, standings, parts);
    let mut cursor = String::new();
    for standing in standings {
        let place = Cursor {
            epoch: &standing.epoch,
            offset: standing.offset,
        };
        append_channel_cursor(&mut cursor, standing.channel, place);
    }
    Reply {
        content_type: "application/json",
        body: body.into(),
        ..Reply::text(200, "")
    }
    .with(POSITION_HEADER, cursor)
}

/// Where a listener stands that names no epoch: nobody knows.
fn position_of(since: Since) -> Option<Position> {
    since.epoch.map(|epoch| Position {
        epoch,
        offset: since.offset,
    })
}

/// Appends a publication as an event without its id, after its offset and its length.
pub(super) fn append_record(out: &mut Vec<u8>, channel: &str, publication: &Publication) {
    let mut about = Vec::new();
    let is_coded = publication.kind == Kind::Binary;
    if is_coded {
        envelope::append_about(&mut about, channel, Some(&publication.data));
    }
    let event = match is_coded {
        true => sse::Event {
            id: None,
            event: Some(sse::BINARY_EVENT),
            data: &about,
        },
        false => sse::Event {
            id: None,
            event: Some(channel),
            data: &publication.data,
        },
    };
    let mut text = Vec::new();
    sse::append_event(&mut text, &event);
    out.extend_from_slice(&publication.offset.to_le_bytes());
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(&text);
}

/// The offset and the event of the first record, and what follows it.
fn split_record(records: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (offset, rest) = records.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (event, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((u64::from_le_bytes(*offset), event, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;
    use crate::shard::testing::{Bed, Client, upgrade, with_cores};

    fn publish(bed: &mut Bed, channel: &str, body: &str) {
        let (status, _) = bed.post(0, &format!("/channels/{channel}"), "", body);
        assert_eq!(status, 200);
        bed.settle();
    }

    fn get(channels: &[String], more: &str, headers: &str) -> String {
        let query: Vec<String> = channels
            .iter()
            .map(|name| format!("channel={name}"))
            .collect();
        let query = query.join("&");
        format!("GET /channels?{query}{more} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
    }

    fn ask(bed: &mut Bed, shard: usize, request: &str) -> Client {
        let mut client = bed.connect(shard);
        bed.say(&mut client, request.as_bytes());
        bed.settle();
        client
    }

    const LINES: &str = "Accept: application/x-ndjson\r\n";
    const EVENTS: &str = "Accept: text/event-stream\r\n";

    fn text(client: &mut Client) -> String {
        String::from_utf8(client.chunk()).unwrap()
    }

    fn line(client: &mut Client) -> Value {
        serde_json::from_str(&text(client)).unwrap()
    }

    fn json_after(client: &mut Client, head: &str) -> Value {
        serde_json::from_str(&client.body_after(head)).unwrap()
    }

    /// One channel of each of two shards, and a listener on either.
    fn everywhere(config: &Config, test: impl Fn(&mut Bed, &[String], usize)) {
        for shard in [0, 1] {
            with_cores(2, config.clone(), |bed| {
                let channels = [bed.channel_of(0), bed.channel_of(1)];
                test(bed, &channels, shard);
            });
        }
    }

    fn nothing_is_left(bed: &mut Bed) {
        bed.settle();
        for core in &bed.cores {
            assert_eq!(core.metrics.subscriptions.get(), 0);
            assert_eq!(core.local.len(), 0);
        }
    }

    #[test]
    fn lines_name_their_channels() {
        everywhere(&Config::default(), |bed, channels, shard| {
            let mut client = ask(bed, shard, &get(channels, "", LINES));
            assert!(client.head().starts_with("HTTP/1.1 200 "));
            let begun: Vec<Value> = (0..2).map(|_| line(&mut client)).collect();
            let names: Vec<&Value> = begun.iter().map(|begun| &begun["channel"]).collect();
            assert!(
                channels
                    .iter()
                    .all(|channel| names.contains(&&json!(channel)))
            );
            for begun in &begun {
                assert_eq!(begun["subscribed"]["recovered"], json!(false));
            }
            for offset in 1..=3 {
                for channel in channels {
                    publish(bed, channel, "\"x\"");
                    let expected =
                        json!({"channel": channel, "offset": offset, "kind": "json", "data": "x"});
                    assert_eq!(line(&mut client), expected);
                }
            }
            assert_eq!(bed.cores[shard].metrics.subscriptions.get(), 2);
            let key = client.key;
            client.reset();
            bed.receive_at(shard, key);
            nothing_is_left(bed);
        });
    }

    #[test]
    fn every_event_has_an_id_to_go_on_from_in_all_channels() {
        everywhere(&Config::default(), |bed, channels, shard| {
            let mut client = ask(bed, shard, &get(channels, "", EVENTS));
            client.head();
            assert!(text(&mut client).starts_with("retry: "));
            for channel in channels {
                publish(bed, channel, "1");
            }
            publish(bed, &channels[0], "a\nb");
            let id = |event: &str| {
                event
                    .strip_prefix("id: ")
                    .unwrap()
                    .lines()
                    .next()
                    .unwrap()
                    .to_owned()
            };
            let events: Vec<String> = (0..3).map(|_| text(&mut client)).collect();
            assert!(events[0].ends_with(&format!("\nevent: {}\ndata: 1\n\n", channels[0])));
            assert!(events[2].ends_with("data: a\ndata: b\n\n"), "{}", events[2]);
            publish(bed, &channels[1], "4");
            // Cut after any of them, it goes on with the next one, and nothing comes twice.
            for (seen, event) in events.iter().enumerate() {
                let header = format!("{EVENTS}Last-Event-ID: {}\r\n", id(event));
                let mut again = ask(bed, shard, &get(channels, "", &header));
                again.head();
                let mut rest: Vec<String> = (seen..3).map(|_| text(&mut again)).collect();
                rest.sort();
                let mut missed: Vec<&str> =
                    vec!["data: 1\n\n", "data: a\ndata: b\n\n", "data: 4\n\n"];
                missed.drain(..seen);
                for data in missed {
                    assert_eq!(
                        rest.iter().filter(|event| event.ends_with(data)).count(),
                        1,
                        "{rest:?}"
                    );
                }
                let last = text(&mut again);
                assert!(last.starts_with("retry: "), "{last}");
                assert!(
                    last.contains(":2") && last.matches('=').count() == 2,
                    "{last}"
                );
            }
        });
    }

    #[test]
    fn what_is_lost_is_told_of_its_channel_alone() {
        everywhere(&Config::default(), |bed, channels, shard| {
            for channel in channels {
                publish(bed, channel, "1");
            }
            let (_, body) = bed.post(
                0,
                "/api/history_remove",
                "",
                &format!("{{\"channel\":\"{}\"}}", channels[1]),
            );
            assert_eq!(body, "{\"result\":{}}");
            let mut epochs = Vec::new();
            for (owner, channel) in channels.iter().enumerate() {
                let core = &mut bed.cores[owner];
                let owned = core.owned.find(channel).unwrap();
                epochs.push(core.owned.get(owned).unwrap().position().epoch.to_string());
            }
            let since = format!(
                "&since={}={}:0,{}={}:0",
                channels[0], epochs[0], channels[1], epochs[1]
            );
            let mut client = ask(bed, shard, &get(channels, &since, EVENTS));
            client.head();
            let events: Vec<String> = (0..3).map(|_| text(&mut client)).collect();
            let gaps: Vec<&String> = events
                .iter()
                .filter(|event| event.contains("event: longwire.gap"))
                .collect();
            assert_eq!(gaps.len(), 1, "{events:?}");
            assert!(gaps[0].ends_with(&format!("data: {{\"channel\":\"{}\"}}\n\n", channels[1])));
            let own = format!("event: {}\ndata: 1\n\n", channels[0]);
            assert_eq!(
                events.iter().filter(|event| event.ends_with(&own)).count(),
                1,
                "{events:?}"
            );
            let mut client = ask(bed, shard, &get(channels, &format!("{since}&wait=20"), ""));
            let page: Value = serde_json::from_str(&client.body()).unwrap();
            assert_eq!(page["channels"][&channels[0]]["recovered"], json!(true));
            assert_eq!(page["channels"][&channels[1]]["recovered"], json!(false));
            assert_eq!(page["publications"].as_array().unwrap().len(), 1);
        });
    }

    #[test]
    fn a_poll_waits_for_any_of_its_channels() {
        everywhere(&Config::default(), |bed, channels, shard| {
            let mut client = bed.connect(shard);
            let mut since = String::new();
            for turn in 0..6 {
                let request = get(channels, &format!("&wait=25{since}"), "");
                bed.say(&mut client, request.as_bytes());
                bed.settle();
                assert!(matches!(
                    bed.cores[shard].stage(client.key),
                    Some(Stage::Poll(_))
                ));
                let channel = &channels[turn % 2];
                publish(bed, channel, "1");
                let head = client.head();
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                let position = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Longwire-Position: "));
                since = format!("&since={}", position.unwrap());
                let page = json_after(&mut client, &head);
                assert_eq!(page["publications"][0]["channel"], json!(channel));
                assert_eq!(page["publications"][0]["offset"], json!(turn / 2 + 1));
                assert_eq!(page["publications"].as_array().unwrap().len(), 1);
            }
            nothing_is_left(bed);
            // Between polls something comes to both: the next one has it at once.
            for channel in channels {
                publish(bed, channel, "2");
            }
            bed.say(
                &mut client,
                get(channels, &format!("&wait=25{since}"), "").as_bytes(),
            );
            bed.settle();
            let head = client.head();
            let page = json_after(&mut client, &head);
            assert_eq!(page["publications"].as_array().unwrap().len(), 2);
            nothing_is_left(bed);
        });
    }

    #[test]
    fn a_poll_without_news_is_answered_where_it_was() {
        everywhere(&Config::default(), |bed, channels, shard| {
            publish(bed, &channels[0], "1");
            let mut client = ask(bed, shard, &get(channels, "&wait=5", ""));
            bed.pass_seconds(6);
            let page: Value = serde_json::from_str(&client.body()).unwrap();
            assert_eq!(page["publications"], json!([]));
            assert_eq!(page["channels"][&channels[0]]["offset"], json!(1));
            nothing_is_left(bed);
        });
    }

    #[test]
    fn a_short_poll_has_the_newest_of_each_and_then_what_follows() {
        everywhere(&Config::default(), |bed, channels, shard| {
            let mut client = ask(bed, shard, &get(channels, "&wait=0", ""));
            assert!(client.head().starts_with("HTTP/1.1 204 "));
            for text in ["1", "2"] {
                channels
                    .iter()
                    .for_each(|channel| publish(bed, channel, text));
            }
            bed.say(&mut client, get(channels, "&wait=0", "").as_bytes());
            bed.settle();
            let head = client.head();
            let page = json_after(&mut client, &head);
            let data: Vec<&Value> = page["publications"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| &one["data"])
                .collect();
            assert_eq!(data, [&json!(2), &json!(2)]);
            let tag = head
                .lines()
                .find_map(|line| line.strip_prefix("ETag: "))
                .unwrap();
            let known = format!("If-None-Match: {tag}\r\n");
            bed.say(&mut client, get(channels, "&wait=0", &known).as_bytes());
            bed.settle();
            assert!(client.head().starts_with("HTTP/1.1 304 "));
        });
    }

    #[test]
    fn what_is_published_before_the_last_channel_begins_is_kept() {
        with_cores(2, Config::default(), |bed| {
            let channels = [bed.channel_of(0), bed.channel_of(1)];
            for headers in [LINES, EVENTS] {
                let mut client = bed.connect(0);
                bed.say(&mut client, get(&channels, "", headers).as_bytes());
                // The owner of the second channel has not answered.
                let mut publisher = bed.connect(0);
                let publish = format!(
                    "POST /channels/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n\"new\"",
                    channels[0]
                );
                bed.say(&mut publisher, publish.as_bytes());
                while bed.cores[0].fan_out() {}
                assert!(bed.cores[0].opening(client.key).is_some());
                bed.settle();
                assert!(client.head().starts_with("HTTP/1.1 200 "));
                let chunks = if headers == LINES { 3 } else { 2 };
                let told: Vec<String> = (0..chunks).map(|_| text(&mut client)).collect();
                assert_eq!(
                    told.iter().filter(|told| told.contains("new")).count(),
                    1,
                    "{told:?}"
                );
                let key = client.key;
                client.reset();
                bed.receive_at(0, key);
                nothing_is_left(bed);
            }
        });
    }

    #[test]
    fn who_goes_away_before_all_channels_begin_leaves_nothing() {
        with_cores(2, Config::default(), |bed| {
            let channels = [bed.channel_of(0), bed.channel_of(1)];
            for more in ["", "&since=x"] {
                let mut client = bed.connect(0);
                bed.say(&mut client, get(&channels, more, LINES).as_bytes());
                assert_eq!(bed.cores[0].metrics.subscriptions.get(), 1);
                bed.pass_seconds(11);
                assert!(client.head().starts_with("HTTP/1.1 504 "));
                nothing_is_left(bed);
            }
        });
    }

    #[test]
    fn who_is_found_gone_when_its_channels_begin_leaves_nothing() {
        everywhere(&Config::default(), |bed, channels, shard| {
            for headers in [LINES, EVENTS] {
                for count in [1, 2] {
                    let mut client = bed.connect(shard);
                    let request = get(&channels[..count], "", headers);
                    bed.say(&mut client, request.as_bytes());
                    let key = client.key;
                    client.reset();
                    bed.settle();
                    if bed.cores[shard].sessions.get(key).is_some() {
                        bed.receive_at(shard, key);
                    }
                    nothing_is_left(bed);
                }
            }
        });
    }

    #[test]
    fn a_page_of_a_poll_is_not_followed_by_what_comes_behind_a_gap() {
        let mut config = Config::default();
        config.client.limits.recovery_max_publication_limit = 2;
        with_cores(2, config, |bed| {
            let channels = [bed.channel_of(0), bed.channel_of(1)];
            for number in 1..=5 {
                publish(bed, &channels[0], &number.to_string());
            }
            let mut first = ask(bed, 0, &get(&channels, "&wait=0", ""));
            let head = first.head();
            let position = head.split("Longwire-Position: ").nth(1).unwrap();
            let position = position.split("\r\n").next().unwrap();
            let start = position.replacen(":5", ":0", 1);
            let mut client = bed.connect(0);
            let request = get(&channels, &format!("&wait=60&since={start}"), "");
            bed.say(&mut client, request.as_bytes());
            // While the other channel's owner is asked.
            let mut publisher = bed.connect(0);
            let post = format!(
                "POST /channels/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n6",
                channels[0]
            );
            bed.say(&mut publisher, post.as_bytes());
            assert_eq!(publisher.response().0, 200);
            while bed.cores[0].fan_out() {}
            bed.settle();
            let head = client.head();
            let told = json_after(&mut client, &head);
            let data = told["publications"].as_array().unwrap().iter();
            assert!(
                data.map(|one| &one["data"]).eq([&json!(1), &json!(2)]),
                "{told}"
            );
            assert_eq!(told["channels"][&channels[0]]["offset"], 2, "{told}");
        });
    }

    #[test]
    fn a_websocket_needs_the_subprotocol() {
        everywhere(&Config::default(), |bed, channels, shard| {
            let path = format!("/channels?channel={}&channel={}", channels[0], channels[1]);
            let mut bare = ask(bed, shard, &upgrade(&path));
            assert!(bare.head().starts_with("HTTP/1.1 400 "));
            let offer = "Sec-WebSocket-Protocol: longwire.v1\r\n\r\n";
            let request = upgrade(&path).trim_end().to_owned() + "\r\n" + offer;
            let mut client = ask(bed, shard, &request);
            assert!(client.head().starts_with("HTTP/1.1 101 "));
            for _ in channels {
                let begun: Value = serde_json::from_slice(&client.message()).unwrap();
                assert!(begun["subscribed"]["epoch"].is_string());
            }
            publish(bed, &channels[1], "1");
            let told: Value = serde_json::from_slice(&client.message()).unwrap();
            assert_eq!(told["channel"], json!(channels[1]));
            for core in &mut bed.cores {
                core.close_some(10, false);
            }
            assert!(client.message().starts_with(b"{\"disconnect\":"));
            nothing_is_left(bed);
        });
    }

    #[test]
    fn too_many_channels_are_refused_and_one_named_twice_counts_once() {
        let mut config = Config::default();
        config.client.limits.channel_limit = 2;
        with_cores(1, config, |bed| {
            let status = |bed: &mut Bed, query: &str| {
                let request = format!("GET /channels{query} HTTP/1.1\r\nHost: h\r\n{LINES}\r\n");
                ask(bed, 0, &request).head()[9..12].to_owned()
            };
            assert_eq!(status(bed, "?channel=a&channel=b&channel=a"), "200");
            assert_eq!(status(bed, "?channel=a&channel=b&channel=c"), "400");
            assert_eq!(status(bed, ""), "400");
            assert_eq!(status(bed, "?channel="), "400");
        });
        with_cores(1, Config::default(), |bed| {
            let channels: Vec<String> = (0..120).map(|i| format!("channel-{i}")).collect();
            let mut client = ask(bed, 0, &get(&channels, "", LINES));
            assert!(client.head().starts_with("HTTP/1.1 400 "));
        });
    }
}
