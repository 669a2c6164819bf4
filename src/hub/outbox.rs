//! Bytes of a session that the kernel would not take yet.

use std::collections::{HashSet, VecDeque};

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

/// What becomes of the publications of a channel that wait for a subscriber which reads too slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backlog {
    /// They wait, and the subscriber is closed when they are too many.
    #[default]
    Kept,
    /// The oldest are dropped.
    DropOldest,
    /// All but the newest of each key are dropped.
    KeepNewest,
}

/// Which publication a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Droppable {
    /// The channel's place in the shard's table.
    pub channel: u32,
    /// What it is a newer state of.
    pub key: u64,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Publications.
    pub publications: u32,
    /// Their bytes.
    pub bytes: usize,
}

/// Frames, and what they are.
#[derive(Debug)]
struct Segment {
    frames: Bytes,
    content: Content,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    /// It must reach the client.
    Needed,
    Publication(Droppable),
    /// Says that so many publications were dropped.
    Notice(u32),
}

/// The queue of a session whose socket is full; a session without one costs nothing here.
///
/// Every segment begins at a frame boundary. The first is partly sent.
#[derive(Debug)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are out.
    sent: usize,
    /// Bytes that wait.
    bytes: usize,
    /// When the kernel last took a byte.
    progress_s: u32,
    /// Since when more than the soft limit waits.
    over_soft_since_s: Option<u32>,
    /// Bytes that waited after publications were dropped last; no more are looked for until a quarter
    /// more wait.
    relieved_bytes: usize,
}

impl Outbox {
    /// The queue of a session whose socket took `sent` bytes of `segment` and no more.
    pub fn new(segment: Bytes, sent: usize, limits: &OutboxLimits, now_s: u32) -> Self {
        let bytes = segment.len() - sent;
        let mut outbox = Self {
            segments: VecDeque::from([Segment::needed(segment)]),
            sent,
            bytes,
            progress_s: now_s,
            over_soft_since_s: None,
            relieved_bytes: 0,
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
        self.push_segment(Segment::needed(frames), limits, now_s)
    }

    /// The same with one publication, which may be dropped later.
    pub fn push_publication(
        &mut self,
        frame: Bytes,
        what: Droppable,
        limits: &OutboxLimits,
        now_s: u32,
    ) -> Result<(), Overrun> {
        let content = Content::Publication(what);
        let segment = Segment {
            frames: frame,
            content,
        };
        self.push_segment(segment, limits, now_s)
    }

    fn push_segment(
        &mut self,
        segment: Segment,
        limits: &OutboxLimits,
        now_s: u32,
    ) -> Result<(), Overrun> {
        let length = segment.frames.len();
        // Short frames cost more to keep than to send.
        let kept_bytes = self.bytes + (self.segments.len() + 1) * size_of::<Segment>();
        if kept_bytes + length > limits.hard_bytes {
            return Err(Overrun::SlowReader);
        }
        self.bytes += length;
        self.segments.push_back(segment);
        self.watch_soft(limits, now_s);
        Ok(())
    }

    /// Takes the only segment apart: `parts` say where each of its frames ends, and which publication it
    /// is, if it may be dropped.
    pub fn split(&mut self, parts: impl Iterator<Item = (usize, Option<Droppable>)>) {
        let Some(whole) = self.segments.pop_front() else {
            return;
        };
        let (sent, mut start) = (self.sent, 0);
        for (end, what) in parts {
            if end > sent && end <= whole.frames.len() {
                if self.segments.is_empty() {
                    self.sent = sent.saturating_sub(start);
                }
                // A slice would keep all of the frames in memory.
                let frames = Bytes::copy_from_slice(&whole.frames[start..end]);
                let content = what.map_or(Content::Needed, Content::Publication);
                self.segments.push_back(Segment { frames, content });
            }
            start = end;
        }
    }

    /// True if so many more bytes would be too many, for a channel that drops publications.
    pub fn is_crowded(&self, incoming: usize, limits: &OutboxLimits) -> bool {
        let bytes = self.bytes + incoming;
        bytes > limits.soft_bytes
            && bytes > self.relieved_bytes.saturating_add(self.relieved_bytes / 4)
    }

    /// Drops publications of a channel that have not begun to go out, oldest first, until `incoming` bytes
    /// more leave a quarter of the soft limit free, or there are none left.
    pub fn drop_oldest(
        &mut self,
        channel: u32,
        incoming: usize,
        limits: &OutboxLimits,
        now_s: u32,
    ) -> Dropped {
        let goal = limits.soft_bytes - limits.soft_bytes / 4;
        let mut excess = (self.bytes + incoming).saturating_sub(goal);
        self.drop_if(limits, now_s, |_, content, bytes| {
            let is_dropped = excess > 0 && content.is_of(channel);
            if is_dropped {
                excess = excess.saturating_sub(bytes);
            }
            is_dropped
        })
    }

    /// Drops publications of a channel that have not begun to go out and of whose key there is a newer
    /// one.
    pub fn keep_newest(&mut self, channel: u32, limits: &OutboxLimits, now_s: u32) -> Dropped {
        let mut seen = HashSet::new();
        let mut is_old: Vec<bool> = self
            .segments
            .iter()
            .rev()
            .map(|segment| match segment.content {
                Content::Publication(what) => what.channel == channel && !seen.insert(what.key),
                _ => false,
            })
            .collect();
        is_old.reverse();
        self.drop_if(limits, now_s, |place, _, _| {
            is_old.get(place).is_some_and(|is_old| *is_old)
        })
    }

    /// Drops all publications of a channel that have not begun to go out.
    pub fn drop_all(&mut self, channel: u32, limits: &OutboxLimits, now_s: u32) -> Dropped {
        self.drop_if(limits, now_s, |_, content, _| content.is_of(channel))
    }

    /// Says at the first place where something may be missing that `more` publications were dropped:
    /// `encode` makes the frame for all that were.
    pub fn note_dropped(
        &mut self,
        more: u32,
        limits: &OutboxLimits,
        now_s: u32,
        encode: impl FnOnce(u32) -> Bytes,
    ) {
        let first = usize::from(self.sent > 0);
        let earlier = match self.segments.get(first).map(|segment| segment.content) {
            Some(Content::Notice(dropped)) => dropped,
            _ => 0,
        };
        if earlier > 0
            && let Some(notice) = self.segments.remove(first)
        {
            self.bytes -= notice.frames.len();
        }
        let dropped = earlier.saturating_add(more);
        let frames = encode(dropped);
        self.bytes += frames.len();
        let content = Content::Notice(dropped);
        let place = first.min(self.segments.len());
        self.segments.insert(place, Segment { frames, content });
        self.watch_soft(limits, now_s);
    }

    fn drop_if(
        &mut self,
        limits: &OutboxLimits,
        now_s: u32,
        mut is_dropped: impl FnMut(usize, Content, usize) -> bool,
    ) -> Dropped {
        let mut dropped = Dropped::default();
        let first = usize::from(self.sent > 0);
        let mut places = 0..;
        self.segments.retain(|segment| {
            let place = places.next().unwrap_or(0);
            let bytes = segment.frames.len();
            if place < first || !is_dropped(place, segment.content, bytes) {
                return true;
            }
            dropped.publications += 1;
            dropped.bytes += bytes;
            false
        });
        self.bytes -= dropped.bytes;
        self.relieved_bytes = self.bytes;
        self.watch_soft(limits, now_s);
        dropped
    }

    /// Forgets everything but the frame that is partly out, and appends the last frame of all, a short
    /// one: no limit keeps it back. `frame_end(segment, sent)` says where the frame that is out ends.
    pub fn cut(&mut self, last: Bytes, frame_end: impl FnOnce(&[u8], usize) -> usize) {
        let first = self.segments.pop_front();
        self.segments.clear();
        self.bytes = last.len();
        if let Some(Segment { frames: first, .. }) = first {
            let end = frame_end(&first, self.sent).min(first.len());
            if end > self.sent {
                self.bytes += end - self.sent;
                self.segments.push_back(Segment::needed(first.slice(..end)));
            } else {
                self.sent = 0;
            }
        }
        self.segments.push_back(Segment::needed(last));
    }

    /// Everything that waits, in order, if nothing of it is out.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(|segment| &segment.frames[..])
    }

    /// The bytes to send next; `None` when all is out.
    pub fn front(&self) -> Option<&[u8]> {
        self.segments
            .front()
            .map(|segment| &segment.frames[self.sent..])
    }

    /// Notes that `bytes` of [`Self::front`] are out.
    pub fn advance(&mut self, bytes: usize, limits: &OutboxLimits, now_s: u32) {
        self.sent += bytes;
        self.bytes -= bytes;
        self.progress_s = now_s;
        self.relieved_bytes = self.relieved_bytes.min(self.bytes);
        let first = self.segments.front();
        if first.is_some_and(|first| first.frames.len() == self.sent) {
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

impl Content {
    /// Whether it is a publication of this channel.
    fn is_of(self, channel: u32) -> bool {
        matches!(self, Self::Publication(what) if what.channel == channel)
    }
}

impl Segment {
    fn needed(frames: Bytes) -> Self {
        Self {
            frames,
            content: Content::Needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        soft_bytes: 10,
        soft_timeout_s: 5,
        hard_bytes: 20 + 2 * size_of::<Segment>(),
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
        let kept_bytes = outbox.segments.len() * size_of::<Segment>() + outbox.bytes();
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

    fn crowded() -> Outbox {
        let limits = OutboxLimits {
            hard_bytes: 10_000,
            ..LIMITS
        };
        let mut outbox = Outbox::new(Bytes::from_static(b"a1b1c1"), 1, &limits, 0);
        let what = |channel, key| Some(Droppable { channel, key });
        outbox.split([(2, what(1, 1)), (4, what(1, 2)), (6, None)].into_iter());
        for (channel, key, frame) in [(1, 1, "a2"), (2, 1, "x1"), (1, 2, "b2"), (1, 1, "a3")] {
            let what = Droppable { channel, key };
            outbox
                .push_publication(frame.into(), what, &limits, 0)
                .unwrap();
        }
        outbox
    }

    fn waiting(outbox: &Outbox) -> String {
        let frames = outbox.segments.iter();
        let text = frames.flat_map(|segment| segment.frames.to_vec()).collect();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.len() - outbox.sent, outbox.bytes());
        text
    }

    #[test]
    fn the_oldest_go_until_there_is_room_and_never_what_has_begun() {
        let mut outbox = crowded();
        assert_eq!(waiting(&outbox), "a1b1c1a2x1b2a3");
        assert!(outbox.is_crowded(2, &LIMITS));
        let dropped = outbox.drop_oldest(1, 0, &LIMITS, 0);
        assert_eq!(waiting(&outbox), "a1c1x1a3");
        assert_eq!((dropped.publications, dropped.bytes), (3, 6));
        assert!(!outbox.is_crowded(1, &LIMITS));
        outbox.drop_all(1, &LIMITS, 0);
        assert_eq!(waiting(&outbox), "a1c1x1");
    }

    #[test]
    fn of_each_key_the_newest_stays() {
        let mut outbox = crowded();
        let dropped = outbox.keep_newest(1, &LIMITS, 0);
        assert_eq!(waiting(&outbox), "a1c1x1b2a3");
        assert_eq!(dropped.publications, 2);
    }

    #[test]
    fn one_notice_says_how_many_are_missing() {
        let mut outbox = crowded();
        let encode = |dropped: u32| Bytes::from(format!("<{dropped}>"));
        outbox.note_dropped(2, &LIMITS, 0, encode);
        outbox.note_dropped(3, &LIMITS, 0, encode);
        assert_eq!(waiting(&outbox), "a1<5>b1c1a2x1b2a3");
        outbox.advance(1, &LIMITS, 0);
        outbox.advance(1, &LIMITS, 0);
        outbox.note_dropped(1, &LIMITS, 0, encode);
        assert_eq!(waiting(&outbox), "<5><1>b1c1a2x1b2a3");
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
