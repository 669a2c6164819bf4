//! Devices on a channel: a connection that takes the place of another neither comes nor goes.
//!
//! Others see a device under the id of the client it came with until it has left, whichever clients it is meanwhile:
//! who keeps a list by joins and leaves and who asks for the presence find the same.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ClientInfo, DeviceId};

/// The devices on one channel.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    devices: HashMap<DeviceId, Attendant>,
}

/// A device on the channel.
#[derive(Debug)]
struct Attendant {
    /// As others see it.
    shown: Arc<ClientInfo>,
    /// The id of the client it is now.
    client: Arc<ClientInfo>,
    /// It is gone, and has until then to come back; in seconds of the shard's clock.
    until_s: Option<u32>,
}

/// What others are shown of a client that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrival {
    /// As they see it.
    pub shown: Arc<ClientInfo>,
    /// They have not seen it before.
    pub is_new: bool,
}

impl Attendance {
    /// True if there is no device.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// A client came, by `device`.
    pub fn arrive(&mut self, device: DeviceId, client: &Arc<ClientInfo>) -> Arrival {
        let before = self.devices.remove(&device);
        let is_new = before.is_none();
        let shown = match before {
            None => Arc::clone(client),
            Some(before) => Arc::new(ClientInfo {
                client: before.shown.client.clone(),
                ..ClientInfo::clone(client)
            }),
        };
        let attendant = Attendant {
            shown: Arc::clone(&shown),
            client: Arc::clone(client),
            until_s: None,
        };
        self.devices.insert(device, attendant);
        Arrival { shown, is_new }
    }

    /// A client left; what others saw of it. `None` if the device is another client by now, or has left: then it is
    /// as if nothing had happened. With `until_s` it stays until then, or until it [`Self::arrive`]s again.
    pub fn depart(
        &mut self,
        device: DeviceId,
        client: &str,
        until_s: Option<u32>,
    ) -> Option<Arc<ClientInfo>> {
        let attendant = self.devices.get_mut(&device)?;
        if *attendant.client.client != *client {
            return None;
        }
        let shown = Arc::clone(&attendant.shown);
        match until_s {
            Some(_) => attendant.until_s = until_s,
            None => {
                self.devices.remove(&device);
            }
        }
        Some(shown)
    }

    /// The time that a device had to come back until `until_s` is over. True if it has not, and has left with that.
    pub fn expire(&mut self, device: DeviceId, until_s: u32) -> bool {
        let attendant = self.devices.get(&device);
        let is_gone = attendant.is_some_and(|attendant| attendant.until_s == Some(until_s));
        is_gone && self.devices.remove(&device).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use proptest::prelude::*;

    use super::*;
    use crate::hub::DeviceName;

    fn client(id: u32) -> Arc<ClientInfo> {
        Arc::new(ClientInfo {
            user: "ada".into(),
            client: id.to_string().into(),
            ..ClientInfo::default()
        })
    }

    fn device() -> DeviceId {
        DeviceId::new(&RandomState::new(), "ada", DeviceName::Token("phone"), "")
    }

    #[test]
    fn one_that_takes_over_is_shown_as_the_one_before() {
        let (mut attendance, device) = (Attendance::default(), device());
        assert!(attendance.arrive(device, &client(1)).is_new);
        let arrival = attendance.arrive(device, &client(2));
        assert_eq!((&*arrival.shown.client, arrival.is_new), ("1", false));
        assert_eq!(attendance.depart(device, "1", None), None);
        let shown = attendance.depart(device, "2", None).unwrap();
        assert_eq!(&*shown.client, "1");
        assert!(attendance.is_empty());
    }

    #[test]
    fn one_that_comes_back_in_time_was_never_away() {
        let (mut attendance, device) = (Attendance::default(), device());
        attendance.arrive(device, &client(1));
        assert!(attendance.depart(device, "1", Some(10)).is_some());
        assert!(!attendance.arrive(device, &client(2)).is_new);
        assert!(!attendance.expire(device, 10));
        assert!(attendance.depart(device, "2", Some(20)).is_some());
        assert!(attendance.expire(device, 20));
        assert!(attendance.arrive(device, &client(3)).is_new);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A connection comes to the channel that nobody had before.
        Come,
        /// One of those that came leaves, for good or for a time.
        Leave {
            client: u32,
            for_s: Option<u32>,
        },
        Pass,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let leave = (0..8u32, prop::option::of(1..4u32));
        let step = prop_oneof![
            Just(Step::Come),
            leave.prop_map(|(client, for_s)| Step::Leave { client, for_s }),
            Just(Step::Pass),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// Against a device of which is known which connection is its newest, and until when it is waited for.
        #[test]
        fn joins_and_leaves_take_turns_and_name_the_same_client(steps in steps()) {
            let (mut attendance, device) = (Attendance::default(), device());
            let (mut came, mut now_s) = (0, 0);
            let mut newest = None;
            let mut away_until_s = None;
            let mut timers = Vec::new();
            let mut seen: Option<String> = None;
            for step in steps {
                match step {
                    Step::Come => {
                        let arrival = attendance.arrive(device, &client(came));
                        prop_assert_eq!(arrival.is_new, seen.is_none());
                        let shown = arrival.shown.client.to_string();
                        prop_assert_eq!(&shown, seen.get_or_insert(came.to_string()));
                        newest = Some(came);
                        away_until_s = None;
                        came += 1;
                    }
                    Step::Leave { client, for_s } => {
                        let until_s = for_s.map(|for_s| now_s + for_s);
                        let left = attendance.depart(device, &client.to_string(), until_s);
                        let is_newest = newest == Some(client);
                        prop_assert_eq!(left.is_some(), is_newest);
                        if !is_newest {
                            continue;
                        }
                        prop_assert_eq!(left.map(|shown| shown.client.to_string()), seen.clone());
                        away_until_s = until_s;
                        timers.extend(until_s);
                        if until_s.is_none() {
                            (newest, seen) = (None, None);
                        }
                    }
                    Step::Pass => {
                        now_s += 1;
                        for until_s in timers.extract_if(.., |until_s| *until_s <= now_s) {
                            let is_gone = away_until_s == Some(until_s);
                            prop_assert_eq!(attendance.expire(device, until_s), is_gone);
                            if is_gone {
                                (newest, seen, away_until_s) = (None, None, None);
                            }
                        }
                    }
                }
                prop_assert_eq!(attendance.is_empty(), seen.is_none());
            }
        }
    }
}
