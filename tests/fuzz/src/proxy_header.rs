//! A header of the PROXY protocol: it is the same once it is complete, whatever follows it.

use longwire::proto::proxy::{ProxiedClient, parse_proxy_header};

pub const SEEDS: &[&[u8]] = &[
    b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n",
    b"PROXY UNKNOWN anything at all\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\xdc\x04\x01\xbbGET",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x28\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xdc\x04\x01\xbb\x04\0\x01\0",
];

pub fn run(input: &[u8]) {
    let whole = parse_proxy_header(input);
    let mut complete = None;
    for cut in 0..=input.len() {
        let parsed = parse_proxy_header(&input[..cut]);
        if let Some(before) = complete {
            assert_eq!(parsed, before, "{cut} bytes");
        } else if parsed != Ok(None) {
            complete = Some(parsed);
        }
    }
    assert_eq!(complete.unwrap_or(Ok(None)), whole);
    if let Ok(Some(header)) = whole {
        assert!(header.length <= input.len());
        if let ProxiedClient::Tcp {
            source,
            destination,
        } = header.client
        {
            assert_eq!(source.is_ipv4(), destination.is_ipv4());
        }
    }
}
