//! Frames of a channel that wait for their fan-out pass.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;

use super::{Backlog, Encoding, EncodingsInUse};

/// Encoded frames back to back, one run of them per encoding. While one pass of a channel runs, what
/// is published meanwhile gathers in the next batch and goes out with one send per subscriber.
#[derive(Debug, Default)]
pub struct Batch {
    runs: Vec<(Encoding, Vec<u8>)>,
    /// Where the frames of each run end, if they may be dropped one by one.
    parts: Vec<(Encoding, Part)>,
    backlog: Backlog,
    publications: u32,
    /// Published bytes in the batch, as the channel's owner counts them.
    credit_bytes: u32,
    /// Sessions that subscribed when the batch had begun, with what was in it then.
    late: HashMap<u32, Before>,
}

/// One frame of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it ends, in bytes from the run's beginning.
    pub end: u32,
    /// Of a publication, what it is a newer state of.
    pub key: Option<u64>,
}

/// What of a batch a session came too late for.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// Bytes of its encoding's frames.
    bytes: u32,
    publications: u32,
}

/// A batch on its way to the subscribers.
#[derive(Debug)]
pub struct Frames {
    runs: Vec<(Encoding, Bytes)>,
    parts: Vec<(Encoding, Part)>,
    backlog: Backlog,
    publications: u32,
    late: HashMap<u32, Before>,
}

impl Batch {
    /// An empty one of a channel whose publications may be dropped as `backlog` says.
    pub fn new(backlog: Backlog) -> Self {
        Self {
            backlog,
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
        self.append_part(credit_bytes, Some(key), in_use, encode);
        self.publications += 1;
    }

    /// Appends what is not a publication, in every form `in_use`.
    pub fn append_event(
        &mut self,
        credit_bytes: u32,
        in_use: &EncodingsInUse,
        encode: impl FnMut(Encoding, &mut Vec<u8>),
    ) {
        self.append_part(credit_bytes, None, in_use, encode);
    }

    fn append_part(
        &mut self,
        credit_bytes: u32,
        key: Option<u64>,
        in_use: &EncodingsInUse,
        mut encode: impl FnMut(Encoding, &mut Vec<u8>),
    ) {
        for encoding in in_use.iter() {
            let run = self.run_mut(encoding);
            let before = run.len();
            encode(encoding, run);
            let end = run.len();
            if self.backlog != Backlog::Kept && end > before {
                let end = end as u32;
                self.parts.push((encoding, Part { end, key }));
            }
        }
        self.credit_bytes = self.credit_bytes.saturating_add(credit_bytes);
    }

    /// Notes that the session at `slot` came after what is in the batch now.
    pub fn joined(&mut self, slot: u32, encoding: Encoding) {
        let before = Before {
            bytes: self.run_mut(encoding).len() as u32,
            publications: self.publications,
        };
        self.late.insert(slot, before);
    }

    /// What the owner gets back when the batch is taken, in bytes.
    pub fn credit_bytes(&self) -> u32 {
        self.credit_bytes
    }

    /// Ends the batch.
    pub fn take(self) -> Frames {
        let runs = self.runs.into_iter();
        Frames {
            runs: runs
                .map(|(encoding, frames)| (encoding, Bytes::from(frames)))
                .collect(),
            parts: self.parts,
            backlog: self.backlog,
            publications: self.publications,
            late: self.late,
        }
    }

    fn run_mut(&mut self, encoding: Encoding) -> &mut Vec<u8> {
        let at = self.runs.iter().position(|(used, _)| *used == encoding);
        let at = at.unwrap_or_else(|| {
            self.runs.push((encoding, Vec::new()));
            self.runs.len() - 1
        });
        &mut self.runs[at].1
    }
}

/// What a session gets whose form is not in the batch: nobody had it when it was made.
static NOTHING: Bytes = Bytes::new();

impl Frames {
    /// What the session at `slot` gets: all frames of its encoding, or those published after it came.
    /// May be empty.
    pub fn of(&self, slot: u32, encoding: Encoding) -> Cow<'_, Bytes> {
        let frames = self.all_of(encoding);
        if self.late.is_empty() {
            return Cow::Borrowed(frames);
        }
        match self.late.get(&slot) {
            Some(before) => {
                let from = (before.bytes as usize).min(frames.len());
                Cow::Owned(frames.slice(from..))
            }
            None => Cow::Borrowed(frames),
        }
    }

    /// What may be dropped of them for those who read too slowly.
    pub fn backlog(&self) -> Backlog {
        self.backlog
    }

    /// Where each of the frames that the session at `slot` gets ends within them. None if nothing may be
    /// dropped.
    pub fn parts_of(&self, slot: u32, encoding: Encoding) -> impl Iterator<Item = Part> + '_ {
        let from = self.late.get(&slot).map_or(0, |before| before.bytes);
        let parts = self.parts.iter().filter(move |(used, _)| *used == encoding);
        parts.filter_map(move |(_, part)| {
            let end = part.end.checked_sub(from).filter(|end| *end > 0)?;
            Some(Part { end, ..*part })
        })
    }

    /// How many publications those are.
    pub fn publications_of(&self, slot: u32) -> u32 {
        let before = self.late.get(&slot);
        self.publications - before.map_or(0, |before| before.publications)
    }

    fn all_of(&self, encoding: Encoding) -> &Bytes {
        let run = self.runs.iter().find(|(used, _)| *used == encoding);
        run.map_or(&NOTHING, |(_, frames)| frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Encoding = Encoding {
        window_bits: 9,
        ..Encoding::PLAIN
    };

    fn plain_in_use() -> EncodingsInUse {
        let mut in_use = EncodingsInUse::default();
        in_use.add(Encoding::PLAIN);
        in_use
    }

    fn append(batch: &mut Batch, in_use: &EncodingsInUse, text: &str) {
        batch.append(1, 7, in_use, |encoding, out| {
            let len = if encoding == SMALL { 1 } else { text.len() };
            out.extend_from_slice(&text.as_bytes()[..len]);
        });
    }

    #[test]
    fn a_late_session_gets_only_what_came_after_it() {
        let mut batch = Batch::default();
        let in_use = plain_in_use();
        append(&mut batch, &in_use, "one");
        batch.joined(4, Encoding::PLAIN);
        append(&mut batch, &in_use, "two");
        batch.joined(5, Encoding::PLAIN);
        let frames = batch.take();
        assert_eq!(*frames.of(1, Encoding::PLAIN), "onetwo");
        assert_eq!(*frames.of(4, Encoding::PLAIN), "two");
        assert_eq!(*frames.of(5, Encoding::PLAIN), "");
        let publications = [1, 4, 5].map(|slot| frames.publications_of(slot));
        assert_eq!(publications, [2, 1, 0]);
    }

    #[test]
    fn where_frames_end_is_known_if_they_may_be_dropped() {
        let mut batch = Batch::new(Backlog::DropOldest);
        let in_use = plain_in_use();
        append(&mut batch, &in_use, "one");
        batch.joined(4, Encoding::PLAIN);
        append(&mut batch, &in_use, "three");
        batch.append_event(1, &in_use, |_, out| out.push(b'!'));
        let frames = batch.take();
        let parts = |slot| {
            frames
                .parts_of(slot, Encoding::PLAIN)
                .map(|part| (part.end, part.key))
        };
        let all = [(3, Some(7)), (8, Some(7)), (9, None)];
        assert!(parts(1).eq(all));
        assert!(parts(4).eq([(5, Some(7)), (6, None)]));
        assert_eq!(frames.parts_of(1, SMALL).count(), 0);
    }

    #[test]
    fn a_session_that_brings_a_new_encoding_gets_what_comes_after_it() {
        let mut batch = Batch::default();
        let mut in_use = plain_in_use();
        append(&mut batch, &in_use, "one");
        in_use.add(SMALL);
        batch.joined(4, SMALL);
        append(&mut batch, &in_use, "two");
        let frames = batch.take();
        assert_eq!(*frames.of(4, SMALL), "t");
        assert_eq!(*frames.of(1, Encoding::PLAIN), "onetwo");
    }
}
