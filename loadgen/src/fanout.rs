//! `fanout`: publish to many subscribers, and check and time what arrives.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::Failure;
use crate::args::{FanoutArgs, RivalArgs};
use crate::clock::{now_ns, seconds_between};
use crate::counters::Totals;
use crate::crew::Crew;
use crate::idle::connecting;
use crate::interrupt::Interrupt;
use crate::latency::LatencySummary;
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::plan::part;
use crate::progress::Progress;
use crate::publications::{Load, Publications, Published};
use crate::publisher::PublisherTally;
use crate::report::{self, FanoutReport, Head, Observed, ServerWork};
use crate::rival::Door;
use crate::run::{Check, Run};
use crate::server_probe::ServerWatch;
use crate::setup::prepare;
use crate::worker::Tally;

/// Messages published if neither a number nor a duration is given.
const MESSAGES_DEFAULT: u64 = 1000;

/// Runs the command; true if every subscriber got every message once and in order.
pub fn run(args: &FanoutArgs) -> Result<bool, Failure> {
    let run = Arc::new(plan(args).map_err(Failure::Plan)?);
    let interrupt = Interrupt::install()?;
    let mut server = ServerWatch::begin(&run);
    let started_ns = now_ns();
    let crew = Crew::start(&run, &interrupt)?;
    let sampler = server.sample()?;
    crew.watch_connecting(args.common.quiet);
    let connect_seconds = seconds_between(started_ns, now_ns());
    await_subscriptions(&crew, &args.common.rival);
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
    report.head.interrupted = interrupt.is_set();
    report::publish(&report, &args.common)?;
    Ok(report.head.ok)
}

fn plan(args: &FanoutArgs) -> Result<Run, String> {
    if args.size < PAYLOAD_BYTES_MIN {
        return Err(format!(
            "--size {}: a payload holds who sent what and when, which takes {PAYLOAD_BYTES_MIN} bytes",
            args.size
        ));
    }
    let url = args.common.channel_url();
    args.common.centrifuge.check(args.channels)?;
    if args.channels > 1 && !args.common.names_channel() {
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

/// Another server answers a subscription in its own way: it gets time instead.
fn await_subscriptions(crew: &Crew, args: &RivalArgs) {
    if args.subscribe_frame.is_some() {
        let until_ns = now_ns() + u64::from(args.subscribe_wait_ms) * 1_000_000;
        crew.watch(|_| now_ns() >= until_ns);
    }
}

/// Publishes everything and waits until it has arrived.
fn publish(run: &Arc<Run>, crew: &Crew, args: &FanoutArgs) -> Result<Published, Failure> {
    let load = Load {
        size_bytes: args.size,
        rate: args.rate,
        door: Door::of(&args.publish, args.api_key.as_deref()).map_err(Failure::Plan)?,
    };
    let duration_ns = args.duration.map(|duration| duration.as_nanos() as u64);
    // Nobody publishes to nobody.
    let publishers = match run.totals().connected {
        0 => 0,
        _ => args.publishers,
    };
    let budgets = (0..publishers).map(|number| budget(args, number));
    let publications = Publications::start(load.publishing(run, duration_ns), budgets)?;
    watch_publishing(crew, &publications, args);
    let published = publications.stop()?;
    settle(run, crew, &published, args);
    Ok(published)
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
fn watch_publishing(crew: &Crew, publications: &Publications, args: &FanoutArgs) {
    let publishing = &publications.publishing;
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
        publications.are_done()
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
    let (connections, channels) = (args.common.connections as usize, args.channels as usize);
    let subscriptions = args.common.centrifuge.subscriptions as usize;
    // The nth subscription of a connection is to the nth channel from its first.
    let nth = |channel: usize, nth: usize| (channel + channels - nth % channels) % channels;
    let subscribers = |channel| {
        let each = (0..subscriptions).map(|n| part(connections, channels, nth(channel, n)));
        each.sum::<usize>()
    };
    let mut expected = 0;
    for publisher in publishers {
        if !publisher.unknown.is_empty() {
            return None;
        }
        for (channel, issued) in publisher.issued.iter().enumerate() {
            expected += u64::from(*issued) * subscribers(channel) as u64;
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
    let start_ns = published.publishing.start_ns;
    let publications = published.acknowledged();
    let published_ns = published.last_answer_ns();
    let publish_seconds = seconds_between(start_ns, published_ns);
    let last_ns = totals.last_message_ns.max(published_ns);
    let deliver_seconds = seconds_between(start_ns, last_ns);
    let verdict = published.judge(&tally);
    let mut report = FanoutReport {
        head: Head::new("fanout", run, tally.agents_cpu_seconds, observed),
        connecting: connecting(run, &totals, &mut tally, connect_seconds),
        channels: args.channels,
        publishers: args.publishers,
        size_bytes: args.size,
        wanted_rate_per_s: args.rate,
        publish_seconds,
        publications,
        publications_per_s: per_second(publications, publish_seconds),
        refused: published.refused(),
        unknown: published.unknown(),
        deliveries,
        deliveries_per_s: per_second(deliveries, deliver_seconds),
        publish_latency: published.latency().summary(),
        delivery_latency: tally.delivery_latency.summary(),
        last_delivery_latency: last_delivery_latency(&tally),
        verdict,
        foreign_messages: tally.foreign_messages,
        misdelivered_messages: tally.misdelivered_messages,
        offset_regressions: published.offset_regressions(),
        dropped: tally.lost,
        pings_answered: totals.pings,
        failures: published.failures(),
        server,
        positions: run.centrifuge.is_some().then_some(tally.positions),
    };
    report.head.ok = report.is_sound();
    report
}

fn last_delivery_latency(tally: &Tally) -> Option<LatencySummary> {
    tally.last_receipts.as_ref()?.latency().summary()
}

/// A rate; 0 if no time has passed.
pub fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
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
