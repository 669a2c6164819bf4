//! Networks in CIDR notation (RFC 4632, RFC 4291 section 2.3).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses with a common prefix: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// The text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANetwork;

impl Network {
    /// Whether `address` lies in it. An IPv4 address within IPv6 (`::ffff:10.0.0.1`) is the IPv4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let different = own.to_bits() ^ other.to_bits();
                different.leading_zeros() >= u32::from(self.prefix_bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let different = own.to_bits() ^ other.to_bits();
                different.leading_zeros() >= u32::from(self.prefix_bits)
            }
            _ => false,
        }
    }

    fn has_bits_after_prefix(&self) -> bool {
        let used_bits = match self.address {
            IpAddr::V4(address) => 32 - address.to_bits().trailing_zeros(),
            IpAddr::V6(address) => 128 - address.to_bits().trailing_zeros(),
        };
        used_bits > u32::from(self.prefix_bits)
    }
}

fn address_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    /// Strict: bits after the prefix, which would be ignored, are most likely a mistake.
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let prefix_bits = match prefix {
            None => address_bits(address),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| NotANetwork)?
            }
            Some(_) => return Err(NotANetwork),
        };
        let network = Self {
            address,
            prefix_bits,
        };
        let is_mapped = address.to_canonical() != address;
        if is_mapped || prefix_bits > address_bits(address) || network.has_bits_after_prefix() {
            return Err(NotANetwork);
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network: Network = network.parse().unwrap();
        network.contains(address.parse().unwrap())
    }

    #[test]
    fn holds_the_addresses_of_its_prefix() {
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("192.0.2.4/31", "192.0.2.5"));
        assert!(!contains("192.0.2.4/31", "192.0.2.6"));
        assert!(contains("192.0.2.1", "192.0.2.1"));
        assert!(!contains("192.0.2.1", "192.0.2.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.9"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("::/0", "::1") && contains("::1", "::1"));
    }

    #[test]
    fn families_are_apart_but_for_ipv4_within_ipv6() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!contains("::/0", "10.1.2.3"));
        assert!(!contains("::/0", "::ffff:10.1.2.3"));
        assert!(!contains("0.0.0.0/0", "::1"));
    }

    #[test]
    fn is_written_as_it_is_read() {
        for text in ["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0", "::1/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("::1".parse::<Network>().unwrap().to_string(), "::1/128");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "localhost",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
            "10.0.0.1/8",
            "010.0.0.0/8",
            "10.0.0/8",
            "::/129",
            "::1/64",
            "::ffff:10.0.0.0/104",
            "[::1]",
            "fe80::1%eth0",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }
}
