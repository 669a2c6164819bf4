//! Channels of an owner against a model of lists, through everything that may happen to them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::history::History;
use super::snapshot::OLDER_MAGIC;
use super::*;

/// Room for about ten publications of a byte in two channels.
const LIMITS: OwnedLimits = OwnedLimits {
    channels: 3,
    history_bytes: 2048,
};
const KEPT: StreamOptions = StreamOptions {
    size: 6,
    ttl_s: 20,
    meta_ttl_s: 50,
};
const IDLE_S: u32 = 10;
const MAX_CLIENTS: usize = 4;
const LOCAL: Key = Key {
    slot: 1,
    generation: 1,
};

#[derive(Clone, Debug)]
enum Step {
    Publish { bytes: usize, is_kept: bool },
    PublishOutside,
    Remove,
    Pass { seconds: u32 },
    Sweep,
    Join,
    Leave,
    Appear { client: u8, user: u8 },
    Vanish { client: u8 },
    Recover { back: u64, limit: usize },
    Read { back: u64, limit: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..2500, prop::bool::weighted(0.9)).prop_map(|(bytes, is_kept)| {
            // Mostly small ones, some that hardly fit and some that do not.
            let bytes = if bytes < 2000 { bytes / 40 } else { bytes };
            Step::Publish { bytes, is_kept }
        }),
        1 => Just(Step::PublishOutside),
        1 => Just(Step::Remove),
        2 => (1u32..30).prop_map(|seconds| Step::Pass { seconds }),
        2 => Just(Step::Sweep),
        1 => Just(Step::Join),
        1 => Just(Step::Leave),
        2 => (0u8..6, 0u8..3).prop_map(|(client, user)| Step::Appear { client, user }),
        1 => (0u8..6).prop_map(|client| Step::Vanish { client }),
        4 => (0u64..9, 0usize..8).prop_map(|(back, limit)| Step::Recover { back, limit }),
        2 => (0u64..9, 0usize..8).prop_map(|(back, limit)| Step::Read { back, limit }),
    ]
}

/// A channel as it should be.
#[derive(Clone, Debug)]
struct Channel {
    position: Position,
    kept: Vec<Publication>,
    has_history: bool,
    expires_s: u32,
    last_used_s: u32,
    meta_ttl_s: u32,
    is_joined: bool,
    present: BTreeMap<u8, u8>,
}

impl Channel {
    fn readable(&self, now_s: u32) -> &[Publication] {
        if now_s < self.expires_s {
            &self.kept
        } else {
            &[]
        }
    }

    fn bytes(&self) -> usize {
        let nothing = Publication::new(Kind::Text, Bytes::new(), 0);
        let overhead = History::bytes_of_one(&nothing) - nothing.kept_bytes();
        let publications = self.kept.iter().map(Publication::kept_bytes);
        usize::from(self.has_history) * (overhead + publications.sum::<usize>())
    }

    fn drop_history(&mut self) {
        (self.has_history, self.expires_s) = (false, 0);
        self.kept.clear();
    }

    /// Everything in `(since, top]` if it is there, by the definition.
    fn recover(&self, since: Since, limit: usize, now_s: u32) -> Option<Vec<Publication>> {
        let is_same = since.epoch.is_none_or(|epoch| epoch == self.position.epoch);
        if !is_same || since.offset > self.position.offset {
            return None;
        }
        let find = |offset| {
            let mut readable = self.readable(now_s).iter();
            readable
                .find(|publication| publication.offset == offset)
                .cloned()
        };
        let missed: Option<Vec<Publication>> = (since.offset + 1..=self.position.offset)
            .map(find)
            .collect();
        missed.filter(|missed| missed.len() <= limit)
    }
}

/// The owner, and what should be true of it.
struct Pair {
    owned: OwnedChannels,
    model: BTreeMap<&'static str, Channel>,
    /// Channels with a history, least recently published first.
    order: Vec<&'static str>,
    /// Places that were given.
    given: HashSet<(String, u64)>,
    /// Epochs by channel that are over.
    over: HashSet<String>,
    evictions: u64,
    now_s: u32,
}

impl Pair {
    fn open(&mut self, name: &'static str) -> Key {
        let key = self.owned.open(&name.into(), self.now_s).unwrap();
        let now_s = self.now_s;
        let position = self.owned.get(key).unwrap().position();
        let over = &self.over;
        self.model.entry(name).or_insert_with(|| {
            assert_eq!(position.offset, 0);
            assert!(!over.contains(&position.epoch.to_string()));
            Channel {
                position,
                kept: Vec::new(),
                has_history: false,
                expires_s: 0,
                last_used_s: now_s,
                meta_ttl_s: 0,
                is_joined: false,
                present: BTreeMap::new(),
            }
        });
        key
    }

    fn take(&mut self, name: &'static str, step: Step) {
        let key = self.open(name);
        let now_s = self.now_s;
        let model = self.model.get_mut(name).unwrap();
        let channel = self.owned.get_mut(key).unwrap();
        match step {
            Step::Publish { bytes, is_kept } => self.publish(name, key, bytes, is_kept),
            Step::PublishOutside => {
                let position = channel.commit_outside_stream(1, now_s);
                assert_eq!(position, model.position);
                model.last_used_s = now_s;
            }
            Step::Remove => {
                self.owned.remove_history(key);
                model.drop_history();
                self.order.retain(|other| *other != name);
            }
            Step::Pass { seconds } => self.now_s += seconds,
            Step::Sweep => self.sweep(),
            Step::Join | Step::Leave => {
                model.is_joined = matches!(step, Step::Join);
                model.last_used_s = now_s;
                match model.is_joined {
                    true => channel.add_interest(1, LOCAL, now_s),
                    false => channel.remove_interest(1, LOCAL, now_s),
                }
            }
            Step::Appear { client, user } => {
                let known = model.present.contains_key(&client);
                let expected = match known || model.present.len() < MAX_CLIENTS {
                    true => Ok(!known),
                    false => Err(PresenceFull),
                };
                let info = ClientInfo {
                    user: user.to_string().into(),
                    client: client.to_string().into(),
                    ..ClientInfo::default()
                };
                assert_eq!(channel.presence_add(info.into(), MAX_CLIENTS), expected);
                if expected.is_ok() {
                    model.present.insert(client, user);
                }
            }
            Step::Vanish { client } => {
                let gone = channel.presence_remove(&client.to_string(), now_s);
                model.last_used_s = now_s;
                let expected = model.present.remove(&client);
                assert_eq!(
                    gone.map(|info| info.user.to_string()),
                    expected.map(|user| user.to_string())
                );
            }
            Step::Recover { back, limit } => {
                let top = model.position.offset;
                for offset in [top.saturating_sub(back), top + back] {
                    for epoch in ["", &model.position.epoch.to_string(), "foreign"] {
                        let since = Since::from_text(epoch, offset);
                        let expected = model.recover(since, limit, now_s);
                        let got = channel.stream(now_s).recover(Some(since), limit);
                        assert_eq!(got.position, model.position);
                        assert_eq!(got.recovered, expected.is_some());
                        assert_eq!(got.publications, expected.unwrap_or_default());
                    }
                }
            }
            Step::Read { back, limit } => {
                let offset = model.position.offset.saturating_sub(back);
                let since = Some(Since::from_text("", offset));
                let readable = || model.readable(now_s).iter().cloned();
                let read = |direction| {
                    let page =
                        channel
                            .stream(now_s)
                            .history(since, Limit::AtMost(limit), direction);
                    page.unwrap().publications
                };
                let after = readable().filter(|p| p.offset > offset).take(limit);
                assert_eq!(read(Direction::Forward), after.collect::<Vec<_>>());
                let before = readable().filter(|p| p.offset < offset).rev().take(limit);
                assert_eq!(read(Direction::Backward), before.collect::<Vec<_>>());
            }
        }
        self.check();
    }

    fn publish(&mut self, name: &'static str, key: Key, bytes: usize, is_kept: bool) {
        let mut publication = Publication::new(Kind::Text, vec![b'x'; bytes].into(), 0);
        let options = if is_kept {
            KEPT
        } else {
            StreamOptions::default()
        };
        let position = self
            .owned
            .commit(key, &mut publication, 1, &options, self.now_s);
        let model = self.model.get_mut(name).unwrap();
        model.position.offset += 1;
        model.last_used_s = self.now_s;
        assert_eq!(position, Some(model.position));
        assert_eq!(publication.offset, model.position.offset);
        let place = (model.position.epoch.to_string(), model.position.offset);
        assert!(self.given.insert(place), "a place was given twice");
        if !is_kept || History::bytes_of_one(&publication) > LIMITS.history_bytes {
            return;
        }
        if self.now_s >= model.expires_s {
            model.kept.clear();
        }
        model.kept.push(publication);
        let spare = model.kept.len().saturating_sub(KEPT.size as usize);
        model.kept.drain(..spare);
        model.has_history = true;
        model.expires_s = self.now_s + KEPT.ttl_s;
        model.meta_ttl_s = KEPT.meta_ttl_s;
        self.order.retain(|other| *other != name);
        self.order.push(name);
        while self.model.values().map(Channel::bytes).sum::<usize>() > LIMITS.history_bytes {
            self.give_up_one(name);
        }
    }

    /// The least recently published history goes as a whole, and the one published to bit by bit.
    fn give_up_one(&mut self, publishing: &str) {
        let victim = self.order[0];
        let model = self.model.get_mut(victim).unwrap();
        if victim == publishing {
            model.kept.remove(0);
            return;
        }
        self.order.remove(0);
        if self.now_s < model.expires_s {
            self.evictions += 1;
            let epoch = model.position.epoch;
            let key = self.owned.find(victim).unwrap();
            let now = self.owned.get(key).unwrap().position();
            assert_ne!(now.epoch, epoch, "an eviction must not go unnoticed");
            self.over.insert(epoch.to_string());
            model.position.epoch = now.epoch;
        }
        model.drop_history();
    }

    fn sweep(&mut self) {
        self.owned.forget_idle(u32::MAX, IDLE_S, self.now_s);
        let now_s = self.now_s;
        for model in self.model.values_mut() {
            if now_s >= model.expires_s {
                model.drop_history();
            }
        }
        let over = &mut self.over;
        self.model.retain(|_, model| {
            let until_s = model.last_used_s + IDLE_S.max(model.meta_ttl_s);
            let stays = model.is_joined || !model.present.is_empty() || now_s < until_s;
            if !stays {
                over.insert(model.position.epoch.to_string());
            }
            stays
        });
        let model = &self.model;
        self.order
            .retain(|name| model.get(name).is_some_and(|model| model.has_history));
    }

    fn check(&self) {
        assert_eq!(self.owned.len(), self.model.len());
        assert_eq!(self.owned.evictions(), self.evictions);
        let bytes = self.model.values().map(Channel::bytes).sum::<usize>();
        assert_eq!(self.owned.history_bytes(), bytes);
        assert!(bytes <= LIMITS.history_bytes);
        for (name, model) in &self.model {
            let key = self.owned.find(name).unwrap();
            let channel = self.owned.get(key).unwrap();
            assert_eq!(channel.position(), model.position);
            let all = channel.stream(self.now_s).publications();
            assert!(all.eq(model.readable(self.now_s)));
            let users: HashSet<u8> = model.present.values().copied().collect();
            let stats = PresenceStats {
                clients: model.present.len(),
                users: users.len(),
            };
            assert_eq!(channel.presence_stats(), stats);
            assert_eq!(channel.presence().count(), stats.clients);
        }
    }

    /// Through bytes into another owner: every channel goes on where it was.
    fn restart(&self) {
        let mut bytes = Vec::new();
        begin_snapshot(&mut bytes);
        for (_, state) in self.owned.export(0, 0, self.now_s) {
            append_entry(&Entry::Channel(state), &mut bytes).unwrap();
        }
        let mut next = OwnedChannels::new(LIMITS, 2);
        for entry in read_snapshot(&bytes) {
            let Ok(Entry::Channel(state)) = entry else {
                panic!("{entry:?}");
            };
            assert!(next.import(state, 0, 0));
        }
        assert_eq!(self.model.len(), next.len());
        for (name, model) in &self.model {
            let channel = next.get(next.find(name).unwrap()).unwrap();
            assert_eq!(channel.position(), model.position);
            assert!(
                channel
                    .stream(0)
                    .publications()
                    .eq(model.readable(self.now_s))
            );
            let left_s = model.expires_s.saturating_sub(self.now_s);
            assert_eq!(channel.stream(left_s).publications().count(), 0);
        }
    }
}

proptest! {
    #[test]
    fn owned_channels_agree_with_lists(
        steps in prop::collection::vec((prop::sample::select(vec!["a", "b", "c"]), step()), 1..120),
    ) {
        let mut pair = Pair {
            owned: OwnedChannels::new(LIMITS, 1),
            model: BTreeMap::new(),
            order: Vec::new(),
            given: HashSet::new(),
            over: HashSet::new(),
            evictions: 0,
            now_s: 100,
        };
        for (name, step) in steps {
            pair.take(name, step);
        }
        pair.restart();
    }

    #[test]
    fn a_damaged_snapshot_gives_whole_channels_or_none(
        sizes in prop::collection::vec(0usize..20, 0..4),
        at: prop::sample::Index,
        change in prop::option::of(1u8..),
    ) {
        let states: Vec<Entry> = sizes.iter().enumerate().map(|(i, size)| {
            Entry::Channel(state(&format!("channel {i}"), *size))
        }).collect();
        let mut bytes = Vec::new();
        begin_snapshot(&mut bytes);
        states.iter().for_each(|state| append_entry(state, &mut bytes).unwrap());
        let read: Vec<_> = read_snapshot(&bytes).map(Result::unwrap).collect();
        prop_assert_eq!(&read, &states);
        let at = at.index(bytes.len());
        match change {
            Some(change) => bytes[at] ^= change,
            None => bytes.truncate(at),
        }
        // Which is no damage.
        prop_assume!(!bytes.starts_with(OLDER_MAGIC));
        let read: Vec<_> = read_snapshot(&bytes).collect();
        prop_assert!(read.iter().flatten().all(|state| states.contains(state)));
        let is_at_a_border = change.is_none() && read.iter().all(Result::is_ok);
        prop_assert!(is_at_a_border || read.iter().any(Result::is_err));
        prop_assert!(read.iter().flatten().count() < states.len().max(1));
    }

    #[test]
    fn no_bytes_panic_when_read_as_a_snapshot(garbage: Vec<u8>) {
        let mut bytes = Vec::new();
        begin_snapshot(&mut bytes);
        bytes.extend(garbage);
        prop_assert!(read_snapshot(&bytes).count() <= bytes.len());
    }
}

fn state(name: &str, publications: usize) -> ChannelState {
    let publication = |offset| {
        let extra = PublicationExtra {
            info: Some(Arc::new(ClientInfo {
                user: "me".into(),
                ..ClientInfo::default()
            })),
            tags: vec![("a".into(), "b".into())],
            uses_delta: true,
        };
        let mut publication = Publication::new(Kind::Binary, vec![0; 30].into(), 1_700_000_000_000);
        publication.offset = offset;
        publication.extra = (offset % 2 == 0).then(|| extra.into());
        publication
    };
    ChannelState {
        name: name.to_owned(),
        position: Position {
            epoch: Epoch::from_random(77),
            offset: publications as u64,
        },
        remembered_s: 100,
        history_ttl_s: 10,
        publications: (1..=publications as u64).map(publication).collect(),
        version: 3,
        version_epoch: "v".into(),
    }
}

#[test]
fn a_channel_that_was_away_too_long_or_is_not_whole_does_not_come_back() {
    let mut owned = OwnedChannels::new(LIMITS, 1);
    assert!(!owned.import(state("a", 2), 101, 0));
    let mut torn = state("a", 2);
    torn.publications.swap(0, 1);
    assert!(!owned.import(torn, 0, 0));
    let mut ahead = state("a", 2);
    ahead.position.offset = 1;
    assert!(!owned.import(ahead, 0, 0));
    assert!(owned.is_empty());

    assert!(owned.import(state("a", 2), 10, 0));
    assert!(!owned.import(state("a", 3), 0, 0));
    let channel = owned.get(owned.find("a").unwrap()).unwrap();
    assert_eq!(channel.position().offset, 2);
    assert_eq!(
        channel.stream(0).publications().count(),
        0,
        "expired while away"
    );
    assert!(channel.has_version(3, "v") && !channel.has_version(4, "v"));
    owned.forget_idle(u32::MAX, 10, 89);
    assert_eq!(owned.len(), 1);
    owned.forget_idle(u32::MAX, 10, 90);
    assert!(owned.is_empty());
}
