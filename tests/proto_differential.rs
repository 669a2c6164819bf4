//! Frames as `tungstenite` reads them, compared with how we read them.

mod proto_frames;

use std::io::{self, Cursor, Read, Write};

use longwire::proto::close::CloseCode;
use longwire::proto::message::{MessageLimits, Role};
use proptest::prelude::*;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role as TheirRole, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use proto_frames::{Received, conversation, damaged_stream, read, wire};

/// Theirs counts no frames.
const fn limits(message_bytes: usize) -> MessageLimits {
    MessageLimits {
        message_bytes,
        frames_per_message: u32::MAX,
    }
}

/// How their reader came to an end.
#[derive(Debug, PartialEq)]
enum End {
    /// At the end of the stream, maybe within a frame.
    Stream,
    /// At a frame it refused.
    Refused(String),
}

/// A peer that has sent all it will send, and reads nothing.
struct Sent(Cursor<Vec<u8>>);

impl Read for Sent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Sent {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Up to and including the first Close.
fn read_theirs(limits: &MessageLimits, stream: &[u8]) -> (Vec<Received>, End) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes));
    let sent = Sent(Cursor::new(stream.to_vec()));
    let mut socket = WebSocket::from_raw_socket(sent, TheirRole::Server, Some(config));
    let mut received = Vec::new();
    loop {
        received.push(match socket.read() {
            Ok(Message::Text(text)) => Received::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Received::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Received::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Received::Pong(bytes.to_vec()),
            Ok(Message::Close(close)) => {
                let close = close.map(|close| (close.code.into(), close.reason.to_string()));
                received.push(Received::Close(close));
                return (received, End::Stream);
            }
            Ok(Message::Frame(frame)) => unreachable!("{frame:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (received, End::Stream);
            }
            Err(error) => return (received, End::Refused(error.to_string())),
        });
    }
}

/// Up to and including the first Close; then why it was refused, if it was.
fn read_ours(limits: &MessageLimits, stream: &[u8]) -> (Vec<Received>, Option<&'static str>) {
    let (mut received, end) = read(Role::Server, limits, &[stream]);
    let close = received
        .iter()
        .position(|event| matches!(event, Received::Close(_)));
    if let Some(close) = close {
        received.truncate(close + 1);
        return (received, None);
    }
    (received, end.err().map(|violation| violation.reason))
}

/// Theirs does not know the code 1014, and reports its own answer for it.
fn without_1014(mut ours: Vec<Received>) -> Vec<Received> {
    if let Some(Received::Close(close @ Some((1014, _)))) = ours.last_mut() {
        let code = CloseCode::ProtocolError.code();
        *close = Some((code, "Protocol violation".to_string()));
    }
    ours
}

proptest! {
    #[test]
    fn valid_streams_are_read_alike((frames, _) in conversation(true)) {
        let limits = limits(1 << 20);
        let stream = wire(&frames);
        let (ours, refused) = read_ours(&limits, &stream);
        prop_assert_eq!(refused, None);
        prop_assert_eq!(read_theirs(&limits, &stream), (without_1014(ours), End::Stream));
    }

    #[test]
    fn damaged_streams_are_refused_alike(stream in damaged_stream(true)) {
        let limits = limits(20_000);
        let (ours, refused) = read_ours(&limits, &stream);
        let (theirs, their_end) = read_theirs(&limits, &stream);
        let ours = without_1014(ours);
        match refused {
            // Theirs takes longer forms of a length than needed, and close codes that may not be
            // sent.
            Some("payload length not in its shortest form" | "close code not allowed") => {
                prop_assert!(theirs.starts_with(&ours));
            }
            // Theirs may have waited for the rest of a frame that we refused at its first bad byte.
            Some(_) => prop_assert_eq!(theirs, ours),
            None => prop_assert_eq!((theirs, their_end), (ours, End::Stream)),
        }
    }
}
