//! Figures that cross threads while a run goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longwire::proto::message::Violation;
use rustix::io::Errno;

/// A count that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more`. Only the owning thread may call this: it is a load and a store, not an atomic addition.
    pub fn add(&self, more: u64) {
        self.set(self.get() + more);
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One thread's figures, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Connections made.
    pub connected: Count,
    /// Connections that could not be made.
    pub failed: Count,
    /// Connections that ended before they should.
    pub lost: Count,
    /// Connections cut or closed on purpose, to be made again.
    pub replaced: Count,
    /// Connections that were made again.
    pub returned: Count,
    /// Attempts to make one again that failed.
    pub refused: Count,
    /// Connections that the server did not end after a Close frame.
    pub unclosed: Count,
    /// Pings answered.
    pub pings: Count,
    /// Messages sent to be echoed.
    pub sent: Count,
    /// Data messages received.
    pub messages: Count,
    /// When the last data message came, in CLOCK_MONOTONIC nanoseconds.
    pub last_message_ns: Count,
}

impl Counters {
    /// Replaces all figures by those of another host.
    pub fn replace(&self, totals: &Totals) {
        self.connected.set(totals.connected);
        self.failed.set(totals.failed);
        self.lost.set(totals.lost);
        self.replaced.set(totals.replaced);
        self.returned.set(totals.returned);
        self.refused.set(totals.refused);
        self.unclosed.set(totals.unclosed);
        self.pings.set(totals.pings);
        self.sent.set(totals.sent);
        self.messages.set(totals.messages);
        self.last_message_ns.set(totals.last_message_ns);
    }
}

/// The sums over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Connections made.
    pub connected: u64,
    /// Connections that could not be made.
    pub failed: u64,
    /// Connections that ended before they should.
    pub lost: u64,
    /// Connections cut or closed on purpose, to be made again.
    pub replaced: u64,
    /// Connections that were made again.
    pub returned: u64,
    /// Attempts to make one again that failed.
    pub refused: u64,
    /// Connections that the server did not end after a Close frame.
    pub unclosed: u64,
    /// Pings answered.
    pub pings: u64,
    /// Messages sent to be echoed.
    pub sent: u64,
    /// Data messages received.
    pub messages: u64,
    /// When the last data message came, in CLOCK_MONOTONIC nanoseconds; 0 if none has.
    pub last_message_ns: u64,
}

impl Totals {
    /// Connections open now.
    pub fn open(&self) -> u64 {
        // They are read one after the other, while threads go on counting.
        self.connected.saturating_sub(self.lost + self.replaced)
    }

    /// Adds up.
    pub fn of(counters: &[Counters]) -> Self {
        counters.iter().fold(Self::default(), |sum, one| Self {
            connected: sum.connected + one.connected.get(),
            failed: sum.failed + one.failed.get(),
            lost: sum.lost + one.lost.get(),
            replaced: sum.replaced + one.replaced.get(),
            returned: sum.returned + one.returned.get(),
            refused: sum.refused + one.refused.get(),
            unclosed: sum.unclosed + one.unclosed.get(),
            pings: sum.pings + one.pings.get(),
            sent: sum.sent + one.sent.get(),
            messages: sum.messages + one.messages.get(),
            last_message_ns: sum.last_message_ns.max(one.last_message_ns.get()),
        })
    }
}

/// How often each cause came up.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Causes(BTreeMap<String, u64>);

impl Causes {
    /// Counts one.
    pub fn count(&mut self, cause: &Cause) {
        *self.0.entry(cause.to_string()).or_default() += 1;
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        for (cause, count) in other.0 {
            *self.0.entry(cause).or_default() += count;
        }
    }

    /// Over all causes.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl std::fmt::Display for Causes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each: Vec<_> = self
            .0
            .iter()
            .map(|(cause, count)| format!("{cause} {count}"))
            .collect();
        write!(f, "{}", each.join(", "))
    }
}

/// Why a connection was not made, or ended. Displayed as the stable name used in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A system call failed.
    Errno(Errno),
    /// No answer within the connect timeout.
    TimedOut,
    /// All local ports of all source addresses are taken.
    NoLocalPort,
    /// The server answered the handshake with this status, and perhaps Retry-After in seconds.
    Http(u16, Option<u32>),
    /// The server's answer to the handshake is wrong.
    BadHandshake,
    /// The server sent a Close frame with this code (1005: without one).
    Close(u16),
    /// The server broke RFC 6455.
    Violation(Violation),
    /// The server ended the TCP connection without a Close frame.
    EndOfFile,
    /// What came back is not what was sent.
    WrongEcho,
    /// The server does not read what it asked for.
    NotReading,
    /// A command of the Centrifuge protocol was refused with this code.
    Refused(u32),
    /// What the server says is not the Centrifuge protocol in JSON.
    NotCentrifuge,
}

impl Cause {
    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http(_, Some(seconds)) => Some(Duration::from_secs(u64::from(*seconds))),
            _ => None,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Errno(Errno::CONNREFUSED) => f.write_str("refused"),
            Self::Errno(Errno::CONNRESET | Errno::PIPE) => f.write_str("reset"),
            Self::Errno(Errno::TIMEDOUT) | Self::TimedOut => f.write_str("timed_out"),
            Self::Errno(Errno::MFILE | Errno::NFILE) => f.write_str("no_descriptors"),
            Self::Errno(Errno::HOSTUNREACH | Errno::NETUNREACH) => f.write_str("unreachable"),
            Self::Errno(Errno::ADDRNOTAVAIL) => f.write_str("source_not_local"),
            Self::Errno(other) => write!(f, "errno_{}", other.raw_os_error()),
            Self::NoLocalPort => f.write_str("no_local_port"),
            Self::Http(status, _) => write!(f, "http_{status}"),
            Self::BadHandshake => f.write_str("bad_handshake"),
            Self::Close(code) => write!(f, "close_{code}"),
            Self::Violation(violation) => write!(f, "violation: {}", violation.reason),
            Self::EndOfFile => f.write_str("end_of_file"),
            Self::WrongEcho => f.write_str("wrong_echo"),
            Self::NotReading => f.write_str("not_reading"),
            Self::Refused(code) => write!(f, "error_{code}"),
            Self::NotCentrifuge => f.write_str("not_centrifuge"),
        }
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<std::io::Error> for Cause {
    fn from(error: std::io::Error) -> Self {
        Self::Errno(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl From<Violation> for Cause {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_stable_names() {
        let mut causes = Causes::default();
        for cause in [
            Cause::Close(4004),
            Cause::Close(4004),
            Cause::TimedOut,
            Errno::PIPE.into(),
        ] {
            causes.count(&cause);
        }
        let mut more = Causes::default();
        more.count(&Cause::Http(503, Some(1)));
        causes.merge(more);
        assert_eq!(
            causes.to_string(),
            "close_4004 2, http_503 1, reset 1, timed_out 1"
        );
        assert_eq!(causes.total(), 5);
    }

    #[test]
    fn totals_add_up() {
        let counters = [Counters::default(), Counters::default()];
        counters[0].connected.add(2);
        counters[1].connected.add(3);
        counters[1].last_message_ns.set(9);
        let totals = Totals::of(&counters);
        assert_eq!((totals.connected, totals.last_message_ns), (5, 9));
        let all = Totals {
            connected: 1,
            failed: 2,
            lost: 3,
            replaced: 4,
            returned: 5,
            refused: 6,
            unclosed: 7,
            pings: 8,
            sent: 9,
            messages: 10,
            last_message_ns: 11,
        };
        counters[0].replace(&all);
        assert_eq!(Totals::of(&counters[..1]), all);
    }
}
