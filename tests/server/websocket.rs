//! The handshake and the frames, as RFC 6455 asks of a server.

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, Delivery, End, FIN, PING, PONG, SAMPLE_ACCEPT, Server, TEXT,
    WebSocket, close_payload, masked_frame, masked_header, upgrade_request, wait_until,
};

fn echo_server() -> Server {
    Server::with(&["echo=true"])
}

/// Sends `input` on a fresh /echo connection in each delivery and hands the connection over.
fn with_each_delivery(server: &Server, input: &[u8], mut check: impl FnMut(&mut WebSocket)) {
    for delivery in Delivery::BOTH {
        let mut socket = server.websocket("/echo");
        socket.peer.offer(input, delivery);
        check(&mut socket);
    }
}

// ---- handshake

/// A request made of these header lines, which may leave out or repeat anything.
fn handshake(server: &Server, request_line: &str, lines: &[&str]) -> String {
    let head = lines.iter().map(|line| format!("{line}\r\n"));
    let head = head.collect::<String>();
    format!("{request_line}\r\nHost: {}\r\n{head}\r\n", server.host())
}

const UPGRADE: &str = "Upgrade: websocket";
const CONNECTION: &str = "Connection: Upgrade";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const GET: &str = "GET /echo HTTP/1.1";

#[test]
fn the_sample_handshake_of_the_rfc_is_accepted() {
    let server = echo_server();
    let answer = server.exchange(handshake(
        &server,
        GET,
        &[UPGRADE, CONNECTION, KEY, VERSION],
    ));
    assert_eq!(answer.status, 101);
    let upgrade = answer.header("upgrade").expect("Upgrade");
    assert!(upgrade.eq_ignore_ascii_case("websocket"));
    let connection = answer.header("connection").expect("Connection");
    assert!(connection.eq_ignore_ascii_case("upgrade"));
    assert_eq!(answer.header("sec-websocket-accept"), Some(SAMPLE_ACCEPT));
    assert_eq!(answer.header("sec-websocket-extensions"), None);
}

#[test]
fn another_key_gets_its_own_accept() {
    let server = echo_server();
    let key = "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==";
    let answer = server.exchange(handshake(
        &server,
        GET,
        &[UPGRADE, CONNECTION, key, VERSION],
    ));
    let accept = answer.header("sec-websocket-accept");
    assert_eq!(accept, Some("HSmrc0sMlYUkAGmm5OPpG2HaGWk="));
}

#[test]
fn token_lists_and_any_case_are_accepted() {
    let server = echo_server();
    let handshakes: &[&[&str]] = &[
        &[UPGRADE, "Connection: keep-alive, Upgrade", KEY, VERSION],
        &[UPGRADE, "Connection: keep-alive ,\tUPGRADE", KEY, VERSION],
        &[UPGRADE, "Connection: keep-alive", CONNECTION, KEY, VERSION],
        &["Upgrade: WebSocket", CONNECTION, KEY, VERSION],
        &["upgrade: h2c, websocket", CONNECTION, KEY, VERSION],
        &["UPGRADE:websocket", "CONNECTION:upgrade", KEY, VERSION],
        &[UPGRADE, CONNECTION, KEY, "sec-websocket-version: 13"],
        &[
            UPGRADE,
            CONNECTION,
            KEY,
            VERSION,
            "Sec-WebSocket-Extensions: permessage-foo; a=1",
        ],
    ];
    for lines in handshakes {
        let answer = server.exchange(handshake(&server, GET, lines));
        assert_eq!(answer.status, 101, "{lines:?}: {:?}", answer.text());
    }
}

#[test]
fn a_malformed_handshake_is_refused() {
    let server = echo_server();
    let short_key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub24=";
    let long_key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWQ=";
    let handshakes: &[(&str, &[&str])] = &[
        ("no key", &[UPGRADE, CONNECTION, VERSION]),
        (
            "an empty key",
            &[UPGRADE, CONNECTION, "Sec-WebSocket-Key:", VERSION],
        ),
        (
            "14 bytes of key",
            &[UPGRADE, CONNECTION, short_key, VERSION],
        ),
        ("17 bytes of key", &[UPGRADE, CONNECTION, long_key, VERSION]),
        (
            "not base64",
            &[
                UPGRADE,
                CONNECTION,
                "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==",
                VERSION,
            ],
        ),
        ("two keys", &[UPGRADE, CONNECTION, KEY, KEY, VERSION]),
    ];
    for (what, lines) in handshakes {
        let answer = server.exchange(handshake(&server, GET, lines));
        assert_eq!(answer.status, 400, "{what}: {:?}", answer.text());
    }
}

#[test]
fn another_version_gets_426_and_the_version_to_use() {
    let server = echo_server();
    for version in ["0", "8", "12", "14"] {
        let version = format!("Sec-WebSocket-Version: {version}");
        let lines = [UPGRADE, CONNECTION, KEY, &version];
        let answer = server.exchange(handshake(&server, GET, &lines));
        assert_eq!(answer.status, 426, "{version}: {:?}", answer.text());
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
}

#[test]
fn a_version_that_is_missing_or_no_number_is_refused() {
    let server = echo_server();
    for version in [
        "X-Nothing: 1",
        "Sec-WebSocket-Version: 013",
        "Sec-WebSocket-Version: 13, 8",
    ] {
        let answer = server.exchange(handshake(
            &server,
            GET,
            &[UPGRADE, CONNECTION, KEY, version],
        ));
        let refused = [400, 426].contains(&answer.status);
        assert!(refused, "{version}: {}", answer.status);
    }
}

#[test]
fn a_handshake_over_http_1_0_is_refused() {
    let server = echo_server();
    let lines = [UPGRADE, CONNECTION, KEY, VERSION];
    let answer = server.exchange(handshake(&server, "GET /echo HTTP/1.0", &lines));
    let refused = [400, 426, 505].contains(&answer.status);
    assert!(refused, "{}", answer.status);
}

#[test]
fn half_an_upgrade_is_refused() {
    let server = echo_server();
    for lines in [[UPGRADE, KEY, VERSION], [CONNECTION, KEY, VERSION]] {
        let answer = server.exchange(handshake(&server, GET, &lines));
        let refused = [400, 426].contains(&answer.status);
        assert!(refused, "{lines:?}: {}", answer.status);
    }
}

#[test]
fn a_channel_without_upgrade_answers_426() {
    let server = Server::start(&[]);
    let answer = server.get("/channels/demo");
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
}

#[test]
fn echo_is_404_unless_configured() {
    let server = Server::start(&[]);
    let answer = server.try_websocket("/echo", "").err().expect("refused");
    assert_eq!(answer.status, 404);
}

#[test]
fn a_handshake_may_arrive_byte_by_byte() {
    let server = echo_server();
    let mut peer = server.connect();
    let request = upgrade_request("/echo", &server.host(), "");
    peer.offer(request, Delivery::ByteByByte);
    assert_eq!(peer.response().status, 101);
}

#[test]
fn frames_sent_right_behind_the_head_are_read() {
    let server = echo_server();
    let mut input = upgrade_request("/echo", &server.host(), "").into_bytes();
    input.extend(masked_frame(FIN | TEXT, b"early"));
    for delivery in Delivery::BOTH {
        let mut peer = server.connect();
        peer.offer(&input, delivery);
        assert_eq!(peer.response().status, 101);
        WebSocket { peer }.expect_text("early");
    }
}

// ---- messages

#[test]
fn messages_of_every_length_class_are_echoed() {
    let server = echo_server();
    let mut socket = server.websocket("/echo");
    for len in [0, 1, 125, 126, 127, 65535, 65536] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        socket.send(FIN | BINARY, &payload);
        socket.expect(BINARY, &payload);
        let text = "a".repeat(len);
        socket.send(FIN | TEXT, &text);
        socket.expect_text(&text);
    }
}

#[test]
fn a_message_is_echoed_however_it_is_cut() {
    let server = echo_server();
    for len in [0, 125, 126, 1000] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let input = masked_frame(FIN | BINARY, &payload);
        with_each_delivery(&server, &input, |socket| socket.expect(BINARY, &payload));
    }
}

#[test]
fn many_messages_in_one_write_are_echoed_in_order() {
    let server = echo_server();
    let mut socket = server.websocket("/echo");
    let texts: Vec<_> = (0..500).map(|i| format!("message {i}")).collect();
    let frames: Vec<_> = texts
        .iter()
        .map(|t| masked_frame(FIN | TEXT, t.as_bytes()))
        .collect();
    socket.peer.send(frames.concat());
    for text in &texts {
        socket.expect_text(text);
    }
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let server = echo_server();
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        let input = masked_frame(FIN | PING, payload);
        with_each_delivery(&server, &input, |socket| socket.expect(PONG, payload));
    }
}

#[test]
fn an_unsolicited_pong_is_ignored() {
    let server = echo_server();
    let input = [
        masked_frame(FIN | PONG, b"?"),
        masked_frame(FIN | TEXT, b"still here"),
    ]
    .concat();
    with_each_delivery(&server, &input, |socket| socket.expect_text("still here"));
}

#[test]
fn a_ping_between_fragments_is_answered_before_the_message() {
    let server = echo_server();
    let input = [
        masked_frame(TEXT, b"Hel"),
        masked_frame(FIN | PING, b"now"),
        masked_frame(CONTINUATION, b""),
        masked_frame(FIN | CONTINUATION, b"lo"),
    ]
    .concat();
    with_each_delivery(&server, &input, |socket| {
        socket.expect(PONG, b"now");
        socket.expect_text("Hello");
    });
}

#[test]
fn a_character_may_be_cut_by_a_fragment() {
    let server = echo_server();
    let euro = "€".as_bytes();
    let input = [
        masked_frame(TEXT, &euro[..1]),
        masked_frame(CONTINUATION, &euro[1..2]),
        masked_frame(FIN | CONTINUATION, &euro[2..]),
    ]
    .concat();
    with_each_delivery(&server, &input, |socket| socket.expect_text("€"));
}

// ---- violations

/// A raw header: as given, then a masking key.
fn raw(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0; 4]].concat()
}

/// What a client must not send, each enough to be refused by itself.
fn protocol_errors() -> Vec<(&'static str, Vec<u8>)> {
    let mut inputs = vec![
        ("unmasked text", b"\x81\x05Hello".to_vec()),
        ("unmasked empty ping", b"\x89\x00".to_vec()),
        ("reserved bit 1", masked_frame(0xC0 | TEXT, b"Hello")),
        ("reserved bit 2", masked_frame(0xA0 | TEXT, b"Hello")),
        ("reserved bit 3", masked_frame(0x90 | TEXT, b"Hello")),
        ("reserved bit on a ping", masked_frame(0xC0 | PING, b"")),
        ("125 in 16 bits", raw(&[0x82, 0xFE, 0, 125])),
        ("0 in 16 bits", raw(&[0x82, 0xFE, 0, 0])),
        (
            "65535 in 64 bits",
            raw(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]),
        ),
        (
            "top bit of 64",
            raw(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ),
        ("fragmented ping", masked_frame(PING, b"")),
        (
            "fragmented close",
            masked_frame(CLOSE, &close_payload(1000, b"")),
        ),
        ("ping of 126 bytes", masked_frame(FIN | PING, &[0; 126])),
        (
            "continuation of nothing",
            masked_frame(FIN | CONTINUATION, b"x"),
        ),
        (
            "text within a message",
            [masked_frame(TEXT, b"a"), masked_frame(FIN | TEXT, b"b")].concat(),
        ),
        (
            "binary within a message",
            [masked_frame(TEXT, b"a"), masked_frame(BINARY, b"b")].concat(),
        ),
        ("close of one byte", masked_frame(FIN | CLOSE, &[3])),
    ];
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        inputs.push(("reserved opcode", masked_frame(FIN | opcode, b"")));
    }
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        let payload = close_payload(code, b"");
        inputs.push((
            "close code not for the wire",
            masked_frame(FIN | CLOSE, &payload),
        ));
    }
    inputs
}

#[test]
fn protocol_errors_are_closed_with_1002() {
    let server = echo_server();
    let inputs = protocol_errors();
    for (what, input) in &inputs {
        with_each_delivery(&server, input, |socket| {
            let close = socket.try_frame();
            let code = close.as_ref().map(|frame| frame.close_code());
            assert_eq!(code, Ok(1002), "{what}: {input:02x?}");
            socket.peer.expect_end();
        });
    }
    server.wait_for_closes("protocol_error", 2.0 * inputs.len() as f64);
}

#[test]
fn what_is_not_utf_8_is_closed_with_1007() {
    let server = echo_server();
    let inputs: &[(&str, Vec<u8>)] = &[
        (
            "lone continuation byte",
            masked_frame(FIN | TEXT, b"a\x80b"),
        ),
        ("overlong slash", masked_frame(FIN | TEXT, b"\xc0\xaf")),
        ("surrogate", masked_frame(FIN | TEXT, b"\xed\xa0\x80")),
        (
            "above U+10FFFF",
            masked_frame(FIN | TEXT, b"\xf4\x90\x80\x80"),
        ),
        ("cut at the end", masked_frame(FIN | TEXT, b"abc\xf0\x9f")),
        (
            "a close reason",
            masked_frame(FIN | CLOSE, &close_payload(1000, b"\xff")),
        ),
    ];
    for (what, input) in inputs {
        with_each_delivery(&server, input, |socket| {
            assert_eq!(socket.frame().close_code(), 1007, "{what}");
            socket.peer.expect_end();
        });
    }
}

#[test]
fn bad_utf_8_is_refused_before_the_message_ends() {
    let server = echo_server();
    let bad_second_fragment = [
        masked_frame(TEXT, b"\xf4"),
        masked_frame(CONTINUATION, b"\x90"),
    ]
    .concat();
    for input in [masked_frame(TEXT, b"\xce\xba\xff"), bad_second_fragment] {
        with_each_delivery(&server, &input, |socket| {
            socket.expect_close(1007);
        });
    }
}

#[test]
fn a_message_too_big_is_refused_from_its_header() {
    let server = echo_server();
    let inputs: &[(&str, Vec<u8>)] = &[
        ("one byte too many", masked_header(FIN | BINARY, 65537)),
        (
            "the longest length",
            masked_header(FIN | BINARY, i64::MAX as u64),
        ),
        (
            "the sum of fragments",
            [
                masked_frame(BINARY, &[0; 40000]),
                masked_header(FIN | CONTINUATION, 25537),
            ]
            .concat(),
        ),
    ];
    for (what, input) in inputs {
        let mut socket = server.websocket("/echo");
        socket.peer.offer(input, Delivery::Whole);
        assert_eq!(socket.frame().close_code(), 1009, "{what}");
    }
    server.wait_for_closes("message_too_big", inputs.len() as f64);
}

#[test]
fn a_flood_of_fragments_is_refused() {
    let server = Server::with(&["echo=true", "websocket.frames_per_message=16"]);
    for payload in [&b""[..], b"x"] {
        let mut socket = server.websocket("/echo");
        let mut input = masked_frame(BINARY, payload);
        for _ in 0..16 {
            input.extend(masked_frame(CONTINUATION, payload));
        }
        socket.peer.offer(input, Delivery::Whole);
        let code = socket.frame().close_code();
        assert!([1008, 1009].contains(&code), "{code}");
    }
}

#[test]
fn as_many_fragments_as_allowed_are_one_message() {
    let server = Server::with(&["echo=true", "websocket.frames_per_message=16"]);
    let mut socket = server.websocket("/echo");
    socket.send(BINARY, b"0");
    for _ in 0..14 {
        socket.send(CONTINUATION, b"1");
    }
    socket.send(FIN | CONTINUATION, b"2");
    socket.expect(BINARY, b"0111111111111112");
}

#[test]
fn a_flood_of_pings_is_refused() {
    let server = Server::with(&["echo=true", "websocket.control_frames_per_s=10"]);
    let mut socket = server.websocket("/echo");
    let flood = masked_frame(FIN | PING, b"").repeat(2000);
    socket.peer.offer(flood, Delivery::Whole);
    let last = std::iter::from_fn(|| socket.try_frame().ok()).last();
    assert_eq!(last.expect("a Close").close_code(), 1008);
}

// ---- closing

/// Closes with this payload: the server answers and then ends TCP first, without a reset.
fn close_and_read_answer(server: &Server, payload: &[u8]) -> u16 {
    let mut socket = server.websocket("/echo");
    socket.send(FIN | CLOSE, payload);
    let code = socket.frame().close_code();
    assert_eq!(socket.peer.read_to_end(), (Vec::new(), End::Eof));
    code
}

#[test]
fn a_close_is_answered_and_then_the_server_ends_tcp() {
    let server = echo_server();
    let codes = [
        1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999,
    ];
    for code in codes {
        let answered = close_and_read_answer(&server, &close_payload(code, "bye €".as_bytes()));
        assert!([code, 1000].contains(&answered), "{code} got {answered}");
    }
    let answered = close_and_read_answer(&server, b"");
    assert!([1000, 1005].contains(&answered), "no code got {answered}");
    server.wait_for_closes("client", codes.len() as f64 + 1.0);
}

#[test]
fn nothing_is_read_after_a_close() {
    let server = echo_server();
    let mut socket = server.websocket("/echo");
    let close = masked_frame(FIN | CLOSE, &close_payload(1000, b""));
    let late = masked_frame(FIN | TEXT, b"late");
    socket.peer.send([close, late].concat());
    assert_eq!(socket.frame().close_code(), 1000);
    socket.peer.expect_end();
}

#[test]
fn a_client_that_leaves_without_a_close_is_forgotten() {
    let server = Server::start(&[]);
    drop(server.subscribe("demo"));
    wait_until("the subscription is gone", || {
        server.metrics().sum("longwire_subscriptions") == 0.0
    });
    let mut socket = server.subscribe("demo");
    socket.peer.finish_sending();
    wait_until("the half-closed one is gone", || {
        server.metrics().sum("longwire_subscriptions") == 0.0
    });
    socket.peer.expect_end();
}
