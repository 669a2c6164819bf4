//! The shards that have subscribers of a channel.

use super::Key;

/// A shard that has subscribers of a channel.
#[derive(Clone, Copy, Debug)]
pub struct InterestedShard {
    /// The shard.
    pub shard: u16,
    /// The channel's place in that shard's table of local channels.
    pub local: Key,
    /// How many subscribers it has, as far as it said.
    pub subscribers: u32,
    /// Bytes delivered to that shard whose fan-out pass has not begun.
    pub(super) behind_bytes: u32,
}

/// A list of them that needs no memory of its own for one.
#[derive(Debug, Default)]
pub(super) enum Interested {
    #[default]
    Nobody,
    One(InterestedShard),
    Many(Box<[InterestedShard]>),
}

impl Interested {
    pub fn as_slice(&self) -> &[InterestedShard] {
        match self {
            Self::Nobody => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [InterestedShard] {
        match self {
            Self::Nobody => &mut [],
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    /// The entry of the subscribers that `shard` has at `local`.
    pub fn find_mut(&mut self, shard: u16, local: Key) -> Option<&mut InterestedShard> {
        let mut all = self.as_mut_slice().iter_mut();
        all.find(|interest| (interest.shard, interest.local) == (shard, local))
    }

    /// Adds a shard, in place of what was known of it.
    pub fn add(&mut self, shard: u16, local: Key) {
        let new = InterestedShard {
            shard,
            local,
            subscribers: 0,
            behind_bytes: 0,
        };
        let others = self.without(|interest| interest.shard == shard);
        *self = others.chain([new]).collect();
    }

    /// Takes out the subscribers that `shard` had at `local`.
    pub fn remove(&mut self, shard: u16, local: Key) {
        *self = self
            .without(|interest| (interest.shard, interest.local) == (shard, local))
            .collect();
    }

    fn without(
        &self,
        is_gone: impl Fn(&InterestedShard) -> bool,
    ) -> impl Iterator<Item = InterestedShard> {
        let all = self.as_slice().iter().copied();
        all.filter(move |interest| !is_gone(interest))
    }
}

impl FromIterator<InterestedShard> for Interested {
    fn from_iter<I: IntoIterator<Item = InterestedShard>>(all: I) -> Self {
        let mut all = all.into_iter();
        match (all.next(), all.next()) {
            (None, _) => Self::Nobody,
            (Some(one), None) => Self::One(one),
            (Some(one), Some(two)) => Self::Many([one, two].into_iter().chain(all).collect()),
        }
    }
}
