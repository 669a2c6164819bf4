//! A request head as values, with the framing of its body decided strictly (RFC 9112 sections 3 and
//! 6).

use std::borrow::Cow;
use std::mem::MaybeUninit;

use percent_encoding::percent_decode_str;

use super::HttpError;

/// Header lines that [`parse_request`] takes.
const HEADERS_MAX: usize = 100;

/// The two versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// The methods that some endpoint serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// OPTIONS
    Options,
    /// One of the standard that no endpoint serves.
    Other,
}

/// How the body is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// So many bytes; any number may be declared.
    Length(u64),
    /// Chunked: see [`ChunkedReader`](super::ChunkedReader).
    Chunked,
}

/// A parsed head; it borrows from the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method; names are case-sensitive.
    pub method: Method,
    /// The path as sent, not percent-decoded: it starts with `/`, or is the `*` of an OPTIONS
    /// request.
    pub path: &'a str,
    /// What follows the first `?`, as sent.
    pub query: Option<&'a str>,
    /// The version of the request line.
    pub version: Version,
    /// How the body is framed.
    pub body: BodyLength,
    /// Whether another request may follow on this connection. Never after a request that carries an
    /// `Upgrade` header: if it is answered with anything but 101, what follows may not be HTTP.
    pub keep_alive: bool,
    /// The client waits for a 100 before it sends the body.
    pub expect_continue: bool,
    headers: Headers<'a>,
}

impl<'a> Request<'a> {
    /// The first header of this name, in any case. `None` also if its value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.headers(name).next()?).ok()
    }

    /// The values of all headers of this name, in any case, in order, without the white space
    /// around them.
    pub fn headers<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.all(name)
    }

    /// The value of the Host header: host and optional port. HTTP/1.1 requests always have it.
    pub fn host(&self) -> Option<&'a str> {
        self.header("host")
    }

    /// Whether a header that is a comma-separated list, on one line or several, holds `token` in
    /// any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.headers.has_token(name, token)
    }

    /// The first query parameter of this name, decoded as by [`query_params`](Self::query_params).
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_params(name).next()
    }

    /// The values of all query parameters of this name, in order, decoded as a browser's
    /// `URLSearchParams` does: `+` is a space, and a `%` without two hexadecimal digits stands for
    /// itself. Values that are not UTF-8 are left out.
    pub fn query_params<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Cow<'a, str>> {
        let pairs = self.query.unwrap_or_default().split('&');
        pairs.filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_form(key)? == name).then(|| decode_form(value))?
        })
    }
}

/// Reads a whole head, as [`HeadScanner`](super::HeadScanner) found it.
///
/// # Errors
/// 400 for whatever is malformed, or could be framed or routed differently by another reader:
/// Content-Length beside Transfer-Encoding, repeated or not a number; a Transfer-Encoding that is
/// not exactly `chunked`, or on HTTP/1.0; a Host that is missing on HTTP/1.1, repeated, malformed,
/// or other than that of an absolute target; a target of another form. 417 for an unknown
/// expectation, 431 for more than 100 headers, 501 for an unknown method, 505 for a version other than
/// 1.0 and 1.1.
pub fn parse_request(head: &[u8]) -> Result<Request<'_>, HttpError> {
    let mut slots = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut slots) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return Err(HttpError::bad_request("request head not whole")),
        Err(httparse::Error::Version) => return Err(refuse_version(head)),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HttpError::new(431, "too many headers"));
        }
        Err(_) => return Err(HttpError::bad_request("malformed request head")),
    }
    let version = match parsed.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    let method = parse_method(parsed.method.unwrap_or_default())?;
    let target = parse_target(parsed.path.unwrap_or_default(), method)?;
    let headers = Headers(parsed.headers.to_vec());
    check_host(&headers, version, target.authority)?;
    Ok(Request {
        method,
        path: target.path,
        query: target.query,
        version,
        body: body_length(&headers, version)?,
        keep_alive: keep_alive(&headers, version),
        expect_continue: expect_continue(&headers, version)?,
        headers,
    })
}

/// Percent-decodes one segment of a path. `None`: it holds a `%` without two hexadecimal digits, is
/// not UTF-8, or holds a control character.
pub fn decode_segment(segment: &str) -> Option<Cow<'_, str>> {
    let mut escapes = segment.split('%').skip(1);
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.all(is_escape) {
        return None;
    }
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    (!decoded.contains(char::is_control)).then_some(decoded)
}

fn decode_form(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8().ok();
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

/// The header lines of one head; values are trimmed.
#[derive(Clone, Debug)]
struct Headers<'a>(Vec<httparse::Header<'a>>);

impl<'a> Headers<'a> {
    fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> {
        let named = self
            .0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Another version of HTTP is 505. What is no version at all is 400, and so is a version that is spoken
/// but does not stand where it belongs.
fn refuse_version(head: &[u8]) -> HttpError {
    let mut lines = head.split(|&byte| byte == b'\n');
    let request_line = lines.find(|line| !line.trim_ascii().is_empty());
    let line = request_line.unwrap_or_default().trim_ascii_end();
    let mut words = line.split(|&byte| byte == b' ');
    let version = match (words.nth(2), words.next()) {
        (Some(version), None) => version.strip_prefix(b"HTTP/"),
        _ => None,
    };
    match version {
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => {
            HttpError::new(505, "HTTP version not supported")
        }
        _ => HttpError::bad_request("malformed HTTP version"),
    }
}

/// A method that is known but not served where it is sent is 405; any other token is 501 (RFC 9110
/// section 9.1).
fn parse_method(method: &str) -> Result<Method, HttpError> {
    match method {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "POST" => Ok(Method::Post),
        "OPTIONS" => Ok(Method::Options),
        "PUT" | "DELETE" | "PATCH" | "TRACE" | "CONNECT" => Ok(Method::Other),
        _ => Err(HttpError::new(501, "method not implemented")),
    }
}

/// A request target (RFC 9112 section 3.2).
struct Target<'a> {
    /// Host and port of an absolute target.
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

fn parse_target(target: &str, method: Method) -> Result<Target<'_>, HttpError> {
    let malformed = HttpError::bad_request("malformed request target");
    if target
        .bytes()
        .any(|byte| !byte.is_ascii_graphic() || byte == b'#')
    {
        return Err(malformed);
    }
    if target == "*" && method == Method::Options {
        return Ok(Target {
            authority: None,
            path: target,
            query: None,
        });
    }
    let (authority, target) = if target.starts_with('/') {
        (None, target)
    } else {
        let after_scheme = strip_scheme(target).ok_or(malformed)?;
        let authority_len = after_scheme.find(['/', '?']).unwrap_or(after_scheme.len());
        let (authority, target) = after_scheme.split_at(authority_len);
        (Some(authority), target)
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Ok(Target {
        authority,
        path: if path.is_empty() { "/" } else { path },
        query,
    })
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_http.then_some(rest)
}

/// Exactly one Host on HTTP/1.1, at most one on 1.0, well formed, and the same as in an absolute
/// target (RFC 9112 sections 3.2 and 3.2.2).
fn check_host(
    headers: &Headers,
    version: Version,
    authority: Option<&str>,
) -> Result<(), HttpError> {
    let mut hosts = headers.all("host");
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(HttpError::bad_request("more than one Host"));
    }
    if host.is_none() && version == Version::Http11 {
        return Err(HttpError::bad_request("Host missing"));
    }
    if host.is_some_and(|host| !is_host(host)) {
        return Err(HttpError::bad_request("malformed Host"));
    }
    match authority {
        Some(authority)
            if !host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_bytes())) =>
        {
            Err(HttpError::bad_request("Host other than in the target"))
        }
        _ => Ok(()),
    }
}

/// Whether `value` is a host and an optional port (RFC 3986 section 3.2), not empty.
fn is_host(value: &[u8]) -> bool {
    let host_len = match value.strip_prefix(b"[") {
        Some(address) => address
            .iter()
            .position(|&byte| byte == b']')
            .map(|at| at + 2),
        None => value.iter().position(|&byte| byte == b':'),
    };
    let Some((host, port)) = value.split_at_checked(host_len.unwrap_or(value.len())) else {
        return false;
    };
    let host_is_good = match host {
        [b'[', address @ .., b']'] => {
            address.len() >= 2
                && address
                    .iter()
                    .all(|&b| b.is_ascii_hexdigit() || b":.".contains(&b))
        }
        name => {
            let is_name_byte =
                |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(b);
            !name.is_empty() && name.iter().all(is_name_byte)
        }
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_is_good && port_is_good
}

fn body_length(headers: &Headers, version: Version) -> Result<BodyLength, HttpError> {
    let mut codings = headers.all("transfer-encoding");
    let mut lengths = headers.all("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(BodyLength::None),
        (Some(_), Some(_)) => Err(HttpError::bad_request(
            "Content-Length beside Transfer-Encoding",
        )),
        (None, Some(length)) => match lengths.next() {
            None => parse_length(length),
            Some(_) => Err(HttpError::bad_request("more than one Content-Length")),
        },
        (Some(coding), None) => {
            let is_chunked = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            match version {
                Version::Http11 if is_chunked => Ok(BodyLength::Chunked),
                Version::Http11 => Err(HttpError::bad_request("Transfer-Encoding not chunked")),
                Version::Http10 => Err(HttpError::bad_request("Transfer-Encoding on HTTP/1.0")),
            }
        }
    }
}

fn parse_length(digits: &[u8]) -> Result<BodyLength, HttpError> {
    let malformed = HttpError::bad_request("malformed Content-Length");
    // `parse` alone would take a leading plus sign.
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed);
    }
    let length = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok());
    length.map(BodyLength::Length).ok_or(malformed)
}

fn keep_alive(headers: &Headers, version: Version) -> bool {
    let asked_to_stay = match version {
        Version::Http11 => true,
        Version::Http10 => headers.has_token("connection", "keep-alive"),
    };
    let upgrades = headers.all("upgrade").next().is_some();
    asked_to_stay && !upgrades && !headers.has_token("connection", "close")
}

/// RFC 9110 section 10.1.1: 1.0 clients cannot expect anything; whatever is not `100-continue` is
/// 417.
fn expect_continue(headers: &Headers, version: Version) -> Result<bool, HttpError> {
    let mut expectations = headers.all("expect").peekable();
    if version == Version::Http10 || expectations.peek().is_none() {
        return Ok(false);
    }
    match expectations.all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(true),
        false => Err(HttpError::new(417, "expectation not supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> u16 {
        parse_request(head.as_bytes()).unwrap_err().status
    }

    /// A 1.1 POST with a Host and these further lines.
    fn post(lines: &str) -> String {
        format!("POST /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
    }

    fn body(lines: &str) -> Result<BodyLength, u16> {
        parse_request(post(lines).as_bytes())
            .map(|request| request.body)
            .map_err(|error| error.status)
    }

    fn get(target: &str) -> Result<(String, Option<String>), u16> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: h:80\r\n\r\n");
        parse_request(head.as_bytes())
            .map(|request| (request.path.into(), request.query.map(Into::into)))
            .map_err(|error| error.status)
    }

    #[test]
    fn reads_a_request_of_a_browser() {
        let head =
            b"GET /channels/a?x=1 HTTP/1.1\r\nHost: localhost:8000\r\nAccept: a\r\naccept: b\r\n\
            Connection: keep-alive, Upgrade\r\nX: \xff\r\n\r\n";
        let request = parse_request(head).unwrap();
        assert_eq!(request.method, Method::Get);
        assert_eq!((request.path, request.query), ("/channels/a", Some("x=1")));
        assert_eq!(
            (request.version, request.body),
            (Version::Http11, BodyLength::None)
        );
        assert_eq!(request.host(), Some("localhost:8000"));
        assert_eq!(request.header("ACCEPT"), Some("a"));
        assert_eq!(request.headers("accept").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(request.header("x"), None);
        assert!(request.has_token("connection", "upgrade"));
        assert!(!request.has_token("connection", "grade"));
        assert!(request.keep_alive && !request.expect_continue);
    }

    #[test]
    fn reads_targets_of_every_form_it_serves() {
        let split = |path: &str, query: Option<&str>| Ok((path.into(), query.map(Into::into)));
        assert_eq!(get("/a/b%2Fc?d?e"), split("/a/b%2Fc", Some("d?e")));
        assert_eq!(get("/?"), split("/", Some("")));
        assert_eq!(get("http://h:80/a?b"), split("/a", Some("b")));
        assert_eq!(get("HTTPS://H:80?b"), split("/", Some("b")));
        assert_eq!(get("http://h:80"), split("/", None));
        for target in [
            "*",
            "a",
            "http://other/",
            "http://h/",
            "ftp://h:80/",
            "h:80",
            "/a#b",
            "/\u{e9}",
        ] {
            assert_eq!(get(target), Err(400), "{target}");
        }
        let options = parse_request(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!((options.method, options.path), (Method::Options, "*"));
    }

    #[test]
    fn decides_how_the_body_is_framed() {
        assert_eq!(body(""), Ok(BodyLength::None));
        assert_eq!(body("Content-Length: 0\r\n"), Ok(BodyLength::Length(0)));
        assert_eq!(
            body("content-length: 18446744073709551615\r\n"),
            Ok(BodyLength::Length(u64::MAX))
        );
        assert_eq!(
            body("Transfer-Encoding: Chunked\r\n"),
            Ok(BodyLength::Chunked)
        );
    }

    #[test]
    fn refuses_every_doubtful_framing() {
        for lines in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length : 5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert_eq!(body(lines), Err(400), "{lines}");
        }
        assert_eq!(
            status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400
        );
    }

    #[test]
    fn demands_one_good_host() {
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), 400);
        assert!(parse_request(b"GET / HTTP/1.0\r\n\r\n").is_ok());
        for (host, good) in [
            ("example.com", true),
            ("127.0.0.1:8000", true),
            ("[::1]:8000", true),
            ("[::ffff:1.2.3.4]", true),
            ("a:", true),
            ("", false),
            (":80", false),
            ("a b", false),
            ("a@b", false),
            ("a/b", false),
            ("a:80:80", false),
            ("a:123456", false),
            ("a:8x", false),
            ("[::1", false),
            ("[]", false),
            ("[::1]x", false),
            ("a,b\u{e9}", false),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(parse_request(head.as_bytes()).is_ok(), good, "{host}");
        }
    }

    #[test]
    fn tells_versions_from_nonsense() {
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9"] {
            assert_eq!(status(&format!("GET / {version}\r\n\r\n")), 505);
        }
        for line in [
            "GET / HTTP/11",
            "GET / http/1.1",
            "GET / ICAP/1.0",
            "GET /",
            "GET  / HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET / HTTP/1.1 HTTP/1.1",
        ] {
            assert_eq!(status(&format!("{line}\r\n\r\n")), 400, "{line}");
        }
    }

    #[test]
    fn tells_methods_from_other_tokens() {
        for method in ["BREW", "get", "PRI"] {
            let head = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(status(&head), 501, "{method}");
        }
        let put = parse_request(b"PUT / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(put.method, Method::Other);
    }

    #[test]
    fn decides_whether_the_connection_stays() {
        let keeps = |version: &str, lines: &str| {
            let head = format!("GET / {version}\r\nHost: h\r\n{lines}\r\n");
            parse_request(head.as_bytes()).unwrap().keep_alive
        };
        assert!(keeps("HTTP/1.1", ""));
        assert!(!keeps("HTTP/1.1", "Connection: foo, Close\r\n"));
        assert!(!keeps(
            "HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n"
        ));
        assert!(!keeps("HTTP/1.0", ""));
        assert!(keeps("HTTP/1.0", "Connection: Keep-Alive\r\n"));
        assert!(!keeps(
            "HTTP/1.0",
            "Connection: keep-alive\r\nConnection: close\r\n"
        ));
    }

    #[test]
    fn knows_one_expectation() {
        let expecting = post("Expect: 100-Continue\r\nContent-Length: 1\r\n");
        assert!(parse_request(expecting.as_bytes()).unwrap().expect_continue);
        assert_eq!(status(&post("Expect: 200-ok\r\n")), 417);
        let old = b"POST / HTTP/1.0\r\nExpect: x\r\n\r\n";
        assert!(!parse_request(old).unwrap().expect_continue);
    }

    #[test]
    fn takes_a_hundred_headers() {
        let lines = |count: usize| "A: b\r\n".repeat(count);
        assert!(parse_request(post(&lines(99)).as_bytes()).is_ok());
        assert_eq!(status(&post(&lines(100))), 431);
    }

    #[test]
    fn decodes_query_parameters_as_browsers_do() {
        let head = b"GET /?a=1&b%20=x%2By+z&a=%zz&c&d=%ff&=e HTTP/1.1\r\nHost: h\r\n\r\n";
        let request = parse_request(head).unwrap();
        assert_eq!(request.query_param("a").as_deref(), Some("1"));
        assert_eq!(request.query_params("a").collect::<Vec<_>>(), ["1", "%zz"]);
        assert_eq!(request.query_param("b ").as_deref(), Some("x+y z"));
        assert_eq!(request.query_param("c").as_deref(), Some(""));
        assert_eq!(request.query_param("d"), None);
        assert_eq!(request.query_param("x"), None);
    }

    #[test]
    fn decodes_a_segment_or_refuses_it() {
        assert_eq!(decode_segment("chat"), Some(Cow::Borrowed("chat")));
        assert_eq!(decode_segment("a%2Fb%c3%a9+c").as_deref(), Some("a/bé+c"));
        for segment in [
            "%", "%4", "%4g", "%%41", "%ff", "%00", "%0a", "a%7f", "%c2%80",
        ] {
            assert_eq!(decode_segment(segment), None, "{segment}");
        }
    }
}
