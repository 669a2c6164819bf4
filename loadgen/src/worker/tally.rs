//! What a thread of connections found.

use crate::counters::Causes;
use crate::last::LastReceipts;
use crate::latency::Latency;
use crate::order::SubscriberOrder;
use crate::payload::Stamp;

/// What a thread has to report at the end.
#[derive(Debug, Default)]
pub struct Tally {
    /// TCP and WebSocket handshake.
    pub connect_latency: Latency,
    /// From when a message was meant to be published until it was received, before the run began what it
    /// is for.
    pub delivery_latency: Latency,
    /// The same for the last subscriber of each message; `None` with more than one channel.
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
    /// By connection number, if the run checks its messages; `None` once it has gone on purpose.
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
        if let Some(receipts) = &other.last_receipts {
            self.last_receipts.get_or_insert_default().merge(receipts);
        }
        self.disturbed_latency.merge(&other.disturbed_latency);
        self.reconnect_latency.merge(&other.reconnect_latency);
        self.away.merge(&other.away);
        self.failed.merge(other.failed);
        self.refused.merge(other.refused);
        self.lost.merge(other.lost);
        self.subscribers.extend(other.subscribers);
        self.foreign_messages += other.foreign_messages;
        self.misdelivered_messages += other.misdelivered_messages;
    }

    /// Takes a message of the connection `number`, which belongs to this `run` or not. What was meant to
    /// go out before `start_ns` is told apart.
    pub fn check(
        &mut self,
        (run, start_ns): (u32, u64),
        number: usize,
        payload: &[u8],
        received_ns: u64,
    ) {
        match Stamp::decode(payload) {
            Some(stamp) => self.check_stamp(&stamp, (run, start_ns), number, received_ns),
            None => self.foreign_messages += 1,
        }
    }

    /// The same for a message of this program that came in whatever form.
    pub fn check_stamp(
        &mut self,
        stamp: &Stamp,
        (run, start_ns): (u32, u64),
        number: usize,
        received_ns: u64,
    ) {
        if stamp.run != run {
            self.foreign_messages += 1;
            return;
        }
        let Some(Some(subscriber)) = self.subscribers.get_mut(number) else {
            // It was away: nobody can say what it must get.
            return;
        };
        if stamp.channel != subscriber.channel {
            self.misdelivered_messages += 1;
        } else if subscriber.order.receive(stamp.publisher, stamp.sequence) {
            let latency_ns = received_ns.saturating_sub(stamp.intended_ns);
            if stamp.intended_ns >= start_ns {
                self.disturbed_latency.record(latency_ns);
                return;
            }
            self.delivery_latency.record(latency_ns);
            if let Some(receipts) = &mut self.last_receipts {
                receipts.note(stamp.publisher, stamp.sequence, latency_ns);
            }
        } else {
            self.foreign_messages += 1;
        }
    }
}
