//! A request to the server API, `method`, line feed, body: whatever it is, the answer is JSON.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longwire::auth::{ApiKeys, Revocations, TokenSettings, TokenVerifier};
use longwire::config::{ChannelOptions, Config};
use longwire::endpoints::HANDLER;
use longwire::hub::Key;
use longwire::memory::Memory;
use longwire::metrics::ShardMetrics;
use longwire::net::Rings;
use longwire::proto::http::parse_request;
use longwire::shard::{
    AddressTable, Answer, Backend, Core, Doorbell, Exchange, Reply, Shared, Tokens, connect,
};

pub const SEEDS: &[&[u8]] = &[
    br#"publish
{"channel":"a","data":{"b": [1, "\n"]},"tags":{"k":"v"},"idempotency_key":"i","delta":true,"version":7,"version_epoch":"e","skip_history":false}"#,
    b"publish\n{\"channel\":\"a\",\"b64data\":\"/w==\",\"skip_history\":true}",
    br#"broadcast
{"channels":["a","nope:b"],"data":"x"}"#,
    br#"history
{"channel":"a","limit":-1,"since":{"offset":0,"epoch":""},"reverse":false}"#,
    br#"subscribe
{"user":"1","channel":"a","info":{},"b64info":"e30=","data":1,"expire_at":9,"recover_since":{"offset":1},"override":{"presence":{"value":true}}}"#,
    br#"disconnect
{"user":"1","client":"00000000-0000-8000-8000-000000000000","session":"000000000000","whitelist":["a"],"disconnect":{"code":4000,"reason":"r"}}"#,
    br#"refresh
{"user":"1","expired":true,"expire_at":253402300799,"info":null}"#,
    br#"revoke
{"user":"1","issued_before":5,"until":253402300799}"#,
    br#"channels
{"pattern":"[a-c]{x,y}*"}"#,
    br#"batch
{"commands":[{"publish":{"channel":"a","data":1}},{"presence":{"channel":"a"}},{"unsubscribe":{"user":"1"}}],"parallel":true}"#,
    br#"
{"method":"publish","params":{"channel":"a","data":1}}
{"method":"presence_stats","params":{"channel":"a"}}
{"method":"history_remove","params":{"channel":"a"}}"#,
    b"info\n{}",
];

thread_local! {
    static CORE: RefCell<Core> = RefCell::new(core());
}

pub fn run(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n');
    let (method, body) = input.split_at(at.unwrap_or(input.len()));
    let Ok(method) = std::str::from_utf8(method) else {
        return;
    };
    let path = match method {
        "" => "/api".to_owned(),
        method => format!("/api/{method}"),
    };
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n");
    let Ok(request) = parse_request(head.as_bytes()) else {
        return;
    };
    let exchange = Exchange {
        request: &request,
        body,
        client: [127, 0, 0, 1].into(),
        session: Key {
            slot: 0,
            generation: 0,
        },
    };
    CORE.with_borrow_mut(|core| {
        if (HANDLER.admit)(core, &exchange).is_err() {
            return;
        }
        // There is no other shard that it could wait for.
        let Answer::Reply(reply) = (HANDLER.answer)(core, &exchange) else {
            panic!("no answer");
        };
        check(&reply, method.is_empty());
    });
}

fn check(reply: &Reply, is_by_lines: bool) {
    assert!(matches!(reply.status, 200 | 400), "{}", reply.status);
    let text = std::str::from_utf8(&reply.body).expect("text");
    let is_json = |text| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    match is_by_lines {
        true => assert!(text.lines().all(is_json), "{text}"),
        false => assert!(is_json(text), "{text}"),
    }
}

/// The only core of a server.
fn core() -> Core {
    let mut config = Config::default();
    config.channels.limit = 100;
    config.channel.without_namespace = ChannelOptions {
        presence: true,
        history_size: 10,
        history_ttl_s: 60,
        ..ChannelOptions::default()
    };
    let doorbell = Arc::new(Doorbell::open().expect("a doorbell"));
    let (ports, _) = connect(&[doorbell], 1, config.inbox.messages, 1 << 20);
    let verifier =
        || TokenVerifier::new(&TokenSettings::default()).expect("these settings are right");
    let shared = Shared {
        connections_per_shard: 10,
        metrics: vec![Arc::new(ShardMetrics::default())],
        channel_hash: std::hash::RandomState::new(),
        is_ready: AtomicBool::new(true),
        addresses: AddressTable::default(),
        memory: Memory::new(&config.admission, || ()),
        batons: Vec::new(),
        tokens: Tokens {
            connect: verifier(),
            subscribe: verifier(),
            revocations: Revocations::new(100),
        },
        backend: Backend::default(),
        node: "fuzz".into(),
        api_keys: ApiKeys::default(),
        begin_drain: Box::new(|| ()),
        handler: HANDLER,
        log_lines_dropped: || 0,
        config,
    };
    let links = ports.into_iter().flat_map(|ports| ports.links).collect();
    Core::new(0, Arc::new(shared), links, Rings::new().expect("its rings"))
}
