//! `X-Forwarded-For`: who is behind the proxies. There is no standard; each proxy appends the address
//! it was connected from, so what a client wrote itself is on the left.

use std::net::{IpAddr, SocketAddr};

/// The client behind `peer`, a trusted proxy: the rightmost address in the header's `lines` that no
/// trusted proxy has. Everything left of that address, or of one that is malformed, was written by
/// nobody known and is not looked at; where there is none, the last proxy known is the client.
pub fn forwarded_for(peer: IpAddr, lines: &[&[u8]], is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    let hops = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // Empty elements of a list mean nothing (RFC 9110 section 5.6.1).
        .filter(|hop| !hop.is_empty());
    for hop in hops {
        let Some(address) = parse_hop(hop) else {
            return client;
        };
        client = address.to_canonical();
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

/// An address, with a port or in brackets as some proxies write it.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']');
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
        .or_else(|| bracketed()?.parse().ok().map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 10.0.0.0/8 and loopback are trusted; the peer is 10.0.0.1.
    fn client(lines: &[&str]) -> String {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let is_trusted = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[0] == 10 || address.is_loopback(),
            IpAddr::V6(address) => address.is_loopback(),
        };
        forwarded_for(IpAddr::from([10, 0, 0, 1]), &lines, is_trusted).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted_is_the_client() {
        assert_eq!(client(&["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&["1.1.1.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&["203.0.113.9, 10.0.0.7,127.0.0.1"]), "203.0.113.9");
        assert_eq!(client(&["1.1.1.1", "203.0.113.9, 10.2.2.2"]), "203.0.113.9");
        assert_eq!(client(&["203.0.113.9", "10.2.2.2"]), "203.0.113.9");
        assert_eq!(client(&["::ffff:203.0.113.9"]), "203.0.113.9");
        assert_eq!(client(&["2001:db8::1"]), "2001:db8::1");
    }

    #[test]
    fn ports_and_brackets_do_not_matter() {
        assert_eq!(client(&["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(client(&["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(client(&["[2001:db8::1]"]), "2001:db8::1");
    }

    #[test]
    fn without_such_an_address_the_last_proxy_known_is_the_client() {
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&[""]), "10.0.0.1");
        assert_eq!(client(&[",", " , ,"]), "10.0.0.1");
        assert_eq!(client(&["10.0.0.9, 10.0.0.8"]), "10.0.0.9");
    }

    #[test]
    fn nothing_left_of_a_malformed_address_counts() {
        assert_eq!(client(&["203.0.113.9, unknown"]), "10.0.0.1");
        assert_eq!(client(&["203.0.113.9, _hidden, 10.0.0.5"]), "10.0.0.5");
        assert_eq!(client(&["203.0.113.9 198.51.100.1"]), "10.0.0.1");
        assert_eq!(client(&["203.0.113.9, 203.0.113.256"]), "10.0.0.1");
        assert_eq!(client(&["[203.0.113.9]"]), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            forwarded_for(IpAddr::from([10, 0, 0, 1]), &lines, |address| address.is_ipv4());
        }

        #[test]
        fn what_a_client_writes_before_its_address_changes_nothing(forged in "[0-9a-f.:, \\[\\]]{0,60}") {
            let line = format!("{forged}, 203.0.113.9, 10.0.0.2");
            prop_assert_eq!(client(&[&line]), "203.0.113.9");
        }
    }
}
