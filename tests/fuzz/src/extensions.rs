//! `Sec-WebSocket-Extensions`: whatever is agreed on keeps to the policy and is an answer the client may get.

use longwire::proto::deflate::{DeflatePolicy, negotiate};

pub const SEEDS: &[&[u8]] = &[
    b"\x0fpermessage-deflate; client_max_window_bits",
    b"\x39permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; client_max_window_bits=\"9\"",
    b"\x2fx-other; a=\"b\\c\", permessage-deflate; unknown\npermessage-deflate, ,permessage-deflate; server_max_window_bits=8",
];

/// The first byte is a policy, the rest are header lines with a line feed between.
pub fn run(input: &[u8]) {
    let Some((&first, lines)) = input.split_first() else {
        return;
    };
    let policy = DeflatePolicy {
        enabled: first & 0x40 == 0,
        server_context_takeover: first & 0x20 != 0,
        client_context_takeover: first & 0x10 != 0,
        window_bits_max: 9 + (first & 0x0f) % 7,
    };
    let lines = || lines.split(|&byte| byte == b'\n');
    let agreed = match negotiate(lines(), &policy) {
        Ok(Some(agreed)) => agreed,
        Ok(None) => return,
        Err(error) => return assert_eq!(error.status, 400),
    };
    assert!(policy.enabled);
    assert!((8..=policy.window_bits_max).contains(&agreed.server_window_bits()));
    assert!((8..=15).contains(&agreed.client_window_bits()));
    assert!(agreed.server_no_context_takeover || policy.server_context_takeover);
    if !agreed.client_no_context_takeover {
        assert!(policy.client_context_takeover);
        assert!(agreed.client_window_bits() <= policy.window_bits_max);
    }
    // What was answered, offered again, is agreed to as it is.
    let answer = agreed.to_string();
    let again = negotiate([answer.as_bytes()], &policy).expect("a list");
    let again = again.expect("an offer to accept");
    assert_eq!(again.server_window_bits(), agreed.server_window_bits());
    assert_eq!(again.client_window_bits(), agreed.client_window_bits());
}
