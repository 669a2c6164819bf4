//! What all threads of a run share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::counters::{Counters, Totals};
use crate::local::LocalAddresses;
use crate::pace::Schedule;
use crate::plan::Share;
use crate::target::Target;

/// A run: read-only but for the counters and the stop flag.
#[derive(Debug)]
pub struct Run {
    /// Where to connect, as asked for.
    pub target: Target,
    /// Where to connect, resolved.
    pub address: SocketAddr,
    /// Where to connect from.
    pub local: LocalAddresses,
    /// What each thread does.
    pub shares: Vec<Share>,
    /// Per thread.
    pub counters: Vec<Counters>,
    /// Longest time for one connection's handshakes.
    pub connect_timeout: Duration,
    /// When each connection may start, if that is limited; its lanes are the threads.
    pub connect_schedule: Option<Schedule>,
    /// Keep each thread on one core.
    pub pin: bool,
    /// What subscribers are to check; `None` if messages are only counted.
    pub check: Option<Check>,
    /// The server's processes, if it is to be watched by them and not by its /metrics.
    pub server_processes: Vec<u32>,
    stop: AtomicBool,
}

/// What subscribers expect.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// This run's number, in each payload.
    pub run: u32,
    /// Channels; the n-th connection subscribes to channel n modulo this.
    pub channels: u32,
    /// Publishers on each channel.
    pub publishers: usize,
}

impl Run {
    /// Puts a run together; nothing starts yet.
    pub fn new(
        target: Target,
        address: SocketAddr,
        local: LocalAddresses,
        shares: Vec<Share>,
    ) -> Self {
        let counters = shares.iter().map(|_| Counters::default()).collect();
        Self {
            target,
            address,
            local,
            shares,
            counters,
            connect_timeout: Duration::from_secs(10),
            connect_schedule: None,
            pin: false,
            check: None,
            server_processes: Vec::new(),
            stop: AtomicBool::new(false),
        }
    }

    /// Connections in all.
    pub fn connections(&self) -> u64 {
        self.shares
            .iter()
            .map(|share| share.connections as u64)
            .sum()
    }

    /// The channel of the connection numbered `index`.
    pub fn channel_of(&self, index: usize) -> u32 {
        let channels = self.check.map_or(1, |check| check.channels);
        // A remainder of a u32 fits one.
        (index % channels as usize) as u32
    }

    /// The figures of all threads, added up.
    pub fn totals(&self) -> Totals {
        Totals::of(&self.counters)
    }

    /// Tells every thread to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// True once threads are to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
