//! Who is let in: as many connections, handshakes and bytes as there is room for.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::harness::{Delivery, End, PATIENCE, Peer, Server, wait_until};

#[test]
fn everyone_over_the_cap_is_told_so_and_nobody_is_reset() {
    let server = Server::with(&["shards=1", "max_connections=4"]);
    let mut held: Vec<Peer> = (0..4).map(|_| server.connect()).collect();
    for peer in &mut held {
        assert_eq!(peer.upgrade("").status, 101);
    }
    // More than are refused at a time: the rest waits in the kernel.
    let mut late: Vec<Peer> = (0..100).map(|_| server.connect()).collect();
    for mut peer in late.drain(..) {
        peer.response()
            .expect_refusal("no room for another connection");
        assert_eq!(peer.read_to_end(), (Vec::new(), End::Eof));
    }
    drop(held);
    wait_until("a place", || server.connect().upgrade("").status == 101);
    assert!(server.metrics().refusals("connection_limit") >= 100.0);
}

/// Sets the soft limit on the server's descriptors; gives the one before.
fn limit_files(server: &Server, current: Option<u64>) -> Option<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current, maximum };
    let before = prlimit(Some(server.pid()), Resource::Nofile, limit);
    before.expect("prlimit").current
}

#[test]
fn without_descriptors_accept_rests_and_then_goes_on() {
    let server = Server::with(&["shards=1"]);
    let mut scraper = server.connect();
    assert_eq!(scraper.metrics().refusals("descriptors"), 0.0);
    let mut failed = || scraper.metrics().refusals("descriptors");
    // Every descriptor that may be had is in use.
    let before = limit_files(&server, Some(3));
    let mut waiting: Vec<Peer> = (0..5).map(|_| server.connect()).collect();
    wait_until("an accept fails", || failed() > 0.0);

    // It fails again after each rest of 100 ms, and no oftener.
    let (began, failed_before) = (Instant::now(), failed());
    sleep(Duration::from_secs(1));
    let failures = failed() - failed_before;
    let rests = began.elapsed().as_millis() / 100;
    assert!(failures <= rests as f64 + 1.0, "{failures}, {rests} rests");

    limit_files(&server, before);
    for peer in &mut waiting {
        assert_eq!(peer.request("GET", "/health", "").status, 200);
    }
}

#[test]
fn handshakes_over_the_rate_are_told_to_come_back() {
    let server = Server::with(&["shards=1", "admission.handshakes_per_s=1"]);
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let mut peer = server.connect();
        let response = peer.upgrade("");
        if response.status == 503 {
            response.expect_refusal("too many handshakes at once");
            assert_eq!(peer.read_to_end(), (Vec::new(), End::Eof));
        }
        statuses.push(response.status);
    }
    assert_eq!(statuses[0], 101);
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused > 0 && statuses.iter().all(|s| [101, 503].contains(s)));
    // Requests are no handshakes.
    assert_eq!(server.metrics().refusals("handshake_rate"), refused as f64);
}

#[test]
fn short_of_memory_new_connections_are_refused() {
    let server = Server::with(&["admission.memory_bytes=1048576"]);
    let mut peer = server.connect();
    peer.response().expect_refusal("short of memory");
    assert_eq!(peer.read_to_end(), (Vec::new(), End::Eof));
}

#[test]
fn nearly_out_of_memory_the_slowest_readers_are_closed() {
    const MIB: usize = 1024 * 1024;
    const LIMIT: usize = 128 * MIB;
    let server = Server::with(&[
        "shards=1",
        &format!("admission.memory_bytes={LIMIT}"),
        "outbox.soft_bytes=1073741824",
        "outbox.hard_bytes=1073741824",
        "outbox.stall_timeout_ms=600000",
        "channels.batch_bytes=1073741824",
    ]);
    let mut scraper = server.connect();
    // It reads nothing more.
    let mut slow = server.connect();
    assert_eq!(slow.upgrade("").status, 101);

    let mut publisher = server.connect();
    let body = vec![b'x'; MIB];
    let head =
        format!("POST /channels/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\n");
    let request = [head.as_bytes(), &body].concat();
    let deadline = Instant::now() + PATIENCE;
    while scraper.metrics().sum("longwire_subscriptions") > 0.0 {
        assert!(Instant::now() < deadline, "the slow reader is still there");
        publisher.offer(&request, Delivery::Whole);
        assert_eq!(publisher.response().status, 200);
    }
    wait_until("its end is counted", || {
        scraper.metrics().closes("slow_consumer") == 1.0
    });
    // What it held up is given back to the kernel, so that newcomers are let in again.
    wait_until("newcomers are let in", || {
        let mut peer = server.connect();
        peer.request("GET", "/health", "").status == 200
    });
    assert!(scraper.metrics().sum("longwire_memory_used_bytes") < LIMIT as f64);
}
