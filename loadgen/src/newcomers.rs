//! Connections that are made while a broadcast is under way: does the server still let people in?

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::blocking::WebSocket;
use crate::clock::now_ns;
use crate::latency::Latency;
use crate::run::Run;

/// Most of them in one broadcast.
const NEWCOMERS_MAX: u32 = 30;
/// One starts so long after the other, whether that one is in or not.
const PACE: Duration = Duration::from_millis(100);

/// Those of one broadcast.
#[derive(Debug)]
pub struct Newcomers {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Arrived>,
}

/// How they fared.
#[derive(Debug, Default)]
pub struct Arrived {
    /// TCP and WebSocket handshake.
    pub latency: Latency,
    /// Why others did not get in.
    pub failures: Vec<String>,
}

impl Newcomers {
    /// Lets the first one connect, and others after it until [`Self::finish`].
    pub fn start(run: &Arc<Run>) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (run, over) = (Arc::clone(run), Arc::clone(&is_over));
        let thread = std::thread::Builder::new()
            .name("newcomers".to_owned())
            .spawn(move || connect_all(&run, &over))?;
        Ok(Self { is_over, thread })
    }

    /// Starts no more and waits for those under way.
    pub fn finish(self) -> Arrived {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Arrived {
            failures: vec!["a newcomer's thread panicked".to_owned()],
            ..Arrived::default()
        })
    }
}

impl Arrived {
    /// Adds those of another broadcast.
    pub fn merge(&mut self, other: Self) {
        self.latency.merge(&other.latency);
        self.failures.extend(other.failures);
    }
}

fn connect_all(run: &Run, is_over: &AtomicBool) -> Arrived {
    let mut arrived = Arrived::default();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        while threads.len() < NEWCOMERS_MAX as usize {
            threads.push(scope.spawn(|| connect(run)));
            std::thread::sleep(PACE);
            if is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        for thread in threads {
            match thread.join() {
                Ok(Ok((took_ns, _open))) => arrived.latency.record(took_ns),
                Ok(Err(error)) => arrived.failures.push(format!("a newcomer: {error}")),
                Err(_) => arrived.failures.push("a newcomer panicked".to_owned()),
            }
        }
    });
    arrived
}

/// Connects; gives how long that took, in nanoseconds, and the connection.
fn connect(run: &Run) -> io::Result<(u64, WebSocket)> {
    let started_ns = now_ns();
    let (host, path) = (run.target.authority(), run.target.subscribe_path(0));
    let open = WebSocket::open(run.address, &host, &path, run.connect_timeout)?;
    Ok((now_ns() - started_ns, open))
}
