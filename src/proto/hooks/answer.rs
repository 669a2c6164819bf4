//! Answers of the backend.

use std::collections::BTreeMap;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Codes with which a WebSocket may be closed by an application (RFC 6455 section 7.4.2).
const DISCONNECT_CODES: std::ops::RangeInclusive<u32> = 3000..=4999;
/// What fits into a Close frame beside its code, in bytes.
const MAX_REASON_BYTES: usize = 123;

/// What the backend decided.
#[derive(Clone, Debug)]
pub enum Answer<R> {
    /// Yes, and this is what follows. Also an answer without anything: the hook's plain yes.
    Result(R),
    /// No: the client gets this error.
    Error {
        /// Above 0.
        code: u32,
        /// One line.
        message: String,
        /// The client may try again.
        temporary: bool,
    },
    /// No, and the connection is to be closed.
    Disconnect {
        /// 3000 to 4999.
        code: u32,
        /// At most 123 bytes.
        reason: String,
    },
}

/// Why an answer cannot be used. The client gets [`super::INTERNAL_ERROR`], or is disconnected while it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadAnswer {
    /// The status is not 200.
    Status(u16),
    /// The body is not JSON of the hook's shape.
    Json,
    /// An error without a code, or a disconnect that no WebSocket can be closed with.
    Code(u32),
}

impl fmt::Display for BadAnswer {
    /// For the log: what the backend did wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the backend answered with status {status}"),
            Self::Json => f.write_str("the backend's answer is not JSON of the hook's shape"),
            Self::Code(code) => write!(
                f,
                "the backend's answer has the code {code}, which cannot be used"
            ),
        }
    }
}

impl std::error::Error for BadAnswer {}

/// Binary data in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64(pub Bytes);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
        Ok(Self(bytes.into()))
    }
}

/// What two fields, JSON and base64, say of one payload: base64 where it is there.
pub fn payload(json: &Option<Box<RawValue>>, base64: &Option<Base64>) -> Option<Bytes> {
    let json = || {
        json.as_ref()
            .map(|json| Bytes::copy_from_slice(json.get().as_bytes()))
    };
    base64.as_ref().map(|base64| base64.0.clone()).or_else(json)
}

/// Answer to connect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConnectResult {
    /// The user; "" is anonymous.
    pub user: String,
    /// When the connection expires, in seconds since 1970; 0 never.
    pub expire_at: i64,
    /// What others see of the client, JSON.
    pub info: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64info: Option<Base64>,
    /// To the client, JSON.
    pub data: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64data: Option<Base64>,
    /// Channels to subscribe the client to.
    pub channels: Vec<String>,
    /// The same, with options.
    pub subs: BTreeMap<String, SubscribeOptions>,
    /// Comes back with later requests and is never sent to a client.
    pub meta: Option<Box<RawValue>>,
}

/// How the client is subscribed to a channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubscribeOptions {
    /// What others in the channel see of the client, JSON.
    pub info: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64info: Option<Base64>,
    /// To the client, JSON.
    pub data: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64data: Option<Base64>,
    /// In place of the channel's own options.
    #[serde(rename = "override")]
    pub overrides: Option<Override>,
}

/// Channel options of one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Override {
    /// Take part in presence.
    pub presence: Option<Switch>,
    /// Cause join and leave messages.
    pub join_leave: Option<Switch>,
    /// Hear of joins and leaves without having asked.
    pub force_push_join_leave: Option<Switch>,
    /// Recover missed publications without having asked.
    pub force_recovery: Option<Switch>,
    /// Know the position in the stream without having asked.
    pub force_positioning: Option<Switch>,
}

/// An option that is set, on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Switch {
    /// On.
    pub value: bool,
}

/// Answer to refresh.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RefreshResult {
    /// The connection is not to go on.
    pub expired: bool,
    /// When it expires next, in seconds since 1970; 0 never.
    pub expire_at: i64,
    /// What others see of the client from now on, JSON.
    pub info: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64info: Option<Base64>,
    /// In place of the connection's meta.
    pub meta: Option<Box<RawValue>>,
}

/// Answer to subscribe.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubscribeResult {
    /// What others in the channel see of the client, JSON.
    pub info: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64info: Option<Base64>,
    /// To the client, JSON.
    pub data: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64data: Option<Base64>,
    /// When the subscription expires, in seconds since 1970; 0 never.
    pub expire_at: i64,
    /// In place of the channel's own options.
    #[serde(rename = "override")]
    pub overrides: Option<Override>,
}

/// Answer to publish.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublishResult {
    /// In place of what the client published, JSON.
    pub data: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64data: Option<Base64>,
    /// Do not keep it in the channel's history.
    pub skip_history: bool,
}

/// Answer to sub_refresh.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubRefreshResult {
    /// The subscription is not to go on.
    pub expired: bool,
    /// When it expires next, in seconds since 1970; 0 never.
    pub expire_at: i64,
    /// What others in the channel see of the client from now on, JSON.
    pub info: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64info: Option<Base64>,
}

/// Answer to rpc.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RpcResult {
    /// To the client, JSON.
    pub data: Option<Box<RawValue>>,
    /// The same, binary.
    pub b64data: Option<Base64>,
}

#[derive(Deserialize)]
struct Envelope<R> {
    result: Option<R>,
    error: Option<ErrorBody>,
    disconnect: Option<DisconnectBody>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    code: u32,
    message: String,
    temporary: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DisconnectBody {
    code: u32,
    reason: String,
}

/// Reads an answer, `R` being the result of the hook that was called. Fields nobody knows are passed over; a
/// disconnect goes before an error, and an error before a result.
pub fn decode<R: DeserializeOwned + Default>(
    status: u16,
    body: &[u8],
) -> Result<Answer<R>, BadAnswer> {
    if status != 200 {
        return Err(BadAnswer::Status(status));
    }
    let envelope: Envelope<R> = serde_json::from_slice(body).map_err(|_| BadAnswer::Json)?;
    match (envelope.disconnect, envelope.error) {
        (Some(disconnect), _) => disconnect.check(),
        (None, Some(error)) => error.check(),
        (None, None) => Ok(Answer::Result(envelope.result.unwrap_or_default())),
    }
}

impl DisconnectBody {
    fn check<R>(self) -> Result<Answer<R>, BadAnswer> {
        if !DISCONNECT_CODES.contains(&self.code) {
            return Err(BadAnswer::Code(self.code));
        }
        let mut reason = self.reason;
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        Ok(Answer::Disconnect {
            code: self.code,
            reason,
        })
    }
}

impl ErrorBody {
    fn check<R>(self) -> Result<Answer<R>, BadAnswer> {
        if self.code == 0 {
            return Err(BadAnswer::Code(0));
        }
        Ok(Answer::Error {
            code: self.code,
            message: self.message,
            temporary: self.temporary,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connect(body: &str) -> Result<Answer<ConnectResult>, BadAnswer> {
        decode(200, body.as_bytes())
    }

    #[test]
    fn a_connect_result_is_read_whole() {
        let body = r#"{"result":{"user":"u","expire_at":17,"info":{"n": 1},"b64data":"AP8=","channels":["a"],
            "subs":{"b":{"data":[],"override":{"force_recovery":{"value":true}}}},"meta":{"m":1},"new_field":1}}"#;
        let Ok(Answer::Result(result)) = connect(body) else {
            panic!("not a result");
        };
        assert_eq!((result.user.as_str(), result.expire_at), ("u", 17));
        assert_eq!(
            payload(&result.info, &result.b64info).unwrap(),
            r#"{"n": 1}"#
        );
        assert_eq!(
            payload(&result.data, &result.b64data).unwrap(),
            &[0, 255][..]
        );
        assert_eq!(result.channels, ["a"]);
        let overrides = result.subs["b"].overrides.unwrap();
        assert_eq!(overrides.force_recovery, Some(Switch { value: true }));
        assert_eq!(overrides.presence, None);
        assert_eq!(result.meta.unwrap().get(), r#"{"m":1}"#);
    }

    #[test]
    fn an_answer_without_anything_is_a_plain_yes() {
        for body in ["{}", r#"{"result":{}}"#, r#"{"result":null,"error":null}"#] {
            assert!(
                matches!(connect(body), Ok(Answer::Result(result)) if result.user.is_empty()),
                "{body}"
            );
        }
    }

    #[test]
    fn errors_and_disconnects_carry_their_codes() {
        let answer = connect(r#"{"error":{"code":1000,"message":"no","temporary":true}}"#);
        assert!(
            matches!(answer, Ok(Answer::Error { code: 1000, message, temporary: true }) if message == "no")
        );
        let answer = connect(r#"{"error":{"code":1},"disconnect":{"code":4500,"reason":"bye"}}"#);
        assert!(matches!(answer, Ok(Answer::Disconnect { code: 4500, reason }) if reason == "bye"));
    }

    #[test]
    fn codes_nobody_can_use_are_refused() {
        assert_eq!(connect(r#"{"error":{}}"#).unwrap_err(), BadAnswer::Code(0));
        for code in [0, 1000, 2999, 5000] {
            let body = format!(r#"{{"disconnect":{{"code":{code}}}}}"#);
            assert_eq!(connect(&body).unwrap_err(), BadAnswer::Code(code));
        }
    }

    #[test]
    fn a_reason_is_cut_to_what_a_close_frame_holds() {
        let reason = "é".repeat(100);
        let body = format!(r#"{{"disconnect":{{"code":4000,"reason":"{reason}"}}}}"#);
        let Ok(Answer::Disconnect { reason, .. }) = connect(&body) else {
            panic!("not a disconnect");
        };
        assert_eq!(reason.len(), 122);
    }

    #[test]
    fn any_status_but_200_and_any_other_shape_is_bad() {
        for status in [201, 204, 302, 404, 500] {
            let answer = decode::<ConnectResult>(status, b"{}");
            assert_eq!(answer.unwrap_err(), BadAnswer::Status(status));
        }
        for body in [
            "",
            "[",
            "null",
            "[]",
            "{}{}",
            r#"{"result":1}"#,
            r#"{"result":{"b64data":"!"}}"#,
            "{\"result\":{}}x",
        ] {
            assert_eq!(connect(body).unwrap_err(), BadAnswer::Json, "{body}");
        }
        assert_eq!(
            decode::<RpcResult>(200, b"{\"result\":{\"data\":\"\xff\"}}").unwrap_err(),
            BadAnswer::Json
        );
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<ConnectResult>(200, &body);
            let _ = decode::<SubscribeResult>(200, &body);
        }
    }
}
