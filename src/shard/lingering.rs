//! Clients that are gone from their channels and may come back: until then others see them there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hub::{ClientInfo, DeviceId, Key};

use super::Core;
use super::asks::{Departure, Presence};

/// Clients of one shard's channels that may come back, at most. Any further ones leave at once.
const LINGERING_MAX: usize = 100_000;
/// How long a connection that took over has to subscribe to what the older one was subscribed to, in seconds.
const HANDOVER_S: u32 = 5;
/// Clients that are shown in one channel, at most.
const PRESENCE_CLIENTS_MAX: usize = 100_000;

/// Those clients, by the second at which it is too late.
#[derive(Default)]
pub(super) struct Lingering {
    by_end: BTreeMap<u32, Vec<Absent>>,
    count: usize,
}

/// A client that is gone from a channel.
struct Absent {
    /// The channel in this shard's table.
    owned: Key,
    /// By which it may come back; without one it only seems to go later.
    device: Option<DeviceId>,
    /// As others see it.
    shown: Arc<ClientInfo>,
    is_present: bool,
    is_announced: bool,
}

const _: () = assert!(size_of::<Absent>() <= 48);

impl Lingering {
    fn is_full(&self) -> bool {
        self.count >= LINGERING_MAX
    }

    fn add(&mut self, until_s: u32, absent: Absent) {
        self.by_end.entry(until_s).or_default().push(absent);
        self.count += 1;
    }

    /// One whose time is over, and when that was.
    fn take_due(&mut self, now_s: u32) -> Option<(u32, Absent)> {
        let mut earliest = self.by_end.first_entry()?;
        let until_s = *earliest.key();
        if until_s > now_s {
            return None;
        }
        let absent = earliest.get_mut().pop();
        if earliest.get().is_empty() {
            earliest.remove();
        }
        self.count -= usize::from(absent.is_some());
        Some((until_s, absent?))
    }
}

impl Core {
    /// A client came to a channel, or left it.
    pub(super) fn note_presence(&mut self, presence: Presence) {
        match presence.departure {
            None => self.came(&presence),
            Some(departure) => self.went(presence, departure),
        }
    }

    fn came(&mut self, presence: &Presence) {
        let Some(channel) = self.owned.get_mut(presence.owned) else {
            return;
        };
        let (shown, is_new) = match presence.device {
            Some(device) => {
                let arrival = channel.arrive(device, &presence.info);
                (arrival.shown, arrival.is_new)
            }
            None => (Arc::clone(&presence.info), true),
        };
        if presence.is_present {
            let added = channel.presence_add(Arc::clone(&shown), PRESENCE_CLIENTS_MAX);
            if added.is_err() {
                self.metrics.presence_full.add(1);
            }
        }
        if presence.is_announced && is_new {
            self.announce(presence.owned, &shown, true);
        }
    }

    fn went(&mut self, presence: Presence, departure: Departure) {
        let until_s = self.lingers_until(&presence, departure);
        let owned = presence.owned;
        let Some(channel) = self.owned.get_mut(owned) else {
            return;
        };
        let shown = match presence.device {
            Some(device) => channel.depart(device, &presence.info.client, until_s),
            None => Some(presence.info),
        };
        let Some(shown) = shown else {
            return;
        };
        let absent = Absent {
            owned,
            device: presence.device,
            shown,
            is_present: presence.is_present,
            is_announced: presence.is_announced,
        };
        match until_s {
            Some(until_s) => self.lingering.add(until_s, absent),
            None => self.is_gone(&absent),
        }
    }

    /// Until when a client that left is still shown, on this shard's clock; `None` for not any longer.
    fn lingers_until(&self, presence: &Presence, departure: Departure) -> Option<u32> {
        let channel = self.owned.get(presence.owned)?;
        let options = self
            .shared
            .config
            .channel
            .resolve_or_default(channel.name());
        let grace_s = options.presence_grace_s;
        let stays_s = match (departure, presence.device) {
            (Departure::Left, _) => 0,
            (Departure::HandedOver, Some(_)) => grace_s.max(HANDOVER_S),
            (Departure::Lost | Departure::HandedOver, _) => grace_s,
        };
        // The second that has begun does not count.
        let until_s = self.now_s().saturating_add(stays_s).saturating_add(1);
        (stays_s > 0 && !self.lingering.is_full()).then_some(until_s)
    }

    /// Takes clients out of their channels that did not come back in time, up to `most` of them.
    pub(super) fn end_lingering(&mut self, most: usize) {
        let now_s = self.now_s();
        for _ in 0..most {
            let Some((until_s, absent)) = self.lingering.take_due(now_s) else {
                return;
            };
            let channel = self.owned.get_mut(absent.owned);
            let stayed_away = channel.is_some_and(|channel| match absent.device {
                Some(device) => channel.expire(device, until_s),
                None => true,
            });
            if stayed_away {
                self.is_gone(&absent);
            }
        }
    }

    /// A client has left for good.
    fn is_gone(&mut self, absent: &Absent) {
        let now_s = self.now_s();
        // Earlier clients of a device may have been shown where the last one is not.
        if (absent.is_present || absent.device.is_some())
            && let Some(channel) = self.owned.get_mut(absent.owned)
        {
            channel.presence_remove(&absent.shown.client, now_s);
        }
        if absent.is_announced {
            self.announce(absent.owned, &absent.shown, false);
        }
    }
}
