//! What an emulated connection posts, in both formats. What is read, and written again, is the same.

use longwire::proto::centrifuge::{Format, decode_connect_request, decode_emulation_request};

pub const SEEDS: &[&[u8]] = &[
    br#"{"session":"S","node":"N","data":"{\"id\":2,\"rpc\":{}}\n{}"}"#,
    br#"{"subs":{"ch":{"recover":true,"offset":5,"epoch":"xyz"}},"headers":{"a":"b"}}"#,
    b"\x0a\x01N\x12\x01S\x1a\x01\0",
    b"\x0a\x01T\x12\x02{}\x1a\x08\x0a\x02ch\x12\x02\x18\x01",
];

pub fn run(input: &[u8]) {
    for format in [Format::Json, Format::Protobuf] {
        let _ = decode_connect_request(format, input);
        let _ = decode_emulation_request(format, input);
    }
    if let Ok(request) = decode_emulation_request(Format::Json, input) {
        let data = std::str::from_utf8(&request.data).expect("a string");
        let again =
            serde_json::json!({ "node": request.node, "session": request.session, "data": data });
        let again = decode_emulation_request(Format::Json, again.to_string().as_bytes());
        assert_eq!(again, Ok(request));
    }
}
