//! Web pages: whose may open WebSockets and publish, and whose may read the answers.

use crate::harness::Server;

const ORIGINS: &str = "origins=https://app.example,https://*.example.com";

#[test]
fn a_page_of_another_origin_is_refused_unless_listed() {
    let server = Server::with(&[ORIGINS]);
    let origin = |origin: &str| format!("Origin: {origin}\r\n");
    for (page, status) in [
        ("http://localhost", 101),
        ("http://localhost:80", 101),
        ("https://app.example", 101),
        ("https://app.example:443", 101),
        ("https://a.b.example.com", 101),
        ("http://app.example", 403),
        ("https://app.example:8443", 403),
        ("https://app.example.evil", 403),
        ("https://example.com", 403),
        ("https://evilexample.com", 403),
        ("http://localhost:8000", 403),
        ("null", 403),
        ("localhost", 403),
        ("", 403),
        ("https://app.example/", 403),
        ("https://app.example https://app.example", 403),
    ] {
        assert_eq!(
            server.connect().upgrade(&origin(page)).status,
            status,
            "{page}"
        );
        let published = server
            .connect()
            .request("POST", "/channels/demo", &origin(page));
        assert_eq!(published.status == 200, status == 101, "{page}");
    }
    let twice = origin("https://app.example").repeat(2);
    assert_eq!(server.connect().upgrade(&twice).status, 403);
    let open = Server::with(&["origins=null"]);
    assert_eq!(open.connect().upgrade(&origin("null")).status, 101);
}

#[test]
fn pages_of_listed_origins_may_read_answers() {
    let server = Server::with(&[ORIGINS]);
    let page = "Origin: https://app.example\r\n";
    let mut peer = server.connect();
    let preflight = format!(
        "{page}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-api-key\r\n"
    );
    let answer = peer.request("OPTIONS", "/channels/demo", &preflight);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET, HEAD, POST")
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("Authorization, Content-Type, If-None-Match, Last-Event-ID, X-API-Key")
    );
    assert_eq!(answer.header("access-control-max-age"), Some("7200"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert_eq!(answer.header("vary"), Some("Origin"));

    // On the same connection: the answer, whichever shard forms it, and a refusal by the endpoint.
    for channel in ["a", "b", "c", "d", "e", "f"] {
        let answer = peer.request("POST", &format!("/channels/{channel}"), page);
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://app.example")
        );
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    let answer = peer.request("POST", "/channels/a", "");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), Some("Origin"));
    let answer = peer.request("DELETE", "/channels/a", page);
    assert_eq!(answer.status, 405);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );

    // What is not for pages of others says nothing of origins.
    let answer = server.connect().request("GET", "/metrics", page);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn a_preflight_of_another_origin_is_refused() {
    let server = Server::with(&[ORIGINS]);
    let options = |path: &str, headers: &str| server.connect().request("OPTIONS", path, headers);
    let asks = "Access-Control-Request-Method: POST\r\n";
    let evil = options(
        "/channels/demo",
        &format!("Origin: https://evil.example\r\n{asks}"),
    );
    assert_eq!(
        (evil.status, evil.header("access-control-allow-origin")),
        (403, None)
    );
    assert_eq!(options("/channels/demo", asks).status, 405);
    let page = format!("Origin: https://app.example\r\n{asks}");
    assert_eq!(options("/metrics", &page).status, 405);
    assert_eq!(options("/api/publish", &page).status, 204);
}
