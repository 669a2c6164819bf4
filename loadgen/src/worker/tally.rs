//! What a thread of connections found.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::agents::ClockOffset;
use crate::counters::Causes;
use crate::last::LastReceipts;
use crate::latency::Latency;
use crate::order::SubscriberOrder;
use crate::payload::Stamp;
use crate::report::AgentFigures;

use super::{BroadcastTally, PositionTally};

/// What a thread has to report at the end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// TCP and WebSocket handshake.
    pub connect_latency: Latency,
    /// From when a message was meant to be published until it was received, before the run began what it
    /// is for.
    pub delivery_latency: Latency,
    /// The same for the last subscriber of each message; `None` with more than one channel, or from agents.
    #[serde(skip)]
    pub last_receipts: Option<LastReceipts>,
    /// The same as `delivery_latency` since then.
    pub disturbed_latency: Latency,
    /// TCP and WebSocket handshake of connections made again.
    pub reconnect_latency: Latency,
    /// From when a connection had gone until it was made again.
    pub away: Latency,
    /// Connections that could not be made.
    pub failed: Causes,
    /// Attempts to make a connection again that failed.
    pub refused: Causes,
    /// Connections that ended before they should.
    pub lost: Causes,
    /// By connection and subscription, if the run checks its messages; `None` once it has gone on purpose or
    /// knows that it missed something. Empty at the end.
    #[serde(skip)]
    pub subscribers: Vec<Option<Subscriber>>,
    /// Those at the end; other hosts send them apart.
    #[serde(skip)]
    pub alike: Vec<Alike>,
    /// What they received of broadcasts, if the run checks those.
    #[serde(skip)]
    pub broadcasts: BroadcastTally,
    /// What they found by offsets and epochs.
    pub positions: PositionTally,
    /// Messages that are not of this run.
    pub foreign_messages: u64,
    /// Messages of this run on the wrong channel.
    pub misdelivered_messages: u64,
    /// Threads that report here.
    pub threads: usize,
    /// Each agent's part, if there are agents.
    #[serde(skip)]
    pub agents: Vec<AgentFigures>,
    /// CPU time of the agents.
    #[serde(skip)]
    pub agents_cpu_seconds: f64,
}

/// A subscription that checks what it receives.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subscriber {
    /// Its channel's number.
    pub channel: u32,
    /// Its connection lives.
    pub live: bool,
    /// What it received.
    pub order: SubscriberOrder,
}

/// Subscribers that received exactly the same: mostly all of a channel.
#[derive(Debug, Serialize, Deserialize)]
pub struct Alike {
    /// Any of them.
    pub subscriber: Subscriber,
    /// How many they are.
    pub count: u64,
}

/// What a message is held against.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// The number of this run.
    pub run: u32,
    /// What was meant to go out before this is told apart.
    pub start_ns: u64,
    /// The clock that stamps were made by.
    pub publishers_clock: ClockOffset,
}

impl Tally {
    /// Ends the check: of subscribers that are alike only one is kept.
    pub fn group_alike(&mut self) {
        let mut counts: HashMap<Subscriber, u64> = HashMap::new();
        for subscriber in std::mem::take(&mut self.subscribers).into_iter().flatten() {
            *counts.entry(subscriber).or_default() += 1;
        }
        let groups = counts.into_iter();
        self.alike = groups
            .map(|(subscriber, count)| Alike { subscriber, count })
            .collect();
        self.threads = 1;
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        self.connect_latency.merge(&other.connect_latency);
        self.delivery_latency.merge(&other.delivery_latency);
        if let Some(receipts) = &other.last_receipts {
            self.last_receipts.get_or_insert_default().merge(receipts);
        }
        self.disturbed_latency.merge(&other.disturbed_latency);
        self.reconnect_latency.merge(&other.reconnect_latency);
        self.away.merge(&other.away);
        self.failed.merge(other.failed);
        self.refused.merge(other.refused);
        self.lost.merge(other.lost);
        self.alike.extend(other.alike);
        self.broadcasts.merge(other.broadcasts);
        self.positions.merge(other.positions);
        self.foreign_messages += other.foreign_messages;
        self.misdelivered_messages += other.misdelivered_messages;
        self.threads += other.threads;
        self.agents.extend(other.agents);
        self.agents_cpu_seconds += other.agents_cpu_seconds;
    }

    /// Takes a message of the subscription `number`, which belongs to this run or not.
    pub fn check(
        &mut self,
        reference: &Reference,
        number: usize,
        payload: &[u8],
        received_ns: u64,
    ) {
        match Stamp::decode(payload) {
            Some(stamp) => self.check_stamp(&stamp, reference, number, received_ns),
            None => self.foreign_messages += 1,
        }
    }

    /// The same for a message of this program that came in whatever form.
    pub fn check_stamp(
        &mut self,
        stamp: &Stamp,
        reference: &Reference,
        number: usize,
        received_ns: u64,
    ) {
        if stamp.run != reference.run {
            self.foreign_messages += 1;
            return;
        }
        if self.check_order(stamp, number) {
            let intended_ns = reference.publishers_clock.here(stamp.intended_ns);
            let latency_ns = received_ns.saturating_sub(intended_ns);
            if intended_ns >= reference.start_ns {
                self.disturbed_latency.record(latency_ns);
                return;
            }
            self.delivery_latency.record(latency_ns);
            if let Some(receipts) = &mut self.last_receipts {
                receipts.note(stamp.publisher, stamp.sequence, latency_ns);
            }
        }
    }

    /// Takes a message that a subscription recovered: how long that took says nothing.
    pub fn check_recovered(&mut self, payload: &[u8], run: u32, number: usize) {
        match Stamp::decode(payload).filter(|stamp| stamp.run == run) {
            Some(stamp) => drop(self.check_order(&stamp, number)),
            None => self.foreign_messages += 1,
        }
    }

    /// True if the message is one that the subscription is to get.
    fn check_order(&mut self, stamp: &Stamp, number: usize) -> bool {
        let Some(Some(subscriber)) = self.subscribers.get_mut(number) else {
            // It was away: nobody can say what it must get.
            return false;
        };
        if stamp.channel != subscriber.channel {
            self.misdelivered_messages += 1;
            return false;
        }
        let is_known = subscriber.order.receive(stamp.publisher, stamp.sequence);
        self.foreign_messages += u64::from(!is_known);
        is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_are_grouped_by_what_they_received() {
        let subscriber = |channel, arrivals: &[u32]| {
            let mut order = SubscriberOrder::new(1);
            for sequence in arrivals {
                order.receive(0, *sequence);
            }
            Some(Subscriber {
                channel,
                live: true,
                order,
            })
        };
        let all: &[u32] = &[0, 1];
        let mut tally = Tally {
            subscribers: vec![
                subscriber(0, all),
                subscriber(1, all),
                None,
                subscriber(0, all),
                subscriber(0, &[1]),
            ],
            ..Tally::default()
        };
        tally.group_alike();
        let mut counts: Vec<_> = tally
            .alike
            .iter()
            .map(|alike| (alike.subscriber.channel, alike.count))
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, [(0, 1), (0, 2), (1, 1)]);
        assert!(tally.subscribers.is_empty());
    }

    #[test]
    fn stamps_are_read_by_the_publishers_clock() {
        let mut tally = Tally {
            subscribers: vec![Some(Subscriber {
                channel: 0,
                live: true,
                order: SubscriberOrder::new(1),
            })],
            ..Tally::default()
        };
        let reference = Reference {
            run: 7,
            start_ns: 50_000,
            publishers_clock: ClockOffset {
                ahead_ns: 1_000_000_000,
                error_ns: 5,
            },
        };
        for (sequence, intended_ns) in [(0, 1_000_040_000), (1, 1_000_060_000)] {
            let stamp = Stamp {
                run: 7,
                channel: 0,
                publisher: 0,
                sequence,
                intended_ns,
            };
            tally.check_stamp(&stamp, &reference, 0, 70_000);
        }
        let longest_us = |latency: &Latency| latency.summary().unwrap().max_us.round();
        assert_eq!(longest_us(&tally.delivery_latency), 30.0);
        assert_eq!(longest_us(&tally.disturbed_latency), 10.0);
    }
}
