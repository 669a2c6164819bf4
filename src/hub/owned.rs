//! Channels this shard owns: offsets, epochs, and which shards have subscribers.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Epoch, Key, Slab};

/// Why a publication was not sequenced. It has no offset and nobody will see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The subscribers of this channel on some shard are behind by the channel's whole batch.
    ChannelFull,
    /// The inbox of a shard that must hear of it is full.
    ShardBusy,
    /// There are as many channels as there may be.
    TooManyChannels,
}

/// A publication's place, once it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The channel's present run of offsets.
    pub epoch: Epoch,
    /// The publication's offset in it.
    pub offset: u64,
}

/// A shard that has subscribers of a channel.
#[derive(Debug)]
pub struct InterestedShard {
    /// The shard.
    pub shard: u16,
    /// The channel's place in that shard's table of local channels.
    pub local: Key,
    /// Bytes delivered to that shard whose fan-out pass has not begun.
    behind_bytes: u32,
}

/// A channel as its owner sees it.
#[derive(Debug)]
pub struct OwnedChannel {
    name: Arc<str>,
    epoch: Epoch,
    /// Offset of the newest publication; 0 before the first.
    top: u64,
    interested: Vec<InterestedShard>,
    last_used_s: u32,
}

impl OwnedChannel {
    /// Present epoch and newest offset.
    pub fn position(&self) -> Committed {
        Committed {
            epoch: self.epoch,
            offset: self.top,
        }
    }

    /// Shards that have subscribers.
    pub fn interested(&self) -> &[InterestedShard] {
        &self.interested
    }

    /// Whether every interested shard can take `bytes` more. A shard that is behind by nothing takes
    /// one publication of any size.
    pub fn has_room(&self, bytes: u32, batch_bytes: u32) -> bool {
        self.interested.iter().all(|interest| {
            interest.behind_bytes == 0 || interest.behind_bytes.saturating_add(bytes) <= batch_bytes
        })
    }

    /// Gives a publication of `bytes` its offset and counts it against every interested shard.
    pub fn commit(&mut self, bytes: u32, now_s: u32) -> Committed {
        self.top += 1;
        self.last_used_s = now_s;
        for interest in &mut self.interested {
            interest.behind_bytes = interest.behind_bytes.saturating_add(bytes);
        }
        self.position()
    }

    /// Notes that `shard` has subscribers, at `local` in its table.
    pub fn add_interest(&mut self, shard: u16, local: Key, now_s: u32) {
        self.last_used_s = now_s;
        self.interested.retain(|interest| interest.shard != shard);
        self.interested.push(InterestedShard {
            shard,
            local,
            behind_bytes: 0,
        });
    }

    /// Notes that the subscribers `shard` had at `local` are gone. Ignores a `local` that was
    /// replaced by a newer one.
    pub fn remove_interest(&mut self, shard: u16, local: Key, now_s: u32) {
        self.last_used_s = now_s;
        self.interested
            .retain(|interest| (interest.shard, interest.local) != (shard, local));
    }

    /// Notes that `shard` began the fan-out pass of `bytes`.
    pub fn taken(&mut self, shard: u16, local: Key, bytes: u32) {
        let interest = self
            .interested
            .iter_mut()
            .find(|interest| (interest.shard, interest.local) == (shard, local));
        if let Some(interest) = interest {
            interest.behind_bytes = interest.behind_bytes.saturating_sub(bytes);
        }
    }
}

/// The channels of one owner shard.
#[derive(Debug)]
pub struct OwnedChannels {
    table: Slab<OwnedChannel>,
    by_name: HashMap<Arc<str>, Key>,
    limit: usize,
    /// Where [`Self::forget_idle`] goes on.
    sweep: u32,
}

impl OwnedChannels {
    /// No channels yet, and never more than `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            table: Slab::default(),
            by_name: HashMap::new(),
            limit,
            sweep: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The channel called `name`, made with an epoch from `random` if there is none.
    pub fn open(
        &mut self,
        name: &Arc<str>,
        random: impl FnOnce() -> u64,
        now_s: u32,
    ) -> Result<Key, Refused> {
        if let Some(key) = self.by_name.get(name) {
            return Ok(*key);
        }
        if self.table.len() >= self.limit {
            return Err(Refused::TooManyChannels);
        }
        let key = self.table.insert(OwnedChannel {
            name: Arc::clone(name),
            epoch: Epoch::from_random(random()),
            top: 0,
            interested: Vec::new(),
            last_used_s: now_s,
        });
        self.by_name.insert(Arc::clone(name), key);
        Ok(key)
    }

    /// The channel of `key`, unless it was forgotten.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut OwnedChannel> {
        self.table.get_mut(key)
    }

    /// Looks at up to `places` places and forgets channels that nobody subscribes to and nobody used
    /// for `idle_s`. They come back with a new epoch.
    pub fn forget_idle(&mut self, places: u32, idle_s: u32, now_s: u32) {
        for _ in 0..places.min(self.table.places() as u32) {
            self.sweep = (self.sweep + 1) % self.table.places() as u32;
            let Some((key, channel)) = self.table.at_mut(self.sweep) else {
                continue;
            };
            if channel.interested.is_empty() && now_s >= channel.last_used_s.saturating_add(idle_s)
            {
                self.by_name.remove(&channel.name);
                self.table.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Key = Key {
        slot: 3,
        generation: 0,
    };

    fn one_channel() -> (OwnedChannels, Key) {
        let mut channels = OwnedChannels::new(1);
        let key = channels.open(&"news".into(), || 7, 0).unwrap();
        (channels, key)
    }

    #[test]
    fn offsets_go_up_by_one_within_one_epoch() {
        let (mut channels, key) = one_channel();
        let channel = channels.get_mut(key).unwrap();
        let first = channel.commit(1, 0);
        let second = channel.commit(1, 0);
        assert_eq!((first.offset, second.offset), (1, 2));
        assert_eq!(first.epoch, second.epoch);
    }

    #[test]
    fn a_shard_behind_by_a_batch_refuses_more_until_it_began_a_pass() {
        let (mut channels, key) = one_channel();
        let channel = channels.get_mut(key).unwrap();
        channel.add_interest(1, LOCAL, 0);
        assert!(channel.has_room(1000, 100));
        channel.commit(1000, 0);
        assert!(!channel.has_room(1, 100));
        channel.taken(1, LOCAL, 1000);
        assert!(channel.has_room(1, 100));
    }

    #[test]
    fn a_shard_that_left_and_came_back_starts_without_debt() {
        let (mut channels, key) = one_channel();
        let channel = channels.get_mut(key).unwrap();
        channel.add_interest(1, LOCAL, 0);
        channel.commit(100, 0);
        let newer = Key {
            generation: 1,
            ..LOCAL
        };
        channel.remove_interest(1, LOCAL, 0);
        channel.add_interest(1, newer, 0);
        channel.taken(1, LOCAL, 100);
        assert!(channel.has_room(100, 100));
        channel.remove_interest(1, LOCAL, 0);
        assert_eq!(channel.interested().len(), 1);
    }

    #[test]
    fn refuses_one_channel_too_many() {
        let (mut channels, key) = one_channel();
        assert_eq!(channels.open(&"news".into(), || 8, 0), Ok(key));
        let other = channels.open(&"sport".into(), || 8, 0);
        assert_eq!(other, Err(Refused::TooManyChannels));
    }

    #[test]
    fn forgets_a_channel_nobody_uses_and_never_one_with_subscribers() {
        let (mut channels, key) = one_channel();
        channels.forget_idle(1000, 60, 59);
        assert_eq!(channels.len(), 1);
        channels.get_mut(key).unwrap().add_interest(0, LOCAL, 0);
        channels.forget_idle(1000, 60, 100);
        assert_eq!(channels.len(), 1);
        channels
            .get_mut(key)
            .unwrap()
            .remove_interest(0, LOCAL, 100);
        channels.forget_idle(1000, 60, 160);
        assert!(channels.is_empty());
        assert!(channels.open(&"news".into(), || 9, 160).is_ok());
    }
}
