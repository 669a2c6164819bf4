//! Publishing over HTTP and over WebSocket, and what subscribers get.

use crate::harness::{BINARY, Delivery, FIN, Response, Server, TEXT, masked_frame};

const OCTETS: &str = "Content-Type: application/octet-stream\r\n";

/// A POST to a channel on a connection that stays open.
fn post(server: &Server, channel: &str, extra: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /channels/{channel} HTTP/1.1\r\nHost: {}\r\n{extra}Content-Length: {}\r\n\r\n",
        server.host(),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn api_publish(server: &Server, body: &str) -> Response {
    let json = "Content-Type: application/json\r\n";
    server.request("POST", "/api/publish", json, body.as_bytes())
}

// ---- what arrives

#[test]
fn a_publication_reaches_a_subscriber_verbatim_as_text() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("demo");
    let bodies = [
        r#"{"hello":"world"}"#,
        "{ \"spaced\" :\n\t[1, 2] }\r\n",
        "plain words",
        "grüße 🦀",
        "{\"not json",
        "42",
        " ",
    ];
    for body in bodies {
        server.publish("demo", body);
        socket.expect_text(body);
    }
}

#[test]
fn octet_streams_and_what_is_not_utf_8_arrive_as_binary() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("demo");
    let all_bytes: Vec<u8> = (0..=255).collect();
    server.publish("demo", &all_bytes);
    socket.expect(BINARY, &all_bytes);
    let answer = server.request("POST", "/channels/demo", OCTETS, b"ascii");
    assert_eq!(answer.status, 200);
    socket.expect(BINARY, b"ascii");
}

#[test]
fn a_publication_of_every_length_class_arrives_whole() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("demo");
    for len in [1, 125, 126, 127, 65535, 65536, 200_000] {
        let body: Vec<u8> = (0..len).map(|i| b'a' + (i % 23) as u8).collect();
        server.publish("demo", &body);
        socket.expect(TEXT, &body);
    }
}

#[test]
fn the_answer_carries_offsets_plus_one_and_one_epoch() {
    let server = Server::start(&[]);
    let (first, epoch) = server.publish("demo", "0");
    assert_eq!(first, 1);
    assert!(!epoch.is_empty());
    for offset in 2..20 {
        assert_eq!(server.publish("demo", "x"), (offset, epoch.clone()));
    }
    assert_eq!(server.publish("other", "x").0, 1);
}

#[test]
fn the_answer_is_json() {
    let server = Server::start(&[]);
    let answer = server.request("POST", "/channels/demo", "", b"x");
    let content_type = answer.header("content-type").expect("Content-Type");
    assert!(content_type.starts_with("application/json"));
    let json = answer.json();
    assert_eq!(json.as_object().expect("an object").len(), 2);
}

#[test]
fn a_subscriber_hears_its_own_channel_only() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("one");
    server.publish("two", "not for one");
    server.publish("One", "nor this");
    server.publish("one", "for one");
    socket.expect_text("for one");
}

#[test]
fn what_is_answered_after_the_101_is_heard() {
    let server = Server::start(&["--shards", "4"]);
    for round in 0..100 {
        let channel = format!("fresh-{}", round % 7);
        let mut socket = server.subscribe(&channel);
        server.publish(&channel, format!("round {round}"));
        socket.expect_text(&format!("round {round}"));
    }
}

#[test]
fn subscribers_on_all_shards_get_everything_in_order() {
    let server = Server::start(&["--shards", "4"]);
    let mut sockets: Vec<_> = (0..64).map(|_| server.subscribe("demo")).collect();
    let metrics = server.metrics();
    assert_eq!(metrics.sum("longwire_shards"), 4.0);
    assert_eq!(metrics.sum("longwire_subscriptions"), 64.0);
    let shards = metrics.label_values_in_use("longwire_subscriptions", "shard");
    assert!(shards > 1, "all subscribers on one shard");
    for i in 0..50 {
        server.publish("demo", format!("message {i}"));
    }
    for socket in &mut sockets {
        for i in 0..50 {
            socket.expect_text(&format!("message {i}"));
        }
    }
    let metrics = server.metrics();
    assert_eq!(metrics.sum("longwire_publications_refused_total"), 0.0);
    assert_eq!(metrics.sum("longwire_publications_total"), 50.0);
    assert_eq!(metrics.sum("longwire_deliveries_total"), 50.0 * 64.0);
}

/// Publishes `count` messages one after the other on one connection and gives the offset of each.
fn publish_many(server: &Server, publisher: usize, count: usize) -> Vec<(u64, String)> {
    let mut peer = server.connect();
    let publish = |i| {
        let body = format!("{publisher}/{i}");
        let answer = loop {
            peer.send(post(server, "demo", "", body.as_bytes()));
            let answer = peer.response();
            if answer.status != 503 {
                break answer;
            }
        };
        assert_eq!(answer.status, 200);
        (answer.json()["offset"].as_u64().expect("an offset"), body)
    };
    (0..count).map(publish).collect()
}

#[test]
fn concurrent_publishers_are_heard_by_all_in_the_order_of_the_offsets() {
    let server = Server::start(&["--shards", "4"]);
    let mut sockets: Vec<_> = (0..12).map(|_| server.subscribe("demo")).collect();
    let mut published: Vec<_> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..4)
            .map(|publisher| {
                scope.spawn({
                    let server = &server;
                    move || publish_many(server, publisher, 100)
                })
            })
            .collect();
        publishers
            .into_iter()
            .flat_map(|p| p.join().expect("publisher"))
            .collect()
    });
    published.sort();
    let offsets: Vec<_> = published.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (1..=400).collect::<Vec<_>>());
    for socket in &mut sockets {
        for (_, body) in &published {
            socket.expect_text(body);
        }
    }
}

// ---- names

#[test]
fn a_channel_name_is_percent_decoded() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("caf%c3%a9%2Fbar");
    server.publish("caf%C3%A9%2fbar", "by path");
    socket.expect_text("by path");
    server.publish("c%61f%C3%A9%2Fb%61r", "more escapes than needed");
    socket.expect_text("more escapes than needed");
    api_publish(&server, r#"{"channel":"café/bar","data":1}"#);
    socket.expect_text("1");
}

#[test]
fn a_name_may_be_255_bytes_long_and_no_longer() {
    let server = Server::start(&[]);
    let longest = "n".repeat(255);
    let mut socket = server.subscribe(&longest);
    server.publish(&longest, "fits");
    socket.expect_text("fits");
    let path = format!("/channels/{longest}n");
    assert_eq!(server.request("POST", &path, "", b"x").status, 400);
    let refused = server.try_websocket(&path, "").err();
    assert_eq!(refused.expect("refused").status, 400);
}

#[test]
fn a_name_that_is_no_text_is_refused() {
    let server = Server::start(&[]);
    for name in ["%zz", "%", "%f", "%ff", "%00", "a%0ab"] {
        let path = format!("/channels/{name}");
        assert_eq!(
            server.request("POST", &path, "", b"x").status,
            400,
            "{name}"
        );
        let refused = server.try_websocket(&path, "").err();
        assert_eq!(refused.expect("refused").status, 400, "{name}");
    }
}

#[test]
fn a_channel_is_one_path_segment() {
    let server = Server::start(&[]);
    assert_eq!(
        server.request("POST", "/channels/a/b", "", b"x").status,
        404
    );
    let empty = server.request("POST", "/channels/", "", b"x").status;
    assert!([400, 404].contains(&empty), "{empty}");
}

// ---- /api/publish

#[test]
fn api_publish_delivers_the_raw_data_and_answers_with_a_result() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("demo");
    for (i, data) in [r#"{"b": [1,  2], "a": 1.50}"#, r#""text""#, "null", "[]"]
        .iter()
        .enumerate()
    {
        let answer = api_publish(&server, &format!(r#"{{"channel":"demo","data":{data}}}"#));
        assert_eq!(answer.status, 200);
        let result = &answer.json()["result"];
        assert_eq!(result["offset"], i as u64 + 1);
        assert!(result["epoch"].is_string());
        socket.expect_text(data);
    }
}

#[test]
fn api_publish_answers_a_bad_request_with_code_107() {
    let server = Server::start(&[]);
    let too_long = format!(r#"{{"channel":"{}","data":1}}"#, "n".repeat(256));
    for body in [
        "",
        "{",
        "[]",
        r#"{"data":1}"#,
        r#"{"channel":"","data":1}"#,
        r#"{"channel":"demo"}"#,
        &too_long,
    ] {
        let answer = api_publish(&server, body);
        let error = answer.json();
        assert_eq!(error["error"]["code"], 107, "{body}");
        assert!(error["error"]["message"].is_string(), "{body}");
    }
    assert_eq!(
        server.publish("demo", "x").0,
        1,
        "none of them was published"
    );
}

// ---- bodies

#[test]
fn a_body_over_one_mebibyte_is_refused_from_its_length() {
    let server = Server::start(&[]);
    let head = |len: usize, extra: &str| {
        format!(
            "POST /channels/demo HTTP/1.1\r\nHost: {}\r\n{extra}Content-Length: {len}\r\n\r\n",
            server.host()
        )
    };
    assert_eq!(server.exchange(head((1 << 20) + 1, "")).status, 413);
    let patient = head(1 << 40, "Expect: 100-continue\r\n");
    assert_eq!(server.exchange(patient).status, 413);
    server.publish("demo", vec![b'x'; 1 << 20]);
}

#[test]
fn a_chunked_body_over_the_limit_is_refused() {
    let server = Server::with(&["http.body_bytes=1000"]);
    let head = format!(
        "POST /channels/demo HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.host()
    );
    let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
    assert_eq!(
        server.exchange([head, chunk.repeat(2)].concat()).status,
        413
    );
}

#[test]
fn a_chunked_body_is_published_without_its_chunks() {
    let server = Server::start(&[]);
    let mut socket = server.subscribe("demo");
    let head = format!(
        "POST /channels/demo HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.host()
    );
    let body = "5\r\nhello\r\n1;name=value\r\n,\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
    for delivery in Delivery::BOTH {
        let mut peer = server.connect();
        peer.offer([&head, body].concat(), delivery);
        assert_eq!(peer.response().status, 200);
        socket.expect_text("hello, world");
    }
}

#[test]
fn a_body_may_wait_for_100_continue() {
    let server = Server::start(&[]);
    let mut peer = server.connect();
    let request = post(&server, "demo", "Expect: 100-continue\r\n", b"patient");
    let (head, body) = request.split_at(request.len() - b"patient".len());
    peer.send(head);
    assert_eq!(peer.response().status, 100);
    peer.send(body);
    assert_eq!(peer.response().status, 200);
}

#[test]
fn a_publisher_that_leaves_within_its_body_publishes_nothing() {
    let server = Server::start(&[]);
    let mut peer = server.connect();
    let request = post(&server, "demo", "", b"never whole");
    peer.send(&request[..request.len() - 1]);
    peer.finish_sending();
    peer.read_to_end();
    assert_eq!(server.publish("demo", "x").0, 1);
}

#[test]
fn pipelined_publishes_are_answered_in_order() {
    let server = Server::start(&["--shards", "4"]);
    let mut socket = server.subscribe("demo");
    let requests = |count| -> Vec<u8> {
        let request = |i: usize| post(&server, "demo", "", format!("{i}").as_bytes());
        (0..count).flat_map(request).collect()
    };
    let mut peer = server.connect();
    peer.send(requests(8));
    for i in 0..8_u64 {
        let answer = peer.response();
        assert_eq!(
            (answer.status, answer.json()["offset"].as_u64()),
            (200, Some(i + 1))
        );
        socket.expect_text(&i.to_string());
    }
    let mut peer = server.connect();
    peer.offer(requests(2), Delivery::ByteByByte);
    assert_eq!([peer.response().status, peer.response().status], [200, 200]);
}

// ---- publishing from a WebSocket

#[test]
fn what_a_client_sends_to_chat_is_heard_by_all_and_by_itself() {
    let server = Server::start(&[]);
    let mut alice = server.websocket("/chat");
    let mut bob = server.subscribe("chat");
    alice.send(FIN | TEXT, "hello from alice");
    bob.expect_text("hello from alice");
    alice.expect_text("hello from alice");
    bob.send(FIN | BINARY, [0, 255]);
    alice.expect(BINARY, [0, 255]);
    bob.expect(BINARY, [0, 255]);
}

#[test]
fn what_a_client_sends_elsewhere_is_closed_with_1008_and_not_heard() {
    let server = Server::start(&[]);
    let mut listener = server.subscribe("demo");
    for opcode in [TEXT, BINARY] {
        let mut socket = server.subscribe("demo");
        socket.send(FIN | opcode, "let me");
        assert!(!socket.expect_close(1008).is_empty(), "no reason given");
    }
    server.wait_for_closes("policy", 2.0);
    server.publish("demo", "the first");
    listener.expect_text("the first");
}

#[test]
fn the_channels_clients_may_publish_in_are_configured() {
    let server = Server::with_config("[channels]\nclient_publish = [\"lobby\"]\n");
    let mut socket = server.subscribe("lobby");
    socket.send(FIN | TEXT, "hi");
    socket.expect_text("hi");
    let mut socket = server.websocket("/chat");
    socket.send(FIN | TEXT, "hi");
    socket.expect_close(1008);
}

#[test]
fn a_client_hears_its_messages_in_the_order_sent() {
    let server = Server::start(&[]);
    let mut socket = server.websocket("/chat");
    let frames = (0..30).map(|i| masked_frame(FIN | TEXT, format!("{i}").as_bytes()));
    socket.peer.send(frames.collect::<Vec<_>>().concat());
    for i in 0..30 {
        socket.expect_text(&i.to_string());
    }
}

// ---- who may publish

fn status_of(server: &Server, extra: &str) -> u16 {
    server.request("POST", "/channels/demo", extra, b"x").status
}

#[test]
fn with_api_keys_only_a_right_key_publishes() {
    let server = Server::with_config("api_keys = [\"first-key\", \"second\"]\n");
    for right in [
        "X-API-Key: second\r\n",
        "Authorization: apikey second\r\n",
        "X-API-Key: first-key\r\n",
    ] {
        assert_eq!(status_of(&server, right), 200, "{right}");
    }
    for wrong in [
        "",
        "X-API-Key: secon\r\n",
        "X-API-Key: second2\r\n",
        "X-API-Key:\r\n",
        "Authorization: Bearer second\r\n",
    ] {
        let status = status_of(&server, wrong);
        assert!([401, 403].contains(&status), "{wrong:?} got {status}");
        let api = server.request(
            "POST",
            "/api/publish",
            wrong,
            br#"{"channel":"demo","data":1}"#,
        );
        assert!(
            [401, 403].contains(&api.status),
            "{wrong:?} got {}",
            api.status
        );
    }
    server.subscribe("demo");
}

/// A publish that claims this `Host`.
fn publish_with_host(server: &Server, host: &str, extra: &str) -> u16 {
    let head = format!(
        "POST /channels/demo HTTP/1.1\r\nHost: {host}\r\n{extra}Content-Length: 1\r\n\r\nx"
    );
    server.exchange(head).status
}

#[test]
fn without_keys_only_loopback_hosts_publish() {
    let server = Server::start(&[]);
    let port = server.addr().port();
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.0.0.2"] {
        assert_eq!(
            publish_with_host(&server, &format!("{host}:{port}"), ""),
            200,
            "{host}"
        );
        assert_eq!(publish_with_host(&server, host, ""), 200, "{host}");
    }
    for host in [
        "push.example",
        "127.0.0.1.push.example",
        "localhost.example",
        "192.0.2.1",
        "0.0.0.0",
    ] {
        let status = publish_with_host(&server, host, "");
        assert!([401, 403].contains(&status), "{host} got {status}");
    }
}

#[test]
fn without_keys_nothing_forwarded_publishes() {
    let server = Server::start(&[]);
    for header in [
        "X-Forwarded-For: 127.0.0.1\r\n",
        "Forwarded: for=127.0.0.1\r\n",
        "X-Real-IP: 127.0.0.1\r\n",
    ] {
        let status = status_of(&server, header);
        assert!([401, 403].contains(&status), "{header:?} got {status}");
    }
}

#[test]
fn a_key_publishes_under_any_host() {
    let server = Server::with_config("api_keys = [\"secret\"]\n");
    let key = "X-API-Key: secret\r\n";
    assert_eq!(publish_with_host(&server, "push.example", key), 200);
}

#[test]
fn another_origin_may_neither_publish_nor_subscribe() {
    let server = Server::start(&[]);
    for origin in [
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://127.0.0.1",
    ] {
        let origin = format!("Origin: {origin}\r\n");
        assert_eq!(status_of(&server, &origin), 403, "{origin}");
        for path in ["/channels/demo", "/chat"] {
            let refused = server.try_websocket(path, &origin).err();
            assert_eq!(refused.expect("refused").status, 403, "{origin}");
        }
    }
}

#[test]
fn the_same_origin_and_a_configured_one_may() {
    let server = Server::with_config("origins = [\"https://app.example\"]\n");
    for origin in [
        format!("http://{}", server.host()),
        "https://app.example".into(),
    ] {
        let origin = format!("Origin: {origin}\r\n");
        assert_eq!(status_of(&server, &origin), 200, "{origin}");
        assert!(
            server.try_websocket("/channels/demo", &origin).is_ok(),
            "{origin}"
        );
    }
}
