//! What subscribers lack that come back, found once for all that come back from the same place.
//!
//! When many connections break at once, their clients come back within seconds and lack the same publications.
//! One of them is a question to the channel's owner, and those that come meanwhile wait for its answer too. What
//! was answered is kept for a moment, with the publications as they are written in each form; it holds for
//! whoever comes while the channel is where it was then, since nothing was published that it does not have.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::hub::{Dialect, Encoding, Key, Position, Publication, Recovery};
use crate::proto::centrifuge::append_recovered;
use crate::proto::centrifuge::filter::Filter;

use super::Core;
use super::asks::{AnswerTo, Question, RecoveryWish};
use super::inbox::Asker;
use super::publish::passes;
use super::scribe;

/// Answers kept, at most.
const KEPT_MAX: usize = 64;
/// What they count for, at most.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long an answer is kept: to the end of the second after the one it came in.
const KEPT_S: u32 = 1;

/// Stands for all sessions that wait for the same answer.
pub(super) const MANY: Key = Key {
    slot: u32::MAX,
    generation: u32::MAX,
};

/// What is asked, by a place in the table of local channels and what the subscriber has.
type Wanted = (Key, RecoveryWish);

/// Questions that are out, and answers that may be given again.
#[derive(Default)]
pub(super) struct Recoveries {
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Sessions that wait for an answer, by the tag of the question.
    asked: HashMap<u32, (Wanted, Vec<Asker>)>,
    tags: HashMap<Wanted, u32>,
    next_tag: u32,
}

struct Kept {
    wanted: Wanted,
    until_s: u32,
    recovery: Arc<Recovery>,
    /// Its publications, in the forms in which somebody got them.
    written: Vec<(Dialect, Bytes)>,
    bytes: usize,
}

impl Recoveries {
    /// What was answered to the same wish, if the channel is still at `position`.
    fn find(&self, wanted: Wanted, position: Position, now_s: u32) -> Option<Arc<Recovery>> {
        let mut kept = self.kept.iter();
        let known = kept.find(|kept| kept.wanted == wanted)?;
        (known.recovery.position == position && now_s <= known.until_s)
            .then(|| Arc::clone(&known.recovery))
    }

    /// Keeps an answer; gives what is kept, which is an earlier one if that says the same.
    fn keep(&mut self, wanted: Wanted, recovery: Recovery, now_s: u32) -> Arc<Recovery> {
        if let Some(known) = self.find(wanted, recovery.position, now_s) {
            return known;
        }
        self.drop_if(|kept| kept.wanted == wanted);
        let publications = recovery.publications.iter();
        let bytes: usize = publications.map(Publication::kept_bytes).sum();
        let recovery = Arc::new(recovery);
        if bytes < KEPT_BYTES_MAX / 4 {
            self.kept_bytes += bytes;
            self.kept.push_back(Kept {
                wanted,
                until_s: now_s.saturating_add(KEPT_S),
                recovery: Arc::clone(&recovery),
                written: Vec::new(),
                bytes,
            });
        }
        self.make_room();
        recovery
    }

    /// The publications of an answer in the form of `dialect`: as they were written, or as `write` writes them.
    fn written(
        &mut self,
        recovery: &Arc<Recovery>,
        dialect: Dialect,
        write: impl FnOnce() -> Bytes,
    ) -> Bytes {
        let mut kept = self.kept.iter_mut();
        let Some(kept) = kept.find(|kept| Arc::ptr_eq(&kept.recovery, recovery)) else {
            return write();
        };
        let mut forms = kept.written.iter();
        if let Some((_, written)) = forms.find(|(form, _)| *form == dialect) {
            return written.clone();
        }
        let written = write();
        kept.written.push((dialect, written.clone()));
        kept.bytes += written.len();
        self.kept_bytes += written.len();
        self.make_room();
        written
    }

    fn make_room(&mut self) {
        while self.kept.len() > KEPT_MAX || self.kept_bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else {
                return;
            };
            self.kept_bytes -= oldest.bytes;
        }
    }

    fn drop_if(&mut self, is_meant: impl Fn(&Kept) -> bool) {
        self.kept.retain(|kept| !is_meant(kept));
        self.kept_bytes = self.kept.iter().map(|kept| kept.bytes).sum();
    }

    /// Drops answers whose time is over.
    pub fn expire(&mut self, now_s: u32) {
        self.drop_if(|kept| now_s > kept.until_s);
    }

    /// Drops answers about a channel whose history was removed.
    pub fn forget(&mut self, channel: Key) {
        self.drop_if(|kept| kept.wanted.0 == channel);
    }

    /// A session waits for an answer. The tag of the question that is to be asked, unless it is out already.
    fn wait(&mut self, wanted: Wanted, asker: Asker) -> Option<u32> {
        if let Some(tag) = self.tags.get(&wanted)
            && let Some((_, waiting)) = self.asked.get_mut(tag)
        {
            waiting.push(asker);
            return None;
        }
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_add(1);
        self.tags.insert(wanted, tag);
        self.asked.insert(tag, (wanted, vec![asker]));
        Some(tag)
    }

    /// A question was answered: what it was, and who waited for it.
    fn answered(&mut self, tag: u32) -> Option<(Wanted, Vec<Asker>)> {
        let (wanted, waiting) = self.asked.remove(&tag)?;
        self.tags.remove(&wanted);
        Some((wanted, waiting))
    }
}

impl Core {
    /// What a subscriber lacks of a channel that is delivered here and stands at `position`, if that is known here.
    pub(super) fn known_recovery(
        &mut self,
        local: Key,
        wish: RecoveryWish,
        position: Position,
    ) -> Option<Arc<Recovery>> {
        let known = self
            .recoveries
            .find((local, wish), position, self.clock.now_s())?;
        self.metrics.shared_recoveries.add(1);
        Some(known)
    }

    /// Keeps what was found of this shard's own channel.
    pub(super) fn keep_recovery(
        &mut self,
        local: Key,
        wish: RecoveryWish,
        recovery: Recovery,
    ) -> Arc<Recovery> {
        let now_s = self.now_s();
        self.recoveries.keep((local, wish), recovery, now_s)
    }

    /// Asks the owner of a channel what a subscriber lacks, unless that is being asked.
    pub(super) fn ask_recovery(
        &mut self,
        owner: u16,
        name: &Arc<str>,
        local: Key,
        wish: RecoveryWish,
        asker: Asker,
    ) {
        match self.recoveries.wait((local, wish), asker) {
            Some(tag) => {
                let session = MANY;
                self.ask(owner, Asker { session, tag }, name, Question::Recover(wish));
            }
            None => self.metrics.shared_recoveries.add(1),
        }
    }

    /// An answer came for all that wait under `tag`.
    pub(super) fn recovery_answered(&mut self, tag: u32, answer: AnswerTo) {
        let Some((wanted, waiting)) = self.recoveries.answered(tag) else {
            return;
        };
        let now_s = self.now_s();
        let recovery = match answer {
            AnswerTo::Recovery(recovery) => Some(self.recoveries.keep(wanted, recovery, now_s)),
            _ => None,
        };
        for asker in waiting {
            self.recovered(asker, recovery.clone());
        }
    }

    /// The publications that a subscriber lacks and wants, as its reply has them, and how many they are.
    pub(super) fn write_recovery(
        &mut self,
        recovery: &Arc<Recovery>,
        filter: Option<&Filter>,
        encoding: Encoding,
    ) -> (Bytes, u64) {
        let all = &recovery.publications;
        let Some(filter) = filter else {
            let write = || write_publications(encoding, all.iter());
            let written = self.recoveries.written(recovery, encoding.dialect, write);
            return (written, all.len() as u64);
        };
        let wanted = all.iter().filter(|publication| passes(filter, publication));
        let count = wanted.clone().count() as u64;
        (write_publications(encoding, wanted), count)
    }
}

/// Publications as a reply to a subscriber has them. One of differences gets the first whole.
fn write_publications<'a>(
    encoding: Encoding,
    publications: impl Iterator<Item = &'a Publication>,
) -> Bytes {
    let mut out = Vec::new();
    let mut base = None;
    for publication in publications {
        scribe::recovered(encoding, publication, base, |format, message| {
            append_recovered(&mut out, format, message);
        });
        base = Some(&publication.data);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::config::Config;
    use crate::hub::{Epoch, Framing, Kind, PublicationExtra, Selection, Since};
    use crate::proto::frame::{Opcode, encode_masked_frame};
    use crate::shard::Core;
    use crate::shard::interleavings::publish;
    use crate::shard::testing::{Bed, Client, with_cores};

    const CHANNEL: Key = Key {
        slot: 3,
        generation: 1,
    };

    fn at(offset: u64) -> Position {
        let epoch = Epoch::from_random(1);
        Position { epoch, offset }
    }

    fn since(offset: u64) -> RecoveryWish {
        RecoveryWish {
            since: Some(Since::from(at(offset))),
            latest_only: false,
            in_pages: false,
        }
    }

    fn recovery(publications: Vec<Publication>) -> Recovery {
        Recovery {
            recovered: true,
            position: at(publications.len() as u64),
            publications,
        }
    }

    fn publications() -> impl Strategy<Value = Vec<Publication>> {
        let kinds = prop_oneof![Just(Kind::Json), Just(Kind::Text), Just(Kind::Binary)];
        let one = (kinds, "[a-z]{0,40}", 0..1000u32, any::<bool>());
        let all = prop::collection::vec(one, 0..12);
        all.prop_map(|all| {
            let numbered = (1..).zip(all);
            let publications = numbered.map(|(offset, (kind, word, number, uses_delta))| {
                let data = format!("[\"the same every time {word}\",{number}]");
                let mut publication = Publication::new(kind, Bytes::from(data), 0);
                publication.offset = offset;
                publication.extra = uses_delta.then(|| {
                    let tags = vec![("word".into(), word.into())];
                    Arc::new(PublicationExtra {
                        tags,
                        uses_delta,
                        ..PublicationExtra::default()
                    })
                });
                publication
            });
            publications.collect()
        })
    }

    fn encoding(dialect: Dialect) -> Encoding {
        Encoding {
            dialect,
            framing: Framing::WebSocket,
            window_bits: 0,
            selection: Selection::default(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        #[test]
        fn what_is_kept_is_what_would_be_written(publications in publications()) {
            let mut recoveries = Recoveries::default();
            let wanted = (CHANNEL, since(0));
            let kept = recoveries.keep(wanted, recovery(publications.clone()), 0);
            for dialect in [
                Dialect::Json, Dialect::JsonFull, Dialect::UniJson, Dialect::Protobuf,
                Dialect::ProtobufFull,
            ] {
                let plain = write_publications(encoding(dialect), publications.iter());
                for _ in 0..2 {
                    let write = || write_publications(encoding(dialect), kept.publications.iter());
                    prop_assert_eq!(&recoveries.written(&kept, dialect, write), &plain);
                }
                let again = recoveries.written(&kept, dialect, || panic!("it was written"));
                prop_assert_eq!(&again, &plain);
            }
        }
    }

    #[test]
    fn an_answer_holds_for_a_moment_and_for_its_position() {
        let mut recoveries = Recoveries::default();
        let wanted = (CHANNEL, since(0));
        let kept = recoveries.keep(wanted, recovery(Vec::new()), 5);
        assert!(recoveries.find(wanted, at(0), 6).is_some());
        assert!(recoveries.find(wanted, at(1), 6).is_none());
        assert!(recoveries.find(wanted, at(0), 7).is_none());
        assert!(recoveries.find((CHANNEL, since(1)), at(0), 5).is_none());
        let same = recoveries.keep(wanted, recovery(Vec::new()), 5);
        assert!(Arc::ptr_eq(&kept, &same));
        recoveries.forget(CHANNEL);
        assert!(recoveries.find(wanted, at(0), 5).is_none());
        recoveries.keep(wanted, recovery(Vec::new()), 5);
        recoveries.expire(7);
        assert!(recoveries.kept.is_empty() && recoveries.kept_bytes == 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut recoveries = Recoveries::default();
        for offset in 0..1000 {
            let data = Bytes::from(vec![b'x'; 300_000]);
            let all = vec![Publication::new(Kind::Text, data, 0)];
            let kept = recoveries.keep((CHANNEL, since(offset)), recovery(all), 0);
            let large = Bytes::from(vec![b'x'; 300_000]);
            recoveries.written(&kept, Dialect::Json, || large);
            assert!(recoveries.kept_bytes <= KEPT_BYTES_MAX);
        }
        for offset in 0..1000 {
            recoveries.keep((CHANNEL, since(offset)), recovery(Vec::new()), 0);
            assert!(recoveries.kept.len() <= KEPT_MAX);
        }
        let bytes: usize = recoveries.kept.iter().map(|kept| kept.bytes).sum();
        assert_eq!(bytes, recoveries.kept_bytes);
    }

    fn say(bed: &mut Bed, client: &mut Client, command: &str) {
        let mut frame = Vec::new();
        encode_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], command.as_bytes());
        bed.say(client, &frame);
    }

    /// A client that was let in.
    fn connected(bed: &mut Bed) -> Client {
        let mut client = bed.websocket(1, "/connection/websocket");
        say(bed, &mut client, r#"{"id":1,"connect":{}}"#);
        client.message();
        client
    }

    /// It says where it was.
    fn come_back(bed: &mut Bed, client: &mut Client, channel: &str, offset: u64) {
        let subscribe = format!(
            r#"{{"id":2,"subscribe":{{"channel":"{channel}","recover":true,"offset":{offset}}}}}"#
        );
        say(bed, client, &subscribe);
    }

    fn told(bed: &mut Bed, client: &mut Client) -> String {
        bed.pass_messages();
        String::from_utf8(client.message()).unwrap()
    }

    /// How many were given what was found for another.
    fn shared(core: &Core) -> u64 {
        core.metrics.shared_recoveries.get()
    }

    #[test]
    fn all_that_come_back_from_one_place_are_told_the_same() {
        with_cores(2, Config::default(), |bed| {
            let channel = bed.channel_of(0);
            (1..=3).for_each(|number| assert!(publish(&mut bed.cores[0], &channel, number)));
            let mut clients = [(); 4].map(|()| connected(bed));
            let [first, second, third, fourth] = &mut clients;
            come_back(bed, first, &channel, 1);
            come_back(bed, second, &channel, 1);
            assert_eq!(shared(&bed.cores[1]), 1);
            let asked = std::iter::from_fn(|| bed.inboxes[0].pop()).collect::<Vec<_>>();
            assert_eq!(asked.len(), 2, "a join and a question");
            for (from, message) in asked {
                bed.cores[0].handle(from, message);
            }
            let reply = told(bed, first);
            let parsed: Value = serde_json::from_str(&reply).unwrap();
            let lacking = parsed["subscribe"]["publications"].as_array().unwrap();
            assert_eq!(lacking.len(), 2, "{reply}");
            assert_eq!(told(bed, second), reply);
            come_back(bed, third, &channel, 1);
            assert!(bed.inboxes[0].is_empty(), "nobody is asked");
            assert_eq!(told(bed, third), reply);
            assert_eq!(shared(&bed.cores[1]), 2);
            // With one publication more it does not hold any more.
            assert!(publish(&mut bed.cores[0], &channel, 4));
            bed.pass_messages();
            come_back(bed, fourth, &channel, 1);
            let more = told(bed, fourth);
            let parsed: Value = serde_json::from_str(&more).unwrap();
            let all = parsed["subscribe"]["publications"].as_array().unwrap();
            assert_eq!(all.len(), 3, "{more}");
        });
    }

    #[test]
    fn who_waits_with_others_may_go_and_they_are_told() {
        with_cores(2, Config::default(), |bed| {
            let channel = bed.channel_of(0);
            assert!(publish(&mut bed.cores[0], &channel, 1));
            let (mut first, mut second) = (connected(bed), connected(bed));
            come_back(bed, &mut first, &channel, 0);
            come_back(bed, &mut second, &channel, 0);
            assert_eq!(shared(&bed.cores[1]), 1);
            let key = first.key;
            first.reset();
            bed.receive_at(1, key);
            assert!(told(bed, &mut second).contains(r#""recovered":true"#));
        });
    }

    #[test]
    fn what_was_removed_is_given_to_nobody() {
        with_cores(2, Config::default(), |bed| {
            let channel = bed.channel_of(0);
            (1..=2).for_each(|number| assert!(publish(&mut bed.cores[0], &channel, number)));
            let (mut first, mut second) = (connected(bed), connected(bed));
            come_back(bed, &mut first, &channel, 1);
            assert!(told(bed, &mut first).contains(r#""recovered":true"#));
            bed.cores[0].answer_here(&channel, Question::RemoveHistory);
            bed.pass_messages();
            come_back(bed, &mut second, &channel, 1);
            assert!(!told(bed, &mut second).contains(r#""recovered":true"#));
        });
    }
}
