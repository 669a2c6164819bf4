//! Channels that have subscribers on this shard.

use std::sync::Arc;

use bytes::Bytes;
use thin_vec::ThinVec;

use crate::proto::centrifuge::filter::Filter;

use super::names::Names;
use super::{Batch, EncodingsInUse, Key, Position, Selection, Slab, Subscribers};

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
    /// The number of subscribers has changed since the owner was told.
    pub has_news: bool,
    /// What is published is kept, so that places in it mean something.
    pub is_stream: bool,
    /// Up to where everything was delivered here.
    pub position: Position,
    /// The newest publication's data, while somebody gets differences to it.
    pub base: Option<Box<Bytes>>,
    /// What subscribers want of it: each filter once, with how many use it. Numbers begin with 1.
    pub filters: ThinVec<(Filter, u32)>,
}

impl LocalChannel {
    /// One more subscriber wants what passes `filter`: its number. `None` if there are too many.
    pub fn claim_filter(&mut self, filter: &Filter) -> Option<u8> {
        let same = self.filters.iter().position(|(known, _)| known == filter);
        let unused = || self.filters.iter().position(|(_, users)| *users == 0);
        let place = match same.or_else(unused) {
            Some(place) => place,
            None if self.filters.len() == Selection::FILTERS_MAX => return None,
            None => {
                self.filters.push((filter.clone(), 0));
                self.filters.len() - 1
            }
        };
        let entry = self.filters.get_mut(place)?;
        if entry.1 == 0 {
            entry.0 = filter.clone();
        }
        entry.1 += 1;
        u8::try_from(place + 1).ok()
    }

    /// One subscriber less wants what passes the filter of this number.
    pub fn release_filter(&mut self, number: u8) {
        if let Some((_, users)) = self.filters.get_mut(usize::from(number).wrapping_sub(1)) {
            *users = users.saturating_sub(1);
        }
        if self.filters.iter().all(|(_, users)| *users == 0) {
            self.filters = ThinVec::new();
        }
    }
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
    pub fn add(&mut self, name: &Arc<str>, owner: u16, is_stream: bool) -> Key {
        let key = self.table.insert(LocalChannel {
            name: Arc::clone(name),
            owner,
            interest: Interest::Asked,
            subscribers: Subscribers::default(),
            encodings: EncodingsInUse::default(),
            joining: ThinVec::new(),
            waiting: None,
            passing: false,
            has_news: false,
            is_stream,
            position: Position::UNKNOWN,
            base: None,
            filters: ThinVec::new(),
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
