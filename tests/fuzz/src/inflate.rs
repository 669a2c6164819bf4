//! Compressed messages: how they are cut does not matter, and they keep to the limit.

use longwire::proto::deflate::{Inflater, Inflation, SlidingWindow};
use longwire::proto::message::{Event, MessageLimits, MessageReader, Role, Violation};

pub const SEEDS: &[&[u8]] = &[
    b"\x01\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00",
    b"\x82\x41\x03\xf2\x48\xcd\x89\x01!\x80\x04\xc9\xc9\x07\x00",
    b"\x03\xc2\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    b"\x84\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00\xc1\x01\x00\xc1\x00",
    b"\x05\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
];

const LIMITS: MessageLimits = MessageLimits {
    message_bytes: 5000,
    frames_per_message: 8,
};

/// State, header and zlib's state for a message in parts.
const OVERHEAD_BYTES: usize = 64 * 1024;

#[derive(Debug, PartialEq)]
enum Read {
    Event(String),
    Violation(Violation),
}

/// Of the first byte, the top bit says whether the context is taken over, the rest how the stream is cut.
pub fn run(input: &[u8]) {
    let Some((&first, stream)) = input.split_first() else {
        return;
    };
    let window_bits = (first & 0x80 != 0).then_some(9);
    let whole = read(window_bits, stream, stream.len().max(1));
    let cut = read(window_bits, stream, usize::from(first & 0x7f).max(1));
    let bytewise = read(window_bits, stream, 1);
    assert_eq!(events(&whole), events(&cut));
    assert_eq!(events(&whole), events(&bytewise));
    // Of two faults of one message, which is found first may depend on the pieces; that one is, may not.
    assert_eq!(whole.len(), cut.len());
    assert_eq!(whole.len(), bytewise.len());
}

fn events(read: &[Read]) -> Vec<&str> {
    let events = read.iter().filter_map(|read| match read {
        Read::Event(event) => Some(event.as_str()),
        Read::Violation(_) => None,
    });
    events.collect()
}

/// Everything up to the first Close or violation.
fn read(window_bits: Option<u8>, stream: &[u8], piece_bytes: usize) -> Vec<Read> {
    let mut inflater = Inflater::default();
    let mut window = window_bits.map(SlidingWindow::new);
    let mut reader = MessageReader::new();
    let mut out = Vec::new();
    for piece in stream.chunks(piece_bytes) {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let inflation = Inflation {
                inflater: &mut inflater,
                window: window.as_mut(),
            };
            let rest = &mut piece[at..];
            let step = match reader.next_inflated(Role::Client, &LIMITS, Some(inflation), rest) {
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
        assert!(held <= 4 * LIMITS.message_bytes + OVERHEAD_BYTES, "{held}");
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
        Event::Close(_) => {}
    }
    format!("{event:?}")
}
