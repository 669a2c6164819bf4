//! Pings, misses and what counts as a sign of life.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{Delivery, FIN, PING, PONG, Server, TEXT, masked_frame, wait_until};

/// The shortest settings the one-second wheel can tell apart: a silent peer is gone after 1 + 2 × 1 s, and a slot.
const FAST: [&str; 4] = [
    "heartbeat.ping_interval_ms=1000",
    "heartbeat.pong_timeout_ms=1000",
    "heartbeat.max_missed=2",
    "echo=true",
];

/// Long enough that a connection whose signs of life do not count would be gone.
const LONGER_THAN_FAST: Duration = Duration::from_secs(7);

#[test]
fn a_silent_peer_is_pinged_and_then_closed() {
    let server = Server::with(&FAST);
    let mut socket = server.subscribe("demo");
    let frames: Vec<_> = std::iter::from_fn(|| socket.raw_frame().ok()).collect();
    assert_eq!(frames.first().map(|frame| frame.first), Some(FIN | PING));
    let close = frames.iter().find(|frame| frame.first != FIN | PING);
    if let Some(close) = close {
        assert_eq!(close.close_code(), 4005);
    }
    server.wait_for_closes("heartbeat_timeout", 1.0);
    let metrics = server.metrics();
    assert!(metrics.sum("longwire_heartbeat_misses_total") >= 2.0);
    assert!(metrics.sum("longwire_heartbeat_pings_total") >= 2.0);
    assert_eq!(metrics.sum("longwire_subscriptions"), 0.0);
}

#[test]
fn a_peer_that_answers_stays() {
    let server = Server::with(&FAST);
    let mut socket = server.subscribe("demo");
    for _ in 0..6 {
        let ping = socket.raw_frame().expect("a ping");
        assert_eq!(ping.first, FIN | PING);
        socket.send(FIN | PONG, &ping.payload);
    }
    server.publish("demo", "still here");
    socket.expect_text("still here");
    assert_eq!(server.metrics().closes("heartbeat_timeout"), 0.0);
}

/// Sends `input` little by little, never answering a ping, for longer than silence would be forgiven.
fn stay_alive_by(server: &Server, input: &[u8]) {
    let mut socket = server.websocket("/echo");
    let pause = LONGER_THAN_FAST / input.len() as u32;
    for byte in input {
        socket.peer.offer([*byte], Delivery::Whole);
        std::thread::sleep(pause);
    }
    socket.send(FIN | TEXT, "still here");
    let mut frames = std::iter::from_fn(|| socket.raw_frame().ok());
    let answer = frames.find(|frame| frame.payload == b"still here");
    assert!(answer.is_some(), "closed though {} bytes came", input.len());
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let server = Server::with(&FAST);
    std::thread::scope(|scope| {
        scope.spawn(|| stay_alive_by(&server, &masked_frame(FIN | TEXT, &[b'x'; 20])));
        scope.spawn(|| stay_alive_by(&server, &masked_frame(FIN | PONG, b"").repeat(4)));
        scope.spawn(|| stay_alive_by(&server, &masked_frame(FIN | PING, b"").repeat(4)));
    });
    assert_eq!(server.metrics().closes("heartbeat_timeout"), 0.0);
}

#[test]
fn publications_do_not_keep_a_silent_peer_alive() {
    let server = Server::with(&FAST);
    let mut socket = server.subscribe("demo");
    wait_until("the silent peer is closed", || {
        server.publish("demo", "x");
        server.metrics().closes("heartbeat_timeout") == 1.0
    });
    while socket.raw_frame().is_ok() {}
}

#[test]
fn first_pings_are_spread_over_the_interval() {
    let server = Server::with(&[
        "heartbeat.ping_interval_ms=6000",
        "heartbeat.pong_timeout_ms=6000",
    ]);
    let sockets: Vec<_> = (0..60).map(|_| server.subscribe("demo")).collect();
    let mut counts = BTreeSet::new();
    wait_until("everyone was pinged once", || {
        let pings = server.metrics().sum("longwire_heartbeat_pings_total") as u64;
        counts.insert(pings);
        pings >= 60
    });
    assert!(counts.len() >= 4, "pinged in bursts: {counts:?}");
    drop(sockets);
}
