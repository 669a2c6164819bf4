//! What a check keeps: every publication with its answer, and everything every subscriber heard, in order.

use std::collections::HashMap;

/// The number of an epoch, which [`Epochs`] gives to its name.
pub type EpochNumber = u32;

/// All that was recorded.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// What publishers sent and were answered.
    pub published: Vec<Published>,
    /// What each subscriber heard.
    pub subscribers: Vec<SubscriberLog>,
}

/// What tells publications of a channel apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Payload {
    /// Who published it.
    pub publisher: u16,
    /// Counts this publisher's publications on this channel from 0.
    pub sequence: u32,
}

/// A publication that the server may have.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Where to.
    pub channel: u32,
    /// What.
    pub payload: Payload,
    /// What the server answered; `None` if nothing: nobody knows what became of it.
    pub acknowledged: Option<(EpochNumber, u64)>,
}

/// A subscriber, over all its connections.
#[derive(Clone, Debug, Default)]
pub struct SubscriberLog {
    /// Its channel.
    pub channel: u32,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// What happens to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is subscribed and has this position.
    Subscribed {
        /// The run of offsets.
        epoch: EpochNumber,
        /// The last publication before those that follow.
        offset: u64,
        /// What it was told about those before.
        resumed: Resumed,
    },
    /// It is subscribed by a protocol without positions.
    Listening,
    /// A publication.
    Delivered {
        /// Where it stands; 0 by a protocol without positions.
        offset: u64,
        /// What it is.
        payload: Payload,
    },
    /// A message that nobody published in this check, or not so.
    Foreign,
    /// The subscription has ended.
    Ended,
}

/// What a subscriber is told about what it may have missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// It did not ask.
    Fresh,
    /// Nothing is missing.
    Whole,
    /// Something may be missing.
    Told,
}

/// Names of runs of offsets, by number.
#[derive(Debug, Default)]
pub struct Epochs(HashMap<String, EpochNumber>);

impl Epochs {
    /// The number of a name, which it has from now on.
    pub fn number(&mut self, name: &str) -> EpochNumber {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        // Far fewer than 2^32 fit in memory.
        let number = self.0.len() as EpochNumber;
        self.0.insert(name.to_owned(), number);
        number
    }
}
