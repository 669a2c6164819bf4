//! `/connection/sockjs`: the Centrifuge protocol over SockJS 0.3.3, for clients that can only poll. Their sessions are
//! named by themselves: `/connection/sockjs/{server}/{session}/xhr`, `xhr_streaming` or `eventsource`, and `xhr_send`;
//! or `websocket`, which is one.

use bytes::Bytes;

use crate::hub::Framing;
use crate::proto::centrifuge::Format;
use crate::proto::http::Method;
use crate::proto::sockjs::{STREAMING_PRELUDE, SessionPath, Transport, parse_messages};
use crate::shard::{
    Answer, AnswerTo, Carrier, Core, Dialogue, Emulation, Exchange, Gathering, NewClient, Polling,
    Reply, Upgrade,
};

use super::carriers::{check_bytes, check_length, emulated, events, no_content, served};
use super::channels::upgrade;

/// The path of the endpoint itself.
const PATH: &str = "/connection/sockjs";

/// What a request is for.
enum Part<'a> {
    Greeting,
    Info,
    /// A WebSocket, with frames of SockJS or without.
    WebSocket {
        is_framed: bool,
    },
    Receive(&'a str),
    /// The same over and over, in one response.
    Stream(&'a str, Streaming),
    Send(&'a str),
}

/// How frames come in a response that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Streaming {
    Lines,
    Events,
}

pub(super) fn admit(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    served(core.shared.config.sockjs.enabled, "sockjs")?;
    let part = part_of(exchange.request.path)?;
    let is_post = exchange.request.method == Method::Post;
    let takes_post = matches!(
        part,
        Part::Receive(_) | Part::Send(_) | Part::Stream(_, Streaming::Lines)
    );
    if is_post != takes_post {
        let allowed = if is_post { "GET" } else { "POST" };
        let reply = Reply::text(405, "method not allowed here").with("Allow", allowed);
        return Err(reply.closing());
    }
    check_length(core, exchange.request)
}

pub(super) fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    match part_of(exchange.request.path) {
        Ok(Part::Greeting) => Answer::Reply(Reply::text(200, "Welcome to SockJS!")),
        Ok(Part::Info) => Answer::Reply(info(core)),
        Ok(Part::WebSocket { is_framed }) => websocket(core, exchange, is_framed),
        Ok(Part::Receive(session)) => receive(core, exchange, session),
        Ok(Part::Stream(session, streaming)) => stream(session, streaming),
        Ok(Part::Send(session)) => send(core, exchange, session),
        Err(reply) => Answer::Reply(reply),
    }
}

fn part_of(path: &str) -> Result<Part<'_>, Reply> {
    let rest = path.strip_prefix(PATH).unwrap_or_default();
    match rest {
        "" | "/" => return Ok(Part::Greeting),
        "/info" => return Ok(Part::Info),
        "/websocket" => return Ok(Part::WebSocket { is_framed: false }),
        _ => {}
    }
    match SessionPath::parse(rest).map(|path| (path.transport, path.session)) {
        Some((Transport::Xhr, session)) => Ok(Part::Receive(session)),
        Some((Transport::XhrStreaming, session)) => Ok(Part::Stream(session, Streaming::Lines)),
        Some((Transport::EventSource, session)) => Ok(Part::Stream(session, Streaming::Events)),
        Some((Transport::XhrSend, session)) => Ok(Part::Send(session)),
        Some((Transport::WebSocket, _)) => Ok(Part::WebSocket { is_framed: true }),
        Some(_) => {
            let line = "of SockJS, websocket, xhr_streaming, eventsource and xhr are served here";
            Err(Reply::text(404, line).closing())
        }
        None => Err(Reply::text(404, "no such path").closing()),
    }
}

/// What a client may use.
fn info(core: &mut Core) -> Reply {
    let entropy = core.random_u32();
    let text = format!(
        "{{\"websocket\":true,\"origins\":[\"*:*\"],\"cookie_needed\":false,\"entropy\":{entropy}}}"
    );
    uncached(Reply::json(200, text))
}

fn websocket(core: &Core, exchange: &Exchange<'_>, is_framed: bool) -> Answer {
    let new = NewClient {
        format: Format::Json,
        is_uni: false,
        pings_by_frame: false,
        has_session: false,
        is_sockjs: is_framed,
        first: Bytes::new(),
        last_event_id: None,
    };
    upgrade(core, exchange, None, Dialogue::Centrifuge(new))
}

fn receive(core: &mut Core, exchange: &Exchange<'_>, session: &str) -> Answer {
    let mut gathering = Gathering::new(exchange.session);
    gathering.poll(core, session, exchange.client, Polling::Receive);
    gathering.reply(|answers| match answers.into_iter().next() {
        Some(AnswerTo::Polled(frame)) => uncached(Reply {
            content_type: "application/javascript; charset=UTF-8",
            body: frame,
            ..Reply::text(200, "")
        }),
        _ => emulated(Emulation::Busy),
    })
}

fn stream(session: &str, streaming: Streaming) -> Answer {
    let carrier = match streaming {
        Streaming::Lines => Carrier::Stream {
            framing: Framing::Chunks,
            content_type: "application/javascript; charset=UTF-8",
            preamble: STREAMING_PRELUDE,
        },
        Streaming::Events => events(),
    };
    Answer::Upgrade(Upgrade {
        carrier,
        dialogue: Dialogue::Receiver(session.into()),
    })
}

fn send(core: &mut Core, exchange: &Exchange<'_>, session: &str) -> Answer {
    if let Err(reply) = check_bytes(core, exchange.body.len()) {
        return Answer::Reply(reply);
    }
    let messages = match parse_messages(exchange.body) {
        Ok(messages) => messages,
        Err(bad) => return Answer::Reply(Reply::text(500, bad.reason())),
    };
    if messages.is_empty() {
        return Answer::Reply(no_content());
    }
    let commands = Bytes::from(messages.join("\n"));
    let mut gathering = Gathering::new(exchange.session);
    gathering.poll(core, session, exchange.client, Polling::Send(commands));
    gathering.reply(|answers| match answers.first() {
        Some(AnswerTo::Emulation(outcome)) => emulated(*outcome),
        _ => emulated(Emulation::Busy),
    })
}

fn uncached(reply: Reply) -> Reply {
    reply.with(
        "Cache-Control",
        "no-store, no-cache, no-transform, must-revalidate, max-age=0",
    )
}
