//! The plan: how many threads, from which local addresses and ports, or why it cannot be done.
//! Arithmetic only; what the host allows comes in as [`Host`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Descriptors of each file table kept for what is no load: rings, files, publishers, /metrics.
const RESERVED_FILES: usize = 256;
/// Connections per default source address: leaves some of the usual 28,232 local ports to others.
const CONNECTIONS_PER_SOURCE: usize = 25_000;
/// Most source addresses a range may name.
const SOURCES_MAX: u32 = 65_536;

/// Local addresses to connect from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(pub Vec<IpAddr>);

/// Cores to run on, by number, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

/// What the host allows.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Open files per file table.
    pub files: usize,
    /// First and last local port the kernel hands out.
    pub local_ports: (u16, u16),
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where to.
    pub target: SocketAddr,
    /// Connections of this host, and how many are made at a time.
    pub share: Share,
    /// Threads, if given.
    pub threads: Option<usize>,
    /// Source addresses, if given.
    pub sources: Option<&'a [IpAddr]>,
}

/// How it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One share per thread; together they are all connections.
    pub shares: Vec<Share>,
    /// Source addresses; empty leaves address and port to the system.
    pub sources: Vec<IpAddr>,
    /// First and last local port.
    pub local_ports: (u16, u16),
}

/// What one thread, or one host, does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Number of its first connection.
    pub first: usize,
    /// Its connections.
    pub connections: usize,
    /// Those being made at a time.
    pub connect_in_flight: usize,
}

impl Plan {
    /// Plans, or says which number stands in the way.
    pub fn new(wanted: &Wanted<'_>, host: &Host) -> Result<Self, String> {
        let threads = threads(wanted, host)?;
        let sources = match wanted.sources {
            Some(given) => given.to_vec(),
            None => default_sources(wanted),
        };
        check_sources(wanted, host, &sources)?;
        Ok(Self {
            shares: wanted.share.split(threads),
            sources,
            local_ports: host.local_ports,
        })
    }
}

fn threads(wanted: &Wanted<'_>, host: &Host) -> Result<usize, String> {
    let usable = host.files.saturating_sub(RESERVED_FILES);
    if usable == 0 {
        return Err(format!(
            "{} open files per process leave nothing beside the {RESERVED_FILES} kept in reserve; \
             raise the limit: ulimit -Hn",
            host.files
        ));
    }
    let needed = wanted.share.connections.div_ceil(usable);
    match wanted.threads {
        Some(given) if given < needed => Err(format!(
            "{} connections on {given} threads are {} each, but a thread's file table holds {} - {RESERVED_FILES} \
             = {usable}; --threads {needed} would do",
            wanted.share.connections,
            wanted.share.connections.div_ceil(given),
            host.files,
        )),
        // A thread without a connection has nothing to do.
        Some(given) => Ok(given.min(wanted.share.connections)),
        None => Ok(needed),
    }
}

/// Every address of 127/8 is local, so on loopback ports never run out; elsewhere only the system
/// knows which address reaches the target.
fn default_sources(wanted: &Wanted<'_>) -> Vec<IpAddr> {
    if !wanted.target.is_ipv4() || !wanted.target.ip().is_loopback() {
        return Vec::new();
    }
    // Agents on one host have other connections and then other addresses.
    let taken = wanted.share.first.div_ceil(CONNECTIONS_PER_SOURCE);
    let first = u32::from(Ipv4Addr::new(127, 0, 0, 2)) + taken as u32;
    let count = wanted.share.connections.div_ceil(CONNECTIONS_PER_SOURCE);
    (first..)
        .take(count)
        .map(|address| Ipv4Addr::from(address).into())
        .collect()
}

fn check_sources(wanted: &Wanted<'_>, host: &Host, sources: &[IpAddr]) -> Result<(), String> {
    if let Some(other) = sources
        .iter()
        .find(|source| source.is_ipv4() != wanted.target.is_ipv4())
    {
        return Err(format!(
            "{other} cannot reach {}: not the same address family",
            wanted.target
        ));
    }
    let (low, high) = host.local_ports;
    let ports = usize::from(high - low) + 1;
    let addresses = sources.len().max(1);
    let most = addresses.saturating_mul(ports);
    if wanted.share.connections <= most {
        return Ok(());
    }
    Err(format!(
        "{} connections to {} need {} source addresses: each has {ports} local ports \
         (net.ipv4.ip_local_port_range {low}-{high}), and {addresses} x {ports} = {most}; \
         give more with --source FIRST-LAST",
        wanted.share.connections,
        wanted.target,
        wanted.share.connections.div_ceil(ports),
    ))
}

impl Share {
    /// Cuts it into nearly equal parts.
    pub fn split(self, parts: usize) -> Vec<Self> {
        let mut first = self.first;
        let cut = |index| {
            let connections = part(self.connections, parts, index);
            let connect_in_flight = part(self.connect_in_flight, parts, index).max(1);
            let share = Self {
                first,
                connections,
                connect_in_flight,
            };
            first += connections;
            share
        };
        (0..parts).map(cut).collect()
    }
}

/// The `index`-th of `parts` nearly equal parts of `whole`.
pub fn part(whole: usize, parts: usize, index: usize) -> usize {
    whole / parts + usize::from(index < whole % parts)
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = |text: &str| {
            text.trim()
                .parse::<IpAddr>()
                .map_err(|_| format!("{text:?} is not an IP address"))
        };
        let Some((first, last)) = text.split_once('-') else {
            return Ok(Self(vec![address(text)?]));
        };
        match (address(first)?, address(last)?) {
            (IpAddr::V4(first), IpAddr::V4(last)) => range(first.into(), last.into()),
            _ => Err("a range is of IPv4 addresses".to_owned()),
        }
    }
}

fn range(first: u32, last: u32) -> Result<Sources, String> {
    match last.checked_sub(first) {
        None => Err("the range's last address is before its first".to_owned()),
        Some(more) if more >= SOURCES_MAX => {
            Err(format!("the range has more than {SOURCES_MAX} addresses"))
        }
        Some(_) => Ok(Sources(
            (first..=last)
                .map(|bits| Ipv4Addr::from(bits).into())
                .collect(),
        )),
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.trim().parse::<usize>() {
            Ok(core) if core < 1024 => Ok(core),
            _ => Err(format!("{text:?} is not a core; a list looks like 0,2-3")),
        };
        let mut cores = Vec::new();
        for item in text.split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            cores.extend(number(first)?..=number(last)?);
        }
        cores.sort_unstable();
        cores.dedup();
        if cores.is_empty() {
            Err("the list names no core".to_owned())
        } else {
            Ok(Self(cores))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Host = Host {
        files: 20_000,
        local_ports: (32_768, 60_999),
    };

    fn wanted(connections: usize) -> Wanted<'static> {
        Wanted {
            target: SocketAddr::from(([127, 0, 0, 1], 8000)),
            share: Share {
                first: 0,
                connections,
                connect_in_flight: 256,
            },
            threads: None,
            sources: None,
        }
    }

    #[test]
    fn threads_follow_the_file_limit() {
        let plan = |connections| Plan::new(&wanted(connections), &HOST).unwrap();
        assert_eq!(plan(1).shares.len(), 1);
        assert_eq!(plan(19_744).shares.len(), 1);
        assert_eq!(plan(19_745).shares.len(), 2);
        let million = plan(1_000_000);
        assert_eq!(million.shares.len(), 51);
        assert_eq!(million.sources.len(), 40);
        assert_eq!(million.sources[0], IpAddr::from([127, 0, 0, 2]));
        assert_eq!(
            million
                .shares
                .iter()
                .map(|share| share.connections)
                .sum::<usize>(),
            1_000_000
        );
    }

    #[test]
    fn shares_are_contiguous_and_even() {
        let plan = Plan::new(
            &Wanted {
                threads: Some(3),
                ..wanted(10)
            },
            &HOST,
        )
        .unwrap();
        let shares: Vec<_> = plan
            .shares
            .iter()
            .map(|s| (s.first, s.connections))
            .collect();
        assert_eq!(shares, [(0, 4), (4, 3), (7, 3)]);
        assert_eq!(
            plan.shares
                .iter()
                .map(|s| s.connect_in_flight)
                .sum::<usize>(),
            256
        );
        let few = Wanted {
            threads: Some(8),
            share: Share {
                connect_in_flight: 1,
                ..wanted(2).share
            },
            ..wanted(2)
        };
        let plan = Plan::new(&few, &HOST).unwrap();
        assert_eq!(plan.shares.len(), 2);
        assert!(plan.shares.iter().all(|share| share.connect_in_flight == 1));
    }

    #[test]
    fn too_few_threads_are_refused_with_the_arithmetic() {
        let error = Plan::new(
            &Wanted {
                threads: Some(2),
                ..wanted(50_000)
            },
            &HOST,
        )
        .unwrap_err();
        assert!(error.contains("25000 each"), "{error}");
        assert!(
            error.contains("20000 - 256 = 19744; --threads 3"),
            "{error}"
        );
        let poor = Host { files: 256, ..HOST };
        assert!(Plan::new(&wanted(1), &poor).is_err());
    }

    #[test]
    fn too_few_ports_are_refused_with_the_arithmetic() {
        let away = |connections| Wanted {
            target: SocketAddr::from(([192, 0, 2, 1], 80)),
            ..wanted(connections)
        };
        let most = Plan::new(&away(28_232), &HOST).unwrap();
        assert!(most.sources.is_empty());
        let error = Plan::new(&away(28_233), &HOST).unwrap_err();
        assert!(error.contains("need 2 source addresses"), "{error}");
        assert!(error.contains("1 x 28232 = 28232"), "{error}");
        let one = [IpAddr::from([127, 0, 0, 9])];
        let given = Wanted {
            sources: Some(&one),
            ..wanted(30_000)
        };
        assert!(Plan::new(&given, &HOST).is_err());
        let other = ["::1".parse().unwrap()];
        let given = Wanted {
            sources: Some(&other),
            ..wanted(1)
        };
        assert!(Plan::new(&given, &HOST).unwrap_err().contains("family"));
    }

    #[test]
    fn source_ranges_are_read() {
        let read = |text: &str| text.parse::<Sources>();
        assert_eq!(read("127.0.0.2").unwrap().0.len(), 1);
        assert_eq!(read("127.0.0.2-127.0.0.40").unwrap().0.len(), 39);
        assert_eq!(read("127.0.0.254-127.0.1.1").unwrap().0.len(), 4);
        for bad in [
            "",
            "x",
            "127.0.0.3-127.0.0.2",
            "127.0.0.0-127.9.0.0",
            "::1-::2",
            "127.0.0.1-",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn core_lists_are_read() {
        assert_eq!("0,2-3,2".parse(), Ok(Cores(vec![0, 2, 3])));
        for bad in ["", "x", "1-", "3-2", "5000", "0,,1"] {
            assert!(bad.parse::<Cores>().is_err(), "{bad}");
        }
    }
}
