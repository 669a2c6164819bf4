//! permessage-deflate (RFC 7692) from outside: what is agreed on, what is sent and what is refused.
//! `tests/proto_deflate.rs` has the rest, below the socket.

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, Delivery, FIN, Frame, PING, PONG, RSV1, Server, TEXT, WebSocket,
    close_payload, masked_frame, upgrade_request,
};

#[path = "../reference_inflate/mod.rs"]
mod reference_inflate;

use reference_inflate::inflate_message;

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const NO_TAKEOVER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// "Hello" as section 7.2.3.1 compresses it.
const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
/// "Hello" again, by reference to the first (section 7.2.3.2).
const HELLO_AGAIN: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];

fn server(settings: &[&str]) -> Server {
    let on = [
        "echo=true",
        "websocket.compression=true",
        "websocket.compression_min_bytes=0",
    ];
    Server::with(&[&on, settings].concat())
}

/// What a handshake with this offer is answered with.
fn answer(server: &Server, offer: &str) -> Option<String> {
    let lines = format!("Sec-WebSocket-Extensions: {offer}\r\n");
    let answer = server.exchange(upgrade_request("/echo", &server.host(), &lines));
    assert_eq!(answer.status, 101, "{offer}: {}", answer.text());
    answer.header("sec-websocket-extensions").map(str::to_owned)
}

fn open(server: &Server, path: &str, offer: &str) -> WebSocket {
    let lines = format!("Sec-WebSocket-Extensions: {offer}\r\n");
    server
        .try_websocket(path, &lines)
        .unwrap_or_else(|answer| panic!("{offer}: {answer:?}"))
}

/// A compressed message of the client in one frame.
fn compressed(opcode: u8, payload: &[u8]) -> Vec<u8> {
    // A final block, and the empty byte that makes room for more (section 7.2.3.4).
    let mut data = miniz_oxide::deflate::compress_to_vec(payload, 6);
    data.push(0);
    masked_frame(FIN | RSV1 | opcode, &data)
}

/// The next frame that is not a ping: the first one of a connection comes at any moment.
fn frame(socket: &mut WebSocket) -> Frame {
    loop {
        let frame = socket.frame_of_extension().expect("a frame");
        if frame.first != FIN | PING {
            return frame;
        }
    }
}

/// The next message: opcode, payload, and whether it came compressed. It must stand by itself.
fn message(socket: &mut WebSocket) -> (u8, Vec<u8>, bool) {
    let frame = frame(socket);
    let opcode = frame.first & 0x0f;
    if frame.first & RSV1 == 0 {
        return (opcode, frame.payload, false);
    }
    assert!(matches!(opcode, TEXT | BINARY), "RSV1 on {opcode}");
    let inflated = inflate_message(&frame.payload, b"").expect("DEFLATE");
    (opcode, inflated.payload, true)
}

fn expect_close(server: &Server, input: &[u8], code: u16, what: &str) {
    for delivery in Delivery::BOTH {
        let mut socket = open(server, "/echo", OFFER);
        socket.peer.offer(input, delivery);
        assert_eq!(socket.frame().close_code(), code, "{what}");
        socket.peer.expect_end();
    }
}

// ---- the agreement

#[test]
fn offers_are_answered_with_what_was_offered_and_asked_for() {
    let server = server(&[]);
    let none = Some(NO_TAKEOVER.to_owned());
    let also = |more: &str| Some(format!("{NO_TAKEOVER}; {more}"));
    for (offer, expected) in [
        ("permessage-deflate", none.clone()),
        (OFFER, none.clone()),
        (NO_TAKEOVER, none.clone()),
        (
            "permessage-deflate; server_max_window_bits=10",
            also("server_max_window_bits=10"),
        ),
        (
            "permessage-deflate; client_max_window_bits=9",
            also("client_max_window_bits=9"),
        ),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            also("server_max_window_bits=8"),
        ),
        // The first is declined, the second is not.
        (
            "permessage-deflate; server_max_window_bits=99, permessage-deflate",
            none.clone(),
        ),
        ("x-other, permessage-deflate", none),
    ] {
        assert_eq!(answer(&server, offer), expected, "{offer}");
    }
}

#[test]
fn offers_with_unknown_repeated_or_impossible_parameters_are_declined() {
    let server = server(&[]);
    for parameters in [
        "unknown",
        "server_no_context_takeover=1",
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits; client_max_window_bits",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "client_max_window_bits=x",
    ] {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(&server, &offer), None, "{offer}");
    }
}

#[test]
fn a_header_that_is_no_list_of_extensions_is_400_with_compression_and_without() {
    for server in [server(&[]), Server::with(&["echo=true"])] {
        for offer in [
            "permessage-deflate;",
            "permessage-deflate; =1",
            "a b",
            "=",
            "a; b=\"c",
        ] {
            let lines = format!("Sec-WebSocket-Extensions: {offer}\r\n");
            let refused = server.try_websocket("/echo", &lines).err();
            assert_eq!(refused.map(|answer| answer.status), Some(400), "{offer}");
        }
    }
}

#[test]
fn without_the_setting_no_offer_is_accepted() {
    let server = Server::with(&["echo=true"]);
    assert_eq!(answer(&server, OFFER), None);
}

// ---- what the client sends

#[test]
fn the_examples_of_the_rfc_are_read() {
    let server = server(&["websocket.client_context_takeover=true"]);
    let stored = [
        0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
    ];
    let is_final = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    for data in [HELLO, &stored, &is_final, &two_blocks] {
        let whole = masked_frame(FIN | RSV1 | TEXT, data);
        let fragments = [
            masked_frame(RSV1 | TEXT, &data[..3]),
            masked_frame(FIN | PING, b"within"),
            masked_frame(CONTINUATION, b""),
            masked_frame(FIN | CONTINUATION, &data[3..]),
        ];
        for delivery in Delivery::BOTH {
            let mut socket = open(&server, "/echo", OFFER);
            socket.peer.offer(&whole, delivery);
            assert_eq!(message(&mut socket).1, b"Hello", "{data:02x?}");
            socket.peer.offer(fragments.concat(), delivery);
            socket.expect(PONG, b"within");
            assert_eq!(message(&mut socket).1, b"Hello", "{data:02x?}");
        }
    }
}

#[test]
fn the_clients_context_is_taken_over_only_if_agreed() {
    let first = masked_frame(FIN | RSV1 | TEXT, HELLO);
    let second = masked_frame(FIN | RSV1 | TEXT, HELLO_AGAIN);

    let keeps = server(&["websocket.client_context_takeover=true"]);
    let mut socket = open(&keeps, "/echo", OFFER);
    for frame in [&first, &second, &second] {
        socket.peer.send(frame);
        assert_eq!(message(&mut socket).1, b"Hello");
    }

    let forgets = server(&[]);
    expect_close_after_hello(&forgets, &[first, second].concat());
}

fn expect_close_after_hello(server: &Server, input: &[u8]) {
    let mut socket = open(server, "/echo", OFFER);
    socket.peer.send(input);
    assert_eq!(message(&mut socket).1, b"Hello");
    assert_eq!(socket.frame().close_code(), 1007);
    socket.peer.expect_end();
}

#[test]
fn uncompressed_and_empty_messages_are_read_too() {
    let server = server(&[]);
    let mut socket = open(&server, "/echo", OFFER);
    socket.send(FIN | TEXT, b"plain");
    assert_eq!(message(&mut socket).1, b"plain");
    for empty in [&b"\0"[..], b""] {
        socket.send(FIN | RSV1 | BINARY, empty);
        let (opcode, payload, _) = message(&mut socket);
        assert_eq!((opcode, payload.len()), (BINARY, 0));
    }
}

#[test]
fn rsv1_stands_on_the_first_frame_of_a_data_message_only() {
    let server = server(&[]);
    for opcode in [PING, PONG, CLOSE] {
        let frame = masked_frame(FIN | RSV1 | opcode, b"");
        expect_close(&server, &frame, 1002, "a control frame");
    }
    let on_second = [
        masked_frame(RSV1 | TEXT, &HELLO[..3]),
        masked_frame(FIN | RSV1 | CONTINUATION, &HELLO[3..]),
    ];
    expect_close(&server, &on_second.concat(), 1002, "a continuation");
    for other in [0x20, 0x10] {
        let frame = masked_frame(FIN | RSV1 | other | TEXT, HELLO);
        expect_close(&server, &frame, 1002, "RSV2 or RSV3");
    }
    let plain = Server::with(&["echo=true"]);
    let mut socket = open(&plain, "/echo", OFFER);
    socket.send(FIN | RSV1 | TEXT, HELLO);
    assert_eq!(socket.frame().close_code(), 1002);
}

#[test]
fn what_does_not_inflate_to_a_valid_message_is_refused() {
    let server = server(&[]);
    for data in [&b"\xff\xff\xff"[..], b"\x07", b"\xf2\x48", HELLO_AGAIN] {
        let frame = masked_frame(FIN | RSV1 | BINARY, data);
        expect_close(&server, &frame, 1007, "no DEFLATE");
    }
    expect_close(&server, &compressed(TEXT, b"abc\xff"), 1007, "no UTF-8");
    let bomb = compressed(BINARY, &vec![0; 1 << 20]);
    assert!(bomb.len() < 2000);
    expect_close(&server, &bomb, 1009, "a bomb");
}

// ---- what the server sends

#[test]
fn messages_of_every_length_come_back_compressed() {
    let server = server(&[]);
    let mut socket = open(&server, "/echo", OFFER);
    for len in [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536] {
        let text: String = (0..len)
            .map(|i| char::from(b'a' + (i / 7 % 26) as u8))
            .collect();
        for _ in 0..20 {
            socket.peer.send(compressed(TEXT, text.as_bytes()));
            let (opcode, payload, is_compressed) = message(&mut socket);
            assert!(opcode == TEXT && payload == text.as_bytes(), "{len}");
            assert!(is_compressed || len < 256, "{len} bytes came uncompressed");
        }
    }
}

#[test]
fn large_messages_of_either_kind_come_back_whole() {
    let roomy = [
        "websocket.message_bytes=16777216",
        "websocket.frames_per_message=1048576",
    ];
    let server = server(&roomy);
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(1 << 20)
        .collect();
    let zeros = vec![0; 1 << 24];
    for payload in [&noise, &zeros] {
        let mut socket = open(&server, "/echo", OFFER);
        socket.peer.send(compressed(BINARY, payload));
        let (opcode, back, is_compressed) = message(&mut socket);
        assert!(
            opcode == BINARY && back == *payload,
            "of {} bytes came back {}, opcode {opcode}, compressed: {is_compressed}",
            payload.len(),
            back.len()
        );
    }
}

#[test]
fn the_servers_window_is_as_small_as_agreed() {
    let server = server(&[]);
    let mut random = fastrand::Rng::with_seed(2);
    let part: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(600).collect();
    let payload = part.repeat(20);
    for bits in [8, 9, 10, 12, 15] {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let mut socket = open(&server, "/echo", &offer);
        socket.send(FIN | BINARY, &payload);
        let frame = frame(&mut socket);
        if frame.first & RSV1 != 0 {
            let inflated = inflate_message(&frame.payload, b"").expect("DEFLATE");
            assert!(inflated.payload == payload, "{bits}");
            assert!(
                inflated.distance_max <= 1 << bits,
                "{bits}: {}",
                inflated.distance_max
            );
        }
    }
}

#[test]
fn the_servers_context_is_taken_over_only_if_agreed() {
    let message = b"the same text again and again, the same text again and again";
    let sizes = |settings: &[&str]| {
        let server = server(settings);
        let mut socket = open(&server, "/echo", OFFER);
        let mut context = Vec::new();
        let sizes: Vec<_> = (0..3)
            .map(|_| {
                socket.send(FIN | TEXT, message);
                let frame = frame(&mut socket);
                assert_eq!(frame.first, FIN | RSV1 | TEXT);
                let inflated = inflate_message(&frame.payload, &context).expect("DEFLATE");
                assert_eq!(inflated.payload, message);
                if !settings.is_empty() {
                    context.extend(message);
                }
                frame.payload.len()
            })
            .collect();
        sizes
    };
    let forgets = sizes(&[]);
    assert_eq!(forgets[0], forgets[2]);
    let keeps = sizes(&["websocket.server_context_takeover=true"]);
    assert!(keeps[2] < keeps[0], "{keeps:?}");
}

#[test]
fn a_publication_arrives_compressed_where_agreed_and_plain_elsewhere() {
    let server = server(&[]);
    let mut plain = server.subscribe("demo");
    let mut sockets: Vec<_> = [OFFER, "permessage-deflate; server_max_window_bits=9"]
        .iter()
        .map(|offer| open(&server, "/channels/demo", offer))
        .collect();
    let body = "{\"many\":\"words\"}".repeat(40);
    server.publish("demo", &body);
    plain.expect_text(&body);
    for socket in &mut sockets {
        let (opcode, payload, is_compressed) = message(socket);
        assert!(opcode == TEXT && payload == body.as_bytes() && is_compressed);
    }
}

#[test]
fn a_close_goes_uncompressed() {
    let server = server(&[]);
    let mut socket = open(&server, "/echo", OFFER);
    socket.send(
        FIN | CLOSE,
        close_payload(1000, b"a reason that would compress, compress, compress"),
    );
    assert_eq!(socket.frame().close_code(), 1000);
    socket.peer.expect_end();
}
