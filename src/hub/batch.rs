//! Frames of a channel that wait for their fan-out pass.

use std::collections::HashMap;

use bytes::Bytes;

/// Encoded frames back to back. While one pass of a channel runs, what is published meanwhile gathers
/// in the next batch and goes out with one send per subscriber.
#[derive(Debug, Default)]
pub struct Batch {
    frames: Vec<u8>,
    /// Publications in `frames`.
    publications: u32,
    /// Published bytes in the batch, as the channel's owner counts them.
    credit_bytes: u32,
    /// Sessions that subscribed when the batch had begun, with the byte from which they take part.
    late: HashMap<u32, u32>,
}

/// A batch on its way to the subscribers.
#[derive(Debug)]
pub struct Suffix {
    frames: Bytes,
    publications: u32,
    late: HashMap<u32, u32>,
}

impl Batch {
    /// Appends one publication: `encode` writes its frame, `credit_bytes` is what its owner counted
    /// for it.
    pub fn append(&mut self, credit_bytes: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.frames);
        self.publications += 1;
        self.credit_bytes = self.credit_bytes.saturating_add(credit_bytes);
    }

    /// Notes that the session at `slot` came after what is in the batch now.
    pub fn joined(&mut self, slot: u32) {
        self.late.insert(slot, self.frames.len() as u32);
    }

    /// What the owner gets back when the batch is taken, in bytes.
    pub fn credit_bytes(&self) -> u32 {
        self.credit_bytes
    }

    /// Ends the batch.
    pub fn take(self) -> Suffix {
        Suffix {
            frames: Bytes::from(self.frames),
            publications: self.publications,
            late: self.late,
        }
    }
}

impl Suffix {
    /// What the session at `slot` gets: all frames, or those published after it came. May be empty.
    pub fn frames_for(&self, slot: u32) -> Bytes {
        if self.late.is_empty() {
            return self.frames.clone();
        }
        match self.late.get(&slot) {
            Some(from) => self.frames.slice(*from as usize..),
            None => self.frames.clone(),
        }
    }

    /// All frames.
    pub fn frames(&self) -> &Bytes {
        &self.frames
    }

    /// True if every subscriber gets every frame.
    pub fn is_same_for_all(&self) -> bool {
        self.late.is_empty()
    }

    /// Publications in the batch.
    pub fn publications(&self) -> u32 {
        self.publications
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_session_gets_only_what_came_after_it() {
        let mut batch = Batch::default();
        batch.append(1, |out| out.extend_from_slice(b"one"));
        batch.joined(4);
        batch.append(1, |out| out.extend_from_slice(b"two"));
        batch.joined(5);
        let suffix = batch.take();
        assert_eq!(suffix.frames_for(1), "onetwo");
        assert_eq!(suffix.frames_for(4), "two");
        assert_eq!(suffix.frames_for(5), "");
        assert_eq!(suffix.publications(), 2);
    }
}
