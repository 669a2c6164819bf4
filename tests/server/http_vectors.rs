//! HTTP/1.1 as other programs get it wrong: requests that two readers could take differently, answers in order, and one
//! honest line for everything that is refused.

use crate::harness::{Delivery, Peer, Response, Server, upgrade_request};

/// Behind every refused request stands this one. If it is ever answered or heard of, the server read on.
fn smuggled(host: &str) -> String {
    format!("POST /channels/smuggled HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\n!")
}

fn publications(server: &Server) -> f64 {
    server.metrics().sum("longwire_publications_total")
}

/// Exactly one answer comes, it says `close`, and then the connection ends.
fn expect_last_answer(peer: &mut Peer, what: &str) -> Response {
    let answer = peer.response();
    assert_eq!(answer.header("connection"), Some("close"), "{what}");
    let (rest, _) = peer.read_to_end();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.is_empty(), "{what}: read on, and answered {rest}");
    answer
}

fn assert_one_line(answer: &Response, what: &str) {
    let text = answer.text();
    let one_line = text.len() > 1 && text.ends_with('\n') && text.lines().count() == 1;
    assert!(one_line, "{what}: {} {text:?}", answer.status);
    let content_type = answer.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("text/plain"), "{what}");
}

// ---- framing that readers differ on

/// Lines that frame the body of a POST in no way that all readers agree on.
const AMBIGUOUS_FRAMING: &[&str] = &[
    // Both framings, in either order.
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Content-Length: 0\r\nTransfer-Encoding: chunked",
    "Content-Length: 5\r\nTransfer-Encoding: identity",
    // Lengths repeated, listed, or no plain number.
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 5\r\nX: y\r\ncontent-length: 5",
    "Content-Length: 5, 5",
    "Content-Length: 5,6",
    "Content-Length: ",
    "Content-Length: +5",
    "Content-Length: -5",
    "Content-Length: -0",
    "Content-Length: 5.0",
    "Content-Length: 5e0",
    "Content-Length: 0x5",
    "Content-Length: 5 5",
    "Content-Length: 5;",
    "Content-Length: \"5\"",
    "Content-Length: 99999999999999999999",
    // Codings other than exactly `chunked`, once.
    "Transfer-Encoding: ",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked;a=b",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chun ked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: \u{c}chunked",
    "Transfer-Encoding: chunked\u{b}",
    "Transfer-Encoding: chunk\u{e9}d",
    // Names that some readers take for the real ones.
    "Content-Length : 5",
    "Content-Length\t: 5",
    " Content-Length: 5",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\u{b}: chunked",
    "Content-Length: 5\r\n Transfer-Encoding: chunked",
    "X: y\r\n\tTransfer-Encoding: chunked",
    "Content Length: 5",
    "Transfer-Encoding:\r\n chunked",
    "\u{0}Transfer-Encoding: chunked",
    "Transfer-Encoding\u{0}: chunked",
    "Transfer-Encoding: chunked\u{0}",
    "(Content-Length): 5",
    "Content-Length",
    ": 5",
    // Line ends that are none.
    "X: y\nContent-Length: 5",
    "X: y\rContent-Length: 5",
    "X: y\r\r\nContent-Length: 5",
    "X: y\n\nContent-Length: 5",
];

#[test]
fn a_body_framed_ambiguously_is_400_and_nothing_behind_it_is_read() {
    let server = Server::start(&[]);
    let host = server.host();
    for lines in AMBIGUOUS_FRAMING {
        let head = format!("POST /channels/a HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n\r\n");
        for body in ["5\r\nabcde\r\n0\r\n\r\n", "abcde"] {
            for delivery in Delivery::BOTH {
                let mut peer = server.connect();
                peer.offer(format!("{head}{body}{}", smuggled(&host)), delivery);
                let answer = expect_last_answer(&mut peer, lines);
                assert_eq!(answer.status, 400, "{lines:?}: {}", answer.text());
                assert_one_line(&answer, lines);
            }
        }
    }
    assert_eq!(publications(&server), 0.0);
}

/// Heads that are malformed before any body.
const MALFORMED_HEADS: &[&str] = &[
    "GET /health HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\nhost: other.example\r\n\r\n",
    "GET /health HTTP/1.1\r\nX: y\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: \r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: user@{host}\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}/\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}#\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: a:port\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "GET http://other.example/health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET http:///health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET ftp://{host}/health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /he alth HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /health#x HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /h\u{e9}alth HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /health\u{0} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /health\u{7f} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET \\health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /health\r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/1.1\r\r\nHost: {host}\r\n\r\n",
    "GET /health  HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/1.1 \r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/1.1 x\r\nHost: {host}\r\n\r\n",
    "GET\t/health\tHTTP/1.1\r\nHost: {host}\r\n\r\n",
    " GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "G(T /health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "G\u{e9}T /health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "GET /health http/1.1\r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/1.\r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/11\r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/1.10\r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/ 1.1\r\nHost: {host}\r\n\r\n",
    "GET /health HTTPS/1.1\r\nHost: {host}\r\n\r\n",
    "GET /health HTTP/1.1\r\n Host: {host}\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\nX: a\r\n b\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\nX: a\r\n\tb\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\nX: \u{0}\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\nX: \u{1b}\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\nX: \u{7f}\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\nX y: z\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\nX\u{e9}: y\r\n\r\n",
    "GET /health HTTP/1.1\nHost: {host}\n\n",
    "GET /health HTTP/1.1\r\nHost: {host}\r\n\n",
    "GET /health HTTP/1.1\r\nHost: {host}\n\r\n",
    "GET /health HTTP/1.1\rHost: {host}\r\r",
    "\r\n\r\nGET /health HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "\nGET /health HTTP/1.1\r\nHost: {host}\r\n\r\n",
];

#[test]
fn a_malformed_head_is_400_and_nothing_behind_it_is_read() {
    let server = Server::start(&[]);
    let host = server.host();
    for head in MALFORMED_HEADS {
        let head = head.replace("{host}", &host);
        for delivery in Delivery::BOTH {
            let mut peer = server.connect();
            peer.offer(head.clone() + &smuggled(&host), delivery);
            let answer = expect_last_answer(&mut peer, &head);
            assert_eq!(answer.status, 400, "{head:?}: {}", answer.text());
            assert_one_line(&answer, &head);
        }
    }
    assert_eq!(publications(&server), 0.0);
}

/// Chunked bodies that break the coding. What follows the head of a POST.
const MALFORMED_CHUNKS: &[&str] = &[
    "\r\n",
    "x\r\n",
    ";a\r\n",
    " 1\r\na\r\n0\r\n\r\n",
    "1 \r\na\r\n0\r\n\r\n",
    "1\t;a\r\na\r\n0\r\n\r\n",
    "+1\r\na\r\n0\r\n\r\n",
    "-1\r\na\r\n0\r\n\r\n",
    "0x1\r\na\r\n0\r\n\r\n",
    "1_0\r\na\r\n0\r\n\r\n",
    "1,\r\na\r\n0\r\n\r\n",
    "00000000000000001\r\na\r\n0\r\n\r\n",
    "10000000000000000\r\na\r\n0\r\n\r\n",
    "1\na\r\n0\r\n\r\n",
    "1\ra\r\n0\r\n\r\n",
    "1\r\na\n0\r\n\r\n",
    "1\r\nab\r\n0\r\n\r\n",
    "1\r\na0\r\n\r\n",
    "2\r\na\r\n0\r\n\r\n",
    "1\r\na\r\n\r\n0\r\n\r\n",
    "1\r\na\r\n0\n\r\n",
    "1\r\na\r\n0\r\n\n",
    "1\r\na\r\n0\r\nX y: z\r\n\r\n",
    "1\r\na\r\n0\r\nX: y\r\n folded\r\n\r\n",
    "1\r\na\r\n0\r\n X: y\r\n\r\n",
    "1\r\na\r\n0\r\nX : y\r\n\r\n",
    "1\r\na\r\n0\r\nX: \u{0}\r\n\r\n",
    "1\r\na\r\n0\r\nX: y\n\r\n",
    "1\r\na\r\n0\r\nnonsense\r\n\r\n",
    "1;a\nb\r\na\r\n0\r\n\r\n",
    "1;a\rb\r\na\r\n0\r\n\r\n",
    "1;\u{0}\r\na\r\n0\r\n\r\n",
];

/// A head that announces a chunked body.
fn chunked(host: &str, body: &str) -> String {
    format!("POST /channels/a HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn a_malformed_chunk_is_400_and_nothing_behind_it_is_read() {
    let server = Server::start(&[]);
    let host = server.host();
    for body in MALFORMED_CHUNKS {
        let request = chunked(&host, body) + &smuggled(&host);
        for delivery in Delivery::BOTH {
            let mut peer = server.connect();
            peer.offer(&request, delivery);
            let answer = expect_last_answer(&mut peer, body);
            assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
            assert_one_line(&answer, body);
        }
    }
    assert_eq!(publications(&server), 0.0);
}

#[test]
fn well_formed_chunks_are_taken_whatever_stands_beside_them() {
    let server = Server::start(&[]);
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(200));
    let bodies = [
        "5\r\nhello\r\n0\r\n\r\n",
        "005\r\nhello\r\n000\r\n\r\n",
        "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n",
        "5;a\r\nhello\r\n0;b=c\r\n\r\n",
        "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\nContent-Length: 99\r\nTransfer-Encoding: identity\r\n\r\n",
        &long_extension,
    ];
    let mut socket = server.subscribe("a");
    for body in bodies {
        for delivery in Delivery::BOTH {
            let mut peer = server.connect();
            let health = "GET /health HTTP/1.1\r\nConnection: close\r\n";
            let request = chunked(&server.host(), body);
            let next = format!("{health}Host: {}\r\n\r\n", server.host());
            peer.offer(request + &next, delivery);
            assert_eq!(peer.response().status, 200, "{body:?}");
            assert_eq!(peer.response().text(), "ok\n", "{body:?}");
            socket.expect_text("hello");
        }
    }
    let upper = chunked(&server.host(), "A\r\n0123456789\r\n0\r\n\r\n");
    assert_eq!(server.exchange(upper).status, 200);
    socket.expect_text("0123456789");
}

#[test]
fn a_chunk_that_claims_too_much_is_413_once_it_is_too_much() {
    let server = Server::with(&["http.body_bytes=1000"]);
    let claim = format!("ffffffffffffffff\r\n{}", "x".repeat(1001));
    let answer = server.exchange(chunked(&server.host(), &claim));
    assert_eq!(answer.status, 413);
    let extensions = format!("1;{}\r\n", "x".repeat(300));
    let answer = server.exchange(chunked(&server.host(), &extensions));
    assert_eq!(answer.status, 400);
    let trailers = format!("0\r\nX: {}\r\n", "y".repeat(5000));
    let answer = server.exchange(chunked(&server.host(), &trailers));
    assert_eq!(answer.status, 400);
}

#[test]
fn white_space_and_case_that_the_rfc_allows_are_taken() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("a");
    for lines in [
        "Content-Length:5",
        "CONTENT-LENGTH: \t5 \t",
        "content-length: 00005",
    ] {
        let request = format!(
            "POST /channels/a HTTP/1.1\r\nhOsT:{}\r\n{lines}\r\n\r\nhello",
            server.host()
        );
        assert_eq!(server.exchange(request).status, 200, "{lines:?}");
        socket.expect_text("hello");
    }
    for lines in ["transfer-encoding:CHUNKED", "Transfer-Encoding:\tChunked "] {
        let request = format!(
            "POST /channels/a HTTP/1.1\r\nHost: {}\r\n{lines}\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            server.host()
        );
        assert_eq!(server.exchange(request).status, 200, "{lines:?}");
        socket.expect_text("hello");
    }
}

// ---- upgrades

#[test]
fn a_failed_upgrade_ends_the_connection_and_what_follows_it_is_never_parsed() {
    let server = Server::with(&["echo=true"]);
    let host = server.host();
    let sample = upgrade_request("/echo", &host, "");
    let failures = [
        ("Version: 13", "Version: 777", 426),
        ("Version: 13", "Version: ", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
        ("Connection: Upgrade", "Connection: close", 400),
        ("Upgrade: websocket\r\n", "", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("/echo", "/nope", 404),
        ("GET", "PUT", 405),
        ("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n", 403),
        ("\r\n\r\n", "\r\nContent-Length: 100\r\n\r\n", 400),
        ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ];
    for (from, to, status) in failures {
        let request = sample.replacen(from, to, 1);
        for delivery in Delivery::BOTH {
            let mut peer = server.connect();
            peer.offer(request.clone() + &smuggled(&host), delivery);
            let answer = expect_last_answer(&mut peer, to);
            assert_eq!(answer.status, status, "{to:?}: {}", answer.text());
            assert_one_line(&answer, to);
        }
    }
    assert_eq!(publications(&server), 0.0);
}

#[test]
fn an_upgrade_to_anything_else_is_ignored_and_the_connection_ends_after_its_answer() {
    let server = Server::start(&[]);
    let host = server.host();
    for upgrade in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2",
        "Connection: Upgrade\r\nUpgrade: h2c, HTTP/3.0",
        "Upgrade: IRC/6.9",
    ] {
        let mut peer = server.connect();
        let request = format!("GET /health HTTP/1.1\r\nHost: {host}\r\n{upgrade}\r\n\r\n");
        peer.send(request + &smuggled(&host));
        let answer = expect_last_answer(&mut peer, upgrade);
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
        assert_eq!(answer.header("upgrade"), None);
    }
    assert_eq!(publications(&server), 0.0);
}

#[test]
fn the_preface_of_http_2_is_505_and_the_end() {
    let server = Server::start(&[]);
    for delivery in Delivery::BOTH {
        let mut peer = server.connect();
        let settings = "\0\0\0\u{4}\0\0\0\0\0";
        let preface = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{settings}");
        peer.offer(preface, delivery);
        let answer = expect_last_answer(&mut peer, "the preface");
        assert_eq!(answer.status, 505);
        assert_one_line(&answer, "the preface");
    }
}

// ---- answers in order, connections that stay or end

#[test]
fn pipelined_requests_are_answered_each_and_in_order() {
    let server = Server::start(&[]);
    let host = server.host();
    for delivery in [Delivery::Whole, Delivery::Chopped(7)] {
        let mut peer = server.connect();
        let mut requests = String::new();
        for i in 0..50 {
            requests += &format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n");
            requests += &format!("HEAD /ready HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let body = format!("{i}");
            let length = body.len();
            requests += &format!(
                "POST /channels/a HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            requests += &chunked(&host, "1\r\nx\r\n0\r\n\r\n");
        }
        peer.offer(requests, delivery);
        let mut offset = None;
        for _ in 0..50 {
            assert_eq!(peer.response().text(), "ok\n");
            assert_eq!(peer.head().status, 200);
            for _ in 0..2 {
                let next = peer.response().json()["offset"].as_u64();
                assert!(offset.is_none() || next == offset.map(|offset| offset + 1));
                offset = next;
            }
        }
    }
}

/// Whether the connection takes a second request after one with this version and these lines.
fn stays(server: &Server, version: &str, lines: &str) -> bool {
    let mut peer = server.connect();
    let request = format!(
        "GET /health {version}\r\nHost: {}\r\n{lines}\r\n",
        server.host()
    );
    peer.offer(request.repeat(2), Delivery::Whole);
    let says_close = peer.response().header("connection") == Some("close");
    let stays = peer.try_response().is_ok();
    assert_ne!(stays, says_close, "{version} {lines:?}");
    stays
}

#[test]
fn a_connection_stays_or_ends_as_version_and_connection_header_say() {
    let server = Server::start(&[]);
    for lines in [
        "",
        "Connection: keep-alive\r\n",
        "Connection: x, y\r\n",
        "Connection:\r\n",
    ] {
        assert!(stays(&server, "HTTP/1.1", lines), "{lines:?}");
    }
    for lines in [
        "Connection: close\r\n",
        "Connection: CLOSE\r\n",
        "Connection: x , close\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
        "Connection: keep-alive, close\r\n",
    ] {
        assert!(!stays(&server, "HTTP/1.1", lines), "{lines:?}");
        assert!(!stays(&server, "HTTP/1.0", lines), "{lines:?}");
    }
    assert!(!stays(&server, "HTTP/1.0", ""));
    assert!(stays(&server, "HTTP/1.0", "Connection: Keep-Alive\r\n"));
}

#[test]
fn a_connection_ends_after_as_many_requests_as_configured() {
    let server = Server::with(&["http.keepalive_requests=3"]);
    let mut peer = server.connect();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.host());
    peer.offer(request.repeat(5), Delivery::Whole);
    for _ in 0..2 {
        assert_eq!(peer.response().header("connection"), None);
    }
    expect_last_answer(&mut peer, "the third request");
}

#[test]
fn an_http_1_0_request_needs_no_host() {
    let server = Server::start(&[]);
    assert_eq!(server.exchange("GET /health HTTP/1.0\r\n\r\n").status, 200);
}

// ---- HEAD

#[test]
fn the_answer_to_head_is_that_to_get_without_its_body() {
    let server = Server::with(&["echo=true"]);
    for path in [
        "/",
        "/health",
        "/ready",
        "/channels/a",
        "/chat",
        "/echo",
        "/nope",
        "/channels/%ff",
    ] {
        let get = server.get(path);
        let mut peer = server.connect();
        peer.send(format!(
            "HEAD {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            server.host()
        ));
        let head = peer.head();
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.headers, get.headers, "{path}");
        let (body, _) = peer.read_to_end();
        assert!(body.is_empty(), "{path}: a body of {} bytes", body.len());
    }
}

// ---- Expect: 100-continue

/// The head of a POST that waits for a 100.
fn expecting(server: &Server, path: &str, version: &str, length: usize) -> String {
    format!(
        "POST {path} {version}\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n",
        server.host()
    )
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_if_its_body_is_wanted() {
    let server = Server::with(&["http.body_bytes=1000"]);
    let mut peer = server.connect();
    peer.send(expecting(&server, "/channels/a", "HTTP/1.1", 5));
    assert_eq!(peer.response().status, 100);
    peer.send("hello");
    assert_eq!(peer.response().status, 200);

    for (path, length, status) in [
        ("/nope", 5, 404),
        ("/health", 5, 405),
        ("/channels/a", 1001, 413),
        ("/channels/%ff", 5, 400),
    ] {
        let mut peer = server.connect();
        peer.send(expecting(&server, path, "HTTP/1.1", length));
        assert_eq!(expect_last_answer(&mut peer, path).status, status, "{path}");
    }
}

#[test]
fn a_body_that_came_without_waiting_gets_no_100() {
    let server = Server::start(&[]);
    let request = expecting(&server, "/channels/a", "HTTP/1.1", 5) + "hello";
    assert_eq!(server.exchange(request).status, 200);
}

#[test]
fn an_http_1_0_client_never_gets_a_100() {
    let server = Server::start(&[]);
    let mut peer = server.connect();
    peer.send(expecting(&server, "/channels/a", "HTTP/1.0", 5));
    peer.send("hello");
    assert_eq!(peer.response().status, 200);
}

// ---- refusals

#[test]
fn every_refusal_has_its_status_and_one_line() {
    let server = Server::with(&[
        "http.body_bytes=1000",
        "http.head_bytes=2048",
        "http.headers=20",
        "http.request_line_bytes=1024",
        "http.ready_timeout_ms=2000",
    ]);
    let request = |line: &str, lines: &str| {
        let host = server.host();
        format!("{line} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")
    };
    let long_path = format!("GET /channels/{}", "n".repeat(1100));
    let long_header = format!("X: {}\r\n", "y".repeat(2048));
    let refusals = [
        (request("GET health", ""), 400),
        (request("GET /channels/%zz", ""), 400),
        (request("GET /nope", ""), 404),
        (request("DELETE /health", ""), 405),
        (request("OPTIONS /metrics", ""), 405),
        (request("GET /health", "").replace("\r\n\r\n", "\r\n"), 408),
        (request("POST /channels/a", ""), 411),
        (request("POST /api/publish", ""), 411),
        (request("POST /channels/a", "Content-Length: 1001\r\n"), 413),
        (
            request(
                "POST /channels/a",
                "Content-Length: 18446744073709551615\r\n",
            ),
            413,
        ),
        (request(&long_path, ""), 414),
        (
            request(
                "POST /channels/a",
                "Expect: 200-maybe\r\nContent-Length: 1\r\n",
            ),
            417,
        ),
        (request("GET /channels/a", ""), 426),
        (request("GET /health", &long_header), 431),
        (request("GET /health", &"X: y\r\n".repeat(20)), 431),
        (request("BREW /health", ""), 501),
        (request("get /health", ""), 501),
        ("GET /health HTTP/2.0\r\n\r\n".to_owned(), 505),
        ("GET /health HTTP/0.9\r\n\r\n".to_owned(), 505),
        ("GET /health HTTP/9.9\r\n\r\n".to_owned(), 505),
    ];
    for (request, status) in refusals {
        let what = request.lines().next().unwrap_or_default();
        let mut peer = server.connect();
        peer.offer(&request, Delivery::Whole);
        let answer = expect_last_answer(&mut peer, what);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_one_line(&answer, what);
    }
}

#[test]
fn nothing_of_a_request_comes_back_in_its_answer() {
    let server = Server::with(&["echo=true"]);
    let host = server.host();
    for request in [
        format!("GET /<script>marker</script> HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!(
            "GET /health?marker HTTP/1.1\r\nHost: {host}\r\nX-marker: marker\r\nConnection: close\r\n\r\n"
        ),
        format!("MARKER /health HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        "GET /health HTTP/1.1\r\nHost: marker.example/\r\n\r\n".to_owned(),
        upgrade_request("/echo", &host, "Origin: http://marker.example\r\n"),
        upgrade_request(
            "/echo",
            &host,
            "Sec-WebSocket-Protocol: marker\r\nSec-WebSocket-Extensions: marker\r\n",
        ),
        upgrade_request("/channels/marker%0d%0aX:%20y", &host, ""),
    ] {
        let mut peer = server.connect();
        peer.send(&request);
        peer.finish_sending();
        let (answer, _) = peer.read_to_end();
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(!answer.contains("marker"), "{request:?}: {answer:?}");
    }
}
