//! The server API: keys and what they are good for, errors in both modes, what reaches clients.

use serde_json::{Value, json};

use crate::harness::{Response, Server};

const CHANNELS: &str = r#"
[channel.without_namespace]
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
presence = true
history_size = 10
history_ttl = "60s"

[[channel.namespaces]]
name = "news"
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
history_size = 10
history_ttl = "60s"
"#;

/// One key for everything, and one for a part.
const KEYS: &str = r#"
api_keys = ["old", "new"]

[[http_api.keys]]
key = "reporter"
methods = ["publish", "broadcast"]
channels = ["news:*"]
"#;

fn post(server: &Server, method: &str, extra: &str, body: &str) -> Response {
    let path = format!("/api/{method}");
    server.request("POST", &path, extra, body.as_bytes())
}

fn result(server: &Server, method: &str, request: &Value) -> Value {
    let answer = post(server, method, "", &request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut answer = answer.json();
    assert!(answer["error"].is_null(), "{answer}");
    answer["result"].take()
}

#[test]
fn a_publication_reaches_subscribers_on_one_line_and_is_kept() {
    let server = Server::with_config(CHANNELS);
    let mut socket = server.subscribe("demo");
    let publish = "{\"channel\":\"demo\",\"data\":{\"b\": [1,\n 2.50],\r\n \"a\": \"\\n\"}}";
    let answer = post(&server, "publish", "", publish);
    assert_eq!(answer.json()["result"]["offset"], 1);
    socket.expect_text(r#"{"b": [1, 2.50], "a": "\n"}"#);
    let history = result(&server, "history", &json!({"channel": "demo", "limit": 1}));
    assert_eq!(
        history["publications"][0]["data"],
        json!({"b": [1, 2.5], "a": "\n"})
    );
}

#[test]
fn what_skips_the_history_is_delivered_without_an_offset() {
    let server = Server::with_config(CHANNELS);
    let mut socket = server.subscribe("demo");
    for (skips, offset) in [
        (true, Value::Null),
        (false, json!(1)),
        (true, Value::Null),
        (false, json!(2)),
    ] {
        let publish = json!({"channel": "demo", "data": "x", "skip_history": skips});
        assert_eq!(result(&server, "publish", &publish)["offset"], offset);
        socket.expect_text("\"x\"");
    }
}

#[test]
fn a_broadcast_reaches_every_channel() {
    let server = Server::with_config(CHANNELS);
    let mut sockets = ["a", "b", "c"].map(|channel| server.subscribe(channel));
    let channels = json!({"channels": ["a", "b", "c", "nope:d"], "data": 7});
    let responses = result(&server, "broadcast", &channels)["responses"].take();
    assert_eq!(responses[3]["error"]["code"], 102);
    for socket in &mut sockets {
        socket.expect_text("7");
    }
    let channels = result(&server, "channels", &json!({"pattern": "{a,b}"}));
    assert_eq!(
        channels["channels"],
        json!({"a": {"num_clients": 1}, "b": {"num_clients": 1}})
    );
    let node = result(&server, "info", &json!({}))["nodes"][0].take();
    assert_eq!([&node["num_subs"], &node["num_channels"]], [3, 3]);
}

#[test]
fn each_key_is_good_for_what_it_is_for() {
    let server = Server::with_config(&format!("{KEYS}{CHANNELS}"));
    let news = r#"{"channel":"news:1","data":1}"#;
    let chat = r#"{"channel":"chat","data":1}"#;
    for key in [
        "X-API-Key: old\r\n",
        "X-API-Key: new\r\n",
        "Authorization: apikey new\r\n",
    ] {
        assert!(post(&server, "publish", key, chat).json()["result"].is_object());
        assert_eq!(post(&server, "info", key, "{}").status, 200);
    }
    assert_eq!(post(&server, "info?api_key=new", "", "{}").status, 200);
    for wrong in [
        "",
        "X-API-Key: ol\r\n",
        "X-API-Key: oldnew\r\n",
        "Authorization: Bearer new\r\n",
    ] {
        let answer = post(&server, "publish", wrong, news);
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.header("www-authenticate").is_some());
        assert_eq!(server.request("POST", "/api", wrong, b"{}").status, 401);
    }
    let reporter = "X-API-Key: reporter\r\n";
    assert_eq!(
        post(&server, "publish", reporter, news).json()["result"]["offset"],
        1
    );
    assert_eq!(
        post(&server, "publish", reporter, chat).json()["error"]["code"],
        103
    );
    for method in ["info", "history", "disconnect", "drain"] {
        let answer = post(&server, method, reporter, "{}");
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (403, &json!(103))
        );
    }
    let broadcast = r#"{"channels":["news:1","chat"],"data":1}"#;
    let responses =
        post(&server, "broadcast", reporter, broadcast).json()["result"]["responses"].take();
    assert_eq!(responses[0]["result"]["offset"], 2);
    assert_eq!(responses[1]["error"]["code"], 103);
    let batch = json!({"commands": [{"info": {}}, {"publish": {"channel": "news:1", "data": 1}}]});
    let replies = post(&server, "batch", reporter, &batch.to_string()).json()["replies"].take();
    assert_eq!(replies[0]["error"]["code"], 103);
    assert_eq!(replies[1]["publish"]["offset"], 3);
    let line = br#"{"method":"info","params":{}}"#;
    let answer = server.request("POST", "/api", reporter, line);
    assert_eq!(answer.json()["error"]["code"], 103);
    let plain = |channel: &str| {
        let path = format!("/channels/{channel}");
        server.request("POST", &path, reporter, b"x").status
    };
    assert_eq!((plain("news:1"), plain("chat")), (200, 403));
}

#[test]
fn a_key_that_comes_twice_is_refused_at_the_start() {
    let config = crate::harness::write_config("api_keys = [\"k\"]\nhttp_api.key = \"k\"\n");
    let command = crate::harness::command(&["--config", config.to_str().expect("a path")]);
    let exit = crate::harness::run_to_exit(command);
    assert_eq!(exit.status.code(), Some(2));
    assert!(
        exit.stderr.contains("api_keys") && exit.stderr.contains("twice"),
        "{}",
        exit.stderr
    );
}

#[test]
fn errors_are_statuses_if_the_client_wants_so() {
    let server = Server::with_config(CHANNELS);
    let mode = "X-Centrifugo-Error-Mode: transport\r\n";
    let since = r#"{"channel":"x","limit":1,"since":{"epoch":"e"}}"#;
    for (method, body, statuses, code) in [
        (
            "publish",
            r#"{"channel":"nope:x","data":1}"#,
            (200, 404),
            102,
        ),
        ("publish", r#"{"channel":"x"}"#, (200, 400), 107),
        ("publish", r#"{"channel":1}"#, (400, 400), 107),
        ("presence", r#"{"channel":"news:x"}"#, (200, 400), 108),
        ("rpc", r#"{"method":"x"}"#, (200, 404), 104),
        ("history", since, (200, 416), 112),
    ] {
        let bare = post(&server, method, mode, body);
        assert_eq!(bare.json()["code"], code, "{method} {body}");
        let wrapped = post(&server, method, "", body);
        assert_eq!(wrapped.json()["error"], bare.json());
        assert_eq!((wrapped.status, bare.status), statuses, "{method} {body}");
    }
}

#[test]
fn a_publication_that_is_refused_says_that_it_may_come_again() {
    let server = Server::with(&["channels.limit=1", "shards=1"]);
    let publish = |channel: &str, extra: &str| {
        post(
            &server,
            "publish",
            extra,
            &format!(r#"{{"channel":"{channel}","data":1}}"#),
        )
    };
    assert!(publish("a", "").json()["result"].is_object());
    let answer = publish("b", "");
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["code"]), (200, &json!(100)));
    assert!(
        error["message"]
            .as_str()
            .expect("a text")
            .contains("try again later")
    );
    let answer = publish("b", "X-Centrifugo-Error-Mode: transport\r\n");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn a_drain_can_be_asked_for() {
    let mut server = Server::with(&["drain.window_ms=0"]);
    let mut socket = server.subscribe("demo");
    assert_eq!(result(&server, "drain", &json!({})), json!({}));
    socket.expect_close(1001);
    assert!(server.exit_status().success());
}
