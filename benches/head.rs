//! What a request head costs the parser, whole and one byte at a time: `head [whole|bytes|loop] [ROUNDS]`.
//! A program of its own, to be counted in instructions (`tests/long/head_cost.sh`) rather than timed.

use std::hint::black_box;

use longwire::proto::http::{HeadLimits, HeadScanner, parse_request};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: 8192,
    headers: 100,
    request_line_bytes: 4096,
};

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"));
    let way = args.next().unwrap_or_default();
    let rounds: u32 = args.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let head = head();
    for _ in 0..rounds {
        match way.as_str() {
            "bytes" => by_bytes(&head),
            "loop" => loop_alone(&head),
            _ => whole(&head),
        }
    }
}

/// A browser's head, filled up with cookies to nearly 8 KiB.
fn head() -> Vec<u8> {
    let mut head = b"GET /channels/demo HTTP/1.1\r\nHost: push.example\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        .to_vec();
    while head.len() < 7900 {
        head.extend_from_slice(
            format!("Cookie: c{}={}\r\n", head.len(), "x".repeat(80)).as_bytes(),
        );
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[inline(never)]
fn whole(head: &[u8]) {
    let found = HeadScanner::new().scan(black_box(head), &LIMITS);
    assert_eq!(found, Ok(Some(head.len())));
    black_box(parse_request(head)).expect("a good head");
}

#[inline(never)]
fn by_bytes(head: &[u8]) {
    let mut scanner = HeadScanner::new();
    for end in 1..head.len() {
        let found = scanner.scan(black_box(&head[..end]), &LIMITS);
        assert!(matches!(found, Ok(None)));
    }
    assert_eq!(scanner.scan(head, &LIMITS), Ok(Some(head.len())));
    black_box(parse_request(head)).expect("a good head");
}

/// What [`by_bytes`] does besides calling the parser.
#[inline(never)]
fn loop_alone(head: &[u8]) {
    for end in 1..head.len() {
        let bytes = black_box(&head[..end]);
        assert!(!bytes.is_empty());
    }
}
