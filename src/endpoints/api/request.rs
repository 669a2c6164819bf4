//! Requests of the server API, read. Members that are not known are ignored, and `null` is as good as nothing.

use bytes::Bytes;
use memchr::memchr2;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::proto::centrifuge::{Payload, PayloadKind, is_shallow};
use crate::proto::hooks::Base64;

use super::error::ApiError;

/// A body as text.
pub(super) fn text(body: &[u8]) -> Result<&str, ApiError> {
    simdutf8::basic::from_utf8(body).map_err(|_| ApiError::malformed("not UTF-8"))
}

/// Reads a request, which is an object; the error names the member that is wrong.
pub(super) fn read<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, ApiError> {
    // A list would do for the members in their order.
    if json.trim_ascii_start().starts_with('[') {
        return Err(ApiError::malformed("a list, expected an object"));
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let request = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        match place.as_str() {
            "." => ApiError::malformed(&error.inner().to_string()),
            place => ApiError::malformed(&format!("{place}: {}", error.inner())),
        }
    })?;
    match reader.end() {
        Ok(()) => Ok(request),
        Err(error) => Err(ApiError::malformed(&error.to_string())),
    }
}

/// A member that is any JSON, `null` too.
pub(super) fn given<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What two members, JSON and base64, say of one payload: base64 where it is there.
pub(super) fn payload(
    json: Option<&RawValue>,
    base64: Option<Base64>,
) -> Result<Option<Payload>, ApiError> {
    let base64 = base64.filter(|Base64(bytes)| !bytes.is_empty());
    if let Some(Base64(bytes)) = base64 {
        return Ok(Some(Payload::classify(bytes)));
    }
    let Some(json) = json else {
        return Ok(None);
    };
    if !is_shallow(json.get().as_bytes()) {
        return Err(ApiError::BAD_REQUEST);
    }
    Ok(Some(Payload {
        kind: PayloadKind::Json,
        bytes: on_one_line(json.get()),
    }))
}

/// The same, where only JSON will do: that, or nothing.
pub(super) fn json_payload(
    json: Option<&RawValue>,
    base64: Option<Base64>,
) -> Result<Bytes, ApiError> {
    let json = json.filter(|json| json.get() != "null");
    match payload(json, base64)? {
        None => Ok(Bytes::new()),
        Some(payload) if payload.kind == PayloadKind::Json => Ok(payload.bytes),
        Some(_) => Err(ApiError::BAD_REQUEST),
    }
}

/// JSON without the line feeds between its values; within them there are none.
fn on_one_line(json: &str) -> Bytes {
    let json = json.as_bytes();
    if memchr2(b'\n', b'\r', json).is_none() {
        return Bytes::copy_from_slice(json);
    }
    let rest = json.iter().copied();
    rest.filter(|byte| !matches!(byte, b'\n' | b'\r')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Request<'a> {
        channel: String,
        limit: u32,
        #[serde(borrow, deserialize_with = "given")]
        data: Option<&'a RawValue>,
        b64data: Option<Base64>,
    }

    fn problem(json: &str) -> String {
        read::<Request<'_>>(json).unwrap_err().to_json()
    }

    #[test]
    fn names_what_is_wrong() {
        assert!(problem(r#"{"channel":1}"#).contains("channel: invalid type"));
        assert!(problem(r#"{"limit":-1}"#).contains("limit: "));
        assert!(problem(r#"{"b64data":"?"}"#).contains("b64data: "));
        for json in ["", "{", "nope", "[]", " [1]", "{} {}"] {
            assert!(problem(json).contains("bad request: "), "{json}");
        }
    }

    #[test]
    fn data_is_json_as_it_stands_or_base64() {
        let data = |json| {
            let request: Request<'_> = read(json).unwrap();
            payload(request.data, request.b64data).unwrap()
        };
        let bytes = |payload: Option<Payload>| payload.map(|payload| payload.bytes);
        assert_eq!(data("{}"), None);
        assert_eq!(bytes(data(r#"{"data":null}"#)).unwrap(), "null");
        assert_eq!(
            bytes(data("{\"data\":{ \"a\":\r\n[1.50, \"\\n\"]}}")).unwrap(),
            "{ \"a\":[1.50, \"\\n\"]}"
        );
        assert_eq!(
            bytes(data(r#"{"data":1,"b64data":"WzJd"}"#)).unwrap(),
            "[2]"
        );
        assert_eq!(bytes(data(r#"{"data":1,"b64data":""}"#)).unwrap(), "1");
        let binary = data(r#"{"b64data":"/w=="}"#).unwrap();
        assert_eq!(binary.kind, PayloadKind::Binary);
    }

    #[test]
    fn what_clients_could_not_read_is_refused() {
        let deep = format!("{{\"data\":{}1{}}}", "[".repeat(101), "]".repeat(101));
        let request: Request<'_> = read(&deep).unwrap();
        assert_eq!(payload(request.data, None), Err(ApiError::BAD_REQUEST));
        let request: Request<'_> = read(r#"{"b64data":"/w=="}"#).unwrap();
        assert_eq!(
            json_payload(None, request.b64data),
            Err(ApiError::BAD_REQUEST)
        );
    }
}
