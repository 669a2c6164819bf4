//! Bytes of a session that the kernel would not take yet.

use std::collections::VecDeque;

use bytes::Bytes;

/// How much may wait for a slow reader, and how long.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// More than this may wait for `soft_timeout_s` only.
    pub soft_bytes: usize,
    /// How long the outbox may stay above `soft_bytes`, in seconds.
    pub soft_timeout_s: u32,
    /// Never more than this, what it takes to keep it included, except that one message always fits
    /// into an empty outbox.
    pub hard_bytes: usize,
    /// How long a reader may take no byte at all, in seconds.
    pub stall_timeout_s: u32,
}

/// Why a reader is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overrun {
    /// Too many bytes wait, or waited too long.
    SlowReader,
    /// No byte was taken for the whole stall timeout.
    Stalled,
}

/// The queue of a session whose socket is full; a session without one costs nothing here.
///
/// Every segment begins at a frame boundary. The first is partly sent.
#[derive(Debug)]
pub struct Outbox {
    segments: VecDeque<Bytes>,
    /// Bytes of the first segment that are out.
    sent: usize,
    /// Bytes that wait.
    bytes: usize,
    /// When the kernel last took a byte.
    progress_s: u32,
    /// Since when more than the soft limit waits.
    over_soft_since_s: Option<u32>,
}

impl Outbox {
    /// The queue of a session whose socket took `sent` bytes of `segment` and no more.
    pub fn new(segment: Bytes, sent: usize, limits: &OutboxLimits, now_s: u32) -> Self {
        let bytes = segment.len() - sent;
        let mut outbox = Self {
            segments: VecDeque::from([segment]),
            sent,
            bytes,
            progress_s: now_s,
            over_soft_since_s: None,
        };
        outbox.watch_soft(limits, now_s);
        outbox
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends frames, or says that the reader is too slow for them.
    pub fn push(
        &mut self,
        frames: Bytes,
        limits: &OutboxLimits,
        now_s: u32,
    ) -> Result<(), Overrun> {
        // Short frames cost more to keep than to send.
        let kept_bytes = self.bytes + (self.segments.len() + 1) * size_of::<Bytes>();
        if kept_bytes + frames.len() > limits.hard_bytes {
            return Err(Overrun::SlowReader);
        }
        self.bytes += frames.len();
        self.segments.push_back(frames);
        self.watch_soft(limits, now_s);
        Ok(())
    }

    /// Forgets everything but the frame that is partly out, and appends the last frame of all, a short
    /// one: no limit keeps it back. `frame_end(segment, sent)` says where the frame that is out ends.
    pub fn cut(&mut self, last: Bytes, frame_end: impl FnOnce(&[u8], usize) -> usize) {
        let first = self.segments.pop_front();
        self.segments.clear();
        self.bytes = last.len();
        if let Some(first) = first {
            let end = frame_end(&first, self.sent).min(first.len());
            if end > self.sent {
                self.bytes += end - self.sent;
                self.segments.push_back(first.slice(..end));
            } else {
                self.sent = 0;
            }
        }
        self.segments.push_back(last);
    }

    /// Everything that waits, in order, if nothing of it is out.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(|segment| &segment[..])
    }

    /// The bytes to send next; `None` when all is out.
    pub fn front(&self) -> Option<&[u8]> {
        self.segments.front().map(|segment| &segment[self.sent..])
    }

    /// Notes that `bytes` of [`Self::front`] are out.
    pub fn advance(&mut self, bytes: usize, limits: &OutboxLimits, now_s: u32) {
        self.sent += bytes;
        self.bytes -= bytes;
        self.progress_s = now_s;
        if self.segments.front().is_some_and(|s| s.len() == self.sent) {
            self.segments.pop_front();
            self.sent = 0;
        }
        self.watch_soft(limits, now_s);
    }

    /// Whether the reader has been too slow for too long by now.
    pub fn overrun(&self, limits: &OutboxLimits, now_s: u32) -> Option<Overrun> {
        if now_s >= self.progress_s.saturating_add(limits.stall_timeout_s) {
            return Some(Overrun::Stalled);
        }
        let since_s = self.over_soft_since_s?;
        (now_s >= since_s.saturating_add(limits.soft_timeout_s)).then_some(Overrun::SlowReader)
    }

    /// When to look at [`Self::overrun`] next, in seconds.
    pub fn deadline_s(&self, limits: &OutboxLimits) -> u32 {
        let stall_s = self.progress_s.saturating_add(limits.stall_timeout_s);
        let soft_s = self.over_soft_since_s.map_or(u32::MAX, |since_s| {
            since_s.saturating_add(limits.soft_timeout_s)
        });
        stall_s.min(soft_s)
    }

    fn watch_soft(&mut self, limits: &OutboxLimits, now_s: u32) {
        if self.bytes <= limits.soft_bytes {
            self.over_soft_since_s = None;
        } else if self.over_soft_since_s.is_none() {
            self.over_soft_since_s = Some(now_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        soft_bytes: 10,
        soft_timeout_s: 5,
        hard_bytes: 20 + 2 * size_of::<Bytes>(),
        stall_timeout_s: 9,
    };

    #[test]
    fn refuses_what_would_pass_the_hard_limit() {
        let mut outbox = Outbox::new(Bytes::from_static(b"0123456789"), 2, &LIMITS, 0);
        assert_eq!(
            outbox.push(Bytes::from_static(b"0123456789ab"), &LIMITS, 0),
            Ok(())
        );
        assert_eq!(outbox.bytes(), 20);
        let one_more = outbox.push(Bytes::from_static(b"x"), &LIMITS, 0);
        assert_eq!(one_more, Err(Overrun::SlowReader));
    }

    #[test]
    fn many_short_frames_are_refused_before_they_take_more_than_the_hard_limit() {
        let limits = OutboxLimits {
            hard_bytes: 100_000,
            ..LIMITS
        };
        let frame = Bytes::from_static(b"\x81\x00");
        let mut outbox = Outbox::new(frame.clone(), 1, &limits, 0);
        while outbox.push(frame.clone(), &limits, 0).is_ok() {}
        let kept_bytes = outbox.segments.len() * size_of::<Bytes>() + outbox.bytes();
        assert!((99_000..=100_000).contains(&kept_bytes), "{kept_bytes}");
    }

    #[test]
    fn one_message_of_any_size_fits_when_nothing_waits() {
        let outbox = Outbox::new(Bytes::from(vec![0; 1000]), 1, &LIMITS, 0);
        assert_eq!(outbox.bytes(), 999);
    }

    #[test]
    fn soft_limit_runs_from_when_it_was_passed_and_ends_below_it() {
        let mut outbox = Outbox::new(Bytes::from(vec![0; 13]), 1, &LIMITS, 100);
        assert_eq!(outbox.overrun(&LIMITS, 104), None);
        assert_eq!(outbox.overrun(&LIMITS, 105), Some(Overrun::SlowReader));
        outbox.advance(2, &LIMITS, 104);
        assert_eq!(outbox.overrun(&LIMITS, 105), None);
    }

    #[test]
    fn a_reader_that_takes_nothing_is_stalled() {
        let mut outbox = Outbox::new(Bytes::from(vec![0; 5]), 1, &LIMITS, 100);
        assert_eq!(outbox.deadline_s(&LIMITS), 109);
        outbox.advance(1, &LIMITS, 105);
        assert_eq!(outbox.overrun(&LIMITS, 113), None);
        assert_eq!(outbox.overrun(&LIMITS, 114), Some(Overrun::Stalled));
    }

    #[test]
    fn cut_keeps_the_frame_that_is_partly_out() {
        let frame_end = |_: &[u8], sent: usize| sent.next_multiple_of(4);
        let mut outbox = Outbox::new(Bytes::from_static(b"aaaabbbbcccc"), 5, &LIMITS, 0);
        outbox
            .push(Bytes::from_static(b"dddd"), &LIMITS, 0)
            .unwrap();
        outbox.cut(Bytes::from_static(b"eeee"), frame_end);
        assert_eq!(outbox.front(), Some(&b"bbb"[..]));
        assert_eq!(outbox.bytes(), 7);
        let mut on_boundary = Outbox::new(Bytes::from_static(b"aaaabbbb"), 4, &LIMITS, 0);
        on_boundary.cut(Bytes::from_static(b"eeee"), frame_end);
        assert_eq!(on_boundary.front(), Some(&b"eeee"[..]));
        assert_eq!(on_boundary.bytes(), 4);
    }
}
