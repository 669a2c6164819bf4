//! Which fields each message has. Said once, and written in either format.

use super::codes::Disconnect;
use super::payload::PayloadRef;
use super::values::{
    ChannelRef, ClientInfoRef, ConnectResult, HistoryResult, PresenceStats, PublicationRef, Push,
    PushEvent, RefreshResult, Reply, ReplyError, ReplyResult, SubRefreshResult, SubscribePush,
    SubscribeResult, Tag,
};

/// A field's number in Protobuf and its name in JSON.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    /// In JSON it is written even if it is zero.
    pub(super) always: bool,
}

const fn field(number: u32, name: &'static str) -> Field {
    Field {
        number,
        name,
        always: false,
    }
}

const fn always(number: u32, name: &'static str) -> Field {
    Field {
        always: true,
        ..field(number, name)
    }
}

/// Of a [`SubscribeResult`]: its publications.
pub(super) const RECOVERED: Field = field(7, "publications");

/// Takes a message's fields in order. What is zero or empty is left out.
pub(super) trait Fields {
    fn flag(&mut self, field: Field, value: bool);
    fn unsigned(&mut self, field: Field, value: u64);
    /// `int64`.
    fn signed(&mut self, field: Field, value: i64);
    fn string(&mut self, field: Field, value: &str);
    fn payload(&mut self, field: Field, value: Option<PayloadRef<'_>>);
    /// Written even if it is empty: that it is there says something.
    fn message(&mut self, field: Field, value: &impl Message);
    fn messages(&mut self, field: Field, values: &[impl Message]);
    /// The same of messages that the format's `encode_one_of` has written.
    fn written(&mut self, field: Field, values: &[u8]);
    /// Values by their keys.
    fn map<M: Message>(
        &mut self,
        field: Field,
        entries: impl Iterator<Item = (impl AsRef<str>, M)>,
    );
    fn tags(&mut self, field: Field, tags: &[Tag]);
}

/// Something that has fields.
pub(super) trait Message {
    fn write(&self, out: &mut impl Fields);
}

impl<M: Message> Message for &M {
    fn write(&self, out: &mut impl Fields) {
        (*self).write(out);
    }
}

/// A message without fields.
struct Empty;

impl Message for Empty {
    fn write(&self, _: &mut impl Fields) {}
}

/// A message with nothing but data, in its first field.
struct Data<'a>(Option<PayloadRef<'a>>);

impl Message for Data<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.payload(field(1, "data"), self.0);
    }
}

impl Message for ClientInfoRef<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.string(always(1, "user"), self.user);
        out.string(always(2, "client"), self.client);
        out.payload(field(3, "conn_info"), self.conn_info);
        out.payload(field(4, "chan_info"), self.chan_info);
    }
}

impl Message for PublicationRef<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.payload(field(4, "data"), Some(self.data));
        if let Some(info) = &self.info {
            out.message(field(5, "info"), info);
        }
        out.unsigned(field(6, "offset"), self.offset);
        out.tags(field(7, "tags"), self.tags);
        out.flag(field(8, "delta"), self.delta);
        out.signed(field(9, "time"), self.time_ms);
    }
}

impl Message for Reply<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.unsigned(field(1, "id"), self.id.into());
        match &self.result {
            ReplyResult::Error(error) => out.message(field(2, "error"), error),
            ReplyResult::Connect(result) => out.message(field(5, "connect"), result),
            ReplyResult::Subscribe(result) => out.message(field(6, "subscribe"), result),
            ReplyResult::Unsubscribe => out.message(field(7, "unsubscribe"), &Empty),
            ReplyResult::Publish => out.message(field(8, "publish"), &Empty),
            ReplyResult::Presence(clients) => out.message(field(9, "presence"), &Present(clients)),
            ReplyResult::PresenceStats(stats) => out.message(field(10, "presence_stats"), stats),
            ReplyResult::History(result) => out.message(field(11, "history"), result),
            ReplyResult::Rpc(data) => out.message(field(13, "rpc"), &Data(*data)),
            ReplyResult::Refresh(result) => out.message(field(14, "refresh"), result),
            ReplyResult::SubRefresh(result) => out.message(field(15, "sub_refresh"), result),
        }
    }
}

impl Message for ReplyError<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.unsigned(field(1, "code"), self.code.into());
        out.string(field(2, "message"), self.message);
        out.flag(field(3, "temporary"), self.temporary);
    }
}

impl Message for ConnectResult<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.string(field(1, "client"), self.client);
        out.string(field(2, "version"), self.version);
        out.flag(field(3, "expires"), self.expires);
        out.unsigned(field(4, "ttl"), self.ttl.into());
        out.payload(field(5, "data"), self.data);
        out.map(field(6, "subs"), by_channel(self.subs));
        out.unsigned(field(7, "ping"), self.ping.into());
        out.flag(field(8, "pong"), self.pong);
        out.string(field(9, "session"), self.session);
        out.string(field(10, "node"), self.node);
        out.signed(field(11, "time"), self.time_ms);
    }
}

/// The same as a push has other numbers.
struct ConnectPush<'a>(&'a ConnectResult<'a>);

impl Message for ConnectPush<'_> {
    fn write(&self, out: &mut impl Fields) {
        let result = self.0;
        out.string(field(1, "client"), result.client);
        out.string(field(2, "version"), result.version);
        out.payload(field(3, "data"), result.data);
        out.map(field(4, "subs"), by_channel(result.subs));
        out.flag(field(5, "expires"), result.expires);
        out.unsigned(field(6, "ttl"), result.ttl.into());
        out.unsigned(field(7, "ping"), result.ping.into());
        out.flag(field(8, "pong"), result.pong);
        out.string(field(9, "session"), result.session);
        out.string(field(10, "node"), result.node);
        out.signed(field(11, "time"), result.time_ms);
    }
}

fn by_channel<'a>(
    subs: &'a [(&'a str, SubscribeResult<'a>)],
) -> impl Iterator<Item = (&'a str, &'a SubscribeResult<'a>)> {
    subs.iter().map(|(channel, result)| (*channel, result))
}

impl Message for SubscribeResult<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.flag(field(1, "expires"), self.expires);
        out.unsigned(field(2, "ttl"), self.ttl.into());
        out.flag(field(3, "recoverable"), self.recoverable);
        out.string(field(6, "epoch"), self.epoch);
        out.written(RECOVERED, self.publications);
        out.flag(field(8, "recovered"), self.recovered);
        out.unsigned(field(9, "offset"), self.offset);
        out.flag(field(10, "positioned"), self.positioned);
        out.payload(field(11, "data"), self.data);
        out.flag(field(12, "was_recovering"), self.was_recovering);
        out.flag(field(13, "delta"), self.delta);
        out.signed(field(14, "id"), self.id);
    }
}

/// Everybody in a channel, by the client's name.
struct Present<'a>(&'a [ClientInfoRef<'a>]);

impl Message for Present<'_> {
    fn write(&self, out: &mut impl Fields) {
        let clients = self.0.iter().map(|info| (info.client, info));
        out.map(always(1, "presence"), clients);
    }
}

impl Message for PresenceStats {
    fn write(&self, out: &mut impl Fields) {
        out.unsigned(always(1, "num_clients"), self.num_clients.into());
        out.unsigned(always(2, "num_users"), self.num_users.into());
    }
}

impl Message for HistoryResult<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.messages(always(1, "publications"), self.publications);
        out.string(always(2, "epoch"), self.epoch);
        out.unsigned(always(3, "offset"), self.offset);
    }
}

impl Message for RefreshResult<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.string(field(1, "client"), self.client);
        out.string(field(2, "version"), self.version);
        out.flag(field(3, "expires"), self.expires);
        out.unsigned(field(4, "ttl"), self.ttl.into());
    }
}

impl Message for SubRefreshResult {
    fn write(&self, out: &mut impl Fields) {
        out.flag(field(1, "expires"), self.expires);
        out.unsigned(field(2, "ttl"), self.ttl.into());
    }
}

/// A push where replies are sent too.
pub(super) struct PushReply<'a>(pub(super) &'a Push<'a>);

impl Message for PushReply<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.message(field(4, "push"), self.0);
    }
}

impl Message for Push<'_> {
    fn write(&self, out: &mut impl Fields) {
        match self.channel {
            ChannelRef::Id(id) => out.signed(field(1, "id"), id),
            ChannelRef::Name(name) => out.string(field(2, "channel"), name),
        }
        match &self.event {
            PushEvent::Publication(publication) => out.message(field(4, "pub"), publication),
            PushEvent::Join(info) => out.message(field(5, "join"), &Info(info)),
            PushEvent::Leave(info) => out.message(field(6, "leave"), &Info(info)),
            PushEvent::Unsubscribe { code, reason } => {
                out.message(field(7, "unsubscribe"), &Unsubscribe(*code, reason));
            }
            PushEvent::Message(data) => out.message(field(8, "message"), &Data(Some(*data))),
            PushEvent::Subscribe(subscribe) => out.message(field(9, "subscribe"), subscribe),
            PushEvent::Connect(result) => out.message(field(10, "connect"), &ConnectPush(result)),
            PushEvent::Disconnect(disconnect) => out.message(field(11, "disconnect"), disconnect),
            PushEvent::Refresh(refresh) => out.message(field(12, "refresh"), refresh),
        }
    }
}

/// A join or a leave.
struct Info<'a>(&'a ClientInfoRef<'a>);

impl Message for Info<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.message(field(1, "info"), self.0);
    }
}

struct Unsubscribe<'a>(u32, &'a str);

impl Message for Unsubscribe<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.unsigned(field(2, "code"), self.0.into());
        out.string(field(3, "reason"), self.1);
    }
}

impl Message for SubscribePush<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.flag(field(1, "recoverable"), self.recoverable);
        out.string(field(4, "epoch"), self.epoch);
        out.unsigned(field(5, "offset"), self.offset);
        out.flag(field(6, "positioned"), self.positioned);
        out.payload(field(7, "data"), self.data);
    }
}

impl Message for Disconnect {
    fn write(&self, out: &mut impl Fields) {
        out.unsigned(field(1, "code"), self.code().into());
        out.string(field(2, "reason"), self.reason());
    }
}
