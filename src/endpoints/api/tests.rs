//! Every method against cores: two of them, the caller on one and the channel on the other.

use serde_json::{Value, json};

use crate::auth::sign_hs256;
use crate::config::{ChannelOptions, Config};
use crate::proto::frame::{Opcode, encode_masked_frame};
use crate::shard::testing::{Bed, Client, with_cores};

const SECRET: &str = "secret";
/// The end of the year 9999.
const LATE_S: i64 = 253_402_300_799;

fn config() -> Config {
    let mut config = Config::default();
    config.client.token.hmac_secret_key = SECRET.to_owned();
    config.client.limits.insecure = true;
    config.channel.without_namespace = ChannelOptions {
        presence: true,
        history_size: 10,
        history_ttl_s: 60,
        ..ChannelOptions::default()
    };
    let bare = ("bare".to_owned(), ChannelOptions::default());
    config.channel.namespaces = vec![bare];
    config
}

fn with_api(test: impl FnOnce(&mut Bed)) {
    with_cores(2, config(), test);
}

/// What the API answers to a request on the first shard.
fn call(bed: &mut Bed, method: &str, request: &Value) -> Value {
    let (status, body) = bed.post(0, &format!("/api/{method}"), "", &request.to_string());
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn result(bed: &mut Bed, method: &str, request: &Value) -> Value {
    let mut answer = call(bed, method, request);
    assert!(answer["error"].is_null(), "{answer}");
    answer["result"].take()
}

fn code(bed: &mut Bed, method: &str, request: &Value) -> Value {
    call(bed, method, request)["error"]["code"].take()
}

/// A client of a user, and its id.
fn connected(bed: &mut Bed, shard: usize, user: &str) -> (Client, String) {
    let mut client = bed.websocket(shard, "/connection/websocket");
    let token = sign_hs256(SECRET, &json!({ "sub": user }).to_string()).unwrap();
    say(
        bed,
        &mut client,
        &json!({"id": 1, "connect": {"token": token}}),
    );
    let id = heard(&mut client)["connect"]["client"].take();
    (client, id.as_str().unwrap().to_owned())
}

fn say(bed: &mut Bed, client: &mut Client, command: &Value) {
    let mut frame = Vec::new();
    let text = command.to_string();
    encode_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], text.as_bytes());
    bed.say(client, &frame);
    bed.pass_messages();
}

fn heard(client: &mut Client) -> Value {
    serde_json::from_slice(&client.message()).unwrap()
}

/// The code and the reason of the Close that comes next.
fn closed(client: &mut Client) -> (u16, String) {
    let (first, payload) = client.frame();
    assert_eq!(first, 0x88);
    let code = u16::from_be_bytes([payload[0], payload[1]]);
    (code, String::from_utf8(payload[2..].to_vec()).unwrap())
}

#[test]
fn what_is_published_is_in_the_history() {
    with_api(|bed| {
        let channel = bed.channel_of(1);
        let publish = json!({"channel": channel, "data": {"n": 1}, "tags": {"k": "v"}});
        let first = result(bed, "publish", &publish);
        assert_eq!(first["offset"], 1);
        let binary = json!({"channel": channel, "b64data": "/w=="});
        assert_eq!(result(bed, "publish", &binary)["offset"], 2);
        let skips = json!({"channel": channel, "data": 3, "skip_history": true});
        assert_eq!(result(bed, "publish", &skips), json!({}));
        let position = result(bed, "history", &json!({"channel": channel}));
        let epoch = &first["epoch"];
        assert_eq!(
            position,
            json!({"publications": [], "epoch": epoch, "offset": 2})
        );
        let all = result(bed, "history", &json!({"channel": channel, "limit": -1}));
        assert_eq!(
            all["publications"],
            json!([{"data": {"n": 1}, "offset": 1, "tags": {"k": "v"}}, {"b64data": "/w==", "offset": 2}])
        );
        let newest = json!({"channel": channel, "limit": 1, "reverse": true});
        assert_eq!(
            result(bed, "history", &newest)["publications"][0]["offset"],
            2
        );
        let since = |epoch: &Value| json!({"channel": channel, "limit": 5, "since": {"offset": 1, "epoch": epoch}});
        let later = result(bed, "history", &since(epoch));
        assert_eq!(later["publications"].as_array().unwrap().len(), 1);
        assert_eq!(code(bed, "history", &since(&json!("nope"))), 112);
        assert_eq!(
            result(bed, "history_remove", &json!({"channel": channel})),
            json!({})
        );
        let rest = result(bed, "history", &json!({"channel": channel, "limit": -1}));
        assert_eq!(rest["publications"], json!([]));
    });
}

#[test]
fn what_is_published_outside_the_stream_leaves_no_hole() {
    with_api(|bed| {
        let channel = bed.channel_of(1);
        for (skips, expected) in [(false, json!(1)), (true, Value::Null), (false, json!(2))] {
            let publish = json!({"channel": channel, "data": 1, "skip_history": skips});
            assert_eq!(result(bed, "publish", &publish)["offset"], expected);
        }
    });
}

#[test]
fn a_publication_is_sequenced_once_by_its_key_and_its_version() {
    with_api(|bed| {
        let channel = bed.channel_of(1);
        let keyed = json!({"channel": channel, "data": 1, "idempotency_key": "k"});
        let first = result(bed, "publish", &keyed);
        assert_eq!(result(bed, "publish", &keyed), first);
        let mut offset = |version: u64, epoch: &str| {
            let publish =
                json!({"channel": channel, "data": 1, "version": version, "version_epoch": epoch});
            result(bed, "publish", &publish)["offset"].take()
        };
        let offsets = [
            offset(5, ""),
            offset(4, ""),
            offset(6, ""),
            offset(1, "other"),
        ];
        assert_eq!(offsets, [json!(2), json!(2), json!(3), json!(4)]);
    });
}

#[test]
fn a_broadcast_answers_for_each_channel() {
    with_api(|bed| {
        let channels = [
            bed.channel_of(0),
            bed.channel_of(1),
            "nope:x".into(),
            "bare:x".into(),
        ];
        let answer = result(bed, "broadcast", &json!({"channels": channels, "data": 1}));
        let responses = answer["responses"].as_array().unwrap();
        assert_eq!(responses[0]["result"]["offset"], 1);
        assert_eq!(responses[1]["result"]["offset"], 1);
        assert_eq!(responses[2]["error"]["code"], 102);
        assert_eq!(responses[3], json!({"result": {}}));
    });
}

#[test]
fn wrong_requests_have_codes() {
    with_api(|bed| {
        for (method, request, expected) in [
            ("publish", json!({"channel": "", "data": 1}), 107),
            ("publish", json!({"channel": "a"}), 107),
            ("publish", json!({"channel": "nope:x", "data": 1}), 102),
            ("broadcast", json!({"channels": [], "data": 1}), 107),
            ("broadcast", json!({"channels": ["a"]}), 107),
            ("presence", json!({"channel": "bare:x"}), 108),
            ("presence_stats", json!({"channel": "nope:x"}), 102),
            ("history", json!({"channel": "bare:x"}), 108),
            ("history_remove", json!({"channel": "bare:x"}), 108),
            (
                "history",
                json!({"channel": "a", "reverse": true, "since": {"offset": 0}}),
                107,
            ),
            ("channels", json!({"pattern": "["}), 107),
            ("subscribe", json!({"user": "1", "channel": ""}), 107),
            ("subscribe", json!({"channel": "a"}), 107),
            ("subscribe", json!({"user": "1", "channel": "nope:x"}), 102),
            ("unsubscribe", json!({"channel": "a"}), 107),
            (
                "disconnect",
                json!({"user": "1", "disconnect": {"code": 1000}}),
                107,
            ),
            ("disconnect", json!({}), 107),
            ("refresh", json!({}), 107),
            ("revoke", json!({"user": "1"}), 107),
            ("revoke", json!({"until": LATE_S}), 107),
            (
                "revoke",
                json!({"user": "1", "token_id": "t", "until": LATE_S}),
                107,
            ),
            ("rpc", json!({"method": "m"}), 104),
        ] {
            assert_eq!(code(bed, method, &request), expected, "{method} {request}");
        }
    });
}

#[test]
fn what_cannot_be_read_is_named() {
    with_api(|bed| {
        for (method, body, named) in [
            ("publish", r#"{"channel":1}"#, "channel: "),
            ("publish", r#"{"tags":{"k":1}}"#, "tags.k: "),
            ("history", r#"{"since":{"offset":"x"}}"#, "since.offset: "),
            ("disconnect", r#"{"user":[]}"#, "user: "),
            ("info", "[]", "object"),
            ("publish", "", "EOF"),
        ] {
            let (status, answer) = bed.post(0, &format!("/api/{method}"), "", body);
            assert_eq!(status, 400);
            assert!(answer.contains("107") && answer.contains(named), "{answer}");
        }
        assert_eq!(bed.post(0, "/api/nope", "", "{}").0, 404);
        let mode = "X-Centrifugo-Error-Mode: transport\r\n";
        let unknown = r#"{"channel":"nope:x"}"#;
        assert_eq!(bed.post(0, "/api/presence", mode, unknown).0, 404);
        assert_eq!(bed.post(0, "/api/info", mode, "{}").0, 200);
    });
}

#[test]
fn presence_channels_and_info_count_clients() {
    with_api(|bed| {
        let channel = bed.channel_of(1);
        let mut clients = [(0, "42"), (1, "42"), (1, "43")].map(|(shard, user)| {
            let (mut client, id) = connected(bed, shard, user);
            say(
                bed,
                &mut client,
                &json!({"id": 2, "subscribe": {"channel": channel}}),
            );
            assert!(heard(&mut client)["subscribe"].is_object());
            (client, id)
        });
        let presence = result(bed, "presence", &json!({"channel": channel}));
        let expected = json!({"client": clients[0].1, "user": "42"});
        assert_eq!(presence["presence"][&clients[0].1], expected);
        let stats = result(bed, "presence_stats", &json!({"channel": channel}));
        assert_eq!(stats, json!({"num_clients": 3, "num_users": 2}));
        let channels = result(
            bed,
            "channels",
            &json!({"pattern": &channel[..3].to_owned()}),
        );
        assert_eq!(channels, json!({"channels": {}}));
        let channels = result(bed, "channels", &json!({}));
        assert_eq!(channels["channels"][&channel], json!({"num_clients": 3}));
        let node = &result(bed, "info", &json!({}))["nodes"][0];
        assert_eq!(node["uid"], "test");
        assert_eq!(
            [
                &node["num_clients"],
                &node["num_subs"],
                &node["num_channels"]
            ],
            [3, 3, 1]
        );
        // One is on both shards.
        assert_eq!(node["num_users"], 2);
        assert!(node["process"]["rss"].as_u64().unwrap() > 0);
        let [(first, _), ..] = &mut clients;
        first.socket.shutdown(std::net::Shutdown::Both).unwrap();
        bed.receive(first);
        bed.pass_messages();
        let node = &result(bed, "info", &json!({}))["nodes"][0];
        assert_eq!([&node["num_clients"], &node["num_users"]], [2, 2]);
    });
}

#[test]
fn a_user_is_subscribed_and_unsubscribed() {
    with_api(|bed| {
        let channel = bed.channel_of(1);
        let (mut one, _) = connected(bed, 1, "42");
        let (_other, _) = connected(bed, 1, "43");
        let subscribe = json!({
            "user": "42", "channel": channel, "data": {"a": 1}, "info": "i",
            "override": {"presence": {"value": false}},
        });
        assert_eq!(result(bed, "subscribe", &subscribe), json!({}));
        let push = &heard(&mut one)["push"];
        assert_eq!(push["channel"], *channel);
        assert_eq!(push["subscribe"]["data"], json!({"a": 1}));
        let stats = result(bed, "presence_stats", &json!({"channel": channel}));
        assert_eq!(stats["num_clients"], 0, "overridden");
        result(bed, "unsubscribe", &json!({"user": "42"}));
        assert_eq!(heard(&mut one)["push"]["unsubscribe"]["code"], 2000);
    });
}

#[test]
fn what_changes_of_a_connection_is_seen_in_its_channels() {
    with_api(|bed| {
        let channel = bed.channel_of(1);
        let (mut one, id) = connected(bed, 0, "42");
        let subscribe = json!({"user": "42", "channel": channel, "info": {"c": 1}});
        result(bed, "subscribe", &subscribe);
        result(bed, "refresh", &json!({"user": "42", "info": {"n": 2}}));
        let presence = result(bed, "presence", &json!({"channel": channel}));
        let shown =
            json!({"client": id, "user": "42", "conn_info": {"n": 2}, "chan_info": {"c": 1}});
        assert_eq!(presence["presence"], json!({ &id: shown }));
        assert!(heard(&mut one)["push"]["subscribe"].is_object());
        assert!(heard(&mut one)["push"]["refresh"].is_object());
        result(bed, "refresh", &json!({"user": "42", "expire_at": 5}));
        assert_eq!(closed(&mut one).0, 3005);
    });
}

#[test]
fn a_client_is_found_by_its_id() {
    with_api(|bed| {
        let (mut one, id) = connected(bed, 1, "42");
        let (mut two, other) = connected(bed, 1, "42");
        let (mut anonymous, nobody) = connected(bed, 0, "");
        for request in [
            json!({"user": "43", "client": id}),
            json!({"client": "nope"}),
            json!({"client": format!("ffffffff-ffff{}", &id[13..])}),
            json!({"user": "42", "session": "0001"}),
            json!({"user": "42", "whitelist": [id, other]}),
        ] {
            assert_eq!(result(bed, "disconnect", &request), json!({}));
        }
        let disconnect = json!({"client": id, "disconnect": {"code": 4500, "reason": "go"}});
        result(bed, "disconnect", &disconnect);
        assert_eq!(closed(&mut one), (4500, "go".to_owned()));
        result(bed, "disconnect", &json!({"client": nobody}));
        assert_eq!(closed(&mut anonymous).0, 3503);
        result(bed, "refresh", &json!({"user": "42", "expire_at": LATE_S}));
        assert_eq!(heard(&mut two)["push"]["refresh"]["expires"], true);
        result(bed, "refresh", &json!({"user": "42", "expired": true}));
        assert_eq!(closed(&mut two).0, 3005);
    });
}

#[test]
fn the_tokens_of_a_user_are_revoked_everywhere() {
    with_api(|bed| {
        let users = [(0, "42"), (1, "42")];
        let clients = users.map(|(shard, user)| connected(bed, shard, user).0);
        let (_other, _) = connected(bed, 1, "43");
        assert_eq!(
            result(bed, "revoke", &json!({"user": "42", "until": LATE_S})),
            json!({})
        );
        for mut client in clients {
            assert_eq!(closed(&mut client).0, 3500);
        }
        for shard in 0..2 {
            let mut client = bed.websocket(shard, "/connection/websocket");
            let token = sign_hs256(SECRET, r#"{"sub":"42"}"#).unwrap();
            say(
                bed,
                &mut client,
                &json!({"id": 1, "connect": {"token": token}}),
            );
            assert_eq!(closed(&mut client).0, 3500);
        }
        let (mut old, _) = connected(bed, 0, "44");
        result(
            bed,
            "revoke",
            &json!({"user": "44", "issued_before": 100, "until": LATE_S}),
        );
        assert_eq!(
            closed(&mut old).0,
            3014,
            "it may come back with a newer token"
        );
        result(bed, "revoke", &json!({"token_id": "t", "until": LATE_S}));
        let mut client = bed.websocket(1, "/connection/websocket");
        let token = sign_hs256(SECRET, r#"{"sub":"45","jti":"t"}"#).unwrap();
        say(
            bed,
            &mut client,
            &json!({"id": 1, "connect": {"token": token}}),
        );
        assert_eq!(closed(&mut client).0, 3500);
    });
}

#[test]
fn a_batch_answers_for_each_command() {
    with_api(|bed| {
        let channel = bed.channel_of(1);
        let commands = json!([
            {"publish": {"channel": channel, "data": 1}},
            {"history": {"channel": channel, "limit": 1}},
            {"publish": {"channel": "nope:x", "data": 1}},
            {"presence_stats": {"channel": bed.channel_of(0)}},
            {"batch": {"commands": []}},
            {"publish": {"channel": 1}},
            {},
        ]);
        let answer = call(
            bed,
            "batch",
            &json!({"commands": commands, "parallel": true}),
        );
        let replies = answer["replies"].as_array().unwrap();
        assert_eq!(replies[0]["publish"]["offset"], 1);
        assert_eq!(replies[1]["history"]["publications"][0]["data"], 1);
        assert_eq!(replies[2]["error"]["code"], 102);
        assert_eq!(replies[3]["presence_stats"]["num_clients"], 0);
        let codes = [4, 5, 6].map(|at: usize| replies[at]["error"]["code"].as_u64());
        assert_eq!(codes, [Some(104), Some(107), Some(107)]);
    });
}

#[test]
fn commands_by_lines_are_answered_by_lines() {
    with_api(|bed| {
        let channel = bed.channel_of(1);
        let publish = json!({"method": "publish", "params": {"channel": channel, "data": 1}});
        let history = json!({"method": "history", "params": {"channel": channel, "limit": 1}});
        let body = format!("{publish}\n{history}\n{{\"method\":\"nope\"}}\n");
        let (status, answer) = bed.post(0, "/api", "", &body);
        let lines: Vec<Value> = answer
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((status, lines.len()), (200, 3));
        assert_eq!(lines[0]["result"]["offset"], 1);
        assert_eq!(lines[1]["result"]["publications"][0]["data"], 1);
        assert_eq!(lines[2]["error"]["code"], 104);
        for body in ["", "nope", "{\"method\":\"info\"}\n{"] {
            assert_eq!(bed.post(0, "/api", "", body).0, 400, "{body}");
        }
    });
}

#[test]
fn there_is_a_bound_on_commands_and_channels() {
    with_api(|bed| {
        let commands = vec![json!({"info": {}}); 1001];
        assert_eq!(code(bed, "batch", &json!({"commands": commands})), 106);
        let channels = vec!["a"; 10_001];
        let broadcast = json!({"channels": channels, "data": 1});
        assert_eq!(code(bed, "broadcast", &broadcast), 106);
    });
}
