//! `/connection/websocket`: the Centrifuge protocol over a WebSocket.

use bytes::Bytes;

use crate::proto::centrifuge::Format;
use crate::shard::{Answer, Core, Dialogue, Exchange, NewClient};

use super::channels::upgrade;

/// The subprotocol of the Protobuf format.
const PROTOBUF: &str = "centrifuge-protobuf";
/// The subprotocol of the JSON format, which is also what a client speaks that names none.
const JSON: &str = "centrifuge-json";

pub(super) fn websocket(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let request = exchange.request;
    let offers = request
        .headers("sec-websocket-protocol")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    let mut protocol = None;
    for offer in offers {
        protocol = protocol.or(match offer {
            PROTOBUF => Some(PROTOBUF),
            JSON => Some(JSON),
            _ => None,
        });
    }
    let asks_protobuf = ["format", "cf_protocol"]
        .iter()
        .any(|name| request.query_param(name).as_deref() == Some("protobuf"));
    let format = match protocol == Some(PROTOBUF) || asks_protobuf {
        true => Format::Protobuf,
        false => Format::Json,
    };
    let pings = request.query_param("cf_ws_frame_ping_pong");
    let new = NewClient {
        format,
        is_uni: false,
        pings_by_frame: pings.as_deref() == Some("true"),
        has_session: false,
        is_sockjs: false,
        first: Bytes::new(),
        last_event_id: None,
    };
    upgrade(core, exchange, protocol, Dialogue::Centrifuge(new))
}
