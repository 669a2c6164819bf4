//! What every way of publishing has in common.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::hub::{Kind, Position, Refused};
use crate::shard::{Answer, Asker, Core, Exchange, PublishReply, Reply, Submission, Submitted};

/// Publishes, and answers with `reply` now or when the owner of the channel has decided.
pub(super) fn publish(
    core: &mut Core,
    exchange: &Exchange<'_>,
    channel: &Arc<str>,
    kind: Kind,
    data: Bytes,
    reply: PublishReply,
) -> Answer {
    let submission = Submission {
        channel: Arc::clone(channel),
        kind,
        data,
        options: None,
    };
    let asker = Asker {
        session: exchange.session,
        tag: 0,
    };
    match core.publish(submission, asker) {
        Submitted::Done(outcome) => Answer::Reply(reply(outcome)),
        Submitted::Pending => Answer::AwaitPublished(reply),
    }
}

/// A channel's name, if it is one.
pub(super) fn channel_name(core: &Core, name: &str) -> Result<Arc<str>, &'static str> {
    if name.is_empty() {
        Err("channel name missing")
    } else if name.len() > core.shared.config.channels.name_bytes {
        Err("channel name too long")
    } else {
        Ok(Arc::from(name))
    }
}

/// What a body is: binary if it says so or is not UTF-8, JSON if it is one JSON value, else text.
pub(super) fn kind_of(content_type: Option<&str>, body: &[u8]) -> Kind {
    if is_octet_stream(content_type) || simdutf8::basic::from_utf8(body).is_err() {
        Kind::Binary
    } else if serde_json::from_slice::<&RawValue>(body).is_ok() {
        Kind::Json
    } else {
        Kind::Text
    }
}

/// Whether a body says that it is bytes.
pub(super) fn is_octet_stream(content_type: Option<&str>) -> bool {
    let essence = content_type.map(|value| value.split(';').next().unwrap_or(value).trim());
    essence.is_some_and(|value| value.eq_ignore_ascii_case("application/octet-stream"))
}

/// Where a publication stands, as a JSON object.
pub(super) fn position(position: &Position) -> String {
    let Position { epoch, offset } = position;
    format!("{{\"offset\":{offset},\"epoch\":\"{epoch}\"}}")
}

/// Why a publication was not sequenced, for a person.
pub(super) fn explain(refused: Refused) -> &'static str {
    match refused {
        Refused::ChannelFull => "not sequenced: the channel's subscribers are behind",
        Refused::ShardBusy => "not sequenced: the server is busy",
        Refused::TooManyChannels => "not sequenced: too many channels",
    }
}

/// The answer to what was not sequenced: safe to publish again, a little later.
pub(super) fn unavailable(reply: Reply) -> Reply {
    Reply {
        status: 503,
        ..reply
    }
    .with("Retry-After", "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_it_looks_like() {
        assert_eq!(kind_of(None, b" {\"a\": 1}\n"), Kind::Json);
        assert_eq!(kind_of(None, b"42"), Kind::Json);
        assert_eq!(kind_of(None, b"hello"), Kind::Text);
        assert_eq!(kind_of(None, b""), Kind::Text);
        assert_eq!(kind_of(None, b"\xff\x00"), Kind::Binary);
        let octets = Some("Application/Octet-Stream; x=y");
        assert_eq!(kind_of(octets, b"42"), Kind::Binary);
    }
}
