//! Lines that clients and servers of this protocol are known to write, in both directions.

use std::collections::BTreeMap;

use bytes::Bytes;
use longwire::proto::centrifuge::values::ConnectResult;
use longwire::proto::centrifuge::values::{
    ChannelRequest, HistoryRequest, HistoryResult, PresenceStats, PublishRequest, RefreshRequest,
    RefreshResult, RpcRequest, SendRequest, StreamPosition, SubRefreshRequest, SubRefreshResult,
    SubscribePush, SubscribeRequest, SubscribeResult,
};
use longwire::proto::centrifuge::{
    ChannelRef, ClientInfoRef, Command, Commands, ConnectRequest, Disconnect, EmulationRequest,
    ErrorCode, Format, Method, Payload, PayloadRef, PublicationRef, Push, PushEvent, Reply,
    ReplyResult, UnsubscribeCode, append_recovered, decode_connect_request,
    decode_emulation_request, encode_ping, encode_push, encode_reply,
};

fn json(text: &str) -> Option<Payload> {
    Some(Payload::json(Bytes::copy_from_slice(text.as_bytes())).unwrap())
}

fn decode(frame: &str) -> Vec<Command> {
    let commands = Commands::new(Format::Json, frame.as_bytes(), 100);
    commands.map(Result::unwrap).collect()
}

fn command(line: &str) -> Command {
    let mut commands = decode(line);
    assert_eq!(commands.len(), 1, "{line}");
    commands.remove(0)
}

fn reply(id: u32, result: ReplyResult<'_>) -> String {
    let mut out = Vec::new();
    encode_reply(&mut out, Format::Json, &Reply { id, result });
    String::from_utf8(out).unwrap()
}

fn push(channel: &str, event: PushEvent<'_>, unidirectional: bool) -> String {
    let channel = ChannelRef::Name(channel);
    let mut out = Vec::new();
    encode_push(
        &mut out,
        Format::Json,
        unidirectional,
        &Push { channel, event },
    );
    String::from_utf8(out).unwrap()
}

fn subscribe(channel: &str) -> SubscribeRequest {
    SubscribeRequest {
        channel: channel.to_owned(),
        ..SubscribeRequest::default()
    }
}

fn channel(name: &str) -> ChannelRequest {
    let channel = name.to_owned();
    ChannelRequest { channel }
}

const INFO: ClientInfoRef<'_> = ClientInfoRef {
    user: "42",
    client: "c1",
    conn_info: None,
    chan_info: None,
};

#[test]
fn the_first_frame_of_a_javascript_client() {
    let frame = concat!(
        r#"{"connect":{"token":"T","data":{"a":1},"name":"js"},"id":1}"#,
        "\n",
        r#"{"subscribe":{"channel":"ch1","recoverable":true,"join_leave":true,"flag":1},"id":2}"#,
        "\n",
        r#"{"subscribe":{"channel":"ch2","token":"X","flag":1,"delta":"fossil"},"id":3}"#,
    );
    let connect = ConnectRequest {
        token: "T".to_owned(),
        data: json(r#"{"a":1}"#),
        name: "js".to_owned(),
        ..ConnectRequest::default()
    };
    let first = SubscribeRequest {
        recoverable: true,
        join_leave: true,
        flag: 1,
        ..subscribe("ch1")
    };
    let second = SubscribeRequest {
        token: "X".to_owned(),
        flag: 1,
        delta: "fossil".to_owned(),
        ..subscribe("ch2")
    };
    assert!(first.takes_channel_ids() && !first.rejects_unrecovered());
    let methods = [
        Method::Connect(Box::new(connect)),
        Method::Subscribe(Box::new(first)),
        Method::Subscribe(Box::new(second)),
    ];
    let expected: Vec<Command> = (1..)
        .zip(methods)
        .map(|(id, method)| Command { id, method })
        .collect();
    assert_eq!(decode(frame), expected);
    assert_eq!(decode(&format!("{frame}\n")), expected);
}

#[test]
fn a_client_that_comes_back_says_where_it_was() {
    let line = r#"{"id":1,"connect":{"subs":{"ch":{"recover":true,"offset":5,"epoch":"xyz"}}}}"#;
    let sub = SubscribeRequest {
        recover: true,
        offset: 5,
        epoch: "xyz".to_owned(),
        ..SubscribeRequest::default()
    };
    let connect = ConnectRequest {
        subs: BTreeMap::from([("ch".to_owned(), sub)]),
        ..ConnectRequest::default()
    };
    assert_eq!(
        command(line).method,
        Method::Connect(Box::new(connect.clone()))
    );
    let bare = r#"{"subs":{"ch":{"recover":true,"offset":5,"epoch":"xyz"}}}"#;
    let bare = decode_connect_request(Format::Json, bare.as_bytes());
    assert_eq!(bare, Ok(connect));
}

#[test]
fn one_line_of_every_other_command() {
    for (line, id, method) in [
        ("{}", 0, Method::Pong),
        (
            r#"{"id":3,"unsubscribe":{"channel":"c"}}"#,
            3,
            Method::Unsubscribe(channel("c")),
        ),
        (
            r#"{"id":4,"publish":{"channel":"c","data":{"x":1}}}"#,
            4,
            Method::Publish(PublishRequest {
                channel: "c".to_owned(),
                data: json(r#"{"x":1}"#),
                kind: 0,
            }),
        ),
        (
            r#"{"id":5,"presence":{"channel":"c"}}"#,
            5,
            Method::Presence(channel("c")),
        ),
        (
            r#"{"id":6,"presence_stats":{"channel":"c"}}"#,
            6,
            Method::PresenceStats(channel("c")),
        ),
        (
            r#"{"id":7,"history":{"channel":"c","limit":10,"since":{"offset":5,"epoch":"hYnG"},"reverse":false}}"#,
            7,
            Method::History(HistoryRequest {
                channel: "c".to_owned(),
                limit: 10,
                since: Some(StreamPosition {
                    offset: 5,
                    epoch: "hYnG".to_owned(),
                }),
                reverse: false,
            }),
        ),
        (
            r#"{"id":8,"rpc":{"method":"m","data":{"q": null}}}"#,
            8,
            Method::Rpc(RpcRequest {
                data: json(r#"{"q": null}"#),
                method: "m".to_owned(),
            }),
        ),
        (
            r#"{"send":{"data":null}}"#,
            0,
            Method::Send(SendRequest { data: json("null") }),
        ),
        (
            r#"{"id":9,"refresh":{"token":"NEW"}}"#,
            9,
            Method::Refresh(RefreshRequest {
                token: "NEW".to_owned(),
            }),
        ),
        (
            r#"{"id":10,"sub_refresh":{"channel":"c","token":"NEW"}}"#,
            10,
            Method::SubRefresh(SubRefreshRequest {
                channel: "c".to_owned(),
                token: "NEW".to_owned(),
                kind: 0,
            }),
        ),
    ] {
        assert_eq!(command(line), Command { id, method }, "{line}");
    }
}

#[test]
fn what_an_emulated_connection_posts() {
    let body = r#"{"session":"S","node":"N","data":"{\"id\":2,\"rpc\":{}}\n{}"}"#;
    let expected = EmulationRequest {
        node: "N".to_owned(),
        session: "S".to_owned(),
        data: Bytes::from_static(b"{\"id\":2,\"rpc\":{}}\n{}"),
    };
    let decoded = decode_emulation_request(Format::Json, body.as_bytes());
    assert_eq!(decoded, Ok(expected));
    assert!(decode_emulation_request(Format::Json, b"{\"data\":{}}").is_err());
}

#[test]
fn the_reply_to_a_connect() {
    let sub = SubscribeResult {
        recoverable: true,
        epoch: "kTqX",
        offset: 7,
        positioned: true,
        ..SubscribeResult::default()
    };
    let result = ConnectResult {
        client: "6b5a",
        version: "6.9.1",
        expires: true,
        ttl: 3599,
        data: Some(PayloadRef::json(b"{\"a\":1}")),
        subs: &[("personal:#42", sub)],
        ping: 25,
        pong: true,
        session: "S",
        node: "N",
        time_ms: 0,
    };
    assert_eq!(
        reply(1, ReplyResult::Connect(result)),
        concat!(
            r#"{"id":1,"connect":{"client":"6b5a","version":"6.9.1","expires":true,"ttl":3599,"data":{"a":1},"#,
            r#""subs":{"personal:#42":{"recoverable":true,"epoch":"kTqX","offset":7,"positioned":true}},"#,
            r#""ping":25,"pong":true,"session":"S","node":"N"}}"#
        )
    );
    assert_eq!(
        push(
            "",
            PushEvent::Connect(&ConnectResult {
                subs: &[],
                ..result
            }),
            true
        ),
        concat!(
            r#"{"connect":{"client":"6b5a","version":"6.9.1","data":{"a":1},"expires":true,"ttl":3599,"#,
            r#""ping":25,"pong":true,"session":"S","node":"N"}}"#
        )
    );
}

#[test]
fn the_reply_to_a_subscribe() {
    let mut publications = Vec::new();
    for data in [&b"1"[..], b"2"] {
        let publication = PublicationRef::new(PayloadRef::json(data), 12);
        append_recovered(&mut publications, Format::Json, &publication);
    }
    let result = SubscribeResult {
        expires: true,
        ttl: 60,
        recoverable: true,
        epoch: "hYnG",
        publications: &publications,
        recovered: true,
        offset: 12,
        positioned: true,
        data: Some(PayloadRef::json(b"{}")),
        was_recovering: true,
        delta: true,
        id: 3,
    };
    assert_eq!(
        reply(2, ReplyResult::Subscribe(result)),
        concat!(
            r#"{"id":2,"subscribe":{"expires":true,"ttl":60,"recoverable":true,"epoch":"hYnG","#,
            r#""publications":[{"data":1,"offset":12},{"data":2,"offset":12}],"recovered":true,"offset":12,"positioned":true,"#,
            r#""data":{},"was_recovering":true,"delta":true,"id":3}}"#
        )
    );
    assert_eq!(
        reply(2, ReplyResult::Subscribe(SubscribeResult::default())),
        r#"{"id":2,"subscribe":{}}"#
    );
}

#[test]
fn the_other_replies() {
    let info = ClientInfoRef {
        conn_info: Some(PayloadRef::json(b"{\"n\":1}")),
        chan_info: Some(PayloadRef::json(b"[]")),
        ..INFO
    };
    let publications = [PublicationRef::new(PayloadRef::json(b"{}"), 6)];
    let history = HistoryResult {
        publications: &publications,
        epoch: "hYnG",
        offset: 12,
    };
    let stats = PresenceStats {
        num_clients: 3,
        num_users: 2,
    };
    let refresh = RefreshResult {
        client: "c1",
        version: "v",
        expires: true,
        ttl: 3600,
    };
    let expires = SubRefreshResult {
        expires: true,
        ttl: 60,
    };
    for (result, expected) in [
        (
            ReplyResult::Error(ErrorCode::PermissionDenied.into()),
            r#""error":{"code":103,"message":"permission denied"}"#,
        ),
        (
            ReplyResult::Error(ErrorCode::Internal.into()),
            r#""error":{"code":100,"message":"internal server error","temporary":true}"#,
        ),
        (ReplyResult::Unsubscribe, r#""unsubscribe":{}"#),
        (ReplyResult::Publish, r#""publish":{}"#),
        (
            ReplyResult::Presence(&[info]),
            r#""presence":{"presence":{"c1":{"user":"42","client":"c1","conn_info":{"n":1},"chan_info":[]}}}"#,
        ),
        (ReplyResult::Presence(&[]), r#""presence":{"presence":{}}"#),
        (
            ReplyResult::PresenceStats(stats),
            r#""presence_stats":{"num_clients":3,"num_users":2}"#,
        ),
        (
            ReplyResult::PresenceStats(PresenceStats::default()),
            r#""presence_stats":{"num_clients":0,"num_users":0}"#,
        ),
        (
            ReplyResult::History(history),
            r#""history":{"publications":[{"data":{},"offset":6}],"epoch":"hYnG","offset":12}"#,
        ),
        (
            ReplyResult::History(HistoryResult::default()),
            r#""history":{"publications":[],"epoch":"","offset":0}"#,
        ),
        (
            ReplyResult::Rpc(Some(PayloadRef::json(b"{}"))),
            r#""rpc":{"data":{}}"#,
        ),
        (ReplyResult::Rpc(None), r#""rpc":{}"#),
        (
            ReplyResult::Refresh(refresh),
            r#""refresh":{"client":"c1","version":"v","expires":true,"ttl":3600}"#,
        ),
        (
            ReplyResult::SubRefresh(expires),
            r#""sub_refresh":{"expires":true,"ttl":60}"#,
        ),
    ] {
        assert_eq!(reply(5, result), format!(r#"{{"id":5,{expected}}}"#));
    }
}

#[test]
fn every_push_inside_a_reply_and_bare() {
    let tags = [("k".into(), "v".into())];
    let publication = PublicationRef {
        info: Some(INFO),
        tags: &tags,
        ..PublicationRef::new(PayloadRef::json(b"{\"x\":1}"), 13)
    };
    let patch = PublicationRef {
        delta: true,
        ..PublicationRef::new(PayloadRef::text(b"k\nV@0,1:5F@W,1feuJy;"), 2)
    };
    let full = PayloadRef::text(br#"{"symbol":"EURUSD","bid":1.10234,"ask":1.10241}"#);
    let full = PublicationRef::new(full, 1);
    let subscribe = SubscribePush {
        recoverable: true,
        epoch: "e",
        offset: 3,
        positioned: true,
        data: Some(PayloadRef::json(b"{}")),
    };
    let refresh = SubRefreshResult {
        expires: true,
        ttl: 120,
    };
    let nobody = ClientInfoRef {
        user: "",
        client: "",
        ..INFO
    };
    for (channel, event, expected) in [
        (
            "c",
            PushEvent::Publication(&publication),
            r#"{"channel":"c","pub":{"data":{"x":1},"info":{"user":"42","client":"c1"},"offset":13,"tags":{"k":"v"}}}"#,
        ),
        (
            "c",
            PushEvent::Publication(&full),
            r#"{"channel":"c","pub":{"data":"{\"symbol\":\"EURUSD\",\"bid\":1.10234,\"ask\":1.10241}","offset":1}}"#,
        ),
        (
            "c",
            PushEvent::Publication(&patch),
            r#"{"channel":"c","pub":{"data":"k\nV@0,1:5F@W,1feuJy;","offset":2,"delta":true}}"#,
        ),
        (
            "c",
            PushEvent::Join(&INFO),
            r#"{"channel":"c","join":{"info":{"user":"42","client":"c1"}}}"#,
        ),
        (
            "c",
            PushEvent::Leave(&nobody),
            r#"{"channel":"c","leave":{"info":{"user":"","client":""}}}"#,
        ),
        (
            "c",
            UnsubscribeCode::Server.into(),
            r#"{"channel":"c","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}"#,
        ),
        (
            "c",
            PushEvent::Subscribe(subscribe),
            r#"{"channel":"c","subscribe":{"recoverable":true,"epoch":"e","offset":3,"positioned":true,"data":{}}}"#,
        ),
        (
            "",
            PushEvent::Message(PayloadRef::json(b"{}")),
            r#"{"message":{"data":{}}}"#,
        ),
        (
            "",
            PushEvent::Refresh(refresh),
            r#"{"refresh":{"expires":true,"ttl":120}}"#,
        ),
        (
            "",
            PushEvent::Disconnect(&Disconnect::ForceNoReconnect),
            r#"{"disconnect":{"code":3503,"reason":"force disconnect"}}"#,
        ),
    ] {
        assert_eq!(push(channel, event, true), expected);
        assert_eq!(
            push(channel, event, false),
            format!(r#"{{"push":{expected}}}"#)
        );
    }
}

#[test]
fn a_protobuf_ping_is_one_zero() {
    let mut out = Vec::new();
    encode_ping(&mut out, Format::Protobuf);
    assert_eq!(out, [0]);
    let commands: Vec<_> = Commands::new(Format::Protobuf, &out, 1).collect();
    let pong = Command {
        id: 0,
        method: Method::Pong,
    };
    assert_eq!(commands, [Ok(pong)]);
}

#[test]
fn every_code_of_the_protocol() {
    let disconnects = [
        (Disconnect::ConnectionClosed, 3000, "connection closed"),
        (Disconnect::Shutdown, 3001, "shutdown"),
        (
            Disconnect::InternalServerError,
            3004,
            "internal server error",
        ),
        (Disconnect::ConnectionExpired, 3005, "connection expired"),
        (
            Disconnect::SubscriptionExpired,
            3006,
            "subscription expired",
        ),
        (Disconnect::Slow, 3008, "slow"),
        (Disconnect::WriteError, 3009, "write error"),
        (Disconnect::InsufficientState, 3010, "insufficient state"),
        (Disconnect::ForceReconnect, 3011, "force reconnect"),
        (Disconnect::NoPong, 3012, "no pong"),
        (Disconnect::TooManyRequests, 3013, "too many requests"),
        (Disconnect::StateInvalidated, 3014, "state invalidated"),
        (Disconnect::InvalidToken, 3500, "invalid token"),
        (Disconnect::BadRequest, 3501, "bad request"),
        (Disconnect::Stale, 3502, "stale"),
        (Disconnect::ForceNoReconnect, 3503, "force disconnect"),
        (Disconnect::ConnectionLimit, 3504, "connection limit"),
        (Disconnect::ChannelLimit, 3505, "channel limit"),
        (
            Disconnect::InappropriateProtocol,
            3506,
            "inappropriate protocol",
        ),
        (Disconnect::PermissionDenied, 3507, "permission denied"),
        (Disconnect::NotAvailable, 3508, "not available"),
        (Disconnect::TooManyErrors, 3509, "too many errors"),
    ];
    for (disconnect, code, reason) in disconnects {
        assert_eq!((disconnect.code(), disconnect.reason()), (code, reason));
        assert_eq!(disconnect.is_reconnect(), code < 3500, "{code}");
    }
    let unsubscribes = [
        (UnsubscribeCode::Server, 2000, "server unsubscribe"),
        (
            UnsubscribeCode::InsufficientState,
            2500,
            "insufficient state",
        ),
        (UnsubscribeCode::Expired, 2501, "subscription expired"),
        (UnsubscribeCode::StateInvalidated, 2502, "state invalidated"),
    ];
    for (unsubscribe, code, reason) in unsubscribes {
        assert_eq!((unsubscribe.code(), unsubscribe.reason()), (code, reason));
    }
}
