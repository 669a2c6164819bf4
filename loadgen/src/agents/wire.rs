//! What controller and agent say to each other, and how: JSON, one message per line.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::counters::Totals;
use crate::machine::Machine;
use crate::worker::{Alike, Tally};

use super::Assignment;

/// Goes up whenever a message changes its meaning or its form.
pub const PROTOCOL: u32 = 1;
/// Longest greeting: what anybody may send.
pub const GREETING_BYTES_MAX: usize = 4 * 1024;
/// Longest other message. A subscriber with very many gaps takes up to 40 KiB.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Groups of subscribers in a message.
pub const GROUPS_PER_MESSAGE: usize = 100;
/// A side that has said nothing for so long is given up.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Read at a time.
const READ_BYTES: usize = 64 * 1024;

/// What a controller says. Each request has one answer, but for `Finish`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Comes first.
    Greet {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The secret both know, if there is one.
        token: Option<String>,
    },
    /// What time is it?
    Clock,
    /// Here is what to do. Begin nothing yet.
    Prepare(Box<Assignment>),
    /// Begin to connect.
    Connect,
    /// From when to when connections do what they are for, by the agent's clock.
    Span {
        /// CLOCK_MONOTONIC nanoseconds.
        start_ns: u64,
        /// CLOCK_MONOTONIC nanoseconds.
        end_ns: u64,
    },
    /// How far is it?
    Status,
    /// Close the connections and report: any number of `Alike`, then `Found`.
    Finish,
}

/// What an agent answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To a greeting: go on.
    Welcome {
        /// Where the agent runs.
        machine: Machine,
        /// Which boot of which machine that is; clocks are the same only within one.
        boot: Option<String>,
    },
    /// To anything: no, and why. The conversation is over.
    Refused(String),
    /// The agent's CLOCK_MONOTONIC.
    Clock {
        /// Nanoseconds.
        now_ns: u64,
    },
    /// It can be done.
    Prepared,
    /// It cannot, and why.
    Impossible(String),
    /// Done as asked.
    Done,
    /// The figures of now.
    Status {
        /// Sums over the agent's threads.
        totals: Totals,
        /// A thread gave up; `Finish` says why.
        ended: bool,
    },
    /// Some of the subscribers that checked what they received.
    Alike(Vec<Alike>),
    /// Everything else.
    Found(Box<Found>),
    /// It could not be carried through, and why.
    Failed(String),
}

/// What an agent reports at the end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    /// What its threads found, without the subscribers.
    pub tally: Tally,
    /// The last figures.
    pub totals: Totals,
    /// Local addresses that connections came from; 0 if the system chose.
    pub source_addresses: usize,
    /// CPU time of the agent for this run.
    pub cpu_seconds: f64,
}

/// One side of the conversation.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Received and not yet taken.
    held: Vec<u8>,
}

impl Wire {
    /// Takes over a connection.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let held = Vec::new();
        Ok(Self { stream, held })
    }

    /// Connects.
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::new(TcpStream::connect_timeout(&address, timeout)?)
    }

    /// Sends a message.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Waits for a message of at most `bytes_max`, for at most `timeout`; `None` if the other side has ended
    /// the connection.
    pub fn receive<T: DeserializeOwned>(
        &mut self,
        bytes_max: usize,
        timeout: Duration,
    ) -> io::Result<Option<T>> {
        let until = Instant::now() + timeout;
        let mut looked_at = 0;
        loop {
            let fresh = &self.held[looked_at..];
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=looked_at + at).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            looked_at = self.held.len();
            if looked_at > bytes_max {
                let reason = format!("a message of more than {bytes_max} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            if self.read_more(until, bytes_max)? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads what is there, but not much more than a message may have.
    fn read_more(&mut self, until: Instant, bytes_max: usize) -> io::Result<usize> {
        let left = until.saturating_duration_since(Instant::now());
        let silent = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        if left.is_zero() {
            return Err(silent());
        }
        self.stream.set_read_timeout(Some(left))?;
        let filled = self.held.len();
        self.held.resize(filled + READ_BYTES.min(bytes_max), 0);
        let read = self.stream.read(&mut self.held[filled..]);
        self.held
            .truncate(filled + read.as_ref().map_or(0, |read| *read));
        read.or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(silent()),
            // The other side is gone, and how does not matter.
            io::ErrorKind::ConnectionReset => Ok(0),
            _ => Err(error),
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Not left to the close of the descriptor: threads with file tables of their own may hold copies.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (other, Wire::new(listener.accept().unwrap().0).unwrap())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn messages_are_cut_by_lines_and_not_by_reads() {
        let (mut other, mut wire) = pair();
        other.write_all(b"1\n[2,").unwrap();
        assert_eq!(wire.receive::<u8>(10, SECOND).unwrap(), Some(1));
        other.write_all(b"3]\n").unwrap();
        drop(other);
        assert_eq!(
            wire.receive::<Vec<u8>>(10, SECOND).unwrap(),
            Some(vec![2, 3])
        );
        assert_eq!(wire.receive::<u8>(10, SECOND).unwrap(), None);
    }

    #[test]
    fn long_messages_and_silence_are_refused() {
        let (mut other, mut wire) = pair();
        other.write_all(&[b'7'; 40]).unwrap();
        let error = wire.receive::<u8>(10, SECOND).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (_other, mut wire) = pair();
        let error = wire.receive::<u8>(10, Duration::from_millis(20));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
