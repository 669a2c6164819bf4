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
