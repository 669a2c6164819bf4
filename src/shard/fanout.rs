//! Fan-out: passes of a batch over the subscribers of a channel.
//!
//! One pass at a time per channel; passes of different channels take turns, a slice each, and the
//! ring is served between slices. So a channel with a million subscribers delays a quiet one by a
//! slice, not by a pass.

use bytes::Bytes;

use crate::hub::{Interest, Key, Suffix};
use crate::metrics::CloseReason;
use crate::proto::frame::frame_end;

use super::Core;
use super::inbox::Message;
use super::send::Sent;

/// A batch on its way to the subscribers of `channel`.
pub(super) struct Pass {
    channel: Key,
    batch: Suffix,
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
            if self.shared.config.fanout.coalesce {
                self.deliver_to(slot, pass.batch.frames_for(slot), pass, now_s);
            } else {
                self.deliver_one_by_one(slot, pass, now_s);
            }
        }
        (portion, false)
    }

    /// One send per publication: what coalescing is measured against.
    fn deliver_one_by_one(&mut self, slot: u32, pass: &Pass, now_s: u32) {
        let mut frames = pass.batch.frames_for(slot);
        while !frames.is_empty() {
            let frame = frames.split_to(frame_end(&frames, 1));
            self.deliver_to(slot, frame, pass, now_s);
        }
    }

    fn deliver_to(&mut self, slot: u32, frames: Bytes, pass: &Pass, now_s: u32) {
        if frames.is_empty() {
            return;
        }
        let publications = self.publications_in(&frames, pass);
        let Some((key, session)) = self.sessions.at_mut(slot) else {
            return;
        };
        self.metrics.sends.add(1);
        self.metrics.deliveries.add(publications);
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

    fn publications_in(&self, frames: &Bytes, pass: &Pass) -> u64 {
        if frames.len() == pass.batch.frames().len() {
            return u64::from(pass.batch.publications());
        }
        let mut rest = &frames[..];
        let mut count = 0;
        while !rest.is_empty() {
            rest = &rest[frame_end(rest, 1)..];
            count += 1;
        }
        count
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
