//! Where an endpoint is.

use std::net::IpAddr;

use hyper::Uri;

/// What a connection is made to, and what connections are shared by: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `https`.
    pub is_tls: bool,
    /// A name or an address; one of version 6 without brackets.
    pub host: String,
    /// The port, also where the URL leaves it out.
    pub port: u16,
}

/// An `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Path and query, as in a request line.
    pub path: String,
    /// Host and port as in the Host header.
    pub authority: String,
}

impl Url {
    /// Reads a URL. The error has its text, without a password, and says what to change.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            return Err(
                "the URL has a user name or password; send it in a header instead".to_owned(),
            );
        }
        let wrong = |cure: &str| format!("{text:?} is not a URL to call; {cure}");
        let uri: Uri = text
            .parse()
            .map_err(|_| wrong("write http://HOST:PORT/PATH or https://HOST/PATH"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("begin it with http:// or https://")),
        };
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err(wrong("it names no host"));
        };
        let has_port = authority.as_str().len() > host.len();
        if host.is_empty() || (has_port && uri.port_u16().is_none_or(|port| port == 0)) {
            return Err(wrong("name a host, and a port from 1 to 65535 or none"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            origin: Origin {
                is_tls,
                host: host.to_ascii_lowercase(),
                port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            },
            path: path.to_owned(),
            authority: authority.as_str().to_owned(),
        })
    }
}

impl Origin {
    /// True if the name cannot mean another machine.
    pub fn is_loopback_name(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// Whether keys may be fetched from this address. What a name stands for is not what the configuration says but
/// what a name server says: it must not lead to a cloud's metadata service (link-local), to many machines
/// (multicast) or nowhere, nor turn a name of elsewhere into this machine. Private networks are fine: that is where
/// a company's identity provider lives.
pub fn may_serve_keys(origin: &Origin, address: IpAddr) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() || origin.is_loopback_name() {
        return address.is_loopback() && origin.is_loopback_name();
    }
    let is_special = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !is_special && !address.is_multicast() && !address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_host_and_port_are_read_and_the_port_completed() {
        let url = Url::parse("https://Backend.example/hooks?x=1").unwrap();
        let origin = Origin {
            is_tls: true,
            host: "backend.example".to_owned(),
            port: 443,
        };
        assert_eq!(url.origin, origin);
        assert_eq!(url.path, "/hooks?x=1");
        let url = Url::parse("http://[::1]:3000").unwrap();
        assert_eq!((url.origin.host.as_str(), url.origin.port), ("::1", 3000));
        assert_eq!(
            (url.path.as_str(), url.authority.as_str()),
            ("/", "[::1]:3000")
        );
    }

    #[test]
    fn what_is_no_url_to_call_is_refused() {
        for text in [
            "",
            "/path",
            "backend:80",
            "ftp://a/",
            "http://",
            "http://a:0/",
            "http://a:99999/",
            "http://a b/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        let text = Url::parse("http://user:secret@a/").unwrap_err();
        assert!(!text.contains("secret"));
    }

    #[test]
    fn keys_do_not_come_from_where_a_name_must_not_lead() {
        let may = |url: &str, address: &str| {
            may_serve_keys(&Url::parse(url).unwrap().origin, address.parse().unwrap())
        };
        for address in [
            "93.184.216.34",
            "10.0.0.7",
            "192.168.1.1",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(may("https://id.example/", address), "{address}");
        }
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "fe80::1",
            "255.255.255.255",
        ] {
            assert!(!may("https://id.example/", address), "{address}");
        }
        assert!(may("http://localhost:1/", "127.0.0.1") && may("http://127.0.0.1:1/", "127.0.0.1"));
        assert!(!may("http://localhost:1/", "10.0.0.7"));
    }
}
