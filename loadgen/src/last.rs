//! For each message, how long it took until the last subscriber had it.

use crate::latency::Latency;

/// The latest receipt of each message of one channel.
#[derive(Debug, Default)]
pub struct LastReceipts {
    /// By publisher and sequence number, the longest latency so far in nanoseconds.
    longest_ns: Vec<Vec<u64>>,
}

impl LastReceipts {
    /// A subscriber received a message so long after it was meant to go out.
    pub fn note(&mut self, publisher: u16, sequence: u32, latency_ns: u64) {
        let longest_ns = entry(
            entry(&mut self.longest_ns, publisher.into()),
            sequence as usize,
        );
        *longest_ns = latency_ns.max(*longest_ns);
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        for (publisher, longest_ns) in (0..).zip(&other.longest_ns) {
            for (sequence, latency_ns) in (0..).zip(longest_ns) {
                self.note(publisher, sequence, *latency_ns);
            }
        }
    }

    /// The distribution over all messages that somebody received.
    pub fn latency(&self) -> Latency {
        let mut latency = Latency::default();
        let longest_ns = self.longest_ns.iter().flatten();
        for longest_ns in longest_ns.filter(|longest_ns| **longest_ns > 0) {
            latency.record(*longest_ns);
        }
        latency
    }
}

/// The value at `index`, which is made if it is not there.
fn entry<T: Default>(values: &mut Vec<T>, index: usize) -> &mut T {
    if values.len() <= index {
        values.resize_with(index + 1, T::default);
    }
    &mut values[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_subscriber_of_any_thread_counts() {
        let (mut first, mut second) = (LastReceipts::default(), LastReceipts::default());
        first.note(0, 0, 5_000);
        first.note(0, 0, 2_000);
        second.note(0, 0, 4_000);
        second.note(1, 1, 9_000);
        first.merge(&second);
        assert_eq!(first.longest_ns, [vec![5_000], vec![0, 9_000]]);
        assert!(LastReceipts::default().latency().summary().is_none());
    }
}
