//! `churn`: replace connections steadily, and see whether the server keeps something of each.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::args::ChurnArgs;
use crate::clock::{now_ns, seconds_between};
use crate::counters::Totals;
use crate::crew::Crew;
use crate::idle::connecting;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::publications::Published;
use crate::report::{self, ChurnReport, Connecting, Growth, Head, Observed, Returning};
use crate::run::{Departures, Run};
use crate::server_probe::ServerWatch;
use crate::stayers;
use crate::worker::Tally;

/// Fewer connections have none that stays and none that goes on every thread.
const CONNECTIONS_MIN: u32 = 10;
/// Replacing starts a little in the future, so that all threads start together.
const START_DELAY_NS: u64 = 50_000_000;
/// After the last departure: time for it to come back.
const RETURN_NS: u64 = 15_000_000_000;

/// Runs the command; true if every replacement got in, nothing happened to the others, and memory did not
/// grow more than it may.
pub fn run(args: &ChurnArgs) -> Result<bool, Failure> {
    let run = Arc::new(plan(args).map_err(Failure::Plan)?);
    let interrupt = Interrupt::install()?;
    let server = ServerWatch::begin(&run);
    let started_ns = now_ns();
    let crew = Crew::start(&run, &interrupt)?;
    let sampler = server.sample()?;
    crew.watch_connecting(args.common.quiet);
    let connect_seconds = seconds_between(started_ns, now_ns());
    let publications = stayers::publish(&run, &args.stayers)?;
    let start_ns = now_ns() + START_DELAY_NS;
    replace(&run, &crew, args, start_ns);
    let replace_seconds = seconds_between(start_ns, now_ns());
    await_returns(&crew);
    let published = stayers::settle(publications, &crew)?;
    let observed = Observed::new(&run, sampler.finish());
    let totals = run.totals();
    let mut tally = crew.finish().map_err(Failure::Run)?;
    let connecting = connecting(&run, &totals, &mut tally, connect_seconds);
    let found = Found {
        settled_s: connect_seconds + args.settle_minutes * 60.0,
        replace_seconds,
        published,
        observed,
        totals,
        tally,
        connecting,
    };
    let report = build(&run, args, found).judged(interrupt.is_set());
    report::publish(&report, &args.common)?;
    Ok(report.head.ok)
}

fn plan(args: &ChurnArgs) -> Result<Run, String> {
    args.common.refuse_centrifuge()?;
    let connections = args.common.connections;
    if connections < CONNECTIONS_MIN {
        return Err(format!(
            "{connections} connections are too few to replace some and keep others: at least {CONNECTIONS_MIN}"
        ));
    }
    let mut run = stayers::plan(&args.common, &args.stayers)?;
    let rate = f64::from(connections) * args.replace_percent_per_minute / 100.0 / 60.0;
    run.departures = Some(Departures::Steady { rate });
    run.backoff = args.backoff.backoff(true);
    Ok(run)
}

/// Replaces connections for as long as asked.
fn replace(run: &Run, crew: &Crew, args: &ChurnArgs, start_ns: u64) {
    let end_ns = start_ns + args.duration.as_nanos() as u64;
    run.begin(start_ns, end_ns);
    let mut progress = Progress::begin("replacing", args.duration.as_secs(), args.common.quiet);
    crew.watch(|totals| {
        let passed = Duration::from_nanos(now_ns().saturating_sub(start_ns));
        progress.show(passed.as_secs(), || {
            let (replaced, open, lost) = (totals.replaced, totals.open(), totals.lost);
            format!("s  {replaced} replaced, {open} open, {lost} lost")
        });
        now_ns() >= end_ns || totals.open() == 0
    });
    run.end_at(now_ns());
}

fn await_returns(crew: &Crew) {
    let give_up_ns = now_ns() + RETURN_NS;
    crew.watch(|totals| totals.returned >= totals.replaced || now_ns() >= give_up_ns);
}

/// All that a report is made of.
struct Found {
    /// From when memory counts, in seconds since the run began.
    settled_s: f64,
    replace_seconds: f64,
    published: Published,
    observed: Observed,
    totals: Totals,
    tally: Tally,
    connecting: Connecting,
}

fn build(run: &Run, args: &ChurnArgs, found: Found) -> ChurnReport {
    let Found {
        totals,
        tally,
        published,
        observed,
        ..
    } = found;
    ChurnReport {
        growth: Growth::of(&observed.series, found.settled_s),
        head: Head::new("churn", run, tally.agents_cpu_seconds, observed),
        connecting: found.connecting,
        replace_percent_per_minute: args.replace_percent_per_minute,
        replace_seconds: found.replace_seconds,
        replaced: totals.replaced,
        back: totals.returned,
        unclosed: totals.unclosed,
        max_growth_bytes: args.max_growth_bytes,
        stayers: stayers::report(&published, &tally),
        returning: Returning {
            reconnect_latency: tally.reconnect_latency.summary(),
            refusals: tally.refused,
            lost: tally.lost,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    use crate::args::{Cli, Command};

    fn args(line: &str) -> ChurnArgs {
        let words = ["longwire-loadgen", "churn"].into_iter();
        match Cli::parse_from(words.chain(line.split_ascii_whitespace())).command {
            Command::Churn(args) => args,
            _ => panic!("churn was asked for"),
        }
    }

    #[test]
    fn the_pace_is_a_part_of_all_per_minute() {
        let run = plan(&args("--connections 1200 --replace-percent-per-minute 5")).unwrap();
        assert_eq!(run.departures, Some(Departures::Steady { rate: 1.0 }));
        let error = plan(&args("--connections 9")).unwrap_err();
        assert!(error.contains("at least 10"), "{error}");
    }
}
