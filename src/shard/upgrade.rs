//! What an HTTP connection becomes when it is more than requests and answers: a WebSocket, or a response that
//! goes on.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::hub::{
    ClientInfo, DeviceId, Dialect, Encoding, Framing, Key, Position, Recovery, Selection, Since,
    Vitals,
};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::{Command, Disconnect, Format, Method, decode_connect_request};
use crate::proto::close::CloseCode;
use crate::proto::cursor::Cursor;
use crate::proto::deflate::DeflateParams;
use crate::proto::envelope;
use crate::proto::frame::Opcode;
use crate::proto::handshake::write_switching_protocols;
use crate::proto::http::write_stream_head;
use crate::proto::message::MessageReader;

use super::asks::{AnswerTo, Question, RecoveryWish};
use super::burst::Cargo;
use super::channels::Hearing;
use super::client::{Client, Progress};
use super::emulation::session_name;
use super::http::{ConnectionPlan, HttpStage, Phase};
use super::inbox::Asker;
use super::receivers::StreamingReceiver;
use super::requests::After;
use super::session::{Deflate, Extras, Purpose, Stage, StreamStage, WebSocketStage};
use super::several::{ListenSeveral, Opened};
use super::talk::SILENCE_MAX_S;
use super::{Core, Headers, Reply, places, scribe};

/// How soon a client of event streams comes back whose connection was cut, in milliseconds.
const RETRY_MIN_MS: u32 = 100;
/// How long it stays away at most.
const RETRY_MAX_MS: u32 = 30_000;
/// Clients of one shard that are to come back in a millisecond, if all have to.
const RETURNS_PER_MS: usize = 5;

/// What a connection is about to become.
pub struct Upgrade {
    /// What carries its messages.
    pub carrier: Carrier,
    /// What they are about.
    pub dialogue: Dialogue,
}

/// What carries the messages of a connection.
pub enum Carrier {
    /// A WebSocket.
    WebSocket {
        /// The client's `Sec-WebSocket-Key`, checked.
        key: String,
        /// The subprotocol that was agreed on.
        protocol: Option<&'static str>,
        /// What was agreed on compression.
        deflate: Option<DeflateParams>,
    },
    /// A response that goes on.
    Stream {
        /// How messages are told apart in it.
        framing: Framing,
        /// The response's media type.
        content_type: &'static str,
        /// What comes before the first message.
        preamble: &'static [u8],
    },
    /// One answer, which waits for something to say.
    Poll {
        /// For how long it may wait, in seconds.
        wait_s: u32,
    },
}

/// What a connection is for.
pub enum Dialogue {
    /// The plain dialect.
    Plain {
        /// What the client's messages will mean.
        purpose: Purpose,
        /// What it listens to, if anything.
        listen: Option<Listen>,
    },
    /// The plain dialect over several channels, of which each message says the one it is about.
    Several(ListenSeveral),
    /// The Centrifuge protocol.
    Centrifuge(NewClient),
    /// The frames of a session that is polled, by its id.
    Receiver(Box<str>),
}

/// A channel somebody listens to in the plain dialect.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The channel's name.
    pub channel: Arc<str>,
    /// What is said about each publication.
    pub dialect: Dialect,
    /// What the listener has.
    pub since: Option<Since>,
    /// When its token ends, in Unix seconds; 0 for never.
    pub expire_at_s: i64,
    /// The device whose other connection to the channel this one ends.
    pub device: Option<DeviceId>,
}

/// A client that is about to begin with the Centrifuge protocol.
#[derive(Clone, Debug)]
pub struct NewClient {
    /// The format it speaks.
    pub format: Format,
    /// It only listens.
    pub is_uni: bool,
    /// Pings are to be the WebSocket's own.
    pub pings_by_frame: bool,
    /// What it sends comes by other connections, which must name the session.
    pub has_session: bool,
    /// The messages of its WebSocket are frames of SockJS.
    pub is_sockjs: bool,
    /// What it said already: commands, or for one that only listens its request to connect. Nothing, if it will say
    /// that by messages.
    pub first: Bytes,
    /// Of one that only listens: the id of the last event it got.
    pub last_event_id: Option<Box<str>>,
}

/// An upgrade that waits for the owner of its channel.
pub(super) struct Awaiting {
    upgrade: Upgrade,
    /// The channel in this shard's table.
    pub local: Key,
    /// The owner has been asked for what was missed.
    pub asked_history: bool,
}

/// What a listener is to hear is delivered here.
pub(super) enum Heard {
    /// A channel, and what the listener missed of it.
    One(HeardOne),
    /// Several channels, which are begun already.
    Several(Box<Opened>),
}

/// A channel that is delivered here, and what a listener missed of it.
pub(super) struct HeardOne {
    pub local: Key,
    pub recovery: Option<Recovery>,
}

impl Core {
    /// Begins to make of a connection what its request asks for.
    pub(super) fn begin_upgrade(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        mut upgrade: Upgrade,
        connection: ConnectionPlan,
    ) -> After {
        http.connection = connection;
        let in_pages = matches!(upgrade.carrier, Carrier::Poll { .. });
        if !in_pages && let Err(refused) = self.admit_handshake() {
            return self.http_reply(key, http, &refused, connection);
        }
        if let Carrier::Stream { content_type, .. } = upgrade.carrier
            && let Some(answer) = self.answer_streamless(key, http, content_type, connection)
        {
            return answer;
        }
        if let Dialogue::Several(listen) = &mut upgrade.dialogue {
            let channels = std::mem::take(&mut listen.channels);
            let listen = ListenSeveral {
                channels,
                ..*listen
            };
            return self.begin_several(key, http, upgrade, listen, connection);
        }
        match self.takes_over_at_once(key, &upgrade) {
            true => self.begin_hearing(key, http, upgrade),
            false => self.await_device(http, upgrade),
        }
    }

    /// Goes on with that, when a connection that had the client's device is gone.
    pub(super) fn begin_hearing(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        upgrade: Upgrade,
    ) -> After {
        let connection = http.connection;
        let in_pages = matches!(upgrade.carrier, Carrier::Poll { .. });
        let Some(listen) = upgrade.dialogue.listen() else {
            return After::Upgrade(Box::new(upgrade), None);
        };
        let (name, since) = (Arc::clone(&listen.channel), listen.since);
        let Some((local, hearing)) = self.hear(key, &name) else {
            return self.http_reply(key, http, &too_many_channels(), connection);
        };
        let position = self.local.get_mut(local).map(|channel| channel.position);
        let has_all =
            hearing == Hearing::Now && since.is_some() && since == position.map(Since::from);
        let wish = RecoveryWish {
            since,
            latest_only: false,
            in_pages,
        };
        let must_ask = since.is_some() && !has_all;
        let owner = self.shared.owner_of(&name);
        if hearing == Hearing::Now && (!must_ask || owner == self.id) {
            let recovery = match (must_ask, position) {
                (true, _) => self.recover_here(&name, wish),
                (false, Some(position)) if has_all => Some(Recovery {
                    recovered: true,
                    publications: Vec::new(),
                    position,
                }),
                _ => None,
            };
            return self.after_hearing(key, http, upgrade, HeardOne { local, recovery });
        }
        if must_ask {
            if hearing == Hearing::Now {
                self.hold(local, key);
            }
            let asker = Asker {
                session: key,
                tag: 0,
            };
            self.ask(owner, asker, &name, Question::Recover(wish));
        }
        http.deadline_s = self.now_s() + self.limits.ready_timeout_s;
        http.phase = Phase::AwaitJoined(Box::new(Awaiting {
            upgrade,
            local,
            asked_history: must_ask,
        }));
        After::Wait
    }

    /// A channel is delivered here, and what was missed of it is known.
    fn after_hearing(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        upgrade: Upgrade,
        heard: HeardOne,
    ) -> After {
        if let (Carrier::Poll { .. }, Some(listen)) = (&upgrade.carrier, upgrade.dialogue.listen())
            && let Some(answered) = self.poll_or_wait(key, http, listen, &heard)
        {
            return answered;
        }
        After::Upgrade(Box::new(upgrade), Some(Heard::One(heard)))
    }

    /// Answers a client that cannot have a response that goes on, or only wants to know its head.
    fn answer_streamless(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        content_type: &'static str,
        connection: ConnectionPlan,
    ) -> Option<After> {
        if connection.is_http10 {
            let line = "a response that goes on needs HTTP/1.1 (nginx: proxy_http_version 1.1)";
            let reply = Reply::text(505, line).closing();
            return Some(self.http_reply(key, http, &reply, connection));
        }
        if connection.head_only {
            let headers = std::mem::take(&mut http.answer_headers);
            self.send(key, stream_head(content_type, &headers));
            return Some(After::Finish);
        }
        None
    }

    /// A channel is delivered here now: whoever waited only for that goes on.
    pub(super) fn heard(&mut self, local: Key, key: Key) {
        if self.client(key).is_ok() {
            return self.client_heard(key, local);
        }
        if self.opening(key).is_some() {
            return self.part_heard(key, local);
        }
        let waits = |awaiting: &Awaiting| awaiting.local == local && !awaiting.asked_history;
        if let Some((mut http, awaiting)) = self.take_awaiting(key, waits) {
            let heard = HeardOne {
                local,
                recovery: None,
            };
            let after = self.after_hearing(key, &mut http, awaiting.upgrade, heard);
            self.go_on(key, http, after);
        }
    }

    /// The owner said what a listener missed.
    pub(super) fn upgrade_answered(&mut self, key: Key, answer: AnswerTo) {
        let Some((mut http, awaiting)) = self.take_awaiting(key, |awaiting| awaiting.asked_history)
        else {
            return;
        };
        let local = awaiting.local;
        let recovery = match answer {
            AnswerTo::Recovery(recovery) => Some(recovery),
            _ => None,
        };
        let heard = HeardOne { local, recovery };
        let after = self.after_hearing(key, &mut http, awaiting.upgrade, heard);
        self.go_on(key, http, after);
        self.let_go(local, key);
    }

    /// A channel that a session waited for cannot be opened.
    pub(super) fn refuse_joined(&mut self, key: Key, local: Key) {
        if self.client(key).is_ok() {
            return self.client_refused(key, local);
        }
        if matches!(self.stage(key), Some(Stage::Http(_))) {
            let reply = too_many_channels();
            self.reply_and_finish(key, &reply, CloseReason::Refused);
        }
    }

    /// The channel whose owner an HTTP connection waits for.
    pub(super) fn awaited(&self, key: Key) -> Option<&Awaiting> {
        match self.stage(key)? {
            Stage::Http(http) => match &http.phase {
                Phase::AwaitJoined(awaiting) => Some(awaiting),
                _ => None,
            },
            _ => None,
        }
    }

    fn take_awaiting(
        &mut self,
        key: Key,
        is_meant: impl Fn(&Awaiting) -> bool,
    ) -> Option<(Box<HttpStage>, Awaiting)> {
        self.awaited(key).filter(|awaiting| is_meant(awaiting))?;
        let mut http = self.take_http(key)?;
        match std::mem::replace(&mut http.phase, Phase::Head) {
            Phase::AwaitJoined(awaiting) => Some((http, *awaiting)),
            phase => {
                http.phase = phase;
                self.put_http(key, http);
                None
            }
        }
    }

    /// Makes of a connection what it is to be. What came after the request belongs to that.
    pub(super) fn open(
        &mut self,
        key: Key,
        http: HttpStage,
        upgrade: Upgrade,
        heard: Option<Heard>,
    ) {
        let Upgrade { carrier, dialogue } = upgrade;
        let token_s = self.deadline_of(dialogue.expire_at_s(), 0);
        let heard = match (&carrier, heard) {
            (Carrier::Poll { wait_s }, Some(heard)) => {
                return self.park(key, http, heard, *wait_s, token_s);
            }
            (_, heard) => heard,
        };
        self.count_request_bytes(http.held_bytes(), 0);
        let head = upgrade_head(&carrier, &http.answer_headers);
        let interval_s = self.limits.heartbeat.ping_interval_s.max(1);
        let is_stream = matches!(carrier, Carrier::Stream { .. });
        let has_heartbeats = |listen: &Listen| is_stream || listen.dialect != Dialect::Verbatim;
        let is_several = matches!(dialogue, Dialogue::Several(_));
        let interval_s = match is_several || dialogue.listen().is_some_and(has_heartbeats) {
            true => interval_s.min(SILENCE_MAX_S),
            false => interval_s,
        };
        let first_ping_s = self.random.u32(1..=interval_s);
        let (now_s, expires_s) = (self.now_s(), self.stale_deadline_s());
        let client = match &dialogue {
            Dialogue::Centrifuge(new) => {
                let mut client = Client::new(self.new_info(key), new.format, new.is_uni, expires_s);
                client.pings_by_frame = new.pings_by_frame;
                if !http.kept_headers.is_empty() {
                    client.rare_mut().headers = http.kept_headers;
                }
                if new.has_session {
                    client.rare_mut().session = Some(self.new_session_name(key));
                }
                Some(Box::new(client))
            }
            Dialogue::Plain { .. } | Dialogue::Several(_) | Dialogue::Receiver(_) => None,
        };
        let Some(session) = self.sessions.get_mut(key) else {
            if let Some(heard) = heard {
                self.forget_heard(key, heard);
            }
            return;
        };
        session.vitals = Vitals::new(now_s, first_ping_s);
        session.stage = upgraded_stage(carrier, &dialogue, client, token_s, http.client);
        self.plan_send(key, head.into(), Cargo::Other);
        match (dialogue, heard) {
            (
                Dialogue::Plain {
                    listen: Some(listen),
                    ..
                },
                Some(Heard::One(heard)),
            ) => self.begin_listening(key, &listen, heard),
            (_, Some(Heard::Several(opened))) => self.go_on_listening(key, *opened),
            (Dialogue::Receiver(_), _) => self.fetch_next(key),
            (Dialogue::Centrifuge(new), _) => self.begin_centrifuge(key, &new),
            _ => {}
        }
        self.reschedule(key);
        let mut rest = http.input;
        if !rest.is_empty() && matches!(self.stage(key), Some(Stage::WebSocket(_))) {
            self.receive_frames(key, &mut rest);
        }
    }

    /// A listener of several channels is let in, and is told what was kept for it.
    fn go_on_listening(&mut self, key: Key, opened: Opened) {
        let Opened { several, out } = opened;
        let several = Box::new(several);
        match self.sessions.get_mut(key).map(|session| &mut session.stage) {
            Some(Stage::Stream(stream)) => stream.set_several(several),
            Some(Stage::WebSocket(websocket)) => {
                websocket.extras.get_or_insert_default().several = Some(several);
            }
            // It ended with the head of its answer, when its channels were not yet its own.
            _ => return self.leave_parts(key, *several),
        }
        if !out.is_empty() {
            self.send(key, out);
        }
    }

    /// Gives up what a listener would have heard that is gone.
    pub(super) fn forget_heard(&mut self, key: Key, heard: Heard) {
        match heard {
            // It may have been opened for this listener alone.
            Heard::One(heard) => self.leave_if_empty(heard.local),
            Heard::Several(opened) => self.leave_parts(key, opened.several),
        }
    }

    /// Subscribes a listener of the plain dialect; what it missed comes first.
    fn begin_listening(&mut self, key: Key, listen: &Listen, heard: HeardOne) {
        let HeardOne { local, recovery } = heard;
        let (framing, window_bits) = self.framing_of(key);
        let encoding = Encoding {
            dialect: listen.dialect,
            framing,
            window_bits,
            selection: Selection::default(),
        };
        if self.sessions.get(key).is_none() {
            // The channel may have been opened for it alone.
            return self.leave_if_empty(local);
        }
        let subscription = self.add_subscriber(local, key, encoding);
        if let Some(session) = self.sessions.get_mut(key) {
            session.subscription = subscription;
        }
        if self.limits.has_own_heartbeats {
            self.begin_heartbeat(key);
        }
        let position = self.local.get_mut(local).map(|channel| channel.position);
        let position = recovery
            .as_ref()
            .map(|recovery| recovery.position)
            .or(position);
        let Some(position) = position else {
            return;
        };
        let mut out = Vec::new();
        let recovered = recovery.as_ref().is_some_and(|recovery| recovery.recovered);
        self.greet(&mut out, encoding, listen, position, recovered);
        if listen.since.is_some() && !recovered && is_bare(encoding) {
            let text = "what you missed is not there any more: connect without since";
            return self.close(key, CloseCode::CannotResume, text, CloseReason::Policy);
        }
        let place = scribe::Place {
            name: &listen.channel,
            local: local.slot,
            epoch: position.epoch,
            is_stream: true,
        };
        let missed = recovery.map_or(Vec::new(), |recovery| recovery.publications);
        self.metrics.recovered_publications.add(missed.len() as u64);
        for publication in &missed {
            self.scribe
                .publication(&mut out, encoding, &place, publication, None);
        }
        if !out.is_empty() {
            self.send(key, out);
        }
    }

    /// Tells a listener where it stands, if its dialect has words for that.
    fn greet(
        &mut self,
        out: &mut Vec<u8>,
        encoding: Encoding,
        listen: &Listen,
        position: Position,
        recovered: bool,
    ) {
        let epoch = position.epoch.to_string();
        let offset = match (recovered, listen.since) {
            (true, Some(since)) => since.offset,
            _ => position.offset,
        };
        match (encoding.dialect, encoding.framing) {
            (Dialect::Envelope, _) => {
                let mut message = Vec::new();
                envelope::append_subscribed(&mut message, None, &epoch, offset, recovered);
                self.scribe.say(out, encoding, Opcode::Text, &message);
            }
            (Dialect::Verbatim, Framing::Events) => {
                let cursor = Cursor {
                    epoch: &epoch,
                    offset,
                };
                let is_gap = listen.since.is_some() && !recovered;
                let retry_ms = self.retry_ms();
                self.scribe
                    .mark(out, &cursor.to_string(), is_gap, Some(retry_ms));
            }
            _ => {}
        }
    }

    /// When a client comes back that is cut off: the more there are, the more they are spread.
    pub(super) fn retry_ms(&mut self) -> u32 {
        let spread_ms = u32::try_from(self.sessions.len() / RETURNS_PER_MS).unwrap_or(u32::MAX);
        let latest_ms = spread_ms.clamp(2 * RETRY_MIN_MS, RETRY_MAX_MS);
        self.random.u32(RETRY_MIN_MS..=latest_ms)
    }

    /// What a client of the Centrifuge protocol has said with its request.
    fn begin_centrifuge(&mut self, key: Key, new: &NewClient) {
        if new.is_sockjs {
            self.open_sockjs(key);
        } else if new.first.is_empty() {
            // It is yet to come.
        } else if new.is_uni {
            self.begin_uni(key, &new.first, new.last_event_id.as_deref());
        } else {
            self.receive_commands(key, scribe::opcode_of(new.format), &new.first);
        }
    }

    /// A name for a client that nobody else has.
    pub(super) fn new_info(&mut self, key: Key) -> Arc<ClientInfo> {
        let mut id = [0; 16];
        self.random.fill(&mut id);
        // Where it is, so that it is found without a search.
        id[..4].copy_from_slice(&key.slot.to_be_bytes());
        id[4..6].copy_from_slice(&self.id.to_be_bytes());
        // A UUID of its own kind (RFC 9562 section 5.8).
        id[6] = 0x80 | id[6] & 0x0f;
        id[8] = 0x80 | id[8] & 0x3f;
        Arc::new(ClientInfo {
            client: uuid(&id).into(),
            ..ClientInfo::default()
        })
    }

    /// A name for a session that others cannot guess: where it is, and 128 random bits.
    fn new_session_name(&mut self, key: Key) -> Box<str> {
        let secret = [(); 2].map(|()| self.secrets.random_u64());
        session_name(self.id, key.slot, secret)
    }

    /// A message of a client that only listens: the first is its request to connect, and others are forgiven.
    pub(super) fn receive_uni(&mut self, key: Key, message: &[u8]) {
        if self
            .client(key)
            .is_ok_and(|client| client.progress == Progress::New)
        {
            self.begin_uni(key, message, None);
        }
    }

    /// A client that only listens has said what it wants.
    fn begin_uni(&mut self, key: Key, request: &[u8], last_event_id: Option<&str>) {
        let Ok(mut request) = decode_connect_request(Format::Json, request) else {
            return self.disconnect(key, &Disconnect::BadRequest, CloseReason::BadCommand);
        };
        if let Some(id) = last_event_id {
            let most = self.shared.config.client.limits.channel_limit;
            places::resume(&mut request, id, most as usize);
        }
        let mut out = Vec::new();
        let command = Command {
            id: 0,
            method: Method::Connect(Box::new(request)),
        };
        let connected = self.obey_command(key, command, &mut out);
        self.say(key, &out);
        if let Err(disconnect) = connected {
            let reason = CloseReason::of(&disconnect);
            self.disconnect(key, &disconnect, reason);
        }
    }
}

impl Dialogue {
    /// When the token of its listener ends, in Unix seconds; 0 for never.
    fn expire_at_s(&self) -> i64 {
        match self {
            Self::Several(listen) => listen.expire_at_s,
            _ => self.listen().map_or(0, |listen| listen.expire_at_s),
        }
    }

    /// The device it is for, if it names one.
    pub(super) fn device(&self) -> Option<DeviceId> {
        self.listen()?.device
    }

    fn listen(&self) -> Option<&Listen> {
        match self {
            Self::Plain { listen, .. } => listen.as_ref(),
            Self::Several(_) | Self::Centrifuge(_) | Self::Receiver(_) => None,
        }
    }
}

fn is_bare(encoding: Encoding) -> bool {
    encoding.dialect == Dialect::Verbatim && encoding.framing == Framing::WebSocket
}

fn upgrade_head(carrier: &Carrier, headers: &Headers) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match carrier {
        Carrier::WebSocket {
            key,
            protocol,
            deflate,
        } => write_switching_protocols(&mut out, key, *protocol, deflate.as_ref()),
        Carrier::Stream {
            content_type,
            preamble,
            ..
        } => {
            out = stream_head(content_type, headers);
            crate::proto::http::append_chunk(&mut out, preamble);
        }
        Carrier::Poll { .. } => {}
    }
    out
}

fn stream_head(content_type: &str, headers: &Headers) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    write_stream_head(&mut out, content_type, &headers);
    out
}

/// `token_s` is when a listener's token ends, in seconds of the shard's clock; 0 for never.
fn upgraded_stage(
    carrier: Carrier,
    dialogue: &Dialogue,
    client: Option<Box<Client>>,
    token_s: u32,
    address: IpAddr,
) -> Stage {
    let deflate = match carrier {
        Carrier::Stream { framing, .. } => {
            if let Dialogue::Receiver(id) = dialogue {
                let receiver = StreamingReceiver::new(id.clone(), address);
                return Stage::Stream(StreamStage::receiving(framing, Box::new(receiver)));
            }
            return Stage::Stream(StreamStage::new(framing, client, token_s));
        }
        Carrier::WebSocket { deflate, .. } => deflate,
        Carrier::Poll { .. } => None,
    };
    let purpose = match dialogue {
        Dialogue::Plain { purpose, .. } => *purpose,
        Dialogue::Several(_) | Dialogue::Receiver(_) => Purpose::Listen,
        Dialogue::Centrifuge(new) if new.is_sockjs => Purpose::SockJs,
        Dialogue::Centrifuge(_) => Purpose::Commands,
    };
    let needs_extras = client.is_some() || deflate.is_some() || token_s != 0;
    let extras = needs_extras.then(|| {
        Box::new(Extras {
            deflate: deflate.map(Deflate::new),
            client,
            token_s,
            ..Extras::default()
        })
    });
    Stage::WebSocket(WebSocketStage {
        reader: MessageReader::new(),
        extras,
        message_deadline_s: 0,
        purpose,
    })
}

fn uuid(id: &[u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(*id));
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

pub(super) fn too_many_channels() -> Reply {
    Reply::text(503, "too many channels")
        .with("Retry-After", "5")
        .closing()
}
