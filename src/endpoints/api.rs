//! `/api/…`: the server API, with Centrifugo's requests and answers.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hub::{Kind, Position, Refused};
use crate::shard::{Answer, Core, Exchange, Reply};

use super::{access, publishing};

/// Centrifugo's error codes.
const INTERNAL_ERROR: (u32, &str) = (100, "internal server error");
const BAD_REQUEST: (u32, &str) = (107, "bad request");

#[derive(Deserialize)]
struct PublishRequest<'a> {
    channel: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

pub(super) fn admit(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    access::may_publish(core, exchange)
}

/// `{"channel": …, "data": …}`: publishes the data as it stands.
pub(super) fn publish(core: &mut Core, exchange: &Exchange<'_>) -> Answer {
    let Ok(request) = serde_json::from_slice::<PublishRequest<'_>>(exchange.body) else {
        return Answer::Reply(error(200, BAD_REQUEST));
    };
    let Ok(channel) = publishing::channel_name(core, &request.channel) else {
        return Answer::Reply(error(200, BAD_REQUEST));
    };
    let data = Bytes::copy_from_slice(request.data.get().as_bytes());
    publishing::publish(core, exchange, &channel, Kind::Json, data, published)
}

fn published(outcome: Result<Position, Refused>) -> Reply {
    match outcome {
        Ok(position) => {
            let position = publishing::position(&position);
            Reply::json(200, format!("{{\"result\":{position}}}"))
        }
        Err(_) => publishing::unavailable(error(503, INTERNAL_ERROR)),
    }
}

fn error(status: u16, (code, message): (u32, &str)) -> Reply {
    let body = format!("{{\"error\":{{\"code\":{code},\"message\":\"{message}\"}}}}");
    Reply::json(status, body)
}
