//! The newest publications of a channel, and what a client that comes back gets of them.

use std::collections::{VecDeque, vec_deque};

use super::{Epoch, Position, Publication, Since};

/// What a channel keeps of its publications. With a size or a lifetime of 0 it keeps none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// How many publications are kept.
    pub size: u32,
    /// How long they are kept, in seconds. Each publication renews it for all.
    pub ttl_s: u32,
    /// How long epoch and newest offset outlive the last use of the channel, in seconds.
    pub meta_ttl_s: u32,
}

impl StreamOptions {
    /// Whether publications are kept at all.
    pub fn keeps_history(&self) -> bool {
        self.size > 0 && self.ttl_s > 0
    }
}

/// The publications kept, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    publications: VecDeque<Publication>,
    /// What `publications` count for.
    kept_bytes: usize,
    expires_s: u32,
}

/// What a history takes besides its publications: itself, and its place in the order of eviction.
const OVERHEAD_BYTES: usize = size_of::<History>() + 48;

impl History {
    /// A history as it was kept elsewhere, for `ttl_s` more.
    pub fn from_publications(publications: Vec<Publication>, ttl_s: u32, now_s: u32) -> Self {
        Self {
            kept_bytes: publications.iter().map(Publication::kept_bytes).sum(),
            publications: publications.into(),
            expires_s: now_s.saturating_add(ttl_s),
        }
    }

    /// What a history of this one publication counts for.
    pub fn bytes_of_one(publication: &Publication) -> usize {
        OVERHEAD_BYTES + publication.kept_bytes()
    }

    /// What the history counts for against the shard's bound.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.kept_bytes
    }

    /// Seconds until it expires; 0 if it has.
    pub fn ttl_s(&self, now_s: u32) -> u32 {
        self.expires_s.saturating_sub(now_s)
    }

    /// Whether nothing of it may be handed out any more.
    pub fn is_expired(&self, now_s: u32) -> bool {
        self.ttl_s(now_s) == 0
    }

    /// Publications kept.
    pub fn len(&self) -> usize {
        self.publications.len()
    }

    /// Appends a publication that has its offset, and drops what is too old or too much.
    pub fn push(&mut self, publication: Publication, options: &StreamOptions, now_s: u32) {
        if self.is_expired(now_s) {
            self.publications = VecDeque::new();
            self.kept_bytes = 0;
        }
        while self.len() >= options.size as usize && self.drop_oldest() {}
        // Grows by an eighth, not by doubling: most of a short history would be spare places.
        if self.len() == self.publications.capacity() {
            self.publications.reserve_exact((self.len() / 8).max(1));
        }
        self.kept_bytes += publication.kept_bytes();
        self.publications.push_back(publication);
        self.expires_s = now_s.saturating_add(options.ttl_s);
    }

    /// Drops the oldest publication; false if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.publications.pop_front() else {
            return false;
        };
        self.kept_bytes -= oldest.kept_bytes();
        self.shrink();
        true
    }

    /// Gives spare places back when they are more than a quarter: they are not counted.
    fn shrink(&mut self) {
        let capacity = self.publications.capacity();
        if capacity > 16 && self.len() < capacity / 4 * 3 {
            self.publications.shrink_to(self.len() + self.len() / 8);
        }
    }
}

/// How many publications somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// None: only the position.
    None,
    /// At most so many.
    AtMost(usize),
    /// All there are.
    All,
}

/// From which end publications are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first, from the one after the position given.
    Forward,
    /// Newest first, from the one before the position given.
    Backward,
}

/// The epoch somebody reads from is not that of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrecoverable;

/// Publications of a history, and where the channel stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The publications, in the order asked for.
    pub publications: Vec<Publication>,
    /// The channel's epoch and newest offset.
    pub position: Position,
}

/// What a client that comes back gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// True exactly when `publications` are all that the client lacks.
    pub recovered: bool,
    /// What the client lacks, oldest first; empty if that is not to be had.
    pub publications: Vec<Publication>,
    /// The channel's epoch and newest offset.
    pub position: Position,
}

/// A channel's publications at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    position: Position,
    kept: Option<&'a VecDeque<Publication>>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(position: Position, history: Option<&'a History>, now_s: u32) -> Self {
        let history = history.filter(|history| !history.is_expired(now_s));
        Self {
            position,
            kept: history.map(|history| &history.publications),
        }
    }

    /// The channel's epoch and newest offset.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Publications that may be handed out, oldest first. Offsets go up; one is missing where a
    /// publication was not to be kept.
    pub fn publications(&self) -> vec_deque::Iter<'a, Publication> {
        self.kept.map(VecDeque::iter).unwrap_or_default()
    }

    /// Everything after `since`, if it is all there and no more than `limit`; with no `since` nothing
    /// but the position.
    pub fn recover(&self, since: Option<Since>, limit: usize) -> Recovery {
        match since.and_then(|since| self.lacking(since, limit)) {
            Some(lacking) => self.recovery(true, lacking),
            None => self.recovery(false, std::iter::empty()),
        }
    }

    /// What follows `since`, up to `limit`, if the first of it is the next one: what is beyond is for another time.
    pub fn page(&self, since: Option<Since>, limit: usize) -> Recovery {
        let known = since.filter(|since| self.is_own(since.epoch));
        let Some(from) = known.filter(|since| since.offset <= self.position.offset) else {
            return self.recovery(false, std::iter::empty());
        };
        let skipped = self.count(|publication| publication.offset <= from.offset);
        let mut next = self.publications().skip(skipped).peekable();
        let is_next = match next.peek() {
            Some(next) => next.offset == from.offset + 1,
            None => from.offset == self.position.offset,
        };
        if !is_next {
            return self.recovery(false, std::iter::empty());
        }
        // Up to one that was not to be kept.
        let whole = next.zip(from.offset + 1..).take(limit);
        let whole = whole.take_while(|(publication, offset)| publication.offset == *offset);
        self.recovery(true, whole.map(|(publication, _)| publication))
    }

    /// All of `(since, top]`, no more than `limit`.
    fn lacking(
        &self,
        since: Since,
        limit: usize,
    ) -> Option<impl Iterator<Item = &'a Publication> + use<'a>> {
        let missed = self.position.offset.checked_sub(since.offset)?;
        let missed = usize::try_from(missed).ok()?;
        let first = self.publications().len().checked_sub(missed)?;
        let lacking = self.publications().skip(first);
        // Offsets go up to the top: as many as were missed are those missed, if the first is.
        let next = lacking.clone().next();
        let is_whole = next.is_none_or(|next| next.offset == since.offset + 1);
        (self.is_own(since.epoch) && missed <= limit && is_whole).then_some(lacking)
    }

    /// Where only the newest publication matters: that one, unless the client has it.
    pub fn latest(&self, since: Option<Since>) -> Recovery {
        // In a channel without publications there is no newest that anybody could have.
        let is_there =
            self.position.offset > 0 && since.is_some_and(|since| since == self.position.into());
        let newest = self.kept.and_then(VecDeque::back);
        let newest = newest.filter(|newest| newest.offset == self.position.offset);
        self.recovery(
            newest.is_some() || is_there,
            newest.filter(|_| !is_there).into_iter(),
        )
    }

    /// Publications before or after `since`, or from an end of the history.
    pub fn history(
        &self,
        since: Option<Since>,
        limit: Limit,
        direction: Direction,
    ) -> Result<Page, Unrecoverable> {
        if since.is_some_and(|since| !self.is_own(since.epoch)) {
            return Err(Unrecoverable);
        }
        let limit = match limit {
            Limit::None => 0,
            Limit::AtMost(limit) => limit,
            Limit::All => usize::MAX,
        };
        let publications = match direction {
            Direction::Forward => self.after(since, limit),
            Direction::Backward => self.before(since, limit),
        };
        let position = self.position;
        Ok(Page {
            publications,
            position,
        })
    }

    fn after(&self, since: Option<Since>, limit: usize) -> Vec<Publication> {
        let offset = since.map_or(0, |since| since.offset);
        let skipped = self.count(|publication| publication.offset <= offset);
        let publications = self.publications().skip(skipped);
        publications.take(limit).cloned().collect()
    }

    fn before(&self, since: Option<Since>, limit: usize) -> Vec<Publication> {
        let offset = since.map_or(u64::MAX, |since| since.offset);
        let taken = self.count(|publication| publication.offset < offset);
        let publications = self.publications().take(taken);
        publications.rev().take(limit).cloned().collect()
    }

    /// How many publications at the beginning are so.
    fn count(&self, is_so: impl FnMut(&Publication) -> bool) -> usize {
        self.kept.map_or(0, |kept| kept.partition_point(is_so))
    }

    fn is_own(&self, epoch: Option<Epoch>) -> bool {
        epoch.is_none_or(|epoch| epoch == self.position.epoch)
    }

    fn recovery<'p>(
        &self,
        recovered: bool,
        publications: impl Iterator<Item = &'p Publication>,
    ) -> Recovery {
        Recovery {
            recovered,
            publications: publications.cloned().collect(),
            position: self.position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Kind;
    use bytes::Bytes;

    const OPTIONS: StreamOptions = StreamOptions {
        size: 3,
        ttl_s: 10,
        meta_ttl_s: 0,
    };

    fn at(offset: u64) -> Position {
        let epoch = Epoch::from_random(5);
        Position { epoch, offset }
    }

    fn history(offsets: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        for offset in offsets {
            let mut publication = Publication::new(Kind::Text, Bytes::new(), 0);
            publication.offset = offset;
            history.push(publication, &OPTIONS, 0);
        }
        history
    }

    fn offsets(publications: &[Publication]) -> Vec<u64> {
        publications.iter().map(|p| p.offset).collect()
    }

    #[test]
    fn a_publication_that_was_not_kept_is_never_recovered_over() {
        let history = history([1, 2, 4]);
        let stream = Stream::new(at(4), Some(&history), 0);
        for (since, expected) in [(0, None), (1, None), (2, None), (3, Some(1)), (4, Some(0))] {
            let recovery = stream.recover(Some(at(since).into()), 10);
            let lacking = recovery.recovered.then_some(recovery.publications.len());
            assert_eq!(lacking, expected, "{since}");
        }
        let newest_missing = Stream::new(at(5), Some(&history), 0);
        assert!(!newest_missing.recover(Some(at(4).into()), 10).recovered);
        assert!(!newest_missing.latest(None).recovered);
    }

    #[test]
    fn nobody_recovers_who_does_not_ask() {
        let history = history([1]);
        let stream = Stream::new(at(1), Some(&history), 0);
        assert!(!stream.recover(None, 10).recovered);
    }

    #[test]
    fn the_newest_is_enough_where_only_it_matters() {
        let history = history([7, 8]);
        let stream = Stream::new(at(8), Some(&history), 0);
        let latest = |since| {
            let recovery = stream.latest(since);
            assert!(recovery.recovered);
            offsets(&recovery.publications)
        };
        assert_eq!(latest(None), [8]);
        assert_eq!(latest(Some(Since::from_text("", 0))), [8]);
        assert_eq!(latest(Some(Since::from_text("another", 8))), [8]);
        assert_eq!(latest(Some(at(3).into())), [8]);
        assert_eq!(latest(Some(at(8).into())), [0u64; 0]);
    }

    #[test]
    fn without_a_newest_only_who_is_there_is_up_to_date() {
        let stream = Stream::new(at(8), None, 0);
        assert!(stream.latest(Some(at(8).into())).recovered);
        assert!(!stream.latest(Some(at(7).into())).recovered);
        assert!(!stream.latest(None).recovered);
    }

    #[test]
    fn pages_are_read_from_either_end() {
        let history = history(1..=5);
        let stream = Stream::new(at(5), Some(&history), 0);
        let read = |since: Option<u64>, limit, direction| {
            let since = since.map(|offset| at(offset).into());
            offsets(
                &stream
                    .history(since, limit, direction)
                    .unwrap()
                    .publications,
            )
        };
        assert_eq!(read(None, Limit::All, Direction::Forward), [3, 4, 5]);
        assert_eq!(read(None, Limit::AtMost(2), Direction::Backward), [5, 4]);
        assert_eq!(read(Some(3), Limit::AtMost(1), Direction::Forward), [4]);
        assert_eq!(read(Some(5), Limit::All, Direction::Backward), [4, 3]);
        assert!(read(None, Limit::None, Direction::Forward).is_empty());
        let foreign = Some(Since::from_text("another", 3));
        assert_eq!(
            stream.history(foreign, Limit::None, Direction::Forward),
            Err(Unrecoverable)
        );
    }

    #[test]
    fn each_publication_renews_the_lifetime_of_all() {
        let mut history = history([1]);
        let mut second = Publication::new(Kind::Text, Bytes::new(), 0);
        second.offset = 2;
        history.push(second.clone(), &OPTIONS, 9);
        assert_eq!(
            Stream::new(at(2), Some(&history), 18).publications().len(),
            2
        );
        assert_eq!(
            Stream::new(at(2), Some(&history), 19).publications().len(),
            0
        );
        history.push(second, &OPTIONS, 19);
        assert_eq!(history.len(), 1);
    }
}
