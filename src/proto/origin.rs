//! Web origins (RFC 6454): the page a browser's request comes from, and lists of those to allow.
//!
//! Schemes and hosts compare without regard to case, and a port that is left out is the scheme's own.
//! What is not exactly one origin is none: a prefix or a substring of an allowed origin never matches.

use std::fmt;
use std::net::Ipv6Addr;

/// An origin as a browser sends it (RFC 6454 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// `null`: a sandboxed frame, a file, or a page that hides where it came from.
    Opaque,
    /// `scheme://host[:port]`.
    Tuple {
        /// Such as `https`.
        scheme: &'a str,
        /// A name or an address; IPv6 in brackets.
        host: &'a str,
        /// As written.
        port: Option<u16>,
    },
}

impl<'a> Origin<'a> {
    /// Reads the value of an `Origin` header; `None` if it is malformed.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Opaque);
        }
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = parse_authority(authority)?;
        is_scheme(scheme).then_some(Self::Tuple { scheme, host, port })
    }

    /// Whether a request with this `Host` header goes back to where its page came from. The scheme
    /// cannot be compared: a proxy in front may speak TLS. It does give both ports their default.
    pub fn is_of_host(&self, host_header: &str) -> bool {
        match (*self, parse_authority(host_header)) {
            (Self::Tuple { scheme, host, port }, Some((own_host, own_port))) => {
                let is_same_host = host.eq_ignore_ascii_case(own_host);
                is_same_host && port_of(scheme, port) == port_of(scheme, own_port)
            }
            _ => false,
        }
    }
}

/// An origin to allow, or every origin one level or more below a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// `null`.
    Opaque,
    /// `scheme://host[:port]` or `scheme://*.host[:port]`, in lower case.
    Tuple {
        /// Such as `https`.
        scheme: String,
        /// What follows `*.` if `subdomains`, else the host.
        host: String,
        /// As written.
        port: Option<u16>,
        /// Hosts that end in `.host` match, and `host` itself does not.
        subdomains: bool,
    },
}

impl OriginPattern {
    /// Reads a pattern; `None` if it could never match what a browser sends.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let (text, subdomains) = match text.split_once("://*.") {
            Some((scheme, rest)) => (format!("{scheme}://{rest}"), true),
            None => (text.to_owned(), false),
        };
        match Origin::parse(&text)? {
            Origin::Opaque => Some(Self::Opaque),
            Origin::Tuple { host, .. } if subdomains && host.starts_with(['[', '.']) => None,
            Origin::Tuple { scheme, host, port } => Some(Self::Tuple {
                scheme: scheme.to_owned(),
                host: host.to_owned(),
                port,
                subdomains,
            }),
        }
    }

    /// Whether it allows `origin`.
    pub fn matches(&self, origin: &Origin<'_>) -> bool {
        match (self, origin) {
            (Self::Opaque, Origin::Opaque) => true,
            (
                Self::Tuple {
                    scheme: own_scheme,
                    host: own_host,
                    port: own_port,
                    subdomains,
                },
                Origin::Tuple { scheme, host, port },
            ) => {
                let is_host = match subdomains {
                    true => is_below(host, own_host),
                    false => host.eq_ignore_ascii_case(own_host),
                };
                is_host
                    && scheme.eq_ignore_ascii_case(own_scheme)
                    && port_of(own_scheme, *own_port) == port_of(own_scheme, *port)
            }
            _ => false,
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Tuple {
            scheme,
            host,
            port,
            subdomains,
        } = self
        else {
            return f.write_str("null");
        };
        let wildcard = if *subdomains { "*." } else { "" };
        write!(f, "{scheme}://{wildcard}{host}")?;
        match port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Whether `host` is `parent` with at least one label before it.
fn is_below(host: &str, parent: &str) -> bool {
    let labels = host
        .len()
        .checked_sub(parent.len())
        .and_then(|length| host.split_at_checked(length))
        .filter(|(_, end)| end.eq_ignore_ascii_case(parent))
        .and_then(|(labels, _)| labels.strip_suffix('.'));
    labels.is_some_and(|labels| !labels.is_empty() && labels.split('.').all(|l| !l.is_empty()))
}

fn port_of(scheme: &str, port: Option<u16>) -> Option<u16> {
    port.or_else(|| default_port(scheme))
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("http") || is("ws") {
        Some(80)
    } else if is("https") || is("wss") {
        Some(443)
    } else {
        None
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Host and port, without user information.
fn parse_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at_checked(end)?;
    let port = match rest.strip_prefix(':') {
        Some(digits) => Some(parse_port(digits)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    is_host(host).then_some((host, port))
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or(address);
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !text.is_empty() && text.bytes().all(is_name_byte)
}

/// 1 to 65535 without leading zeros.
fn parse_port(digits: &str) -> Option<u16> {
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allows(pattern: &str, origin: &str) -> bool {
        let pattern = OriginPattern::parse(pattern).expect(pattern);
        Origin::parse(origin).is_some_and(|origin| pattern.matches(&origin))
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_perhaps_a_port() {
        let tuple = |scheme, host, port| Some(Origin::Tuple { scheme, host, port });
        let cases = [
            ("null", Some(Origin::Opaque)),
            ("http://a.example", tuple("http", "a.example", None)),
            (
                "https://a.example:8443",
                tuple("https", "a.example", Some(8443)),
            ),
            ("http://[::1]:80", tuple("http", "[::1]", Some(80))),
            (
                "chrome-extension://abc",
                tuple("chrome-extension", "abc", None),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Origin::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_one_origin_is_malformed() {
        for text in [
            "",
            "NULL",
            "a.example",
            "//a.example",
            "://a.example",
            "http:/a.example",
            "http://",
            "http://:80",
            "http://a.example/",
            "http://a.example/path",
            "http://a.example?",
            "http://a.example#",
            "http://a.example:",
            "http://a.example:0",
            "http://a.example:080",
            "http://a.example:+80",
            "http://a.example:65536",
            "http://a.example:80:80",
            "http://user@a.example",
            "http://a.example http://b.example",
            "http://a.example, http://b.example",
            " http://a.example",
            "http://a.example ",
            "http://[::1",
            "http://[::1]x",
            "http://[::g]",
            "http://::1",
            "1http://a.example",
            "http://*.example",
            "http://ex\u{e4}mple",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_exact_pattern_allows_scheme_host_and_port_and_nothing_else() {
        let pattern = "https://app.example.com";
        for origin in [
            pattern,
            "https://app.example.com:443",
            "HTTPS://App.Example.COM",
        ] {
            assert!(allows(pattern, origin), "{origin}");
        }
        for origin in [
            "null",
            "http://app.example.com",
            "wss://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evilapp.example.com",
            "https://x.app.example.com",
            "https://example.com",
            "https://app.example.co",
            "https://app.example.com.",
        ] {
            assert!(!allows(pattern, origin), "{origin}");
        }
        assert!(allows("https://a.example:443", "https://a.example"));
        assert!(allows("http://a.example", "http://a.example:80"));
        assert!(!allows("http://a.example:8080", "http://a.example"));
        assert!(allows("null", "null") && !allows("http://a.example", "null"));
    }

    #[test]
    fn a_wildcard_allows_hosts_below_and_not_the_host_itself() {
        let pattern = "https://*.example.com";
        for origin in ["https://a.example.com", "https://a.b.Example.com:443"] {
            assert!(allows(pattern, origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "https://evilexample.com",
            "https://a.example.com.evil.example",
            "http://a.example.com",
            "https://a.example.com:8443",
        ] {
            assert!(!allows(pattern, origin), "{origin}");
        }
        assert!(allows("http://*.localhost:3000", "http://a.localhost:3000"));
    }

    #[test]
    fn a_pattern_that_could_never_match_is_refused() {
        for text in [
            "*",
            "https://*",
            "https://*.",
            "https://*..example.com",
            "https://*.*.example.com",
            "https://a.*.example.com",
            "https://*example.com",
            "*://example.com",
            "https://Example.com",
            "https://example.com/",
            "https://*.[::1]",
            "example.com",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_page_of_the_server_itself_is_known_by_the_host_header() {
        let is_own = |origin: &str, host: &str| Origin::parse(origin).unwrap().is_of_host(host);
        for (origin, host) in [
            ("http://a.example:8000", "a.example:8000"),
            ("http://a.example", "A.example:80"),
            ("https://a.example", "a.example"),
            ("https://a.example", "a.example:443"),
            ("http://[::1]:8000", "[::1]:8000"),
        ] {
            assert!(is_own(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "null"),
            ("http://a.example", "a.example:8000"),
            ("http://a.example", "a.example:443"),
            ("http://a.example:8000", "a.example"),
            ("http://b.example", "a.example"),
            ("http://a.example", ""),
            ("http://a.example", "a.example:"),
            ("http://a.example", "user@a.example"),
        ] {
            assert!(!is_own(origin, host), "{origin} {host}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", host in ".*", pattern in "[a-z]{1,3}://(\\*\\.)?[a-z.]{1,9}") {
            let pattern = OriginPattern::parse(&pattern);
            if let Some(origin) = Origin::parse(&text) {
                origin.is_of_host(&host);
                pattern.inspect(|pattern| { pattern.matches(&origin); });
            }
            is_below(&text, &host);
        }

        #[test]
        fn a_pattern_is_written_as_it_is_read(text in "[a-z]{1,5}://(\\*\\.)?[a-z][a-z.]{0,9}(:[1-9][0-9]{0,3})?") {
            if let Some(pattern) = OriginPattern::parse(&text) {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
