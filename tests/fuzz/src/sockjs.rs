//! Messages of a SockJS client, and its URL: what was read can be sent back.

use longwire::proto::sockjs::{MESSAGES_MAX, SessionPath, append_messages, parse_messages};

pub const SEEDS: &[&[u8]] = &[
    br#"["{\"connect\":{},\"id\":1}\n{}","{}"]"#,
    br#" "one \u0000\u2028\\" "#,
    b"[]",
    b"/000/a1b2c3/xhr_streaming",
    b"/0/s/websocket",
];

pub fn run(input: &[u8]) {
    if let Ok(messages) = parse_messages(input) {
        assert!(messages.len() <= MESSAGES_MAX);
        let mut frame = Vec::new();
        append_messages(
            &mut frame,
            messages.iter().map(|message| message.as_bytes()),
        );
        assert!(!frame.iter().any(|byte| *byte < b' '));
        assert_eq!(parse_messages(&frame[1..]), Ok(messages));
    }
    if let Some(path) = std::str::from_utf8(input).ok().and_then(SessionPath::parse) {
        assert!(!path.session.is_empty() && !path.session.contains(['.', '/']));
    }
}
