//! SockJS 0.3.3: what carries a connection where WebSockets do not get through. Strings of a client's
//! come in JSON arrays, and the server answers in frames of one letter and what it needs.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// The most messages in one body or WebSocket message of a client.
pub const MESSAGES_MAX: usize = 1024;

/// The longest server or session part of a URL in bytes. Both are the client's choice.
pub const PART_BYTES_MAX: usize = 128;

/// What every streaming response begins with, so that old browsers show what follows at once:
/// 2048 times `h`, and a line feed.
pub const STREAMING_PRELUDE: &[u8; 2049] = &{
    let mut prelude = [b'h'; 2049];
    prelude[2048] = b'\n';
    prelude
};

/// Appends the frame that opens a session.
pub fn append_open(out: &mut Vec<u8>) {
    out.push(b'o');
}

/// Appends a heartbeat.
pub fn append_heartbeat(out: &mut Vec<u8>) {
    out.push(b'h');
}

/// Appends a frame of messages. What is not UTF-8 in them is replaced (U+FFFD).
pub fn append_messages<'m>(out: &mut Vec<u8>, messages: impl IntoIterator<Item = &'m [u8]>) {
    out.extend_from_slice(b"a[");
    for (index, message) in messages.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append_string(out, &String::from_utf8_lossy(message));
    }
    out.push(b']');
}

/// Appends one message as it stands in a frame of messages, and a comma.
pub fn append_item(out: &mut Vec<u8>, message: &[u8]) {
    append_string(out, &String::from_utf8_lossy(message));
    out.push(b',');
}

/// Appends the frame that closes a session.
pub fn append_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    out.extend_from_slice(format!("c[{code},").as_bytes());
    append_string(out, reason);
    out.push(b']');
}

/// Appends a frame as a server-sent event. The client decodes its data as a URI, so that a `%` has to be escaped.
pub fn append_event(out: &mut Vec<u8>, frame: &[u8]) {
    out.extend_from_slice(b"data: ");
    for byte in frame {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            byte => out.push(*byte),
        }
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// A JSON string, with escapes for what browsers are known to damage too.
fn append_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut from = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| is_escaped(*c)) {
        out.extend_from_slice(text.get(from..at).unwrap_or_default().as_bytes());
        append_escape(out, c);
        from = at + c.len_utf8();
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default().as_bytes());
    out.push(b'"');
}

const fn is_escaped(c: char) -> bool {
    matches!(
        c,
        '"' | '\\' | '\0'..='\x1f' | '\u{200c}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
            | '\u{2060}'..='\u{206f}' | '\u{fff0}'..='\u{ffff}'
    )
}

fn append_escape(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        _ => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
    }
}

/// Why messages of a client's cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMessages {
    /// Nothing there.
    Missing,
    /// Neither a JSON array of strings nor a string, or more than [`MESSAGES_MAX`] of them.
    Broken,
}

impl BadMessages {
    /// The body of the 500 that answers it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "Payload expected.",
            Self::Broken => "Broken JSON encoding.",
        }
    }
}

/// Reads the messages of a body, or of a WebSocket message: an array of strings, or one string.
///
/// # Errors
/// [`BadMessages`].
pub fn parse_messages(body: &[u8]) -> Result<Vec<String>, BadMessages> {
    if body.is_empty() {
        return Err(BadMessages::Missing);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let messages = json.deserialize_any(Messages);
    let messages = messages.and_then(|messages| json.end().map(|()| messages));
    messages.map_err(|_| BadMessages::Broken)
}

struct Messages;

impl<'de> Visitor<'de> for Messages {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("strings")
    }

    fn visit_str<E: Error>(self, message: &str) -> Result<Vec<String>, E> {
        Ok(vec![message.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut strings: A) -> Result<Vec<String>, A::Error> {
        let mut messages = Vec::new();
        while let Some(message) = strings.next_element()? {
            if messages.len() == MESSAGES_MAX {
                return Err(A::Error::custom("too many messages"));
            }
            messages.push(message);
        }
        Ok(messages)
    }
}

/// How a session's bytes travel: the last part of its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `websocket`.
    WebSocket,
    /// `xhr`: a poll.
    Xhr,
    /// `xhr_streaming`.
    XhrStreaming,
    /// `xhr_send`: messages of the client's.
    XhrSend,
    /// `eventsource`.
    EventSource,
    /// `htmlfile`.
    HtmlFile,
    /// `jsonp`: a poll by script.
    Jsonp,
    /// `jsonp_send`: messages of the client's.
    JsonpSend,
}

impl Transport {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "websocket" => Self::WebSocket,
            "xhr" => Self::Xhr,
            "xhr_streaming" => Self::XhrStreaming,
            "xhr_send" => Self::XhrSend,
            "eventsource" => Self::EventSource,
            "htmlfile" => Self::HtmlFile,
            "jsonp" => Self::Jsonp,
            "jsonp_send" => Self::JsonpSend,
            _ => return None,
        })
    }
}

/// Whose bytes a request is about, and how they travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPath<'a> {
    /// For load balancers; means nothing here.
    pub server: &'a str,
    /// The session.
    pub session: &'a str,
    /// How its bytes travel.
    pub transport: Transport,
}

impl<'a> SessionPath<'a> {
    /// Reads `/server/session/transport`, what follows an endpoint's own path; `None` if it is
    /// anything else. No part is empty, has a dot, or is longer than [`PART_BYTES_MAX`].
    pub fn parse(path: &'a str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let (server, session, transport) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none() && is_part(server) && is_part(session);
        is_whole.then_some(Self {
            server,
            session,
            transport: Transport::parse(transport)?,
        })
    }
}

fn is_part(part: &str) -> bool {
    (1..=PART_BYTES_MAX).contains(&part.len()) && !part.contains('.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(messages: &[&str]) -> String {
        let mut out = Vec::new();
        append_messages(&mut out, messages.iter().map(|message| message.as_bytes()));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn frames_are_a_letter_and_what_it_needs() {
        let mut out = Vec::new();
        append_open(&mut out);
        append_heartbeat(&mut out);
        append_close(&mut out, 3000, "Go \"away\"!");
        assert_eq!(out, br#"ohc[3000,"Go \"away\"!"]"#);
        assert_eq!(frame(&["m1", "m2"]), r#"a["m1","m2"]"#);
        assert_eq!(frame(&[r#"{"id":1}"#]), r#"a["{\"id\":1}"]"#);
        assert_eq!(STREAMING_PRELUDE.last(), Some(&b'\n'));
    }

    #[test]
    fn an_event_is_a_frame_that_can_be_decoded_as_a_uri() {
        let mut out = Vec::new();
        append_event(&mut out, br#"a["100 %"]"#);
        assert_eq!(out, b"data: a[\"100 %25\"]\r\n\r\n");
    }

    #[test]
    fn what_browsers_damage_is_escaped() {
        assert_eq!(
            frame(&["a\n\0\u{2028}\u{ffff}é😀"]),
            r#"a["a\n\u0000\u2028\uffffé😀"]"#
        );
    }

    #[test]
    fn messages_come_in_an_array_or_alone() {
        let parse = |body: &str| parse_messages(body.as_bytes());
        assert_eq!(parse(r#"["a","b\n"]"#), Ok(vec!["a".into(), "b\n".into()]));
        assert_eq!(parse(r#" "a" "#), Ok(vec!["a".into()]));
        assert_eq!(parse("[]"), Ok(vec![]));
        assert_eq!(parse(""), Err(BadMessages::Missing));
        for broken in ["[\"x", "{}", "[1]", "[[\"a\"]]", "[] []", "null"] {
            assert_eq!(parse(broken), Err(BadMessages::Broken), "{broken}");
        }
        let many = |count: usize| format!("[{}\"\"]", "\"\",".repeat(count - 1));
        assert_eq!(parse(&many(MESSAGES_MAX)).unwrap().len(), MESSAGES_MAX);
        assert_eq!(parse(&many(MESSAGES_MAX + 1)), Err(BadMessages::Broken));
    }

    #[test]
    fn a_url_has_a_server_a_session_and_a_transport() {
        let path = SessionPath::parse("/000/abc/xhr_send").unwrap();
        assert_eq!(
            (path.server, path.session, path.transport),
            ("000", "abc", Transport::XhrSend)
        );
        let long = format!("/000/{}/xhr", "s".repeat(PART_BYTES_MAX + 1));
        for wrong in [
            "",
            "/",
            "/a",
            "/a/b",
            "/a/b/",
            "/a/b/nothing",
            "//b/xhr",
            "/a//xhr",
            "/a.a/b/xhr",
            "/a/b.b/xhr",
            "/a/b/xhr/",
            "a/b/xhr",
            &long,
        ] {
            assert_eq!(SessionPath::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_back(messages in prop::collection::vec(any::<String>(), 0..4)) {
            let borrowed: Vec<&str> = messages.iter().map(String::as_str).collect();
            let frame = frame(&borrowed);
            prop_assert!(!frame.bytes().any(|byte| byte < b' '));
            prop_assert_eq!(parse_messages(&frame.as_bytes()[1..]), Ok(messages));
        }
    }
}
