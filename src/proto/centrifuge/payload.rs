//! What applications say to each other, and how each format carries it.

use bytes::Bytes;
use serde_json::value::RawValue;

/// The deepest nesting of arrays and objects in a JSON payload. Without a bound, one client could send
/// what breaks the parsers of all others that listen.
pub const JSON_DEPTH_MAX: usize = 100;

/// What the bytes of a payload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// One JSON value. In the JSON format it is embedded as it is.
    Json,
    /// UTF-8. In the JSON format it is a string.
    Text,
    /// Anything. In the JSON format it is a string of base64.
    Binary,
}

/// Bytes of an application's. The Protobuf format carries them as they are, whatever their kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// What `bytes` are.
    pub kind: PayloadKind,
    /// The bytes.
    pub bytes: Bytes,
}

impl Payload {
    /// Takes `bytes` for what they are: JSON if they are one JSON value, text if they are UTF-8, else
    /// binary. This is how bytes from a Protobuf client get their kind.
    pub fn classify(bytes: Bytes) -> Self {
        let kind = match simdutf8::basic::from_utf8(&bytes) {
            Ok(text) if is_json(text) => PayloadKind::Json,
            Ok(_) => PayloadKind::Text,
            Err(_) => PayloadKind::Binary,
        };
        Self { kind, bytes }
    }

    /// Takes `bytes` for JSON; `None` if they are not exactly one JSON value, or nested deeper than
    /// [`JSON_DEPTH_MAX`].
    pub fn json(bytes: Bytes) -> Option<Self> {
        let is_json = simdutf8::basic::from_utf8(&bytes).is_ok_and(is_json);
        is_json.then_some(Self {
            kind: PayloadKind::Json,
            bytes,
        })
    }

    /// The same, borrowed.
    pub fn as_ref(&self) -> PayloadRef<'_> {
        PayloadRef {
            kind: self.kind,
            bytes: &self.bytes,
        }
    }
}

/// A borrowed [`Payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadRef<'a> {
    /// What `bytes` are. Whoever says JSON has made sure of it: [`Payload::json`].
    pub kind: PayloadKind,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> PayloadRef<'a> {
    /// One JSON value.
    pub const fn json(bytes: &'a [u8]) -> Self {
        let kind = PayloadKind::Json;
        Self { kind, bytes }
    }

    /// Text; a subscription with deltas gets its JSON so, as a string.
    pub const fn text(bytes: &'a [u8]) -> Self {
        let kind = PayloadKind::Text;
        Self { kind, bytes }
    }

    /// Anything.
    pub const fn binary(bytes: &'a [u8]) -> Self {
        let kind = PayloadKind::Binary;
        Self { kind, bytes }
    }
}

fn is_json(text: &str) -> bool {
    is_shallow(text.as_bytes()) && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Whether valid JSON stays within [`JSON_DEPTH_MAX`].
pub fn is_shallow(json: &[u8]) -> bool {
    if json.len() <= JSON_DEPTH_MAX {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(bytes: &[u8]) -> PayloadKind {
        Payload::classify(Bytes::copy_from_slice(bytes)).kind
    }

    #[test]
    fn bytes_are_what_they_look_like() {
        assert_eq!(kind_of(b" {\"a\": [1]}\n"), PayloadKind::Json);
        assert_eq!(kind_of(b"null"), PayloadKind::Json);
        assert_eq!(kind_of(b"hello"), PayloadKind::Text);
        assert_eq!(kind_of(b"1\n2"), PayloadKind::Text);
        assert_eq!(kind_of(b""), PayloadKind::Text);
        assert_eq!(kind_of(b"\xff"), PayloadKind::Binary);
    }

    #[test]
    fn json_nested_too_deep_is_only_text() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(kind_of(nested(100).as_bytes()), PayloadKind::Json);
        assert_eq!(kind_of(nested(101).as_bytes()), PayloadKind::Text);
        assert!(Payload::json(Bytes::from(nested(101))).is_none());
        let brackets = format!("\"\\\"{}\"", "[".repeat(200));
        assert_eq!(kind_of(brackets.as_bytes()), PayloadKind::Json);
    }
}
