//! The Centrifuge protocol over everything but the WebSocket: streams with posts, clients that only listen, SockJS.

use serde_json::{Value, json};

use crate::harness::{FIN, Peer, Response, Server, TEXT};

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;

/// A response that goes on, and what of its body has come.
struct Stream {
    peer: Peer,
    text: String,
}

impl Stream {
    fn open(server: &Server, method: &str, path: &str, extra: &str, body: &str) -> Self {
        let mut peer = server.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            server.host(),
            body.len()
        );
        peer.send(head);
        let head = peer.head();
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        assert_eq!(head.header("x-accel-buffering"), Some("no"));
        Self {
            peer,
            text: String::new(),
        }
    }

    fn post(server: &Server, path: &str, body: &str) -> Self {
        Self::open(server, "POST", path, "", body)
    }

    /// What comes up to `end`, without it; `None` at the end of the response.
    fn piece(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some((piece, rest)) = self.text.split_once(end) {
                let (piece, rest) = (piece.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(piece);
            }
            let chunk = self.chunk();
            if chunk.is_empty() {
                assert_eq!(self.text, "");
                return None;
            }
            self.text.push_str(&chunk);
        }
    }

    fn chunk(&mut self) -> String {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.extend(self.peer.take(1).expect("a chunk"));
        }
        let digits = std::str::from_utf8(&size).unwrap().trim();
        let size = usize::from_str_radix(digits, 16).expect("the size of a chunk");
        let mut chunk = self.peer.take(size + 2).expect("a whole chunk");
        chunk.truncate(size);
        String::from_utf8(chunk).expect("UTF-8")
    }

    /// The next line of JSON.
    fn line(&mut self) -> Value {
        let line = self.piece("\n").expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
    }

    /// The fields of the next event.
    fn event(&mut self) -> (Option<String>, Option<Value>) {
        let event = self.piece("\n\n").expect("an event");
        let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").map(|data| serde_json::from_str(data).expect("JSON"));
        (field("id: ").map(str::to_owned), data)
    }

    /// The data of the next event that has any.
    fn data(&mut self) -> Value {
        loop {
            if let (_, Some(data)) = self.event() {
                return data;
            }
        }
    }
}

fn emulate(server: &Server, connect: &Value, commands: &str) -> Response {
    let body = json!({
        "session": connect["session"], "node": connect["node"], "data": commands,
    });
    server.request("POST", "/emulation", "", body.to_string().as_bytes())
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[test]
fn a_session_has_its_answers_in_a_stream_and_its_commands_by_posts() {
    let server = Server::start(&["--shards", "2"]);
    let mut stream = Stream::post(&server, "/connection/http_stream", CONNECT);
    let connect = stream.line()["connect"].clone();
    // Connections are spread over the shards: some of these come to the other one.
    for id in 2..10 {
        let channel = format!("c{id}");
        let command = json!({"id": id, "subscribe": {"channel": channel}}).to_string();
        assert_eq!(emulate(&server, &connect, &command).status, 204);
        assert_eq!(stream.line()["id"], id);
        server.publish(&channel, format!("{id}"));
        let push = stream.line();
        assert_eq!(push["push"]["channel"], channel.as_str());
        assert_eq!(push["push"]["pub"]["data"], id);
    }
    assert_eq!(
        emulate(&server, &connect, r#"{"id":99,"nothing":{}}"#).status,
        204
    );
    assert_eq!(stream.line()["push"]["disconnect"]["code"], 3501);
    assert_eq!(stream.piece("\n"), None);
    assert_eq!(emulate(&server, &connect, "{}").status, 404);
}

#[test]
fn an_event_stream_has_an_event_for_each_message() {
    let server = Server::start(&[]);
    let commands = format!(
        "{CONNECT}\n{}",
        r#"{"id":2,"subscribe":{"channel":"demo"}}"#
    );
    let path = format!("/connection/sse?cf_connect={}", escaped(&commands));
    let mut stream = Stream::open(&server, "GET", &path, "", "");
    assert!(stream.data()["connect"]["session"].is_string());
    assert_eq!(stream.data()["id"], 2);
    server.publish("demo", "\"line\\nfeed\"");
    assert_eq!(stream.data()["push"]["pub"]["data"], "line\nfeed");
}

#[test]
fn what_is_wrong_with_a_post_has_a_status() {
    let server = Server::start(&[]);
    let post = |path: &str, body: &str| server.request("POST", path, "", body.as_bytes()).status;
    let big = " ".repeat(65_537);
    for path in ["/connection/http_stream", "/connection/sse", "/emulation"] {
        assert_eq!(post(path, &big), 413, "{path}");
        assert_eq!(post(path, ""), 400, "{path}");
    }
    assert_eq!(post("/emulation", "nope"), 400);
    assert_eq!(server.get("/emulation").status, 405);
    assert_eq!(server.get("/connection/http_stream").status, 405);
    assert_eq!(server.get("/connection/sse").status, 400);
    let unknown = json!({"session": "0".repeat(44), "node": ""});
    assert_eq!(emulate(&server, &unknown, "{}").status, 404);
}

#[test]
fn carriers_that_are_off_say_which_setting_they_want() {
    let server = Server::with(&["client.insecure=true"]);
    for (method, path, setting) in [
        ("POST", "/connection/http_stream", "http_stream"),
        ("POST", "/connection/sse", "sse"),
        ("POST", "/emulation", "http_stream"),
        ("GET", "/connection/uni_websocket", "uni_websocket"),
        ("POST", "/connection/uni_sse", "uni_sse"),
        ("POST", "/connection/uni_http_stream", "uni_http_stream"),
        ("GET", "/connection/sockjs/info", "sockjs"),
    ] {
        let answer = server.request(method, path, "", b"");
        assert_eq!(answer.status, 404, "{path}");
        let hint = format!("set {setting}.enabled = true");
        assert!(answer.text().contains(&hint), "{path}: {}", answer.text());
    }
}

#[test]
fn pages_of_allowed_origins_may_send_their_credentials() {
    let server = Server::with(&["origins=https://app.example"]);
    let origin = |name: &str| format!("Origin: {name}\r\nAccess-Control-Request-Method: POST\r\n");
    for path in [
        "/emulation",
        "/connection/http_stream",
        "/connection/sockjs/0/a/xhr",
    ] {
        let answer = server.request("OPTIONS", path, &origin("https://app.example"), b"");
        assert_eq!(answer.status, 204, "{path}");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://app.example"));
        let credentials = answer.header("access-control-allow-credentials");
        assert_eq!(credentials, Some("true"));
        let answer = server.request("OPTIONS", path, &origin("https://evil.example"), b"");
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[test]
fn a_client_that_only_listens_gets_bare_pushes_of_what_it_may_hear() {
    let server = Server::with(&[
        "client.allow_anonymous_connect_without_token=true",
        "channel.without_namespace.allow_subscribe_for_client=true",
        "channel.without_namespace.allow_subscribe_for_anonymous=true",
        "uni_http_stream.enabled=true",
        "uni_websocket.enabled=true",
    ]);
    let request = r#"{"subs":{"demo":{},"$private":{}}}"#;
    let mut stream = Stream::post(&server, "/connection/uni_http_stream", request);
    let subs = stream.line()["connect"]["subs"].clone();
    assert_eq!(subs, json!({"demo": {}}));
    let mut socket = server.websocket("/connection/uni_websocket");
    socket.send(FIN | TEXT, request);
    let connect: Value = serde_json::from_slice(&socket.frame().payload).unwrap();
    assert_eq!(connect["connect"]["subs"], subs);
    assert_eq!(connect["connect"]["ping"], 25);
    // Whatever else it says.
    socket.send(FIN | TEXT, "nothing");
    server.publish("demo", "7");
    let push = json!({"channel": "demo", "pub": {"data": 7}});
    assert_eq!(stream.line(), push);
    socket.expect_text(&push.to_string());
}

#[test]
fn a_client_that_only_listens_is_told_why_it_is_disconnected() {
    let server = Server::with(&["uni_websocket.enabled=true"]);
    let mut socket = server.websocket("/connection/uni_websocket");
    socket.send(FIN | TEXT, r#"{"token":"none"}"#);
    socket.expect_text(r#"{"disconnect":{"code":3500,"reason":"invalid token"}}"#);
    socket.expect_close(3500);
}

#[test]
fn an_event_stream_goes_on_where_its_last_event_was() {
    let server = Server::start(&["--shards", "2"]);
    let request = r#"{"subs":{"one":{},"two":{}}}"#;
    let mut stream = Stream::post(&server, "/connection/uni_sse", request);
    assert_eq!(
        stream.data()["connect"]["subs"]["one"]["offset"],
        Value::Null
    );
    server.publish("one", "1");
    let mut last = None;
    while last.is_none() || !stream.text.is_empty() {
        if let (Some(id), _) = stream.event() {
            last = Some(id).filter(|id| id.contains(":1"));
        }
    }
    drop(stream);
    server.publish("one", "2");
    server.publish("two", "3");
    let extra = format!("Last-Event-ID: {}\r\n", last.unwrap());
    let mut stream = Stream::open(&server, "POST", "/connection/uni_sse", &extra, request);
    let subs = stream.data()["connect"]["subs"].clone();
    assert_eq!(
        subs["one"]["publications"],
        json!([{"data": 2, "offset": 2}])
    );
    assert_eq!(
        subs["two"]["publications"],
        json!([{"data": 3, "offset": 1}])
    );
}

#[test]
fn sockjs_says_what_it_can() {
    let server = Server::start(&[]);
    let info = server.get("/connection/sockjs/info");
    assert_eq!(info.json()["origins"], json!(["*:*"]));
    assert!(info.header("cache-control").unwrap().contains("no-store"));
    for path in ["/connection/sockjs", "/connection/sockjs/"] {
        assert_eq!(server.get(path).text(), "Welcome to SockJS!\n");
    }
    for path in [
        "/connection/sockjs/a.b/c/xhr",
        "/connection/sockjs/a/b/jsonp",
        "/connection/sockjs/a/xhr",
        "/connection/sockjsx",
    ] {
        assert_eq!(server.request("POST", path, "", b"").status, 404, "{path}");
    }
    assert_eq!(server.get("/connection/sockjs/a/b/xhr").status, 405);
    let mut socket = server.websocket("/connection/sockjs/websocket");
    socket.send(FIN | TEXT, CONNECT);
    let reply: Value = serde_json::from_slice(&socket.frame().payload).unwrap();
    assert_eq!(reply["id"], 1);
}

#[test]
fn sockjs_sessions_live_from_poll_to_poll() {
    let server = Server::start(&["--shards", "2"]);
    for session in 0..8 {
        let path = format!("/connection/sockjs/000/session-{session}");
        let poll = || {
            server
                .request("POST", &format!("{path}/xhr"), "", b"")
                .text()
        };
        let send = |messages: Value| {
            let body = messages.to_string();
            server
                .request("POST", &format!("{path}/xhr_send"), "", body.as_bytes())
                .status
        };
        assert_eq!(send(json!([CONNECT])), 404);
        assert_eq!(poll(), "o\n");
        let subscribe = r#"{"id":2,"subscribe":{"channel":"demo"}}"#;
        assert_eq!(send(json!([CONNECT, subscribe])), 204);
        let mut messages = Vec::new();
        while messages.len() < 2 {
            messages.extend(told(&poll()));
        }
        assert_eq!(messages[1]["id"], 2);
        server.publish("demo", format!("{session}"));
        assert_eq!(told(&poll())[0]["push"]["pub"]["data"], session);
    }
}

#[test]
fn sockjs_streams_frames_until_the_session_ends() {
    let server = Server::start(&["--shards", "2"]);
    for session in 0..4 {
        let path = format!("/connection/sockjs/000/streamed-{session}");
        let (method, transport) = match session % 2 {
            0 => ("POST", "xhr_streaming"),
            _ => ("GET", "eventsource"),
        };
        let mut stream = Stream::open(&server, method, &format!("{path}/{transport}"), "", "");
        let mut frame = || match transport {
            "eventsource" => {
                let event = stream.piece("\r\n\r\n").expect("an event");
                event.trim_start().trim_start_matches("data: ").to_owned()
            }
            _ => stream.piece("\n").expect("a frame"),
        };
        let send = |messages: Value| {
            let path = format!("{path}/xhr_send");
            let body = messages.to_string();
            server.request("POST", &path, "", body.as_bytes()).status
        };
        while frame() != "o" {}
        let subscribe = r#"{"id":2,"subscribe":{"channel":"demo"}}"#;
        assert_eq!(send(json!([CONNECT, subscribe])), 204);
        let mut messages = Vec::new();
        while messages.len() < 2 {
            messages.extend(told(&frame()));
        }
        server.publish("demo", format!("{session}"));
        assert_eq!(told(&frame())[0]["push"]["pub"]["data"], session);
        assert_eq!(send(json!(["nonsense"])), 204);
        assert_eq!(frame(), r#"c[3501,"bad request"]"#);
    }
}

#[test]
fn sockjs_over_a_websocket_has_frames_of_its_own() {
    let server = Server::start(&[]);
    let mut socket = server.websocket("/connection/sockjs/000/abc/websocket");
    socket.expect_text("o");
    let subscribe = r#"{"id":2,"subscribe":{"channel":"demo"}}"#;
    socket.send(FIN | TEXT, json!([CONNECT, subscribe]).to_string());
    let mut next = || {
        let payload = socket.frame().payload;
        told(std::str::from_utf8(&payload).unwrap())
    };
    let mut messages = next();
    while messages.len() < 2 {
        messages.extend(next());
    }
    assert_eq!(messages[1]["id"], 2);
    server.publish("demo", "1");
    assert_eq!(next()[0]["push"]["pub"]["data"], 1);
    socket.send(FIN | TEXT, "[");
    socket.expect_text(r#"c[3501,"bad request"]"#);
    socket.expect_close(3501);
}

/// The messages in an answer to a poll.
fn told(body: &str) -> Vec<Value> {
    let array = body.strip_prefix('a').unwrap_or_else(|| panic!("{body}"));
    let messages: Vec<String> = serde_json::from_str(array).expect("an array of strings");
    let lines = messages.iter().flat_map(|message| message.lines());
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}
