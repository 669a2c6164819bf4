//! Commands of Centrifuge clients, and what they are told.

use std::sync::Arc;

use crate::clock::unix_ms;
use crate::config::{ChannelOptions, DataFormat};
use crate::hooks::KeySource;
use crate::hub::{
    Direction, Encoding, Framing, Key, Kind, Limit, Page, Position, Publication, Refused, Since,
    Unrecoverable,
};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::values::{
    ChannelRequest, HistoryRequest, HistoryResult, PresenceStats, PublicationRef, PublishRequest,
    ReplyError, SubscribePush, SubscribeResult,
};
use crate::proto::centrifuge::{
    Command, Commands, Disconnect, ErrorCode, Format, Method, PayloadKind, PayloadRef, Push,
    PushEvent, Reply, ReplyResult, UnsubscribeCode, encode_push, encode_reply,
};
use crate::proto::frame::Opcode;

use super::Core;
use super::asks::{AnswerTo, Ask, Question};
use super::client::{Awaited, Client, Deferred, Progress, Subscribed};
use super::inbox::{Asker, Message};
use super::publish::{PublishOptions, Submission, Submitted};
use super::scribe;
use super::session::{Purpose, Stage};

/// Commands in one frame, at most: as many as a client has channels, and some.
const COMMANDS_PER_FRAME_MAX: usize = 1024;

/// Why a command comes to nothing.
pub(super) enum Refusal {
    /// The client is told, and may go on.
    Error(ErrorCode),
    /// The connection ends.
    Ends(Disconnect),
    /// The client is told in the backend's words.
    Backend(Box<BackendError>),
    /// Newer keys may change it; without them, it is as the box says.
    NeedsKeys(KeySource, Box<Refusal>),
}

/// An error in the backend's words.
pub(super) struct BackendError {
    pub code: u32,
    /// For people.
    pub message: Box<str>,
    /// Worth another try.
    pub temporary: bool,
}

impl Refusal {
    /// What a client is told that gets no replies.
    pub fn as_disconnect(&self) -> Disconnect {
        match self {
            Self::Ends(disconnect) => disconnect.clone(),
            Self::Error(ErrorCode::TokenExpired | ErrorCode::Expired) => {
                Disconnect::ConnectionExpired
            }
            Self::Error(ErrorCode::TooManyRequests) => Disconnect::TooManyRequests,
            Self::Error(ErrorCode::PermissionDenied) => Disconnect::PermissionDenied,
            Self::Error(_) => Disconnect::InternalServerError,
            Self::Backend(error) if error.temporary => Disconnect::InternalServerError,
            Self::Backend(_) => Disconnect::PermissionDenied,
            Self::NeedsKeys(_, otherwise) => otherwise.as_disconnect(),
        }
    }

    /// The same for a client that connects: where the backend could not be asked, it is to come again.
    pub fn while_connecting(self) -> Self {
        match self {
            Self::Error(ErrorCode::Internal) => Disconnect::InternalServerError.into(),
            refusal => refusal,
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Error(code)
    }
}

impl From<Disconnect> for Refusal {
    fn from(disconnect: Disconnect) -> Self {
        Self::Ends(disconnect)
    }
}

impl Core {
    /// The Centrifuge client of a session. Without one there is nobody to refuse anything to.
    pub(super) fn client(&self, key: Key) -> Result<&Client, Refusal> {
        let session = self.sessions.get(key);
        let client = session.and_then(|session| session.client());
        client.ok_or(Refusal::Error(ErrorCode::Internal))
    }

    /// The same, to change it.
    pub(super) fn client_mut(&mut self, key: Key) -> Result<&mut Client, Refusal> {
        let session = self.sessions.get_mut(key);
        let client = session.and_then(|session| session.client_mut());
        client.ok_or(Refusal::Error(ErrorCode::Internal))
    }

    /// A frame of commands.
    pub(super) fn receive_commands(&mut self, key: Key, opcode: Opcode, frame: &[u8]) {
        let Ok(client) = self.client(key) else {
            return;
        };
        let (format, is_uni) = (client.format, client.is_uni);
        // Some libraries send whatever they send as binary.
        if format == Format::Protobuf && opcode == Opcode::Text {
            return self.disconnect(key, &Disconnect::BadRequest, CloseReason::BadCommand);
        }
        if is_uni {
            return self.receive_uni(key, frame);
        }
        let mut out = Vec::new();
        for command in Commands::new(format, frame, COMMANDS_PER_FRAME_MAX) {
            let done = match command {
                Ok(command) => self.obey_command(key, command, &mut out),
                Err(_) => Err(Disconnect::BadRequest),
            };
            if let Err(disconnect) = done {
                self.say(key, &out);
                let reason = CloseReason::of(&disconnect);
                return self.disconnect(key, &disconnect, reason);
            }
        }
        self.say(key, &out);
    }

    /// Deals with one command. Its reply is in `out`, or comes later.
    pub(super) fn obey_command(
        &mut self,
        key: Key,
        command: Command,
        out: &mut Vec<u8>,
    ) -> Result<(), Disconnect> {
        if self.awaits_turn(key, &command) {
            return self.defer(key, Deferred::Command(Box::new(command)));
        }
        let id = command.id;
        let again = self.shared.backend.fetches_keys().then(|| command.clone());
        let done = match (self.dispatch(key, command, out), again) {
            (Err(Refusal::NeedsKeys(source, _)), Some(command)) => {
                self.await_keys(key, source, command)
            }
            (done, _) => done,
        };
        self.conclude(key, id, done, out)
    }

    /// Whether a command has to wait until the client is let in, which it may ask for in the same message; or until a
    /// subscription is made that what it may do depends on.
    fn awaits_turn(&self, key: Key, command: &Command) -> bool {
        if matches!(command.method, Method::Pong | Method::Connect(_)) {
            return false;
        }
        let channel = command.method.channel();
        self.client(key).is_ok_and(|client| {
            client.awaits_admission()
                || channel.is_some_and(|channel| client.is_engaged_in(channel))
        })
    }

    /// Lets something wait for what came before it.
    pub(super) fn defer(&mut self, key: Key, turn: Deferred) -> Result<(), Disconnect> {
        let Ok(client) = self.client_mut(key) else {
            return Ok(());
        };
        if client.waiting.len() > COMMANDS_PER_FRAME_MAX {
            return Err(Disconnect::TooManyRequests);
        }
        client.wait(Awaited::Turn(turn));
        Ok(())
    }

    /// Does what waited for its turn, as far as that has come.
    pub(super) fn obey_deferred(&mut self, key: Key) {
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        if client.awaits_admission() {
            return;
        }
        let mut out = Vec::new();
        for turn in client.take_deferred() {
            let done = match turn {
                Deferred::Command(command) => self.obey_command(key, *command, &mut out),
                Deferred::Leave(channel) => {
                    self.say(key, &std::mem::take(&mut out));
                    self.unsubscribe_ordered(key, &channel);
                    Ok(())
                }
            };
            if let Err(disconnect) = done {
                self.say(key, &out);
                let reason = CloseReason::of(&disconnect);
                return self.disconnect(key, &disconnect, reason);
            }
        }
        self.say(key, &out);
    }

    /// Replies to a command that comes to nothing.
    fn conclude(
        &mut self,
        key: Key,
        id: u32,
        done: Result<(), Refusal>,
        out: &mut Vec<u8>,
    ) -> Result<(), Disconnect> {
        let Err(refusal) = done else {
            return Ok(());
        };
        if self.client(key).is_ok_and(|client| client.is_uni) {
            return Err(refusal.as_disconnect());
        }
        match refusal {
            Refusal::Error(code) => {
                self.reply(key, id, ReplyResult::Error(ReplyError::from(code)), out);
            }
            Refusal::Backend(error) => {
                self.reply(key, id, ReplyResult::Error(error.as_reply()), out);
            }
            Refusal::Ends(disconnect) => return Err(disconnect),
            Refusal::NeedsKeys(_, otherwise) => {
                return self.conclude(key, id, Err(*otherwise), out);
            }
        }
        Ok(())
    }

    /// The same for a command that had to wait for an answer from outside; then the client goes on.
    pub(super) fn conclude_later(
        &mut self,
        key: Key,
        id: u32,
        done: Result<(), Refusal>,
        mut out: Vec<u8>,
    ) {
        let concluded = self.conclude(key, id, done, &mut out);
        self.say(key, &out);
        if let Err(disconnect) = concluded {
            let reason = CloseReason::of(&disconnect);
            return self.disconnect(key, &disconnect, reason);
        }
        self.obey_deferred(key);
        self.resume(key);
        self.reschedule(key);
    }

    /// Deals with a command whose reply is in `out`, or comes later.
    pub(super) fn dispatch(
        &mut self,
        key: Key,
        command: Command,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let Command { id, method } = command;
        let progress = self.client(key)?.progress;
        match (progress, &method) {
            (Progress::New, Method::Connect(_)) | (Progress::Connected, _) => {}
            _ => return Err(Disconnect::BadRequest.into()),
        }
        match method {
            Method::Connect(request) if progress == Progress::New => {
                self.command_connect(key, id, *request, out)
            }
            Method::Pong => self.command_pong(key),
            Method::Connect(_) | Method::Unknown | Method::Ping => {
                Err(Disconnect::BadRequest.into())
            }
            Method::Send(_) => Err(Disconnect::NotAvailable.into()),
            Method::Subscribe(request) => self.command_subscribe(key, id, *request, out),
            Method::Unsubscribe(request) => {
                self.command_unsubscribe(key, id, &request.channel, out)
            }
            Method::Publish(request) => self.command_publish(key, id, request, out),
            Method::Presence(request) => {
                self.command_presence(key, id, &request, Question::Presence, out)
            }
            Method::PresenceStats(request) => {
                self.command_presence(key, id, &request, Question::PresenceStats, out)
            }
            Method::History(request) => self.command_history(key, id, &request, out),
            Method::Rpc(request) => self.command_rpc(key, id, &request),
            Method::Refresh(request) => self.command_refresh(key, id, &request.token, out),
            Method::SubRefresh(request) => self.command_sub_refresh(key, id, &request, out),
        }
    }

    fn command_pong(&mut self, key: Key) -> Result<(), Refusal> {
        let client = self.client_mut(key)?;
        match std::mem::take(&mut client.owes_pong) {
            true => Ok(()),
            false => Err(Disconnect::BadRequest.into()),
        }
    }

    fn command_publish(
        &mut self,
        key: Key,
        id: u32,
        request: PublishRequest,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let options = self.checked_options(&request.channel)?;
        let channels = &self.shared.config.channel;
        let format = channels.data_format(options);
        channels
            .check_name(&request.channel, options)
            .map_err(|_| ErrorCode::BadRequest)?;
        if request.kind != 0 {
            return Err(ErrorCode::NotAvailable.into());
        }
        if let Some(endpoint) = self.shared.backend.on_publish(options) {
            let data = request.data.as_ref().ok_or(ErrorCode::BadRequest)?;
            if !is_of_format(&data.as_ref(), format) {
                return Err(ErrorCode::BadRequest.into());
            }
            return self.ask_publish(key, id, request, endpoint);
        }
        let client = self.client(key)?;
        let right = Right {
            client: options.allow_publish_for_client,
            subscriber: options.allow_publish_for_subscriber,
            anonymous: options.allow_publish_for_anonymous,
        };
        if !self.has_right(client, &request.channel, right) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        self.publish_permitted(key, id, request, false, out)
    }

    /// Publishes for a client that may.
    pub(super) fn publish_permitted(
        &mut self,
        key: Key,
        id: u32,
        request: PublishRequest,
        skips_history: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let options = self.options_of(&request.channel)?;
        let (delta, format) = (
            options.delta_publish,
            self.shared.config.channel.data_format(options),
        );
        let info = self.info_in(self.client(key)?, &request.channel);
        let data = request.data.ok_or(ErrorCode::BadRequest)?;
        if !is_of_format(&data.as_ref(), format) {
            return Err(ErrorCode::BadRequest.into());
        }
        let submission = Submission {
            channel: Arc::from(request.channel),
            kind: match data.kind {
                PayloadKind::Json => Kind::Json,
                PayloadKind::Text => Kind::Text,
                PayloadKind::Binary => Kind::Binary,
            },
            data: data.bytes,
            options: Some(Box::new(PublishOptions {
                info: Some(info),
                uses_delta: delta,
                skips_history,
                ..PublishOptions::default()
            })),
        };
        let tag = self.client_mut(key)?.wait(Awaited::Publish(id));
        if let Submitted::Done(outcome) = self.publish(submission, Asker { session: key, tag }) {
            let _ = self.client_mut(key)?.take_waiting(tag);
            self.reply_published(key, id, outcome, out);
        }
        Ok(())
    }

    fn command_presence(
        &mut self,
        key: Key,
        id: u32,
        request: &ChannelRequest,
        question: Question,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let options = self.checked_options(&request.channel)?;
        let client = self.client(key)?;
        if !options.presence {
            return Err(ErrorCode::NotAvailable.into());
        }
        let right = Right {
            client: options.allow_presence_for_client,
            subscriber: options.allow_presence_for_subscriber,
            anonymous: options.allow_presence_for_anonymous,
        };
        if !self.has_right(client, &request.channel, right) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        let awaited = match question {
            Question::Presence => Awaited::Presence(id),
            _ => Awaited::PresenceStats(id),
        };
        self.ask_for(key, &request.channel, question, awaited, out)
    }

    fn command_history(
        &mut self,
        key: Key,
        id: u32,
        request: &HistoryRequest,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let options = self.checked_options(&request.channel)?;
        let client = self.client(key)?;
        if !options.has_history() {
            return Err(ErrorCode::NotAvailable.into());
        }
        let right = Right {
            client: options.allow_history_for_client,
            subscriber: options.allow_history_for_subscriber,
            anonymous: options.allow_history_for_anonymous,
        };
        if !self.has_right(client, &request.channel, right) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        let most = self
            .shared
            .config
            .client
            .limits
            .history_max_publication_limit;
        let since = request.since.as_ref();
        let question = history_question(
            since.map(|since| Since::from_text(&since.epoch, since.offset)),
            request.limit,
            request.reverse,
            most,
        )?;
        self.ask_for(key, &request.channel, question, Awaited::History(id), out)
    }

    /// The options of a channel somebody names in a command.
    fn checked_options(&self, channel: &str) -> Result<&ChannelOptions, Refusal> {
        if channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        self.options_of(channel)
    }

    /// Whether a client has a right in a channel.
    fn has_right(&self, client: &Client, channel: &str, right: Right) -> bool {
        if self.shared.config.client.limits.insecure {
            return true;
        }
        let is_subscriber = || {
            let local = self.local.find(channel);
            local.is_some_and(|local| client.subscription(local.slot).is_some())
        };
        let is_anonymous = client.info.user.is_empty();
        (!is_anonymous || right.anonymous) && (right.client || right.subscriber && is_subscriber())
    }

    /// Asks the owner of a channel for a client. The answer is in `out`, or comes later.
    fn ask_for(
        &mut self,
        key: Key,
        channel: &str,
        question: Question,
        awaited: Awaited,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let owner = self.shared.owner_of(channel);
        if owner == self.id {
            let answer = self.answer_here(channel, question);
            self.reply_answer(key, awaited, answer, out);
            return Ok(());
        }
        let tag = self.client_mut(key)?.wait(awaited);
        let asker = Asker { session: key, tag };
        self.ask(owner, asker, &Arc::from(channel), question);
        Ok(())
    }

    /// Asks the owner of a channel, which is another shard.
    pub(super) fn ask(&mut self, owner: u16, asker: Asker, channel: &Arc<str>, question: Question) {
        let ask = Ask {
            asker,
            channel: Arc::clone(channel),
            question,
        };
        self.tell(owner, Message::Ask(Box::new(ask)));
    }

    /// Notes something a client waits for, and names it. `None` if there is no such client.
    pub(super) fn wait(&mut self, key: Key, awaited: Awaited) -> Option<u32> {
        Some(self.client_mut(key).ok()?.wait(awaited))
    }

    /// An answer to a client came.
    pub(super) fn client_answered(&mut self, asker: Asker, answer: AnswerTo) {
        let key = asker.session;
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let Some(awaited) = client.take_waiting(asker.tag) else {
            return;
        };
        let awaited = match awaited {
            Awaited::Takeover(newcomer) => return self.took_over(key, *newcomer),
            Awaited::Census(census) => return self.counted(asker, census, &answer),
            awaited => awaited,
        };
        let mut out = Vec::new();
        self.reply_answer(key, awaited, answer, &mut out);
        self.say(key, &out);
        self.resume(key);
    }

    /// What became of a client's publication.
    pub(super) fn command_published(
        &mut self,
        key: Key,
        tag: u32,
        outcome: Result<Position, Refused>,
    ) {
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        if let Some(Awaited::Publish(id)) = client.take_waiting(tag) {
            let mut out = Vec::new();
            self.reply_published(key, id, outcome, &mut out);
            self.say(key, &out);
        }
        self.resume(key);
    }

    fn reply_published(
        &self,
        key: Key,
        id: u32,
        outcome: Result<Position, Refused>,
        out: &mut Vec<u8>,
    ) {
        let result = match outcome {
            Ok(_) => ReplyResult::Publish,
            Err(_) => ReplyResult::Error(ErrorCode::Internal.into()),
        };
        self.reply(key, id, result, out);
    }

    fn reply_answer(&self, key: Key, awaited: Awaited, answer: AnswerTo, out: &mut Vec<u8>) {
        match (awaited, answer) {
            (Awaited::Presence(id), AnswerTo::Presence(infos)) => {
                let infos: Vec<_> = infos.iter().map(|info| scribe::client_info(info)).collect();
                self.reply(key, id, ReplyResult::Presence(&infos), out);
            }
            (Awaited::PresenceStats(id), AnswerTo::PresenceStats(stats)) => {
                let stats = PresenceStats {
                    num_clients: stats.clients as u32,
                    num_users: stats.users as u32,
                };
                self.reply(key, id, ReplyResult::PresenceStats(stats), out);
            }
            (Awaited::History(id), AnswerTo::History(page)) => {
                self.reply_history(key, id, page, out);
            }
            (Awaited::Presence(id) | Awaited::PresenceStats(id) | Awaited::History(id), _) => {
                let error = ReplyResult::Error(ErrorCode::Internal.into());
                self.reply(key, id, error, out);
            }
            (
                Awaited::Subscribe(_)
                | Awaited::Publish(_)
                | Awaited::Takeover(_)
                | Awaited::Census(_)
                | Awaited::Hook(_)
                | Awaited::Keys(_)
                | Awaited::Turn(_),
                _,
            ) => {}
        }
    }

    fn reply_history(
        &self,
        key: Key,
        id: u32,
        page: Result<Page, Unrecoverable>,
        out: &mut Vec<u8>,
    ) {
        let page = match page {
            Ok(page) => page,
            Err(Unrecoverable) => {
                let error = ErrorCode::UnrecoverablePosition.into();
                return self.reply(key, id, ReplyResult::Error(error), out);
            }
        };
        let publications: Vec<PublicationRef<'_>> =
            page.publications.iter().map(whole_publication).collect();
        let result = HistoryResult {
            publications: &publications,
            epoch: &page.position.epoch.to_string(),
            offset: page.position.offset,
        };
        self.reply(key, id, ReplyResult::History(result), out);
    }

    /// Tells a client that its command to subscribe was followed.
    pub(super) fn reply_subscribed(
        &self,
        key: Key,
        id: u32,
        subscribed: &Subscribed,
        out: &mut Vec<u8>,
    ) {
        let result = subscribed.result(unix_ms() / 1000);
        self.reply(key, id, ReplyResult::Subscribe(result), out);
    }

    /// Tells a client of a subscription that was made for it.
    pub(super) fn push_subscribed(&mut self, key: Key, subscribed: &Subscribed) {
        let push = SubscribePush {
            recoverable: subscribed.flags.recoverable,
            epoch: subscribed.told_epoch(),
            offset: subscribed.told_offset(),
            positioned: subscribed.flags.positioned,
            data: (!subscribed.data.is_empty()).then(|| PayloadRef::json(&subscribed.data)),
        };
        self.push(key, &subscribed.channel, PushEvent::Subscribe(push));
    }

    /// Tells a client that one of its subscriptions was ended.
    pub(super) fn push_unsubscribed(&mut self, key: Key, channel: &str, code: UnsubscribeCode) {
        self.push(key, channel, PushEvent::from(code));
    }

    /// Sends a push to one client.
    pub(super) fn push(&mut self, key: Key, channel: &str, event: PushEvent<'_>) {
        let Ok(client) = self.client(key) else {
            return;
        };
        let mut out = Vec::new();
        let channel = crate::proto::centrifuge::ChannelRef::Name(channel);
        encode_push(
            &mut out,
            client.format,
            client.is_uni,
            &Push { channel, event },
        );
        self.say(key, &out);
    }

    /// Appends a reply.
    pub(super) fn reply(&self, key: Key, id: u32, result: ReplyResult<'_>, out: &mut Vec<u8>) {
        let Ok(client) = self.client(key) else {
            return;
        };
        if !out.is_empty() {
            out.extend_from_slice(client.format.separator());
        }
        encode_reply(out, client.format, &Reply { id, result });
    }

    /// Refuses a command whose answer had to be waited for.
    pub(super) fn refuse_command(
        &mut self,
        key: Key,
        id: u32,
        refusal: Refusal,
        out: &mut Vec<u8>,
    ) {
        if let Err(disconnect) = self.conclude(key, id, Err(refusal), out) {
            let reason = CloseReason::of(&disconnect);
            self.disconnect(key, &disconnect, reason);
        }
    }

    /// Sends one message of a protocol to a session, as its connection frames it. Nothing, if it is empty.
    pub(super) fn say(&mut self, key: Key, message: &[u8]) {
        let Ok(client) = self.client(key) else {
            return;
        };
        if message.is_empty() {
            return;
        }
        let opcode = scribe::opcode_of(client.format);
        self.say_as(key, opcode, message);
    }

    /// Sends one message, framed as the connection frames them.
    pub(super) fn say_as(&mut self, key: Key, opcode: Opcode, message: &[u8]) {
        let framed = self.frame(key, opcode, message);
        self.send(key, framed);
    }

    /// One message as the connection frames them.
    pub(super) fn frame(&mut self, key: Key, opcode: Opcode, message: &[u8]) -> Vec<u8> {
        let (framing, window_bits) = self.framing_of(key);
        if framing == Framing::WebSocket {
            return self.encode_for(key, opcode, message);
        }
        let encoding = Encoding {
            framing,
            window_bits,
            ..Encoding::PLAIN
        };
        let mut out = Vec::new();
        match framing {
            // An event for each.
            Framing::Events => message
                .split(|byte| *byte == b'\n')
                .for_each(|line| self.scribe.say(&mut out, encoding, opcode, line)),
            _ => self.scribe.say(&mut out, encoding, opcode, message),
        }
        out
    }

    /// How a session's messages are framed, and the window of those that are compressed.
    pub(super) fn framing_of(&self, key: Key) -> (Framing, u8) {
        match self.stage(key) {
            Some(Stage::Stream(stream)) => (stream.framing(), 0),
            Some(Stage::Polled(_)) => (Framing::SockJsItems, 0),
            Some(Stage::WebSocket(websocket)) => {
                let deflate = websocket.extras.as_ref();
                let params = deflate
                    .and_then(|extras| extras.deflate.as_ref())
                    .map(|deflate| deflate.params);
                let window_bits = params
                    .filter(|params| params.server_no_context_takeover)
                    .map_or(0, |params| params.server_window_bits());
                match websocket.purpose {
                    Purpose::SockJs => (Framing::SockJsWebSocket, window_bits),
                    _ => (Framing::WebSocket, window_bits),
                }
            }
            _ => (Framing::WebSocket, 0),
        }
    }

    /// Who a client is in a channel.
    fn info_in(&self, client: &Client, channel: &str) -> Arc<crate::hub::ClientInfo> {
        let local = self.local.find(channel);
        let own = local
            .and_then(|local| client.subscription(local.slot))
            .and_then(|subscription| subscription.info.as_ref());
        Arc::clone(own.unwrap_or(&client.info))
    }
}

impl BackendError {
    fn as_reply(&self) -> ReplyError<'_> {
        ReplyError {
            code: self.code,
            message: &self.message,
            temporary: self.temporary,
        }
    }
}

/// Who may do something in a channel.
struct Right {
    client: bool,
    subscriber: bool,
    anonymous: bool,
}

/// A question for history as clients and the server API put it. `limit` below 0 is as much as may be.
pub fn history_question(
    since: Option<Since>,
    limit: i32,
    reverse: bool,
    most: u32,
) -> Result<Question, ErrorCode> {
    if reverse && since.is_some_and(|since| since.offset == 0) {
        return Err(ErrorCode::BadRequest);
    }
    let limit = match u32::try_from(limit) {
        Ok(0) => Limit::None,
        Ok(limit) => Limit::AtMost(limit.min(most) as usize),
        Err(_) => Limit::AtMost(most as usize),
    };
    let direction = match reverse {
        true => Direction::Backward,
        false => Direction::Forward,
    };
    Ok(Question::History {
        since,
        limit,
        direction,
    })
}

fn is_of_format(data: &PayloadRef<'_>, format: DataFormat) -> bool {
    let is_json = data.kind == PayloadKind::Json;
    match format {
        DataFormat::Any | DataFormat::Binary => true,
        DataFormat::Json => is_json,
        DataFormat::JsonObject => is_json && data.bytes.trim_ascii_start().starts_with(b"{"),
    }
}

/// A publication as it was published.
pub(super) fn whole_publication(publication: &Publication) -> PublicationRef<'_> {
    let data = scribe::payload(publication.kind, &publication.data);
    PublicationRef {
        offset: publication.offset,
        ..scribe::publication_ref(publication, data)
    }
}

impl Subscribed {
    /// Where the client counts on from: nothing, where it need not.
    pub fn told_offset(&self) -> u64 {
        match self.flags.positioned {
            true => self.offset,
            false => 0,
        }
    }

    /// The epoch, where the client needs it.
    pub fn told_epoch(&self) -> &str {
        match self.flags.positioned {
            true => &self.epoch,
            false => "",
        }
    }

    /// What a client is told about it at `now_s`, unix seconds.
    pub fn result(&self, now_s: i64) -> SubscribeResult<'_> {
        SubscribeResult {
            expires: self.expire_at_s != 0,
            ttl: ttl_s(self.expire_at_s, now_s),
            recoverable: self.flags.recoverable,
            epoch: self.told_epoch(),
            publications: &self.publications,
            recovered: self.recovered,
            offset: self.told_offset(),
            positioned: self.flags.positioned,
            data: (!self.data.is_empty()).then(|| PayloadRef::json(&self.data)),
            was_recovering: self.was_recovering,
            delta: self.encoding.after_first().is_some(),
            id: self.id,
        }
    }
}

/// Seconds until a moment, at least 1; 0 for never.
pub(super) fn ttl_s(expire_at_s: i64, now_s: i64) -> u32 {
    match expire_at_s {
        0 => 0,
        at_s => u32::try_from((at_s - now_s).max(1)).unwrap_or(u32::MAX),
    }
}
