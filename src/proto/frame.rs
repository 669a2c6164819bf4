//! One WebSocket frame: its header both ways, and whole frames out (RFC 6455 section 5.2).

use super::mask::apply_mask;
use super::message::Violation;

/// The longest header: two bytes, eight of length, four of mask.
pub const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// The longest reason of a Close frame: its payload less the code.
const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASKED: u8 = 0x80;
const LENGTH_IN_2_BYTES: u8 = 126;
const LENGTH_IN_8_BYTES: u8 = 127;

/// What a frame is (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The start or the answer of the closing handshake.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or says that its sender lives.
    Pong = 0xa,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xa => Some(Self::Pong),
            _ => None,
        }
    }

    /// Close, ping and pong: short, never fragmented, allowed between the fragments of a message.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last (or only) fragment of its message.
    pub fin: bool,
    /// The bit that permessage-deflate sets on a compressed message.
    pub rsv1: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The key its payload is masked with, if it is.
    pub mask: Option<[u8; 4]>,
    /// As declared: below 2^63, not checked against any limit.
    pub payload_len: u64,
}

/// Reads a header from the front of `input`, and says how many bytes it takes. `None`: more bytes
/// are needed.
///
/// # Errors
/// 1002, as soon as the offending byte is there: a set RSV2 or RSV3, a reserved opcode, a control
/// frame that is fragmented or longer than 125 bytes, a length that is not in its shortest form or
/// has its top bit set.
#[inline]
pub fn decode_header(input: &[u8]) -> Result<Option<(FrameHeader, usize)>, Violation> {
    let Some((&first, after_first)) = input.split_first() else {
        return Ok(None);
    };
    let opcode = check_first_byte(first)?;
    let Some((&second, rest)) = after_first.split_first() else {
        return Ok(None);
    };
    if opcode.is_control() && second & !MASKED > CONTROL_PAYLOAD_BYTES_MAX as u8 {
        return Err(Violation::protocol("control frame too long"));
    }
    let Some((payload_len, rest)) = decode_length(second & !MASKED, rest)? else {
        return Ok(None);
    };
    let (mask, rest) = if second & MASKED == 0 {
        (None, rest)
    } else if let Some((mask, rest)) = rest.split_first_chunk::<4>() {
        (Some(*mask), rest)
    } else {
        return Ok(None);
    };
    let header = FrameHeader {
        fin: first & FIN != 0,
        rsv1: first & RSV1 != 0,
        opcode,
        mask,
        payload_len,
    };
    Ok(Some((header, input.len() - rest.len())))
}

fn check_first_byte(first: u8) -> Result<Opcode, Violation> {
    if first & RSV2_RSV3 != 0 {
        return Err(Violation::protocol("reserved bit set"));
    }
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::protocol("reserved opcode"))?;
    if opcode.is_control() && first & FIN == 0 {
        return Err(Violation::protocol("fragmented control frame"));
    }
    Ok(opcode)
}

/// The payload length, and what follows it. `short` is the seven-bit length; `None`: more bytes are
/// needed.
fn decode_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let (length, shortest_form_max, rest) = match short {
        LENGTH_IN_2_BYTES => match rest.split_first_chunk::<2>() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), 125, rest),
            None => return Ok(None),
        },
        LENGTH_IN_8_BYTES => {
            if rest.first().is_some_and(|&byte| byte & 0x80 != 0) {
                return Err(Violation::protocol("payload length above 2^63"));
            }
            match rest.split_first_chunk::<8>() {
                Some((bytes, rest)) => (u64::from_be_bytes(*bytes), u64::from(u16::MAX), rest),
                None => return Ok(None),
            }
        }
        short => return Ok(Some((u64::from(short), rest))),
    };
    if length <= shortest_form_max {
        return Err(Violation::protocol(
            "payload length not in its shortest form",
        ));
    }
    Ok(Some((length, rest)))
}

/// Appends a header. A control frame must be whole and of at most 125 bytes; that is up to the
/// caller.
#[inline]
pub fn encode_header(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    payload_len: usize,
) {
    let first = opcode as u8 | if fin { FIN } else { 0 };
    let masked = if mask.is_some() { MASKED } else { 0 };
    if let Ok(length) = u8::try_from(payload_len)
        && length < LENGTH_IN_2_BYTES
    {
        out.extend_from_slice(&[first, masked | length]);
    } else if let Ok(length) = u16::try_from(payload_len) {
        let [high, low] = length.to_be_bytes();
        out.extend_from_slice(&[first, masked | LENGTH_IN_2_BYTES, high, low]);
    } else {
        out.extend_from_slice(&[first, masked | LENGTH_IN_8_BYTES]);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
}

/// Appends one whole unmasked frame (server to client).
#[inline]
pub fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    encode_header(out, true, opcode, None, payload.len());
    out.extend_from_slice(payload);
}

/// Appends one whole masked frame (client to server).
#[inline]
pub fn encode_masked_frame(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    encode_header(out, true, opcode, Some(mask), payload.len());
    let payload_at = out.len();
    out.extend_from_slice(payload);
    if let Some(payload) = out.get_mut(payload_at..) {
        apply_mask(payload, mask, 0);
    }
}

/// Appends one whole frame of a compressed message (RFC 7692 section 6): masked if a client sends
/// it.
pub fn encode_compressed_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    compressed: &[u8],
) {
    let frame_at = out.len();
    match mask {
        Some(mask) => encode_masked_frame(out, opcode, mask, compressed),
        None => encode_frame(out, opcode, compressed),
    }
    if let Some(first) = out.get_mut(frame_at) {
        *first |= RSV1;
    }
}

/// Appends a server's Close frame. The reason is cut after the last character that ends within 123
/// bytes.
pub fn encode_close(out: &mut Vec<u8>, code: impl Into<u16>, reason: &str) {
    let reason_len = reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
    encode_header(out, true, Opcode::Close, None, 2 + reason_len);
    out.extend_from_slice(&code.into().to_be_bytes());
    out.extend(reason.bytes().take(reason_len));
}

/// Where an outbox can be cut without cutting a frame. `frames` are whole unmasked frames back to
/// back, of which `sent` bytes are out: the result is the end of the frame that byte `sent` belongs
/// to, or `sent` itself on a boundary. At most `frames.len()`, which is also the answer when
/// `frames` is something else than said.
pub fn frame_end(frames: &[u8], sent: usize) -> usize {
    let mut end = 0;
    while end < sent {
        end = match frames.get(end..).map(decode_header) {
            Some(Ok(Some((header, header_len)))) => usize::try_from(header.payload_len)
                .ok()
                .and_then(|payload_len| end.checked_add(header_len)?.checked_add(payload_len))
                .unwrap_or(frames.len()),
            _ => return frames.len(),
        };
    }
    end.min(frames.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::close::CloseCode;

    fn decoded(input: &[u8]) -> (FrameHeader, usize) {
        decode_header(input).unwrap().unwrap()
    }

    fn refused(input: &[u8]) -> &'static str {
        let violation = decode_header(input).unwrap_err();
        assert_eq!(violation.code, CloseCode::ProtocolError);
        violation.reason
    }

    #[test]
    fn reads_the_examples_of_the_rfc() {
        let header = FrameHeader {
            fin: true,
            rsv1: false,
            opcode: Opcode::Text,
            mask: None,
            payload_len: 5,
        };
        assert_eq!(decoded(b"\x81\x05Hello"), (header, 2));
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        let masked = FrameHeader { mask, ..header };
        assert_eq!(decoded(b"\x81\x85\x37\xfa\x21\x3d\x7f"), (masked, 6));
        assert_eq!(decoded(b"\x82\x7e\x01\x00").0.payload_len, 256);
        let long = decoded(b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
        assert_eq!((long.0.payload_len, long.1), (65536, 10));
        assert!(!decoded(b"\x01\x03Hel").0.fin);
        assert!(decoded(b"\xc1\x00").0.rsv1);
    }

    #[test]
    fn waits_for_every_byte_of_the_longest_header() {
        let header = b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04";
        for cut in 0..header.len() {
            assert_eq!(decode_header(&header[..cut]), Ok(None), "{cut} bytes");
        }
        assert_eq!(decoded(header).0.payload_len, (1 << 63) - 1);
        assert_eq!(decoded(header).1, HEADER_BYTES_MAX);
    }

    #[test]
    fn refuses_reserved_bits_and_opcodes_at_the_first_byte() {
        for first in [0x91, 0xa1, 0xb2] {
            assert_eq!(refused(&[first]), "reserved bit set");
        }
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(refused(&[0x80 | opcode]), "reserved opcode");
        }
        for control in [0x08, 0x09, 0x0a] {
            assert_eq!(refused(&[control]), "fragmented control frame");
        }
    }

    #[test]
    fn refuses_lengths_as_soon_as_they_show() {
        for second in [0x7e, 0x7f, 0xfe, 0xff] {
            assert_eq!(refused(&[0x89, second]), "control frame too long");
        }
        assert_eq!(refused(b"\x82\x7f\x80"), "payload length above 2^63");
        let not_shortest = "payload length not in its shortest form";
        assert_eq!(refused(b"\x82\x7e\x00\x7d"), not_shortest);
        assert_eq!(refused(b"\x82\xff\0\0\0\0\0\0\xff\xff"), not_shortest);
    }

    #[test]
    fn writes_each_length_in_its_shortest_form() {
        for (length, header) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (65535, b"\x82\x7e\xff\xff"),
            (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            let mut out = Vec::new();
            encode_frame(&mut out, Opcode::Binary, &vec![7; length]);
            assert_eq!(&out[..header.len()], header);
            assert_eq!(out.len(), header.len() + length);
        }
    }

    #[test]
    fn writes_the_masked_hello_of_the_rfc() {
        let mut out = Vec::new();
        encode_masked_frame(&mut out, Opcode::Text, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn marks_compressed_frames() {
        let mut out = b"before".to_vec();
        encode_compressed_frame(&mut out, Opcode::Binary, None, b"ab");
        encode_compressed_frame(&mut out, Opcode::Text, Some([1, 2, 3, 4]), b"ab");
        assert_eq!(out, b"before\xc2\x02ab\xc1\x82\x01\x02\x03\x04``");
    }

    #[test]
    fn cuts_a_close_reason_between_characters() {
        let mut out = Vec::new();
        encode_close(&mut out, CloseCode::SlowConsumer, "slow");
        assert_eq!(out, b"\x88\x06\x0f\xa4slow");
        for (reason, length) in [("x".repeat(124), 123), ("é".repeat(62), 122)] {
            out.clear();
            encode_close(&mut out, CloseCode::Normal, &reason);
            assert_eq!(out[1] as usize, 2 + length);
            assert_eq!(out[4..], reason.as_bytes()[..length]);
        }
    }

    #[test]
    fn finds_the_end_of_the_frame_a_byte_lies_in() {
        let mut frames = Vec::new();
        encode_frame(&mut frames, Opcode::Text, b"abc");
        encode_frame(&mut frames, Opcode::Binary, &[0; 300]);
        let ends: Vec<usize> = [0, 1, 4, 5, 6, 308, 309, 400]
            .map(|sent| frame_end(&frames, sent))
            .into();
        assert_eq!(ends, [0, 5, 5, 5, 309, 309, 309, 309]);
        assert_eq!(frame_end(b"\xff\xff", 1), 2);
    }
}
