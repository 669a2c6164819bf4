//! Bytes in, whole messages and control frames out (RFC 6455 sections 5.4 to 5.6).
//!
//! A frame that lies whole in the input is the common case: it is unmasked where it lies, checked,
//! and lent to the caller without a copy or an allocation. Whatever is cut by the end of the input,
//! or fragmented by the peer, is gathered in one box that lives as long as something is partial.

use std::ops::Range;

use super::close::{CloseCode, parse_close};
use super::deflate::Inflation;
use super::deflate::inflater::{CutMessage, Payload, compressed_bytes_max};
use super::frame::{FrameHeader, HEADER_BYTES_MAX, Opcode, decode_header};
use super::mask::apply_mask;
use super::utf8::{InvalidUtf8, Utf8Checker};

/// How a peer broke the protocol or a limit: the connection is to be closed with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The code to send.
    pub code: CloseCode,
    /// A fixed text, never the peer's own bytes; fits a Close frame.
    pub reason: &'static str,
}

impl Violation {
    pub(super) const fn protocol(reason: &'static str) -> Self {
        Self {
            code: CloseCode::ProtocolError,
            reason,
        }
    }

    pub(super) const fn invalid_payload(reason: &'static str) -> Self {
        Self {
            code: CloseCode::InvalidPayload,
            reason,
        }
    }
}

impl From<InvalidUtf8> for Violation {
    fn from(_: InvalidUtf8) -> Self {
        Self::invalid_payload("text is not UTF-8")
    }
}

const CONTINUATION_OF_NOTHING: Violation =
    Violation::protocol("continuation without a message to continue");

const COMPRESSED_WITHOUT_AGREEMENT: Violation =
    Violation::protocol("compressed frame without agreement");

const TOO_MANY_FRAMES: Violation = Violation {
    code: CloseCode::PolicyViolation,
    reason: "message of too many frames",
};

pub(super) const MESSAGE_TOO_BIG: Violation = Violation {
    code: CloseCode::MessageTooBig,
    reason: "message too big",
};

/// The side that reads (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads what a client sent: every frame must be masked.
    Server,
    /// Reads what a server sent: no frame may be masked.
    Client,
}

/// What one message may take.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// Payload bytes of a whole message. More is refused with 1009: from the header that says so, or,
    /// if it is compressed, as soon as it inflates to more (or has more than twice as many, and
    /// 1 KiB).
    pub message_bytes: usize,
    /// Frames of a message, empty ones too; at least 1. More are refused with 1008.
    pub frames_per_message: u32,
}

/// What the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message: valid UTF-8, checked.
    Text(&'a [u8]),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// The answer to a ping, or a sign of life.
    Pong(&'a [u8]),
    /// The code and the reason of a Close frame, if it had any. No more frames may follow.
    Close(Option<(u16, &'a str)>),
}

/// What [`MessageReader::next`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Bytes taken from the front of the input.
    pub consumed: usize,
    /// The event that the last of them completed. `None`: all of the input was taken, and more is
    /// needed.
    pub event: Option<Event<'a>>,
}

/// Reads one direction of one connection. Idle, between messages, it is one null pointer.
///
/// Call [`next`](Self::next) until it consumes nothing: a gathered message is lent to the caller
/// until the next call, and the call with nothing left is the one that frees it.
///
/// ```
/// use longwire::proto::message::{Event, MessageLimits, MessageReader, Role};
///
/// let limits = MessageLimits { message_bytes: 65_536, frames_per_message: 128 };
/// let mut reader = MessageReader::new();
/// let mut received = *b"\x81\x02hi\x89\x00";
/// let (mut at, mut texts, mut pings) = (0, 0, 0);
/// loop {
///     let step = reader.next(Role::Client, &limits, &mut received[at..])?;
///     at += step.consumed;
///     match step.event {
///         Some(Event::Text(text)) => texts += text.len(),
///         Some(Event::Ping(_)) => pings += 1,
///         Some(_) => {}
///         None if step.consumed == 0 => break,
///         None => {}
///     }
/// }
/// assert_eq!((at, texts, pings), (6, 2, 1));
/// # Ok::<(), longwire::proto::message::Violation>(())
/// ```
#[derive(Debug, Default)]
pub struct MessageReader {
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<MessageReader>() == size_of::<usize>());

impl MessageReader {
    /// A reader at the start of a connection.
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// Takes bytes from the front of `input`, up to and including one event, on a connection that has
    /// agreed on no extension. It consumes nothing only when `input` is empty. `input` is unmasked in
    /// place as far as it is consumed.
    ///
    /// # Errors
    /// The first rule or limit that the peer broke. The connection must be closed: the reader is
    /// out of step with the stream, and calling it again gives nonsense (though never a panic).
    #[inline]
    pub fn next<'a>(
        &'a mut self,
        role: Role,
        limits: &MessageLimits,
        input: &'a mut [u8],
    ) -> Result<Step<'a>, Violation> {
        self.next_inflated(role, limits, None, input)
    }

    /// As [`next`](Self::next), on a connection that may have agreed on permessage-deflate:
    /// `inflation` is there if it has, the same for every call. A compressed message that comes whole
    /// is lent from the inflater.
    ///
    /// A text is checked as it inflates: at the latest when 4 KiB of it have come or it ends.
    ///
    /// # Errors
    /// As by `next`; also what [`deflate`](super::deflate) refuses: 1007 for data that is not
    /// DEFLATE, 1009 for too much of it, 1008 for more than 128 final blocks in a message.
    #[inline]
    pub fn next_inflated<'a>(
        &'a mut self,
        role: Role,
        limits: &MessageLimits,
        inflation: Option<Inflation<'a>>,
        input: &'a mut [u8],
    ) -> Result<Step<'a>, Violation> {
        if self.partial.is_some() {
            self.free_finished();
        }
        if self.partial.is_none()
            && let Some((header, header_len)) = decode_header(input)?
        {
            admit(&header, role, limits, inflation.is_some(), None)?;
            if let Some(frame_end) = whole_frame_end(&header, header_len, input.len()) {
                let payload = header_len..frame_end;
                return whole_frame(&header, payload, limits, inflation, input);
            }
        }
        self.next_partial(role, limits, inflation, input)
    }

    /// Whether a frame header, a frame or a fragmented message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.partial
            .as_deref()
            .is_some_and(|partial| !partial.is_over())
    }

    /// Heap bytes held.
    pub fn buffered_bytes(&self) -> usize {
        self.partial.as_deref().map_or(0, Partial::heap_bytes)
    }

    /// Frees what the last call lent to the caller.
    fn free_finished(&mut self) {
        let Some(partial) = &mut self.partial else {
            return;
        };
        if partial.is_over() {
            self.partial = None;
        } else if partial.finished.take().is_some() {
            partial.control = Vec::new();
        }
    }

    /// The rest of `next`: a frame that is not whole in `input`, or is not the first piece of what
    /// it belongs to.
    fn next_partial<'a>(
        &'a mut self,
        role: Role,
        limits: &MessageLimits,
        mut inflation: Option<Inflation<'a>>,
        input: &'a mut [u8],
    ) -> Result<Step<'a>, Violation> {
        if input.is_empty() {
            return Ok(Step {
                consumed: 0,
                event: None,
            });
        }
        let partial = self.partial.get_or_insert_default();
        let gathered = partial.gather(role, limits, inflation.as_mut(), input)?;
        match gathered {
            Gathered::All => Ok(Step {
                consumed: input.len(),
                event: None,
            }),
            Gathered::Event { consumed } => Ok(Step {
                consumed,
                event: self
                    .partial
                    .as_deref()
                    .map(Partial::finished_event)
                    .transpose()?,
            }),
            Gathered::WholeFrame {
                header,
                payload_at,
                frame_end,
            } => {
                self.partial.take_if(|partial| partial.message.is_none());
                let payload = payload_at..frame_end;
                whole_frame(&header, payload, limits, inflation, input)
            }
        }
    }
}

/// What is kept between calls while something is partial.
#[derive(Debug, Default)]
struct Partial {
    /// The bytes of a header that is cut; a header that came whole never visits this.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// The frame whose payload is coming in.
    frame: Option<Frame>,
    /// The data message that has begun.
    message: Option<Message>,
    /// The payload of a control frame that is cut.
    control: Vec<u8>,
    /// What the last call lent to the caller.
    finished: Option<Opcode>,
}

/// A frame whose payload is coming in. It passed [`admit`], so its length fits a `usize`.
#[derive(Debug)]
struct Frame {
    header: FrameHeader,
    taken: usize,
}

impl Frame {
    fn remaining(&self) -> usize {
        usize::try_from(self.header.payload_len)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.taken)
    }
}

/// A data message that is not whole.
#[derive(Debug)]
struct Message {
    opcode: Opcode,
    /// Frames begun.
    frames: u32,
    payload: Vec<u8>,
    utf8: Utf8Checker,
    /// What inflates it, if it is compressed.
    compressed: Option<Box<CutMessage>>,
}

impl Message {
    fn new(header: &FrameHeader) -> Self {
        Self {
            opcode: header.opcode,
            frames: 1,
            payload: Vec::new(),
            utf8: Utf8Checker::new(),
            compressed: header.rsv1.then(Box::default),
        }
    }

    /// Its frames, its bytes as they came, and whether it is compressed, for `header` to add to.
    fn so_far(&self, header: &FrameHeader) -> Result<(u32, usize, bool), Violation> {
        if header.opcode != Opcode::Continuation {
            return Err(Violation::protocol(
                "message begun before the last one ended",
            ));
        }
        Ok(match &self.compressed {
            Some(compressed) => (self.frames, compressed.received(), true),
            None => (self.frames, self.payload.len(), false),
        })
    }

    /// Keeps a piece of its payload. `len_max` is what all of it can come to.
    fn take(
        &mut self,
        piece: &[u8],
        is_last: bool,
        len_max: usize,
        inflation: Option<&mut Inflation>,
    ) -> Result<(), Violation> {
        let is_text = self.opcode == Opcode::Text;
        if let Some(compressed) = &mut self.compressed {
            let payload = Payload {
                bytes: &mut self.payload,
                utf8: is_text.then_some(&mut self.utf8),
                bytes_max: len_max,
            };
            let inflation = inflation.ok_or(COMPRESSED_WITHOUT_AGREEMENT)?;
            return compressed.take(piece, is_last, inflation, payload);
        }
        if is_text {
            self.utf8.feed(piece)?;
        }
        append(&mut self.payload, piece, len_max);
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        let compressed = self.compressed.as_deref();
        self.payload.capacity() + compressed.map_or(0, CutMessage::heap_bytes)
    }
}

/// What [`Partial::gather`] came to. Offsets are into its input.
enum Gathered {
    /// All of the input was taken.
    All,
    /// `finished` says what is ready.
    Event { consumed: usize },
    /// A frame that is an event by itself lies whole in the input, its payload not looked at yet.
    WholeFrame {
        header: FrameHeader,
        payload_at: usize,
        frame_end: usize,
    },
}

impl Partial {
    fn gather(
        &mut self,
        role: Role,
        limits: &MessageLimits,
        mut inflation: Option<&mut Inflation>,
        input: &mut [u8],
    ) -> Result<Gathered, Violation> {
        let mut at = 0;
        loop {
            if self.frame.is_none() {
                let Some((header, taken)) =
                    self.take_header(input.get(at..).unwrap_or_default())?
                else {
                    return Ok(Gathered::All);
                };
                at += taken;
                let agreed = inflation.is_some();
                admit(&header, role, limits, agreed, self.message.as_ref())?;
                if let Some(frame_end) = whole_frame_end(&header, at, input.len()) {
                    return Ok(Gathered::WholeFrame {
                        header,
                        payload_at: at,
                        frame_end,
                    });
                }
                self.begin_frame(header);
            }
            let inflation = inflation.as_deref_mut();
            at += self.take_payload(limits, inflation, input.get_mut(at..).unwrap_or_default())?;
            if self
                .frame
                .as_ref()
                .is_some_and(|frame| frame.remaining() > 0)
            {
                return Ok(Gathered::All);
            }
            self.end_frame()?;
            if self.finished.is_some() {
                return Ok(Gathered::Event { consumed: at });
            }
        }
    }

    /// A header from the kept bytes and the front of `input`, and how many bytes of `input` it
    /// took. `None`: all of them, and it is still cut.
    fn take_header(&mut self, input: &[u8]) -> Result<Option<(FrameHeader, usize)>, Violation> {
        let kept = usize::from(self.header_len);
        let mut bytes = self.header;
        let mut len = kept;
        for (slot, byte) in bytes.iter_mut().skip(kept).zip(input) {
            *slot = *byte;
            len += 1;
        }
        if let Some((header, header_len)) = decode_header(bytes.get(..len).unwrap_or_default())? {
            self.header_len = 0;
            return Ok(Some((header, header_len.saturating_sub(kept))));
        }
        self.header = bytes;
        self.header_len = len as u8;
        Ok(None)
    }

    fn begin_frame(&mut self, header: FrameHeader) {
        match (&mut self.message, header.opcode) {
            (_, opcode) if opcode.is_control() => {}
            (Some(message), _) => message.frames += 1,
            (None, _) => self.message = Some(Message::new(&header)),
        }
        self.frame = Some(Frame { header, taken: 0 });
    }

    /// Unmasks, inflates, checks and keeps what `input` has of the frame's payload.
    fn take_payload(
        &mut self,
        limits: &MessageLimits,
        inflation: Option<&mut Inflation>,
        input: &mut [u8],
    ) -> Result<usize, Violation> {
        let Some(frame) = &mut self.frame else {
            return Ok(0);
        };
        let remaining = frame.remaining();
        let available = remaining.min(input.len());
        let payload = input.get_mut(..available).unwrap_or_default();
        if let Some(mask) = frame.header.mask {
            apply_mask(payload, mask, frame.taken);
        }
        frame.taken += available;
        match &mut self.message {
            Some(message) if !frame.header.opcode.is_control() => {
                let fin = frame.header.fin;
                let len_max = match fin && message.compressed.is_none() {
                    true => message.payload.len().saturating_add(remaining),
                    false => limits.message_bytes,
                };
                message.take(payload, fin && available == remaining, len_max, inflation)?;
            }
            _ => append(&mut self.control, payload, remaining),
        }
        Ok(available)
    }

    /// Notes what the end of the frame completes, if anything.
    fn end_frame(&mut self) -> Result<(), Violation> {
        let Some(Frame { header, .. }) = self.frame.take() else {
            return Ok(());
        };
        if header.opcode.is_control() {
            self.finished = Some(header.opcode);
        } else if let Some(message) = &self.message
            && header.fin
        {
            message.utf8.finish()?;
            self.finished = Some(message.opcode);
        }
        Ok(())
    }

    fn finished_event(&self) -> Result<Event<'_>, Violation> {
        match (self.finished, &self.message) {
            (Some(control), _) if control.is_control() => event(control, &self.control),
            (Some(data), Some(message)) => event(data, &message.payload),
            _ => Err(CONTINUATION_OF_NOTHING),
        }
    }

    /// Whether nothing is partial any more: all there is was lent to the caller.
    fn is_over(&self) -> bool {
        match self.finished {
            Some(opcode) => self.message.is_none() || !opcode.is_control(),
            None => false,
        }
    }

    fn heap_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, Message::heap_bytes);
        size_of::<Self>() + message + self.control.capacity()
    }
}

/// Checks a header against all that came before it: the side it came from, what was agreed on, the
/// message it interrupts or continues, and the limits.
#[inline]
fn admit(
    header: &FrameHeader,
    role: Role,
    limits: &MessageLimits,
    may_be_compressed: bool,
    message: Option<&Message>,
) -> Result<(), Violation> {
    if header.rsv1 {
        check_compressed(header, may_be_compressed)?;
    }
    match role {
        Role::Server if header.mask.is_none() => {
            return Err(Violation::protocol("frame of a client not masked"));
        }
        Role::Client if header.mask.is_some() => {
            return Err(Violation::protocol("frame of a server masked"));
        }
        _ => {}
    }
    if header.opcode.is_control() {
        return Ok(());
    }
    let (frames, bytes, is_compressed) = match message {
        None if header.opcode == Opcode::Continuation => return Err(CONTINUATION_OF_NOTHING),
        None => (0, 0, header.rsv1),
        Some(message) => message.so_far(header)?,
    };
    if frames >= limits.frames_per_message {
        return Err(TOO_MANY_FRAMES);
    }
    let bytes_max = match is_compressed {
        true => compressed_bytes_max(limits.message_bytes),
        false => limits.message_bytes,
    };
    if header.payload_len > bytes_max.saturating_sub(bytes) as u64 {
        return Err(MESSAGE_TOO_BIG);
    }
    Ok(())
}

/// Checks a header with RSV1: it belongs on the first frame of a data message, and nowhere else
/// (RFC 7692 section 6.1).
#[cold]
fn check_compressed(header: &FrameHeader, may_be_compressed: bool) -> Result<(), Violation> {
    if !may_be_compressed {
        return Err(COMPRESSED_WITHOUT_AGREEMENT);
    }
    match header.opcode {
        Opcode::Text | Opcode::Binary => Ok(()),
        Opcode::Continuation => Err(Violation::protocol("RSV1 on a continuation")),
        _ => Err(Violation::protocol("compressed control frame")),
    }
}

/// Where the frame ends in an input of `input_len` bytes, if it lies whole in it and is an event by
/// itself.
#[inline]
fn whole_frame_end(header: &FrameHeader, payload_at: usize, input_len: usize) -> Option<usize> {
    let payload_len = usize::try_from(header.payload_len).ok()?;
    let alone = header.fin && header.opcode != Opcode::Continuation;
    (alone && payload_len <= input_len - payload_at).then(|| payload_at + payload_len)
}

/// The event of a frame whose payload lies whole in `input`, at `payload`.
#[inline]
fn whole_frame<'a>(
    header: &FrameHeader,
    payload: Range<usize>,
    limits: &MessageLimits,
    inflation: Option<Inflation<'a>>,
    input: &'a mut [u8],
) -> Result<Step<'a>, Violation> {
    let consumed = payload.end;
    let payload = input.get_mut(payload).unwrap_or_default();
    if let Some(mask) = header.mask {
        apply_mask(payload, mask, 0);
    }
    if header.rsv1 {
        let payload = inflate_whole(payload, header.opcode, limits, inflation)?;
        return Ok(Step {
            consumed,
            event: Some(event(header.opcode, payload)?),
        });
    }
    if header.opcode == Opcode::Text && simdutf8::basic::from_utf8(payload).is_err() {
        return Err(InvalidUtf8.into());
    }
    Ok(Step {
        consumed,
        event: Some(event(header.opcode, payload)?),
    })
}

/// The payload of a compressed message that came whole. Kept out of the way of the others.
#[inline(never)]
fn inflate_whole<'a>(
    compressed: &[u8],
    opcode: Opcode,
    limits: &MessageLimits,
    inflation: Option<Inflation<'a>>,
) -> Result<&'a [u8], Violation> {
    let inflation = inflation.ok_or(COMPRESSED_WITHOUT_AGREEMENT)?;
    inflation.inflate(compressed, opcode == Opcode::Text, limits.message_bytes)
}

/// Names a payload that has been checked as its opcode demands, all but the code and reason of a
/// close.
#[inline]
fn event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, Violation> {
    Ok(match opcode {
        Opcode::Continuation => return Err(CONTINUATION_OF_NOTHING),
        Opcode::Text => Event::Text(payload),
        Opcode::Binary => Event::Binary(payload),
        Opcode::Close => Event::Close(parse_close(payload)?),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
    })
}

/// Appends bytes that came, growing by what they need or by doubling, but never beyond the
/// `len_max` that the buffer can reach: a declared length alone reserves nothing.
pub(super) fn append(buffer: &mut Vec<u8>, bytes: &[u8], len_max: usize) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let doubled = buffer.capacity().saturating_mul(2).min(len_max);
        buffer.reserve_exact(needed.max(doubled) - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MessageLimits = MessageLimits {
        message_bytes: 1000,
        frames_per_message: 4,
    };

    /// Feeds `input` in pieces of `piece` bytes; says each event in short, then how it ended.
    fn read(role: Role, input: &[u8], piece: usize) -> (Vec<String>, Result<(), Violation>) {
        let mut reader = MessageReader::new();
        let mut events = Vec::new();
        for piece in input.chunks(piece) {
            let mut piece = piece.to_vec();
            let mut at = 0;
            loop {
                let step = match reader.next(role, &LIMITS, &mut piece[at..]) {
                    Ok(step) => step,
                    Err(violation) => return (events, Err(violation)),
                };
                at += step.consumed;
                events.extend(step.event.map(|event| format!("{event:?}")));
                if step.consumed == 0 {
                    break;
                }
            }
        }
        (events, Ok(()))
    }

    /// What a server's frames come to, the same in pieces of any size.
    fn read_as_client(input: &[u8]) -> (Vec<String>, Result<(), Violation>) {
        let whole = read(Role::Client, input, usize::MAX);
        for piece in 1..input.len() {
            assert_eq!(read(Role::Client, input, piece), whole, "pieces of {piece}");
        }
        whole
    }

    fn refused(input: &[u8]) -> (CloseCode, &'static str) {
        let violation = read_as_client(input).1.unwrap_err();
        (violation.code, violation.reason)
    }

    #[test]
    fn reads_a_masked_frame_without_a_copy() {
        let mut input = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x81";
        let mut reader = MessageReader::new();
        let step = reader.next(Role::Server, &LIMITS, &mut input).unwrap();
        assert_eq!(step.event, Some(Event::Text(b"Hello")));
        assert_eq!(step.consumed, 11);
        assert_eq!(reader.buffered_bytes(), 0);
    }

    #[test]
    fn gathers_fragments_around_a_ping() {
        let input = b"\x01\x03a\xe2\x82\x89\x01!\x00\x00\x80\x01\xac\x82\x00";
        let (events, end) = read_as_client(input);
        let expected = [
            format!("{:?}", Event::Ping(b"!")),
            format!("{:?}", Event::Text("a\u{20ac}".as_bytes())),
            format!("{:?}", Event::Binary(b"")),
        ];
        assert_eq!((events, end), (expected.into(), Ok(())));
    }

    #[test]
    fn reads_control_frames_with_and_without_payload() {
        let (events, end) = read_as_client(b"\x8a\x00\x89\x02hi\x88\x00\x88\x03\x03\xe9x");
        let expected = [
            format!("{:?}", Event::Pong(b"")),
            format!("{:?}", Event::Ping(b"hi")),
            format!("{:?}", Event::Close(None)),
            format!("{:?}", Event::Close(Some((1001, "x")))),
        ];
        assert_eq!((events, end), (expected.into(), Ok(())));
    }

    #[test]
    fn refuses_the_wrong_order_of_frames() {
        let protocol = CloseCode::ProtocolError;
        assert_eq!(
            refused(b"\x80\x00"),
            (protocol, CONTINUATION_OF_NOTHING.reason)
        );
        assert_eq!(refused(b"\x81\x00\x80\x00").0, protocol);
        assert_eq!(refused(b"\x01\x00\x81\x00").0, protocol);
        assert_eq!(refused(b"\x01\x00\x02\x00").0, protocol);
        assert_eq!(refused(b"\xc1\x00").0, protocol);
    }

    #[test]
    fn demands_masks_of_clients_only() {
        let unmasked = read(Role::Server, b"\x81\x00", 1).1.unwrap_err();
        assert_eq!(unmasked.reason, "frame of a client not masked");
        assert_eq!(
            refused(b"\x81\x80\x01\x02\x03\x04").1,
            "frame of a server masked"
        );
    }

    #[test]
    fn refuses_sizes_from_the_header_and_reserves_nothing_for_them() {
        let too_big = CloseCode::MessageTooBig;
        assert_eq!(refused(b"\x82\x7e\x03\xe9").0, too_big);
        assert_eq!(
            refused(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff").0,
            too_big
        );
        let mut fragments = b"\x02\x7e\x03\xe8".to_vec();
        fragments.extend([0; 1000]);
        assert_eq!(read(Role::Client, &fragments, 7), (vec![], Ok(())));
        fragments.extend(b"\x80\x01");
        assert_eq!(
            read(Role::Client, &fragments, 7).1.unwrap_err().code,
            too_big
        );

        let mut reader = MessageReader::new();
        let mut input = *b"\x82\x7e\x03\xe8123";
        reader.next(Role::Client, &LIMITS, &mut input).unwrap();
        assert_eq!(reader.buffered_bytes(), size_of::<Partial>() + 3);
    }

    #[test]
    fn counts_empty_fragments() {
        let (events, end) = read_as_client(b"\x02\x00\x00\x00\x00\x00\x80\x00");
        assert_eq!((events.len(), end), (1, Ok(())));
        assert_eq!(
            refused(b"\x02\x00\x00\x00\x00\x00\x00\x00\x80\x00"),
            (CloseCode::PolicyViolation, "message of too many frames")
        );
    }

    #[test]
    fn refuses_text_at_the_first_impossible_byte() {
        let mut reader = MessageReader::new();
        for byte in b"\x81\x09ok\xed" {
            reader.next(Role::Client, &LIMITS, &mut [*byte]).unwrap();
        }
        let violation = reader.next(Role::Client, &LIMITS, &mut [0xa0]).unwrap_err();
        assert_eq!(violation.code, CloseCode::InvalidPayload);
        for cut_character in [&b"\x81\x01\xc3"[..], b"\x01\x01\xc3\x80\x00"] {
            assert_eq!(refused(cut_character).0, CloseCode::InvalidPayload);
        }
    }

    #[test]
    fn frees_its_box_once_the_caller_is_done() {
        let mut reader = MessageReader::new();
        reader.next(Role::Client, &LIMITS, &mut [0x81]).unwrap();
        assert!(reader.is_partial());
        let mut rest = *b"\x02hi";
        let step = reader.next(Role::Client, &LIMITS, &mut rest).unwrap();
        assert_eq!((step.consumed, step.event), (3, Some(Event::Text(b"hi"))));
        assert!(!reader.is_partial());
        assert_eq!(reader.buffered_bytes(), 0, "lent from the input");

        let (mut cut, mut rest) = (*b"\x82\x04ab", *b"cd");
        reader.next(Role::Client, &LIMITS, &mut cut).unwrap();
        let step = reader.next(Role::Client, &LIMITS, &mut rest).unwrap();
        assert_eq!(step.event, Some(Event::Binary(b"abcd")));
        assert!(!reader.is_partial());
        assert!(reader.buffered_bytes() > 0, "lent from the box");
        reader.next(Role::Client, &LIMITS, &mut []).unwrap();
        assert_eq!(reader.buffered_bytes(), 0);
    }

    #[test]
    fn reserves_by_doubling_up_to_what_the_message_may_reach() {
        let mut buffer = Vec::new();
        let capacities = [3, 3, 3, 1].map(|n| {
            append(&mut buffer, &[0; 3][..n], 10);
            buffer.capacity()
        });
        assert_eq!(capacities, [3, 6, 10, 10]);
    }
}
