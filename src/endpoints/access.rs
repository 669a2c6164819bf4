//! Who may do what: API keys, local programs, web origins.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use crate::auth::{ApiKey, ApiKeys};
use crate::proto::http::Request;
use crate::proto::origin::Origin;
use crate::shard::{Core, Exchange, Headers, Reply, Shared};

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

/// What whoever sent a request may do over the server API: all of it, or what its key is good for.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// What the key is good for.
    Key(&'a ApiKey),
    /// Everything: it is a program on this machine.
    Local,
    /// Everything but to stop the server: it is open to anybody on purpose.
    Anybody,
}

/// The method that stops the server.
const STOP: &str = "drain";

impl Right<'_> {
    /// Whether a method is allowed on some channel at least.
    pub fn allows_method(&self, method: &str) -> bool {
        match self {
            Self::Key(key) => key.may_call(method),
            Self::Local => true,
            Self::Anybody => method != STOP,
        }
    }

    /// Whether a method is allowed on a channel, or if it names none, on all.
    pub fn allows(&self, method: &str, channel: Option<&str>) -> bool {
        match self {
            Self::Key(key) => key.may(method, channel),
            Self::Local | Self::Anybody => self.allows_method(method),
        }
    }
}

/// What a request may do: what its key is good for; or without one, where none is configured, everything if it
/// comes from a program on this machine, or from anyone if the server is open on purpose.
pub(super) fn right<'s>(shared: &'s Shared, exchange: &Exchange<'_>) -> Result<Right<'s>, Reply> {
    let is_keyless = shared.config.http_api.insecure || shared.api_keys.is_empty();
    if !is_keyless {
        return key_of(exchange.request, &shared.api_keys).map(Right::Key);
    }
    if is_local(shared, exchange) {
        return Ok(Right::Local);
    }
    if shared.config.is_api_open() {
        return Ok(Right::Anybody);
    }
    let line = "without an API key this is for programs on this machine only: set api_keys";
    Err(Reply::text(403, line).closing())
}

/// Whether the request may publish to a channel.
pub(super) fn may_publish(
    core: &Core,
    exchange: &Exchange<'_>,
    channel: &str,
) -> Result<(), Reply> {
    match right(&core.shared, exchange)?.allows("publish", Some(channel)) {
        true => Ok(()),
        false => Err(Reply::text(403, "the API key is not good for this channel").closing()),
    }
}

/// The page's origin, if a browser's page asks. Refuses pages of another origin than the server's own
/// and the configured ones.
pub(super) fn origin<'a>(core: &mut Core, request: &Request<'a>) -> Result<Option<&'a str>, Reply> {
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
    if is_allowed {
        return Ok(text);
    }
    core.refuse_page(text.unwrap_or_default());
    Err(Reply::text(403, "origin not allowed: set origins").closing())
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

fn key_of<'k>(request: &Request<'_>, keys: &'k ApiKeys) -> Result<&'k ApiKey, Reply> {
    let refuse = |line| {
        let reply = Reply::text(401, line).with("WWW-Authenticate", "apikey");
        reply.closing()
    };
    let given = given_key(request);
    let given = given.ok_or_else(|| refuse("API key missing: send X-API-Key"))?;
    let key = keys.find(given.as_bytes());
    key.ok_or_else(|| refuse("API key not accepted"))
}

/// `X-API-Key: KEY`, or `Authorization: apikey KEY`, or `?api_key=KEY`.
fn given_key<'a>(request: &Request<'a>) -> Option<Cow<'a, str>> {
    let authorization = || {
        let (scheme, key) = request.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("apikey").then_some(key.trim())
    };
    let header = request.header("x-api-key").or_else(authorization);
    header
        .map(Cow::Borrowed)
        .or_else(|| request.query_param("api_key"))
}

/// True for a program on this machine that talks to the server itself. A Host that is not loopback is
/// a web page whose name was pointed here (DNS rebinding); an address that is a trusted proxy's is one
/// behind which anybody may be.
fn is_local(shared: &Shared, exchange: &Exchange<'_>) -> bool {
    let request = exchange.request;
    let is_forwarded = FORWARDING_HEADERS
        .iter()
        .any(|name| request.headers(name).next().is_some());
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    is_loopback(exchange.client)
        && !shared.trusts(exchange.client)
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
