//! Orders for connections: those of a user, or one by the client's id or the session's name.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::auth::Overrides;
use crate::clock::unix_ms;
use crate::hub::Since;
use crate::proto::centrifuge::{Disconnect, or_default};
use crate::proto::hooks::{Base64, Override};
use crate::shard::{Action, Revocation, RevokedTokens, SubscribeOrder, Whom};

use super::channels::StreamPosition;
use super::command::{Asked, Caller};
use super::error::ApiError;
use super::request::{json_payload, read};

/// Close codes that an application may name (RFC 6455 section 7.4.2).
const CLOSE_CODES: std::ops::RangeInclusive<u16> = 3000..=4999;

/// Whom an order is about. Read besides the rest of the request, since `flatten` would copy all of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Target {
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    client: Box<str>,
    #[serde(deserialize_with = "or_default")]
    session: Box<str>,
    #[serde(deserialize_with = "or_default")]
    whitelist: Vec<Box<str>>,
}

impl Target {
    /// Those of whom all that is said is true. Somebody must be named: an empty user is not all who have none.
    fn read(json: &str) -> Result<Whom, ApiError> {
        let target: Self = read(json)?;
        if target.user.is_empty() && target.client.is_empty() && target.session.is_empty() {
            return Err(ApiError::BAD_REQUEST);
        }
        Ok(Whom {
            user: (!target.user.is_empty()).then(|| Arc::from(target.user)),
            client: target.client,
            session: target.session,
            spared: target.whitelist,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SubscribeRequest<'a> {
    #[serde(deserialize_with = "or_default")]
    channel: Box<str>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    b64info: Option<Base64>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<Base64>,
    #[serde(deserialize_with = "or_default")]
    expire_at: i64,
    recover_since: Option<StreamPosition>,
    #[serde(rename = "override")]
    overrides: Option<Override>,
}

#[derive(Deserialize)]
struct UnsubscribeRequest {
    #[serde(default, deserialize_with = "or_default")]
    channel: Box<str>,
}

#[derive(Deserialize)]
struct DisconnectRequest {
    disconnect: Option<Close>,
}

/// With what a connection is closed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Close {
    #[serde(deserialize_with = "or_default")]
    code: u16,
    #[serde(deserialize_with = "or_default")]
    reason: Box<str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefreshRequest<'a> {
    #[serde(deserialize_with = "or_default")]
    expired: bool,
    #[serde(deserialize_with = "or_default")]
    expire_at: i64,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RevokeRequest {
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    token_id: Box<str>,
    issued_before: Option<i64>,
    #[serde(deserialize_with = "or_default")]
    until: i64,
}

pub(super) fn subscribe(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let request: SubscribeRequest<'_> = read(json)?;
    let whom = Target::read(json)?;
    caller.channel("subscribe", &request.channel)?;
    let order = SubscribeOrder {
        channel: request.channel,
        info: json_payload(request.info, request.b64info)?,
        data: json_payload(request.data, request.b64data)?,
        expire_at_s: request.expire_at,
        since: request.recover_since.map(Since::from),
        overrides: overrides(request.overrides.unwrap_or_default()),
    };
    caller.order(whom, Action::Subscribe(Arc::new(order)));
    Ok(Asked::done())
}

fn overrides(given: Override) -> Overrides {
    Overrides {
        presence: given.presence.map(|switch| switch.value),
        join_leave: given.join_leave.map(|switch| switch.value),
        force_push_join_leave: given.force_push_join_leave.map(|switch| switch.value),
        force_recovery: given.force_recovery.map(|switch| switch.value),
        force_positioning: given.force_positioning.map(|switch| switch.value),
    }
}

pub(super) fn unsubscribe(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let UnsubscribeRequest { channel } = read(json)?;
    let whom = Target::read(json)?;
    match &*channel {
        "" => caller.may("unsubscribe")?,
        name => drop(caller.channel("unsubscribe", name)?),
    }
    caller.order(whom, Action::Unsubscribe { channel });
    Ok(Asked::done())
}

pub(super) fn disconnect(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let DisconnectRequest { disconnect } = read(json)?;
    let whom = Target::read(json)?;
    caller.may("disconnect")?;
    let usual = Disconnect::ForceNoReconnect;
    let close = disconnect.unwrap_or_else(|| Close {
        code: usual.code(),
        reason: usual.reason().into(),
    });
    if !CLOSE_CODES.contains(&close.code) {
        return Err(ApiError::BAD_REQUEST);
    }
    let Close { code, reason } = close;
    caller.order(whom, Action::Disconnect { code, reason });
    Ok(Asked::done())
}

pub(super) fn refresh(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let request: RefreshRequest<'_> = read(json)?;
    let whom = Target::read(json)?;
    caller.may("refresh")?;
    let action = Action::Refresh {
        expired: request.expired,
        expire_at_s: request.expire_at,
        info: json_payload(request.info, None)?,
    };
    caller.order(whom, action);
    Ok(Asked::done())
}

/// Refuses the tokens of a user, or one token, on every shard, and disconnects the user's clients.
pub(super) fn revoke(caller: &mut Caller<'_>, json: &str) -> Result<Asked, ApiError> {
    let request: RevokeRequest = read(json)?;
    caller.may("revoke")?;
    if request.until <= unix_ms() / 1000 {
        return Err(ApiError::BAD_REQUEST);
    }
    let tokens = match (request.user.as_str(), &*request.token_id) {
        ("", "") => return Err(ApiError::BAD_REQUEST),
        (user, "") => RevokedTokens::OfUser {
            user: Arc::from(user),
            issued_before_s: request.issued_before,
        },
        ("", _) => RevokedTokens::Named(request.token_id),
        _ => return Err(ApiError::BAD_REQUEST),
    };
    let revocation = Revocation {
        tokens,
        until_s: request.until,
    };
    caller.order(Whom::default(), Action::Revoke(Arc::new(revocation)));
    Ok(Asked::done())
}
