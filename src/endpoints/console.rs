//! `/`: a page to try the server and to watch it; `/longwire.js`: the client it uses, for any page.

use bytes::Bytes;

use crate::shard::{Answer, Core, Exchange, Reply};

const PAGE: &[u8] = include_bytes!("../console/index.html");
const CLIENT: &[u8] = include_bytes!("../console/longwire.js");

/// A script that a page can load both ways has no `export`: this module has it.
const CLIENT_MODULE: &[u8] = b"import './longwire.js';\n\
    export const { Longwire } = globalThis;\n\
    export default Longwire;\n";

/// The page and the client are two files, and talk to this server only.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
                      script-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

pub(super) fn page(_: &mut Core, _: &Exchange<'_>) -> Answer {
    let reply = file("text/html; charset=utf-8", PAGE);
    Answer::Reply(
        reply
            .with("Content-Security-Policy", POLICY)
            .with("Referrer-Policy", "no-referrer"),
    )
}

pub(super) fn client(_: &mut Core, _: &Exchange<'_>) -> Answer {
    Answer::Reply(script(CLIENT))
}

pub(super) fn client_module(_: &mut Core, _: &Exchange<'_>) -> Answer {
    Answer::Reply(script(CLIENT_MODULE))
}

/// Pages of every origin may load it, as a module too: it holds nothing that is secret.
fn script(body: &'static [u8]) -> Reply {
    file("text/javascript; charset=utf-8", body)
        .with("Access-Control-Allow-Origin", "*")
        .with("Cross-Origin-Resource-Policy", "cross-origin")
}

fn file(content_type: &'static str, body: &'static [u8]) -> Reply {
    let reply = Reply {
        content_type,
        body: Bytes::from_static(body),
        ..Reply::text(200, "")
    };
    reply
        .with("X-Content-Type-Options", "nosniff")
        .with("Cache-Control", "no-cache")
}
