//! Who may do what: API keys, local programs, web origins.

use std::net::{IpAddr, SocketAddr};

use subtle::ConstantTimeEq;

use crate::proto::http::Request;
use crate::proto::origin::Origin;
use crate::shard::{Core, Exchange, Headers, Reply};

/// Headers a page may set that browsers ask about first.
pub(super) const CORS_REQUEST_HEADERS: &str =
    "Authorization, Content-Type, If-None-Match, Last-Event-ID, X-API-Key";
/// Headers of answers that a page may read.
const CORS_ANSWER_HEADERS: &str = "ETag, Longwire-Position, Poll-Interval, Retry-After";
/// How long a browser may remember the answer, in seconds; Chromium's own limit.
pub(super) const CORS_MAX_AGE_S: &str = "7200";

/// Headers a proxy adds: a request that carries one does not come from a program on this machine,
/// whatever its address says.
const FORWARDING_HEADERS: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "via",
];

/// Whether the request may publish: with a key; or without one, where none is configured, from a
/// program on this machine, or from anyone if the server is open on purpose.
pub(super) fn may_publish(core: &Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    let config = &core.shared.config;
    if config.has_api_key() {
        return has_key(exchange.request, config.full_api_keys());
    }
    if config.is_api_open() || is_local(core, exchange) {
        return Ok(());
    }
    let line = "publishing without an API key is for programs on this machine only: set api_keys";
    Err(Reply::text(403, line).closing())
}

/// Whether the request may stop the server: with a key; or, where none is configured, from a program on
/// this machine. A server that is open to all publishers is not open to this.
pub(super) fn may_stop(core: &mut Core, exchange: &Exchange<'_>) -> Result<(), Reply> {
    let config = &core.shared.config;
    if config.has_api_key() {
        return has_key(exchange.request, config.full_api_keys());
    }
    if is_local(core, exchange) {
        return Ok(());
    }
    let line =
        "stopping the server without an API key is for programs on this machine only: set api_keys";
    Err(Reply::text(403, line).closing())
}

/// The page's origin, if a browser's page asks. Refuses pages of another origin than the server's own
/// and the configured ones.
pub(super) fn origin<'a>(core: &Core, request: &Request<'a>) -> Result<Option<&'a str>, Reply> {
    let mut lines = request.headers("origin");
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    let text = std::str::from_utf8(line)
        .ok()
        .filter(|_| lines.next().is_none());
    let parsed = text.and_then(Origin::parse);
    let is_allowed = parsed.is_some_and(|origin| {
        request.host().is_some_and(|host| origin.is_of_host(host))
            || core.shared.config.allows_origin(&origin)
    });
    match is_allowed {
        true => Ok(text),
        false => Err(Reply::text(403, "origin not allowed: set origins").closing()),
    }
}

/// Lets a page of an allowed origin read the answer, without credentials. Vary keeps caches from
/// showing one origin's answer to another.
pub(super) fn cors_headers(origin: Option<&str>) -> Headers {
    let mut headers = vec![("Vary", "Origin".to_owned())];
    if let Some(origin) = origin {
        headers.push(("Access-Control-Allow-Origin", origin.to_owned()));
        let readable = CORS_ANSWER_HEADERS.to_owned();
        headers.push(("Access-Control-Expose-Headers", readable));
    }
    headers
}

/// The same with credentials: clients of the Centrifuge protocol may need their cookies, for the backend.
pub(super) fn credentialed_cors_headers(origin: Option<&str>) -> Headers {
    let mut headers = cors_headers(origin);
    if origin.is_some() {
        headers.push(("Access-Control-Allow-Credentials", "true".to_owned()));
    }
    headers
}

fn has_key<'k>(request: &Request<'_>, keys: impl Iterator<Item = &'k str>) -> Result<(), Reply> {
    let Some(given) = given_key(request) else {
        let reply = Reply::text(401, "API key missing: send X-API-Key");
        return Err(reply.with("WWW-Authenticate", "apikey").closing());
    };
    // Every key is compared, in time that does not depend on where they differ.
    let matches = keys.fold(subtle::Choice::from(0), |found, key| {
        found | key.as_bytes().ct_eq(given.as_bytes())
    });
    if bool::from(matches) {
        return Ok(());
    }
    let reply = Reply::text(401, "API key not accepted");
    Err(reply.with("WWW-Authenticate", "apikey").closing())
}

/// `X-API-Key: KEY` or `Authorization: apikey KEY`.
fn given_key<'a>(request: &Request<'a>) -> Option<&'a str> {
    request.header("x-api-key").or_else(|| {
        let (scheme, key) = request.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("apikey").then_some(key.trim())
    })
}

/// True for a program on this machine that talks to the server itself. A Host that is not loopback is
/// a web page whose name was pointed here (DNS rebinding); an address that is a trusted proxy's is one
/// behind which anybody may be.
fn is_local(core: &Core, exchange: &Exchange<'_>) -> bool {
    let request = exchange.request;
    let is_forwarded = FORWARDING_HEADERS
        .iter()
        .any(|name| request.headers(name).next().is_some());
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    is_loopback(exchange.client)
        && !core.shared.trusts(exchange.client)
        && !is_forwarded
        && request.host().is_some_and(is_loopback_host)
}

fn is_loopback_host(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    if let Some((name, port)) = host.rsplit_once(':')
        && !port.contains(']')
        && name.eq_ignore_ascii_case("localhost")
    {
        return true;
    }
    let ip = host
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| host.trim_matches(['[', ']']).parse());
    ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_loopback_host() {
        for host in [
            "localhost",
            "LocalHost:8000",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "10.0.0.1",
            "[::2]",
            "1.2.3.4:80",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
