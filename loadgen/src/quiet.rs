//! A channel of its own with one subscriber and a message every 50 ms: what do broadcasts on another channel
//! do to it?

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Failure;
use crate::blocking::WebSocket;
use crate::clock::now_ns;
use crate::latency::Latency;
use crate::local::LocalAddresses;
use crate::payload::{PAYLOAD_BYTES_MIN, Stamp};
use crate::plan::Share;
use crate::publications::{Load, Publications};
use crate::report::Quiet;
use crate::rival::Door;
use crate::run::{Check, Run};
use crate::target::{CHANNEL, Target};

/// The channel's name.
const NAME: &str = "loadgen-quiet";
/// Messages per second.
const RATE: f64 = 20.0;
/// Once publishing has ended: so long without a message, and no more are awaited.
const SETTLE_NS: u64 = 5_000_000_000;
/// How often the subscriber looks whether it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Stands for a number of messages that is not known yet.
const UNKNOWN: u64 = u64::MAX;

/// The running publisher and subscriber.
#[derive(Debug)]
pub struct QuietChannel {
    publications: Publications,
    /// Messages that the subscriber is to wait for.
    wanted: Arc<AtomicU64>,
    subscriber: JoinHandle<Heard>,
}

/// What the subscriber received.
#[derive(Debug, Default)]
pub struct Heard {
    messages: Vec<Message>,
    /// Messages acknowledged.
    published: u64,
    failures: Vec<String>,
}

/// One message, in CLOCK_MONOTONIC nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Message {
    /// When it was meant to go out.
    intended_ns: u64,
    /// When it was received.
    received_ns: u64,
}

impl QuietChannel {
    /// Subscribes and starts to publish. The run's URL must name its channel.
    pub fn start(run: &Run, api_key: Option<&str>) -> Result<Self, Failure> {
        let run = Arc::new(quiet_run(run));
        let (host, path) = (run.target.authority(), run.target.path.as_str());
        let open = WebSocket::open(run.address, &host, path, run.connect_timeout);
        let open = open
            .and_then(|open| open.with_timeout(LOOK_INTERVAL))
            .map_err(|error| Failure::Run(format!("the quiet channel's subscriber: {error}")))?;
        let load = Load {
            size_bytes: PAYLOAD_BYTES_MIN,
            rate: Some(RATE),
            door: Door::longwire(api_key),
        };
        let publications = Publications::start(load.publishing(&run, None), [u64::MAX])?;
        let wanted = Arc::new(AtomicU64::new(UNKNOWN));
        let awaited = Arc::clone(&wanted);
        let number = run.check.map_or(0, |check| check.run);
        let subscriber = std::thread::Builder::new()
            .name("quiet-channel".to_owned())
            .spawn(move || listen(open, number, &awaited))?;
        Ok(Self {
            publications,
            wanted,
            subscriber,
        })
    }

    /// Ends it, once everything that was published has arrived or no more comes.
    pub fn finish(self) -> Result<Heard, Failure> {
        let published = self.publications.stop()?;
        self.wanted
            .store(published.acknowledged(), Ordering::Relaxed);
        let mut heard = self.subscriber.join().unwrap_or_else(|_| Heard {
            failures: vec!["the quiet channel's subscriber panicked".to_owned()],
            ..Heard::default()
        });
        heard.published = published.acknowledged();
        heard.failures.extend(published.failures());
        Ok(heard)
    }
}

impl Heard {
    /// What it was like; `busy` are the times of broadcasts, from one moment to another.
    pub fn report(self, busy: &[(u64, u64)]) -> Quiet {
        let (mut during, mut otherwise) = (Latency::default(), Latency::default());
        for message in &self.messages {
            let latency = if message.is_during(busy) {
                &mut during
            } else {
                &mut otherwise
            };
            latency.record(message.received_ns.saturating_sub(message.intended_ns));
        }
        Quiet {
            published: self.published,
            lost_messages: self.published.saturating_sub(self.messages.len() as u64),
            during: during.summary(),
            otherwise: otherwise.summary(),
            failures: self.failures,
        }
    }
}

impl Message {
    /// True if it was under way while a broadcast was.
    fn is_during(&self, busy: &[(u64, u64)]) -> bool {
        busy.iter()
            .any(|(from_ns, to_ns)| self.intended_ns <= *to_ns && self.received_ns >= *from_ns)
    }
}

/// The same server and another channel.
fn quiet_run(run: &Run) -> Run {
    let target = Target {
        path: run.target.path.replace(CHANNEL, NAME),
        ..run.target.clone()
    };
    let local = LocalAddresses::new(Vec::new(), (1, u16::MAX), Share::default(), 0);
    let mut quiet = Run::new(target, run.address, local, Vec::new());
    quiet.check = Some(Check {
        run: fastrand::u32(..),
        channels: 1,
        publishers: 1,
    });
    quiet.connect_timeout = run.connect_timeout;
    quiet
}

/// Receives until there are as many messages as `wanted`, or no more come.
fn listen(mut open: WebSocket, run: u32, wanted: &AtomicU64) -> Heard {
    let mut heard = Heard::default();
    let mut latest_ns = now_ns();
    loop {
        let received = open.receive(|payload| {
            latest_ns = now_ns();
            let stamp = Stamp::decode(payload).filter(|stamp| stamp.run == run);
            heard.messages.extend(stamp.map(|stamp| Message {
                intended_ns: stamp.intended_ns,
                received_ns: latest_ns,
            }));
        });
        match received {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                let failure = format!("the quiet channel's subscriber: {error}");
                heard.failures.push(failure);
                return heard;
            }
            _ => {}
        }
        let wanted = wanted.load(Ordering::Relaxed);
        let is_late = wanted != UNKNOWN && now_ns() - latest_ns > SETTLE_NS;
        if heard.messages.len() as u64 >= wanted || is_late {
            return heard;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_during_a_broadcast_it_overlaps() {
        let busy = [(100, 200), (400, 500)];
        let is_during = |intended_ns, received_ns| {
            let message = Message {
                intended_ns,
                received_ns,
            };
            message.is_during(&busy)
        };
        assert!(is_during(90, 110) && is_during(150, 160) && is_during(199, 350));
        assert!(is_during(50, 300) && is_during(350, 600));
        assert!(!is_during(50, 99) && !is_during(201, 399) && !is_during(501, 600));
    }
}
