//! The JSON format: lines of JSON objects. Applications' JSON is embedded as it is, without line
//! feeds.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::fields::{Field, Fields, Message};
use super::payload::{PayloadKind, PayloadRef};
use super::values::{
    ChannelRequest, Command, ConnectRequest, EmulationRequest, HistoryRequest, Method,
    PublishRequest, RefreshRequest, RpcRequest, SendRequest, SubRefreshRequest, SubscribeRequest,
    Tag,
};
use super::{Malformed, lenient};

/// Takes the next line with anything on it; `None` at the end.
pub(super) fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        *rest = after.get(1..).unwrap_or_default();
        let line = line.trim_ascii();
        if !line.is_empty() {
            return Some(line);
        }
    }
    None
}

/// Reads one command.
pub(super) fn decode_command(line: &[u8]) -> Result<Command, Malformed> {
    // The most frequent command by far.
    if line == b"{}" {
        let (id, method) = (0, Method::Pong);
        return Ok(Command { id, method });
    }
    Ok(from_slice::<CommandLine>(line)?.into())
}

/// Reads the request of a unidirectional client.
pub(super) fn decode_connect_request(body: &[u8]) -> Result<ConnectRequest, Malformed> {
    from_slice(body)
}

/// Reads what an emulated connection posted.
pub(super) fn decode_emulation_request(body: &[u8]) -> Result<EmulationRequest, Malformed> {
    let body: EmulationBody = from_slice(body)?;
    Ok(EmulationRequest {
        node: body.node,
        session: body.session,
        data: Bytes::from(body.data),
    })
}

fn from_slice<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Malformed> {
    serde_json::from_slice(json).map_err(|_| Malformed::Json)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EmulationBody {
    #[serde(deserialize_with = "lenient::or_default")]
    node: String,
    #[serde(deserialize_with = "lenient::or_default")]
    session: String,
    #[serde(deserialize_with = "lenient::or_default")]
    data: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CommandLine {
    #[serde(deserialize_with = "lenient::number")]
    id: u32,
    connect: Option<Box<ConnectRequest>>,
    subscribe: Option<Box<SubscribeRequest>>,
    unsubscribe: Option<ChannelRequest>,
    publish: Option<PublishRequest>,
    presence: Option<ChannelRequest>,
    presence_stats: Option<ChannelRequest>,
    history: Option<HistoryRequest>,
    ping: Option<PingRequest>,
    send: Option<SendRequest>,
    rpc: Option<RpcRequest>,
    refresh: Option<RefreshRequest>,
    sub_refresh: Option<SubRefreshRequest>,
}

#[derive(Deserialize)]
struct PingRequest {}

impl From<CommandLine> for Command {
    fn from(line: CommandLine) -> Self {
        let named = None
            .or(line.connect.map(Method::Connect))
            .or(line.subscribe.map(Method::Subscribe))
            .or(line.unsubscribe.map(Method::Unsubscribe))
            .or(line.publish.map(Method::Publish))
            .or(line.presence.map(Method::Presence))
            .or(line.presence_stats.map(Method::PresenceStats))
            .or(line.history.map(Method::History))
            .or(line.ping.map(|_| Method::Ping))
            .or(line.send.map(Method::Send))
            .or(line.rpc.map(Method::Rpc))
            .or(line.refresh.map(Method::Refresh))
            .or(line.sub_refresh.map(Method::SubRefresh));
        Self::new(line.id, named)
    }
}

/// Appends a message as one JSON object, without a line feed in it or after it.
pub(super) fn encode(out: &mut Vec<u8>, message: &impl Message) {
    out.push(b'{');
    let is_first = true;
    message.write(&mut Object { out, is_first });
    out.push(b'}');
}

/// Appends one of several messages of a field that are to be [`Fields::written`].
pub(super) fn encode_one_of(out: &mut Vec<u8>, message: &impl Message) {
    if !out.is_empty() {
        out.push(b',');
    }
    encode(out, message);
}

/// A JSON object that is being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        self.comma();
        write_json(self.out, key);
        self.out.push(b':');
    }

    /// The key of a field needs no escapes.
    fn name(&mut self, field: Field) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn comma(&mut self) {
        if !self.is_first {
            self.out.push(b',');
        }
        self.is_first = false;
    }

    fn value(&mut self, field: Field, is_zero: bool, value: impl Serialize) {
        if !is_zero || field.always {
            self.name(field);
            write_json(self.out, &value);
        }
    }

    fn object(&mut self, write: impl FnOnce(&mut Object<'_>)) {
        self.out.push(b'{');
        write(&mut Object {
            out: self.out,
            is_first: true,
        });
        self.out.push(b'}');
    }
}

impl Fields for Object<'_> {
    fn flag(&mut self, field: Field, value: bool) {
        self.value(field, !value, value);
    }

    fn unsigned(&mut self, field: Field, value: u64) {
        self.value(field, value == 0, value);
    }

    fn signed(&mut self, field: Field, value: i64) {
        self.value(field, value == 0, value);
    }

    fn string(&mut self, field: Field, value: &str) {
        self.value(field, value.is_empty(), value);
    }

    fn payload(&mut self, field: Field, value: Option<PayloadRef<'_>>) {
        if let Some(payload) = value {
            self.name(field);
            write_payload(self.out, payload);
        }
    }

    fn message(&mut self, field: Field, value: &impl Message) {
        self.name(field);
        self.object(|object| value.write(object));
    }

    fn messages(&mut self, field: Field, values: &[impl Message]) {
        if values.is_empty() && !field.always {
            return;
        }
        self.name(field);
        self.out.push(b'[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.object(|object| value.write(object));
        }
        self.out.push(b']');
    }

    fn written(&mut self, field: Field, values: &[u8]) {
        if !values.is_empty() {
            self.name(field);
            self.out.push(b'[');
            self.out.extend_from_slice(values);
            self.out.push(b']');
        }
    }

    fn map<M: Message>(
        &mut self,
        field: Field,
        entries: impl Iterator<Item = (impl AsRef<str>, M)>,
    ) {
        let mut entries = entries.peekable();
        if entries.peek().is_none() && !field.always {
            return;
        }
        self.name(field);
        self.object(|object| {
            for (key, value) in entries {
                object.key(key.as_ref());
                object.object(|object| value.write(object));
            }
        });
    }

    fn tags(&mut self, field: Field, tags: &[Tag]) {
        if tags.is_empty() {
            return;
        }
        self.name(field);
        self.object(|object| {
            for (name, value) in tags {
                object.key(name);
                write_json(object.out, value);
            }
        });
    }
}

fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing into a vector cannot fail, nor can numbers and strings.
    let _ = serde_json::to_writer(out, value);
}

pub(super) fn write_payload(out: &mut Vec<u8>, payload: PayloadRef<'_>) {
    match payload.kind {
        PayloadKind::Json => write_compact(out, payload.bytes),
        PayloadKind::Text => write_json(out, &String::from_utf8_lossy(payload.bytes)),
        PayloadKind::Binary => write_base64(out, payload.bytes),
    }
}

/// JSON without its line breaks, which can only be white space between tokens.
fn write_compact(out: &mut Vec<u8>, json: &[u8]) {
    if json.is_empty() {
        out.extend_from_slice(b"null");
        return;
    }
    let mut rest = json;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        let (line, after) = rest.split_at(at);
        out.extend_from_slice(line);
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    use base64::prelude::{BASE64_STANDARD, Engine};
    out.push(b'"');
    out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}
