//! JSON objects (RFC 8259), read so that two readers cannot disagree: no name comes twice (RFC 8725 section 2.4 tells
//! what happens otherwise), and what follows the object is an error.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The most members of one object.
const MEMBERS_MAX: usize = 256;

/// Members of an object in their order; values are as they were written.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A value is not of the type it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongType;

impl<'a> Members<'a> {
    /// Reads exactly one object. `None`: it is none, it is not UTF-8, it is too large, or a name comes twice.
    pub(super) fn parse(json: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(json).ok()?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = reader.deserialize_map(MembersVisitor).ok()?;
        reader.end().ok()?;
        Some(Self(members))
    }

    /// The same of a value inside another object.
    pub(super) fn of(value: &'a RawValue) -> Result<Self, WrongType> {
        Self::parse(value.get().as_bytes()).ok_or(WrongType)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The value as it was written; `null` is a value.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.iter().find(|(own, _)| *own == name)?;
        Some(value)
    }

    /// The value, if it is there; `null` counts as absent.
    pub(super) fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.raw(name).filter(|value| value.get() != "null")
    }

    /// The value, if it is there, as a `T`; `null` is a `T` or an error.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, WrongType> {
        self.raw(name).map(read).transpose()
    }
}

/// A value as a `T`.
pub(super) fn read<T: DeserializeOwned>(value: &RawValue) -> Result<T, WrongType> {
    serde_json::from_str(value.get()).map_err(|_| WrongType)
}

/// A value without the white space around its parts: it will stand in protocols that end a message with a line feed.
pub(super) fn compact(value: &RawValue) -> Bytes {
    let (mut in_string, mut is_escaped) = (false, false);
    let is_kept = |byte: &u8| {
        let ends_or_begins = *byte == b'"' && !is_escaped;
        is_escaped = in_string && *byte == b'\\' && !is_escaped;
        in_string ^= ends_or_begins;
        in_string || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    };
    value.get().bytes().filter(is_kept).collect()
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object in which no name comes twice")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Self::Value::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
            if members.len() == MEMBERS_MAX || members.iter().any(|(own, _)| *own == name) {
                return Err(A::Error::custom("too many members, or a name twice"));
            }
            members.push((name, value));
        }
        Ok(members)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn one_object_and_no_name_twice() {
        let members = Members::parse(br#" {"a": [1, {"b":2}], "c":"d"} "#).unwrap();
        assert_eq!(members.raw("a").unwrap().get(), r#"[1, {"b":2}]"#);
        assert_eq!(members.read::<String>("c"), Ok(Some("d".to_owned())));
        assert_eq!(members.read::<String>("a"), Err(WrongType));
        assert_eq!(members.read::<String>("b"), Ok(None));
        for wrong in [
            "",
            "[]",
            "{}{}",
            "{} x",
            "{\"a\":1,\"a\":1}",
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":1,}"#,
            r#"{"a":NaN}"#,
            r#"{"\ud800":1}"#,
            "{'a':1}",
            "\u{feff}{}",
        ] {
            assert!(Members::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert!(Members::parse(b"{\"a\":\"\xff\"}").is_none());
    }

    #[test]
    fn the_number_of_members_is_bounded() {
        let object = |count: usize| {
            let members: Vec<String> = (0..count).map(|i| format!("\"{i}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(Members::parse(object(MEMBERS_MAX).as_bytes()).is_some());
        assert!(Members::parse(object(MEMBERS_MAX + 1).as_bytes()).is_none());
    }

    #[test]
    fn white_space_goes_and_strings_stay() {
        let value = raw("{ \"a b\" :\r\n [ 1,\t\"\\\" x \\\\\" , true ] }");
        assert_eq!(&compact(&value)[..], br#"{"a b":[1,"\" x \\",true]}"#);
    }
}
