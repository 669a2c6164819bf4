//! How many connections each client address holds: the one table all shards write, since the kernel
//! scatters the connections of an address over their listeners.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Counters in the table, 256 KiB.
const COUNTERS: usize = 64 * 1024;

/// Connections by address.
///
/// Addresses that hash alike share a counter, so an address may be refused for connections of others,
/// but never has more than the limit. A million clients put 16 addresses on each counter: to be
/// noticed, a limit must be near that. The hash is keyed, so nobody can aim at another's counter.
pub struct AddressTable {
    counters: Box<[AtomicU32]>,
    hash: RandomState,
}

/// A connection's place among those of its address; to be given back once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressPlace(NonZeroU32);

const _: () = assert!(size_of::<Option<AddressPlace>>() == 4);

impl Default for AddressTable {
    fn default() -> Self {
        Self {
            counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            hash: RandomState::new(),
        }
    }
}

impl AddressTable {
    /// Takes a place for `address` unless it holds `limit` already.
    pub(super) fn take(&self, address: IpAddr, limit: u32) -> Option<AddressPlace> {
        let index = self.hash.hash_one(Client::of(address)) as usize % COUNTERS;
        let held = self.counters[index].fetch_add(1, Relaxed);
        let place = AddressPlace(NonZeroU32::MIN.saturating_add(index as u32));
        if held < limit {
            return Some(place);
        }
        self.give_back(place);
        None
    }

    /// Places taken, of all addresses.
    #[cfg(test)]
    pub(super) fn held(&self) -> u32 {
        self.counters
            .iter()
            .map(|counter| counter.load(Relaxed))
            .sum()
    }

    /// Gives back what [`Self::take`] gave.
    pub(super) fn give_back(&self, place: AddressPlace) {
        let index = place.0.get() as usize - 1;
        self.counters[index].fetch_sub(1, Relaxed);
    }
}

/// What counts as one client: an IPv4 address, or the IPv6 network that a host chooses its addresses
/// from.
#[derive(Hash)]
enum Client {
    V4([u8; 4]),
    V6([u16; 4]),
}

impl Client {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_places_and_no_more() {
        let table = AddressTable::default();
        let client = address("203.0.113.9");
        let places: Vec<_> = (0..3).filter_map(|_| table.take(client, 3)).collect();
        assert_eq!(places.len(), 3);
        assert_eq!(table.take(client, 3), None);
        assert_eq!(table.take(client, 3), None);
        table.give_back(places[0]);
        assert!(table.take(client, 3).is_some());
        assert_eq!(table.take(client, 3), None);
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let table = AddressTable::default();
        assert!(table.take(address("2001:db8:0:1::1"), 1).is_some());
        assert_eq!(table.take(address("2001:db8:0:1:ffff::2"), 1), None);
        assert!(table.take(address("203.0.113.9"), 1).is_some());
        assert_eq!(table.take(address("::ffff:203.0.113.9"), 1), None);
    }

    proptest! {
        /// Against a table that counts exactly: never more than the limit, and nothing is left over.
        #[test]
        fn never_counts_too_few(ops in prop::collection::vec((0u8..8, any::<bool>()), 0..200), limit in 1u32..6) {
            let table = AddressTable::default();
            let mut held: HashMap<u8, Vec<AddressPlace>> = HashMap::new();
            for (host, takes) in ops {
                let client = IpAddr::from([203, 0, 113, host]);
                let places = held.entry(host).or_default();
                if takes {
                    places.extend(table.take(client, limit));
                } else if let Some(place) = places.pop() {
                    table.give_back(place);
                }
                prop_assert!(places.len() <= limit as usize);
            }
            held.into_values().flatten().for_each(|place| table.give_back(place));
            prop_assert_eq!(table.held(), 0);
        }
    }

    #[test]
    fn places_of_many_threads_all_come_back() {
        let table = AddressTable::default();
        let client = address("203.0.113.9");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let place = table.take(client, 3);
                        place.into_iter().for_each(|place| table.give_back(place));
                    }
                });
            }
        });
        assert_eq!(table.held(), 0);
    }
}
