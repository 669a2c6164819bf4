//! A frame of commands in Protobuf. What applications say in it has a kind that JSON can carry.

use longwire::proto::centrifuge::{
    Commands, Format, Method, Payload, PayloadKind, PublicationRef, Push, PushEvent, encode_push,
};
use serde_json::value::RawValue;

pub const SEEDS: &[&[u8]] = &[
    b"\0",
    b"\x0c\x08\x01\x22\x08\x0a\x01T\x12\x03{ }\x0f\x08\x02\x2a\x0b\x0a\x03ch1\x50\x01\x58\x01\x70\x01",
    b"\x0c\x08\x04\x3a\x08\x0a\x01c\x12\x03{}\n\x06\x62\x04\x0a\x02\xff\n\x05\x62\x03\x0a\x01\"",
    b"\x11\x08\x07\x52\x0d\x0a\x01c\x38\x0a\x42\x04\x08\x05\x12\0\x48\x01",
    b"\x13\x08\x02\x2a\x0f\x6a\x0d\x0a\x03not\x32\x06\x12\x01k\x1a\x01e",
    b"\x0d\x08\x01\x22\x09\x1a\x07\x0a\x01c\x12\x02\x18\x01",
];

pub fn run(input: &[u8]) {
    let commands = Commands::new(Format::Protobuf, input, 16);
    for command in commands.take_while(Result::is_ok).flatten() {
        let data = match command.method {
            Method::Publish(request) => request.data,
            Method::Send(request) => request.data,
            Method::Rpc(request) => request.data,
            _ => None,
        };
        data.iter().for_each(carry_as_json);
    }
}

fn carry_as_json(data: &Payload) {
    let publication = PublicationRef::new(data.as_ref(), 1);
    let push = Push::of_connection(PushEvent::Publication(&publication));
    let mut line = Vec::new();
    encode_push(&mut line, Format::Json, true, &push);
    assert!(!line.contains(&b'\n'));
    assert!(serde_json::from_slice::<&RawValue>(&line).is_ok());
    if data.kind == PayloadKind::Text {
        let text = std::str::from_utf8(&data.bytes).expect("text");
        let line: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(line["pub"]["data"], text);
    }
}
