//! Frames of a channel that some of its subscribers have yet to get.

use std::rc::Rc;

use bytes::Bytes;

use super::{Backlog, Encoding, EncodingsInUse};

/// What was published and not yet sent to every subscriber on this shard, and who has had how much of it.
///
/// A pass goes round the subscribers and brings each whatever it lacks by then, as one run of bytes. So what
/// is published during a pass goes with it to everybody it has not reached yet, and with the next to the
/// others: nobody waits longer for a frame than a pass takes, and each gets one send in that time.
///
/// Subscribers are known by their position in the channel's list. What one has had is a number of frames,
/// counted from the oldest that is still here.
#[derive(Debug, Default)]
pub struct Batch {
    frames: Rc<Frames>,
    /// Came since the frames were joined.
    tail: Tail,
    /// By position: how many frames a subscriber has had.
    had: Vec<u32>,
    /// How many have had all there is.
    up_to_date: usize,
    /// Whose turn is next.
    cursor: usize,
    /// Subscribers the pass has yet to look at.
    left: usize,
    /// Subscribers looked at since frames were let go.
    looked: usize,
    /// Of how many of the frames the owner has its credit back.
    claimed: usize,
    /// What it has not had back of frames that everybody has had, in bytes.
    owed: u32,
}

/// Encoded frames, back to back: one run of them per encoding.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    runs: Vec<Run>,
    marks: Vec<Mark>,
    /// Publications among all frames that were here before them.
    publications_before: u32,
    backlog: Backlog,
}

#[derive(Debug, Default)]
struct Tail {
    runs: Vec<(Encoding, Vec<u8>)>,
    ends: Vec<(Encoding, End)>,
    marks: Vec<Mark>,
}

/// Frames of one encoding. Not every one has bytes: not all are wanted in each.
#[derive(Clone, Debug)]
struct Run {
    encoding: Encoding,
    bytes: Bytes,
    ends: Vec<End>,
}

/// Where a frame of a run ends.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Number of the frame.
    frame: u32,
    /// Bytes from the run's beginning.
    at: u32,
}

/// What is known of a frame, whatever its encoding.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Of a publication, what it is a newer state of.
    key: Option<u64>,
    /// Publications up to and with it, in all that ever were in the batch (modulo 2^32).
    publications: u32,
    /// What its owner counted for it.
    credit_bytes: u32,
}

/// One frame of what a subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it ends, in bytes from the beginning.
    pub end: u32,
    /// Of a publication, what it is a newer state of.
    pub key: Option<u64>,
}

/// A subscriber's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Its position.
    pub position: u32,
    /// Frames it has had.
    pub had: u32,
}

/// A look at everybody's progress comes after so many visits, at least.
const VISITS_PER_LOOK: usize = 256;

impl Batch {
    /// An empty one of a channel with so many subscribers, whose publications may be dropped as `backlog` says.
    pub fn new(backlog: Backlog, subscribers: usize) -> Self {
        let frames = Frames {
            backlog,
            ..Frames::default()
        };
        Self {
            frames: Rc::new(frames),
            had: vec![0; subscribers],
            up_to_date: subscribers,
            ..Self::default()
        }
    }

    /// Appends one publication in every form `in_use`: `encode` writes its frame, or nothing where it is
    /// not wanted. `credit_bytes` is what its owner counted for it, `key` what it is a newer state of.
    pub fn append(
        &mut self,
        credit_bytes: u32,
        key: u64,
        in_use: &EncodingsInUse,
        encode: impl FnMut(Encoding, &mut Vec<u8>),
    ) {
        self.append_frame(credit_bytes, Some(key), in_use, encode);
    }

    /// Appends what is not a publication, in every form `in_use`.
    pub fn append_event(
        &mut self,
        credit_bytes: u32,
        in_use: &EncodingsInUse,
        encode: impl FnMut(Encoding, &mut Vec<u8>),
    ) {
        self.append_frame(credit_bytes, None, in_use, encode);
    }

    fn append_frame(
        &mut self,
        credit_bytes: u32,
        key: Option<u64>,
        in_use: &EncodingsInUse,
        mut encode: impl FnMut(Encoding, &mut Vec<u8>),
    ) {
        let frame = self.len();
        for encoding in in_use.iter() {
            let run = self.tail.run_mut(encoding);
            let before = run.len();
            encode(encoding, run);
            let at = run.len() as u32;
            if run.len() > before {
                self.tail.ends.push((encoding, End { frame, at }));
            }
        }
        let newest = self.tail.marks.last().or(self.frames.marks.last());
        let before = newest.map_or(self.frames.publications_before, |mark| mark.publications);
        self.tail.marks.push(Mark {
            key,
            publications: before.wrapping_add(u32::from(key.is_some())),
            credit_bytes,
        });
        self.up_to_date = 0;
    }

    /// Frames that are here.
    fn len(&self) -> u32 {
        (self.frames.marks.len() + self.tail.marks.len()) as u32
    }

    /// A subscriber was added behind the others; what is here came before it.
    pub fn joined(&mut self) {
        self.had.push(self.len());
        self.up_to_date += 1;
    }

    /// The subscriber at `position` is gone, and the last one has taken its place.
    pub fn left(&mut self, position: u32) {
        if position as usize >= self.had.len() {
            return;
        }
        let had = self.had.swap_remove(position as usize);
        self.up_to_date -= usize::from(had == self.len());
    }

    /// Begins a pass: everybody has a turn. What the owner gets back for the frames that go with it, in
    /// bytes; it may publish as many meanwhile.
    pub fn begin_pass(&mut self) -> u32 {
        self.left = self.had.len();
        self.join_tail();
        self.trim();
        self.claim()
    }

    /// Nothing while somebody lacks frames that it had back before: what is here is never more than it
    /// may have under way, twice.
    fn claim(&mut self) -> u32 {
        let owed = std::mem::take(&mut self.owed);
        if self.claimed > 0 {
            return owed;
        }
        self.claimed = self.frames.marks.len();
        owed.saturating_add(credit_of(&self.frames.marks))
    }

    /// What the owner gets back for the frames that nobody lacks any more when the batch is over, in bytes:
    /// they came during the last pass and went with it.
    pub fn rest(&self) -> u32 {
        let unclaimed = self.frames.marks.get(self.claimed..).unwrap_or_default();
        let rest = credit_of(unclaimed).saturating_add(credit_of(&self.tail.marks));
        self.owed.saturating_add(rest)
    }

    /// What there is now, for the visits that follow until the next call.
    pub fn frames(&mut self) -> Rc<Frames> {
        self.join_tail();
        if self.looked >= VISITS_PER_LOOK.max(self.had.len() / 8) {
            self.trim();
        }
        Rc::clone(&self.frames)
    }

    fn join_tail(&mut self) {
        if !self.tail.marks.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            Rc::make_mut(&mut self.frames).extend(tail);
        }
    }

    /// The next subscriber that lacks something; it counts as having had all that [`Self::frames`] gave.
    /// `None` ends the pass.
    pub fn visit(&mut self) -> Option<Visit> {
        let all = self.frames.marks.len() as u32;
        while self.left > 0 && self.up_to_date < self.had.len() {
            self.left -= 1;
            self.looked += 1;
            if self.cursor >= self.had.len() {
                self.cursor = 0;
            }
            let position = self.cursor as u32;
            self.cursor += 1;
            let had = self.had.get_mut(position as usize)?;
            if *had < all {
                let visit = Visit {
                    position,
                    had: *had,
                };
                *had = all;
                self.up_to_date += usize::from(self.tail.marks.is_empty());
                return Some(visit);
            }
        }
        None
    }

    /// The position whose turn is next, or past the last.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// True if nobody lacks anything.
    pub fn is_over(&self) -> bool {
        self.up_to_date >= self.had.len()
    }

    /// Lets go of what everybody has had.
    fn trim(&mut self) {
        self.looked = 0;
        let all = self.frames.marks.len() as u32;
        let had = self.had.iter().copied().min().unwrap_or(all).min(all);
        if had == 0 {
            return;
        }
        for each in &mut self.had {
            *each -= had;
        }
        let gone = self.frames.marks.get(..had as usize).unwrap_or_default();
        let unclaimed = gone.get(self.claimed..).unwrap_or_default();
        self.owed = self.owed.saturating_add(credit_of(unclaimed));
        self.claimed = self.claimed.saturating_sub(had as usize);
        Rc::make_mut(&mut self.frames).let_go(had);
    }
}

fn credit_of(marks: &[Mark]) -> u32 {
    let bytes = marks.iter().map(|mark| mark.credit_bytes);
    bytes.fold(0, u32::saturating_add)
}

impl Tail {
    fn run_mut(&mut self, encoding: Encoding) -> &mut Vec<u8> {
        let at = self.runs.iter().position(|(used, _)| *used == encoding);
        let at = at.unwrap_or_else(|| {
            self.runs.push((encoding, Vec::new()));
            self.runs.len() - 1
        });
        &mut self.runs[at].1
    }
}

impl Frames {
    /// What a subscriber gets that has had so many frames of them. May be empty: nothing was wanted, or
    /// nobody had that form when it was made.
    pub fn since(&self, had: u32, encoding: Encoding) -> Bytes {
        let Some(run) = self.run(encoding) else {
            return Bytes::new();
        };
        match run.begins(had) {
            0 => run.bytes.clone(),
            from => run.bytes.slice((from as usize).min(run.bytes.len())..),
        }
    }

    /// How many publications those are.
    pub fn publications_since(&self, had: u32) -> u32 {
        let of = |frames: usize| {
            let newest = frames.checked_sub(1).and_then(|last| self.marks.get(last));
            newest.map_or(self.publications_before, |mark| mark.publications)
        };
        of(self.marks.len()).wrapping_sub(of(had as usize))
    }

    /// Where each of the frames ends that a subscriber gets.
    pub fn parts_since(&self, had: u32, encoding: Encoding) -> impl Iterator<Item = Part> + '_ {
        let run = self.run(encoding);
        let from = run.map_or(0, |run| run.begins(had));
        let ends = run.map_or(&[][..], |run| &run.ends[run.first(had)..]);
        ends.iter().map(move |end| Part {
            end: end.at - from,
            key: self.marks.get(end.frame as usize).and_then(|mark| mark.key),
        })
    }

    /// What may be dropped of them for those who read too slowly.
    pub fn backlog(&self) -> Backlog {
        self.backlog
    }

    fn run(&self, encoding: Encoding) -> Option<&Run> {
        self.runs.iter().find(|run| run.encoding == encoding)
    }

    fn extend(&mut self, tail: Tail) {
        self.marks.extend(tail.marks);
        for (encoding, bytes) in tail.runs {
            let ends = tail.ends.iter().filter(|(used, _)| *used == encoding);
            let ends = ends.map(|(_, end)| *end);
            match self.runs.iter_mut().find(|run| run.encoding == encoding) {
                Some(run) => run.extend(&bytes, ends),
                None if bytes.is_empty() => {}
                None => self.runs.push(Run {
                    encoding,
                    bytes: bytes.into(),
                    ends: ends.collect(),
                }),
            }
        }
    }

    /// Lets go of the oldest `frames`.
    fn let_go(&mut self, frames: u32) {
        for run in &mut self.runs {
            run.let_go(frames);
        }
        self.runs.retain(|run| !run.ends.is_empty());
        let mut gone = self.marks.drain(..(frames as usize).min(self.marks.len()));
        if let Some(newest) = gone.next_back() {
            self.publications_before = newest.publications;
        }
    }
}

impl Run {
    fn extend(&mut self, bytes: &[u8], ends: impl Iterator<Item = End>) {
        let before = self.bytes.len();
        if !bytes.is_empty() {
            self.bytes = [&self.bytes[..], bytes].concat().into();
        }
        self.ends.extend(ends.map(|end| End {
            at: end.at + before as u32,
            ..end
        }));
    }

    /// Number of the first end that is behind so many frames.
    fn first(&self, frames: u32) -> usize {
        self.ends.partition_point(|end| end.frame < frames)
    }

    /// Where what is behind so many frames begins.
    fn begins(&self, frames: u32) -> u32 {
        let last = self.first(frames).checked_sub(1);
        last.and_then(|at| self.ends.get(at))
            .map_or(0, |end| end.at)
    }

    fn let_go(&mut self, frames: u32) {
        let (begins, first) = (self.begins(frames), self.first(frames));
        self.bytes = self.bytes.slice((begins as usize).min(self.bytes.len())..);
        self.ends.drain(..first);
        for end in &mut self.ends {
            end.frame -= frames;
            end.at -= begins;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Encoding = Encoding {
        window_bits: 9,
        ..Encoding::PLAIN
    };

    fn in_use(encodings: &[Encoding]) -> EncodingsInUse {
        let mut in_use = EncodingsInUse::default();
        encodings.iter().for_each(|encoding| in_use.add(*encoding));
        in_use
    }

    fn append(batch: &mut Batch, in_use: &EncodingsInUse, text: &str) {
        batch.append(1, 7, in_use, |encoding, out| {
            let len = if encoding == SMALL { 1 } else { text.len() };
            out.extend_from_slice(&text.as_bytes()[..len]);
        });
    }

    /// Who is visited in a pass, and what each gets.
    fn pass(batch: &mut Batch, encoding: Encoding) -> Vec<(u32, String)> {
        batch.begin_pass();
        let frames = batch.frames();
        let visits = std::iter::from_fn(|| batch.visit());
        let text = |had| String::from_utf8(frames.since(had, encoding).to_vec()).unwrap();
        visits
            .map(|visit| (visit.position, text(visit.had)))
            .collect()
    }

    fn got(position: u32, text: &str) -> (u32, String) {
        (position, text.to_owned())
    }

    #[test]
    fn what_comes_during_a_pass_goes_with_it_to_those_it_has_not_reached() {
        let mut batch = Batch::new(Backlog::Kept, 3);
        let in_use = in_use(&[Encoding::PLAIN]);
        append(&mut batch, &in_use, "one");
        batch.begin_pass();
        let first = batch.frames();
        let visit = batch.visit().unwrap();
        assert_eq!((visit.position, visit.had), (0, 0));
        assert_eq!(first.since(0, Encoding::PLAIN), "one");
        append(&mut batch, &in_use, "two");
        let both = batch.frames();
        let rest: Vec<_> = std::iter::from_fn(|| batch.visit()).collect();
        assert!(rest.iter().all(|visit| visit.had == 0));
        assert_eq!(both.since(0, Encoding::PLAIN), "onetwo");
        assert_eq!(both.publications_since(0), 2);
        assert!(!batch.is_over());
        assert_eq!(pass(&mut batch, Encoding::PLAIN), [got(0, "two")]);
        assert!(batch.is_over());
    }

    #[test]
    fn the_owner_has_all_its_credit_back_when_nobody_lacks_anything() {
        let in_use = in_use(&[Encoding::PLAIN]);
        // One that comes during a pass and goes with it.
        let mut batch = Batch::new(Backlog::Kept, 1);
        append(&mut batch, &in_use, "one");
        let mut back = batch.begin_pass();
        append(&mut batch, &in_use, "two");
        batch.frames();
        while batch.visit().is_some() {}
        assert!(batch.is_over());
        back += batch.rest();
        assert_eq!(back, 2);
        // One that is let go before the next pass.
        let mut batch = Batch::new(Backlog::Kept, 1);
        append(&mut batch, &in_use, "one");
        let mut back = batch.begin_pass();
        append(&mut batch, &in_use, "two");
        batch.frames();
        while batch.visit().is_some() {}
        append(&mut batch, &in_use, "three");
        back += batch.begin_pass();
        assert_eq!((back, batch.rest()), (3, 0));
        // And those that nobody is left for.
        let mut batch = Batch::new(Backlog::Kept, 1);
        append(&mut batch, &in_use, "one");
        batch.left(0);
        let back = batch.begin_pass();
        append(&mut batch, &in_use, "two");
        assert!(batch.is_over());
        assert_eq!((back, batch.rest()), (1, 1));
    }

    #[test]
    fn a_late_session_gets_only_what_came_after_it() {
        let mut batch = Batch::new(Backlog::Kept, 1);
        let in_use = in_use(&[Encoding::PLAIN]);
        append(&mut batch, &in_use, "one");
        batch.joined();
        append(&mut batch, &in_use, "two");
        batch.joined();
        let all = pass(&mut batch, Encoding::PLAIN);
        assert_eq!(all, [got(0, "onetwo"), got(1, "two")]);
        let frames = batch.frames();
        let publications = [0, 1, 2].map(|had| frames.publications_since(had));
        assert_eq!(publications, [2, 1, 0]);
    }

    #[test]
    fn where_frames_end_is_known() {
        let mut batch = Batch::new(Backlog::DropOldest, 1);
        let in_use = in_use(&[Encoding::PLAIN]);
        append(&mut batch, &in_use, "one");
        append(&mut batch, &in_use, "three");
        batch.append_event(1, &in_use, |_, out| out.push(b'!'));
        let frames = batch.frames();
        let parts = |had| {
            let parts = frames.parts_since(had, Encoding::PLAIN);
            parts.map(|part| (part.end, part.key)).collect::<Vec<_>>()
        };
        assert_eq!(parts(0), [(3, Some(7)), (8, Some(7)), (9, None)]);
        assert_eq!(parts(1), [(5, Some(7)), (6, None)]);
        assert_eq!(frames.parts_since(0, SMALL).count(), 0);
        assert_eq!(
            (frames.publications_since(0), frames.backlog()),
            (2, Backlog::DropOldest)
        );
    }

    #[test]
    fn a_session_that_brings_a_new_encoding_gets_what_comes_after_it() {
        let mut batch = Batch::new(Backlog::Kept, 1);
        append(&mut batch, &in_use(&[Encoding::PLAIN]), "one");
        batch.joined();
        append(&mut batch, &in_use(&[Encoding::PLAIN, SMALL]), "two");
        let frames = batch.frames();
        assert_eq!(frames.since(1, SMALL), "t");
        assert_eq!(frames.since(0, Encoding::PLAIN), "onetwo");
    }

    #[test]
    fn the_owner_gets_its_credit_back_when_a_pass_begins() {
        let mut batch = Batch::new(Backlog::Kept, 2);
        let in_use = in_use(&[Encoding::PLAIN]);
        append(&mut batch, &in_use, "one");
        append(&mut batch, &in_use, "two");
        assert_eq!(batch.begin_pass(), 2);
        batch.frames();
        batch.visit().unwrap();
        append(&mut batch, &in_use, "three");
        // Somebody lacks what was claimed before: no more is allowed on top of it.
        assert_eq!(batch.begin_pass(), 0);
        assert_eq!(pass(&mut batch, Encoding::PLAIN).len(), 2);
        assert_eq!(
            batch.begin_pass(),
            1,
            "the third was let go of before it was claimed"
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish(u8),
        Event,
        Join(bool),
        Leave(prop::sample::Index),
        Begin,
        Join1,
        Visit(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => any::<u8>().prop_map(Step::Publish),
            1 => Just(Step::Event),
            2 => any::<bool>().prop_map(Step::Join),
            2 => any::<prop::sample::Index>().prop_map(Step::Leave),
            2 => Just(Step::Begin),
            1 => Just(Step::Join1),
            4 => (1..5u8).prop_map(Step::Visit),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// A subscriber: its encoding, what it should have had in the end, what it has had.
    #[derive(Clone, Debug)]
    struct Listener {
        encoding: Encoding,
        wanted: Vec<u8>,
        had: Vec<u8>,
        publications: (u32, u32),
    }

    #[derive(Default)]
    struct Model {
        batch: Batch,
        listeners: Vec<Listener>,
        credit: (u64, u64),
    }

    impl Model {
        fn join(&mut self, is_small: bool) {
            self.batch.joined();
            self.listeners.push(Listener {
                encoding: if is_small { SMALL } else { Encoding::PLAIN },
                wanted: Vec::new(),
                had: Vec::new(),
                publications: (0, 0),
            });
        }

        fn publish(&mut self, byte: u8, is_event: bool) {
            let in_use = self.listeners.iter().map(|listener| listener.encoding);
            let in_use = in_use.collect::<Vec<_>>();
            // Of the small encoding, every third publication is unwanted.
            let text = |encoding| match encoding {
                SMALL if byte.is_multiple_of(3) => vec![],
                SMALL => vec![byte],
                _ => vec![byte, b'.'],
            };
            let encode = |encoding, out: &mut Vec<u8>| out.extend(text(encoding));
            match is_event {
                true => self
                    .batch
                    .append_event(3, &super::tests::in_use(&in_use), encode),
                false => self
                    .batch
                    .append(3, 0, &super::tests::in_use(&in_use), encode),
            }
            self.credit.0 += 3;
            for listener in &mut self.listeners {
                listener.wanted.extend(text(listener.encoding));
                listener.publications.0 += u32::from(!is_event);
            }
        }

        fn visit(&mut self, count: u8) {
            let frames = self.batch.frames();
            for _ in 0..count {
                let Some(Visit { position, had }) = self.batch.visit() else {
                    return;
                };
                let listener = &mut self.listeners[position as usize];
                let bytes = frames.since(had, listener.encoding);
                let ends = frames.parts_since(had, listener.encoding).last();
                assert_eq!(ends.map_or(0, |part| part.end as usize), bytes.len());
                listener.had.extend_from_slice(&bytes);
                listener.publications.1 += frames.publications_since(had);
                assert!(listener.wanted.starts_with(&listener.had), "{listener:?}");
            }
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Publish(byte) => self.publish(byte, false),
                Step::Event => self.publish(b'!', true),
                Step::Join(is_small) => self.join(is_small),
                Step::Join1 => drop(self.batch.frames()),
                Step::Leave(index) if !self.listeners.is_empty() => {
                    let position = index.index(self.listeners.len());
                    self.listeners.swap_remove(position);
                    self.batch.left(position as u32);
                }
                Step::Leave(_) => {}
                Step::Begin => self.begin(),
                Step::Visit(count) => self.visit(count),
            }
        }

        fn begin(&mut self) {
            self.credit.1 += u64::from(self.batch.begin_pass());
            assert!(self.credit.1 <= self.credit.0);
        }
    }

    proptest! {
        #[test]
        fn everybody_gets_everything_once_and_in_order(steps in steps()) {
            let mut model = Model::default();
            steps.into_iter().for_each(|step| model.take(step));
            // Whatever lags needs two more passes at the most: one that somebody was moved out of the way of.
            for _ in 0..2 {
                model.begin();
                model.visit(u8::MAX);
            }
            prop_assert!(model.batch.is_over());
            for listener in &model.listeners {
                prop_assert_eq!(&listener.had, &listener.wanted);
                prop_assert_eq!(listener.publications.0, listener.publications.1);
            }
            model.begin();
            prop_assert_eq!(model.batch.len(), 0, "everything is let go of");
        }
    }
}
