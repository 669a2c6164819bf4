//! RFC 6455 as a table: every opcode, every reserved bit, every close code, fragments in every order, text in every
//! shape UTF-8 can have or lack, messages up to 16 MiB.
//!
//! The numbers in the headings are those of the public Autobahn list of cases, which these follow.

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, Delivery, End, FIN, PING, PONG, Server, TEXT, WebSocket,
    close_payload, masked_frame, upgrade_request,
};

/// What the server must do, in order, with the frames of one case.
#[derive(Clone, Debug)]
enum Expected {
    /// Send this whole message or control frame.
    Frame(u8, Vec<u8>),
    /// Send Close with this code and then nothing more.
    Closed(u16),
}

fn text(text: &str) -> Expected {
    Expected::Frame(TEXT, text.into())
}

fn binary(payload: &[u8]) -> Expected {
    Expected::Frame(BINARY, payload.into())
}

fn pong(payload: &[u8]) -> Expected {
    Expected::Frame(PONG, payload.into())
}

const PROTOCOL_ERROR: Expected = Expected::Closed(1002);

/// What a case is about, the frames of the client, and what it gets for them.
type Conversation = (&'static str, Vec<Vec<u8>>, Vec<Expected>);

/// Sends the frames on fresh connections (in one write, frame by frame, byte by byte) and checks each answer. A case that
/// expects no Close ends with one of the client's, so that nothing unexpected can be left.
fn case(server: &Server, what: &str, frames: &[Vec<u8>], expected: &[Expected]) {
    let mut socket = server.websocket("/echo");
    for frame in frames {
        socket.peer.offer(frame, Delivery::Whole);
    }
    check(socket, what, expected);
    for delivery in Delivery::BOTH {
        let mut socket = server.websocket("/echo");
        socket.peer.offer(frames.concat(), delivery);
        check(socket, what, expected);
    }
}

fn check(mut socket: WebSocket, what: &str, expected: &[Expected]) {
    for expected in expected {
        let frame = socket
            .try_frame()
            .unwrap_or_else(|end| panic!("{what}: expected {expected:?}, got {end:?}"));
        match expected {
            Expected::Frame(opcode, payload) => {
                let same = frame.first == FIN | opcode && frame.payload == *payload;
                assert!(same, "{what}: expected {expected:?}, got {frame:?}");
            }
            Expected::Closed(code) => {
                assert_eq!(frame.close_code(), *code, "{what}");
                return socket.peer.expect_end();
            }
        }
    }
    socket.send(FIN | CLOSE, close_payload(1000, b""));
    let close = socket
        .try_frame()
        .unwrap_or_else(|end| panic!("{what}: {end:?} instead of a Close"));
    assert_eq!(close.close_code(), 1000, "{what}");
    assert_eq!(
        socket.peer.read_to_end(),
        (Vec::new(), End::Eof),
        "{what}: TCP must end in order"
    );
}

fn echo_server() -> Server {
    Server::with(&["echo=true"])
}

/// Limits raised to what the largest cases need.
fn roomy_echo_server() -> Server {
    Server::with(&[
        "echo=true",
        "websocket.message_bytes=16777216",
        "websocket.frames_per_message=1048576",
    ])
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// The payload as one message of fragments of this length.
fn fragmented(opcode: u8, payload: &[u8], fragment_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + payload.len() / fragment_bytes * 8 + 16);
    let count = payload.len().div_ceil(fragment_bytes);
    for (index, fragment) in payload.chunks(fragment_bytes).enumerate() {
        let opcode = if index == 0 { opcode } else { CONTINUATION };
        let fin = if index + 1 == count { FIN } else { 0 };
        out.extend(masked_frame(fin | opcode, fragment));
    }
    out
}

// ---- 1: framing

#[test]
fn messages_around_every_length_boundary_are_echoed() {
    let server = echo_server();
    for len in [0, 125, 126, 127, 128, 65535, 65536] {
        let (letters, bytes) = ("*".repeat(len), bytes(len));
        let frames = [
            masked_frame(FIN | TEXT, letters.as_bytes()),
            masked_frame(FIN | BINARY, &bytes),
        ];
        let expected = [text(&letters), binary(&bytes)];
        case(&server, &format!("{len} bytes"), &frames, &expected);
    }
}

#[test]
fn a_message_chopped_at_odd_places_is_echoed() {
    let server = echo_server();
    let payload = bytes(65536);
    for chop_bytes in [3, 997, 4093, 65541] {
        let mut socket = server.websocket("/echo");
        let frame = masked_frame(FIN | BINARY, &payload);
        socket.peer.offer(frame, Delivery::Chopped(chop_bytes));
        socket.expect(BINARY, &payload);
    }
}

// ---- 2: pings and pongs

#[test]
fn control_payloads_of_up_to_125_bytes_are_echoed_and_none_longer() {
    let server = echo_server();
    for payload in [&b""[..], b"Hello", &[0, 0xff, 0xfe, 0xfd, 0], &[0xfe; 125]] {
        let ping = masked_frame(FIN | PING, payload);
        case(&server, "a ping", &[ping], &[pong(payload)]);
    }
    for opcode in [PING, PONG, CLOSE] {
        for len in [126, 65536] {
            let frame = masked_frame(FIN | opcode, &vec![0; len]);
            let what = format!("opcode {opcode} of {len} bytes");
            case(&server, &what, &[frame], &[PROTOCOL_ERROR]);
        }
    }
}

#[test]
fn pongs_nobody_asked_for_are_ignored() {
    let server = echo_server();
    let frames = [
        masked_frame(FIN | PONG, b""),
        masked_frame(FIN | PONG, b"unsolicited"),
        masked_frame(FIN | PING, b"our ping"),
    ];
    case(&server, "unsolicited pongs", &frames, &[pong(b"our ping")]);
}

#[test]
fn pings_within_the_limit_are_answered_each_and_in_order() {
    let server = Server::with(&["echo=true", "websocket.control_frames_per_s=50"]);
    // Their number and the closing handshake stay below the limit even if all arrive in one second.
    let payloads: Vec<_> = (0..45).map(|i| format!("payload-{i}")).collect();
    let frames: Vec<_> = payloads
        .iter()
        .map(|payload| masked_frame(FIN | PING, payload.as_bytes()))
        .collect();
    let pongs: Vec<_> = payloads.iter().map(|p| pong(p.as_bytes())).collect();
    case(&server, "a burst of pings", &frames, &pongs);
}

// ---- 3: reserved bits

#[test]
fn every_reserved_bit_on_every_opcode_is_1002() {
    let server = echo_server();
    for rsv in 1..=7u8 {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            let frames = [
                masked_frame(FIN | TEXT, b"before"),
                masked_frame(FIN | rsv << 4 | opcode, b""),
                masked_frame(FIN | PING, b"after"),
            ];
            let what = format!("reserved bits {rsv} on opcode {opcode}");
            case(&server, &what, &frames, &[text("before"), PROTOCOL_ERROR]);
        }
        let frames = [
            masked_frame(TEXT, b"first"),
            masked_frame(FIN | rsv << 4 | CONTINUATION, b"last"),
        ];
        let what = format!("reserved bits {rsv} on a continuation");
        case(&server, &what, &frames, &[PROTOCOL_ERROR]);
    }
}

// ---- 4: opcodes

#[test]
fn every_reserved_opcode_is_1002() {
    let server = echo_server();
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        for (fin, payload) in [(FIN, &b""[..]), (FIN, b"Hello"), (0, b"Hello")] {
            let frames = [
                masked_frame(FIN | TEXT, b"before"),
                masked_frame(fin | opcode, payload),
                masked_frame(FIN | PING, b"after"),
            ];
            let what = format!("opcode {opcode:#x}");
            case(&server, &what, &frames, &[text("before"), PROTOCOL_ERROR]);
        }
    }
}

// ---- masks

#[test]
fn an_unmasked_frame_of_any_opcode_is_1002() {
    let server = echo_server();
    for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
        let unmasked = vec![FIN | opcode, 0];
        case(&server, "an unmasked frame", &[unmasked], &[PROTOCOL_ERROR]);
    }
    let frames = [masked_frame(TEXT, b"a"), b"\x80\x01b".to_vec()];
    case(
        &server,
        "an unmasked continuation",
        &frames,
        &[PROTOCOL_ERROR],
    );
}

#[test]
fn any_masking_key_will_do() {
    let server = echo_server();
    for key in [[0; 4], [0xff; 4], [1, 2, 3, 4], [0x80, 0, 0, 0x7f]] {
        let payload: Vec<u8> = (*b"any key").into();
        let masked = payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k);
        let mut frame = vec![FIN | TEXT, 0x80 | payload.len() as u8];
        frame.extend(key);
        frame.extend(masked);
        case(&server, "a masking key", &[frame], &[text("any key")]);
    }
}

// ---- lengths

#[test]
fn a_length_must_be_in_its_shortest_form_and_below_two_to_the_63() {
    let server = echo_server();
    let header = |length: &[u8]| [&[FIN | BINARY], length, &[0; 4]].concat();
    let lengths: &[&[u8]] = &[
        &[0xFE, 0, 0],
        &[0xFE, 0, 1],
        &[0xFE, 0, 125],
        &[0xFF, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xFF, 0, 0, 0, 0, 0, 0, 0, 125],
        &[0xFF, 0, 0, 0, 0, 0, 0, 0, 126],
        &[0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
        &[0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0],
        &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for length in lengths {
        let what = format!("length {length:02x?}");
        case(&server, &what, &[header(length)], &[PROTOCOL_ERROR]);
    }
}

#[test]
fn a_length_over_the_limit_is_refused_from_the_header_whatever_it_claims() {
    let server = echo_server();
    for length in [65537, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1] {
        let length: u64 = length;
        let mut header = vec![FIN | BINARY, 0xFF];
        header.extend(length.to_be_bytes());
        header.extend([0; 4]);
        let what = format!("a length of {length}");
        case(&server, &what, &[header], &[Expected::Closed(1009)]);
    }
}

// ---- 5: fragments

#[test]
fn control_frames_must_not_be_fragmented() {
    let server = echo_server();
    for opcode in [PING, PONG, CLOSE] {
        let frames = [
            masked_frame(opcode, b""),
            masked_frame(FIN | CONTINUATION, b""),
        ];
        case(
            &server,
            "a control frame in two",
            &frames,
            &[PROTOCOL_ERROR],
        );
    }
}

#[test]
fn a_message_of_any_fragments_is_one_message() {
    let server = echo_server();
    let messages: &[&[&str]] = &[
        &["fragment1", "fragment2"],
        &["", ""],
        &["", "", ""],
        &["", "middle", ""],
        &["1", "2", "3", "4", "5"],
    ];
    for fragments in messages {
        for opcode in [TEXT, BINARY] {
            let mut frames = vec![masked_frame(opcode, fragments[0].as_bytes())];
            for fragment in &fragments[1..fragments.len() - 1] {
                frames.push(masked_frame(CONTINUATION, fragment.as_bytes()));
            }
            let last = fragments[fragments.len() - 1];
            frames.push(masked_frame(FIN | CONTINUATION, last.as_bytes()));
            let whole = Expected::Frame(opcode, fragments.concat().into());
            case(&server, &format!("{fragments:?}"), &frames, &[whole]);
        }
    }
}

#[test]
fn control_frames_between_fragments_are_dealt_with_at_once() {
    let server = echo_server();
    let frames = [
        masked_frame(TEXT, b"fragment1 "),
        masked_frame(CONTINUATION, b"fragment2 "),
        masked_frame(FIN | PING, b"ping 1"),
        masked_frame(FIN | PONG, b"ignored"),
        masked_frame(CONTINUATION, b"fragment3 "),
        masked_frame(CONTINUATION, b"fragment4 "),
        masked_frame(FIN | PING, b"ping 2"),
        masked_frame(FIN | CONTINUATION, b"fragment5"),
    ];
    let whole = text("fragment1 fragment2 fragment3 fragment4 fragment5");
    let expected = [pong(b"ping 1"), pong(b"ping 2"), whole];
    case(&server, "pings within a message", &frames, &expected);
}

#[test]
fn fragments_out_of_order_are_1002() {
    let server = echo_server();
    for fin in [0, FIN] {
        let what = format!("a continuation of nothing, first byte {fin:#x}");
        let frames = [
            masked_frame(fin | CONTINUATION, b"nothing to continue"),
            masked_frame(FIN | TEXT, b"after"),
        ];
        case(&server, &what, &frames, &[PROTOCOL_ERROR]);

        let frames = [
            masked_frame(TEXT, b"frag"),
            masked_frame(FIN | CONTINUATION, b"ments"),
            masked_frame(fin | CONTINUATION, b"nothing to continue"),
            masked_frame(FIN | TEXT, b"after"),
        ];
        case(
            &server,
            &what,
            &frames,
            &[text("fragments"), PROTOCOL_ERROR],
        );

        for opcode in [TEXT, BINARY] {
            let frames = [
                masked_frame(TEXT, b"begun"),
                masked_frame(fin | opcode, b"another"),
            ];
            let what = format!("opcode {opcode} within a message, first byte {fin:#x}");
            case(&server, &what, &frames, &[PROTOCOL_ERROR]);
        }
    }
}

// ---- 6: UTF-8

/// Texts that are UTF-8: the samples, the edges of each length, characters that are none.
const VALID_UTF8: &[&[u8]] = &[
    b"Hello-\xC2\xB5@\xC3\x9F\xC3\xB6\xC3\xA4\xC3\xBC\xC3\xA0\xC3\xA1-UTF-8!!",
    "κόσμε".as_bytes(),
    "hello\u{24b62}world".as_bytes(),
    b"\x00",
    b"\xC2\x80",
    b"\xE0\xA0\x80",
    b"\xF0\x90\x80\x80",
    b"\x7F",
    b"\xDF\xBF",
    b"\xEF\xBF\xBF",
    b"\xF4\x8F\xBF\xBF",
    b"\xED\x9F\xBF",
    b"\xEE\x80\x80",
    b"\xEF\xBF\xBD",
    b"\xEF\xBF\xBE",
    b"\xEF\xB7\x90",
    b"\xF0\x9F\xBF\xBE",
    b"\xF0\x9F\xBF\xBF",
    b"\xF4\x8F\xBF\xBE",
    b"\xEF\xBB\xBF",
];

/// Sequences that are not, behind which a valid text may go on.
const INVALID_UTF8: &[(&str, &[u8])] = &[
    (
        "a surrogate amid text",
        b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited",
    ),
    ("five bytes, least", b"\xF8\x88\x80\x80\x80"),
    ("six bytes, least", b"\xFC\x84\x80\x80\x80\x80"),
    ("four bytes, most", b"\xF7\xBF\xBF\xBF"),
    ("five bytes, most", b"\xFB\xBF\xBF\xBF\xBF"),
    ("six bytes, most", b"\xFD\xBF\xBF\xBF\xBF\xBF"),
    ("above U+10FFFF", b"\xF4\x90\x80\x80"),
    ("a continuation byte", b"\x80"),
    ("the last continuation byte", b"\xBF"),
    ("two continuation bytes", b"\x80\xBF"),
    ("seven continuation bytes", b"\x80\xBF\x80\xBF\x80\xBF\x80"),
    ("a lonely start of two", b"\xC2 "),
    ("a lonely start of three", b"\xE1 "),
    ("a lonely start of four", b"\xF1 "),
    ("a lonely start of five", b"\xF8 "),
    ("a lonely start of six", b"\xFC "),
    ("the last byte missing of three", b"\xE0\xA0 "),
    ("the last byte missing of four", b"\xF0\x90\x80 "),
    ("the byte 0xFE", b"\xFE"),
    ("the byte 0xFF", b"\xFF"),
    ("both of them", b"\xFE\xFE\xFF\xFF"),
    ("overlong slash in two", b"\xC0\xAF"),
    ("overlong slash in three", b"\xE0\x80\xAF"),
    ("overlong slash in four", b"\xF0\x80\x80\xAF"),
    ("overlong slash in five", b"\xF8\x80\x80\x80\xAF"),
    ("overlong slash in six", b"\xFC\x80\x80\x80\x80\xAF"),
    ("overlong, most in two", b"\xC1\xBF"),
    ("overlong, most in three", b"\xE0\x9F\xBF"),
    ("overlong, most in four", b"\xF0\x8F\xBF\xBF"),
    ("overlong NUL in two", b"\xC0\x80"),
    ("overlong NUL in three", b"\xE0\x80\x80"),
    ("overlong NUL in four", b"\xF0\x80\x80\x80"),
    ("surrogate D800", b"\xED\xA0\x80"),
    ("surrogate DB7F", b"\xED\xAD\xBF"),
    ("surrogate DB80", b"\xED\xAE\x80"),
    ("surrogate DBFF", b"\xED\xAF\xBF"),
    ("surrogate DC00", b"\xED\xB0\x80"),
    ("surrogate DF80", b"\xED\xBE\x80"),
    ("surrogate DFFF", b"\xED\xBF\xBF"),
    ("a pair of surrogates", b"\xED\xA0\x80\xED\xB0\x80"),
];

const NOT_UTF8: Expected = Expected::Closed(1007);

#[test]
fn valid_text_is_echoed_however_it_is_fragmented() {
    let server = echo_server();
    for valid in VALID_UTF8 {
        let what = format!("{valid:02x?}");
        let echoed = Expected::Frame(TEXT, valid.to_vec());
        let whole = masked_frame(FIN | TEXT, valid);
        case(&server, &what, &[whole], std::slice::from_ref(&echoed));
        for fragment_bytes in [1, 2, 3] {
            let frames = fragmented(TEXT, valid, fragment_bytes);
            case(&server, &what, &[frames], std::slice::from_ref(&echoed));
        }
    }
}

#[test]
fn text_that_is_not_utf_8_is_1007() {
    let server = echo_server();
    for (what, invalid) in INVALID_UTF8 {
        let text = [b"valid \xCE\xBA ", *invalid, b" valid"].concat();
        let whole = masked_frame(FIN | TEXT, &text);
        case(&server, what, &[whole], &[NOT_UTF8]);
        let bytewise = fragmented(TEXT, &text, 1);
        case(&server, what, &[bytewise], &[NOT_UTF8]);
    }
}

#[test]
fn text_that_ends_within_a_character_is_1007() {
    let server = echo_server();
    for cut in [&b"\xCE"[..], b"\xE1\xBD", b"\xF0\x9F\x98", b"ok \xE2\x82"] {
        let whole = masked_frame(FIN | TEXT, cut);
        case(&server, "a cut character", &[whole], &[NOT_UTF8]);
        let bytewise = fragmented(TEXT, cut, 1);
        case(&server, "a cut character", &[bytewise], &[NOT_UTF8]);
        let empty_end = [
            masked_frame(TEXT, cut),
            masked_frame(FIN | CONTINUATION, b""),
        ];
        case(&server, "a cut character", &empty_end, &[NOT_UTF8]);
    }
}

#[test]
fn binary_messages_may_hold_anything() {
    let server = echo_server();
    for (what, invalid) in INVALID_UTF8 {
        let frame = masked_frame(FIN | BINARY, invalid);
        case(&server, what, &[frame], &[binary(invalid)]);
    }
}

/// Nothing is sent behind the bad byte: the Close can only be an answer to that byte.
#[test]
fn the_first_bad_byte_is_refused_before_the_frame_or_the_message_ends() {
    let server = echo_server();
    for bad in [
        &b"\xCE\xBA\xE1\xBD\xB9\xF4\x90"[..],
        b"\xED\xA0",
        b"\xC0",
        b"a\x80",
    ] {
        // The rest of the frame never comes.
        let mut cut_frame = masked_frame(FIN | TEXT, &[bad, &[b'x'; 60]].concat());
        cut_frame.truncate(cut_frame.len() - 60);
        case(&server, "a cut frame", &[cut_frame], &[NOT_UTF8]);
        // The rest of the message never comes.
        let (last, before) = bad.split_last().expect("not empty");
        let fragments = [
            masked_frame(TEXT, before),
            masked_frame(CONTINUATION, &[*last]),
        ];
        case(&server, "a cut message", &fragments, &[NOT_UTF8]);
    }
}

// ---- 7: closing

#[test]
fn a_close_is_answered_and_what_follows_it_ignored() {
    let server = echo_server();
    let hello = masked_frame(FIN | TEXT, b"Hello");
    let close = masked_frame(FIN | CLOSE, &close_payload(1000, b""));
    let ping = masked_frame(FIN | PING, b"late");
    let closed = Expected::Closed(1000);
    let cases: &[Conversation] = &[
        (
            "a message, then Close",
            vec![hello.clone(), close.clone()],
            vec![text("Hello"), closed.clone()],
        ),
        (
            "two Closes",
            vec![close.clone(), close.clone()],
            vec![closed.clone()],
        ),
        (
            "a ping after Close",
            vec![close.clone(), ping],
            vec![closed.clone()],
        ),
        (
            "text after Close",
            vec![close.clone(), hello],
            vec![closed.clone()],
        ),
        (
            "a protocol error after Close",
            vec![close.clone(), masked_frame(0xF0, b"")],
            vec![closed.clone()],
        ),
        (
            "Close within a message",
            vec![
                masked_frame(TEXT, b"begun"),
                close,
                masked_frame(FIN | CONTINUATION, b"ended"),
            ],
            vec![closed],
        ),
    ];
    for (what, frames, expected) in cases {
        case(&server, what, frames, expected);
    }
}

#[test]
fn close_payloads_of_every_length_are_taken_but_for_one_byte() {
    let server = echo_server();
    for reason_len in [0, 1, 122, 123] {
        let payload = close_payload(1000, "*".repeat(reason_len).as_bytes());
        let close = masked_frame(FIN | CLOSE, &payload);
        case(&server, "a reason", &[close], &[Expected::Closed(1000)]);
    }
    let empty = masked_frame(FIN | CLOSE, b"");
    case(&server, "no code", &[empty], &[Expected::Closed(1005)]);
    let one_byte = masked_frame(FIN | CLOSE, b"a");
    case(&server, "half a code", &[one_byte], &[PROTOCOL_ERROR]);
    let too_long = masked_frame(FIN | CLOSE, &close_payload(1000, &[b'*'; 124]));
    case(&server, "a long reason", &[too_long], &[PROTOCOL_ERROR]);
}

#[test]
fn a_close_reason_that_is_not_utf_8_is_1007() {
    let server = echo_server();
    for (what, invalid) in INVALID_UTF8 {
        let close = masked_frame(FIN | CLOSE, &close_payload(1000, invalid));
        case(&server, what, &[close], &[NOT_UTF8]);
    }
}

/// Every code is tried, one connection each: those of the RFC and its registry are echoed, all others are 1002.
#[test]
fn exactly_the_close_codes_of_the_registry_are_echoed() {
    let server = Server::with(&["echo=true", "log_level=error"]);
    let edges = [2999, 3000, 3999, 4000, 4999, 5000, 65534, 65535];
    for code in (0..=1200).chain(edges) {
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let mut socket = server.websocket("/echo");
        socket.send(FIN | CLOSE, close_payload(code, b""));
        let answered = socket.frame().close_code();
        assert_eq!(answered, if allowed { code } else { 1002 }, "{code}");
        socket.peer.expect_end();
    }
}

#[test]
fn no_data_follows_a_close_of_the_server() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("demo");
    server.publish("demo", "before");
    socket.send(FIN | TEXT, "clients may not");
    socket.expect_text("before");
    assert_eq!(socket.frame().close_code(), 1008);
    server.publish("demo", "after");
    socket.send(FIN | CLOSE, close_payload(1008, b""));
    socket.peer.expect_end();
}

// ---- 9: large messages, many fragments, chopped writes, many round trips

#[test]
fn messages_of_up_to_16_mib_are_echoed() {
    let server = roomy_echo_server();
    for len in [1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 23, 1 << 24] {
        let mut socket = server.websocket("/echo");
        let letters = "*".repeat(len);
        socket.send(FIN | TEXT, &letters);
        socket.expect_text(&letters);
        let bytes = bytes(len);
        socket.send(FIN | BINARY, &bytes);
        socket.expect(BINARY, &bytes);
    }
}

#[test]
fn one_byte_more_than_16_mib_is_1009() {
    let server = roomy_echo_server();
    let mut socket = server.websocket("/echo");
    let message = masked_frame(FIN | BINARY, &vec![0; (1 << 24) + 1]);
    socket.peer.offer(message, Delivery::Whole);
    assert_eq!(socket.frame().close_code(), 1009);
}

#[test]
fn a_message_of_4_mib_is_echoed_from_fragments_of_any_length() {
    let server = roomy_echo_server();
    let letters = "*".repeat(1 << 22);
    let bytes = bytes(1 << 22);
    for fragment_bytes in [
        64,
        256,
        1 << 10,
        1 << 12,
        1 << 14,
        1 << 16,
        1 << 18,
        1 << 20,
    ] {
        let mut socket = server.websocket("/echo");
        let frames = fragmented(TEXT, letters.as_bytes(), fragment_bytes);
        socket.peer.send(frames);
        socket.expect_text(&letters);
        socket.peer.send(fragmented(BINARY, &bytes, fragment_bytes));
        socket.expect(BINARY, &bytes);
    }
}

#[test]
fn a_message_of_16_mib_in_65537_fragments_is_echoed() {
    let server = roomy_echo_server();
    let payload = bytes(1 << 24);
    let (frames, last) = payload.split_at(payload.len() - 1);
    let mut input = masked_frame(BINARY, &frames[..256]);
    for fragment in frames[256..].chunks(256) {
        input.extend(masked_frame(CONTINUATION, fragment));
    }
    input.extend(masked_frame(FIN | CONTINUATION, last));
    let mut socket = server.websocket("/echo");
    socket.peer.send(input);
    socket.expect(BINARY, &payload);
}

#[test]
fn a_message_of_1_mib_chopped_into_small_writes_is_echoed() {
    let server = roomy_echo_server();
    let letters = "*".repeat(1 << 20);
    let bytes = bytes(1 << 20);
    for chop_bytes in [64, 128, 256, 512, 1024, 2048] {
        let mut socket = server.websocket("/echo");
        let frame = masked_frame(FIN | TEXT, letters.as_bytes());
        socket.peer.offer(frame, Delivery::Chopped(chop_bytes));
        socket.expect_text(&letters);
        let frame = masked_frame(FIN | BINARY, &bytes);
        socket.peer.offer(frame, Delivery::Chopped(chop_bytes));
        socket.expect(BINARY, &bytes);
    }
}

#[test]
fn a_thousand_round_trips_of_every_length_are_echoed() {
    let server = echo_server();
    for len in [0, 16, 64, 256, 1024, 4096] {
        let mut socket = server.websocket("/echo");
        let (letters, bytes) = ("*".repeat(len), bytes(len));
        for _ in 0..1000 {
            socket.send(FIN | TEXT, &letters);
            socket.expect_text(&letters);
            socket.send(FIN | BINARY, &bytes);
            socket.expect(BINARY, &bytes);
        }
    }
}

// ---- 10: fragments of a client's own making

#[test]
fn a_message_in_fragments_of_1300_bytes_is_echoed() {
    let server = echo_server();
    let payload = bytes(65536);
    let frames = fragmented(BINARY, &payload, 1300);
    case(&server, "fragments of 1300", &[frames], &[binary(&payload)]);
}

// ---- the answer to the handshake

/// A handshake with these further lines.
fn answer_to(server: &Server, lines: &str) -> crate::harness::Response {
    server.exchange(upgrade_request("/echo", &server.host(), lines))
}

#[test]
fn no_header_of_the_101_is_repeated() {
    let server = echo_server();
    let lines = "Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\nSec-WebSocket-Extensions: x-a; b=1, x-c\r\n";
    let answer = answer_to(&server, lines);
    assert_eq!(answer.status, 101);
    for (name, _) in &answer.headers {
        let times = answer.headers.iter().filter(|(n, _)| n == name).count();
        assert_eq!(times, 1, "{name}");
    }
}

#[test]
fn no_subprotocol_and_no_extension_is_answered_that_was_not_offered() {
    let server = echo_server();
    for lines in [
        "",
        "Sec-WebSocket-Extensions: x-unknown; a=1; b, x-other\r\n",
        "Sec-WebSocket-Protocol: unknown\r\nSec-WebSocket-Protocol: other\r\n",
    ] {
        let answer = answer_to(&server, lines);
        assert_eq!(answer.status, 101, "{lines:?}");
        for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
            assert_eq!(answer.header(name), None, "{lines:?}");
        }
    }
}

#[test]
fn headers_a_handshake_need_not_have_are_ignored() {
    let server = echo_server();
    let lines = "Cookie: a=b; c=d\r\nCookie2: x\r\nX-Anything: \"quoted, text\"\r\nAuthorization: Bearer x\r\n\
                 Pragma: no-cache\r\nCache-Control: no-cache\r\nSec-WebSocket-Accept: nonsense\r\n";
    assert_eq!(answer_to(&server, lines).status, 101);
}

#[test]
fn the_order_of_the_headers_does_not_matter() {
    let server = echo_server();
    let request = format!(
        "GET /echo HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUpgrade: websocket\r\nHost: {}\r\n\r\n",
        server.host()
    );
    assert_eq!(server.exchange(request).status, 101);
}

#[test]
fn a_handshake_without_host_or_with_another_method_is_refused() {
    let server = echo_server();
    let sample = upgrade_request("/echo", &server.host(), "");
    let host = format!("Host: {}\r\n", server.host());
    let without_host = sample.replace(&host, "");
    assert_eq!(server.exchange(without_host).status, 400);
    for method in ["POST", "PUT", "get", "CONNECT"] {
        let other = sample.replacen("GET", method, 1);
        let refused = [400, 405, 501].contains(&server.exchange(other).status);
        assert!(refused, "{method}");
    }
    let with_body = answer_to(&server, "Content-Length: 5\r\n");
    assert_eq!(with_body.status, 400);
}

#[test]
fn a_page_of_another_origin_is_403() {
    let server = echo_server();
    let host = server.host();
    let own = format!("Origin: http://{host}\r\n");
    assert_eq!(answer_to(&server, &own).status, 101);
    assert_eq!(answer_to(&server, &own.repeat(2)).status, 403);
    let others = [
        "http://evil.example".to_owned(),
        format!("http://{host}.evil.example"),
        format!("http://evil.example/{host}"),
        format!("http://{host}/"),
        format!("http://user@{host}"),
        "http://127.0.0.1".to_owned(),
        "null".to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ];
    for other in &others {
        let answer = answer_to(&server, &format!("Origin: {other}\r\n"));
        assert_eq!(answer.status, 403, "{other:?}");
    }
}

#[test]
fn an_unknown_service_is_404() {
    let server = echo_server();
    for path in ["/nope", "/echo/", "/echo2", "/channels/"] {
        let answer = server.try_websocket(path, "").err().expect("refused");
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
    }
}
