//! Who may do what: API keys, local programs, web origins.

use std::net::SocketAddr;

use subtle::ConstantTimeEq;

use crate::proto::http::Request;
use crate::shard::{Core, Exchange, Reply};

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
    same_origin(core, exchange.request)?;
    if !config.api_keys.is_empty() {
        return has_key(exchange.request, &config.api_keys);
    }
    if config.insecure || is_local(exchange.request, exchange.peer) {
        return Ok(());
    }
    let line = "publishing without an API key is for programs on this machine only: set api_keys";
    Err(Reply::text(403, line).closing())
}

/// Refuses a browser's request from a page of another origin, unless that origin is configured. Other
/// programs send no Origin.
pub(super) fn same_origin(core: &Core, request: &Request<'_>) -> Result<(), Reply> {
    let refused = || Err(Reply::text(403, "origin not allowed: set origins").closing());
    let mut origins = request.headers("origin");
    let Some(origin) = origins.next() else {
        return Ok(());
    };
    let Ok(origin) = std::str::from_utf8(origin) else {
        return refused();
    };
    if origins.next().is_some() {
        return refused();
    }
    let is_own = authority(origin)
        .zip(request.host())
        .is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host));
    let configured = &core.shared.config.origins;
    if is_own
        || configured
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(origin))
    {
        return Ok(());
    }
    refused()
}

/// Host and port of a web origin. Either scheme: a proxy in front may speak TLS.
fn authority(origin: &str) -> Option<&str> {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
}

fn has_key(request: &Request<'_>, keys: &[String]) -> Result<(), Reply> {
    let Some(given) = given_key(request) else {
        let reply = Reply::text(401, "API key missing: send X-API-Key");
        return Err(reply.with("WWW-Authenticate", "apikey").closing());
    };
    // Every key is compared, in time that does not depend on where they differ.
    let matches = keys.iter().fold(subtle::Choice::from(0), |found, key| {
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
/// a web page whose name was pointed here (DNS rebinding).
fn is_local(request: &Request<'_>, peer: SocketAddr) -> bool {
    let forwarded = FORWARDING_HEADERS
        .iter()
        .any(|name| request.headers(name).next().is_some());
    peer.ip().to_canonical().is_loopback()
        && request.host().is_some_and(is_loopback_host)
        && !forwarded
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

    #[test]
    fn an_origin_without_scheme_has_no_authority() {
        assert_eq!(authority("https://a.example:1"), Some("a.example:1"));
        assert_eq!(authority("null"), None);
        assert_eq!(authority("ws://a.example"), None);
    }
}
