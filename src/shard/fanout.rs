//! Fan-out: passes of a batch over the subscribers of a channel.
//!
//! One pass at a time per channel; passes of different channels take turns, a slice each, and the
//! ring is served between slices. So a channel with a million subscribers delays a quiet one by a
//! slice, not by a pass.

use bytes::Bytes;

use crate::hub::{Frames, Interest, Key};
use crate::metrics::CloseReason;
use crate::proto::frame::{decode_header, frame_end};

use super::Core;
use super::inbox::Message;
use super::send::Sent;

/// A batch on its way to the subscribers of `channel`.
pub(super) struct Pass {
    channel: Key,
    batch: Frames,
}

impl Core {
    /// Makes up to one slice of sends. True if there is more to do.
    pub(super) fn fan_out(&mut self) -> bool {
        let mut sends = self.shared.config.fanout.slice_sends;
        let now_s = self.now_s();
        while sends > 0 {
            self.begin_passes();
            let Some(pass) = self.passes.pop_front() else {
                return false;
            };
            // Passes share the slice in portions, so that a small one never waits for a whole slice.
            let portion = sends.min(64);
            let (made, is_over) = self.advance_pass(&pass, portion, now_s);
            sends -= made.clamp(1, sends);
            if is_over {
                self.end_pass(&pass);
            } else {
                self.passes.push_back(pass);
            }
        }
        !self.passes.is_empty() || !self.ready.is_empty()
    }

    fn begin_passes(&mut self) {
        while let Some(key) = self.ready.pop_front() {
            let Some(channel) = self.local.get_mut(key) else {
                continue;
            };
            let Some(batch) = channel.waiting.take() else {
                continue;
            };
            channel.passing = true;
            channel.subscribers.begin_pass();
            let (owner, interest) = (channel.owner, channel.interest);
            if let Interest::Held { owned } = interest {
                let (local, bytes) = (key, batch.credit_bytes());
                self.tell(
                    owner,
                    Message::Taken {
                        owned,
                        local,
                        bytes,
                    },
                );
            }
            self.passes.push_back(Pass {
                channel: key,
                batch: batch.take(),
            });
        }
    }

    /// Visits up to `portion` subscribers; returns how many, and whether the pass is over.
    fn advance_pass(&mut self, pass: &Pass, portion: usize, now_s: u32) -> (usize, bool) {
        for made in 0..portion {
            let Some(channel) = self.local.get_mut(pass.channel) else {
                return (made, true);
            };
            let Some(slot) = channel.subscribers.visit_next() else {
                return (made, true);
            };
            self.deliver_to(slot, pass, now_s);
        }
        (portion, false)
    }

    fn deliver_to(&mut self, slot: u32, pass: &Pass, now_s: u32) {
        let Some((key, session)) = self.sessions.at_mut(slot) else {
            return;
        };
        let Some(subscription) = session.subscription else {
            return;
        };
        let mut frames = pass.batch.of(slot, subscription.encoding);
        if session.has_server_window() {
            frames = self.compress_for(key, &frames);
        }
        if self.shared.config.fanout.coalesce {
            let publications = match pass.batch.is_whole_for(slot) {
                true => pass.batch.publications(),
                false => count_frames(&frames),
            };
            return self.send_publications(key, frames, publications, now_s);
        }
        // One send per publication: what coalescing is measured against.
        while !frames.is_empty() {
            let frame = frames.split_to(frame_end(&frames, 1));
            self.send_publications(key, frame, 1, now_s);
        }
    }

    /// Compresses plain frames for a session whose messages refer to its own earlier ones.
    fn compress_for(&mut self, key: Key, frames: &[u8]) -> Bytes {
        let mut out = Vec::new();
        let mut rest = frames;
        while let Ok(Some((header, payload_at))) = decode_header(rest) {
            let end = frame_end(rest, 1);
            out.append(&mut self.encode_for(key, header.opcode, &rest[payload_at..end]));
            rest = &rest[end..];
        }
        out.into()
    }

    fn send_publications(&mut self, key: Key, frames: Bytes, publications: u32, now_s: u32) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if frames.is_empty() {
            return;
        }
        self.metrics.sends.add(1);
        self.metrics.deliveries.add(u64::from(publications));
        if publications > 1 {
            self.metrics.coalesced_sends.add(1);
        }
        match Self::send_to(session, frames, &self.limits.outbox, now_s) {
            Sent::All(sent) => self.metrics.sent_bytes.add(sent as u64),
            Sent::Part { sent, queued } => self.note_backlog(key, sent, queued),
            Sent::Queued(bytes) => {
                self.metrics.outbox_bytes.add(bytes as u64);
                self.reschedule(key);
            }
            Sent::TooSlow => self.close_slow_reader(key),
            Sent::Broken => self.end(key, CloseReason::PeerReset, false),
        }
    }

    fn end_pass(&mut self, pass: &Pass) {
        let Some(channel) = self.local.get_mut(pass.channel) else {
            return;
        };
        channel.passing = false;
        if channel.waiting.is_some() {
            self.ready.push_back(pass.channel);
        }
    }
}

/// Frames back to back, each one publication.
fn count_frames(frames: &[u8]) -> u32 {
    let mut rest = frames;
    let mut count = 0;
    while !rest.is_empty() {
        rest = &rest[frame_end(rest, 1)..];
        count += 1;
    }
    count
}
