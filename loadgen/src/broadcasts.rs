//! Messages to all connections of `idle`, one after the other, and what else the server does meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crate::Failure;
use crate::args::IdleArgs;
use crate::clock::{now_ns, seconds_between};
use crate::crew::Crew;
use crate::heartbeat::cpu_between;
use crate::interrupt::Interrupt;
use crate::newcomers::{Arrived, Newcomers};
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::progress::Progress;
use crate::publisher::{self, PublisherTally, Publishing};
use crate::report::{Broadcast, BroadcastsReport, Quiet};
use crate::rival::Door;
use crate::run::Run;
use crate::server_probe::ServerWatch;
use crate::worker::BroadcastTally;

/// Says why broadcasts as asked for are impossible.
pub fn check(args: &IdleArgs) -> Result<(), String> {
    let size = args.broadcast.size;
    if size < PAYLOAD_BYTES_MIN {
        return Err(format!(
            "--size {size}: a payload holds who sent what and when, which takes {PAYLOAD_BYTES_MIN} bytes"
        ));
    }
    let url = args.common.channel_url();
    if args.broadcast.quiet_channel && !url.names_channel() {
        return Err(format!(
            "--quiet-channel needs a URL with {{channel}} in it, not {url}"
        ));
    }
    Ok(())
}

/// All broadcasts of a run, as their publisher saw them.
#[derive(Debug, Default)]
pub struct Broadcasts {
    /// One after the other.
    sent: Vec<Sent>,
    arrived: Arrived,
    failures: Vec<String>,
    /// CPU time of the server from each publication to its last delivery; `None` if it did not say.
    cpu_seconds: Option<f64>,
}

/// A broadcast that was published.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When it went out, in CLOCK_MONOTONIC nanoseconds.
    published_ns: u64,
    /// Connections open then.
    subscribers: u64,
}

/// What publishes to all connections.
pub struct Broadcaster<'a> {
    /// The run.
    pub run: &'a Arc<Run>,
    /// Its connections.
    pub crew: &'a Crew,
    /// Its server.
    pub server: &'a ServerWatch,
    /// Ends it early.
    pub interrupt: &'a Interrupt,
}

impl Broadcaster<'_> {
    /// Publishes them all; a pause follows each of them, in which whatever comes twice shows.
    pub fn run(&self, args: &IdleArgs) -> Result<Broadcasts, Failure> {
        let mut all = Broadcasts::default();
        let publishing = self.publishing(args);
        let wanted = u64::from(args.broadcasts);
        let mut progress = Progress::begin("broadcasting", wanted, args.common.quiet);
        for number in 0..args.broadcasts {
            progress.show(number.into(), || {
                format!("{} delivered", self.run.totals().messages)
            });
            let is_pointless = self.run.totals().open() == 0 || !all.failures.is_empty();
            if self.interrupt.is_set() || is_pointless {
                break;
            }
            let patience_ns = u64::from(args.broadcast.settle_ms) * 1_000_000;
            self.broadcast(&publishing, number, patience_ns, &mut all)?;
            self.pause(args.broadcast.broadcast_interval);
        }
        Ok(all)
    }

    fn publishing(&self, args: &IdleArgs) -> Publishing {
        Publishing {
            run: Arc::clone(self.run),
            start_ns: now_ns(),
            run_number: self.run.broadcasts.unwrap_or_default(),
            channels: 1,
            size_bytes: args.broadcast.size,
            door: Door::longwire(args.broadcast.api_key.as_deref()),
            schedule: None,
            deadline_ns: None,
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// Publishes one, as the only message of a publisher of this number, and waits until it has arrived.
    fn broadcast(
        &self,
        publishing: &Publishing,
        number: u16,
        patience_ns: u64,
        all: &mut Broadcasts,
    ) -> Result<(), Failure> {
        let before = self.server.read_again();
        let totals = self.run.totals();
        let (subscribers, delivered) = (totals.open(), totals.messages);
        all.sent.push(Sent {
            published_ns: now_ns(),
            subscribers,
        });
        let newcomers = Newcomers::start(self.run)?;
        all.note(publisher::publish(publishing, number, 1));
        let mut latest = (delivered, now_ns());
        self.crew.watch(|totals| {
            if totals.messages != latest.0 {
                latest = (totals.messages, now_ns());
            }
            let is_complete = totals.messages >= delivered + subscribers;
            is_complete || now_ns() - latest.1 >= patience_ns
        });
        let after = self.server.read_again();
        all.arrived.merge(newcomers.finish());
        let cpu_seconds = before
            .zip(after)
            .and_then(|(before, after)| cpu_between(&before, &after));
        if let Some(cpu_seconds) = cpu_seconds {
            *all.cpu_seconds.get_or_insert_default() += cpu_seconds;
        }
        Ok(())
    }

    fn pause(&self, pause: Duration) {
        let until_ns = now_ns() + pause.as_nanos() as u64;
        self.crew.watch(|_| now_ns() >= until_ns);
    }
}

impl Broadcasts {
    fn note(&mut self, publisher: PublisherTally) {
        self.failures.extend(publisher.failure);
        if !publisher.unknown.is_empty() {
            self.failures
                .push("a broadcast was not answered".to_owned());
        }
    }

    /// When each was under way, from its publication to its last delivery.
    pub fn busy(&self, tally: &BroadcastTally) -> Vec<(u64, u64)> {
        let sent = self.sent.iter().enumerate();
        sent.map(|(number, sent)| {
            let last_ns = tally.arrivals(number).last_ns;
            (sent.published_ns, last_ns.max(sent.published_ns))
        })
        .collect()
    }

    /// What they were like, for a report.
    pub fn report(
        self,
        args: &IdleArgs,
        tally: &BroadcastTally,
        quiet: Option<Quiet>,
    ) -> BroadcastsReport {
        let each = self.sent.iter().enumerate().map(|(number, sent)| {
            let arrivals = tally.arrivals(number);
            Broadcast {
                subscribers: sent.subscribers,
                deliveries: arrivals.count,
                last_delivery_seconds: (arrivals.count > 0)
                    .then(|| seconds_between(sent.published_ns, arrivals.last_ns)),
            }
        });
        let each: Vec<_> = each.collect();
        let deliveries: u64 = each.iter().map(|broadcast| broadcast.deliveries).sum();
        BroadcastsReport {
            size_bytes: args.broadcast.size,
            // At most --broadcasts, which is below 2^16.
            lost_messages: tally.lost(self.sent.len() as u32),
            duplicated_messages: tally.duplicated,
            foreign_messages: tally.foreign,
            delivery_latency: tally.latency.summary(),
            server_cpu_per_delivery_us: self
                .cpu_seconds
                .filter(|_| deliveries > 0)
                .map(|cpu_seconds| cpu_seconds * 1e6 / deliveries as f64),
            each,
            newcomers: self.arrived.latency.count(),
            newcomer_latency: self.arrived.latency.summary(),
            quiet,
            failures: [self.failures, self.arrived.failures].concat(),
        }
    }
}
