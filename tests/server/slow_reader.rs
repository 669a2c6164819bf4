//! A subscriber that stops reading is closed, and nobody else notices.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::{CLOSE, FIN, PING, Server, TEXT, WebSocket, wait_until};

const BODY_BYTES: usize = 32 * 1024;
/// What stands before such a body in its frame.
const FRAME_HEADER_BYTES: usize = 4;

/// The body of publication `n`: its number, then letters that differ from one publication to the next.
fn body(n: u64) -> Vec<u8> {
    let mut body = format!("{n:08}").into_bytes();
    body.resize(BODY_BYTES, b'a' + (n % 26) as u8);
    body
}

/// Reads publications 0, 1, … as they come until `published` says there are no more.
fn read_all(mut socket: WebSocket, published: &AtomicU64) -> u64 {
    let mut next = 0;
    while next < published.load(Ordering::Acquire) {
        socket.expect(TEXT, body(next));
        next += 1;
    }
    next
}

/// What lies in a connection that was never read: publications 0, 1, … without a gap, each whole, then at most one Close,
/// then the end, which may cut a frame short but never put another frame into it.
fn check_backlog(mut socket: WebSocket) {
    let mut next = 0;
    while let Ok(frame) = socket.raw_frame() {
        match frame.first {
            first if first == FIN | PING => continue,
            first if first == FIN | CLOSE => {
                assert_eq!(frame.close_code(), 4004);
                return socket.peer.expect_end();
            }
            _ => assert!(frame.payload == body(next), "publication {next} is torn"),
        }
        next += 1;
    }
    let (rest, _) = socket.peer.read_to_end();
    let cut = rest.get(FRAME_HEADER_BYTES..).unwrap_or_default();
    assert!(
        body(next).starts_with(cut),
        "not the start of publication {next}"
    );
}

#[test]
fn a_reader_that_stops_is_closed_and_the_others_lose_nothing() {
    let server = Server::with(&[
        "outbox.soft_bytes=65536",
        "outbox.soft_timeout_ms=1000",
        "outbox.hard_bytes=262144",
        "outbox.stall_timeout_ms=3000",
    ]);
    let stopped: Vec<_> = (0..2).map(|_| server.subscribe("demo")).collect();
    let readers: Vec<_> = (0..5).map(|_| server.subscribe("demo")).collect();
    // The readers read on until the last publication is known; until then there is always one more to come.
    let published = AtomicU64::new(u64::MAX);
    let mut count = 0;
    std::thread::scope(|scope| {
        let readers: Vec<_> = readers
            .into_iter()
            .map(|socket| scope.spawn(|| read_all(socket, &published)))
            .collect();
        wait_until("both are closed", || {
            server.publish("demo", body(count));
            count += 1;
            let metrics = server.metrics();
            metrics.closes("slow_consumer") + metrics.closes("write_stall") == 2.0
        });
        published.store(count + 1, Ordering::Release);
        server.publish("demo", body(count));
        for reader in readers {
            assert_eq!(reader.join().expect("reader"), count + 1);
        }
    });
    stopped.into_iter().for_each(check_backlog);
    wait_until("nothing is held for anyone", || {
        let metrics = server.metrics();
        metrics.sum("longwire_subscriptions") + metrics.sum("longwire_outbox_bytes") == 0.0
    });
}
