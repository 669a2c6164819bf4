//! What a thread's connections receive of broadcasts: messages to all of them, one after the other.

use crate::latency::Latency;
use crate::payload::Stamp;

/// Stands for the next broadcast of a connection that is not open and is owed none.
const NOT_OPEN: u32 = u32::MAX;

/// The broadcasts as one thread, or all threads, saw them. A connection takes 4 bytes.
#[derive(Debug, Default)]
pub struct BroadcastTally {
    /// The number of the run in each payload.
    run: u32,
    /// By connection number, which broadcast must come next, from 0.
    next: Vec<u32>,
    /// By broadcast.
    arrivals: Vec<Arrivals>,
    /// From when a broadcast was published until a connection received it.
    pub latency: Latency,
    /// Broadcasts that a connection jumped over, over all connections.
    skipped: u64,
    /// Broadcasts that came again, or behind a later one, over all connections.
    pub duplicated: u64,
    /// Messages that are no broadcast of this run.
    pub foreign: u64,
}

/// Who has received one broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Connections that have.
    pub count: u64,
    /// When the last of them did, in CLOCK_MONOTONIC nanoseconds.
    pub last_ns: u64,
}

impl BroadcastTally {
    /// For a run of this number and `connections` connections of a thread.
    pub fn new(run: u32, connections: usize) -> Self {
        Self {
            run,
            next: vec![NOT_OPEN; connections],
            ..Self::default()
        }
    }

    /// A connection was made: it is owed every broadcast from now on.
    pub fn open(&mut self, number: usize) {
        if let Some(next) = self.next.get_mut(number) {
            *next = 0;
        }
    }

    /// A connection ended; that counts as lost, and what it missed does not count again.
    pub fn close(&mut self, number: usize) {
        if let Some(next) = self.next.get_mut(number) {
            *next = NOT_OPEN;
        }
    }

    /// Takes a message of a connection.
    pub fn receive(&mut self, number: usize, payload: &[u8], received_ns: u64) {
        let stamp = Stamp::decode(payload).filter(|stamp| stamp.run == self.run);
        let Some(stamp) = stamp else {
            self.foreign += 1;
            return;
        };
        let broadcast = u32::from(stamp.publisher);
        let next = self.next.get_mut(number);
        let Some(next) = next.filter(|next| **next != NOT_OPEN) else {
            return;
        };
        if broadcast < *next {
            self.duplicated += 1;
            return;
        }
        self.skipped += u64::from(broadcast - *next);
        *next = broadcast + 1;
        let latency_ns = received_ns.saturating_sub(stamp.intended_ns);
        self.latency.record(latency_ns);
        self.arrivals_of(broadcast as usize).note(Arrivals {
            count: 1,
            last_ns: received_ns,
        });
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        self.next.extend(other.next);
        for (broadcast, arrivals) in other.arrivals.into_iter().enumerate() {
            self.arrivals_of(broadcast).note(arrivals);
        }
        self.latency.merge(&other.latency);
        self.skipped += other.skipped;
        self.duplicated += other.duplicated;
        self.foreign += other.foreign;
    }

    /// Who received the broadcast of this number.
    pub fn arrivals(&self, broadcast: usize) -> Arrivals {
        self.arrivals.get(broadcast).copied().unwrap_or_default()
    }

    /// Broadcasts that did not arrive, over all connections that are open, once `published` have gone out.
    pub fn lost(&self, published: u32) -> u64 {
        let open = self.next.iter().filter(|next| **next != NOT_OPEN);
        let owed = open.map(|next| u64::from(published.saturating_sub(*next)));
        self.skipped + owed.sum::<u64>()
    }

    fn arrivals_of(&mut self, broadcast: usize) -> &mut Arrivals {
        if self.arrivals.len() <= broadcast {
            self.arrivals.resize(broadcast + 1, Arrivals::default());
        }
        &mut self.arrivals[broadcast]
    }
}

impl Arrivals {
    fn note(&mut self, more: Self) {
        self.count += more.count;
        self.last_ns = self.last_ns.max(more.last_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 7;

    fn tally(connections: usize) -> BroadcastTally {
        let mut tally = BroadcastTally::new(RUN, connections);
        (0..connections).for_each(|number| tally.open(number));
        tally
    }

    fn payload(run: u32, broadcast: u16) -> Vec<u8> {
        let stamp = Stamp {
            run,
            channel: 0,
            publisher: broadcast,
            sequence: 0,
            intended_ns: 1000,
        };
        stamp.encode(0)
    }

    fn receive(tally: &mut BroadcastTally, number: usize, broadcasts: &[u16]) {
        for broadcast in broadcasts {
            tally.receive(number, &payload(RUN, *broadcast), 2000 + number as u64);
        }
    }

    #[test]
    fn what_all_get_once_is_sound() {
        let (mut all, mut other) = (tally(1), tally(2));
        receive(&mut all, 0, &[0, 1]);
        receive(&mut other, 0, &[0, 1]);
        receive(&mut other, 1, &[0, 1]);
        all.merge(other);
        assert_eq!((all.lost(2), all.duplicated, all.foreign), (0, 0, 0));
        let last = Arrivals {
            count: 3,
            last_ns: 2001,
        };
        assert_eq!(all.arrivals(1), last);
        assert_eq!(all.arrivals(2), Arrivals::default());
    }

    #[test]
    fn what_is_missing_counts_wherever_it_is_missing() {
        let mut tally = tally(3);
        receive(&mut tally, 0, &[1]);
        receive(&mut tally, 1, &[0]);
        assert_eq!(tally.lost(2), 1 + 1 + 2);
        tally.close(2);
        assert_eq!(tally.lost(2), 2);
    }

    #[test]
    fn what_comes_twice_or_late_is_duplicated() {
        let mut tally = tally(1);
        receive(&mut tally, 0, &[0, 0, 2, 1]);
        assert_eq!((tally.duplicated, tally.lost(3)), (2, 1));
        assert_eq!(tally.arrivals(0).count, 1);
    }

    #[test]
    fn others_messages_are_told_apart() {
        let mut tally = tally(1);
        tally.receive(0, &payload(RUN + 1, 0), 0);
        tally.receive(0, b"hello", 0);
        assert_eq!((tally.foreign, tally.lost(0)), (2, 0));
        tally.close(0);
        receive(&mut tally, 0, &[0]);
        assert_eq!(tally.arrivals(0).count, 0);
    }
}
