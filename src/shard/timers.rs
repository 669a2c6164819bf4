//! Deadlines of sessions: one entry each in the wheel, at the earliest of its reasons.

use crate::hub::{Key, Overrun, Pulse};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::Disconnect;
use crate::proto::close::CloseCode;
use crate::proto::frame::encode_close;
use crate::proto::message::Violation;

use super::client::Client;
use super::http::Phase;
use super::session::Stage;
use super::{Core, Reply};

/// Places of the channel table looked at per second, at least, for channels to forget.
const SWEEP_PLACES: u32 = 1024;

/// Channels whose owners are told in a second how many subscribers they have here.
const NEWS_PER_SECOND: usize = 10_000;

/// Clients of which it is told in a second that they did not come back.
const LINGERING_PER_SECOND: usize = 10_000;

impl Core {
    /// Deals with up to `count` sessions whose deadline has come. True if there may be more.
    pub(super) fn expire(&mut self, count: usize) -> bool {
        let now_s = self.now_s();
        for _ in 0..count {
            let Some(slot) = self.wheel.pop_due(now_s) else {
                return false;
            };
            if let Some(key) = self.sessions.key_at(slot) {
                self.expire_session(key, now_s);
                self.reschedule(key);
            }
        }
        true
    }

    /// Once a second: what has no deadline of its own.
    pub(super) fn tidy(&mut self) {
        let now_s = self.now_s();
        let places = (self.owned.len() as u32 / 60).max(SWEEP_PLACES);
        self.owned
            .forget_idle(places, self.limits.channel_idle_s, now_s);
        self.metrics.channels.set(self.owned.len() as u64);
        self.metrics
            .history_bytes
            .set(self.owned.history_bytes() as u64);
        self.metrics.history_evictions.set(self.owned.evictions());
        self.idempotency.forget_expired(now_s);
        self.recoveries.expire(now_s);
        self.ages.pass_second();
        self.tell_news(NEWS_PER_SECOND);
        self.end_lingering(LINGERING_PER_SECOND);
        self.relieve_memory();
    }

    /// Enters a session's earliest deadline into the wheel.
    pub(super) fn reschedule(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let of_stage = match &session.stage {
            // The one that counts: whatever is in its outbox, it has been given up.
            Stage::Closing(closing) => {
                return self.wheel.schedule(key.slot, closing.deadline_s);
            }
            Stage::Http(http) => http.deadline_s,
            Stage::Poll(poll) => poll.deadline_s,
            Stage::WebSocket(websocket) => match websocket.message_deadline_s {
                0 => session.vitals.deadline_s().min(session.token_deadline_s()),
                message_s => session.vitals.deadline_s().min(message_s),
            },
            Stage::Stream(_) => session.vitals.deadline_s().min(session.token_deadline_s()),
            Stage::Polled(polled) => match polled.client {
                Some(_) => session.vitals.deadline_s().min(polled.deadline_s),
                None => polled.deadline_s,
            },
            Stage::Busy => u32::MAX,
        };
        let of_outbox = session
            .outbox
            .as_ref()
            .map_or(u32::MAX, |outbox| outbox.deadline_s(&self.limits.outbox));
        let of_client = session.client().map_or(u32::MAX, Client::deadline_s);
        let deadline_s = of_stage.min(of_outbox).min(of_client);
        self.wheel.schedule(key.slot, deadline_s);
    }

    fn expire_session(&mut self, key: Key, now_s: u32) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let overrun = session
            .outbox
            .as_ref()
            .and_then(|outbox| outbox.overrun(&self.limits.outbox, now_s));
        match (&mut session.stage, overrun) {
            (Stage::Closing(closing), _) => {
                if now_s >= closing.deadline_s {
                    let reason = closing.reason;
                    self.end(key, reason, true);
                }
            }
            (_, Some(Overrun::Stalled)) => self.end(key, CloseReason::WriteStall, true),
            (_, Some(Overrun::SlowReader)) => self.close_slow_reader(key),
            (Stage::Http(http), None) => {
                if now_s >= http.deadline_s {
                    self.expire_http(key);
                }
            }
            (Stage::Poll(poll), None) => {
                if now_s >= poll.deadline_s {
                    self.answer_poll(key, &[], 0, None);
                }
            }
            (Stage::WebSocket(websocket), None) => {
                let message_s = websocket.message_deadline_s;
                if message_s != 0 && now_s >= message_s {
                    self.expire_message(key);
                } else {
                    self.expire_open(key, now_s);
                }
            }
            (Stage::Stream(_), None) => self.expire_open(key, now_s),
            (Stage::Polled(polled), None) => {
                let is_client = polled.client.is_some();
                if !self.expire_polled(key, now_s) && is_client {
                    self.expire_open(key, now_s);
                }
            }
            (Stage::Busy, None) => {}
        }
    }

    /// An open connection's deadline: of its heartbeat, or of what its client was given for a time.
    fn expire_open(&mut self, key: Key, now_s: u32) {
        if self.client(key).is_ok() {
            self.expire_client(key, now_s);
        }
        let session = self.sessions.get(key);
        if session.is_some_and(|session| now_s >= session.token_deadline_s()) {
            return self.expire_listener(key);
        }
        let times = self.heartbeat_of(key);
        let is_one_way = self.is_one_way(key);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if matches!(session.stage, Stage::Closing(_)) {
            return;
        }
        if is_one_way {
            session.vitals.received(now_s);
        }
        let pulse = session.vitals.pulse(&times, now_s);
        self.act_on(key, pulse);
    }

    fn act_on(&mut self, key: Key, pulse: Pulse) {
        let now_s = self.now_s();
        if let Some(session) = self.sessions.get_mut(key)
            && session.outbox.is_some()
            && pulse != Pulse::Quiet
        {
            // Its stall timeout says sooner than a ping whether anybody takes bytes, and a ping would
            // only wait behind them.
            return session.vitals.received(now_s);
        }
        match pulse {
            Pulse::Quiet => {}
            Pulse::Ping => self.ping(key),
            Pulse::Missed => {
                self.metrics.heartbeat_misses.add(1);
                self.ping(key);
            }
            Pulse::Dead => {
                self.metrics.heartbeat_misses.add(1);
                self.end_dead(key);
            }
        }
    }

    /// Nobody answers: a Close in case somebody still reads, then the end, without waiting.
    fn end_dead(&mut self, key: Key) {
        if self.client(key).is_ok() {
            let reason = CloseReason::HeartbeatTimeout;
            return self.disconnect(key, &Disconnect::NoPong, reason);
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.outbox.is_none() {
            let mut frame = Vec::new();
            encode_close(
                &mut frame,
                CloseCode::HeartbeatTimeout,
                "pings were not answered",
            );
            // Whether it goes out makes no difference any more.
            if let Some(socket) = &session.socket {
                let _ = socket.try_send(&frame);
            }
        }
        self.end(key, CloseReason::HeartbeatTimeout, true);
    }

    /// A message was begun and not finished.
    fn expire_message(&mut self, key: Key) {
        let violation = Violation {
            code: CloseCode::PolicyViolation,
            reason: "message not completed in time",
        };
        self.fail(key, violation);
        self.count_as(key, CloseReason::MessageTimeout);
    }

    /// A connection took too long over a request, or did not send one.
    fn expire_http(&mut self, key: Key) {
        let now_s = self.now_s();
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Stage::Http(http) = &mut session.stage else {
            return;
        };
        if let Phase::Body(body) = &http.phase
            && let Some(look_s) = body.next_look_s(&self.limits.body_pace, now_s)
        {
            http.deadline_s = look_s;
            return;
        }
        match http.phase {
            Phase::ProxyHeader => self.end_unproxied(key),
            Phase::Head if http.served > 0 && http.input.is_empty() => {
                self.finish(key, CloseReason::Idle);
            }
            Phase::Head | Phase::Body(_) => {
                let reply = Reply::text(408, "request not complete in time").closing();
                self.reply_and_finish(key, &reply, CloseReason::RequestTimeout);
            }
            Phase::AwaitPublished { .. }
            | Phase::Await { .. }
            | Phase::AwaitJoined(_)
            | Phase::AwaitSeveral(_)
            | Phase::AwaitDevice(_)
            | Phase::AwaitKeys(_) => {
                let reply = Reply::text(504, "no answer in time; the outcome is unknown").closing();
                self.reply_and_finish(key, &reply, CloseReason::RequestTimeout);
            }
        }
    }

    /// Gives a session that is closing another reason to be counted under.
    fn count_as(&mut self, key: Key, reason: CloseReason) {
        if let Some(session) = self.sessions.get_mut(key)
            && let Stage::Closing(closing) = &mut session.stage
        {
            closing.reason = reason;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::proto::frame::{Opcode, encode_frame};
    use crate::shard::testing::{Bed, Client, with_cores};

    /// A subscriber that reads nothing, with most of a frame of `bytes` waiting for it.
    fn slow_reader(bed: &mut Bed, bytes: usize) -> Client {
        let client = bed.websocket(0, "/channels/a");
        let mut frame = Vec::new();
        encode_frame(&mut frame, Opcode::Binary, &vec![0; bytes]);
        bed.cores[0].send(client.key, frame);
        client
    }

    #[test]
    fn a_closing_session_is_left_alone_until_its_own_deadline() {
        with_cores(1, Config::default(), |bed| {
            let client = slow_reader(bed, 400_000);
            bed.pass_seconds(30);
            let core = &bed.cores[0];
            assert!(core.sessions.get(client.key).is_none());
            let closes = core.metrics.closes(CloseReason::SlowConsumer);
            assert_eq!(closes, 1);
            assert_eq!(core.metrics.outbox_bytes.get(), 0);
        });
    }

    #[test]
    fn a_deadline_set_late_in_a_second_does_not_come_early() {
        let mut config = Config::default();
        config.http.ready_timeout_ms = 1000;
        with_cores(1, config, |bed| {
            // Whatever fraction of a second has passed by now, one of these is late in it.
            for _ in 0..4 {
                let client = bed.connect(0);
                bed.pass(Duration::from_millis(750));
                assert!(matches!(
                    bed.cores[0].stage(client.key),
                    Some(Stage::Http(_))
                ));
            }
        });
    }
}
