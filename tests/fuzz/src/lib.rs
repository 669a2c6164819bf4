//! What the fuzz targets do with an input, and inputs to begin with. `tests/fuzz_smoke.rs` uses these files too.

pub mod api_body;
pub mod centrifuge_emulation;
pub mod centrifuge_json;
pub mod centrifuge_protobuf;
pub mod chunked_body;
pub mod client_headers;
pub mod close_payload;
pub mod extensions;
pub mod fossil;
pub mod frame_header;
pub mod inflate;
pub mod jwks;
pub mod messages;
pub mod proxy_header;
pub mod request_head;
pub mod sockjs;
pub mod tags_filter;
pub mod tokens;
pub mod upgrade;
pub mod utf8;

/// A fuzz target.
pub struct Target {
    pub name: &'static str,
    pub seeds: &'static [&'static [u8]],
    /// Panics if it finds something.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[
            $(Target {
                name: stringify!($name),
                seeds: $name::SEEDS,
                run: $name::run,
            },)*
        ];
    };
}

targets! {
    api_body centrifuge_emulation centrifuge_json centrifuge_protobuf chunked_body client_headers close_payload extensions
    fossil frame_header inflate jwks messages proxy_header request_head sockjs tags_filter tokens upgrade utf8
}
