//! Where a key set may be fetched from. A server that fetches what it is told can be led to addresses that only it
//! reaches (SSRF): so the URL is fixed in the configuration, the name's addresses are looked at, and nothing is followed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest URL in bytes.
pub const JWKS_URL_BYTES_MAX: usize = 2048;
/// How long a fetch may take in all, name and TLS included.
pub const JWKS_FETCH_TIMEOUT_MS: u64 = 5000;
/// How long after a fetch began the next may begin, whoever asks: tokens with unknown names are free to make.
pub const JWKS_REFETCH_INTERVAL_MS: u64 = 10_000;
/// Redirects that are followed: one would lead past the checks.
pub const JWKS_REDIRECTS_MAX: u32 = 0;

/// A URL a key set may be fetched from, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl {
    /// `https`; else `http` to a loopback address or `localhost`.
    pub is_tls: bool,
    /// A name in lower case, or an address; IPv6 without brackets.
    pub host: String,
    /// As written, or the scheme's own.
    pub port: u16,
    /// Path and query, from the slash.
    pub path: String,
}

/// Why a URL is not fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksUrlError {
    /// Not `https://host[:port][/path]` in printable ASCII of at most [`JWKS_URL_BYTES_MAX`].
    Malformed,
    /// A user name or password in it.
    Credentials,
    /// A fragment; none would be sent.
    Fragment,
    /// A placeholder: a part of the URL would come from the token.
    Placeholder,
    /// `http` to another host than this one, or at all outside development.
    Plaintext,
    /// An address that is never fetched from.
    Address,
}

impl fmt::Display for JwksUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JwksUrlError::Malformed => "not a URL; write https://host/path",
            JwksUrlError::Credentials => "a user name in the URL; leave it out",
            JwksUrlError::Fragment => "a # in the URL; leave out what begins with it",
            JwksUrlError::Placeholder => "a placeholder in the URL; write the whole URL",
            JwksUrlError::Plaintext => "keys over http can be replaced on their way; use https",
            JwksUrlError::Address => "an address that keys are not fetched from; use a public one",
        })
    }
}

impl std::error::Error for JwksUrlError {}

/// Which addresses may be fetched from, besides public ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Private networks (RFC 1918, RFC 4193, RFC 6598): an identity provider of one's own.
    pub allow_private: bool,
    /// This machine, and http to it: development and tests.
    pub allow_loopback: bool,
}

impl JwksUrl {
    /// Reads a URL of the configuration.
    ///
    /// # Errors
    /// It is malformed or not allowed.
    pub fn parse(text: &str, policy: AddressPolicy) -> Result<Self, JwksUrlError> {
        check_characters(text)?;
        let (scheme, rest) = text.split_once("://").ok_or(JwksUrlError::Malformed)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(JwksUrlError::Malformed),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(JwksUrlError::Malformed)?;
        if authority.contains('@') {
            return Err(JwksUrlError::Credentials);
        }
        let (host, port) = split_authority(authority).ok_or(JwksUrlError::Malformed)?;
        let url = Self {
            is_tls,
            host,
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
            path: match path.starts_with('/') {
                true => path.to_owned(),
                false => format!("/{path}"),
            },
        };
        url.check_host(policy)?;
        Ok(url)
    }

    fn check_host(&self, policy: AddressPolicy) -> Result<(), JwksUrlError> {
        let address = self.host.parse::<IpAddr>().ok();
        let is_loopback = match address {
            Some(address) => address.to_canonical().is_loopback(),
            None => self.host == "localhost",
        };
        let is_own = is_loopback && policy.allow_loopback;
        if !(self.is_tls || is_own) {
            return Err(JwksUrlError::Plaintext);
        }
        match address {
            Some(address) if !policy.allows(address) => Err(JwksUrlError::Address),
            None if is_loopback && !policy.allow_loopback => Err(JwksUrlError::Address),
            _ => Ok(()),
        }
    }
}

impl AddressPolicy {
    /// Whether this address may be connected to. Ask for each address a name resolves to, and connect to the very
    /// address that was asked about: a second look-up may give another.
    pub fn allows(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.allows_v4(address),
            IpAddr::V6(address) => self.allows_v6(address),
        }
    }

    fn allows_v4(self, address: Ipv4Addr) -> bool {
        let [a, b, c, _] = address.octets();
        let is_shared = a == 100 && (64..128).contains(&b);
        // Assigned to protocols, to tests of devices, to documentation, or to nobody.
        let is_special = (a, b, c) == (192, 0, 0) || (a == 198 && matches!(b, 18 | 19));
        let is_reserved = a == 0 || a >= 224 || address.is_documentation() || is_special;
        // Metadata services that stand outside the link-local range.
        let is_metadata = address == Ipv4Addr::new(100, 100, 100, 200)
            || address == Ipv4Addr::new(168, 63, 129, 16);
        if address.is_link_local() || is_reserved || is_metadata {
            return false;
        }
        if address.is_loopback() {
            return self.allow_loopback;
        }
        self.allow_private || !(address.is_private() || is_shared)
    }

    fn allows_v6(self, address: Ipv6Addr) -> bool {
        if address.is_loopback() {
            return self.allow_loopback;
        }
        if let Some(inner) = embedded_v4(address) {
            return self.allows_v4(inner);
        }
        let [first, second, ..] = address.segments();
        let is_unique_local = first & 0xfe00 == 0xfc00;
        if is_unique_local {
            // The metadata service of AWS.
            let is_metadata = address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            return self.allow_private && !is_metadata;
        }
        // Of the global range, documentation and Teredo, which hides an IPv4 address, are left out.
        let is_global = first & 0xe000 == 0x2000;
        let is_documentation = (first, second) == (0x2001, 0xdb8) || first == 0x3fff;
        is_global && !is_documentation && (first, second) != (0x2001, 0)
    }
}

/// The IPv4 address that packets to this one would reach: mapped (RFC 4291), translated (RFC 6052), 6to4 (RFC 3056).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => address.to_ipv4_mapped(),
    }
}

fn check_characters(text: &str) -> Result<(), JwksUrlError> {
    if text.contains(['{', '}']) {
        return Err(JwksUrlError::Placeholder);
    }
    if text.contains('#') {
        return Err(JwksUrlError::Fragment);
    }
    let is_url = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>');
    match text.len() <= JWKS_URL_BYTES_MAX && text.bytes().all(is_url) {
        true => Ok(()),
        false => Err(JwksUrlError::Malformed),
    }
}

fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
            None => (authority, Some("")),
        },
    };
    let port = match port? {
        "" => None,
        port => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
    };
    let is_v6 = authority.starts_with('[');
    (is_v6 || is_name_or_v4(host)).then(|| (host.to_ascii_lowercase(), port))
}

/// A name, or an address in four decimal parts. The other spellings of addresses (`127.1`, `0x7f000001`,
/// `2130706433`), which some resolvers take, end in a label that is a number.
fn is_name_or_v4(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_part)
    };
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_number = last.starts_with(|c: char| c.is_ascii_digit());
    host.len() <= 253
        && host.split('.').all(is_label)
        && (!is_number || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: AddressPolicy = AddressPolicy {
        allow_private: false,
        allow_loopback: false,
    };
    const PRIVATE: AddressPolicy = AddressPolicy {
        allow_private: true,
        ..PUBLIC
    };
    const DEVELOPMENT: AddressPolicy = AddressPolicy {
        allow_private: true,
        allow_loopback: true,
    };

    #[test]
    fn takes_a_url_apart() {
        for (text, is_tls, host, port, path) in [
            (
                "https://id.example.com/keys?v=2",
                true,
                "id.example.com",
                443,
                "/keys?v=2",
            ),
            (
                "HTTPS://ID.example.com:8443",
                true,
                "id.example.com",
                8443,
                "/",
            ),
            ("https://[2606:4700::1]:1/k", true, "2606:4700::1", 1, "/k"),
            ("https://8.8.8.8?x", true, "8.8.8.8", 443, "/?x"),
            ("http://localhost:3000/k", false, "localhost", 3000, "/k"),
            ("http://127.0.0.1/k", false, "127.0.0.1", 80, "/k"),
            ("http://[::1]/k", false, "::1", 80, "/k"),
        ] {
            let (host, path) = (host.to_owned(), path.to_owned());
            let url = JwksUrl {
                is_tls,
                host,
                port,
                path,
            };
            assert_eq!(JwksUrl::parse(text, DEVELOPMENT), Ok(url), "{text}");
        }
    }

    #[test]
    fn refuses_what_leads_elsewhere() {
        use JwksUrlError::*;
        for (text, error) in [
            ("http://id.example.com/k", Plaintext),
            ("http://127.0.0.1/k", Plaintext),
            ("http://localhost.example.com/k", Plaintext),
            ("https://localhost/k", Address),
            ("https://127.0.0.1/k", Address),
            ("https://[::ffff:127.0.0.1]/k", Address),
            ("https://169.254.169.254/latest/meta-data/", Address),
            ("https://10.0.0.1/k", Address),
            ("https://good.example@evil.example/k", Credentials),
            ("https://id.example.com/{{tenant}}/k", Placeholder),
            ("https://id.example.com/k#x", Fragment),
            ("file:///etc/passwd", Malformed),
            ("ftp://id.example.com/k", Malformed),
            ("id.example.com/k", Malformed),
            ("https://", Malformed),
            ("https://a..b/k", Malformed),
            ("https://2130706433/k", Malformed),
            ("https://0x7f000001/k", Malformed),
            ("https://127.1/k", Malformed),
            ("https://0177.0.0.1/k", Malformed),
            ("https://a:0/k", Malformed),
            ("https://a:/k", Malformed),
            ("https://a:65536/k", Malformed),
            ("https://a b/k", Malformed),
            ("https://a\\b/k", Malformed),
            ("https://a/k\r\nHost: b", Malformed),
            ("https://ex\u{e4}mple.com/k", Malformed),
            ("https://[::1/k", Malformed),
            ("https://[1.2.3.4]/k", Malformed),
            ("https://[::1]x/k", Malformed),
        ] {
            assert_eq!(JwksUrl::parse(text, PUBLIC), Err(error), "{text}");
        }
        let long = format!("https://a/{}", "k".repeat(JWKS_URL_BYTES_MAX));
        assert_eq!(JwksUrl::parse(&long, PUBLIC), Err(Malformed));
    }

    fn allows(policy: AddressPolicy, address: &str) -> bool {
        policy.allows(address.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_allowed() {
        for address in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(allows(PUBLIC, address), "{address}");
        }
    }

    #[test]
    fn private_addresses_only_if_wanted() {
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "fc00::1",
            "fd12::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(!allows(PUBLIC, address), "{address}");
            assert!(allows(PRIVATE, address), "{address}");
        }
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!allows(PRIVATE, address), "{address}");
            assert!(allows(DEVELOPMENT, address), "{address}");
        }
    }

    #[test]
    fn some_addresses_never() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::7f00:1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "100::1",
        ] {
            assert!(!allows(DEVELOPMENT, address), "{address}");
        }
    }
}
