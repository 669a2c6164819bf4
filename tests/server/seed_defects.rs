//! Sixteen mistakes that small WebSocket servers make, each with the test that shows it is not made here.

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, Delivery, FIN, PING, PONG, Server, TEXT, close_payload,
    masked_frame, masked_header, upgrade_request, wait_until,
};

fn echo_server() -> Server {
    Server::with(&["echo=true"])
}

#[test]
fn defect_01_a_second_client_is_served_while_the_first_stays() {
    let server = Server::start(&["--shards", "1"]);
    let mut sockets: Vec<_> = (0..50).map(|_| server.subscribe("demo")).collect();
    server.publish("demo", "for all");
    for socket in &mut sockets {
        socket.expect_text("for all");
    }
}

#[test]
fn defect_02_a_head_longer_than_one_read_is_read_to_its_end() {
    let server = echo_server();
    let cookie = format!("Cookie: {}\r\n", "c".repeat(6000));
    let request = upgrade_request("/echo", &server.host(), &cookie);
    for delivery in [Delivery::Whole, Delivery::Chopped(1023)] {
        let mut peer = server.connect();
        peer.offer(&request, delivery);
        assert_eq!(peer.response().status, 101, "{delivery:?}");
    }
}

#[test]
fn defect_03_header_names_have_any_case_and_values_keep_their_colons() {
    let server = echo_server();
    let host = server.host();
    let shout = format!(
        "GET /echo HTTP/1.1\r\nHOST: {host}\r\nORIGIN: http://{host}\r\nUPGRADE: websocket\r\nconnection: Upgrade\r\n\
         SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    );
    assert_eq!(server.exchange(shout).status, 101);
    // The same name on another port is another origin: the port was not lost.
    let other_port = format!("Origin: http://{}\r\n", host.replace(':', ":1"));
    let refused = server.try_websocket("/echo", &other_port).err();
    assert_eq!(refused.map(|answer| answer.status), Some(403));
}

#[test]
fn defect_04_method_upgrade_connection_version_and_origin_are_checked() {
    let server = echo_server();
    let sample = upgrade_request("/echo", &server.host(), "");
    let changes = [
        ("GET ", "POST ", 405),
        ("Upgrade: websocket", "Upgrade: h2c", 400),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
        ("Version: 13", "Version: 17", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 400),
        ("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n", 403),
    ];
    for (from, to, status) in changes {
        let answer = server.exchange(sample.replacen(from, to, 1));
        assert_eq!(answer.status, status, "{to}: {}", answer.text());
    }
}

#[test]
fn defect_05_a_length_of_16_bits_is_read_and_the_next_frame_found() {
    let server = echo_server();
    let mut socket = server.websocket("/echo");
    for len in [126, 127, 128, 200, 256, 1000, 65535] {
        let payload = vec![b'm'; len];
        let frames = [
            masked_frame(FIN | BINARY, &payload),
            masked_frame(FIN | TEXT, b"next"),
        ];
        socket.peer.send(frames.concat());
        socket.expect(BINARY, &payload);
        socket.expect_text("next");
    }
}

#[test]
fn defect_06_a_length_of_64_bits_is_read_and_the_next_frame_found() {
    let server = Server::with(&["echo=true", "websocket.message_bytes=1000000"]);
    let mut socket = server.websocket("/echo");
    for len in [65536, 65537, 300_000] {
        let payload = vec![b'l'; len];
        let frames = [
            masked_frame(FIN | BINARY, &payload),
            masked_frame(FIN | TEXT, b"next"),
        ];
        socket.peer.send(frames.concat());
        socket.expect(BINARY, &payload);
        socket.expect_text("next");
    }
    let claim = masked_header(FIN | BINARY, 1 << 32);
    socket.peer.offer(claim, Delivery::Whole);
    assert_eq!(socket.frame().close_code(), 1009);
}

#[test]
fn defect_07_a_short_read_is_not_taken_for_the_whole() {
    let server = echo_server();
    let payload: Vec<u8> = (0..2000).map(|i| (i % 251) as u8).collect();
    let frame = masked_frame(FIN | BINARY, &payload);
    for chop_bytes in [1, 2, 7, 500, 1999] {
        let mut socket = server.websocket("/echo");
        socket.peer.offer(&frame, Delivery::Chopped(chop_bytes));
        socket.expect(BINARY, &payload);
    }
}

#[test]
fn defect_08_a_ping_gets_its_pong_and_a_close_its_close() {
    let server = echo_server();
    let mut socket = server.websocket("/echo");
    socket.send(FIN | PING, b"are you there");
    socket.expect(PONG, b"are you there");
    socket.send(FIN | PONG, b"nothing answers this");
    socket.send(FIN | CLOSE, close_payload(1000, b"done"));
    assert_eq!(socket.frame().close_code(), 1000);
    socket.peer.expect_end();
}

#[test]
fn defect_09_a_reserved_bit_ends_the_connection() {
    let server = echo_server();
    for bit in [0x40, 0x20, 0x10] {
        let mut socket = server.websocket("/echo");
        socket.send(FIN | bit | TEXT, b"not negotiated");
        assert_eq!(socket.frame().close_code(), 1002);
        socket.peer.expect_end();
    }
}

#[test]
fn defect_10_an_unmasked_frame_ends_the_connection() {
    let server = echo_server();
    let mut socket = server.websocket("/echo");
    socket.peer.send(b"\x81\x05Hello");
    assert_eq!(socket.frame().close_code(), 1002);
    socket.peer.expect_end();
}

#[test]
fn defect_11_fragments_cost_no_stack_and_a_control_frame_among_them_ends_nothing() {
    let settings = ["echo=true", "websocket.frames_per_message=1048576"];
    let server = Server::with(&settings);
    let mut socket = server.websocket("/echo");
    let mut input = masked_frame(BINARY, b"");
    input.extend(masked_frame(CONTINUATION, b"").repeat(300_000));
    input.extend(masked_frame(FIN | PING, b"within"));
    input.extend(masked_frame(FIN | CONTINUATION, b"the end"));
    socket.peer.send(input);
    socket.expect(PONG, b"within");
    socket.expect(BINARY, b"the end");
}

#[test]
fn defect_12_the_end_of_a_connection_ends_its_loop() {
    let server = Server::start(&["--shards", "1"]);
    for sent in [
        &b""[..],
        b"GET / HT",
        b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    ] {
        let mut peer = server.connect();
        peer.send(sent);
        peer.finish_sending();
        peer.expect_end();
    }
    for sent in [
        &b""[..],
        b"\x81",
        b"\x81\x85\0\0\0\0Hel",
        b"\x01\x80\0\0\0\0",
    ] {
        let mut socket = server.subscribe("demo");
        socket.peer.send(sent);
        socket.peer.finish_sending();
        socket.peer.expect_end();
    }
    wait_until("only the connection that asks is left", || {
        server.metrics().sum("longwire_connections") == 1.0
    });
}

#[test]
fn defect_13_125_bytes_are_no_limit_in_either_direction() {
    let server = Server::start(&[]);
    let mut socket = server.websocket("/chat");
    for len in [124, 125, 126, 127, 4096] {
        let message = "x".repeat(len);
        socket.send(FIN | TEXT, &message);
        socket.expect_text(&message);
        server.publish("chat", &message);
        socket.expect_text(&message);
    }
}

#[test]
fn defect_14_what_the_server_sends_is_unmasked_and_exact() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("demo");
    server.publish("demo", "Hello");
    assert_eq!(socket.peer.take(7), Ok(b"\x81\x05Hello".to_vec()));
    socket.send(FIN | PING, b"\x00\xff");
    assert_eq!(socket.peer.take(4), Ok(b"\x8a\x02\x00\xff".to_vec()));
}

#[test]
fn defect_15_a_publication_is_one_send_per_subscriber() {
    let server = Server::start(&["--shards", "1"]);
    let mut sockets: Vec<_> = (0..5).map(|_| server.subscribe("demo")).collect();
    for i in 0..10 {
        let body = format!("publication {i}");
        server.publish("demo", &body);
        for socket in &mut sockets {
            socket.expect_text(&body);
        }
    }
    let metrics = server.metrics();
    assert_eq!(metrics.sum("longwire_deliveries_total"), 50.0);
    assert_eq!(metrics.sum("longwire_sends_total"), 50.0);
}

#[test]
fn defect_16_there_are_limits_timeouts_a_utf_8_check_and_a_closing_handshake() {
    let server = Server::with(&[
        "echo=true",
        "http.ready_timeout_ms=1000",
        "websocket.message_timeout_ms=1000",
        "websocket.close_timeout_ms=1000",
    ]);
    let mut silent = server.connect();
    assert_eq!(silent.response().status, 408);

    let mut too_big = server.websocket("/echo");
    too_big
        .peer
        .send(masked_header(FIN | BINARY, i64::MAX as u64));
    assert_eq!(too_big.frame().close_code(), 1009);

    let mut not_utf_8 = server.websocket("/echo");
    not_utf_8.send(FIN | TEXT, b"\xff");
    assert_eq!(not_utf_8.frame().close_code(), 1007);

    let mut unfinished = server.websocket("/echo");
    unfinished.send(TEXT, b"begun and never ended");
    assert_eq!(unfinished.frame().close_code(), 1008);

    // Its Close is not answered; the server does not wait for ever.
    let mut mute = server.subscribe("demo");
    mute.send(FIN | TEXT, b"not allowed");
    assert_eq!(mute.frame().close_code(), 1008);
    mute.peer.expect_end();
}
