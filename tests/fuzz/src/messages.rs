//! A stream of frames: how it is cut does not matter, nothing but valid messages comes out, and no more is held than came.

use longwire::proto::message::{Event, MessageLimits, MessageReader, Role, Violation};

pub const SEEDS: &[&[u8]] = &[
    b"\x05\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"\x01\x01\x83\0\0\0\0Hel\x89\x81\0\0\0\0?\x80\x82\0\0\0\0lo\x88\x82\0\0\0\0\x03\xe8",
    b"\x02\x02\xfe\x01\x00\0\0\0\0",
    b"\x83\x01\x02\xe2\x82\x80\x01\xac\x8a\x00",
];

const LIMITS: MessageLimits = MessageLimits {
    message_bytes: 300,
    frames_per_message: 8,
};

/// What a box for something partial may take besides its payload: state, header, slack of a growing buffer.
const OVERHEAD_BYTES: usize = 256;

#[derive(Debug, PartialEq)]
enum Read {
    Event(String),
    Violation(Violation),
}

/// Of the first byte, the top bit says which side reads, the rest how the stream is cut.
pub fn run(input: &[u8]) {
    let Some((&first, stream)) = input.split_first() else {
        return;
    };
    let role = match first & 0x80 {
        0 => Role::Server,
        _ => Role::Client,
    };
    let whole = read(role, stream, stream.len().max(1));
    let cut = read(role, stream, usize::from(first & 0x7f).max(1));
    assert_eq!(whole, cut);
    let bytewise = read(role, stream, 1);
    assert_eq!(whole, bytewise);
}

/// Everything up to the first Close or violation.
fn read(role: Role, stream: &[u8], piece_bytes: usize) -> Vec<Read> {
    let mut reader = MessageReader::new();
    let mut out = Vec::new();
    let mut received = 0;
    for piece in stream.chunks(piece_bytes) {
        let mut piece = piece.to_vec();
        received += piece.len();
        let mut at = 0;
        loop {
            let step = match reader.next(role, &LIMITS, &mut piece[at..]) {
                Ok(step) => step,
                Err(violation) => {
                    out.push(Read::Violation(violation));
                    return out;
                }
            };
            let (consumed, event) = (step.consumed, step.event);
            let is_close = matches!(event, Some(Event::Close(_)));
            out.extend(event.map(|event| Read::Event(checked(event))));
            if is_close {
                return out;
            }
            at += consumed;
            if consumed == 0 {
                break;
            }
        }
        assert_eq!(at, piece.len(), "bytes left over");
        let held = reader.buffered_bytes();
        assert!(
            held <= 2 * received + OVERHEAD_BYTES,
            "{held} of {received}"
        );
        assert!(held <= 2 * LIMITS.message_bytes + OVERHEAD_BYTES);
    }
    out
}

fn checked(event: Event<'_>) -> String {
    match event {
        Event::Text(text) => {
            assert!(text.len() <= LIMITS.message_bytes && std::str::from_utf8(text).is_ok());
        }
        Event::Binary(bytes) => assert!(bytes.len() <= LIMITS.message_bytes),
        Event::Ping(payload) | Event::Pong(payload) => assert!(payload.len() <= 125),
        Event::Close(close) => assert!(close.is_none_or(|(_, reason)| reason.len() <= 123)),
    }
    format!("{event:?}")
}
