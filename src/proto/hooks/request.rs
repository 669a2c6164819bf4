//! Requests to the backend.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Serialize;
use serde_json::value::RawValue;

/// What a client sent along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Nothing.
    #[default]
    None,
    /// JSON, sent on as `data`.
    Json(&'a [u8]),
    /// Bytes, sent on as `b64data`.
    Binary(&'a [u8]),
}

/// What the backend is asked. Which of the optional fields are there depends on the hook:
///
/// | hook | fields beside the first four |
/// |---|---|
/// | connect | `name`, `version`, `data`, `channels` |
/// | refresh | `user`, `meta` |
/// | subscribe | `user`, `channel`, `token`, `data`, `meta` |
/// | publish | `user`, `channel`, `data`, `meta` |
/// | sub_refresh | `user`, `channel`, `meta` |
/// | rpc | `user`, `method`, `data`, `meta` |
#[derive(Clone, Debug, Default)]
pub struct HookRequest<'a> {
    /// The connection's id.
    pub client: &'a str,
    /// How the client is connected: `websocket`, `sse`, …
    pub transport: &'a str,
    /// The format of its commands: `json` or `protobuf`.
    pub protocol: &'a str,
    /// What its payloads are: `json` or `binary`.
    pub encoding: &'a str,
    /// The user, "" if anonymous. `None` before the client is connected.
    pub user: Option<&'a str>,
    /// The client library's name.
    pub name: Option<&'a str>,
    /// The client library's version.
    pub version: Option<&'a str>,
    /// Channels the client wishes to be subscribed to.
    pub channels: &'a [&'a str],
    /// The channel.
    pub channel: Option<&'a str>,
    /// The subscription token, not verified.
    pub token: Option<&'a str>,
    /// The method called.
    pub method: Option<&'a str>,
    /// What the client sent along.
    pub data: Payload<'a>,
    /// What the backend itself attached to the connection, JSON.
    pub meta: Option<&'a [u8]>,
}

/// `data` or `meta` is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the payload is not JSON")
    }
}

impl std::error::Error for NotJson {}

#[derive(Serialize)]
struct Body<'a> {
    client: &'a str,
    transport: &'a str,
    protocol: &'a str,
    encoding: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "is_empty")]
    channels: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
}

fn is_empty(channels: &&[&str]) -> bool {
    channels.is_empty()
}

impl HookRequest<'_> {
    /// The body to send. A payload that is said to be JSON and is not would change the meaning of what stands
    /// around it, so it is checked.
    pub fn to_body(&self) -> Result<Vec<u8>, NotJson> {
        let (data, b64data) = match self.data {
            Payload::None => (None, None),
            Payload::Json(data) => (Some(raw(data)?), None),
            Payload::Binary(data) => (None, Some(BASE64_STANDARD.encode(data))),
        };
        let body = Body {
            client: self.client,
            transport: self.transport,
            protocol: self.protocol,
            encoding: self.encoding,
            user: self.user,
            name: self.name,
            version: self.version,
            channels: self.channels,
            channel: self.channel,
            token: self.token,
            method: self.method,
            data,
            b64data,
            meta: self.meta.map(raw).transpose()?,
        };
        serde_json::to_vec(&body).map_err(|_| NotJson)
    }
}

fn raw(json: &[u8]) -> Result<&RawValue, NotJson> {
    serde_json::from_slice(json).map_err(|_| NotJson)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> HookRequest<'static> {
        HookRequest {
            client: "c1",
            transport: "websocket",
            protocol: "json",
            encoding: "json",
            ..HookRequest::default()
        }
    }

    fn text(request: &HookRequest<'_>) -> String {
        String::from_utf8(request.to_body().unwrap()).unwrap()
    }

    #[test]
    fn a_connect_has_what_a_client_says_of_itself() {
        let request = HookRequest {
            name: Some("js"),
            data: Payload::Json(br#"{"a": 1}"#),
            channels: &["news"],
            ..client()
        };
        assert_eq!(
            text(&request),
            r#"{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","name":"js","channels":["news"],"data":{"a": 1}}"#
        );
    }

    #[test]
    fn an_anonymous_user_is_said_and_binary_is_base64() {
        let request = HookRequest {
            user: Some(""),
            method: Some("sum"),
            data: Payload::Binary(&[0, 255]),
            meta: Some(b"[1]"),
            ..client()
        };
        let text = text(&request);
        assert!(
            text.ends_with(r#""user":"","method":"sum","b64data":"AP8=","meta":[1]}"#),
            "{text}"
        );
    }

    #[test]
    fn what_is_not_json_cannot_break_out() {
        for data in [&br#"1},"user":{"#[..], b"", b"{", b"\xff", b"1 2"] {
            let request = HookRequest {
                data: Payload::Json(data),
                ..client()
            };
            assert_eq!(request.to_body(), Err(NotJson));
            let request = HookRequest {
                meta: Some(data),
                ..client()
            };
            assert_eq!(request.to_body(), Err(NotJson));
        }
    }
}
