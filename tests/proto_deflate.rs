//! permessage-deflate (RFC 7692): the examples of the RFC, what zlib makes, a table of negotiations,
//! and what must hold for any input.

mod proto_frames;
mod reference_inflate;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use longwire::proto::close::CloseCode;
use longwire::proto::deflate::{
    DeflateOffer, DeflateParams, DeflatePolicy, Deflater, Inflater, Inflation, InvalidAnswer,
    SlidingWindow, negotiate,
};
use longwire::proto::frame::{Opcode, encode_compressed_frame};
use longwire::proto::message::{MessageLimits, MessageReader, Role, Violation};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use proto_frames::{RawFrame, Received, conversation, damaged_stream, read, wire};
use reference_inflate::{Inflated, inflate_message};

const LIMITS: MessageLimits = MessageLimits {
    message_bytes: 1 << 20,
    frames_per_message: 64,
};

/// The first byte of the first or only frame of a compressed message.
const COMPRESSED: u8 = 0x40;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;

/// What a message in parts may hold beside its parts: its boxes, an inflate state, what came before
/// it took one.
const CUT_MESSAGE_BYTES: usize = 512 + 47_552 + 4 * 1024;

/// One side that reads a connection with permessage-deflate.
struct Receiver {
    role: Role,
    limits: MessageLimits,
    reader: MessageReader,
    inflater: Inflater,
    window: Option<SlidingWindow>,
}

impl Receiver {
    fn new(role: Role, window_bits: Option<u8>) -> Self {
        Self {
            role,
            limits: LIMITS,
            reader: MessageReader::new(),
            inflater: Inflater::default(),
            window: window_bits.map(SlidingWindow::new),
        }
    }

    /// Reads `pieces` one after the other.
    fn read(&mut self, pieces: &[&[u8]]) -> (Vec<Received>, Result<(), Violation>) {
        let mut received = Vec::new();
        for piece in pieces {
            if let Err(violation) = self.read_piece(piece, &mut received) {
                return (received, Err(violation));
            }
        }
        (received, Ok(()))
    }

    fn read_piece(&mut self, piece: &[u8], received: &mut Vec<Received>) -> Result<(), Violation> {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let inflation = Inflation {
                inflater: &mut self.inflater,
                window: self.window.as_mut(),
            };
            let rest = &mut piece[at..];
            let step = self
                .reader
                .next_inflated(self.role, &self.limits, Some(inflation), rest)?;
            let consumed = step.consumed;
            received.extend(step.event.map(Received::from));
            at += consumed;
            let held = self.reader.buffered_bytes();
            assert!(held <= CUT_MESSAGE_BYTES + self.limits.message_bytes);
            if consumed == 0 {
                assert_eq!(self.reader.is_partial(), held > 0);
                return Ok(());
            }
        }
    }

    /// Reads one message of one frame, as a client would.
    fn read_message(&mut self, opcode: u8, payload: &[u8]) -> Result<Received, Violation> {
        let (mut events, end) = self.read(&[&frame(opcode, true, payload)]);
        end.map(|()| events.remove(0))
    }
}

fn frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let payload = payload.into();
    wire(&[RawFrame {
        fin,
        opcode,
        mask: None,
        payload,
    }])
}

/// How a client without takeover reads `stream`, whole and in pieces of any size.
fn read_as_client(stream: &[u8]) -> (Vec<Received>, Result<(), Violation>) {
    let whole = Receiver::new(Role::Client, None).read(&[stream]);
    for len in 1..stream.len().min(100) {
        let pieces: Vec<&[u8]> = stream.chunks(len).collect();
        let in_pieces = Receiver::new(Role::Client, None).read(&pieces);
        assert_eq!(in_pieces, whole, "pieces of {len}");
    }
    whole
}

fn refused(stream: &[u8]) -> (CloseCode, &'static str) {
    let violation = read_as_client(stream).1.unwrap_err();
    (violation.code, violation.reason)
}

/// Bytes that do not compress.
fn random(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

fn text(text: &str) -> Received {
    Received::Text(text.into())
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
    let pairs = digits.chunks(2);
    pairs.map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

// ---- RFC 7692 section 7.2.3 ----

#[test]
fn a_message_compressed_using_one_deflate_block() {
    let hello = (vec![text("Hello")], Ok(()));
    assert_eq!(read_as_client(&hex("c107 f248cdc9c90700")), hello);
    assert_eq!(read_as_client(&hex("4103 f248cd 8004 c9c90700")), hello);
    let mut out = Vec::new();
    // Never smaller than five bytes, so sent as it is.
    assert!(!Deflater::default().encode_frame(&mut out, Opcode::Text, b"Hello", 15));
    assert_eq!(out, b"");
}

#[test]
fn sharing_the_sliding_window() {
    let first = &hex("f248cdc9c90700")[..];
    let second = &hex("f200110000")[..];
    let mut receiver = Receiver::new(Role::Client, Some(15));
    for compressed in [first, second, second, first] {
        let received = receiver.read_message(COMPRESSED | TEXT, compressed);
        assert_eq!(received, Ok(text("Hello")));
    }
    // Without takeover there is nothing to refer to.
    let mut receiver = Receiver::new(Role::Client, None);
    let received = receiver.read_message(COMPRESSED | TEXT, first);
    assert_eq!(received, Ok(text("Hello")));
    let violation = receiver.read_message(COMPRESSED | TEXT, second);
    assert_eq!(violation.unwrap_err().code, CloseCode::InvalidPayload);
}

#[test]
fn using_a_deflate_block_with_no_compression() {
    let stream = hex("c10b 000500faff48656c6c6f00");
    assert_eq!(read_as_client(&stream), (vec![text("Hello")], Ok(())));
}

#[test]
fn using_a_deflate_block_with_bfinal_set() {
    let stream = hex("c108 f348cdc9c9070000 c107 f248cdc9c90700");
    let hello = text("Hello");
    assert_eq!(
        read_as_client(&stream),
        (vec![hello.clone(), hello], Ok(()))
    );
}

#[test]
fn two_deflate_blocks_in_one_message() {
    let stream = hex("c10d f248050000 00ffff cac9c90700");
    assert_eq!(read_as_client(&stream), (vec![text("Hello")], Ok(())));
}

#[test]
fn generating_an_empty_fragment() {
    let hello = (vec![text("Hello")], Ok(()));
    let flushed = hex("410b f248cdc9c907000000ffff 800100");
    assert_eq!(read_as_client(&flushed), hello);
    assert_eq!(read_as_client(&hex("4107 f248cdc9c90700 8000")), hello);
    assert_eq!(read_as_client(&hex("c10100")), (vec![text("")], Ok(())));
}

// ---- rules of frames ----

#[test]
fn rsv1_belongs_on_the_first_frame_of_a_data_message() {
    let protocol = CloseCode::ProtocolError;
    for (stream, reason) in [
        ("41 01 f2 c0 00", "RSV1 on a continuation"),
        ("01 01 61 c0 00", "RSV1 on a continuation"),
        ("c0 00", "RSV1 on a continuation"),
        ("c8 00", "compressed control frame"),
        ("c9 00", "compressed control frame"),
        ("ca 00", "compressed control frame"),
        ("a1 00", "reserved bit set"),
        ("d1 00", "reserved bit set"),
    ] {
        assert_eq!(refused(&hex(stream)), (protocol, reason), "{stream}");
    }
    for first in [0xc1, 0xc2, 0xc9] {
        let end = read(Role::Client, &LIMITS, &[&[first, 0]]).1;
        let reason = end.map_err(|violation| violation.reason);
        assert_eq!(reason, Err("compressed frame without agreement"));
    }
}

#[test]
fn control_frames_pass_between_compressed_fragments() {
    let stream = hex("4103 f248cd 8901 21 0002 c9c9 8a00 8002 0700 8102 6869 8803 03e8 62");
    let expected = vec![
        Received::Ping(b"!".into()),
        Received::Pong(vec![]),
        text("Hello"),
        text("hi"),
        Received::Close(Some((1000, "b".into()))),
    ];
    assert_eq!(read_as_client(&stream), (expected, Ok(())));
}

#[test]
fn an_empty_message_may_have_no_compressed_bytes() {
    for stream in ["c200", "4200 8000", "4200 0000 8000"] {
        let empty = Received::Binary(vec![]);
        assert_eq!(read_as_client(&hex(stream)), (vec![empty], Ok(())));
    }
}

#[test]
fn data_that_is_not_deflate_is_refused() {
    for stream in [
        // A reserved kind of block, a distance before the start, a stored length that is wrong.
        "c101 07",
        "c105 f200110000",
        "c105 0005000000",
        // A block cut short, a final block not followed by the one that is cut, a dynamic code of
        // nothing.
        "c105 f248cdc9c9",
        "c107 f348cdc9c90700",
        "c104 04000000",
        // Its own tail, to which another is added.
        "c105 000000ffff",
    ] {
        let reason = (CloseCode::InvalidPayload, "compressed data is not DEFLATE");
        assert_eq!(refused(&hex(stream)), reason, "{stream}");
    }
}

#[test]
fn nothing_of_a_bad_message_is_left_for_the_next_connection() {
    let mut inflater = Inflater::default();
    for bad in ["f248cdc9", "07", "f200110000", "f348cdc9c90700"] {
        for (compressed, is_good) in [(bad, false), ("f248cdc9c90700", true)] {
            let inflation = Inflation {
                inflater: &mut inflater,
                window: None,
            };
            let mut stream = frame(COMPRESSED | TEXT, true, &hex(compressed));
            let mut reader = MessageReader::new();
            let step = reader.next_inflated(Role::Client, &LIMITS, Some(inflation), &mut stream);
            assert_eq!(step.is_ok(), is_good, "{compressed} after {bad}");
        }
    }
}

#[test]
fn text_is_refused_as_it_inflates() {
    let mut payload = "é".repeat(50_000).into_bytes();
    payload[60_001] = b'x';
    let mut deflater = Deflater::default();
    let compressed = deflater.compress(&payload, 15, &[]).unwrap().to_vec();
    let mut receiver = Receiver::new(Role::Client, None);
    let binary = receiver.read_message(COMPRESSED | BINARY, &compressed);
    assert_eq!(binary, Ok(Received::Binary(payload)));
    let violation = receiver.read_message(COMPRESSED | TEXT, &compressed);
    assert_eq!(violation.unwrap_err().code, CloseCode::InvalidPayload);

    // The bad byte shows before the message ends: here, from a stored block.
    let not_utf8 = (CloseCode::InvalidPayload, "text is not UTF-8");
    let mut stored = vec![0, 0xff, 0xff, 0, 0];
    stored.resize(30_000, b'a');
    stored[20_000] = 0xff;
    assert_eq!(refused(&frame(COMPRESSED | TEXT, false, &stored)), not_utf8);
    // The end cuts a character.
    assert_eq!(refused(&hex("c107 000100feffc300")), not_utf8);
}

#[test]
fn final_blocks_are_bounded() {
    // An empty final block is two bytes; as many as a message may have, and one more.
    let blocks = |count: usize| [&b"\x03\x00".repeat(count)[..], b"\x00"].concat();
    let mut receiver = Receiver::new(Role::Client, None);
    let most = receiver.read_message(COMPRESSED | BINARY, &blocks(128));
    assert_eq!(most, Ok(Received::Binary(vec![])));
    let more = receiver.read_message(COMPRESSED | BINARY, &blocks(129));
    assert_eq!(more.unwrap_err().code, CloseCode::PolicyViolation);
}

// ---- limits ----

#[test]
fn the_limit_is_on_what_it_inflates_to() {
    let mut deflater = Deflater::default();
    for (len, is_allowed) in [(9_999, true), (10_000, true), (10_001, false)] {
        let payload = vec![b'a'; len];
        let compressed = deflater.compress(&payload, 15, &[]).unwrap();
        let whole = frame(COMPRESSED | TEXT, true, compressed);
        let (front, back) = compressed.split_at(compressed.len() / 2);
        let parts = [frame(COMPRESSED | TEXT, false, front), frame(0, true, back)].concat();
        for stream in [whole, parts] {
            let mut receiver = Receiver::new(Role::Client, None);
            receiver.limits.message_bytes = 10_000;
            let end = receiver.read(&[&stream]).1.map_err(|v| v.code);
            let expected = match is_allowed {
                true => Ok(()),
                false => Err(CloseCode::MessageTooBig),
            };
            assert_eq!(end, expected, "{len}");
        }
    }
}

#[test]
fn compressed_bytes_are_bounded_from_the_header() {
    let mut receiver = Receiver::new(Role::Client, None);
    receiver.limits.message_bytes = 1000;
    let declared = |len: u16| [&[0x42, 0x7e], &len.to_be_bytes()[..]].concat();
    assert_eq!(receiver.read(&[&declared(3024)]).1, Ok(()));
    let mut receiver = Receiver::new(Role::Client, None);
    receiver.limits.message_bytes = 1000;
    let end = receiver.read(&[&declared(3025)]).1;
    assert_eq!(end.unwrap_err().code, CloseCode::MessageTooBig);
    // Empty stored blocks inflate to nothing for ever.
    let mut receiver = Receiver::new(Role::Client, None);
    receiver.limits.message_bytes = 1000;
    let blocks = b"\0\0\0\xff\xff".repeat(200);
    let stream = [
        frame(COMPRESSED | BINARY, false, &blocks),
        frame(0, false, &blocks),
    ]
    .concat();
    assert_eq!(receiver.read(&[&stream]).1, Ok(()));
    let more = [frame(0, false, &blocks), frame(0, false, &blocks)].concat();
    let end = receiver.read(&[&more]).1;
    assert_eq!(end.unwrap_err().code, CloseCode::MessageTooBig);
}

/// Counts what this thread holds.
struct CountingAllocator;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static HELD_MAX: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    HELD_MAX.set(HELD_MAX.get().max(held));
}

// SAFETY: every call is passed on to the system's allocator as it is. What is counted beside it
// lies in thread-local cells that neither allocate nor have a destructor.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, allocated: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller's.
        unsafe { System.dealloc(allocated, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The most that `run` held at a time, beyond what was held before; and what it holds still.
fn held_by(run: impl FnOnce()) -> (isize, isize) {
    let before = HELD.get();
    HELD_MAX.set(before);
    run();
    (HELD_MAX.get() - before, HELD.get() - before)
}

#[test]
fn a_bomb_costs_128_kib() {
    let bomb = Deflater::default()
        .compress(&vec![0; 64 << 20], 15, &[])
        .unwrap()
        .to_vec();
    assert!(bomb.len() < 300 << 10, "{} bytes", bomb.len());
    let whole = frame(COMPRESSED | BINARY, true, &bomb[..65_000]);
    let limits = MessageLimits {
        message_bytes: 65_536,
        frames_per_message: 128,
    };
    for piece_len in [1, 100, 7000, 16_384, whole.len()] {
        let mut pieces: Vec<Vec<u8>> = whole.chunks(piece_len).map(Vec::from).collect();
        let (mut reader, mut inflater) = (MessageReader::new(), Inflater::default());
        let mut end = Ok(());
        let (held_max, _) = held_by(|| {
            for piece in &mut pieces {
                let inflation = Inflation {
                    inflater: &mut inflater,
                    window: None,
                };
                let step = reader.next_inflated(Role::Client, &limits, Some(inflation), piece);
                end = step.map(drop);
                if end.is_err() {
                    break;
                }
            }
        });
        assert_eq!(end.unwrap_err().code, CloseCode::MessageTooBig);
        assert!(
            held_max <= 128 << 10,
            "{held_max} bytes, {piece_len} at a time"
        );
    }
}

#[test]
fn a_connection_holds_little_between_messages_and_before_4_kib() {
    let mut receiver = Receiver::new(Role::Client, None);
    let hello = hex("c107 f248cdc9c90700");
    receiver.read(&[&hello]).1.unwrap();
    let held = receiver.reader.buffered_bytes();
    assert_eq!(held, 0, "after a message in one piece");

    let (_, held) = held_by(|| receiver.read(&[&hello[..4]]).1.unwrap());
    assert!(held < 300, "{held} bytes for half a message");
    receiver.read(&[&hello[4..]]).1.unwrap();
    assert_eq!(receiver.reader.buffered_bytes(), 0);

    // Beyond 4 KiB it takes a state, and gives it back.
    let stored = [&[0, 0xff, 0xff, 0, 0][..], &[b'a'; 5000]].concat();
    let mut connection = MessageReader::new();
    let mut begun = frame(COMPRESSED | BINARY, false, &stored);
    let inflation = Inflation {
        inflater: &mut receiver.inflater,
        window: None,
    };
    let step = connection.next_inflated(Role::Client, &LIMITS, Some(inflation), &mut begun);
    assert_eq!(step.map(|step| step.event), Ok(None));
    assert!(connection.buffered_bytes() > 47_000);
    drop(connection);
    let (held_max, _) = held_by(|| receiver.read(&[&hello]).1.unwrap());
    assert!(held_max > 47_000, "another state in place of the lost one");
    let (held_max, _) = held_by(|| receiver.read(&[&hello]).1.unwrap());
    assert!(held_max < 1000, "{held_max} bytes with a state at hand");
}

#[test]
fn a_declared_length_costs_nothing() {
    let mut receiver = Receiver::new(Role::Client, None);
    receiver.limits.message_bytes = usize::MAX / 2;
    let header = hex("42 7f 7fffffffffffffff 00");
    let (held_max, _) = held_by(|| receiver.read(&[&header]).1.unwrap());
    assert!(held_max < 1000, "{held_max} bytes");
}

// ---- vectors ----

/// A payload of the vectors, as their generator makes it.
fn words(seed: u32, period: usize, len: usize) -> Vec<u8> {
    const VOCABULARY: [&str; 10] = [
        "push", "server", "channel", "price", "1.0825", "alice", "{", "}", "offset", "7",
    ];
    let (mut state, mut text) = (seed, String::new());
    while text.len() < period {
        let next = u64::from(state) * 1_103_515_245 + 12_345;
        state = (next % (1 << 31)) as u32;
        text += VOCABULARY[(state >> 16) as usize % 10];
        text.push([':', ',', '-', '\n'][(state >> 24) as usize % 4]);
    }
    text.as_bytes()[..period]
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect()
}

#[test]
fn reads_what_zlib_compresses() {
    let vectors = include_str!("proto_deflate_vectors/vectors.txt");
    let (mut receiver, mut sent) = (Receiver::new(Role::Client, None), Vec::new());
    let mut messages = 0;
    for line in vectors.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let ["session", bits, takeover] = fields[..] {
            let bits = bits.parse().unwrap();
            receiver = Receiver::new(Role::Client, (takeover == "takeover").then_some(bits));
            sent.clear();
            continue;
        }
        let number = |at: usize| fields[at].parse::<usize>().unwrap();
        let payload = words(number(1) as u32, number(2), number(3));
        let compressed = hex(fields[4]);
        let received = receiver.read_message(COMPRESSED | TEXT, &compressed);
        assert_eq!(received, Ok(Received::Text(payload.clone())), "{line}");

        let context = receiver.window.as_ref().map_or(&[][..], |_| &sent);
        let reference = inflate_message(&compressed, context).unwrap();
        assert_eq!(reference.payload, payload, "the reference reads it too");
        sent.extend(payload);
        messages += 1;
    }
    assert_eq!(messages, 52);
}

#[test]
fn what_is_compressed_keeps_to_its_window() {
    let mut deflater = Deflater::default();
    let random = random(70_000);
    for bits in 8..=15 {
        for period in [1, 100, 240, 256, 500, 1000, 4000, 30_000] {
            for payload in [words(3, period, 70_000), random[..period].repeat(3)] {
                let Some(compressed) = deflater.compress(&payload, bits, &[]) else {
                    continue;
                };
                assert!(compressed.len() < payload.len());
                let inflated = inflate_message(compressed, &[]).unwrap();
                assert_eq!(inflated.payload, payload);
                assert!(inflated.distance_max <= 1 << bits, "{bits} bits");
            }
        }
    }
}

// ---- properties ----

/// The frames of a conversation with its messages compressed, each in as many frames as before.
fn compress(frames: Vec<RawFrame>, bits: u8, takeover: bool) -> Vec<RawFrame> {
    let mut deflater = Deflater::default();
    let mut window = SlidingWindow::new(bits);
    let mut out: Vec<RawFrame> = Vec::new();
    let (mut payload, mut places) = (Vec::new(), Vec::new());
    for frame in frames {
        if frame.opcode < 8 {
            payload.extend(&frame.payload);
            places.push(out.len());
        }
        let ends_message = frame.fin && frame.opcode < 8;
        out.push(frame);
        if !ends_message {
            continue;
        }
        let payload = std::mem::take(&mut payload);
        let places = std::mem::take(&mut places);
        let compressed = deflater.compress(&payload, bits, window.as_slice());
        if let Some(compressed) = compressed {
            let part = compressed.len() / places.len();
            for (n, &place) in places.iter().enumerate() {
                let end = if n + 1 == places.len() {
                    compressed.len()
                } else {
                    (n + 1) * part
                };
                out[place].payload = compressed[n * part..end].into();
            }
            out[places[0]].opcode |= COMPRESSED;
            if takeover {
                window.push(&payload);
            }
        }
    }
    out
}

fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|at| at.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let mut start = 0;
    let pieces = ends.into_iter().map(|end| {
        let piece = &bytes[start..end];
        start = end;
        piece
    });
    pieces.collect()
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..12)
}

/// Bytes that compress, more or less.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let pattern = (vec(any::<u8>(), 1..600), 1..40usize);
    let text = (1..99u32, 1..3000usize, 0..9000usize);
    prop_oneof![
        pattern.prop_map(|(bytes, times)| bytes.repeat(times)),
        text.prop_map(|(seed, period, len)| words(seed, period, len)),
    ]
}

/// Compressed data with some bytes changed, or missing at the end.
fn nearly_deflate() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), 0..8u8), 0..3);
    let compressed = prop_oneof![
        payload().prop_map(|payload| {
            let compressed = Deflater::default()
                .compress(&payload, 15, &[])
                .map(Vec::from);
            compressed.unwrap_or(payload)
        }),
        vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            hex("f348cdc9c9070000"),
            hex("000500faff48656c6c6f00"),
            hex("030003000300"),
        ]),
    ];
    (compressed, changes, any::<Option<Index>>()).prop_map(|(mut data, changes, end)| {
        for (at, bit) in changes {
            if !data.is_empty() {
                let at = at.index(data.len());
                data[at] ^= 1 << bit;
            }
        }
        if let Some(end) = end {
            data.truncate(end.index(data.len() + 1));
        }
        data
    })
}

proptest! {
    #[test]
    fn a_compressed_conversation_is_read_however_it_is_cut(
        (frames, events) in conversation(true),
        bits in 8..=15u8,
        takeover: bool,
        cuts in cuts(),
    ) {
        let stream = wire(&compress(frames, bits, takeover));
        let receiver = || Receiver::new(Role::Server, takeover.then_some(bits));
        let events = (events, Ok(()));
        prop_assert_eq!(&receiver().read(&[&stream]), &events);
        prop_assert_eq!(&receiver().read(&cut(&stream, &cuts)), &events);
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&receiver().read(&single), &events);
    }

    #[test]
    fn how_a_compressed_stream_is_cut_never_matters(
        messages in vec((nearly_deflate(), any::<bool>(), any::<Option<Index>>()), 1..4),
        noise in damaged_stream(false),
        message_bytes in prop_oneof![0..3000usize, Just(1 << 20)],
        takeover: bool,
        cuts in cuts(),
    ) {
        let mut stream = Vec::new();
        for (data, is_text, end) in messages {
            let opcode = COMPRESSED | if is_text { TEXT } else { BINARY };
            match end.map(|end| data.split_at(end.index(data.len() + 1))) {
                Some((front, back)) => {
                    stream.extend(frame(opcode, false, front));
                    stream.extend(frame(0x9, true, b""));
                    stream.extend(frame(0, true, back));
                }
                None => stream.extend(frame(opcode, true, &data)),
            }
        }
        stream.extend(noise);
        let receiver = || {
            let mut receiver = Receiver::new(Role::Client, takeover.then_some(15));
            receiver.limits.message_bytes = message_bytes;
            receiver
        };
        let whole = receiver().read(&[&stream]);
        prop_assert_eq!(&receiver().read(&cut(&stream, &cuts)), &whole);
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&receiver().read(&single), &whole);
    }

    #[test]
    fn inflates_as_the_reference_does(data in nearly_deflate(), context in payload(), takeover: bool) {
        let mut receiver = Receiver::new(Role::Client, takeover.then_some(15));
        let mut remembered = &[][..];
        if let Some(window) = &mut receiver.window {
            window.push(&context);
            remembered = &context;
        }
        let received = receiver.read_message(COMPRESSED | BINARY, &data);
        let expected = match data.is_empty() {
            true => Some(vec![]),
            false => inflate_message(&data, remembered).map(|inflated| inflated.payload),
        };
        prop_assert_eq!(received.ok(), expected.map(Received::Binary));
    }

    #[test]
    fn deflates_so_that_the_reference_reads_it(
        payload in payload(),
        context in payload(),
        bits in 8..=15u8,
    ) {
        let mut window = SlidingWindow::new(bits);
        window.push(&context);
        let mut deflater = Deflater::default();
        for context in [&[][..], window.as_slice()] {
            let Some(compressed) = deflater.compress(&payload, bits, context) else {
                continue;
            };
            prop_assert!(compressed.len() < payload.len());
            let Some(Inflated { payload: inflated, distance_max }) =
                inflate_message(compressed, context)
            else {
                panic!("the reference refuses it");
            };
            prop_assert_eq!(&inflated, &payload);
            prop_assert!(distance_max <= 1 << bits);
        }
    }

    #[test]
    fn noise_never_panics(
        noise in vec(any::<u8>(), 0..300),
        headers in vec(vec(any::<u8>(), 0..60), 0..3),
        takeover: bool,
    ) {
        let stream = frame(COMPRESSED | BINARY, true, &noise);
        let mut receiver = Receiver::new(Role::Client, takeover.then_some(9));
        let _ = receiver.read(&[&stream, &noise]);
        let lines = || headers.iter().map(Vec::as_slice);
        let _ = negotiate(lines(), &DeflatePolicy::default());
        let _ = DeflateOffer::default().accept(lines());
    }

    #[test]
    fn both_sides_agree_on_any_offer(
        offer in (any::<bool>(), any::<bool>(), bits(), bits()),
        policy in (any::<bool>(), any::<bool>(), 9..=15u8),
    ) {
        let offer = DeflateOffer {
            server_no_context_takeover: offer.0,
            client_no_context_takeover: offer.1,
            server_max_window_bits: offer.2,
            client_max_window_bits: offer.3,
        };
        let policy = DeflatePolicy {
            enabled: true,
            server_context_takeover: policy.0,
            client_context_takeover: policy.1,
            window_bits_max: policy.2,
        };
        let agreed = negotiate([offer.to_string().as_bytes()], &policy).unwrap().unwrap();
        prop_assert!(agreed.server_window_bits() <= policy.window_bits_max);
        // A window that is kept between messages is never above the policy's.
        let client_bits = agreed.client_window_bits();
        prop_assert!(agreed.client_no_context_takeover || client_bits <= policy.window_bits_max);
        let accepted = offer.accept([agreed.to_string().as_bytes()]).unwrap().unwrap();
        prop_assert_eq!(accepted.server_window_bits(), agreed.server_window_bits());
        prop_assert!(accepted.client_window_bits() <= agreed.client_window_bits());
        let takeover = |params: &DeflateParams| {
            (params.server_no_context_takeover, params.client_no_context_takeover)
        };
        prop_assert_eq!(takeover(&accepted), takeover(&agreed));
    }
}

fn bits() -> impl Strategy<Value = Option<u8>> {
    prop::option::of(8..=15u8)
}

// ---- the server's frames ----

#[test]
fn frames_are_compressed_once_or_for_one() {
    let mut deflater = Deflater::default();
    let (first, second) = (words(1, 400, 400), words(1, 400, 300));
    let mut shared = Vec::new();
    for payload in [&first, &second] {
        assert!(deflater.encode_frame(&mut shared, Opcode::Text, payload, 15));
    }
    let expected = [&first, &second].map(|payload| Received::Text(payload.clone()));
    let expected = (expected.to_vec(), Ok(()));
    assert_eq!(Receiver::new(Role::Client, None).read(&[&shared]), expected);
    // It refers to nothing before it, so a client that keeps the context reads it too.
    assert_eq!(
        Receiver::new(Role::Client, Some(15)).read(&[&shared]),
        expected
    );

    let (mut own, mut window) = (Vec::new(), SlidingWindow::new(9));
    for payload in [&first, &second] {
        let is_smaller =
            deflater.encode_frame_with_takeover(&mut own, Opcode::Text, payload, &mut window);
        assert!(is_smaller);
    }
    assert!(own.len() < shared.len());
    assert!(window.heap_bytes() <= 512);
    assert_eq!(Receiver::new(Role::Client, Some(9)).read(&[&own]), expected);

    let random = random(500);
    let remembered = window.as_slice().to_vec();
    let before = own.len();
    for payload in [&random[..40], b"", b"x"] {
        assert!(!deflater.encode_frame(&mut own, Opcode::Binary, payload, 15));
        let is_smaller =
            deflater.encode_frame_with_takeover(&mut own, Opcode::Binary, payload, &mut window);
        assert!(!is_smaller);
    }
    assert_eq!(own.len(), before);
    assert_eq!(
        window.as_slice(),
        remembered,
        "only what went compressed is remembered"
    );
}

#[test]
fn a_client_compresses_too() {
    let payload = words(9, 500, 500);
    let mut deflater = Deflater::default();
    let compressed = deflater.compress(&payload, 12, &[]).unwrap();
    let mut out = Vec::new();
    encode_compressed_frame(&mut out, Opcode::Text, Some([1, 2, 3, 4]), compressed);
    let received = Receiver::new(Role::Server, None).read(&[&out]);
    assert_eq!(received, (vec![Received::Text(payload)], Ok(())));
}

// ---- negotiation ----

const DEFAULT: DeflatePolicy = DeflatePolicy {
    enabled: true,
    server_context_takeover: false,
    client_context_takeover: false,
    window_bits_max: 15,
};

const TAKEOVER: DeflatePolicy = DeflatePolicy {
    server_context_takeover: true,
    client_context_takeover: true,
    ..DEFAULT
};

const TAKEOVER_12: DeflatePolicy = DeflatePolicy {
    window_bits_max: 12,
    ..TAKEOVER
};

/// The answer to these header lines, less the name of the extension; `-` for none, the status for a
/// refusal.
fn answer(lines: &[&str], policy: &DeflatePolicy) -> String {
    match negotiate(lines.iter().map(|line| line.as_bytes()), policy) {
        Ok(Some(params)) => {
            let answer = params.to_string();
            let params = answer.strip_prefix("permessage-deflate").unwrap();
            params.trim_start_matches("; ").to_owned()
        }
        Ok(None) => "-".to_owned(),
        Err(error) => error.status.to_string(),
    }
}

/// `;` stands for `permessage-deflate;` at the start of an offer.
fn spelled(line: &str) -> String {
    let offers = line
        .split(',')
        .map(|offer| match offer.trim().strip_prefix(';') {
            Some("") => "permessage-deflate".to_owned(),
            Some(params) => format!("permessage-deflate; {params}"),
            None => offer.to_owned(),
        });
    offers.collect::<Vec<_>>().join(",")
}

#[test]
fn answers_offers() {
    const NONE: &str = "server_no_context_takeover; client_no_context_takeover";
    let none = |more: &str| format!("{NONE}; {more}");
    for (line, expected) in [
        (";", NONE.to_owned()),
        (";client_max_window_bits", NONE.to_owned()),
        (";server_no_context_takeover", NONE.to_owned()),
        (";client_no_context_takeover", NONE.to_owned()),
        (
            ";server_no_context_takeover;client_no_context_takeover",
            NONE.to_owned(),
        ),
        (";client_max_window_bits=15", NONE.to_owned()),
        (
            ";client_max_window_bits=14",
            none("client_max_window_bits=14"),
        ),
        (
            ";client_max_window_bits=8",
            none("client_max_window_bits=8"),
        ),
        (
            ";server_max_window_bits=15",
            none("server_max_window_bits=15"),
        ),
        (
            ";server_max_window_bits=10",
            none("server_max_window_bits=10"),
        ),
        (
            ";server_max_window_bits=9",
            none("server_max_window_bits=9"),
        ),
        (
            ";server_max_window_bits=8",
            none("server_max_window_bits=8"),
        ),
        (
            ";server_max_window_bits=\"11\"",
            none("server_max_window_bits=11"),
        ),
        (
            ";server_max_window_bits=\"1\\1\"",
            none("server_max_window_bits=11"),
        ),
        (
            ";client_max_window_bits=9;server_max_window_bits=10",
            none("server_max_window_bits=10; client_max_window_bits=9"),
        ),
        (
            "Permessage-DEFLATE; Client_Max_Window_Bits",
            NONE.to_owned(),
        ),
        // The first offer that is valid.
        (
            ";server_max_window_bits=10, ;",
            none("server_max_window_bits=10"),
        ),
        (
            ";server_max_window_bits=7, ;server_max_window_bits=9",
            none("server_max_window_bits=9"),
        ),
        (";unknown, ;client_max_window_bits=0, ;", NONE.to_owned()),
        ("x-webkit-deflate-frame, ;", NONE.to_owned()),
        (
            "permessage-bzip2; a=b, permessage-deflate-2, ;",
            NONE.to_owned(),
        ),
        (", ;client_max_window_bits ,,", NONE.to_owned()),
        // Offers to decline: unknown, repeated, out of range, malformed.
        (";unknown", "-".to_owned()),
        (";server_no_context_takeover=1", "-".to_owned()),
        (";server_no_context_takeover=true", "-".to_owned()),
        (";client_no_context_takeover=0", "-".to_owned()),
        (";server_max_window_bits", "-".to_owned()),
        (";server_max_window_bits=7", "-".to_owned()),
        (";server_max_window_bits=16", "-".to_owned()),
        (";server_max_window_bits=0", "-".to_owned()),
        (";server_max_window_bits=09", "-".to_owned()),
        (";server_max_window_bits=010", "-".to_owned()),
        (";server_max_window_bits=+9", "-".to_owned()),
        (";server_max_window_bits=-9", "-".to_owned()),
        (";server_max_window_bits=0x9", "-".to_owned()),
        (";server_max_window_bits=9.0", "-".to_owned()),
        (";server_max_window_bits=265", "-".to_owned()),
        (";client_max_window_bits=7", "-".to_owned()),
        (";client_max_window_bits=16", "-".to_owned()),
        (";client_max_window_bits=08", "-".to_owned()),
        (";client_max_window_bits=x", "-".to_owned()),
        (
            ";server_no_context_takeover;server_no_context_takeover",
            "-".to_owned(),
        ),
        (
            ";client_no_context_takeover;client_no_context_takeover",
            "-".to_owned(),
        ),
        (
            ";server_max_window_bits=9;server_max_window_bits=9",
            "-".to_owned(),
        ),
        (
            ";client_max_window_bits;client_max_window_bits=10",
            "-".to_owned(),
        ),
        (
            ";client_max_window_bits;CLIENT_MAX_WINDOW_BITS",
            "-".to_owned(),
        ),
        // Nothing asked for.
        ("", "-".to_owned()),
        (",,", "-".to_owned()),
        ("permessage-bzip2", "-".to_owned()),
        // No list at all.
        ("permessage-deflate;", "400".to_owned()),
        (
            "permessage-deflate; client_max_window_bits=",
            "400".to_owned(),
        ),
        (
            "permessage-deflate client_max_window_bits",
            "400".to_owned(),
        ),
        (
            "permessage-deflate; server_max_window_bits=\"9",
            "400".to_owned(),
        ),
        (
            "permessage-deflate; server_max_window_bits=\"9 \"",
            "400".to_owned(),
        ),
        ("permessage-deflate=1", "400".to_owned()),
        ("permessage-deflate, =", "400".to_owned()),
        ("\"permessage-deflate\"", "400".to_owned()),
    ] {
        assert_eq!(answer(&[&spelled(line)], &DEFAULT), expected, "{line}");
    }
    assert_eq!(answer(&[], &DEFAULT), "-");
    let lines = ["permessage-deflate; unknown", "other", "permessage-deflate"];
    assert_eq!(answer(&lines, &DEFAULT), NONE);
    assert_eq!(answer(&["permessage-deflate", ";"], &DEFAULT), "400");
}

#[test]
fn answers_as_the_policy_allows() {
    for (line, policy, expected) in [
        (";", TAKEOVER, ""),
        (
            ";server_no_context_takeover",
            TAKEOVER,
            "server_no_context_takeover",
        ),
        (
            ";client_no_context_takeover",
            TAKEOVER,
            "client_no_context_takeover",
        ),
        (";client_max_window_bits", TAKEOVER, ""),
        (
            ";client_max_window_bits=10",
            TAKEOVER,
            "client_max_window_bits=10",
        ),
        // A client that takes no limit would keep a window above it.
        (
            ";",
            TAKEOVER_12,
            "client_no_context_takeover; server_max_window_bits=12",
        ),
        (
            ";client_max_window_bits",
            TAKEOVER_12,
            "server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            ";client_max_window_bits=9; server_max_window_bits=15",
            TAKEOVER_12,
            "server_max_window_bits=12; client_max_window_bits=9",
        ),
        (
            ";server_max_window_bits=8",
            TAKEOVER_12,
            "client_no_context_takeover; server_max_window_bits=8",
        ),
        (
            ";",
            DeflatePolicy {
                enabled: false,
                ..DEFAULT
            },
            "-",
        ),
        (
            "a b",
            DeflatePolicy {
                enabled: false,
                ..DEFAULT
            },
            "400",
        ),
    ] {
        assert_eq!(answer(&[&spelled(line)], &policy), expected, "{line}");
    }
    assert_eq!(DeflatePolicy::default(), DEFAULT);
}

#[test]
fn a_client_accepts_only_answers_to_its_offer() {
    let plain = DeflateOffer::default();
    let browser = DeflateOffer {
        client_max_window_bits: Some(15),
        ..plain
    };
    let narrow = DeflateOffer {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: Some(10),
        client_max_window_bits: Some(12),
    };
    assert_eq!(plain.to_string(), "permessage-deflate");
    assert_eq!(
        browser.to_string(),
        "permessage-deflate; client_max_window_bits"
    );
    assert_eq!(
        narrow.to_string(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         server_max_window_bits=10; client_max_window_bits=12"
    );
    let granted = ";server_no_context_takeover;server_max_window_bits=";
    for (offer, line, is_accepted) in [
        (plain, ";", true),
        (
            plain,
            ";server_no_context_takeover;client_no_context_takeover",
            true,
        ),
        (plain, ";server_max_window_bits=9", true),
        (plain, ";client_max_window_bits=9", false),
        (plain, ";client_max_window_bits", false),
        (plain, ";server_max_window_bits", false),
        (plain, ";unknown", false),
        (
            plain,
            ";server_no_context_takeover;server_no_context_takeover",
            false,
        ),
        (plain, "permessage-bzip2", false),
        (plain, ";, ;", false),
        (plain, "permessage-deflate;", false),
        (browser, ";client_max_window_bits=9", true),
        (browser, ";client_max_window_bits", false),
        (narrow, ";", false),
        (narrow, &format!("{granted}10"), true),
        (
            narrow,
            &format!("{granted}8;client_max_window_bits=12"),
            true,
        ),
        (narrow, &format!("{granted}11"), false),
        (
            narrow,
            &format!("{granted}10;client_max_window_bits=13"),
            false,
        ),
        (narrow, ";server_no_context_takeover", false),
        (narrow, ";server_max_window_bits=10", false),
    ] {
        let accepted = offer.accept([spelled(line).as_bytes()]);
        assert_eq!(accepted.is_ok(), is_accepted, "{line}");
    }
    assert_eq!(plain.accept([]), Ok(None));
    assert_eq!(plain.accept([&b"a b"[..]]), Err(InvalidAnswer));
    // What the client announced holds, even where the answer does not repeat it.
    let params = narrow.accept([spelled(&format!("{granted}10")).as_bytes()]);
    let params = params.unwrap().unwrap();
    assert!(params.client_no_context_takeover);
    assert_eq!(params.client_window_bits(), 12);
}
