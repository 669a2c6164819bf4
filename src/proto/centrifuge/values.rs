//! What clients and server say: commands, replies and pushes.
//!
//! Commands are owned: they outlive the buffer they were read from. Replies and pushes borrow
//! everything: they are made to be encoded at once. In the schema zero and absent are the same, so a
//! field that was left out is zero, empty or `None` here.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::codes::{Disconnect, ErrorCode, UnsubscribeCode};
use super::lenient;
use super::payload::{Payload, PayloadRef};

/// The two formats of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Lines of JSON.
    Json,
    /// Messages behind their length.
    Protobuf,
}

impl Format {
    /// What stands between two messages in one frame.
    pub const fn separator(self) -> &'static [u8] {
        match self {
            Self::Json => b"\n",
            Self::Protobuf => b"",
        }
    }
}

/// One thing a client wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Chosen by the client; the reply carries it. 0 only for a pong and for a send, which may have
    /// one.
    pub id: u32,
    /// What it wants.
    pub method: Method,
}

/// What a command wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Nothing: the answer to a server's ping.
    Pong,
    /// Something this server does not know. It has an id.
    Unknown,
    /// Be let in. The first command of a connection, and only the first.
    Connect(Box<ConnectRequest>),
    /// Listen to a channel.
    Subscribe(Box<SubscribeRequest>),
    /// Stop listening.
    Unsubscribe(ChannelRequest),
    /// Publish to a channel.
    Publish(PublishRequest),
    /// Who is there.
    Presence(ChannelRequest),
    /// How many are there.
    PresenceStats(ChannelRequest),
    /// What was published.
    History(HistoryRequest),
    /// A ping as a command: it is in the schema, and nobody sends it.
    Ping,
    /// A message that gets no reply.
    Send(SendRequest),
    /// A call.
    Rpc(RpcRequest),
    /// A new token for the connection.
    Refresh(RefreshRequest),
    /// A new token for a subscription.
    SubRefresh(SubRefreshRequest),
}

impl Method {
    /// The channel it is about, if it is about one.
    pub fn channel(&self) -> Option<&str> {
        match self {
            Self::Subscribe(request) => Some(&request.channel),
            Self::Publish(request) => Some(&request.channel),
            Self::History(request) => Some(&request.channel),
            Self::SubRefresh(request) => Some(&request.channel),
            Self::Unsubscribe(request) | Self::Presence(request) | Self::PresenceStats(request) => {
                Some(&request.channel)
            }
            Self::Pong
            | Self::Unknown
            | Self::Connect(_)
            | Self::Ping
            | Self::Send(_)
            | Self::Rpc(_)
            | Self::Refresh(_) => None,
        }
    }
}

/// The first thing a client says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConnectRequest {
    /// A JWT, or empty.
    #[serde(deserialize_with = "lenient::or_default")]
    pub token: String,
    /// For the application.
    #[serde(deserialize_with = "lenient::payload")]
    pub data: Option<Payload>,
    /// What the client knows of its server-side subscriptions; of a unidirectional client, what it
    /// wants to listen to. By channel.
    #[serde(deserialize_with = "lenient::or_default")]
    pub subs: BTreeMap<String, SubscribeRequest>,
    /// What kind of client it is.
    #[serde(deserialize_with = "lenient::or_default")]
    pub name: String,
    /// Which version of it.
    #[serde(deserialize_with = "lenient::or_default")]
    pub version: String,
    /// Stand-ins for headers that a browser cannot set.
    #[serde(deserialize_with = "lenient::or_default")]
    pub headers: BTreeMap<String, String>,
    /// Bit 0: offers dictionary compression.
    #[serde(deserialize_with = "lenient::number")]
    pub flag: i64,
}

/// A wish to listen to a channel, or where a client stands in it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SubscribeRequest {
    /// The channel; empty where a map has it as its key.
    #[serde(deserialize_with = "lenient::or_default")]
    pub channel: String,
    /// A JWT, or empty.
    #[serde(deserialize_with = "lenient::or_default")]
    pub token: String,
    /// Asks for what was published after `epoch` and `offset`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub recover: bool,
    /// The epoch the client knows, or empty.
    #[serde(deserialize_with = "lenient::or_default")]
    pub epoch: String,
    /// The newest offset the client has.
    #[serde(deserialize_with = "lenient::number")]
    pub offset: u64,
    /// For the application.
    #[serde(deserialize_with = "lenient::payload")]
    pub data: Option<Payload>,
    /// Asks to be told when publications were lost.
    #[serde(deserialize_with = "lenient::or_default")]
    pub positioned: bool,
    /// Asks to be able to recover.
    #[serde(deserialize_with = "lenient::or_default")]
    pub recoverable: bool,
    /// Asks for joins and leaves.
    #[serde(deserialize_with = "lenient::or_default")]
    pub join_leave: bool,
    /// `fossil`, or empty for no deltas.
    #[serde(deserialize_with = "lenient::or_default")]
    pub delta: String,
    /// Wants only publications with such tags.
    #[serde(rename = "tf", deserialize_with = "lenient::or_default")]
    pub filter: Option<FilterNode>,
    /// See [`Self::takes_channel_ids`] and [`Self::rejects_unrecovered`].
    #[serde(deserialize_with = "lenient::number")]
    pub flag: i64,
    /// What to subscribe to: 0 is the stream of a channel.
    #[serde(rename = "type", deserialize_with = "lenient::number")]
    pub kind: i32,
}

impl SubscribeRequest {
    /// Whether pushes may name the channel by a number ([`SubscribeResult::id`]).
    pub const fn takes_channel_ids(&self) -> bool {
        self.flag & 1 != 0
    }

    /// Whether the client wants error 112 instead of a subscription that did not recover.
    pub const fn rejects_unrecovered(&self) -> bool {
        self.flag & 2 != 0
    }
}

/// A channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ChannelRequest {
    /// The channel.
    #[serde(deserialize_with = "lenient::or_default")]
    pub channel: String,
}

/// Something to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    /// The channel.
    #[serde(deserialize_with = "lenient::or_default")]
    pub channel: String,
    /// What to publish.
    #[serde(deserialize_with = "lenient::payload")]
    pub data: Option<Payload>,
    /// What to publish to: 0 is the stream of a channel.
    #[serde(rename = "type", deserialize_with = "lenient::number")]
    pub kind: i32,
}

/// A question for a piece of a channel's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    /// The channel.
    #[serde(deserialize_with = "lenient::or_default")]
    pub channel: String,
    /// How many publications at most: 0 for the position alone, below 0 for as many as there may be.
    #[serde(deserialize_with = "lenient::number")]
    pub limit: i32,
    /// Where to begin; `None` for the end that `reverse` says.
    pub since: Option<StreamPosition>,
    /// From new to old.
    #[serde(deserialize_with = "lenient::or_default")]
    pub reverse: bool,
}

/// A place in a channel's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StreamPosition {
    /// The offset.
    #[serde(deserialize_with = "lenient::number")]
    pub offset: u64,
    /// The epoch, or empty.
    #[serde(deserialize_with = "lenient::or_default")]
    pub epoch: String,
}

/// A message that gets no reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SendRequest {
    /// For the application.
    #[serde(deserialize_with = "lenient::payload")]
    pub data: Option<Payload>,
}

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RpcRequest {
    /// For the application.
    #[serde(deserialize_with = "lenient::payload")]
    pub data: Option<Payload>,
    /// What to call.
    #[serde(deserialize_with = "lenient::or_default")]
    pub method: String,
}

/// A new token for the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RefreshRequest {
    /// A JWT.
    #[serde(deserialize_with = "lenient::or_default")]
    pub token: String,
}

/// A new token for a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubRefreshRequest {
    /// The channel.
    #[serde(deserialize_with = "lenient::or_default")]
    pub channel: String,
    /// A JWT.
    #[serde(deserialize_with = "lenient::or_default")]
    pub token: String,
    /// What the subscription is to: 0 is the stream of a channel.
    #[serde(rename = "type", deserialize_with = "lenient::number")]
    pub kind: i32,
}

/// A node of a tags filter as it was sent, unchecked: [`super::filter::Filter::compile`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FilterNode {
    /// Empty for a leaf, else `and`, `or`, `not`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub op: String,
    /// Of a leaf: the tag to look at.
    #[serde(deserialize_with = "lenient::or_default")]
    pub key: String,
    /// Of a leaf: how to compare.
    #[serde(deserialize_with = "lenient::or_default")]
    pub cmp: String,
    /// Of a leaf: what to compare with.
    #[serde(deserialize_with = "lenient::or_default")]
    pub val: String,
    /// Of a leaf: a set to compare with.
    #[serde(deserialize_with = "lenient::or_default")]
    pub vals: Vec<String>,
    /// Of any other node: what it joins.
    #[serde(deserialize_with = "lenient::or_default")]
    pub nodes: Vec<FilterNode>,
}

/// One half of an emulated connection: what a client posts because its stream goes one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmulationRequest {
    /// The node that holds the session.
    pub node: String,
    /// The session, as the connect reply named it.
    pub session: String,
    /// A frame of commands.
    pub data: bytes::Bytes,
}

/// Who a client is, to others in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The user; empty for nobody in particular.
    pub user: Box<str>,
    /// The connection.
    pub client: Box<str>,
    /// What the application says of the connection.
    pub conn_info: Option<Payload>,
    /// What the application says of the subscription.
    pub chan_info: Option<Payload>,
}

impl ClientInfo {
    /// The same, borrowed.
    pub fn as_ref(&self) -> ClientInfoRef<'_> {
        ClientInfoRef {
            user: &self.user,
            client: &self.client,
            conn_info: self.conn_info.as_ref().map(Payload::as_ref),
            chan_info: self.chan_info.as_ref().map(Payload::as_ref),
        }
    }
}

/// A borrowed [`ClientInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientInfoRef<'a> {
    /// The user; empty for nobody in particular.
    pub user: &'a str,
    /// The connection.
    pub client: &'a str,
    /// What the application says of the connection.
    pub conn_info: Option<PayloadRef<'a>>,
    /// What the application says of the subscription.
    pub chan_info: Option<PayloadRef<'a>>,
}

/// A tag's name and value.
pub type Tag = (Box<str>, Box<str>);

/// What was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationRef<'a> {
    /// The data, or a patch.
    pub data: PayloadRef<'a>,
    /// Who published it, if it was a client.
    pub info: Option<ClientInfoRef<'a>>,
    /// Its place in the stream; 0 in a channel without history.
    pub offset: u64,
    /// What filters look at. No name comes twice.
    pub tags: &'a [Tag],
    /// `data` is a patch of the publication before.
    pub delta: bool,
    /// When, in milliseconds since 1970; 0 to leave it out.
    pub time_ms: i64,
}

impl<'a> PublicationRef<'a> {
    /// A publication with nothing but data and offset.
    pub const fn new(data: PayloadRef<'a>, offset: u64) -> Self {
        Self {
            data,
            info: None,
            offset,
            tags: &[],
            delta: false,
            time_ms: 0,
        }
    }
}

/// What the server says to a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reply<'a> {
    /// The command's.
    pub id: u32,
    /// What came of it.
    pub result: ReplyResult<'a>,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReplyResult<'a> {
    /// Nothing.
    Error(ReplyError<'a>),
    /// Let in.
    Connect(ConnectResult<'a>),
    /// Subscribed.
    Subscribe(SubscribeResult<'a>),
    /// Not subscribed any more.
    Unsubscribe,
    /// Published.
    Publish,
    /// Who is there, each client once.
    Presence(&'a [ClientInfoRef<'a>]),
    /// How many are there.
    PresenceStats(PresenceStats),
    /// What was published.
    History(HistoryResult<'a>),
    /// What a call gave.
    Rpc(Option<PayloadRef<'a>>),
    /// The connection's token was taken.
    Refresh(RefreshResult<'a>),
    /// The subscription's token was taken.
    SubRefresh(SubRefreshResult),
}

/// Why a command came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyError<'a> {
    /// An [`ErrorCode`], or one of the application's: 400 to 1999.
    pub code: u32,
    /// For people.
    pub message: &'a str,
    /// Worth another try.
    pub temporary: bool,
}

impl From<ErrorCode> for ReplyError<'static> {
    fn from(code: ErrorCode) -> Self {
        Self {
            code: code.code(),
            message: code.message(),
            temporary: code.is_temporary(),
        }
    }
}

/// What a connection has become.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ConnectResult<'a> {
    /// The connection's name.
    pub client: &'a str,
    /// The server's version.
    pub version: &'a str,
    /// The client must bring a new token.
    pub expires: bool,
    /// Within so many seconds.
    pub ttl: u32,
    /// From the application.
    pub data: Option<PayloadRef<'a>>,
    /// Server-side subscriptions, by channel.
    pub subs: &'a [(&'a str, SubscribeResult<'a>)],
    /// Seconds between two pings of the server; 0 for none.
    pub ping: u32,
    /// The client must answer pings.
    pub pong: bool,
    /// What an emulated connection is called in [`EmulationRequest`]; empty elsewhere.
    pub session: &'a str,
    /// Where it is.
    pub node: &'a str,
    /// The server's clock, in milliseconds since 1970; 0 to leave it out.
    pub time_ms: i64,
}

/// What a subscription has become.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubscribeResult<'a> {
    /// The client must bring a new token.
    pub expires: bool,
    /// Within so many seconds.
    pub ttl: u32,
    /// It can be recovered from `epoch` and `offset`.
    pub recoverable: bool,
    /// The stream's epoch.
    pub epoch: &'a str,
    /// What was recovered, from old to new, as [`append_recovered`](super::append_recovered) wrote it in the format
    /// of the reply.
    pub publications: &'a [u8],
    /// Nothing is missing.
    pub recovered: bool,
    /// Where `publications` begin: the client counts on from here.
    pub offset: u64,
    /// The server looks after the position.
    pub positioned: bool,
    /// From the application.
    pub data: Option<PayloadRef<'a>>,
    /// The client had asked to recover.
    pub was_recovering: bool,
    /// Publications may be deltas.
    pub delta: bool,
    /// Stands for the channel in pushes to this client; 0 for none.
    pub id: i64,
}

/// How many are in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceStats {
    /// Connections.
    pub num_clients: u32,
    /// Different users.
    pub num_users: u32,
}

/// A piece of a channel's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryResult<'a> {
    /// In the order asked for.
    pub publications: &'a [PublicationRef<'a>],
    /// The stream's epoch.
    pub epoch: &'a str,
    /// The stream's newest offset.
    pub offset: u64,
}

/// A connection with its new token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefreshResult<'a> {
    /// The connection's name.
    pub client: &'a str,
    /// The server's version.
    pub version: &'a str,
    /// The client must bring another token.
    pub expires: bool,
    /// Within so many seconds.
    pub ttl: u32,
}

/// A subscription with its new token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubRefreshResult {
    /// The client must bring another token.
    pub expires: bool,
    /// Within so many seconds.
    pub ttl: u32,
}

/// How a push names its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelRef<'a> {
    /// By its name; empty for a push that is about no channel.
    Name(&'a str),
    /// By the number the client was told when it subscribed: [`SubscribeResult::id`].
    Id(i64),
}

/// What the server says without having been asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Push<'a> {
    /// What it is about.
    pub channel: ChannelRef<'a>,
    /// What happened.
    pub event: PushEvent<'a>,
}

impl<'a> Push<'a> {
    /// A push about the connection.
    pub const fn of_connection(event: PushEvent<'a>) -> Self {
        let channel = ChannelRef::Name("");
        Self { channel, event }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PushEvent<'a> {
    /// Something was published.
    Publication(&'a PublicationRef<'a>),
    /// Somebody came.
    Join(&'a ClientInfoRef<'a>),
    /// Somebody left.
    Leave(&'a ClientInfoRef<'a>),
    /// The server ended a subscription.
    Unsubscribe {
        /// An [`UnsubscribeCode`], or one of the application's.
        code: u32,
        /// For people.
        reason: &'a str,
    },
    /// The server made a subscription.
    Subscribe(SubscribePush<'a>),
    /// A message to this connection alone.
    Message(PayloadRef<'a>),
    /// To a unidirectional client: it is let in.
    Connect(&'a ConnectResult<'a>),
    /// Where there is no Close frame: the connection ends.
    Disconnect(&'a Disconnect),
    /// How long the connection may stay has changed.
    Refresh(SubRefreshResult),
}

impl From<UnsubscribeCode> for PushEvent<'static> {
    fn from(code: UnsubscribeCode) -> Self {
        let (code, reason) = (code.code(), code.reason());
        Self::Unsubscribe { code, reason }
    }
}

/// A subscription that the server made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribePush<'a> {
    /// It can be recovered from `epoch` and `offset`.
    pub recoverable: bool,
    /// The stream's epoch.
    pub epoch: &'a str,
    /// The stream's newest offset.
    pub offset: u64,
    /// The server looks after the position.
    pub positioned: bool,
    /// From the application.
    pub data: Option<PayloadRef<'a>>,
}
