//! What all threads of a run share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use longwire::net;
use serde::{Deserialize, Serialize};

use crate::agents::{Agents, ClockOffset};
use crate::backoff::Backoff;
use crate::centrifuge::Centrifuge;
use crate::counters::{Counters, Totals};
use crate::listen::Transport;
use crate::local::LocalAddresses;
use crate::pace::Schedule;
use crate::plan::Share;
use crate::rival::Rival;
use crate::target::Target;
use crate::worker::Reference;

/// A run: read-only but for the counters and the stop flag.
#[derive(Debug)]
pub struct Run {
    /// Where to connect, as asked for.
    pub target: Target,
    /// Where to connect, resolved.
    pub address: SocketAddr,
    /// Where to connect from.
    pub local: LocalAddresses,
    /// What each thread does, or each agent.
    pub shares: Vec<Share>,
    /// Per thread, or per agent.
    pub counters: Vec<Counters>,
    /// Longest time for one connection's handshakes.
    pub connect_timeout: Duration,
    /// When each connection may start, if that is limited; its lanes are the threads.
    pub connect_schedule: Option<Schedule>,
    /// Keep each thread on one core.
    pub pin: bool,
    /// Never let a thread sleep.
    pub spin: bool,
    /// How connections listen.
    pub transport: Transport,
    /// What subscribers are to check; `None` if messages are only counted.
    pub check: Option<Check>,
    /// The number of this run, if its connections are to check broadcasts.
    pub broadcasts: Option<u32>,
    /// What connections send to be echoed; `None` if they only listen.
    pub echo: Option<Echo>,
    /// Which connections go on purpose, to come back; `None`: none.
    pub departures: Option<Departures>,
    /// How those come back.
    pub backoff: Backoff,
    /// What another server's clients say; `None` for Longwire.
    pub rival: Option<Rival>,
    /// What clients of the Centrifuge protocol are like; `None` for other protocols.
    pub centrifuge: Option<Centrifuge>,
    /// The server's processes, if it is to be watched by them and not by its /metrics.
    pub server_processes: Vec<u32>,
    /// Who makes the connections, if others do.
    pub agents: Option<Agents>,
    /// The publishers' clock, compared with the one of this host.
    pub publishers_clock: ClockOffset,
    /// From when to when connections do what they are for, in CLOCK_MONOTONIC nanoseconds.
    start_ns: AtomicU64,
    end_ns: AtomicU64,
    /// From when on connections that went come back.
    returns_from_ns: AtomicU64,
    stop: AtomicBool,
}

/// What connections send to an echo.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// Payload size.
    pub size_bytes: usize,
    /// Messages of a connection that may be under way at a time.
    pub in_flight: usize,
    /// Messages per second over all connections, which take turns; `None`: as fast as echoes come.
    pub rate: Option<f64>,
    /// Connections of the run.
    pub connections: u64,
}

/// Connections that go on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Departures {
    /// All at once, by reset.
    AtOnce {
        /// Of all connections, from 0 to 1.
        share: f64,
    },
    /// One after the other, by reset and by Close in turn; none that [`Departures::stays`].
    Steady {
        /// Per second, over all threads.
        rate: f64,
    },
}

impl Departures {
    /// True for the connections that no steady departure touches: every tenth.
    pub fn stays(index: usize) -> bool {
        index.is_multiple_of(10)
    }

    /// True for an evenly spread `share` of all connections, by number.
    pub fn is_chosen(index: usize, share: f64) -> bool {
        Self::chosen(index + 1, share) > Self::chosen(index, share)
    }

    /// How many of the first `count` connections are chosen.
    pub fn chosen(count: usize, share: f64) -> u64 {
        (count as f64 * share) as u64
    }
}

/// What subscribers expect.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
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
            spin: false,
            transport: Transport::default(),
            check: None,
            broadcasts: None,
            echo: None,
            departures: None,
            backoff: Backoff::NONE,
            rival: None,
            centrifuge: None,
            server_processes: Vec::new(),
            agents: None,
            publishers_clock: ClockOffset::default(),
            start_ns: AtomicU64::new(u64::MAX),
            end_ns: AtomicU64::new(u64::MAX),
            returns_from_ns: AtomicU64::new(0),
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

    /// What to hold a message against; `None` if messages are only counted.
    pub fn reference(&self) -> Option<Reference> {
        Some(Reference {
            run: self.check?.run,
            start_ns: self.start_ns(),
            publishers_clock: self.publishers_clock,
        })
    }

    /// Threads that make connections at a time. One after the other they are quicker than all at once: each
    /// has more to do whenever it wakes, and so has the server, if it fills its shards in turn too.
    fn connecting_threads(&self) -> usize {
        match self.connect_schedule {
            Some(_) => self.shares.len(),
            None => self.shares.len().min(net::core_count()).max(1),
        }
    }

    /// Connections a thread makes at a time, once it is its turn.
    pub fn connect_in_flight(&self, thread: usize) -> usize {
        let in_all: usize = self
            .shares
            .iter()
            .map(|share| share.connect_in_flight)
            .sum();
        let of_thread = in_all.div_ceil(self.connecting_threads());
        of_thread.min(self.shares[thread].connections)
    }

    /// True once a thread may make its connections: the one it follows has made its own.
    pub fn may_connect(&self, thread: usize) -> bool {
        thread
            .checked_sub(self.connecting_threads())
            .is_none_or(|before| {
                let counters = &self.counters[before];
                let tried = counters.connected.get() + counters.failed.get();
                tried >= self.shares[before].connections as u64
            })
    }

    /// The channel of the connection numbered `index`.
    pub fn channel_of(&self, index: usize) -> u32 {
        // A remainder of a u32 fits one.
        (index % self.channels() as usize) as u32
    }

    /// Channels that connections are spread over.
    pub fn channels(&self) -> u32 {
        let without_check = || {
            self.centrifuge
                .as_ref()
                .map_or(1, |clients| clients.channels)
        };
        self.check
            .map_or_else(without_check, |check| check.channels)
    }

    /// Subscriptions of each connection.
    pub fn subscriptions(&self) -> usize {
        let clients = self.centrifuge.as_ref();
        clients.map_or(1, |clients| clients.subscriptions as usize)
    }

    /// Path for publishing to a channel.
    pub fn publish_path(&self, channel: u32) -> String {
        match &self.centrifuge {
            Some(clients) => format!("/channels/{}", clients.channel_name(channel)),
            None => self.target.publish_path(channel),
        }
    }

    /// Connections that go stay away until [`Self::release_returns`].
    pub fn hold_returns(&self) {
        self.returns_from_ns.store(u64::MAX, Ordering::Relaxed);
    }

    /// Lets those come back that were held away.
    pub fn release_returns(&self, now_ns: u64) {
        self.returns_from_ns.store(now_ns, Ordering::Relaxed);
    }

    /// From when on connections that went come back: 0 if they were never held away, the far future while
    /// they are.
    pub fn returns_from_ns(&self) -> u64 {
        self.returns_from_ns.load(Ordering::Relaxed)
    }

    /// The figures of all threads, added up.
    pub fn totals(&self) -> Totals {
        Totals::of(&self.counters)
    }

    /// Lets connections begin what they are for, until `end_ns`.
    pub fn begin(&self, start_ns: u64, end_ns: u64) {
        self.end_ns.store(end_ns, Ordering::Relaxed);
        // Whoever sees the start has to see the end too.
        self.start_ns.store(start_ns, Ordering::Release);
    }

    /// Ends what connections are for; they stay open.
    pub fn end_at(&self, end_ns: u64) {
        self.end_ns.store(end_ns, Ordering::Relaxed);
    }

    /// Start and end.
    pub fn span(&self) -> (u64, u64) {
        (self.start_ns(), self.end_ns.load(Ordering::Relaxed))
    }

    /// True between start and end.
    pub fn is_under_way(&self, now_ns: u64) -> bool {
        self.start_ns() <= now_ns && now_ns < self.end_ns.load(Ordering::Relaxed)
    }

    /// When each message to be echoed is due, if that is set; its lanes are the connections.
    pub fn echo_schedule(&self) -> Option<Schedule> {
        let echo = self.echo?;
        Some(Schedule {
            start_ns: self.start_ns(),
            rate: echo.rate?,
            lanes: echo.connections,
        })
    }

    /// When it began, or will; in the far future before anybody knows.
    pub fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Acquire)
    }

    /// When connections go that do so one after the other; its lanes are the threads.
    pub fn departure_schedule(&self, rate: f64) -> Schedule {
        Schedule {
            start_ns: self.start_ns(),
            rate,
            lanes: self.shares.len() as u64,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_evenly() {
        let chosen = |share| (0..10).filter(move |index| Departures::is_chosen(*index, share));
        assert_eq!(chosen(1.0).count(), 10);
        assert_eq!(chosen(0.0).count(), 0);
        assert_eq!(chosen(0.5).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
        assert_eq!(chosen(0.25).count() as u64, Departures::chosen(10, 0.25));
    }
}
