//! What clients are told when the application's backend decides, and what the backend is told of them.

#[path = "../hooks/backend.rs"]
mod backend;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{CLOSE, FIN, PATIENCE, Server, TEXT, WebSocket, wait_until};
use backend::{Backend, Request, answer};

/// Longer than any time-out of the server's.
const HANGS: Duration = Duration::from_secs(20);

/// A backend by the paths it is asked at: a body to answer with, or what else the status says.
fn backend(script: impl Fn(&str, &Value) -> Said + Send + Sync + 'static) -> Backend {
    Backend::start(move |request, to| {
        let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        match script(path(request), &body) {
            Said::Json(value) => answer(to, 200, &value.to_string()),
            Said::Status(status) => answer(to, status, "{}"),
            Said::Nothing => {
                thread::sleep(HANGS);
                false
            }
        }
    })
}

enum Said {
    Json(Value),
    Status(u16),
    Nothing,
}

use Said::{Json, Nothing, Status};

fn path(request: &Request) -> &str {
    request.line.split(' ').nth(1).unwrap()
}

fn result(value: Value) -> Said {
    Json(json!({ "result": value }))
}

/// Requests the backend got at `wanted`, as JSON.
fn asked(backend: &Backend, wanted: &str) -> Vec<Value> {
    let requests = backend.requests();
    let meant = requests.iter().filter(|request| path(request) == wanted);
    meant
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect()
}

/// A server of one shard that asks `backend` everything.
fn server(backend: &Backend) -> Server {
    server_with(backend, "", "1s")
}

fn server_with(backend: &Backend, extra: &str, timeout: &str) -> Server {
    let url = |path: &str| backend.url(path);
    let (connect, refresh) = (url("/connect"), url("/refresh"));
    let (subscribe, publish) = (url("/subscribe"), url("/publish"));
    let (sub_refresh, rpc) = (url("/sub_refresh"), url("/rpc"));
    Server::with_config(&format!(
        r#"
shards = 1
{extra}
[client.proxy.connect]
enabled = true
endpoint = "{connect}"
timeout = "{timeout}"
http_headers = ["Cookie", "X-Emulated"]
[client.proxy.connect.http]
static_headers = {{ "X-Secret" = "s3cret" }}
[client.proxy.refresh]
enabled = true
endpoint = "{refresh}"
[channel.proxy.subscribe]
endpoint = "{subscribe}"
timeout = "{timeout}"
include_connection_meta = true
[channel.proxy.publish]
endpoint = "{publish}"
timeout = "{timeout}"
[channel.proxy.sub_refresh]
endpoint = "{sub_refresh}"
[rpc.proxy]
endpoint = "{rpc}"
timeout = "{timeout}"
[rpc.without_namespace]
proxy_enabled = true
[[rpc.namespaces]]
name = "off"
[[channel.namespaces]]
name = "asked"
subscribe_proxy_enabled = true
publish_proxy_enabled = true
sub_refresh_proxy_enabled = true
history_size = 10
history_ttl = "60s"
allow_history_for_client = true
[[channel.namespaces]]
name = "open"
allow_subscribe_for_client = true
allow_publish_for_client = true
"#
    ))
}

/// A client of the JSON format.
struct Client {
    socket: WebSocket,
    lines: VecDeque<Value>,
}

impl Client {
    fn open(server: &Server, headers: &str) -> Self {
        let socket = server.try_websocket("/connection/websocket", headers);
        Self {
            socket: socket.expect("an upgrade"),
            lines: VecDeque::new(),
        }
    }

    /// One that is let in.
    fn connected(server: &Server) -> Self {
        let mut client = Self::open(server, "");
        client.send(json!({"id": 1, "connect": {}}));
        assert!(client.reply(1)["connect"].is_object());
        client
    }

    fn send(&mut self, command: Value) {
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
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            self.lines.extend(lines.filter(|line| *line != json!({})));
        }
    }

    /// The reply to the command `id`, which is the next message.
    fn reply(&mut self, id: u32) -> Value {
        let reply = self.next();
        assert_eq!(reply["id"], id, "{reply}");
        reply
    }

    /// What a command leads to.
    fn call(&mut self, id: u32, method: &str, arguments: Value) -> Value {
        self.send(json!({"id": id, method: arguments}));
        self.reply(id)
    }

    fn expect_error(&mut self, id: u32, method: &str, arguments: Value, code: u32) {
        let reply = self.call(id, method, arguments);
        assert_eq!(reply["error"]["code"], code, "{reply}");
    }
}

/// Lets everybody in as user 42 and allows everything.
fn agreeing(path: &str, _: &Value) -> Said {
    match path {
        "/connect" => result(json!({"user": "42"})),
        _ => result(json!({})),
    }
}

#[test]
fn a_client_is_let_in_with_what_the_backend_gives_it() {
    let backend = backend(|path, _| match path {
        "/connect" => result(json!({
            "user": "42", "info": {"name": "A"}, "data": {"hello": [1, 2]},
            "channels": ["open:news"], "meta": {"session": 7},
        })),
        _ => result(json!({})),
    });
    let server = server(&backend);
    let mut client = Client::open(&server, "Cookie: a=b\r\nAuthorization: secret\r\n");
    client.send(json!({"id": 1, "connect": {
        "name": "test", "version": "9", "data": {"x": 1}, "headers": {"x-emulated": "e", "x-other": "o"},
    }}));
    let reply = client.reply(1);
    let connect = &reply["connect"];
    assert_eq!(connect["data"], json!({"hello": [1, 2]}));
    assert!(connect["subs"]["open:news"].is_object(), "{reply}");
    assert_eq!(connect["expires"], Value::Null);

    let request = &backend.requests()[0];
    assert_eq!(request.header("cookie"), Some("a=b"));
    assert_eq!(request.header("x-secret"), Some("s3cret"));
    assert_eq!(request.header("x-emulated"), Some("e"));
    assert_eq!(request.header("x-other"), None);
    assert_eq!(request.header("authorization"), None);
    let body = &asked(&backend, "/connect")[0];
    assert_eq!(
        (&body["transport"], &body["protocol"], &body["encoding"]),
        (&json!("websocket"), &json!("json"), &json!("json"))
    );
    assert_eq!(
        (&body["name"], &body["data"]),
        (&json!("test"), &json!({"x": 1}))
    );
    assert_eq!(body["client"], connect["client"]);

    client.call(
        2,
        "subscribe",
        json!({"channel": "asked:a", "data": {"y": 2}}),
    );
    let body = &asked(&backend, "/subscribe")[0];
    assert_eq!(
        (&body["user"], &body["channel"]),
        (&json!("42"), &json!("asked:a"))
    );
    assert_eq!(
        (&body["data"], &body["meta"]),
        (&json!({"y": 2}), &json!({"session": 7}))
    );
    assert_eq!(body["client"], connect["client"]);

    // Others see who it is, and calls share a connection.
    client.call(3, "publish", json!({"channel": "open:news", "data": 1}));
    let pushed = client.next();
    assert_eq!(
        pushed["push"]["pub"]["info"]["conn_info"],
        json!({"name": "A"})
    );
    assert_eq!(backend.connections(), 1);
    assert!(
        backend
            .requests()
            .iter()
            .all(|request| request.connection == 0)
    );
    assert_eq!(backend.requests()[1].number, 1);
}

#[test]
fn commands_behind_the_request_to_connect_wait_for_its_answer() {
    let backend = backend(agreeing);
    let server = server(&backend);
    let mut client = Client::open(&server, "");
    let commands = [
        json!({"id": 1, "connect": {}}),
        json!({"id": 2, "subscribe": {"channel": "open:a"}}),
        json!({"id": 3, "publish": {"channel": "open:a", "data": 1}}),
    ];
    let lines: Vec<String> = commands.iter().map(Value::to_string).collect();
    client.socket.send(FIN | TEXT, lines.join("\n"));
    assert!(client.reply(1)["connect"].is_object());
    assert!(client.reply(2)["subscribe"].is_object());
    let mut rest = [client.next(), client.next()];
    rest.sort_by_key(|message| message["id"].is_null());
    assert!(rest[0]["publish"].is_object(), "{rest:?}");
    assert_eq!(rest[1]["push"]["pub"]["info"]["user"], "42");
}

#[test]
fn a_refused_client_hears_why_and_one_that_cannot_be_decided_on_comes_again() {
    let said = Arc::new(Mutex::new(Json(json!({}))));
    let script = Arc::clone(&said);
    let backend = backend(move |_, _| match &*script.lock().unwrap() {
        Json(value) => Json(value.clone()),
        Status(status) => Status(*status),
        Nothing => Nothing,
    });
    let server = server_with(&backend, "", "200ms");
    let say = |what: Said| *said.lock().unwrap() = what;
    let connect = || {
        let mut client = Client::open(&server, "");
        client.send(json!({"id": 1, "connect": {}}));
        client
    };
    say(Json(
        json!({"error": {"code": 1000, "message": "not you", "temporary": true}}),
    ));
    let told = json!({"id": 1, "error": {"code": 1000, "message": "not you", "temporary": true}});
    assert_eq!(connect().next(), told);
    say(Json(
        json!({"disconnect": {"code": 4501, "reason": "banned"}}),
    ));
    assert_eq!(connect().socket.expect_close(4501), "banned");
    for failure in [
        Status(500),
        Json(json!([])),
        Json(json!({"disconnect": {"code": 1}})),
    ] {
        say(failure);
        connect().socket.expect_close(3004);
    }
    say(Json(json!({"result": {"user": "u", "expire_at": 1}})));
    assert_eq!(connect().next()["error"]["code"], 110);
    say(Nothing);
    connect().socket.expect_close(3004);
    server.wait_for_closes("internal", 4.0);
}

#[test]
fn the_backend_says_who_may_subscribe() {
    let backend = backend(|path, body| match (path, body["channel"].as_str()) {
        ("/subscribe", Some("asked:no")) => {
            Json(json!({"error": {"code": 403, "message": "members only"}}))
        }
        ("/subscribe", Some("asked:out")) => {
            Json(json!({"disconnect": {"code": 4502, "reason": "out"}}))
        }
        ("/subscribe", Some("asked:broken")) => Status(500),
        ("/subscribe", Some("asked:hangs")) => Nothing,
        ("/subscribe", Some("asked:late")) => result(json!({"expire_at": 1})),
        ("/subscribe", _) => result(json!({"data": {"topic": "x"}})),
        _ => result(json!({"user": "42"})),
    });
    let server = server_with(&backend, "", "500ms");
    let mut client = Client::connected(&server);
    let reply = client.call(2, "subscribe", json!({"channel": "asked:a"}));
    assert_eq!(reply["subscribe"]["data"], json!({"topic": "x"}));
    let reply = client.call(3, "subscribe", json!({"channel": "asked:no"}));
    assert_eq!(
        reply["error"],
        json!({"code": 403, "message": "members only"})
    );
    let reply = client.call(4, "subscribe", json!({"channel": "asked:broken"}));
    assert_eq!(reply["error"]["code"], 100);
    assert_eq!(reply["error"]["temporary"], true);
    client.expect_error(5, "subscribe", json!({"channel": "asked:late"}), 110);
    // What is wanted of the channel meanwhile comes after the answer.
    client.send(json!({"id": 6, "subscribe": {"channel": "asked:hangs"}}));
    client.send(json!({"id": 7, "unsubscribe": {"channel": "asked:hangs"}}));
    assert_eq!(client.reply(6)["error"]["code"], 100);
    assert_eq!(client.reply(7)["unsubscribe"], json!({}));
    client.expect_error(8, "subscribe", json!({"channel": "asked:a"}), 105);
    client.send(json!({"id": 9, "subscribe": {"channel": "asked:out"}}));
    assert_eq!(client.socket.expect_close(4502), "out");
}

#[test]
fn the_backend_says_what_may_be_published() {
    let backend = backend(|path, body| match (path, body["data"].as_str()) {
        ("/publish", Some("change")) => result(json!({"data": {"changed": true}})),
        ("/publish", Some("passing")) => result(json!({"skip_history": true})),
        ("/publish", Some("no")) => Json(json!({"error": {"code": 401, "message": "no"}})),
        ("/publish", Some("broken")) => Status(502),
        ("/publish", Some("out")) => Json(json!({"disconnect": {"code": 4001, "reason": "spam"}})),
        (path, _) => agreeing(path, body),
    });
    let server = server(&backend);
    let mut listener = Client::connected(&server);
    listener.call(2, "subscribe", json!({"channel": "asked:a"}));
    let mut client = Client::connected(&server);
    let publish = |data: &str| json!({"channel": "asked:a", "data": data});
    assert!(client.call(2, "publish", publish("change"))["publish"].is_object());
    let pushed = listener.next();
    assert_eq!(pushed["push"]["pub"]["data"], json!({"changed": true}));
    assert_eq!(pushed["push"]["pub"]["offset"], 1);
    client.expect_error(3, "publish", publish("no"), 401);
    client.expect_error(4, "publish", publish("broken"), 100);
    assert!(client.call(5, "publish", publish("passing"))["publish"].is_object());
    let pushed = listener.next();
    assert_eq!(pushed["push"]["pub"]["data"], "passing");
    let history = client.call(6, "history", json!({"channel": "asked:a", "limit": 10}));
    assert_eq!(
        history["history"]["publications"].as_array().unwrap().len(),
        1
    );
    client.send(json!({"id": 7, "publish": publish("out")}));
    assert_eq!(client.socket.expect_close(4001), "spam");
}

#[test]
fn calls_are_handed_on_to_the_backend() {
    let backend = backend(|path, body| match (path, body["method"].as_str()) {
        ("/rpc", Some("sum")) => result(json!({"data": {"sum": 3}})),
        ("/rpc", Some("bytes")) => result(json!({"b64data": "AP8="})),
        ("/rpc", Some("no")) => Json(json!({"error": {"code": 1001, "message": "no"}})),
        ("/rpc", Some("broken")) => Status(404),
        ("/rpc", Some("out")) => Json(json!({"disconnect": {"code": 4002, "reason": "r"}})),
        (path, _) => agreeing(path, body),
    });
    let server = server(&backend);
    let mut client = Client::connected(&server);
    let reply = client.call(2, "rpc", json!({"method": "sum", "data": [1, 2]}));
    assert_eq!(reply["rpc"]["data"], json!({"sum": 3}));
    assert_eq!(asked(&backend, "/rpc")[0]["data"], json!([1, 2]));
    assert_eq!(asked(&backend, "/rpc")[0]["user"], "42");
    let reply = client.call(3, "rpc", json!({"method": "bytes"}));
    assert_eq!(reply["rpc"]["data"], "AP8=");
    client.expect_error(4, "rpc", json!({"method": "no"}), 1001);
    client.expect_error(5, "rpc", json!({"method": "broken"}), 100);
    client.expect_error(6, "rpc", json!({"method": "off:a"}), 108);
    client.expect_error(7, "rpc", json!({"method": "unknown:a"}), 104);
    client.send(json!({"id": 8, "rpc": {"method": "out"}}));
    client.socket.expect_close(4002);
}

#[test]
fn without_a_backend_there_is_nobody_to_call() {
    let server = Server::with_config("[client]\nallow_anonymous_connect_without_token = true\n");
    let mut client = Client::connected(&server);
    client.expect_error(2, "rpc", json!({"method": "a"}), 108);
    assert!(!server.metrics().has("longwire_hook_calls_total"));
}

fn soon() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs() + 2
}

#[test]
fn a_connection_that_expires_goes_on_as_long_as_the_backend_says_so() {
    let is_over = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&is_over);
    let backend = backend(move |path, _| match path {
        "/connect" => result(json!({"user": "42", "expire_at": soon()})),
        "/refresh" => match script.swap(true, SeqCst) {
            false => result(json!({"expire_at": soon(), "info": {"level": 2}})),
            true => result(json!({"expired": true})),
        },
        _ => result(json!({})),
    });
    let server = server(&backend);
    let mut client = Client::connected(&server);
    let pushed = client.next();
    assert_eq!(pushed["push"]["refresh"]["expires"], true, "{pushed}");
    client.socket.expect_close(3005);
    let asked = asked(&backend, "/refresh");
    assert_eq!((asked.len(), &asked[0]["user"]), (2, &json!("42")));
}

#[test]
fn a_subscription_that_expires_goes_on_as_long_as_the_backend_says_so() {
    let is_over = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&is_over);
    let backend = backend(move |path, body| match path {
        "/subscribe" => result(json!({"expire_at": soon()})),
        "/sub_refresh" => match script.swap(true, SeqCst) {
            false => result(json!({"expire_at": soon()})),
            true => result(json!({"expired": true})),
        },
        path => agreeing(path, body),
    });
    let server = server(&backend);
    let mut client = Client::connected(&server);
    let reply = client.call(2, "subscribe", json!({"channel": "asked:a"}));
    assert_eq!(reply["subscribe"]["expires"], Value::Null, "{reply}");
    let pushed = client.next();
    assert_eq!(pushed["push"]["channel"], "asked:a");
    assert_eq!(pushed["push"]["unsubscribe"]["code"], 2501);
    let asked = asked(&backend, "/sub_refresh");
    assert_eq!((asked.len(), &asked[1]["channel"]), (2, &json!("asked:a")));
}

#[test]
fn a_slow_backend_holds_up_nobody_else_and_not_even_the_client_that_asked() {
    let is_free = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&is_free);
    let backend = backend(move |path, body| match path {
        "/rpc" => {
            let deadline = Instant::now() + PATIENCE;
            while !script.load(SeqCst) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            result(json!({"data": "late"}))
        }
        path => agreeing(path, body),
    });
    let server = server_with(&backend, "", "60s");
    let mut asking = Client::connected(&server);
    let mut other = Client::connected(&server);
    asking.send(json!({"id": 2, "rpc": {"method": "a"}}));
    wait_until("the backend is asked", || {
        asked(&backend, "/rpc").len() == 1
    });
    // All that follows is answered while the call is outstanding: it cannot end before `is_free`.
    other.call(2, "subscribe", json!({"channel": "open:a"}));
    other.call(3, "subscribe", json!({"channel": "asked:a"}));
    asking.call(3, "publish", json!({"channel": "open:a", "data": 1}));
    assert_eq!(other.next()["push"]["pub"]["data"], 1);
    is_free.store(true, SeqCst);
    assert_eq!(asking.reply(2)["rpc"]["data"], "late");
}

#[test]
fn a_backend_that_keeps_failing_is_left_alone() {
    let backend = backend(|path, body| match path {
        "/rpc" => Status(500),
        path => agreeing(path, body),
    });
    let extra = "[hooks]\nbreaker_failures = 3\nbreaker_open_ms = 600000\n";
    let server = server_with(&backend, extra, "1s");
    let mut client = Client::connected(&server);
    for id in 2..12 {
        client.expect_error(id, "rpc", json!({"method": "a"}), 100);
    }
    assert_eq!(asked(&backend, "/rpc").len(), 3);
    // Other endpoints are another matter.
    client.call(12, "subscribe", json!({"channel": "asked:a"}));
    let metrics = server.metrics();
    let open = metrics.sum_where("longwire_hook_calls_total", "outcome", "breaker_open");
    assert_eq!(open, 7.0);
}

/// A key pair for ES256: what signs, and its public half as a JWK.
fn key_pair(kid: &str) -> (jsonwebtoken::EncodingKey, Value) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let point = pair.public_key_raw();
    let coordinate = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let key = jsonwebtoken::EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
        "x": coordinate(&point[1..33]), "y": coordinate(&point[33..65]),
    });
    (key, jwk)
}

fn token(kid: &str, key: &jsonwebtoken::EncodingKey) -> String {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, &json!({"sub": "42"}), key).unwrap()
}

/// A backend that answers with what a document is at the time.
fn serve(document: &Arc<Mutex<String>>) -> Backend {
    let served = Arc::clone(document);
    Backend::start(move |_: &Request, to: &mut dyn Write| {
        let body = served.lock().unwrap().clone();
        answer(to, 200, &body)
    })
}

#[test]
fn a_token_by_a_key_that_is_new_waits_for_the_new_document() {
    let ((old, old_jwk), (new, new_jwk)) = (key_pair("old"), key_pair("new"));
    let document = Arc::new(Mutex::new(json!({"keys": [old_jwk]}).to_string()));
    let backend = serve(&document);
    let url = backend.url("/jwks");
    let server = Server::with_config(&format!(
        "shards = 2\n[client.token]\njwks_public_endpoint = \"{url}\"\n"
    ));
    let connects = |token: &str| {
        let mut client = Client::open(&server, "");
        client.send(json!({"id": 1, "connect": {"token": token}}));
        match client.socket.try_frame() {
            Ok(frame) => frame.payload.starts_with(br#"{"id":1,"connect""#),
            Err(_) => false,
        }
    };
    let (old, new) = (token("old", &old), token("new", &new));
    wait_until("a token by the first document is good", || connects(&old));
    assert!(!connects(&new));
    *document.lock().unwrap() = json!({"keys": [new_jwk]}).to_string();
    // The document is fetched once in ten seconds, whoever asks.
    wait_until("a token by the new document is good", || connects(&new));
    wait_until("every shard has the new document", || !connects(&old));
}

#[test]
fn a_listener_of_the_plain_dialect_waits_for_keys_too() {
    let ((old, old_jwk), (new, new_jwk)) = (key_pair("old"), key_pair("new"));
    let document = Arc::new(Mutex::new(json!({"keys": [old_jwk]}).to_string()));
    let backend = serve(&document);
    let url = backend.url("/jwks");
    let server = Server::with_config(&format!(
        r#"
shards = 2
[client.token]
jwks_public_endpoint = "{url}"
[channel.without_namespace]
allow_subscribe_for_client = true
"#
    ));
    let status = |accept: &str, token: &str| {
        let mut peer = server.connect();
        let host = server.host();
        peer.send(format!(
            "GET /channels/a HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        peer.head().status
    };
    let (old, new) = (token("old", &old), token("new", &new));
    wait_until("a token by the first document is good", || {
        status("text/event-stream", &old) == 200
    });
    // There are no newer keys: it is refused, and not asked again what was answered before.
    assert_eq!(status("text/event-stream", &new), 401);
    *document.lock().unwrap() = json!({"keys": [new_jwk]}).to_string();
    wait_until("a token by the new document is good", || {
        status("application/x-ndjson", &new) == 200
    });
    wait_until("every shard has the new document", || {
        status("text/event-stream", &old) == 401
    });
    let socket = |token: &str| server.try_websocket(&format!("/channels/a?token={token}"), "");
    assert!(socket(&new).is_ok());
}

#[test]
fn a_user_of_one_connection_keeps_the_newest() {
    let backend = backend(agreeing);
    let url = backend.url("/connect");
    let server = Server::with_config(&format!(
        r#"
shards = 2
[client.proxy.connect]
enabled = true
endpoint = "{url}"
[client.subscribe_to_user_personal_channel]
enabled = true
personal_channel_namespace = "personal"
single_connection = true
[[channel.namespaces]]
name = "personal"
presence = true
"#
    ));
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..6 {
        let client = Client::connected(&server);
        if let Some(older) = clients.last_mut() {
            while let Ok(frame) = older.socket.try_frame() {
                if frame.first == FIN | CLOSE {
                    assert_eq!(frame.close_code(), 3504);
                    break;
                }
            }
        }
        clients.push(client);
    }
    let newest = clients.last_mut().unwrap();
    newest.expect_error(2, "rpc", json!({"method": "a"}), 108);
}

#[test]
fn a_user_has_no_more_connections_than_it_may() {
    let backend = backend(|_, body| result(json!({"user": body["name"]})));
    let url = backend.url("/connect");
    let server = Server::with_config(&format!(
        r#"
shards = 2
[client]
user_connection_limit = 2
[client.proxy.connect]
enabled = true
endpoint = "{url}"
[[channel.namespaces]]
name = "open"
allow_subscribe_for_client = true
"#
    ));
    let connect = |user: &str| {
        let mut client = Client::open(&server, "");
        let connect = json!({"id": 1, "connect": {"name": user}}).to_string();
        let subscribe = json!({"id": 2, "subscribe": {"channel": "open:a"}}).to_string();
        client
            .socket
            .send(FIN | TEXT, format!("{connect}\n{subscribe}"));
        client
    };
    let mut kept: Vec<Client> = (0..2).map(|_| connect("a")).collect();
    for client in &mut kept {
        assert!(client.reply(1)["connect"].is_object());
        assert!(client.reply(2)["subscribe"].is_object());
    }
    for _ in 0..4 {
        connect("a").socket.expect_close(3504);
    }
    assert!(connect("b").reply(1)["connect"].is_object());
    drop(kept.pop());
    wait_until("the place of a connection that is gone is taken", || {
        connect("a")
            .socket
            .try_frame()
            .is_ok_and(|frame| frame.first == FIN | TEXT)
    });
}

#[test]
fn nobody_passes_the_backend_by_in_the_plain_dialect() {
    let backend = backend(agreeing);
    let url = backend.url("/subscribe");
    let server = Server::with_config(&format!(
        r#"
shards = 1
[channel.proxy.subscribe]
endpoint = "{url}"
[[channel.namespaces]]
name = "asked"
subscribe_proxy_enabled = true
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
[[channel.namespaces]]
name = "open"
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
"#
    ));
    assert!(server.try_websocket("/channels/open:a", "").is_ok());
    let refused = server.try_websocket("/channels/asked:a", "");
    assert!(refused.is_err_and(|response| matches!(response.status, 401 | 403)));
}
