//! The Centrifuge client protocol, version 2, in both of its formats.
//!
//! A client sends frames of commands ([`Commands`]); the server sends a reply to most of them
//! ([`encode_reply`]) and pushes of its own ([`encode_push`]). In both directions a frame may hold
//! several messages: in JSON with [`Format::separator`] between them, in Protobuf each behind its
//! length. What is encoded here is one message, to be put wherever the transport wants it.
//!
//! | module | what |
//! |---|---|
//! | [`values`] | commands, replies, pushes and what is in them |
//! | [`payload`] | applications' data |
//! | [`codes`] | errors, disconnects, unsubscribes |
//! | [`filter`] | which publications a subscriber wants |
//! | [`fossil`] | deltas between publications |
//! | `fields` | which fields each message has, for both formats |
//! | `json`, `protobuf` | the formats |

pub mod codes;
mod fields;
pub mod filter;
pub mod fossil;
mod json;
mod lenient;
pub mod payload;
mod protobuf;
pub mod values;

pub use codes::{Disconnect, ErrorCode, UnsubscribeCode};
pub use lenient::or_default;
pub use payload::{Payload, PayloadKind, PayloadRef, is_shallow};
pub use values::{
    ChannelRef, ClientInfo, ClientInfoRef, Command, ConnectRequest, EmulationRequest, Format,
    Method, PublicationRef, Push, PushEvent, Reply, ReplyResult,
};

/// Why a frame cannot be read. Whatever it is, the client broke the protocol:
/// [`Disconnect::BadRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No command in it.
    Empty,
    /// More commands than a frame may have.
    TooManyCommands,
    /// Not the JSON it should be, or nested too deep.
    Json,
    /// Not the Protobuf it should be, or nested too deep.
    Protobuf,
}

/// The commands of a frame, read one by one. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    format: Format,
    rest: &'a [u8],
    /// How many more there may be.
    left: usize,
    is_first: bool,
}

impl<'a> Commands<'a> {
    /// Of a frame with at most `commands_max` commands; the first one too many is an error.
    pub const fn new(format: Format, frame: &'a [u8], commands_max: usize) -> Self {
        Self {
            format,
            rest: frame,
            left: commands_max,
            is_first: true,
        }
    }

    fn next_bytes(&mut self) -> Option<Result<&'a [u8], Malformed>> {
        let bytes = match self.format {
            Format::Json => json::next_line(&mut self.rest).map(Ok),
            Format::Protobuf => protobuf::next_message(&mut self.rest),
        };
        let is_first = std::mem::take(&mut self.is_first);
        match (bytes, self.left.checked_sub(1)) {
            (None, _) => is_first.then_some(Err(Malformed::Empty)),
            (Some(_), None) => Some(Err(Malformed::TooManyCommands)),
            (Some(bytes), Some(left)) => {
                self.left = left;
                Some(bytes)
            }
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<Command, Malformed> {
        match self.format {
            Format::Json => json::decode_command(bytes),
            Format::Protobuf => protobuf::decode_command(bytes),
        }
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.next_bytes()?;
        let command = bytes.and_then(|bytes| self.decode(bytes));
        if command.is_err() {
            self.rest = &[];
        }
        Some(command)
    }
}

impl Command {
    /// A command without an id is a pong, whatever is in it, unless it is a send.
    fn new(id: u32, named: Option<Method>) -> Self {
        let method = match named {
            Some(method @ Method::Send(_)) => method,
            _ if id == 0 => Method::Pong,
            named => named.unwrap_or(Method::Unknown),
        };
        Self { id, method }
    }
}

/// Reads the request with which a unidirectional client begins: a JSON object, or a Protobuf message
/// without a length.
///
/// # Errors
/// [`Malformed`] if it is neither.
pub fn decode_connect_request(format: Format, body: &[u8]) -> Result<ConnectRequest, Malformed> {
    match format {
        Format::Json => json::decode_connect_request(body),
        Format::Protobuf => protobuf::decode_connect_request(body),
    }
}

/// Reads the body of a post to the emulation endpoint.
///
/// # Errors
/// [`Malformed`] if it is not what `format` says.
pub fn decode_emulation_request(
    format: Format,
    body: &[u8],
) -> Result<EmulationRequest, Malformed> {
    match format {
        Format::Json => json::decode_emulation_request(body),
        Format::Protobuf => protobuf::decode_emulation_request(body),
    }
}

/// Appends a server's ping, which is an empty message.
pub fn encode_ping(out: &mut Vec<u8>, format: Format) {
    out.extend_from_slice(match format {
        Format::Json => b"{}",
        Format::Protobuf => b"\0",
    });
}

/// Appends a reply.
pub fn encode_reply(out: &mut Vec<u8>, format: Format, reply: &Reply<'_>) {
    encode(out, format, reply);
}

/// Appends a push: inside a reply, or for a `unidirectional` client bare.
pub fn encode_push(out: &mut Vec<u8>, format: Format, unidirectional: bool, push: &Push<'_>) {
    if unidirectional {
        encode(out, format, push);
    } else {
        encode(out, format, &fields::PushReply(push));
    }
}

/// Appends a push of a publication, the same for every subscriber with the same format, direction
/// and name for the channel.
pub fn encode_publication_push(
    out: &mut Vec<u8>,
    format: Format,
    unidirectional: bool,
    channel: ChannelRef<'_>,
    publication: &PublicationRef<'_>,
) {
    let event = PushEvent::Publication(publication);
    encode_push(out, format, unidirectional, &Push { channel, event });
}

/// Appends one of the publications of a [`values::SubscribeResult`] to those before it. They are the same for all
/// subscribers that lack them.
pub fn append_recovered(out: &mut Vec<u8>, format: Format, publication: &PublicationRef<'_>) {
    match format {
        Format::Json => json::encode_one_of(out, publication),
        Format::Protobuf => protobuf::encode_one_of(out, fields::RECOVERED, publication),
    }
}

/// Appends data as the JSON format carries it: JSON without line feeds, text and base64 as strings.
pub fn append_json(out: &mut Vec<u8>, data: PayloadRef<'_>) {
    json::write_payload(out, data);
}

fn encode(out: &mut Vec<u8>, format: Format, message: &impl fields::Message) {
    match format {
        Format::Json => json::encode(out, message),
        Format::Protobuf => protobuf::encode(out, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(format: Format, frame: &[u8]) -> Vec<Result<Command, Malformed>> {
        Commands::new(format, frame, 3).collect()
    }

    #[test]
    fn a_frame_ends_with_the_first_error() {
        let pong = Command::new(0, None);
        let json = |frame: &str| decode(Format::Json, frame.as_bytes());
        assert_eq!(json(""), [Err(Malformed::Empty)]);
        assert_eq!(json("\n \r\n"), [Err(Malformed::Empty)]);
        assert_eq!(json("{}\r\n\n{}\n"), [Ok(pong.clone()), Ok(pong.clone())]);
        assert_eq!(json("{}\n{\n{}"), [Ok(pong.clone()), Err(Malformed::Json)]);
        let mut four = vec![Ok(pong.clone()); 3];
        four.push(Err(Malformed::TooManyCommands));
        assert_eq!(json("{}\n{}\n{}\n{}\n{}"), four);
        assert_eq!(decode(Format::Protobuf, &[0; 5]), four);
        assert_eq!(decode(Format::Protobuf, b""), [Err(Malformed::Empty)]);
        assert_eq!(
            decode(Format::Protobuf, b"\x00\x02\x08\x00\x05\x08"),
            [Ok(pong.clone()), Ok(pong), Err(Malformed::Protobuf)]
        );
    }

    #[test]
    fn a_command_without_an_id_is_a_pong_unless_it_is_a_send() {
        let method_of = |line: &str| {
            let mut commands = decode(Format::Json, line.as_bytes());
            commands.remove(0).unwrap().method
        };
        assert_eq!(method_of("{ }"), Method::Pong);
        assert_eq!(method_of(r#"{"id":0,"rpc":{}}"#), Method::Pong);
        assert_eq!(method_of(r#"{"id":7}"#), Method::Unknown);
        assert_eq!(method_of(r#"{"id":7,"dance":{}}"#), Method::Unknown);
        assert_eq!(method_of(r#"{"id":7,"rpc":null}"#), Method::Unknown);
        assert_eq!(method_of(r#"{"id":7,"ping":{}}"#), Method::Ping);
        assert_eq!(
            method_of(r#"{"send":{}}"#),
            Method::Send(values::SendRequest::default())
        );
    }

    #[test]
    fn a_ping_is_an_empty_message() {
        let mut out = Vec::new();
        encode_ping(&mut out, Format::Json);
        encode_ping(&mut out, Format::Protobuf);
        assert_eq!(out, b"{}\0");
    }

    #[test]
    fn numbers_are_read_loosely_and_never_wrongly() {
        let id_of = |id: &str| {
            let line = format!(r#"{{"id":{id},"ping":{{}}}}"#);
            decode(Format::Json, line.as_bytes())
                .remove(0)
                .map(|command| command.id)
        };
        for one in ["1", "1.0", "1e0", "\"1\""] {
            assert_eq!(id_of(one), Ok(1), "{one}");
        }
        assert_eq!(id_of("null"), Ok(0));
        assert_eq!(id_of("4294967295"), Ok(u32::MAX));
        for wrong in [
            "-1",
            "4294967296",
            "1.5",
            "1e300",
            "\"\"",
            "\"x\"",
            "true",
            "[]",
        ] {
            assert_eq!(id_of(wrong), Err(Malformed::Json), "{wrong}");
        }
    }

    #[test]
    fn what_is_embedded_never_breaks_the_line() {
        let push_of = |data: PayloadRef<'_>| {
            let mut out = Vec::new();
            let publication = PublicationRef::new(data, 1);
            let channel = ChannelRef::Id(7);
            encode_publication_push(&mut out, Format::Json, true, channel, &publication);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            push_of(PayloadRef::json(b"{\r\n  \"a\": \"\\n\"\n}\n")),
            r#"{"id":7,"pub":{"data":{  "a": "\n"},"offset":1}}"#
        );
        assert_eq!(
            push_of(PayloadRef::text(b"a\n\"b\"")),
            r#"{"id":7,"pub":{"data":"a\n\"b\"","offset":1}}"#
        );
        assert_eq!(
            push_of(PayloadRef::binary(b"\xff\n")),
            r#"{"id":7,"pub":{"data":"/wo=","offset":1}}"#
        );
    }
}
