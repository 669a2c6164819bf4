//! What became of publications whose publisher may ask again.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::{KeyState, Position};

/// How long a key is remembered, in seconds.
const TTL_S: u32 = 300;

/// How much may be remembered; the oldest go first.
#[derive(Clone, Copy, Debug)]
pub struct IdempotencyLimits {
    /// Keys.
    pub keys: usize,
    /// Memory for all of them, in bytes.
    pub bytes: usize,
}

/// The positions of recent publications by channel and idempotency key, of the channels of one owner
/// shard. A key is remembered for five minutes from its first use.
#[derive(Debug)]
pub struct IdempotencyKeys {
    limits: IdempotencyLimits,
    /// Oldest first.
    known: VecDeque<Known>,
    /// The number of `known`'s first entry; it wraps around.
    first: u32,
    /// Numbers of entries by the hash of channel and key.
    numbers: HashTable<u32>,
    hasher: RandomState,
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    hash: u64,
    /// The channel's name, and the key behind it.
    text: Box<str>,
    channel_bytes: u32,
    expires_s: u32,
    position: Position,
}

impl Known {
    fn is(&self, channel: &str, key: &str) -> bool {
        let name = self.text.get(..self.channel_bytes as usize);
        name == Some(channel) && self.text.get(channel.len()..) == Some(key)
    }

    /// What it takes, with its number's place.
    fn bytes(&self) -> usize {
        size_of::<Self>() + 16 + self.text.len()
    }
}

impl IdempotencyKeys {
    /// Nothing remembered yet.
    pub fn new(limits: IdempotencyLimits) -> Self {
        Self {
            limits,
            known: VecDeque::new(),
            first: 0,
            numbers: HashTable::new(),
            hasher: RandomState::new(),
            bytes: 0,
        }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The position of the publication that came with `key` before.
    pub fn find(&self, channel: &str, key: &str, now_s: u32) -> Option<Position> {
        let hash = self.hasher.hash_one((channel, key));
        let known = self.known_at(*self.numbers.find(hash, |number| {
            self.known_at(*number)
                .is_some_and(|known| known.is(channel, key))
        })?)?;
        (now_s < known.expires_s).then_some(known.position)
    }

    /// Remembers what became of the publication that came with `key`.
    pub fn remember(&mut self, channel: &str, key: &str, position: Position, now_s: u32) {
        self.remember_for(channel, key, position, TTL_S, now_s);
    }

    /// What must outlive a restart, oldest first.
    pub fn export(&self, now_s: u32) -> impl Iterator<Item = KeyState> {
        let valid = self.known.iter().filter(move |k| now_s < k.expires_s);
        valid.filter_map(move |known| {
            let (channel, key) = known.text.split_at_checked(known.channel_bytes as usize)?;
            Some(KeyState {
                channel: channel.to_owned(),
                key: key.to_owned(),
                position: known.position,
                remembered_s: known.expires_s - now_s,
            })
        })
    }

    /// Takes over a key that was exported `away_s` seconds ago, unless it is forgotten by now. The oldest
    /// must come first.
    pub fn import(&mut self, state: &KeyState, away_s: u32, now_s: u32) {
        let left_s = state.remembered_s.min(TTL_S).saturating_sub(away_s);
        if left_s > 0 {
            self.remember_for(&state.channel, &state.key, state.position, left_s, now_s);
        }
    }

    fn remember_for(
        &mut self,
        channel: &str,
        key: &str,
        position: Position,
        ttl_s: u32,
        now_s: u32,
    ) {
        self.forget_expired(now_s);
        if self.find(channel, key, now_s).is_some() {
            return;
        }
        let known = Known {
            hash: self.hasher.hash_one((channel, key)),
            text: [channel, key].concat().into(),
            channel_bytes: channel.len() as u32,
            expires_s: now_s.saturating_add(ttl_s),
            position,
        };
        if self.limits.keys == 0 || known.bytes() > self.limits.bytes {
            return;
        }
        while self.len() >= self.limits.keys || self.bytes + known.bytes() > self.limits.bytes {
            self.forget_oldest();
        }
        self.push(known);
    }

    /// Forgets keys that were remembered long enough. Their number is bounded by what was remembered.
    pub fn forget_expired(&mut self, now_s: u32) {
        while self.known.front().is_some_and(|k| now_s >= k.expires_s) {
            self.forget_oldest();
        }
        if self.known.is_empty() && self.known.capacity() > 64 {
            self.known = VecDeque::new();
            self.numbers = HashTable::new();
        }
    }

    fn push(&mut self, known: Known) {
        let number = self.first.wrapping_add(self.len() as u32);
        let (first, queue) = (self.first, &self.known);
        self.numbers.insert_unique(known.hash, number, |number| {
            let known = queue.get(number.wrapping_sub(first) as usize);
            known.map_or(0, |known| known.hash)
        });
        self.bytes += known.bytes();
        self.known.push_back(known);
    }

    fn forget_oldest(&mut self) {
        let Some(known) = self.known.pop_front() else {
            return;
        };
        self.bytes -= known.bytes();
        let first = self.first;
        if let Ok(entry) = self.numbers.find_entry(known.hash, |n| *n == first) {
            entry.remove();
        }
        self.first = first.wrapping_add(1);
    }

    fn known_at(&self, number: u32) -> Option<&Known> {
        self.known.get(number.wrapping_sub(self.first) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Epoch;
    use proptest::prelude::*;

    const LIMITS: IdempotencyLimits = IdempotencyLimits {
        keys: 8,
        bytes: 600,
    };

    fn position(offset: u64) -> Position {
        let epoch = Epoch::from_random(1);
        Position { epoch, offset }
    }

    #[test]
    fn channel_and_key_are_not_confused() {
        let mut keys = IdempotencyKeys::new(LIMITS);
        keys.remember("ab", "c", position(1), 0);
        assert_eq!(keys.find("a", "bc", 0), None);
        assert_eq!(keys.find("ab", "c", 0), Some(position(1)));
    }

    #[test]
    fn the_first_answer_stands_for_five_minutes() {
        let mut keys = IdempotencyKeys::new(LIMITS);
        keys.remember("a", "k", position(1), 0);
        keys.remember("a", "k", position(2), 299);
        assert_eq!(keys.find("a", "k", 299), Some(position(1)));
        assert_eq!(keys.find("a", "k", 300), None);
        keys.remember("a", "k", position(3), 300);
        assert_eq!(keys.find("a", "k", 300), Some(position(3)));
        keys.forget_expired(600);
        assert!(keys.is_empty());
    }

    #[test]
    fn a_key_outlives_a_restart_for_the_rest_of_its_time() {
        let mut before = IdempotencyKeys::new(LIMITS);
        before.remember("a", "k", position(1), 0);
        before.remember("a", "l", position(2), 100);
        let mut after = IdempotencyKeys::new(LIMITS);
        for state in before.export(250) {
            after.import(&state, 50, 10);
        }
        assert_eq!(after.find("a", "k", 10), None);
        assert_eq!(after.find("a", "l", 109), Some(position(2)));
        assert_eq!(after.find("a", "l", 110), None);
    }

    #[test]
    fn what_would_not_fit_is_not_remembered() {
        let mut keys = IdempotencyKeys::new(LIMITS);
        keys.remember("a", "k", position(1), 0);
        keys.remember("a", &"k".repeat(600), position(2), 0);
        assert_eq!(keys.len(), 1);
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            first: u32,
            steps in prop::collection::vec((0u8..14, 0usize..60, 0u32..40, any::<bool>()), 1..200),
        ) {
            let mut keys = IdempotencyKeys { first, ..IdempotencyKeys::new(LIMITS) };
            let mut model: VecDeque<(String, u64, u32)> = VecDeque::new();
            let bytes = |model: &VecDeque<(String, u64, u32)>| -> usize {
                model.iter().map(|(text, ..)| size_of::<Known>() + 16 + text.len()).sum()
            };
            let mut now_s = 0;
            for (offset, (name, length, seconds, only_asks)) in steps.into_iter().enumerate() {
                now_s += seconds;
                let key = format!("{name:x}{}", "-".repeat(length / 10));
                let text = format!("channel{key}");
                let known = model.iter().find(|(t, _, at_s)| *t == text && now_s < at_s + TTL_S);
                let expected = known.map(|(_, offset, _)| position(*offset));
                prop_assert_eq!(keys.find("channel", &key, now_s), expected);
                if only_asks || expected.is_some() {
                    continue;
                }
                keys.remember("channel", &key, position(offset as u64), now_s);
                model.retain(|(_, _, at_s)| now_s < at_s + TTL_S);
                model.push_back((text, offset as u64, now_s));
                while model.len() > LIMITS.keys || bytes(&model) > LIMITS.bytes {
                    model.pop_front();
                }
                prop_assert_eq!(keys.len(), model.len());
                prop_assert_eq!(keys.numbers.len(), model.len());
                prop_assert_eq!(keys.bytes, bytes(&model));
            }
        }
    }
}
