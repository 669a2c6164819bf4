//! What the threads share: the log, the bells, the counters.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;

/// Something every thread does, in the order of the log.
pub enum Entry {
    /// Send this frame to every subscriber.
    Frame(Vec<u8>),
    /// Do this, and say so when it is done.
    Task(Task),
}

/// Work that somebody waits for.
pub struct Task {
    pub what: What,
    done: Mutex<Done>,
    all_done: Condvar,
}

/// What to do.
#[derive(Clone, Copy)]
pub enum What {
    /// Ping and take pongs.
    Heartbeat(Heartbeat),
    /// Close every subscriber's socket.
    Reset,
}

/// From `start` on for `seconds` seconds, each second ping one of `interval_s` parts of the subscribers,
/// and take the pongs of those pinged a second ago.
#[derive(Clone, Copy)]
pub struct Heartbeat {
    pub start: Instant,
    pub seconds: u32,
    pub interval_s: u32,
}

/// What pinging came to; of all threads together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Beats {
    /// Pings sent.
    pub pings: u64,
    /// Pings whose pong was there a second later.
    pub pairs: u64,
    /// CPU time of the threads while they did this, and nothing else.
    pub cpu_ns: u64,
}

#[derive(Default)]
struct Done {
    threads: usize,
    beats: Beats,
}

impl Task {
    pub fn new(what: What) -> Self {
        Self {
            what,
            done: Mutex::default(),
            all_done: Condvar::new(),
        }
    }

    /// A thread has done its part.
    pub fn finish(&self, beats: Beats) {
        let mut done = lock(&self.done);
        done.threads += 1;
        done.beats.pings += beats.pings;
        done.beats.pairs += beats.pairs;
        done.beats.cpu_ns += beats.cpu_ns;
        self.all_done.notify_all();
    }

    /// Waits until all `threads` have.
    pub fn wait(&self, threads: usize) -> Beats {
        let done = lock(&self.done);
        let done = self
            .all_done
            .wait_while(done, |done| done.threads < threads);
        done.unwrap_or_else(PoisonError::into_inner).beats
    }
}

/// Counters, over all threads.
#[derive(Default, Serialize)]
pub struct Counters {
    /// Open WebSockets.
    pub connections: AtomicU64,
    /// Sends that had to wait for room in a socket.
    pub waits: AtomicU64,
    /// WebSockets whose send failed.
    pub lost: AtomicU64,
}

/// What the threads share.
pub struct Shared {
    log: Mutex<Vec<Arc<Entry>>>,
    /// One per thread.
    bells: Vec<OwnedFd>,
    pub counters: Counters,
}

impl Shared {
    pub fn new(threads: usize) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bells = (0..threads).map(|_| eventfd(0, flags));
        Ok(Self {
            log: Mutex::default(),
            bells: bells.collect::<Result<_, _>>()?,
            counters: Counters::default(),
        })
    }

    pub fn threads(&self) -> usize {
        self.bells.len()
    }

    /// Readable when there may be news for the thread.
    pub fn bell(&self, thread: usize) -> &OwnedFd {
        &self.bells[thread]
    }

    /// Appends, wakes every other thread than `from`, and returns the entry's place, from 1.
    pub fn append(&self, entry: Arc<Entry>, from: usize) -> io::Result<usize> {
        let place = {
            let mut log = lock(&self.log);
            log.push(entry);
            log.len()
        };
        let others = self.bells.iter().enumerate();
        for (_, bell) in others.filter(|(thread, _)| *thread != from) {
            rustix::io::write(bell, &1u64.to_ne_bytes())?;
        }
        Ok(place)
    }

    /// The entry behind `place`.
    pub fn entry_after(&self, place: usize) -> Option<Arc<Entry>> {
        lock(&self.log).get(place).cloned()
    }
}

impl Counters {
    pub fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub fn take(counter: &AtomicU64, less: u64) {
        counter.fetch_sub(less, Ordering::Relaxed);
    }
}

/// A poisoned lock is of a thread that panicked, and its process ends.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
