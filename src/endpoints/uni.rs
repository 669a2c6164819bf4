//! `/connection/uni_websocket`, `/connection/uni_sse` and `/connection/uni_http_stream`: the Centrifuge protocol for
//! clients that only listen. They say one thing, a request to connect that names their channels; what comes back are
//! pushes. An event stream has ids, with which a browser that reconnects goes on where it was.

use bytes::Bytes;

use crate::proto::centrifuge::Format;
use crate::shard::{Answer, Carrier, Core, Dialogue, Exchange, NewClient, Reply, Upgrade};

use super::carriers::{check_length, connect_param, events, first_words, lines, served};
use super::channels::upgrade;

pub(super) fn admit_websocket(core: &mut Core, _: &Exchange<'_>) -> Result<(), Reply> {
    served(core.shared.config.uni_websocket.enabled, "uni_websocket")
}

pub(super) fn admit_sse(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    served(core.shared.config.uni_sse.enabled, "uni_sse")?;
    check_length(core, exchange.request)
}

pub(super) fn admit_http_stream(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    served(
        core.shared.config.uni_http_stream.enabled,
        "uni_http_stream",
    )?;
    check_length(core, exchange.request)
}

/// The request to connect is in the query, or is the first message.
pub(super) fn websocket(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let new = NewClient {
        pings_by_frame: true,
        ..listener(connect_param(exchange.request))
    };
    upgrade(core, exchange, None, Dialogue::Centrifuge(new))
}

pub(super) fn sse(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let last_event_id = exchange.request.header("last-event-id").map(Box::from);
    stream(core, exchange, events(), last_event_id)
}

pub(super) fn http_stream(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    stream(core, exchange, lines(Format::Json), None)
}

fn stream(
    core: &Core,
    exchange: &Exchange<'_>,
    carrier: Carrier,
    last_event_id: Option<Box<str>>,
) -> Answer {
    match first_words(core, exchange) {
        Ok(first) => Answer::Upgrade(Upgrade {
            carrier,
            dialogue: Dialogue::Centrifuge(NewClient {
                last_event_id,
                ..listener(first)
            }),
        }),
        Err(reply) => Answer::Reply(reply),
    }
}

fn listener(first: Bytes) -> NewClient {
    NewClient {
        format: Format::Json,
        is_uni: true,
        pings_by_frame: false,
        has_session: true,
        is_sockjs: false,
        first,
        last_event_id: None,
    }
}
