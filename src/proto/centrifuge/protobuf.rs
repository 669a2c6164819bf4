//! The Protobuf format: messages behind their length. Commands are read through prost; what is
//! written goes straight from borrowed values into the buffer, its lengths counted beforehand.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::encoding::{WireType, decode_varint, encode_key, encode_varint, encoded_len_varint};

use super::Malformed;
use super::fields::{Field, Fields, Message};
use super::payload::{Payload, PayloadRef};
use super::values::{
    ChannelRequest, Command, ConnectRequest, EmulationRequest, FilterNode, HistoryRequest, Method,
    PublishRequest, RefreshRequest, RpcRequest, SendRequest, StreamPosition, SubRefreshRequest,
    SubscribeRequest, Tag,
};

/// Takes the next message from behind its length; `None` at the end.
pub(super) fn next_message<'a>(rest: &mut &'a [u8]) -> Option<Result<&'a [u8], Malformed>> {
    if rest.is_empty() {
        return None;
    }
    let length = decode_varint(rest).ok();
    let length = length.and_then(|length| usize::try_from(length).ok());
    let split = length.and_then(|length| rest.split_at_checked(length));
    let Some((message, after)) = split else {
        return Some(Err(Malformed::Protobuf));
    };
    *rest = after;
    Some(Ok(message))
}

/// Reads one command.
pub(super) fn decode_command(message: &[u8]) -> Result<Command, Malformed> {
    Ok(decode::<wire::Command>(message)?.into())
}

/// Reads the request of a unidirectional client, without its length.
pub(super) fn decode_connect_request(body: &[u8]) -> Result<ConnectRequest, Malformed> {
    Ok(decode::<wire::ConnectRequest>(body)?.into())
}

/// Reads what an emulated connection posted.
pub(super) fn decode_emulation_request(body: &[u8]) -> Result<EmulationRequest, Malformed> {
    let body: wire::EmulationRequest = decode(body)?;
    Ok(EmulationRequest {
        node: body.node,
        session: body.session,
        data: body.data,
    })
}

fn decode<M: prost::Message + Default>(message: &[u8]) -> Result<M, Malformed> {
    M::decode(message).map_err(|_| Malformed::Protobuf)
}

/// Appends a message behind its length.
pub(super) fn encode(out: &mut Vec<u8>, message: &impl Message) {
    let size = size_of(message);
    out.reserve(size + encoded_len_varint(size as u64));
    encode_varint(size as u64, out);
    message.write(&mut Writer(out));
}

/// Appends one of several messages of a field that are to be [`Fields::written`].
pub(super) fn encode_one_of(out: &mut Vec<u8>, field: Field, message: &impl Message) {
    Writer(out).nested(field, message);
}

fn size_of(message: &impl Message) -> usize {
    let mut size = Size(0);
    message.write(&mut size);
    size.0
}

/// Counts the bytes of a message.
struct Size(usize);

/// Writes a message.
struct Writer<'o>(&'o mut Vec<u8>);

/// The two things one can do with a field on the wire. What leaves a field out is the same for both.
trait Wire {
    fn varint(&mut self, field: Field, value: u64);
    fn bytes(&mut self, field: Field, value: &[u8]);
    fn nested(&mut self, field: Field, value: &impl Message);
    /// Whole fields.
    fn raw(&mut self, fields: &[u8]);
}

impl Wire for Size {
    fn varint(&mut self, field: Field, value: u64) {
        self.0 += key_bytes(field) + encoded_len_varint(value);
    }

    fn bytes(&mut self, field: Field, value: &[u8]) {
        self.0 += key_bytes(field) + encoded_len_varint(value.len() as u64) + value.len();
    }

    fn nested(&mut self, field: Field, value: &impl Message) {
        let size = size_of(value);
        self.0 += key_bytes(field) + encoded_len_varint(size as u64) + size;
    }

    fn raw(&mut self, fields: &[u8]) {
        self.0 += fields.len();
    }
}

const fn key_bytes(field: Field) -> usize {
    if field.number < 16 { 1 } else { 2 }
}

impl Wire for Writer<'_> {
    fn varint(&mut self, field: Field, value: u64) {
        encode_key(field.number, WireType::Varint, self.0);
        encode_varint(value, self.0);
    }

    fn bytes(&mut self, field: Field, value: &[u8]) {
        encode_key(field.number, WireType::LengthDelimited, self.0);
        encode_varint(value.len() as u64, self.0);
        self.0.extend_from_slice(value);
    }

    fn nested(&mut self, field: Field, value: &impl Message) {
        encode_key(field.number, WireType::LengthDelimited, self.0);
        encode_varint(size_of(value) as u64, self.0);
        value.write(self);
    }

    fn raw(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }
}

impl<W: Wire> Fields for W {
    fn flag(&mut self, field: Field, value: bool) {
        self.unsigned(field, value.into());
    }

    fn unsigned(&mut self, field: Field, value: u64) {
        if value != 0 {
            self.varint(field, value);
        }
    }

    fn signed(&mut self, field: Field, value: i64) {
        self.unsigned(field, value as u64);
    }

    fn string(&mut self, field: Field, value: &str) {
        if !value.is_empty() {
            self.bytes(field, value.as_bytes());
        }
    }

    fn payload(&mut self, field: Field, value: Option<PayloadRef<'_>>) {
        if let Some(payload) = value.filter(|payload| !payload.bytes.is_empty()) {
            self.bytes(field, payload.bytes);
        }
    }

    fn message(&mut self, field: Field, value: &impl Message) {
        self.nested(field, value);
    }

    fn messages(&mut self, field: Field, values: &[impl Message]) {
        for value in values {
            self.nested(field, value);
        }
    }

    fn written(&mut self, _: Field, values: &[u8]) {
        self.raw(values);
    }

    fn map<M: Message>(
        &mut self,
        field: Field,
        entries: impl Iterator<Item = (impl AsRef<str>, M)>,
    ) {
        for (key, value) in entries {
            self.nested(field, &MapEntry(key.as_ref(), value));
        }
    }

    fn tags(&mut self, field: Field, tags: &[Tag]) {
        for tag in tags {
            self.nested(field, &TagEntry(tag));
        }
    }
}

const ENTRY_KEY: Field = entry_field(1);
const ENTRY_VALUE: Field = entry_field(2);

const fn entry_field(number: u32) -> Field {
    Field {
        number,
        name: "",
        always: false,
    }
}

struct MapEntry<'a, M>(&'a str, M);

impl<M: Message> Message for MapEntry<'_, M> {
    fn write(&self, out: &mut impl Fields) {
        out.string(ENTRY_KEY, self.0);
        out.message(ENTRY_VALUE, &self.1);
    }
}

struct TagEntry<'a>(&'a Tag);

impl Message for TagEntry<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.string(ENTRY_KEY, &self.0.0);
        out.string(ENTRY_VALUE, &self.0.1);
    }
}

/// Messages from clients, as prost reads them.
mod wire {
    use super::{BTreeMap, Bytes};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Command {
        #[prost(uint32, tag = "1")]
        pub(super) id: u32,
        #[prost(message, optional, tag = "4")]
        pub(super) connect: Option<ConnectRequest>,
        #[prost(message, optional, tag = "5")]
        pub(super) subscribe: Option<SubscribeRequest>,
        #[prost(message, optional, tag = "6")]
        pub(super) unsubscribe: Option<ChannelRequest>,
        #[prost(message, optional, tag = "7")]
        pub(super) publish: Option<PublishRequest>,
        #[prost(message, optional, tag = "8")]
        pub(super) presence: Option<ChannelRequest>,
        #[prost(message, optional, tag = "9")]
        pub(super) presence_stats: Option<ChannelRequest>,
        #[prost(message, optional, tag = "10")]
        pub(super) history: Option<HistoryRequest>,
        #[prost(message, optional, tag = "11")]
        pub(super) ping: Option<PingRequest>,
        #[prost(message, optional, tag = "12")]
        pub(super) send: Option<SendRequest>,
        #[prost(message, optional, tag = "13")]
        pub(super) rpc: Option<RpcRequest>,
        #[prost(message, optional, tag = "14")]
        pub(super) refresh: Option<RefreshRequest>,
        #[prost(message, optional, tag = "15")]
        pub(super) sub_refresh: Option<SubRefreshRequest>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ConnectRequest {
        #[prost(string, tag = "1")]
        pub(super) token: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) data: Bytes,
        #[prost(btree_map = "string, message", tag = "3")]
        pub(super) subs: BTreeMap<String, SubscribeRequest>,
        #[prost(string, tag = "4")]
        pub(super) name: String,
        #[prost(string, tag = "5")]
        pub(super) version: String,
        #[prost(btree_map = "string, string", tag = "6")]
        pub(super) headers: BTreeMap<String, String>,
        #[prost(int64, tag = "7")]
        pub(super) flag: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SubscribeRequest {
        #[prost(string, tag = "1")]
        pub(super) channel: String,
        #[prost(string, tag = "2")]
        pub(super) token: String,
        #[prost(bool, tag = "3")]
        pub(super) recover: bool,
        #[prost(string, tag = "6")]
        pub(super) epoch: String,
        #[prost(uint64, tag = "7")]
        pub(super) offset: u64,
        #[prost(bytes = "bytes", tag = "8")]
        pub(super) data: Bytes,
        #[prost(bool, tag = "9")]
        pub(super) positioned: bool,
        #[prost(bool, tag = "10")]
        pub(super) recoverable: bool,
        #[prost(bool, tag = "11")]
        pub(super) join_leave: bool,
        #[prost(string, tag = "12")]
        pub(super) delta: String,
        #[prost(message, optional, tag = "13")]
        pub(super) filter: Option<FilterNode>,
        #[prost(int64, tag = "14")]
        pub(super) flag: i64,
        #[prost(int32, tag = "15")]
        pub(super) kind: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ChannelRequest {
        #[prost(string, tag = "1")]
        pub(super) channel: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PublishRequest {
        #[prost(string, tag = "1")]
        pub(super) channel: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) data: Bytes,
        #[prost(int32, tag = "3")]
        pub(super) kind: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HistoryRequest {
        #[prost(string, tag = "1")]
        pub(super) channel: String,
        #[prost(int32, tag = "7")]
        pub(super) limit: i32,
        #[prost(message, optional, tag = "8")]
        pub(super) since: Option<StreamPosition>,
        #[prost(bool, tag = "9")]
        pub(super) reverse: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StreamPosition {
        #[prost(uint64, tag = "1")]
        pub(super) offset: u64,
        #[prost(string, tag = "2")]
        pub(super) epoch: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PingRequest {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SendRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub(super) data: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RpcRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub(super) data: Bytes,
        #[prost(string, tag = "2")]
        pub(super) method: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RefreshRequest {
        #[prost(string, tag = "1")]
        pub(super) token: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SubRefreshRequest {
        #[prost(string, tag = "1")]
        pub(super) channel: String,
        #[prost(string, tag = "2")]
        pub(super) token: String,
        #[prost(int32, tag = "3")]
        pub(super) kind: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct FilterNode {
        #[prost(string, tag = "1")]
        pub(super) op: String,
        #[prost(string, tag = "2")]
        pub(super) key: String,
        #[prost(string, tag = "3")]
        pub(super) cmp: String,
        #[prost(string, tag = "4")]
        pub(super) val: String,
        #[prost(string, repeated, tag = "5")]
        pub(super) vals: Vec<String>,
        #[prost(message, repeated, tag = "6")]
        pub(super) nodes: Vec<FilterNode>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct EmulationRequest {
        #[prost(string, tag = "1")]
        pub(super) node: String,
        #[prost(string, tag = "2")]
        pub(super) session: String,
        #[prost(bytes = "bytes", tag = "3")]
        pub(super) data: Bytes,
    }
}

impl From<wire::Command> for Command {
    fn from(command: wire::Command) -> Self {
        let named = None
            .or(command
                .connect
                .map(|it| Method::Connect(Box::new(it.into()))))
            .or(command
                .subscribe
                .map(|it| Method::Subscribe(Box::new(it.into()))))
            .or(command.unsubscribe.map(|it| Method::Unsubscribe(it.into())))
            .or(command.publish.map(|it| Method::Publish(it.into())))
            .or(command.presence.map(|it| Method::Presence(it.into())))
            .or((command.presence_stats).map(|it| Method::PresenceStats(it.into())))
            .or(command.history.map(|it| Method::History(it.into())))
            .or(command.ping.map(|_| Method::Ping))
            .or(command.send.map(|it| Method::Send(it.into())))
            .or(command.rpc.map(|it| Method::Rpc(it.into())))
            .or(command.refresh.map(|it| Method::Refresh(it.into())))
            .or(command.sub_refresh.map(|it| Method::SubRefresh(it.into())));
        Self::new(command.id, named)
    }
}

fn payload(bytes: Bytes) -> Option<Payload> {
    (!bytes.is_empty()).then(|| Payload::classify(bytes))
}

impl From<wire::ConnectRequest> for ConnectRequest {
    fn from(request: wire::ConnectRequest) -> Self {
        let subs = request.subs.into_iter();
        Self {
            token: request.token,
            data: payload(request.data),
            subs: subs.map(|(channel, sub)| (channel, sub.into())).collect(),
            name: request.name,
            version: request.version,
            headers: request.headers,
            flag: request.flag,
        }
    }
}

impl From<wire::SubscribeRequest> for SubscribeRequest {
    fn from(request: wire::SubscribeRequest) -> Self {
        Self {
            channel: request.channel,
            token: request.token,
            recover: request.recover,
            epoch: request.epoch,
            offset: request.offset,
            data: payload(request.data),
            positioned: request.positioned,
            recoverable: request.recoverable,
            join_leave: request.join_leave,
            delta: request.delta,
            filter: request.filter.map(FilterNode::from),
            flag: request.flag,
            kind: request.kind,
        }
    }
}

impl From<wire::ChannelRequest> for ChannelRequest {
    fn from(request: wire::ChannelRequest) -> Self {
        let channel = request.channel;
        Self { channel }
    }
}

impl From<wire::PublishRequest> for PublishRequest {
    fn from(request: wire::PublishRequest) -> Self {
        Self {
            channel: request.channel,
            data: payload(request.data),
            kind: request.kind,
        }
    }
}

impl From<wire::HistoryRequest> for HistoryRequest {
    fn from(request: wire::HistoryRequest) -> Self {
        Self {
            channel: request.channel,
            limit: request.limit,
            since: request.since.map(StreamPosition::from),
            reverse: request.reverse,
        }
    }
}

impl From<wire::StreamPosition> for StreamPosition {
    fn from(position: wire::StreamPosition) -> Self {
        Self {
            offset: position.offset,
            epoch: position.epoch,
        }
    }
}

impl From<wire::SendRequest> for SendRequest {
    fn from(request: wire::SendRequest) -> Self {
        let data = payload(request.data);
        Self { data }
    }
}

impl From<wire::RpcRequest> for RpcRequest {
    fn from(request: wire::RpcRequest) -> Self {
        Self {
            data: payload(request.data),
            method: request.method,
        }
    }
}

impl From<wire::RefreshRequest> for RefreshRequest {
    fn from(request: wire::RefreshRequest) -> Self {
        let token = request.token;
        Self { token }
    }
}

impl From<wire::SubRefreshRequest> for SubRefreshRequest {
    fn from(request: wire::SubRefreshRequest) -> Self {
        Self {
            channel: request.channel,
            token: request.token,
            kind: request.kind,
        }
    }
}

impl From<wire::FilterNode> for FilterNode {
    fn from(node: wire::FilterNode) -> Self {
        Self {
            op: node.op,
            key: node.key,
            cmp: node.cmp,
            val: node.val,
            vals: node.vals,
            nodes: node.nodes.into_iter().map(Self::from).collect(),
        }
    }
}
