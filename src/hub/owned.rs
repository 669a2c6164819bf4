//! Channels this shard owns: offsets, epochs, history, presence, and which shards have subscribers.

use std::sync::Arc;

use fastrand::Rng;

use super::attendance::{Arrival, Attendance};
use super::history::History;
use super::interest::Interested;
use super::names::Names;
use super::presence::Presence;
use super::recency::Recency;
use super::{
    ChannelState, ClientInfo, DeviceId, Epoch, Glob, InterestedShard, Key, Position, PresenceFull,
    PresenceStats, Publication, Slab, Stream, StreamOptions,
};

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

/// A channel as its owner sees it.
#[derive(Debug)]
pub struct OwnedChannel {
    name: Arc<str>,
    epoch: Epoch,
    /// Offset of the newest publication; 0 before the first.
    top: u64,
    interested: Interested,
    history: Option<Box<History>>,
    rare: Option<Box<Rare>>,
    last_used_s: u32,
    /// How long epoch and newest offset outlive the last use, at least.
    meta_ttl_s: u32,
}

/// What few channels have.
#[derive(Debug, Default)]
struct Rare {
    presence: Presence,
    attendance: Attendance,
    version: Version,
}

impl Rare {
    /// Whether somebody is there.
    fn is_attended(&self) -> bool {
        !self.presence.is_empty() || !self.attendance.is_empty()
    }
}

/// The last version that a publisher gave a publication; 0 before the first.
#[derive(Debug, Default)]
struct Version {
    number: u64,
    epoch: Box<str>,
}

impl OwnedChannel {
    /// The channel's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Present epoch and newest offset.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.top,
        }
    }

    /// Its publications, as far as they are kept.
    pub fn stream(&self, now_s: u32) -> Stream<'_> {
        Stream::new(self.position(), self.history.as_deref(), now_s)
    }

    /// Shards that have subscribers.
    pub fn interested(&self) -> &[InterestedShard] {
        self.interested.as_slice()
    }

    /// Subscribers on all shards, as far as those said.
    pub fn subscribers(&self) -> u64 {
        let all = self.interested().iter();
        all.map(|interest| u64::from(interest.subscribers)).sum()
    }

    /// Whether every interested shard can take `bytes` more. A shard that is behind by nothing takes
    /// one publication of any size.
    pub fn has_room(&self, bytes: u32, batch_bytes: u32) -> bool {
        self.interested().iter().all(|interest| {
            interest.behind_bytes == 0 || interest.behind_bytes.saturating_add(bytes) <= batch_bytes
        })
    }

    /// Counts a publication of `bytes` outside the stream against every interested shard. It gets no
    /// offset, is not kept, and nobody who missed it will know.
    pub fn commit_outside_stream(&mut self, bytes: u32, now_s: u32) -> Position {
        self.last_used_s = now_s;
        for interest in self.interested.as_mut_slice() {
            interest.behind_bytes = interest.behind_bytes.saturating_add(bytes);
        }
        self.position()
    }

    /// Notes that `shard` has subscribers, at `local` in its table.
    pub fn add_interest(&mut self, shard: u16, local: Key, now_s: u32) {
        self.last_used_s = now_s;
        self.interested.add(shard, local);
    }

    /// Notes that the subscribers `shard` had at `local` are gone. Ignores a `local` that was
    /// replaced by a newer one.
    pub fn remove_interest(&mut self, shard: u16, local: Key, now_s: u32) {
        self.last_used_s = now_s;
        self.interested.remove(shard, local);
    }

    /// Notes how many subscribers `shard` has at `local`.
    pub fn set_subscribers(&mut self, shard: u16, local: Key, subscribers: u32) {
        if let Some(interest) = self.interested.find_mut(shard, local) {
            interest.subscribers = subscribers;
        }
    }

    /// Notes that `shard` began the fan-out pass of `bytes`.
    pub fn taken(&mut self, shard: u16, local: Key, bytes: u32) {
        if let Some(interest) = self.interested.find_mut(shard, local) {
            interest.behind_bytes = interest.behind_bytes.saturating_sub(bytes);
        }
    }

    /// Notes that a client is there, or what is now known of it. True if it is new. No more than
    /// `limit` clients.
    pub fn presence_add(
        &mut self,
        info: Arc<ClientInfo>,
        limit: usize,
    ) -> Result<bool, PresenceFull> {
        self.rare.get_or_insert_default().presence.add(info, limit)
    }

    /// Notes that a client left; what was known of it.
    pub fn presence_remove(&mut self, client: &str, now_s: u32) -> Option<Arc<ClientInfo>> {
        self.last_used_s = now_s;
        let rare = self.rare.as_mut()?;
        let info = rare.presence.remove(client);
        self.trim_rare();
        info
    }

    /// A client came, by `device`: what others are shown of it.
    pub fn arrive(&mut self, device: DeviceId, client: &Arc<ClientInfo>) -> Arrival {
        let rare = self.rare.get_or_insert_default();
        rare.attendance.arrive(device, client)
    }

    /// A client left that came by `device`, or with `until_s` may come back until then: what others saw of it. `None`
    /// if the device is another client by now.
    pub fn depart(
        &mut self,
        device: DeviceId,
        client: &str,
        until_s: Option<u32>,
    ) -> Option<Arc<ClientInfo>> {
        let rare = self.rare.as_mut()?;
        let shown = rare.attendance.depart(device, client, until_s);
        self.trim_rare();
        shown
    }

    /// True if a device did not come back until `until_s`, and has left with that.
    pub fn expire(&mut self, device: DeviceId, until_s: u32) -> bool {
        let rare = self.rare.as_mut();
        let is_gone = rare.is_some_and(|rare| rare.attendance.expire(device, until_s));
        self.trim_rare();
        is_gone
    }

    fn trim_rare(&mut self) {
        let is_needed = |rare: &Rare| rare.is_attended() || rare.version.number > 0;
        if !self.rare.as_deref().is_some_and(is_needed) {
            self.rare = None;
        }
    }

    /// The clients that are there, in no order.
    pub fn presence(&self) -> impl Iterator<Item = &Arc<ClientInfo>> {
        self.rare.iter().flat_map(|rare| rare.presence.iter())
    }

    /// How many clients are there.
    pub fn presence_stats(&self) -> PresenceStats {
        let rare = self.rare.as_ref();
        rare.map(|rare| rare.presence.stats()).unwrap_or_default()
    }

    /// Whether a publication of this version came already, or a newer one. Versions of different
    /// epochs do not compare; the empty epoch stands for any. Version 0 is none.
    pub fn has_version(&self, number: u64, epoch: &str) -> bool {
        let last = self.rare.as_ref().map(|rare| &rare.version);
        number > 0
            && last.is_some_and(|last| {
                (epoch.is_empty() || *epoch == *last.epoch) && number <= last.number
            })
    }

    /// Notes the version of a publication that was just sequenced.
    pub fn note_version(&mut self, number: u64, epoch: &str) {
        if number > 0 {
            let epoch = epoch.into();
            self.rare.get_or_insert_default().version = Version { number, epoch };
        }
    }

    fn history_bytes(&self) -> usize {
        self.history.as_ref().map_or(0, |history| history.bytes())
    }

    /// Whether somebody is there.
    fn is_in_use(&self) -> bool {
        !self.interested().is_empty() || self.rare.as_deref().is_some_and(Rare::is_attended)
    }

    /// Seconds for which the channel is still remembered if nobody uses it.
    fn remembered_s(&self, idle_s: u32, now_s: u32) -> u32 {
        let until_s = self.last_used_s.saturating_add(idle_s.max(self.meta_ttl_s));
        until_s.saturating_sub(now_s)
    }
}

/// How much an owner shard may remember.
#[derive(Clone, Copy, Debug)]
pub struct OwnedLimits {
    /// Channels.
    pub channels: usize,
    /// Memory for the history of all channels, in bytes.
    pub history_bytes: usize,
}

/// The channels of one owner shard.
#[derive(Debug)]
pub struct OwnedChannels {
    table: Slab<OwnedChannel>,
    names: Names,
    limits: OwnedLimits,
    /// Where [`Self::forget_idle`] goes on.
    sweep: u32,
    /// Makes epochs.
    random: Rng,
    /// Channels with a history, by their last publication.
    published: Recency,
    history_bytes: usize,
    evictions: u64,
}

impl OwnedChannels {
    /// No channels yet. Epochs come from `seed`, which must be another at each start.
    pub fn new(limits: OwnedLimits, seed: u64) -> Self {
        Self {
            table: Slab::default(),
            names: Names::default(),
            limits,
            sweep: 0,
            random: Rng::with_seed(seed),
            published: Recency::default(),
            history_bytes: 0,
            evictions: 0,
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

    /// What the history of all channels counts for, in bytes. Never more than its limit.
    pub fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// How many histories were given up for others so far.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The key of the channel called `name`.
    pub fn find(&self, name: &str) -> Option<Key> {
        let place = self.names.find(name, |place| name_at(&self.table, place))?;
        self.table.key_at(place)
    }

    /// The channel called `name`, made with a new epoch if there is none.
    pub fn open(&mut self, name: &Arc<str>, now_s: u32) -> Result<Key, Refused> {
        if let Some(key) = self.find(name) {
            return Ok(key);
        }
        if self.table.len() >= self.limits.channels {
            return Err(Refused::TooManyChannels);
        }
        let epoch = self.new_epoch();
        Ok(self.insert(OwnedChannel {
            name: Arc::clone(name),
            epoch,
            top: 0,
            interested: Interested::default(),
            history: None,
            rare: None,
            last_used_s: now_s,
            meta_ttl_s: 0,
        }))
    }

    /// The channel of `key`, unless it was forgotten.
    pub fn get(&self, key: Key) -> Option<&OwnedChannel> {
        self.table.get(key)
    }

    /// The channel of `key`, unless it was forgotten.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut OwnedChannel> {
        self.table.get_mut(key)
    }

    /// Gives a publication the channel's next offset, counts it as `credit_bytes` against every
    /// interested shard, and keeps it if `options` say so. `None` if there is no such channel.
    ///
    /// Where memory runs out, the histories of the channels that were published to least recently go
    /// first, and then the oldest publications of this one. A publication that would not fit by
    /// itself is not kept: recovery over it fails.
    pub fn commit(
        &mut self,
        key: Key,
        publication: &mut Publication,
        credit_bytes: u32,
        options: &StreamOptions,
        now_s: u32,
    ) -> Option<Position> {
        let channel = self.table.get_mut(key)?;
        channel.commit_outside_stream(credit_bytes, now_s);
        channel.top += 1;
        publication.offset = channel.top;
        let position = channel.position();
        let is_kept = options.keeps_history()
            && History::bytes_of_one(publication) <= self.limits.history_bytes;
        if is_kept {
            channel.meta_ttl_s = options.meta_ttl_s.max(options.ttl_s);
            let before = channel.history_bytes();
            let history = channel.history.get_or_insert_default();
            history.push(publication.clone(), options, now_s);
            self.history_bytes = self.history_bytes + history.bytes() - before;
            self.published.touch(key.slot);
            self.make_room(key.slot, now_s);
        }
        Some(position)
    }

    /// Gives up what was published to a channel; its epoch and newest offset stay.
    pub fn remove_history(&mut self, key: Key) {
        if self.table.get(key).is_some() {
            self.drop_history(key.slot);
        }
    }

    /// Looks at up to `places` places. Gives up histories that expired, and forgets channels that
    /// nobody is on and nobody used for `idle_s`, or for as long as their epoch was promised to be
    /// remembered. They come back with a new epoch.
    pub fn forget_idle(&mut self, places: u32, idle_s: u32, now_s: u32) {
        for _ in 0..places.min(self.places()) {
            self.sweep = (self.sweep + 1) % self.places();
            self.look_at(self.sweep, idle_s, now_s);
        }
    }

    fn look_at(&mut self, place: u32, idle_s: u32, now_s: u32) {
        let Some((key, channel)) = self.table.at_mut(place) else {
            return;
        };
        let is_idle = !channel.is_in_use() && channel.remembered_s(idle_s, now_s) == 0;
        if is_idle
            || channel
                .history
                .as_ref()
                .is_some_and(|h| h.is_expired(now_s))
        {
            self.drop_history(place);
        }
        if is_idle && let Some(channel) = self.table.remove(key) {
            self.names.remove(&channel.name, place);
        }
    }

    /// Places in the table; see [`Self::matching`].
    pub fn places(&self) -> u32 {
        self.table.places() as u32
    }

    /// The channels with subscribers whose names match, among `count` places from `first` on. To see
    /// all, call it until [`Self::places`] is reached; what comes or goes meanwhile may be missed.
    pub fn matching<'a>(
        &'a self,
        glob: &'a Glob,
        first: u32,
        count: u32,
    ) -> impl Iterator<Item = &'a OwnedChannel> {
        let places = first..first.saturating_add(count).min(self.places());
        places
            .filter_map(|place| self.table.at(place))
            .filter(|channel| !channel.interested().is_empty() && glob.matches(&channel.name))
    }

    /// How many channels have subscribers.
    pub fn subscribed(&self) -> usize {
        let channels = (0..self.places()).filter_map(|place| self.table.at(place));
        channels
            .filter(|channel| !channel.interested().is_empty())
            .count()
    }

    /// What must outlive a restart, channel by channel, with its place, from the place `first` on, those
    /// included that were never published to: clients were told their epochs, and would take another for
    /// a gap. They are remembered for `idle_s` at least. Presence does not outlive it: clients come back.
    pub fn export(
        &self,
        first: u32,
        idle_s: u32,
        now_s: u32,
    ) -> impl Iterator<Item = (u32, ChannelState)> {
        let at = |place| Some((place, self.table.at(place)?));
        let channels = (first..self.places()).filter_map(at);
        channels.map(move |(place, channel)| (place, channel.export(idle_s, now_s)))
    }

    /// Takes over a channel that was exported `away_s` seconds ago. False if it was forgotten by now,
    /// is not whole, or there is no room for it, or if the channel is already there.
    pub fn import(&mut self, state: ChannelState, away_s: u32, now_s: u32) -> bool {
        let is_new = self.find(&state.name).is_none();
        if !is_new || self.len() >= self.limits.channels || !state.is_whole() {
            return false;
        }
        let Some(channel) = OwnedChannel::import(state, away_s, now_s) else {
            return false;
        };
        let history_bytes = channel.history_bytes();
        let key = self.insert(channel);
        if history_bytes > 0 {
            self.history_bytes += history_bytes;
            self.published.touch(key.slot);
            self.make_room(key.slot, now_s);
        }
        true
    }

    fn insert(&mut self, channel: OwnedChannel) -> Key {
        let name = Arc::clone(&channel.name);
        let key = self.table.insert(channel);
        let table = &self.table;
        self.names
            .insert(&name, key.slot, |place| name_at(table, place));
        key
    }

    fn new_epoch(&mut self) -> Epoch {
        Epoch::from_random(self.random.u64(..))
    }

    /// Gives up histories, and last the beginning of the one at `place`, until the rest is within the
    /// bound.
    fn make_room(&mut self, place: u32, now_s: u32) {
        while self.history_bytes > self.limits.history_bytes {
            match self.published.oldest() {
                Some(oldest) if oldest != place => self.evict(oldest, now_s),
                _ => return self.shorten(place),
            }
        }
    }

    /// Gives up a history that somebody may still count on. So that nobody takes what is missing for
    /// what never was, the epoch changes; offsets go on.
    fn evict(&mut self, place: u32, now_s: u32) {
        let epoch = self.new_epoch();
        if let Some((_, channel)) = self.table.at_mut(place)
            && channel
                .history
                .as_ref()
                .is_some_and(|h| !h.is_expired(now_s))
        {
            channel.epoch = epoch;
            self.evictions += 1;
        }
        self.drop_history(place);
    }

    fn drop_history(&mut self, place: u32) {
        self.published.remove(place);
        if let Some((_, channel)) = self.table.at_mut(place) {
            self.history_bytes -= channel.history_bytes();
            channel.history = None;
        }
    }

    /// Drops the oldest publications of a channel until the bound holds.
    fn shorten(&mut self, place: u32) {
        let Some((_, channel)) = self.table.at_mut(place) else {
            return;
        };
        let Some(history) = &mut channel.history else {
            return;
        };
        let others = self.history_bytes - history.bytes();
        while others + history.bytes() > self.limits.history_bytes && history.drop_oldest() {}
        self.history_bytes = others + history.bytes();
        if self.history_bytes > self.limits.history_bytes {
            self.drop_history(place);
        }
    }
}

fn name_at(table: &Slab<OwnedChannel>, place: u32) -> &str {
    table.at(place).map_or("", |channel| &channel.name)
}

impl OwnedChannel {
    fn export(&self, idle_s: u32, now_s: u32) -> ChannelState {
        let version = self.rare.as_ref().map(|rare| &rare.version);
        let history = self.history.as_ref();
        ChannelState {
            name: self.name.to_string(),
            position: self.position(),
            remembered_s: self.remembered_s(idle_s, now_s),
            history_ttl_s: history.map_or(0, |history| history.ttl_s(now_s)),
            publications: self.stream(now_s).publications().cloned().collect(),
            version: version.map_or(0, |version| version.number),
            version_epoch: version.map_or_else(Box::default, |version| version.epoch.clone()),
        }
    }

    /// `None` if nothing of it is to be remembered any more.
    fn import(state: ChannelState, away_s: u32, now_s: u32) -> Option<Self> {
        let meta_ttl_s = state.remembered_s.checked_sub(away_s)?;
        let history = state.history_ttl_s.checked_sub(away_s).filter(|s| *s > 0);
        let history = history.filter(|_| !state.publications.is_empty());
        let mut channel = Self {
            name: state.name.into(),
            epoch: state.position.epoch,
            top: state.position.offset,
            interested: Interested::default(),
            history: history.map(|ttl_s| {
                Box::new(History::from_publications(state.publications, ttl_s, now_s))
            }),
            rare: None,
            last_used_s: now_s,
            meta_ttl_s,
        };
        channel.note_version(state.version, &state.version_epoch);
        Some(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Kind;
    use bytes::Bytes;

    const LOCAL: Key = Key {
        slot: 3,
        generation: 0,
    };

    const LIMITS: OwnedLimits = OwnedLimits {
        channels: 1,
        history_bytes: 1 << 20,
    };
    const NO_HISTORY: StreamOptions = StreamOptions {
        size: 0,
        ttl_s: 0,
        meta_ttl_s: 0,
    };

    fn one_channel() -> (OwnedChannels, Key) {
        let mut channels = OwnedChannels::new(LIMITS, 7);
        let key = channels.open(&"news".into(), 0).unwrap();
        (channels, key)
    }

    fn text(data: &str) -> Publication {
        Publication::new(Kind::Text, Bytes::copy_from_slice(data.as_bytes()), 0)
    }

    fn commit(channels: &mut OwnedChannels, key: Key, bytes: u32) -> Position {
        let mut publication = text("x");
        let position = channels.commit(key, &mut publication, bytes, &NO_HISTORY, 0);
        let position = position.unwrap();
        assert_eq!(publication.offset, position.offset);
        position
    }

    #[test]
    fn offsets_go_up_by_one_within_one_epoch() {
        let (mut channels, key) = one_channel();
        let first = commit(&mut channels, key, 1);
        let second = commit(&mut channels, key, 1);
        assert_eq!((first.offset, second.offset), (1, 2));
        assert_eq!(first.epoch, second.epoch);
    }

    #[test]
    fn a_shard_behind_by_a_batch_refuses_more_until_it_began_a_pass() {
        let (mut channels, key) = one_channel();
        let channel = channels.get_mut(key).unwrap();
        channel.add_interest(1, LOCAL, 0);
        assert!(channel.has_room(1000, 100));
        commit(&mut channels, key, 1000);
        let channel = channels.get_mut(key).unwrap();
        assert!(!channel.has_room(1, 100));
        channel.taken(1, LOCAL, 1000);
        assert!(channel.has_room(1, 100));
    }

    #[test]
    fn a_shard_that_left_and_came_back_starts_without_debt() {
        let (mut channels, key) = one_channel();
        channels.get_mut(key).unwrap().add_interest(1, LOCAL, 0);
        commit(&mut channels, key, 100);
        let newer = Key {
            generation: 1,
            ..LOCAL
        };
        let channel = channels.get_mut(key).unwrap();
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
        assert_eq!(channels.open(&"news".into(), 0), Ok(key));
        let other = channels.open(&"sport".into(), 0);
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
        assert!(channels.open(&"news".into(), 160).is_ok());
    }

    #[test]
    fn a_version_that_came_already_is_known() {
        let (mut channels, key) = one_channel();
        let channel = channels.get_mut(key).unwrap();
        assert!(!channel.has_version(1, "") && !channel.has_version(0, ""));
        channel.note_version(5, "a");
        for (number, epoch, is_known) in [
            (5, "a", true),
            (4, "", true),
            (6, "a", false),
            (4, "b", false),
            (0, "a", false),
        ] {
            assert_eq!(
                channel.has_version(number, epoch),
                is_known,
                "{number} {epoch}"
            );
        }
        channel.note_version(0, "b");
        assert!(channel.has_version(5, "a"));
        channel.note_version(1, "b");
        assert!(!channel.has_version(4, "a"));
    }

    #[test]
    fn lists_channels_with_subscribers_by_pattern() {
        let limits = OwnedLimits {
            channels: 1000,
            ..LIMITS
        };
        let mut channels = OwnedChannels::new(limits, 7);
        for i in 0..600 {
            let key = channels.open(&format!("news:{i}").into(), 0).unwrap();
            let channel = channels.get_mut(key).unwrap();
            if i % 2 == 0 {
                channel.add_interest(1, LOCAL, 0);
                channel.add_interest(2, LOCAL, 0);
                channel.add_interest(3, LOCAL, 0);
                channel.set_subscribers(1, LOCAL, 5);
                channel.set_subscribers(3, LOCAL, i);
                channel.remove_interest(2, LOCAL, 0);
            }
        }
        let glob = Glob::parse("news:1?").unwrap();
        let firsts = (0..channels.places()).step_by(100);
        let mut found: Vec<(&str, u64)> = firsts
            .flat_map(|first| channels.matching(&glob, first, 100))
            .map(|channel| (&**channel.name(), channel.subscribers()))
            .collect();
        found.sort_unstable();
        let expected = [10, 12, 14, 16, 18].map(|i| (format!("news:{i}"), i + 5));
        assert!(
            found
                .iter()
                .copied()
                .eq(expected.iter().map(|(name, n)| (name.as_str(), *n)))
        );
    }
}
