//! Publishing: to one channel, or the same to several.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::endpoints::publishing::position;
use crate::hub::Kind;
use crate::proto::centrifuge::{Payload, PayloadKind, or_default};
use crate::proto::hooks::Base64;
use crate::shard::{AnswerTo, PublishOptions, Submission};

use super::command::{Answers, Asked, Caller, Outcome, next};
use super::error::ApiError;
use super::request::{given, payload, read};

/// Channels of one broadcast, at most.
const BROADCAST_CHANNELS_MAX: usize = 10_000;

#[derive(Default, Deserialize)]
#[serde(default)]
struct PublishRequest<'a> {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(borrow, deserialize_with = "given")]
    data: Option<&'a RawValue>,
    b64data: Option<Base64>,
    #[serde(deserialize_with = "or_default")]
    skip_history: bool,
    #[serde(deserialize_with = "or_default")]
    tags: BTreeMap<Box<str>, Box<str>>,
    #[serde(deserialize_with = "or_default")]
    idempotency_key: Box<str>,
    #[serde(deserialize_with = "or_default")]
    delta: bool,
    #[serde(deserialize_with = "or_default")]
    version: u64,
    #[serde(deserialize_with = "or_default")]
    version_epoch: Box<str>,
}

#[derive(Deserialize)]
struct Channels {
    #[serde(default, deserialize_with = "or_default")]
    channels: Vec<String>,
}

pub(super) fn publish(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let mut request: PublishRequest<'_> = read(json)?;
    let channel = std::mem::take(&mut request.channel);
    let message = Message::read(request)?;
    let tells_position = message.submit(caller, "publish", &channel)?;
    Ok(Asked::one(move |answer| published(answer, tells_position)))
}

pub(super) fn broadcast(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let Channels { channels } = read(json)?;
    let message = Message::read(read(json)?)?;
    if channels.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    if channels.len() > BROADCAST_CHANNELS_MAX {
        return Err(ApiError::TOO_MANY);
    }
    let submitted: Vec<Result<bool, ApiError>> = channels
        .iter()
        .map(|channel| message.submit(caller, "broadcast", channel))
        .collect();
    Ok(Asked::several(|answers| {
        let responses = submitted.into_iter();
        let responses: Vec<String> = responses.map(|one| response(one, answers)).collect();
        Ok(format!("{{\"responses\":[{}]}}", responses.join(",")))
    }))
}

/// What became of one channel of a broadcast.
fn response(submitted: Result<bool, ApiError>, answers: &mut Answers) -> String {
    let outcome = submitted.and_then(|tells_position| published(next(answers), tells_position));
    match outcome {
        Ok(result) => format!("{{\"result\":{result}}}"),
        Err(error) => format!("{{\"error\":{}}}", error.to_json()),
    }
}

fn published(answer: AnswerTo, tells_position: bool) -> Outcome {
    match answer {
        AnswerTo::Published(Ok(place)) if tells_position => Ok(position(&place)),
        AnswerTo::Published(Ok(_)) => Ok("{}".to_owned()),
        AnswerTo::Published(Err(refused)) => Err(refused.into()),
        _ => Err(ApiError::INTERNAL),
    }
}

/// What is published, wherever it goes.
struct Message {
    data: Payload,
    options: PublishOptions,
}

impl Message {
    fn read(request: PublishRequest<'_>) -> Result<Self, ApiError> {
        let data = payload(request.data, request.b64data)?;
        Ok(Self {
            data: data.ok_or(ApiError::BAD_REQUEST)?,
            options: PublishOptions {
                info: None,
                tags: request.tags.into_iter().collect(),
                uses_delta: request.delta,
                skips_history: request.skip_history,
                idempotency_key: request.idempotency_key,
                version: request.version,
                version_epoch: request.version_epoch,
            },
        })
    }

    /// Publishes to one channel. Whether its position is worth telling: it is where a history is kept.
    fn submit(
        &self,
        caller: &mut Caller<'_>,
        method: &str,
        channel: &str,
    ) -> Result<bool, ApiError> {
        let (channel, options) = caller.channel(method, channel)?;
        let has_history = options.has_history();
        let uses_delta = options.delta_publish || self.options.uses_delta;
        caller.publish(Submission {
            channel,
            kind: match self.data.kind {
                PayloadKind::Json => Kind::Json,
                PayloadKind::Text => Kind::Text,
                PayloadKind::Binary => Kind::Binary,
            },
            data: self.data.bytes.clone(),
            options: self.options_with(uses_delta),
        });
        Ok(has_history && !self.options.skips_history)
    }

    /// Most publications have none.
    fn options_with(&self, uses_delta: bool) -> Option<Box<PublishOptions>> {
        let own = &self.options;
        let has_any = uses_delta
            || own.skips_history
            || own.version > 0
            || !own.tags.is_empty()
            || !own.idempotency_key.is_empty();
        has_any.then(|| {
            Box::new(PublishOptions {
                uses_delta,
                ..own.clone()
            })
        })
    }
}
