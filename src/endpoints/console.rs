//! `/`: a page to try the server and to watch it.

use bytes::Bytes;

use crate::shard::{Answer, Core, Exchange, Reply};

const PAGE: &[u8] = include_bytes!("../console/index.html");

/// The page is one file and talks to this server only.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

pub(super) fn page(_: &mut Core, _: &Exchange<'_>) -> Answer {
    let reply = Reply {
        content_type: "text/html; charset=utf-8",
        body: Bytes::from_static(PAGE),
        ..Reply::text(200, "")
    };
    Answer::Reply(
        reply
            .with("Content-Security-Policy", POLICY)
            .with("X-Content-Type-Options", "nosniff")
            .with("Referrer-Policy", "no-referrer")
            .with("Cache-Control", "no-cache"),
    )
}
