//! Devices: what has one connection at a time, and whose newer connection ends the older one.
//!
//! One shard, the device's owner, says which connection holds it. So of two that come at the same moment exactly one
//! stays: the one whose word reached the owner last.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;

use super::Key;

/// Names a device: a keyed hash, 128 bits long, of whose it is and what it is called. No two have the same, and nobody
/// outside can aim at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId([u64; 2]);

/// What a device is known by.
#[derive(Clone, Copy, Debug, Hash)]
pub enum DeviceName<'a> {
    /// What its user's token says. The client cannot choose it.
    Token(&'a str),
    /// What the client says, which nobody else knows.
    Client(&'a str),
}

impl DeviceId {
    /// The device of `user`, or if that is empty of nobody in particular, that is called `name`. Where a connection is
    /// for one channel only, a device has one connection for each.
    pub fn new(hasher: &impl BuildHasher, user: &str, name: DeviceName<'_>, channel: &str) -> Self {
        let half = |number: u8| hasher.hash_one((number, user, name, channel));
        Self([half(0), half(1)])
    }

    /// The shard that owns it, of `shards`.
    pub fn owner(self, shards: usize) -> u16 {
        let [high, _] = self.0;
        ((u128::from(high) * shards as u128) >> 64) as u16
    }
}

/// A connection that holds a device, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its shard.
    pub shard: u16,
    /// Its session there. Its generation tells it from those before and after it in the same place.
    pub session: Key,
    /// Tells one time that the session takes the device from the next: polls take it again and again.
    pub tag: u32,
}

/// A device as its owner sees it.
#[derive(Debug, Default)]
struct Device {
    holder: Option<Holder>,
    /// Connections that were told to end and of which nobody has said yet that they have.
    ending: u32,
}

/// The devices of one owner shard. There are never more than connections that hold them or end.
#[derive(Debug, Default)]
pub struct Holders {
    devices: HashMap<DeviceId, Device>,
}

impl Holders {
    /// How many devices are held.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// A connection takes a device. The one that held it, which must end: [`Self::ended`] is to be called then.
    pub fn take(&mut self, id: DeviceId, holder: Holder) -> Option<Holder> {
        let device = self.devices.entry(id).or_default();
        let before = device.holder.replace(holder);
        let before = before.filter(|before| *before != holder);
        device.ending += u32::from(before.is_some());
        before
    }

    /// Whether the connections that held a device before have all ended.
    pub fn is_settled(&self, id: DeviceId) -> bool {
        let device = self.devices.get(&id);
        device.is_none_or(|device| device.ending == 0)
    }

    /// One that held a device has ended. If it was the last of them, the one that holds it now.
    pub fn ended(&mut self, id: DeviceId) -> Option<Holder> {
        let Entry::Occupied(mut entry) = self.devices.entry(id) else {
            return None;
        };
        let device = entry.get_mut();
        device.ending = device.ending.saturating_sub(1);
        match (device.ending, device.holder) {
            (0, Some(holder)) => Some(holder),
            (0, None) => {
                entry.remove();
                None
            }
            _ => None,
        }
    }

    /// A connection has ended by itself. It changes nothing if another holds its device by now.
    pub fn give_up(&mut self, id: DeviceId, holder: Holder) {
        let Entry::Occupied(mut entry) = self.devices.entry(id) else {
            return;
        };
        let device = entry.get_mut();
        device.holder = device.holder.filter(|present| *present != holder);
        if device.holder.is_none() && device.ending == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::RandomState;

    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> DeviceId {
        DeviceId([7, name.len() as u64])
    }

    fn holder(slot: u32) -> Holder {
        Holder {
            shard: (slot % 3) as u16,
            session: Key {
                slot,
                generation: 0,
            },
            tag: slot,
        }
    }

    #[test]
    fn a_name_is_one_users_and_one_channels() {
        let hasher = RandomState::new();
        let mut seen = HashSet::new();
        for user in ["", "a", "b"] {
            for channel in ["", "a", "b"] {
                for name in ["a", "b"] {
                    for name in [DeviceName::Token(name), DeviceName::Client(name)] {
                        let id = DeviceId::new(&hasher, user, name, channel);
                        assert!(seen.insert(id));
                        assert!(id.owner(3) < 3);
                        assert_eq!(id, DeviceId::new(&hasher, user, name, channel));
                    }
                }
            }
        }
    }

    #[test]
    fn the_later_one_stays_and_is_told_when_all_others_have_ended() {
        let mut holders = Holders::default();
        assert_eq!(holders.take(id("a"), holder(1)), None);
        assert!(holders.is_settled(id("a")));
        assert_eq!(holders.take(id("a"), holder(2)), Some(holder(1)));
        assert_eq!(holders.take(id("a"), holder(3)), Some(holder(2)));
        assert!(!holders.is_settled(id("a")));
        assert_eq!(holders.ended(id("a")), None);
        assert_eq!(holders.ended(id("a")), Some(holder(3)));
        // What the fenced ones say is late.
        holders.give_up(id("a"), holder(1));
        assert_eq!(holders.len(), 1);
        holders.give_up(id("a"), holder(3));
        assert!(holders.is_empty());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Take(u32),
        /// What is oldest of what was told to end has ended.
        Ended,
        GiveUp(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..6u32).prop_map(Step::Take),
            Just(Step::Ended),
            (0..6u32).prop_map(Step::GiveUp),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn one_connection_holds_a_device_whatever_the_order(steps in steps()) {
            let mut holders = Holders::default();
            let (mut newest, mut ending) = (None, 0);
            for step in steps {
                match step {
                    Step::Take(slot) => {
                        let before = holders.take(id("a"), holder(slot));
                        prop_assert_eq!(before, newest.filter(|newest| *newest != holder(slot)));
                        ending += u32::from(before.is_some());
                        newest = Some(holder(slot));
                    }
                    Step::Ended if ending > 0 => {
                        ending -= 1;
                        let told = holders.ended(id("a"));
                        prop_assert_eq!(told, newest.filter(|_| ending == 0));
                    }
                    Step::Ended => {}
                    Step::GiveUp(slot) => {
                        holders.give_up(id("a"), holder(slot));
                        newest = newest.filter(|newest| *newest != holder(slot));
                    }
                }
                prop_assert_eq!(holders.is_settled(id("a")), ending == 0);
                prop_assert_eq!(holders.is_empty(), newest.is_none() && ending == 0);
            }
        }
    }
}
