//! The PROXY protocol, versions 1 and 2, as a receiver reads it: the header a proxy puts before a
//! connection's own bytes to say whose connection it is.
//!
//! Strict, as the specification asks: a listener either requires the header or has none, so whatever
//! does not begin one is refused at its first wrong byte, and nothing is guessed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What begins a header of version 1.
const V1_PREFIX: &[u8] = b"PROXY ";
/// The longest header of version 1, line end included.
const V1_BYTES_MAX: usize = 107;
/// What begins a header of version 2.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;
/// The longest variable part of version 2 that is accepted: addresses and extensions (TLVs).
pub const V2_VARIABLE_BYTES_MAX: usize = 4096;
/// The extension that holds a CRC32C of the whole header.
const V2_TYPE_CRC32C: u8 = 0x03;

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes it takes; what follows belongs to the connection.
    pub length: usize,
    /// Whose connection it is.
    pub client: ProxiedClient,
}

/// Whose connection a proxy hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxiedClient {
    /// The proxy's own, such as a health check.
    Local,
    /// The proxy does not know, or it is not a TCP connection.
    Unknown,
    /// A client's.
    Tcp {
        /// The client's address.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
}

/// The bytes are not a PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAProxyHeader;

/// Reads the header at the start of `input`; `None` while it is incomplete. What it comes to depends
/// on the bytes alone, not on how they were cut.
///
/// # Errors
/// As soon as the bytes cannot become a header, or are one that must be dropped.
pub fn parse_proxy_header(input: &[u8]) -> Result<Option<ProxyHeader>, NotAProxyHeader> {
    if begins(input, V1_PREFIX) {
        parse_v1(input)
    } else if begins(input, V2_SIGNATURE) {
        parse_v2(input)
    } else {
        Err(NotAProxyHeader)
    }
}

/// Whether `input` starts with `prefix`, or may yet.
fn begins(input: &[u8], prefix: &[u8]) -> bool {
    input
        .iter()
        .zip(prefix)
        .all(|(byte, wanted)| byte == wanted)
}

// ---- version 1 ----

fn parse_v1(input: &[u8]) -> Result<Option<ProxyHeader>, NotAProxyHeader> {
    let window = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return match window.len() < V1_BYTES_MAX {
            true => Ok(None),
            false => Err(NotAProxyHeader),
        };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(NotAProxyHeader)?;
    let client = parse_v1_line(line).ok_or(NotAProxyHeader)?;
    let length = end + 1;
    Ok(Some(ProxyHeader { length, client }))
}

fn parse_v1_line(line: &[u8]) -> Option<ProxiedClient> {
    let line = line.strip_prefix(V1_PREFIX)?;
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        // Whatever follows must be ignored.
        return Some(ProxiedClient::Unknown);
    }
    let mut fields = std::str::from_utf8(line).ok()?.split(' ');
    let is_v4 = match fields.next()? {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let address = |text: &str| match is_v4 {
        true => text.parse().ok().map(IpAddr::V4),
        false => text.parse().ok().map(IpAddr::V6),
    };
    let (source, destination) = (address(fields.next()?)?, address(fields.next()?)?);
    let (source_port, destination_port) = (v1_port(fields.next()?)?, v1_port(fields.next()?)?);
    fields.next().is_none().then_some(ProxiedClient::Tcp {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// 0 to 65535 without leading zeros.
fn v1_port(digits: &str) -> Option<u16> {
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit());
    let has_leading_zero = digits.len() > 1 && digits.starts_with('0');
    let port = digits.parse().ok();
    port.filter(|_| is_plain && !has_leading_zero)
}

// ---- version 2 ----

fn parse_v2(input: &[u8]) -> Result<Option<ProxyHeader>, NotAProxyHeader> {
    let Some(fixed) = input.first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(NotAProxyHeader),
    };
    let variable_bytes = usize::from(u16::from_be_bytes([high, low]));
    if variable_bytes > V2_VARIABLE_BYTES_MAX {
        return Err(NotAProxyHeader);
    }
    let length = V2_FIXED_BYTES + variable_bytes;
    let Some(header) = input.get(..length) else {
        return Ok(None);
    };
    // The family of a local connection says nothing, so where extensions begin is not known.
    let client = match is_local {
        true => ProxiedClient::Local,
        false => parse_v2_client(header, family).ok_or(NotAProxyHeader)?,
    };
    Ok(Some(ProxyHeader { length, client }))
}

/// Addresses by family and protocol, then extensions.
fn parse_v2_client(header: &[u8], family: u8) -> Option<ProxiedClient> {
    let variable = header.get(V2_FIXED_BYTES..)?;
    if family & 0x0f > 2 {
        return None;
    }
    let is_stream = family & 0x0f == 1;
    let (client, address_bytes) = match family >> 4 {
        0 => return Some(ProxiedClient::Unknown),
        1 => (v2_ipv4(variable)?, 12),
        2 => (v2_ipv6(variable)?, 36),
        3 => (ProxiedClient::Unknown, 216),
        _ => return None,
    };
    let extensions = V2_FIXED_BYTES + address_bytes;
    are_extensions_sound(header, extensions).then_some(match is_stream {
        true => client,
        false => ProxiedClient::Unknown,
    })
}

fn v2_ipv4(variable: &[u8]) -> Option<ProxiedClient> {
    let (source, rest) = variable.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    v2_tcp(Ipv4Addr::from(*source), Ipv4Addr::from(*destination), rest)
}

fn v2_ipv6(variable: &[u8]) -> Option<ProxiedClient> {
    let (source, rest) = variable.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    v2_tcp(Ipv6Addr::from(*source), Ipv6Addr::from(*destination), rest)
}

fn v2_tcp<A: Into<IpAddr>>(source: A, destination: A, ports: &[u8]) -> Option<ProxiedClient> {
    let [a, b, c, d] = *ports.first_chunk::<4>()?;
    Some(ProxiedClient::Tcp {
        source: SocketAddr::new(source.into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination.into(), u16::from_be_bytes([c, d])),
    })
}

/// Whether the extensions from `begin` on fill the header exactly, and its checksum, if it has one, is
/// right. What else they say is not used.
fn are_extensions_sound(header: &[u8], begin: usize) -> bool {
    let mut at = begin;
    while at < header.len() {
        let Some(&[kind, high, low]) = header[at..].first_chunk::<3>() else {
            return false;
        };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        if end > header.len() {
            return false;
        }
        if kind == V2_TYPE_CRC32C && !is_checksum_right(header, value, end) {
            return false;
        }
        at = end;
    }
    at == header.len()
}

/// The checksum is taken with its own four bytes as zeros.
fn is_checksum_right(header: &[u8], value: usize, end: usize) -> bool {
    let Some(checksum) = header.get(value..end).and_then(|v| v.first_chunk::<4>()) else {
        return false;
    };
    if end - value != 4 {
        return false;
    }
    let crc = crc32c(!0, &header[..value]);
    let crc = crc32c(crc, &[0; 4]);
    let crc = crc32c(crc, &header[end..]);
    !crc == u32::from_be_bytes(*checksum)
}

/// Continues a CRC-32C (Castagnoli) over `bytes`. Bit by bit: a connection has one short header.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL * (crc & 1))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TCP4: u8 = 0x11;
    const V4_ADDRESSES: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 0x01, 0xbb];

    fn tcp(source: &str, destination: &str) -> ProxiedClient {
        ProxiedClient::Tcp {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn v2(command: u8, family: u8, variable: &[u8]) -> Vec<u8> {
        let length = u16::try_from(variable.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, variable].concat()
    }

    /// The client of a header that is followed by a request.
    fn client(header: &[u8]) -> Result<ProxiedClient, NotAProxyHeader> {
        let input = [header, b"GET / HTTP/1.1\r\n"].concat();
        let parsed = parse_proxy_header(&input)?.expect("complete");
        assert_eq!(parsed.length, header.len());
        Ok(parsed.client)
    }

    #[test]
    fn version_1_names_both_ends() {
        assert_eq!(
            client(b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n"),
            Ok(tcp("192.0.2.1:4711", "198.51.100.2:443"))
        );
        assert_eq!(
            client(b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n"),
            Ok(tcp("[2001:db8::1]:65535", "[::1]:0"))
        );
        let longest = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                        ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), V1_BYTES_MAX);
        assert_eq!(client(longest), Ok(ProxiedClient::Unknown));
        assert_eq!(client(b"PROXY UNKNOWN\r\n"), Ok(ProxiedClient::Unknown));
    }

    #[test]
    fn version_1_is_taken_strictly() {
        let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(too_long.len(), V1_BYTES_MAX + 1);
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 443 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 0443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 +443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2  4711 443\r\n",
            "PROXY  TCP4 192.0.2.1 198.51.100.2 4711 443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 4711 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 4711 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 4711 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 4711 443\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY \r\n",
            "proxy UNKNOWN\r\n",
            "GET / HTTP/1.1\r\n",
            &too_long,
        ] {
            assert_eq!(client(line.as_bytes()), Err(NotAProxyHeader), "{line}");
        }
    }

    #[test]
    fn version_2_names_both_ends() {
        let expected = tcp("192.0.2.1:4711", "198.51.100.2:443");
        assert_eq!(client(&v2(0x21, TCP4, &V4_ADDRESSES)), Ok(expected));
        let v6: Vec<u8> = [
            Ipv6Addr::LOCALHOST.octets(),
            "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets(),
        ]
        .concat();
        let v6 = [&v6[..], &[0, 1, 0, 2]].concat();
        let expected = tcp("[::1]:1", "[2001:db8::1]:2");
        assert_eq!(client(&v2(0x21, 0x21, &v6)), Ok(expected));
    }

    #[test]
    fn a_connection_without_tcp_addresses_is_local_or_unknown() {
        assert_eq!(client(&v2(0x20, 0x00, &[])), Ok(ProxiedClient::Local));
        assert_eq!(client(&v2(0x20, 0xff, b"any")), Ok(ProxiedClient::Local));
        assert_eq!(client(&v2(0x21, 0x00, b"any")), Ok(ProxiedClient::Unknown));
        assert_eq!(
            client(&v2(0x21, 0x31, &[0; 216])),
            Ok(ProxiedClient::Unknown)
        );
        assert_eq!(
            client(&v2(0x21, 0x12, &V4_ADDRESSES)),
            Ok(ProxiedClient::Unknown)
        );
    }

    #[test]
    fn version_2_is_taken_strictly() {
        for (command, family, variable) in [
            (0x11, TCP4, &V4_ADDRESSES[..]),
            (0x22, TCP4, &V4_ADDRESSES),
            (0x31, TCP4, &V4_ADDRESSES),
            (0x21, 0x13, &V4_ADDRESSES),
            (0x21, 0x41, &V4_ADDRESSES),
            (0x21, TCP4, &V4_ADDRESSES[..11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x31, &[0; 215]),
            (0x21, TCP4, &[&V4_ADDRESSES[..], &[4, 0]].concat()),
            (0x21, TCP4, &[&V4_ADDRESSES[..], &[4, 0, 2, 0]].concat()),
        ] {
            let header = v2(command, family, variable);
            assert_eq!(client(&header), Err(NotAProxyHeader), "{header:02x?}");
        }
    }

    #[test]
    fn extensions_are_skipped_and_their_checksum_held() {
        // A NOOP of two bytes, then room for the checksum, then an authority.
        let variable = [
            &V4_ADDRESSES[..],
            b"\x04\0\x02xx\x03\0\x04\0\0\0\0\x02\0\x01a",
        ]
        .concat();
        let mut header = v2(0x21, TCP4, &variable);
        let at = V2_FIXED_BYTES + 12 + 5 + 3;
        let checksum = !crc32c(!0, &header);
        header[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
        assert!(client(&header).is_ok());
        header[at] ^= 1;
        assert_eq!(client(&header), Err(NotAProxyHeader));
        let short = [&V4_ADDRESSES[..], b"\x03\0\x02xx"].concat();
        assert_eq!(client(&v2(0x21, TCP4, &short)), Err(NotAProxyHeader));
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_before_its_bytes() {
        let mut header = v2(0x21, TCP4, &[]);
        header[14..16].copy_from_slice(&65_535u16.to_be_bytes());
        assert_eq!(parse_proxy_header(&header), Err(NotAProxyHeader));
        let largest = v2(0x20, 0, &[0; V2_VARIABLE_BYTES_MAX]);
        assert_eq!(client(&largest), Ok(ProxiedClient::Local));
    }

    /// Headers, good and bad, and other bytes.
    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        let any_bytes = prop::collection::vec(any::<u8>(), 0..300);
        let v1 = "PROXY (TCP4|TCP6|UNKNOWN|X) [0-9a-f.: ]{0,110}(\r\n|\n|\r)?";
        let commands = prop::sample::select(vec![0x20, 0x21, 0x22]);
        let families = prop::sample::select(vec![0x00, 0x11, 0x12, 0x21, 0x31, 0x41]);
        prop_oneof![
            any_bytes.clone(),
            v1.prop_map(String::into_bytes),
            (commands, families, any_bytes).prop_map(|(c, f, bytes)| v2(c, f, &bytes)),
        ]
    }

    proptest! {
        #[test]
        fn what_it_comes_to_does_not_depend_on_how_the_bytes_were_cut(
            input in inputs(),
            more in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let whole = parse_proxy_header(&input);
            let first = (0..=input.len())
                .map(|length| parse_proxy_header(&input[..length]))
                .find(|outcome| *outcome != Ok(None));
            prop_assert_eq!(first.unwrap_or(Ok(None)), whole);
            if whole != Ok(None) {
                prop_assert_eq!(parse_proxy_header(&[input, more].concat()), whole);
            } else {
                prop_assert!(input.len() < V2_FIXED_BYTES + V2_VARIABLE_BYTES_MAX);
            }
        }
    }
}
