//! Plain HTTP: what is served, what is refused, and when a connection ends.

use crate::harness::{Delivery, Peer, Response, Server, wait_until};

fn assert_text(answer: &Response, body: &str) {
    assert_eq!((answer.status, answer.text().as_str()), (200, body));
    let content_type = answer.header("content-type").expect("Content-Type");
    assert!(content_type.starts_with("text/plain"), "{content_type}");
}

// ---- what is served

#[test]
fn health_and_ready_answer_one_line() {
    let server = Server::start(&[]);
    assert_text(&server.get("/health"), "ok\n");
    assert_text(&server.get("/ready"), "ready\n");
    assert_text(&server.get("/health?verbose=1"), "ok\n");
}

#[test]
fn head_has_the_length_and_no_body() {
    let server = Server::start(&[]);
    let mut peer = server.connect();
    let head = format!("HEAD /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
    let get = format!("GET /ready HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
    peer.send([head, get].concat());
    let answer = peer.head();
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("3"))
    );
    assert_eq!(peer.response().text(), "ready\n");
}

#[test]
fn the_page_is_served_with_a_content_security_policy() {
    let server = Server::start(&[]);
    let answer = server.get("/");
    assert_eq!(answer.status, 200);
    let content_type = answer.header("content-type").expect("Content-Type");
    assert!(content_type.starts_with("text/html"), "{content_type}");
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src"), "{policy}");
    assert!(answer.text().contains("<html"));
}

#[test]
fn metrics_are_well_formed_and_complete() {
    let server = Server::start(&["--shards", "2"]);
    let answer = server.get("/metrics");
    let content_type = answer.header("content-type").expect("Content-Type");
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
    let metrics = server.metrics();
    for name in METRICS {
        assert!(metrics.has(name), "{name} is missing");
    }
    assert_eq!(metrics.sum("longwire_shards"), 2.0);
    assert_eq!(
        metrics.sum_where("longwire_info", "version", env!("CARGO_PKG_VERSION")),
        1.0
    );
    assert!(metrics.sum("longwire_accepts_total") >= 2.0);
    assert!(metrics.sum("process_resident_memory_bytes") > 0.0);
}

const METRICS: &[&str] = &[
    "longwire_connections",
    "longwire_subscriptions",
    "longwire_channels",
    "longwire_accepts_total",
    "longwire_refused_total",
    "longwire_closes_total",
    "longwire_publications_total",
    "longwire_publications_refused_total",
    "longwire_deliveries_total",
    "longwire_sends_total",
    "longwire_coalesced_sends_total",
    "longwire_received_bytes_total",
    "longwire_sent_bytes_total",
    "longwire_outbox_bytes",
    "longwire_heartbeat_pings_total",
    "longwire_heartbeat_misses_total",
    "longwire_loop_turn_seconds_bucket",
    "longwire_loop_turn_seconds_sum",
    "longwire_loop_turn_seconds_count",
    "longwire_log_lines_dropped_total",
    "process_cpu_seconds_total",
    "process_start_time_seconds",
];

#[test]
fn every_metric_has_its_help_and_type() {
    let server = Server::start(&[]);
    let text = server.get("/metrics").text();
    for name in server.metrics().names() {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        for keyword in ["HELP", "TYPE"] {
            let line = format!("# {keyword} {family} ");
            let lines = text.lines().filter(|l| l.starts_with(&line)).count();
            assert_eq!(lines, 1, "{line}");
        }
    }
}

// ---- what is refused

#[test]
fn an_unknown_path_is_404() {
    let server = Server::start(&[]);
    for path in [
        "/nope",
        "/healthy",
        "/health/",
        "/api/",
        "/api/publish/nope",
        "//",
    ] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn another_method_is_405_and_names_those_allowed() {
    let server = Server::start(&[]);
    for (method, path) in [
        ("DELETE", "/channels/demo"),
        ("PUT", "/channels/demo"),
        ("POST", "/health"),
        ("POST", "/metrics"),
        ("POST", "/"),
        ("GET", "/api/publish"),
        ("GET", "/api"),
    ] {
        let answer = server.request(method, path, "", b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }
}

/// Requests that two servers could read differently, or that none should read. `{host}` is filled in.
const MALFORMED: &[(&str, &str)] = &[
    (
        "length and chunked",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked and length",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ),
    (
        "a list of lengths",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1, 1\r\n\r\nx",
    ),
    (
        "a signed length",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: +1\r\n\r\nx",
    ),
    (
        "a negative length",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\nx",
    ),
    (
        "a hexadecimal length",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x1\r\n\r\nx",
    ),
    (
        "an empty length",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length:\r\n\r\n",
    ),
    (
        "a length that overflows",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: 18446744073709551617\r\n\r\nx",
    ),
    (
        "chunked not alone",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked not last",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked misspelt",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked in 1.0",
        "POST /channels/a HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a signed chunk size",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
    ),
    (
        "a chunk longer than said",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
    ),
    (
        "a bare line feed in a chunk",
        "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
    ),
    ("no host", "GET /health HTTP/1.1\r\n\r\n"),
    (
        "two hosts",
        "GET /health HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
    ),
    ("an empty host", "GET /health HTTP/1.1\r\nHost:\r\n\r\n"),
    (
        "a host with a path",
        "GET /health HTTP/1.1\r\nHost: {host}/x\r\n\r\n",
    ),
    ("bare line feeds", "GET /health HTTP/1.1\nHost: {host}\n\n"),
    (
        "one bare line feed",
        "GET /health HTTP/1.1\r\nHost: {host}\nX: y\r\n\r\n",
    ),
    (
        "a bare carriage return",
        "GET /health HTTP/1.1\r\nHost: {host}\r\nX: a\rb\r\n\r\n",
    ),
    (
        "a folded header",
        "GET /health HTTP/1.1\r\nHost: {host}\r\nX: a\r\n b\r\n\r\n",
    ),
    (
        "a space before the colon",
        "GET /health HTTP/1.1\r\nHost : {host}\r\n\r\n",
    ),
    (
        "a header without a colon",
        "GET /health HTTP/1.1\r\nHost: {host}\r\nnonsense\r\n\r\n",
    ),
    (
        "a header without a name",
        "GET /health HTTP/1.1\r\nHost: {host}\r\n: x\r\n\r\n",
    ),
    (
        "a NUL in a header",
        "GET /health HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n",
    ),
    (
        "a NUL in the target",
        "GET /hea\0lth HTTP/1.1\r\nHost: {host}\r\n\r\n",
    ),
    (
        "two spaces",
        "GET  /health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    ),
    ("no target", "GET HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    (
        "a relative target",
        "GET health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    ),
    (
        "not HTTP",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n",
    ),
];

#[test]
fn malformed_requests_are_answered_400_and_the_connection_ends() {
    let server = Server::start(&[]);
    for (what, request) in MALFORMED {
        let request = request.replace("{host}", &server.host());
        for delivery in Delivery::BOTH {
            let mut peer = server.connect();
            peer.offer(&request, delivery);
            let answer = peer.response();
            assert_eq!(answer.status, 400, "{what}: {:?}", answer.text());
            assert_eq!(answer.header("connection"), Some("close"), "{what}");
            peer.expect_end();
        }
    }
    assert_eq!(server.publish("a", "x").0, 1, "none of them was published");
}

#[test]
fn another_version_of_http_is_505() {
    let server = Server::start(&[]);
    let request = format!("GET /health HTTP/2.0\r\nHost: {}\r\n\r\n", server.host());
    assert_eq!(server.exchange(request).status, 505);
}

#[test]
fn a_head_too_long_or_too_full_is_431() {
    let server = Server::start(&[]);
    let start = format!("GET /health HTTP/1.1\r\nHost: {}\r\n", server.host());
    let long = format!("{start}X: {}\r\n\r\n", "y".repeat(9000));
    let full = format!("{start}{}\r\n", "X: y\r\n".repeat(101));
    let endless = format!("{start}{}", "X: y\r\n".repeat(2000));
    for head in [long, full, endless] {
        let mut peer = server.connect();
        peer.offer(head, Delivery::Whole);
        assert_eq!(peer.response().status, 431);
    }
}

#[test]
fn a_request_line_too_long_is_414() {
    let server = Server::with(&["http.request_line_bytes=1024"]);
    let path = format!("/channels/{}", "n".repeat(1500));
    assert_eq!(server.get(&path).status, 414);
}

// ---- when a connection ends

/// The connection must end, after at most one answer, which must have this status.
fn expect_timeout(peer: &mut Peer, status: u16) {
    if let Ok(answer) = peer.try_response() {
        assert_eq!(answer.status, status);
        peer.expect_end();
    }
}

#[test]
fn a_head_that_stalls_is_408() {
    let server = Server::with(&["http.ready_timeout_ms=1000"]);
    let mut peer = server.connect();
    peer.send("GET /health HTTP/1.1\r\nHost: ");
    assert_eq!(peer.response().status, 408);
    peer.expect_end();
}

#[test]
fn a_connection_that_says_nothing_is_ended() {
    let server = Server::with(&["http.ready_timeout_ms=1000"]);
    expect_timeout(&mut server.connect(), 408);
    server.wait_for_closes("request_timeout", 1.0);
}

#[test]
fn a_head_that_trickles_in_is_ended_all_the_same() {
    let server = Server::with(&["http.ready_timeout_ms=1000"]);
    let mut peer = server.connect();
    peer.send("GET /health HTTP/1.1\r\nX: ");
    wait_until("the trickle is cut off", || {
        peer.offer("y", Delivery::Whole);
        peer.has_input(std::time::Duration::from_millis(20))
    });
    expect_timeout(&mut peer, 408);
}

/// The time for a body is long here; it is its pace that ends it. A faster one in the same time is taken.
#[test]
fn a_body_that_trickles_in_is_408_long_before_its_time() {
    let server = Server::with(&["http.body_timeout_ms=600000"]);
    let post = |length: usize| {
        let host = server.host();
        format!("POST /channels/demo HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut slow = server.connect();
    slow.send(post(1_000_000));
    let mut fast = server.connect();
    fast.send(post(1_000_000) + &"x".repeat(500_000));
    wait_until("the trickle is cut off", || {
        slow.offer("y", Delivery::Whole);
        slow.has_input(std::time::Duration::from_millis(20))
    });
    expect_timeout(&mut slow, 408);
    fast.send("x".repeat(500_000));
    assert_eq!(fast.response().status, 200);
}

#[test]
fn a_body_that_stalls_is_408() {
    let server = Server::with(&["http.body_timeout_ms=1000"]);
    let mut peer = server.connect();
    peer.send(format!(
        "POST /channels/demo HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\nhalf",
        server.host()
    ));
    expect_timeout(&mut peer, 408);
    assert_eq!(server.publish("demo", "x").0, 1);
}

#[test]
fn an_idle_keep_alive_connection_is_ended() {
    let server = Server::with(&["http.keepalive_timeout_ms=1000"]);
    let mut peer = server.connect();
    peer.send(format!(
        "GET /health HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.host()
    ));
    assert_eq!(peer.response().status, 200);
    expect_timeout(&mut peer, 408);
}

#[test]
fn a_connection_serves_many_requests() {
    let server = Server::start(&[]);
    let mut peer = server.connect();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
    for _ in 0..20 {
        peer.send(&request);
        assert_text(&peer.response(), "ok\n");
    }
}

#[test]
fn connection_close_is_honoured() {
    let server = Server::start(&[]);
    let mut peer = server.connect();
    let host = server.host();
    peer.send(format!(
        "GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ));
    let answer = peer.response();
    assert_eq!(answer.header("connection"), Some("close"));
    peer.expect_end();
}

#[test]
fn http_1_0_closes_unless_asked_to_keep_alive() {
    let server = Server::start(&[]);
    let mut peer = server.connect();
    peer.send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = peer.response();
    assert_text(&answer, "ok\n");
    assert_eq!(answer.header("connection"), Some("keep-alive"));
    peer.send("GET /health HTTP/1.0\r\n\r\n");
    assert_text(&peer.response(), "ok\n");
    peer.expect_end();
}

#[test]
fn one_empty_line_before_a_request_is_forgiven() {
    let server = Server::start(&[]);
    let request = format!(
        "\r\nGET /health HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.host()
    );
    assert_eq!(server.exchange(request).status, 200);
}

#[test]
fn an_absolute_target_is_accepted_if_it_names_the_host() {
    let server = Server::start(&[]);
    let host = server.host();
    let request = format!("GET http://{host}/health HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(server.exchange(request).status, 200);
    let other = format!("GET http://other.example/health HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(server.exchange(other).status, 400);
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let server = Server::start(&[]);
    let mut peer = server.connect();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
    peer.offer(request, Delivery::ByteByByte);
    assert_text(&peer.response(), "ok\n");
}
