//! The check of a fan-out: every subscriber gets every message once, and all subscribers of a channel
//! get them in one and the same order.
//!
//! A subscriber keeps no messages. Per publisher it keeps the next sequence number, since those must
//! go up by exactly one, and over all publishers one running hash of what came in which order. Only
//! what deviates takes memory.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Gaps remembered per subscriber, to tell late messages from repeated ones.
const GAPS_MAX: usize = 1024;

/// What one subscriber has received of its channel.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubscriberOrder {
    /// Per publisher, the sequence number that must come next.
    next: Box<[u32]>,
    /// Running hash of (publisher, sequence) in order of arrival.
    hash: u64,
    /// Present once something was not as it should be.
    faults: Option<Box<Faults>>,
}

#[derive(Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Faults {
    /// Sequence numbers that were jumped over, per publisher.
    gaps: Vec<(u16, Range<u32>)>,
    /// Messages in gaps beyond [`GAPS_MAX`].
    forgotten: u64,
    duplicated: u64,
    reordered: u64,
}

impl SubscriberOrder {
    /// A subscriber that has received nothing from any of `publishers`.
    pub fn new(publishers: usize) -> Self {
        Self {
            next: vec![0; publishers].into(),
            hash: 0,
            faults: None,
        }
    }

    /// Takes note of an arrival. False if there is no such publisher.
    pub fn receive(&mut self, publisher: u16, sequence: u32) -> bool {
        let Some(next) = self.next.get_mut(usize::from(publisher)) else {
            return false;
        };
        self.hash = mix(self.hash, u64::from(publisher) << 32 | u64::from(sequence));
        let expected = *next;
        if sequence >= expected {
            *next = sequence.saturating_add(1);
        }
        if sequence != expected {
            self.faults
                .get_or_insert_default()
                .note(publisher, sequence, expected);
        }
        true
    }
}

impl Faults {
    fn note(&mut self, publisher: u16, sequence: u32, expected: u32) {
        if sequence > expected {
            self.open_gap(publisher, expected..sequence);
        } else if self.fill_gap(publisher, sequence) {
            self.reordered += 1;
        } else {
            self.duplicated += 1;
        }
    }

    fn open_gap(&mut self, publisher: u16, gap: Range<u32>) {
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push((publisher, gap));
        } else {
            self.forgotten += u64::from(gap.end - gap.start);
        }
    }

    /// Takes `sequence` out of the gap that holds it; false if none does.
    fn fill_gap(&mut self, publisher: u16, sequence: u32) -> bool {
        let holds = |(of, gap): &(u16, Range<u32>)| *of == publisher && gap.contains(&sequence);
        let Some(at) = self.gaps.iter().position(holds) else {
            return false;
        };
        let (_, gap) = self.gaps.swap_remove(at);
        for rest in [gap.start..sequence, sequence + 1..gap.end] {
            if !rest.is_empty() {
                self.open_gap(publisher, rest);
            }
        }
        true
    }
}

/// An order-dependent hash against accidents, not against adversaries.
fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What the server has answered for, over all publishers.
#[derive(Debug, Default)]
pub struct Issued {
    /// Per (channel, publisher), how many sequence numbers were used: acknowledged or unknown.
    counts: HashMap<(u32, u16), u32>,
    /// Publications whose answer never came: (channel, publisher, sequence). They may have been sequenced.
    unknown: HashSet<(u32, u16, u32)>,
}

impl Issued {
    /// Adds what one publisher did on one channel.
    pub fn add(&mut self, channel: u32, publisher: u16, count: u32) {
        self.counts.insert((channel, publisher), count);
    }

    /// Adds a publication without an answer.
    pub fn add_unknown(&mut self, channel: u32, publisher: u16, sequence: u32) {
        self.unknown.insert((channel, publisher, sequence));
    }

    fn count(&self, channel: u32, publisher: u16) -> u32 {
        self.counts.get(&(channel, publisher)).copied().unwrap_or(0)
    }

    /// How many of `sequences` must have arrived.
    fn owed(&self, channel: u32, publisher: u16, sequences: Range<u32>) -> u64 {
        let all = sequences.len() as u64;
        if self.unknown.is_empty() {
            return all;
        }
        let unknown =
            sequences.filter(|sequence| self.unknown.contains(&(channel, publisher, *sequence)));
        all - unknown.count() as u64
    }
}

/// One subscriber at the end of a run, and how many are like it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its channel.
    pub channel: u32,
    /// Still connected at the end. If not, what came after its connection ended is no silent loss.
    pub live: bool,
    /// What it received.
    pub order: &'a SubscriberOrder,
    /// Subscribers that received the same.
    pub count: u64,
}

/// The outcome of the check. A subscriber counts once per kind of fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Subscribers that miss acknowledged messages.
    pub lost_subscribers: u64,
    /// Acknowledged messages missed, over all of them.
    pub lost_messages: u64,
    /// Subscribers that got a message more than once.
    pub duplicated_subscribers: u64,
    /// Messages too many, over all of them.
    pub duplicated_messages: u64,
    /// Subscribers whose order is not that of the publisher, or not that of most subscribers of the channel.
    pub reordered_subscribers: u64,
    /// Subscribers that got a message the server had refused.
    pub invented_subscribers: u64,
}

impl Verdict {
    /// True if every message arrived once and in order.
    pub fn is_sound(&self) -> bool {
        *self == Self::default()
    }
}

/// Checks all subscribers against what was issued and against each other.
pub fn judge<'a>(subscribers: impl Iterator<Item = Received<'a>>, issued: &Issued) -> Verdict {
    let mut verdict = Verdict::default();
    let mut orders: HashMap<u32, HashMap<u64, u64>> = HashMap::new();
    for subscriber in subscribers {
        let sound = judge_one(&subscriber, issued, &mut verdict);
        if sound && subscriber.live {
            let hashes = orders.entry(subscriber.channel).or_default();
            *hashes.entry(subscriber.order.hash).or_default() += subscriber.count;
        }
    }
    for hashes in orders.values() {
        let most = hashes.values().max().copied().unwrap_or(0);
        verdict.reordered_subscribers += hashes.values().sum::<u64>() - most;
    }
    verdict
}

/// Judges one subscriber alone; true if nothing is wrong with it.
fn judge_one(subscriber: &Received<'_>, issued: &Issued, verdict: &mut Verdict) -> bool {
    let lost = lost_messages(subscriber, issued);
    let faults = subscriber.order.faults.as_deref();
    let duplicated = faults.map_or(0, |faults| faults.duplicated);
    let reordered = faults.map_or(0, |faults| faults.reordered);
    let invented = publishers(subscriber)
        .any(|(publisher, next)| next > issued.count(subscriber.channel, publisher));
    let count = subscriber.count;
    verdict.lost_messages += lost * count;
    verdict.duplicated_messages += duplicated * count;
    verdict.lost_subscribers += u64::from(lost > 0) * count;
    verdict.duplicated_subscribers += u64::from(duplicated > 0) * count;
    verdict.reordered_subscribers += u64::from(reordered > 0) * count;
    verdict.invented_subscribers += u64::from(invented) * count;
    lost == 0 && duplicated == 0 && reordered == 0 && !invented
}

fn lost_messages(subscriber: &Received<'_>, issued: &Issued) -> u64 {
    let channel = subscriber.channel;
    let between = subscriber.order.faults.as_deref().map_or(0, |faults| {
        let gaps = faults.gaps.iter();
        let owed = gaps.map(|(publisher, gap)| issued.owed(channel, *publisher, gap.clone()));
        owed.sum::<u64>() + faults.forgotten
    });
    if !subscriber.live {
        return between;
    }
    let tails = publishers(subscriber).map(|(publisher, next)| {
        issued.owed(channel, publisher, next..issued.count(channel, publisher))
    });
    between + tails.sum::<u64>()
}

/// Each publisher's number and the sequence number that would come next from it.
fn publishers<'a>(subscriber: &Received<'a>) -> impl Iterator<Item = (u16, u32)> + use<'a> {
    (0..).zip(subscriber.order.next.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two publishers on channel 0: three messages and two.
    fn issued() -> Issued {
        let mut issued = Issued::default();
        issued.add(0, 0, 3);
        issued.add(0, 1, 2);
        issued
    }

    const GOOD: &[(u16, u32)] = &[(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)];

    fn order(arrivals: &[(u16, u32)]) -> SubscriberOrder {
        let mut order = SubscriberOrder::new(2);
        for &(publisher, sequence) in arrivals {
            assert!(order.receive(publisher, sequence));
        }
        order
    }

    fn judge_all(arrivals: &[&[(u16, u32)]], live: bool, issued: &Issued) -> Verdict {
        let orders: Vec<_> = arrivals.iter().map(|arrivals| order(arrivals)).collect();
        judge(
            orders.iter().map(|order| Received {
                channel: 0,
                live,
                order,
                count: 1,
            }),
            issued,
        )
    }

    #[test]
    fn equal_and_complete_is_sound() {
        assert!(judge_all(&[GOOD, GOOD, GOOD], true, &issued()).is_sound());
        assert!(judge_all(&[], true, &issued()).is_sound());
    }

    #[test]
    fn a_message_missing_in_the_middle_or_at_the_end_is_lost() {
        let middle: &[_] = &[(0, 0), (1, 0), (1, 1), (0, 2)];
        let verdict = judge_all(&[GOOD, middle], true, &issued());
        assert_eq!(
            verdict,
            Verdict {
                lost_subscribers: 1,
                lost_messages: 1,
                ..Verdict::default()
            }
        );
        let verdict = judge_all(&[GOOD, &GOOD[..2]], true, &issued());
        assert_eq!(
            verdict,
            Verdict {
                lost_subscribers: 1,
                lost_messages: 3,
                ..Verdict::default()
            }
        );
        let verdict = judge_all(&[&[]], true, &issued());
        assert_eq!(verdict.lost_messages, 5);
    }

    #[test]
    fn a_dropped_connection_only_answers_for_what_it_jumped_over() {
        assert!(judge_all(&[&GOOD[..2], &[]], false, &issued()).is_sound());
        let jumped: &[_] = &[(0, 1)];
        assert_eq!(judge_all(&[jumped], false, &issued()).lost_messages, 1);
    }

    #[test]
    fn a_repeated_message_is_duplicated() {
        let twice: &[_] = &[(0, 0), (1, 0), (1, 0), (0, 1), (1, 1), (0, 2)];
        let verdict = judge_all(&[GOOD, twice], true, &issued());
        let expected = Verdict {
            duplicated_subscribers: 1,
            duplicated_messages: 1,
            ..Verdict::default()
        };
        assert_eq!(verdict, expected);
    }

    #[test]
    fn a_late_message_is_reordered_not_lost() {
        let late: &[_] = &[(0, 0), (1, 0), (0, 2), (1, 1), (0, 1)];
        let verdict = judge_all(&[GOOD, late], true, &issued());
        assert_eq!(
            verdict,
            Verdict {
                reordered_subscribers: 1,
                ..Verdict::default()
            }
        );
    }

    #[test]
    fn another_interleaving_of_publishers_is_reordered() {
        let other: &[_] = &[(1, 0), (0, 0), (0, 1), (1, 1), (0, 2)];
        let verdict = judge_all(&[GOOD, other, GOOD], true, &issued());
        assert_eq!(
            verdict,
            Verdict {
                reordered_subscribers: 1,
                ..Verdict::default()
            }
        );
    }

    #[test]
    fn channels_have_orders_of_their_own() {
        let mut issued = issued();
        issued.add(1, 0, 1);
        let (first, second) = (order(GOOD), order(&[(0, 0)]));
        let received = [(0, &first), (1, &second)].map(|(channel, order)| Received {
            channel,
            live: true,
            order,
            count: 1,
        });
        assert!(judge(received.into_iter(), &issued).is_sound());
    }

    #[test]
    fn an_unanswered_message_may_be_missing_but_only_for_all() {
        let mut issued = issued();
        issued.add_unknown(0, 0, 1);
        let without: &[_] = &[(0, 0), (1, 0), (1, 1), (0, 2)];
        assert!(judge_all(&[without, without], true, &issued).is_sound());
        assert!(judge_all(&[GOOD, GOOD], true, &issued).is_sound());
        let verdict = judge_all(&[GOOD, GOOD, without], true, &issued);
        assert_eq!(
            verdict,
            Verdict {
                reordered_subscribers: 1,
                ..Verdict::default()
            }
        );
        let last: &[_] = &[(0, 0), (1, 0), (1, 1)];
        assert_eq!(judge_all(&[last], true, &issued).lost_messages, 1);
    }

    #[test]
    fn a_refused_message_must_not_arrive() {
        let more: &[_] = &[(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3)];
        assert_eq!(judge_all(&[more], true, &issued()).invented_subscribers, 1);
    }

    #[test]
    fn subscribers_that_are_alike_count_each() {
        let (whole, cut) = (order(GOOD), order(&GOOD[..4]));
        let other = order(&[(1, 0), (0, 0), (0, 1), (1, 1), (0, 2)]);
        let received = [(&whole, 5), (&cut, 3), (&other, 2)].map(|(order, count)| Received {
            channel: 0,
            live: true,
            order,
            count,
        });
        let expected = Verdict {
            lost_subscribers: 3,
            lost_messages: 3,
            reordered_subscribers: 2,
            ..Verdict::default()
        };
        assert_eq!(judge(received.into_iter(), &issued()), expected);
    }

    #[test]
    fn what_was_received_crosses_hosts_unchanged() {
        let order = order(&[(0, 0), (1, 1), (0, 2), (0, 2), (0, 1)]);
        assert!(order.faults.is_some());
        let sent = serde_json::to_string(&order).unwrap();
        assert_eq!(
            serde_json::from_str::<SubscriberOrder>(&sent).unwrap(),
            order
        );
    }

    #[test]
    fn an_unknown_publisher_is_refused() {
        assert!(!SubscriberOrder::new(2).receive(2, 0));
    }

    #[test]
    fn gaps_take_bounded_memory() {
        let mut order = SubscriberOrder::new(1);
        let mut issued = Issued::default();
        let last = 4 * GAPS_MAX as u32;
        issued.add(0, 0, last + 1);
        for sequence in (0..=last).step_by(2) {
            order.receive(0, sequence);
        }
        assert_eq!(order.faults.as_ref().unwrap().gaps.len(), GAPS_MAX);
        let received = Received {
            channel: 0,
            live: true,
            order: &order,
            count: 1,
        };
        let verdict = judge(std::iter::once(received), &issued);
        assert_eq!(verdict.lost_messages, 2 * GAPS_MAX as u64);
    }
}
