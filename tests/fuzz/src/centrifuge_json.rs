//! A frame of commands in JSON. What applications say in it can be embedded in one line of JSON again.

use std::collections::BTreeMap;

use longwire::proto::centrifuge::values::{PublishRequest, SendRequest};
use longwire::proto::centrifuge::{
    Commands, Format, Method, Payload, PublicationRef, Push, PushEvent, encode_push,
};
use serde_json::value::RawValue;

pub const SEEDS: &[&[u8]] = &[
    br#"{"connect":{"token":"T","data":{"a":1},"name":"js","subs":{"c":{"recover":true,"offset":5}}},"id":1}
{"subscribe":{"channel":"ch1","recoverable":true,"join_leave":true,"flag":1,"tf":{"op":"and","nodes":[{"key":"k","cmp":"in","vals":["a"]}]}},"id":2}"#,
    b"{}\n{}\n",
    br#"{"id":7,"history":{"channel":"c","limit":-1,"since":{"offset":"5","epoch":"e"},"reverse":true}}"#,
    br#"{"id":4.0,"publish":{"channel":"c","data":{"x" :  [1, "\u00e9\n", null]}}}
{"send":{"data":null}}
{"id":5,"rpc":{"method":"m","data":"text"}}"#,
    br#"{"id":5,"presence":{"channel":"c"}}
{"id":6,"presence_stats":{"channel":"c"}}
{"id":9,"refresh":{"token":"N"}}
{"id":10,"sub_refresh":{"channel":"c","token":"N"}}
{"id":3,"unsubscribe":{"channel":"c"}}"#,
];

pub fn run(input: &[u8]) {
    let commands = Commands::new(Format::Json, input, 16);
    for command in commands.take_while(Result::is_ok).flatten() {
        if let Method::Publish(PublishRequest {
            data: Some(data), ..
        })
        | Method::Send(SendRequest { data: Some(data) }) = command.method
        {
            embed(&data);
        }
    }
}

fn embed(data: &Payload) {
    let publication = PublicationRef::new(data.as_ref(), 1);
    let push = Push::of_connection(PushEvent::Publication(&publication));
    let mut line = Vec::new();
    encode_push(&mut line, Format::Json, false, &push);
    assert!(!line.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
    let field = |json, name: &str| -> &RawValue {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json).expect("an object");
        fields[name]
    };
    let line = std::str::from_utf8(&line).expect("text");
    let embedded = field(field(field(line, "push").get(), "pub").get(), "data");
    let data = std::str::from_utf8(&data.bytes).expect("text");
    assert_eq!(embedded.get(), data.replace(['\n', '\r'], ""));
}
