//! Clients whose token names a device: a newer connection takes over, and who is present does not flap.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    CLOSE, Delivery, FIN, Peer, Server, TEXT, WebSocket, masked_frame, upgrade_request, wait_until,
};

const SECRET: &str = "a secret that is long enough for HS256";

fn server(presence_grace: &str) -> Server {
    Server::with_config(&format!(
        r#"
shards = 2
http_stream.enabled = true
sse.enabled = true
uni_websocket.enabled = true
uni_sse.enabled = true
uni_http_stream.enabled = true
[client]
ping_interval = "3600s"
[client.token]
hmac_secret_key = "{SECRET}"
[http_api]
key = "key"
[channel.without_namespace]
presence = true
join_leave = true
force_push_join_leave = true
presence_grace = "{presence_grace}"
allow_subscribe_for_client = true
allow_publish_for_client = true
"#
    ))
}

fn token(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("a token")
}

/// A client over a WebSocket, subscribed to the room.
struct Client {
    socket: WebSocket,
    lines: VecDeque<Value>,
    id: String,
}

impl Client {
    fn come(server: &Server, claims: &Value) -> Self {
        let mut client = Self {
            socket: server.websocket("/connection/websocket"),
            lines: VecDeque::new(),
            id: String::new(),
        };
        client.send(&json!({"id": 1, "connect": {"token": token(claims)}}));
        let connected = client.next();
        client.id = connected["connect"]["client"]
            .as_str()
            .expect("an id")
            .to_owned();
        client.send(&json!({"id": 2, "subscribe": {"channel": "room"}}));
        while client.next()["id"] != 2 {}
        client
    }

    fn send(&mut self, command: &Value) {
        self.socket.send(FIN | TEXT, command.to_string());
    }

    /// The next message that is no ping.
    fn next(&mut self) -> Value {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return line;
            }
            let frame = self.socket.frame();
            let text = std::str::from_utf8(&frame.payload).expect("text");
            let lines = text
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON"));
            self.lines.extend(lines.filter(|line| *line != json!({})));
        }
    }

    /// Who comes or goes next, and whether it comes.
    fn told(&mut self) -> (bool, String) {
        let push = self.next()["push"].take();
        let is_join = push["join"].is_object();
        let event = if is_join {
            &push["join"]
        } else {
            &push["leave"]
        };
        let client = event["info"]["client"].as_str();
        (
            is_join,
            client.unwrap_or_else(|| panic!("{push}")).to_owned(),
        )
    }

    fn close_code(mut self) -> u16 {
        loop {
            let frame = self.socket.frame();
            if frame.first == FIN | CLOSE {
                return frame.close_code();
            }
        }
    }
}

/// The ids of those who are present.
fn present(server: &Server) -> Vec<String> {
    let key = "X-API-Key: key\r\nContent-Type: application/json\r\n";
    let answer = server.request("POST", "/api/presence", key, br#"{"channel":"room"}"#);
    let answer = answer.json();
    let clients = answer["result"]["presence"].as_object().expect("presence");
    clients.keys().cloned().collect()
}

fn observer(server: &Server) -> Client {
    let mut observer = Client::come(server, &json!({"sub": "observer"}));
    let own = observer.id.clone();
    assert_eq!(observer.told(), (true, own));
    observer
}

#[test]
fn takeover_is_no_leave_and_no_join() {
    let server = server("0s");
    let mut observer = observer(&server);
    let claims = json!({"sub": "ada", "device": "phone"});
    let mut older = Client::come(&server, &claims);
    let id = older.id.clone();
    assert_eq!(observer.told(), (true, id.clone()));
    for _ in 0..8 {
        let newer = Client::come(&server, &claims);
        // It is late, and comes to nothing.
        let late = json!({"id": 9, "unsubscribe": {"channel": "room"}}).to_string();
        let late = masked_frame(FIN | TEXT, late.as_bytes());
        older.socket.peer.offer(late, Delivery::Whole);
        assert_eq!(older.close_code(), 3600);
        assert!(present(&server).contains(&id));
        older = newer;
    }
    // Others are other devices: what is told next is about them.
    let other = Client::come(&server, &json!({"sub": "ada", "device": "laptop"}));
    assert_eq!(observer.told(), (true, other.id.clone()));
    older.send(&json!({"id": 3, "unsubscribe": {"channel": "room"}}));
    assert_eq!(observer.told(), (false, id));
    assert_eq!(present(&server).len(), 2);
}

#[test]
fn who_vanishes_leaves_after_the_time_of_grace() {
    let server = server("2s");
    let mut observer = observer(&server);
    let claims = json!({"sub": "ada", "device": "phone"});
    let lost = Client::come(&server, &claims);
    let id = lost.id.clone();
    assert_eq!(observer.told(), (true, id.clone()));
    drop(lost);
    wait_until("it is gone", || {
        let metrics = server.metrics();
        metrics.sum("longwire_subscriptions") == 1.0 && present(&server).len() == 2
    });
    let back = Client::come(&server, &claims);
    // Longer than it would have been waited for. What is told next is about somebody else.
    std::thread::sleep(Duration::from_secs(4));
    let other = Client::come(&server, &json!({"sub": "bob"}));
    assert_eq!(observer.told(), (true, other.id));
    drop(other.socket);
    assert!(!observer.told().0);
    drop(back);
    assert_eq!(observer.told(), (false, id));
    assert_eq!(present(&server), [observer.id.clone()]);
    // A Close is a clean end: it is told before a younger one comes.
    let mut closing = Client::come(&server, &claims);
    let id = closing.id.clone();
    assert_eq!(observer.told(), (true, id.clone()));
    closing.socket.send(FIN | CLOSE, 1000_u16.to_be_bytes());
    assert_eq!(observer.told(), (false, id));
    let other = Client::come(&server, &json!({"sub": "bob"}));
    assert_eq!(observer.told(), (true, other.id));
}

/// What carries a client.
#[derive(Clone, Copy, Debug)]
enum Carrier {
    WebSocket,
    HttpStream,
    Events,
    UniWebSocket,
    UniEvents,
    UniHttpStream,
}

impl Carrier {
    /// Comes with a token, and is let in.
    fn come(self, server: &Server, token: &str) -> Peer {
        let mut peer = server.connect();
        let uni = json!({"token": token}).to_string();
        let command = json!({"id": 1, "connect": {"token": token}}).to_string();
        let host = server.host();
        let post = |path: &str, body: &str| {
            let length = body.len();
            format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        let escaped =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
        let upgrade = |path| upgrade_request(path, &host, "");
        let (request, first) = match self {
            Self::WebSocket => (upgrade("/connection/websocket"), Some(command)),
            Self::UniWebSocket => (upgrade("/connection/uni_websocket"), Some(uni)),
            Self::HttpStream => (post("/connection/http_stream", &command), None),
            Self::UniHttpStream => (post("/connection/uni_http_stream", &uni), None),
            Self::UniEvents => (post("/connection/uni_sse", &uni), None),
            Self::Events => {
                let path = format!("/connection/sse?cf_connect={}", escaped(&command));
                (format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"), None)
            }
        };
        peer.send(request);
        let head = peer.head();
        assert!(matches!(head.status, 101 | 200), "{head:?}");
        if let Some(first) = first {
            peer.send(masked_frame(FIN | TEXT, first.as_bytes()));
        }
        read_until(&mut peer, b"\"connect\"");
        peer
    }

    /// What its goodbye has, in its words.
    fn goodbye(self) -> Vec<u8> {
        match self {
            Self::WebSocket | Self::UniWebSocket => {
                [&3600_u16.to_be_bytes()[..], b"taken over"].concat()
            }
            _ => b"{\"code\":3600,\"reason\":\"taken over\"}".to_vec(),
        }
    }
}

fn read_until(peer: &mut Peer, expected: &[u8]) {
    let mut read = Vec::new();
    while !read.ends_with(expected) {
        let byte = peer.take(1);
        read.extend(byte.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&read))));
    }
}

fn takeover(carrier: Carrier) {
    let server = server("0s");
    let token = token(&json!({"sub": "ada", "device": "phone"}));
    let mut older = carrier.come(&server, &token);
    for round in 1..=6 {
        let newer = carrier.come(&server, &token);
        read_until(&mut older, &carrier.goodbye());
        drop(older);
        server.wait_for_closes("taken_over", f64::from(round));
        older = newer;
    }
    wait_until("one client is left", || {
        let key = "X-API-Key: key\r\n";
        let answer = server.request("POST", "/api/info", key, b"{}").json();
        answer["result"]["nodes"][0]["num_clients"] == 1
    });
    // The last one is there: whoever comes now takes over from it.
    carrier.come(&server, &token);
    read_until(&mut older, &carrier.goodbye());
}

macro_rules! carriers {
    ($($carrier:ident: $variant:ident),* $(,)?) => { $(
        #[test]
        fn $carrier() {
            takeover(Carrier::$variant);
        }
    )* };
}

carriers!(
    takeover_over_websocket: WebSocket,
    takeover_over_http_stream: HttpStream,
    takeover_over_sse: Events,
    takeover_over_uni_websocket: UniWebSocket,
    takeover_over_uni_sse: UniEvents,
    takeover_over_uni_http_stream: UniHttpStream,
);

#[test]
fn of_many_that_come_at_once_one_is_left() {
    let server = server("0s");
    let token = token(&json!({"sub": "ada", "device": "phone"}));
    let command = json!({"id": 1, "connect": {"token": token}}).to_string();
    let mut sockets: Vec<WebSocket> = (0..16)
        .map(|_| server.websocket("/connection/websocket"))
        .collect();
    for socket in &mut sockets {
        socket.send(FIN | TEXT, &command);
    }
    let closed = (sockets.len() - 1) as f64;
    server.wait_for_closes("taken_over", closed);
    assert_eq!(server.metrics().closes("taken_over"), closed);
}
