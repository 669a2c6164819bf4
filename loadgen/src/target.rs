//! Where to connect: the URL, taken apart.

use std::fmt;
use std::str::FromStr;

/// What in a URL's path, or another template, stands for the channel's name.
pub const CHANNEL: &str = "{channel}";

/// A `ws://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host as in a Host header, without the port; an IPv6 address keeps its brackets.
    pub host: String,
    /// Port, 80 if the URL names none.
    pub port: u16,
    /// Path and query, starting with a slash; may hold `{channel}`.
    pub path: String,
}

impl Target {
    /// The value of a Host header.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host as a resolver takes it.
    pub fn host_name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// True if every channel has a URL of its own.
    pub fn names_channel(&self) -> bool {
        self.path.contains(CHANNEL)
    }

    /// Path and query for subscribing to a channel.
    pub fn subscribe_path(&self, channel: u32) -> String {
        self.path.replace(CHANNEL, &channel_name(channel))
    }

    /// Path for publishing to what [`Self::subscribe_path`] subscribes to. A URL without `{channel}`
    /// names its channel by its last segment (`/channels/news` and `/chat` alike).
    pub fn publish_path(&self, channel: u32) -> String {
        if self.names_channel() {
            return format!("/channels/{}", channel_name(channel));
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let segment = path.rsplit('/').next().unwrap_or_default();
        format!("/channels/{segment}")
    }
}

/// An `http://` URL, taken apart in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget(pub Target);

impl FromStr for HttpTarget {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                format!("ws://{rest}").parse().map(Self)
            }
            _ => Err("a URL such as http://127.0.0.1:8000/publish is needed".to_owned()),
        }
    }
}

/// What all names of channels begin with.
const NAME_PREFIX: &str = "loadgen-";

/// The name of the `index`-th channel.
pub fn channel_name(index: u32) -> String {
    format!("{NAME_PREFIX}{index}")
}

/// The same with as many leading zeros as make it `bytes` long, if it is not longer anyway.
pub fn channel_name_of(index: u32, bytes: usize) -> String {
    let digits = bytes.saturating_sub(NAME_PREFIX.len());
    format!("{NAME_PREFIX}{index:0digits$}")
}

/// The number of a channel of this name; `None` if it is none of this program's.
pub fn channel_number(name: &str) -> Option<u32> {
    name.strip_prefix(NAME_PREFIX)?.parse().ok()
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("a URL such as ws://127.0.0.1:8000/channels/{channel} is needed")?;
        match scheme.to_ascii_lowercase().as_str() {
            "ws" => {}
            "wss" => return Err("wss:// is not supported yet; use ws://".to_owned()),
            "http" | "https" => {
                return Err(format!("{scheme}:// is not a WebSocket URL; use ws://"));
            }
            _ => return Err(format!("unknown scheme {scheme}://; use ws://")),
        }
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let (host, port) = parse_authority(authority)?;
        Ok(Self {
            host,
            port,
            path: parse_path(path)?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ws://{}{}", self.authority(), self.path)
    }
}

fn parse_authority(authority: &str) -> Result<(String, u16), String> {
    if authority.contains('@') {
        return Err("a user name in the URL is not supported".to_owned());
    }
    let after_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority[after_host..].rfind(':') {
        Some(colon) => authority.split_at(after_host + colon),
        None => (authority, ":80"),
    };
    if host.is_empty() {
        return Err("the URL names no host".to_owned());
    }
    if host.contains(':') != host.starts_with('[') {
        return Err("an IPv6 address is written in brackets, as in ws://[::1]:8000/".to_owned());
    }
    let digits = &port[1..];
    match digits.parse::<u16>() {
        Ok(port) if port > 0 => Ok((host.to_owned(), port)),
        _ => Err(format!("{digits:?} is not a port")),
    }
}

fn parse_path(path: &str) -> Result<String, String> {
    if path.contains('#') {
        return Err("a WebSocket URL has no #fragment".to_owned());
    }
    if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err("the URL's path must be percent-encoded".to_owned());
    }
    Ok(if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Target {
        url.parse().unwrap()
    }

    #[test]
    fn urls_are_taken_apart() {
        let target = parse("ws://127.0.0.1:8000/channels/{channel}?a=b");
        assert_eq!(target.authority(), "127.0.0.1:8000");
        assert_eq!(target.subscribe_path(3), "/channels/loadgen-3?a=b");
        assert_eq!(target.publish_path(3), "/channels/loadgen-3");
        assert_eq!(
            parse("WS://example.org").to_string(),
            "ws://example.org:80/"
        );
        assert_eq!(parse("ws://h?x=1").path, "/?x=1");
        let target = parse("ws://[::1]:9/x");
        assert_eq!((target.host_name(), target.port), ("::1", 9));
        assert_eq!(parse("ws://[::1]/").authority(), "[::1]:80");
    }

    #[test]
    fn only_plain_http_is_published_to() {
        let HttpTarget(target) = "HTTP://h:9/pub?id={channel}".parse().unwrap();
        assert_eq!(target.authority(), "h:9");
        assert_eq!(target.subscribe_path(2), "/pub?id=loadgen-2");
        for bad in ["https://h/", "ws://h/", "h/"] {
            assert!(bad.parse::<HttpTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fixed_url_names_its_channel_by_its_last_segment() {
        assert_eq!(parse("ws://h/chat?x=1").publish_path(0), "/channels/chat");
        assert_eq!(
            parse("ws://h/channels/a%2Fb").publish_path(0),
            "/channels/a%2Fb"
        );
    }

    #[test]
    fn other_urls_are_refused_with_a_reason() {
        for (url, reason) in [
            ("http://h/", "not a WebSocket URL"),
            ("https://h/", "not a WebSocket URL"),
            ("wss://h/", "not supported yet"),
            ("ftp://h/", "unknown scheme"),
            ("127.0.0.1:8000", "a URL such as"),
            ("ws://", "names no host"),
            ("ws://:8000/", "names no host"),
            ("ws://h:0/", "not a port"),
            ("ws://h:x/", "not a port"),
            ("ws://::1/", "in brackets"),
            ("ws://me@h/", "user name"),
            ("ws://h/#top", "#fragment"),
            ("ws://h/a b", "percent-encoded"),
        ] {
            let error = url.parse::<Target>().unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
