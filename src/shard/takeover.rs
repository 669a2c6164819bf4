//! Takeover: a new connection of a device ends the one it had. See [`DeviceId`].
//!
//! The device's owner is told first, which has the older connection ended wherever it is, and answers when that has
//! happened. Only then the new connection is let in: whatever the older one still says comes too late to change
//! anything.

use std::collections::HashMap;

use crate::hub::{DeviceId, DeviceName, Framing, Holder, Holders, Key};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::Disconnect;
use crate::proto::close::CloseCode;
use crate::proto::envelope;
use crate::proto::frame::Opcode;
use crate::proto::http::append_chunk;
use crate::proto::sse;

use super::asks::{AnswerTo, Departure};
use super::client::Awaited;
use super::commands::Refusal;
use super::connecting::Newcomer;
use super::http::{HttpStage, Phase};
use super::inbox::{Asker, Message};
use super::requests::After;
use super::session::Stage;
use super::upgrade::Upgrade;
use super::{Core, Reply};

/// Why a connection of the plain dialect ends.
const TEXT: &str = "taken over by a newer connection";

/// Devices, as one shard knows them.
#[derive(Default)]
pub(super) struct Devices {
    /// Those this shard owns.
    holders: Holders,
    /// Those that sessions of this shard hold, by the sessions' places.
    own: HashMap<u32, DeviceId>,
}

impl Core {
    /// The device of `user` called `name`; see [`DeviceId::new`].
    pub fn device(&self, user: &str, name: DeviceName<'_>, channel: &str) -> DeviceId {
        DeviceId::new(&self.shared.channel_hash, user, name, channel)
    }

    /// The device a session holds.
    pub(super) fn device_of(&self, key: Key) -> Option<DeviceId> {
        self.devices.own.get(&key.slot).copied()
    }

    /// A session takes a device. True if the connection that had it, if any, has ended; otherwise the asker is answered
    /// when it has.
    fn take_over(&mut self, asker: Asker, device: DeviceId) -> bool {
        self.devices.own.insert(asker.session.slot, device);
        let owner = device.owner(self.links.len());
        if owner == self.id {
            return self.take_over_here(self.id, asker, device);
        }
        self.tell(owner, Message::TakeOver { device, asker });
        false
    }

    /// A session of another shard takes a device that this shard owns.
    pub(super) fn take_over_for(&mut self, from: u16, asker: Asker, device: DeviceId) {
        if self.take_over_here(from, asker, device) {
            self.answer_to(from, asker, AnswerTo::Done);
        }
    }

    fn take_over_here(&mut self, shard: u16, asker: Asker, device: DeviceId) -> bool {
        let Asker { session, tag } = asker;
        let holder = Holder {
            shard,
            session,
            tag,
        };
        match self.devices.holders.take(device, holder) {
            Some(before) if before.shard == self.id => {
                self.fence_here(before.session);
                self.devices.holders.ended(device);
            }
            Some(before) => {
                let session = before.session;
                self.tell(before.shard, Message::Fence { device, session });
            }
            None => {}
        }
        self.devices.holders.is_settled(device)
    }

    /// The owner of a device has a session ended: another holds it by now.
    pub(super) fn fence(&mut self, owner: u16, device: DeviceId, session: Key) {
        self.fence_here(session);
        self.tell(owner, Message::Fenced { device });
    }

    /// A session that held a device has ended: the one that waits for that is told.
    pub(super) fn fenced(&mut self, device: DeviceId) {
        if let Some(holder) = self.devices.holders.ended(device) {
            let Holder {
                shard,
                session,
                tag,
            } = holder;
            self.answer_to(shard, Asker { session, tag }, AnswerTo::Done);
        }
    }

    /// A session holds its device no more, if it had one.
    pub(super) fn give_up_device(&mut self, key: Key) {
        let Some(device) = self.devices.own.remove(&key.slot) else {
            return;
        };
        let owner = device.owner(self.links.len());
        let session = key;
        self.tell(owner, Message::GiveUp { device, session });
    }

    /// A session of shard `from` holds a device no more.
    pub(super) fn given_up(&mut self, from: u16, device: DeviceId, session: Key) {
        self.devices.holders.give_up(device, from, session);
    }

    /// Ends a session in the words of its carrier, none of which makes its client come back by itself.
    fn fence_here(&mut self, key: Key) {
        let reason = CloseReason::TakenOver;
        if self.client(key).is_ok() {
            return self.disconnect(key, &Disconnect::TakenOver, reason);
        }
        match self.stage(key) {
            Some(Stage::Poll(_)) => self.refuse_poll(key, &taken_over(), reason),
            Some(Stage::Stream(_)) => {
                self.say_taken_over(key);
                self.end_stream(key, reason);
            }
            Some(Stage::WebSocket(_)) => {
                self.say_taken_over(key);
                self.close(key, CloseCode::TakenOver, TEXT, reason);
            }
            Some(Stage::Http(_)) => self.reply_and_finish(key, &taken_over(), reason),
            _ => {}
        }
    }

    /// Tells a client of the plain dialect why its connection ends, if its form has words for that.
    fn say_taken_over(&mut self, key: Key) {
        let mut message = Vec::new();
        envelope::append_disconnect(&mut message, CloseCode::TakenOver.code(), TEXT, None);
        if self.framing_of(key).0 == Framing::Events {
            let mut event = Vec::new();
            let taken_over = sse::Event {
                id: Some(sse::TAKEN_OVER_ID),
                event: Some(sse::TAKEN_OVER_EVENT),
                data: &message,
            };
            sse::append_event(&mut event, &taken_over);
            let mut out = Vec::new();
            append_chunk(&mut out, &event);
            return self.send(key, out);
        }
        let session = self.sessions.get(key);
        if session.is_some_and(|session| session.is_told_all()) {
            self.say_as(key, Opcode::Text, &message);
        }
    }

    /// A client that is let in takes its device first, if its token names one.
    pub(super) fn connect(
        &mut self,
        key: Key,
        newcomer: Newcomer,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let admitted = &newcomer.admitted;
        let Some(name) = admitted.device.as_deref() else {
            return self.count_connections(key, newcomer, out);
        };
        let device = self.device(&admitted.user, DeviceName::Token(name), "");
        let waiting = Awaited::Takeover(Box::new(newcomer));
        let tag = self.client_mut(key)?.wait(waiting);
        let asker = Asker { session: key, tag };
        if !self.take_over(asker, device) {
            return Ok(());
        }
        match self.client_mut(key)?.take_waiting(tag) {
            Some(Awaited::Takeover(newcomer)) => self.count_connections(key, *newcomer, out),
            _ => Ok(()),
        }
    }

    /// A client has its device.
    pub(super) fn took_over(&mut self, key: Key, newcomer: Newcomer) {
        let id = newcomer.id;
        let mut out = Vec::new();
        let done = self.count_connections(key, newcomer, &mut out);
        if done.is_err() {
            self.refuse_connect(key);
        }
        self.conclude_later(key, id, done, out);
    }

    /// A listener of the plain dialect takes its device first, if it names one. True if the connection that had it has
    /// ended, or there is none.
    pub(super) fn takes_over_at_once(&mut self, key: Key, upgrade: &Upgrade) -> bool {
        let device = upgrade.dialogue.device();
        let asker = Asker {
            session: key,
            tag: 0,
        };
        device.is_none_or(|device| self.take_over(asker, device))
    }

    /// A listener has its device, if that is what it waits for.
    pub(super) fn listener_took_over(&mut self, key: Key) -> bool {
        let Some(mut http) = self.take_http(key) else {
            return false;
        };
        match std::mem::replace(&mut http.phase, Phase::Head) {
            Phase::AwaitDevice(upgrade) => {
                let after: After = self.begin_hearing(key, &mut http, *upgrade);
                self.go_on(key, http, after);
                true
            }
            phase => {
                http.phase = phase;
                self.put_http(key, http);
                false
            }
        }
    }

    /// Lets a listener wait until the connection has ended that has its device.
    pub(super) fn await_device(&mut self, http: &mut HttpStage, upgrade: Upgrade) -> After {
        http.deadline_s = self.now_s() + self.limits.ready_timeout_s;
        http.phase = Phase::AwaitDevice(Box::new(upgrade));
        After::Wait
    }
}

impl Departure {
    /// How a client goes whose connection ends for this reason.
    pub(super) fn of(reason: CloseReason) -> Self {
        match reason {
            CloseReason::TakenOver => Self::HandedOver,
            CloseReason::EndOfFile
            | CloseReason::PeerReset
            | CloseReason::GoingAway
            | CloseReason::MaxAge
            | CloseReason::SlowConsumer
            | CloseReason::WriteStall
            | CloseReason::HeartbeatTimeout
            | CloseReason::MessageTimeout
            | CloseReason::Internal => Self::Lost,
            _ => Self::Left,
        }
    }
}

fn taken_over() -> Reply {
    Reply::text(409, TEXT).closing()
}
