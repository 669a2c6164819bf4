//! What a thread of connections found.

use crate::counters::Causes;
use crate::latency::Latency;
use crate::order::SubscriberOrder;
use crate::payload::Stamp;

/// What a thread has to report at the end.
#[derive(Debug, Default)]
pub struct Tally {
    /// TCP and WebSocket handshake.
    pub connect_latency: Latency,
    /// From when a message was meant to be published until it was received.
    pub delivery_latency: Latency,
    /// Connections that could not be made.
    pub failed: Causes,
    /// Connections that ended before they should.
    pub lost: Causes,
    /// By connection number, if the run checks its messages.
    pub subscribers: Vec<Option<Subscriber>>,
    /// Messages that are not of this run.
    pub foreign_messages: u64,
    /// Messages of this run on the wrong channel.
    pub misdelivered_messages: u64,
}

/// A connection that checks what it receives.
#[derive(Debug)]
pub struct Subscriber {
    /// Its channel's number.
    pub channel: u32,
    /// Its connection lives.
    pub live: bool,
    /// What it received.
    pub order: SubscriberOrder,
}

impl Tally {
    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        self.connect_latency.merge(&other.connect_latency);
        self.delivery_latency.merge(&other.delivery_latency);
        self.failed.merge(other.failed);
        self.lost.merge(other.lost);
        self.subscribers.extend(other.subscribers);
        self.foreign_messages += other.foreign_messages;
        self.misdelivered_messages += other.misdelivered_messages;
    }

    /// Takes a message of the connection `number`, which belongs to this `run` or not.
    pub fn check(&mut self, run: u32, number: usize, payload: &[u8], received_ns: u64) {
        let subscriber = self.subscribers.get_mut(number).and_then(Option::as_mut);
        match (Stamp::decode(payload), subscriber) {
            (Some(stamp), Some(subscriber)) if stamp.run == run => {
                if stamp.channel != subscriber.channel {
                    self.misdelivered_messages += 1;
                } else if subscriber.order.receive(stamp.publisher, stamp.sequence) {
                    self.delivery_latency
                        .record(received_ns.saturating_sub(stamp.intended_ns));
                } else {
                    self.foreign_messages += 1;
                }
            }
            _ => self.foreign_messages += 1,
        }
    }
}
