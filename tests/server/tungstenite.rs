//! The client of the crate `tungstenite` against the server.

use std::net::TcpStream;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket, client::client_with_config};

use crate::harness::{PATIENCE, Server};

fn connect(server: &Server, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.addr()).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let url = format!("ws://{}{path}", server.host());
    let config = WebSocketConfig::default().max_frame_size(None);
    let (socket, answer) = client_with_config(url, stream, Some(config)).expect("a handshake");
    assert_eq!(answer.status(), 101);
    socket
}

/// The next message that is no ping; those are answered by the next read or write.
fn next(socket: &mut WebSocket<TcpStream>) -> Message {
    loop {
        match socket.read().expect("a message") {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}

fn close(mut socket: WebSocket<TcpStream>, frame: Option<CloseFrame>) {
    socket.close(frame.clone()).expect("close");
    let answer = next(&mut socket);
    let code = |frame: Option<CloseFrame>| frame.map(|frame| frame.code);
    match answer {
        Message::Close(answered) => assert_eq!(code(answered), code(frame)),
        other => panic!("expected a Close, got {other:?}"),
    }
    // The server ends TCP first.
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn it_receives_publications_as_text_and_as_binary() {
    let server = Server::start(&[]);
    let mut socket = connect(&server, "/channels/demo");
    let large = "x".repeat(1_000_000);
    for body in ["{\"hello\":\"world\"}", "grüße 🦀", &large] {
        server.publish("demo", body);
        assert_eq!(next(&mut socket), Message::text(body));
    }
    server.publish("demo", b"\xff\x00");
    assert_eq!(next(&mut socket), Message::binary(&b"\xff\x00"[..]));
    close(socket, None);
}

#[test]
fn it_gets_its_messages_and_pings_back() {
    let settings = ["echo=true", "websocket.message_bytes=16777216"];
    let server = Server::with(&settings);
    let mut socket = connect(&server, "/echo");
    for len in [0, 125, 126, 65535, 65536, 1 << 24] {
        for message in [
            Message::text("x".repeat(len)),
            Message::binary(vec![7; len]),
        ] {
            socket.send(message.clone()).expect("send");
            assert!(
                next(&mut socket) == message,
                "{len} bytes came back changed"
            );
        }
    }
    let ping = Message::Ping("payload".into());
    socket.send(ping).expect("send");
    assert_eq!(next(&mut socket), Message::Pong("payload".into()));
    let bye = CloseFrame {
        code: CloseCode::Away,
        reason: "bye".into(),
    };
    close(socket, Some(bye));
}

#[test]
fn it_hears_why_it_is_closed() {
    let server = Server::start(&[]);
    let mut socket = connect(&server, "/channels/demo");
    socket.send(Message::text("let me")).expect("send");
    match next(&mut socket) {
        Message::Close(Some(frame)) => {
            assert_eq!(frame.code, CloseCode::Policy);
            assert!(!frame.reason.is_empty());
        }
        other => panic!("expected a Close, got {other:?}"),
    }
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn it_hears_why_its_handshake_is_refused() {
    let server = Server::start(&[]);
    let stream = TcpStream::connect(server.addr()).expect("connect");
    let url = format!("ws://{}/nope", server.host());
    let refused = tungstenite::client(url, stream).expect_err("refused");
    assert!(refused.to_string().contains("404"), "{refused}");
}
