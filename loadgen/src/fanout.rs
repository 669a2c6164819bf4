//! `fanout`: publish to many subscribers, and check and time what arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::Failure;
use crate::args::FanoutArgs;
use crate::clock::{cpu_seconds, now_ns, seconds_between};
use crate::counters::Totals;
use crate::crew::Crew;
use crate::idle::connecting;
use crate::interrupt::Interrupt;
use crate::latency::Latency;
use crate::order::{Issued, Received, Verdict, judge};
use crate::pace::Schedule;
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::plan::part;
use crate::progress::Progress;
use crate::publisher::{self, PublisherTally, Publishing};
use crate::report::{self, FanoutReport, Observed, ServerWork};
use crate::run::{Check, Run};
use crate::server_probe::ServerWatch;
use crate::setup::prepare;
use crate::worker::Tally;

/// Messages published if neither a number nor a duration is given.
const MESSAGES_DEFAULT: u64 = 1000;
/// A schedule starts a little in the future, so that the first message of each publisher is on time.
const START_DELAY_NS: u64 = 50_000_000;

/// Runs the command; true if every subscriber got every message once and in order.
pub fn run(args: &FanoutArgs) -> Result<bool, Failure> {
    let run = Arc::new(plan(args).map_err(Failure::Plan)?);
    let interrupt = Interrupt::install()?;
    let mut server = ServerWatch::begin(&run);
    let started_ns = now_ns();
    let crew = Crew::start(&run, &interrupt)?;
    let sampler = server.sample(&run)?;
    crew.watch_connecting(args.common.quiet);
    let connect_seconds = seconds_between(started_ns, now_ns());
    server.first = server.read_again();
    let published = publish(&run, &crew, args)?;
    let after = server.read_again();
    let observed = Observed::new(&run, sampler.finish());
    let totals = run.totals();
    let tally = crew.finish().map_err(Failure::Run)?;
    let deliveries = totals.messages.saturating_sub(tally.foreign_messages);
    let server = server
        .first
        .zip(after)
        .and_then(|(before, after)| ServerWork::between(&before, &after, deliveries));
    let found = Found {
        totals,
        deliveries,
        tally,
        published,
        server,
        connect_seconds,
        observed,
    };
    let mut report = build(&run, args, found);
    report.interrupted = interrupt.is_set();
    report::publish(&report, &args.common)?;
    Ok(report.ok)
}

fn plan(args: &FanoutArgs) -> Result<Run, String> {
    if args.size < PAYLOAD_BYTES_MIN {
        return Err(format!(
            "--size {}: a payload holds who sent what and when, which takes {PAYLOAD_BYTES_MIN} bytes",
            args.size
        ));
    }
    let url = args.common.channel_url();
    if args.channels > 1 && !url.names_channel() {
        return Err(format!(
            "{} channels need a URL with {{channel}} in it, not {url}",
            args.channels
        ));
    }
    if args.channels > args.common.connections {
        return Err(format!(
            "{} channels need at least as many subscribers, not {}",
            args.channels, args.common.connections
        ));
    }
    let mut run = prepare(&args.common, url)?;
    run.check = Some(Check {
        run: fastrand::u32(..),
        channels: args.channels,
        publishers: args.publishers as usize,
    });
    Ok(run)
}

fn publishing(args: &FanoutArgs, run: &Arc<Run>) -> Publishing {
    let delay_ns = if args.rate.is_some() {
        START_DELAY_NS
    } else {
        0
    };
    let start_ns = now_ns() + delay_ns;
    Publishing {
        start_ns,
        run: Arc::clone(run),
        run_number: run.check.map_or(0, |check| check.run),
        channels: args.channels,
        size_bytes: args.size,
        api_key: args.api_key.clone(),
        schedule: args.rate.map(|rate| Schedule {
            start_ns,
            rate,
            lanes: u64::from(args.publishers),
        }),
        deadline_ns: args
            .duration
            .map(|duration| start_ns + duration.as_nanos() as u64),
        acknowledged: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    }
}

/// What publishing came to.
struct Published {
    publishing: Arc<Publishing>,
    tallies: Vec<PublisherTally>,
}

/// Publishes everything and waits until it has arrived.
fn publish(run: &Arc<Run>, crew: &Crew, args: &FanoutArgs) -> Result<Published, Failure> {
    let publishing = Arc::new(publishing(args, run));
    let publishers = match run.totals().connected {
        0 => Vec::new(),
        _ => start_publishers(&publishing, args)?,
    };
    watch_publishing(crew, &publishing, &publishers, args);
    publishing.stop.store(true, Ordering::Relaxed);
    let mut tallies = Vec::new();
    for publisher in publishers {
        tallies.push(
            publisher
                .join()
                .map_err(|_| Failure::Run("a publisher panicked".to_owned()))?,
        );
    }
    let published = Published {
        publishing,
        tallies,
    };
    settle(run, crew, &published, args);
    Ok(published)
}

fn start_publishers(
    publishing: &Arc<Publishing>,
    args: &FanoutArgs,
) -> Result<Vec<JoinHandle<PublisherTally>>, Failure> {
    let publishers = (0..args.publishers).map(|number| {
        let publishing = Arc::clone(publishing);
        let budget = budget(args, number);
        std::thread::Builder::new()
            .name(format!("publisher-{number}"))
            // At most 1024 publishers, as the command line says.
            .spawn(move || publisher::publish(&publishing, number as u16, budget))
    });
    Ok(publishers.collect::<Result<_, _>>()?)
}

/// A publisher's share of the messages.
fn budget(args: &FanoutArgs, publisher: u32) -> u64 {
    let messages = match (args.messages, args.duration) {
        (Some(messages), _) => messages,
        (None, Some(_)) => return u64::MAX,
        (None, None) => MESSAGES_DEFAULT,
    };
    part(
        messages as usize,
        args.publishers as usize,
        publisher as usize,
    ) as u64
}

/// Waits until all publishers are done.
fn watch_publishing(
    crew: &Crew,
    publishing: &Publishing,
    publishers: &[JoinHandle<PublisherTally>],
    args: &FanoutArgs,
) {
    let by_time = args.messages.is_none().then_some(args.duration).flatten();
    let whole = by_time.map_or(args.messages.unwrap_or(MESSAGES_DEFAULT), |time| {
        time.as_secs()
    });
    let mut progress = Progress::begin("publishing", whole, args.common.quiet);
    crew.watch(|totals| {
        let published = publishing.acknowledged.load(Ordering::Relaxed);
        let passed_s = now_ns().saturating_sub(publishing.start_ns) / 1_000_000_000;
        let done = if by_time.is_some() {
            passed_s
        } else {
            published
        };
        progress.show(done, || {
            let refused = publishing.refused.load(Ordering::Relaxed);
            format!(
                "{published} published, {refused} refused, {} delivered",
                totals.messages
            )
        });
        publishers.iter().all(JoinHandle::is_finished)
    });
}

/// Waits until everything has arrived, or nothing more does.
fn settle(run: &Run, crew: &Crew, published: &Published, args: &FanoutArgs) {
    let patience_ns = u64::from(args.settle_ms) * 1_000_000;
    let expected = expected_deliveries(args, &published.tallies);
    let mut progress = Progress::begin("settling", expected.unwrap_or(0), args.common.quiet);
    let mut latest = (run.totals().messages, now_ns());
    crew.watch(|totals| {
        progress.show(totals.messages, String::new);
        if totals.messages != latest.0 {
            latest = (totals.messages, now_ns());
        }
        expected.is_some_and(|expected| totals.messages >= expected)
            || now_ns() - latest.1 >= patience_ns
    });
}

/// Messages that arrive if all subscribers are there; `None` if nobody can tell.
fn expected_deliveries(args: &FanoutArgs, publishers: &[PublisherTally]) -> Option<u64> {
    let (subscribers, channels) = (args.common.connections as usize, args.channels as usize);
    let mut expected = 0;
    for publisher in publishers {
        if !publisher.unknown.is_empty() {
            return None;
        }
        for (channel, issued) in publisher.issued.iter().enumerate() {
            expected += u64::from(*issued) * part(subscribers, channels, channel) as u64;
        }
    }
    Some(expected)
}

/// All that a report is made of.
struct Found {
    totals: Totals,
    /// Messages of this run that subscribers received.
    deliveries: u64,
    tally: Tally,
    published: Published,
    server: Option<ServerWork>,
    connect_seconds: f64,
    observed: Observed,
}

fn build(run: &Run, args: &FanoutArgs, found: Found) -> FanoutReport {
    let Found {
        totals,
        deliveries,
        mut tally,
        published,
        server,
        connect_seconds,
        observed,
    } = found;
    let publishing = &published.publishing;
    let publications = publishing.acknowledged.load(Ordering::Relaxed);
    let answers_ns = published
        .tallies
        .iter()
        .map(|publisher| publisher.last_answer_ns);
    let published_ns = answers_ns.max().unwrap_or(publishing.start_ns);
    let publish_seconds = seconds_between(publishing.start_ns, published_ns);
    let last_ns = totals.last_message_ns.max(published_ns);
    let deliver_seconds = seconds_between(publishing.start_ns, last_ns);
    let verdict = verdict(&published.tallies, &tally);
    let mut publish_latency = Latency::default();
    for publisher in &published.tallies {
        publish_latency.merge(&publisher.latency);
    }
    let over_publishers =
        |figure: fn(&PublisherTally) -> u64| published.tallies.iter().map(figure).sum();
    let mut report = FanoutReport {
        ok: false,
        interrupted: false,
        url: run.target.to_string(),
        connecting: connecting(run, &totals, &mut tally, connect_seconds),
        channels: args.channels,
        publishers: args.publishers,
        size_bytes: args.size,
        wanted_rate_per_s: args.rate,
        publish_seconds,
        publications,
        publications_per_s: per_second(publications, publish_seconds),
        refused: publishing.refused.load(Ordering::Relaxed),
        unknown: over_publishers(|publisher| publisher.unknown.len() as u64),
        deliveries,
        deliveries_per_s: per_second(deliveries, deliver_seconds),
        publish_latency: publish_latency.summary(),
        delivery_latency: tally.delivery_latency.summary(),
        verdict,
        foreign_messages: tally.foreign_messages,
        misdelivered_messages: tally.misdelivered_messages,
        offset_regressions: over_publishers(|publisher| publisher.offset_regressions),
        dropped: tally.lost,
        pings_answered: totals.pings,
        failures: failures(&published.tallies),
        server,
        loadgen_cpu_seconds: cpu_seconds(),
        observed,
    };
    report.ok = report.is_sound();
    report
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

fn failures(publishers: &[PublisherTally]) -> Vec<String> {
    let failed = publishers.iter().filter_map(|publisher| {
        let failure = publisher.failure.as_ref()?;
        Some(format!("publisher {}: {failure}", publisher.publisher))
    });
    failed.collect()
}

fn verdict(publishers: &[PublisherTally], tally: &Tally) -> Verdict {
    let mut issued = Issued::default();
    for publisher in publishers {
        for (channel, count) in (0..).zip(&publisher.issued) {
            issued.add(channel, publisher.publisher, *count);
        }
        for (channel, sequence) in &publisher.unknown {
            issued.add_unknown(*channel, publisher.publisher, *sequence);
        }
    }
    let received = tally
        .subscribers
        .iter()
        .flatten()
        .map(|subscriber| Received {
            channel: subscriber.channel,
            live: subscriber.live,
            order: &subscriber.order,
        });
    judge(received, &issued)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    use crate::args::{Cli, Command};

    fn args(line: &str) -> FanoutArgs {
        let words = ["longwire-loadgen", "fanout"]
            .into_iter()
            .chain(line.split_ascii_whitespace());
        match Cli::parse_from(words).command {
            Command::Fanout(args) => args,
            _ => panic!("fanout was asked for"),
        }
    }

    #[test]
    fn messages_are_shared_out() {
        let shares = |line: &str| {
            let args = args(line);
            (0..args.publishers)
                .map(|publisher| budget(&args, publisher))
                .collect::<Vec<_>>()
        };
        assert_eq!(shares("--messages 10 --publishers 3"), [4, 3, 3]);
        assert_eq!(shares(""), [MESSAGES_DEFAULT]);
        assert_eq!(shares("--duration 5"), [u64::MAX]);
        assert_eq!(shares("--duration 5 --messages 7"), [7]);
    }

    #[test]
    fn deliveries_are_foreseen_unless_an_answer_is_missing() {
        let args = args("--connections 5 --channels 2");
        let mut publisher = PublisherTally {
            issued: vec![10, 20],
            ..PublisherTally::default()
        };
        assert_eq!(expected_deliveries(&args, &[]), Some(0));
        assert_eq!(
            expected_deliveries(&args, std::slice::from_ref(&publisher)),
            Some(70)
        );
        publisher.unknown.push((0, 3));
        assert_eq!(expected_deliveries(&args, &[publisher]), None);
    }

    #[test]
    fn impossible_wishes_are_refused() {
        for (line, reason) in [
            ("--size 10", "takes 46 bytes"),
            ("--channels 2 --url ws://127.0.0.1/chat", "{channel}"),
            ("--channels 20 --connections 10", "at least as many"),
        ] {
            let error = plan(&args(line)).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
