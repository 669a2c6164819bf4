//! The client side of RFC 6455, as small as the tests allow.

use std::time::Instant;

use super::{Delivery, End, PATIENCE, Peer};

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;
/// The bit of the first byte that ends a message; or it with an opcode.
pub const FIN: u8 = 0x80;
/// The bit of the first byte that says a message is compressed.
pub const RSV1: u8 = 0x40;

/// The key of the example in RFC 6455 1.3, and the answer it must get. All handshakes here use it.
const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The masking key of the examples in RFC 6455 5.7.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An upgrade request; `extra` holds whole header lines, each with its CRLF.
pub fn upgrade_request(path: &str, host: &str, extra: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {SAMPLE_KEY}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

/// A whole masked frame; `first` is the first byte as it goes out.
pub fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked_header(first, payload.len() as u64);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// The header alone of a masked frame that claims `payload_len` bytes.
pub fn masked_header(first: u8, payload_len: u64) -> Vec<u8> {
    let mut header = vec![first];
    match payload_len {
        0..=125 => header.push(0x80 | payload_len as u8),
        126..=0xffff => {
            header.push(0x80 | 126);
            header.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend_from_slice(&payload_len.to_be_bytes());
        }
    }
    header.extend_from_slice(&MASK);
    header
}

/// The payload of a Close frame.
pub fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// A frame as it came from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close frame, 1005 when it has none (RFC 6455 7.1.5).
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.first, FIN | CLOSE, "expected a Close, got {self:?}");
        match self.payload.get(..2) {
            None => 1005,
            Some(code) => u16::from_be_bytes([code[0], code[1]]),
        }
    }

    /// The reason of a Close frame.
    pub fn close_reason(&self) -> &str {
        std::str::from_utf8(self.payload.get(2..).unwrap_or_default()).expect("UTF-8")
    }
}

/// A connection after its 101.
pub struct WebSocket {
    pub peer: Peer,
}

impl WebSocket {
    /// Sends one masked frame.
    pub fn send(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        self.peer.send(masked_frame(first, payload.as_ref()));
    }

    /// The next frame, pings included; strict about what a server may send.
    pub fn raw_frame(&mut self) -> Result<Frame, End> {
        let frame = self.frame_of_extension()?;
        assert_eq!(frame.first & RSV1, 0, "RSV1 in {:#04x}", frame.first);
        Ok(frame)
    }

    /// The next frame, pings included, with or without the bit of permessage-deflate.
    pub fn frame_of_extension(&mut self) -> Result<Frame, End> {
        let header = self.peer.peek(2)?;
        let (first, length) = (header[0], header[1]);
        assert_eq!(first & 0x30, 0, "reserved bits in {first:#04x}");
        assert_eq!(length & 0x80, 0, "a server must not mask");
        let (header_len, payload_len) = match length {
            126 => (4, be(&self.peer.peek(4)?[2..])),
            127 => (10, be(&self.peer.peek(10)?[2..])),
            short => (2, u64::from(short)),
        };
        let minimal = [(2, 0), (4, 126), (10, 65536)];
        let floor = minimal
            .iter()
            .find(|(len, _)| *len == header_len)
            .unwrap()
            .1;
        assert!(payload_len >= floor, "length {payload_len} not minimal");
        self.peer.peek(header_len + payload_len as usize)?;
        self.peer.take(header_len)?;
        let payload = self.peer.take(payload_len as usize)?;
        Ok(Frame { first, payload })
    }

    /// The next frame that is not a ping; pings are answered, as a client's library would.
    pub fn try_frame(&mut self) -> Result<Frame, End> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frame = self.raw_frame()?;
            if frame.first != FIN | PING {
                return Ok(frame);
            }
            assert!(Instant::now() < deadline, "nothing but pings came");
            let pong = masked_frame(FIN | PONG, &frame.payload);
            self.peer.offer(pong, Delivery::Whole);
        }
    }

    /// The next frame that is not a ping; the connection must not end before.
    pub fn frame(&mut self) -> Frame {
        self.try_frame()
            .unwrap_or_else(|end| panic!("expected a frame, got {end:?}"))
    }

    /// Expects this very frame next.
    pub fn expect(&mut self, opcode: u8, payload: impl AsRef<[u8]>) {
        let frame = self.frame();
        let same = frame.first == FIN | opcode && frame.payload == payload.as_ref();
        assert!(
            same,
            "expected opcode {opcode} and {:?}, got {:#04x} and {:?}",
            excerpt(payload.as_ref()),
            frame.first,
            excerpt(&frame.payload)
        );
    }

    /// Expects a text message.
    pub fn expect_text(&mut self, text: &str) {
        self.expect(TEXT, text);
    }

    /// Expects a Close with this code, answers it, and expects the server to end TCP; gives the reason.
    pub fn expect_close(&mut self, code: u16) -> String {
        let close = self.frame();
        assert_eq!(
            close.close_code(),
            code,
            "reason {:?}",
            close.close_reason()
        );
        let answer = masked_frame(FIN | CLOSE, &close.payload);
        self.peer.offer(answer, Delivery::Whole);
        self.peer.expect_end();
        close.close_reason().to_owned()
    }
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn excerpt(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    format!("{shown} ({} bytes)", bytes.len())
}
