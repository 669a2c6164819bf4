//! What must hold for any input: how bytes are cut never matters, what is written is read back,
//! nothing panics.

mod proto_frames;

use longwire::proto::close::{CloseCode, parse_close};
use longwire::proto::frame::{
    FrameHeader, HEADER_BYTES_MAX, Opcode, decode_header, encode_close, encode_frame,
    encode_header, encode_masked_frame, frame_end,
};
use longwire::proto::handshake::{check_upgrade, read_client_handshake};
use longwire::proto::http::{
    ChunkedReader, HeadLimits, HeadScanner, HttpError, decode_segment, parse_request,
};
use longwire::proto::mask::apply_mask;
use longwire::proto::message::{MessageLimits, MessageReader, Role};
use longwire::proto::utf8::{InvalidUtf8, Utf8Checker};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use proto_frames::{Received, conversation, damaged_stream, read, wire};

const ROOMY: MessageLimits = MessageLimits {
    message_bytes: 1 << 20,
    frames_per_message: 64,
};

const ROOMY_HEAD: HeadLimits = HeadLimits {
    head_bytes: 8192,
    headers: 100,
    request_line_bytes: 4096,
};

/// `bytes` cut at these places, in order.
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

fn single_bytes(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.chunks(1).collect()
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..12)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

fn opcode() -> impl Strategy<Value = Opcode> {
    prop::sample::select(vec![
        Opcode::Continuation,
        Opcode::Text,
        Opcode::Binary,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ])
}

fn limits() -> impl Strategy<Value = MessageLimits> {
    (0..400usize, 1..5u32).prop_map(|(message_bytes, frames_per_message)| MessageLimits {
        message_bytes,
        frames_per_message,
    })
}

proptest! {
    #[test]
    fn messages_are_read_as_they_were_sent(
        masked: bool,
        (server, client) in (conversation(true), conversation(false)),
        cuts in cuts(),
    ) {
        let (role, (frames, events)) = match masked {
            true => (Role::Server, server),
            false => (Role::Client, client),
        };
        let stream = wire(&frames);
        let (received, end) = read(role, &ROOMY, &cut(&stream, &cuts));
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(received, events);
    }

    #[test]
    fn how_a_stream_is_cut_never_matters(
        masked: bool,
        (server, client) in (damaged_stream(true), damaged_stream(false)),
        cuts in cuts(),
        limits in prop_oneof![Just(ROOMY), limits()],
    ) {
        let (role, stream) = match masked {
            true => (Role::Server, server),
            false => (Role::Client, client),
        };
        let whole = read(role, &limits, &[&stream]);
        prop_assert_eq!(&read(role, &limits, &cut(&stream, &cuts)), &whole);
        if stream.len() < 2000 {
            prop_assert_eq!(&read(role, &limits, &single_bytes(&stream)), &whole);
        }
    }

    #[test]
    fn how_noise_is_cut_never_matters(
        role in role(),
        stream in noise(),
        limits in limits(),
    ) {
        let whole = read(role, &limits, &[&stream]);
        prop_assert_eq!(read(role, &limits, &single_bytes(&stream)), whole);
    }

    #[test]
    fn a_reader_never_panics_after_an_error(
        role in role(),
        pieces in vec(damaged_stream(true), 0..4),
        limits in limits(),
    ) {
        let mut reader = MessageReader::new();
        for mut piece in pieces {
            let mut at = 0;
            while at < piece.len() {
                at += match reader.next(role, &limits, &mut piece[at..]) {
                    Ok(step) => step.consumed,
                    Err(_) => 1 + piece.len() / 50,
                };
            }
        }
    }

    #[test]
    fn headers_are_read_as_they_were_written(
        fin: bool,
        opcode in opcode(),
        mask: Option<[u8; 4]>,
        payload_len in prop_oneof![0..130u64, 0..70_000u64, 0..1u64 << 63],
    ) {
        let control = opcode.is_control();
        let header = FrameHeader {
            fin: fin || control,
            rsv1: false,
            opcode,
            mask,
            payload_len: if control { payload_len % 126 } else { payload_len },
        };
        let mut out = Vec::new();
        encode_header(&mut out, header.fin, opcode, mask, header.payload_len as usize);
        prop_assert!(out.len() <= HEADER_BYTES_MAX);
        prop_assert_eq!(decode_header(&out), Ok(Some((header, out.len()))));
        for cut in 0..out.len() {
            prop_assert_eq!(decode_header(&out[..cut]), Ok(None));
        }
    }

    #[test]
    fn whole_frames_are_read_as_they_were_written(
        payloads in vec(vec(any::<u8>(), 0..300), 0..8),
        mask: [u8; 4],
    ) {
        let (mut plain, mut masked) = (Vec::new(), Vec::new());
        for payload in &payloads {
            encode_frame(&mut plain, Opcode::Binary, payload);
            encode_masked_frame(&mut masked, Opcode::Binary, mask, payload);
        }
        let expected: Vec<_> = payloads.into_iter().map(Received::Binary).collect();
        prop_assert_eq!(read(Role::Client, &ROOMY, &[&plain]), (expected.clone(), Ok(())));
        prop_assert_eq!(read(Role::Server, &ROOMY, &[&masked]), (expected, Ok(())));
    }

    #[test]
    fn any_close_that_is_written_can_be_read(reason: String) {
        let mut out = Vec::new();
        encode_close(&mut out, CloseCode::GoingAway, &reason);
        let (received, end) = read(Role::Client, &ROOMY, &[&out]);
        prop_assert_eq!(end, Ok(()));
        let Some(Received::Close(Some((1001, read_back)))) = received.first() else {
            panic!("{received:?}");
        };
        prop_assert!(reason.starts_with(read_back.as_str()));
        prop_assert!(reason.len() <= 123 || read_back.len() > 119);
    }

    #[test]
    fn an_outbox_is_cut_between_frames(payload_lens in vec(0..300usize, 0..6), sent: Index) {
        let mut frames = Vec::new();
        let mut boundaries = vec![0];
        for len in payload_lens {
            encode_frame(&mut frames, Opcode::Binary, &vec![0; len]);
            boundaries.push(frames.len());
        }
        let sent = sent.index(frames.len() + 1);
        let next = boundaries.into_iter().find(|&boundary| boundary >= sent);
        prop_assert_eq!(Some(frame_end(&frames, sent)), next);
    }

    #[test]
    fn masking_is_what_the_rfc_says(
        payload in vec(any::<u8>(), 0..200),
        mask: [u8; 4],
        phase in 0..9usize,
    ) {
        let bytes = payload.iter().enumerate();
        let naive: Vec<u8> = bytes.map(|(at, byte)| byte ^ mask[(at + phase) % 4]).collect();
        let mut masked = payload;
        apply_mask(&mut masked, mask, phase);
        prop_assert_eq!(masked, naive);
    }

    #[test]
    fn text_is_refused_at_the_first_impossible_byte(text in nearly_text(), cuts in cuts()) {
        let mut checker = Utf8Checker::new();
        let mut naive = NaiveUtf8::default();
        for byte in &text {
            let verdict = naive.feed(*byte);
            prop_assert_eq!(checker.feed(&[*byte]).is_ok(), verdict);
            if !verdict {
                break;
            }
            prop_assert_eq!(checker.finish().is_ok(), naive.missing.is_empty());
        }
        let mut checker = Utf8Checker::new();
        let pieces = cut(&text, &cuts);
        let in_pieces = pieces.into_iter().try_for_each(|piece| checker.feed(piece));
        let verdict = in_pieces.and_then(|()| checker.finish());
        let expected = std::str::from_utf8(&text).map(drop).map_err(|_| InvalidUtf8);
        prop_assert_eq!(verdict, expected);
    }

    #[test]
    fn how_a_head_is_cut_never_matters(
        head in nearly_head(),
        cuts in cuts(),
        limits in head_limits(),
    ) {
        let whole = HeadScanner::new().scan(&head, &limits);
        let pieces = cut(&head, &cuts);
        prop_assert_eq!(scan(&pieces, &limits), whole);
        prop_assert_eq!(scan(&single_bytes(&head), &limits), whole);
        if let Ok(Some(len)) = whole {
            let head = &head[..len];
            prop_assert!(len <= limits.head_bytes);
            prop_assert!(is_strict(head), "{}", head.escape_ascii());
            if let Ok(request) = parse_request(head) {
                check_upgrade(&request);
                request.query_params("a").for_each(drop);
            }
        }
    }

    #[test]
    fn a_chunked_body_is_read_as_it_was_written(
        chunks in vec(vec(any::<u8>(), 1..40), 0..6),
        extended: bool,
        cuts in cuts(),
        rest in vec(any::<u8>(), 0..9),
    ) {
        let mut stream = Vec::new();
        for chunk in &chunks {
            let size = match extended {
                true => format!("{:03x};a=b\r\n", chunk.len()),
                false => format!("{:X}\r\n", chunk.len()),
            };
            stream.extend([size.as_bytes(), chunk, b"\r\n"].concat());
        }
        stream.extend(b"0\r\nA: b\r\n\r\n");
        let len = stream.len();
        stream.extend(rest);
        prop_assert_eq!(dechunk(&cut(&stream, &cuts)), Ok(Some((chunks.concat(), len))));
    }

    #[test]
    fn chunks_are_read_as_naively_and_however_they_are_cut(body in nearly_chunked(), cuts in cuts()) {
        let whole = dechunk(&[&body]);
        prop_assert_eq!(&dechunk(&cut(&body, &cuts)), &whole);
        prop_assert_eq!(&dechunk(&single_bytes(&body)), &whole);
        prop_assert_eq!(whole.ok().flatten(), naive_dechunk(&body));
    }

    #[test]
    fn nothing_panics_on_noise(
        noise in vec(any::<u8>(), 0..200),
        text: String,
        sent in 0..300usize,
    ) {
        let _ = decode_header(&noise);
        let _ = parse_close(&noise);
        let _ = parse_request(&noise);
        let _ = read_client_handshake(&noise, &text, None);
        let _ = decode_segment(&text);
        prop_assert!(frame_end(&noise, sent) <= noise.len());
        let _ = HeadScanner::new().scan(&noise, &ROOMY_HEAD);
        let _ = dechunk(&[&noise]);
    }
}

/// Bytes that look like short unmasked frames more often than chance has it.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let header = prop::sample::select(b"\x00\x01\x02\x80\x81\x82\x88\x89\x7e".to_vec());
    vec(prop_oneof![header, any::<u8>()], 0..60)
}

/// Text, some of its bytes changed.
fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
    let chars = prop::sample::select(
        "aé€😀\u{7ff}\u{800}\u{d7ff}\u{e000}\u{10000}\u{10ffff}"
            .chars()
            .collect::<Vec<_>>(),
    );
    let text = vec(chars, 0..40).prop_map(String::from_iter);
    let changes = vec((any::<Index>(), 0x70..=0xffu8), 0..2);
    (text, changes).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..(at + 1).min(bytes.len()), [byte]);
        }
        bytes
    })
}

/// UTF-8 as the table in section 4 of RFC 3629 has it: the ranges of the bytes that a character
/// still lacks.
#[derive(Default)]
struct NaiveUtf8 {
    missing: Vec<std::ops::RangeInclusive<u8>>,
}

impl NaiveUtf8 {
    fn feed(&mut self, byte: u8) -> bool {
        if !self.missing.is_empty() {
            return self.missing.remove(0).contains(&byte);
        }
        let tail = || 0x80..=0xbf;
        self.missing = match byte {
            0x00..=0x7f => vec![],
            0xc2..=0xdf => vec![tail()],
            0xe0 => vec![0xa0..=0xbf, tail()],
            0xe1..=0xec | 0xee..=0xef => vec![tail(), tail()],
            0xed => vec![0x80..=0x9f, tail()],
            0xf0 => vec![0x90..=0xbf, tail(), tail()],
            0xf1..=0xf3 => vec![tail(), tail(), tail()],
            0xf4 => vec![0x80..=0x8f, tail(), tail()],
            _ => return false,
        };
        true
    }
}

/// Bytes that are likely to be a request head, or close to one.
fn nearly_head() -> impl Strategy<Value = Vec<u8>> {
    let parts: Vec<&[u8]> = vec![
        b"GET / HTTP/1.1\r\n", b"POST /a?a=%41+b HTTP/1.0\r\n", b"Host: h\r\n", b"A:\tb \r\n", b"\r\n", b"\r", b"\n", b" ",
        b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: websocket\r\n", b"x", b"\0", b"\xe9", b"\x7f",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n",
    ];
    let parts = vec(prop::sample::select(parts), 0..8);
    (any::<bool>(), parts).prop_map(|(starts_well, parts)| {
        let start: &[u8] = if starts_well {
            b"GET / HTTP/1.1\r\nHost: h\r\n"
        } else {
            b""
        };
        [start, &parts.concat(), b"\r\n\r\n"].concat()
    })
}

fn head_limits() -> impl Strategy<Value = HeadLimits> {
    let tight = (0..80usize, 0..4usize, 0..20usize).prop_map(
        |(head_bytes, headers, request_line_bytes)| HeadLimits {
            head_bytes,
            headers,
            request_line_bytes,
        },
    );
    prop_oneof![Just(ROOMY_HEAD), tight]
}

fn scan(pieces: &[&[u8]], limits: &HeadLimits) -> Result<Option<usize>, HttpError> {
    let mut scanner = HeadScanner::new();
    let mut received = Vec::new();
    for piece in pieces {
        received.extend_from_slice(piece);
        match scanner.scan(&received, limits) {
            Ok(None) => {}
            verdict => return verdict,
        }
    }
    // Without a byte there is still a verdict on the limits.
    scanner.scan(&received, limits)
}

/// Whether a head ends at its first empty line but for one in front, folds no line, and holds no
/// control byte but CRLF and tabs.
fn is_strict(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let Some(lines) = head.strip_suffix(b"\r\n\r\n") else {
        return false;
    };
    let lines = String::from_utf8_lossy(lines);
    let is_control = |c: char| c.is_ascii_control() && c != '\t';
    let is_line = |line: &str| !line.is_empty() && !line.contains(is_control);
    let is_folded = |line: &str| line.starts_with([' ', '\t']);
    lines.split("\r\n").all(is_line) && !lines.split("\r\n").skip(1).any(is_folded)
}

/// Bytes that are likely to be a chunked body, or close to one.
fn nearly_chunked() -> impl Strategy<Value = Vec<u8>> {
    let parts: Vec<&[u8]> = vec![
        b"1\r\na\r\n",
        b"0a\r\n0123456789\r\n",
        b"3;x=y\r\nabc\r\n",
        b"2\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"0\r\n",
        b" ",
        b";",
        b"A: b\r\n",
        b"F",
        b"g",
        b"0000000000000000",
        b"\r\n\r\n",
        b":",
        b"ffffffffffffffff\r\n",
    ];
    let parts = vec(prop::sample::select(parts), 0..8);
    parts.prop_map(|parts| [&parts.concat()[..], b"0\r\n\r\n"].concat())
}

/// The body and how many bytes it took.
fn dechunk(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
    let mut reader = ChunkedReader::new();
    let (mut body, mut total) = (Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            let step = reader.next(&piece[at..])?;
            assert!(step.consumed > 0 && step.data.end <= step.consumed);
            body.extend(&piece[at..][step.data]);
            at += step.consumed;
            if step.done {
                return Ok(Some((body, total + at)));
            }
        }
        total += at;
    }
    Ok(None)
}

/// A decoder that has the whole body at hand; `None` for what is not whole or not valid.
fn naive_dechunk(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line = |at: usize| {
        let len = input[at..]
            .windows(2)
            .position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&input[at..at + len]).ok()?;
        (!line.contains(['\r', '\n'])).then_some((line, at + len + 2))
    };
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let (size_line, data_at) = line(at)?;
        let digits = size_line.split(';').next()?;
        if digits.len() > 16 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::try_from(u64::from_str_radix(digits, 16).ok()?).ok()?;
        at = data_at;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        body.extend(input.get(at..end)?);
        at = end + 2;
        if input.get(end..at)? != b"\r\n" {
            return None;
        }
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        if trailer.is_empty() {
            return Some((body, at));
        }
        let (name, _) = trailer.split_once(':')?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
    }
}
