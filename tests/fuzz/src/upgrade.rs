//! An opening handshake: what is accepted has every header the RFC asks for.

use longwire::proto::handshake::{UpgradeCheck, accept_key, check_upgrade};
use longwire::proto::http::{BodyLength, Method, Version, parse_request};

pub const SEEDS: &[&[u8]] = &[
    b"GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c, WebSocket\r\nConnection: keep-alive\r\nConnection: upgrade\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nOrigin: http://h\r\n\r\n",
];

pub fn run(input: &[u8]) {
    let Ok(request) = parse_request(input) else {
        return;
    };
    match check_upgrade(&request) {
        UpgradeCheck::Accept { key, .. } => {
            assert_eq!(request.method, Method::Get);
            assert_eq!(request.version, Version::Http11);
            assert!(matches!(
                request.body,
                BodyLength::None | BodyLength::Length(0)
            ));
            assert!(request.has_token("upgrade", "websocket"));
            assert!(request.has_token("connection", "upgrade"));
            assert_eq!(request.header("sec-websocket-version"), Some("13"));
            assert_eq!(request.headers("sec-websocket-key").count(), 1);
            // 16 bytes in base64, whose last character before the padding has four bits to spare.
            let key = key.as_bytes();
            assert!(key.len() == 24 && key.ends_with(b"==") && b"AQgw".contains(&key[21]));
            assert_eq!(accept_key(&String::from_utf8_lossy(key)).len(), 28);
            assert!(!request.keep_alive);
        }
        UpgradeCheck::Refuse(error) => assert!(matches!(error.status, 400 | 426)),
        UpgradeCheck::NotAnUpgrade => assert!(!request.has_token("upgrade", "websocket")),
    }
}
