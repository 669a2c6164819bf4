//! Channels that have subscribers on this shard.

use std::sync::Arc;

use thin_vec::ThinVec;

use super::names::Names;
use super::{Batch, EncodingsInUse, Key, Slab, Subscribers};

/// What the channel's owner knows of this shard's subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The owner was asked and has not answered: nothing is delivered yet.
    Asked,
    /// The owner delivers what is published; `owned` is the channel's place in its table.
    Held {
        /// Place in the owner's table.
        owned: Key,
    },
}

/// A channel as a shard with subscribers sees it.
#[derive(Debug)]
pub struct LocalChannel {
    /// The channel's name.
    pub name: Arc<str>,
    /// The shard that sequences it.
    pub owner: u16,
    /// Whether the owner delivers to this shard.
    pub interest: Interest,
    /// Sessions that get what is published.
    pub subscribers: Subscribers,
    /// The forms in which they get it.
    pub encodings: EncodingsInUse,
    /// Sessions that become subscribers when the owner answers.
    pub joining: ThinVec<Key>,
    /// What was published and not begun to be sent.
    pub waiting: Option<Box<Batch>>,
    /// True while a pass runs; the next begins after it.
    pub passing: bool,
}

/// The local channels of one shard.
#[derive(Debug, Default)]
pub struct LocalChannels {
    table: Slab<LocalChannel>,
    names: Names,
}

impl LocalChannels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The key of the channel called `name`.
    pub fn find(&self, name: &str) -> Option<Key> {
        let place = self.names.find(name, |place| name_at(&self.table, place))?;
        self.table.key_at(place)
    }

    /// Adds a channel whose owner has yet to be asked.
    pub fn add(&mut self, name: &Arc<str>, owner: u16) -> Key {
        let key = self.table.insert(LocalChannel {
            name: Arc::clone(name),
            owner,
            interest: Interest::Asked,
            subscribers: Subscribers::default(),
            encodings: EncodingsInUse::default(),
            joining: ThinVec::new(),
            waiting: None,
            passing: false,
        });
        let table = &self.table;
        self.names
            .insert(name, key.slot, |place| name_at(table, place));
        key
    }

    /// The channel of `key`, unless it was removed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut LocalChannel> {
        self.table.get_mut(key)
    }

    /// The channel at a place that a subscriber remembers: it cannot have been removed meanwhile.
    pub fn at_mut(&mut self, slot: u32) -> Option<(Key, &mut LocalChannel)> {
        self.table.at_mut(slot)
    }

    /// Removes a channel that has no subscribers left.
    pub fn remove(&mut self, key: Key) -> Option<LocalChannel> {
        let channel = self.table.remove(key)?;
        self.names.remove(&channel.name, key.slot);
        Some(channel)
    }
}

fn name_at(table: &Slab<LocalChannel>, place: u32) -> &str {
    table.at(place).map_or("", |channel| &channel.name)
}
