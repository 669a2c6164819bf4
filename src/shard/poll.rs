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
use super::several::Several;
use super::upgrade::{Heard, HeardOne, Listen};
use super::{Core, Headers, Reply};

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

/// Of a poll of several channels, which has a position in each.
const NOWHERE: Position = Position::UNKNOWN;

/// A connection whose request waits for a publication: what is needed to go on with it.
pub(super) struct PollStage {
    /// `None` for [`usual_headers`]: most polls, and 64 bytes less.
    answer_headers: Option<Box<[(&'static str, String)]>>,
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
    /// Where the client stands in its channels, if they are several.
    pub several: Option<Box<Several>>,
}

const _: () = assert!(size_of::<PollStage>() <= 96);

/// What an answer has that no page of another origin is to read.
fn usual_headers() -> Headers {
    vec![("Vary", "Origin".to_owned())]
}

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
    append_parts(&mut parts, None, publications);
    parts
}

/// Appends publications as the parts of a page, of several channels with their channel's name.
pub fn append_parts(parts: &mut Vec<u8>, channel: Option<&str>, publications: &[Publication]) {
    for publication in publications {
        let data = payload(publication.kind, &publication.data);
        envelope::append_publication(parts, channel, publication.offset, data);
        parts.push(b',');
    }
}

impl Core {
    /// A poll's channel is delivered here. It is answered, if there is something to say; otherwise it waits.
    pub(super) fn poll_or_wait(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        listen: &Listen,
        heard: &HeardOne,
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

    fn position_of(&mut self, heard: &HeardOne) -> Option<Position> {
        let known = heard.recovery.as_ref().map(|recovery| recovery.position);
        known.or_else(|| {
            self.local
                .get_mut(heard.local)
                .map(|channel| channel.position)
        })
    }

    /// Lets a poll wait for up to `wait_s`, a little less for some than for others, and not longer than its token is
    /// good: until `token_s` of the shard's clock; 0 for ever.
    pub(super) fn park(
        &mut self,
        key: Key,
        http: HttpStage,
        heard: Heard,
        wait_s: u32,
        token_s: u32,
    ) {
        let earlier_s = self.random.u32(0..=wait_s / 10);
        // The second that has begun does not count.
        let deadline_s = self.now_s() + (wait_s - earlier_s).max(2);
        let deadline_s = if token_s == 0 {
            deadline_s
        } else {
            deadline_s.min(token_s)
        };
        if self.sessions.get(key).is_none() {
            return self.forget_heard(key, heard);
        }
        let (subscription, position, several) = match heard {
            Heard::One(heard) => {
                let Some(position) = self.position_of(&heard) else {
                    return;
                };
                let subscription = self.add_subscriber(heard.local, key, PARTS);
                (subscription, position, None)
            }
            Heard::Several(opened) => (None, NOWHERE, Some(Box::new(opened.several))),
        };
        if let Some(session) = self.sessions.get_mut(key) {
            session.subscription = subscription;
            session.stage = Stage::Poll(Box::new(PollStage {
                answer_headers: (http.answer_headers != usual_headers())
                    .then(|| http.answer_headers.into()),
                position,
                input: http.input.into_iter().collect(),
                served: http.served,
                deadline_s,
                peer: http.peer,
                client: http.client,
                is_proxy: http.is_proxy,
                is_last: http.is_last,
                connection: http.connection,
                several,
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
        moved: Option<(u32, Position)>,
    ) {
        if self
            .sessions
            .get(key)
            .is_some_and(|session| session.several().is_some())
        {
            return self.answer_several(key, parts, publications, moved);
        }
        let Some((mut http, from)) = self.take_poll(key) else {
            return;
        };
        let position = moved.map_or(from, |(_, position)| position);
        // Some may have no place in the stream; none that has may be missing.
        let placed = position.offset.checked_sub(from.offset);
        let is_whole = placed.is_some_and(|placed| placed <= u64::from(publications));
        let recovered = position.epoch == from.epoch && is_whole;
        let page = Page {
            position,
            recovered,
            parts: if recovered { parts } else { &[] },
        };
        let after = self.answer_waited(key, &mut http, page.reply());
        self.go_on(key, http, after);
    }

    /// The same for a poll of several channels: the pass is of one of them.
    fn answer_several(
        &mut self,
        key: Key,
        parts: &[u8],
        publications: u32,
        moved: Option<(u32, Position)>,
    ) {
        let Some(mut several) = self.sessions.get_mut(key).and_then(|session| {
            let several = session.several_mut()?;
            Some(std::mem::take(several))
        }) else {
            return;
        };
        let mut gaps = Vec::new();
        if let Some((channel, position)) = moved {
            let is_whole = several.position(channel).is_some_and(|from| {
                let placed = position.offset.checked_sub(from.offset);
                from.epoch == position.epoch
                    && placed.is_some_and(|placed| placed <= u64::from(publications))
            });
            if !is_whole {
                gaps.push(channel);
            }
            several.move_to(channel, position);
        }
        let parts = if gaps.is_empty() { parts } else { &[] };
        let reply = self.pages(&several, &gaps, parts);
        let Some((mut http, _)) = self.take_poll(key) else {
            return;
        };
        self.leave_parts(key, several);
        let after = self.answer_waited(key, &mut http, reply);
        self.go_on(key, http, after);
    }

    fn answer_waited(&mut self, key: Key, http: &mut HttpStage, reply: Reply) -> After {
        let mut connection = http.connection;
        connection.keep_alive &= !self.is_draining() && !http.is_last;
        self.http_reply(key, http, &waited(reply), connection)
    }

    /// The server stops: a poll that waits is answered, and its connection ends.
    pub(super) fn drain_poll(&mut self, key: Key) {
        if self
            .sessions
            .get(key)
            .is_some_and(|session| session.several().is_some())
        {
            // The connection ends with it, as with every answer while the server stops.
            return self.answer_several(key, &[], 0, None);
        }
        let Some((mut http, from)) = self.take_poll(key) else {
            return;
        };
        let page = Page {
            position: from,
            recovered: true,
            parts: &[],
        };
        let retry_s = self.retry_after_s().to_string();
        let reply = page.reply().with("Retry-After", retry_s).closing();
        let connection = http.connection;
        self.http_reply(key, &mut http, &waited(reply), connection);
        self.put_http(key, http);
        self.finish(key, CloseReason::GoingAway);
    }

    /// Answers a poll that waits that it is not to wait any longer, and ends its connection.
    pub(super) fn refuse_poll(&mut self, key: Key, reply: &Reply, reason: CloseReason) {
        let Some((mut http, _)) = self.take_poll(key) else {
            return;
        };
        let connection = http.connection;
        self.http_reply(key, &mut http, reply, connection);
        self.put_http(key, http);
        self.finish(key, reason);
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
            answer_headers: self
                .answer_headers
                .map_or_else(usual_headers, <[_]>::into_vec),
            is_last: self.is_last,
            connection: self.connection,
            ..HttpStage::new(self.peer, self.is_proxy, false, self.deadline_s)
        }
    }
}

/// An answer to a poll that may have waited is worth nothing to anybody else.
pub(super) fn waited(reply: Reply) -> Reply {
    reply.with("Cache-Control", "no-store")
}

/// What was missed as far as it fits one answer: the client goes on from its last publication.
pub(super) fn as_page(mut recovery: Recovery) -> Recovery {
    if let Some(last) = recovery.publications.last() {
        recovery.position.offset = last.offset;
    }
    recovery
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::Config;
    use crate::shard::testing::{Bed, Client, with_cores};

    fn get(target: &str, headers: &str) -> String {
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
    }

    fn ask(bed: &mut Bed, client: &mut Client, target: &str, headers: &str) {
        bed.say(client, get(target, headers).as_bytes());
        bed.settle();
    }

    fn publish(bed: &mut Bed, channel: &str, text: &str) -> Value {
        let mut publisher = bed.connect(0);
        let length = text.len();
        let request = format!(
            "POST /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{text}"
        );
        bed.say(&mut publisher, request.as_bytes());
        bed.settle();
        answer(&mut publisher).1
    }

    /// An answer: its head, and its body as JSON if it is.
    fn answer(client: &mut Client) -> (String, Value) {
        let head = client.head();
        let length = header(&head, "Content-Length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        client.socket.read_exact(&mut body).unwrap();
        (head, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    fn is_parked(bed: &Bed, client: &Client) -> bool {
        matches!(
            bed.cores[client.shard].stage(client.key),
            Some(Stage::Poll(_))
        )
    }

    fn offsets(page: &Value) -> Vec<u64> {
        let publications = page["publications"].as_array().unwrap().iter();
        publications
            .map(|publication| publication["offset"].as_u64().unwrap())
            .collect()
    }

    /// Two shards; the channel is the first one's, the client the second one's or also the first one's.
    fn everywhere(test: impl Fn(&mut Bed, &str, usize)) {
        for shard in [0, 1] {
            with_cores(2, Config::default(), |bed| {
                let channel = bed.channel_of(0);
                test(bed, &channel, shard);
            });
        }
    }

    #[test]
    fn polls_of_one_connection_wait_each_for_the_next_publication() {
        everywhere(|bed, channel, shard| {
            let mut client = bed.connect(shard);
            let mut target = format!("/channels/{channel}?wait=25");
            for offset in 1..=20 {
                ask(bed, &mut client, &target, "");
                assert!(is_parked(bed, &client));
                let published = publish(bed, channel, "{\"a\":\n1}");
                let (head, page) = answer(&mut client);
                let epoch = published["epoch"].as_str().unwrap();
                let expected = json!({
                    "epoch": epoch, "offset": offset, "recovered": true,
                    "publications": [{"offset": offset, "kind": "json", "data": {"a": 1}}],
                });
                assert_eq!(page, expected);
                let position = format!("{epoch}:{offset}");
                assert_eq!(header(&head, POSITION_HEADER), Some(&*position));
                assert_eq!(header(&head, "Connection"), None);
                target = format!("/channels/{channel}?wait=25&since={position}");
            }
            // Nobody listens between polls.
            assert_eq!(bed.cores[shard].metrics.subscriptions.get(), 0);
            assert_eq!(bed.cores[shard].local.len(), 0);
        });
    }

    #[test]
    fn all_that_wait_are_answered_by_one_publication() {
        with_cores(1, Config::default(), |bed| {
            let mut clients: Vec<Client> = (0..100).map(|_| bed.connect(0)).collect();
            for client in &mut clients {
                ask(bed, client, "/channels/a?wait=60", "");
            }
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 100);
            publish(bed, "a", "x");
            for client in &mut clients {
                assert_eq!(offsets(&answer(client).1), [1]);
            }
            assert_eq!(bed.cores[0].metrics.deliveries.get(), 100);
        });
    }

    #[test]
    fn what_was_missed_comes_at_once_and_in_pages() {
        let mut config = Config::default();
        config.client.limits.recovery_max_publication_limit = 2;
        with_cores(2, config, |bed| {
            let channel = bed.channel_of(0);
            let epoch = (0..5).map(|_| publish(bed, &channel, "x")).next().unwrap();
            (0..4).for_each(|_| drop(publish(bed, &channel, "x")));
            let epoch = epoch["epoch"].as_str().unwrap();
            let mut client = bed.connect(1);
            for wait in [0, 25] {
                for (since, expected) in [(0, vec![1, 2]), (2, vec![3, 4]), (4, vec![5])] {
                    let target = format!("/channels/{channel}?wait={wait}&since={epoch}:{since}");
                    ask(bed, &mut client, &target, "");
                    let page = answer(&mut client).1;
                    assert_eq!(offsets(&page), expected);
                    assert_eq!(page["recovered"], true);
                    assert_eq!(page["offset"], *expected.last().unwrap());
                }
            }
        });
    }

    #[test]
    fn a_gap_is_told_with_where_to_go_on() {
        everywhere(|bed, channel, shard| {
            publish(bed, channel, "x");
            let mut client = bed.connect(shard);
            for wait in [0, 25] {
                for since in ["0123456789abcdef:1", "nonsense"] {
                    let target = format!("/channels/{channel}?wait={wait}&since={since}");
                    ask(bed, &mut client, &target, "");
                    let page = answer(&mut client).1;
                    assert_eq!(page["recovered"], false);
                    assert_eq!((&page["offset"], offsets(&page)), (&json!(1), vec![]));
                }
            }
            bed.pass_messages();
            assert_eq!(bed.cores[shard].local.len(), 0);
        });
    }

    #[test]
    fn a_short_poll_has_the_newest_or_nothing_and_says_what_has_not_changed() {
        with_cores(1, Config::default(), |bed| {
            let mut client = bed.connect(0);
            ask(bed, &mut client, "/channels/a?wait=0", "");
            let (head, _) = answer(&mut client);
            assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
            assert!(header(&head, POSITION_HEADER).unwrap().ends_with(":0"));
            publish(bed, "a", "old");
            publish(bed, "a", "new");
            ask(
                bed,
                &mut client,
                "/channels/a",
                "Accept: application/json\r\n",
            );
            let (head, page) = answer(&mut client);
            assert_eq!(page["publications"][0]["data"], "new");
            assert_eq!(header(&head, "Cache-Control"), Some("no-cache"));
            assert_eq!(header(&head, "Poll-Interval"), Some("0"));
            let tag = header(&head, "ETag").unwrap().to_owned();
            let known = format!("If-None-Match: W/{tag}\r\n");
            ask(bed, &mut client, "/channels/a?wait=0", &known);
            let (head, _) = answer(&mut client);
            assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
            assert!(header(&head, POSITION_HEADER).unwrap().ends_with(":2"));
            publish(bed, "a", "newer");
            ask(bed, &mut client, "/channels/a?wait=0", &known);
            assert_eq!(answer(&mut client).1["publications"][0]["data"], "newer");
        });
    }

    #[test]
    fn a_poll_whose_time_is_over_is_answered_with_an_empty_page() {
        everywhere(|bed, channel, shard| {
            let mut client = bed.connect(shard);
            ask(
                bed,
                &mut client,
                &format!("/channels/{channel}?wait=20"),
                "",
            );
            bed.pass_seconds(16);
            assert!(is_parked(bed, &client));
            bed.pass_seconds(5);
            let (head, page) = answer(&mut client);
            assert_eq!(page["publications"], json!([]));
            assert_eq!(page["recovered"], true);
            // And the connection goes on, from there.
            let since = header(&head, POSITION_HEADER).unwrap();
            let target = format!("/channels/{channel}?wait=20&since={since}");
            bed.pass_messages();
            ask(bed, &mut client, &target, "");
            publish(bed, channel, "x");
            assert_eq!(offsets(&answer(&mut client).1), [1]);
        });
    }

    #[test]
    fn polls_are_answered_when_the_server_stops() {
        with_cores(1, Config::default(), |bed| {
            let mut client = bed.connect(0);
            ask(bed, &mut client, "/channels/a?wait=20", "");
            let core = &mut bed.cores[0];
            core.begin_drain();
            core.close_some(10, false);
            let (head, page) = answer(&mut client);
            assert_eq!(page["publications"], json!([]));
            assert_eq!(header(&head, "Connection"), Some("close"));
            let mut rest = Vec::new();
            client.socket.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty());
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 0);
            // Who comes now does not wait.
            let mut late = bed.connect(0);
            ask(bed, &mut late, "/channels/a?wait=20", "");
            assert_eq!(header(&answer(&mut late).0, "Connection"), Some("close"));
        });
    }

    #[test]
    fn what_is_sent_ahead_waits_for_the_poll() {
        everywhere(|bed, channel, shard| {
            let mut client = bed.connect(shard);
            let poll = get(&format!("/channels/{channel}?wait=20"), "");
            let next = get("/health", "");
            bed.say(&mut client, poll.as_bytes());
            bed.settle();
            bed.say(&mut client, next.repeat(3).as_bytes());
            let held = bed.cores[shard].metrics.request_body_bytes.get();
            assert_eq!(held, 3 * next.len() as u64);
            publish(bed, channel, "x");
            assert_eq!(offsets(&answer(&mut client).1), [1]);
            (0..3).for_each(|_| assert!(answer(&mut client).0.starts_with("HTTP/1.1 200 ")));
            assert_eq!(bed.cores[shard].metrics.request_body_bytes.get(), 0);
            // And what comes with the request itself.
            let together = poll + &next;
            bed.say(&mut client, together.as_bytes());
            bed.settle();
            assert!(is_parked(bed, &client));
            client.reset();
            publish(bed, channel, "x");
            assert_eq!(bed.cores[shard].metrics.subscriptions.get(), 0);
        });
    }

    #[test]
    fn a_poll_whose_client_is_gone_leaves_its_channel() {
        everywhere(|bed, channel, shard| {
            let mut client = bed.connect(shard);
            ask(
                bed,
                &mut client,
                &format!("/channels/{channel}?wait=20"),
                "",
            );
            let key = client.key;
            client.reset();
            bed.receive_at(shard, key);
            bed.pass_messages();
            assert_eq!(bed.cores[shard].session_count(), 0);
            assert_eq!(bed.cores[shard].local.len(), 0);
        });
    }

    #[test]
    fn the_head_of_a_way_to_listen_is_to_be_had_alone() {
        with_cores(1, Config::default(), |bed| {
            publish(bed, "a", "x");
            let head_of = |bed: &mut Bed, target: &str, headers: &str| {
                let mut client = bed.connect(0);
                let request = get(target, headers).replacen("GET", "HEAD", 1);
                bed.say(&mut client, request.as_bytes());
                bed.settle();
                client.head()
            };
            let events = head_of(bed, "/channels/a", "Accept: text/event-stream\r\n");
            assert!(events.contains("Content-Type: text/event-stream"));
            let poll = head_of(bed, "/channels/a?wait=60", "");
            assert!(poll.starts_with("HTTP/1.1 200 "), "{poll}");
            assert!(header(&poll, POSITION_HEADER).unwrap().ends_with(":1"));
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 0);
        });
    }

    #[test]
    fn a_page_of_an_allowed_origin_may_ask_and_read_the_position() {
        with_cores(1, Config::default(), |bed| {
            let mut client = bed.connect(0);
            let own = "Origin: http://localhost\r\n";
            ask(bed, &mut client, "/channels/a?wait=0", own);
            let (head, _) = answer(&mut client);
            let readable = header(&head, "Access-Control-Expose-Headers").unwrap();
            assert!(readable.contains("Longwire-Position") && readable.contains("Poll-Interval"));
            let preflight = format!("{own}Access-Control-Request-Method: GET\r\n");
            let request = get("/channels/a", &preflight).replacen("GET", "OPTIONS", 1);
            bed.say(&mut client, request.as_bytes());
            let (head, _) = answer(&mut client);
            assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
            let asked = header(&head, "Access-Control-Allow-Headers").unwrap();
            assert!(asked.contains("Authorization") && asked.contains("Last-Event-ID"));
            // Refusals can be read too.
            ask(bed, &mut client, "/channels/a", own);
            let (head, _) = answer(&mut client);
            assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
            assert!(header(&head, "Access-Control-Expose-Headers").is_some());
        });
    }
}
