//! What is wrong with what was recorded: records in, verdict out. No clock and no server.
//!
//! The rules: an offset of an epoch has one payload, whoever says so. A subscriber gets every offset from where
//! it joined, once and in order, unless it was told that something is missing. What was acknowledged is at its
//! offset; in the last epoch of a channel, whoever is subscribed at the end has it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::records::{EpochNumber, Event, Payload, Records, Resumed, SubscriberLog};

/// Violations of each kind that are described.
const EXAMPLES_MAX: usize = 5;
/// Gaps of one subscriber that are remembered, to tell late publications from repeated ones.
const GAPS_MAX: usize = 1024;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An offset has another payload for somebody else.
    PayloadDiffers,
    /// A publication has two places.
    PublishedTwice,
    /// A publisher's publications are not in the order in which they were answered.
    PublisherReordered,
    /// A subscriber jumped over publications without being told.
    Skipped,
    /// It got one again.
    Duplicated,
    /// It got one behind a later one.
    Reordered,
    /// It was told that nothing is missing, in another epoch.
    EpochChangedUntold,
    /// Its position went back within an epoch.
    WentBack,
    /// What was acknowledged did not reach it, and the epoch is the same.
    Lost,
    /// It got what nobody published.
    Invented,
    /// It was not subscribed at the end.
    Absent,
}

/// What the records say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Publications acknowledged.
    pub acknowledged: u64,
    /// Publications without an answer.
    pub unknown: u64,
    /// Publications received, over all subscribers.
    pub deliveries: u64,
    /// Epochs that channels went through, over all channels.
    pub epochs: u64,
    /// Subscriptions that went on with nothing missing.
    pub resumed: u64,
    /// Subscriptions that were told that something is missing, since the epoch is another.
    pub told_new_epoch: u64,
    /// The same in the same epoch.
    pub told_same_epoch: u64,
    /// What is wrong, by kind.
    pub violations: BTreeMap<Kind, Violations>,
}

/// Violations of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Violations {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<String>,
}

impl Verdict {
    /// True if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }

    fn add(&mut self, kind: Kind, count: u64, example: impl fmt::Display) {
        if count == 0 {
            return;
        }
        let violations = self.violations.entry(kind).or_default();
        violations.count += count;
        if violations.examples.len() < EXAMPLES_MAX {
            violations.examples.push(example.to_string());
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PayloadDiffers => "payload differs",
            Self::PublishedTwice => "published twice",
            Self::PublisherReordered => "publisher reordered",
            Self::Skipped => "skipped untold",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::EpochChangedUntold => "epoch untold",
            Self::WentBack => "went back",
            Self::Lost => "acknowledged, lost",
            Self::Invented => "invented",
            Self::Absent => "absent at the end",
        })
    }
}

/// A place in a channel.
type Place = (EpochNumber, u64);

/// What is where, as far as anybody knows.
#[derive(Debug, Default)]
struct Truth {
    /// By channel and place.
    payloads: BTreeMap<(u32, Place), Payload>,
    /// By channel and payload.
    places: HashMap<(u32, Payload), Place>,
    /// The highest offset acknowledged, by channel and epoch.
    acknowledged: HashMap<(u32, EpochNumber), u64>,
    /// All that publishers sent.
    sent: HashSet<(u32, Payload)>,
}

/// Judges what was recorded.
pub fn judge(records: &Records) -> Verdict {
    let mut verdict = Verdict::default();
    let mut truth = Truth::default();
    truth.take_answers(records, &mut verdict);
    for (subscriber, log) in records.subscribers.iter().enumerate() {
        truth.take_deliveries(subscriber, log, &mut verdict);
    }
    truth.judge_publishers(&mut verdict);
    for (subscriber, log) in records.subscribers.iter().enumerate() {
        Reader::new(&truth, subscriber, log.channel).judge(&log.events, &mut verdict);
    }
    let mut epochs: HashSet<(u32, EpochNumber)> = HashSet::new();
    epochs.extend(
        truth
            .payloads
            .keys()
            .map(|(channel, place)| (*channel, place.0)),
    );
    verdict.epochs = epochs.len() as u64;
    verdict
}

impl Truth {
    fn take_answers(&mut self, records: &Records, verdict: &mut Verdict) {
        for published in &records.published {
            let channel = published.channel;
            self.sent.insert((channel, published.payload));
            let Some((epoch, offset)) = published.acknowledged else {
                verdict.unknown += 1;
                continue;
            };
            verdict.acknowledged += 1;
            self.place(
                channel,
                (epoch, offset),
                published.payload,
                "a publisher",
                verdict,
            );
            let highest = self.acknowledged.entry((channel, epoch)).or_default();
            *highest = offset.max(*highest);
        }
    }

    fn take_deliveries(&mut self, subscriber: usize, log: &SubscriberLog, verdict: &mut Verdict) {
        let mut current = None;
        let who = format!("subscriber {subscriber}");
        for event in &log.events {
            match *event {
                Event::Subscribed { epoch, .. } => current = Some(epoch),
                Event::Listening | Event::Ended => current = None,
                Event::Delivered { offset, payload } => {
                    verdict.deliveries += 1;
                    if !self.sent.contains(&(log.channel, payload)) {
                        let what = format_args!("{who}: {payload:?} on channel {}", log.channel);
                        verdict.add(Kind::Invented, 1, what);
                    } else if let Some(epoch) = current {
                        self.place(log.channel, (epoch, offset), payload, &who, verdict);
                    }
                }
                Event::Foreign => verdict.add(Kind::Invented, 1, &who),
            }
        }
    }

    /// Takes somebody's word for what is where.
    fn place(
        &mut self,
        channel: u32,
        place: Place,
        payload: Payload,
        who: &str,
        verdict: &mut Verdict,
    ) {
        let known = *self.payloads.entry((channel, place)).or_insert(payload);
        if known != payload {
            let what = format_args!(
                "{who}: channel {channel}, epoch {}, offset {} is {payload:?}, not {known:?}",
                place.0, place.1
            );
            verdict.add(Kind::PayloadDiffers, 1, what);
            return;
        }
        let first = *self.places.entry((channel, payload)).or_insert(place);
        if first != place {
            let what = format_args!(
                "{who}: {payload:?} on channel {channel} is at {first:?} and {place:?}"
            );
            verdict.add(Kind::PublishedTwice, 1, what);
        }
    }

    /// Each publisher waits for an answer before it goes on: its publications stand in its order.
    fn judge_publishers(&self, verdict: &mut Verdict) {
        let mut latest: HashMap<(u32, EpochNumber, u16), u32> = HashMap::new();
        for ((channel, (epoch, offset)), payload) in &self.payloads {
            let before = latest.insert((*channel, *epoch, payload.publisher), payload.sequence);
            if before.is_some_and(|before| before >= payload.sequence) {
                let what = format_args!("{payload:?} at offset {offset} of channel {channel}");
                verdict.add(Kind::PublisherReordered, 1, what);
            }
        }
    }
}

/// Goes through what one subscriber heard.
struct Reader<'a> {
    truth: &'a Truth,
    subscriber: usize,
    channel: u32,
    /// Where it stands; `None` before anybody can say.
    at: Option<Place>,
    /// It has positions of its own.
    has_positions: bool,
    is_subscribed: bool,
    /// What it jumped over in this epoch.
    gaps: Vec<Range<u64>>,
}

impl<'a> Reader<'a> {
    fn new(truth: &'a Truth, subscriber: usize, channel: u32) -> Self {
        Self {
            truth,
            subscriber,
            channel,
            at: None,
            has_positions: false,
            is_subscribed: false,
            gaps: Vec::new(),
        }
    }

    fn judge(mut self, events: &[Event], verdict: &mut Verdict) {
        for event in events {
            match *event {
                Event::Subscribed {
                    epoch,
                    offset,
                    resumed,
                } => self.subscribe((epoch, offset), resumed, verdict),
                Event::Listening => {
                    self.close_gaps(verdict);
                    (self.at, self.has_positions, self.is_subscribed) = (None, false, true);
                }
                Event::Delivered { offset, payload } => self.deliver(offset, payload, verdict),
                Event::Foreign => {}
                Event::Ended => self.is_subscribed = false,
            }
        }
        self.close_gaps(verdict);
        self.end(verdict);
    }

    fn subscribe(&mut self, (epoch, offset): Place, resumed: Resumed, verdict: &mut Verdict) {
        (self.has_positions, self.is_subscribed) = (true, true);
        let before = self.at;
        let is_same_epoch = before.is_none_or(|(before, _)| before == epoch);
        if resumed == Resumed::Whole {
            verdict.resumed += 1;
            if before.is_some() && is_same_epoch {
                return;
            }
            let what = format_args!("{} from {before:?} to epoch {epoch}", self.name());
            verdict.add(Kind::EpochChangedUntold, 1, what);
        }
        if resumed == Resumed::Told {
            let told = match is_same_epoch {
                true => &mut verdict.told_same_epoch,
                false => &mut verdict.told_new_epoch,
            };
            *told += 1;
        }
        if let Some((_, was)) = before.filter(|(_, was)| is_same_epoch && offset < *was) {
            let what = format_args!(
                "{} from offset {was} to {offset} of epoch {epoch}",
                self.name()
            );
            verdict.add(Kind::WentBack, 1, what);
        }
        self.close_gaps(verdict);
        self.at = Some((epoch, offset));
    }

    fn deliver(&mut self, offset: u64, payload: Payload, verdict: &mut Verdict) {
        let place = match (self.has_positions, self.at) {
            (true, Some((epoch, _))) => Some((epoch, offset)),
            _ => self.truth.places.get(&(self.channel, payload)).copied(),
        };
        let Some(place) = place else {
            // Not acknowledged and seen by nobody who could say where: what lies around it is unknown too.
            self.at = None;
            return;
        };
        match self.at {
            Some((epoch, _)) if epoch != place.0 => {
                let what = format_args!("{} within a connection, at {place:?}", self.name());
                verdict.add(Kind::EpochChangedUntold, 1, what);
                self.at = Some(place);
            }
            Some((_, was)) if place.1 <= was => self.deliver_late(place, verdict),
            Some((_, was)) => {
                if place.1 > was + 1 && self.gaps.len() < GAPS_MAX {
                    self.gaps.push(was + 1..place.1);
                }
                self.at = Some(place);
            }
            None => self.at = Some(place),
        }
    }

    /// Takes what comes at or before the subscriber's position.
    fn deliver_late(&mut self, place: Place, verdict: &mut Verdict) {
        let holds = |gap: &Range<u64>| gap.contains(&place.1);
        let what = format!("{} at {place:?}", self.name());
        let Some(at) = self.gaps.iter().position(holds) else {
            verdict.add(Kind::Duplicated, 1, what);
            return;
        };
        let gap = self.gaps.swap_remove(at);
        let rests = [gap.start..place.1, place.1 + 1..gap.end];
        self.gaps
            .extend(rests.into_iter().filter(|rest| !rest.is_empty()));
        verdict.add(Kind::Reordered, 1, what);
    }

    /// What was jumped over has not come.
    fn close_gaps(&mut self, verdict: &mut Verdict) {
        for gap in std::mem::take(&mut self.gaps) {
            let what = format_args!("{}: {gap:?} of {:?}", self.name(), self.at);
            verdict.add(Kind::Skipped, gap.end - gap.start, what);
        }
    }

    fn end(&self, verdict: &mut Verdict) {
        if !self.is_subscribed {
            verdict.add(Kind::Absent, 1, self.name());
            return;
        }
        let Some((epoch, offset)) = self.at else {
            return;
        };
        let owed = self.truth.acknowledged.get(&(self.channel, epoch));
        let missing = owed.map_or(0, |owed| owed.saturating_sub(offset));
        let what = format_args!(
            "{} ends at {offset} of epoch {epoch}, {owed:?} is acknowledged",
            self.name()
        );
        verdict.add(Kind::Lost, missing, what);
    }

    fn name(&self) -> String {
        format!("subscriber {} of channel {}", self.subscriber, self.channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::records::Published;

    const fn payload(sequence: u32) -> Payload {
        Payload {
            publisher: 0,
            sequence,
        }
    }

    /// The publication at an offset has the sequence number before it.
    fn published(offsets: Range<u64>) -> Vec<Published> {
        let at = |offset: u64| Published {
            channel: 0,
            payload: payload(offset as u32 - 1),
            acknowledged: Some((0, offset)),
        };
        offsets.map(at).collect()
    }

    fn delivered(offset: u64) -> Event {
        Event::Delivered {
            offset,
            payload: payload(offset as u32 - 1),
        }
    }

    fn plain(offset: u64) -> Event {
        Event::Delivered {
            offset: 0,
            payload: payload(offset as u32 - 1),
        }
    }

    fn subscribed(epoch: EpochNumber, offset: u64, resumed: Resumed) -> Event {
        Event::Subscribed {
            epoch,
            offset,
            resumed,
        }
    }

    const JOINED: Event = Event::Subscribed {
        epoch: 0,
        offset: 0,
        resumed: Resumed::Fresh,
    };
    const WHOLE: Event = Event::Subscribed {
        epoch: 0,
        offset: 2,
        resumed: Resumed::Whole,
    };

    fn judge_logs(published: Vec<Published>, logs: &[&[Event]]) -> Verdict {
        let log = |events: &&[Event]| SubscriberLog {
            channel: 0,
            events: events.to_vec(),
        };
        judge(&Records {
            published,
            subscribers: logs.iter().map(log).collect(),
        })
    }

    /// What is wrong if one subscriber hears this of four acknowledged publications.
    fn wrong(events: &[Event]) -> Vec<(Kind, u64)> {
        kinds(&judge_logs(published(1..5), &[events]))
    }

    fn kinds(verdict: &Verdict) -> Vec<(Kind, u64)> {
        let kinds = verdict.violations.iter();
        kinds.map(|(kind, all)| (*kind, all.count)).collect()
    }

    #[test]
    fn everything_once_and_in_order_is_sound() {
        let all = [
            JOINED,
            delivered(1),
            delivered(2),
            delivered(3),
            delivered(4),
        ];
        let late = [subscribed(0, 3, Resumed::Fresh), delivered(4)];
        let verdict = judge_logs(published(1..5), &[&all, &late]);
        assert!(verdict.is_sound(), "{verdict:?}");
        let counts = (verdict.acknowledged, verdict.deliveries, verdict.epochs);
        assert_eq!(counts, (4, 5, 1));
    }

    #[test]
    fn who_comes_back_goes_on() {
        let back = [
            JOINED,
            delivered(1),
            delivered(2),
            Event::Ended,
            WHOLE,
            delivered(3),
            delivered(4),
        ];
        let verdict = judge_logs(published(1..5), &[&back]);
        assert!(verdict.is_sound(), "{verdict:?}");
        assert_eq!(verdict.resumed, 1);
    }

    #[test]
    fn who_is_told_of_a_gap_is_content() {
        let told = subscribed(0, 3, Resumed::Told);
        let log = [JOINED, delivered(1), Event::Ended, told, delivered(4)];
        let verdict = judge_logs(published(1..5), &[&log]);
        assert!(verdict.is_sound(), "{verdict:?}");
        assert_eq!(verdict.told_same_epoch, 1);
    }

    #[test]
    fn a_new_epoch_excuses_what_was_acknowledged_before() {
        let mut published = published(1..5);
        published.push(Published {
            channel: 0,
            payload: payload(4),
            acknowledged: Some((1, 1)),
        });
        let renewed = Event::Delivered {
            offset: 1,
            payload: payload(4),
        };
        let told = subscribed(1, 0, Resumed::Told);
        let log = [JOINED, delivered(1), Event::Ended, told, renewed];
        let verdict = judge_logs(published, &[&log]);
        assert!(verdict.is_sound(), "{verdict:?}");
        assert_eq!((verdict.told_new_epoch, verdict.epochs), (1, 2));
    }

    #[test]
    fn lost_publications_are_found() {
        let log = [JOINED, delivered(1), delivered(2)];
        assert_eq!(wrong(&log), [(Kind::Lost, 2)]);
        let recovered_nothing = [JOINED, delivered(1), delivered(2), Event::Ended, WHOLE];
        assert_eq!(wrong(&recovered_nothing), [(Kind::Lost, 2)]);
    }

    #[test]
    fn acknowledged_publications_that_are_lost_without_a_new_epoch_are_found() {
        // The server came back with less, and says that its epoch is the same.
        let told = subscribed(0, 1, Resumed::Told);
        let log = [JOINED, delivered(1), delivered(2), Event::Ended, told];
        assert_eq!(wrong(&log), [(Kind::WentBack, 1), (Kind::Lost, 3)]);
    }

    #[test]
    fn gaps_that_nobody_told_are_found() {
        let log = [JOINED, delivered(1), delivered(4)];
        assert_eq!(wrong(&log), [(Kind::Skipped, 2)]);
        let after_return = [JOINED, delivered(2), delivered(1)];
        assert!(wrong(&after_return).contains(&(Kind::Reordered, 1)));
        let back = [
            JOINED,
            delivered(1),
            delivered(2),
            Event::Ended,
            WHOLE,
            delivered(4),
        ];
        assert_eq!(wrong(&back), [(Kind::Skipped, 1)]);
    }

    #[test]
    fn duplicated_publications_are_found() {
        let all = [delivered(1), delivered(2), delivered(3), delivered(4)];
        let again = [&[JOINED][..], &all, &[delivered(4)]].concat();
        assert_eq!(wrong(&again), [(Kind::Duplicated, 1)]);
        let resumed = [&[JOINED][..], &all[..2], &[Event::Ended, WHOLE], &all[1..]].concat();
        assert_eq!(wrong(&resumed), [(Kind::Duplicated, 1)]);
    }

    #[test]
    fn reordered_publications_are_found() {
        let log = [
            JOINED,
            delivered(1),
            delivered(3),
            delivered(2),
            delivered(4),
        ];
        assert_eq!(wrong(&log), [(Kind::Reordered, 1)]);
    }

    #[test]
    fn payloads_that_differ_are_found() {
        let other = Event::Delivered {
            offset: 2,
            payload: payload(2),
        };
        let log = [JOINED, delivered(1), other, delivered(3), delivered(4)];
        assert_eq!(wrong(&log), [(Kind::PayloadDiffers, 1)]);
    }

    #[test]
    fn what_nobody_published_is_found() {
        let log = [subscribed(0, 4, Resumed::Fresh), delivered(5)];
        assert_eq!(wrong(&log), [(Kind::Invented, 1)]);
        let foreign = [subscribed(0, 4, Resumed::Fresh), Event::Foreign];
        assert_eq!(wrong(&foreign), [(Kind::Invented, 1)]);
    }

    #[test]
    fn a_publication_at_two_places_is_found() {
        let again = Event::Delivered {
            offset: 5,
            payload: payload(3),
        };
        let log = [subscribed(0, 3, Resumed::Fresh), delivered(4), again];
        let found = wrong(&log);
        assert!(found.contains(&(Kind::PublishedTwice, 1)), "{found:?}");
    }

    #[test]
    fn a_publishers_order_is_kept() {
        let mut published = published(1..5);
        published.push(Published {
            channel: 0,
            payload: payload(9),
            acknowledged: Some((0, 5)),
        });
        published.push(Published {
            channel: 0,
            payload: payload(8),
            acknowledged: Some((0, 6)),
        });
        let verdict = judge_logs(published, &[]);
        assert_eq!(kinds(&verdict), [(Kind::PublisherReordered, 1)]);
    }

    #[test]
    fn an_epoch_that_changes_untold_is_found() {
        let whole = subscribed(1, 4, Resumed::Whole);
        let log = [JOINED, delivered(1), Event::Ended, whole];
        assert_eq!(wrong(&log), [(Kind::EpochChangedUntold, 1)]);
    }

    #[test]
    fn who_stays_away_is_found() {
        let log = [JOINED, delivered(1), Event::Ended];
        assert_eq!(wrong(&log), [(Kind::Absent, 1)]);
    }

    #[test]
    fn without_positions_others_say_where_a_publication_stands() {
        let all = [
            JOINED,
            delivered(1),
            delivered(2),
            delivered(3),
            delivered(4),
        ];
        let judge_plain = |events: &[Event]| {
            let log = [&[Event::Listening], events].concat();
            kinds(&judge_logs(published(1..5), &[&all, &log]))
        };
        assert_eq!(judge_plain(&[plain(2), plain(3), plain(4)]), []);
        assert_eq!(judge_plain(&[plain(2), plain(4)]), [(Kind::Skipped, 1)]);
        assert_eq!(
            judge_plain(&[plain(3), plain(4), plain(4)]),
            [(Kind::Duplicated, 1)]
        );
        assert_eq!(judge_plain(&[plain(2), plain(3)]), [(Kind::Lost, 1)]);
        // Another connection begins anywhere.
        let apart = [plain(1), Event::Ended, Event::Listening, plain(4)];
        assert_eq!(judge_plain(&apart), []);
    }

    #[test]
    fn an_unanswered_publication_may_be_anywhere_or_nowhere() {
        let mut published = published(1..4);
        published.push(Published {
            channel: 0,
            payload: payload(3),
            acknowledged: None,
        });
        let with = [
            JOINED,
            delivered(1),
            delivered(2),
            delivered(3),
            delivered(4),
        ];
        for log in [&with[..], &with[..4]] {
            let verdict = judge_logs(published.clone(), &[log]);
            assert!(verdict.is_sound(), "{verdict:?}");
            assert_eq!(verdict.unknown, 1);
        }
    }
}
