//! A WebSocket on a thread of its own, for the few that are timed while the others are held.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use longwire::proto::frame::{Opcode, encode_masked_frame};
use longwire::proto::handshake::{read_client_handshake, write_client_handshake};
use longwire::proto::message::{Event, MessageLimits, MessageReader, Role};

/// Read at a time.
const READ_BYTES: usize = 4096;
/// More than any message that is sent to these connections.
const LIMITS: MessageLimits = MessageLimits {
    message_bytes: 64 << 20,
    frames_per_message: 1 << 20,
};

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    reader: MessageReader,
    /// What came with the handshake.
    leftover: Vec<u8>,
}

impl WebSocket {
    /// Connects and waits for the answer to the handshake. `timeout` bounds each wait, also later.
    pub fn open(
        address: SocketAddr,
        host: &str,
        path: &str,
        timeout: Duration,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
        let mut request = Vec::new();
        write_client_handshake(&mut request, host, path, &key, None, None);
        stream.write_all(&request)?;
        let mut answer = Vec::new();
        loop {
            read_some(&mut stream, &mut answer)?;
            match read_client_handshake(&answer, &key, None) {
                Ok(Some(opened)) => {
                    return Ok(Self {
                        stream,
                        reader: MessageReader::default(),
                        leftover: answer.split_off(opened.head_len),
                    });
                }
                Ok(None) => {}
                Err(error) => return Err(invalid(&error)),
            }
        }
    }

    /// The same, with another bound for each wait to read.
    pub fn with_timeout(self, timeout: Duration) -> io::Result<Self> {
        self.stream.set_read_timeout(Some(timeout))?;
        Ok(self)
    }

    /// Waits for bytes, answers pings, and hands every data message to `take`. `WouldBlock` if none
    /// came in time; another error at the end of the connection.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.leftover);
        if input.is_empty() {
            read_some(&mut self.stream, &mut input)?;
        }
        let mut at = 0;
        loop {
            let step = self.reader.next(Role::Client, &LIMITS, &mut input[at..]);
            let step = step.map_err(|violation| invalid(&violation.reason))?;
            at += step.consumed;
            match step.event {
                Some(Event::Text(payload) | Event::Binary(payload)) => take(payload),
                Some(Event::Ping(payload)) => {
                    let mut frame = Vec::new();
                    let mask = fastrand::u32(..).to_ne_bytes();
                    encode_masked_frame(&mut frame, Opcode::Pong, mask, payload);
                    self.stream.write_all(&frame)?;
                }
                Some(Event::Pong(_)) => {}
                Some(Event::Close(_)) => return Err(io::ErrorKind::ConnectionAborted.into()),
                None if step.consumed == 0 => return Ok(()),
                None => {}
            }
        }
    }
}

fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let filled = bytes.len();
    bytes.resize(filled + READ_BYTES, 0);
    let read = stream.read(&mut bytes[filled..])?;
    bytes.truncate(filled + read);
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn invalid(reason: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}
