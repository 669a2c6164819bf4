//! The upgrade from HTTP/1.1 to WebSocket, both sides of it (RFC 6455 section 4).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::deflate::{DeflateOffer, DeflateParams};
use super::http::{BodyLength, HttpError, Method, Request, Version};

/// What the accept key is hashed with (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest answer to its handshake that a client reads.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Header lines of an answer that a client reads.
const ANSWER_HEADERS_MAX: usize = 100;

/// What a request means for an endpoint that speaks WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeCheck<'a> {
    /// An ordinary request.
    NotAnUpgrade,
    /// A valid opening handshake.
    Accept {
        /// What to derive the accept key from.
        key: &'a str,
    },
    /// A failed opening handshake: 400, or 426 for a version other than 13 (with
    /// [`HttpError::headers`]).
    Refuse(HttpError),
}

/// Checks an opening handshake (RFC 6455 section 4.2.1). A request is one if it says so, or carries
/// a WebSocket key: a proxy that swallows `Upgrade` should meet an error that names it.
pub fn check_upgrade<'a>(request: &Request<'a>) -> UpgradeCheck<'a> {
    let asks = request.has_token("upgrade", "websocket");
    if !asks && request.headers("sec-websocket-key").next().is_none() {
        return UpgradeCheck::NotAnUpgrade;
    }
    match check_opening(request) {
        Ok(key) => UpgradeCheck::Accept { key },
        Err(error) => UpgradeCheck::Refuse(error),
    }
}

fn check_opening<'a>(request: &Request<'a>) -> Result<&'a str, HttpError> {
    if request.method != Method::Get {
        return Err(HttpError::bad_request(
            "upgrade with a method other than GET",
        ));
    }
    if request.version != Version::Http11 {
        return Err(HttpError::bad_request("upgrade on HTTP/1.0"));
    }
    if !request.has_token("upgrade", "websocket") {
        return Err(HttpError::bad_request("Upgrade header without websocket"));
    }
    if !request.has_token("connection", "upgrade") {
        return Err(HttpError::bad_request("Connection header without upgrade"));
    }
    if !matches!(request.body, BodyLength::None | BodyLength::Length(0)) {
        return Err(HttpError::bad_request("upgrade with a body"));
    }
    match single(request, "sec-websocket-version") {
        Some(b"13") => {}
        Some(_) => return Err(HttpError::new(426, "WebSocket version other than 13")),
        None => {
            return Err(HttpError::bad_request(
                "not exactly one Sec-WebSocket-Version",
            ));
        }
    }
    let key = single(request, "sec-websocket-key")
        .and_then(|key| std::str::from_utf8(key).ok())
        .ok_or(HttpError::bad_request("not exactly one Sec-WebSocket-Key"))?;
    match STANDARD.decode(key) {
        Ok(nonce) if nonce.len() == 16 => Ok(key),
        _ => Err(HttpError::bad_request("malformed Sec-WebSocket-Key")),
    }
}

/// The value of a header that is there exactly once.
fn single<'a>(request: &Request<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = request.headers(name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// What proves that the server read the client's `key` (RFC 6455 section 4.2.2): 28 characters.
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Appends the 101. `subprotocol` must be one that the client offered, and `deflate` what
/// [`negotiate`](super::deflate::negotiate) made of its offers.
pub fn write_switching_protocols(
    out: &mut Vec<u8>,
    key: &str,
    subprotocol: Option<&str>,
    deflate: Option<&DeflateParams>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    push_header(out, "Sec-WebSocket-Accept", &accept_key(key));
    if let Some(subprotocol) = subprotocol {
        push_header(out, "Sec-WebSocket-Protocol", subprotocol);
    }
    if let Some(deflate) = deflate {
        push_header(out, "Sec-WebSocket-Extensions", &deflate.to_string());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a client's opening handshake. `key` is 16 random bytes in base64.
pub fn write_client_handshake(
    out: &mut Vec<u8>,
    host: &str,
    path_and_query: &str,
    key: &str,
    origin: Option<&str>,
    deflate: Option<&DeflateOffer>,
) {
    for part in ["GET ", path_and_query, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    push_header(out, "Host", host);
    push_header(out, "Upgrade", "websocket");
    push_header(out, "Connection", "Upgrade");
    push_header(out, "Sec-WebSocket-Key", key);
    push_header(out, "Sec-WebSocket-Version", "13");
    if let Some(origin) = origin {
        push_header(out, "Origin", origin);
    }
    if let Some(deflate) = deflate {
        push_header(out, "Sec-WebSocket-Extensions", &deflate.to_string());
    }
    out.extend_from_slice(b"\r\n");
}

fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Why the answer to a client's opening handshake does not open the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientHandshakeError {
    /// Not an HTTP/1.1 answer.
    Malformed,
    /// No end of the head within 16 KiB.
    TooLong,
    /// The server answered with another status than 101.
    Status(u16),
    /// The 101 breaks RFC 6455 section 4.1; says which header is wrong.
    Header(&'static str),
}

impl fmt::Display for ClientHandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => write!(f, "the server's answer is not HTTP/1.1"),
            Self::TooLong => write!(f, "the server's answer is too long"),
            Self::Status(status) => write!(f, "the server answered {status}, not 101"),
            Self::Header(name) => write!(f, "the server's 101 has a wrong {name}"),
        }
    }
}

impl std::error::Error for ClientHandshakeError {}

/// A server's answer that opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Length of the head; what follows belongs to the stream of frames.
    pub head_len: usize,
    /// What was agreed on, if compression was offered and accepted.
    pub deflate: Option<DeflateParams>,
}

/// Reads the answer to an opening handshake that was sent with `key`, this offer of compression and
/// no subprotocols, from the front of `input`. `None`: more bytes are needed, and `input` must then
/// hold all of them from the start.
///
/// # Errors
/// When the answer does not open the connection.
pub fn read_client_handshake(
    input: &[u8],
    key: &str,
    deflate: Option<&DeflateOffer>,
) -> Result<Option<Opened>, ClientHandshakeError> {
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let head_len = match answer.parse(input) {
        Ok(httparse::Status::Complete(head_len)) => head_len,
        Ok(httparse::Status::Partial) if input.len() < ANSWER_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(ClientHandshakeError::TooLong),
        Err(_) => return Err(ClientHandshakeError::Malformed),
    };
    match answer.code {
        Some(101) => {}
        Some(status) => return Err(ClientHandshakeError::Status(status)),
        None => return Err(ClientHandshakeError::Malformed),
    }
    let deflate = check_answer(answer.headers, key, deflate)?;
    Ok(Some(Opened { head_len, deflate }))
}

fn check_answer(
    headers: &[httparse::Header],
    key: &str,
    deflate: Option<&DeflateOffer>,
) -> Result<Option<DeflateParams>, ClientHandshakeError> {
    let values = |name: &'static str| {
        let named = headers
            .iter()
            .filter(move |h| h.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii())
    };
    let is_only = |name: &'static str, check: &dyn Fn(&[u8]) -> bool| {
        let mut values = values(name);
        match (values.next(), values.next()) {
            (Some(value), None) if check(value) => Ok(()),
            _ => Err(ClientHandshakeError::Header(name)),
        }
    };
    let has_upgrade = |value: &[u8]| {
        let mut tokens = value.split(|&byte| byte == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    is_only("Upgrade", &|value| value.eq_ignore_ascii_case(b"websocket"))?;
    is_only("Connection", &has_upgrade)?;
    is_only("Sec-WebSocket-Accept", &|value| {
        value == accept_key(key).as_bytes()
    })?;
    const PROTOCOL: &str = "Sec-WebSocket-Protocol";
    if values(PROTOCOL).next().is_some() {
        return Err(ClientHandshakeError::Header(PROTOCOL));
    }
    const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
    match deflate {
        Some(offer) => offer
            .accept(values(EXTENSIONS))
            .map_err(|_| ClientHandshakeError::Header(EXTENSIONS)),
        None if values(EXTENSIONS).next().is_none() => Ok(None),
        None => Err(ClientHandshakeError::Header(EXTENSIONS)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::deflate::{DeflatePolicy, negotiate};
    use super::super::http::parse_request;
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const OPENING: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

    /// The status that the opening of the RFC is refused with, once `from` in it is replaced by
    /// `to`.
    fn refused(from: &str, to: &str) -> u16 {
        assert!(OPENING.contains(from));
        let head = OPENING.replace(from, to);
        match check_upgrade(&parse_request(head.as_bytes()).unwrap()) {
            UpgradeCheck::Refuse(error) => error.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn accepts_the_opening_of_the_rfc() {
        let request = parse_request(OPENING.as_bytes()).unwrap();
        assert_eq!(check_upgrade(&request), UpgradeCheck::Accept { key: KEY });
        let spread = OPENING
            .replace(
                "Upgrade: websocket",
                "Upgrade: h2c\r\nUPGRADE: foo, WebSocket",
            )
            .replace("Connection: Upgrade", "Connection: keep-alive,upgrade");
        let request = parse_request(spread.as_bytes()).unwrap();
        assert_eq!(check_upgrade(&request), UpgradeCheck::Accept { key: KEY });
    }

    #[test]
    fn leaves_ordinary_requests_alone() {
        let request = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n").unwrap();
        assert_eq!(check_upgrade(&request), UpgradeCheck::NotAnUpgrade);
    }

    #[test]
    fn refuses_openings_that_lack_something() {
        assert_eq!(refused("GET", "POST"), 400);
        assert_eq!(refused("HTTP/1.1", "HTTP/1.0"), 400);
        assert_eq!(refused("Upgrade: websocket\r\n", ""), 400);
        assert_eq!(refused("Connection: Upgrade", "Connection: close"), 400);
        assert_eq!(refused("Host: h", "Host: h\r\nContent-Length: 1"), 400);
        assert_eq!(refused("Sec-WebSocket-Version: 13\r\n", ""), 400);
        assert_eq!(
            refused("-Version: 13", "-Version: 13\r\nSec-WebSocket-Version: 13"),
            400
        );
        for version in ["8", "013", "13, 8", ""] {
            assert_eq!(
                refused("-Version: 13", &format!("-Version: {version}")),
                426
            );
        }
        assert_eq!(HttpError::new(426, "").headers().len(), 2);
    }

    #[test]
    fn refuses_keys_that_are_not_sixteen_bytes() {
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZSEh",
            "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert_eq!(refused(KEY, key), 400, "{key}");
        }
    }

    #[test]
    fn derives_the_accept_key_of_the_rfc() {
        assert_eq!(accept_key(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn both_sides_understand_each_other() {
        let mut opening = Vec::new();
        write_client_handshake(&mut opening, "h:1", "/a?b", KEY, Some("http://h:1"), None);
        let request = parse_request(&opening).unwrap();
        assert_eq!(check_upgrade(&request), UpgradeCheck::Accept { key: KEY });
        assert_eq!(request.header("origin"), Some("http://h:1"));

        let mut answer = Vec::new();
        write_switching_protocols(&mut answer, KEY, None, None);
        let head_len = answer.len();
        for cut in 0..head_len {
            assert_eq!(read_client_handshake(&answer[..cut], KEY, None), Ok(None));
        }
        answer.extend(b"\x81\x00");
        let deflate = None;
        assert_eq!(
            read_client_handshake(&answer, KEY, None),
            Ok(Some(Opened { head_len, deflate }))
        );
    }

    #[test]
    fn both_sides_agree_on_compression() {
        let offer = DeflateOffer {
            client_max_window_bits: Some(15),
            server_max_window_bits: Some(10),
            ..DeflateOffer::default()
        };
        let mut opening = Vec::new();
        write_client_handshake(&mut opening, "h", "/", KEY, None, Some(&offer));
        let request = parse_request(&opening).unwrap();
        let lines = request.headers("sec-websocket-extensions");
        let agreed = negotiate(lines, &DeflatePolicy::default()).unwrap();
        assert_eq!(agreed.unwrap().server_window_bits(), 10);

        let mut answer = Vec::new();
        write_switching_protocols(&mut answer, KEY, None, agreed.as_ref());
        let opened = read_client_handshake(&answer, KEY, Some(&offer)).unwrap();
        assert_eq!(opened.unwrap().deflate, agreed);
        let unasked = read_client_handshake(&answer, KEY, None);
        let wrong = ClientHandshakeError::Header("Sec-WebSocket-Extensions");
        assert_eq!(unasked, Err(wrong));
    }

    #[test]
    fn a_client_refuses_what_it_did_not_ask_for() {
        let mut answer = Vec::new();
        write_switching_protocols(&mut answer, "another key", None, None);
        let wrong = |name| Err(ClientHandshakeError::Header(name));
        assert_eq!(
            read_client_handshake(&answer, KEY, None),
            wrong("Sec-WebSocket-Accept")
        );
        answer.clear();
        write_switching_protocols(&mut answer, KEY, Some("x"), None);
        assert_eq!(
            read_client_handshake(&answer, KEY, None),
            wrong("Sec-WebSocket-Protocol")
        );
        let status = ClientHandshakeError::Status(503);
        let refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read_client_handshake(refusal, KEY, None), Err(status));
        assert_eq!(
            read_client_handshake(b"\x16\x03", KEY, None),
            Err(ClientHandshakeError::Malformed)
        );
        assert_eq!(
            read_client_handshake(
                &[b"HTTP/1.1 101 a\r\nA: ", &[b'a'; ANSWER_BYTES_MAX][..]].concat(),
                KEY,
                None
            ),
            Err(ClientHandshakeError::TooLong)
        );
    }
}
