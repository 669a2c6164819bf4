//! What is known of channels: who is there, what was published.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::hub::{ClientInfo, Glob, Kind, Page, Publication, Since, Unrecoverable};
use crate::proto::centrifuge::{ErrorCode, or_default};
use crate::shard::{Action, AnswerTo, Question, Whom, history_question};

use super::command::{Asked, Caller, Outcome};
use super::error::ApiError;
use super::request::read;

#[derive(Deserialize)]
struct ChannelRequest {
    #[serde(default, deserialize_with = "or_default")]
    channel: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HistoryRequest {
    #[serde(deserialize_with = "or_default")]
    channel: String,
    #[serde(deserialize_with = "or_default")]
    limit: i32,
    since: Option<StreamPosition>,
    #[serde(deserialize_with = "or_default")]
    reverse: bool,
}

/// Where in a stream somebody is.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamPosition {
    #[serde(deserialize_with = "or_default")]
    offset: u64,
    #[serde(deserialize_with = "or_default")]
    epoch: String,
}

impl From<StreamPosition> for Since {
    fn from(position: StreamPosition) -> Self {
        Self::from_text(&position.epoch, position.offset)
    }
}

#[derive(Deserialize)]
struct ChannelsRequest {
    #[serde(default, deserialize_with = "or_default")]
    pattern: String,
}

pub(super) fn presence(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    ask_presence(caller, json, "presence", Question::Presence)?;
    Ok(Asked::one(|answer| match answer {
        AnswerTo::Presence(infos) => {
            let clients = infos.iter().map(|info| (&*info.client, Info::of(info)));
            let presence: BTreeMap<&str, Info<'_>> = clients.collect();
            write(&BTreeMap::from([("presence", presence)]))
        }
        _ => Err(ApiError::INTERNAL),
    }))
}

pub(super) fn presence_stats(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    ask_presence(caller, json, "presence_stats", Question::PresenceStats)?;
    Ok(Asked::one(|answer| match answer {
        AnswerTo::PresenceStats(stats) => Ok(format!(
            "{{\"num_clients\":{},\"num_users\":{}}}",
            stats.clients, stats.users
        )),
        _ => Err(ApiError::INTERNAL),
    }))
}

fn ask_presence(
    caller: &mut Caller<'_>,
    json: &str,
    method: &str,
    question: Question,
) -> Result<(), ApiError> {
    let request: ChannelRequest = read(json)?;
    let (channel, options) = caller.channel(method, &request.channel)?;
    if !options.presence {
        return Err(ApiError::NOT_AVAILABLE);
    }
    caller.ask(&channel, question);
    Ok(())
}

pub(super) fn history(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let request: HistoryRequest = read(json)?;
    let channel = channel_with_history(caller, "history", &request.channel)?;
    let since = request.since.map(Since::from);
    let question = history_question(since, request.limit, request.reverse, u32::MAX)?;
    caller.ask(&channel, question);
    Ok(Asked::one(|answer| match answer {
        AnswerTo::History(Ok(page)) => write(&HistoryResult::of(&page)),
        AnswerTo::History(Err(Unrecoverable)) => Err(ErrorCode::UnrecoverablePosition.into()),
        AnswerTo::Refused => Err(ApiError::no_room()),
        _ => Err(ApiError::INTERNAL),
    }))
}

pub(super) fn history_remove(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let request: ChannelRequest = read(json)?;
    let channel = channel_with_history(caller, "history_remove", &request.channel)?;
    caller.ask(&channel, Question::RemoveHistory);
    Ok(Asked::done())
}

fn channel_with_history(
    caller: &Caller<'_>,
    method: &str,
    name: &str,
) -> Result<Arc<str>, ApiError> {
    let (channel, options) = caller.channel(method, name)?;
    match options.has_history() {
        true => Ok(channel),
        false => Err(ApiError::NOT_AVAILABLE),
    }
}

pub(super) fn channels(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let request: ChannelsRequest = read(json)?;
    caller.may("channels")?;
    let pattern = Glob::parse(&request.pattern).map_err(|_| ApiError::BAD_REQUEST)?;
    let pattern = Some(pattern);
    caller.order(Whom::default(), Action::Count { pattern });
    Ok(Asked::one(|answer| match answer {
        AnswerTo::Overview(overview) => {
            let mut channels: BTreeMap<Arc<str>, ChannelInfo> = BTreeMap::new();
            for (name, clients) in overview.channels {
                channels.entry(name).or_default().num_clients += clients;
            }
            write(&BTreeMap::from([("channels", channels)]))
        }
        _ => Err(ApiError::INTERNAL),
    }))
}

#[derive(Default, Serialize)]
struct ChannelInfo {
    num_clients: u64,
}

#[derive(Serialize)]
struct HistoryResult<'a> {
    publications: Vec<Published<'a>>,
    epoch: String,
    offset: u64,
}

impl<'a> HistoryResult<'a> {
    fn of(page: &'a Page) -> Self {
        Self {
            publications: page.publications.iter().map(Published::of).collect(),
            epoch: page.position.epoch.to_string(),
            offset: page.position.offset,
        }
    }
}

/// A publication of a history.
#[derive(Serialize)]
struct Published<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Info<'a>>,
    offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, &'a str>,
}

impl<'a> Published<'a> {
    fn of(publication: &'a Publication) -> Self {
        let extra = publication.extra.as_deref();
        let tags = extra.map_or(&[][..], |extra| &extra.tags).iter();
        let is_binary = publication.kind == Kind::Binary;
        Self {
            data: (!is_binary).then(|| Shown::of(publication.kind, &publication.data)),
            b64data: is_binary.then(|| BASE64_STANDARD.encode(&publication.data)),
            info: extra.and_then(|extra| extra.info.as_deref()).map(Info::of),
            offset: publication.offset,
            tags: tags.map(|(name, value)| (&**name, &**value)).collect(),
        }
    }
}

/// A client, as others see it.
#[derive(Serialize)]
struct Info<'a> {
    client: &'a str,
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<Shown<'a>>,
}

impl<'a> Info<'a> {
    fn of(info: &'a ClientInfo) -> Self {
        let shown = |json: &'a Bytes| (!json.is_empty()).then(|| Shown::of(Kind::Json, json));
        Self {
            client: &info.client,
            user: &info.user,
            conn_info: shown(&info.conn_info),
            chan_info: shown(&info.chan_info),
        }
    }
}

/// What an application said, within JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Json(&'a RawValue),
    Text(String),
}

impl<'a> Shown<'a> {
    /// As it was said; as a text, if it is none of the JSON that it should be.
    fn of(kind: Kind, bytes: &'a [u8]) -> Self {
        let json = (kind == Kind::Json)
            .then(|| serde_json::from_slice(bytes).ok())
            .flatten();
        match json {
            Some(json) => Self::Json(json),
            None => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

/// A result as JSON.
fn write(result: &impl Serialize) -> Outcome {
    serde_json::to_string(result).map_err(|_| ApiError::INTERNAL)
}
