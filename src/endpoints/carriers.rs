//! `/connection/http_stream`, `/connection/sse` and `/emulation`: the Centrifuge protocol where WebSockets do not get
//! through. Messages of the server come in one response that goes on, those of the client in requests of their own.

use bytes::Bytes;

use crate::hub::Framing;
use crate::proto::centrifuge::{Format, decode_emulation_request};
use crate::proto::http::{BodyLength, Method, Request};
use crate::proto::sse;
use crate::shard::{
    Answer, AnswerTo, Carrier, Core, Dialogue, Emulated, Emulation, Exchange, Gathering, NewClient,
    Reply, Upgrade,
};

use super::publishing;

/// Where a request to connect is if it is not the body.
const CONNECT_PARAM: &str = "cf_connect";
/// What an event stream begins with.
pub(super) const EVENTS_PREAMBLE: &[u8] = b"\r\n";

pub(super) fn admit_http_stream(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    served(core.shared.config.http_stream.enabled, "http_stream")?;
    check_length(core, exchange.request)
}

pub(super) fn admit_sse(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    served(core.shared.config.sse.enabled, "sse")?;
    check_length(core, exchange.request)
}

pub(super) fn admit_emulation(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    let config = &core.shared.config;
    let is_on = config.http_stream.enabled || config.sse.enabled;
    served(is_on, "http_stream")?;
    check_length(core, exchange.request)
}

pub(super) fn http_stream(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let format = format_of(exchange.request);
    match first_words(core, exchange) {
        Ok(first) => Answer::Upgrade(Upgrade {
            carrier: lines(format),
            dialogue: Dialogue::Centrifuge(emulated_client(format, first)),
        }),
        Err(reply) => Answer::Reply(reply),
    }
}

pub(super) fn sse(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    match first_words(core, exchange) {
        Ok(first) => Answer::Upgrade(Upgrade {
            carrier: events(),
            dialogue: Dialogue::Centrifuge(emulated_client(Format::Json, first)),
        }),
        Err(reply) => Answer::Reply(reply),
    }
}

/// Brings commands to a session that has its answers elsewhere.
pub(super) fn emulation(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    if let Err(reply) = check_bytes(core, exchange.body.len()) {
        return Answer::Reply(reply);
    }
    let format = format_of(exchange.request);
    let Ok(request) = decode_emulation_request(format, exchange.body) else {
        return Answer::Reply(Reply::text(400, "not an emulation request").closing());
    };
    if *request.node != *core.shared.node {
        return Answer::Reply(emulated(Emulation::Unknown));
    }
    let mut gathering = Gathering::new(exchange.session);
    let commands = Emulated {
        session: request.session.into(),
        format,
        commands: request.data,
    };
    gathering.emulate(core, commands);
    gathering.reply(|answers| match answers.first() {
        Some(AnswerTo::Emulation(outcome)) => emulated(*outcome),
        _ => emulated(Emulation::Busy),
    })
}

pub(super) fn emulated(outcome: Emulation) -> Reply {
    match outcome {
        Emulation::Accepted => no_content(),
        Emulation::Unknown => Reply::text(404, "no such session: connect again"),
        Emulation::Busy => {
            publishing::unavailable(Reply::text(503, "too much of this session is under way"))
        }
    }
}

/// 204.
pub(super) fn no_content() -> Reply {
    Reply {
        content_type: "",
        ..Reply::text(204, "")
    }
}

/// Refuses what is not configured. `section` is that of its setting.
pub(super) fn served(is_on: bool, section: &str) -> Result<(), Reply> {
    match is_on {
        true => Ok(()),
        false => {
            let line = format!("not served: set {section}.enabled = true");
            Err(Reply::text(404, &line).closing())
        }
    }
}

/// Refuses a body by its declared length: it is a message of a client, as one on a WebSocket.
pub(super) fn check_length(core: &Core, request: &Request<'_>) -> Result<(), Reply> {
    match request.body {
        BodyLength::Length(bytes) => {
            check_bytes(core, usize::try_from(bytes).unwrap_or(usize::MAX))
        }
        BodyLength::None | BodyLength::Chunked => Ok(()),
    }
}

/// Refuses a body by its length.
pub(super) fn check_bytes(core: &Core, bytes: usize) -> Result<(), Reply> {
    match bytes > core.shared.config.websocket.message_bytes {
        true => Err(Reply::text(413, "over websocket.message_bytes").closing()),
        false => Ok(()),
    }
}

/// What the client says with its request: the body, or a parameter of a GET.
pub(super) fn first_words(core: &Core, exchange: &Exchange<'_>) -> Result<Bytes, Reply> {
    let first = match exchange.request.method {
        Method::Post => Bytes::copy_from_slice(exchange.body),
        _ => connect_param(exchange.request),
    };
    check_bytes(core, first.len())?;
    match first.is_empty() {
        true => Err(Reply::text(
            400,
            "no request to connect: send one in cf_connect or the body",
        )
        .closing()),
        false => Ok(first),
    }
}

/// The request to connect in the query, or nothing.
pub(super) fn connect_param(request: &Request<'_>) -> Bytes {
    let param = request.query_param(CONNECT_PARAM);
    param.map_or(Bytes::new(), |text| Bytes::from(text.into_owned()))
}

fn emulated_client(format: Format, first: Bytes) -> NewClient {
    NewClient {
        format,
        is_uni: false,
        pings_by_frame: false,
        has_session: true,
        is_sockjs: false,
        first,
        last_event_id: None,
    }
}

fn format_of(request: &Request<'_>) -> Format {
    match publishing::is_octet_stream(request.header("content-type")) {
        true => Format::Protobuf,
        false => Format::Json,
    }
}

/// A response of messages: lines of JSON, or Protobuf with lengths.
pub(super) fn lines(format: Format) -> Carrier {
    Carrier::Stream {
        framing: Framing::Chunks,
        content_type: match format {
            Format::Json => "application/json",
            Format::Protobuf => "application/octet-stream",
        },
        preamble: b"",
    }
}

/// A response of events.
pub(super) fn events() -> Carrier {
    Carrier::Stream {
        framing: Framing::Events,
        content_type: sse::CONTENT_TYPE,
        preamble: EVENTS_PREAMBLE,
    }
}
