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
    /// Those that sessions of this shard hold, by the sessions' places, and the tags with which they took them.
    own: HashMap<u32, (DeviceId, u32)>,
    /// The tag of the next listener that takes one.
    next_tag: u32,
}

impl Core {
    /// The device of `user` called `name`; see [`DeviceId::new`].
    pub fn device(&self, user: &str, name: DeviceName<'_>, channel: &str) -> DeviceId {
        DeviceId::new(&self.shared.channel_hash, user, name, channel)
    }

    /// The device a session holds.
    pub(super) fn device_of(&self, key: Key) -> Option<DeviceId> {
        self.devices.own.get(&key.slot).map(|(device, _)| *device)
    }

    /// A session takes a device. True if the connection that had it, if any, has ended; otherwise the asker is answered
    /// when it has.
    fn take_over(&mut self, asker: Asker, device: DeviceId) -> bool {
        let place = asker.session.slot;
        self.devices.own.insert(place, (device, asker.tag));
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
        match self.devices.holders.take(device, holder(shard, asker)) {
            Some(before) if before.shard == self.id => {
                self.fence_here(device, before.asker());
                self.devices.holders.ended(device);
            }
            Some(before) => {
                let asker = before.asker();
                self.tell(before.shard, Message::Fence { device, asker });
            }
            None => {}
        }
        self.devices.holders.is_settled(device)
    }

    /// The owner of a device has a session ended: another holds it by now.
    pub(super) fn fence(&mut self, owner: u16, device: DeviceId, asker: Asker) {
        self.fence_here(device, asker);
        self.tell(owner, Message::Fenced { device });
    }

    /// A session that held a device has ended: the one that waits for that is told.
    pub(super) fn fenced(&mut self, device: DeviceId) {
        if let Some(holder) = self.devices.holders.ended(device) {
            self.answer_to(holder.shard, holder.asker(), AnswerTo::Done);
        }
    }

    /// A session holds its device no more, if it had one.
    pub(super) fn give_up_device(&mut self, key: Key) {
        let Some((device, tag)) = self.devices.own.remove(&key.slot) else {
            return;
        };
        let owner = device.owner(self.links.len());
        let asker = Asker { session: key, tag };
        self.tell(owner, Message::GiveUp { device, asker });
    }

    /// A session of shard `from` holds a device no more.
    pub(super) fn given_up(&mut self, from: u16, device: DeviceId, asker: Asker) {
        self.devices.holders.give_up(device, holder(from, asker));
    }

    /// Ends a session in the words of its carrier, none of which makes its client come back by itself.
    fn fence_here(&mut self, device: DeviceId, asker: Asker) {
        let (key, reason) = (asker.session, CloseReason::TakenOver);
        let is_held = self.devices.own.get(&key.slot) == Some(&(device, asker.tag));
        if !is_held || self.sessions.get(key).is_none() {
            // It has given it up, and that is on its way to the owner.
            return;
        }
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
        let Some(device) = upgrade.dialogue.device() else {
            return true;
        };
        let tag = self.devices.next_tag;
        self.devices.next_tag = tag.wrapping_add(1);
        self.take_over(Asker { session: key, tag }, device)
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

fn holder(shard: u16, asker: Asker) -> Holder {
    let Asker { session, tag } = asker;
    Holder {
        shard,
        session,
        tag,
    }
}

impl Holder {
    fn asker(self) -> Asker {
        let Self { session, tag, .. } = self;
        Asker { session, tag }
    }
}

fn taken_over() -> Reply {
    Reply::text(409, TEXT).closing()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::sign_hs256;
    use crate::config::Config;
    use crate::proto::frame::encode_masked_frame;
    use crate::shard::testing::{Bed, Client, upgrade, with_cores};

    const SECRET: &str = "a secret that is long enough for HS256";
    const LISTENER: &str = "/channels/a?session=0123456789abcdef";

    fn config(presence_grace_s: u32) -> Config {
        let mut config = Config::default();
        config.client.token.hmac_secret_key = SECRET.to_owned();
        // Nobody here answers pings.
        config.client.limits.pong_timeout_s = 0;
        let options = &mut config.channel.without_namespace;
        options.presence = true;
        options.join_leave = true;
        options.force_push_join_leave = true;
        options.allow_presence_for_client = true;
        options.presence_grace_s = presence_grace_s;
        config
    }

    fn command(bed: &mut Bed, client: &mut Client, command: &Value) {
        let mut frame = Vec::new();
        let command = command.to_string();
        encode_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], command.as_bytes());
        bed.say(client, &frame);
        bed.pass_messages();
    }

    /// The next message that is no ping.
    fn message(client: &mut Client) -> Value {
        loop {
            let message = client.message();
            if message != b"{}" {
                return serde_json::from_slice(&message).unwrap();
            }
        }
    }

    /// A client with this device, subscribed to the channel, or not let in yet.
    fn come(bed: &mut Bed, shard: usize, claims: &Value) -> (Client, String) {
        let token = sign_hs256(SECRET, &claims.to_string()).unwrap();
        let mut client = bed.websocket(shard, "/connection/websocket");
        command(
            bed,
            &mut client,
            &json!({"id": 1, "connect": {"token": token}}),
        );
        let id = message(&mut client)["connect"]["client"]
            .as_str()
            .unwrap()
            .to_owned();
        let subscribe = json!({"id": 2, "subscribe": {"channel": "room"}});
        command(bed, &mut client, &subscribe);
        pass(bed);
        assert_eq!(message(&mut client)["id"], 2);
        (client, id)
    }

    /// Everything that is on its way arrives.
    fn pass(bed: &mut Bed) {
        bed.pass_messages();
        for core in &mut bed.cores {
            while core.fan_out() {}
        }
    }

    /// Seconds pass, and deadlines that are not those of sessions come.
    fn pass_seconds(bed: &mut Bed, seconds: u32) {
        for _ in 0..seconds {
            bed.pass(Duration::from_secs(1));
            bed.cores.iter_mut().for_each(Core::tidy);
            pass(bed);
        }
    }

    /// What an observer is told next of who comes and goes: 1 for who came, -1 for who went.
    fn told(client: &mut Client) -> (i32, String) {
        let push = message(client)["push"].take();
        let (change, info) = match (&push["join"], &push["leave"]) {
            (Value::Null, leave) => (-1, &leave["info"]["client"]),
            (join, _) => (1, &join["info"]["client"]),
        };
        (
            change,
            info.as_str().unwrap_or_else(|| panic!("{push}")).to_owned(),
        )
    }

    /// Who is there, as one of them is told.
    fn presence(bed: &mut Bed, client: &mut Client) -> Vec<String> {
        command(
            bed,
            client,
            &json!({"id": 9, "presence": {"channel": "room"}}),
        );
        let answer = message(client);
        let clients = answer["presence"]["presence"].as_object().unwrap();
        let mut ids: Vec<String> = clients.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    fn sorted(ids: [&String; 2]) -> Vec<String> {
        let mut ids = ids.map(String::clone).to_vec();
        ids.sort_unstable();
        ids
    }

    fn devices(bed: &Bed) -> (usize, usize) {
        let cores = bed.cores.iter();
        cores.fold((0, 0), |(held, own), core| {
            let Devices {
                holders,
                own: of_sessions,
                ..
            } = &core.devices;
            (held + holders.len(), own + of_sessions.len())
        })
    }

    #[test]
    fn of_two_connections_of_a_device_the_newer_one_stays() {
        with_cores(3, Config::default(), |bed| {
            let mut older = bed.websocket(0, LISTENER);
            for shard in [0, 1, 2, 1] {
                let newer = bed.websocket(shard, LISTENER);
                let (first, payload) = older.frame();
                assert_eq!((first, &payload[..2]), (0x88, &4006_u16.to_be_bytes()[..]));
                assert_eq!(devices(bed), (1, 1));
                older = newer;
            }
            // Another channel, another name, and no name at all are somebody else.
            for path in [
                "/channels/b?session=0123456789abcdef",
                "/channels/a?session=0123456789abcdeg",
                "/channels/a",
            ] {
                bed.websocket(2, path);
            }
            assert!(!older.has_bytes());
            assert_eq!(devices(bed), (3, 3));
        });
    }

    #[test]
    fn a_name_that_somebody_might_come_upon_is_refused() {
        with_cores(1, Config::default(), |bed| {
            for name in ["", "short", "0123456789abcde%20", &"x".repeat(129)] {
                let mut client = bed.connect(0);
                let request = upgrade(&format!("/channels/a?session={name}"));
                bed.say(&mut client, request.as_bytes());
                assert_eq!(client.response().0, 400, "{name}");
            }
            assert_eq!(devices(bed), (0, 0));
        });
    }

    #[test]
    fn a_user_cannot_take_over_what_is_anothers() {
        with_cores(2, config(0), |bed| {
            let token = |claims: &str| sign_hs256(SECRET, claims).unwrap();
            let options = |bed: &mut Bed, claims: &str, session: &str| {
                let path = format!("/channels/a?token={}{session}", token(claims));
                bed.websocket(0, &path)
            };
            let session = "&session=0123456789abcdef";
            let clients = [
                options(bed, r#"{"sub":"ada","channel":"a"}"#, session),
                options(bed, r#"{"sub":"bob","channel":"a"}"#, session),
                options(
                    bed,
                    r#"{"sub":"ada","channel":"a","device":"0123456789abcdef"}"#,
                    "",
                ),
                options(bed, r#"{"sub":"ada","channel":"a","device":"b"}"#, session),
                options(bed, r#"{"sub":"bob","channel":"a","device":"b"}"#, session),
            ];
            assert!(clients.iter().all(|client| !client.has_bytes()));
            assert_eq!(devices(bed).0, clients.len());
        });
    }

    #[test]
    fn who_takes_over_neither_comes_nor_goes() {
        with_cores(3, config(0), |bed| {
            let (mut observer, own) = come(bed, 0, &json!({"sub": "observer"}));
            assert_eq!(told(&mut observer), (1, own.clone()));
            let claims = json!({"sub": "ada", "device": "phone"});
            let (mut older, id) = come(bed, 1, &claims);
            assert_eq!(told(&mut observer), (1, id.clone()));
            for shard in [2, 2, 1, 0] {
                let (newer, _) = come(bed, shard, &claims);
                let close = std::iter::repeat_with(|| older.frame()).find(|frame| frame.0 == 0x88);
                assert_eq!(close.unwrap().1[..2], 3600_u16.to_be_bytes());
                older = newer;
                assert_eq!(presence(bed, &mut observer), sorted([&own, &id]));
            }
            // Nobody is told anything, however long it takes.
            pass_seconds(bed, 10);
            assert_eq!(presence(bed, &mut observer), sorted([&own, &id]));
            let unsubscribe = json!({"id": 3, "unsubscribe": {"channel": "room"}});
            command(bed, &mut older, &unsubscribe);
            pass(bed);
            assert_eq!(told(&mut observer), (-1, id));
            assert_eq!(presence(bed, &mut observer), [own]);
        });
    }

    #[test]
    fn who_is_lost_leaves_after_the_time_of_grace_and_who_wants_to_go_at_once() {
        with_cores(2, config(5), |bed| {
            let (mut observer, own) = come(bed, 0, &json!({"sub": "observer"}));
            assert_eq!(told(&mut observer), (1, own.clone()));
            for claims in [
                json!({"sub": "ada", "device": "phone"}),
                json!({"sub": "ada"}),
            ] {
                let (lost, id) = come(bed, 1, &claims);
                assert_eq!(told(&mut observer), (1, id.clone()));
                let (shard, key) = (lost.shard, lost.key);
                lost.reset();
                bed.receive_at(shard, key);
                pass_seconds(bed, 5);
                assert_eq!(presence(bed, &mut observer), sorted([&own, &id]));
                pass_seconds(bed, 2);
                assert_eq!(told(&mut observer), (-1, id));
                assert_eq!(presence(bed, &mut observer), std::slice::from_ref(&own));
                let (mut leaver, id) = come(bed, 1, &claims);
                assert_eq!(told(&mut observer), (1, id.clone()));
                let mut frame = Vec::new();
                let close = 1000_u16.to_be_bytes();
                encode_masked_frame(&mut frame, Opcode::Close, [1, 2, 3, 4], &close);
                bed.say(&mut leaver, &frame);
                pass(bed);
                assert_eq!(told(&mut observer), (-1, id));
            }
        });
    }

    #[test]
    fn who_is_back_in_time_was_never_away() {
        with_cores(2, config(5), |bed| {
            let (mut observer, own) = come(bed, 0, &json!({"sub": "observer"}));
            assert_eq!(told(&mut observer), (1, own.clone()));
            let claims = json!({"sub": "ada", "device": "phone"});
            let (lost, id) = come(bed, 1, &claims);
            assert_eq!(told(&mut observer), (1, id.clone()));
            let (shard, key) = (lost.shard, lost.key);
            lost.reset();
            bed.receive_at(shard, key);
            pass_seconds(bed, 3);
            let (back, _) = come(bed, 0, &claims);
            pass_seconds(bed, 10);
            assert_eq!(presence(bed, &mut observer), sorted([&own, &id]));
            drop(back);
        });
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A connection of the device comes to a shard; or one that polls, and has something to hear at once.
        Come { shard: usize, polls: bool },
        /// One of those that came breaks.
        Go(usize),
        /// A shard handles one message.
        Handle(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..3usize, any::<bool>()).prop_map(|(shard, polls)| Step::Come { shard, polls }),
            1 => (0..12usize).prop_map(Step::Go),
            8 => (0..3usize).prop_map(Step::Handle),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn one_connection_of_a_device_is_left_whatever_the_order(steps in steps()) {
            with_cores(3, Config::default(), |bed| {
                let mut clients: Vec<Option<Client>> = Vec::new();
                for step in steps {
                    match step {
                        Step::Come { shard, polls } => {
                            let mut client = bed.connect(shard);
                            let poll = format!("GET {LISTENER}&since=x:1&wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n");
                            match polls {
                                // The second takes over from the first, or from others between.
                                true => bed.say(&mut client, poll.repeat(2).as_bytes()),
                                false => bed.say(&mut client, upgrade(LISTENER).as_bytes()),
                            }
                            clients.push(Some(client));
                        }
                        Step::Go(client) => {
                            if let Some(client) = clients.get_mut(client).and_then(Option::take) {
                                let (shard, key) = (client.shard, client.key);
                                client.reset();
                                bed.receive_at(shard, key);
                            }
                        }
                        Step::Handle(shard) => {
                            if let Some((from, message)) = bed.inboxes[shard].pop() {
                                bed.cores[shard].handle(from, message);
                            }
                        }
                    }
                }
                bed.pass_messages();
                let is_open = |client: &Client| {
                    let stage = bed.cores[client.shard].stage(client.key);
                    matches!(stage, Some(Stage::WebSocket(_)))
                };
                let open = clients.iter().flatten().filter(|client| is_open(client)).count();
                assert!(open <= 1, "{open} are open");
                assert_eq!(devices(bed), (open, open));
                // The last one to come is the last that its shard told the owner of, if nobody broke it.
                let mut last = bed.websocket(0, LISTENER);
                assert_eq!(devices(bed), (1, 1));
                bed.say(&mut last, &[0x89, 0x80, 1, 2, 3, 4]);
                assert_eq!(last.frame().0, 0x8a);
                let (shard, key) = (last.shard, last.key);
                last.reset();
                bed.receive_at(shard, key);
                bed.pass_messages();
                assert_eq!(devices(bed), (0, 0));
            });
        }
    }
}
