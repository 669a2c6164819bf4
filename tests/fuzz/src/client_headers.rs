//! What requests say of where they come from: `X-Forwarded-For`, with a line for each line of the input, and `Origin`.
//! Whatever a client writes, the address that a trusted proxy appends is the one that counts.

use std::net::IpAddr;

use longwire::proto::http::forwarded_for;
use longwire::proto::origin::{Origin, OriginPattern};

pub const SEEDS: &[&[u8]] = &[
    b"203.0.113.9, 10.0.0.7,127.0.0.1",
    b"203.0.113.9:4711\n[2001:db8::1]:80, [::1]",
    b"unknown, _hidden, ::ffff:10.0.0.1",
    b",, ,",
    b"null",
    b"https://app.example.com:8443",
    b"https://*.example.com",
    b"http://[::1]:8000",
    b"chrome-extension://abcdef",
    b"https://user@app.example.com/",
];

pub fn run(input: &[u8]) {
    let is_trusted = |address: IpAddr| IpAddr::from([10, 0, 0, 1]) == address;
    let peer = IpAddr::from([10, 0, 0, 1]);
    let mut lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    forwarded_for(peer, &lines, is_trusted);
    lines.push(b"203.0.113.9, 10.0.0.1");
    let client = forwarded_for(peer, &lines, is_trusted);
    assert_eq!(client, IpAddr::from([203, 0, 113, 9]));

    if let Ok(text) = std::str::from_utf8(input) {
        origins(text);
    }
}

fn origins(text: &str) {
    let listed = OriginPattern::parse("https://*.example.com").expect("a pattern");
    if let Some(origin) = Origin::parse(text) {
        assert!(!text.contains(char::is_control), "it may go into a header");
        let host = text.split_once("://").map_or("", |(_, host)| host);
        assert_eq!(origin.is_of_host(host), origin != Origin::Opaque);
        let lower = text.to_ascii_lowercase();
        let may = lower.starts_with("https://") && lower.contains(".example.com");
        assert!(may || !listed.matches(&origin));
    }
    if let Some(pattern) = OriginPattern::parse(text) {
        assert_eq!(OriginPattern::parse(&pattern.to_string()), Some(pattern));
    }
}
