//! What listening to a channel of the plain dialect can be: a WebSocket, an event stream, lines of JSON, a poll. Which
//! one it is, the request's headers and its query say.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::hub::{DeviceId, DeviceName, Dialect, Framing, Position, Since};
use crate::proto::cursor::Cursor;
use crate::proto::handshake::{UpgradeCheck, check_upgrade};
use crate::proto::http::{Method, Request};
use crate::proto::sse;
use crate::shard::{
    Answer, AnswerTo, Carrier, Core, Dialogue, Exchange, Gathering, Listen, Listener, MayNotListen,
    POSITION_HEADER, Page, Purpose, Question, RecoveryWish, Reply, Upgrade, page_parts,
    position_text,
};

use super::channels::upgrade;

/// The subprotocol in which everything is a JSON object: publications with their offsets, positions, heartbeats.
const SUBPROTOCOL: &str = "longwire.v1";
/// The same objects, one a line.
const NDJSON: &str = "application/x-ndjson";
const EVENT_STREAM: &str = "text/event-stream";
const JSON: &str = "application/json";

/// The longest a poll waits, in seconds: proxies commonly cut what is silent for longer.
const WAIT_MAX_S: u32 = 60;

/// How long the name may be by which a client takes over its own older connection.
const SESSION_BYTES: RangeInclusive<usize> = 16..=128;

/// The cookie a page's token may be in.
const TOKEN_COOKIE: &str = "longwire_token";

const WAYS: &str = "listen with a WebSocket upgrade, Accept: text/event-stream, Accept: application/x-ndjson, or poll with ?wait=25";

/// Listens to `channel`, if the client may.
pub(super) fn listen(core: &mut Core, exchange: &Exchange<'_>, channel: Arc<str>) -> Answer {
    let request = exchange.request;
    if last_event_id(request).is_some_and(|id| *id == *sse::TAKEN_OVER_ID) {
        // The answer after which an `EventSource` does not come back (WHATWG HTML section 9.2.3).
        return Answer::Reply(Reply {
            content_type: "",
            body: bytes::Bytes::new(),
            ..Reply::text(204, "")
        });
    }
    let listener = match core.may_listen(&channel, token_of(request).as_deref()) {
        Ok(listener) => listener,
        Err(MayNotListen::NeedsKeys(keys)) => {
            return Answer::AwaitKeys(keys, Box::new(refusal(MayNotListen::TokenRefused)));
        }
        Err(why) => return Answer::Reply(refusal(why)),
    };
    let device = match device_of(core, request, &listener, &channel) {
        Ok(device) => device,
        Err(reply) => return Answer::Reply(reply),
    };
    let listen = |dialect| Listen {
        channel: Arc::clone(&channel),
        dialect,
        since: since_of(request),
        device,
    };
    match Way::of(request) {
        Way::WebSocket => websocket(core, exchange, listen),
        Way::Events => stream(listen(Dialect::Verbatim), Framing::Events),
        Way::Lines => stream(listen(Dialect::Envelope), Framing::Chunks),
        Way::Poll { wait_s: 0 } => short_poll(core, exchange, &channel),
        Way::Poll { wait_s } => listening(listen(Dialect::Envelope), Carrier::Poll { wait_s }),
        Way::Unknown => {
            let reply = Reply::text(426, WAYS).with("Upgrade", "websocket");
            Answer::Reply(reply.closing())
        }
    }
}

/// How a client listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    WebSocket,
    Events,
    Lines,
    Poll { wait_s: u32 },
    Unknown,
}

impl Way {
    fn of(request: &Request<'_>) -> Self {
        if !matches!(check_upgrade(request), UpgradeCheck::NotAnUpgrade) {
            return Self::WebSocket;
        }
        if let Some(wait) = request.query_param("wait") {
            // Nobody waits to know the head of an answer.
            let wait_s = match request.method {
                Method::Head => 0,
                _ => wait.parse::<u32>().unwrap_or(0).min(WAIT_MAX_S),
            };
            return Self::Poll { wait_s };
        }
        let accepted = request.headers("accept");
        let mut ways = accepted
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(|range| range.split(';').next().unwrap_or(range).trim());
        let way = ways.find_map(|kind| match kind {
            EVENT_STREAM => Some(Self::Events),
            NDJSON => Some(Self::Lines),
            JSON => Some(Self::Poll { wait_s: 0 }),
            _ => None,
        });
        way.unwrap_or(Self::Unknown)
    }
}

fn websocket(core: &Core, exchange: &Exchange<'_>, listen: impl Fn(Dialect) -> Listen) -> Answer {
    let speaks = exchange
        .request
        .has_token("sec-websocket-protocol", SUBPROTOCOL);
    let (protocol, dialect) = match speaks {
        true => (Some(SUBPROTOCOL), Dialect::Envelope),
        false => (None, Dialect::Verbatim),
    };
    let listen = listen(dialect);
    let may_publish = core.shared.config.channels.client_publish.iter();
    let purpose = match may_publish
        .into_iter()
        .any(|name| **name == *listen.channel)
    {
        true => Purpose::Publish,
        false => Purpose::Listen,
    };
    let dialogue = Dialogue::Plain {
        purpose,
        listen: Some(listen),
    };
    upgrade(core, exchange, protocol, dialogue)
}

fn stream(listen: Listen, framing: Framing) -> Answer {
    let content_type = match framing {
        Framing::Events => sse::CONTENT_TYPE,
        _ => NDJSON,
    };
    let carrier = Carrier::Stream {
        framing,
        content_type,
        preamble: b"",
    };
    listening(listen, carrier)
}

fn listening(listen: Listen, carrier: Carrier) -> Answer {
    let dialogue = Dialogue::Plain {
        purpose: Purpose::Listen,
        listen: Some(listen),
    };
    Answer::Upgrade(Upgrade { carrier, dialogue })
}

/// The device whose connection to the channel ends with this one: that of the listener's token, or else what the
/// client calls itself.
fn device_of(
    core: &Core,
    request: &Request<'_>,
    listener: &Listener,
    channel: &str,
) -> Result<Option<DeviceId>, Reply> {
    let device = |name| core.device(&listener.user, name, channel);
    if let Some(name) = &listener.device {
        return Ok(Some(device(DeviceName::Token(name))));
    }
    match request.query_param("session") {
        None => Ok(None),
        Some(name) if is_session_name(&name) => Ok(Some(device(DeviceName::Client(&name)))),
        Some(_) => Err(Reply::text(
            400,
            "session takes 16 to 128 letters, digits, - or _",
        )),
    }
}

/// Whether a client may call itself so. It is to be long enough that nobody else comes upon it.
fn is_session_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    SESSION_BYTES.contains(&name.len()) && name.bytes().all(is_plain)
}

/// Answers at once: with what follows the client's position, or if it has none, with the newest publication.
fn short_poll(core: &mut Core, exchange: &Exchange<'_>, channel: &str) -> Answer {
    let since = since_of(exchange.request);
    let wish = RecoveryWish {
        since,
        latest_only: since.is_none(),
        in_pages: true,
    };
    let interval_s = core.poll_interval_s();
    let known = exchange.request.headers("if-none-match");
    let known: Vec<String> = known
        .filter_map(|value| Some(std::str::from_utf8(value).ok()?.to_owned()))
        .collect();
    let mut gathering = Gathering::new(exchange.session);
    gathering.ask(core, channel, Question::Recover(wish));
    gathering.reply(move |answers| {
        let Some(AnswerTo::Recovery(recovery)) = answers.into_iter().next() else {
            return Reply::text(503, "too many channels").with("Retry-After", "5");
        };
        let tag = entity_tag(recovery.position);
        let reply = if knows(&known, &tag) {
            bodiless(304, recovery.position)
        } else if since.is_none() && recovery.publications.is_empty() {
            bodiless(204, recovery.position)
        } else {
            let page = Page {
                position: recovery.position,
                recovered: recovery.recovered && since.is_some(),
                parts: &page_parts(&recovery.publications),
            };
            page.reply()
        };
        reply
            .with("ETag", tag)
            .with("Cache-Control", "no-cache")
            .with("Poll-Interval", interval_s.to_string())
    })
}

fn bodiless(status: u16, position: Position) -> Reply {
    Reply {
        content_type: "",
        body: bytes::Bytes::new(),
        ..Reply::text(status, "")
    }
    .with(POSITION_HEADER, position_text(position))
}

/// Names what an answer says: the same position, the same answer.
fn entity_tag(position: Position) -> String {
    let Position { epoch, offset } = position;
    format!("\"{epoch}-{offset}\"")
}

/// Whether `If-None-Match` names `tag`, weakly or not (RFC 9110 section 13.1.2).
fn knows(known: &[String], tag: &str) -> bool {
    let tags = known.iter().flat_map(|line| line.split(','));
    tags.map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*")
}

/// Up to where the client has everything. What it says last counts: an event stream that comes back asks for the same
/// URL, and names the newest event in a header, or where it may not, in the query.
fn since_of(request: &Request<'_>) -> Option<Since> {
    let text = last_event_id(request)
        .or_else(|| request.query_param("since"))
        .filter(|text| !text.is_empty())?;
    Some(match Cursor::parse(&text) {
        Some(cursor) => Since::from_text(cursor.epoch, cursor.offset),
        // A position of nobody knows what: nothing follows it.
        None => Since::from_text("?", 0),
    })
}

/// The newest event of an event stream that comes back.
fn last_event_id<'r>(request: &'r Request<'_>) -> Option<Cow<'r, str>> {
    let header = request.header("last-event-id").map(Cow::Borrowed);
    header.or_else(|| request.query_param("lastEventId"))
}

/// The client's token: of a header, of the query, where a page's WebSocket has no headers, or of a cookie.
fn token_of(request: &Request<'_>) -> Option<String> {
    let bearer = request.header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then(|| token.trim().to_owned())
    });
    bearer
        .or_else(|| Some(request.query_param("token")?.into_owned()))
        .or_else(|| cookie(request, TOKEN_COOKIE))
        .filter(|token| !token.is_empty())
}

fn cookie(request: &Request<'_>, name: &str) -> Option<String> {
    let lines = request.headers("cookie");
    let mut pairs = lines
        .filter_map(|line| std::str::from_utf8(line).ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(own, _)| *own == name)?;
    Some(value.trim_matches('"').to_owned())
}

fn refusal(why: MayNotListen) -> Reply {
    let (status, line) = match why {
        MayNotListen::NoSuchNamespace => (404, "no such namespace"),
        MayNotListen::BadName => (400, "channel name not allowed"),
        MayNotListen::TokenMissing => (401, "token missing: send Authorization: Bearer TOKEN"),
        MayNotListen::TokenRefused | MayNotListen::NeedsKeys(_) => (401, "token not accepted"),
        MayNotListen::Denied => (403, "not allowed to listen to this channel"),
    };
    let reply = Reply::text(status, line);
    match status {
        401 => reply.with("WWW-Authenticate", "Bearer"),
        _ => reply,
    }
}

#[cfg(test)]
mod tests {
    use crate::proto::http::parse_request;

    use super::*;

    fn request(target: &str, headers: &str) -> Vec<u8> {
        format!("GET {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes()
    }

    fn way(target: &str, headers: &str) -> Way {
        Way::of(&parse_request(&request(target, headers)).unwrap())
    }

    #[test]
    fn a_way_is_what_the_request_says() {
        assert_eq!(way("/", ""), Way::Unknown);
        assert_eq!(way("/", "Accept: */*\r\n"), Way::Unknown);
        assert_eq!(way("/", "Accept: text/event-stream\r\n"), Way::Events);
        let both = "Accept: text/html, application/x-ndjson;q=0.9\r\n";
        assert_eq!(way("/", both), Way::Lines);
        let now = Way::Poll { wait_s: 0 };
        assert_eq!(way("/", "Accept: application/json\r\n"), now);
        assert_eq!(way("/?wait=0", both), now);
        assert_eq!(way("/?wait=x", ""), now);
        let longest = Way::Poll { wait_s: 60 };
        assert_eq!(way("/?wait=100000", ""), longest);
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        assert_eq!(way("/?wait=5", upgrade), Way::WebSocket);
    }

    #[test]
    fn a_token_is_found_in_each_of_its_places() {
        let token = |target: &str, headers: &str| {
            let head = request(target, headers);
            token_of(&parse_request(&head).unwrap())
        };
        let own = |text: &str| Some(text.to_owned());
        assert_eq!(token("/", ""), None);
        assert_eq!(token("/?token=", "Authorization: Basic x\r\n"), None);
        assert_eq!(token("/?token=q", "Authorization: bearer h\r\n"), own("h"));
        let cookies = "Cookie: a=b; longwire_token=c; d=e\r\n";
        assert_eq!(token("/?token=q", cookies), own("q"));
        assert_eq!(token("/", cookies), own("c"));
    }

    #[test]
    fn the_newest_position_counts() {
        let since = |target: &str, headers: &str| {
            let head = request(target, headers);
            since_of(&parse_request(&head).unwrap())
        };
        let id = "00000000000000ab";
        let at = |offset| Some(Since::from_text(id, offset));
        assert_eq!(since("/", ""), None);
        assert_eq!(since(&format!("/?since={id}:5"), ""), at(5));
        let header = format!("Last-Event-ID: {id}:7\r\n");
        assert_eq!(since(&format!("/?since={id}:5"), &header), at(7));
        let query = format!("/?since={id}:5&lastEventId={id}:6");
        assert_eq!(since(&query, ""), at(6));
        // What is no position is told as a gap, not taken for none.
        assert_eq!(since("/?since=5", ""), Some(Since::from_text("?", 0)));
    }

    #[test]
    fn a_tag_is_known_in_any_of_a_list() {
        let known = ["\"a\", W/\"e-1\"".to_owned()];
        assert!(knows(&known, "\"e-1\""));
        assert!(!knows(&known, "\"e-2\""));
        assert!(knows(&["*".to_owned()], "\"e-2\""));
    }
}
