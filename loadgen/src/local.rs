//! Which local address and port each connection uses.
//!
//! The program picks the ports itself. Left to the kernel (bind to port 0, with or without
//! IP_BIND_ADDRESS_NO_PORT), choosing one costs 0.8 to 2.8 ms as soon as half of a source address's
//! ports are taken, because it searches one parity to the end before it tries the other; a named port
//! costs the same few microseconds up to the last.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::plan::Share;

/// Hands out (source address, port) pairs, each once.
#[derive(Debug)]
pub struct LocalAddresses {
    sources: Vec<IpAddr>,
    /// First local port.
    low: u16,
    /// Local ports per source address.
    ports: usize,
    /// Where in the range to begin: anywhere, so that a run started right after another does not
    /// meet the same pairs again.
    offset: usize,
    /// Next pair that belongs to no connection's number.
    spare: AtomicUsize,
    /// Number of the first connection of this host.
    first: usize,
}

impl LocalAddresses {
    /// Pairs for the connections of `share`; no sources means that the system chooses.
    pub fn new(sources: Vec<IpAddr>, (low, high): (u16, u16), share: Share, offset: usize) -> Self {
        let ports = usize::from(high - low) + 1;
        Self {
            sources,
            low,
            ports,
            offset: offset % ports,
            spare: AtomicUsize::new(share.first + share.connections),
            first: share.first,
        }
    }

    /// True if the system chooses address and port.
    pub fn is_systems_choice(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many source addresses there are; 0 if the system chooses.
    pub fn source_count(&self) -> usize {
        self.sources.len()
    }

    /// The pair of the connection numbered `index`; `None` beyond the last pair.
    pub fn nth(&self, index: usize) -> Option<SocketAddr> {
        let index = index.checked_sub(self.first)?;
        let source = self.sources.get(index.checked_rem(self.sources.len())?)?;
        let turn = index / self.sources.len();
        if turn >= self.ports {
            return None;
        }
        let above_low = (self.offset + turn) % self.ports;
        // Below `ports`, which came from a difference of two u16.
        let port = self.low + above_low as u16;
        Some(SocketAddr::new(*source, port))
    }

    /// A pair instead of one that somebody else uses.
    pub fn spare(&self) -> Option<SocketAddr> {
        self.nth(self.spare.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn share(first: usize, connections: usize) -> Share {
        Share {
            first,
            connections,
            connect_in_flight: 1,
        }
    }

    #[test]
    fn every_pair_is_handed_out_once() {
        let sources = vec![IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 3])];
        let local = LocalAddresses::new(sources, (100, 104), share(40, 7), 13);
        let numbered: Vec<_> = (40..47).map(|index| local.nth(index).unwrap()).collect();
        let spares: Vec<_> = std::iter::from_fn(|| local.spare()).collect();
        assert_eq!(spares.len(), 3);
        let all: HashSet<_> = numbered.into_iter().chain(spares).collect();
        assert_eq!(all.len(), 10);
        assert!(all.iter().all(|pair| (100..=104).contains(&pair.port())));
        assert_eq!(local.nth(50), None);
    }

    #[test]
    fn no_sources_leave_the_choice_to_the_system() {
        let local = LocalAddresses::new(Vec::new(), (1, u16::MAX), share(0, 5), 0);
        assert!(local.is_systems_choice());
        assert_eq!(local.nth(0), None);
        assert_eq!(local.spare(), None);
    }
}
