//! Polls: requests that are answered with what a channel has that the client lacks, at once or when there is
//! something.
//!
//! A poll that waits gives up its [`HttpStage`] for a smaller box, and is a subscriber like any other: the batch of a
//! pass has its publications as parts of one answer, and [`Core::answer_poll`], called where others are sent theirs,
//! takes it out of the channel and answers. Its connection then goes on with the next request.

use std::net::IpAddr;

use thin_vec::ThinVec;

use crate::hub::{Dialect, Encoding, Framing, Key, Position, Publication, Recovery, Selection};
use crate::memory::Pressure;
use crate::metrics::CloseReason;
use crate::proto::cursor::Cursor;
use crate::proto::envelope;

use super::http::{ConnectionPlan, HttpStage};
use super::requests::After;
use super::scribe::payload;
use super::session::Stage;
use super::upgrade::{Heard, Listen};
use super::{Core, Reply};

/// Names the position an answer to a poll leads to, as `epoch:offset`.
pub const POSITION_HEADER: &str = "Longwire-Position";

/// Seconds between short polls that are asked for while memory is scarce.
const SCARCE_POLL_INTERVAL_S: u32 = 10;

/// The form in which polls that wait get publications.
const PARTS: Encoding = Encoding {
    dialect: Dialect::Envelope,
    framing: Framing::Items,
    window_bits: 0,
    selection: Selection::ALL,
};

/// A connection whose request waits for a publication: what is needed to go on with it.
pub(super) struct PollStage {
    answer_headers: Box<[(&'static str, String)]>,
    /// Up to where the client has everything.
    position: Position,
    /// Received meanwhile: the next requests.
    pub input: ThinVec<u8>,
    served: u32,
    /// When it is answered in any case.
    pub deadline_s: u32,
    peer: IpAddr,
    client: IpAddr,
    is_proxy: bool,
    is_last: bool,
    connection: ConnectionPlan,
}

const _: () = assert!(size_of::<PollStage>() <= 96);

/// What a poll is answered.
pub struct Page<'a> {
    /// Where the client is to go on from.
    pub position: Position,
    /// Nothing is missing between what it has and the first publication.
    pub recovered: bool,
    /// The publications, each with a comma behind it.
    pub parts: &'a [u8],
}

impl Page<'_> {
    /// The answer.
    pub fn reply(&self) -> Reply {
        let Position { epoch, offset } = self.position;
        let mut body = Vec::with_capacity(80 + self.parts.len());
        envelope::append_page(
            &mut body,
            &epoch.to_string(),
            offset,
            self.recovered,
            self.parts,
        );
        Reply {
            content_type: "application/json",
            body: body.into(),
            ..Reply::text(200, "")
        }
        .with(POSITION_HEADER, position_text(self.position))
    }
}

/// `epoch:offset`.
pub fn position_text(position: Position) -> String {
    let epoch = position.epoch.to_string();
    let offset = position.offset;
    Cursor {
        epoch: &epoch,
        offset,
    }
    .to_string()
}

/// Publications as the parts of a [`Page`].
pub fn page_parts(publications: &[Publication]) -> Vec<u8> {
    let mut parts = Vec::new();
    for publication in publications {
        let data = payload(publication.kind, &publication.data);
        envelope::append_publication(&mut parts, publication.offset, data);
        parts.push(b',');
    }
    parts
}

impl Core {
    /// A poll's channel is delivered here. It is answered, if there is something to say; otherwise it waits.
    pub(super) fn poll_or_wait(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        listen: &Listen,
        heard: &Heard,
    ) -> Option<After> {
        let recovery = heard.recovery.as_ref();
        let is_gap = listen.since.is_some() && !recovery.is_some_and(|known| known.recovered);
        let has_news = recovery.is_some_and(|known| !known.publications.is_empty());
        if !is_gap && !has_news && !self.is_draining() {
            return None;
        }
        let position = self.position_of(heard)?;
        let missed = recovery.map_or(&[][..], |recovery| &recovery.publications);
        self.metrics.recovered_publications.add(missed.len() as u64);
        let page = Page {
            position,
            recovered: !is_gap,
            parts: &page_parts(missed),
        };
        // It may have been opened for this poll alone.
        self.leave_if_empty(heard.local);
        let connection = http.connection;
        Some(self.http_reply(key, http, &waited(page.reply()), connection))
    }

    /// Seconds that clients are asked to leave between polls that do not wait; 0 for as they like.
    pub fn poll_interval_s(&self) -> u32 {
        match self.shared.memory.pressure() {
            Pressure::Low => 0,
            Pressure::High | Pressure::Critical => SCARCE_POLL_INTERVAL_S,
        }
    }

    fn position_of(&mut self, heard: &Heard) -> Option<Position> {
        let known = heard.recovery.as_ref().map(|recovery| recovery.position);
        known.or_else(|| {
            self.local
                .get_mut(heard.local)
                .map(|channel| channel.position)
        })
    }

    /// Lets a poll wait for up to `wait_s`, a little less for some than for others.
    pub(super) fn park(&mut self, key: Key, http: HttpStage, heard: &Heard, wait_s: u32) {
        let Some(position) = self.position_of(heard) else {
            return;
        };
        let earlier_s = self.random.u32(0..=wait_s / 10);
        // The second that has begun does not count.
        let deadline_s = self.now_s() + (wait_s - earlier_s).max(2);
        if self.sessions.get(key).is_none() {
            return;
        }
        let subscription = self.add_subscriber(heard.local, key, PARTS);
        if let Some(session) = self.sessions.get_mut(key) {
            session.subscription = subscription;
            session.stage = Stage::Poll(Box::new(PollStage {
                answer_headers: http.answer_headers.into(),
                position,
                input: http.input.into_iter().collect(),
                served: http.served,
                deadline_s,
                peer: http.peer,
                client: http.client,
                is_proxy: http.is_proxy,
                is_last: http.is_last,
                connection: http.connection,
            }));
        }
        self.reschedule(key);
    }

    /// Answers a poll that waits with the publications of a pass that led to `position`, or with none when its time
    /// is over.
    pub(super) fn answer_poll(
        &mut self,
        key: Key,
        parts: &[u8],
        publications: u32,
        position: Option<Position>,
    ) {
        let Some((mut http, from)) = self.take_poll(key) else {
            return;
        };
        let position = position.unwrap_or(from);
        let is_next = position.offset == from.offset + u64::from(publications);
        let recovered = position.epoch == from.epoch && is_next;
        let page = Page {
            position,
            recovered,
            parts: if recovered { parts } else { &[] },
        };
        let mut connection = http.connection;
        connection.keep_alive &= !self.is_draining() && !http.is_last;
        let after = self.http_reply(key, &mut http, &waited(page.reply()), connection);
        self.go_on(key, http, after);
    }

    /// The server stops: a poll that waits is answered, and its connection ends.
    pub(super) fn drain_poll(&mut self, key: Key) {
        let Some((mut http, from)) = self.take_poll(key) else {
            return;
        };
        let page = Page {
            position: from,
            recovered: true,
            parts: &[],
        };
        let connection = http.connection;
        self.http_reply(key, &mut http, &waited(page.reply().closing()), connection);
        self.put_http(key, http);
        self.finish(key, CloseReason::GoingAway);
    }

    /// Keeps what a client sends ahead while its poll waits. It is read no further until that is answered.
    pub(super) fn receive_ahead(&mut self, key: Key, bytes: &[u8]) {
        if let Some(session) = self.sessions.get_mut(key)
            && let Stage::Poll(poll) = &mut session.stage
        {
            let before = poll.input.len();
            poll.input.extend_from_slice(bytes);
            let after = poll.input.len();
            self.count_request_bytes(before, after);
        }
    }

    /// Takes a poll out of its channel. Its connection is that of a request to be answered then; up to where its
    /// client has everything.
    fn take_poll(&mut self, key: Key) -> Option<(Box<HttpStage>, Position)> {
        let session = self.sessions.get_mut(key)?;
        if !matches!(session.stage, Stage::Poll(_)) {
            return None;
        }
        let Stage::Poll(poll) = std::mem::replace(&mut session.stage, Stage::Busy) else {
            return None;
        };
        if let Some(subscription) = session.subscription.take() {
            self.remove_subscriber(subscription);
        }
        let position = poll.position;
        Some((Box::new(poll.into_http()), position))
    }
}

impl PollStage {
    fn into_http(self) -> HttpStage {
        HttpStage {
            input: self.input.into_iter().collect(),
            served: self.served,
            client: self.client,
            answer_headers: self.answer_headers.into_vec(),
            is_last: self.is_last,
            connection: self.connection,
            ..HttpStage::new(self.peer, self.is_proxy, false, self.deadline_s)
        }
    }
}

/// An answer to a poll that may have waited is worth nothing to anybody else.
fn waited(reply: Reply) -> Reply {
    reply.with("Cache-Control", "no-store")
}

/// What was missed as far as it fits one answer: the client goes on from its last publication.
pub(super) fn as_page(mut recovery: Recovery) -> Recovery {
    if let Some(last) = recovery.publications.last() {
        recovery.position.offset = last.offset;
    }
    recovery
}
