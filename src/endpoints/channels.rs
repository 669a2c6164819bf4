//! `/channels/{channel}`: the plain dialect. GET listens, POST publishes.

use std::sync::Arc;

use bytes::Bytes;

use crate::hub::{Position, Refused};
use crate::proto::deflate::{DeflatePolicy, negotiate};
use crate::proto::handshake::{UpgradeCheck, check_upgrade};
use crate::proto::http::{HttpError, Method, decode_segment};
use crate::shard::{Answer, Carrier, Core, Dialogue, Exchange, Reply, Upgrade};

use super::{access, listening, publishing};

const PREFIX: &str = "/channels/";

pub(super) fn admit(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    channel_of(core, exchange)?;
    if exchange.request.method == Method::Post {
        return access::may_publish(core, exchange);
    }
    Ok(())
}

pub(super) fn answer(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let channel = match channel_of(core, exchange) {
        Ok(channel) => channel,
        Err(reply) => return Answer::Reply(reply),
    };
    if exchange.request.method != Method::Post {
        return listening::listen(core, exchange, channel);
    }
    let content_type = exchange.request.header("content-type");
    let kind = publishing::kind_of(content_type, exchange.body);
    let data = Bytes::copy_from_slice(exchange.body);
    publishing::publish(core, exchange, &channel, kind, data, published)
}

/// Makes the connection a WebSocket, or says why not.
pub(super) fn upgrade(
    core: &Core,
    exchange: &Exchange<'_>,
    protocol: Option<&'static str>,
    dialogue: Dialogue,
) -> Answer {
    match check_upgrade(exchange.request) {
        UpgradeCheck::Accept { key } => {
            let offers = exchange.request.headers("sec-websocket-extensions");
            match negotiate(offers, &deflate_policy(core)) {
                Ok(deflate) => Answer::Upgrade(Upgrade {
                    carrier: Carrier::WebSocket {
                        key: key.to_owned(),
                        protocol,
                        deflate,
                    },
                    dialogue,
                }),
                Err(error) => Answer::Reply(error.into()),
            }
        }
        UpgradeCheck::Refuse(error) => Answer::Reply(error.into()),
        UpgradeCheck::NotAnUpgrade => Answer::Reply(
            HttpError {
                status: 426,
                reason: "this is a WebSocket: send an upgrade request",
            }
            .into(),
        ),
    }
}

fn deflate_policy(core: &Core) -> DeflatePolicy {
    let websocket = &core.shared.config.websocket;
    DeflatePolicy {
        enabled: websocket.compression,
        server_context_takeover: websocket.server_context_takeover,
        client_context_takeover: websocket.client_context_takeover,
        window_bits_max: websocket.compression_window_bits,
    }
}

/// The channel named by the path's last segment.
fn channel_of(core: &Core, exchange: &Exchange<'_>) -> Result<Arc<str>, Reply> {
    let segment = exchange.request.path.strip_prefix(PREFIX).unwrap_or("");
    let bad = |line: &str| Reply::text(400, line).closing();
    let name = decode_segment(segment).ok_or_else(|| bad("channel name malformed"))?;
    publishing::channel_name(core, &name).map_err(bad)
}

fn published(outcome: Result<Position, Refused>) -> Reply {
    match outcome {
        Ok(position) => Reply::json(200, publishing::position(&position)),
        Err(refused) => publishing::unavailable(Reply::text(503, publishing::explain(refused))),
    }
}
