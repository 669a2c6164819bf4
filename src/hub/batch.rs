//! Frames of a channel that wait for their fan-out pass.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use thin_vec::ThinVec;

/// In what form a session gets its publications. Each form in use is encoded once, whatever the
/// number of sessions that get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// WebSocket frames as they are.
    Plain,
    /// Frames compressed with a window of so many bits, each by itself (RFC 7692).
    Deflate {
        /// 8 to 15.
        window_bits: u8,
    },
}

/// The forms in use among a channel's subscribers, besides plain, which always is.
#[derive(Debug, Default)]
pub struct EncodingsInUse(ThinVec<(Encoding, u32)>);

impl EncodingsInUse {
    /// One more session gets `encoding`.
    pub fn add(&mut self, encoding: Encoding) {
        if encoding == Encoding::Plain {
            return;
        }
        match self.0.iter_mut().find(|(used, _)| *used == encoding) {
            Some((_, sessions)) => *sessions += 1,
            None => self.0.push((encoding, 1)),
        }
    }

    /// One session less gets `encoding`.
    pub fn remove(&mut self, encoding: Encoding) {
        if let Some((_, sessions)) = self.0.iter_mut().find(|(used, _)| *used == encoding) {
            *sessions -= 1;
        }
        self.0.retain(|(_, sessions)| *sessions > 0);
    }

    /// The forms, in the order they came up.
    pub fn iter(&self) -> impl Iterator<Item = Encoding> + '_ {
        self.0.iter().map(|(encoding, _)| *encoding)
    }
}

/// Encoded frames back to back, one run of them per encoding. While one pass of a channel runs, what
/// is published meanwhile gathers in the next batch and goes out with one send per subscriber.
#[derive(Debug, Default)]
pub struct Batch {
    plain: Vec<u8>,
    others: Vec<(Encoding, Vec<u8>)>,
    /// Publications in `plain`.
    publications: u32,
    /// Published bytes in the batch, as the channel's owner counts them.
    credit_bytes: u32,
    /// Sessions that subscribed when the batch had begun, with the byte of their encoding's frames
    /// from which they take part.
    late: HashMap<u32, u32>,
}

/// A batch on its way to the subscribers.
#[derive(Debug)]
pub struct Frames {
    plain: Bytes,
    others: Vec<(Encoding, Bytes)>,
    publications: u32,
    late: HashMap<u32, u32>,
}

impl Batch {
    /// Appends one publication in every form `in_use`: `encode` writes its frame. `credit_bytes` is
    /// what its owner counted for it.
    pub fn append(
        &mut self,
        credit_bytes: u32,
        in_use: &EncodingsInUse,
        mut encode: impl FnMut(Encoding, &mut Vec<u8>),
    ) {
        encode(Encoding::Plain, &mut self.plain);
        for encoding in in_use.iter() {
            encode(encoding, self.run_mut(encoding));
        }
        self.publications += 1;
        self.credit_bytes = self.credit_bytes.saturating_add(credit_bytes);
    }

    /// Notes that the session at `slot` came after what is in the batch now.
    pub fn joined(&mut self, slot: u32, encoding: Encoding) {
        let from = match encoding {
            Encoding::Plain => self.plain.len(),
            other => self.run_mut(other).len(),
        };
        self.late.insert(slot, from as u32);
    }

    /// What the owner gets back when the batch is taken, in bytes.
    pub fn credit_bytes(&self) -> u32 {
        self.credit_bytes
    }

    /// Ends the batch.
    pub fn take(self) -> Frames {
        let others = self.others.into_iter();
        Frames {
            plain: Bytes::from(self.plain),
            others: others
                .map(|(encoding, frames)| (encoding, Bytes::from(frames)))
                .collect(),
            publications: self.publications,
            late: self.late,
        }
    }

    fn run_mut(&mut self, encoding: Encoding) -> &mut Vec<u8> {
        let at = self.others.iter().position(|(used, _)| *used == encoding);
        let at = at.unwrap_or_else(|| {
            self.others.push((encoding, Vec::new()));
            self.others.len() - 1
        });
        &mut self.others[at].1
    }
}

impl Frames {
    /// What the session at `slot` gets: all frames of its encoding, or those published after it came.
    /// May be empty.
    pub fn of(&self, slot: u32, encoding: Encoding) -> Cow<'_, Bytes> {
        let frames = self.all_of(encoding);
        if self.late.is_empty() {
            return Cow::Borrowed(frames);
        }
        match self.late.get(&slot) {
            Some(from) => Cow::Owned(frames.slice((*from as usize).min(frames.len())..)),
            None => Cow::Borrowed(frames),
        }
    }

    /// True if the session at `slot` gets every publication of the batch.
    pub fn is_whole_for(&self, slot: u32) -> bool {
        self.late.is_empty() || !self.late.contains_key(&slot)
    }

    /// Publications in the batch.
    pub fn publications(&self) -> u32 {
        self.publications
    }

    fn all_of(&self, encoding: Encoding) -> &Bytes {
        self.others
            .iter()
            .find(|(used, _)| *used == encoding)
            .map_or(&self.plain, |(_, frames)| frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Encoding = Encoding::Deflate { window_bits: 9 };

    fn append(batch: &mut Batch, in_use: &EncodingsInUse, text: &str) {
        batch.append(1, in_use, |encoding, out| match encoding {
            Encoding::Plain => out.extend_from_slice(text.as_bytes()),
            Encoding::Deflate { .. } => out.extend_from_slice(&text.as_bytes()[..1]),
        });
    }

    #[test]
    fn a_late_session_gets_only_what_came_after_it() {
        let mut batch = Batch::default();
        let in_use = EncodingsInUse::default();
        append(&mut batch, &in_use, "one");
        batch.joined(4, Encoding::Plain);
        append(&mut batch, &in_use, "two");
        batch.joined(5, Encoding::Plain);
        let frames = batch.take();
        assert_eq!(*frames.of(1, Encoding::Plain), "onetwo");
        assert_eq!(*frames.of(4, Encoding::Plain), "two");
        assert_eq!(*frames.of(5, Encoding::Plain), "");
        assert!(frames.is_whole_for(1) && !frames.is_whole_for(4));
        assert_eq!(frames.publications(), 2);
    }

    #[test]
    fn a_session_that_brings_a_new_encoding_gets_what_comes_after_it() {
        let mut batch = Batch::default();
        let mut in_use = EncodingsInUse::default();
        append(&mut batch, &in_use, "one");
        in_use.add(SMALL);
        batch.joined(4, SMALL);
        append(&mut batch, &in_use, "two");
        let frames = batch.take();
        assert_eq!(*frames.of(4, SMALL), "t");
        assert_eq!(*frames.of(1, Encoding::Plain), "onetwo");
    }

    #[test]
    fn an_encoding_is_in_use_while_a_session_has_it() {
        let mut in_use = EncodingsInUse::default();
        in_use.add(Encoding::Plain);
        assert_eq!(in_use.iter().count(), 0);
        in_use.add(SMALL);
        in_use.add(SMALL);
        in_use.remove(SMALL);
        assert_eq!(in_use.iter().collect::<Vec<_>>(), [SMALL]);
        in_use.remove(SMALL);
        assert_eq!(in_use.iter().count(), 0);
    }
}
