//! Channels that have subscribers on this shard.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::proto::centrifuge::filter::Filter;

use super::names::Names;
use super::{
    Backlog, Batch, EncodingsInUse, Frames, Key, Position, Selection, Slab, Subscribers, Visit,
};

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
    /// Up to where everything was delivered here.
    pub position: Position,
    subscribers: Subscribers,
    /// The forms in which they get it.
    pub encodings: EncodingsInUse,
    rare: Option<Box<Rare>>,
    /// Place in the owner's table, once it is known.
    owned: Key,
    /// The shard that sequences it.
    pub owner: u16,
    marks: Marks,
}

// There may be a channel for each connection.
const _: () = assert!(size_of::<LocalChannel>() <= 96);

/// What few channels have, or none for long.
#[derive(Debug, Default)]
struct Rare {
    /// Sessions that become subscribers when the owner answers.
    joining: Vec<Key>,
    /// The newest publication's data, while somebody gets differences to it.
    base: Option<Bytes>,
    /// What subscribers want of it: each filter once, with how many use it. Numbers begin with 1.
    filters: Vec<(Filter, u32)>,
    /// What was published and not sent to everybody.
    batch: Option<Batch>,
}

/// Yes or no, a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Marks(u8);

impl Marks {
    /// The owner delivers here.
    const HEARD: u8 = 1;
    /// The number of subscribers has changed since the owner was told.
    const NEWS: u8 = 2;
    /// What is published is kept, so that places in it mean something.
    const STREAM: u8 = 4;

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    fn set(&mut self, mark: u8, is_set: bool) {
        self.0 = if is_set {
            self.0 | mark
        } else {
            self.0 & !mark
        };
    }
}

impl LocalChannel {
    /// What the owner knows of this shard's subscribers.
    pub fn interest(&self) -> Interest {
        match self.marks.has(Marks::HEARD) {
            true => Interest::Held { owned: self.owned },
            false => Interest::Asked,
        }
    }

    /// The owner delivers here from now on; the channel is at `owned` in its table.
    pub fn set_heard(&mut self, owned: Key) {
        self.owned = owned;
        self.marks.set(Marks::HEARD, true);
    }

    /// Notes whether the owner has yet to hear of a change; whether it had before.
    pub fn replace_news(&mut self, has_news: bool) -> bool {
        let had = self.marks.has(Marks::NEWS);
        self.marks.set(Marks::NEWS, has_news);
        had
    }

    /// Whether what is published is kept, so that places in it mean something.
    pub fn is_stream(&self) -> bool {
        self.marks.has(Marks::STREAM)
    }

    /// Sessions that become subscribers when the owner answers.
    pub fn joining(&self) -> &[Key] {
        self.rare.as_ref().map_or(&[], |rare| &rare.joining)
    }

    /// One more session waits for the owner, or keeps the channel while it waits for something else.
    pub fn add_joining(&mut self, session: Key) {
        self.rare.get_or_insert_default().joining.push(session);
    }

    /// A session does so no more, once.
    pub fn remove_joining(&mut self, session: Key) {
        if let Some(rare) = &mut self.rare
            && let Some(at) = rare.joining.iter().position(|key| *key == session)
        {
            rare.joining.swap_remove(at);
        }
        self.trim();
    }

    /// Sessions that get what is published.
    pub fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// One more session gets what is published from now on. Its position.
    pub fn add_subscriber(&mut self, slot: u32) -> u32 {
        if let Some(batch) = self.batch_mut() {
            batch.joined();
        }
        self.subscribers.add(slot)
    }

    /// The session at `position` gets nothing any more. Returned is the session that is there now, if any.
    pub fn remove_subscriber(&mut self, position: u32) -> Option<u32> {
        if let Some(batch) = self.batch_mut() {
            batch.left(position);
        }
        self.subscribers.remove(position)
    }

    /// Takes what was published and not sent to everybody, to put it back with more; whether there is nothing.
    pub fn lend_batch(&mut self, backlog: Backlog) -> (Batch, bool) {
        let batch = self.rare.as_mut().and_then(|rare| rare.batch.take());
        let is_new = batch.is_none();
        let subscribers = self.subscribers.len();
        let batch = batch.unwrap_or_else(|| Batch::new(backlog, subscribers));
        (batch, is_new)
    }

    /// Puts it back.
    pub fn put_batch(&mut self, batch: Batch) {
        self.rare.get_or_insert_default().batch = Some(batch);
    }

    /// Begins a pass, if there is anything to send: what the owner gets back for it, in bytes.
    pub fn begin_pass(&mut self) -> Option<u32> {
        self.batch_mut().map(Batch::begin_pass)
    }

    /// What the next visits bring.
    pub fn frames(&mut self) -> Option<Rc<Frames>> {
        self.batch_mut().map(Batch::frames)
    }

    /// The next session of the pass, and how much of [`Self::frames`] it has had. `None` ends the pass.
    pub fn visit(&mut self) -> Option<(u32, u32)> {
        let Visit { position, had } = self.batch_mut()?.visit()?;
        Some((self.subscribers.at(position)?, had))
    }

    /// Sessions that are likely to be visited next, up to `most`.
    pub fn next_visits(&self, most: usize) -> &[u32] {
        let batch = self.rare.as_ref().and_then(|rare| rare.batch.as_ref());
        self.subscribers.from(batch.map_or(0, Batch::cursor), most)
    }

    /// A pass is over. If there is nothing for another: what the owner gets back for what came during it, in
    /// bytes.
    pub fn end_pass(&mut self) -> Option<u32> {
        let Some(rare) = &mut self.rare else {
            return Some(0);
        };
        let over = rare.batch.take_if(|batch| batch.is_over());
        let has_more = rare.batch.is_some();
        self.trim();
        (!has_more).then(|| over.map_or(0, |batch| batch.rest()))
    }

    fn batch_mut(&mut self) -> Option<&mut Batch> {
        self.rare.as_mut()?.batch.as_mut()
    }

    /// The newest publication's data, if somebody gets differences to it.
    pub fn base(&self) -> Option<&Bytes> {
        self.rare.as_ref()?.base.as_ref()
    }

    /// Keeps the newest publication's data while somebody gets differences to it.
    pub fn keep_base(&mut self, data: &Bytes) {
        if self.encodings.has_deltas() {
            self.rare.get_or_insert_default().base = Some(data.clone());
        } else if let Some(rare) = &mut self.rare {
            rare.base = None;
            self.trim();
        }
    }

    /// Whether `is_so` of the filter of this number; a filter that is not there lets nothing pass.
    pub fn passes(&self, number: u8, is_so: impl FnOnce(&Filter) -> bool) -> bool {
        let filters = self.rare.as_ref().map_or(&[][..], |rare| &rare.filters);
        let filter = filters.get(usize::from(number).wrapping_sub(1));
        filter.is_some_and(|(filter, _)| is_so(filter))
    }

    fn trim(&mut self) {
        self.rare.take_if(|rare| {
            rare.joining.is_empty()
                && rare.base.is_none()
                && rare.filters.is_empty()
                && rare.batch.is_none()
        });
    }

    /// One more subscriber wants what passes `filter`: its number. `None` if there are too many.
    pub fn claim_filter(&mut self, filter: &Filter) -> Option<u8> {
        let filters = &mut self.rare.get_or_insert_default().filters;
        let same = filters.iter().position(|(known, _)| known == filter);
        let unused = || filters.iter().position(|(_, users)| *users == 0);
        let place = match same.or_else(unused) {
            Some(place) => place,
            None if filters.len() == Selection::FILTERS_MAX => return None,
            None => {
                filters.push((filter.clone(), 0));
                filters.len() - 1
            }
        };
        let (known, users) = filters.get_mut(place)?;
        if *users == 0 {
            *known = filter.clone();
        }
        *users += 1;
        u8::try_from(place + 1).ok()
    }

    /// One subscriber less wants what passes the filter of this number.
    pub fn release_filter(&mut self, number: u8) {
        let Some(rare) = &mut self.rare else {
            return;
        };
        if let Some((_, users)) = rare.filters.get_mut(usize::from(number).wrapping_sub(1)) {
            *users = users.saturating_sub(1);
        }
        if rare.filters.iter().all(|(_, users)| *users == 0) {
            rare.filters = Vec::new();
            self.trim();
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
        let mut marks = Marks::default();
        marks.set(Marks::STREAM, is_stream);
        let key = self.table.insert(LocalChannel {
            name: Arc::clone(name),
            position: Position::UNKNOWN,
            subscribers: Subscribers::default(),
            encodings: EncodingsInUse::default(),
            rare: None,
            owned: Key {
                slot: 0,
                generation: 0,
            },
            owner,
            marks,
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

    /// The same, to read.
    pub fn at(&self, slot: u32) -> Option<&LocalChannel> {
        self.table.at(slot)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &LocalChannel> {
        self.table.keys().filter_map(|key| self.table.get(key))
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
