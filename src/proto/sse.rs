//! Server-sent events (WHATWG HTML section 9.2): the stream a browser's `EventSource` reads.

/// The media type of the stream.
pub const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";

/// The event that says that publications are missing before what follows.
pub const GAP_EVENT: &str = "longwire.gap";
/// The event of a publication that is not text, and comes as base64.
pub const BINARY_EVENT: &str = "longwire.binary";
/// The event that says that a newer connection has taken over, and this one ends.
pub const TAKEN_OVER_EVENT: &str = "longwire.taken_over";
/// Its id: a client that comes back with it is told to stay away.
pub const TAKEN_OVER_ID: &str = "taken-over";

/// One event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    /// What the client sends back as `Last-Event-ID` when it reconnects.
    pub id: Option<&'a str>,
    /// The event's name; without one it is `message`.
    pub event: Option<&'a str>,
    /// UTF-8. Its line breaks, however they are written, reach the client as line feeds.
    pub data: &'a [u8],
}

/// Appends an event. Line breaks and NULs in its id and its name, which the format cannot carry, are
/// left out.
pub fn append_event(out: &mut Vec<u8>, event: &Event<'_>) {
    if let Some(id) = event.id {
        append_field(out, "id", id);
    }
    if let Some(name) = event.event {
        append_field(out, "event", name);
    }
    append_data(out, event.data);
    out.push(b'\n');
}

/// Appends a comment, which clients skip: it shows them, and whatever is in between, that the stream
/// is alive. Line breaks in it are left out.
pub fn append_comment(out: &mut Vec<u8>, text: &str) {
    append_field(out, "", text);
    out.push(b'\n');
}

/// Appends how long a client leaves after its connection has ended until it comes back, in milliseconds.
pub fn append_retry(out: &mut Vec<u8>, retry_ms: u32) {
    append_field(out, "retry", &retry_ms.to_string());
    out.push(b'\n');
}

/// Appends bytes as base64, for the data of a [`BINARY_EVENT`].
pub fn append_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    use base64::prelude::{BASE64_STANDARD, Engine};
    out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
}

fn append_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value = value.bytes();
    out.extend(value.filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\0')));
    out.push(b'\n');
}

fn append_data(out: &mut Vec<u8>, data: &[u8]) {
    let mut rest = data;
    loop {
        let end = memchr::memchr2(b'\n', b'\r', rest);
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
        if end.is_none() {
            return;
        }
        rest = after
            .strip_prefix(b"\r\n")
            .or(after.get(1..))
            .unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(id: Option<&str>, event: Option<&str>, data: &[u8]) -> String {
        let mut out = Vec::new();
        append_event(&mut out, &Event { id, event, data });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_has_its_fields_in_lines() {
        assert_eq!(event(None, None, b"{}"), "data: {}\n\n");
        assert_eq!(
            event(Some("abc:7"), Some("news"), b"hello"),
            "id: abc:7\nevent: news\ndata: hello\n\n"
        );
        assert_eq!(event(None, None, b""), "data: \n\n");
    }

    #[test]
    fn each_line_of_the_data_is_a_field() {
        let expected = "data: a\ndata: b\ndata: \ndata: c\ndata: \n\n";
        assert_eq!(event(None, None, b"a\nb\n\nc\n"), expected);
        assert_eq!(event(None, None, b"a\r\nb\r\rc\r"), expected);
    }

    #[test]
    fn no_field_can_bring_another() {
        assert_eq!(
            event(Some("1\n\ndata: x\0"), Some("a\rid: 9"), b"d"),
            "id: 1data: x\nevent: aid: 9\ndata: d\n\n"
        );
        let mut out = Vec::new();
        append_comment(&mut out, "still\nhere");
        assert_eq!(out, b": stillhere\n\n");
        out.clear();
        append_retry(&mut out, 250);
        assert_eq!(out, b"retry: 250\n\n");
    }

    /// The data of the one event in a stream, as the standard says.
    fn read_data(stream: &str) -> String {
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        let (event, rest) = stream.split_once("\n\n").unwrap();
        assert_eq!(rest, "");
        let lines = event.split('\n').map(|line| {
            let value = line.strip_prefix("data:").unwrap();
            value.strip_prefix(' ').unwrap_or(value)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    proptest! {
        #[test]
        fn data_arrives_with_its_line_breaks(data in "[ab :\r\n]{0,20}") {
            let expected = data.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(read_data(&event(None, None, data.as_bytes())), expected);
        }
    }
}
