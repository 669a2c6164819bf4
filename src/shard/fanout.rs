//! Fan-out: passes over the subscribers of a channel, which bring each what it lacks.
//!
//! One pass at a time per channel; passes of different channels take turns, a slice each, and the
//! ring is served between slices. So a channel with a million subscribers delays a quiet one by a
//! slice, not by a pass. Where shards share cores, a long pass waits for the baton of its core, so that
//! a quiet shard has one busy neighbour at a time.

use std::hint::black_box;

use bytes::Bytes;

use crate::hub::{Backlog, Encoding, Frames, Framing, Interest, Key, LocalChannel, Part, Position};
use crate::net::Burst;
use crate::proto::frame::{decode_header, frame_end};

use super::Core;
use super::baton::Baton;
use super::burst::Cargo;
use super::client::Progress;
use super::inbox::Message;
use super::places::has_ids;
use super::session::{Session, Stage};

/// A pass over more subscribers than these waits for the baton, where shards share cores.
const SHORT_PASS: usize = 256;
/// Sessions that are fetched from memory at a time. What more there were might be gone again before its turn.
const AHEAD: usize = 8;
/// Sends that the answer to a publisher waits for, at most.
const ALONE_SENDS_MAX: usize = 16;

/// A pass over the subscribers of `channel`.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    channel: Key,
}

/// What a subscriber gets when it is visited.
pub(super) struct Portion<'a> {
    pub(super) channel: Key,
    pub(super) frames: &'a Frames,
    /// How many of the frames it has had.
    pub(super) had: u32,
    /// Where the channel stands after them.
    pub(super) position: Position,
}

impl Portion<'_> {
    pub(super) fn bytes(&self, encoding: Encoding) -> Bytes {
        self.frames.since(self.had, encoding)
    }

    pub(super) fn publications(&self) -> u32 {
        self.frames.publications_since(self.had)
    }

    /// Where each frame of [`Self::bytes`] ends.
    pub(super) fn parts(&self, encoding: Encoding) -> impl Iterator<Item = Part> + '_ {
        self.frames.parts_since(self.had, encoding)
    }
}

impl Core {
    /// Makes up to one slice of sends. True if there is more to do now.
    pub(super) fn fan_out(&mut self) -> bool {
        let mut sends = self.shared.config.fanout.slice_sends;
        let now_s = self.now_s();
        while sends > 0 {
            self.begin_passes();
            let Some((pass, is_long)) = self.next_pass() else {
                return false;
            };
            // Passes share the slice in portions, so that a small one never waits for a whole slice.
            let portion = sends.min(Burst::SENDS_MAX);
            let (made, is_over) = self.advance_pass(&pass, portion, now_s);
            sends -= made.clamp(1, sends);
            match (is_over, is_long) {
                (true, _) => self.end_pass(&pass),
                (false, true) => self.long_passes.push_front(pass),
                (false, false) => self.passes.push_back(pass),
            }
            if is_over && is_long {
                self.end_turn();
            }
        }
        !self.passes.is_empty() || !self.ready.is_empty() || self.is_turn()
    }

    /// Makes the sends that a request led to, before it is answered: whoever waits for the message waits longer than
    /// the publisher. Only if nothing else is to be done meanwhile, with which they could be made together, and they
    /// are few.
    pub(super) fn fan_out_alone(&mut self) {
        let is_alone = self.is_last_ready && self.passes.is_empty() && !self.is_turn();
        let few = 1..=ALONE_SENDS_MAX;
        if !is_alone || !few.contains(&self.ready.len()) || self.shared.config.fanout.window_ms > 0
        {
            return;
        }
        let channels = self.ready.iter().filter_map(|key| self.local.at(key.slot));
        let sends: usize = channels.map(|channel| channel.subscribers().len()).sum();
        if sends <= ALONE_SENDS_MAX {
            self.fan_out();
        }
    }

    /// The pass to go on with; whether it is a long one. Those take turns with the others, if it is this
    /// shard's turn among those of its core.
    fn next_pass(&mut self) -> Option<(Pass, bool)> {
        self.prefers_long = !self.prefers_long && self.is_turn();
        if !self.prefers_long
            && let Some(pass) = self.passes.pop_front()
        {
            return Some((pass, false));
        }
        if !self.is_turn() {
            return None;
        }
        self.long_passes.pop_front().map(|pass| (pass, true))
    }

    /// True if there are long passes and this shard may make them.
    pub(super) fn is_turn(&self) -> bool {
        let baton = self.baton();
        baton.is_some_and(|baton| self.ticket.is_some_and(|ticket| baton.is_turn(ticket)))
    }

    fn baton(&self) -> Option<&Baton> {
        let cores = self.shared.batons.len();
        self.shared
            .batons
            .get(usize::from(self.id).checked_rem(cores)?)
    }

    /// Puts a pass among those that are due.
    fn queue_pass(&mut self, pass: Pass, subscribers: usize) {
        if subscribers <= SHORT_PASS || self.baton().is_none() {
            return self.passes.push_back(pass);
        }
        self.long_passes.push_back(pass);
        self.queue_for_turn();
    }

    fn queue_for_turn(&mut self) {
        if self.ticket.is_none()
            && let Some(ticket) = self.baton().map(|baton| baton.queue(self.id))
        {
            self.ticket = Some(ticket);
        }
    }

    /// A long pass is over: the next shard of the core has its turn, and this one again after it.
    fn end_turn(&mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let next = self.baton().and_then(|baton| baton.pass_on(ticket));
        if let Some(shard) = next {
            self.tell(shard, Message::Turn);
        }
        if !self.long_passes.is_empty() {
            self.queue_for_turn();
        }
    }

    fn begin_passes(&mut self) {
        while let Some(key) = self.ready.pop_front() {
            let Some(channel) = self.local.get_mut(key) else {
                continue;
            };
            let Some(bytes) = channel.begin_pass() else {
                continue;
            };
            let subscribers = channel.subscribers().len();
            self.give_back(key, bytes);
            let pass = Pass { channel: key };
            self.queue_pass(pass, subscribers);
        }
    }

    /// Tells the owner of a channel that it may publish so many bytes more.
    fn give_back(&mut self, local: Key, bytes: u32) {
        if bytes > 0
            && let Some(channel) = self.local.get_mut(local)
            && let Interest::Held { owned } = channel.interest()
        {
            let owner = channel.owner;
            self.tell(
                owner,
                Message::Taken {
                    owned,
                    local,
                    bytes,
                },
            );
        }
    }

    /// Visits up to `portion` subscribers; returns how many, and whether the pass is over.
    fn advance_pass(&mut self, pass: &Pass, portion: usize, now_s: u32) -> (usize, bool) {
        // Who is visited now may be about to get an answer.
        self.make_sends();
        let Some(channel) = self.local.get_mut(pass.channel) else {
            return (0, true);
        };
        let position = channel.position;
        let Some(frames) = channel.frames() else {
            return (0, true);
        };
        let mut made = 0;
        while made < portion {
            if made % AHEAD == 0 {
                self.fetch_ahead(pass.channel);
            }
            let next = self.local.get_mut(pass.channel);
            let Some((slot, had)) = next.and_then(LocalChannel::visit) else {
                break;
            };
            made += 1;
            let portion = Portion {
                channel: pass.channel,
                frames: &frames,
                had,
                position,
            };
            self.deliver_to(slot, &portion, now_s);
        }
        self.make_sends();
        (made, made < portion)
    }

    /// Reads from the sessions that are next, so that the caches have them: all at once, where one after the other
    /// each would be waited for. With 400,000 subscribers a pass is 5 % shorter for it.
    fn fetch_ahead(&self, channel: Key) {
        let Some(channel) = self.local.at(channel.slot) else {
            return;
        };
        for slot in channel.next_visits(AHEAD) {
            let session = self.sessions.at(*slot);
            black_box(session.map(|session| (session.is_watched, session.subscription.is_some())));
        }
    }

    fn deliver_to(&mut self, slot: u32, portion: &Portion<'_>, now_s: u32) {
        let channel = portion.channel;
        let Some((key, session)) = self.sessions.at_mut(slot) else {
            return;
        };
        let Some(subscription) = session.subscription_mut(channel.slot) else {
            return;
        };
        let encoding = subscription.encoding;
        let mut frames = portion.bytes(encoding);
        if frames.is_empty() {
            return;
        }
        if let Some(after_first) = encoding.after_first() {
            subscription.encoding = after_first;
        }
        let publications = portion.publications();
        if matches!(session.stage, Stage::Poll(_)) {
            self.metrics.deliveries.add(u64::from(publications));
            self.metrics.sends.add(1);
            let moved = Some((channel.slot, portion.position));
            return self.answer_poll(key, &frames, publications, moved);
        }
        if encoding.is_named() {
            let (slot, position) = (channel.slot, portion.position);
            let frames = self.for_listener(key, slot, position, encoding, frames);
            return self.send_several(key, &frames, publications, now_s);
        }
        if portion.frames.backlog() != Backlog::Kept && !has_ids(encoding) {
            return self.deliver_or_drop(key, portion, encoding, now_s);
        }
        if session.has_server_window() {
            frames = self.compress_for(key, &frames);
        }
        if has_ids(encoding) {
            frames = self.with_id(key, channel.slot, portion.position, &frames);
        }
        if self.shared.config.fanout.coalesce || encoding.framing != Framing::WebSocket {
            return self.plan_send(key, frames, Cargo::Publications(publications));
        }
        if frame_end(&frames, 1) == frames.len() {
            return self.plan_send(key, frames, Cargo::Publications(1));
        }
        // One send per publication: what coalescing is measured against.
        while !frames.is_empty() {
            let frame = frames.split_to(frame_end(&frames, 1));
            self.send_publications(key, &frame, 1, now_s);
        }
    }

    /// Sends a listener of several channels what is for it, now or when its request is answered.
    fn send_several(&mut self, key: Key, frames: &Bytes, publications: u32, now_s: u32) {
        if self.opening(key).is_some() {
            return self.keep_for_opening(key, frames);
        }
        match self
            .sessions
            .get(key)
            .is_some_and(Session::has_server_window)
        {
            true => {
                let frames = self.compress_for(key, frames);
                self.send_publications(key, &frames, publications, now_s);
            }
            false => self.send_publications(key, frames, publications, now_s),
        }
    }

    /// Compresses plain frames for a session whose messages refer to its own earlier ones.
    fn compress_for(&mut self, key: Key, frames: &[u8]) -> Bytes {
        let mut out = Vec::new();
        let mut rest = frames;
        while let Ok(Some((header, payload_at))) = decode_header(rest) {
            let end = frame_end(rest, 1);
            out.append(&mut self.encode_for(key, header.opcode, &rest[payload_at..end]));
            rest = &rest[end..];
        }
        out.into()
    }

    pub(super) fn send_publications(
        &mut self,
        key: Key,
        frames: &Bytes,
        publications: u32,
        now_s: u32,
    ) {
        self.make_sends();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if let Some(client) = session.client_mut()
            && client.progress == Progress::Connecting
        {
            return self.hold_back(key, frames);
        }
        let sent = Self::send_to(session, frames, &self.limits.outbox, now_s);
        self.note_sent(key, sent, Cargo::Publications(publications));
    }

    /// Keeps publications for a client whose request to connect is not answered yet.
    fn hold_back(&mut self, key: Key, frames: &Bytes) {
        let most = self.limits.outbox.hard_bytes;
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let held = &mut client.rare_mut().held;
        held.push(frames.clone());
        if held.iter().map(Bytes::len).sum::<usize>() > most {
            self.close_slow_reader(key);
        }
    }

    fn end_pass(&mut self, pass: &Pass) {
        let Some(channel) = self.local.get_mut(pass.channel) else {
            return;
        };
        match channel.end_pass() {
            Some(bytes) => self.give_back(pass.channel, bytes),
            None => self.ready.push_back(pass.channel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::shard::testing::{Bed, Client, with_cores};

    /// `subscribers` of a channel of the first shard, and whether all have got what `requests` publish by the time
    /// these have been read.
    fn get_at_once(bed: &mut Bed, subscribers: usize, requests: usize) -> bool {
        let channel = bed.channel_of(0);
        let path = format!("/channels/{channel}");
        let clients: Vec<Client> = (0..subscribers).map(|_| bed.websocket(0, &path)).collect();
        bed.settle();
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
        let mut publisher = bed.connect(0);
        bed.say(&mut publisher, request.repeat(requests).as_bytes());
        (0..requests).for_each(|_| assert_eq!(publisher.response().0, 200));
        let got = clients.iter().filter(|client| client.has_bytes()).count();
        bed.settle();
        for mut client in clients {
            (0..requests).for_each(|_| assert_eq!(client.message(), b"x"));
            let key = client.key;
            client.reset();
            bed.receive_at(0, key);
        }
        got == subscribers
    }

    #[test]
    fn a_message_to_few_goes_out_before_its_answer_if_nothing_else_waits() {
        with_cores(1, Config::default(), |bed| {
            assert!(!get_at_once(bed, 1, 1), "others are ready");
            bed.cores[0].is_last_ready = true;
            assert!(get_at_once(bed, 1, 1));
            assert!(get_at_once(bed, ALONE_SENDS_MAX, 1));
            assert!(!get_at_once(bed, ALONE_SENDS_MAX + 1, 1), "many");
        });
    }

    #[test]
    fn what_is_asked_for_together_goes_out_together() {
        with_cores(1, Config::default(), |bed| {
            bed.cores[0].is_last_ready = true;
            let sends = bed.cores[0].metrics.sends.get();
            get_at_once(bed, 1, 3);
            assert_eq!(bed.cores[0].metrics.sends.get() - sends, 1);
        });
        let mut config = Config::default();
        config.fanout.window_ms = 5;
        with_cores(1, config, |bed| {
            bed.cores[0].is_last_ready = true;
            assert!(!get_at_once(bed, 1, 1), "a window is waited for");
        });
    }

    #[test]
    fn without_coalescing_every_publication_counts_as_a_delivery() {
        let mut config = Config::default();
        config.fanout.coalesce = false;
        with_cores(1, config, |bed| {
            let get =
                "GET /channels/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
            let mut stream = bed.connect(0);
            bed.say(&mut stream, get.as_bytes());
            let _websocket = bed.websocket(0, "/channels/a");
            bed.settle();
            let before = bed.cores[0].metrics.deliveries.get();
            let post = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
            let mut publisher = bed.connect(0);
            bed.say(&mut publisher, post.repeat(3).as_bytes());
            bed.settle();
            assert_eq!(bed.cores[0].metrics.deliveries.get() - before, 2 * 3);
        });
    }

    #[test]
    fn shards_of_a_core_have_their_turns_in_the_order_they_queued() {
        let baton = Baton::new(3);
        let tickets = [7, 5, 6].map(|shard| baton.queue(shard));
        assert!(baton.is_turn(tickets[0]) && !baton.is_turn(tickets[1]));
        assert_eq!(baton.pass_on(tickets[0]), Some(5));
        let again = baton.queue(7);
        assert!(baton.is_turn(tickets[1]));
        assert_eq!(baton.pass_on(tickets[1]), Some(6));
        assert_eq!(baton.pass_on(tickets[2]), Some(7));
        assert_eq!(baton.pass_on(again), None);
        assert!(baton.is_turn(baton.queue(5)));
    }
}
