//! What subscribers are sent, in every form: a publication or an event as one message, framed.

use bytes::Bytes;

use crate::hub::{ClientInfo, Dialect, Encoding, Epoch, Framing, Kind, Publication};
use crate::proto::centrifuge::values::{ClientInfoRef, PublicationRef, Push, PushEvent};
use crate::proto::centrifuge::{
    ChannelRef, Format, PayloadKind, PayloadRef, encode_publication_push, encode_push, fossil,
};
use crate::proto::cursor::Cursor;
use crate::proto::deflate::Deflater;
use crate::proto::envelope;
use crate::proto::frame::{Opcode, encode_frame};
use crate::proto::http::append_chunk;
use crate::proto::{sockjs, sse};

/// Writes messages; what it needs for that is used again and again.
#[derive(Default)]
pub(super) struct Scribe {
    pub deflater: Deflater,
    /// Shorter messages go uncompressed.
    compression_min_bytes: usize,
    message: Vec<u8>,
    frame: Vec<u8>,
}

/// Where something was published.
pub(super) struct Place<'a> {
    /// The channel's name.
    pub name: &'a str,
    /// Its place in the shard's table, by which some clients know it.
    pub local: u32,
    pub epoch: Epoch,
    /// What is published there is kept, so that places in it mean something.
    pub is_stream: bool,
}

/// One message of a connection, before it is framed.
#[derive(Clone, Copy)]
struct Message<'a> {
    opcode: Opcode,
    bytes: &'a [u8],
    /// Of server-sent events.
    id: Option<&'a str>,
    event: Option<&'a str>,
}

impl Scribe {
    /// One that leaves messages below `compression_min_bytes` as they are.
    pub fn new(compression_min_bytes: usize) -> Self {
        Self {
            compression_min_bytes,
            ..Self::default()
        }
    }

    /// Appends a publication, in the form `encoding`. `base` is the data of the one before, if it is known.
    pub fn publication(
        &mut self,
        out: &mut Vec<u8>,
        encoding: Encoding,
        place: &Place<'_>,
        publication: &Publication,
        base: Option<&Bytes>,
    ) {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        let opcode = write_publication(&mut message, encoding, place, publication, base);
        let is_event_stream =
            encoding.dialect == Dialect::Verbatim && encoding.framing == Framing::Events;
        let is_coded = is_event_stream && opcode == Opcode::Binary;
        if is_coded {
            sse::append_base64(&mut message, &publication.data);
        }
        let bytes = match encoding.dialect {
            Dialect::Verbatim if !is_coded => &publication.data[..],
            _ => &message[..],
        };
        // What has no offset does not change where the listener is.
        let id = (is_event_stream && publication.offset != 0).then(|| {
            let epoch = place.epoch.to_string();
            let offset = publication.offset;
            Cursor {
                epoch: &epoch,
                offset,
            }
            .to_string()
        });
        self.frame_message(
            out,
            encoding,
            Message {
                opcode,
                bytes,
                id: id.as_deref(),
                event: is_coded.then_some(sse::BINARY_EVENT),
            },
        );
        self.message = message;
    }

    /// Appends a client's coming or going.
    pub fn event(
        &mut self,
        out: &mut Vec<u8>,
        encoding: Encoding,
        place: &Place<'_>,
        info: &ClientInfo,
        is_join: bool,
    ) {
        let Some((format, is_uni)) = centrifuge_format(encoding.dialect) else {
            return;
        };
        let info = client_info(info);
        let event = match is_join {
            true => PushEvent::Join(&info),
            false => PushEvent::Leave(&info),
        };
        let channel = channel_ref(encoding, place);
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        encode_push(&mut message, format, is_uni, &Push { channel, event });
        self.say(out, encoding, opcode_of(format), &message);
        self.message = message;
    }

    /// Appends an event without data that says where a stream of events stands: it sets the client's last
    /// event id, and the time after which it comes back if one is given. With a gap it says so too.
    pub fn mark(&mut self, out: &mut Vec<u8>, cursor: &str, is_gap: bool, retry_ms: Option<u32>) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        if let Some(retry_ms) = retry_ms {
            frame.extend_from_slice(format!("retry: {retry_ms}\n").as_bytes());
        }
        if is_gap {
            let event = sse::Event {
                id: Some(cursor),
                event: Some(sse::GAP_EVENT),
                data: b"{}",
            };
            sse::append_event(&mut frame, &event);
        } else {
            // Without data no event is dispatched, and the id counts all the same.
            frame.extend_from_slice(b"id: ");
            frame.extend_from_slice(cursor.as_bytes());
            frame.extend_from_slice(b"\n\n");
        }
        append_chunk(out, &frame);
        self.frame = frame;
    }

    /// Appends one message as the connection frames it. Of `encoding` only the framing matters.
    pub fn say(&mut self, out: &mut Vec<u8>, encoding: Encoding, opcode: Opcode, bytes: &[u8]) {
        let message = Message {
            opcode,
            bytes,
            id: None,
            event: None,
        };
        self.frame_message(out, encoding, message);
    }

    fn frame_message(&mut self, out: &mut Vec<u8>, encoding: Encoding, message: Message<'_>) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        let Message { opcode, bytes, .. } = message;
        match encoding.framing {
            Framing::WebSocket => self.websocket_frame(out, opcode, bytes, encoding.window_bits),
            Framing::SockJsWebSocket => {
                sockjs::append_messages(&mut frame, [bytes]);
                self.websocket_frame(out, Opcode::Text, &frame, encoding.window_bits);
            }
            Framing::Chunks => {
                frame.extend_from_slice(bytes);
                if opcode == Opcode::Text {
                    frame.push(b'\n');
                }
                append_chunk(out, &frame);
            }
            Framing::Events => {
                let event = sse::Event {
                    id: message.id,
                    event: message.event,
                    data: bytes,
                };
                sse::append_event(&mut frame, &event);
                append_chunk(out, &frame);
            }
            Framing::SockJsItems => sockjs::append_item(out, bytes),
            Framing::SockJsChunks => {
                sockjs::append_messages(&mut frame, [bytes]);
                frame.push(b'\n');
                append_chunk(out, &frame);
            }
            Framing::SockJsEvents => {
                frame.extend_from_slice(b"data: ");
                sockjs::append_messages(&mut frame, [bytes]);
                frame.extend_from_slice(b"\r\n\r\n");
                append_chunk(out, &frame);
            }
            Framing::Items => {
                out.extend_from_slice(bytes);
                out.push(b',');
            }
        }
        self.frame = frame;
    }

    fn websocket_frame(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        payload: &[u8],
        window_bits: u8,
    ) {
        let is_compressed = window_bits != 0
            && payload.len() >= self.compression_min_bytes
            && self
                .deflater
                .encode_frame(out, opcode, payload, window_bits);
        if !is_compressed {
            encode_frame(out, opcode, payload);
        }
    }
}

/// Writes a publication as one message; nothing, if that is its data itself. What kind of message it is.
fn write_publication(
    out: &mut Vec<u8>,
    encoding: Encoding,
    place: &Place<'_>,
    publication: &Publication,
    base: Option<&Bytes>,
) -> Opcode {
    let Some((format, is_uni)) = centrifuge_format(encoding.dialect) else {
        return match (encoding.dialect, publication.kind) {
            (Dialect::Verbatim, Kind::Binary) => Opcode::Binary,
            (Dialect::Verbatim, _) => Opcode::Text,
            _ => {
                let data = payload(publication.kind, &publication.data);
                envelope::append_publication(out, publication.offset, data);
                Opcode::Text
            }
        };
    };
    let delta = delta_of(encoding.dialect, publication, base);
    let data = data_of(encoding.dialect, publication, delta.as_deref());
    let message = PublicationRef {
        delta: delta.is_some(),
        // Without a history nobody can come back to an offset.
        offset: if place.is_stream {
            publication.offset
        } else {
            0
        },
        ..publication_ref(publication, data)
    };
    let channel = channel_ref(encoding, place);
    encode_publication_push(out, format, is_uni, channel, &message);
    opcode_of(format)
}

/// A publication that a subscriber to `encoding` lacks, as `write` is to write it. `base` is the data of the one
/// before, if that is sent too.
pub(super) fn recovered(
    encoding: Encoding,
    publication: &Publication,
    base: Option<&Bytes>,
    write: impl FnOnce(Format, &PublicationRef<'_>),
) {
    let Some((format, _)) = centrifuge_format(encoding.dialect) else {
        return;
    };
    let after_first = encoding.after_first();
    let delta = after_first.and_then(|after| delta_of(after.dialect, publication, base));
    let message = PublicationRef {
        delta: delta.is_some(),
        offset: publication.offset,
        ..publication_ref(
            publication,
            data_of(encoding.dialect, publication, delta.as_deref()),
        )
    };
    write(format, &message);
}

/// What of a publication is sent: the difference, if there is one.
fn data_of<'a>(
    dialect: Dialect,
    publication: &'a Publication,
    delta: Option<&'a [u8]>,
) -> PayloadRef<'a> {
    let is_text = matches!(dialect, Dialect::JsonFull | Dialect::JsonDelta);
    match delta {
        Some(delta) if is_text => PayloadRef::text(delta),
        Some(delta) => PayloadRef::binary(delta),
        // To subscribers of differences JSON is text that differs.
        None if is_text && publication.kind == Kind::Json => PayloadRef::text(&publication.data),
        None => payload(publication.kind, &publication.data),
    }
}

/// The difference to the publication before, where it is wanted and smaller.
fn delta_of(dialect: Dialect, publication: &Publication, base: Option<&Bytes>) -> Option<Vec<u8>> {
    let must_be_text = match dialect {
        Dialect::JsonDelta => true,
        Dialect::ProtobufDelta => false,
        _ => return None,
    };
    let extra = publication.extra.as_ref()?;
    let base = base.filter(|_| extra.uses_delta)?;
    let delta = fossil::create(base, &publication.data)?;
    let is_fit = !must_be_text || simdutf8::basic::from_utf8(&delta).is_ok();
    is_fit.then_some(delta)
}

/// A publication for the Centrifuge protocol, with `data` and without its offset.
pub(super) fn publication_ref<'a>(
    publication: &'a Publication,
    data: PayloadRef<'a>,
) -> PublicationRef<'a> {
    let extra = publication.extra.as_deref();
    let info = extra.and_then(|extra| extra.info.as_deref());
    PublicationRef {
        data,
        info: info.map(client_info),
        offset: 0,
        tags: extra.map_or(&[], |extra| &extra.tags),
        delta: false,
        time_ms: 0,
    }
}

/// A client for the Centrifuge protocol.
pub(super) fn client_info(info: &ClientInfo) -> ClientInfoRef<'_> {
    let some = |bytes: &'_ Bytes| !bytes.is_empty();
    ClientInfoRef {
        user: &info.user,
        client: &info.client,
        conn_info: some(&info.conn_info).then(|| PayloadRef::json(&info.conn_info)),
        chan_info: some(&info.chan_info).then(|| PayloadRef::json(&info.chan_info)),
    }
}

/// Data for the Centrifuge protocol.
pub(super) fn payload(kind: Kind, bytes: &[u8]) -> PayloadRef<'_> {
    let kind = match kind {
        Kind::Json => PayloadKind::Json,
        Kind::Text => PayloadKind::Text,
        Kind::Binary => PayloadKind::Binary,
    };
    PayloadRef { kind, bytes }
}

/// The kind of WebSocket message that carries a format.
pub(super) fn opcode_of(format: Format) -> Opcode {
    match format {
        Format::Json => Opcode::Text,
        Format::Protobuf => Opcode::Binary,
    }
}

fn channel_ref<'a>(encoding: Encoding, place: &Place<'a>) -> ChannelRef<'a> {
    match encoding.selection.is_by_id() {
        true => ChannelRef::Id(i64::from(place.local) + 1),
        false => ChannelRef::Name(place.name),
    }
}

/// The format of a dialect of the Centrifuge protocol, and whether it goes one way only.
fn centrifuge_format(dialect: Dialect) -> Option<(Format, bool)> {
    match dialect {
        Dialect::Verbatim | Dialect::Envelope => None,
        Dialect::UniJson => Some((Format::Json, true)),
        Dialect::Json | Dialect::JsonFull | Dialect::JsonDelta => Some((Format::Json, false)),
        Dialect::Protobuf | Dialect::ProtobufFull | Dialect::ProtobufDelta => {
            Some((Format::Protobuf, false))
        }
    }
}
