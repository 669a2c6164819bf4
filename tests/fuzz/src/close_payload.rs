//! The payload of a Close: only codes for the wire and reasons in UTF-8 are read.

use longwire::proto::close::{CloseCode, parse_close};
use longwire::proto::frame::encode_close;

pub const SEEDS: &[&[u8]] = &[
    b"",
    b"\x03\xe8",
    b"\x03\xe9going away",
    b"\x0f\xa0\xe2\x82\xac",
    b"\x03\xed",
];

pub fn run(input: &[u8]) {
    match parse_close(input) {
        Ok(None) => assert!(input.is_empty()),
        Ok(Some((code, reason))) => {
            assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999));
            assert_eq!([&code.to_be_bytes(), reason.as_bytes()].concat(), input);
        }
        Err(violation) => {
            let reason = input.get(2..).unwrap_or_default();
            match violation.code {
                CloseCode::InvalidPayload => assert!(std::str::from_utf8(reason).is_err()),
                code => assert_eq!(code, CloseCode::ProtocolError),
            }
        }
    }
    let mut frame = Vec::new();
    let text = String::from_utf8_lossy(input);
    encode_close(&mut frame, CloseCode::PolicyViolation, &text);
    let (header, payload) = frame.split_at(2);
    assert_eq!(header, [0x88, payload.len() as u8]);
    let (_, reason) = parse_close(payload).expect("valid").expect("a code");
    assert!(text.starts_with(reason) && reason.len() <= 123);
}
