//! All publishers of a run together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::Failure;
use crate::clock::now_ns;
use crate::latency::Latency;
use crate::order::{Issued, Received, Verdict, judge};
use crate::pace::Schedule;
use crate::publisher::{self, PublisherTally, Publishing};
use crate::rival::Door;
use crate::run::Run;
use crate::worker::Tally;

/// A schedule starts a little in the future, so that the first message of each publisher is on time.
const START_DELAY_NS: u64 = 50_000_000;

/// What is published.
#[derive(Clone, Debug)]
pub struct Load {
    /// Payload size.
    pub size_bytes: usize,
    /// Messages per second over all publishers; `None`: as fast as answers come.
    pub rate: Option<f64>,
    /// How to publish.
    pub door: Door,
}

/// The running publishers.
#[derive(Debug)]
pub struct Publications {
    /// What they share.
    pub publishing: Arc<Publishing>,
    threads: Vec<JoinHandle<PublisherTally>>,
}

/// What they did.
#[derive(Debug)]
pub struct Published {
    /// What they shared.
    pub publishing: Arc<Publishing>,
    /// Each one's figures.
    pub tallies: Vec<PublisherTally>,
}

impl Load {
    /// Ready to start, until `deadline_ns` from then if given. The run says which channels, and how
    /// many publishers there are.
    pub fn publishing(&self, run: &Arc<Run>, duration_ns: Option<u64>) -> Publishing {
        let delay_ns = if self.rate.is_some() {
            START_DELAY_NS
        } else {
            0
        };
        let start_ns = now_ns() + delay_ns;
        let check = run.check.unwrap_or_default();
        Publishing {
            start_ns,
            run: Arc::clone(run),
            run_number: check.run,
            channels: check.channels,
            size_bytes: self.size_bytes,
            door: self.door.clone(),
            schedule: self.rate.map(|rate| Schedule {
                start_ns,
                rate,
                lanes: check.publishers as u64,
            }),
            deadline_ns: duration_ns.map(|duration_ns| start_ns + duration_ns),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }
}

impl Publications {
    /// Starts a publisher per budget, which says how many messages it publishes.
    pub fn start(
        publishing: Publishing,
        budgets: impl IntoIterator<Item = u64>,
    ) -> Result<Self, Failure> {
        Self::start_from(0, publishing, budgets)
    }

    /// The same with publishers numbered from `first` on.
    pub fn start_from(
        first: u16,
        publishing: Publishing,
        budgets: impl IntoIterator<Item = u64>,
    ) -> Result<Self, Failure> {
        let publishing = Arc::new(publishing);
        let threads = (first..).zip(budgets).map(|(number, budget)| {
            let publishing = Arc::clone(&publishing);
            std::thread::Builder::new()
                .name(format!("publisher-{number}"))
                .spawn(move || publisher::publish(&publishing, number, budget))
        });
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Self {
            publishing,
            threads,
        })
    }

    /// True once all have published what they were to.
    pub fn are_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Stops them and collects what they did.
    pub fn stop(self) -> Result<Published, Failure> {
        self.publishing.stop.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(|thread| {
            let panicked = |_| Failure::Run("a publisher panicked".to_owned());
            thread.join().map_err(panicked)
        });
        Ok(Published {
            tallies: ended.collect::<Result<_, _>>()?,
            publishing: self.publishing,
        })
    }
}

impl Published {
    /// Adds what other publishers of the run did.
    pub fn merge(&mut self, other: Self) {
        let more = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (all, other_publishing) = (&self.publishing, &other.publishing);
        all.acknowledged
            .fetch_add(more(&other_publishing.acknowledged), Ordering::Relaxed);
        all.refused
            .fetch_add(more(&other_publishing.refused), Ordering::Relaxed);
        self.tallies.extend(other.tallies);
    }

    /// Publications acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.publishing.acknowledged.load(Ordering::Relaxed)
    }

    /// Answers 503.
    pub fn refused(&self) -> u64 {
        self.publishing.refused.load(Ordering::Relaxed)
    }

    /// Publications without an answer.
    pub fn unknown(&self) -> u64 {
        let unknown = self.tallies.iter().map(|tally| tally.unknown.len() as u64);
        unknown.sum()
    }

    /// Acknowledgements whose offset did not go up.
    pub fn offset_regressions(&self) -> u64 {
        self.tallies
            .iter()
            .map(|tally| tally.offset_regressions)
            .sum()
    }

    /// When the last answer came.
    pub fn last_answer_ns(&self) -> u64 {
        let answers = self.tallies.iter().map(|tally| tally.last_answer_ns);
        answers.max().unwrap_or(self.publishing.start_ns)
    }

    /// From when a message was meant to go out until it was acknowledged.
    pub fn latency(&self) -> Latency {
        let mut latency = Latency::default();
        for tally in &self.tallies {
            latency.merge(&tally.latency);
        }
        latency
    }

    /// Publishers that gave up, and why.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.tallies.iter().filter_map(|tally| {
            let failure = tally.failure.as_ref()?;
            Some(format!("publisher {}: {failure}", tally.publisher))
        });
        failed.collect()
    }

    /// Checks what subscribers received against what was published.
    pub fn judge(&self, tally: &Tally) -> Verdict {
        let issued = self.issued();
        let received = tally.alike.iter().map(|alike| Received {
            channel: alike.subscriber.channel,
            live: alike.subscriber.live,
            order: &alike.subscriber.order,
            count: alike.count,
        });
        judge(received, &issued)
    }

    fn issued(&self) -> Issued {
        let mut issued = Issued::default();
        for tally in &self.tallies {
            for (channel, count) in (0..).zip(&tally.issued) {
                issued.add(channel, tally.publisher, *count);
            }
            for (channel, sequence) in &tally.unknown {
                issued.add_unknown(*channel, tally.publisher, *sequence);
            }
        }
        issued
    }
}
