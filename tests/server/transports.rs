//! Every way to listen to a channel of the plain dialect, held to the same: order, coming back, gaps, heartbeats, slow
//! readers, takeover, the end.

use std::collections::VecDeque;

use serde_json::Value;

use crate::harness::{
    CLOSE, Delivery, FIN, Frame, PING, Peer, Server, TEXT, close_payload, masked_frame,
    upgrade_request, wait_until,
};

/// A way to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    WebSocket,
    Subprotocol,
    Events,
    Lines,
    Poll,
}

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// Where it stands; whether something was missed that is not to be had.
    Stands {
        is_gap: bool,
    },
    Publication {
        /// Where the way says it.
        offset: Option<u64>,
        text: String,
    },
    Heartbeat,
    /// The connection ends, and this is not for good.
    Goodbye,
    /// The connection ends for good: a newer one has taken over.
    TakenOver,
    Close(u16),
}

struct Listener {
    way: Way,
    path: String,
    host: String,
    peer: Peer,
    items: VecDeque<Item>,
    /// Of a stream, what is not a whole line or event yet.
    rest: String,
    /// Of an event stream, when it is to come back.
    retry_ms: Option<u32>,
    /// Of a poll, where it goes on.
    position: Option<String>,
    /// By what name it takes over its own older connection, if any.
    session: Option<&'static str>,
    is_over: bool,
}

impl Listener {
    /// Listens from `since` on, or from now on. What is published after this is heard.
    fn open(server: &Server, way: Way, channel: &str, since: Option<&str>) -> Self {
        Self::open_as(server, way, channel, since, None)
    }

    /// The same, with a name for its session.
    fn open_as(
        server: &Server,
        way: Way,
        channel: &str,
        since: Option<&str>,
        session: Option<&'static str>,
    ) -> Self {
        let path = format!("/channels/{channel}");
        let mut listener = Self {
            way,
            path,
            host: server.host(),
            peer: server.connect(),
            items: VecDeque::new(),
            rest: String::new(),
            retry_ms: None,
            position: since.map(str::to_owned),
            session,
            is_over: false,
        };
        let target = listener.target(None);
        let (request, status) = match way {
            Way::WebSocket => (upgrade_request(&target, &listener.host, ""), 101),
            Way::Subprotocol => {
                let extra = "Sec-WebSocket-Protocol: other, longwire.v1\r\n";
                (upgrade_request(&target, &listener.host, extra), 101)
            }
            Way::Events => (listener.get(&target, "Accept: text/event-stream\r\n"), 200),
            Way::Lines => (
                listener.get(&target, "Accept: application/x-ndjson\r\n"),
                200,
            ),
            Way::Poll => {
                if since.is_none() {
                    listener.poll(0);
                    listener.items.clear();
                }
                return listener;
            }
        };
        listener.peer.send(request);
        let head = listener.peer.head();
        assert_eq!(head.status, status, "{head:?}");
        if way == Way::Subprotocol {
            assert_eq!(head.header("sec-websocket-protocol"), Some("longwire.v1"));
        }
        listener
    }

    /// What it asks for, from where it was.
    fn target(&self, wait_s: Option<u32>) -> String {
        let parameters = [
            wait_s.map(|wait_s| format!("wait={wait_s}")),
            self.position.as_ref().map(|since| format!("since={since}")),
            self.session.map(|session| format!("session={session}")),
        ];
        let parameters: Vec<String> = parameters.into_iter().flatten().collect();
        format!("{}?{}", self.path, parameters.join("&"))
    }

    fn get(&self, target: &str, extra: &str) -> String {
        let host = &self.host;
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n")
    }

    /// The next thing it is told; `None` when its connection has ended.
    fn next(&mut self) -> Option<Item> {
        while self.items.is_empty() && !self.is_over {
            match self.way {
                Way::WebSocket | Way::Subprotocol => self.read_frame(),
                Way::Events | Way::Lines => self.read_chunk(),
                Way::Poll => self.poll(2),
            }
        }
        self.items.pop_front()
    }

    /// The next publication, past whatever else it is told.
    fn publication(&mut self) -> (Option<u64>, String) {
        loop {
            match self.next() {
                Some(Item::Publication { offset, text }) => return (offset, text),
                Some(Item::Close(code)) => panic!("closed with {code}"),
                Some(_) => {}
                None => panic!("the end"),
            }
        }
    }

    /// Expects these publications and no others, `first` being the offset of the first.
    fn expect(&mut self, first: u64, texts: impl Iterator<Item = String>) {
        for (expected, text) in (first..).zip(texts) {
            let (offset, heard) = self.publication();
            assert_eq!(heard, text, "{:?}", self.way);
            assert_eq!(offset.unwrap_or(expected), expected);
        }
    }

    fn read_frame(&mut self) {
        let Ok(header) = self.peer.take(2) else {
            self.is_over = true;
            return;
        };
        let length = match header[1] {
            126 => {
                let length = self.peer.take(2).expect("a length");
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            127 => {
                let length = self.peer.take(8).expect("a length");
                u64::from_be_bytes(length.try_into().expect("8 bytes")) as usize
            }
            length => usize::from(length),
        };
        let payload = self.peer.take(length).expect("a payload");
        let text = || String::from_utf8(payload.clone()).expect("UTF-8");
        match (header[0], self.way) {
            (first, _) if first == FIN | PING => self.items.push_back(Item::Heartbeat),
            (first, _) if first == FIN | CLOSE => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                self.items.push_back(Item::Close(code));
                self.is_over = true;
            }
            (first, Way::Subprotocol) => {
                assert_eq!(first, FIN | TEXT);
                let text = text();
                self.read_object(&text);
            }
            _ => {
                let text = text();
                let offset = None;
                self.items.push_back(Item::Publication { offset, text });
            }
        }
    }

    fn read_chunk(&mut self) {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            match self.peer.take(1) {
                Ok(byte) => line.extend(byte),
                Err(_) => {
                    assert!(line.is_empty(), "the end is within a chunk");
                    self.is_over = true;
                    return;
                }
            }
        }
        let length = std::str::from_utf8(&line).expect("ASCII").trim();
        let length = usize::from_str_radix(length, 16).expect("a chunk's length");
        let bytes = self.peer.take(length + 2).expect("a whole chunk");
        if length == 0 {
            self.is_over = true;
            return;
        }
        let text = std::str::from_utf8(&bytes[..length]).expect("UTF-8");
        self.rest.push_str(text);
        let end = match self.way {
            Way::Events => "\n\n",
            _ => "\n",
        };
        while let Some((block, rest)) = self.rest.split_once(end) {
            let (block, rest) = (block.to_owned(), rest.to_owned());
            self.rest = rest;
            match self.way {
                Way::Events => self.read_event(&block),
                _ => self.read_object(&block),
            }
        }
    }

    fn read_event(&mut self, block: &str) {
        let (mut id, mut event, mut data) = (None, None, Vec::new());
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", value)) => id = Some(value),
                Some(("event", value)) => event = Some(value),
                Some(("data", value)) => data.push(value),
                Some(("retry", value)) => self.retry_ms = Some(value.parse().expect("ms")),
                Some(("", "")) => return self.items.push_back(Item::Heartbeat),
                _ => panic!("{line:?} is no field"),
            }
        }
        if event == Some("longwire.taken_over") {
            assert_eq!(id, Some("taken-over"));
            return self.read_object(&data.join("\n"));
        }
        if id.is_none() && data.is_empty() {
            assert!(self.retry_ms.is_some(), "{block:?} says nothing");
            return self.items.push_back(Item::Goodbye);
        }
        let (_, offset) = id.and_then(|id| id.split_once(':')).expect("an id");
        self.items.push_back(match (event, data.is_empty()) {
            (Some("longwire.gap"), _) => Item::Stands { is_gap: true },
            (None, true) => Item::Stands { is_gap: false },
            (None, false) => Item::Publication {
                offset: Some(offset.parse().expect("a number")),
                text: data.join("\n"),
            },
            (Some(event), _) => panic!("event {event}"),
        });
    }

    /// What a frame or a line of JSON says.
    fn read_object(&mut self, text: &str) {
        let object: Value = serde_json::from_str(text).expect("JSON");
        self.items.push_back(if object == serde_json::json!({}) {
            Item::Heartbeat
        } else if let Some(subscribed) = object.get("subscribed") {
            let has_asked = self.position.is_some();
            let is_gap = has_asked && subscribed["recovered"] == false;
            Item::Stands { is_gap }
        } else if let Some(disconnect) = object.get("disconnect")
            && disconnect["code"] == 4006
        {
            assert_eq!(disconnect["reconnect"], false);
            Item::TakenOver
        } else if let Some(disconnect) = object.get("disconnect") {
            assert_eq!(disconnect["code"], 1001);
            assert_eq!(disconnect["reconnect"], true);
            assert!(disconnect["retry_after_ms"].as_u64().expect("ms") > 0);
            Item::Goodbye
        } else {
            publication(&object)
        });
    }

    fn ask(&mut self, wait_s: u32) {
        let request = self.get(&self.target(Some(wait_s)), "");
        self.peer.send(request);
    }

    fn poll(&mut self, wait_s: u32) {
        self.ask(wait_s);
        self.read_answer();
    }

    fn read_answer(&mut self) {
        let Ok(answer) = self.peer.try_response() else {
            self.is_over = true;
            return;
        };
        if answer.status == 409 {
            assert_eq!(answer.header("connection"), Some("close"));
            self.items.push_back(Item::TakenOver);
            self.is_over = true;
            return;
        }
        self.position = answer.header("longwire-position").map(str::to_owned);
        if answer.status == 204 {
            return;
        }
        let page = answer.json();
        let is_gap = page["recovered"] == false;
        if is_gap {
            self.items.push_back(Item::Stands { is_gap });
        }
        let publications = page["publications"].as_array().expect("publications");
        self.items.extend(publications.iter().map(publication));
        if answer.header("connection") == Some("close") {
            self.items.push_back(Item::Goodbye);
            self.is_over = true;
        } else if publications.is_empty() && !is_gap {
            self.items.push_back(Item::Heartbeat);
        }
    }
}

fn publication(object: &Value) -> Item {
    let text = object["data"].as_str().expect("text");
    Item::Publication {
        offset: object["offset"].as_u64(),
        text: text.to_owned(),
    }
}

fn texts(from: u64, to: u64) -> impl Iterator<Item = String> {
    (from..=to).map(|n| format!("publication\n{n}"))
}

fn publish(server: &Server, from: u64, to: u64) -> String {
    let mut last = (0, String::new());
    for text in texts(from, to) {
        last = server.publish("demo", text);
    }
    format!("{}:{}", last.1, last.0)
}

fn order(way: Way) {
    let server = Server::start(&["--shards", "2"]);
    let mut listeners: Vec<_> = (0..4)
        .map(|_| Listener::open(&server, way, "demo", None))
        .collect();
    publish(&server, 1, 50);
    for listener in &mut listeners {
        listener.expect(1, texts(1, 50));
    }
}

fn resume_after_a_cut(way: Way) {
    let server = Server::start(&["--shards", "2"]);
    for round in 0..4 {
        let first = round * 10 + 1;
        let position = publish(&server, first, first);
        publish(&server, first + 1, first + 5);
        let mut listener = Listener::open(&server, way, "demo", Some(&position));
        listener.expect(first + 1, texts(first + 1, first + 5));
        publish(&server, first + 6, first + 9);
        listener.expect(first + 6, texts(first + 6, first + 9));
    }
}

fn a_gap_is_told(way: Way) {
    let server = Server::start(&["--shards", "2"]);
    publish(&server, 1, 3);
    let mut listener = Listener::open(&server, way, "demo", Some("0123456789abcdef:1"));
    if way == Way::WebSocket {
        assert_eq!(listener.next(), Some(Item::Close(4003)));
        return;
    }
    assert_eq!(listener.next(), Some(Item::Stands { is_gap: true }));
    publish(&server, 4, 5);
    listener.expect(4, texts(4, 5));
}

fn heartbeats(way: Way) {
    let server = Server::with(&[
        "heartbeat.ping_interval_ms=1000",
        "heartbeat.pong_timeout_ms=1000",
        "heartbeat.max_missed=100",
    ]);
    let mut listener = Listener::open(&server, way, "demo", None);
    let mut beats = 0;
    while beats < 2 {
        match listener.next().expect("no end") {
            Item::Heartbeat => beats += 1,
            other => assert_eq!(other, Item::Stands { is_gap: false }),
        }
    }
    publish(&server, 1, 1);
    listener.expect(1, texts(1, 1));
}

/// Who stops the server.
#[derive(Clone, Copy)]
enum Stop {
    Signal,
    Request,
}

impl Stop {
    fn act(self, server: &Server) {
        match self {
            Self::Signal => server.terminate(),
            Self::Request => {
                let answer = server.request("POST", "/api/drain", "", b"{}");
                assert_eq!(answer.status, 200);
            }
        }
    }
}

fn drain(way: Way, stop: Stop) {
    let mut server = Server::with(&["drain.window_ms=100", "websocket.close_timeout_ms=1000"]);
    let mut listener = Listener::open(&server, way, "demo", None);
    if way == Way::Poll {
        // On its way; what it is answered comes when the server stops.
        let position = listener.position.clone().expect("a position");
        let request = listener.get(&format!("/channels/demo?wait=60&since={position}"), "");
        listener.peer.send(request);
        wait_until("the poll waits", || {
            server.metrics().sum("longwire_subscriptions") >= 1.0
        });
        stop.act(&server);
        let answer = listener.peer.response();
        assert_eq!(answer.header("connection"), Some("close"));
        let retry_s = answer.header("retry-after").expect("Retry-After");
        assert!((1..=5).contains(&retry_s.parse().expect("seconds")));
        assert_eq!(answer.json()["publications"], serde_json::json!([]));
        assert_eq!(answer.header("longwire-position"), Some(&*position));
        listener.peer.expect_end();
    } else {
        stop.act(&server);
        let mut told = Vec::new();
        while let Some(item) = listener.next() {
            told.push(item);
        }
        told.retain(|item| !matches!(item, Item::Stands { .. } | Item::Heartbeat));
        let expected = match way {
            Way::WebSocket => vec![Item::Close(1001)],
            Way::Subprotocol => vec![Item::Goodbye, Item::Close(1001)],
            Way::Lines | Way::Events => vec![Item::Goodbye],
            Way::Poll => vec![],
        };
        assert_eq!(told, expected);
        assert_eq!(listener.retry_ms.is_some(), way == Way::Events);
    }
    drop(listener);
    assert_eq!(server.exit_status().code(), Some(0));
}

/// Comes as `session`; a poll waits when this returns.
fn come(server: &Server, way: Way, session: &'static str) -> Listener {
    let mut listener = Listener::open_as(server, way, "demo", None, Some(session));
    if way == Way::Poll {
        listener.ask(60);
    }
    wait_until_one_listens(server);
    listener
}

fn wait_until_one_listens(server: &Server) {
    wait_until("one connection is there", || {
        server.metrics().sum("longwire_subscriptions") == 1.0
    });
}

fn takeover(way: Way) {
    const SESSION: &str = "0123456789-abcdef_takeover";
    let server = Server::with(&["shards=2", "channels.client_publish=demo"]);
    let mut older = come(&server, way, SESSION);
    // Connections are spread over the shards.
    for round in 0..8 {
        let mut newer = come(&server, way, SESSION);
        let mut told = Vec::new();
        if way == Way::Poll {
            older.read_answer();
        }
        while let Some(item) = older.next() {
            told.push(item);
        }
        told.retain(|item| !matches!(item, Item::Stands { .. } | Item::Heartbeat));
        let expected = match way {
            Way::WebSocket => vec![Item::Close(4006)],
            Way::Subprotocol => vec![Item::TakenOver, Item::Close(4006)],
            Way::Events | Way::Lines | Way::Poll => vec![Item::TakenOver],
        };
        assert_eq!(told, expected);
        // What the older one still does changes nothing.
        if let Way::WebSocket | Way::Subprotocol = way {
            let late = [
                masked_frame(FIN | TEXT, b"late"),
                masked_frame(FIN | CLOSE, &close_payload(1000, b"")),
            ];
            older.peer.offer(late.concat(), Delivery::Whole);
        }
        drop(older);
        let first = round * 3 + 1;
        publish(&server, first, first + 2);
        if way == Way::Poll {
            newer.read_answer();
        }
        newer.expect(first, texts(first, first + 2));
        server.wait_for_closes("taken_over", (round + 1) as f64);
        if way == Way::Poll {
            newer.ask(60);
            wait_until_one_listens(&server);
        }
        older = newer;
    }
    // A browser's event stream comes back by itself; it is told to stay away.
    let id = "Accept: text/event-stream\r\nLast-Event-ID: taken-over\r\n";
    let answer = server.request("GET", "/channels/demo", id, b"");
    assert_eq!(answer.status, 204);
}

fn a_slow_reader(way: Way) {
    let server = Server::with(&[
        "outbox.soft_bytes=65536",
        "outbox.soft_timeout_ms=1000",
        "outbox.hard_bytes=262144",
        "outbox.stall_timeout_ms=2000",
    ]);
    let body = "x".repeat(100_000);
    let mut other = Listener::open(&server, Way::Lines, "demo", None);
    let mut stopped = Listener::open(&server, way, "demo", None);
    let mut published = 0;
    wait_until("it is closed", || {
        if way == Way::Poll {
            let since = stopped.position.clone().expect("a position");
            let request = stopped.get(&format!("/channels/demo?wait=9&since={since}"), "");
            stopped.peer.offer(request, Delivery::Whole);
        }
        published += 1;
        server.publish("demo", &body);
        assert_eq!(other.publication(), (Some(published), body.clone()));
        let metrics = server.metrics();
        metrics.closes("slow_consumer") + metrics.closes("write_stall") >= 1.0
    });
    // Counts of other cores come a moment apart.
    wait_until("nothing waits for it", || {
        server.metrics().sum("longwire_outbox_bytes") == 0.0
    });
}

macro_rules! matrix {
    ($($way:ident: $variant:ident),* $(,)?) => { $(
        mod $way {
            use super::Way;

            #[test]
            fn order() {
                super::order(Way::$variant);
            }

            #[test]
            fn resume_after_a_cut() {
                super::resume_after_a_cut(Way::$variant);
            }

            #[test]
            fn a_gap_is_told() {
                super::a_gap_is_told(Way::$variant);
            }

            #[test]
            fn heartbeats() {
                super::heartbeats(Way::$variant);
            }

            #[test]
            fn drain_by_a_signal() {
                super::drain(Way::$variant, super::Stop::Signal);
            }

            #[test]
            fn drain_by_a_request() {
                super::drain(Way::$variant, super::Stop::Request);
            }

            #[test]
            fn takeover() {
                super::takeover(Way::$variant);
            }

            #[test]
            fn a_slow_reader() {
                super::a_slow_reader(Way::$variant);
            }
        }
    )* };
}

matrix!(
    websocket: WebSocket,
    subprotocol: Subprotocol,
    events: Events,
    lines: Lines,
    poll: Poll,
);

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const UNI_CONNECT: &str = r#"{"subs":{"demo":{}}}"#;

/// A way to carry the Centrifuge protocol.
enum Carrier {
    /// A WebSocket at this path, the first message of its client, and what the last message says before the Close.
    WebSocket(&'static str, &'static str, Option<&'static str>),
    /// The body of a POST to this path, and what the last of the answer says.
    Stream(&'static str, &'static str, &'static str),
    /// SockJS by polls.
    Polls,
}

const SHUTDOWN: &str = r#""disconnect":{"code":3001,"reason":"shutdown"}"#;
const SOCKJS_SHUTDOWN: &str = r#"c[3001,"shutdown"]"#;

/// Of a header that makes a request longer than many others together, in bytes.
const PADDING: usize = 7_000;

fn farewell(carrier: Carrier, stop: Stop) {
    let mut server = Server::with(&["drain.window_ms=100", "websocket.close_timeout_ms=1000"]);
    match carrier {
        Carrier::WebSocket(path, first, last) => {
            let mut socket = server.websocket(path);
            socket.send(FIN | TEXT, first);
            let text = |frame: Frame| String::from_utf8(frame.payload).expect("UTF-8");
            while !text(socket.frame()).contains("connect") {}
            stop.act(&server);
            let mut told = Vec::new();
            let close = loop {
                let frame = socket.frame();
                match frame.first == FIN | CLOSE {
                    true => break frame,
                    false => told.push(text(frame)),
                }
            };
            assert_eq!(
                (close.close_code(), close.close_reason()),
                (3001, "shutdown")
            );
            if let Some(last) = last {
                assert!(
                    told.last().is_some_and(|told| told.contains(last)),
                    "{told:?}"
                );
            }
        }
        Carrier::Stream(path, body, retry) => {
            let mut peer = server.connect();
            peer.send(post(&server, path, body));
            assert_eq!(peer.head().status, 200);
            let mut told = Vec::new();
            while !told.ends_with(b"\"connect\":") {
                told.extend(peer.take(1).expect("a reply"));
            }
            stop.act(&server);
            let (rest, _) = peer.read_to_end();
            let rest = String::from_utf8(rest).expect("UTF-8");
            assert!(rest.contains(SHUTDOWN) && rest.contains(retry), "{rest}");
            assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest:?} is cut off");
        }
        Carrier::Polls => {
            let session = "/connection/sockjs/000/a-session";
            let mut peer = server.connect();
            let mut xhr = || {
                peer.send(post(&server, &format!("{session}/xhr"), ""));
                peer.try_response()
            };
            assert_eq!(xhr().expect("an answer").text(), "o\n");
            let commands = serde_json::json!([CONNECT]).to_string();
            let sent = server.request(
                "POST",
                &format!("{session}/xhr_send"),
                "",
                commands.as_bytes(),
            );
            assert_eq!(sent.status, 204);
            assert!(xhr().expect("an answer").text().contains("connect"));
            // The next poll waits there when the server stops: what it has received says so.
            let received = || server.metrics().sum("longwire_received_bytes_total");
            let (before, padding) = (received(), "x".repeat(PADDING));
            let poll = post(&server, &format!("{session}/xhr"), "");
            peer.send(poll.replacen("\r\n", &format!("\r\nX-Padding: {padding}\r\n"), 1));
            wait_until("the poll waits", || received() >= before + PADDING as f64);
            stop.act(&server);
            let last = peer.response().text();
            assert_eq!(last, format!("{SOCKJS_SHUTDOWN}\n"));
        }
    }
    assert_eq!(server.exit_status().code(), Some(0));
}

fn post(server: &Server, path: &str, body: &str) -> String {
    let (host, length) = (server.host(), body.len());
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}")
}

macro_rules! farewells {
    ($($name:ident: $carrier:expr),* $(,)?) => { $(
        mod $name {
            use super::*;

            #[test]
            fn drain_by_a_signal() {
                farewell($carrier, Stop::Signal);
            }

            #[test]
            fn drain_by_a_request() {
                farewell($carrier, Stop::Request);
            }
        }
    )* };
}

farewells!(
    centrifuge_websocket: Carrier::WebSocket("/connection/websocket", CONNECT, None),
    http_stream: Carrier::Stream("/connection/http_stream", CONNECT, ""),
    sse: Carrier::Stream("/connection/sse", CONNECT, "retry: "),
    uni_websocket: Carrier::WebSocket("/connection/uni_websocket", UNI_CONNECT, None),
    uni_http_stream: Carrier::Stream("/connection/uni_http_stream", UNI_CONNECT, ""),
    uni_sse: Carrier::Stream("/connection/uni_sse", UNI_CONNECT, "retry: "),
    sockjs_websocket: Carrier::WebSocket(
        "/connection/sockjs/000/a-session/websocket",
        r#"["{\"id\":1,\"connect\":{}}"]"#,
        Some(SOCKJS_SHUTDOWN),
    ),
    sockjs_polls: Carrier::Polls,
);
