//! What tokens say (RFC 7519 section 4.1, and the claims of Centrifuge), read from JSON whose signature was right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::members::{Members, WrongType, compact, read};

/// The greatest moment a token can name: the end of the year 9999, in Unix seconds.
const SECONDS_MAX: i64 = 253_402_300_799;

/// The longest name of a device.
pub const DEVICE_BYTES_MAX: usize = 128;

/// The longest interval between pings that a token may ask for, in seconds.
pub const PING_INTERVAL_S_MAX: u16 = 3600;

/// Why claims are refused: the claim, or what is wrong with it.
pub(super) type Refusal = &'static str;

/// What a connection token grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectClaims {
    /// Who connects; empty = anonymous.
    pub user: String,
    /// Name of the token (`jti`).
    pub token_id: Option<String>,
    /// When it was issued (`iat`), in Unix seconds.
    pub issued_at_s: Option<i64>,
    /// The device it was issued to (`device`), whose newest connection ends the others; at most
    /// [`DEVICE_BYTES_MAX`] bytes.
    pub device: Option<String>,
    /// Seconds between two pings of the connection (`ping_interval`), 1 to [`PING_INTERVAL_S_MAX`]. `None` = as
    /// for everybody.
    pub ping_interval_s: Option<u16>,
    /// When the connection expires, in Unix seconds: `expire_at`, else `exp`. `None` = never.
    pub expire_at_s: Option<i64>,
    /// Information about the connection, shown to others (`info`, `b64info`): compact JSON, or bytes if it came as base64.
    pub info: Option<Bytes>,
    /// Information about the connection for the server and its hooks only (`meta`): compact JSON.
    pub meta: Option<Bytes>,
    /// Server-side subscriptions in their order: `subs`, or if there are none, `channels`.
    pub subs: Vec<(String, SubscriptionClaims)>,
}

/// What a subscription token grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeClaims {
    /// Who may subscribe; empty = an anonymous connection.
    pub user: String,
    /// The channel.
    pub channel: String,
    /// Name of the token (`jti`).
    pub token_id: Option<String>,
    /// When it was issued (`iat`), in Unix seconds.
    pub issued_at_s: Option<i64>,
    /// The device it was issued to (`device`), whose newest connection ends the others; at most
    /// [`DEVICE_BYTES_MAX`] bytes.
    pub device: Option<String>,
    /// When the subscription expires, in Unix seconds: `expire_at`, else `exp`. `None` = never.
    pub expire_at_s: Option<i64>,
    /// The rest.
    pub subscription: SubscriptionClaims,
}

/// What is said of one subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// Information about the subscriber in this channel (`info`, `b64info`).
    pub info: Option<Bytes>,
    /// What the client is told when it is subscribed (`data`, `b64data`).
    pub data: Option<Bytes>,
    /// Options of the channel that are different for this subscription.
    pub overrides: Overrides,
}

/// Options of a channel; `None` = as the channel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the options are explained where channels are configured"
)]
pub struct Overrides {
    pub presence: Option<bool>,
    pub join_leave: Option<bool>,
    pub force_push_join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
}

/// What a token is revoked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The user; empty = anonymous.
    pub user: &'a str,
    /// Name of the token (`jti`).
    pub token_id: Option<&'a str>,
    /// When it was issued (`iat`), in Unix seconds.
    pub issued_at_s: Option<i64>,
}

impl ConnectClaims {
    /// What the token is revoked by.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            user: &self.user,
            token_id: self.token_id.as_deref(),
            issued_at_s: self.issued_at_s,
        }
    }

    pub(super) fn read(claims: &Members<'_>, common: Common) -> Result<Self, Refusal> {
        // A subscription token must not open connections.
        if claims
            .raw("channel")
            .is_some_and(|channel| channel.get() != r#""""#)
        {
            return Err("a subscription token");
        }
        let mut subs = subscriptions(claims)?;
        if subs.is_empty() {
            subs = channels(claims)?;
        }
        Ok(Self {
            user: common.user,
            token_id: common.token_id,
            issued_at_s: common.issued_at_s,
            device: common.device,
            ping_interval_s: ping_interval(claims)?,
            expire_at_s: expiry(claims, common.exp_s)?,
            info: json_or_base64(claims, "info", "b64info")?,
            meta: claims.given("meta").map(compact),
            subs,
        })
    }
}

impl SubscribeClaims {
    /// What the token is revoked by.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            user: &self.user,
            token_id: self.token_id.as_deref(),
            issued_at_s: self.issued_at_s,
        }
    }

    pub(super) fn read(claims: &Members<'_>, common: Common) -> Result<Self, Refusal> {
        let channel = text(claims, "channel")?;
        Ok(Self {
            user: common.user,
            channel: channel
                .filter(|name| !name.is_empty())
                .ok_or("no channel")?,
            token_id: common.token_id,
            issued_at_s: common.issued_at_s,
            device: common.device,
            expire_at_s: expiry(claims, common.exp_s)?,
            subscription: SubscriptionClaims::read(claims)?,
        })
    }
}

impl SubscriptionClaims {
    fn read(members: &Members<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            info: json_or_base64(members, "info", "b64info")?,
            data: json_or_base64(members, "data", "b64data")?,
            overrides: match members.given("override") {
                Some(value) => Overrides::read(value).map_err(|_| "override")?,
                None => Overrides::default(),
            },
        })
    }
}

impl Overrides {
    /// `{"presence": {"value": true}, …}`. Names not known here are left to newer servers.
    fn read(value: &RawValue) -> Result<Self, WrongType> {
        let members = Members::of(value)?;
        let option = |name| match members.given(name) {
            Some(value) => Ok(Some(Members::of(value)?.read("value")?.unwrap_or(false))),
            None => Ok(None),
        };
        Ok(Self {
            presence: option("presence")?,
            join_leave: option("join_leave")?,
            force_push_join_leave: option("force_push_join_leave")?,
            force_recovery: option("force_recovery")?,
            force_positioning: option("force_positioning")?,
        })
    }
}

/// Claims of both kinds of token.
pub(super) struct Common {
    pub(super) user: String,
    pub(super) token_id: Option<String>,
    pub(super) exp_s: Option<i64>,
    pub(super) not_before_s: Option<i64>,
    pub(super) issued_at_s: Option<i64>,
    pub(super) device: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) audience: Vec<String>,
}

impl Common {
    /// `user_claim` names the claim with the user; it must be there unless it is `sub`.
    pub(super) fn read(claims: &Members<'_>, user_claim: &str) -> Result<Self, Refusal> {
        // `null` is nobody, as if it were not there.
        let name = |claim: &str| claims.given(claim).map(read::<String>).transpose();
        name("sub").map_err(|_| "sub")?;
        let user = name(user_claim).map_err(|_| "the user's claim")?;
        if user.is_none() && user_claim != "sub" {
            return Err("no user");
        }
        Ok(Self {
            user: user.unwrap_or_default(),
            token_id: text(claims, "jti")?,
            exp_s: seconds(claims, "exp")?,
            not_before_s: seconds(claims, "nbf")?,
            issued_at_s: seconds(claims, "iat")?,
            device: device(claims)?,
            issuer: text(claims, "iss")?,
            audience: claims
                .raw("aud")
                .map(audience)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

fn text(claims: &Members<'_>, name: &'static str) -> Result<Option<String>, Refusal> {
    claims.read(name).map_err(|_| name)
}

fn device(claims: &Members<'_>) -> Result<Option<String>, Refusal> {
    let name = text(claims, "device")?.filter(|name| !name.is_empty());
    match name {
        Some(name) if name.len() > DEVICE_BYTES_MAX => Err("device"),
        name => Ok(name),
    }
}

fn ping_interval(claims: &Members<'_>) -> Result<Option<u16>, Refusal> {
    const NAME: Refusal = "ping_interval";
    match claims.read::<u16>(NAME).map_err(|_| NAME)? {
        Some(seconds) if !(1..=PING_INTERVAL_S_MAX).contains(&seconds) => Err(NAME),
        seconds => Ok(seconds),
    }
}

/// Whole Unix seconds. A fraction, an exponent, a string or a negative number is no moment here.
fn seconds(claims: &Members<'_>, name: &'static str) -> Result<Option<i64>, Refusal> {
    let seconds = claims.read::<i64>(name).map_err(|_| name)?;
    match seconds {
        Some(seconds) if !(0..=SECONDS_MAX).contains(&seconds) => Err(name),
        seconds => Ok(seconds),
    }
}

/// One string, or a list of them.
fn audience(value: &RawValue) -> Result<Vec<String>, Refusal> {
    match read::<String>(value) {
        Ok(one) => Ok(vec![one]),
        Err(_) => read(value).map_err(|_| "aud"),
    }
}

/// `expire_at` is stronger than `exp`; 0 in it means never.
fn expiry(claims: &Members<'_>, exp_s: Option<i64>) -> Result<Option<i64>, Refusal> {
    match seconds(claims, "expire_at")? {
        Some(expire_at_s) => Ok(Some(expire_at_s).filter(|seconds| *seconds > 0)),
        None => Ok(exp_s),
    }
}

fn json_or_base64(
    members: &Members<'_>,
    json: &'static str,
    base64: &'static str,
) -> Result<Option<Bytes>, Refusal> {
    let encoded = match members.given(base64) {
        Some(value) => read::<String>(value).map_err(|_| base64)?,
        None => String::new(),
    };
    if encoded.is_empty() {
        return Ok(members.given(json).map(compact));
    }
    let decoded = STANDARD.decode(encoded).map_err(|_| base64)?;
    Ok(Some(decoded.into()))
}

fn channels(claims: &Members<'_>) -> Result<Vec<(String, SubscriptionClaims)>, Refusal> {
    let Some(value) = claims.given("channels") else {
        return Ok(Vec::new());
    };
    let mut names: Vec<String> = read(value).map_err(|_| "channels")?;
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    if names.iter().any(String::is_empty) {
        return Err("channels");
    }
    Ok(names
        .into_iter()
        .map(|name| (name, SubscriptionClaims::default()))
        .collect())
}

fn subscriptions(claims: &Members<'_>) -> Result<Vec<(String, SubscriptionClaims)>, Refusal> {
    let Some(value) = claims.given("subs") else {
        return Ok(Vec::new());
    };
    let subs = Members::of(value).map_err(|_| "subs")?;
    let one = |(channel, value): (&str, &RawValue)| {
        let members = Members::of(value).map_err(|_| "subs")?;
        match channel.is_empty() {
            true => Err("subs"),
            false => Ok((channel.to_owned(), SubscriptionClaims::read(&members)?)),
        }
    };
    subs.iter().map(one).collect()
}
